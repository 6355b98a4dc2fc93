-- SPDX-License-Identifier: MIT
-- mod_disco: what is here (XEP-0030, XEP-0128) and the hash of it in the stream features (XEP-0115 §8).
-- Plugins add features, identities and forms to the host (module:add_feature …) and answer for nodes through the events
-- host-disco-info-node, host-disco-items-node (`reply` is the query element being built; set `exists`), account-disco-info,
-- account-disco-items and their -node forms. host-disco-build { reply } may change what is answered to everybody, and what the
-- hash is made of; host-disco-changed says that it would be built differently now.

local st = require "util.stanza"
local jid = require "util.jid"
local calculate_hash = require "util.caps".calculate_hash
local rostermanager = require "core.rostermanager"
local usermanager = require "core.usermanager"

local INFO, ITEMS = "http://jabber.org/protocol/disco#info", "http://jabber.org/protocol/disco#items"
local CAPS_NODE = "https://couplet.invalid/caps"

module:config{
  disco_items = { type = "array", default = {}, doc = 'further items: { { "irc.example.net", "IRC" }, … }' },
  disco_expose_admins = { type = "boolean", default = false,
    doc = "everybody may ask whether an account is an administrator's" },
  disco_hidden = { type = "boolean", default = false, doc = "this host is not listed among its parent's items" },
}

module:add_feature(INFO)
module:add_feature(ITEMS)
if module:get_host_type() == "local" then module:add_identity("server", "im", module:get_option_string("name")) end

-- The answer is the same until a plugin comes, goes or changes what it offers.
local query, caps, caps_hash

local function forget() query, caps, caps_hash = nil, nil, nil end
for _, key in ipairs{ "feature", "identity", "extension" } do
  module:hook("item-added/" .. key, forget)
  module:hook("item-removed/" .. key, forget)
end

module:hook("host-disco-changed", forget)

local function build()
  if query then return end
  query = st.stanza("query", { xmlns = INFO })
  local done = {}
  for _, identity in ipairs(module:get_host_items("identity")) do
    local key = identity.category .. "\0" .. identity.type
    if not done[key] then
      done[key] = true
      query:tag("identity", { category = identity.category, type = identity.type, name = identity.name }):up()
    end
  end
  for _, feature in ipairs(module:get_host_items("feature")) do
    if not done[feature] then
      done[feature] = true
      query:tag("feature", { var = feature }):up()
    end
  end
  for _, form in ipairs(module:get_host_items("extension")) do query:add_child(form) end
  module:fire_event("host-disco-build", { reply = query })
  caps_hash = calculate_hash(query)
  caps = st.stanza("c", { xmlns = "http://jabber.org/protocol/caps", hash = "sha-1", node = CAPS_NODE, ver = caps_hash })
end

module:hook("stream-features", function(event)
  if event.origin.username then
    build()
    event.features:add_child(st.clone(caps))
  end
end)

-- A node's handlers set event.exists; nobody knows it: item-not-found (§3.2).
local function answer_node(event, event_name, xmlns, node)
  local origin, stanza = event.origin, event.stanza
  local answer = st.stanza("query", { xmlns = xmlns, node = node })
  local data = { origin = origin, stanza = stanza, reply = answer, node = node, exists = false }
  if module:fire_event(event_name, data) then return true end
  origin.send(data.exists and st.reply(stanza):add_child(answer) or st.error_reply(stanza, "cancel", "item-not-found"))
  return true
end

module:hook("iq-get/host/" .. INFO .. ":query", function(event)
  local origin, stanza = event.origin, event.stanza
  local node = stanza.tags[1].attr.node
  build()
  if node and node ~= "" and node ~= CAPS_NODE .. "#" .. caps_hash then
    return answer_node(event, "host-disco-info-node", INFO, node)
  end
  local answer = st.clone(query)
  answer.attr.node = node
  if module:fire_event("host-disco-info", { origin = origin, stanza = stanza, reply = answer }) then return true end
  origin.send(st.reply(stanza):add_child(answer))
  return true
end)

local function hosts_below()
  local items = {}
  for name, host in pairs(prosody.hosts) do
    if name ~= module.host and name:sub(-#module.host - 1) == "." .. module.host and host.type == "component" then
      local there = module:context(name)
      if not there:get_option_boolean("disco_hidden", false) then
        items[#items + 1] = { name, there:get_option_string("name") }
      end
    end
  end
  for _, item in ipairs(module:get_option_array("disco_items", {})) do
    if type(item) == "table" and type(item[1]) == "string" then items[#items + 1] = item end
  end
  table.sort(items, function(a, b) return a[1] < b[1] end)
  return items
end

module:hook("iq-get/host/" .. ITEMS .. ":query", function(event)
  local origin, stanza = event.origin, event.stanza
  local node = stanza.tags[1].attr.node
  if node and node ~= "" then return answer_node(event, "host-disco-items-node", ITEMS, node) end
  local answer = st.stanza("query", { xmlns = ITEMS })
  for _, item in ipairs(hosts_below()) do answer:tag("item", { jid = item[1], name = item[2] }):up() end
  if module:fire_event("host-disco-items", { origin = origin, stanza = stanza, reply = answer }) then return true end
  origin.send(st.reply(stanza):add_child(answer))
  return true
end)

local function shown_admin(username)
  return module.config.disco_expose_admins and usermanager.is_admin(username .. "@" .. module.host, module.host)
end

-- Accounts answer those their presence is for (XEP-0030 §8: no directory for strangers).
local function may_ask(event, kind, username)
  return kind == "info" and shown_admin(username) or event.to_self
    or rostermanager.is_contact_subscribed(username, module.host, jid.bare(event.stanza.attr.from))
end

local function answer_account(kind, xmlns)
  return function(event)
    local origin, stanza = event.origin, event.stanza
    local username = jid.node(stanza.attr.to) or origin.username
    local node = stanza.tags[1].attr.node
    if not may_ask(event, kind, username) then
      origin.send(st.error_reply(stanza, "cancel", "service-unavailable"))
      return true
    end
    if node and node ~= "" then return answer_node(event, "account-disco-" .. kind .. "-node", xmlns, node) end
    local answer = st.stanza("query", { xmlns = xmlns })
    if kind == "info" then
      answer:tag("identity", { category = "account", type = shown_admin(username) and "admin" or "registered" }):up()
    end
    if module:fire_event("account-disco-" .. kind, { origin = origin, stanza = stanza, reply = answer }) then return true end
    local reply = st.reply(stanza):add_child(answer)
    if event.to_self then reply.attr.from = username .. "@" .. module.host end
    origin.send(reply)
    return true
  end
end

if module:get_host_type() == "local" then                -- on a component they are its plugin's
  module:hook("iq-get/bare/" .. INFO .. ":query", answer_account("info", INFO))
  module:hook("iq-get/bare/" .. ITEMS .. ":query", answer_account("items", ITEMS))
end
