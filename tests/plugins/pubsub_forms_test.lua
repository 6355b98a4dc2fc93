-- SPDX-License-Identifier: MIT
-- The forms of publish-subscribe with fields that are missing, doubled, unknown or nonsense (XEP-0004, XEP-0060 §16.4).

local check = require "check"
local fake = require "fakehost"
local plugin = require "couplet.plugin"
local pubsub = require "pubsub_fixture"

local NS, SERVICE, ask, result, f = pubsub.NS, pubsub.SERVICE, pubsub.ask, pubsub.result, pubsub.field

local function new()
  local host = fake.new { plugins = { "iq", "presence", "message", "disco" } }
  host:component(SERVICE, "pubsub", { pubsub_create = "local" })
  host:run(function() assert(plugin.load(SERVICE, "iq")) end)
  local romeo, juliet = host:client "romeo@example.org/orchard", host:client "juliet@example.org/balcony"
  romeo:send "<presence/>"
  juliet:send "<presence/>"
  romeo:received()
  juliet:received()
  return host, romeo, juliet
end

local function x(fields, kind, type)
  local head = kind and "<field var='FORM_TYPE' type='hidden'><value>" .. NS .. "#" .. kind .. "</value></field>" or ""
  return ("<x xmlns='jabber:x:data'%s>%s%s</x>"):format(type == "" and "" or " type='" .. (type or "submit") .. "'", head, fields)
end

local BAD, NO = "modify bad-request", "modify not-acceptable"
local MODEL, OPTIONS = NO .. " unsupported-access-model", BAD .. " invalid-options"
local UNMET = "cancel conflict precondition-not-met"
local LONG = ("x"):rep(3000)

-- fields, then what each of the three uses of the configuration says: configured, created, as preconditions of the node as it is
-- (title "n", open, publishers). What is accepted as a configuration may still not be what the node has.
local rows = {
  { "", "ok", "ok", "ok" },                                                                       -- nothing asked for
  { f("title", "n"), "ok", "ok", "ok" },
  { f("title", "other"), "ok", "ok", UNMET },
  { f("title", ""), "ok", "ok", UNMET },
  { f "title", "ok", "ok", "ok" },                                                                -- no value: as it is
  { f("title", "n") .. f("access_model", "open") .. f("publish_model", "publishers"), "ok", "ok", "ok" },
  { f("title", "n") .. f("title", "n"), BAD, BAD, BAD },
  { f("access_model", "open") .. f("access_model", "whitelist"), BAD, BAD, BAD },
  { f("access_model", "open", "whitelist"), BAD, BAD, BAD },
  { f("access_model", "strange"), MODEL, MODEL, MODEL },
  { f("access_model", ""), MODEL, MODEL, MODEL },
  { f("access_model", "presence"), MODEL, MODEL, UNMET },
  { f("strange", "1"), "ok", "ok", UNMET },
  { f("strange", "1") .. f("strange", "2"), BAD, BAD, BAD },
  { "<field var='x-own'><value>1</value></field>", "ok", "ok", UNMET },
  { "<field><value>1</value></field>", "ok", "ok", UNMET },
  { "<field var='title'><value>n</value></field>", "ok", "ok", UNMET },                           -- not pubsub#title
  { "<strange/>", "ok", "ok", "ok" },
  { f("title", LONG), NO, NO, NO },
  { f("contact", "romeo@example.org", "juliet@example.org"), "ok", "ok", UNMET },
  { f("contact", "@@"), NO, NO, NO },
  { f("contact", "a@" .. LONG), NO, NO, NO },
  { f("persist_items", "1"), "ok", "ok", "ok" },
  { f("persist_items", "true"), "ok", "ok", "ok" },
  { f("persist_items", "TRUE"), NO, NO, NO },
  { f("persist_items", "2"), NO, NO, NO },
  { f("max_items", "20"), "ok", "ok", "ok" },
  { f("max_items", "max"), "ok", "ok", UNMET },
  { f("max_items", "257"), NO, NO, UNMET },
  { f("max_items", "-1"), NO, NO, NO },
  { f("max_items", "1.5"), NO, NO, NO },
  { f("max_items", "0x10"), NO, NO, NO },
  { f("max_items", "1e3"), NO, NO, NO },
  { f("max_items", ("9"):rep(400)), NO, NO, NO },
  { f("max_payload_size", "0"), NO, NO, NO },
  { f("max_payload_size", "300000"), NO, NO, UNMET },
  { f("item_expire", "max"), "ok", "ok", UNMET },
  { f("item_expire", "soon"), NO, NO, NO },
  { f("publish_model", "everybody"), NO, NO, NO },
  { f("publish_node_full", "discard-oldest"), "ok", "ok", UNMET },
  { f("send_last_published_item", "sometimes"), NO, NO, NO },
  { f("notification_type", "chat"), NO, NO, NO },
  { f("itemreply", "none"), "ok", "ok", UNMET },
  { f("node_type", "leaf"), "ok", "ok", "ok" },
  { f("node_type", "collection"), "cancel feature-not-implemented unsupported collections",
    "cancel feature-not-implemented unsupported collections", "cancel feature-not-implemented unsupported collections" },
  { f("roster_groups_allowed", "a", "b"), "ok", "ok", UNMET },
  { f("roster_groups_allowed", LONG), NO, NO, NO },
}

