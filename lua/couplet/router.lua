-- SPDX-License-Identifier: MIT
-- router.lua: the way of a stanza (core.stanza_router). PLUGIN-API §4.1; RFC 6120 §8 and §10, RFC 6121 §8.
--
--   core_process_stanza(origin, stanza)              as if just received from that session: checked, stamped, sent on its way
--   core_post_stanza(origin, stanza, preevents?)     from the pre- events on, or from the target's events on
--   core_route_stanza(origin, stanza)                to a host of ours, or to route/remote
--   fail(origin, stanza, err) -> true                an error reply made of what a store or a library returned
--
-- This is the hot path. A stanza costs one table (the event) and no string: addresses are taken apart once and remembered,
-- names of events are in tables, and attributes are read and stamped in the stanza's block.

local core = require "couplet.core"
local jid = require "couplet.jid"
local prosody = require "couplet.prosody"
local st = require "couplet.stanza"
local log = require "couplet.logger".init "router"

local route_of, attr_of, set_attr, elements = core.stanza.route, core.stanza.attr, core.stanza.set_attr, core.stanza.elements
local prepped_split = jid.prepped_split
local all_hosts = prosody.hosts

local router = {}

local DEPTH_MAX = 50                   -- stanzas sent in reaction to stanzas sent in reaction to …

-- Names of events ---------------------------------------------------------------------------------------------------------------

local KINDS = { message = true, presence = true, iq = true }
local EVENT, PRE, SELF = {}, {}, {}
for kind in pairs(KINDS) do
  EVENT[kind], PRE[kind] = {}, {}
  for _, target in ipairs { "full", "bare", "host" } do
    EVENT[kind][target] = kind .. "/" .. target
    PRE[kind][target] = "pre-" .. kind .. "/" .. target
  end
  SELF[kind] = kind .. "/self"
end

-- Addresses ---------------------------------------------------------------------------------------------------------------------
-- An address taken apart: { jid = normal form, node, host, resource, bare, target = "full|bare|host" }; false: it is none.
-- Long ones are not remembered: a peer could make us keep thousands of them.
local REMEMBERED_BYTES = 512
local recall, remember = require "couplet.recent".new(4096)

local function parse(text)
  local node, host, resource = prepped_split(text)
  if not host then return false end
  local bare = node and node .. "@" .. host or host
  return {
    jid = resource and bare .. "/" .. resource or bare, node = node, host = host, resource = resource, bare = bare,
    target = not node and "host" or resource and "full" or "bare",           -- example.org/announce/online is the host's
  }
end

local function address(text)
  local found = recall(text)
  if found == nil then
    found = parse(text)
    if #text <= REMEMBERED_BYTES then remember(text, found) end
  end
  return found
end
router.address = address

-- Errors ------------------------------------------------------------------------------------------------------------------------

-- Errors are answered, except those about errors and results, and presence that expects no answer.
local function reply_error(origin, stanza, kind, condition, text)
  local name, _, _, type = route_of(stanza)
  if type == "error" or type == "result" or name == "presence"
    and (type == "unavailable" or type == "probe" or type == "unsubscribe"
    or type == "unsubscribed" or type == "subscribed") then
    log("debug", "dropped %s", stanza:top_tag())
    return true
  end
  local target = origin and origin.send and origin or all_hosts[jid.host(attr_of(stanza, "from") or "") or ""]
  if not target then return true end
  local reply
  if name == "iq" and not attr_of(stanza, "id") then          -- RFC 6120 §8.2.3: it must have one, but it is owed an answer
    reply = st.stanza("iq", { type = "error", to = attr_of(stanza, "from"), from = attr_of(stanza, "to") })
    reply:add_error(kind, condition, text)
  else
    reply = st.error_reply(stanza, kind, condition, text)
  end
  target.send(reply)
  return true
end
router.reply_error = reply_error

-- err: an error object, or a text that is for the log only.
function router.fail(origin, stanza, err)
  local condition = type(err) == "table" and err.condition or "internal-server-error"
  local text = type(err) == "table" and err.text or nil
  return reply_error(origin, stanza, type(err) == "table" and err.type or "wait", condition, text)
end

local function unhandled(origin, stanza)
  return reply_error(origin, stanza, "cancel", "service-unavailable")
end

-- Loops -------------------------------------------------------------------------------------------------------------------------
-- How many stanzas deep the running coroutine is. Stanzas from the wire start at 0 and do not come this way.

local depths = setmetatable({}, { __mode = "k" })
local running = coroutine.running

