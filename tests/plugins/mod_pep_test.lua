-- SPDX-License-Identifier: MIT
-- XEP-0163 over XEP-0060: every account is a publish-subscribe service.

local check = require "check"
local fake = require "fakehost"
local calculate_hash = require "couplet.util.caps".calculate_hash
local st = require "couplet.stanza"

local NS = "http://jabber.org/protocol/pubsub"
local PLUGINS = { "iq", "presence", "message", "roster", "disco", "pep" }

local function new(options) return fake.new { plugins = PLUGINS, options = options } end

local serial = 0
local function ask(client, kind, to, inner)
  serial = serial + 1
  local id = "q" .. serial
  client:send(("<iq type='%s' id='%s'%s>%s</iq>"):format(kind, id, to and (" to='%s'"):format(to) or "", inner))
  return client:expect { name = "iq", id = id }
end

local function pubsub(inner, owner) return ("<pubsub xmlns='%s%s'>%s</pubsub>"):format(NS, owner and "#owner" or "", inner) end

local function publish(client, node, id, payload, more, to)
  return ask(client, "set", to, pubsub(("<publish node='%s'><item id='%s'>%s</item></publish>%s"):format(node, id,
    payload or "<tune xmlns='urn:tune'/>", more or "")))
end

local function items(client, to, node, more)
  return ask(client, "get", to, pubsub(("<items node='%s'%s"):format(node, more or "/>")))
end

