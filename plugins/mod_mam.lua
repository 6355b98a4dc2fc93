-- SPDX-License-Identifier: MIT
-- mod_mam: the archive of each account's messages (XEP-0313, 0359, 0441, 0424, 0334).
--
-- What a client sends is archived in pre-message, what an account gets in message/…, before it is delivered: the id is made at
-- once and travels with the message, the write follows (couplet.archiver), and the sender's message is acknowledged when both
-- copies are committed. Which messages: mam/rules; whose: mam/mamprefs; queries: mam/query; how long: mam/retention.
--
-- Offline messages are kept beside the archive (mod_offline), with their stanza-id: a client that reads both sees that they are
-- one. Where the offline store is full or refuses, the archive alone keeps a message.

module:config {
  archive_store = { type = "string", default = "archive", doc = "name of the store with the messages" },
  archive_expires_after = { type = "period", default = "1w", min = 60, doc = "messages older than this are deleted; \"never\"" },
  archive_cleanup_interval = { type = "period", default = "4h", min = 1, doc = "how often old messages are looked for" },
  storage_archive_item_limit = { type = "integer", default = 0, min = 0,
    doc = "messages in one account's archive; the oldest go; 0: no bound" },
  archive_bytes_max = { type = "integer", default = 0, min = 0,
    doc = "bytes of messages in one account's archive; the oldest go; 0: no bound" },
  max_archive_query_results = { type = "integer", default = 50, min = 1, max = 1000, doc = "messages in one answer" },
  mam_include_total = { type = "boolean", default = false,
    doc = "tell with each page how many messages there are; this reads the index of the whole archive" },
  default_archive_policy = { type = "enum", default = "always",
    enum = { "always", "never", "roster", true, false, "true", "false" },
    doc = "what is archived for accounts that have not said otherwise: everything, nothing, or what is exchanged with contacts" },
  mam_smart_enable = { type = "boolean", default = false,
    doc = "archive nothing for an account until it has asked for its archive once" },
  dont_archive_namespaces = { type = "set", default = { "http://jabber.org/protocol/chatstates" },
    doc = "elements of these namespaces are no reason to archive a message" },
}

local archiver = require "couplet.archiver"
local core_stanza = require "couplet.core".stanza
local directory = require "couplet.directory"
local hosts = require "couplet.hosts"
local router = require "couplet.router"
local st = require "couplet.stanza"
local users = require "couplet.users"

local prefs = module:require "mamprefs"
local prefsxml = module:require "mamprefsxml"
local query = module:require "query"
local retention = module:require "retention"
local rules = module:require "rules"
local tombstone = module:require "tombstone"

local route_of, attr_of, with_leaf = core_stanza.route, core_stanza.attr, core_stanza.with_leaf
local address, wanted, look, worth = router.address, prefs.wanted, rules.look, rules.worth
local STANZA_ID, RETRACT = rules.STANZA_ID, rules.RETRACT

local host = module.host
local events = hosts.get(host).events
local XMLNS, SID, RETRACTION = query.xmlns, "urn:xmpp:sid:0", "urn:xmpp:message-retract:1"

local store = assert(module:open_store(module.config.archive_store, "archive"))
local writer = archiver.new(store, module._log)
module:on_unload(function() writer:close() end)
module:hook_global("server-cleanup", function() writer:flush() end)
retention.start(store)

--- Writing

-- Removes stanza-ids that claim to be this account's (XEP-0359 §5).
local function strip(stanza, by)
  return stanza:maptags(function(child)
    if child.name == "stanza-id" and child.attr.xmlns == SID and child.attr.by == by then return nil end
    return child
  end)
end

local function stripped(event, by)
  event.stanza = strip(st.clone(event.stanza), by)
  return event.stanza
end

-- Plugins may decide otherwise than the rules.
local function decide(event, username, place, worthy)
  if not events.heard "archive-should-store" then return worthy end
  local result = events.fire_event("archive-should-store", { origin = event.origin, stanza = event.stanza, for_user = username,
    with = place.bare, should_store = worthy })
  if result == nil then return worthy end
  return result
end

