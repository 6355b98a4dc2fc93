-- SPDX-License-Identifier: MIT
-- XEP-0049, and vcard-temp (XEP-0054), which is kept much the same way.

local check = require "check"
local fake = require "fakehost"
local st = require "couplet.stanza"

local function iq(client, type, to, child)
  client:send(st.iq{ type = type, id = "p", to = to }:add_child(child))
  return client:expect{ name = "iq", id = "p" }
end

local function query(child)
  local q = st.stanza("query", { xmlns = "jabber:iq:private" })
  return child and q:add_child(child) or q
end

local function condition(reply) return select(2, reply:get_error()) end

check.test("what was set is got; what was not is empty; an empty element removes", function()
  local host = fake.new{ plugins = { "iq", "private" } }
  local romeo = host:client "romeo@example.org/orchard"
  local note = st.stanza("exodus", { xmlns = "exodus:prefs" }):text_tag("defaultnick", "Hamlet")
  check.equal(iq(romeo, "set", nil, query(note)).attr.type, "result")
  local got = iq(romeo, "get", nil, query(st.stanza("exodus", { xmlns = "exodus:prefs" })))
  check.equal(got:find "{jabber:iq:private}query/{exodus:prefs}exodus/defaultnick#", "Hamlet")
  got = iq(romeo, "get", nil, query(st.stanza("other", { xmlns = "exodus:prefs" })))
  check.equal(#got:find "{jabber:iq:private}query/{exodus:prefs}other", 0)
  iq(romeo, "set", nil, query(st.stanza("exodus", { xmlns = "exodus:prefs" })))
  got = iq(romeo, "get", nil, query(st.stanza("exodus", { xmlns = "exodus:prefs" })))
  check.equal(#got:find "{jabber:iq:private}query/{exodus:prefs}exodus", 0)
  host:close()
end)

check.test("bad requests and limits", function()
  local host = fake.new{ plugins = { "iq", "private" }, options = { private_max_element_size = 1024, private_max_elements = 2 } }
  local romeo = host:client "romeo@example.org/orchard"
  check.equal(condition(iq(romeo, "set", nil, query())), "bad-request")
  check.equal(condition(iq(romeo, "set", nil, query(st.stanza "bare"))), "not-acceptable")
  check.equal(condition(iq(romeo, "set", nil,
    query(st.stanza("a", { xmlns = "u:a" })):add_child(st.stanza("b", { xmlns = "u:b" })))), "not-acceptable")
  check.equal(condition(iq(romeo, "set", nil, query(st.stanza("big", { xmlns = "u:big" }):text(("x"):rep(2000))))),
    "not-acceptable")
  for i = 1, 2 do iq(romeo, "set", nil, query(st.stanza("a", { xmlns = "u:" .. i }):text "x")) end
  check.equal(condition(iq(romeo, "set", nil, query(st.stanza("a", { xmlns = "u:3" }):text "x"))), "resource-constraint")
  check.equal(iq(romeo, "set", nil, query(st.stanza("a", { xmlns = "u:2" }):text "y")).attr.type, "result")
  host:close()
end)

check.test("nobody reads another's drawer", function()
  local host = fake.new{ plugins = { "iq", "private" } }
  local juliet = host:client "juliet@example.org/balcony"
  check.equal(condition(iq(juliet, "get", "romeo@example.org", query(st.stanza("a", { xmlns = "u:a" })))), "service-unavailable")
  host:close()
end)

check.test("XEP-0054: own card empty at first, kept, shown to others, written by nobody else", function()
  local host = fake.new{ plugins = { "iq", "vcard" } }
  local romeo, juliet = host:client "romeo@example.org/orchard", host:client "juliet@example.org/balcony"
  local empty = st.stanza("vCard", { xmlns = "vcard-temp" })
  check.ok(iq(romeo, "get", nil, empty):get_child("vCard", "vcard-temp"))
  check.equal(condition(iq(juliet, "get", "romeo@example.org", empty)), "item-not-found")
  check.equal(iq(romeo, "set", nil, st.stanza("vCard", { xmlns = "vcard-temp" }):text_tag("FN", "Romeo")).attr.type, "result")
  check.equal(iq(juliet, "get", "romeo@example.org", empty):find "{vcard-temp}vCard/FN#", "Romeo")
  check.equal(condition(iq(juliet, "set", "romeo@example.org", empty)), "forbidden")
  check.equal(condition(iq(romeo, "set", nil, st.stanza("vCard", { xmlns = "vcard-temp" }):text_tag("PHOTO", ("x"):rep(300000)))),
    "not-acceptable")
  host:close()
end)

check.done()
