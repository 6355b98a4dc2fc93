-- SPDX-License-Identifier: MIT
-- XEP-0060, sentence by sentence: what a service MUST and SHOULD answer. Rows name the section.

local check = require "check"
local fake = require "fakehost"
local plugin = require "couplet.plugin"
local pubsub = require "pubsub_fixture"

local NS, SERVICE, ask, result, field = pubsub.NS, pubsub.SERVICE, pubsub.ask, pubsub.result, pubsub.field
local FORM = "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>" .. NS .. "#%s</value></field>%s</x>"

local function create(node, fields)
  return ("<create node='%s'/><configure>%s</configure>"):format(node, FORM:format("node_config", fields or ""))
end
local function item(id, payload)
  return ("<item%s>%s</item>"):format(id and " id='" .. id .. "'" or "", payload or "<x xmlns='urn:x'/>")
end
local function publish(node, what) return ("<publish node='%s'>%s</publish>"):format(node, what) end
local function subscribe(node, who) return ("<subscribe node='%s' jid='%s@example.org'/>"):format(node, who) end
local function affiliate(node, ...)
  local out = {}
  for i, who in ipairs { ... } do
    if i % 2 == 1 then
      local value = select(i + 1, ...)
      out[#out + 1] = ("<affiliation jid='%s@example.org'%s/>"):format(who, value and " affiliation='" .. value .. "'" or "")
    end
  end
  return ("<affiliations node='%s'>%s</affiliations>"):format(node, table.concat(out))
end

-- The people of a node "n" by their affiliation; "some" is nobody's; nodes of other kinds.
local function cast(options)
  options = options or { pubsub_create = "local" }
  local host, who = fake.new { plugins = { "iq", "presence", "message", "disco" } }, {}
  host:component(SERVICE, "pubsub", options)
  host:run(function() assert(plugin.load(SERVICE, "iq")) end)
  for _, name in ipairs { "owner", "publisher", "only", "member", "outcast", "some", "other" } do
    who[name] = host:client(name .. "@example.org/home")
    who[name]:send "<presence/>"
  end
  for node, fields in pairs {
    n = "", closed = field("access_model", "whitelist"), asked = field("access_model", "authorize"),
    bell = field("persist_items", "0") .. field("deliver_payloads", "0"), ring = field("persist_items", "0"),
    silent = field("deliver_payloads", "0"), still = field("subscribe", "0"),
    full = field("max_items", "1") .. field("publish_node_full", "reject"),
  } do
    check.equal(result(ask(who.owner, "set", create(node, fields))), "ok", node)
  end
  for _, node in ipairs { "n", "closed", "asked" } do
    ask(who.owner, "set", affiliate(node, "publisher", "publisher", "only", "publish-only", "member", "member",
      "outcast", "outcast"), true)
    ask(who.owner, "set", publish(node, item "1"))
  end
  ask(who.publisher, "set", publish("n", item "2"))
  ask(who.only, "set", publish("n", item "3"))
  ask(who.owner, "set", publish("full", item "1"))
  ask(who.some, "set", subscribe("asked", "some"))
  for _, client in pairs(who) do client:received() end
  return host, who
end

local function heard(host, client)
  host:advance(0)
  local out = {}
  for _, stanza in ipairs(client:received()) do
    local what = stanza.name == "message" and stanza:find("{" .. NS .. "#event}event")
    what = what and what.tags[1]
    if what then
      local inside = what.tags[1]
      out[#out + 1] = ("%s %s%s"):format(what.attr.node, what.attr.subscription or (inside or what).name,
        inside and inside.attr.id and " " .. inside.attr.id or "")
    end
  end
  table.sort(out)
  return out
end

local FORBIDDEN, NOT_FOUND, BAD = "auth forbidden", "cancel item-not-found", "modify bad-request"
local NODE, CLOSED = BAD .. " nodeid-required", "cancel not-allowed closed-node"
local NOT_SUBSCRIBED = "auth not-authorized not-subscribed"
local function lacks(feature) return "cancel feature-not-implemented unsupported " .. feature end

local rows = {
  -- section, who, type, request, answer, owner's namespace
  { "4.1", "member", "get", "<items node='n'/>", "ok" },
  { "4.1", "only", "get", "<items node='n'/>", FORBIDDEN },
  { "4.1", "only", "set", subscribe("n", "only"), FORBIDDEN },
  { "4.1", "outcast", "set", subscribe("n", "outcast"), FORBIDDEN },
  { "4.1", "member", "set", publish("n", item "9"), FORBIDDEN },
  { "4.1", "only", "set", publish("n", item "9"), "ok" },
  { "4.1", "publisher", "set", "<purge node='n'/>", FORBIDDEN, true },
  { "4.1", "owner", "set", affiliate("n", "some", "outcast", "other", "member"), "ok", true },
  { "4.1", "owner", "set", affiliate("n", "publisher", "outcast"), "ok", true },
  { "4.1", "owner", "set", affiliate("n", "publisher", "owner"), "ok", true },
  { "4.1", "owner", "set", affiliate("n", "publisher", "member"), "modify not-acceptable", true },       -- the chart has no way
  { "4.5", "member", "get", "<items node='closed'/>", "ok" },
  { "4.5", "owner", "get", "<items node='closed'/>", "ok" },
  { "5.3", "some", "get", "<query xmlns='http://jabber.org/protocol/disco#info' node='n'/>", "ok" },
  { "5.3", "some", "get", "<query xmlns='http://jabber.org/protocol/disco#info' node='none'/>", NOT_FOUND },
  { "5.3", "some", "get", "<query xmlns='http://jabber.org/protocol/disco#info' node='closed'/>", NOT_FOUND },
  { "5.6", "other", "get", "<subscriptions/>", "ok" },
  { "5.6", "other", "get", "<subscriptions node='none'/>", NOT_FOUND },
  { "5.7", "other", "get", "<affiliations/>", "ok" },
  { "6.1.1", "some", "set", subscribe("n", "some") .. subscribe("closed", "some"), BAD },
  { "6.1.1", "some", "set", "<subscribe jid='some@example.org'/>", NODE },
  { "6.1.1", "some", "set", "<subscribe node='n'/>", BAD .. " jid-required" },
  { "6.1.3.1", "some", "set", subscribe("n", "other"), BAD .. " invalid-jid" },
  { "6.1.3.1", "owner", "set", subscribe("n", "other"), "ok" },
  { "6.1.3.4", "some", "set", subscribe("closed", "some"), CLOSED },
  { "6.1.3.7", "some", "set", subscribe("asked", "some"), "auth not-authorized pending-subscription" },
  { "6.1.3.8", "outcast", "set", subscribe("asked", "outcast"), FORBIDDEN },
  { "6.1.3.10", "some", "set", subscribe("still", "some"), lacks "subscribe" },
  { "6.1.3.12", "some", "set", subscribe("none", "some"), NOT_FOUND },
  { "6.1.6", "some", "set", subscribe("n", "some"), "ok" },
  { "6.2.3.2", "some", "set", "<unsubscribe node='n' jid='some@example.org'/>", "cancel unexpected-request not-subscribed" },
  { "6.2.3.3", "some", "set", "<unsubscribe node='n' jid='other@example.org'/>", FORBIDDEN },
  { "6.2.3.4", "some", "set", "<unsubscribe node='none' jid='some@example.org'/>", NOT_FOUND },
  { "6.2.3.5", "some", "set", "<unsubscribe node='asked' jid='some@example.org' subid='1'/>", "ok" },
  { "6.3.4.1", "some", "get", "<options node='n' jid='other@example.org'/>", FORBIDDEN },
  { "6.3.4.2", "some", "get", "<options node='n' jid='some@example.org'/>", "cancel unexpected-request not-subscribed" },
  { "6.3.4.3", "some", "get", "<options node='n'/>", BAD .. " jid-required" },
  { "6.3.4.7", "some", "get", "<options node='none' jid='some@example.org'/>", NOT_FOUND },
  { "6.3.6.2", "some", "set", "<options node='asked' jid='some@example.org'>"
    .. FORM:format("subscribe_options", field("deliver", "perhaps")) .. "</options>", BAD .. " invalid-options" },
  { "6.3.7", "some", "set", subscribe("n", "some") .. "<options node='n'>" .. FORM:format("subscribe_options", "")
    .. "</options>", BAD },
  { "6.3.7", "some", "set", "<options>" .. FORM:format("subscribe_options", "") .. "</options>" .. subscribe("n", "some"), BAD },
  { "6.4", "some", "get", "<default/>", "ok" },
  { "6.4", "some", "get", "<default node='n'/>", "ok" },
  { "6.4", "some", "get", "<default node='none'/>", NOT_FOUND },
  { "6.5.1", "publisher", "get", "<items node='closed'/>", "ok" },
  { "6.5.9.3", "other", "get", "<items node='asked'/>", NOT_SUBSCRIBED },
  { "6.5.9.3", "some", "get", "<items node='asked'/>", NOT_SUBSCRIBED },                       -- pending is not enough
  { "6.5.9.4", "some", "get", "<items node='bell'/>", lacks "persistent-items" },
  { "6.5.9.8", "some", "get", "<items node='closed'/>", CLOSED },
  { "6.5.9.10", "outcast", "get", "<items node='n'/>", FORBIDDEN },
  { "6.5.9.11", "some", "get", "<items node='none'/>", NOT_FOUND },
  { "6.5.9.12", "some", "get", "<items node='n'><item id='none'/></items>", "ok" },
  { "6.5.9.12", "owner", "get", "<items node='silent'/>", "ok" },
  { "7.1.1", "owner", "set", "<publish>" .. item "9" .. "</publish>", NODE },
  { "7.1.1", "owner", "set", publish("n", item "8" .. item "9"), BAD },
  { "7.1.1", "owner", "set", publish("n", item "8") .. publish("n", item "9"), BAD },
  { "7.1.1", "owner", "set", publish("n", item "8") .. "<configure>" .. FORM:format("node_config", "") .. "</configure>", "ok" },
  { "7.1.5", "owner", "set", publish("n", item "8") .. ("<publish-options>" .. FORM:format("publish-options", "")
    .. "</publish-options>"):rep(2), BAD },
  { "7.1.3", "owner", "set", publish("n", item "1"), "ok" },                                     -- the same id again
  { "7.1.3.1", "some", "set", publish("n", item "9"), FORBIDDEN },
  { "7.1.3.3", "owner", "set", publish("none", item "9"), NOT_FOUND },
  { "7.1.3.4", "owner", "set", publish("full", item "9"), "cancel conflict node-full" },
  { "7.1.3.4", "owner", "set", publish("full", item "1"), "ok" },
  { "7.1.3.5", "owner", "set", publish("n", item("9", "<x xmlns='u'>" .. ("y"):rep(300000) .. "</x>")),
    "modify not-acceptable payload-too-big" },
  { "7.1.3.6", "owner", "set", publish("n", item("9", "<x xmlns='u'/><y xmlns='u'/>")), BAD .. " invalid-payload" },
  { "7.1.3.7", "owner", "set", publish("n", item(nil)), "ok" },
  { "7.1.3.7", "owner", "set", publish("n", ""), BAD .. " item-required" },
  { "7.1.3.7", "owner", "set", publish("silent", ""), BAD .. " item-required" },
  { "7.1.3.7", "owner", "set", publish("silent", item("9", "")), "ok" },
  { "7.1.3.7", "owner", "set", publish("n", item("9", "")), BAD .. " payload-required" },
  { "7.1.3.7", "owner", "set", publish("ring", ""), BAD .. " payload-required" },
  { "7.1.3.7", "owner", "set", publish("ring", item("9", "")), BAD .. " payload-required" },
  { "7.1.3.7", "owner", "set", publish("bell", item "9"), BAD .. " item-forbidden" },
  { "7.1.3.7", "owner", "set", publish("bell", ""), "ok" },
  { "7.1.5", "owner", "set", publish("n", item "9") .. "<publish-options/>", BAD },
  { "7.1.5", "owner", "set", publish("n", item "9") .. "<publish-options>" .. FORM:format("publish-options",
    field("access_model", "whitelist")) .. "</publish-options>", "cancel conflict precondition-not-met" },
  { "7.1.5", "owner", "set", publish("n", item "9") .. "<publish-options>" .. FORM:format("publish-options",
    field("strange", "1")) .. "</publish-options>", "cancel conflict precondition-not-met" },
  { "7.2.1", "owner", "set", "<retract node='n'><item id='1'/><item id='2'/></retract>", BAD },
  { "7.2.3.1", "some", "set", "<retract node='n'><item id='1'/></retract>", FORBIDDEN },
  { "7.2.3.1", "only", "set", "<retract node='n'><item id='1'/></retract>", FORBIDDEN },
  { "7.2.3.1", "only", "set", "<retract node='n'><item id='3'/></retract>", "ok" },
  { "7.2.3.2", "owner", "set", "<retract node='n'><item id='9'/></retract>", NOT_FOUND },
  { "7.2.3.2", "owner", "set", "<retract node='none'><item id='9'/></retract>", NOT_FOUND },
  { "7.2.3.3", "owner", "set", "<retract><item id='1'/></retract>", NODE },
  { "7.2.3.4", "owner", "set", "<retract node='n'/>", BAD .. " item-required" },
  { "7.2.3.4", "owner", "set", "<retract node='n'><item/></retract>", BAD .. " item-required" },
  { "7.2.3.5", "owner", "set", "<retract node='bell'><item id='1'/></retract>", lacks "persistent-items" },
  { "8.1.1", "owner", "set", "<create node='n'/>", "cancel conflict" },
  { "8.1.1", "owner", "set", "<create/>", "ok" },
  { "8.1.2", "owner", "set", create("m", field("access_model", "presence")), "modify not-acceptable unsupported-access-model" },
  { "8.1.2", "owner", "set", create("m", field("node_type", "leaf")), "ok" },
  { "8.1.2", "owner", "set", create("m", field("node_type", "collection")), lacks "collections" },
  { "8.1.3", "owner", "set", "<create node='m'/><configure/>", "ok" },
  { "8.1.3", "owner", "set", "<create node='m'/><configure node='m'/>", BAD },
  { "8.1.3", "owner", "set", "<configure/><create node='m'/>", BAD },
  { "8.1.3", "owner", "set", "<create node='m'/><create node='o'/>", BAD },
  { "8.2.3.2", "publisher", "get", "<configure node='n'/>", FORBIDDEN, true },
  { "8.2.3.3", "owner", "get", "<configure/>", NODE, true },
  { "8.2.3.5", "owner", "get", "<configure node='none'/>", NOT_FOUND, true },
  { "8.2.4", "owner", "set", "<configure node='n'><x xmlns='jabber:x:data' type='cancel'/></configure>", "ok", true },
  { "8.2.5.2", "owner", "set", "<configure node='n'>" .. FORM:format("node_config", field("publish_model", "x"))
    .. "</configure>", "modify not-acceptable", true },
  { "8.3", "some", "get", "<default/>", "ok", true },
  { "8.3.2", "some", "get", "<default type='collection'/>", lacks "collections", true },
  { "8.4.3.1", "publisher", "set", "<delete node='n'/>", FORBIDDEN, true },
  { "8.4.3.2", "owner", "set", "<delete node='none'/>", NOT_FOUND, true },
  { "8.4.1", "owner", "set", "<delete node='n'><redirect/></delete>", BAD, true },
  { "8.4.1", "owner", "set", "<delete node='n'><redirect uri='elsewhere'/></delete>", BAD, true },
  { "8.4.1", "owner", "set", "<delete node='n'><redirect uri='xmpp:a b'/></delete>", BAD, true },
  { "8.4.1", "owner", "set", "<delete node='n'><redirect uri='xmpp:" .. ("ä"):rep(600) .. "'/></delete>", BAD, true },
  { "8.4.1", "owner", "set", "<delete node='n'><redirect uri='https://example.org/ä'/></delete>", "ok", true },
  { "8.5.3.2", "publisher", "set", "<purge node='n'/>", FORBIDDEN, true },
  { "8.5.3.3", "owner", "set", "<purge node='bell'/>", lacks "persistent-items", true },
  { "8.5.3.4", "owner", "set", "<purge node='none'/>", NOT_FOUND, true },
  { "8.8.1.3.2", "publisher", "get", "<subscriptions node='n'/>", FORBIDDEN, true },
  { "8.8.1.3.3", "owner", "get", "<subscriptions node='none'/>", NOT_FOUND, true },
  { "8.8.2.1", "owner", "set", "<subscriptions node='n'><subscription jid='some@example.org'/></subscriptions>", "ok", true },
  { "8.8.2.3.2", "some", "set", "<subscriptions node='n'><subscription jid='some@example.org' subscription='subscribed'/>"
    .. "</subscriptions>", FORBIDDEN, true },
  { "8.8.2.3.3", "owner", "set", "<subscriptions node='none'/>", NOT_FOUND, true },
  { "8.8.2.4", "owner", "set", "<subscriptions node='n'><subscription jid='some@example.org' subscription='queen'/>"
    .. "</subscriptions>", "modify not-acceptable", true },
  { "8.9.1.3.2", "publisher", "get", "<affiliations node='n'/>", FORBIDDEN, true },
  { "8.9.1.3.3", "owner", "get", "<affiliations node='none'/>", NOT_FOUND, true },
  { "8.9.2.1", "owner", "set", affiliate("n", "member", nil), "ok", true },
  { "8.9.2.3.3", "publisher", "set", affiliate("n", "some", "member"), FORBIDDEN, true },
  { "8.9.2.3.4", "owner", "set", affiliate("none", "some", "member"), NOT_FOUND, true },
  { "8.9.2.4", "owner", "set", affiliate("n", "owner", "none"), "modify not-acceptable", true },
  { "8.9.2.4", "owner", "set", affiliate("n", "some", "member", "some", "outcast"), BAD, true },
  { "8.9.3", "owner", "set", affiliate("n", "member", "none"), "ok", true },
}

check.test("each request, and the answer its section wants", function()
  local host, who
  for i, row in ipairs(rows) do
    if not host then host, who = cast() end
    local answer = result(ask(who[row[2]], row[3], row[4], row[6]))
    check.equal(("%d §%s %s"):format(i, row[1], answer), ("%d §%s %s"):format(i, row[1], row[5]))
    if answer == "ok" and row[3] == "set" then
      host:close()
      host = nil
    else                                                   -- what is refused changes nothing, and nobody hears of it
      for name, client in pairs(who) do check.equal(#client:received(), 0, i .. " " .. name) end
    end
  end
  if host then host:close() end
end)

local function names(reply, path, ...)
  local out = {}
  for _, tag in ipairs(reply:find(path).tags) do
    local parts = {}
    for _, key in ipairs { ... } do parts[#parts + 1] = tag.attr[key] end
    out[#out + 1] = table.concat(parts, " ")
  end
  table.sort(out)
  return out
end

check.test("§5.6, §5.7, §8.8, §8.9: lists, one's own and those of owners; each change alone, failures with what holds", function()
  local host, who = cast()
  local P, O = "{" .. NS .. "}pubsub/", "{" .. NS .. "#owner}pubsub/"
  ask(who.some, "set", "<subscribe node='n' jid='some@example.org/home'/>")
  check.equal(names(ask(who.some, "get", "<subscriptions/>"), P .. "subscriptions", "node", "jid", "subscription"),
    { "asked some@example.org pending", "n some@example.org/home subscribed" })
  check.equal(names(ask(who.some, "get", "<subscriptions node='n'/>"), P .. "subscriptions", "jid", "subscription"),
    { "some@example.org/home subscribed" })
  check.equal(names(ask(who.other, "get", "<subscriptions/>"), P .. "subscriptions", "node"), {})
  check.equal(names(ask(who.only, "get", "<affiliations/>"), P .. "affiliations", "node", "affiliation"),
    { "asked publish-only", "closed publish-only", "n publish-only" })
  check.equal(names(ask(who.other, "get", "<affiliations/>"), P .. "affiliations", "node"), {})
  check.equal(names(ask(who.owner, "get", "<subscriptions node='asked'/>", true), O .. "subscriptions", "jid"), {})
  check.equal(names(ask(who.owner, "get", "<affiliations node='n'/>", true), O .. "affiliations", "jid", "affiliation"), {
    "member@example.org member", "only@example.org publish-only", "outcast@example.org outcast", "owner@example.org owner",
    "publisher@example.org publisher" })
  local reply = ask(who.owner, "set", affiliate("n", "some", "member", "other", "queen", "owner", "none"), true)
  check.equal(names(reply, O .. "affiliations", "jid", "affiliation"), { "other@example.org none", "owner@example.org owner" })
  check.equal(names(ask(who.some, "get", "<affiliations/>"), P .. "affiliations", "node"), { "n" })
  reply = ask(who.owner, "set", "<subscriptions node='n'><subscription jid='some@example.org/home' subscription='none'/>"
    .. "<subscription jid='other@example.org' subscription='unconfigured'/></subscriptions>", true)
  check.equal(names(reply, O .. "subscriptions", "jid", "subscription"), { "other@example.org none" })
  check.equal(heard(host, who.some), { "n none" })         -- §8.8.4
  host:close()
end)

check.test("§6.1, §8.6, §12.14: news of a subscription are an event; the last item says when it was published", function()
  local host, who = cast()
  ask(who.owner, "set", "<configure node='asked'>" .. FORM:format("node_config", field("send_last_published_item", "on_sub"))
    .. "</configure>", true)
  local function judge(allow, kind)
    who.owner:send(("<message to='%s' id='m'><x xmlns='jabber:x:data' type='%s'><field var='FORM_TYPE'><value>%s"
      .. "#subscribe_authorization</value></field>%s</x></message>"):format(SERVICE, kind or "submit", NS,
      field("node", "asked") .. field("subscriber_jid", "some@example.org") .. field("allow", allow)))
    host:advance(0)
  end
  judge("1", "cancel")
  check.equal(heard(host, who.some), {})
  check.equal(result(ask(who.some, "set", subscribe("asked", "some"))), "auth not-authorized pending-subscription")
  judge "0"
  check.equal(heard(host, who.some), { "asked none" })
  check.equal(ask(who.some, "set", subscribe("asked", "some")):find("{" .. NS .. "}pubsub/subscription@subscription"), "pending")
  check.ok(who.owner:expect(function(s) return tostring(s):find("pubsub#allow", 1, true) ~= nil end))
  judge "true"
  local delayed = 0
  for _, stanza in ipairs(who.some:received()) do
    if stanza:get_child("delay", "urn:xmpp:delay") then delayed = delayed + 1 end
  end
  check.equal(delayed, 1)
  check.equal(result(ask(who.some, "get", "<items node='asked'/>")), "ok")
  host:close()
end)

check.test("§8.7.4: who becomes a member or publisher need not wait any longer, nor does an outcast", function()
  for affiliation, state in pairs { member = "subscribed", publisher = "subscribed", owner = "subscribed", outcast = "none" } do
    local host, who = cast()
    ask(who.owner, "set", affiliate("asked", "some", affiliation), true)
    check.equal(heard(host, who.some), { "asked " .. state })
    check.equal(#ask(who.some, "get", "<subscriptions/>").tags[1].tags[1].tags, state == "none" and 0 or 1)
    host:close()
  end
end)

check.test("§8.7: owners ask which requests wait for them, by a command", function()
  local host, who = cast()
  local PENDING = NS .. "#get-pending"
  local function run(client, inner, more)
    return ask(client, "set", ("<command xmlns='http://jabber.org/protocol/commands' node='%s'%s>%s</command>"):format(PENDING,
      more or "", inner or ""))
  end
  local function chosen(node) return FORM:format("subscribe_authorization", field("node", node)) end
  local function forms(client)
    local out = {}
    host:advance(0)
    for _, stanza in ipairs(client:received()) do
      local x = stanza.name == "message" and stanza:get_child("x", "jabber:x:data")
      for tag in x and x:childtags "field" or function() end do
        if tag.attr.var == "pubsub#subscriber_jid" then out[#out + 1] = stanza.attr.to .. " " .. tag:get_child_text "value" end
      end
    end
    table.sort(out)
    return out
  end
  ask(who.other, "set", subscribe("asked", "other"))
  check.equal(forms(who.owner), { "owner@example.org other@example.org" })
  local reply = run(who.owner, nil, " action='execute'")
  local command = reply.tags[1]
  check.equal({ command.attr.status, command.attr.node }, { "executing", PENDING })
  local options = {}
  for tag in command:get_child("x", "jabber:x:data"):childtags "field" do
    if tag.attr.var == "pubsub#node" then
      check.equal(tag.attr.type, "list-single")
      for option in tag:childtags "option" do options[#options + 1] = option:get_child_text "value" end
    end
  end
  check.equal(options, { "asked" })
  reply = run(who.owner, chosen "asked", (" sessionid='%s'"):format(command.attr.sessionid))
  check.equal({ reply.tags[1].attr.status, reply.tags[1].attr.sessionid }, { "completed", command.attr.sessionid })
  check.equal(forms(who.owner), { "owner@example.org/home other@example.org", "owner@example.org/home some@example.org" })
  for i, row in ipairs {
    { "owner", chosen "none", NOT_FOUND }, { "owner", chosen "n", "ok" }, { "some", nil, FORBIDDEN },
    { "publisher", chosen "asked", FORBIDDEN }, { "owner", "<x xmlns='jabber:x:data' type='submit'/>", BAD },
    { "owner", "<x xmlns='jabber:x:data' type='form'/>", BAD },
  } do check.equal(i .. result(run(who[row[1]], row[2])), i .. row[3]) end
  check.equal(run(who.owner, nil, " action='cancel' sessionid='1'").tags[1].attr.status, "canceled")
  for _, client in pairs(who) do check.equal(forms(client), {}) end
  local function info(node, what)
    return tostring(ask(who.owner, "get", ("<query xmlns='http://jabber.org/protocol/disco#%s' node='%s'/>"):format(what, node)))
  end
  check.ok(info("http://jabber.org/protocol/commands", "items"):find(PENDING, 1, true))
  check.ok(info(PENDING, "info"):find("command-node", 1, true))
  check.equal(result(ask(who.owner, "set", "<command xmlns='http://jabber.org/protocol/commands' node='other'/>")),
    "cancel service-unavailable")
  host:close()
end)

check.test("requests again and again: owners hear of some, and find the others when they look", function()
  local host, who = cast()
  for _ = 1, 20 do
    ask(who.other, "set", subscribe("asked", "other"))
    ask(who.other, "set", "<unsubscribe node='asked' jid='other@example.org'/>")
  end
  ask(who.other, "set", subscribe("asked", "other"))
  check.equal(#who.owner:received(), 5)
  host:advance(600)
  ask(who.other, "set", "<unsubscribe node='asked' jid='other@example.org'/>")
  ask(who.other, "set", subscribe("asked", "other"))
  check.equal(#who.owner:received(), 1)
  host:close()
end)

check.test("§8.4.2: who waits to be allowed hears that the node is gone", function()
  local host, who = cast()
  check.equal(result(ask(who.owner, "set", "<delete node='asked'><redirect uri='xmpp:x@y?;node=z'/></delete>", true)), "ok")
  local got
  for _, stanza in ipairs(who.some:received()) do got = got or stanza:find("{" .. NS .. "#event}event/delete/redirect@uri") end
  check.equal(got, "xmpp:x@y?;node=z")
  host:close()
end)

check.test("§4.3, §7.1.2: what a notification carries, by kind of node; §12.17: who published it", function()
  local host, who = cast()
  for _, node in ipairs { "n", "silent", "ring", "bell" } do ask(who.some, "set", subscribe(node, "some")) end
  local named = FORM:format("node_config", field("itemreply", "publisher"))
  ask(who.owner, "set", "<configure node='n'>" .. named .. "</configure>", true)
  local ids = {}
  local function event()
    host:advance(0)
    local stanza = who.some:expect { name = "message" }
    check.ok(stanza.attr.id and not ids[stanza.attr.id])
    ids[stanza.attr.id] = true
    return stanza:find("{" .. NS .. "#event}event/items")
  end
  ask(who.publisher, "set", publish("n", "<item id='5' publisher='romeo@evil.example'><x xmlns='urn:x'/></item>"))
  local got = event().tags[1]
  check.equal({ got.attr.id, got.attr.publisher, got.tags[1].name }, { "5", "publisher@example.org", "x" })
  got = ask(who.some, "get", "<items node='n'><item id='5'/></items>"):find("{" .. NS .. "}pubsub/items/item")
  check.equal(got.attr.publisher, "publisher@example.org")
  local id = ask(who.owner, "set", publish("silent", item(nil))):find("{" .. NS .. "}pubsub/publish/item@id")
  got = event().tags[1]
  check.equal({ got.attr.id, #got.tags }, { id, 0 })
  ask(who.owner, "set", publish("ring", item "7"))
  check.equal(event().tags[1].tags[1].name, "x")
  ask(who.owner, "set", publish("bell", ""))
  check.equal(#event().tags, 0)
  host:close()
end)

check.test("§5.1, §5.4, §5.5, §10: features that are there, and what is told of a node", function()
  local host, who = cast()
  local info = tostring(ask(who.some, "get", "<query xmlns='http://jabber.org/protocol/disco#info'/>"))
  for _, name in ipairs { "create-and-configure", "publish-options", "subscription-options", "subscription-notifications",
    "publish-node-full", "persistent-items", "multi-items", "outcast-affiliation", "retrieve-default-sub", "instant-nodes" } do
    check.ok(info:find(NS .. "#" .. name .. "'", 1, true), name)
  end
  -- §6.1.7: only where items are sent unasked; §7.1.4: only where nodes come by themselves
  check.ok(not info:find("#last-published'", 1, true) and not info:find("#auto-create'", 1, true))
  -- §5.5
  local list = ask(who.some, "get", "<query xmlns='http://jabber.org/protocol/disco#items' node='n'/>").tags[1]
  check.equal(names(ask(who.some, "get", "<query xmlns='http://jabber.org/protocol/disco#items' node='n'/>"),
    "{http://jabber.org/protocol/disco#items}query", "jid", "name"), { SERVICE .. " 1", SERVICE .. " 2", SERVICE .. " 3" })
  check.equal(list.tags[1].attr.node, nil)
  for _, node in ipairs { "closed", "asked", "none" } do
    check.equal(result(ask(who.some, "get", ("<query xmlns='http://jabber.org/protocol/disco#items' node='%s'/>"):format(node))),
      NOT_FOUND)
  end
  local node = ask(who.some, "get", "<query xmlns='http://jabber.org/protocol/disco#info' node='n'/>")
  local told = {}
  for tag in node.tags[1]:get_child("x", "jabber:x:data"):childtags "field" do told[tag.attr.var] = tag:get_child_text "value" end
  check.equal({ told.FORM_TYPE, told["pubsub#owner"], told["pubsub#creator"], told["pubsub#num_subscribers"] },
    { NS .. "#meta-data", "owner@example.org", "owner@example.org", "0" })
  check.ok(told["pubsub#creation_date"]:find "^%d+%-%d%d%-%d%dT[%d:]+Z$")
  host:close()
end)

check.test("§6.5.4: a list that is not whole says so", function()
  local host, who = cast { pubsub_create = "local", pubsub_max_items = 2000 }
  ask(who.owner, "set", "<configure node='n'>" .. FORM:format("node_config", field("max_items", "max")) .. "</configure>", true)
  local service = plugin.get_module(SERVICE, "pubsub").service
  host:run(function()
    for i = 1, 1005 do
      assert(service:publish("n", true, "i" .. i, require "couplet.stanza".stanza("item"):tag("x", { xmlns = "urn:x" }):reset()))
    end
  end)
  local reply = ask(who.some, "get", "<items node='n'/>")
  check.equal(#reply.tags[1].tags[1].tags, 1000)
  check.equal(reply:find("{" .. NS .. "}pubsub/{http://jabber.org/protocol/rsm}set/last#"), "i1005")
  check.ok(not ask(who.some, "get", "<items node='full'/>"):find("{" .. NS .. "}pubsub/{http://jabber.org/protocol/rsm}set"))
  host:close()
end)

check.test("§12.4: who is gone is no subscriber any more; a server that is away is no reason", function()
  local host, who = cast()
  local function subscribers()
    return #ask(who.owner, "get", "<subscriptions node='n'/>", true).tags[1].tags[1].tags
  end
  local function bounce(client, id, kind, condition)
    client:send(("<message type='error' to='%s' id='%s'><error type='%s'><%s xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
      .. "</error></message>"):format(SERVICE, id, kind, condition))
    host:advance(0)
  end
  ask(who.some, "set", "<subscribe node='n' jid='some@example.org/home'/>")
  ask(who.owner, "set", publish("n", item "5"))
  host:advance(0)
  local id = who.some:expect { name = "message" }.attr.id
  for _, row in ipairs { { "wait", "remote-server-timeout" }, { "cancel", "remote-server-not-found" },
    { "auth", "not-authorized" } } do
    bounce(who.some, id, row[1], row[2])
    check.equal(subscribers(), 1, row[2])
  end
  bounce(who.some, "another", "cancel", "item-not-found")
  bounce(who.other, id, "cancel", "item-not-found")        -- nobody ends what is not his own
  check.equal(subscribers(), 1)
  bounce(who.some, id, "cancel", "item-not-found")
  check.equal(subscribers(), 0)
  host:close()
end)

check.test("§12.8: a text is offered where there is one", function()
  local host, who = cast()
  local function offered(node)
    ask(who.some, "set", subscribe(node, "some"))
    return tostring(ask(who.some, "get", ("<options node='%s' jid='some@example.org'/>"):format(node)))
      :find("pubsub#include_body", 1, true) ~= nil
  end
  check.ok(not offered "n")
  ask(who.owner, "set", publish("n", item("atom", "<entry xmlns='http://www.w3.org/2005/Atom'><title>News</title></entry>")))
  check.ok(offered "n")
  ask(who.owner, "set", create("typed", field("type", "http://www.w3.org/2005/Atom")))
  check.ok(offered "typed")
  check.equal(result(ask(who.some, "set", "<options node='n' jid='some@example.org'>"
    .. FORM:format("subscribe_options", field("include_body", "1")) .. "</options>")), "ok")
  who.some:received()
  ask(who.owner, "set", publish("n", item("2", "<entry xmlns='http://www.w3.org/2005/Atom'><title>More</title></entry>")))
  host:advance(0)
  check.equal(who.some:expect { name = "message" }:get_child_text "body", "More")
  host:close()
end)

check.done()