-- -> id | nil: there is no room for more
local function archive(event, username, place, bits, watched)
  writer:room()
  local stanza, id, number = event.stanza, writer:new_id()
  local xml = tostring(stanza)
  if not writer:keep({ id = id, number = number, user = username, with = place.bare, xml = xml }, watched) then return nil end
  retention.added(username, #xml)
  if bits & RETRACT ~= 0 then tombstone.retract(store, username, stanza, place.bare, id) end
  if events.heard "archive-message-added" then
    events.fire_event("archive-message-added", { origin = event.origin, stanza = stanza, for_user = username, id = id })
  end
  return id
end

local function mark(stanza, by, id)
  return with_leaf(stanza, "stanza-id", SID, "by", by, "id", id)
    or st.clone(stanza):reset():tag("stanza-id", { xmlns = SID, by = by, id = id }):up()
end

-- What one of our clients sends, into its own archive. The copies its other resources get (XEP-0280) say under which id; what
-- goes to others does not (XEP-0313 §3.4).
local function outgoing(event)
  local origin, stanza = event.origin, event.stanza
  local username = origin.username
  if not username then return nil end
  local _, to, from, kind = route_of(stanza)
  local own = address(from).bare
  local bits = look(stanza)
  if bits & STANZA_ID ~= 0 then stanza = stripped(event, own) end
  local place = address(to or own)
  if not decide(event, username, place, worth(kind, bits)) or not wanted(username, place, own) then return nil end
  local id = archive(event, username, place, bits)
  if place.bare == own then
    event.own_archive_id = id
    return nil
  end
  local user = id and directory.user(own)
  if user and next(user.sessions, (next(user.sessions))) then
    event.stanza, event.marked_by = mark(stanza, own, id), own
  end
end

local function after_copies(event)
  local own = event.marked_by
  if own then
    event.marked_by = nil
    stripped(event, own)
  end
end

for _, target in ipairs { "bare", "full" } do
  module:hook("pre-message/" .. target, outgoing)
  module:hook("pre-message/" .. target, after_copies, -1)
end

-- The archive was all that could have kept it.
local function nobody_has_it(event)
  return function(why)
    module:log("warn", "a message for %s is lost: %s", event.stanza.attr.to, why)
    router.reply_error(event.origin, event.stanza, "wait", "internal-server-error", "The message could not be kept")
  end
end

local function incoming(event, place)
  local stanza, username = event.stanza, place.node
  local _, _, from, kind = route_of(stanza)
  local bits = look(stanza)
  if bits & STANZA_ID ~= 0 then stanza = stripped(event, place.bare) end
  if event.own_archive_id then                   -- to oneself: it is archived already, and only once
    event.stanza = mark(stanza, place.bare, event.own_archive_id)
    return nil
  end
  local session = place.resource and directory.session(place.jid)
  if place.resource and not session and kind ~= "chat" then return nil end       -- refused (RFC 6121 §8.5.3.2.1)
  local sender = address(from or host)
  if not sender or not decide(event, username, sender, worth(kind, bits, session ~= nil)) then return nil end
  local user = directory.user(place.bare)
  if not session and not user and not users.user_exists(username, host) then return nil end
  if not wanted(username, sender, place.bare) then return nil end
  local id = archive(event, username, sender, bits, not (user and user.top_resources))
  if id then event.stanza = mark(stanza, place.bare, id) end
end

module:hook("message/full", function(event) return incoming(event, address(attr_of(event.stanza, "to"))) end)
module:hook("message/bare", function(event)
  local to, origin = attr_of(event.stanza, "to"), event.origin
  return incoming(event, address(to or origin.username .. "@" .. origin.host))
end)

-- mod_offline would not, or could not: what is archived is not lost.
module:hook("message/offline/handle", function(event)
  local own = event.username .. "@" .. host
  local mine = event.stanza:get_child_with_attr("stanza-id", SID, "by", own)
  if not mine then return nil end
  local entry = writer:pending(mine.attr.id)
  if entry then entry.lost = nobody_has_it(event) end
  return true
end, -2)

--- Reading

local function forbid(event)
  if event.to_self then return nil end
  event.origin.send(st.error_reply(event.stanza, "auth", "forbidden", "This archive is not yours"))
  return true
end
for _, what in ipairs { "get", "set" } do
  for _, name in ipairs { "query", "prefs", "metadata" } do
    module:hook(("iq-%s/bare/%s:%s"):format(what, XMLNS, name), forbid)
  end
end

local function own_request(kind, name, fn)
  module:hook(("iq-%s/self/%s:%s"):format(kind, XMLNS, name), function(event)
    local origin, stanza = event.origin, event.stanza
    local reply, error_kind, condition, text = fn(origin, stanza.tags[1], event)
    if reply == true then return true end
    if reply then
      reply = st.reply(stanza):add_child(reply)
      reply.attr.from = origin.username .. "@" .. host
    else
      reply = st.error_reply(stanza, error_kind, condition, text)
    end
    origin.send(reply)
    return true
  end)
end

own_request("get", "query", function() return query.form() end)

own_request("set", "query", function(origin, element, event)
  local q, kind, condition, text = query.parse(element, module.config.max_archive_query_results)
  if not q then return nil, kind, condition, text end
  origin.mam_requested = true
  if module.config.mam_smart_enable then prefs.get(origin.username, true) end
  writer:flush()
  tombstone.finish(origin.username)
  local page
  page, kind, condition, text = query.run(store, origin.username, q, module.config.mam_include_total)
  if not page then
    if kind == "wait" then module:log("error", "the archive of %s cannot be read", origin.username) end
    return nil, kind, condition, text
  end
  return query.answer(event, page, q, origin.username .. "@" .. host)
end)

-- Along with binding (XEP-0386 §3.2): what the archive is like at that moment.
module:hook("enable-bind-features", function(event)
  writer:flush()
  local found, err = query.metadata(store, event.session.username)
  if not found then return module:log("error", "the archive of %s cannot be read: %s", event.session.username, err) end
  event.result:add_child(found)
end)

own_request("get", "metadata", function(origin)
  writer:flush()
  local found, err = query.metadata(store, origin.username)
  if not found then
    module:log("error", "the archive of %s cannot be read: %s", origin.username, err)
    return nil, "wait", "internal-server-error"
  end
  return found
end)

own_request("get", "prefs", function(origin) return prefsxml.tostanza(prefs.get(origin.username, true)) end)

own_request("set", "prefs", function(origin, element)
  local chosen, condition, text = prefsxml.fromstanza(element)
  if not chosen then return nil, "modify", condition, text end
  local ok, err = prefs.set(origin.username, chosen)
  if not ok then
    module:log("error", "preferences of %s cannot be stored: %s", origin.username, err)
    return nil, "wait", "internal-server-error"
  end
  return prefsxml.tostanza(chosen)
end)

--- Who is told

local ACCOUNT = { XMLNS, XMLNS .. "#extended", XMLNS .. "#groupchat-field", SID, RETRACTION, RETRACTION .. "#tombstone" }
module:hook("account-disco-info", function(event)
  for _, feature in ipairs(ACCOUNT) do event.reply:tag("feature", { var = feature }):up() end
end)
module:add_feature(RETRACTION)

module:hook_global("user-deleted", function(event)
  if event.host ~= host then return end
  writer:flush()
  prefs.forget(event.username)
  retention.forget(event.username)
  store:delete(event.username)
end)
