-- SPDX-License-Identifier: MIT
-- mod_carbons: who gets a copy of which message (XEP-0280).

local check = require "check"
local fake = require "fakehost"
local st = require "couplet.stanza"

local CARBONS = "urn:xmpp:carbons:2"
local serial = 0

local function switch(client, what, to)
  serial = serial + 1
  local id = "c" .. serial
  client:send(st.iq { type = "set", id = id, to = to }:tag(what, { xmlns = CARBONS }))
  return client:expect { name = "iq", id = id }
end

-- romeo has three clients: orchard and street take messages, both with carbons; phone has none. juliet is alone.
local function verona(options)
  local host = fake.new { plugins = { "iq", "message", "presence", "roster", "carbons" }, options = options }
  local who = { host = host }
  for name, jid in pairs { orchard = "romeo@example.org/orchard", street = "romeo@example.org/street",
    phone = "romeo@example.org/phone", juliet = "juliet@example.org/balcony" } do
    who[name] = host:client(jid)
  end
  for _, name in ipairs { "orchard", "street", "phone", "juliet" } do
    who[name]:send(st.presence():text_tag("priority", name == "orchard" and "5" or "1"))
  end
  for _, name in ipairs { "orchard", "street" } do switch(who[name], "enable") end
  for _, name in ipairs { "orchard", "street", "phone", "juliet" } do who[name]:received() end
  return who
end

local function copy_in(stanza, direction)
  return stanza:find(("{%s}%s/{urn:xmpp:forward:0}forwarded/{jabber:client}message"):format(CARBONS, direction))
end

local function copies(client, direction)
  local n = 0
  for _, stanza in ipairs(client:received()) do
    if copy_in(stanza, direction) then n = n + 1 end
  end
  return n
end

check.test("§4, §5, §10.1: on and off, as often as one likes; for oneself only", function()
  local who = verona()
  local romeo = who.phone
  for _, what in ipairs { "enable", "enable", "disable", "disable", "enable" } do
    check.equal(switch(romeo, what).attr.type, "result")
    check.equal(romeo.session.want_carbons, what == "enable" and CARBONS or nil)
  end
  check.equal(switch(romeo, "enable", "romeo@example.org").attr.type, "result")
  for _, what in ipairs { "enable", "disable" } do
    local kind, condition = switch(who.juliet, what, "romeo@example.org"):get_error()
    check.equal({ kind, condition }, { "cancel", "not-allowed" })
  end
  check.equal(who.host:close(), {})
end)

