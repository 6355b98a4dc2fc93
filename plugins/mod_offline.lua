-- SPDX-License-Identifier: MIT
-- mod_offline: keeps messages for accounts nobody is at (XEP-0160, RFC 6121 §8.5.2.2), with the time they came (XEP-0203).
--
-- Messages are handed over as fast as the client takes them, and leave the store only when they have left the process; if the
-- connection has broken meanwhile, a message may come twice, but it does not get lost. With stream management
-- they leave the store when the client has acknowledged them.

local blocking = require "couplet.blocking"
local clock = require "couplet.clock"
local client_session = require "couplet.client_session"
local directory = require "couplet.directory"
local durable = require "couplet.durable"
local jid = require "couplet.jid"
local router = require "couplet.router"
local st = require "couplet.stanza"
local task = require "couplet.task"

local host = module.host
local store = module:open_store("offline", "archive")

module:config {
  offline_messages_max = { type = "integer", default = 1000, min = 0,
    doc = "messages kept for one account; further ones are refused" },
  offline_bytes_max = { type = "integer", default = 16777216, min = 0,
    doc = "bytes of them, counted from the start of the server" },
}
local BATCH = 50                               -- messages read, and deleted, in one go
local PIECE = 65536                            -- bytes handed over between two looks at the connection

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

-- Most accounts have nothing here: then nothing is read.
local function has(username) return not store.has or store:has(username) end

-- username -> { n = messages stored, at most: others may have deleted some; bytes = of those stored since the server started }
local known = {}

local function kept(username)
  local entry = known[username]
  local config = module.config
  if entry and entry.n < config.offline_messages_max and entry.bytes < config.offline_bytes_max then return entry end
  local n = 0
  if has(username) then
    local iterator
    iterator, n = store:find(username, { limit = 0, total = true })
    if not iterator then return nil, n end
    if not n then
      n = 0
      for _ in store:find(username) do n = n + 1 end
    end
  end
  entry = known[username] or { bytes = 0 }
  entry.n, entry.bytes = n, n > 0 and entry.bytes or 0
  known[username] = entry
  return entry
end

local hand_over_to

-- Somebody may have come while the message was written, and have missed it.
local function look_again(username)
  local user = directory.user(username .. "@" .. host)
  for _, session in ipairs(user and user.top_resources or {}) do
    if session.net then return task.spawn(hand_over_to, session, username) end
  end
end

-- true: stored, or the sender has been told why not; nil: it is to be refused. May wait.
local function append(origin, stanza, username)
  -- Of exactly now: with a number that is known beforehand, and so written again where a database's connection breaks.
  local id, err = store:append(username, nil, stanza, clock.wall(), jid.bare(stanza.attr.from or host))
  if id then
    look_again(username)
    return true
  end
  known[username] = nil
  if err == "quota-limit" then return nil end
  module:log("error", "a message for %s@%s cannot be kept: %s", username, host, err)
  return router.fail(origin, stanza, err)
end

-- The acknowledgement waits for the disk, the sender's next stanza does not.
local function append_later(origin, stanza, username)
  local release = durable.hold()
  task.spawn(function()
    local ok, stored = xpcall(append, debug.traceback, origin, stanza, username)
    if ok and not stored then router.reply_error(origin, stanza, "cancel", "service-unavailable") end
    release(ok, not ok and stored or nil)
  end)
  return true
end

module:hook("message/offline/handle", function(event)
  local origin, stanza, username = event.origin, event.stanza, event.username
  local type = stanza.attr.type or "normal"
  if type == "error" or type == "headline" or type == "groupchat" then return nil end
  if not worth_keeping(stanza) then return true end
  local entry, err = kept(username)
  if not entry then return router.fail(origin, stanza, err) end
  local bytes = stanza:size()
  if entry.n >= module.config.offline_messages_max or entry.bytes + bytes > module.config.offline_bytes_max then
    module:log("info", "%s@%s has %d messages waiting; one from %s is refused", username, host, entry.n, stanza.attr.from)
    return nil                                 -- the sender gets service-unavailable
  end
  entry.n, entry.bytes = entry.n + 1, entry.bytes + bytes
  if durable.waiting() then return append_later(origin, stanza, username) end
  return append(origin, stanza, username)
end, -1)

