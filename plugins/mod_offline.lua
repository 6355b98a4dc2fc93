-- SPDX-License-Identifier: MIT
-- mod_offline: keeps messages for accounts nobody is at (XEP-0160, RFC 6121 §8.5.2.2), with the time they came (XEP-0203).
--
-- A message leaves the store only after it was handed to a session that is still there; if that session's connection has broken
-- meanwhile, the message may come twice, but it does not get lost.

local jid = require "couplet.jid"
local router = require "couplet.router"
local st = require "couplet.stanza"

local host = module.host
local store = module:open_store("offline", "archive")

module:config {
  offline_messages_max = { type = "integer", default = 1000, min = 0,
    doc = "messages kept for one account; further ones are refused" },
}
local BATCH = 100                              -- messages handed over between two looks at the connection

module:add_feature("msgoffline")

local HINTS, CHATSTATES = "urn:xmpp:hints", "http://jabber.org/protocol/chatstates"

-- Does anybody want to read this later?
local function worth_keeping(stanza)
  if stanza:get_child("no-store", HINTS) or stanza:get_child("no-permanent-store", HINTS) then return false end
  if stanza:get_child("store", HINTS) or stanza:get_child "body" then return true end
  if stanza.attr.type ~= "chat" then return true end
  for _, child in ipairs(stanza.tags) do       -- XEP-0160 §3: chat states alone are not kept
    if child.attr.xmlns ~= CHATSTATES and child.name ~= "thread" then return true end
  end
  return false
end

local known = {}                               -- username -> messages stored, at most: others may have deleted some

local function count(username)
  if known[username] and known[username] < module.config.offline_messages_max then return known[username] end
  local iterator, total = store:find(username, { limit = 0, total = true })
  if not iterator then return nil, total end
  if not total then
    total = 0
    for _ in store:find(username) do total = total + 1 end
  end
  return total
end

module:hook("message/offline/handle", function(event)
  local origin, stanza, username = event.origin, event.stanza, event.username
  local type = stanza.attr.type or "normal"
  if type == "error" or type == "headline" or type == "groupchat" then return nil end
  if not worth_keeping(stanza) then return true end
  local n, err = count(username)
  if not n then return router.fail(origin, stanza, err) end
  if n >= module.config.offline_messages_max then
    module:log("info", "%s@%s has %d messages waiting; one from %s is refused", username, host, n, stanza.attr.from)
    return nil                                 -- the sender gets service-unavailable
  end
  known[username] = n + 1
  local id
  id, err = store:append(username, nil, stanza, os.time(), jid.bare(stanza.attr.from or host))
  if id then return true end
  known[username] = nil
  if err == "quota-limit" then return nil end
  module:log("error", "a message for %s@%s cannot be kept: %s", username, host, err)
  return router.fail(origin, stanza, err)
end, -1)

local busy = {}                                -- accounts whose messages are being handed over

local function hand_over(origin, username)
  local after
  repeat
    local batch = {}
    local iterator, err = store:find(username, { limit = BATCH, after = after })
    if not iterator then
      module:log("error", "the messages kept for %s@%s cannot be read: %s", username, host, err)
      return
    end
    for id, stanza, when in iterator do
      if type(stanza) == "table" and not st.is_stanza(stanza) then stanza = st.deserialize(stanza) end
      batch[#batch + 1] = id
      stanza = st.clone(stanza)
      stanza:reset():tag("delay", { xmlns = "urn:xmpp:delay", from = host,
        stamp = os.date("!%Y-%m-%dT%H:%M:%SZ", math.floor(when)) }):up()
      if not origin.send(stanza) then
        batch[#batch] = nil
        break
      end
    end
    if #batch == 0 or origin.destroyed then return end
    local ok
    ok, err = store:delete(username, { ids = batch })
    if not ok then
      module:log("error", "messages handed to %s@%s cannot be deleted: %s", username, host, err)
      return
    end
    after = nil
  until #batch < BATCH
end

module:hook("message/offline/broadcast", function(event)
  local origin = event.origin
  local username = origin.username
  if busy[username] then return true end
  busy[username], known[username] = true, nil
  local ok, err = pcall(hand_over, origin, username)
  busy[username], known[username] = nil, nil
  if not ok then error(err, 0) end
  return true
end, -1)

module:hook_global("user-deleted", function(event)
  if event.host ~= host then return end
  known[event.username] = nil
  store:delete(event.username)
end)