check.test("§7: what came is copied to those who did not get it: type, from, to, content", function()
  local who = verona()
  who.juliet:send("<message to='romeo@example.org/orchard' type='chat' id='m'><body>Ay me</body>"
    .. "<x xmlns='urn:example'/></message>")
  local original = who.orchard:expect { name = "message", from = "juliet@example.org/balcony" }
  check.equal(#original.tags, 2)
  who.orchard:nothing()
  local copy = who.street:expect { name = "message", from = "romeo@example.org", to = "romeo@example.org/street", type = "chat" }
  local inner = copy_in(copy, "received")
  check.equal({ inner.attr.from, inner.attr.to, inner.attr.type, inner.attr.id, inner:get_child_text "body" },
    { "juliet@example.org/balcony", "romeo@example.org/orchard", "chat", "m", "Ay me" })
  check.ok(inner:get_child("x", "urn:example"))
  who.street:nothing()
  who.phone:nothing()
  who.juliet:nothing()
  check.equal(who.host:close(), {})
end)

check.test("§7: to the account: whoever has the priority to get it has it; the others get the copy", function()
  local who = verona()
  who.juliet:send "<message to='romeo@example.org' type='chat'><body>1</body></message>"
  who.orchard:expect { name = "message", from = "juliet@example.org/balcony" }
  check.equal(copies(who.street, "received"), 1)
  who.street:send "<presence><priority>5</priority></presence>"
  for _, client in pairs { who.orchard, who.street, who.phone } do client:received() end
  who.juliet:send "<message to='romeo@example.org' type='chat'><body>2</body></message>"
  for _, client in pairs { who.orchard, who.street } do
    client:expect { name = "message", from = "juliet@example.org/balcony" }
    client:nothing()
  end
  -- to a resource that is gone: the account gets it
  who.street:send "<presence><priority>0</priority></presence>"
  for _, client in pairs { who.orchard, who.street, who.phone } do client:received() end
  who.juliet:send "<message to='romeo@example.org/gone' type='chat'><body>3</body></message>"
  who.orchard:expect { name = "message", from = "juliet@example.org/balcony" }
  check.equal(copies(who.street, "received"), 1)
  check.equal(who.host:close(), {})
end)

check.test("§8: what is sent is copied, by whichever client it was sent", function()
  local who = verona()
  who.phone:send "<message to='juliet@example.org' type='chat' id='m'><body>But soft</body></message>"
  for _, name in ipairs { "orchard", "street" } do
    local copy = who[name]:expect { name = "message", from = "romeo@example.org", to = who[name].jid, type = "chat" }
    local inner = copy_in(copy, "sent")
    check.equal({ inner.attr.from, inner.attr.to, inner:get_child_text "body" },
      { "romeo@example.org/phone", "juliet@example.org", "But soft" })
  end
  who.phone:nothing()
  who.orchard:send "<message to='nurse@elsewhere.example' type='chat'><body>out</body></message>"
  who.orchard:nothing()
  check.equal(copies(who.street, "sent"), 1)
  check.equal(who.host:close(), {})
end)

check.test("to oneself: one copy each, none for the sender or who has it", function()
  local who = verona()
  who.orchard:send "<message to='romeo@example.org/phone' type='chat'><body>1</body></message>"
  who.phone:expect { name = "message", from = "romeo@example.org/orchard" }
  who.orchard:nothing()
  local copy = who.street:expect { name = "message", from = "romeo@example.org" }
  check.ok(copy_in(copy, "received"))
  who.street:nothing()
  for _, to in ipairs { " to='romeo@example.org'", "" } do
    who.phone:send("<message" .. to .. " type='chat'><body>2</body></message>")
    who.orchard:expect { name = "message", from = "romeo@example.org/phone" }
    who.orchard:nothing()
    check.equal(copy_in(who.street:expect { name = "message" }, "received").attr.to, "romeo@example.org")
    who.street:nothing()
    who.phone:nothing()
  end
  check.equal(who.host:close(), {})
end)

local X = "<x xmlns='http://jabber.org/protocol/muc#user'/>"
local INVITE = "<x xmlns='http://jabber.org/protocol/muc#user'><invite to='r@example.org'/></x>"
local DIRECT = "<x xmlns='jabber:x:conference' jid='room@muc.example'/>"

check.test("§6.1: which messages, both ways", function()
  -- attributes, content, copied when received from juliet's client, copied when sent to it
  for i, row in ipairs {
    { "type='chat'", "", true, true },
    { "type='chat'", "<body>x</body>", true, true },
    { "", "<body>x</body>", true, true },
    { "type='normal'", "<body>x</body>", true, true },
    { "type='strange'", "<body>x</body>", true, true },           -- RFC 6121 §5.2.2: normal
    { "type='normal'", "<subject>x</subject>", false, false },
    { "", "<received xmlns='urn:xmpp:receipts' id='1'/>", true, true },
    { "", "<request xmlns='urn:xmpp:receipts'/>", true, true },
    { "", "<composing xmlns='http://jabber.org/protocol/chatstates'/>", true, true },
    { "", "<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>", true, true },
    { "", "<propose xmlns='urn:xmpp:jingle-message:0' id='1'/>", true, true },
    { "", "<reactions xmlns='urn:xmpp:reactions:0' id='1'/>", true, true },
    { "", "<retract xmlns='urn:xmpp:message-retract:1' id='1'/>", true, true },
    { "type='chat'", "<body>x</body><private xmlns='urn:xmpp:carbons:2'/>", false, false },
    { "type='chat'", "<body>x</body><no-copy xmlns='urn:xmpp:hints'/>", false, false },
    { "type='chat'", "<body>x</body><private xmlns='urn:example'/>", true, true },
    { "type='groupchat'", "<body>x</body>", false, false },
    { "type='headline'", "<body>x</body>", false, false },
    { "type='error'", "<body>x</body>", false, false },
    { "", DIRECT, true, true },
    { "", INVITE, true, true },
    { "type='chat'", "<body>x</body>" .. X, false, false },       -- the sender's clients are in no room
    { "type='chat'", "<event xmlns='http://jabber.org/protocol/pubsub#event'/>", true, true },
    { "", "<event xmlns='http://jabber.org/protocol/pubsub#event'/>", false, false },
  } do
    local who = verona()
    local text = ("<message to='%%s' id='i' %s>%s</message>"):format(row[1], row[2])
    who.juliet:send(text:format "romeo@example.org/orchard")
    check.equal(copies(who.street, "received") == 1, row[3], ("row %d received: %s"):format(i, text))
    who.orchard:received()
    who.orchard:send(text:format "juliet@example.org/balcony")
    check.equal(copies(who.street, "sent") == 1, row[4], ("row %d sent: %s"):format(i, text))
    check.equal(copies(who.orchard, "sent"), 0)
    who.host:close()
  end
end)

check.test("§6.1: a private message to an occupant is for the clients under the same nick", function()
  local who = verona()
  local pm = "<message to='room@muc.example/thirdwitch' type='chat'><body>x</body>" .. X .. "</message>"
  who.orchard:send "<presence to='room@muc.example/romeo'/>"
  who.orchard:send(pm)
  who.street:nothing()
  who.street:send "<presence to='room@muc.example/romeo'/>"
  who.orchard:send(pm)
  check.equal(copies(who.street, "sent"), 1)
  check.equal(who.host:close(), {})
end)

check.test("§6.1, §10.3: an error is copied if what it is about was, and never to the original sender", function()
  local who = verona()
  local error = "<message type='error' id='%s' to='%s'><error type='cancel'>"
    .. "<gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>"
  who.orchard:send "<message type='chat' id='known' to='juliet@example.org/balcony'><body>x</body></message>"
  who.orchard:send "<message type='groupchat' id='unknown' to='juliet@example.org/balcony'><body>x</body></message>"
  who.street:received()
  who.juliet:send(error:format("known", "romeo@example.org/orchard"))
  who.juliet:send(error:format("unknown", "romeo@example.org/orchard"))
  who.juliet:received()
  check.equal(copies(who.street, "received"), 1)
  who.juliet:send "<message type='chat' id='back' to='romeo@example.org/orchard'><body>x</body></message>"
  who.street:received()
  who.orchard:send(error:format("back", "juliet@example.org/balcony"))
  check.equal(copies(who.street, "sent"), 1)
  -- a client answers a copy with an error: it goes nowhere
  who.orchard:received()
  who.juliet:received()
  who.street:send(error:format("back", "romeo@example.org"))
  who.juliet:nothing()
  who.orchard:nothing()
  check.equal(who.host:close(), {})
end)

check.test("carbons-should-copy decides before the rules", function()
  local who = verona()
  local seen = {}
  who.host.events.add_handler("carbons-should-copy", function(event)
    seen[#seen + 1] = event.user .. (event.c2s and " sent" or " received")
    if event.stanza:get_child("yes", "urn:example") then return true end
    if event.stanza:get_child("no", "urn:example") then return false end
  end)
  who.juliet:send "<message to='romeo@example.org/orchard'><yes xmlns='urn:example'/></message>"
  check.equal(copies(who.street, "received"), 1)
  who.orchard:send "<message to='juliet@example.org' type='chat'><no xmlns='urn:example'/><body>x</body></message>"
  check.equal(copies(who.street, "sent"), 0)
  check.equal(seen, { "romeo@example.org received", "romeo@example.org sent" })
  who.host:close()
end)

check.test("a forged copy stays what it is: a message from who sent it", function()
  local who = verona()
  who.juliet:send("<message to='romeo@example.org/street' type='chat'><received xmlns='urn:xmpp:carbons:2'>"
    .. "<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='friar@example.org'/></forwarded>"
    .. "</received></message>")
  check.equal(who.street:expect { name = "message" }.attr.from, "juliet@example.org/balcony")
  check.equal(copy_in(who.orchard:expect { name = "message", from = "romeo@example.org" }, "received").attr.from,
    "juliet@example.org/balcony")
  who.host:close()
end)

check.done()
