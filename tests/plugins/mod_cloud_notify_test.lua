-- SPDX-License-Identifier: MIT
-- mod_cloud_notify: XEP-0357, and when a device is waked.

local check = require "check"
local fake = require "fakehost"
local st = require "couplet.stanza"
local xml = require "couplet.util.xml"

local PUSH = "urn:xmpp:push:0"
local OPTIONS = "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>http://jabber.org/protocol/pubsub"
  .. "#publish-options</value></field><field var='secret'><value>%s</value></field></x>"
local REACTION = "<reactions xmlns='urn:xmpp:reactions:0' id='1'/>"
local serial = 0

-- romeo has an account and no client; juliet writes to him.
local function verona(options)
  local host = fake.new { options = options,
    plugins = { "iq", "disco", "message", "presence", "roster", "offline", "cloud_notify" } }
  host.events.add_handler("message/offline/handle", function() return true end, 0)
  local users = require "couplet.users"
  host.user_exists, users.user_exists = users.user_exists, function() return true end
  return host, host:client "juliet@example.org/balcony"
end

local function finish(host)
  require "couplet.users".user_exists = host.user_exists
  check.equal(host:close(), {})
end

local function request(client, name, attr, child)
  serial = serial + 1
  attr.xmlns = PUSH
  local iq = st.iq { type = "set", id = "p" .. serial }:tag(name, attr)
  if child then iq:add_child(xml.parse(child)) end
  client:send(iq:reset())
  return client:expect { name = "iq", id = "p" .. serial }
end

local function condition(stanza) return select(2, stanza:get_error()) end

-- A phone registers and goes.
local function register(host, node, child, service)
  local phone = host:client("romeo@example.org/" .. node)
  check.equal(request(phone, "enable", { jid = service or "push.example", node = node }, child).attr.type, "result")
  phone:close()
end

local function say(juliet, text, to)
  juliet:send(("<message to='%s' type='chat'><body>%s</body></message>"):format(to or "romeo@example.org", text))
end

local function from_outside(host, stanza)
  if type(stanza) == "string" then stanza = xml.parse(stanza) end
  host:run(function()
    require "couplet.prosody".core_process_stanza({ type = "s2sin", host = "example.org", send = function() end }, stanza)
  end)
end

local function answer(host, iq, problem)
  from_outside(host, problem and st.error_reply(iq, problem[1], problem[2]) or st.reply(iq))
end

local function node_of(iq) return iq:find "{http://jabber.org/protocol/pubsub}pubsub/publish@node" end

local function summary(iq)
  local out = {}
  local form = iq:find "{http://jabber.org/protocol/pubsub}pubsub/publish/item/{urn:xmpp:push:0}notification/{jabber:x:data}x"
  if not form then return nil end
  for field in form:childtags "field" do
    if field.attr.var ~= "FORM_TYPE" then out[field.attr.var] = field:get_child_text "value" end
  end
  return out
end

check.test("§4.1: the account says that it can", function()
  local host, juliet = verona()
  local romeo = host:client "romeo@example.org/phone"
  romeo:send "<iq type='get' id='d' to='romeo@example.org'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>"
  check.ok(tostring(romeo:expect { id = "d" }):find("urn:xmpp:push:0", 1, true))
  check.ok(juliet)
  finish(host)
end)

check.test("§5, §6: what is wrong with a request", function()
  local host, juliet = verona()
  local romeo = host:client "romeo@example.org/phone"
  for _, name in ipairs { "enable", "disable" } do
    check.equal(condition(request(romeo, name, { node = "x" })), "bad-request")
    check.equal(condition(request(romeo, name, { jid = "@" })), "jid-malformed")
    check.equal(condition(request(romeo, name, { jid = "push.example", node = ("x"):rep(2000) })), "policy-violation")
  end
  local large = OPTIONS:format(("x"):rep(5000))
  check.equal(condition(request(romeo, "enable", { jid = "push.example" }, large)), "policy-violation")
  juliet:send "<iq type='set' id='q' to='romeo@example.org'><enable xmlns='urn:xmpp:push:0' jid='push.example'/></iq>"
  check.equal(condition(juliet:expect { id = "q" }), "service-unavailable")
  check.equal(request(romeo, "disable", { jid = "push.example" }).attr.type, "result")
  host.events.add_handler("cloud_notify/registration", function(event)
    event.origin.send(st.error_reply(event.stanza, "cancel", "not-allowed"))
    return false
  end)
  check.equal(condition(request(romeo, "enable", { jid = "push.example" })), "not-allowed")
  check.equal(romeo.session.push_identifier, nil)
  finish(host)
end)

