-- SPDX-License-Identifier: MIT
-- mod_saslauth: clients log in with SASL (RFC 6120 §6) and bind a resource (§7). Channel binding types: XEP-0440. Client
-- certificates: XEP-0178.
--
-- Failures are counted twice: on the stream (max_sasl_attempts wrong proofs, then it is closed) and per account and address,
-- where each one over the threshold doubles the time that must pass. Whoever comes too early gets temporary-auth-failure before
-- anything is asked about the account, whether it exists or not; another address is not concerned. It is asked
-- again before the verdict is told, so that guesses made side by side get no more answers than guesses in turn.

local base64 = require "util.base64"
local clock = require "couplet.clock"
local jid = require "util.jid"
local task = require "couplet.task"
local recent = require "couplet.recent"
local sessionmanager = require "core.sessionmanager"
local st = require "util.stanza"
local usermanager = require "core.usermanager"
local x509 = require "util.x509"

module:config {
  allow_unencrypted_plain_auth = { type = "boolean", default = false, doc = "PLAIN without TLS: never on a network" },
  disable_sasl_mechanisms = { type = "set", default = { "DIGEST-MD5" }, doc = "mechanisms nobody may use" },
  insecure_sasl_mechanisms = { type = "set", default = { "PLAIN", "LOGIN" }, doc = "mechanisms that need TLS" },
  max_sasl_attempts = { type = "integer", default = 3, min = 1, doc = "wrong proofs on one stream" },
  auth_lockout_threshold = { type = "integer", default = 5, min = 1,
    doc = "failures of one account from one address that cost nothing" },
  auth_lockout_address_threshold = { type = "integer", default = 50, min = 1,
    doc = "the same for an address, whatever the account" },
  auth_lockout_max = { type = "period", default = 600, doc = "longest time somebody has to wait" },
  client_certificate_auth = { type = "boolean", default = false, doc = "EXTERNAL with a certificate the TLS layer has verified" },
  certificate_match = { type = "enum", default = "xmppaddr", enum = { "xmppaddr", "email" }, doc = "the name in it that counts" },
  tls_server_end_point_hash = { type = "string",
    doc = "hex; if something in front of the server does TLS with its own certificate" },
}

local secure_auth_only = module:get_option_boolean("c2s_require_encryption",
  module:get_option_boolean("require_encryption", true))
local allow_plain = module:get_option_boolean("allow_unencrypted_plain_auth", false)
local insecure = module:get_option_set("insecure_sasl_mechanisms", allow_plain and {} or { "PLAIN", "LOGIN" })
local disabled = module:get_option_set("disable_sasl_mechanisms", { "DIGEST-MD5" })
local max_attempts = module:get_option_integer("max_sasl_attempts", 3, 1)
local threshold = module:get_option_integer("auth_lockout_threshold", 5, 1)
local address_threshold = module:get_option_integer("auth_lockout_address_threshold", 50, 1)
local lockout_max = module:get_option_period("auth_lockout_max", 600, 1)
local with_certificates = module:get_option_boolean("client_certificate_auth", false)
local certificate_match = module:get_option_enum("certificate_match", "xmppaddr", "email")
local end_point_hash = module:get_option_string("tls_server_end_point_hash")

local SASL, BIND, SESSION = "urn:ietf:params:xml:ns:xmpp-sasl", "urn:ietf:params:xml:ns:xmpp-bind",
  "urn:ietf:params:xml:ns:xmpp-session"

-- What invented keys of unknown accounts depend on must outlive a restart, or they could be told by changing with it.
local secret
function module.load()
  local store = module:open_store("saslauth", "keyval")
  local kept = store and store:get(nil)
  secret = kept and base64.decode(kept.secret or "")
  if secret and #secret == 32 then return end
  secret = require "util.random".bytes(32)
  local ok, err
  if store then ok, err = store:set(nil, { secret = base64.encode(secret) }) end
  if not ok then module:log("warn", "cannot keep the secret for unknown accounts: %s", err or "no store") end
end

-- Too many failures -------------------------------------------------------------------------------------------------------

local failures_of, note = recent.new(10000)      -- "account\0address" and "\0address" -> { count, last, until }

