-- SPDX-License-Identifier: MIT
-- mod_iq: brings requests to the plugins that answer them, and to the resource they are addressed to (RFC 6121 §8.5).

local core_stanza = require "couplet.core".stanza
local client_session = require "couplet.client_session"
local directory = require "couplet.directory"
local recent = require "couplet.recent"
local router = require "couplet.router"

local attr_of, payload = core_stanza.attr, core_stanza.payload
local fire = require "couplet.hosts".get(module.host).events.fire_event

-- On a component the addresses are its plugin's.
local has_resources = module:get_host_type() == "local"
if has_resources then module:hook("iq/full", function(event)
  local stanza = event.stanza
  local session = directory.session(attr_of(stanza, "to"))
  if session and client_session.send(session, stanza) then return true end
  return router.reply_error(event.origin, stanza, "cancel", "service-unavailable")
end, -1) end

-- The names of the events for requests to a target, made once for each kind of child (and not without end: children are the
-- client's to invent).
local function names_for(target)
  local recall, remember = recent.new(256)
  return function(xmlns, child)
    local known = recall(xmlns)
    if not known then
      known = { count = 0, names = {} }
      remember(xmlns, known)
    end
    local names = known.names[child]
    if not names then
      local tail = ("/%s/%s:%s"):format(target, xmlns, child)
      names = { any = "iq" .. tail, get = "iq-get" .. tail, set = "iq-set" .. tail }
      if known.count < 16 then
        known.count = known.count + 1
        known.names[child] = names
      end
    end
    return names
  end
end

-- iq/T/NS:NAME, then iq-get/T/NS:NAME or iq-set/T/NS:NAME; answers as iq-result/T/ID, iq-error/T/ID.
local function open(target)
  local names_of = names_for(target)
  return function(event)
    local stanza = event.stanza
    local type = attr_of(stanza, "type")
    if type ~= "get" and type ~= "set" then
      local id = attr_of(stanza, "id")
      local result = fire(("iq-%s/%s/%s"):format(type, target, id), event)
      if result == nil and (not has_resources or event.to_self and target == "bare") then return nil end  -- others are next
      return true                              -- an answer nobody waits for is no reason for an error
    end
    local child, xmlns = payload(stanza)
    local names = names_of(xmlns or "jabber:client", child)
    local result = fire(names.any, event)
    if result ~= nil then return result end
    return fire(names[type], event)
  end
end

for _, target in ipairs { "bare", "self", "host" } do
  module:hook("iq/" .. target, open(target))
end
