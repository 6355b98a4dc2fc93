-- SPDX-License-Identifier: MIT
-- XEP-0060 on a domain of its own.

local check = require "check"
local fake = require "fakehost"
local plugin = require "couplet.plugin"
local pubsub = require "pubsub_fixture"

local NS, SERVICE = pubsub.NS, pubsub.SERVICE

local function new(options)
  local host = fake.new { plugins = { "iq", "presence", "message", "disco" }, global = { admins = { "admin@example.org" } } }
  host:component(SERVICE, "pubsub", options or {})
  host:run(function() assert(plugin.load(SERVICE, "iq")) end)
  return host, host:client "admin@example.org/desk", host:client "romeo@example.org/orchard",
    host:client "juliet@example.org/balcony"
end

local serial = 0
local function ask(client, kind, inner, owner, xmlns)
  serial = serial + 1
  local id = "q" .. serial
  inner = xmlns and inner or ("<pubsub xmlns='%s%s'>%s</pubsub>"):format(NS, owner and "#owner" or "", inner)
  client:send(("<iq type='%s' id='%s' to='%s'>%s</iq>"):format(kind, id, SERVICE, inner))
  return client:expect { name = "iq", id = id }
end

local function result(reply)
  if reply.attr.type == "result" then return "ok" end
  local kind, condition, _, extra = reply:get_error()
  return ("%s %s%s"):format(kind, condition, extra and " " .. extra.name or "")
end

