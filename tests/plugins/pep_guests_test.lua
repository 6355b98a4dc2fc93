-- SPDX-License-Identifier: MIT
-- XEP-0163 and people one must not trust: blocked ones, hashes that lie, contacts elsewhere, changes that meet each other.

local check = require "check"
local fake = require "fakehost"
local calculate_hash = require "couplet.util.caps".calculate_hash
local pubsub = require "couplet.util.pubsub"
local roster = require "couplet.roster"
local router = require "couplet.router"
local st = require "couplet.stanza"
local xml = require "couplet.util.xml"

local NS = "http://jabber.org/protocol/pubsub"
local INFO = "http://jabber.org/protocol/disco#info"
local CAPS = "<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='urn:client' ver='%s'/>"

local serial = 0
local function ask(client, kind, inner, owner, to)
  serial = serial + 1
  local id = "q" .. serial
  client:send(("<iq type='%s' id='%s' to='%s'><pubsub xmlns='%s%s'>%s</pubsub></iq>"):format(kind, id, to or "romeo@example.org",
    NS, owner and "#owner" or "", inner))
  return client:expect { name = "iq", id = id }
end

local function options(fields)
  local head = "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>"
  local out = { head .. NS .. "#publish-options</value></field>" }
  for k, v in pairs(fields) do out[#out + 1] = ("<field var='pubsub#%s'><value>%s</value></field>"):format(k, v) end
  return "<publish-options>" .. table.concat(out) .. "</x></publish-options>"
end

local function publish(client, node, id, more)
  local reply = ask(client, "set", ("<publish node='%s'><item id='%s'><x xmlns='urn:x'/></item></publish>%s"):format(node, id,
    more and options(more) or ""))
  check.equal(reply.attr.type, "result")
end

local function contact(host, username, who, subscription)
  host:run(function()
    local list = roster.load_roster(username, "example.org")
    list[who] = subscription and { subscription = subscription, groups = {} } or nil
    assert(roster.save_roster(username, "example.org", list, who))
  end)
end

local function befriend(host, a, b)
  contact(host, a, b .. "@example.org", "both")
  contact(host, b, a .. "@example.org", "both")
end

local function info(...)
  local query = st.stanza("query", { xmlns = INFO }):tag("identity", { category = "client", type = "pc" }):up()
  for _, node in ipairs { ... } do query:tag("feature", { var = node .. "+notify" }):up() end
  return query
end

-- Answers what is asked, and returns all that has come.
local function answer(client, query)
  local list = client:received()
  for _, stanza in ipairs(list) do
    if stanza.name == "iq" and stanza.attr.type == "get" then client:send(tostring(st.reply(stanza):add_child(query))) end
  end
  return list
end

local function online(client, ...)
  local query = info(...)
  client:send("<presence>" .. CAPS:format(calculate_hash(query)) .. "</presence>")
  return answer(client, query)
end

local function events(list)
  local out = {}
  for _, stanza in ipairs(list) do
    local what = stanza.name == "message" and stanza:find(("{%s#event}event"):format(NS))
    if what then
      local tag = what.tags[1]
      local item = tag.tags[1]
      out[#out + 1] = ("%s %s %s"):format(tag.attr.node, (item or tag).name, item and (item.attr.id or item.attr.uri) or "")
    end
  end
  return out
end

local function heard(client) return events(client:received()) end

local function new(more)
  local plugins = { "iq", "presence", "message", "roster", "disco", "blocklist", "pep" }
  for _, name in ipairs(more or {}) do plugins[#plugins + 1] = name end
  local host = fake.new { plugins = plugins }
  local romeo, juliet = host:client "romeo@example.org/orchard", host:client "juliet@example.org/balcony"
  befriend(host, "romeo", "juliet")
  return host, romeo, juliet
end

check.test("contacts hear that a node is deleted; nobody but its owner says where it went", function()
  local host, romeo, juliet = new()
  online(juliet, "urn:n")
  publish(romeo, "urn:n", "1", { access_model = "open" })
  check.equal(heard(juliet), { "urn:n item 1" })
  check.equal(ask(juliet, "set", "<delete node='urn:n'><redirect uri='xmpp:evil.example'/></delete>", true).attr.type, "error")
  check.equal(ask(romeo, "set", "<delete node='urn:n'/>", true).attr.type, "result")
  check.equal(heard(juliet), { "urn:n delete " })
  host:close()
end)

check.test("who is blocked, or has blocked, hears nothing: neither news nor the last item", function()
  local host, romeo, juliet = new()
  publish(romeo, "urn:n", "1", { access_model = "open" })
  local function block(client, whom, name)
    client:send(("<iq type='set' id='b'><%s xmlns='urn:xmpp:blocking'><item jid='%s'/></%s></iq>"):format(name, whom, name))
    check.ok(client:expect { name = "iq", id = "b", type = "result" })
  end
  for _, row in ipairs { { romeo, "juliet@example.org" }, { juliet, "romeo@example.org" } } do
    block(row[1], row[2], "block")
    online(juliet, "urn:n")
    publish(romeo, "urn:n", "2")
    check.equal(heard(juliet), {}, row[2])
    juliet:send "<presence type='unavailable'/>"
    block(row[1], row[2], "unblock")
  end
  check.equal(ask(juliet, "set", "<subscribe node='urn:n' jid='juliet@example.org'/>").attr.type, "result")
  juliet:send "<presence/>"
  juliet:received()
  block(romeo, "juliet@example.org", "block")
  publish(romeo, "urn:n", "3")
  check.equal(heard(juliet), {}, "a subscriber")
  host:close()
end)

check.test("who no longer sees the presence no longer hears; other options are no new subscription", function()
  local host, romeo, juliet = new()
  online(juliet, "urn:n")
  publish(romeo, "urn:n", "1")
  check.equal(ask(juliet, "set", "<subscribe node='urn:n' jid='juliet@example.org'/>").attr.type, "result")
  heard(juliet)
  check.equal(ask(juliet, "set", ("<options node='urn:n' jid='juliet@example.org'><x xmlns='jabber:x:data' type='submit'>"
    .. "<field var='FORM_TYPE'><value>%s#subscribe_options</value></field><field var='pubsub#deliver'><value>1</value></field>"
    .. "</x></options>"):format(NS)).attr.type, "result")
  check.equal(heard(juliet), {})                           -- the last item once
  contact(host, "romeo", "juliet@example.org", "to")
  publish(romeo, "urn:n", "2")
  check.equal(heard(juliet), {})
  host:close()
end)

check.test("XEP-0163 §7.1: who loses the presence, or leaves the group, is a subscriber no longer, and hears so", function()
  local host, romeo, juliet = new()
  local nurse = host:client "nurse@example.org/hall"
  befriend(host, "romeo", "nurse")
  publish(romeo, "urn:p", "1")
  publish(romeo, "urn:r", "1", { access_model = "roster", roster_groups_allowed = "Loves" })
  publish(romeo, "urn:o", "1", { access_model = "open" })
  local function group(name)
    romeo:send(("<iq type='set' id='g'><query xmlns='jabber:iq:roster'><item jid='juliet@example.org'>%s</item></query></iq>")
      :format(name and "<group>" .. name .. "</group>" or ""))
    check.ok(romeo:expect { name = "iq", id = "g", type = "result" })
    host:advance(0)
  end
  local function subscriptions(client)
    local out = {}
    for _, tag in ipairs(ask(client, "get", "<subscriptions/>").tags[1].tags[1].tags) do out[#out + 1] = tag.attr.node end
    table.sort(out)
    return out
  end
  group "Loves"
  juliet:send "<presence/>"
  for _, client in ipairs { juliet, nurse } do
    for _, node in ipairs { "urn:p", "urn:r", "urn:o" } do
      ask(client, "set", ("<subscribe node='%s' jid='%s@example.org'/>"):format(node, client.session.username))
    end
  end
  check.equal(subscriptions(juliet), { "urn:o", "urn:p", "urn:r" })
  check.equal(subscriptions(nurse), { "urn:o", "urn:p" })
  heard(juliet)
  group(nil)
  check.equal(heard(juliet), { "urn:r subscription " })
  check.equal(subscriptions(juliet), { "urn:o", "urn:p" })
  romeo:send "<presence type='unsubscribed' to='juliet@example.org'/>"
  host:advance(0)
  check.equal(heard(juliet), { "urn:p subscription " })
  check.equal(subscriptions(juliet), { "urn:o" })
  check.equal(subscriptions(nurse), { "urn:o", "urn:p" })
  host:close()
end)

check.test("XEP-0163 §4.3.1: errors come back to the account; who is gone is told nothing more, if he says so himself", function()
  local host, romeo, juliet = new()
  local nurse = host:client "nurse@example.org/hall"
  publish(romeo, "urn:n", "1", { access_model = "open" })
  juliet:send "<presence/>"
  ask(juliet, "set", "<subscribe node='urn:n' jid='juliet@example.org/balcony'/>")
  juliet:received()
  publish(romeo, "urn:n", "2")
  local notification = juliet:expect { name = "message" }
  check.equal(notification.attr.from, "romeo@example.org")
  local function bounce(client)
    client:send(("<message type='error' to='romeo@example.org' id='%s'><error type='cancel'>"
      .. "<gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>"):format(notification.attr.id))
    host:advance(0)
  end
  bounce(nurse)
  check.equal(#ask(juliet, "get", "<subscriptions/>").tags[1].tags[1].tags, 1)
  bounce(juliet)
  check.equal(#ask(juliet, "get", "<subscriptions/>").tags[1].tags[1].tags, 0)
  host:close()
end)

check.test("who hears of another configuration does not hear the names of the owner's groups", function()
  local host, romeo, juliet = new()
  online(juliet, "urn:r")
  publish(romeo, "urn:r", "1", { access_model = "presence", notify_config = "1" })
  juliet:received()
  check.equal(ask(romeo, "set", ("<configure node='urn:r'><x xmlns='jabber:x:data' type='submit'><field var='pubsub#title'>"
    .. "<value>Tunes</value></field><field var='pubsub#roster_groups_allowed'><value>Old flames</value></field></x></configure>"),
    true).attr.type, "result")
  local text = tostring(juliet:expect { name = "message" })
  check.equal({ text:find("Tunes", 1, true) ~= nil, text:find("Old flames", 1, true) }, { true, nil })
  check.ok(tostring(ask(romeo, "get", "<configure node='urn:r'/>", true)):find("Old flames", 1, true))
  host:close()
end)

check.test("who becomes a contact gets what is there already", function()
  local host, romeo = new()
  local nurse = host:client "nurse@example.org/hall"
  publish(romeo, "urn:n", "1")
  romeo:send "<presence/>"
  online(nurse, "urn:n")
  check.equal(heard(nurse), {})
  contact(host, "romeo", "nurse@example.org", "from")
  host:run(router.core_post_stanza, romeo.session,
    st.presence { type = "subscribed", from = "romeo@example.org", to = "nurse@example.org" }, false)
  check.equal(heard(nurse), { "urn:n item 1" })
  host:close()
end)

-- The same hash with "urn:b+notify" as a form's type, or as part of an identity: the string behind it is the same (XEP-0115 §7).
check.test("a hash is proved by an answer in which every +notify is a feature", function()
  local full = info("urn:a", "urn:b")
  local ver = calculate_hash(full)
  local form = info "urn:a"
  form:tag("x", { xmlns = "jabber:x:data", type = "result" }):tag("field", { var = "FORM_TYPE", type = "hidden" })
    :text_tag("value", "urn:b+notify"):up():up()
  check.equal((calculate_hash(form)), ver)
  local host, romeo, juliet = new()
  local mallory = host:client "mallory@example.org/den"
  mallory:send("<presence>" .. CAPS:format(ver) .. "</presence>")
  answer(mallory, form)
  online(juliet, "urn:a", "urn:b")
  publish(romeo, "urn:b", "1")
  check.equal(heard(juliet), { "urn:b item 1" })
  host:close()
end)

check.test("a flood of strangers: a thousand subscribe, then too many; sixty requests reach the owner, the rest wait", function()
  local host, romeo, juliet = new()
  publish(romeo, "urn:n", "1", { access_model = "open" })
  publish(romeo, "urn:asked", "1", { access_model = "authorize" })
  romeo:send "<presence/>"
  romeo:received()
  local replies = {}
  local function outside(i, node)
    local name = ("s%d@far.example"):format(i)
    local stanza = xml.parse(("<iq type='set' id='f%d' from='%s/x' to='romeo@example.org'><pubsub xmlns='%s'>"
      .. "<subscribe node='%s' jid='%s'/></pubsub></iq>"):format(i, name, NS, node, name))
    host:run(router.core_process_stanza, { type = "s2sin", host = "example.org", hosts = { ["far.example"] = { authed = true } },
      send = function(reply) table.insert(replies, st.clone(reply)) end }, stanza)
  end
  local function answers()
    host:advance(0)
    local ok, too_many, list = 0, 0, replies
    replies = {}
    for _, stanza in ipairs(list) do
      local _, condition, _, extra = stanza:get_error()
      if stanza.name == "iq" and stanza.attr.type == "result" then ok = ok + 1 end
      if condition == "policy-violation" and extra.name == "too-many-subscriptions" then too_many = too_many + 1 end
    end
    return { ok, too_many }
  end
  for i = 1, 1100 do outside(i, "urn:n") end
  check.equal(answers(), { 1000, 100 })
  for i = 1, 1100 do outside(i, "urn:asked") end
  check.equal(answers(), { 1000, 100 })
  check.equal(#romeo:received(), 60)
  -- the owner's own life goes on, and what he takes out is room for others
  publish(romeo, "urn:n", "2")
  publish(romeo, "urn:other", "1")
  check.equal(ask(romeo, "set", "<subscriptions node='urn:n'><subscription jid='s1@far.example' subscription='none'/>"
    .. "</subscriptions>", true).attr.type, "result")
  check.equal(ask(juliet, "set", "<subscribe node='urn:n' jid='juliet@example.org'/>").attr.type, "result")
  check.equal(host:close(), {})
end)

check.test("XEP-0115 §5.3: the example with a form", function()
  check.equal((calculate_hash(xml.parse(([[<query xmlns='%s'>
    <identity xml:lang='en' category='client' name='Psi 0.11' type='pc'/>
    <identity xml:lang='el' category='client' name='Ψ 0.11' type='pc'/>
    <feature var='http://jabber.org/protocol/caps'/><feature var='http://jabber.org/protocol/disco#info'/>
    <feature var='http://jabber.org/protocol/disco#items'/><feature var='http://jabber.org/protocol/muc'/>
    <x xmlns='jabber:x:data' type='result'>
      <field var='FORM_TYPE' type='hidden'><value>urn:xmpp:dataforms:softwareinfo</value></field>
      <field var='ip_version'><value>ipv4</value><value>ipv6</value></field><field var='os'><value>Mac</value></field>
      <field var='os_version'><value>10.5.1</value></field><field var='software'><value>Psi</value></field>
      <field var='software_version'><value>0.11</value></field></x></query>]]):format(INFO)))), "q07IKJEyjvHSyhy//CH0CxmKi8w=")
end)

check.test("what one client may want to hear of has bounds", function()
  local host, romeo, juliet = new()
  local names = {}
  for i = 1, 300 do names[i] = ("urn:%03d"):format(i) end
  online(juliet, table.unpack(names))
  for _, name in ipairs { "urn:001", "urn:300" } do publish(romeo, name, "1") end
  check.equal(heard(juliet), { "urn:001 item 1" })
  host:close()
end)

check.test("who changes his mind to and fro is told what is new to him, once, until he goes and comes", function()
  local host, romeo, juliet = new()
  local function told(...)
    local list = events(online(juliet, ...))
    table.move(heard(juliet), 1, 100, #list + 1, list)
    table.sort(list)
    return list
  end
  publish(romeo, "urn:a", "1")
  publish(romeo, "urn:b", "1")
  check.equal(told "urn:a", { "urn:a item 1" })
  check.equal(told "urn:b", { "urn:b item 1" })
  for _ = 1, 5 do
    check.equal(told "urn:a", {})
    check.equal(told("urn:a", "urn:b"), {})
  end
  publish(romeo, "urn:b", "2")
  check.equal(heard(juliet), { "urn:b item 2" })
  juliet:send "<presence type='unavailable'/>"
  check.equal(told("urn:a", "urn:b"), { "urn:a item 1", "urn:b item 2" })
  local names = {}
  for round = 1, 5 do                                      -- new names without end
    for i = 1, 200 do names[i] = ("urn:%d:%d"):format(round, i) end
    online(juliet, table.unpack(names))
  end
  publish(romeo, "urn:late", "1")
  check.equal(told "urn:late", {})
  publish(romeo, "urn:late", "2")
  check.equal(heard(juliet), { "urn:late item 2" })        -- news come all the same
  check.equal(host:close(), {})
end)

check.test("a crowd that says a hash and keeps silent, or lies, makes an honest client wait for a minute at most", function()
  local host, romeo, juliet = new()
  publish(romeo, "urn:n", "1", { access_model = "open" })
  local ver = calculate_hash(info "urn:n")
  local crowd = {}
  for i = 1, 30 do
    crowd[i] = host:client(("m%d@example.org/x"):format(i))
    crowd[i]:send("<presence>" .. CAPS:format(ver) .. "</presence>")
    if i % 3 == 0 then answer(crowd[i], info("urn:n", "urn:evil")) end
  end
  juliet:send("<presence>" .. CAPS:format(ver) .. "</presence>")
  for _ = 1, 6 do
    answer(juliet, info "urn:n")
    host:advance(10)
  end
  publish(romeo, "urn:n", "2")
  check.equal(heard(juliet)[1], "urn:n item 2")
  -- and now everybody's client is known
  local nurse = host:client "nurse@example.org/hall"
  nurse:send("<presence>" .. CAPS:format(ver) .. "</presence>")
  for _, stanza in ipairs(nurse:received()) do check.ok(stanza.name ~= "iq") end
  check.equal(host:close(), {})
end)

check.test("hashes without end: so many are asked for at once, fewer of one account or server; later ones are again", function()
  local host, romeo = new()
  romeo:send "<presence/>"
  for _, who in ipairs { "a@far.example", "b@far.example", "c@other.example" } do contact(host, "romeo", who, "both") end
  host:sent()
  local function outside(from, ver)
    local stanza = xml.parse(("<presence from='%s/x' to='romeo@example.org'>%s</presence>"):format(from, CAPS:format(ver)))
    local domain = from:match "@(.*)"
    host:run(router.core_process_stanza, { type = "s2sin", host = "example.org", hosts = { [domain] = { authed = true } },
      send = function() end }, stanza)
    local n = 0
    for _, sent in ipairs(host:sent()) do n = n + (sent.name == "iq" and 1 or 0) end
    return n
  end
  local function flood(client, name, n)
    local asked = 0
    for i = 1, n do
      client:send("<presence>" .. CAPS:format(name .. i) .. "</presence>")
      for _, stanza in ipairs(client:received()) do asked = asked + (stanza.name == "iq" and 1 or 0) end
    end
    return asked
  end
  local mallory, remote = host:client "mallory@example.org/den", 0
  check.equal(flood(mallory, "hash", 300), 100)
  check.equal(flood(host:client "mallory@example.org/other", "more", 10), 0)
  for i = 1, 2000 do remote = remote + outside(i % 2 == 0 and "a@far.example" or "b@far.example", "far" .. i) end
  check.equal(remote, 1000)
  check.equal(outside("c@other.example", "c"), 1)          -- nobody else has to do without
  local all = 1101
  for i = 1, 50 do all = all + flood(host:client(("m%d@example.org/x"):format(i)), "m" .. i .. "x", 110) end
  check.equal(all, 5000)
  host:advance(11)
  check.equal(flood(mallory, "another", 2), 2)
  check.equal(host:close(), {})
end)

check.test("who comes and goes without end is told what is there now and then, and in the end what is there then", function()
  local host, romeo, juliet = new()
  local nurse = host:client "nurse@example.org/hall"
  befriend(host, "romeo", "nurse")
  publish(romeo, "urn:n", "1")
  local told = 0
  for _ = 1, 100 do
    for _, what in ipairs(events(online(juliet, "urn:n"))) do told = told + (what == "urn:n item 1" and 1 or 0) end
    told = told + #heard(juliet)
    juliet:send "<presence type='unavailable'/>"
    juliet:received()
  end
  check.equal(told, 20)
  publish(romeo, "urn:n", "2")
  check.equal(events(online(juliet, "urn:n")), {})
  check.equal(events(online(nurse, "urn:n")), { "urn:n item 2" })        -- others need not wait
  host:advance(20)
  check.equal(heard(juliet), { "urn:n item 2" })           -- once, though she came again meanwhile
  host:advance(300)
  check.equal(heard(juliet), {})
  juliet:send "<presence type='unavailable'/>"
  check.equal(events(online(juliet, "urn:n")), { "urn:n item 2" })
  check.equal(host:close(), {})
end)

check.test("an answer as large as a stanza may be, and one that is none", function()
  local host, romeo, juliet = new()
  publish(romeo, "urn:n", "1")
  local query = info "urn:n"
  for i = 1, 4000 do query:tag("feature", { var = ("urn:feature:%04d"):format(i) }):up() end
  juliet:send("<presence>" .. CAPS:format(calculate_hash(query)) .. "</presence>")
  answer(juliet, query)
  check.equal(heard(juliet), { "urn:n item 1" })
  juliet:send "<presence type='unavailable'/>"
  juliet:send("<presence>" .. CAPS:format "nonsense" .. "</presence>")
  for _, stanza in ipairs(juliet:received()) do
    if stanza.name == "iq" then juliet:send(("<iq type='result' id='%s' to='romeo@example.org'/>"):format(stanza.attr.id)) end
  end
  publish(romeo, "urn:n", "2")
  check.equal(heard(juliet), {})
  for _, odd in ipairs { "ver='" .. ("x"):rep(65) .. "'", "ver=''", "", "ver='x' hash='md5'" } do
    juliet:send(("<presence><c xmlns='http://jabber.org/protocol/caps' node='urn:client' %s/></presence>"):format(odd))
    for _, stanza in ipairs(juliet:received()) do check.ok(stanza.name ~= "iq", odd) end
  end
  check.equal(host:close(), {})
end)

check.test("contacts on other servers: the last item when they come, news, and after a reload; then nothing", function()
  local host, romeo = new()
  local function outside(text)
    local stanza = xml.parse(text)
    host:run(router.core_process_stanza, { type = "s2sin", host = "example.org", hosts = { ["far.example"] = { authed = true } },
      send = function() end }, stanza)
  end
  local function sent()
    local list = host:sent()
    for _, stanza in ipairs(list) do
      if stanza.name == "iq" then outside(tostring(st.reply(stanza):add_child(info "urn:n"))) end
    end
    local out = events(list)
    for _, stanza in ipairs(out[1] and {} or host:sent()) do table.move(events { stanza }, 1, 1, #out + 1, out) end
    return out
  end
  contact(host, "romeo", "paris@far.example", "from")
  romeo:send "<presence/>"
  publish(romeo, "urn:n", "1")
  local presence = "<presence from='paris@far.example/x' to='romeo@example.org'%s>" .. CAPS:format(calculate_hash(info "urn:n"))
    .. "</presence>"
  host:sent()
  outside(presence:format "")
  check.equal(sent(), { "urn:n item 1" })
  outside(presence:format "")
  check.equal(sent(), {})                                  -- he knows
  publish(romeo, "urn:n", "2")
  check.equal(sent(), { "urn:n item 2" })
  host:reload "pep"
  publish(romeo, "urn:n", "3")
  check.equal(sent(), { "urn:n item 3" })
  check.equal(ask(romeo, "set", "<subscribe node='urn:n' jid='romeo@example.org/orchard'/>").attr.type, "result")
  romeo:send "<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'><item jid='far.example'/></block></iq>"
  publish(romeo, "urn:n", "4")
  check.equal(sent(), {})
  romeo:send "<iq type='set' id='b'><unblock xmlns='urn:xmpp:blocking'/></iq>"
  outside "<presence from='paris@far.example/x' to='romeo@example.org' type='unavailable'/>"
  host:sent()
  publish(romeo, "urn:n", "5")
  check.equal(sent(), {})
  romeo:send "<presence type='unavailable'/>"
  romeo:close()
  outside(presence:format "")                              -- nobody is at home: once, not with every change of status
  check.equal(sent(), { "urn:n item 5" })
  outside(presence:format "")
  check.equal(sent(), {})
  host:close()
end)

-- A service whose stores wait, each wait ended by hand.
local function slow()
  local waiting, kept = {}, {}
  local function wait() waiting[#waiting + 1] = coroutine.running() coroutine.yield() end
  local service = pubsub.new {
    autocreate_on_publish = true, may_create = function() return true end,
    nodestore = { set = function(_, node, data) wait() kept[node] = data return true end },
    itemstore = function(_, node)
      return {
        set = function(_, id, item) wait() kept[node .. "/" .. id] = item return true end,
        get = function(_, id) return kept[node .. "/" .. id] end,
        clear = function()
          wait()
          for key in pairs(kept) do
            if key:sub(1, #node + 1) == node .. "/" then kept[key] = nil end
          end
          return true
        end,
      }
    end,
  }
  local function start(fn)
    local co = coroutine.create(fn)
    assert(coroutine.resume(co))
    return co
  end
  local function go_on(which)
    local co = table.remove(waiting, which or 1)
    if co then assert(coroutine.resume(co)) end
    return co ~= nil
  end
  return service, start, go_on, kept
end

check.test("a node that is deleted while somebody publishes to it leaves nothing behind", function()
  local service, start, go_on, kept = slow()
  local item = st.stanza "item":tag("x", { xmlns = "urn:x" })
  start(function() service:create("n", "a@b", {}) end)
  go_on()
  local published, deleted, again
  start(function() published = table.pack(service:publish("n", "a@b", "1", item)) end)
  start(function() deleted = service:delete("n", "a@b") end)
  check.equal(service.nodes.n, nil)
  start(function() again = table.pack(service:create("n", "a@b", {})) end)
  check.equal({ again[1], again[2] }, { false, "conflict" })            -- its name is not free yet
  go_on(2)                                                               -- the items are cleared …
  go_on(1)                                                               -- … and then one more is kept
  while go_on() do end
  check.equal({ published[1], published[2] }, { false, "item-not-found" })
  check.equal(deleted, true)
  check.equal(kept, {})
  check.equal(service.n_nodes, 0)
end)

check.test("while room is looked for, a node is made or deleted by others: what is there then counts", function()
  local waiting, kept = {}, {}
  local function wait() waiting[#waiting + 1] = coroutine.running() coroutine.yield() end
  local full = false
  local service = pubsub.new {
    autocreate_on_publish = true, may_create = function(who) return who == "a@b" end,
    has_room = function() if full then wait() end return true end,
    itemstore = function() return { set = function(_, id, item) kept[id] = item return true end,
      clear = function() kept = {} return true end } end,
  }
  local item = st.stanza "item":tag("x", { xmlns = "urn:x" })
  local answers = {}
  local function publish_later(who, id)
    coroutine.wrap(function() answers[id] = table.pack(service:publish("n", who, id, item)) end)()
  end
  local function go_on()
    full = false
    for _, co in ipairs(waiting) do assert(coroutine.resume(co)) end
    waiting, full = {}, true
  end
  full = true
  publish_later("a@b", "1")
  publish_later("a@b", "2")
  go_on()
  check.equal({ answers["1"][1], answers["2"][1], kept["1"] ~= nil, kept["2"] ~= nil }, { true, true, true, true })
  check.ok(service:set_affiliation("n", "a@b", "c@d", "publisher"))
  publish_later("c@d", "3")
  check.ok(service:delete("n", "a@b"))
  go_on()
  check.equal({ answers["3"][1], answers["3"][2] }, { false, "forbidden" })           -- not his to make
  check.equal(kept, {})
end)

check.test("one account takes no more than its share of a node's subscriptions; its resources count as the account", function()
  local function yes() return true end
  local service = pubsub.new { may_create = yes, itemstore = function() return { set = yes } end }
  assert(service:create("n", "a@b", { publish_model = "subscribers" }))
  local n = 0
  for i = 1, 30 do n = n + (service:add_subscription("n", "c@d/1", "c@d/" .. i) and 1 or 0) end
  check.equal(n, 20)
  check.equal(select(2, service:add_subscription("n", "c@d/1", "c@d")), "too-many-subscriptions")
  check.equal((service:add_subscription("n", "e@f/1", "e@f")), true)
  check.equal((service:publish("n", "c@d/9", "1", st.stanza "item")), true)
  check.equal({ service:publish("n", "g@h", "1", st.stanza "item") }, { false, "forbidden" })
end)

check.done()