local function address_of(session)
  local ip = session.ip or "?"
  if ip:find(":", 1, true) and not ip:find("%d+%.%d+%.%d+%.%d+$") then      -- whoever has one address of a /64 has all
    local head, groups = ip:match "^(.-)::" or ip, {}
    for group in head:gmatch "[^:]+" do groups[#groups + 1] = group end
    ip = table.concat(groups, ":", 1, math.min(4, #groups)) .. "::"
  end
  return ip
end

local function waiting(key)
  local entry = failures_of(key)
  return entry ~= nil and clock.mono() < entry.free_at
end

local function count_failure(key, allowed)
  local now = clock.mono()
  local entry = failures_of(key)
  if not entry or now - entry.last > math.max(lockout_max, 60) then entry = { count = 0, free_at = 0 } end
  entry.count, entry.last = entry.count + 1, now
  local over = entry.count - allowed
  if over > 0 then entry.free_at = now + math.min(2.0 ^ over, lockout_max) end
  note(key, entry)
end

local function gate(session)
  local address = address_of(session)
  return function(_, username)
    if waiting(username .. "\0" .. address) or waiting("\0" .. address) then
      return "temporary-auth-failure", "Too many failures; try again later"
    end
  end
end

-- Steps that wait for the store or for a key. More of one address stand in line, so that a crowd from there does not keep
-- everybody else waiting.
local IN_FLIGHT = 8
local lines = {}                                 -- address -> { n = in flight, first, last, [first … last] = who waits }

local function stand_in_line(address)
  local line = lines[address]
  if not line then
    line = { n = 0, first = 1, last = 0 }
    lines[address] = line
  end
  if line.n < IN_FLIGHT then
    line.n = line.n + 1
    return
  end
  task.await(function(done)
    line.last = line.last + 1
    line[line.last] = done
  end)
end

local function next_in_line(address)
  local line = lines[address]
  local go = line[line.first]
  if go then                                     -- the place goes on to whoever is next
    line[line.first] = nil
    line.first = line.first + 1
    return go()
  end
  line.n = line.n - 1
  if line.n == 0 then lines[address] = nil end
end

-- Answers -----------------------------------------------------------------------------------------------------------------

local function reply(status, data, text)
  local answer = st.stanza(status, { xmlns = SASL })
  if status == "failure" then
    answer:tag(data):up()
    if text then answer:text_tag("text", text, { ["xml:lang"] = "en" }) end
  elseif data == "" and status == "success" then
    answer:text "="                                  -- §6.3.10: present but empty
  elseif data then
    answer:text(base64.encode(data))
  end
  return answer
end

local too_many = { condition = "policy-violation", text = "Too many failed attempts to authenticate" }

-- A wrong proof is a guess and counts in full. A mechanism or a channel binding that does not fit is no guess: real clients
-- walk down the list of mechanisms until one does, so these have a wider bound of their own.
local guesses = { ["not-authorized"] = true, ["account-disabled"] = true, ["temporary-auth-failure"] = true }
local max_misfits = max_attempts + 7

-- One more failure on this stream; closes it if that was one too many.
local function refused(session, condition, text)
  local field = guesses[condition] and "sasl_failures" or "sasl_misfits"
  session[field] = (session[field] or 0) + 1
  session.send(reply("failure", condition, text))
  if (session.sasl_failures or 0) >= max_attempts or (session.sasl_misfits or 0) >= max_misfits then session:close(too_many) end
  return true
end

local function fail(session, handler, condition, text)
  local event = { session = session, condition = condition, text = text }
  handler.username = handler.username or handler.claimed       -- who it was that failed, as plugins look for it
  module:fire_event("authentication-failure", event)
  local name = handler.claimed or handler.username
  if condition == "not-authorized" or condition == "account-disabled" then
    local address = address_of(session)
    if name then count_failure(name .. "\0" .. address, threshold) end
    count_failure("\0" .. address, address_threshold)
  end
  session.log("info", "Failed authentication attempt (%s) for user %s from IP: %s", condition, name or "?", session.ip or "?")
  session.sasl_handler = handler.clean_clone and handler:clean_clone() or nil
  local status = { session = session, message = event.condition, error_text = event.text }
  module:fire_event("sasl/" .. session.base_type .. "/failure", status)
  return refused(session, status.message, status.error_text)
end

local function succeed(session, handler, data)
  local ok, err = sessionmanager.make_authenticated(session, handler.username, handler.role)
  if session.destroyed then return true end
  if not ok then
    session.log("warn", "SASL succeeded, but the session cannot be authenticated: %s", err)
    return fail(session, handler, "not-authorized", "User authenticated successfully, but username was invalid")
  end
  session.sasl_resource = handler.resource
  session.sasl_mechanism = handler.selected
  session.sasl_failures, session.sasl_misfits = nil, nil
  note(session.username .. "\0" .. address_of(session), nil)
  module:fire_event("authentication-success", { session = session })
  session.sasl_handler = nil
  local status = { session = session, message = data }
  module:fire_event("sasl/" .. session.base_type .. "/success", status)
  session.send(reply("success", status.message))
  session:reset_stream()
  return true
end

local function text_of(element)
  if #element.tags > 0 then return nil end
  local parts = {}
  for _, part in ipairs(element) do parts[#parts + 1] = part end
  return table.concat(parts)
end

-- The message of <auth/> or <response/> goes to the handler. In <auth/> nothing means: no initial response (§6.4.2).
local function process(session, element)
  local text, message = text_of(element), nil
  if not text then return refused(session, "malformed-request") end
  if text == "=" then
    message = ""
  elseif text ~= "" then
    message = base64.decode_strict(text)
    if not message then
      session.sasl_handler = nil
      return refused(session, "incorrect-encoding")
    end
  elseif element.name == "response" then
    message = ""
  end
  local handler, address = session.sasl_handler, address_of(session)
  stand_in_line(address)
  local native = session.net
  if session.destroyed or session.sasl_handler ~= handler or native and not native:connected() then
    next_in_line(address)
    return true
  end
  local ok, status, data, more = xpcall(handler.process, debug.traceback, handler, message)
  next_in_line(address)
  if session.destroyed then return true end
  if not ok then
    module:log("error", "authentication of %s: %s", session.ip or "?", status)
    status, data, more = "failure", "temporary-auth-failure", nil
  end
  if status == "success" then return succeed(session, handler, data) end
  if status == "failure" then return fail(session, handler, data, more) end
  local event = { session = session, message = data }
  module:fire_event("sasl/" .. session.base_type .. "/challenge", event)
  session.send(reply("challenge", event.message))
  return true
end

-- Handlers ------------------------------------------------------------------------------------------------------------------

local function tls_of(session)
  local conn = session.conn
  return session.encrypted and conn and conn.tls and conn:tls() or nil
end

-- The accounts a verified client certificate speaks for; nil: none.
local function certificate_accounts(tls)
  if not with_certificates or not tls or not tls.peer_cert or #(tls.verify_errors or {}) > 0 then return nil end
  local cert = x509.load(tls.peer_cert)
  local names, any = {}, false
  for _, address in ipairs(cert and (certificate_match == "email" and cert.emails or cert.xmpp_addrs) or {}) do
    local node, host, resource = jid.prepped_split(address)
    if node and host == module.host and not resource then
      names[#names + 1] = node
      any = true
    end
  end
  return any and names or nil
end

-- XEP-0178 §2: without an authzid the certificate must name one account; with one it must name that.
local function external(names)
  return function(authzid)
    local username = names[1]
    if authzid ~= "" then
      local node, host, resource = jid.prepped_split(authzid)
      username = nil
      for _, name in ipairs(names) do
        if name == node and host == module.host and not resource then username = name end
      end
      if not username then return nil, "invalid-authzid" end
    elseif names[2] then
      return nil, "invalid-authzid"
    end
    if not usermanager.user_exists(username, module.host) then return nil end
    return username, usermanager.user_is_enabled(username, module.host) ~= false
  end
end

local function add_bindings(session, handler, tls)
  if not tls or not handler.add_cb_handler then return {} end
  local bindings, types = tls.bindings or {}, {}
  for _, kind in ipairs { "tls-exporter", "tls-server-end-point", "tls-unique" } do
    local data = bindings[kind]
    if kind == "tls-server-end-point" and end_point_hash and end_point_hash ~= "auto" then
      data = require "util.hex".decode(end_point_hash)
    end
    if data then
      handler:add_cb_handler(kind, function() return data end)
      types[#types + 1] = kind
    end
  end
  handler.userdata = handler.userdata or { ["tls-unique"] = session.conn, ["tls-exporter"] = session.conn }
  return types
end

-- A handler for this session and the channel binding types it can use.
local function new_handler(session)
  local handler = usermanager.get_sasl_handler(module.host, session)
  if not handler then return nil end
  local tls = tls_of(session)
  local names = certificate_accounts(tls)
  if names and handler.extended and not handler.profile.external then
    handler = handler:extended { external = external(names) }
  end
  handler.secret = secret
  handler.gate = gate(session)
  local types = add_bindings(session, handler, tls)
  return handler, types
end

local function usable(session, handler)
  local names = {}
  for name in pairs(handler:mechanisms()) do
    if not disabled:contains(name) and (session.secure or not insecure:contains(name)) then names[name] = true end
  end
  handler.announced = names
  return names
end

-- Strongest first; who reads only the first line gets the best.
local order = {}
for i, name in ipairs {
  "EXTERNAL", "SCRAM-SHA-512-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1",
} do
  order[name] = i
end
order.PLAIN, order.ANONYMOUS = 1000, 1001

local function stronger(a, b)
  local x, y = order[a] or 100, order[b] or 100
  if x ~= y then return x < y end
  return a < b
end

module:hook("stream-features", function(event)
  local session, features = event.origin, event.features
  if session.type ~= "c2s_unauthed" then
    if session.username and not session.full_jid and session.base_type == "c2s" then
      features:tag("bind", { xmlns = BIND }):tag("required"):up():up()
      features:tag("session", { xmlns = SESSION }):tag("optional"):up():up()
    end
    return
  end
  if secure_auth_only and not session.secure then return end
  local handler, types = new_handler(session)
  session.sasl_handler = handler
  if not handler then
    module:log("error", "the authentication plugin of %s gives no SASL handler", module.host)
    return
  end
  local names, list, plus = usable(session, handler), {}, false
  for name in pairs(names) do
    list[#list + 1] = name
    plus = plus or name:find "%-PLUS$" ~= nil
  end
  if not list[1] then
    module:log("warn", "no SASL mechanism is left to offer: see authentication, disable_sasl_mechanisms, "
      .. "insecure_sasl_mechanisms")
    return
  end
  table.sort(list, stronger)
  features:tag("mechanisms", { xmlns = SASL })
  for _, name in ipairs(list) do features:text_tag("mechanism", name) end
  features:up()
  if plus then
    features:tag("sasl-channel-binding", { xmlns = "urn:xmpp:sasl-cb:0" })
    for _, kind in ipairs(types) do features:tag("channel-binding", { type = kind }):up() end
    features:up()
  end
end)

-- Elements ------------------------------------------------------------------------------------------------------------------

module:hook("stanza/" .. SASL .. ":auth", function(event)
  local session, element = event.origin, event.stanza
  if session.type ~= "c2s_unauthed" or module:get_host_type() ~= "local" then return nil end
  module:fire_event("authentication-attempt", event)
  if event.allowed == false then return refused(session, event.error_condition or "not-authorized", event.error_text) end
  if waiting("\0" .. address_of(session)) then
    return refused(session, "temporary-auth-failure", "Too many failures; try again later")
  end
  local mechanism = element.attr.mechanism
  if not mechanism then return refused(session, "malformed-request", "No mechanism named") end
  if not session.secure and (secure_auth_only or insecure:contains(mechanism)) then
    return refused(session, "encryption-required")
  end
  local handler = session.sasl_handler
  if not handler or handler.selected then              -- a new negotiation ends one that was not completed
    if handler then session.sasl_misfits = (session.sasl_misfits or 0) + 1 end
    handler = new_handler(session)
    session.sasl_handler = handler
    if not handler then return refused(session, "temporary-auth-failure") end
    usable(session, handler)
  end
  if disabled:contains(mechanism) or not handler:select(mechanism) then return refused(session, "invalid-mechanism") end
  return process(session, element)
end)

module:hook("stanza/" .. SASL .. ":response", function(event)
  local session = event.origin
  if session.type ~= "c2s_unauthed" then return nil end
  local handler = session.sasl_handler
  if not (handler and handler.selected) then return refused(session, "malformed-request", "Out of order SASL element") end
  return process(session, event.stanza)
end)

module:hook("stanza/" .. SASL .. ":abort", function(event)
  local session = event.origin
  if session.type ~= "c2s_unauthed" then return nil end
  session.sasl_handler = nil
  return refused(session, "aborted")
end)

-- Binding -----------------------------------------------------------------------------------------------------------------

module:hook("stanza/iq/" .. BIND .. ":bind", function(event)
  local session, stanza = event.origin, event.stanza
  if session.type ~= "c2s_unbound" then return nil end
  if stanza.attr.type ~= "set" then
    session.send(st.error_reply(stanza, "modify", "bad-request", "Binding is an iq of type set"))
    return true
  end
  local resource = session.sasl_resource
  local wish = stanza.tags[1]:get_child "resource"
  if not resource and wish and #wish.tags == 0 then resource = wish:get_text() end
  local ok, kind, condition, text = sessionmanager.bind_resource(session, resource)
  if session.destroyed then return true end
  if not ok then
    session.log("debug", "resource refused: %s", text or condition)
    session.send(st.error_reply(stanza, kind, condition, text))
    return true
  end
  session.sasl_resource = nil
  session.send(st.reply(stanza):tag("bind", { xmlns = BIND }):text_tag("jid", session.full_jid))
  return true
end)

-- A second resource on the same stream is not what RFC 6120 knows any more.
local function bind_again(event)
  if event.stanza.attr.type ~= "set" then return nil end
  event.origin.send(st.error_reply(event.stanza, "cancel", "not-allowed", "A resource is bound already"))
  return true
end

for _, target in ipairs { "self", "host", "bare" } do
  module:hook("iq-set/" .. target .. "/" .. BIND .. ":bind", function(event)
    if event.origin.type ~= "c2s" then return nil end
    return bind_again(event)
  end)
end

-- RFC 3921's session is a harmless no-op.
local function session_request(event)
  if event.origin.type ~= "c2s" then return nil end
  event.origin.send(st.reply(event.stanza))
  return true
end
module:hook("iq-set/self/" .. SESSION .. ":session", session_request)
module:hook("iq-set/host/" .. SESSION .. ":session", session_request)
