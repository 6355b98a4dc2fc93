-- SPDX-License-Identifier: MIT
-- RFC 6121 §2: reading and editing the roster.
local check = require "check"
local fixture = require "client_fixture"
local st = require "couplet.stanza"
fixture.option("h.example", "roster_items_max", 5)
fixture.host "h.example"

local NS = "jabber:iq:roster"

local function set(item, id)
  return st.iq { type = "set", id = id or "s" }:query(NS):add_child(item):reset()
end

local function item(jid, attr, groups)
  attr = attr or {}
  attr.jid = jid
  local s = st.stanza("item", attr)
  for _, group in ipairs(groups or {}) do s:text_tag("group", group) end
  return s
end

local function fresh() fixture.reset() return fixture.login("romeo@h.example/orchard", "none") end

check.test("what is set is read back, and pushed to those interested", function()
  local romeo = fresh()
  local other = fixture.login("romeo@h.example/cell", "none")
  local deaf = fixture.connect "romeo@h.example/deaf"
  romeo:send(set(item("juliet@far.example", { name = "Jule" }, { "Friends", "Capulet" })))
  romeo:expect("iq", { type = "result", id = "s" })
  for _, client in ipairs { romeo, other } do
    local push = client:expect("iq", { type = "set", to = client.jid })
    check.ok(push.attr.id)
    local got = push:get_child("query", NS):get_child "item"
    check.equal({ got.attr.jid, got.attr.name, got.attr.subscription, got.attr.ask }, { "juliet@far.example", "Jule", "none" })
    check.ok(push.tags[1].attr.ver)
    client:send(st.reply(push))                                  -- the acknowledgement is nobody's concern
    client:nothing()
  end
  deaf:nothing()
  romeo:send(st.iq { type = "get", id = "g" }:query(NS))
  local got = romeo:expect("iq", { type = "result", id = "g" }):get_child("query", NS):get_child "item"
  local groups = {}
  for g in got:childtags "group" do groups[g:get_text()] = true end
  check.equal(groups, { Friends = true, Capulet = true })
  check.equal(fixture.stored("roster", "romeo", "h.example")["juliet@far.example"].groups, groups)
end)

check.test("an update keeps the subscription; the client's words about it are ignored", function()
  local romeo = fresh()
  romeo:send(set(item("juliet@far.example", { subscription = "both", ask = "subscribe", approved = "true" })))
  local push = romeo:expect("iq", { type = "set" })
  check.equal(push.tags[1].tags[1].attr.subscription, "none")
  check.equal(push.tags[1].tags[1].attr.ask, nil)
  check.equal(push.tags[1].tags[1].attr.approved, nil)
  romeo.session.roster["juliet@far.example"].subscription = "to"
  romeo:send(set(item("juliet@far.example", { name = "J" })))
  check.equal(romeo:expect("iq", { type = "set" }).tags[1].tags[1].attr.subscription, "to")
end)

check.test("errors of §2.3.3", function()
  local romeo = fresh()
  local two = st.iq { type = "set", id = "s" }:query(NS):add_child(item "a@far.example"):add_child(item "b@far.example"):reset()
  local rows = {
    { two, "bad-request" },
    { st.iq { type = "set", id = "s" }:query(NS):reset(), "bad-request" },
    { set(st.stanza "item"), "bad-request" },
    { set(item "@@"), "bad-request" },
    { set(item "a@far.example/resource"), "bad-request" },
    { set(st.stanza("thing", { jid = "a@far.example" })), "bad-request" },
    { set(item("a@far.example", nil, { "X", "X" })), "bad-request" },
    { set(item("a@far.example", nil, { "" })), "not-acceptable" },
    { set(item("a@far.example", nil, { ("x"):rep(1024) })), "not-acceptable" },
    { set(item("a@far.example", { name = ("x"):rep(1024) })), "not-acceptable" },
    { set(item "romeo@h.example"), "not-allowed" },
    { set(item("nobody@far.example", { subscription = "remove" })), "item-not-found" },
  }
  for i, row in ipairs(rows) do
    romeo:send(row[1])
    check.equal(select(2, romeo:expect("iq", { type = "error", id = "s" }):get_error()), row[2], "row " .. i)
    romeo:nothing()
  end
  for i = 1, 6 do romeo:send(set(item(("c%d@far.example"):format(i)), "n" .. i)) end
  check.equal(select(2, romeo:expect("iq", { type = "error", id = "n6" }):get_error()), "resource-constraint")
end)

