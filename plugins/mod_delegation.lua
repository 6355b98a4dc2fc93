-- SPDX-License-Identifier: MIT
-- mod_delegation: requests of chosen namespaces are answered by a component (XEP-0355, admin mode).
--
--   VirtualHost "example.org"
--     modules_enabled = { "delegation" }
--     delegations = {
--       ["urn:xmpp:mam:2"] = { jid = "archive.example.org", filtering = { "node" } },
--       ["http://jabber.org/protocol/pubsub"] = { jid = "pubsub.example.org" },
--     }
--
-- Requests to this host and to bare addresses of its accounts travel to the component inside a request of ours, and its answer
-- back, without holding up what comes next. A component that is away, refuses, or answers for somebody else: service-unavailable.
-- Two more names delegate what this host does not know itself: urn:xmpp:delegation:2:bare:disco#info:* and …disco#items:*.

local attached = require "couplet.attached"
local client_session = require "couplet.client_session"
local core_stanza = require "couplet.core".stanza
local forwarded = require "couplet.forwarded"
local id = require "couplet.util.id"
local jid = require "couplet.jid"
local router = require "couplet.router"
local st = require "couplet.stanza"

local attr_of, payload = core_stanza.attr, core_stanza.payload
local host = module.host
local NS, CLIENT = "urn:xmpp:delegation:2", "jabber:client"
local INFO, FORM = "http://jabber.org/protocol/disco#info", "jabber:x:data"
local ANY_INFO, ANY_ITEMS = NS .. ":bare:disco#info:*", NS .. ":bare:disco#items:*"
local UNDER_WAY_MAX = 10000            -- requests that wait for components

module:config {
  delegations = { type = "table", default = {},
    doc = 'namespaces of requests that components answer: { ["urn:x"] = { jid = "x.example.org", filtering = { "node" } } }' },
  delegation_timeout = { type = "period", default = 60, min = 1, doc = "how long a component has to answer" },
}
local config = module.config

module:add_feature(NS)

-- What is delegated, and to whom ----------------------------------------------------------------------------------------------

local delegated = {}                   -- namespace -> { entity =, filtering = { attribute, … } }

local function configure()
  delegated = {}
  for ns, wish in pairs(config.delegations) do
    local entity = type(wish) == "table" and type(wish.jid) == "string" and jid.prep(wish.jid)
    if type(ns) ~= "string" or not entity then
      module:log("error", "delegations: %s: jid must say which component", tostring(ns))
    elseif ns == NS then
      module:log("error", "delegations: %s is never delegated", NS)
    else
      delegated[ns] = { entity = entity, filtering = type(wish.filtering) == "table" and wish.filtering or {} }
    end
  end
end
configure()

local function unavailable(event)
  return router.reply_error(event.origin, event.stanza, "cancel", "service-unavailable")
end

-- The way there and back (§4.3) -----------------------------------------------------------------------------------------------

local function same(a, b, own)
  return a == b or a and b and jid.prep(a) == jid.prep(b) or (a or own) == (b or own)
end

-- What the component wants said, if it is an answer to this very request.
local function decapsulate(reply, stanza, own)
  local delegation = reply:get_child("delegation", NS)
  local iq = delegation and forwarded.take(delegation, "iq")
  if not iq or iq.attr.type ~= "result" or iq.attr.id ~= stanza.attr.id or #iq.tags > 1
    or not same(iq.attr.to, stanza.attr.from) or not same(iq.attr.from, stanza.attr.to, own) then return nil end
  iq.attr.from, iq.attr.to = stanza.attr.to, stanza.attr.from
  return iq
end

local under_way = 0

local function delegate(event, entity)
  local origin, stanza = event.origin, event.stanza
  if not attached.session(entity) or under_way >= UNDER_WAY_MAX then return unavailable(event) end
  local request = st.iq { type = "set", from = host, to = entity, id = id.medium() }:tag("delegation", { xmlns = NS })
  forwarded.put(request, stanza):reset()
  local own = jid.bare(stanza.attr.from)       -- no `to`: the sender's own account
  under_way = under_way + 1
  module:send_iq(request, nil, config.delegation_timeout):next(function(got)
    under_way = under_way - 1
    local answer = decapsulate(got.stanza, stanza, own)
    if answer then return origin.send(answer) end
    module:log("warn", "%s answered what it was not asked", entity)
    unavailable(event)
  end, function()
    under_way = under_way - 1
    unavailable(event)
  end)
  return true
end

