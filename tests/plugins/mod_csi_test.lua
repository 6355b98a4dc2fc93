-- SPDX-License-Identifier: MIT
-- mod_csi and mod_csi_simple: XEP-0352, and what may wait.

local check = require "check"
local fake = require "fakehost"
local st = require "couplet.stanza"

local CSI = "urn:xmpp:csi:0"

local function csi(client, name) client:send(st.stanza(name, { xmlns = CSI })) end

local function verona(options)
  local host = fake.new { plugins = { "iq", "message", "presence", "roster", "csi_simple" }, options = options }
  local phone, juliet = host:client "romeo@example.org/phone", host:client "juliet@example.org/balcony"
  phone:send "<presence/>"
  juliet:send "<presence/>"
  phone:received()
  juliet:received()
  return host, phone, juliet
end

local function seen(client)
  local out = {}
  for _, stanza in ipairs(client:received()) do out[#out + 1] = stanza.attr.id or stanza.name end
  return out
end

local COMPOSING = "<composing xmlns='http://jabber.org/protocol/chatstates'/>"
local CHATSTATE = "<message to='romeo@example.org/phone' type='chat' id='%s'>" .. COMPOSING .. "</message>"
local BODY = "<message to='romeo@example.org/phone' type='chat' id='%s'><body>x</body></message>"
local PRESENCE = "<presence to='romeo@example.org/phone' id='%s'%s/>"

check.test("§3, §4: offered after authentication; the state is known, and told to nobody before it", function()
  local host, phone, juliet = verona()
  local features = st.stanza "features"
  host:fire("stream-features", { origin = phone.session, features = features })
  check.ok(features:get_child("csi", CSI))
  features = st.stanza "features"
  host:fire("stream-features", { origin = { type = "c2s_unauthed" }, features = features })
  check.equal(features:get_child("csi", CSI), nil)
  local events = {}
  for _, name in ipairs { "csi-client-active", "csi-client-inactive" } do
    host.events.add_handler(name, function(event) events[#events + 1] = { event.name, event.origin == phone.session } end)
  end
  csi(phone, "inactive")
  check.equal(phone.session.state, "inactive")
  csi(phone, "active")
  check.equal(phone.session.state, "active")
  check.equal(events, { { "csi-client-inactive", true }, { "csi-client-active", true } })
  phone:nothing()
  juliet:nothing()
  local stranger = host:client "example.org"
  csi(stranger, "inactive")
  check.equal(stranger.closed, true)
  check.equal(host:close(), {})
end)

check.test("XEP-0386 §3.2: a client may begin inactive", function()
  local host, phone, juliet = verona()
  local features = st.stanza "inline"
  host:fire("advertise-bind-features", { origin = phone.session, features = features })
  check.equal(features:get_child_attr("feature", nil, "var"), CSI)
  local function bind(child)
    host:fire("enable-bind-features", { session = phone.session, request = child, result = st.stanza "bound" })
  end
  bind(st.stanza("bind", { xmlns = "urn:xmpp:bind:0" }))
  check.equal(phone.session.state, nil)
  bind(st.stanza("bind", { xmlns = "urn:xmpp:bind:0" }):tag("inactive", { xmlns = CSI }):reset())
  check.equal(phone.session.state, "inactive")
  juliet:send(CHATSTATE:format "c1")
  phone:nothing()
  check.equal(host:close(), {})
end)

check.test("unimportant stanzas wait, in order, until the client is active; the last presence of each sender wins", function()
  local host, phone, juliet = verona()
  local paris = host:client "paris@example.org/home"
  csi(phone, "inactive")
  juliet:send(PRESENCE:format("p1", ""))
  juliet:send(CHATSTATE:format "c1")
  paris:send(PRESENCE:format("q1", ""))
  juliet:send(PRESENCE:format("p2", ""))
  juliet:send(CHATSTATE:format "c2")
  juliet:send(PRESENCE:format("p3", " type='unavailable'"))
  phone:nothing()
  check.equal(phone.session.csi_counter, 4)
  csi(phone, "active")
  check.equal(seen(phone), { "c1", "q1", "c2", "p3" })
  juliet:send(PRESENCE:format("p4", ""))
  check.equal(seen(phone), { "p4" })
  check.equal(phone.session.filters, nil)      -- an active client costs nothing
  check.equal(host:close(), {})
end)

check.test("something important brings what waits with it, before it; then nothing waits for a moment", function()
  local host, phone, juliet = verona()
  local reasons = {}
  host.events.add_handler("csi-flushing", function(event) reasons[#reasons + 1] = event.reason end)
  csi(phone, "inactive")
  juliet:send(CHATSTATE:format "c1")
  juliet:send(BODY:format "m1")
  check.equal(seen(phone), { "c1", "m1" })
  juliet:send(CHATSTATE:format "c2")
  check.equal(seen(phone), { "c2" })
  host:advance(5)
  juliet:send(CHATSTATE:format "c3")
  phone:nothing()
  phone:send "<iq type='get' id='i' to='juliet@example.org/balcony'><ping xmlns='urn:xmpp:ping'/></iq>"
  check.equal(seen(phone), { "c3" })
  check.equal(reasons, { "body", "client activity" })
  check.equal(host:close(), {})
end)

check.test("no more than csi_queue_size stanzas, nor 64 KiB, wait", function()
  local host, phone, juliet = verona { csi_queue_size = 3, csi_resume_inactive_delay = 0 }
  csi(phone, "inactive")
  for i = 1, 3 do juliet:send(CHATSTATE:format(i)) end
  phone:nothing()
  juliet:send(CHATSTATE:format "4")
  check.equal(seen(phone), { "1", "2", "3", "4" })
  local large = "<message to='romeo@example.org/phone' id='%s'><x xmlns='urn:example'>" .. ("x"):rep(40000) .. "</x></message>"
  juliet:send(large:format "5")
  phone:nothing()
  juliet:send(large:format "6")
  check.equal(seen(phone), { "5", "6" })
  check.equal(host:close(), {})
end)

-- The table under a local name of the plugin, by way of a function that uses it.
local function upvalue(fn, name)
  for i = 1, 100 do
    local found, value = debug.getupvalue(fn, i)
    if found == name then return value end
  end
end

check.test("a contact that changes its presence without end takes one place, and the order stays", function()
  local host, phone, juliet = verona()
  csi(phone, "inactive")
  juliet:send(CHATSTATE:format "c1")
  for i = 1, 2000 do juliet:send(PRESENCE:format("p" .. i, "")) end
  juliet:send(CHATSTATE:format "c2")
  juliet:send(PRESENCE:format("last", ""))
  check.equal(phone.session.csi_counter, 3)
  local filter = phone.session.filters["stanzas/out"][1].run
  local held = upvalue(filter, "held")
  check.ok(held[phone.session].last < 100, "no place is left for what was replaced")
  csi(phone, "active")
  check.equal(seen(phone), { "c1", "c2", "last" })
  check.equal(host:close(), {})
end)

check.test("nothing is lost when a session ends, hibernates or the plugin goes", function()
  local host, phone, juliet = verona()
  csi(phone, "inactive")
  juliet:send(CHATSTATE:format "c1")
  host:fire("smacks-hibernation-start", { origin = phone.session, queue = {} })
  check.equal(seen(phone), { "c1" })
  host:run(function()
    require "couplet.prosody".events.fire_event("c2s-session-updated", { session = phone.session })
  end)
  check.equal(phone.session.state, "active")
  csi(phone, "inactive")
  juliet:send(CHATSTATE:format "c2")
  phone:nothing()
  host:unload "csi_simple"
  check.equal(seen(phone), { "c2" })
  host:load "csi_simple"
  csi(phone, "inactive")
  phone:close()
  check.equal(host:close(), {})
end)

-- Is it important for romeo's phone?
local function important(xml, options)
  local host, phone = verona(options)
  phone.session.directed = { ["room@muc.example/Romeo"] = true }
  local event = { stanza = require "couplet.util.xml".parse(xml), session = phone.session }
  local verdict = host:fire("csi-is-stanza-important", event)
  host:close()
  return verdict, event.reason
end

local ROOM = "<message type='groupchat' from='room@muc.example/x'>"
local MENTION = "<reference xmlns='urn:xmpp:reference:0' type='mention' uri='xmpp:romeo@example.org'/>"
local FORWARDED = "<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' type='chat'>%s</message></forwarded>"

check.test("what is important", function()
  for i, row in ipairs {
    { true, "<message type='chat'><body>x</body></message>" },
    { true, "<message><body>x</body></message>" },
    { true, "<message type='error'/>" },
    { false, "<message type='headline'><body>x</body></message>" },
    { false, "<message type='chat'>" .. COMPOSING .. "</message>" },
    { false, "<message><received xmlns='urn:xmpp:receipts' id='1'/></message>" },
    { false, "<message type='chat'><displayed xmlns='urn:xmpp:chat-markers:0' id='1'/></message>" },
    { true, "<message type='chat'><encrypted xmlns='eu.siacs.conversations.axolotl'/></message>" },
    { true, "<message><encrypted xmlns='urn:xmpp:omemo:2'/></message>" },
    { true, "<message><encryption xmlns='urn:xmpp:eme:0' namespace='urn:example'/></message>" },
    { true, "<message><propose xmlns='urn:xmpp:jingle-message:0' id='1'/></message>" },
    { true, "<message><x xmlns='jabber:x:conference' jid='room@muc.example'/></message>" },
    { true, "<message><x xmlns='http://jabber.org/protocol/muc#user'><invite from='a@b'/></x></message>" },
    { true, "<message type='groupchat'><subject>x</subject></message>" },
    { true, "<message type='groupchat'><subject/></message>" },
    { true, ROOM .. "<body>x</body></message>" },
    { false, ROOM .. "<body>x</body></message>", { csi_muc_mentions_only = true } },
    { true, ROOM .. "<body>O romeo!</body></message>", { csi_muc_mentions_only = true } },
    { true, ROOM .. "<body>he</body>" .. MENTION .. "</message>", { csi_muc_mentions_only = true } },
    { true, "<message><sent xmlns='urn:xmpp:carbons:2'>" .. FORWARDED:format(COMPOSING) .. "</sent></message>" },
    { false, "<message><received xmlns='urn:xmpp:carbons:2'>" .. FORWARDED:format(COMPOSING) .. "</received></message>" },
    { true, "<message><received xmlns='urn:xmpp:carbons:2'>" .. FORWARDED:format "<body>x</body>" .. "</received></message>" },
    { true, "<message><result xmlns='urn:xmpp:mam:2' id='1'/></message>" },
    { true, "<message><reactions xmlns='urn:xmpp:reactions:0' id='1'/></message>" },
    { false, "<message><alarm xmlns='urn:example'/></message>" },
    { true, "<message><alarm xmlns='urn:example'/></message>", { csi_important_payloads = { "{urn:example}alarm" } } },
    { false, "<presence/>" },
    { false, "<presence type='unavailable'/>" },
    { true, "<presence type='subscribe'/>" },
    { true, "<presence type='error'/>" },
    { true, "<presence><x xmlns='http://jabber.org/protocol/muc#user'><status code='110'/></x></presence>" },
    { false, "<presence><x xmlns='http://jabber.org/protocol/muc#user'><item role='visitor'/></x></presence>" },
    { true, "<iq type='result' id='1'/>" },
    { true, "<r xmlns='urn:xmpp:sm:3'/>" },
  } do
    check.equal(important(row[2], row[3]), row[1], ("row %d: %s"):format(i, row[2]))
  end
end)

check.test("others may decide before", function()
  local host, phone, juliet = verona()
  host.events.add_handler("csi-is-stanza-important", function(event) return not event.stanza:get_child "body" end)
  csi(phone, "inactive")
  juliet:send(BODY:format "m1")
  phone:nothing()
  juliet:send(CHATSTATE:format "c1")
  check.equal(seen(phone), { "m1", "c1" })
  host:close()
end)

check.test("of the same PEP item only the last version is sent", function()
  local host, phone, juliet = verona()
  csi(phone, "inactive")
  for i, row in ipairs { { "mood", "current" }, { "devices", "a" }, { "devices", "b" }, { "mood", "current" },
    { "devices", "a" } } do
    juliet:send(("<message to='romeo@example.org/phone' type='headline' id='%d'>"
      .. "<event xmlns='http://jabber.org/protocol/pubsub#event'><items node='%s'><item id='%s'/></items></event></message>")
      :format(i, row[1], row[2]))
  end
  csi(phone, "active")
  check.equal(seen(phone), { "3", "4", "5" })
  host:close()
end)

check.done()
