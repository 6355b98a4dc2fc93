-- SPDX-License-Identifier: MIT
-- mod_adhoc: ad-hoc commands (XEP-0050). Plugins offer them with module:provides("adhoc", new(name, node, handler, permission)).

local st = require "util.stanza"
local jid = require "util.jid"
local usermanager = require "core.usermanager"
local lib = module:require "adhoc"

local XMLNS = "http://jabber.org/protocol/commands"
local commands = {}

module:add_feature(XMLNS)

local function may_run(command, from, event)
  local permission = command.permission
  if permission == "any" then return true end
  if permission == "check" then return module:may("adhoc:" .. command.node, event) end
  local _, host = jid.split(from)
  if permission == "local_user" then return host == module.host end
  if permission == "admin" then return usermanager.is_admin(jid.bare(from), module.host) end
  if permission == "global_admin" then return usermanager.is_admin(jid.bare(from)) end
  return false
end

module:hook("host-disco-info-node", function(event)
  local node, from = event.node, event.stanza.attr.from
  if node == XMLNS then
    event.reply:tag("identity", { category = "automation", type = "command-list", name = "Commands" }):up()
    event.exists = true
  elseif commands[node] and may_run(commands[node], from, event) then
    event.reply:tag("identity", { category = "automation", type = "command-node", name = commands[node].name }):up()
      :tag("feature", { var = XMLNS }):up():tag("feature", { var = "jabber:x:data" }):up()
    event.exists = true
  end
end)

module:hook("host-disco-items-node", function(event)
  if event.node ~= XMLNS then return end
  local nodes = {}
  for node, command in pairs(commands) do
    if may_run(command, event.stanza.attr.from, event) then nodes[#nodes + 1] = node end
  end
  table.sort(nodes)
  for _, node in ipairs(nodes) do
    event.reply:tag("item", { jid = module.host, node = node, name = commands[node].name }):up()
  end
  event.exists = true
end)

module:hook("iq-set/host/" .. XMLNS .. ":command", function(event)
  local origin, stanza = event.origin, event.stanza
  local command = commands[stanza.tags[1].attr.node]
  if not command then
    origin.send(st.error_reply(stanza, "cancel", "item-not-found"))
  elseif not may_run(command, stanza.attr.from, event) then
    origin.send(st.error_reply(stanza, "auth", "forbidden", "You may not run this command"))
  else
    origin.send(lib.handle_cmd(command, origin, stanza))
  end
  return true
end)

local function added(event)
  local item = event.item
  commands[item.node] = item
  if item.permission == "check" then module:default_permission("prosody:admin", "adhoc:" .. item.node) end
end

local function removed(event) commands[event.item.node] = nil end

module:handle_items("adhoc", added, removed)
module:handle_items("adhoc-provider", added, removed)
