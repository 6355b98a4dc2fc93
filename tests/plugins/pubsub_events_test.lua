-- SPDX-License-Identifier: MIT
-- What plugins hear of publish-subscribe, and what they may do to it (docs/lua-api.md, 4 and 12).

local check = require "check"
local fake = require "fakehost"
local plugin = require "couplet.plugin"

local NS = "http://jabber.org/protocol/pubsub"
local SERVICE = "pubsub.example.org"
local OPEN = "<publish-options><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>" .. NS
  .. "#publish-options</value></field><field var='pubsub#access_model'><value>open</value></field></x></publish-options>"

-- As plugins written for Prosody do it: each service that is in memory, by the item "pep-service".
local WATCHER = [[
local NAMES = { "node-created", "node-deleted", "node-purged", "item-published", "item-retracted", "subscription-added",
  "subscription-removed", "subscription-requested", "node-config-changed" }
log_of = {}
function watch(service)
  for _, name in ipairs(NAMES) do
    module:hook_object_event(service.events, name, function(event)
      assert(event.service == service)
      table.insert(log_of, ("%s %s %s"):format(name, event.node, tostring(event.id or event.jid or event.actor)))
      seen = event
    end)
  end
  module:hook_object_event(service.events, "item-published/urn:n", function(event)
    table.insert(log_of, "of that node " .. event.id)
  end)
end
module:hook("item-added/pep-service", function(event)
  assert(event.item.jid == event.item.service.user .. "@" .. module.host)
  watch(event.item.service)
end)
for _, name in ipairs { "pep-item-published", "pep-item-retracted", "pep-node-purged", "pep-node-deleted" } do
  module:hook(name, function(event) table.insert(log_of, name .. " " .. event.service.user .. " " .. event.node) end)
end
]]

local serial = 0
local function ask(client, to, kind, inner, owner)
  serial = serial + 1
  client:send(("<iq type='%s' id='q%d'%s><pubsub xmlns='%s%s'>%s</pubsub></iq>"):format(kind, serial,
    to and " to='" .. to .. "'" or "", NS, owner and "#owner" or "", inner))
  return client:expect { name = "iq", id = "q" .. serial }
end

local function publish(client, to, node, id, more)
  return ask(client, to, "set", ("<publish node='%s'><item id='%s'><x xmlns='urn:x'/></item></publish>%s"):format(node, id,
    more or ""))
end

check.test("an account's service tells all that happens, and the host hears of it", function()
  local host = fake.new { plugins = { "iq", "presence", "message", "roster", "disco", "pep" } }
  local watcher = host:load("watcher", WATCHER)
  local romeo, juliet = host:client "romeo@example.org/orchard", host:client "juliet@example.org/balcony"
  local function told()
    host:advance(0)
    local list = watcher.log_of
    watcher.log_of = {}
    return list
  end
  publish(romeo, nil, "urn:first", "0")                    -- from here on the service is in memory
  told()
  publish(romeo, nil, "urn:n", "1", OPEN)
  check.equal(told(), { "node-created urn:n romeo@example.org/orchard", "pep-item-published romeo urn:n",
    "item-published urn:n 1", "of that node 1" })
  check.equal(watcher.seen.item.tags[1].name, "x")
  ask(juliet, "romeo@example.org", "set", "<subscribe node='urn:n' jid='juliet@example.org'/>")
  check.equal(told(), { "subscription-added urn:n juliet@example.org" })
  ask(juliet, "romeo@example.org", "set", "<unsubscribe node='urn:n' jid='juliet@example.org'/>")
  check.equal(told(), { "subscription-removed urn:n juliet@example.org" })
  ask(romeo, nil, "set", "<configure node='urn:n'><x xmlns='jabber:x:data' type='submit'><field var='pubsub#access_model'>"
    .. "<value>authorize</value></field></x></configure>", true)
  check.equal(told(), { "node-config-changed urn:n romeo@example.org/orchard" })
  check.equal({ watcher.seen.old_config.access_model, watcher.seen.config.access_model }, { "open", "authorize" })
  ask(juliet, "romeo@example.org", "set", "<subscribe node='urn:n' jid='juliet@example.org'/>")
  check.equal(told(), { "subscription-requested urn:n juliet@example.org" })
  ask(romeo, nil, "set", "<retract node='urn:n'><item id='1'/></retract>")
  check.equal(told(), { "pep-item-retracted romeo urn:n", "item-retracted urn:n 1" })
  ask(romeo, nil, "set", "<purge node='urn:n'/>", true)
  check.equal(told(), { "pep-node-purged romeo urn:n", "node-purged urn:n romeo@example.org/orchard" })
  ask(romeo, nil, "set", "<delete node='urn:n'/>", true)
  check.equal(told(), { "pep-node-deleted romeo urn:n", "node-deleted urn:n romeo@example.org/orchard" })
  host:close()
end)

