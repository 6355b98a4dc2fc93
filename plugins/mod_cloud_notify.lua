-- SPDX-License-Identifier: MIT
-- mod_cloud_notify: wakes the devices of users who are away (XEP-0357), by way of the push services they have named.
--
-- Fires cloud_notify/registration { origin, stanza, push_info }: false refuses, and has answered
-- Fires cloud_notify/push { notification_stanza, notification_payload, original_stanza, username, push_info, push_summary,
--       important }: true blocks; what is left in push_summary afterwards becomes the summary's form
--
-- A registration is { jid, node, options, timestamp, client_id, resource } in the store "cloud_notify", under the hash of its
-- identifier, which is jid .. "<" .. node. A session that has made one carries session.push_identifier and .push_settings.

local clock = require "couplet.clock"
local dataforms = require "couplet.util.dataforms"
local directory = require "couplet.directory"
local hashes = require "couplet.util.hashes"
local id = require "couplet.util.id"
local jid = require "couplet.jid"
local plugins = require "couplet.plugin"
local recent = require "couplet.recent"
local router = require "couplet.router"
local sparse = require "couplet.sparse"
local st = require "couplet.stanza"
local throttle = require "couplet.util.throttle"

local important = module:require "important"
local host = module.host

local PUSH, PUBSUB = "urn:xmpp:push:0", "http://jabber.org/protocol/pubsub"
local NODE_BYTES, OPTIONS_BYTES = 1024, 4096
local BODY_BYTES = 1024                        -- of a body that is passed on
local ANSWER = 60                              -- seconds a push service has

module:config {
  push_max_errors = { type = "integer", default = 16, min = 1, doc = "failures in a row after which a registration is removed" },
  push_max_devices = { type = "integer", default = 5, min = 1, doc = "registrations of one account; older ones go" },
  push_max_hibernation_timeout = { type = "period", default = 259200, min = 0,
    doc = "how long a session without connection (smacks) is kept that can be woken and has not been yet" },
  push_notification_with_body = { type = "boolean", default = false, doc = "tell the push service the text of a message" },
  push_notification_with_sender = { type = "boolean", default = false, doc = "and who sent it" },
  push_notification_important_body = { type = "string", default = "New Message!",
    doc = "what stands in place of the text, for services to know that it is important" },
  push_repeat_delay = { type = "period", default = 60, min = 0,
    doc = "time after which a device that has not come back is woken again for an important message; \"never\": once only" },
  push_max_per_minute = { type = "integer", default = 30, min = 1, doc = "notifications for one account" },
}
local config = module.config

local data = sparse.new(module:open_store(), 1024, module._log)

local summary = {
  { name = "message-count", type = "text-single" },
  { name = "pending-subscription-count", type = "text-single" },
  { name = "last-message-sender", type = "jid-single" },
  { name = "last-message-body", type = "text-single" },
}

