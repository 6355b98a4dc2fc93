-- SPDX-License-Identifier: MIT
-- mod_sasl2: clients log in, and get in the same round trip what they ask for along with it (XEP-0388).
--
-- Other plugins hang on to these events of the host, the names and fields as community plugins know them:
--   advertise-sasl-features { origin, features, bindings }      features: <inline/>, add to it; bindings: the channel's types
--   stanza/urn:xmpp:sasl:2:authenticate { origin, stanza, handler? }      before priority 0; handler: one of their own for it
--   sasl2/c2s/success { session, stanza, handler, message, success }      stanza: the <authenticate/>; success: add to it.
--     Priorities: 1000 made, 110 a stream is resumed, 50 a resource is bound, -1000 sent, -1500 features, -2000 complete().
--     A handler may put a resumed session in the event (session, resumed = true, complete = function). true ends the chain:
--     whoever does that has answered the client.
--   sasl2/c2s/challenge, /failure (a wrong proof), /error (what is no proof) { session, message, error_text }
--   sasl2/client-forgotten { username, id, failed? }            that client is not trusted any more; failed = why it still is
--
-- Clients that tell an id are remembered, a bounded number for each account: coupletctl user clients, user forget-client.
-- Exports: login, clients(username), forget(username, id).

local base64 = require "couplet.util.base64"
local directory = require "couplet.directory"
local logins = require "couplet.login"
local recent = require "couplet.recent"
local st = require "couplet.stanza"

local SASL2, SASL = "urn:xmpp:sasl:2", "urn:ietf:params:xml:ns:xmpp-sasl"

module:config {
  sasl2_clients_max = { type = "integer", default = 50, min = 1,
    doc = "clients remembered for one account; the one not seen for longest goes, with its tokens" },
}

module:depends "sasl_ssdp"

local host = module.host

-- Answers -----------------------------------------------------------------------------------------------------------------

local dialect = { name = "sasl2" }

function dialect.failure(session, condition, text, proof)
  session.sasl2 = nil
  if not proof then
    local event = { session = session, message = condition, error_text = text }
    module:fire_event("sasl2/" .. session.base_type .. "/error", event)
    condition, text = event.message, event.error_text
  end
  local answer = st.stanza("failure", { xmlns = SASL2 }):tag(condition, { xmlns = SASL }):up()
  if text then answer:text_tag("text", text) end
  session.send(answer)
end

function dialect.challenge(session, data)
  session.send(st.stanza("challenge", { xmlns = SASL2 }):text(base64.encode(data or "")))
end

-- Whoever the stream is said to be from must be who has authenticated.
function dialect.accepts(session, handler)
  local from = session.stream_from
  if from and from:find("@", 1, true) and handler.selected ~= "ANONYMOUS" and from ~= handler.username .. "@" .. host then
    return "invalid-authzid", "The stream is from somebody else"
  end
end

