-- SPDX-License-Identifier: MIT
-- redeliver.lib.lua: what a session had not acknowledged when it ended goes another way: as if it were sent to a resource that
-- is not there (XEP-0198 §4, RFC 6121 §8.5.3.2). Nothing is delivered twice, as far as the server can know:
--
--   message, normal or chat  to the account (other resources, offline store), stamped with the time it came; unless another
--                            resource has got it already, or the archive has and the client reads it from there
--   message, groupchat       error: the room sees that nobody is there
--   other messages, copies   dropped (headline, error; carbon copies and archive results are about messages kept elsewhere)
--   iq get, set              error service-unavailable
--   presence, iq results     dropped: the roster remembers what must be answered

local directory = require "couplet.directory"
local hosts = require "couplet.hosts"
local jid = require "couplet.jid"
local router = require "couplet.router"
local sm = require "couplet.sm"

local redeliver = {}
local host = module.host
local DELAY, SID = "urn:xmpp:delay", "urn:xmpp:sid:0"
local COPIES = { { "result", "urn:xmpp:mam:2" }, { "sent", "urn:xmpp:carbons:2" }, { "received", "urn:xmpp:carbons:2" } }

local function is_copy(stanza)
  for _, what in ipairs(COPIES) do
    if stanza:get_child(what[1], what[2]) then return true end
  end
  return false
end

local function archived(stanza, bare)
  for child in stanza:childtags("stanza-id", SID) do
    if child.attr.by == bare then return true end
  end
  return false
end

-- Did another resource get it when it came? What goes to the account goes to all of the highest priority; copies (XEP-0280)
-- go to those who want them.
local function elsewhere(session, priority, bare, to_account, when)
  local user = directory.user(bare)
  for _, other in pairs(user and user.sessions or {}) do
    local since = other.available_since
    if other ~= session and other.presence and since and since < when
      and (other.want_carbons or to_account and other.priority == priority) then
      return true
    end
  end
  return false
end

local function stamped(stanza, when)
  for child in stanza:childtags("delay", DELAY) do
    if child.attr.from == host then return stanza end
  end
  stanza:reset():tag("delay", { xmlns = DELAY, from = host, stamp = os.date("!%Y-%m-%dT%H:%M:%SZ", math.floor(when)) }):up()
  return stanza
end

local function from_us(from, bare)
  return not from or from == host or from == bare or jid.bare(from) == bare
end

local function message(session, priority, stanza, when, bare)
  local kind = stanza.attr.type or "normal"
  local origin = hosts.get(host)
  if kind == "groupchat" then
    return router.reply_error(origin, stanza, "wait", "recipient-unavailable")
  elseif kind == "error" or kind == "headline" or is_copy(stanza) then
    return
  elseif archived(stanza, bare) and (session.mam_requested or session.reads_archive) then
    return
  end
  local to = stanza.attr.to
  if elsewhere(session, priority, bare, not to or to == bare, when) then return end
  local messages = module:depends "message"
  return messages.to_account({ origin = origin, stanza = stamped(stanza, when) }, session.username, directory.user(bare))
end

-- What waits in the queue, to be handed to run() when the queue is gone.
function redeliver.collect(link)
  local list = { priority = link.priority }
  for i = 1, #link.queue do
    local bytes, when = link.queue:get(i)
    list[i] = { bytes, when }
  end
  return list
end

function redeliver.run(session, list)
  if #list == 0 then return end
  local bare = session.username .. "@" .. host
  local one = #list == 1
  session.log("info", "%d %s %s did not acknowledge %s another way", #list, one and "stanza" or "stanzas", session.full_jid,
    one and "goes" or "go")
  for _, item in ipairs(list) do
    local stanza = sm.stanza(item[1])
    if stanza and not module:fire_event("delivery/failure", { session = session, stanza = stanza }) then
      local ok, err = xpcall(function()
        if stanza.name == "message" then
          message(session, list.priority, stanza, item[2], bare)
        elseif stanza.name == "iq" and not from_us(stanza.attr.from, bare) then
          router.reply_error(hosts.get(host), stanza, "cancel", "service-unavailable")
        end
      end, debug.traceback)
      if not ok then module:log("error", "%s", err) end
    end
  end
end

return redeliver