local busy = {}                                -- accounts whose messages are being handed over; "again": there are more by now
local handed = {}                              -- username -> set of what has been sent and is still in the store

-- It waited elsewhere before (mod_smacks), and says since when.
local function stamped(stanza)
  for child in stanza:childtags("delay", "urn:xmpp:delay") do
    if child.attr.from == host then return true end
  end
  return false
end

local SID = "urn:xmpp:sid:0"

-- Will the client find it in the archive?
local function found_elsewhere(origin, stanza)
  return origin.reads_archive and stanza:get_child_with_attr("stanza-id", SID, "by", origin.username .. "@" .. host) ~= nil
end

-- Sends what the iterator gives -> ids of what has left, true if that is all of it
local function hand_out(origin, iterator)
  local left, sent, bytes = {}, {}, 0
  local out = {}
  handed[origin.username] = out
  local function flush()
    if bytes > 0 and not client_session.flush(origin) then return false end
    table.move(sent, 1, #sent, #left + 1, left)
    sent, bytes = {}, 0
    return true
  end
  local all = true
  for id, stanza, when in iterator do
    if type(stanza) == "table" and not st.is_stanza(stanza) then stanza = st.deserialize(stanza) end
    stanza = st.clone(stanza)
    if not stamped(stanza) then
      stanza:reset():tag("delay", { xmlns = "urn:xmpp:delay", from = host,
        stamp = os.date("!%Y-%m-%dT%H:%M:%SZ", math.floor(when)) }):up()
    end
    -- who has been blocked since then is not heard
    if not found_elsewhere(origin, stanza) and not blocking.blocks(origin.username, host, stanza.attr.from or host) then
      if origin.sm then out[tostring(stanza)] = true end
      if not origin.send(stanza) then
        all = false
        break
      end
      bytes = bytes + stanza:size()
    end
    sent[#sent + 1] = id
    if bytes >= PIECE and not flush() then return left, false end
  end
  return left, (#sent == 0 or flush()) and all
end

local function hand_over(origin, username)
  repeat
    local iterator, err = store:find(username, { limit = BATCH })
    if not iterator then
      module:log("error", "the messages kept for %s@%s cannot be read: %s", username, host, err)
      return
    end
    local left, all = hand_out(origin, iterator)
    if #left == 0 then return end
    local ok
    ok, err = store:delete(username, { ids = left })
    if not ok then
      module:log("error", "messages handed to %s@%s cannot be deleted: %s", username, host, err)
      return
    end
  until not all or #left < BATCH
end

function hand_over_to(origin, username)
  if not has(username) then
    known[username] = nil
    return
  end
  if busy[username] then
    busy[username] = "again"
    return
  end
  local ok, err
  repeat
    busy[username], known[username] = true, nil
    ok, err = pcall(hand_over, origin, username)
  until not ok or busy[username] ~= "again" or origin.destroyed or not origin.net
  busy[username], known[username], handed[username] = nil, nil, nil
  if not ok then error(err, 0) end
end

module:hook("message/offline/broadcast", function(event)
  local origin = event.origin
  if origin.sm then                            -- it acknowledges what it gets: others must not wait for that
    task.spawn(hand_over_to, origin, origin.username)
  else
    hand_over_to(origin, origin.username)
  end
  return true
end, -1)

-- XEP-0386 §3.2: a client that binds that way reads its archive; what is there too would come twice.
module:hook("enable-bind-features", function(event) event.session.reads_archive = true end)

-- A session ends without having acknowledged it: it is still here.
module:hook("delivery/failure", function(event)
  local out = handed[event.session.username]
  if out and out[tostring(event.stanza)] then return true end
end, 10)

module:hook_global("user-deleted", function(event)
  if event.host ~= host then return end
  known[event.username] = nil
  store:delete(event.username)
end)