check.test("§7: a message for somebody who is away: what is published, with the options given", function()
  local host, juliet = verona()
  register(host, "n1", OPTIONS:format "eruio")
  say(juliet, "Ay me")
  local iq = host:expect_sent { name = "iq", type = "set", from = "example.org", to = "push.example" }
  check.equal(node_of(iq), "n1")
  check.equal(summary(iq), { ["message-count"] = "1", ["last-message-body"] = "New Message!" })
  check.ok(tostring(iq:find "{http://jabber.org/protocol/pubsub}pubsub/publish-options/{jabber:x:data}x"):find "eruio")
  check.equal(host:sent(), {})
  finish(host)
end)

check.test("body and sender are told where the admin wants it", function()
  local host, juliet = verona { push_notification_with_body = true, push_notification_with_sender = true }
  register(host, "n1")
  say(juliet, "Ay me")
  check.equal(summary(host:expect_sent { name = "iq" }),
    { ["message-count"] = "1", ["last-message-body"] = "Ay me", ["last-message-sender"] = "juliet@example.org/balcony" })
  finish(host)
end)

check.test("which messages wake, and how", function()
  for i, row in ipairs {
    { "<body>x</body>", "urgent" },
    { "<body/>", nil },
    { "<encrypted xmlns='eu.siacs.conversations.axolotl'/>", "urgent" },
    { "<propose xmlns='urn:xmpp:jingle-message:0' id='1'/>", "urgent" },
    { "<x xmlns='jabber:x:conference' jid='room@muc.example'/>", "urgent" },
    { "<retract xmlns='urn:xmpp:jingle-message:0' id='1'/>", "silent" },
    { REACTION, "silent" },
    { "<composing xmlns='http://jabber.org/protocol/chatstates'/>", nil },
    { "<received xmlns='urn:xmpp:receipts' id='1'/>", nil },
    { "<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>", nil },
    { "<body>x</body>", nil, "headline" },
    { "<body>x</body>", nil, "error" },
  } do
    local host, juliet = verona()
    register(host, "n1")
    juliet:send(("<message to='romeo@example.org' type='%s'>%s</message>"):format(row[3] or "chat", row[1]))
    local iq = host:sent()[1]
    local form = iq and summary(iq)
    check.equal(iq and (form["last-message-body"] and "urgent" or "silent"), row[2], "row " .. i)
    finish(host)
  end
end)

check.test("a device is waked once until it is back; for something important again after push_repeat_delay", function()
  local host, juliet = verona()
  register(host, "n1")
  local function silent() juliet:send ("<message to='romeo@example.org'>" .. REACTION .. "</message>") end
  silent()
  answer(host, host:expect_sent { name = "iq" })
  silent()
  check.equal(host:sent(), {})
  say(juliet, "1")
  answer(host, host:expect_sent { name = "iq" })
  say(juliet, "2")
  silent()
  check.equal(host:sent(), {})
  host:advance(60)
  say(juliet, "3")
  local iq = host:expect_sent { name = "iq" }
  check.equal(summary(iq)["message-count"], "3")
  say(juliet, "4")                             -- the service has not answered yet
  check.equal(host:sent(), {})
  answer(host, iq)
  -- it comes back, and registers no more
  host:client("romeo@example.org/n1"):close()
  say(juliet, "5")
  check.equal(summary(host:expect_sent { name = "iq" })["message-count"], "1")
  finish(host)
end)

