-- SPDX-License-Identifier: MIT
-- mod_sasl2_fast: a client that has authenticated gets a token, and next time logs in with one message (XEP-0484).
--
-- A token belongs to an account, a client (the id of its user-agent) and a mechanism. Two are kept for each client: the current
-- one, and a new one that takes its place when it is used. Kept of a token for HT-SHA-256-NONE is a hash of what the client will
-- send, so nobody can log in with what is stored; the mechanisms bound to a channel need the token itself: docs/security.md.
-- A new password, and disabling or deleting the account, end all of its tokens. Tokens in use are kept in mind, so that a phone
-- that comes back waits for no disk and no database.

local base64 = require "couplet.util.base64"
local clock = require "couplet.clock"
local core = require "couplet.core"
local datetime = require "couplet.util.datetime"
local new_sasl = require "couplet.sasl".new
local recent = require "couplet.recent"
local st = require "couplet.stanza"
local task = require "couplet.task"
local users = require "couplet.users"

local FAST = "urn:xmpp:fast:0"
local SASL2 = "urn:xmpp:sasl:2"

module:config {
  sasl2_fast_token_ttl = { type = "period", default = "21 days", min = 60, doc = "how long a token is good" },
  sasl2_fast_token_min_ttl = { type = "period", default = "1 day", min = 0,
    doc = "a token older than this is exchanged for a new one when it is used" },
}

local login = module:depends "sasl2".login
local host = module.host
local store = module:open_store("fast_tokens", "keyval+")     -- id of the client -> { current = token, new = token }