local function leave(co, depth, ...)
  depths[co] = depth
  return ...
end

local function deeper(fn, origin, stanza, extra)
  local co = running()
  local depth = depths[co] or 0
  if depth >= DEPTH_MAX then
    log("error", "a plugin answers itself: %d stanzas deep; dropped %s\n%s", depth, stanza:top_tag(), debug.traceback())
    return nil
  end
  depths[co] = depth + 1
  return leave(co, depth > 0 and depth or nil, fn(origin, stanza, extra))
end

-- Steps 2 to 4 ------------------------------------------------------------------------------------------------------------------

local remote

-- place: the address taken apart; nil: there is none.
local function deliver(origin, stanza, name, place, preevents)
  local names = EVENT[name]
  local target, home, to_self
  if place then
    target, home = place.target, all_hosts[place.host]
    if target == "bare" and origin and origin.type == "c2s" and place.node == origin.username and place.host == origin.host then
      set_attr(stanza, "to", nil)
      to_self = true
    end
  else
    target, home, to_self = "bare", all_hosts[origin.host], true
  end

  local event = { origin = origin, stanza = stanza, to_self = to_self }
  if preevents then
    local fire = all_hosts[origin.host].events.fire_event
    if fire("pre-stanza", event) ~= nil then
      if event.reason then log("debug", "dropped by a plugin: %s", event.reason) end
      return true
    end
    if fire(PRE[name][target], event) then return true end
  end

  if not home then return remote(origin, stanza, place) end
  local fire = home.events.fire_event
  local handled = fire(names[target], event)
  if not handled and to_self then handled = fire(SELF[name], event) end
  if handled then return true end
  return unhandled(origin, stanza)
end

local function post(origin, stanza, preevents)
  local name, to = route_of(stanza)
  if not EVENT[name] then
    log("warn", "not a stanza, dropped: %s", stanza:top_tag())
    return
  end
  local place = to and address(to)
  if to and not place then return reply_error(origin, stanza, "modify", "jid-malformed") end
  if not place and not origin then
    log("warn", "a stanza without address or origin is dropped: %s", stanza:top_tag())
    return
  end
  return deliver(origin, stanza, name, place, preevents)
end

local function from_of(origin, stanza)
  local from = attr_of(stanza, "from")
  local place = from and address(from)
  return place and place.host or origin and origin.host
end

function remote(origin, stanza, place)
  local from_host = from_of(origin, stanza)
  local home = from_host and all_hosts[from_host]
  if not home then
    log("error", "dropped a stanza from %s, which is no host of ours, to %s", from_host, place.host)
    return false
  end
  local event = { origin = origin, stanza = stanza, from_host = from_host, to_host = place.host }
  if home.events.fire_event("route/remote", event) then return true end
  return reply_error(origin, stanza, "cancel", "remote-server-not-found", "Communication with remote domains is not possible")
end

local function route(origin, stanza)
  local to = attr_of(stanza, "to")
  local place = to and address(to)
  if not origin then
    local from_host = from_of(nil, stanza)
    origin = from_host and all_hosts[from_host]
  end
  if to and not place then return reply_error(origin, stanza, "modify", "jid-malformed") end
  if place and not all_hosts[place.host] then return remote(origin, stanza, place) end
  return post(origin, stanza, false)
end

function router.core_post_stanza(origin, stanza, preevents)
  return deeper(post, origin, stanza, preevents)
end

function router.core_route_stanza(origin, stanza)
  return deeper(route, origin, stanza)
end

-- Step 1: a stanza has come in --------------------------------------------------------------------------------------------------

local IQ_TYPES = { get = true, set = true, result = true, error = true }

-- RFC 6120 §8.2.3. True if all is well.
local function check_iq(origin, stanza, type, id)
  if not id or not IQ_TYPES[type] then
    reply_error(origin, stanza, "modify", "bad-request", "An IQ needs an id and one of the types get, set, result, error")
    return false
  end
  if type == "get" or type == "set" then
    if elements(stanza) ~= 1 then
      reply_error(origin, stanza, "modify", "bad-request", "A request has exactly one child element")
      return false
    end
  elseif type == "result" then
    if elements(stanza) > 1 then return false end
  end
  return true
end

local PRESENCE_TYPES = { unavailable = true, subscribe = true, subscribed = true, unsubscribe = true, unsubscribed = true,
  probe = true, error = true }

local function own_address(origin, from)
  local place = address(from)
  return place and (place.jid == origin.full_jid
    or place.target == "bare" and place.node == origin.username and place.host == origin.host)