-- From the moment a resource is bound others may send to it; what they send waits until <success/> and the features are out.
local function new_hold(session)
  local before, waits, over = rawget(session, "send"), {}, false
  local hold = {}

  session.send = function(x)
    if over and not session.destroyed then return session.send(x) end        -- somebody has kept it
    waits[#waits + 1] = x
    return true
  end

  function hold.open()
    if not session.destroyed then session.send = before end
  end

  function hold.flush()
    if over then return end
    over = true
    hold.open()
    for i = 1, #waits do session.send(waits[i]) end
  end

  return hold
end

function dialect.success(session, handler, data)
  local request = session.sasl2
  session.sasl2 = nil
  local client = request.client
  if client then session.client_id, session.client_software, session.client_device = client.id, client.software, client.device end
  local event = { session = session, stanza = request.stanza, client = client, handler = handler, message = data }
  event.hold = new_hold(session)
  module:fire_event("sasl2/" .. session.base_type .. "/success", event)
  event.hold.flush()
end

local login = logins.new(module, dialect)
module.load = login.load
module.environment.login = login

module:hook("sasl2/c2s/success", function(event)
  event.success = st.stanza("success", { xmlns = SASL2 })
end, 1000)

-- The schema wants the mechanism's last word and the address first.
module:hook("sasl2/c2s/success", function(event)
  local session = event.session
  if session.destroyed then return true end
  local answer = st.stanza("success", { xmlns = SASL2 })
  if event.message then answer:text_tag("additional-data", base64.encode(event.message)) end
  answer:text_tag("authorization-identifier", session.full_jid or session.username .. "@" .. session.host)
  for _, child in ipairs(event.success.tags) do answer:add_child(child) end
  event.success = answer
  event.hold.open()
  session.send(answer)
end, -1000)

-- No stream restart: what can be negotiated now follows at once. Of a stream that is resumed everything has been negotiated.
module:hook("sasl2/c2s/success", function(event)
  if event.resumed then return end
  local session = event.session
  local features = st.stanza "stream:features"
  module:fire_event("stream-features", { origin = session, features = features })
  features:reset()
  session.send(features)
end, -1500)

module:hook("sasl2/c2s/success", function(event)
  if event.complete then event.complete() end
  event.hold.flush()
end, -2000)

-- Offer -------------------------------------------------------------------------------------------------------------------

module:hook("stream-features", function(event)
  local session = event.origin
  if session.type ~= "c2s_unauthed" or not session.secure or module:get_host_type() ~= "local" then return end
  local from = session.stream_from
  if from and (from:match "@(.*)$" or from) ~= host then
    return session:close { condition = "invalid-from", text = "Nobody logs in here for another host" }
  end
  local names, types = login.offer(event)
  if not names then return end
  local authentication, bindings = login.element("authentication", SASL2, names), {}
  for _, kind in ipairs(types) do bindings[kind] = true end
  local inline = st.stanza("inline", { xmlns = SASL2 })
  module:fire_event("advertise-sasl-features",
    { origin = session, features = inline, bindings = bindings, stream = event.stream })
  inline:reset()
  if inline.tags[1] then authentication:add_child(inline) end
  event.features:add_child(authentication)
end, -1)

-- Requests ----------------------------------------------------------------------------------------------------------------

-- Absent is nil, empty is "", what is no base64 is false. Blanks around it do no harm.
local function decoded(element)
  if not element then return nil end
  if #element.tags > 0 then return false end
  local text = (element:get_text() or ""):match "^%s*(.-)%s*$"
  return text == "" and "" or base64.decode_strict(text) or false
end

local TEXT_CHARACTERS = 64

local function short(text)
  text = text and text:gsub("%c+", " "):match "^%s*(.-)%s*$"
  if not text or text == "" or not utf8.len(text) then return nil end
  local stop = utf8.offset(text, TEXT_CHARACTERS + 1)
  return stop and text:sub(1, stop - 1) or text
end

local UUID = ("^" .. ("%x"):rep(8) .. "%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-" .. ("%x"):rep(12) .. "$")

-- What the client says it is; false: its id is none.
local function client_of(stanza)
  local agent = stanza:get_child "user-agent"
  if not agent then return nil end
  local id = agent.attr.id
  if id and not id:find(UUID) then return false end
  return { id = id and id:lower(), software = short(agent:get_child_text "software"),
    device = short(agent:get_child_text "device") }
end

module:hook("stanza/" .. SASL2 .. ":authenticate", function(event)
  local session, stanza = event.origin, event.stanza
  if session.type ~= "c2s_unauthed" or module:get_host_type() ~= "local" then return nil end
  if not session.secure then return login.refused(session, "encryption-required") end
  local message, client = decoded(stanza:get_child "initial-response"), client_of(stanza)
  if client == false then return login.refused(session, "malformed-request", "The id of a user-agent is a UUID") end
  if not login.start(event, stanza.attr.mechanism, event.handler) then return true end
  if message == false then
    session.sasl_handler = nil
    return login.refused(session, "incorrect-encoding")
  end
  session.sasl2 = { stanza = stanza, client = client }
  return login.process(session, message)
end)

module:hook("stanza/" .. SASL2 .. ":response", function(event)
  local session = event.origin
  if session.type ~= "c2s_unauthed" then return nil end
  if not session.sasl2 then return login.refused(session, "malformed-request", "Nothing was asked") end
  local message = decoded(event.stanza)
  if message == false then
    session.sasl_handler = nil
    return login.refused(session, "incorrect-encoding")
  end
  return login.process(session, message)
end)

module:hook("stanza/" .. SASL2 .. ":abort", function(event)
  local session = event.origin
  if session.type ~= "c2s_unauthed" then return nil end
  session.sasl_handler = nil
  return login.refused(session, "aborted")
end)

-- No tasks are given here, so none can be chosen; a plugin that gives some is asked first.
for _, name in ipairs { "next", "task-data" } do
  module:hook("stanza/" .. SASL2 .. ":" .. name, function(event)
    local session = event.origin
    if session.type ~= "c2s_unauthed" then return nil end
    session.sasl_handler = nil
    return login.refused(session, "malformed-request", "There is no task to do")
  end, -1)
end

-- While an exchange goes on, nothing else is said: whoever does is disconnected. What no plugin handles is, anyway.
local function intrusion(event)
  local session = event.origin
  if session.type ~= "c2s_unauthed" or not session.sasl2 then return nil end
  session:close { condition = "policy-violation", text = "Finish authenticating first" }
  return true
end
for _, name in ipairs {
  SASL2 .. ":authenticate", SASL .. ":auth", SASL .. ":response", SASL .. ":abort", "urn:ietf:params:xml:ns:xmpp-tls:starttls",
  "http://jabber.org/protocol/compress:compress", "iq/jabber:iq:register:query", "iq/jabber:iq:auth:query",
} do
  module:hook("stanza/" .. name, intrusion, 1000)
end

-- Clients -----------------------------------------------------------------------------------------------------------------

local store = module:open_store("user_agents", "keyval+")     -- id -> { software, device, first, last, mechanism }
local DAY = 86400
local seen, note_seen = recent.new(10000)        -- "username\0id" -> { day, software, device } last written

-- -> nil, or why it may still be trusted
local function forgotten(username, id)
  note_seen(username .. "\0" .. id, nil)
  local event = { username = username, id = id }
  module:fire_event("sasl2/client-forgotten", event)
  return event.failed
end

-- The one not seen for longest, if there are too many.
local function superfluous(all, id)
  local n, oldest = 1, nil
  for other, entry in pairs(all) do
    if other ~= id then
      n = n + 1
      if not oldest or (entry.last or 0) < (all[oldest].last or 0) then oldest = other end
    end
  end
  return n > module.config.sasl2_clients_max and oldest or nil
end

local function remember(username, client, mechanism)
  local key, day = username .. "\0" .. client.id, os.time() // DAY
  local software, device, written = client.software, client.device, seen(key)
  if written and written.day == day and (software or written.software) == written.software
    and (device or written.device) == written.device then return end
  local all, err = store:get(username)
  if not all and err then return module:log("error", "cannot remember a client of %s: %s", username, err) end
  all = all or {}
  local before, now = all[client.id], os.time()
  if before then software, device = software or before.software, device or before.device end           -- told once is enough
  note_seen(key, { day = day, software = software, device = device })
  local changes = { [client.id] = { software = software, device = device, mechanism = mechanism,
    first = before and before.first or now, last = now } }
  local gone = superfluous(all, client.id)
  if gone and not forgotten(username, gone) then changes[gone] = store.remove end
  local ok
  ok, err = store:set_keys(username, changes)
  if not ok then
    note_seen(key, nil)                          -- so the next login tries again
    return module:log("error", "cannot remember a client of %s: %s", username, err)
  end
end

module:hook("sasl2/c2s/success", function(event)
  local client, handler = event.client, event.handler
  if client and client.id and handler.selected ~= "ANONYMOUS" then remember(event.session.username, client, handler.selected) end
end, -3000)

-- All of them: array of { id, software, device, mechanism, first, last, resource = bound now }, last seen first.
function module.environment.clients(username)
  local all, err = store:get(username)
  if not all and err then return nil, err end
  local list, bound = {}, {}
  local user = directory.user(username .. "@" .. host)
  for resource, session in pairs(user and user.sessions or {}) do
    if session.client_id then bound[session.client_id] = resource end
  end
  for id, entry in pairs(all or {}) do
    entry.id, entry.resource = id, bound[id]
    list[#list + 1] = entry
  end
  table.sort(list, function(a, b)
    if a.last ~= b.last then return (a.last or 0) > (b.last or 0) end
    return a.id < b.id
  end)
  return list
end

-- Its tokens are worth nothing from now on, and its session ends; so does a login that is under way.
function module.environment.forget(username, id)
  local entry, err = store:get_key(username, id)
  if not entry then return nil, err or "no such client" end
  err = forgotten(username, id)
  if err then return nil, err end
  local ok
  ok, err = store:set_key(username, id, nil)
  if not ok then return nil, err end
  note_seen(username .. "\0" .. id, nil)         -- it may have logged in meanwhile
  local reason = { condition = "not-authorized", text = "This client has been logged out" }
  logins.turn_away(username, host, reason, function(session)
    local client = session.sasl2 and session.sasl2.client
    return (client and client.id or session.client_id) == id
  end)
  local user, ending = directory.user(username .. "@" .. host), {}
  for _, session in pairs(user and user.sessions or {}) do
    if session.client_id == id then ending[#ending + 1] = session end
  end
  for _, session in ipairs(ending) do session:close(reason) end
  return true
end

module:hook_global("user-deleted", function(event)
  if event.host ~= host then return end
  for id in pairs(store:get(event.username) or {}) do note_seen(event.username .. "\0" .. id, nil) end
  store:set(event.username, nil)
end)