local function uses(form_of)
  return {
    { "<configure node='n'>" .. form_of "node_config" .. "</configure>", true },
    { "<create node='m'/><configure>" .. form_of "node_config" .. "</configure>" },
    { "<publish node='n'><item id='2'><x xmlns='u'/></item></publish><publish-options>" .. form_of "publish-options"
      .. "</publish-options>" },
  }
end

check.test("node configuration: set, at creation, as preconditions of an item", function()
  local host, romeo
  for i, row in ipairs(rows) do
    for n, request in ipairs(uses(function(kind) return x(row[1], kind) end)) do
      if not host then
        host, romeo = new()
        ask(romeo, "set", "<create node='n'/><configure>" .. x(f("title", "n"), "node_config") .. "</configure>")
      end
      local before = tostring(ask(romeo, "get", "<configure node='n'/>", true).tags[1])
      local where = ("row %d, use %d: "):format(i, n)
      local answer = result(ask(romeo, "set", request[1], request[2]))
      check.equal(where .. answer, where .. row[n + 1])
      if answer == "ok" then
        host:close()
        host = nil
      else
        check.equal(tostring(ask(romeo, "get", "<configure node='n'/>", true).tags[1]), before, where)
        check.equal(result(ask(romeo, "get", "<configure node='m'/>", true)), "cancel item-not-found", where)
        check.equal(#ask(romeo, "get", "<items node='n'/>").tags[1].tags[1].tags, 0, where)
      end
    end
  end
  if host then host:close() end
end)

check.test("what is no form of that kind", function()
  local host, romeo = new()
  ask(romeo, "set", "<create node='n'/>")
  for i, row in ipairs {
    -- configured, created, preconditions
    { "", BAD, "ok", BAD },
    { x("", "node_config", "form"), BAD, BAD, BAD },
    { x("", "node_config", "result"), BAD, BAD, BAD },
    { x("", "node_config", ""), BAD, BAD, BAD },
    { x("", "meta-data"), BAD, BAD, BAD },
    { x("", "subscribe_options"), BAD, BAD, BAD },
    { x(f("title", "t")), "ok", "ok", BAD },                                          -- FORM_TYPE may be left out but there
    { x("", "node_config") .. x("", "node_config"), "ok", "ok", BAD },
    { "<x xmlns='urn:other'/>", BAD, "ok", BAD },
  } do
    for n, request in ipairs(uses(function() return row[1] end)) do
      local where = ("row %d, use %d: "):format(i, n)
      check.equal(where .. result(ask(romeo, "set", request[1], request[2])), where .. row[n + 1])
    end
    ask(romeo, "set", "<delete node='m'/>", true)
  end
  host:close()
end)

check.test("options of a subscription: along with it and later", function()
  local host, romeo, juliet = new()
  ask(romeo, "set", "<create node='n'/>")
  for i, row in ipairs {
    { x("", "subscribe_options"), "ok" },
    { x(f("deliver", "0"), "subscribe_options"), "ok" },
    { x(f("deliver", "0")), "ok" },
    { x(f("strange", "0"), "subscribe_options"), "ok" },
    { x(f "deliver", "subscribe_options"), "ok" },
    { x(f("deliver", "0") .. f("deliver", "1"), "subscribe_options"), OPTIONS },
    { x(f("deliver", "0", "1"), "subscribe_options"), OPTIONS },
    { x(f("deliver", "never"), "subscribe_options"), OPTIONS },
    { x(f("include_body", "2"), "subscribe_options"), OPTIONS },
    { x(f("deliver", "1"), "node_config"), OPTIONS },
    { x(f("deliver", "1"), "subscribe_options", "form"), OPTIONS },
    { x(f("deliver", "1"), "subscribe_options", "cancel"), OPTIONS },
    { "", OPTIONS },
  } do
    local where = ("row %d: "):format(i)
    check.equal(where .. result(ask(juliet, "set", "<subscribe node='n' jid='juliet@example.org'/><options>" .. row[1]
      .. "</options>")), where .. row[2])
    check.equal(#ask(juliet, "get", "<subscriptions/>").tags[1].tags[1].tags, row[2] == "ok" and 1 or 0, where)
    ask(juliet, "set", "<subscribe node='n' jid='juliet@example.org'/>")
    check.equal(where .. result(ask(juliet, "set", "<options node='n' jid='juliet@example.org'>" .. row[1] .. "</options>")),
      where .. row[2])
    ask(juliet, "set", "<unsubscribe node='n' jid='juliet@example.org'/>")
  end
  host:close()
end)

check.test("an owner's judgement: what cannot be meant changes nothing", function()
  local host, romeo, juliet = new()
  ask(romeo, "set", "<create node='n'/><configure>" .. x(f("access_model", "authorize"), "node_config") .. "</configure>")
  ask(juliet, "set", "<subscribe node='n' jid='juliet@example.org'/>")
  local KIND = "subscribe_authorization"
  local function judge(client, form)
    client:send(("<message to='%s'>%s</message>"):format(SERVICE, form))
    host:advance(0)
    return ask(juliet, "get", "<subscriptions/>"):find("{" .. NS .. "}pubsub/subscriptions/subscription@subscription") or "none"
  end
  local node, who, allow = f("node", "n"), f("subscriber_jid", "juliet@example.org"), f("allow", "1")
  for i, row in ipairs {
    { x(node .. who, KIND) }, { x(node .. allow, KIND) }, { x(who .. allow, KIND) }, { x("", KIND) },
    { x(node .. who .. f "allow", KIND) }, { x(node .. who .. f("allow", "yes"), KIND) },
    { x(node .. who .. allow .. f("allow", "0"), KIND) }, { x(node .. who .. f("allow", "1", "0"), KIND) },
    { x(node .. f("node", "m") .. who .. allow, KIND) }, { x(node .. f("subscriber_jid", "@@") .. allow, KIND) },
    { x(node .. f("subscriber_jid", "nobody@example.org") .. allow, KIND) },
    { x(f("node", "gone") .. who .. allow, KIND) }, { x(f("node", "") .. who .. allow, KIND) },
    { x(node .. who .. allow, KIND, "form") }, { x(node .. who .. allow, KIND, "cancel") },
    { x(node .. who .. allow, KIND, "result") },
    { x(node .. who .. allow, "node_config") }, { x(node .. who .. allow) },
    { x(node .. who .. allow, KIND), juliet },                                        -- she may not herself
  } do check.equal(i .. judge(row[2] or romeo, row[1]), i .. "pending") end
  juliet:received()
  check.equal(judge(romeo, x(node .. who .. allow .. f("strange", "1"), KIND)), "subscribed")
  check.equal(judge(romeo, x(node .. who .. f("allow", "0"), KIND)), "subscribed")     -- it was judged already
  check.equal(result(ask(romeo, "set", "<delete node='n'/>", true)), "ok")
  check.equal(judge(romeo, x(node .. who .. allow, KIND)), "none")                     -- the node is gone
  check.equal(host:close(), {})
end)

check.done()