-- Most binding first. A token: { mechanism, text | initiator, responder (base64), issued, expires, count }
local mechanisms, bindings = {}, {}
for _, name in ipairs { "HT-SHA-256-EXPR", "HT-SHA-256-UNIQ", "HT-SHA-256-ENDP", "HT-SHA-256-NONE" } do
  if login.allowed(name) then
    mechanisms[#mechanisms + 1] = name
    bindings[name] = core.sasl.ht_binding(name)
  end
end

module:hook("advertise-sasl-features", function(event)
  local fast = st.stanza("fast", { xmlns = FAST })
  for _, name in ipairs(mechanisms) do
    if bindings[name] == "" or event.bindings[bindings[name]] then fast:text_tag("mechanism", name) end
  end
  if fast.tags[1] then event.features:add_child(fast) end
end)

-- Whoever is logging in while the tokens of the account, or of one of its clients, are ended gets no new one for it.
local ends, began = 0, setmetatable({}, { __mode = "k" })       -- <authenticate/> -> how many ends there had been
local last_end, note_end = recent.new(10000)     -- account -> which was its last

local function ended(username)
  ends = ends + 1
  note_end(username, ends)
end

module:hook("stanza/" .. SASL2 .. ":authenticate", function(event) began[event.stanza] = ends end, 101)

-- Logging in --------------------------------------------------------------------------------------------------------------

local SLOTS = { "new", "current" }
local writes = 0                                 -- of tokens, as far as they are begun

-- What was read for logins: account -> { [id of the client] = { kept = its tokens, at = when that was read } }. Whatever ends
-- them comes along here. What somebody has changed past this server is seen after a day or a reload, and at once if accounts are
-- kept by somebody who does not tell of changes.
local AGAIN = 86400                              -- seconds
local remembered, remember
local function forget_all() remembered, remember = recent.new(10000) end
forget_all()
module:hook_global("config-reloaded", forget_all)

local function changes(username)
  writes = writes + 1
  remember(username, nil)
end

local function write(username, id, kept)
  changes(username)
  return store:set_key(username, id, kept)
end

local void = {}                                  -- accounts whose tokens have ended, but are still stored

local counts, note_count = recent.new(10000)     -- what is kept of a token -> the last count told with it

-- A request that was counted before, or is older than one that was, is somebody's copy. Early data, which can be copied without
-- breaking TLS, is not taken here: so the last count is written along with what else there is to write, not by itself.
local function replayed(token, count)
  if not count then return false end
  local last = counts(token.text or token.initiator) or token.count
  return last ~= nil and count <= last
end

local function in_mind(username, id)
  if users.get_provider(host).announces_changes ~= true then return nil end
  local clients = remembered(username)
  local known = clients and clients[id]
  return known and clock.mono() - known.at < AGAIN and known.kept or nil
end

-- The tokens of a client, and whether the account is enabled: for tokens in mind it is, or they would have been revoked. The same
-- is read whether the account exists or not, in one wait. The tokens must be what they are when one of them is used: if somebody
-- has written some meanwhile they are read again.
local function look_up(handler, username, id)
  if in_mind(username, id) then
    handler.own_role = users.user_role_ahead(username, host)
    local kept = in_mind(username, id)
    if kept then return kept, true end
  end
  local began_at, began_with, err, before = clock.mono(), writes, nil, nil
  local enabled, own_role, kept = task.together(function() return users.user_is_enabled(username, host) end,
    function() return users.user_role_ahead(username, host) end,
    function()
      local found
      found, err = store:get_key(username, id)
      before = writes
      return found
    end)
  handler.own_role = own_role
  if before ~= writes then
    kept, err = store:get_key(username, id)
  elseif kept and enabled and writes == began_with then          -- whatever the store: this is what it holds
    local clients = remembered(username) or {}
    clients[id] = { kept = kept, at = began_at }
    remember(username, clients)
  end
  return kept, enabled, err
end

-- The tokens it may be, as core.sasl wants them.
local function candidates(handler, username)
  local fast = handler.fast
  local kept, enabled, err = look_up(handler, username, fast.id)
  if not kept and err then return nil, nil, true end
  if void[username] then kept = nil end
  local list, now = {}, os.time()
  fast.kept, fast.tried = kept, {}
  for _, slot in ipairs(SLOTS) do
    local token = kept and kept[slot]
    if token and token.mechanism == handler.selected and not replayed(token, fast.count) then
      fast.tried[#list + 1] = slot
      list[#list + 1] = { expired = token.expires <= now, text = token.text,
        initiator = token.initiator and base64.decode(token.initiator),
        responder = token.responder and base64.decode(token.responder) }
    end
  end
  return list, enabled
end

-- The proof is right: the token counts as used before the client is told.
local function used(handler, place)
  local fast = handler.fast
  local kept, slot = fast.kept, fast.tried[place]
  local token = kept[slot]
  fast.token, fast.kept = token, nil
  if fast.count then
    token.count = fast.count
    note_count(token.text or token.initiator, fast.count)
  end
  if fast.invalidate then
    kept = nil
  elseif slot == "new" then                      -- it takes the place of the one before
    kept.current, kept.new = token, nil
  else
    return nil
  end
  local ok, err = write(handler.username, fast.id, kept)
  if not ok then
    module:log("error", "a token of %s cannot be stored: %s", handler.username, err)
    return "temporary-auth-failure"
  end
end

local profile = { ht_tokens = candidates, ht_used = used }

local COUNT_MAX = 2147483647                     -- xs:int

local function count_of(text)
  local count = text and text:find "^%d+$" and math.tointeger(tonumber(text))
  return count and count <= COUNT_MAX and count or nil
end

module:hook("stanza/" .. SASL2 .. ":authenticate", function(event)
  local session, stanza = event.origin, event.stanza
  local element = stanza:get_child("fast", FAST)
  if not element or session.type ~= "c2s_unauthed" then return nil end
  local agent = stanza:get_child "user-agent"
  local id, count = agent and agent.attr.id, count_of(element.attr.count)
  if not id or element.attr.count and not count then
    return login.refused(session, "malformed-request", "A token needs the id of a user-agent, and its count is a number")
  end
  local handler = new_sasl(host, profile)
  local invalidate = element.attr.invalidate
  handler.fast = { id = id:lower(), count = count, invalidate = invalidate == "true" or invalidate == "1" }
  login.equip(session, handler)
  event.handler = handler
end, 100)

-- Tokens ------------------------------------------------------------------------------------------------------------------

-- -> text, when it expires | nil, message; nil alone: tokens have ended since the login began, or just now
local function issue(username, id, mechanism, since)
  local text, now = core.crypto.base64url_encode(core.crypto.random_bytes(32)), os.time()
  local token = { mechanism = mechanism, issued = now, expires = now + math.min(module.config.sasl2_fast_token_ttl, 1e9) }
  if bindings[mechanism] == "" then
    local initiator, responder = core.sasl.ht_hash(text)
    token.initiator, token.responder = base64.encode(initiator), base64.encode(responder)
  else
    token.text = text
  end
  local kept, err = store:get_key(username, id)
  if not kept and err then return nil, err end
  if void[username] or not since or (last_end(username) or 0) > since then return nil end
  kept = kept or {}
  local current = kept.current
  if current then current.count = counts(current.text or current.initiator) or current.count end
  kept.new = token                               -- one that was never used is gone
  local ok
  ok, err = write(username, id, kept)
  if not ok then return nil, err end
  return text, token.expires
end

-- The mechanism of the token this client is to get, if any.
local function wanted(event)
  local request, fast = event.stanza:get_child("request-token", FAST), event.handler.fast
  if request then
    local mechanism = request.attr.mechanism
    return mechanism and bindings[mechanism] and mechanism or nil
  end
  if fast and not fast.invalidate and os.time() - fast.token.issued >= module.config.sasl2_fast_token_min_ttl then
    return event.handler.selected
  end
end

module:hook("sasl2/c2s/success", function(event)
  local session, client, handler = event.session, event.client, event.handler
  if not (client and client.id) or handler.selected == "ANONYMOUS" then return end
  if handler.role then return end                -- a login with less rights than the account has must not get all of them
  local mechanism = wanted(event)
  if not mechanism then return end
  local text, expires = issue(session.username, client.id, mechanism, began[event.stanza])
  if not text then return expires and module:log("error", "no token for %s: %s", session.username, expires) or nil end
  event.success:tag("token", { xmlns = FAST, token = text, expiry = datetime.datetime(expires) }):up()
end, 20)

-- Their end ---------------------------------------------------------------------------------------------------------------

module:hook("sasl2/client-forgotten", function(event)
  ended(event.username)
  local ok, err = write(event.username, event.id, nil)
  if ok then return end
  module:log("error", "the tokens of a client of %s cannot be ended: %s", event.username, err)
  event.failed = event.failed or err
end)

local RETRY = 10                                 -- seconds

-- What cannot be removed now is worth nothing all the same, and is removed later.
local function remove(username)
  changes(username)
  local ok, err = store:set(username, nil)
  if not ok and not void[username] then module:log("error", "the tokens of %s cannot be removed yet: %s", username, err) end
  void[username] = not ok or nil
end

local function retry(username)
  module:add_timer(RETRY, function()
    if void[username] then remove(username) end
    return void[username] and RETRY
  end)
end

local function revoke(event)
  if event.host ~= host then return end
  ended(event.username)
  remove(event.username)
  if void[event.username] then retry(event.username) end
end
for _, name in ipairs { "user-password-changed", "user-disabled", "user-deleted" } do module:hook_global(name, revoke, 300) end

function module.save() return { counts = counts, note_count = note_count, void = void } end
function module.restore(state)
  counts, note_count, void = state.counts or counts, state.note_count or note_count, state.void or void
  for username in pairs(void) do retry(username) end
end
