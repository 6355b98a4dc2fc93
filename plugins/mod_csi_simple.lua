-- SPDX-License-Identifier: MIT
-- mod_csi_simple: what can wait, waits while nobody looks at a client (XEP-0352): presence, chat states and the like are held
-- until something important is sent, the client speaks, or too much is held. Of each contact only the last presence is sent.
--
-- Fires csi-is-stanza-important { stanza, session, reason? }: true or false; ours answers with priority -1, others may before.
-- Fires csi-flushing { session, reason } before what was held is sent.

local client_session = require "couplet.client_session"
local filters = require "couplet.filters"
local jid = require "couplet.jid"
local st = require "couplet.stanza"

local send = client_session.send

module:depends "csi"
module:config {
  csi_queue_size = { type = "integer", default = 256, min = 0, doc = "stanzas held for an inactive client" },
  csi_resume_inactive_delay = { type = "period", default = 5, max = 86400,
    doc = "seconds in which nothing is held after something was sent to an inactive client: it is awake" },
  csi_important_payloads = { type = "array", doc = "more that does not wait, as paths of elements: { \"{urn:example}alarm\" }" },
  csi_muc_mentions_only = { type = "boolean", default = false,
    doc = "messages in rooms wait unless they name the user" },
}
local BYTES_MAX = 65536                        -- held for one client

-- What is important ---------------------------------------------------------------------------------------------------------

-- Namespaces of children that make a message important.
local payloads = {
  ["urn:xmpp:eme:0"] = "encrypted", ["eu.siacs.conversations.axolotl"] = "encrypted", ["urn:xmpp:omemo:2"] = "encrypted",
  ["urn:xmpp:omemo:1"] = "encrypted", ["urn:xmpp:openpgp:0"] = "encrypted", ["jabber:x:encrypted"] = "encrypted",
  ["urn:xmpp:jingle-message:0"] = "call", ["jabber:x:conference"] = "invitation",
  ["urn:xmpp:message-retract:1"] = "retraction", ["urn:xmpp:reactions:0"] = "reaction",
}
local MUC_USER = "http://jabber.org/protocol/muc#user"

-- Is the client called by its nick, or referred to?
local function mentioned(stanza, session)
  local from = stanza.attr.from
  local room = from and jid.bare(from)
  local body = (stanza:get_child_text "body" or ""):lower()
  for to in pairs(session.directed or {}) do
    local nick = jid.bare(to) == room and jid.resource(to)
    if nick and body:find(nick:lower(), 1, true) then return true end
  end
  for reference in stanza:childtags("reference", "urn:xmpp:reference:0") do
    local place = reference.attr.type == "mention" and (reference.attr.uri or ""):match "^xmpp:([^?]+)"
    if place and jid.bare(place) == jid.bare(session.full_jid) then return true end
  end
  return false
end

local function message_important(stanza, session)
  local type = stanza.attr.type
  if type == "error" then return true, "error" end
  if type == "headline" then return false, "headline" end
  if stanza:get_child("sent", "urn:xmpp:carbons:2") then return true, "carbon" end       -- the user is at another device
  local carbon = stanza:find "{urn:xmpp:carbons:2}received/{urn:xmpp:forward:0}forwarded/{jabber:client}message"
  if carbon then return message_important(carbon, session) end
  local result = stanza:find "{urn:xmpp:mam:2}result"
  if result then return true, "asked for" end
  if type == "groupchat" then
    if stanza:get_child "subject" and not stanza:get_child "body" then return true, "subject" end     -- a room has been entered
    if module.config.csi_muc_mentions_only and not mentioned(stanza, session) then return false, "room" end
  end
  if stanza:get_child "body" then return true, "body" end
  for _, child in ipairs(stanza.tags) do
    local reason = payloads[child.attr.xmlns]
    if reason then return true, reason end
  end
  local x = stanza:get_child("x", MUC_USER)
  if x and (x:get_child "invite" or x:get_child "status") then return true, "room" end
  for _, path in ipairs(module.config.csi_important_payloads or {}) do
    if stanza:find(path) then return true, "configured" end
  end
  return false, "unimportant"
end

local function presence_important(stanza)
  local type = stanza.attr.type
  if type and type ~= "unavailable" then return true, type end                          -- requests, answers, errors
  local x = stanza:get_child("x", MUC_USER)
  for status in (x or stanza):childtags("status", MUC_USER) do
    if status.attr.code == "110" then return true, "own presence in a room" end
  end
  return false, "presence"
end

module:hook("csi-is-stanza-important", function(event)
  local stanza, important = event.stanza, true
  if stanza.attr.xmlns and stanza.attr.xmlns ~= "jabber:client" then
    event.reason = "of the stream"
  elseif stanza.name == "message" then
    important, event.reason = message_important(stanza, event.session)
  elseif stanza.name == "presence" then
    important, event.reason = presence_important(stanza)
  else
    event.reason = "iq"
  end
  return important
end, -1)