local function on_request(event)
  local stanza = event.stanza
  local kind = attr_of(stanza, "type")
  if kind ~= "get" and kind ~= "set" then return nil end
  local _, xmlns = payload(stanza)
  local entry = delegated[xmlns or CLIENT]
  if not entry or attached.sender(event, entry.entity) then return nil end     -- its own are answered here (§4.3.1)
  local attr = stanza.tags[1].attr
  for _, name in ipairs(entry.filtering) do
    if attr[name] == nil then return nil end
  end
  return delegate(event, entry.entity)
end

module:hook("iq/bare", on_request, 10)
module:hook("iq/host", on_request, 10)

-- Service discovery (§7.2) ----------------------------------------------------------------------------------------------------

local nested = { host = {}, bare = {} }        -- namespace -> the query element its component answered with

-- Is this feature, or the name of this form, of one of these namespaces?
local function belongs(var, namespaces)
  return namespaces[var] or namespaces[var:match "^(.-)#" or var] or namespaces[var:match "^(.-#.-)#" or var]
end

-- Ours of the delegated namespaces go, the components' come.
local function nest(query, kind)
  query:maptags(function(tag)
    local form = tag.name == "x" and tag.attr.xmlns == FORM
    local var = tag.name == "feature" and tag.attr.var
    if form then
      for field in tag:childtags("field", FORM) do
        if field.attr.var == "FORM_TYPE" then var = field:get_child_text "value" end
      end
    end
    if not var or not belongs(var, delegated) then return tag end
  end)
  local there = {}
  for _, tag in ipairs(query.tags) do
    there[tag.name .. "\0" .. (tag.attr.var or (tag.attr.category or "") .. "\0" .. (tag.attr.type or ""))] = true
  end
  for ns in pairs(delegated) do
    for _, tag in ipairs(nested[kind][ns] and nested[kind][ns].tags or {}) do
      local key = tag.name .. "\0" .. (tag.attr.var or (tag.attr.category or "") .. "\0" .. (tag.attr.type or ""))
      if tag.name == "x" or not there[key] then query:add_child(st.clone(tag)) end
      there[key] = true
    end
  end
end

module:hook("host-disco-build", function(event) nest(event.reply, "host") end, -100)
module:hook("account-disco-info", function(event) nest(event.reply, "bare") end, -100)

-- Nodes of accounts nobody here knows; items of accounts: the component's alone (§7.2.4, §7.2.5).
local function unknown(name)
  return function(event)
    local entry = delegated[name]
    if entry and not event.exists and not attached.sender(event, entry.entity) then return delegate(event, entry.entity) end
  end
end

module:hook("account-disco-info-node", unknown(ANY_INFO), -100)
module:hook("account-disco-items-node", unknown(ANY_ITEMS), -100)
module:hook("account-disco-items", unknown(ANY_ITEMS), 100)

local function ask(entity, ns, kind, separator)
  local query = st.iq { type = "get", from = host, to = entity, id = id.medium() }
    :tag("query", { xmlns = INFO, node = NS .. separator .. ns }):reset()
  module:send_iq(query, nil, config.delegation_timeout):next(function(got)
    nested[kind][ns] = got.stanza:get_child("query", INFO)
    module:fire_event "host-disco-changed"
  end, function(err)
    module:log("info", "%s says nothing about its features for %s: %s", entity, ns, tostring(err))
  end)
end

-- Connected (§4.2) ------------------------------------------------------------------------------------------------------------

local function forget(entity)
  for ns, entry in pairs(delegated) do
    if entry.entity == entity then nested.host[ns], nested.bare[ns] = nil, nil end
  end
  module:fire_event "host-disco-changed"
end

local function connected(entity, session)
  local message = st.message { from = host, to = entity, id = id.short() }:tag("delegation", { xmlns = NS })
  local any = false
  for ns, entry in pairs(delegated) do
    if entry.entity == entity then
      any = true
      message:tag("delegated", { namespace = ns })
      for _, name in ipairs(entry.filtering) do message:tag("attribute", { name = name }):up() end
      message:up()
    end
  end
  if not any then return end
  client_session.send(session, message:reset())
  for ns, entry in pairs(delegated) do
    if entry.entity == entity and ns ~= ANY_INFO and ns ~= ANY_ITEMS then
      ask(entity, ns, "host", "::")
      ask(entity, ns, "bare", ":bare:")
    end
  end
end

attached.watch(module, connected, forget)

module:on_config_change(function()
  local before = delegated
  configure()
  nested = { host = {}, bare = {} }
  module:fire_event "host-disco-changed"
  local told = {}
  for _, list in ipairs { before, delegated } do
    for _, entry in pairs(list) do
      local session = not told[entry.entity] and attached.session(entry.entity)
      told[entry.entity] = true
      if session then connected(entry.entity, session) end
    end
  end
end)
