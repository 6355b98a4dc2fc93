-- SPDX-License-Identifier: MIT
-- mod_mam: what is archived, for whom, under which id, how it is read and how it goes.
local check = require "check"
local fake = require "fakehost"
local st = require "couplet.stanza"
local equal, ok = check.equal, check.ok

local MAM, SID, FORM, RSM = "urn:xmpp:mam:2", "urn:xmpp:sid:0", "jabber:x:data", "http://jabber.org/protocol/rsm"
local RETRACT = "urn:xmpp:message-retract:1"

local host

-- Everybody with an account: romeo, juliet, nurse.
local function open(options, plugins)
  host = fake.new { plugins = plugins or { "iq", "message", "presence", "roster", "offline", "disco", "mam" },
    options = options }
  local exists = { romeo = true, juliet = true, nurse = true }
  require "couplet.users".user_exists = function(name) return exists[name] or false end
  return host
end

local function online(jid)
  local client = host:client(jid)
  client:send(st.presence())
  client:received()
  return client
end

local serial = 0

-- A query of `fields` (of the form), `set` (of RSM) -> list of { id, body or name of the first child, message }, fin
local function ask(client, fields, set, more)
  serial = serial + 1
  local id = "q" .. serial
  local iq = st.iq { type = "set", id = id }:tag("query", { xmlns = MAM, queryid = "the query" })
  if fields then
    iq:tag("x", { xmlns = FORM, type = "submit" })
    iq:tag("field", { var = "FORM_TYPE", type = "hidden" }):text_tag("value", MAM):up()
    for name, value in pairs(fields) do
      iq:tag("field", { var = name })
      for _, v in ipairs(type(value) == "table" and value or { value }) do iq:text_tag("value", v) end
      iq:up()
    end
    iq:up()
  end
  if set then
    iq:tag("set", { xmlns = RSM })
    for name, value in pairs(set) do iq:text_tag(name, value) end
    iq:up()
  end
  if more then iq:tag(more):up() end
  client:send(iq)
  local items = {}
  for _, stanza in ipairs(client:received()) do
    if stanza.name == "iq" and stanza.attr.id == id then
      if stanza.attr.type == "error" then return nil, (select(2, stanza:get_error())) end
      return items, stanza:get_child("fin", MAM)
    end
    local result = stanza:get_child("result", MAM)
    if result then
      equal(result.attr.queryid, "the query")
      equal(stanza.attr.to, client.jid)
      local message = result:find "{urn:xmpp:forward:0}forwarded/{jabber:client}message"
      items[#items + 1] = { id = result.attr.id, text = message:get_child_text "body" or message.tags[1] and message.tags[1].name,
        message = message, stamp = result:find "{urn:xmpp:forward:0}forwarded/{urn:xmpp:delay}delay@stamp" }
    end
  end
  error "no answer"
end

local function texts(client, ...)
  local items, fin = ask(client, ...)
  if not items then return nil, fin end
  local out = {}
  for i, item in ipairs(items) do out[i] = item.text end
  return out, fin
end

local function chat(to, body, id) return st.message({ to = to, type = "chat", id = id }, body) end

