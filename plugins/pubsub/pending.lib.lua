-- SPDX-License-Identifier: MIT
-- pubsub/pending: the command by which owners ask for the subscriptions that wait for them (XEP-0060 §8.7, XEP-0050): first the
-- nodes where some do, then one request to judge (§8.6) for each of those of one node. Nothing is kept between the two steps.
--
--   lib.on_command(event, service) -> true | nil            a <command/> of that name
--   lib.list_commands(event, address)  lib.describe_command(event)      disco of the node COMMANDS, of the command

local dataforms = require "util.dataforms"
local st = require "util.stanza"
local task = require "couplet.task"
local uuid = require "util.id".medium

local NODES_MAX, REQUESTS_MAX, SLICE = 500, 1000, 100       -- of one answer; requests sent before others have their turn

return function(lib)
  local COMMANDS, GET_PENDING = "http://jabber.org/protocol/commands", lib.NS .. "#get-pending"
  lib.COMMANDS, lib.GET_PENDING = COMMANDS, GET_PENDING

  local function form_of(names)
    return dataforms.new {
      { name = "FORM_TYPE", type = "hidden", value = lib.NS .. "#subscribe_authorization" },
      { name = "node", var = "pubsub#node", type = "list-single", label = "Node", options = names },
    }:form()
  end

  -- -> sorted names of the actor's nodes with requests | nil: he owns none
  local function nodes_of(service, actor)
    local names, owns = {}, service:get_affiliation(actor) == "owner"
    for name, object in pairs(service.nodes) do
      if service:may(name, actor, "subscribe_other") then
        owns = true
        if next(object.pending) then names[#names + 1] = name end
      end
    end
    table.sort(names)
    return owns and table.move(names, 1, math.min(#names, NODES_MAX), 1, {}) or nil
  end

  local function send_requests(service, node, to)
    local waiting = {}
    for who in pairs(service.nodes[node].pending) do
      if #waiting == REQUESTS_MAX then break end
      waiting[#waiting + 1] = who
    end
    table.sort(waiting)
    task.spawn(function()
      for i, who in ipairs(waiting) do
        service.post(lib.request_to_judge(service, node, who), to)
        if i % SLICE == 0 then task.sleep(0) end
      end
    end)
  end

  -- -> status, <x/> | nil, condition
  local function step(service, actor, command)
    if command.attr.action == "cancel" then return "canceled" end
    local names, x = nodes_of(service, actor), command:get_child("x", "jabber:x:data")
    if not x then
      if not names then return nil, "forbidden" end
      return "executing", form_of(names)
    end
    local node
    for field in x:childtags "field" do
      if field.attr.var == "pubsub#node" then node = node or field:get_child_text "value" end
    end
    if x.attr.type ~= "submit" or not node then return nil, "bad-request" end
    local condition = service:why_not(node, actor, "subscribe_other")
    if condition then return nil, condition end
    send_requests(service, node, actor)
    return "completed"
  end

  function lib.on_command(event, service)
    local stanza = event.stanza
    local command = stanza.tags[1]
    if command.attr.node ~= GET_PENDING or stanza.attr.type ~= "set" then return nil end
    local status, x = step(service, stanza.attr.from, command)
    if not status then
      event.origin.send(lib.error_reply(stanza, x))
      return true
    end
    local reply = st.reply(stanza):tag("command", { xmlns = COMMANDS, node = GET_PENDING, status = status,
      sessionid = command.attr.sessionid or uuid() })
    if x then reply:tag("actions", { execute = "complete" }):tag("complete"):up():up():add_child(x) end
    event.origin.send(reply)
    return true
  end

  function lib.list_commands(event, address)
    if event.node ~= COMMANDS then return end
    event.exists = true
    event.reply:tag("item", { jid = address, node = GET_PENDING, name = "Requests for subscriptions" }):up()
  end

  function lib.describe_command(event)
    if event.node ~= GET_PENDING then return end
    event.exists = true
    event.reply:tag("identity", { category = "automation", type = "command-node", name = "Requests for subscriptions" }):up()
      :tag("feature", { var = COMMANDS }):up():tag("feature", { var = "jabber:x:data" }):up()
  end
end
