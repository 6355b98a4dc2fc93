-- SPDX-License-Identifier: MIT
-- mod_blocklist and mod_spam_reporting: XEP-0191, XEP-0377.

local check = require "check"
local fake = require "fakehost"
local st = require "couplet.stanza"
local xml = require "couplet.util.xml"

local BLOCKING = "urn:xmpp:blocking"
local MUC_X = "<x xmlns='http://jabber.org/protocol/muc#user'"
local serial = 0

local function request(client, kind, name, jids, inner)
  serial = serial + 1
  local iq = st.iq { type = kind, id = "b" .. serial }:tag(name, { xmlns = BLOCKING })
  for _, jid in ipairs(jids or {}) do
    iq:tag("item", { jid = jid })
    if inner then iq:add_child(inner) end
    iq:up()
  end
  client:send(iq:reset())
  return client:expect { name = "iq", id = "b" .. serial }
end

local function block(client, ...) check.equal(request(client, "set", "block", { ... }).attr.type, "result") end
local function unblock(client, ...) check.equal(request(client, "set", "unblock", { ... }).attr.type, "result") end

local function list(client)
  local out = {}
  for item in request(client, "get", "blocklist"):get_child("blocklist", BLOCKING):childtags "item" do
    out[#out + 1] = item.attr.jid
  end
  return out
end

local PLUGINS = { "iq", "message", "presence", "roster", "blocklist", "spam_reporting" }

-- romeo at home; juliet sees him and he sees her; paris sees nobody.
local function verona(options, global)
  local host = fake.new { plugins = PLUGINS, options = options, global = global }
  local who = { host = host }
  for _, name in ipairs { "romeo", "juliet", "paris" } do who[name] = host:client(name .. "@example.org/home") end
  for name, contact in pairs { romeo = "juliet", juliet = "romeo" } do
    who[name].session.roster[contact .. "@example.org"] = { subscription = "both", groups = {} }
  end
  who.romeo.session.roster["friar@far.example"] = { subscription = "both", groups = {} }
  for _, name in ipairs { "romeo", "juliet", "paris" } do who[name]:send "<presence/>" end
  for _, name in ipairs { "romeo", "juliet", "paris" } do who[name]:received() end
  host:sent()
  return who
end

local function condition(stanza) return select(2, stanza:get_error()) end

check.test("§3.2–§3.5: the list, and pushes to those who have asked for it", function()
  local who = verona()
  local romeo, other = who.romeo, who.host:client "romeo@example.org/other"
  check.equal(list(romeo), {})
  block(romeo, "z@far.example", "A@Example.NET")
  local push = romeo:expect { name = "iq", type = "set", to = "romeo@example.org/home", has = "{urn:xmpp:blocking}block" }
  check.equal({ push.tags[1].tags[1].attr.jid, push.tags[1].tags[2].attr.jid }, { "z@far.example", "a@example.net" })
  other:nothing()                              -- has not asked
  check.equal(list(other), { "a@example.net", "z@far.example" })
  unblock(romeo, "z@far.example", "unknown@far.example")
  for _, client in ipairs { romeo, other } do client:expect { name = "iq", type = "set", has = "{urn:xmpp:blocking}unblock" } end
  check.equal(list(other), { "a@example.net" })
  unblock(other)
  check.equal(#other:expect { name = "iq", type = "set", has = "{urn:xmpp:blocking}unblock" }.tags[1].tags, 0)
  check.equal(list(romeo), {})
  check.equal(who.host:close(), {})
end)

check.test("§3.3: what is wrong with a request", function()
  local who = verona({ blocklist_items_max = 3 })
  for _, row in ipairs {
    { "block", {}, "bad-request" },
    { "block", { "@" }, "jid-malformed" },
    { "unblock", { "a@b@c/" }, "jid-malformed" },
    { "block", { "a@x", "b@x", "c@x", "d@x" }, "resource-constraint" },
  } do
    check.equal(condition(request(who.romeo, "set", row[1], row[2])), row[3])
  end
  who.romeo:send "<iq type='set' id='1'><block xmlns='urn:xmpp:blocking'><item/></block></iq>"
  check.equal(condition(who.romeo:expect { name = "iq", id = "1" }), "bad-request")
  who.juliet:send "<iq type='get' id='2' to='romeo@example.org'><blocklist xmlns='urn:xmpp:blocking'/></iq>"
  check.equal(condition(who.juliet:expect { name = "iq", id = "2" }), "service-unavailable")
  check.equal(list(who.romeo), {})
  check.equal(who.host:close(), {})
end)

check.test("§3.3: what a blocked address sends does not arrive, and what it hears", function()
  local who = verona()
  block(who.romeo, "juliet@example.org")
  who.juliet:received()
  local body = "<body>x</body>"
  for i, row in ipairs {
    -- stanza, answer
    { "<message to='romeo@example.org' type='chat'>" .. body .. "</message>", "service-unavailable" },
    { "<message to='romeo@example.org/home'>" .. body .. "</message>", "service-unavailable" },
    { "<message to='romeo@example.org/home' type='groupchat'>" .. body .. "</message>" },
    { "<message to='romeo@example.org/home' type='headline'>" .. body .. "</message>" },
    { "<message to='romeo@example.org/home' type='error'>" .. body .. "</message>" },
    { "<message to='romeo@example.org/home' type='chat'>" .. body .. MUC_X .. "/></message>" },
    { "<iq to='romeo@example.org/home' type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>", "service-unavailable" },
    { "<iq to='romeo@example.org' type='set' id='1'><vCard xmlns='vcard-temp'/></iq>", "service-unavailable" },
    { "<iq to='romeo@example.org/home' type='result' id='1'/>" },
    { "<iq to='romeo@example.org/home' type='error' id='1'/>" },
    { "<presence to='romeo@example.org/home'/>" },
    { "<presence to='romeo@example.org' type='probe'/>" },
    { "<presence to='romeo@example.org' type='unsubscribe'/>" },
    { "<presence/>" },
  } do
    who.juliet:send(row[1])
    local answers = who.juliet:received()
    if row[1] == "<presence/>" or row[1]:find "unsubscribe" then answers = {} end             -- her own, and roster pushes
    check.equal(answers[1] and condition(answers[1]), row[2], "row " .. i)
    who.romeo:nothing()
  end
  check.equal(who.host:close(), {})
end)

check.test("bounce_blocked_messages = false: whoever is blocked is not told by messages", function()
  local who = verona { bounce_blocked_messages = false }
  block(who.romeo, "juliet@example.org")
  who.juliet:received()
  who.juliet:send "<message to='romeo@example.org' type='chat'><body>x</body></message>"
  who.juliet:nothing()
  who.romeo:nothing()
  check.equal(who.host:close(), {})
end)

check.test("§3.3: to a blocked address: not-acceptable and <blocked/>", function()
  local who = verona()
  block(who.romeo, "juliet@example.org", "far.example")
  who.juliet:received()
  who.host:sent()
  for i, row in ipairs {
    { "<message to='juliet@example.org' id='x'><body>x</body></message>", true },
    { "<message to='juliet@example.org/home' id='x' type='chat'/>", true },
    { "<message to='friar@far.example' id='x' type='chat'/>", true },
    { "<message to='far.example' id='x' type='chat'/>", true },
    { "<iq to='juliet@example.org/home' id='x' type='get'><ping xmlns='urn:xmpp:ping'/></iq>", true },
    { "<iq to='juliet@example.org/home' id='x' type='result'/>", false },
    { "<message to='juliet@example.org' id='x' type='error'/>", false },
    { "<presence to='juliet@example.org' id='x'/>", true },
    { "<presence to='friar@far.example' id='x' type='subscribe'/>", true },
    { "<presence to='juliet@example.org' id='x' type='unavailable'/>", false },
  } do
    who.romeo:send(row[1])
    if row[2] then
      local answer = who.romeo:expect { id = "x", type = "error" }
      local kind, name, _, extra = answer:get_error()
      check.equal({ kind, name, extra and extra.name, extra and extra.attr.xmlns },
        { "cancel", "not-acceptable", "blocked", "urn:xmpp:blocking:errors" }, "row " .. i)
    end
    who.romeo:nothing()
    who.juliet:nothing()
  end
  check.equal(who.host:sent(), {})
  check.equal(who.host:close(), {})
end)

check.test("§5: which addresses an item covers", function()
  for i, row in ipairs {
    { "juliet@example.org", "juliet@example.org/home", true },
    { "juliet@example.org/home", "juliet@example.org/home", true },
    { "juliet@example.org/away", "juliet@example.org/home", false },
    { "far.example", "friar@far.example/cell", true },
    { "far.example", "far.example/echo", true },
    { "far.example", "far.example", true },
    { "far.example", "friar@sub.far.example/cell", false },
    { "far.example/cell", "friar@far.example/cell", false },
    { "far.example/echo", "far.example/echo", true },
    { "friar@far.example", "far.example", false },
    { "example.org", "romeo@example.org/home", false },               -- never oneself
    { "romeo@example.org", "romeo@example.org/home", false },
    { "example.org", "juliet@example.org/home", true },
    { "example.org", "example.org", false },                          -- nor one's server
  } do
    local who = verona()
    block(who.romeo, row[1])
    local env = who.host:module "blocklist".environment
    check.equal(who.host:run(env.is_blocked, "romeo", row[2]), row[3], "row " .. i)
    check.equal(who.host:run(env.is_blocked, "juliet", row[2]), false)
    who.host:close()
  end
end)

check.test("§3.3, §3.4: contacts see one go and come back, if they may see one at all", function()
  local who = verona()
  local romeo = who.romeo
  romeo:send "<presence to='room@far.example/romeo'/>"
  who.host:sent()
  block(romeo, "juliet@example.org", "paris@example.org", "far.example")
  who.juliet:expect { name = "presence", from = "romeo@example.org/home", to = "juliet@example.org", type = "unavailable" }
  who.paris:nothing()
  local gone = {}
  for _, stanza in ipairs(who.host:sent()) do gone[#gone + 1] = stanza.attr.to .. " " .. stanza.attr.type end
  table.sort(gone)
  check.equal(gone, { "friar@far.example unavailable", "room@far.example/romeo unavailable" })
  -- blocked: neither sees the other's presence
  romeo:send "<presence><show>away</show></presence>"
  who.juliet:nothing()
  check.equal(who.host:sent(), {})
  romeo:received()
  who.juliet:send "<presence><show>dnd</show></presence>"
  romeo:nothing()
  local again = who.host:client "juliet@example.org/again"
  again:send "<presence/>"
  for _, stanza in ipairs(again:received()) do check.ok(stanza.attr.from:find "^juliet", tostring(stanza)) end
  who.juliet:received()
  -- and back; far.example stays
  unblock(romeo, "juliet@example.org")
  for _, client in ipairs { who.juliet, again } do
    check.equal(client:expect { name = "presence", from = "romeo@example.org/home" }:get_child_text "show", "away")
    client:nothing()
  end
  check.equal(romeo:expect { name = "presence", from = "juliet@example.org/home" }:get_child_text "show", "dnd")
  romeo:expect { name = "presence", from = "juliet@example.org/again" }
  check.equal(who.host:sent(), {})
  unblock(romeo)
  who.host:expect_sent { name = "presence", to = "friar@far.example", from = "romeo@example.org/home", has = "show" }
  who.host:expect_sent { name = "presence", to = "friar@far.example", type = "probe" }
  check.equal(who.host:sent(), {})
  check.equal(who.host:close(), {})
end)

check.test("invitations of somebody blocked are dropped, whatever room they come from", function()
  local who = verona()
  block(who.romeo, "juliet@example.org")
  local invite = "<message to='romeo@example.org'>" .. MUC_X .. "><invite from='%s'/></x></message>"
  who.paris:send(invite:format "juliet@example.org/home")
  who.romeo:nothing()
  who.paris:send(invite:format "nurse@example.org/home")
  who.romeo:expect { name = "message" }
  who.host:close()
end)

check.test("lists stay: as Prosody stores them, over a restart; nothing is read for accounts without one", function()
  local host = fake.new { plugins = { "iq", "message", "presence", "roster" } }
  host:store("blocklist"):set("romeo", { ["juliet@example.org"] = true, [false] = { created = 1 } })
  local reads = 0
  host.events.add_handler("store-opened", function(event)
    if event.store_name ~= "blocklist" then return end
    local inner = event.store
    event.store = {
      get = function(_, ...)
        reads = reads + 1
        return inner:get(...)
      end,
      set = function(_, ...) return inner:set(...) end,
      users = function(_, ...) return inner:users(...) end,
    }
  end)
  host:load "blocklist"
  local romeo, juliet = host:client "romeo@example.org/home", host:client "juliet@example.org/home"
  romeo:send "<presence/>"
  juliet:send "<presence/>"
  romeo:send "<message to='juliet@example.org'><body>x</body></message>"
  check.equal(condition(romeo:expect { type = "error" }), "not-acceptable")
  check.equal(list(romeo), { "juliet@example.org" })
  juliet:send "<message to='paris@example.org'><body>x</body></message>"
  check.equal(reads, 1)
  block(romeo, "paris@example.org")
  check.equal(host:store("blocklist"):get "romeo",
    { ["juliet@example.org"] = true, ["paris@example.org"] = true, [false] = { created = 1 } })
  host:reload "blocklist"
  check.equal(list(romeo), { "juliet@example.org", "paris@example.org" })
  host:close()
end)

check.test("XEP-0377: reports are kept, counted, shown to admins; not without a reason, nor when blocking fails", function()
  local who = verona({ blocklist_items_max = 5, spam_reports_per_hour = 4 }, { admins = { "paris@example.org" } })
  local events = {}
  for _, kind in ipairs { "spam", "abuse", "unknown" } do
    who.host.events.add_handler("spam_reporting/" .. kind .. "-report", function(event)
      events[#events + 1] = ("%s %s %s"):format(kind, event.jid, event.reason or "-")
    end)
  end
  local function block_with(jid, text) return request(who.romeo, "set", "block", { jid }, xml.parse(text)) end
  block_with("a@far.example", "<report xmlns='urn:xmpp:reporting:1' reason='urn:xmpp:reporting:spam'>"
    .. "<text>Never came trouble</text><stanza-id xmlns='urn:xmpp:sid:0' by='romeo@example.org' id='7'/></report>")
  check.equal(who.paris:expect { name = "message", from = "example.org" }:get_child_text "body",
    "romeo@example.org reports a@far.example (spam): Never came trouble")
  block_with("b@far.example", "<report xmlns='urn:xmpp:reporting:1' reason='urn:xmpp:reporting:abuse'/>")
  block_with("c@far.example", "<report xmlns='urn:xmpp:reporting:0'><spam/></report>")
  block_with("d@far.example", "<report xmlns='urn:xmpp:reporting:1'/>")
  block_with("e@far.example", "<report xmlns='urn:xmpp:reporting:1' reason='urn:example'/>")
  check.equal(condition(block_with("f@far.example", "<report xmlns='urn:xmpp:reporting:1' reason='urn:example'/>")),
    "resource-constraint")
  check.equal(events, { "spam a@far.example Never came trouble", "abuse b@far.example -", "spam c@far.example -",
    "unknown e@far.example -" })
  -- no more in this hour
  unblock(who.romeo)
  block_with("g@far.example", "<report xmlns='urn:xmpp:reporting:1' reason='urn:xmpp:reporting:spam'/>")
  check.equal(#events, 4)
  who.host:advance(3600)
  block_with("h@far.example", "<report xmlns='urn:xmpp:reporting:1' reason='urn:xmpp:reporting:spam'><text>" .. ("ü"):rep(2000)
    .. "</text></report>")
  check.equal(events[5], "spam h@far.example " .. ("ü"):rep(500))
  local kept = {}
  for _, item in who.host:store("spam_reports", "archive"):find(nil) do kept[#kept + 1] = item end
  check.equal(#kept, 5)
  check.equal({ kept[1].attr.jid, kept[1].attr.by, kept[1]:get_child_text "text", kept[1]:find "{urn:xmpp:sid:0}stanza-id@id" },
    { "a@far.example", "romeo@example.org", "Never came trouble", "7" })
  check.equal(who.host:close(), {})
end)

check.done()