local function form(kind, fields)
  local out = { ("<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>%s#%s</value></field>"):format(NS, kind) }
  for k, v in pairs(fields) do out[#out + 1] = ("<field var='pubsub#%s'><value>%s</value></field>"):format(k, v) end
  return table.concat(out) .. "</x>"
end

local function create(client, node, fields)
  return ask(client, "set", ("<create node='%s'/>%s"):format(node, fields and "<configure>" .. form("node_config", fields)
    .. "</configure>" or ""))
end

local function publish(client, node, id, payload)
  return ask(client, "set", ("<publish node='%s'><item id='%s'>%s</item></publish>"):format(node, id,
    payload or "<x xmlns='urn:x'/>"))
end

local function heard(host, client)
  host:advance(0)
  local out = {}
  for _, stanza in ipairs(client:received()) do
    local event = stanza.name == "message" and stanza:get_child("event", NS .. "#event")
    local what = event and event.tags[1]
    if what then
      local item = what.tags[1]
      local inside = item and " " .. item.name .. " " .. (item.attr.id or "") or ""
      out[#out + 1] = what.attr.node .. " " .. what.name .. inside
    end
  end
  return out
end

check.test("administrators make nodes, people subscribe, publishers publish, subscribers hear", function()
  local host, admin, romeo, juliet = new()
  check.equal(result(create(romeo, "news")), "auth forbidden")
  check.equal(result(create(admin, "news")), "ok")
  check.equal(result(create(admin, "news")), "cancel conflict")
  romeo:send "<presence/>"
  romeo:received()
  check.equal(result(ask(romeo, "set", "<subscribe node='news' jid='romeo@example.org/orchard'/>")), "ok")
  check.equal(result(publish(juliet, "news", "1")), "auth forbidden")
  check.equal(result(ask(admin, "set",
    "<affiliations node='news'><affiliation jid='juliet@example.org' affiliation='publisher'/></affiliations>", true)), "ok")
  check.equal(result(publish(juliet, "news", "1")), "ok")
  check.equal(heard(host, romeo), { "news items item 1" })
  check.equal(heard(host, juliet), {})
  check.equal(result(ask(romeo, "set", "<unsubscribe node='news' jid='romeo@example.org/orchard'/>")), "ok")
  publish(juliet, "news", "2")
  check.equal(heard(host, romeo), {})
  check.equal(host:close(), {})
end)

check.test("publish-only takes back what is his own, nobody else's; subscribers publish where the node says so", function()
  local host, admin, romeo, juliet = new()
  create(admin, "box")
  ask(admin, "set",
    "<affiliations node='box'><affiliation jid='romeo@example.org' affiliation='publish-only'/></affiliations>", true)
  publish(admin, "box", "a")
  check.equal(result(publish(romeo, "box", "b")), "ok")
  check.equal(result(ask(romeo, "set", "<retract node='box'><item id='b'/></retract>")), "ok")
  check.equal(result(ask(romeo, "set", "<retract node='box'><item id='a'/></retract>")), "auth forbidden")
  check.equal(result(ask(romeo, "get", "<items node='box'/>")), "auth forbidden")
  create(admin, "wall", { publish_model = "subscribers" })
  check.equal(result(publish(juliet, "wall", "1")), "auth forbidden")
  ask(juliet, "set", "<subscribe node='wall' jid='juliet@example.org'/>")
  check.equal(result(publish(juliet, "wall", "1")), "ok")
  create(admin, "open", { publish_model = "open" })
  check.equal(result(publish(juliet, "open", "1")), "ok")
  host:close()
end)

check.test("options: who may create, created by publishing, items without payload, full nodes, instant nodes", function()
  local host, admin, romeo = new { pubsub_create = "local", autocreate_on_publish = true, expose_publisher = true }
  check.equal(result(publish(romeo, "mine", "1")), "ok")
  check.equal(ask(romeo, "get", "<items node='mine'/>"):find("{" .. NS .. "}pubsub/items/item@publisher"), "romeo@example.org")
  check.ok(ask(romeo, "set", "<create/>"):find("{" .. NS .. "}pubsub/create@node"))
  create(romeo, "full", { max_items = "1", publish_node_full = "reject" })
  check.equal(result(publish(romeo, "full", "1")), "ok")
  check.equal(result(publish(romeo, "full", "1")), "ok")
  check.equal(result(publish(romeo, "full", "2")), "cancel conflict node-full")
  create(romeo, "bell", { persist_items = "0", deliver_payloads = "0" })
  check.equal(result(ask(romeo, "set", "<publish node='bell'/>")), "ok")
  check.equal(result(publish(romeo, "bell", "1")), "modify bad-request item-forbidden")
  check.equal(result(ask(romeo, "get", "<items node='bell'/>")), "cancel feature-not-implemented unsupported")
  check.equal(result(create(romeo, "p", { access_model = "presence" })), "modify not-acceptable unsupported-access-model")
  create(romeo, "small", { max_payload_size = "20" })
  check.equal(result(publish(romeo, "small", "1", "<x xmlns='urn:much:too:long:for:that'/>")),
    "modify not-acceptable payload-too-big")
  check.equal(result(publish(admin, "mine", "2")), "ok")
  host:close()
end)

check.test("§8.2: the form offers the access models of a service, and no other", function()
  local host, admin = new()
  create(admin, "news")
  for _, inner in ipairs { "<configure node='news'/>", "<default/>" } do
    local x = ask(admin, "get", inner, true).tags[1].tags[1]:get_child("x", "jabber:x:data")
    local models, groups = {}, false
    for f in x:childtags "field" do
      if f.attr.var == "pubsub#access_model" then
        check.equal(f:get_child_text "value", "open")
        for option in f:childtags "option" do models[#models + 1] = option:get_child_text "value" end
      end
      groups = groups or f.attr.var == "pubsub#roster_groups_allowed"
    end
    check.equal({ models, groups }, { { "open", "authorize", "whitelist" }, false })
  end
  host:close()
end)

check.test("items expire; the configuration's change is told where wanted; a deleted node says where it went", function()
  local host, admin, romeo = new()
  romeo:send "<presence/>"
  create(admin, "n", { item_expire = "60", notify_config = "1" })
  publish(admin, "n", "1")
  host:advance(40)
  publish(admin, "n", "2")
  host:advance(40)
  local reply = ask(romeo, "get", "<items node='n'/>")
  check.equal(#reply.tags[1].tags[1].tags, 1)
  ask(romeo, "set", "<subscribe node='n' jid='romeo@example.org'/>")
  romeo:received()
  ask(admin, "set", "<configure node='n'>" .. form("node_config", { title = "New" }) .. "</configure>", true)
  check.equal(heard(host, romeo), { "n configuration x " })
  ask(admin, "set", "<delete node='n'><redirect uri='xmpp:elsewhere.example?;node=n'/></delete>", true)
  check.equal(heard(host, romeo), { "n delete redirect " })
  host:close()
end)

check.test("nodes and subscriptions are there after a restart; discovery lists what one may see", function()
  local host, admin, romeo = new()
  create(admin, "news", { title = "News" })
  create(admin, "secret", { access_model = "whitelist" })
  ask(romeo, "set", "<subscribe node='news' jid='romeo@example.org'/>")
  host:run(function() assert(plugin.reload(SERVICE, "pubsub")) end)
  local list = ask(romeo, "get", "<subscriptions/>")
  check.equal(list:find("{" .. NS .. "}pubsub/subscriptions/subscription@node"), "news")
  local seen = tostring(ask(romeo, "get", "<query xmlns='http://jabber.org/protocol/disco#items'/>", nil, true))
  check.ok(seen:find("name='News'", 1, true) and not seen:find("secret", 1, true), seen)
  local info = tostring(ask(romeo, "get", "<query xmlns='http://jabber.org/protocol/disco#info'/>", nil, true))
  check.ok(info:find("type='service'", 1, true) and info:find(NS .. "#publish'", 1, true), info)
  host:close()
end)

-- Each is refused with this error, and the service is as it was.
check.test("forms and requests that are wrong: missing, doubled, unknown and strange fields", function()
  local host, admin, romeo = new()
  create(admin, "n", { access_model = "open" })
  publish(admin, "n", "1")
  local before = tostring(ask(admin, "get", "<configure node='n'/>", true).tags[1])
  local function x(kind, fields, type)
    local head = kind and "<field var='FORM_TYPE'><value>" .. NS .. "#" .. kind .. "</value></field>" or ""
    return ("<x xmlns='jabber:x:data' type='%s'>%s%s</x>"):format(type or "submit", head, fields)
  end
  local f = pubsub.field
  local function configured(form_text) return "<configure node='n'>" .. form_text .. "</configure>", true end
  local function options(form_text)
    return "<publish node='n'><item id='2'><x xmlns='u'/></item></publish><publish-options>" .. form_text .. "</publish-options>"
  end
  local function subscribed(form_text)
    return "<subscribe node='n' jid='admin@example.org'/><options>" .. form_text .. "</options>"
  end
  local long = ("x"):rep(5000)
  local rows = {
    { "modify bad-request", configured "" },
    { "modify bad-request", configured(x("node_config", "", "form")) },
    { "modify bad-request", configured(x("meta-data", f("title", "x"))) },
    { "modify not-acceptable", configured(x("node_config", f("title", long))) },
    { "modify not-acceptable", configured(x("node_config", f("roster_groups_allowed", table.unpack { long, long, long }))) },
    { "modify not-acceptable", configured(x("node_config", f("max_items", "-1"))) },
    { "modify not-acceptable", configured(x("node_config", f("max_items", "99999999999999999999"))) },
    { "modify not-acceptable", configured(x("node_config", f("max_items", "1e3"))) },
    { "modify not-acceptable", configured(x("node_config", f("persist_items", "perhaps"))) },
    { "modify not-acceptable", configured(x("node_config", f("publish_model", "nobody"))) },
    { "modify not-acceptable", configured(x("node_config", f("contact", "@@"))) },
    { "modify not-acceptable unsupported-access-model", configured(x("node_config", f("access_model", "strange"))) },
    { "modify not-acceptable unsupported-access-model", configured(x("node_config", f("access_model", "presence"))) },
    { "modify bad-request", options(x(nil, f("access_model", "open"))) },
    { "cancel conflict precondition-not-met", options(x("publish-options", f("strange", "1"))) },
    { "cancel conflict precondition-not-met", options(x("publish-options", f("access_model", "whitelist"))) },
    { "modify bad-request", options(x("publish-options", f("access_model", "open"), "form")) },
    { "modify bad-request invalid-options", subscribed(x("node_config", f("deliver", "1"))) },
    { "modify bad-request invalid-options", subscribed(x("subscribe_options", f("deliver", "yes?"))) },
    { "modify bad-request invalid-options", subscribed "" },
    { "modify bad-request", "<create node='m'/><configure>" .. x("publish-options", f("title", "x")) .. "</configure>" },
    { "modify not-acceptable", ("<create node='%s'/>"):format(("n"):rep(1025)) },
    { "modify not-acceptable", ("<publish node='n'><item id='%s'><x xmlns='u'/></item></publish>"):format(("i"):rep(1025)) },
    { "modify not-acceptable payload-too-big", "<publish node='n'><item id='2'><x xmlns='u'>" .. ("x"):rep(300000)
      .. "</x></item></publish>" },
    { "modify bad-request item-required", "<retract node='n'/>" },
    { "modify bad-request item-required", "<retract node='n'><item/></retract>" },
    { "modify bad-request invalid-jid", "<subscribe node='n' jid='@@'/>" },
    { "modify bad-request", "" },
  }
  for i, row in ipairs(rows) do check.equal(i .. " " .. result(ask(admin, "set", row[2], row[3])), i .. " " .. row[1]) end
  check.equal(tostring(ask(admin, "get", "<configure node='n'/>", true).tags[1]), before)
  check.equal(#ask(romeo, "get", "<items node='n'/>").tags[1].tags[1].tags, 1)
  check.equal(#ask(admin, "get", "<subscriptions/>").tags[1].tags[1].tags, 0)
  host:close()
end)

check.test("a node of many items, or of large ones: in order, and no more at once than an answer may hold", function()
  local host, admin, romeo = new()
  create(admin, "n", { max_items = "max" })
  for i = 1, 50 do publish(admin, "n", tostring(i)) end
  local function got(inner, more)
    local reply = ask(romeo, "get", "<items node='n'" .. inner .. (more or ""))
    local ids = {}
    for item in reply.tags[1].tags[1]:childtags "item" do ids[#ids + 1] = tonumber(item.attr.id) end
    for i = 2, #ids do check.equal(ids[i], ids[i - 1] + 1) end
    return ("%s-%s"):format(ids[1], ids[#ids])
  end
  local set = "/><set xmlns='http://jabber.org/protocol/rsm'>%s</set>"
  check.equal(got "/>", "1-50")
  check.equal(got " max_items='20'/>", "31-50")
  check.equal(got(set:format "<max>40</max>"), "1-40")
  check.equal(got(set:format "<max>40</max><after>20</after>"), "21-50")
  check.equal(got(set:format "<max>40</max><before/>"), "11-50")
  check.equal(got(set:format "<max>40</max><before>45</before>"), "5-44")
  local large = "<x xmlns='u'>" .. ("x"):rep(200000) .. "</x>"
  for i = 51, 70 do publish(admin, "n", tostring(i), large) end
  check.equal(got "/>", "60-70")
  check.equal(got(set:format "<after>49</after>"), "50-61")
  host:close()
end)

check.test("§5.2: nodes in pages, and no more at once than who asks should get", function()
  local host, _, romeo = new()
  local service = plugin.get_module(SERVICE, "pubsub").service
  host:run(function()
    for i = 1, 500 do assert(service:create(("n%03d"):format(i), true, { title = ("t"):rep(2000) })) end
    assert(service:create("secret", true, { access_model = "whitelist" }))
  end)
  local function page(set)
    local query = ask(romeo, "get", ("<query xmlns='http://jabber.org/protocol/disco#items'>%s</query>"):format(set and
      ("<set xmlns='http://jabber.org/protocol/rsm'>%s</set>"):format(set) or ""), nil, true).tags[1]
    local list = {}
    for item in query:childtags "item" do list[#list + 1] = item.attr.node end
    local rsm = query:get_child("set", "http://jabber.org/protocol/rsm")
    local first = rsm and rsm:get_child "first"
    return ("%s-%s of %s"):format(list[1], list[#list], rsm and rsm:get_child_text "count"), first and first.attr.index
  end
  check.equal({ page "<max>10</max>" }, { "n001-n010 of 500", "0" })
  check.equal({ page "<max>10</max><after>n010</after>" }, { "n011-n020 of 500", "10" })
  check.equal({ page "<max>10</max><before/>" }, { "n491-n500 of 500", "490" })
  check.equal({ page "<max>10</max><before>n491</before>" }, { "n481-n490 of 500", "480" })
  check.equal({ page "<max>0</max>" }, { "nil-nil of 500" })
  check.equal({ page "<after>n500</after>" }, { "nil-nil of 500" })
  local got = page(nil)                                    -- half a megabyte is enough
  check.ok(got:find "^n001%-n2%d%d of 500$", got)
  host:close()
end)

check.test("ten thousand nodes: a page costs what is on it; who asks through all of them again and again waits", function()
  local host, admin, romeo = new()
  local service = plugin.get_module(SERVICE, "pubsub").service
  host:run(function()
    for i = 1, 9000 do assert(service:create(("n%04d"):format(i), true, i % 3 == 0 and { access_model = "whitelist" } or {})) end
  end)
  local function page(client, set)
    local reply = ask(client, "get", ("<query xmlns='http://jabber.org/protocol/disco#items'>%s</query>"):format(set and
      ("<set xmlns='http://jabber.org/protocol/rsm'>%s</set>"):format(set) or ""), nil, true)
    local list, rsm = {}, reply.tags[1]:get_child("set", "http://jabber.org/protocol/rsm")
    for item in reply.tags[1]:childtags "item" do list[#list + 1] = item.attr.node end
    return ("%d %s-%s of %s"):format(#list, list[1], list[#list], rsm and rsm:get_child_text "count")
  end
  check.equal(page(romeo), "1000 n0001-n1499 of nil")
  check.equal(page(admin), "1000 n0001-n1000 of nil")
  check.equal(page(romeo, "<max>4</max><after>n4999</after>"), "4 n5000-n5005 of nil")
  check.equal(page(romeo, "<max>4</max><before>n5000</before>"), "4 n4994-n4999 of nil")
  check.equal(page(romeo, "<max>3</max><before/>"), "3 n8996-n8999 of nil")
  check.equal(page(romeo, "<max>0</max>"), "0 nil-nil of 6000")
  local last, n = nil, 0
  repeat                                                   -- all of them, in pages
    local got = page(romeo, "<max>900</max>" .. (last and "<after>" .. last .. "</after>" or ""))
    n, last = n + tonumber(got:match "^%d+"), got:match "%-(%S+)"
  until last == "nil"
  check.equal(n, 6000)
  local answers = {}
  for _ = 1, 30 do
    for _, list in ipairs { "subscriptions", "affiliations" } do
      local got = result(ask(romeo, "get", "<" .. list .. "/>"))
      answers[got] = (answers[got] or 0) + 1
    end
  end
  check.equal(answers, { ok = 21, ["wait resource-constraint"] = 39 })
  check.equal(result(ask(admin, "get", "<affiliations/>")), "ok")        -- others need not wait
  check.equal(result(ask(romeo, "get", "<subscriptions node='n0001'/>")), "ok")
  host:advance(10)
  check.equal(result(ask(romeo, "get", "<affiliations/>")), "ok")
  host:close()
end)

check.test("nodes made by subscribing: so many for one account, half of all for everybody, and only for oneself", function()
  local host, admin, romeo, juliet = new { autocreate_on_subscribe = true, pubsub_max_nodes = 40,
    pubsub_max_nodes_per_user = 12 }
  local function subscribe(client, node, who)
    local inner = ("<subscribe node='%s' jid='%s@example.org'/>"):format(node, who or client.session.username)
    return result(ask(client, "set", inner))
  end
  local full = "wait resource-constraint max-nodes-exceeded"
  check.equal(subscribe(romeo, "n0", "juliet"), "modify bad-request invalid-jid")
  check.equal(plugin.get_module(SERVICE, "pubsub").service.n_nodes, 0)
  for i = 1, 12 do check.equal(subscribe(romeo, "r" .. i), "ok") end
  check.equal(subscribe(romeo, "r13"), full)
  for i = 1, 8 do check.equal(subscribe(juliet, "j" .. i), "ok") end
  check.equal(subscribe(juliet, "j9"), full)
  check.equal(subscribe(juliet, "r1"), "ok")
  check.equal(subscribe(admin, "a1"), "ok")
  check.equal(result(create(admin, "a2")), "ok")
  host:close()
end)

check.test("a new configuration's limits count at once", function()
  local host, _, romeo = new { pubsub_create = "local", pubsub_max_nodes_per_user = 1 }
  check.equal(result(create(romeo, "a")), "ok")
  check.equal(result(create(romeo, "b")), "wait resource-constraint max-nodes-exceeded")
  host.options[SERVICE].pubsub_max_nodes_per_user = 2
  host:configure {}
  check.equal(result(create(romeo, "b")), "ok")
  host:close()
end)

check.test("people in the lists of all nodes together have a bound; who goes makes room", function()
  local host, admin, romeo, juliet = new { pubsub_max_people = 6 }
  for _, node in ipairs { "a", "b" } do create(admin, node, { access_model = node == "b" and "authorize" or "open" }) end
  local function subscribe(client, node)
    return result(ask(client, "set", ("<subscribe node='%s' jid='%s@example.org'/>"):format(node, client.session.username)))
  end
  local function member(node, who, affiliation)
    return result(ask(admin, "set", ("<affiliations node='%s'><affiliation jid='%s@example.org' affiliation='%s'/>"
      .. "</affiliations>"):format(node, who, affiliation), true))
  end
  check.equal({ subscribe(romeo, "a"), subscribe(romeo, "b"), member("a", "nurse", "member"), member("b", "nurse", "member") },
    { "ok", "ok", "ok", "ok" })                            -- and the owner of both
  check.equal({ subscribe(juliet, "a"), subscribe(juliet, "b"), member("a", "juliet", "member") },
    { "wait policy-violation too-many-subscriptions", "wait policy-violation too-many-subscriptions", "modify not-acceptable" })
  check.equal({ subscribe(romeo, "a"), member("a", "nurse", "publisher") }, { "ok", "ok" })           -- who is there already
  check.equal(member("b", "nurse", "none"), "ok")
  host:advance(10)
  check.equal(subscribe(juliet, "a"), "ok")
  check.equal(subscribe(juliet, "b"), "wait policy-violation too-many-subscriptions")
  host:close()
end)

check.test("one item asked for a thousand times is read once", function()
  local host, admin, romeo = new()
  create(admin, "n")
  publish(admin, "n", "1")
  publish(admin, "n", "2")
  local service = plugin.get_module(SERVICE, "pubsub").service
  local store, reads = service.nodes.n.store, 0
  local get = store.get
  store.get = function(...) reads = reads + 1 return get(...) end
  local reply = ask(romeo, "get", "<items node='n'>" .. ("<item id='1'/><item id='none'/><item id='2'/>"):rep(1000) .. "</items>")
  check.equal(#reply.tags[1].tags[1].tags, 2)
  check.equal(reads, 3)
  host:close()
end)

check.test("a deleted node has not gone to a script", function()
  local host, admin = new()
  for uri, want in pairs { ["javascript:alert(1)"] = "modify bad-request", ["JavaScript:x"] = "modify bad-request",
    ["data:text/html,x"] = "modify bad-request", ["vbscript:x"] = "modify bad-request", ["xmpp:a@b?;node=c"] = "ok",
    ["https://blog.example/"] = "ok", [("xmpp:"):rep(1000)] = "modify bad-request" } do
    create(admin, "n")
    check.equal(result(ask(admin, "set", "<delete node='n'><redirect uri='" .. uri .. "'/></delete>", true)), want, uri)
  end
  host:close()
end)

check.test("many large items asked for by their ids: as many as an answer may hold, and it says so", function()
  local host, admin, romeo = new()
  create(admin, "n", { max_items = "max" })
  local inner, large = {}, "<x xmlns='u'>" .. ("x"):rep(200000) .. "</x>"
  for i = 1, 30 do
    publish(admin, "n", tostring(i), large)
    inner[i] = ("<item id='%d'/>"):format(i)
  end
  local reply = ask(romeo, "get", "<items node='n'>" .. table.concat(inner) .. "</items>").tags[1]
  check.equal(#reply.tags[1].tags, 11)
  check.ok(reply:get_child("set", "http://jabber.org/protocol/rsm"))
  check.ok(not ask(romeo, "get", "<items node='n'><item id='1'/></items>").tags[1]:get_child("set",
    "http://jabber.org/protocol/rsm"))
  host:close()
end)

check.test("subscribers are rows of their own: there after a restart with their options, gone with the node", function()
  local host, admin, romeo, juliet = new()
  create(admin, "n", { access_model = "authorize" })
  local function list(client)
    local out = {}
    for sub in ask(client, "get", "<subscriptions/>").tags[1].tags[1]:childtags "subscription" do
      out[#out + 1] = ("%s %s %s"):format(sub.attr.node, sub.attr.jid, sub.attr.subscription)
    end
    return out
  end
  ask(romeo, "set", "<subscribe node='n' jid='romeo@example.org/orchard'/><options>"
    .. form("subscribe_options", { deliver = "0" }) .. "</options>")
  ask(juliet, "set", "<subscribe node='n' jid='juliet@example.org'/>")
  admin:send(("<message to='%s'>%s</message>"):format(SERVICE, form("subscribe_authorization",
    { node = "n", subscriber_jid = "romeo@example.org", allow = "1" })))
  host:advance(0)
  local function restart() host:run(function() assert(plugin.reload(SERVICE, "pubsub")) end) end
  restart()
  check.equal(list(romeo), { "n romeo@example.org subscribed" })
  check.equal(list(juliet), { "n juliet@example.org pending" })
  local options = tostring(ask(romeo, "get", "<options node='n' jid='romeo@example.org'/>"))
  check.ok(options:find("var='pubsub#deliver'><value>0</value>", 1, true), options)
  ask(juliet, "set", "<unsubscribe node='n' jid='juliet@example.org'/>")
  restart()
  check.equal(list(juliet), {})
  ask(admin, "set", "<delete node='n'/>", true)
  create(admin, "n")
  restart()
  check.equal(list(romeo), {})
  -- kept by an older version: all of a node in one piece
  host:run(function()
    local kept = assert(require "couplet.store".open(SERVICE, "pubsub_nodes", "keyval"))
    kept:set("old", { name = "old", config = {}, affiliations = { ["admin@example.org"] = "owner" },
      subscribers = { ["romeo@example.org"] = true } })
  end)
  restart()
  check.equal(list(romeo), { "old romeo@example.org subscribed" })
  ask(juliet, "set", "<subscribe node='old' jid='juliet@example.org'/>")
  restart()
  check.equal(list(juliet), { "old juliet@example.org subscribed" })
  host:close()
end)

check.test("one more subscriber of many costs what one of few does", function()
  local host = new()
  local service = plugin.get_module(SERVICE, "pubsub").service
  local function cost(n)
    local name, subscribers = "n" .. n, {}
    host:run(function() assert(service:create(name, true)) end)
    for i = 1, n do subscribers["user" .. i .. "@far.example"] = true end
    service.nodes[name].subscribers = subscribers
    check.equal((service:subscribes(service.nodes[name], "user1@far.example")), n > 0)
    local began = os.clock()
    host:run(function()
      for i = 1, 200 do
        assert(service:add_subscription(name, i .. "@y.example", i .. "@y.example"))
        if i % 2 == 0 then assert(service:remove_subscription(name, i .. "@y.example", i .. "@y.example")) end
      end
    end)
    return os.clock() - began
  end
  cost(0)
  local few, many = cost(10), cost(50000)
  check.ok(many < 10 * few + 0.05, ("%.4f s of few, %.4f s of many"):format(few, many))
  host:close()
end)

check.test("one user makes so many nodes, administrators all there can be; who is deleted is in no list", function()
  local host, admin, romeo, juliet = new { pubsub_create = "local", pubsub_max_nodes_per_user = 3, pubsub_max_nodes = 6 }
  for i = 1, 3 do check.equal(result(create(romeo, "r" .. i)), "ok") end
  check.equal(result(create(romeo, "r4")), "wait resource-constraint max-nodes-exceeded")
  check.equal(result(create(juliet, "j1")), "ok")
  for i = 1, 2 do check.equal(result(create(admin, "a" .. i)), "ok") end
  check.equal(result(create(admin, "a3")), "wait resource-constraint max-nodes-exceeded")
  check.equal(result(ask(romeo, "set", "<delete node='r1'/>", true)), "ok")
  check.equal(result(create(romeo, "r5")), "ok")
  ask(romeo, "set", "<affiliations node='r2'><affiliation jid='juliet@example.org' affiliation='owner'/></affiliations>", true)
  ask(juliet, "set", "<subscribe node='r3' jid='juliet@example.org/balcony'/>")
  host:run(require "couplet.prosody".events.fire_event, "user-deleted", { username = "juliet", host = "example.org" })
  juliet = host:client "juliet@example.org/balcony"        -- her session ended with the account
  check.equal(#ask(juliet, "get", "<affiliations/>").tags[1].tags[1].tags, 0)
  check.equal(#ask(juliet, "get", "<subscriptions/>").tags[1].tags[1].tags, 0)
  check.equal(#ask(romeo, "get", "<affiliations/>").tags[1].tags[1].tags, 3)
  host:close()
end)

check.test("plugins that stand on the service find what was kept, from their first moment", function()
  local host, admin, romeo = new()
  create(admin, "news", { title = "News" })
  publish(admin, "news", "1")
  host:run(function() assert(plugin.reload(SERVICE, "pubsub")) end)
  local service = plugin.get_module(SERVICE, "pubsub").service
  host:run(function()
    check.equal({ service:create("news", true) }, { false, "conflict" })
    check.equal((service:publish("news", true, "2", require "couplet.stanza".stanza "item")), true)
  end)
  check.equal(#ask(romeo, "get", "<items node='news'/>").tags[1].tags[1].tags, 2)
  host:close()
end)

check.done()