check.test("somebody else's roster is forbidden", function()
  local romeo = fresh()
  fixture.login "juliet@h.example/balcony"
  for _, to in ipairs { "juliet@h.example", "nobody@h.example" } do
    for _, type in ipairs { "get", "set" } do
      romeo:send(st.iq { type = type, id = "f", to = to }:query(NS):add_child(item "a@far.example"):reset())
      check.equal({ romeo:expect("iq", { type = "error", id = "f" }):get_error() }, { "auth", "forbidden" })
    end
  end
end)

check.test("versions: nothing is sent to a client that has it all (§2.6)", function()
  local romeo = fresh()
  romeo:send(set(item "juliet@far.example"))
  romeo:got()
  romeo:send(st.iq { type = "get", id = "1" }:tag("query", { xmlns = NS, ver = "" }):reset())
  local first = romeo:expect("iq", { id = "1" })
  local ver = check.ok(first.tags[1].attr.ver)
  romeo:send(st.iq { type = "get", id = "2" }:tag("query", { xmlns = NS, ver = ver }):reset())
  check.equal(#romeo:expect("iq", { id = "2", type = "result" }).tags, 0)
  romeo:send(set(item "tybalt@far.example"))
  local push = romeo:expect("iq", { type = "set" })
  check.ok(push.tags[1].attr.ver ~= ver)
  romeo:got()
  romeo:send(st.iq { type = "get", id = "3" }:tag("query", { xmlns = NS, ver = ver }):reset())
  local all = romeo:expect("iq", { id = "3", type = "result" })
  check.equal(#all.tags[1].tags, 2)
  check.equal(all.tags[1].attr.ver, push.tags[1].attr.ver)
  romeo:send(st.iq { type = "get", id = "4" }:query(NS):reset())
  check.equal(romeo:expect("iq", { id = "4" }).tags[1].attr.ver, nil)
end)

check.test("removal ends subscriptions both ways (§2.5.2)", function()
  local romeo, juliet = fresh(), fixture.login "juliet@h.example/balcony"
  romeo:send(st.presence())
  romeo:send(st.presence { type = "subscribe", to = "juliet@h.example" })
  juliet:send(st.presence { type = "subscribed", to = "romeo@h.example" })
  juliet:send(st.presence { type = "subscribe", to = "romeo@h.example" })
  romeo:send(st.presence { type = "subscribed", to = "juliet@h.example" })
  check.equal(romeo.session.roster["juliet@h.example"].subscription, "both")
  romeo:got() juliet:got()
  romeo:send(set(item("juliet@h.example", { subscription = "remove" })))
  romeo:expect("iq", { type = "result" })
  check.equal(romeo:expect("iq", { type = "set" }).tags[1].tags[1].attr.subscription, "remove")
  juliet:expect("presence", { type = "unsubscribe", from = "romeo@h.example" })
  juliet:expect("presence", { type = "unsubscribed", from = "romeo@h.example" })
  juliet:expect("presence", { type = "unavailable", from = romeo.jid })
  check.equal(juliet.session.roster["romeo@h.example"].subscription, "none")
  check.equal(romeo.session.roster["juliet@h.example"], nil)
  romeo:expect("presence", { type = "unavailable", from = juliet.jid })
end)

check.test("a store that fails changes nothing and says so", function()
  local romeo = fresh()
  romeo:send(set(item("juliet@far.example", { name = "before" })))
  romeo:got()
  fixture.fail "roster"
  for _, it in ipairs { item("juliet@far.example", { name = "after" }), item("new@far.example"),
    item("juliet@far.example", { subscription = "remove" }) } do
    romeo:send(set(it, "x"))
    check.equal({ romeo:expect("iq", { type = "error", id = "x" }):get_error() },
      { "wait", "resource-constraint", "the disk is full" })
    romeo:nothing()
  end
  fixture.fail(nil)
  check.equal(romeo.session.roster["juliet@far.example"].name, "before")
  check.equal(romeo.session.roster["new@far.example"], nil)
  romeo:lose()
  fixture.fail "roster"
  require "couplet.roster".forget "romeo@h.example"
  local client, kind, condition = fixture.connect "romeo@h.example/again"
  check.equal({ client, kind, condition }, { nil, "wait", "resource-constraint" })
  fixture.fail(nil)
end)

check.done()