end

-- From a client that has bound a resource.
local function from_client(origin, stanza, name, to, from, type, id)
  local full_jid = origin.full_jid
  if from ~= full_jid then
    if from and not own_address(origin, from) then           -- RFC 6120 §8.1.2.1
      return origin:close { condition = "invalid-from", text = "from is not your own address" }
    end
    set_attr(stanza, "from", full_jid)
  end
  local lang = origin.lang
  if lang and not attr_of(stanza, "xml:lang") then set_attr(stanza, "xml:lang", lang) end       -- RFC 6120 §8.1.5
  if name == "iq" then
    if not check_iq(origin, stanza, type, id) then return true end
  elseif name == "presence" and type and not PRESENCE_TYPES[type] then
    return reply_error(origin, stanza, "modify", "bad-request", "No such type of presence")
  end
  local place
  if to then
    place = address(to)
    if not place then return reply_error(origin, stanza, "modify", "jid-malformed") end
    if place.jid ~= to then set_attr(stanza, "to", place.jid) end
  end
  return deliver(origin, stanza, name, place, true)
end

-- Before a resource is bound a client may only talk to the server and itself, about what plugins take on (RFC 6120 §7.1).
local function from_unbound(origin, stanza, name, to, type, id)
  local place = to and address(to)
  local home = origin.host and all_hosts[origin.host]
  if origin.type == "c2s_unbound" and to and (not place or place.host ~= origin.host
    or place.node and place.node ~= origin.username) then
    return origin:close { condition = "not-authorized", text = "Bind a resource first" }
  end
  if name == "iq" and home then
    if type == "get" or type == "set" then
      if not check_iq(origin, stanza, type, id) then return true end
      local child = stanza.tags[1]
      local event = ("stanza/iq/%s:%s"):format(child.attr.xmlns or "jabber:client", child.name)
      if home.events.fire_event(event, { origin = origin, stanza = stanza }) then return true end
      if origin.type == "c2s_unbound" then return unhandled(origin, stanza) end
    elseif origin.type == "c2s_unbound" then
      return true
    end
  end
  return origin:close { condition = "not-authorized", text = "Stanzas are not accepted before authentication and binding" }
end

-- Not a stanza: SASL, TLS, stream management …
local function stream_element(origin, stanza, name, xmlns)
  local event = xmlns and ("stanza/%s:%s"):format(xmlns, name) or "stanza/" .. name
  local data = { origin = origin, stanza = stanza }
  local home = origin.host and all_hosts[origin.host]
  if home and home.events.fire_event(event, data) then return true end
  if prosody.events.fire_event(event, data) then return true end
  if origin.destroyed then return true end
  return origin:close { condition = "unsupported-stanza-type", text = "Not understood here: " .. name:sub(1, 64) }
end

-- From a server or a component: whoever it is has been checked by the plugin that speaks with it.
local function from_other(origin, stanza, name, to, from, type, id)
  local sender, place = from and address(from), to and address(to)
  if from and not sender or to and not place then return reply_error(origin, stanza, "modify", "jid-malformed") end
  if sender and sender.jid ~= from then set_attr(stanza, "from", sender.jid) end
  if place and place.jid ~= to then set_attr(stanza, "to", place.jid) end
  if origin.base_type ~= "c2s" and origin.hosts then
    local known = sender and origin.hosts[sender.host]
    if not known or not known.authed then
      return origin:close { condition = "not-authorized", text = "The address of the sender has not been proved" }
    end
  end
  if name == "iq" and not check_iq(origin, stanza, type, id) then return true end
  return post(origin, stanza, false)
end

function router.core_process_stanza(origin, stanza)
  local name, to, from, type, id, xmlns = route_of(stanza)
  local kind = origin.type
  if not KINDS[name] or xmlns and xmlns ~= "jabber:client" and (xmlns ~= "jabber:server" or origin.base_type == "c2s") then
    return stream_element(origin, stanza, name, xmlns)
  end
  if kind == "c2s" then
    return from_client(origin, stanza, name, to, from, type, id)
  elseif kind == "c2s_unbound" or kind == "c2s_unauthed" then
    return from_unbound(origin, stanza, name, to, type, id)
  end
  return from_other(origin, stanza, name, to, from, type, id)
end

prosody.core_process_stanza = router.core_process_stanza
prosody.core_post_stanza = router.core_post_stanza
prosody.core_route_stanza = router.core_route_stanza

return router