check.test("both archives have it, under ids of their own; the recipient is told his", function()
  open()
  local romeo, juliet = online "romeo@example.org/a", online "juliet@example.org/b"
  romeo:send(chat("juliet@example.org", "hello", "m1"))
  local got = juliet:expect { name = "message" }
  local id = got:get_child("stanza-id", SID)
  equal(id.attr.by, "juliet@example.org")
  local mine, hers = ask(romeo), ask(juliet)
  equal(#mine, 1)
  equal(#hers, 1)
  equal(hers[1].id, id.attr.id)
  ok(mine[1].id ~= hers[1].id)
  equal(mine[1].message.attr.from, "romeo@example.org/a")
  equal(mine[1].message.attr.to, "juliet@example.org")
  equal(mine[1].message.attr.id, "m1")
  ok(mine[1].stamp:match "^2023%-11%-14T%d%d:%d%d:%d%d[.%d]*Z$", mine[1].stamp)
  equal(host:close(), {})
end)

check.test("XEP-0359 §5: claims to be our stanza-id go, others and origin-id stay", function()
  open()
  local romeo, juliet = online "romeo@example.org/a", online "juliet@example.org/b"
  local rows = { "hello", false }
  for _, body in ipairs(rows) do
    local message = chat("juliet@example.org/b", body or nil)
    for _, by in ipairs { "juliet@example.org", "juliet@example.org", "romeo@example.org", "room@muc" } do
      message:tag("stanza-id", { xmlns = SID, by = by, id = "forged" }):up()
    end
    message:tag("origin-id", { xmlns = SID, id = "mine" }):up()
    romeo:send(message)
    local got, by = juliet:expect { name = "message" }, {}
    for tag in got:childtags("stanza-id", SID) do by[#by + 1] = tag.attr.by .. (tag.attr.id == "forged" and "" or "!") end
    equal(by, body and { "room@muc", "juliet@example.org!" } or { "room@muc" })
    equal(got:get_child("origin-id", SID).attr.id, "mine")
  end
  host:close()
end)

check.test("what others get does not say where we keep it; copies for our own resources do", function()
  open()
  local romeo, juliet = online "romeo@example.org/a", online "juliet@example.org/b"
  local copied
  host:load("copies", [[
    module:hook("pre-message/bare", function(event) copied = tostring(event.stanza) end, -0.5)
  ]])
  romeo:send(chat("juliet@example.org", "one"))
  copied = host:module "copies".environment.copied
  ok(not copied:find "stanza%-id", copied)
  online "romeo@example.org/other"
  juliet:received()
  romeo:send(chat("juliet@example.org", "two"))
  copied = host:module "copies".environment.copied
  ok(copied:find "stanza%-id by='romeo@example.org'" or copied:find "by='romeo@example.org'", copied)
  for tag in juliet:expect { name = "message" }:childtags("stanza-id", SID) do equal(tag.attr.by, "juliet@example.org") end
  romeo:send(chat("somebody@elsewhere.example", "three"))
  ok(not tostring(host:expect_sent { name = "message" }):find "stanza%-id")
  host:close()
end)

check.test("to oneself: once, and the same id", function()
  open()
  local a, b = online "romeo@example.org/a", online "romeo@example.org/b"
  for _, to in ipairs { "romeo@example.org", "romeo@example.org/b" } do
    a:send(chat(to, "note"))
    local got = b:expect { name = "message" }
    local items = ask(a, { with = "romeo@example.org" }, { before = "" })
    equal(items[#items].id, got:get_child("stanza-id", SID).attr.id)
    a:received()
  end
  equal(#ask(a), 2)
  a:send(chat("juliet@example.org", "x"))
  equal(#ask(a, { with = "romeo@example.org" }), 2, "with = own address: only those to oneself")
  host:close()
end)

check.test("which messages: by type, content and hints", function()
  open()
  local romeo, juliet = online "romeo@example.org/a", online "juliet@example.org/b"
  local function child(name, xmlns, attr)
    attr = attr or {}
    attr.xmlns = xmlns
    return function(s) s:tag(name, attr):up() end
  end
  local body = function(s) s:text_tag("body", "x") end
  local hint = function(name) return child(name, "urn:xmpp:hints") end
  local active = child("active", "http://jabber.org/protocol/chatstates")
  local rows = {
    { "chat", { body }, true }, { "normal", { body }, true }, { nil, { body }, true }, { "strange", { body }, true },
    { "headline", { body }, false }, { "groupchat", { body }, false }, { "headline", { body, hint "store" }, false },
    { "chat", {}, false }, { "chat", { active }, false }, { "chat", { active, body }, true },
    { "chat", { active, hint "store" }, true }, { "chat", { body, hint "no-store" }, false },
    { "chat", { body, hint "no-permanent-store" }, false }, { "chat", { body, hint "no-store", hint "store" }, false },
    { "chat", { body, hint "no-copy" }, true },
    { "chat", { child("reactions", "urn:xmpp:reactions:0", { id = "1" }) }, true },
    { "chat", { body, child("replace", "urn:xmpp:message-correct:0", { id = "1" }) }, true },
    { "chat", { body, child("reply", "urn:xmpp:reply:0", { id = "1" }) }, true },
    { "chat", { child("retract", RETRACT, { id = "1" }) }, true },
    { "chat", { child("received", "urn:xmpp:receipts", { id = "1" }) }, true },
    { "chat", { child("displayed", "urn:xmpp:chat-markers:0", { id = "1" }) }, true },
    { "chat", { child("propose", "urn:xmpp:jingle-message:0", { id = "1" }) }, true },
    { "chat", { child("encryption", "urn:xmpp:eme:0"), child("encrypted", "eu.siacs.conversations.axolotl") }, true },
    { "normal", { function(s) s:text_tag("subject", "x") end }, true },
    { "normal", { child("x", "jabber:x:conference", { jid = "room@muc" }) }, true },
    { "normal", { function(s) s:tag("x", { xmlns = "http://jabber.org/protocol/muc#user" }):tag("invite"):up():up() end }, true },
    { "normal", { child("x", "http://jabber.org/protocol/muc#user") }, false },
    { "normal", { child("event", "http://jabber.org/protocol/pubsub#event") }, false },
    { "chat", { function(s) s:tag("x", { xmlns = "urn:other" }):text_tag("body", "not ours"):up() end }, false },
  }
  for i, row in ipairs(rows) do
    local message = st.message { to = "juliet@example.org/b", type = row[1] }
    for _, add in ipairs(row[2]) do add(message) end
    romeo:send(message)
    local archived = juliet:expect { name = "message" }:get_child("stanza-id", SID) ~= nil
    equal(archived, row[3], ("row %d: %s"):format(i, tostring(message)))
  end
  local kept = 0
  for _, row in ipairs(rows) do kept = kept + (row[3] and 1 or 0) end
  equal(#ask(romeo, nil, { max = "50" }), kept)
  equal(#ask(juliet, nil, { max = "50" }), kept)
  host:close()
end)

check.test("an error tells a resource that its message came back; others are nobody's business", function()
  open()
  local juliet = online "juliet@example.org/b"
  local function bounce(to)
    host:run(require "couplet.router".core_route_stanza, require "couplet.hosts".get "example.org",
      st.message({ from = "gone@elsewhere.example", to = to, type = "error", id = "m" }):tag("error", { type = "cancel" }):up())
  end
  bounce "juliet@example.org/b"
  bounce "juliet@example.org"
  bounce "juliet@example.org/gone"
  equal(#ask(juliet), 1)
  juliet:send(st.message({ to = "somebody@elsewhere.example", type = "error" }, "x"))
  equal(#ask(juliet), 1)
  host:close()
end)

check.test("nobody's archive grows with what is refused", function()
  open()
  local romeo = online "romeo@example.org/a"
  for _, to in ipairs { "ghost@example.org", "ghost@example.org/x" } do
    romeo:send(chat(to, "hello"))
    equal(romeo:expect { name = "message", type = "error" }:get_child("stanza-id", SID), nil)
  end
  local juliet = online "juliet@example.org/b"
  romeo:send(st.message({ to = "juliet@example.org/gone", type = "normal" }, "hello"))
  romeo:expect { name = "message", type = "error" }
  equal(#ask(juliet), 0)
  romeo:send(chat("juliet@example.org/gone", "hello"))
  equal(#ask(juliet), 1)
  local names = {}
  for name in host:store("archive", "archive"):users() do names[#names + 1] = name end
  table.sort(names)
  equal(names, { "juliet", "romeo" })
  host:close()
end)

-- twenty messages between two
local function conversation()
  open()
  local romeo, juliet = online "romeo@example.org/a", online "juliet@example.org/b"
  for i = 1, 20 do
    romeo:send(chat(i % 4 == 0 and "nurse@example.org" or "juliet@example.org", "m" .. i))
    host:advance(10)
  end
  return romeo, juliet
end

local function range(from, to, step)
  local out = {}
  for i = from, to, step or 1 do out[#out + 1] = "m" .. i end
  return out
end

check.test("XEP-0313 §4.3: pages both ways, complete, flipped, counted", function()
  local romeo = conversation()
  local all = ask(romeo)
  local got, fin = texts(romeo)
  equal(got, range(1, 20))
  equal(fin.attr.complete, "true")
  equal(fin:find("{" .. RSM .. "}set/count#"), "20")
  equal(fin:find("{" .. RSM .. "}set/first@index"), "0")
  local rows = {
    { { max = "5" }, 1, 5, false }, { { max = "5", after = all[5].id }, 6, 10, false },
    { { max = "5", after = all[15].id }, 16, 20, true },
    { { max = "5", before = "" }, 16, 20, false }, { { max = "5", before = all[16].id }, 11, 15, false },
    { { max = "5", before = all[6].id }, 1, 5, true }, { { max = "20" }, 1, 20, true }, { { max = "19" }, 1, 19, false },
    { { max = "999999" }, 1, 20, true }, { { after = all[20].id }, 1, 0, true }, { { before = all[1].id }, 1, 0, true },
    { { after = "" , max = "3" }, 1, 3, false },
  }
  for i, row in ipairs(rows) do
    for _, flip in ipairs { false, "flip-page" } do
      got, fin = texts(romeo, nil, row[1], flip or nil)
      local want = flip and range(row[3], row[2], -1) or range(row[2], row[3])
      equal(got, want, "row " .. i)
      equal(fin.attr.complete == "true", row[4], "row " .. i)
      equal(fin:find("{" .. RSM .. "}set/first#"), all[row[2]] and row[3] > 0 and all[row[2]].id or nil, "row " .. i)
      equal(fin:find("{" .. RSM .. "}set/last#"), row[3] > 0 and all[row[3]].id or nil, "row " .. i)
    end
  end
  got, fin = texts(romeo, nil, { max = "0" })
  equal(got, {})
  equal(fin:find("{" .. RSM .. "}set/count#"), "20")
  equal(fin.attr.complete, nil)
  fin = select(2, texts(romeo, nil, { max = "5", after = all[5].id }))
  equal(fin:find("{" .. RSM .. "}set/count#"), nil, "not counted unless asked")
  host:close()
end)

check.test("XEP-0313 §4.1: filters, alone and together", function()
  local romeo = conversation()
  local all = ask(romeo)
  local rows = {
    { { with = "nurse@example.org" }, range(4, 20, 4) }, { { with = "nobody@example.org" }, {} },
    { { with = "nurse@example.org/x" }, {} }, { { start = all[5].stamp }, range(5, 20) },
    { { ["end"] = all[5].stamp }, range(1, 5) }, { { start = all[5].stamp, ["end"] = all[7].stamp }, range(5, 7) },
    { { start = "2030-01-01T00:00:00Z" }, {} }, { { ["end"] = "1999-01-01T00:00:00+01:00" }, {} },
    { { ["after-id"] = all[15].id }, range(16, 20) }, { { ["before-id"] = all[3].id }, range(1, 2) },
    { { ["after-id"] = all[5].id, ["before-id"] = all[9].id }, range(6, 8) },
    { { ids = { all[7].id, all[2].id, all[7].id } }, { "m2", "m7" } },
    { { ids = { all[7].id, all[8].id }, with = "nurse@example.org" }, { "m8" } },
    { { ["include-groupchat"] = "false", with = "nurse@example.org", ["after-id"] = all[8].id }, range(12, 20, 4) },
    { { ["after-id"] = all[5].id }, range(8, 20), { after = all[7].id } },
    { { ["after-id"] = all[15].id }, range(16, 20), { after = all[7].id } },
    { { ["before-id"] = all[9].id }, range(5, 6), { before = all[7].id, max = "2" } },
    { { ["after-id"] = all[5].id }, range(19, 20), { before = "", max = "2" } },
  }
  for i, row in ipairs(rows) do equal(texts(romeo, row[1], row[3]), row[2], "row " .. i) end
  host:close()
end)

check.test("with a resource: only those, page by page", function()
  open()
  local romeo = online "romeo@example.org/a"
  for i = 1, 900 do romeo:send(chat("room@muc.example.net/" .. (i % 300 == 0 and "it's \"me\" <&>" or "other"), "m" .. i)) end
  local who = { with = "room@muc.example.net/it's \"me\" <&>" }
  equal(texts(romeo, who), { "m300", "m600", "m900" })
  local items, fin = ask(romeo, who, { max = "1" })
  equal(fin.attr.complete, nil)
  equal(texts(romeo, who, { max = "1", after = items[1].id }), { "m600" })
  equal(texts(romeo, who, { max = "1", before = "" }), { "m900" })
  equal(select(2, texts(romeo, who, { max = "0" })):find("{" .. RSM .. "}set/count#"), "3")
  host:close()
end)

check.test("with a resource among thousands: a query ends in between, and tells where the next one goes on", function()
  open()
  local romeo = online "romeo@example.org/a"
  for i = 1, 6000 do romeo:send(chat("room@muc.example.net/" .. (i == 1 and "me" or "other"), "m" .. i)) end
  local all = ask(romeo, { with = "room@muc.example.net" }, { max = "1" })
  local who = { with = "room@muc.example.net/me" }
  local items, fin = ask(romeo, who, { before = "" })
  equal({ #items, fin.attr.complete }, { 0, nil })
  local set = fin:get_child("set", RSM)
  equal({ set:get_child_text "first" == set:get_child_text "last", set:get_child_text "count" }, { true, nil })
  items, fin = ask(romeo, who, { before = set:get_child_text "first" })
  equal({ #items, items[1].id == all[1].id, fin.attr.complete }, { 1, true, "true" })
  items, fin = ask(romeo, who)
  equal({ #items, fin.attr.complete, fin:get_child("set", RSM):get_child_text "first" == all[1].id }, { 1, nil, true })
  items, fin = ask(romeo, who, { after = fin:get_child("set", RSM):get_child_text "last" })
  equal({ #items, fin.attr.complete }, { 0, "true" })
  items, fin = ask(romeo, who, { max = "0" })
  equal({ #items, fin:get_child("set", RSM):get_child_text "count" }, { 0, nil })
  local nobody = { ask(romeo, { with = "nobody@muc.example.net/me" }) }
  equal({ #nobody[1], nobody[2].attr.complete }, { 0, "true" })
  host:close()
end)

check.test("bad questions get the error of the XEP, and nobody else notices", function()
  local romeo = conversation()
  local id = ask(romeo)[1].id
  local rows = {
    { { start = "yesterday" }, nil, "bad-request" }, { { ["end"] = "2023-02-30T00:00:00Z" }, nil, "bad-request" },
    { { with = "@" }, nil, "bad-request" }, { { colour = "red" }, nil, "feature-not-implemented" },
    { { ["{http://example.com/}free-text-search"] = "x" }, nil, "feature-not-implemented" },
    { { ["include-groupchat"] = "maybe" }, nil, "bad-request" },
    { { ["after-id"] = "unknown" }, nil, "item-not-found" }, { { ["before-id"] = "0000000000000000" }, nil, "item-not-found" },
    { { ids = { id, "unknown" } }, nil, "item-not-found" }, { nil, { after = "unknown" }, "item-not-found" },
    { nil, { before = "unknown" }, "item-not-found" }, { { ["after-id"] = id }, { after = "unknown" }, "item-not-found" },
    { { ["after-id"] = "unknown" }, { after = id }, "item-not-found" },
    { nil, { max = "many" }, "bad-request" }, { nil, { max = "-1" }, "bad-request" }, { nil, { max = "1.5" }, "bad-request" },
    { nil, { max = "99999999999999999999" }, "bad-request" }, { nil, { index = "3" }, "feature-not-implemented" },
    { nil, { index = "x" }, "bad-request" }, { nil, { max = "" }, "bad-request" },
  }
  for i, row in ipairs(rows) do equal({ ask(romeo, row[1], row[2]) }, { nil, row[3] }, "row " .. i) end
  local many = {}
  for i = 1, 300 do many[i] = tostring(i) end
  equal({ ask(romeo, { ids = many }) }, { nil, "resource-constraint" })
  local function form(fields)
    return "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>urn:xmpp:mam:2</value></field>" .. fields
      .. "</x>"
  end
  for i, xml in ipairs {
    "<x xmlns='jabber:x:data' type='submit'/>",
    "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>urn:xmpp:mam:1</value></field></x>",
    "<x xmlns='jabber:x:data' type='submit'><field var='with'><value>a@b</value></field></x>",
    form "<field var='with'><value>a@b</value></field><field var='with'><value>c@d</value></field>",      -- XEP-0004 §3.2
    form "<field var='start'><value>2023-01-01T00:00:00Z</value><value>2024-01-01T00:00:00Z</value></field>",
    form "<field var='FORM_TYPE'><value>urn:xmpp:mam:1</value></field>",
  } do
    romeo:send("<iq type='set' id='bad" .. i .. "'><query xmlns='urn:xmpp:mam:2'>" .. xml .. "</query></iq>")
    equal(select(2, romeo:expect { name = "iq", id = "bad" .. i }:get_error()), "bad-request", xml)
  end
  romeo:send("<iq type='set' id='long'><query xmlns='urn:xmpp:mam:2' queryid='" .. ("q"):rep(1025) .. "'/></iq>")
  equal(select(2, romeo:expect { name = "iq", id = "long" }:get_error()), "policy-violation")
  equal(#ask(romeo), 20)
  equal(fake.lines "error", {})
  host:close()
end)

check.test("the archive is its owner's", function()
  open()
  local romeo = online "romeo@example.org/a"
  for _, to in ipairs { "juliet@example.org", "ghost@example.org" } do
    for i, row in ipairs { { "set", "query" }, { "get", "query" }, { "get", "metadata" }, { "get", "prefs" },
      { "set", "prefs" } } do
      romeo:send(st.iq { type = row[1], id = "i" .. i, to = to }:tag(row[2], { xmlns = MAM }))
      local kind, condition = romeo:expect { name = "iq", id = "i" .. i }:get_error()
      equal({ kind, condition }, { "auth", "forbidden" })
    end
  end
  host:close()
end)

check.test("the form, the metadata, the features", function()
  local romeo = conversation()
  romeo:send "<iq type='get' id='f' to='romeo@example.org'><query xmlns='urn:xmpp:mam:2'/></iq>"
  local x = romeo:expect { id = "f", type = "result" }:find "{urn:xmpp:mam:2}query/{jabber:x:data}x"
  local fields = {}
  for field in x:childtags "field" do
    fields[#fields + 1] = field.attr.var .. ":" .. field.attr.type
    equal(field:get_child "required", nil)
    if field.attr.var == "ids" then
      ok(field:get_child("validate", "http://jabber.org/protocol/xdata-validate"):get_child "open")
    end
  end
  equal(fields, { "FORM_TYPE:hidden", "with:jid-single", "start:text-single", "end:text-single", "before-id:text-single",
    "after-id:text-single", "ids:list-multi", "include-groupchat:boolean" })
  local items = ask(romeo)
  romeo:send "<iq type='get' id='m'><metadata xmlns='urn:xmpp:mam:2'/></iq>"
  local metadata = romeo:expect { id = "m", type = "result" }:get_child("metadata", MAM)
  equal({ metadata:get_child "start".attr.id, metadata:get_child "end".attr.id }, { items[1].id, items[20].id })
  equal(metadata:get_child "end".attr.timestamp, items[20].stamp)
  local other = online "other@example.org/x"
  other:send "<iq type='get' id='m'><metadata xmlns='urn:xmpp:mam:2'/></iq>"
  equal(#other:expect { id = "m", type = "result" }:get_child("metadata", MAM).tags, 0)
  romeo:send "<iq type='get' id='d' to='romeo@example.org'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>"
  local info, features = romeo:expect { id = "d" }.tags[1], {}
  for feature in info:childtags "feature" do features[feature.attr.var] = true end
  for _, name in ipairs { MAM, MAM .. "#extended", MAM .. "#groupchat-field", SID, RETRACT, RETRACT .. "#tombstone" } do
    ok(features[name], name)
  end
  host:close()
end)

check.test("XEP-0441: preferences", function()
  open { max_archive_query_results = 10 }
  local romeo, juliet = online "romeo@example.org/a", online "juliet@example.org/b"
  romeo:send "<iq type='get' id='1'><prefs xmlns='urn:xmpp:mam:2'/></iq>"
  local p = romeo:expect { id = "1", type = "result" }:get_child("prefs", MAM)
  equal(p.attr.default, "always")
  equal({ #p:get_child "always".tags, #p:get_child "never".tags }, { 0, 0 })
  local function set(default, always, never)
    local iq = st.iq { type = "set", id = "2" }:tag("prefs", { xmlns = MAM, default = default }):tag "always"
    for _, jid in ipairs(always) do iq:text_tag("jid", jid) end
    iq:up():tag "never"
    for _, jid in ipairs(never) do iq:text_tag("jid", jid) end
    romeo:send(iq)
    local reply = romeo:expect { id = "2" }
    if reply.attr.type == "error" then return (select(2, reply:get_error())) end
    return reply:get_child("prefs", MAM)
  end
  local n = 0
  local function archived(to)
    romeo:send(chat(to, "x"))
    local _, fin = ask(romeo, nil, { max = "0" })
    local now = tonumber(fin:find("{" .. RSM .. "}set/count#"))
    local grew = now > n
    n = now
    return grew
  end
  local rows = {
    { "always", {}, { "juliet@example.org" }, "juliet@example.org/b", false },
    { "always", {}, { "juliet@example.org" }, "nurse@example.org", true },
    { "never", { "Juliet@EXAMPLE.org" }, {}, "juliet@example.org/b", true },
    { "never", { "juliet@example.org" }, {}, "nurse@example.org", false },
    { "never", { "juliet@example.org/b" }, {}, "juliet@example.org/b", true },
    { "never", { "juliet@example.org/b" }, {}, "juliet@example.org", false },
    { "always", { "juliet@example.org" }, { "juliet@example.org" }, "juliet@example.org", false },
    { "roster", {}, {}, "juliet@example.org", false }, { "roster", {}, {}, "nurse@example.org", true },
    { "roster", { "juliet@example.org" }, { "nurse@example.org" }, "juliet@example.org", true },
  }
  romeo:send "<iq type='set' id='r'><query xmlns='jabber:iq:roster'><item jid='nurse@example.org'/></query></iq>"
  romeo:received()
  for i, row in ipairs(rows) do
    local reply = set(row[1], row[2], row[3])
    equal(reply.attr.default, row[1])
    equal(archived(row[4]), row[5], "row " .. i)
  end
  equal(set("sometimes", {}, {}), "bad-request")
  equal(set("always", { "@" }, {}), "jid-malformed")
  local many = {}
  for i = 1, 1001 do many[i] = "u" .. i .. "@h" end
  equal(set("always", many, {}), "resource-constraint")
  juliet:received()
  set("never", {}, {})
  juliet:send(chat("romeo@example.org", "not kept by him"))
  equal(romeo:expect { name = "message" }:get_child("stanza-id", SID), nil)
  equal(archived "juliet@example.org", false)
  host:reload "mam"
  romeo:send "<iq type='get' id='3'><prefs xmlns='urn:xmpp:mam:2'/></iq>"
  equal(romeo:expect { id = "3" }:get_child("prefs", MAM).attr.default, "never", "they last")
  host:close()
end)

check.test("policies of the server: default_archive_policy, mam_smart_enable", function()
  for _, row in ipairs { { "never", 0 }, { false, 0 }, { "roster", 0 }, { "always", 1 }, { true, 1 } } do
    open { default_archive_policy = row[1] }
    local romeo = online "romeo@example.org/a"
    romeo:send(chat("juliet@example.org", "x"))
    equal(#ask(romeo), row[2], tostring(row[1]))
    host:close()
  end
  open { mam_smart_enable = true }
  local romeo, juliet = online "romeo@example.org/a", online "juliet@example.org/b"
  romeo:send(chat("juliet@example.org", "before"))
  equal(ask(romeo), {})
  romeo:send(chat("juliet@example.org", "after"))
  equal(texts(romeo), { "after" })
  equal(texts(juliet), {}, "she had not asked")
  host:close()
end)

check.test("dont_archive_namespaces, and plugins that decide and hear", function()
  open { dont_archive_namespaces = { "urn:xmpp:receipts" } }
  local romeo, juliet = online "romeo@example.org/a", online "juliet@example.org/b"
  host:load("listener", [[
    module:hook("archive-should-store", function(event)
      if event.stanza:get_child("x", "urn:secret") then return false end
      if event.stanza:get_child("x", "urn:precious") then return true end
    end)
    heard = {}
    module:hook("archive-message-added", function(event)
      heard[#heard + 1] = { event.for_user, event.id, event.origin.username, event.stanza.name }
    end)
  ]])
  local function message(xmlns, body)
    romeo:send(chat("juliet@example.org", body):tag("x", { xmlns = xmlns }):up())
  end
  message("urn:xmpp:receipts", nil)
  message("urn:secret", "x")
  equal(ask(romeo), {})
  message("urn:precious", nil)
  message("urn:xmpp:receipts", "y")
  local hers = ask(juliet)
  equal(#hers, 2)
  local heard = host:module "listener".environment.heard
  equal(#heard, 4)
  equal(heard[4], { "juliet", hers[2].id, "romeo", "message" })
  host:close()
end)

check.test("XEP-0424: what is older than thousands of messages gets its tombstone too, and no reader waits for it", function()
  open()
  local romeo = online "romeo@example.org/a"
  romeo:send(chat("juliet@example.org", "secret", "m1"))
  for i = 2, 5500 do romeo:send(chat("juliet@example.org", "later", "m" .. i)) end
  local retraction = st.message { to = "juliet@example.org", type = "chat", id = "r1" }
  romeo:send(retraction:tag("retract", { xmlns = RETRACT, id = "m1" }):up())
  romeo:received()
  equal(ask(romeo, nil, { max = "1" })[1].text, "secret")
  for _ = 1, 200 do
    if ask(romeo, nil, { max = "1" })[1].text == "retracted" then break end
    host:advance(1)
  end
  equal(ask(romeo, nil, { max = "1" })[1].text, "retracted")
  host:close()
end)

-- A query made of anything: it is answered once, with a page or an error, and the next one is answered as ever.
check.test("strangers' queries: any form, any set, in any order", function()
  local romeo = conversation()
  local want = texts(romeo)
  local seed = os.getenv "SEED" or 1
  math.randomseed(tonumber(seed))
  local random = math.random
  local function pick(list) return list[random(#list)] end
  local ids = ask(romeo)
  local words = { "", " ", "0", "-1", "1e9", "99999999999999999999", "50", "true", "romeo@example.org", "nurse@example.org/x",
    "@", "2026-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0000-00-00T00:00:00Z", "1970-01-01T00:00:00.999999999+14:00",
    MAM, "ffffffffffffffff", "0000000000000000", ids[1].id, ids[#ids].id, ids[1].id:upper(), "'; DROP TABLE archive; --",
    ("x"):rep(5000), "<x/>", "\u{fffd}", "\u{1f98a}" }
  local vars = { "FORM_TYPE", "with", "start", "end", "before-id", "after-id", "ids", "include-groupchat", "other" }
  local names = { "x", "set", "flip-page", "field", "value", "max", "before", "after", "index", "query", "prefs" }
  local spaces = { MAM, FORM, RSM, "urn:example:other" }
  local function grow(element, depth)
    for _ = 1, random(0, 4) do
      if random() < 0.25 then element:text(pick(words)) end
      element:tag(pick(names), { xmlns = random() < 0.6 and pick(spaces) or nil, var = random() < 0.5 and pick(vars) or nil,
        type = random() < 0.3 and pick { "submit", "form", "cancel", "hidden", "x" } or nil })
      if depth < 4 then grow(element, depth + 1) else element:text(pick(words)) end
      element:up()
    end
  end
  local function sensible(query)
    if random() < 0.8 then
      query:tag("x", { xmlns = FORM, type = "submit" }):tag("field", { var = "FORM_TYPE" }):text_tag("value", MAM):up()
      for _ = 1, random(0, 3) do
        query:tag("field", { var = pick(vars), type = random() < 0.2 and "boolean" or nil })
        for _ = 1, random(0, 3) do query:text_tag("value", pick(words)) end
        query:up()
      end
      query:up()
    end
    if random() < 0.8 then
      query:tag("set", { xmlns = RSM })
      for _ = 1, random(0, 3) do query:text_tag(pick { "max", "before", "after", "index", "first" }, pick(words)) end
      query:up()
    end
  end
  for i = 1, 3000 do
    local iq = st.iq { type = pick { "set", "set", "get" }, id = "f" .. i, to = random() < 0.2 and "romeo@example.org" or nil }
    iq:tag(random() < 0.9 and "query" or "prefs",
      { xmlns = MAM, queryid = random() < 0.5 and pick(words) or nil, default = "always" })
    if random() < 0.7 then sensible(iq) else grow(iq, 1) end
    iq:reset()
    romeo:send(iq)
    local answers, results = 0, 0
    for _, stanza in ipairs(romeo:received()) do
      if stanza.name == "iq" and stanza.attr.id == "f" .. i then answers = answers + 1 else results = results + 1 end
      ok(stanza.attr.type ~= "error" or select(2, stanza:get_error()) ~= "internal-server-error",
        "seed " .. seed .. ", query " .. i)
    end
    equal({ answers, results <= 50 }, { 1, true }, "seed " .. seed .. ", query " .. i)
  end
  equal(texts(romeo), want, "the archive is as it was")
  host:close()
end)

check.test("XEP-0424: both archives get a tombstone, for the author alone", function()
  open()
  local romeo, juliet, nurse = online "romeo@example.org/a", online "juliet@example.org/b", online "nurse@example.org/c"
  local function retract(who, to, id, own)
    who:send(st.message { to = to, type = "chat", id = own }:tag("retract", { xmlns = RETRACT, id = id }):up())
    host:advance(1)
  end
  romeo:send(chat("juliet@example.org", "secret", "m1"))
  romeo:send(chat("juliet@example.org", "fine", "m2"))
  juliet:send(chat("romeo@example.org", "hers", "m1"))
  nurse:send(chat("juliet@example.org", "nurse", "m1"))
  juliet:received()
  retract(nurse, "juliet@example.org", "m2", "n1")
  equal(texts(juliet), { "secret", "fine", "hers", "nurse", "retract" })
  retract(romeo, "juliet@example.org", "m1", "r1")
  for _, who in ipairs { romeo, juliet } do
    local items = ask(who, { with = who == romeo and "juliet@example.org" or "romeo@example.org" })
    equal({ items[1].text, items[2].text, items[3].text, items[4].text }, { "retracted", "fine", "hers", "retract" })
    local stone = items[1].message
    equal({ stone.attr.id, stone.attr.type, stone.attr.from, stone.attr.to },
      { "m1", "chat", "romeo@example.org/a", "juliet@example.org" })
    equal(stone.tags[1].attr.xmlns, RETRACT)
    equal(stone.tags[1].attr.id, "r1")
    ok(stone.tags[1].attr.stamp:match "^%d%d%d%d%-.*Z$")
    equal(#stone.tags, 1)
  end
  retract(romeo, "juliet@example.org", "unknown", "r2")
  retract(romeo, "juliet@example.org", "m2", nil)
  equal(ask(romeo)[2].text, "fine", "without an id of its own it leaves no tombstone")
  -- A room's occupants share its address.
  local function room(nick, stanza)
    stanza.attr.from, stanza.attr.to, stanza.attr.type = "room@muc.example.net/" .. nick, "juliet@example.org/b", "chat"
    host:run(require "couplet.router".core_route_stanza, require "couplet.hosts".get "example.org",
      stanza:tag("x", { xmlns = "http://jabber.org/protocol/muc#user" }):up())
    host:advance(1)
  end
  room("a", st.message({ id = "pm" }, "whisper"))
  room("b", st.message({ id = "s1" }):tag("retract", { xmlns = RETRACT, id = "pm" }):up())
  equal(ask(juliet, { with = "room@muc.example.net" })[1].text, "whisper")
  room("a", st.message({ id = "s2" }):tag("retract", { xmlns = RETRACT, id = "pm" }):up())
  equal(ask(juliet, { with = "room@muc.example.net" })[1].text, "retracted")
  host:close()
end)

check.test("what is old goes; bounds by number", function()
  open { archive_expires_after = "1h", archive_cleanup_interval = "10m" }
  local romeo = online "romeo@example.org/a"
  romeo:send(chat("juliet@example.org", "old"))
  host:advance(3000)
  romeo:send(chat("juliet@example.org", "young"))
  equal(texts(romeo), { "old", "young" })
  host:advance(1300)
  equal(texts(romeo), { "young" })
  host:close()
  open { storage_archive_item_limit = 20 }
  romeo = online "romeo@example.org/a"
  for i = 1, 60 do
    romeo:send(chat("juliet@example.org", "m" .. i))
    host:advance(1)
  end
  local got = texts(romeo)
  ok(#got >= 20 and #got <= 22, #got)
  equal(got[#got], "m60")
  host:close()
end)

check.test("a deleted account leaves nothing", function()
  open()
  local romeo = online "romeo@example.org/a"
  romeo:send(chat("juliet@example.org", "x"))
  host:run(require "couplet.prosody".events.fire_event, "user-deleted", { username = "juliet", host = "example.org" })
  host:run(require "couplet.prosody".events.fire_event, "user-deleted", { username = "romeo", host = "elsewhere.example" })
  equal(#ask(online "juliet@example.org/b"), 0)
  equal(#ask(romeo), 1)
  host:close()
end)

check.test("offline messages carry the id of the archived copy; what cannot be kept offline is kept by the archive", function()
  open { offline_messages_max = 1 }
  local romeo = online "romeo@example.org/a"
  romeo:send(chat("juliet@example.org", "one"))
  romeo:send(chat("juliet@example.org", "two"))
  romeo:nothing()
  local juliet = host:client "juliet@example.org/b"
  juliet:send(st.presence())
  local late = juliet:expect { name = "message" }
  juliet:received()
  local items = ask(juliet)
  equal({ items[1].text, items[2].text }, { "one", "two" })
  equal(late:get_child("stanza-id", SID).attr.id, items[1].id)
  romeo:send(st.message({ to = "nurse@example.org", type = "chat" }, "x"):tag("no-store", { xmlns = "urn:xmpp:hints" }):up())
  romeo:nothing()
  host:close()
  open(nil, { "iq", "message", "presence", "roster", "mam" })
  romeo = online "romeo@example.org/a"
  romeo:send(chat("juliet@example.org", "no offline store at all"))
  romeo:nothing()
  romeo:send(st.message({ to = "juliet@example.org", type = "chat" }, "x"):tag("no-store", { xmlns = "urn:xmpp:hints" }):up())
  romeo:expect { name = "message", type = "error" }
  host:close()
end)

check.test("asking marks the session", function()
  open()
  local romeo = online "romeo@example.org/a"
  equal(romeo.session.mam_requested, nil)
  ask(romeo)
  equal(romeo.session.mam_requested, true)
  host:close()
end)

check.test("other plugins may use its preferences", function()
  open()
  host:load("other", [[ prefs = module:require "mod_mam/mamprefs"; xml = module:require "mod_mam/mamprefsxml" ]])
  local env = host:module "other".environment
  equal(host:run(env.prefs.get, "romeo"), { [false] = true })
  equal(env.xml.tostanza({ [false] = "roster", ["a@b"] = true }):get_child "always":get_child_text "jid", "a@b")
  host:close()
end)

check.done()