check.test("who is here is not waked; other devices are, when a message is archived", function()
  local host, juliet = verona()
  register(host, "tablet")
  local phone = host:client "romeo@example.org/phone"
  phone:send "<presence/>"
  request(phone, "enable", { jid = "push.example", node = "phone" })
  host:sent()
  local function archived(stanza, user)
    host:fire("archive-message-added", { origin = juliet.session, stanza = xml.parse(stanza), for_user = user, id = "1" })
  end
  local message = "<message to='romeo@example.org/phone' from='juliet@example.org/balcony' type='chat'><body>x</body></message>"
  archived(message, "juliet")
  check.equal(host:sent(), {})
  archived(message, "romeo")
  check.equal(node_of(host:expect_sent { name = "iq" }), "tablet")
  check.equal(host:sent(), {})
  archived("<message to='juliet@example.org' from='romeo@example.org/phone' type='chat'><body>x</body></message>", "romeo")
  check.equal(host:sent(), {})
  finish(host)
end)

check.test("sessions without connection: the most important of what waits; what comes; back again", function()
  local host, juliet = verona { push_max_hibernation_timeout = 5000 }
  check.ok(juliet)
  local phone = host:client "romeo@example.org/phone"
  request(phone, "enable", { jid = "push.example", node = "phone" })
  local session = phone.session
  local started = {}
  session.hibernating, session.original_smacks_timeout = os.time(), 600
  host:load("smacks", "function keep_waiting(session, seconds) session.started(seconds) end")
  session.started = function(seconds) started[#started + 1] = seconds end
  local function fire(name, data)
    data.origin = session
    host:fire("smacks-hibernation-" .. name, data)
  end
  local function message(body) return xml.parse("<message type='chat' from='juliet@example.org'>" .. body .. "</message>") end
  fire("start", { queue = { xml.parse "<presence/>", message "<composing xmlns='http://jabber.org/protocol/chatstates'/>" } })
  check.equal(host:sent(), {})
  check.equal(started, { 5000 })               -- kept until it is waked …
  fire("stanza-queued", { queue = {}, stanza = message "<body>x</body>" })
  answer(host, host:expect_sent { name = "iq" })
  check.equal(started, { 5000, 600 })          -- … and its own time from then on
  check.ok(session.first_hibernated_push)
  fire("stanza-queued", { queue = {}, stanza = message "<body>y</body>" })
  check.equal(host:sent(), {})
  fire("end", { queue = {}, resumed = true })
  session.hibernating = nil
  check.equal(session.first_hibernated_push, nil)
  host:fire("smacks-ack-delayed", { origin = session, queue = { message(REACTION),
    message "<body>x</body>" } })
  check.equal(summary(host:expect_sent { name = "iq" }), { ["message-count"] = "1", ["last-message-body"] = "New Message!" })
  phone:close()
  finish(host)
end)

check.test("§7.1: registrations go after push_max_errors failures in a row, and at once when the device is gone", function()
  local host, juliet = verona { push_max_errors = 3 }
  register(host, "n1")
  local function fail(problem)
    say(juliet, "x")
    answer(host, host:expect_sent { name = "iq" }, problem)
  end
  local busy = { "wait", "resource-constraint" }
  fail(busy)
  fail(busy)
  fail(nil)
  host:advance(60)
  for _ = 1, 3 do fail(busy) end
  say(juliet, "x")
  check.equal(host:sent(), {})
  register(host, "n2")
  fail { "cancel", "item-not-found" }
  say(juliet, "x")
  check.equal(host:sent(), {})
  -- a service that does not answer
  register(host, "n3")
  for _ = 1, 3 do
    say(juliet, "x")
    host:expect_sent { name = "iq" }
    host:advance(60)
  end
  say(juliet, "x")
  check.equal(host:sent(), {})
  finish(host)
end)

check.test("§6, §8: disabled, all or one; the service may say so too", function()
  local host, juliet = verona()
  local function nodes()
    local out = {}
    say(juliet, "x")
    for _, iq in ipairs(host:sent()) do
      out[#out + 1] = node_of(iq)
      answer(host, iq)
    end
    table.sort(out)
    host:advance(60)
    return out
  end
  for _, node in ipairs { "a", "b", "c" } do register(host, node) end
  register(host, "d", nil, "other.example")
  check.equal(nodes(), { "a", "b", "c", "d" })
  local romeo = host:client "romeo@example.org/desk"
  request(romeo, "disable", { jid = "push.example", node = "a" })
  check.equal(nodes(), { "b", "c", "d" })
  local gone = "<message from='%s' to='romeo@example.org'><pubsub xmlns='http://jabber.org/protocol/pubsub' node='b'>"
    .. "<affiliation jid='romeo@example.org' affiliation='none'/></pubsub></message>"
  from_outside(host, gone:format "mallory.example")
  host:sent()
  host:advance(60)
  check.equal(nodes(), { "b", "c", "d" })
  from_outside(host, gone:format "push.example")
  check.equal(nodes(), { "c", "d" })
  request(romeo, "disable", { jid = "push.example" })
  check.equal(nodes(), { "d" })
  finish(host)
end)

check.test("no more than push_max_devices, the newest; no more than push_max_per_minute; they stay over a restart", function()
  local host, juliet = verona { push_max_devices = 3, push_max_per_minute = 4 }
  for _, node in ipairs { "a", "b", "c", "d" } do
    register(host, node)
    host:advance(1)
  end
  local kept, fields = 0, {}
  for key, info in pairs(host:store("cloud_notify"):get "romeo") do
    kept = kept + 1
    check.ok(#key == 64 and not key:find "%X", "kept under a hash")
    fields[info.node] = info.jid
  end
  check.equal({ kept, fields }, { 3, { b = "push.example", c = "push.example", d = "push.example" } })
  local function nodes()
    local out = {}
    say(juliet, "x")
    for _, iq in ipairs(host:sent()) do out[#out + 1] = node_of(iq) end
    table.sort(out)
    return out
  end
  host:reload "cloud_notify"
  check.equal(nodes(), { "b", "c", "d" })
  for _, node in ipairs { "b", "c" } do register(host, node) end       -- they are waked anew
  check.equal(#nodes(), 1)                     -- 4 a minute
  for i = 1, 1000 do                           -- within one second: the last is among them
    register(host, "n" .. i)
    local found, n = false, 0
    for _, info in pairs(host:store("cloud_notify"):get "romeo") do
      n, found = n + 1, found or info.node == "n" .. i
    end
    check.ok(n == 3 and found, i)
  end
  finish(host)
end)

check.test("cloud_notify/push may change or stop a notification", function()
  local host, juliet = verona { push_notification_with_body = true }
  register(host, "n1")
  local stop = false
  host.events.add_handler("cloud_notify/push", function(event)
    check.equal({ event.username, event.push_info.node, event.important, event.original_stanza:get_child_text "body" },
      { "romeo", "n1", true, "secret" })
    event.push_summary["last-message-body"] = nil
    event.notification_payload:tag("encrypted", { xmlns = "urn:example" }):up()
    return stop or nil
  end)
  say(juliet, "secret")
  local iq = host:expect_sent { name = "iq" }
  check.equal(summary(iq), { ["message-count"] = "1" })
  check.ok(tostring(iq):find("<encrypted", 1, true))
  stop = true
  answer(host, iq)
  host:advance(60)
  say(juliet, "secret")
  check.equal(host:sent(), {})
  finish(host)
end)

check.test("a client that is logged out is waked no more", function()
  local host, juliet = verona()
  for _, id in ipairs { "one", "two" } do
    local phone = host:client("romeo@example.org/" .. id, { client_id = id })
    check.equal(request(phone, "enable", { jid = "push.example", node = id }).attr.type, "result")
    phone:close()
  end
  host:fire("sasl2/client-forgotten", { username = "romeo", id = "one" })
  say(juliet, "hello")
  check.equal({ node_of(host:expect_sent { name = "iq" }), #host:sent() }, { "two", 0 })
  finish(host)
end)

check.done()