-- What is held --------------------------------------------------------------------------------------------------------------

-- session -> { first, last: numbers of the stanzas held under [n] (false: replaced by a later one); places: key -> n;
-- count; bytes; open: being sent, or not held yet; timer }
local held = {}

-- A later stanza with the same key makes this one superfluous.
local function key_of(stanza)
  local from = stanza.attr.from or ""
  if stanza.name == "presence" then return from end
  local items = stanza:find "{http://jabber.org/protocol/pubsub#event}event/items"
  local item = items and #items.tags == 1 and items.tags[1]
  if item and items.attr.node then return table.concat({ from, items.attr.node, item.attr.id or "" }, "\0") end
end

-- Closes the gaps: who changes his presence a thousand times has left as many.
local function compact(queue)
  local last, places = 0, {}
  for i = 1, queue.last do
    local stanza = queue[i]
    queue[i] = nil
    if stanza then
      last = last + 1
      queue[last] = stanza
      local key = key_of(stanza)
      if key then places[key] = last end
    end
  end
  queue.last, queue.places = last, places
end

local function hold(queue, stanza)
  if queue.last >= 2 * queue.count + 64 then compact(queue) end
  local key = key_of(stanza)
  local before = key and queue.places[key]
  if before then
    queue.bytes, queue.count = queue.bytes - queue[before]:size(), queue.count - 1
    queue[before] = false
  end
  queue.last, queue.count, queue.bytes = queue.last + 1, queue.count + 1, queue.bytes + stanza:size()
  queue[queue.last] = stanza
  if key then queue.places[key] = queue.last end
end

local function empty(queue)
  for i = 1, queue.last do queue[i] = nil end
  queue.last, queue.count, queue.bytes, queue.places = 0, 0, 0, {}
end

local function send_held(session, queue)
  if queue.count == 0 then return end
  local list = table.move(queue, 1, queue.last, 1, {})
  empty(queue)
  for i = 1, #list do
    if list[i] then send(session, list[i]) end
  end
  session.csi_counter = 0
end

-- Sends what is held, and lets everything pass for a while.
local function flush(session, queue, reason)
  queue.open = true
  module:fire_event("csi-flushing", { session = session, reason = reason })
  send_held(session, queue)
  local delay = module.config.csi_resume_inactive_delay
  if delay == 0 then
    queue.open = false
    return
  end
  if queue.timer then queue.timer:stop() end
  queue.timer = module:add_timer(delay, function() queue.open, queue.timer = false, nil end)
end

local function is_important(session, stanza)
  local event = { stanza = stanza, session = session }
  return module:fire_event("csi-is-stanza-important", event) ~= false, event.reason
end

local function outgoing(stanza, session)
  local queue = held[session]
  if not queue or queue.open then return stanza end
  local important, reason = is_important(session, stanza)
  if important or queue.count >= module.config.csi_queue_size or queue.bytes + stanza:size() > BYTES_MAX then
    flush(session, queue, reason or "full")
    return stanza
  end
  hold(queue, st.clone(stanza))                -- who sends it may use it again
  session.csi_counter = queue.count
  return nil
end

-- A client that speaks is awake.
local function incoming(stanza, session)
  local queue = held[session]
  if queue and not queue.open then flush(session, queue, "client activity") end
  return stanza
end

local function begin(session)
  if held[session] or session.type ~= "c2s" then return end
  held[session] = { last = 0, count = 0, bytes = 0, places = {}, open = false }
  session.csi_counter = 0
  filters.add_filter(session, "stanzas/out", outgoing, -1)
  filters.add_filter(session, "stanzas/in", incoming, -1)
end

local function stop(session)
  local queue = held[session]
  if not queue then return end
  if queue.timer then queue.timer:stop() end
  held[session] = nil
  filters.remove_filter(session, "stanzas/out", outgoing)
  filters.remove_filter(session, "stanzas/in", incoming)
  return queue
end

-- The client is active, or about to be without a connection: stream management keeps what it is given from now on.
local function finish(session, reason)
  local queue = stop(session)
  if not queue then return end
  module:fire_event("csi-flushing", { session = session, reason = reason })
  send_held(session, queue)
  session.csi_counter = nil
end

module:hook("csi-client-inactive", function(event) begin(event.origin) end)
module:hook("csi-client-active", function(event) finish(event.origin, "active") end)
module:hook("smacks-hibernation-start", function(event) finish(event.origin, "hibernation") end, 100)
module:hook("resource-unbind", function(event) stop(event.session) end)
module:on_unload(function()
  for session in pairs(held) do finish(session, "unload") end
end)