-- The form of what there is to say.
local function summarise(values)
  local layout = { { name = "FORM_TYPE", type = "hidden", value = "urn:xmpp:push:summary" } }
  for _, field in ipairs(summary) do
    if values[field.name] then layout[#layout + 1] = field end
  end
  return dataforms.new(layout):form(values, "form")
end

module:hook("account-disco-info", function(event)
  event.reply:tag("feature", { var = PUSH }):up()
end)

-- Registrations -----------------------------------------------------------------------------------------------------------------

local function identifier_of(service, node) return service .. "<" .. (node or "") end
local function key_of(identifier) return hashes.sha256(identifier, true) end

-- What has been done for a registration since its device was here last: { waked = time of the last important push, unimportant =
-- true: there was one, count = messages, errors, pending: no answer yet }
local state_of, set_state = recent.new(8192)

local function state(username, identifier)
  local key = username .. "\0" .. identifier
  local found = state_of(key)
  if not found then
    found = { count = 0, errors = 0 }
    set_state(key, found)
  end
  return found
end

local function came_back(username, identifier)
  local now = state(username, identifier)
  now.waked, now.unimportant, now.count = nil, nil, 0
end

local function sessions_of(username)
  local user = directory.user(username .. "@" .. host)
  return user and user.sessions or {}
end

-- Changes what is stored: edit(copy) -> changed?
local function change(username, edit)
  local old, err = data.get(username)
  if err then return nil, err end
  local new = {}
  for key, info in pairs(old or {}) do new[key] = info end
  if not edit(new) then return true end
  return data.set(username, next(new) and new or nil)
end

local function release(username, identifier)
  for _, session in pairs(sessions_of(username)) do
    if session.push_identifier == identifier then session.push_identifier, session.push_settings = nil, nil end
  end
  set_state(username .. "\0" .. identifier, nil)
end

-- Removes those fits(info) says -> true | nil, err
local function remove(username, fits)
  return change(username, function(all)
    local changed = false
    for key, info in pairs(all) do
      if fits(info) then
        all[key], changed = nil, true
        release(username, identifier_of(info.jid, info.node))
      end
    end
    return changed
  end)
end

-- newest: the one just made; several may be of one second.
local function drop_oldest(username, all, newest)
  local list = {}
  for key, info in pairs(all) do list[#list + 1] = { key = key, info = info } end
  local function time(entry) return entry.info == newest and math.huge or entry.info.timestamp or 0 end
  table.sort(list, function(a, b) return time(a) > time(b) end)
  for i = config.push_max_devices + 1, #list do
    all[list[i].key] = nil
    release(username, identifier_of(list[i].info.jid, list[i].info.node))
  end
end

-- §5: what the client asks for -> jid, node, or nil and an error that has been sent
local function read(event)
  local origin, stanza = event.origin, event.stanza
  local element = stanza.tags[1]
  local service, node = element.attr.jid, element.attr.node
  if not service then
    router.reply_error(origin, stanza, "modify", "bad-request", "Missing jid")
    return nil
  end
  service = jid.prep(service)
  if not service then
    router.reply_error(origin, stanza, "modify", "jid-malformed")
    return nil
  end
  if node and #node > NODE_BYTES then
    router.reply_error(origin, stanza, "modify", "policy-violation", "The name of the node is too long")
    return nil
  end
  return service, node
end

module:hook("iq-set/self/urn:xmpp:push:0:enable", function(event)
  local origin, stanza = event.origin, event.stanza
  local service, node = read(event)
  if not service then return true end
  local options = stanza.tags[1]:get_child("x", "jabber:x:data")
  if options and options:size() > OPTIONS_BYTES then
    return router.reply_error(origin, stanza, "modify", "policy-violation", "The publish options are too large")
  end
  local info = { jid = service, node = node, options = options and st.preserialize(options), timestamp = os.time(),
    client_id = origin.client_id, resource = origin.resource }
  local about = { origin = origin, stanza = stanza, push_info = info }
  if module:fire_event("cloud_notify/registration", about) == false then return true end
  local identifier = identifier_of(service, node)
  local ok, err = change(origin.username, function(all)
    all[key_of(identifier)] = info
    drop_oldest(origin.username, all, info)
    return true
  end)
  if not ok then return router.fail(origin, stanza, err) end
  origin.push_identifier, origin.push_settings, origin.first_hibernated_push = identifier, info, nil
  set_state(origin.username .. "\0" .. identifier, nil)
  module:log("info", "%s is notified through %s", origin.full_jid, service)
  origin.send(st.reply(stanza))
  return true
end)

module:hook("iq-set/self/urn:xmpp:push:0:disable", function(event)
  local origin, stanza = event.origin, event.stanza
  local service, node = read(event)
  if not service then return true end
  local ok, err = remove(origin.username, function(info) return info.jid == service and (not node or info.node == node) end)
  if not ok then return router.fail(origin, stanza, err) end
  origin.send(st.reply(stanza))
  return true
end)

-- §8: the service has had enough.
module:hook("message/bare", function(event)
  local stanza = event.stanza
  local to, from = stanza.attr.to, stanza.attr.from
  local username = to and jid.node(to)
  if not username or not from or not data.has(username) then return nil end
  local pubsub = stanza:get_child("pubsub", PUBSUB)
  local affiliation = pubsub and pubsub:get_child "affiliation"
  if not affiliation or affiliation.attr.affiliation ~= "none" or not pubsub.attr.node then return nil end
  local found = false
  remove(username, function(info)
    local fits = info.jid == from and info.node == pubsub.attr.node
    found = found or fits
    return fits
  end)
  return found or nil
end, 10)

module:hook_global("user-deleted", function(event)
  if event.host == host then data.forget(event.username) end
end)

-- Who has been logged out is told nothing more of the account (mod_sasl2).
module:hook("sasl2/client-forgotten", function(event)
  local ok, err = remove(event.username, function(info) return info.client_id == event.id end)
  if ok then return end
  module:log("error", "the registration of a client of %s cannot be removed: %s", event.username, err)
  event.failed = event.failed or err
end)

-- A device that logs in again is here, even if it does not register again.
module:hook("resource-bind", function(event)
  local session = event.session
  if not data.has(session.username) then return end
  for _, info in pairs(data.get(session.username) or {}) do
    local same
    if info.client_id then same = info.client_id == session.client_id else same = info.resource == session.resource end
    if same then
      session.push_identifier, session.push_settings = identifier_of(info.jid, info.node), info
      came_back(session.username, session.push_identifier)
    end
  end
end)

-- Notifications -----------------------------------------------------------------------------------------------------------------

local rate_of, set_rate = recent.new(4096)     -- of accounts

local function within_rate(username)
  local rate = rate_of(username)
  if not rate then
    rate = throttle.create(config.push_max_per_minute, 60)
    set_rate(username, rate)
  end
  return rate:poll(1)
end

-- Is there reason to wake this device?
local function due(now, urgent)
  if now.pending then return false end
  if not urgent then return not now.unimportant and not now.waked end
  return not now.waked or clock.mono() - now.waked >= config.push_repeat_delay
end

local function cut(text)
  if not text or #text <= BODY_BYTES then return text end
  local last = BODY_BYTES
  while last > 0 and text:byte(last + 1) & 0xC0 == 0x80 do last = last - 1 end
  return text:sub(1, last)
end

local function build(username, info, stanza, urgent, count)
  local payload = st.stanza("notification", { xmlns = PUSH })
  local iq = st.iq { type = "set", from = host, to = info.jid, id = id.medium() }
    :tag("pubsub", { xmlns = PUBSUB }):tag("publish", { node = info.node }):tag("item"):add_child(payload):up():up()
  if info.options then iq:tag("publish-options"):add_child(st.deserialize(info.options)):up() end
  iq:reset()
  local values = { ["message-count"] = tostring(count) }
  local inner = important.unwrap(stanza)
  if config.push_notification_with_sender then values["last-message-sender"] = inner.attr.from end
  if config.push_notification_with_body then values["last-message-body"] = cut(inner:get_child_text "body") end
  if urgent and not values["last-message-body"] then values["last-message-body"] = config.push_notification_important_body end
  local event = { notification_stanza = iq, notification_payload = payload, original_stanza = stanza, username = username,
    push_info = info, push_summary = values, important = urgent }
  if module:fire_event("cloud_notify/push", event) then return nil end
  if next(values) then payload:add_direct_child(summarise(values)) end
  return iq
end

-- Conditions that say: there is no such device any more.
local final = { ["item-not-found"] = true, gone = true }

local function failed(username, info, now, err)
  now.errors = now.errors + 1
  now.waked, now.unimportant = nil, nil        -- the device does not know yet
  local condition = type(err) == "table" and err.condition or tostring(err)
  module:log("debug", "%s does not take a notification for %s: %s", info.jid, username, condition)
  if now.errors < config.push_max_errors and not final[condition] then return end
  module:log("info", "%s@%s is no longer notified through %s: %s", username, host, info.jid, condition)
  local ok, problem = remove(username, function(one) return one.jid == info.jid and one.node == info.node end)
  if not ok then module:log("error", "the registration cannot be removed: %s", problem) end
end

local function push(username, info, now, stanza, urgent)
  local iq = build(username, info, stanza, urgent, now.count)
  if not iq then return end
  if urgent then now.waked = clock.mono() else now.unimportant = true end
  now.pending = true
  module:send_iq(iq, nil, ANSWER):next(function()
    now.pending, now.errors = nil, 0
  end, function(err)
    now.pending = nil
    failed(username, info, now, err)
  end)
end

-- Tells the registrations for which wanted(identifier) holds of a stanza. True: somebody has been waked.
local function notify(username, stanza, wanted)
  if not data.has(username) then return false end
  local worth, urgent = important.look(stanza)
  if not worth then return false end
  local told = false
  for _, info in pairs(data.get(username) or {}) do
    local identifier = identifier_of(info.jid, info.node)
    if wanted(identifier) then
      local now = state(username, identifier)
      if urgent then now.count = now.count + 1 end
      if due(now, urgent) and within_rate(username) then
        push(username, info, now, stanza, urgent)
        told = true
      end
    end
  end
  return told, urgent
end

-- Devices nobody is connected from, or that are unavailable, so that nothing is sent there; a session without connection is
-- told of by its own events.
local function away(username)
  local here = {}
  for _, session in pairs(sessions_of(username)) do
    if session.push_identifier and session.presence then here[session.push_identifier] = true end
  end
  return function(identifier) return not here[identifier] end
end

module:hook("message/offline/handle", function(event)
  notify(event.username, event.stanza, away(event.username))
end, 1)

module:hook("archive-message-added", function(event)
  local username = event.for_user
  if not username or not data.has(username) then return end
  local to = event.stanza.attr.to
  if to and jid.node(to) ~= username or not to and event.origin.username ~= username then return end     -- one the user sent
  notify(username, event.stanza, away(username))
end)

-- Sessions without connection (mod_smacks) --------------------------------------------------------------------------------------

local function only(session)
  return function(identifier) return identifier == session.push_identifier end
end

-- Such a session is kept longer than its client asked for, until it has been waked: then its own time counts.
local function keep(session, seconds)
  local smacks = plugins.get_module(host, "smacks")
  if smacks and seconds then smacks.keep_waiting(session, seconds) end
end

local function wake(session, stanza)
  if not session.push_identifier then return end
  local told, urgent = notify(session.username, stanza, only(session))
  if told and urgent and not session.first_hibernated_push then
    session.first_hibernated_push = os.time()
    if session.hibernating then keep(session, session.original_smacks_timeout) end
  end
end

-- Of what waits for a client, the most important.
local function wake_for_all(session, queue)
  local chosen
  for i = 1, #queue do
    local worth, urgent = important.look(queue[i])
    if urgent then
      chosen = queue[i]
      break
    end
    if worth then chosen = chosen or queue[i] end
  end
  if chosen then wake(session, chosen) end
end

module:hook("smacks-hibernation-start", function(event)
  local session = event.origin
  if not session.push_identifier then return end
  session.first_hibernated_push = nil
  if config.push_max_hibernation_timeout > (session.original_smacks_timeout or math.huge) then
    keep(session, config.push_max_hibernation_timeout)
  end
  wake_for_all(session, event.queue or {})
end)

module:hook("smacks/save", function(event)
  event.state.push, event.state.waked = event.session.push_identifier, event.session.first_hibernated_push
end)
module:hook("smacks/restore", function(event)
  local session, identifier = event.session, event.state.push
  local info = identifier and (data.get(session.username) or {})[key_of(identifier)]
  if not info then return end
  session.push_identifier, session.push_settings, session.first_hibernated_push = identifier, info, event.state.waked
end)

module:hook("smacks-ack-delayed", function(event)
  if event.origin.push_identifier then wake_for_all(event.origin, event.queue or {}) end
end)

module:hook("smacks-hibernation-stanza-queued", function(event) wake(event.origin, event.stanza) end)

module:hook("smacks-hibernation-end", function(event)
  local session = event.origin
  if event.resumed and session.push_identifier then
    session.first_hibernated_push = nil
    came_back(session.username, session.push_identifier)
  end
end)