check.test("what get_pep_service gives: everything a plugin may do, as the server or as somebody", function()
  local host = fake.new { plugins = { "iq", "presence", "message", "roster", "disco", "pep" } }
  local romeo = host:client "romeo@example.org/orchard"
  local user = host:load("user", [==[
    local st = require "util.stanza"
    local pep = module:depends "pep"
    function run()
      local service = pep.get_pep_service "romeo"
      local item = st.stanza("item", { xmlns = "http://jabber.org/protocol/pubsub" }):tag("x", { xmlns = "urn:x" }):up()
      local out = {}
      local function note(...) table.insert(out, table.concat({ tostring((...)), tostring((select(2, ...))) }, " ")) end
      note(service:create("urn:s", true, { access_model = "whitelist", _defaults_only = true }))
      note(service:create("urn:s", true))
      note(service:create("urn:t", "juliet@example.org"))
      note(service:publish("urn:s", true, "a", item))
      note(service:publish("urn:s", "juliet@example.org", "b", item))
      note(service:publish("urn:s", true, "c", item, { access_model = "open" }))
      note(service:publish("urn:s", true, "c", item, { access_model = "open", _defaults_only = true }))
      local ok, items = service:get_items("urn:s", true)
      note(ok, items[1] .. ":" .. items[items[1]].tags[1].name)
      note(service:get_items("urn:s", "juliet@example.org"))
      note(service:get_last_item("urn:s", "romeo@example.org"))
      note(service:may("urn:s", "juliet@example.org", "get_items"))
      note(service:set_affiliation("urn:s", true, "juliet@example.org", "member"))
      note(service:get_affiliation("juliet@example.org/x", "urn:s"))
      note(service:add_subscription("urn:s", "juliet@example.org/x", "juliet@example.org"))
      note(service:get_node_config("urn:none", true))
      note(service:get_node_config("urn:s", "juliet@example.org"))
      note(service:retract("urn:s", true, "none"))
      note(service:purge("urn:s", true))
      note(service:delete("urn:s", true))
      note(pep.check_node_config("urn:s", true, { max_items = 100000 }))
      note(pep.is_item_stanza(item))
      return out
    end
  ]==])
  check.ok(romeo)
  check.equal(host:run(user.run), {
    "true nil", "false conflict", "false forbidden", "true a", "false forbidden", "false precondition-not-met", "true c",
    "true c:x", "false closed-node", "true c", "false nil", "true nil", "member nil", "true subscribed", "false item-not-found",
    "false forbidden", "false item-not-found", "true nil", "true nil", "false not-acceptable", "true nil",
  })
  host:close()
end)

check.test("pubsub-publish-item refuses or changes; pubsub-summary/NS makes texts; the service of a domain", function()
  local host = fake.new { plugins = { "iq", "presence", "message", "disco" }, global = { admins = { "admin@example.org" } } }
  host:component(SERVICE, "pubsub", {})
  host:run(function() assert(plugin.load(SERVICE, "iq")) end)
  local guard = host:load("guard", WATCHER .. [[
    local service = module:depends "pubsub".service
    watch(service)
    module:hook("pubsub-publish-item", function(event)
      assert(event.service == service and event.actor and event.session and event.user == nil)
      if event.node == "closed" then return false end
      event.item.tags[1].attr.seen = event.id
    end)
    module:hook("pubsub-summary/urn:x", function(event) return "item " .. (event.payload.attr.seen or "") end)
  ]], SERVICE)
  local admin, juliet = host:client "admin@example.org/desk", host:client "juliet@example.org/balcony"
  juliet:send "<presence/>"
  ask(admin, SERVICE, "set", "<create node='n'/>")
  ask(admin, SERVICE, "set", "<create node='closed'/>")
  ask(juliet, SERVICE, "set", "<subscribe node='n' jid='juliet@example.org'/><options><x xmlns='jabber:x:data' type='submit'>"
    .. "<field var='pubsub#include_body'><value>1</value></field></x></options>")
  juliet:received()
  check.equal(select(2, publish(admin, SERVICE, "closed", "1"):get_error()), "forbidden")
  check.equal(publish(admin, SERVICE, "n", "7").attr.type, "result")
  host:advance(0)
  local message = juliet:expect { name = "message" }
  check.equal(message:get_child_text "body", "item 7")
  check.ok(tostring(message):find("<x xmlns='urn:x' seen='7'/>", 1, true))
  check.equal(guard.log_of, { "node-created n admin@example.org/desk", "node-created closed admin@example.org/desk",
    "subscription-added n juliet@example.org", "item-published n 7" })
  host:close()
end)

check.done()