local function form(kind, fields)
  local out = { ("<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>%s#%s</value></field>"):format(NS, kind) }
  for k, v in pairs(fields) do out[#out + 1] = ("<field var='pubsub#%s'><value>%s</value></field>"):format(k, v) end
  return table.concat(out) .. "</x>"
end

local function publish_options(fields) return "<publish-options>" .. form("publish-options", fields) .. "</publish-options>" end
local function configure(client, node, fields)
  return ask(client, "set", nil, pubsub(("<configure node='%s'>%s</configure>"):format(node, form("node_config", fields)), true))
end

-- type, condition, pubsub condition
local function err(reply)
  local kind, condition, _, extra = reply:get_error()
  return ("%s %s%s"):format(kind, condition, extra and " " .. extra.name or "")
end

local roster = require "couplet.roster"

local function befriend(host, a, b)
  for _, pair in ipairs { { a, b }, { b, a } } do
    local username, contact = pair[1].session.username, pair[2].session.username .. "@example.org"
    host:run(function()
      local list = roster.load_roster(username, "example.org")
      list[contact] = { subscription = "both", groups = {} }
      assert(roster.save_roster(username, "example.org", list, contact))
    end)
  end
end

local function disco_of(...)
  local query = st.stanza("query", { xmlns = "http://jabber.org/protocol/disco#info" })
    :tag("identity", { category = "client", type = "pc" }):up()
  for _, node in ipairs { ... } do query:tag("feature", { var = node .. "+notify" }):up() end
  return query
end

local CAPS = "<presence><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='urn:client' ver='%s'/></presence>"

-- Comes online with a client that wants to hear of these nodes; answers the question behind the hash.
local function online(client, ...)
  local query = disco_of(...)
  local ver = calculate_hash(query)
  client:send(CAPS:format(ver))
  local got = client:received()
  for _, stanza in ipairs(got) do
    if stanza.name == "iq" and stanza.attr.type == "get" then client:send(tostring(st.reply(stanza):add_child(query))) end
  end
  return got
end

-- Notifications among what was received: "from node kind id, …"
local function heard(client, received)
  local out = {}
  for _, stanza in ipairs(received or client:received()) do
    local event = stanza.name == "message" and stanza:get_child("event", NS .. "#event")
    local what = event and event.tags[1]
    if what then
      local item = what.tags[1]
      local kind = what.name == "items" and (item and item.name or "empty") or what.name
      local id = item and item.attr.id and " " .. item.attr.id or ""
      out[#out + 1] = ("%s %s %s%s"):format(stanza.attr.from, what.attr.node, kind, id)
    end
  end
  table.sort(out)
  return out
end

check.test("§4.3, §4.4: contacts who ask for a node hear of it, and so do one's own resources", function()
  local host = new()
  local romeo, phone = host:client "romeo@example.org/orchard", host:client "romeo@example.org/phone"
  local juliet, nurse = host:client "juliet@example.org/balcony", host:client "nurse@example.org/hall"
  befriend(host, romeo, juliet)
  befriend(host, juliet, nurse)
  online(romeo, "urn:tune")
  online(phone, "urn:other")
  online(juliet, "urn:tune")
  online(nurse, "urn:tune")
  for _, client in ipairs { romeo, phone, juliet, nurse } do client:received() end
  check.equal(publish(romeo, "urn:tune", "1").attr.type, "result")
  check.equal(heard(romeo), { "romeo@example.org urn:tune item 1" })
  check.equal(heard(juliet), { "romeo@example.org urn:tune item 1" })
  check.equal(heard(phone), {})                                       -- another node
  check.equal(heard(nurse), {})                                       -- no contact of his
  juliet:send "<presence type='unavailable'/>"
  publish(romeo, "urn:tune", "2")
  check.equal(heard(juliet), {})
  romeo:received()
  check.equal(heard(juliet, online(juliet, "urn:tune")), {            -- §4.3.4: the last item, when she comes
    "romeo@example.org urn:tune item 2" })
  check.equal(host:close(), {})
end)

check.test("who sees the presence hears of a node, but for outcasts and where one has blocked the other", function()
  local host = fake.new { plugins = { "iq", "presence", "message", "roster", "disco", "blocklist", "pep" } }
  local romeo, juliet = host:client "romeo@example.org/orchard", host:client "juliet@example.org/balcony"
  local nurse, paris = host:client "nurse@example.org/hall", host:client "paris@example.org/tomb"
  for _, contact in ipairs { juliet, nurse, paris } do
    befriend(host, romeo, contact)
    online(contact, "urn:tune")
  end
  local function hear(id)
    for _, contact in ipairs { juliet, nurse, paris } do contact:received() end
    check.equal(publish(romeo, "urn:tune", id).attr.type, "result")
    return { #heard(juliet), #heard(nurse), #heard(paris) }
  end
  local function block(client, who)
    local reply = ask(client, "set", nil, ("<block xmlns='urn:xmpp:blocking'><item jid='%s'/></block>"):format(who))
    check.equal(reply.attr.type, "result")
  end
  check.equal(hear "1", { 1, 1, 1 })
  ask(romeo, "set", nil, pubsub("<affiliations node='urn:tune'><affiliation jid='nurse@example.org' affiliation='outcast'/>"
    .. "</affiliations>", true))
  check.equal(hear "2", { 1, 0, 1 })
  block(paris, "romeo@example.org")
  check.equal(hear "3", { 1, 0, 0 })
  block(romeo, "juliet@example.org")
  check.equal(hear "4", { 0, 0, 0 })
  check.equal(host:close(), {})
end)

check.test("a hash is asked for once; one that is not proved counts for that resource alone", function()
  local host = new()
  local romeo, juliet = host:client "romeo@example.org/orchard", host:client "juliet@example.org/balcony"
  befriend(host, romeo, juliet)
  publish(romeo, "urn:tune", "1")
  online(romeo, "urn:tune")
  check.equal(heard(romeo), { "romeo@example.org urn:tune item 1" })
  local ver = calculate_hash(disco_of "urn:tune")
  juliet:send(CAPS:format(ver))
  local got = juliet:received()
  for _, stanza in ipairs(got) do check.ok(stanza.name ~= "iq", "asked again") end
  -- Mallory says that the hash of a client means something else.
  local mallory, nurse = host:client "mallory@example.org/den", host:client "nurse@example.org/hall"
  local query = disco_of "urn:evil"
  local wrong = calculate_hash(disco_of "urn:good")
  mallory:send(CAPS:format(wrong))
  mallory:send(tostring(st.reply(mallory:expect { name = "iq", type = "get" }):add_child(query)))
  nurse:send(CAPS:format(wrong))
  check.ok(nurse:expect { name = "iq", type = "get" })                -- asked herself
  host:close()
end)

check.test("access models: who may retrieve, and what others are told", function()
  local host = new()
  local romeo, juliet = host:client "romeo@example.org/orchard", host:client "juliet@example.org/balcony"
  local nurse = host:client "nurse@example.org/hall"
  befriend(host, romeo, juliet)
  local rows = {
    -- model         juliet (contact)                         nurse (stranger)
    { "open",        "ok",                                    "ok" },
    { "presence",    "ok",                                    "auth not-authorized presence-subscription-required" },
    { "roster",      "auth not-authorized not-in-roster-group", "auth not-authorized presence-subscription-required" },
    { "whitelist",   "cancel not-allowed closed-node",        "auth not-authorized presence-subscription-required" },
    { "authorize",   "auth not-authorized not-subscribed",    "auth not-authorized not-subscribed" },
  }
  for _, row in ipairs(rows) do
    local node = "urn:" .. row[1]
    check.equal(publish(romeo, node, "1", nil, publish_options { access_model = row[1] }).attr.type, "result")
    for i, client in ipairs { juliet, nurse } do
      local reply = items(client, "romeo@example.org", node)
      local got = reply.attr.type == "result" and "ok" or err(reply)
      check.equal(row[1] .. ": " .. got, row[1] .. ": " .. row[i + 1])
      if got == "ok" then check.equal(reply:find("{" .. NS .. "}pubsub/items/item@id"), "1") end
    end
  end
  check.equal(items(romeo, nil, "urn:whitelist").attr.type, "result")
  ask(romeo, "set", nil, "<query xmlns='jabber:iq:roster'><item jid='juliet@example.org'><group>Loves</group></item></query>")
  check.equal(configure(romeo, "urn:roster", { roster_groups_allowed = "Loves" }).attr.type, "result")
  check.equal(items(juliet, "romeo@example.org", "urn:roster").attr.type, "result")
  local nothing = items(juliet, "romeo@example.org", "urn:nothing")
  check.equal(err(nothing), "cancel item-not-found")
  check.equal(nothing:get_child("error").attr.code, "404")               -- for profanity, see pubsub.lib.lua
  host:close()
end)

check.test("a stranger does not learn which nodes there are that he may not read, nor who has an account", function()
  local host = new()
  local romeo, juliet = host:client "romeo@example.org/orchard", host:client "juliet@example.org/balcony"
  local nurse = host:client "nurse@example.org/hall"
  befriend(host, romeo, juliet)
  for _, model in ipairs { "open", "presence", "roster", "whitelist", "authorize" } do
    publish(romeo, "urn:" .. model, "1", nil, publish_options { access_model = model })
  end
  publish(romeo, "urn:outcast", "1", nil, publish_options { access_model = "presence" })
  ask(romeo, "set", nil, pubsub("<affiliations node='urn:outcast'><affiliation jid='nurse@example.org' affiliation='outcast'/>"
    .. "</affiliations>", true))
  publish(romeo, "urn:light", "1", nil, publish_options { access_model = "whitelist", persist_items = "false" })
  local reads, forbidden = "auth not-authorized presence-subscription-required", "auth forbidden"
  local not_subscribed, jid = "cancel unexpected-request not-subscribed", " jid='nurse@example.org'/>"
  local INFO, ITEMS = "<query xmlns='http://jabber.org/protocol/disco#info' node='%s'/>",
    "<query xmlns='http://jabber.org/protocol/disco#items' node='%s'/>"
  local rows = {
    -- kind, what is in <pubsub/>, of owners?, answer
    { "get", "<items node='%s'/>", false, reads },
    { "get", "<items node='%s'><item id='1'/></items>", false, reads },
    { "set", "<subscribe node='%s'" .. jid, false, reads },
    { "get", "<default node='%s'/>", false, reads },
    { "set", "<unsubscribe node='%s'" .. jid, false, not_subscribed },
    { "get", "<options node='%s'" .. jid, false, not_subscribed },
    { "set", "<options node='%s'" .. jid, false, not_subscribed },
    { "get", "<subscriptions node='%s'/>", false, "cancel item-not-found" },
    { "set", "<publish node='%s'/>", false, forbidden },
    { "set", "<publish node='%s'><item/></publish>", false, forbidden },
    { "set", "<publish node='%s'><item><x xmlns='urn:x'/></item></publish>", false, forbidden },
    { "set", "<publish node='%s'><item><x xmlns='urn:x'/></item></publish>" .. publish_options { access_model = "open" }, false,
      forbidden },
    { "set", "<retract node='%s'><item id='1'/></retract>", false, forbidden },
    { "set", "<create node='%s'/>", false, forbidden },
    { "get", "<configure node='%s'/>", true, forbidden },
    { "set", "<configure node='%s'>" .. form("node_config", { access_model = "open" }) .. "</configure>", true, forbidden },
    { "get", "<affiliations node='%s'/>", true, forbidden },
    { "set", "<affiliations node='%s'/>", true, forbidden },
    { "get", "<subscriptions node='%s'/>", true, forbidden },
    { "set", "<subscriptions node='%s'/>", true, forbidden },
    { "set", "<purge node='%s'/>", true, forbidden },
    { "set", "<delete node='%s'/>", true, forbidden },
    { "get", INFO, nil, "cancel service-unavailable" },
    { "get", ITEMS, nil, "cancel service-unavailable" },
  }
  for _, row in ipairs(rows) do
    for _, where in ipairs { "romeo urn:presence", "romeo urn:roster", "romeo urn:whitelist", "romeo urn:outcast",
      "romeo urn:light", "romeo urn:nothing", "nobody urn:presence", "nobody urn:nothing" } do
      local user, node = where:match "^(%S+) (.*)$"
      local request = row[2]:gsub("%%s", node)
      if row[3] ~= nil then request = pubsub(request, row[3]) end
      local reply = ask(nurse, row[1], user .. "@example.org", request)
      check.equal(where .. ": " .. (reply.attr.type == "result" and "ok" or err(reply)), where .. ": " .. row[4], request)
    end
  end
  for _, who in ipairs { "romeo", "nobody" } do
    for _, list in ipairs { "subscriptions", "affiliations" } do
      local reply = ask(nurse, "get", who .. "@example.org", pubsub("<" .. list .. "/>"))
      check.equal(#reply.tags[1].tags[1].tags, who == "romeo" and list == "affiliations" and 1 or 0, who .. list)
    end
  end
  -- contacts hear what XEP-0060 says, and who asks to be let in waits
  check.equal(err(items(juliet, "romeo@example.org", "urn:nothing")), "cancel item-not-found")
  local wait = ask(nurse, "set", "romeo@example.org", pubsub("<subscribe node='urn:authorize'" .. jid))
  check.equal(wait:find("{" .. NS .. "}pubsub/subscription@subscription"), "pending")
  check.equal(ask(nurse, "set", "romeo@example.org", pubsub("<subscribe node='urn:open'" .. jid)).attr.type, "result")
  host:close()
end)

check.test("§7.1.5: publish options configure a new node and are conditions for an old one", function()
  local host = new()
  local romeo = host:client "romeo@example.org/orchard"
  local want = publish_options { access_model = "whitelist", persist_items = "true", max_items = "max" }
  check.equal(publish(romeo, "urn:b", "1", nil, want).attr.type, "result")
  check.equal(publish(romeo, "urn:b", "2", nil, want).attr.type, "result")
  check.equal(err(publish(romeo, "urn:b", "3", nil, publish_options { access_model = "open" })),
    "cancel conflict precondition-not-met")
  check.equal(err(publish(romeo, "urn:b", "3", nil, publish_options { strange = "1" })), "cancel conflict precondition-not-met")
  check.equal(err(publish(romeo, "urn:c", "3", nil, publish_options { access_model = "strange" })),
    "modify not-acceptable unsupported-access-model")
  local reply = items(romeo, nil, "urn:b")
  check.equal(#reply.tags[1].tags[1].tags, 2)
  host:close()
end)

check.test("nodes made without options are as their clients need them", function()
  local host = new()
  local romeo, nurse = host:client "romeo@example.org/orchard", host:client "nurse@example.org/hall"
  publish(romeo, "eu.siacs.conversations.axolotl.devicelist", "current")
  check.equal(items(nurse, "romeo@example.org", "eu.siacs.conversations.axolotl.devicelist").attr.type, "result")
  publish(romeo, "urn:xmpp:vcard4", "current")
  check.equal(items(nurse, "romeo@example.org", "urn:xmpp:vcard4").attr.type, "result")
  -- XEP-0402, XEP-0490, XEP-0292 §4: one's own business (XEP-0223), and as many as there are
  for _, node in ipairs { "urn:xmpp:bookmarks:1", "urn:xmpp:mds:displayed:0", "urn:xmpp:contacts" } do
    publish(romeo, node, "room@rooms.example")
    publish(romeo, node, "other@rooms.example")
    check.equal(err(items(nurse, "romeo@example.org", node)), "auth not-authorized presence-subscription-required", node)
    check.equal(#items(romeo, nil, node).tags[1].tags[1].tags, 2, node)
  end
  host:close()
end)

check.test("§6.5, §7.2: items by id, the newest, pages; replaced, retracted, purged, the oldest dropped", function()
  local host = new { pep_max_items = 10 }
  local romeo = host:client "romeo@example.org/orchard"
  online(romeo, "urn:n")
  check.equal(publish(romeo, "urn:n", "0", nil, publish_options { max_items = "5" }).attr.type, "result")
  for i = 1, 6 do publish(romeo, "urn:n", tostring(i)) end
  local function ids(reply)
    local out = {}
    for item in reply.tags[1].tags[1]:childtags "item" do out[#out + 1] = item.attr.id end
    return table.concat(out, " ")
  end
  host:advance(1)
  check.equal(ids(items(romeo, nil, "urn:n")), "2 3 4 5 6")
  check.equal(ids(items(romeo, nil, "urn:n", " max_items='2'/>")), "5 6")
  check.equal(ids(items(romeo, nil, "urn:n", "><item id='3'/><item id='none'/></items>")), "3")
  publish(romeo, "urn:n", "3", "<again xmlns='urn:again'/>")
  check.equal(ids(items(romeo, nil, "urn:n")), "2 4 5 6 3")
  local page = ask(romeo, "get", nil,
    pubsub "<items node='urn:n'/><set xmlns='http://jabber.org/protocol/rsm'><max>2</max></set>")
  check.equal(ids(page), "2 4")
  check.equal(page:find("{" .. NS .. "}pubsub/{http://jabber.org/protocol/rsm}set/count#"), "5")
  page = ask(romeo, "get", nil,
    pubsub "<items node='urn:n'/><set xmlns='http://jabber.org/protocol/rsm'><max>2</max><after>4</after></set>")
  check.equal(ids(page), "5 6")
  page = ask(romeo, "get", nil,
    pubsub "<items node='urn:n'/><set xmlns='http://jabber.org/protocol/rsm'><max>2</max><before/></set>")
  check.equal(ids(page), "6 3")
  romeo:received()
  check.equal(ask(romeo, "set", nil, pubsub "<retract node='urn:n' notify='1'><item id='5'/></retract>").attr.type, "result")
  check.equal(heard(romeo), { "romeo@example.org urn:n retract 5" })
  check.equal(err(ask(romeo, "set", nil, pubsub "<retract node='urn:n'><item id='5'/></retract>")), "cancel item-not-found")
  check.equal(err(ask(romeo, "set", nil, pubsub "<retract node='urn:n'/>")), "modify bad-request item-required")
  check.equal(ask(romeo, "set", nil, pubsub("<purge node='urn:n'/>", true)).attr.type, "result")
  check.equal(heard(romeo), { "romeo@example.org urn:n purge" })
  check.equal(ids(items(romeo, nil, "urn:n")), "")
  check.equal(ask(romeo, "set", nil, pubsub("<delete node='urn:n'/>", true)).attr.type, "result")
  check.equal(heard(romeo), { "romeo@example.org urn:n delete" })
  check.equal(err(items(romeo, nil, "urn:n")), "cancel item-not-found")
  host:close()
end)

check.test("bad requests: the exact error, and nothing is kept", function()
  local host = new { pep_max_nodes = 10, pep_max_payload_size = 1024 }
  local romeo, juliet = host:client "romeo@example.org/orchard", host:client "juliet@example.org/balcony"
  publish(romeo, "urn:n", "1", nil, publish_options { access_model = "open" })
  local big = "<x xmlns='urn:x'>" .. ("y"):rep(2000) .. "</x>"
  local rows = {
    { romeo, "set", "<publish><item><x xmlns='urn:x'/></item></publish>", "modify bad-request nodeid-required" },
    { romeo, "set", "<publish node='urn:n'/>", "modify bad-request item-required" },
    { romeo, "set", "<publish node='urn:n'><item/></publish>", "modify bad-request payload-required" },
    { romeo, "set", "<publish node='urn:n'><item><x xmlns='u'/><y xmlns='u'/></item></publish>",
      "modify bad-request invalid-payload" },
    { romeo, "set", "<publish node='urn:n'><item><x xmlns='u'/></item><item><x xmlns='u'/></item></publish>",
      "modify bad-request" },
    { romeo, "set", "<publish node='urn:n'><item>" .. big .. "</item></publish>", "modify not-acceptable payload-too-big" },
    { romeo, "set", ("<publish node='%s'><item><x xmlns='u'/></item></publish>"):format(("n"):rep(2000)),
      "modify not-acceptable" },
    { juliet, "set", "<publish node='urn:n'><item><x xmlns='u'/></item></publish>", "auth forbidden" },
    { juliet, "set", "<publish node='urn:new'><item><x xmlns='u'/></item></publish>", "auth forbidden" },
    { juliet, "set", "<create node='urn:new'/>", "auth forbidden" },
    { romeo, "set", "<create node='urn:n'/>", "cancel conflict" },
    { romeo, "get", "<items/>", "modify bad-request nodeid-required" },
    { romeo, "get", "<items node='urn:n' max_items='-1'/>", "modify bad-request" },
    { romeo, "set", "<subscribe node='urn:n'/>", "modify bad-request jid-required" },
    { romeo, "set", "<subscribe node='urn:n' jid='juliet@example.org'/>", "ok" },
    { juliet, "set", "<subscribe node='urn:n' jid='romeo@example.org'/>", "modify bad-request invalid-jid" },
    { juliet, "set", "<unsubscribe node='urn:n' jid='juliet@example.org/x'/>", "cancel unexpected-request not-subscribed" },
    { juliet, "get", "<options node='urn:n' jid='romeo@example.org'/>", "auth forbidden" },
    { romeo, "set", "<strange/>", "cancel feature-not-implemented" },
    { romeo, "get", "", "modify bad-request" },
    { juliet, "get", "<configure node='urn:n'/>", "auth forbidden", true },
    { juliet, "set", "<delete node='urn:n'/>", "auth forbidden", true },
    { juliet, "set", "<purge node='urn:n'/>", "auth forbidden", true },
    { juliet, "get", "<affiliations node='urn:n'/>", "auth forbidden", true },
    { juliet, "get", "<subscriptions node='urn:n'/>", "auth forbidden", true },
    { romeo, "get", "<configure node='urn:none'/>", "cancel item-not-found", true },
    { romeo, "set", "<configure node='urn:n'/>", "modify bad-request", true },
  }
  for i, row in ipairs(rows) do
    local reply = ask(row[1], row[2], "romeo@example.org", pubsub(row[3], row[5]))
    check.equal(i .. " " .. (reply.attr.type == "error" and err(reply) or "ok"), i .. " " .. row[4])
  end
  for _, bad in ipairs { { max_items = "x" }, { max_items = "100000" }, { access_model = "x" }, { publish_model = "x" },
    { persist_items = "maybe" }, { max_payload_size = "-1" } } do
    check.equal(configure(romeo, "urn:n", bad).attr.type, "error", next(bad))
  end
  for i = 2, 10 do check.equal(publish(romeo, "urn:n" .. i, "1").attr.type, "result", i) end
  check.equal(err(publish(romeo, "urn:n11", "1")), "wait resource-constraint max-nodes-exceeded")
  host:close()
end)

check.test("§6.1, §8.6: subscriptions, asked for and allowed", function()
  local host = new()
  local romeo, juliet = host:client "romeo@example.org/orchard", host:client "juliet@example.org/balcony"
  online(romeo)
  online(juliet)
  publish(romeo, "urn:n", "1", nil, publish_options { access_model = "authorize" })
  local reply = ask(juliet, "set", "romeo@example.org", pubsub "<subscribe node='urn:n' jid='juliet@example.org'/>")
  check.equal(reply:find("{" .. NS .. "}pubsub/subscription@subscription"), "pending")
  local form_of = romeo:expect(function(s) return s:get_child("x", "jabber:x:data") ~= nil end)
  check.ok(tostring(form_of):find("juliet@example.org", 1, true))
  check.equal(err(items(juliet, "romeo@example.org", "urn:n")), "auth not-authorized not-subscribed")
  romeo:send(("<message to='romeo@example.org'>%s</message>"):format(form("subscribe_authorization",
    { node = "urn:n", subscriber_jid = "juliet@example.org", allow = "1" })))
  check.equal(heard(juliet), { "romeo@example.org urn:n item 1", "romeo@example.org urn:n subscription" })
  check.equal(items(juliet, "romeo@example.org", "urn:n").attr.type, "result")
  publish(romeo, "urn:n", "2")
  check.equal(heard(juliet), { "romeo@example.org urn:n item 2" })
  reply = ask(romeo, "get", nil, pubsub("<subscriptions node='urn:n'/>", true))
  check.equal(reply:find("{" .. NS .. "#owner}pubsub/subscriptions/subscription@jid"), "juliet@example.org")
  reply = ask(juliet, "set", "romeo@example.org", pubsub "<unsubscribe node='urn:n' jid='juliet@example.org'/>")
  check.equal(reply.attr.type, "result")
  publish(romeo, "urn:n", "3")
  check.equal(heard(juliet), {})
  host:close()
end)

check.test("§8.7: the owner of an account asks it which requests wait; nobody else gets an answer", function()
  local host = new()
  local romeo, juliet = host:client "romeo@example.org/orchard", host:client "juliet@example.org/balcony"
  publish(romeo, "urn:n", "1", nil, publish_options { access_model = "authorize" })
  ask(juliet, "set", "romeo@example.org", pubsub "<subscribe node='urn:n' jid='juliet@example.org'/>")
  local COMMAND = "<command xmlns='http://jabber.org/protocol/commands' node='" .. NS .. "#get-pending'>%s</command>"
  check.ok(tostring(ask(romeo, "set", nil, COMMAND:format "")):find("<value>urn:n</value></option>", 1, true))
  check.equal(ask(romeo, "set", nil, COMMAND:format(form("subscribe_authorization", { node = "urn:n" }))).attr.type, "result")
  host:advance(0)
  local message = romeo:expect { name = "message" }
  check.equal({ message.attr.from, message.attr.to }, { "romeo@example.org", "romeo@example.org/orchard" })
  for _, to in ipairs { "romeo@example.org", "nobody@example.org" } do
    check.equal(err(ask(juliet, "set", to, COMMAND:format "")), "auth forbidden")
  end
  check.ok(tostring(ask(romeo, "get", nil, "<query xmlns='http://jabber.org/protocol/disco#items'"
    .. " node='http://jabber.org/protocol/commands'/>")):find("get-pending", 1, true))
  host:close()
end)

check.test("§8.9: affiliations, each change on its own; the only owner stays", function()
  local host = new()
  local romeo, juliet = host:client "romeo@example.org/orchard", host:client "juliet@example.org/balcony"
  publish(romeo, "urn:n", "1")
  check.equal(ask(romeo, "set", nil, pubsub([[<affiliations node='urn:n'>
    <affiliation jid='juliet@example.org' affiliation='publisher'/></affiliations>]], true)).attr.type, "result")
  check.equal(publish(juliet, "urn:n", "2", nil, nil, "romeo@example.org").attr.type, "result")
  check.equal(items(romeo, nil, "urn:n"):find("{" .. NS .. "}pubsub/items/item@publisher"), "juliet@example.org")
  local reply = ask(romeo, "set", nil, pubsub([[<affiliations node='urn:n'>
    <affiliation jid='juliet@example.org' affiliation='outcast'/>
    <affiliation jid='nurse@example.org' affiliation='queen'/></affiliations>]], true))
  check.equal(err(reply), "modify not-acceptable")
  check.equal(reply:find("{" .. NS .. "#owner}pubsub/affiliations/affiliation@jid"), "nurse@example.org")
  check.equal(err(publish(juliet, "urn:n", "3", nil, nil, "romeo@example.org")), "auth forbidden")
  host:close()
end)

check.test("§8.8: an owner makes subscribers of contacts, not of strangers who have not asked", function()
  local host = new()
  local romeo, juliet, nurse = host:client "romeo@example.org/orchard", host:client "juliet@example.org/balcony",
    host:client "nurse@example.org/hall"
  befriend(host, romeo, juliet)
  nurse:send "<presence/>"
  nurse:received()
  publish(romeo, "urn:n", "1", nil, publish_options { access_model = "open" })
  local function enlist(who)
    return ask(romeo, "set", nil, pubsub(("<subscriptions node='urn:n'><subscription jid='%s' subscription='subscribed'/>"
      .. "</subscriptions>"):format(who), true))
  end
  for _, row in ipairs { { "juliet@example.org", "result" }, { "romeo@example.org/orchard", "result" },
    { "nurse@example.org", "error" }, { "paris@far.example", "error" } } do
    check.equal(enlist(row[1]).attr.type, row[2], row[1])
  end
  check.equal(nurse:received(), {})
  ask(nurse, "set", "romeo@example.org", pubsub "<subscribe node='urn:n' jid='nurse@example.org'/>")
  check.equal(enlist("nurse@example.org").attr.type, "result")       -- she is one already, by herself
  host:close()
end)

check.test("§5: discovery of an account, its nodes and what they are", function()
  local host = new()
  local romeo, juliet = host:client "romeo@example.org/orchard", host:client "juliet@example.org/balcony"
  befriend(host, romeo, juliet)
  publish(romeo, "urn:n", "1")
  publish(romeo, "urn:secret", "1", nil, publish_options { access_model = "whitelist" })
  configure(romeo, "urn:n", { title = "Tunes" })
  local info = ask(juliet, "get", "romeo@example.org", "<query xmlns='http://jabber.org/protocol/disco#info'/>")
  check.ok(tostring(info):find("category='pubsub' type='pep'", 1, true) or tostring(info):find("type='pep'", 1, true))
  for _, feature in ipairs { "publish-options", "auto-create", "auto-subscribe", "filtered-notifications", "last-published",
    "access-presence", "pubsub-on-a-jid" } do check.ok(tostring(info):find(NS .. "#" .. feature .. "'", 1, true), feature) end
  local list = tostring(ask(juliet, "get", "romeo@example.org", "<query xmlns='http://jabber.org/protocol/disco#items'/>"))
  check.ok(tostring(ask(romeo, "get", nil, "<query xmlns='http://jabber.org/protocol/disco#items'/>")):find("secret", 1, true))
  check.ok(list:find("urn:n", 1, true) and list:find("Tunes", 1, true) and not list:find("secret", 1, true), list)
  local node = tostring(ask(juliet, "get", "romeo@example.org",
    "<query xmlns='http://jabber.org/protocol/disco#info' node='urn:n'/>"))
  check.ok(node:find("type='leaf'", 1, true) and node:find("pubsub#title", 1, true), node)
  host:close()
end)

check.test("what one account may keep: nodes, bytes, people in lists; the limits count as things come and go", function()
  local host = new { pep_max_account_size = 65536, pep_max_nodes = 20 }
  local romeo, juliet = host:client "romeo@example.org/orchard", host:client "juliet@example.org/balcony"
  local big = "<x xmlns='urn:x'>" .. ("y"):rep(20000) .. "</x>"
  local function try(client, node, id) local reply = publish(client, node, id, big)
    return reply.attr.type == "result" and "ok" or err(reply) end
  for i = 1, 3 do check.equal(try(romeo, "urn:" .. i, "1"), "ok") end
  check.equal(try(romeo, "urn:4", "1"), "wait resource-constraint")
  check.equal(try(romeo, "urn:3", "1"), "wait resource-constraint")
  check.equal(err(ask(romeo, "get", nil, pubsub("<configure node='urn:4'/>", true))), "cancel item-not-found")
  check.equal(try(juliet, "urn:1", "1"), "ok")
  check.equal(publish(romeo, "urn:1", "2").attr.type, "result")                       -- there is room for something small
  ask(romeo, "set", nil, pubsub "<retract node='urn:1'><item id='1'/></retract>")
  host:advance(11)
  check.equal(try(romeo, "urn:2", "1"), "ok")                                         -- the old one goes for it
  check.equal(err(publish(juliet, "urn:1", "1", big, nil, "romeo@example.org")), "auth forbidden")
  host:reload "pep"
  check.equal(try(romeo, "urn:4", "1"), "ok")
  check.equal(try(romeo, "urn:5", "1"), "wait resource-constraint")
  host:close()
end)

check.test("an account is measured when it has published more than little since it was read", function()
  local host = new { pep_max_account_size = 1000000 }
  local romeo = host:client "romeo@example.org/orchard"
  local function kept() return host:run(host:module("pep").environment.get_pep_service, "romeo").kept end
  for i = 1, 5 do publish(romeo, "urn:" .. i, "1") end
  check.equal(kept(), nil)
  for i = 1, 5 do publish(romeo, "urn:" .. i, "1") end
  check.ok(kept() > 5 * 512, kept())
  host:close()
end)

check.test("a hundred thousand nodes by one user: a thousand, then the right error, at no cost for others", function()
  local host = new()
  local romeo = host:client "romeo@example.org/orchard"
  local service = host:run(host:module("pep").environment.get_pep_service, "romeo")
  local made, refused = 0, 0
  host:run(function()
    for i = 1, 100000 do
      local ok, condition = service:create("urn:" .. i, "romeo@example.org")
      if ok then made = made + 1 elseif condition == "max-nodes-exceeded" then refused = refused + 1 end
    end
  end)
  check.equal({ made, refused }, { 1000, 99000 })
  check.equal(err(publish(romeo, "urn:x", "1")), "wait resource-constraint max-nodes-exceeded")
  check.equal(publish(romeo, "urn:7", "1").attr.type, "result")
  host:close()
end)

check.test("people in the lists of all nodes of an account: ten thousand", function()
  local host = new()
  local romeo = host:client "romeo@example.org/orchard"
  publish(romeo, "urn:last", "1")
  local service = host:run(host:module("pep").environment.get_pep_service, "romeo")
  for n = 1, 10 do
    local list = {}
    for i = 1, 1000 do list[("p%d@far.example"):format(i)] = "member" end
    host:run(service.create, service, "urn:" .. n, "romeo@example.org")
    service.nodes["urn:" .. n].affiliations = list
  end
  check.equal(err(ask(romeo, "set", nil, pubsub([[<affiliations node='urn:last'>
    <affiliation jid='juliet@example.org' affiliation='member'/></affiliations>]], true))), "modify not-acceptable")
  check.equal(err(ask(romeo, "set", nil, pubsub "<subscribe node='urn:last' jid='romeo@example.org'/>")),
    "wait policy-violation too-many-subscriptions")
  host:close()
end)

check.test("an account that is deleted: its nodes and items are gone, and it is in nobody's lists", function()
  local users = require "couplet.users"
  local host = fake.new { plugins = PLUGINS, global = { authentication = "internal_hashed" } }
  for _, name in ipairs { "romeo", "juliet", "nurse" } do
    check.ok(host:run(users.create_user, name, "secret", "example.org"))
  end
  local romeo, juliet = host:client "romeo@example.org/orchard", host:client "juliet@example.org/balcony"
  publish(romeo, "urn:secret", "1", nil, publish_options { access_model = "whitelist", max_items = "5" })
  publish(romeo, "urn:asked", "1", nil, publish_options { access_model = "authorize" })
  publish(romeo, "urn:open", "1", nil, publish_options { access_model = "open" })
  ask(romeo, "set", nil, pubsub([[<affiliations node='urn:secret'><affiliation jid='juliet@example.org' affiliation='member'/>
    <affiliation jid='nurse@example.org' affiliation='member'/></affiliations>]], true))
  for _, node in ipairs { "urn:secret", "urn:asked", "urn:open" } do
    ask(juliet, "set", "romeo@example.org", pubsub("<subscribe node='" .. node .. "' jid='juliet@example.org/balcony'/>"))
  end
  publish(juliet, "urn:n", "1", nil, publish_options { access_model = "open", max_items = "5" })
  publish(juliet, "urn:n", "2")
  host:reload "pep"                                        -- romeo's nodes are not in memory
  check.ok(host:run(users.delete_user, "juliet", "example.org"))
  host:advance(1)
  check.equal(host:run(function() return (host:store("pep", "keyval"):get "juliet") end), nil)
  local left = host:run(function() return host:store("pep_urn:n", "archive"):find "juliet" end)
  check.equal(left and host:run(left), nil)
  check.ok(host:run(users.create_user, "juliet", "another person", "example.org"))
  juliet = host:client "juliet@example.org/balcony"
  check.equal(err(items(juliet, nil, "urn:n")), "cancel item-not-found")
  check.equal(err(items(juliet, "romeo@example.org", "urn:secret")), "auth not-authorized presence-subscription-required")
  check.equal(#ask(juliet, "get", "romeo@example.org", pubsub "<subscriptions/>").tags[1].tags[1].tags, 0)
  check.equal(items(host:client "nurse@example.org/hall", "romeo@example.org", "urn:secret").attr.type, "result")
  for _, node in ipairs { "urn:secret", "urn:asked", "urn:open" } do
    check.ok(not tostring(host:run(host:module("pep").environment.get_pep_service, "romeo").nodes[node].pending):find "juliet")
  end
  host:close()
end)

check.test("a plugin may refuse what is published (pep-publish-item)", function()
  local host = new()
  local romeo = host:client "romeo@example.org/orchard"
  host.events.add_handler("pep-publish-item", function(event)
    if event.node == "urn:bad" then return false end
    event.item.tags[1].attr.seen = event.user
  end)
  check.equal(err(publish(romeo, "urn:bad", "1")), "auth forbidden")
  publish(romeo, "urn:n", "1")
  check.equal(items(romeo, nil, "urn:n"):find("{" .. NS .. "}pubsub/items/item/{urn:tune}tune@seen"), "romeo")
  host:close()
end)

check.test("what is kept survives; what cannot be kept is refused", function()
  local host = new()
  local romeo = host:client "romeo@example.org/orchard"
  publish(romeo, "urn:n", "1", nil, publish_options { access_model = "open" })
  host:reload "pep"
  check.equal(items(romeo, nil, "urn:n"):find("{" .. NS .. "}pubsub/items/item@id"), "1")
  local config = ask(romeo, "get", nil, pubsub("<configure node='urn:n'/>", true))
  for _, model in ipairs { "open", "presence", "roster", "authorize", "whitelist" } do
    check.ok(tostring(config):find("<option[^>]*><value>" .. model .. "</value>"), model)
  end
  check.ok(tostring(config):find "roster_groups_allowed")
  check.ok(tostring(config):find("<value>open</value>", 1, true))
  check.equal(host:close(), {})
end)

check.test("the command that puts right what keeps others from one's keys", function()
  local host = new()
  local romeo = host:client "romeo@example.org/orchard"
  publish(romeo, "eu.siacs.conversations.axolotl.devicelist", "current", nil, publish_options { access_model = "presence" })
  local lines = {}
  local self = { session = { print = function(line) lines[#lines + 1] = line end } }
  local command = host:module "pep":get_host_items "shell-command"[1]
  local ok, text = host:run(command.handler, self, "example.org")
  check.ok(ok)
  check.equal(text, "accounts with nodes looked at: 1, nodes put right: 1")
  check.equal(lines, { "romeo@example.org: eu.siacs.conversations.axolotl.devicelist: presence -> open" })
  check.equal(select(2, host:run(command.handler, self, "romeo@example.org")), "there is no account romeo@example.org")
  check.ok(host:run(require "couplet.users".create_user, "romeo", "secret", "example.org"))
  check.equal(select(2, host:run(command.handler, self, "romeo@example.org")),
    "accounts with nodes looked at: 1, nodes put right: 0")
  check.equal((host:run(command.handler, self, "elsewhere.org")), false)
  host:close()
end)

check.done()
