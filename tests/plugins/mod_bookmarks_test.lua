-- SPDX-License-Identifier: MIT
-- XEP-0402: bookmarks are one thing, whichever of three ways a client knows.

local calculate_hash = require "couplet.util.caps".calculate_hash
local check = require "check"
local fake = require "fakehost"
local st = require "couplet.stanza"

local NODE, OLD, NS = "urn:xmpp:bookmarks:1", "storage:bookmarks", "http://jabber.org/protocol/pubsub"
local PLUGINS = { "iq", "presence", "message", "roster", "disco", "private", "pep", "bookmarks" }

local serial = 0
local function ask(client, kind, inner, to)
  serial = serial + 1
  client:send(("<iq type='%s' id='q%d'%s>%s</iq>"):format(kind, serial, to and (" to='%s'"):format(to) or "", inner))
  return client:expect { name = "iq", id = "q" .. serial }
end
local function pubsub(client, kind, inner, to)
  return ask(client, kind, ("<pubsub xmlns='%s'>%s</pubsub>"):format(NS, inner), to)
end
local function private(client, kind, inner)
  return ask(client, kind, ("<query xmlns='jabber:iq:private'><storage xmlns='%s'>%s</storage></query>"):format(OLD, inner or ""))
end

-- "jid name autojoin nick password" of each
local function list(storage)
  local out = {}
  for c in storage:childtags "conference" do
    out[#out + 1] = table.concat({ c.attr.jid, c.attr.name or "-", c.attr.autojoin or "-", c:get_child_text "nick" or "-",
      c:get_child_text "password" or "-" }, " ")
  end
  table.sort(out)
  return out
end
local function drawer(client) return list(private(client, "get"):find("{jabber:iq:private}query/{storage:bookmarks}storage")) end
local function old_node(client)
  return list(pubsub(client, "get", "<items node='storage:bookmarks'/>")
    :find("{" .. NS .. "}pubsub/items/item/{storage:bookmarks}storage"))
end
local function new_node(client)
  local items = pubsub(client, "get", ("<items node='%s'/>"):format(NODE)):find("{" .. NS .. "}pubsub/items")
  local storage = st.stanza("storage", { xmlns = NODE })
  for item in items and items:childtags "item" or function() end do
    local c = st.clone(item:get_child("conference", NODE))
    c.attr.jid = item.attr.id
    storage:add_child(c)
  end
  return list(storage)
end

local function publish(client, room, inner)
  return pubsub(client, "set", ("<publish node='%s'><item id='%s'><conference xmlns='%s'%s</item></publish>"):format(NODE, room,
    NODE, inner))
end

local function new() return fake.new { plugins = PLUGINS } end

local PLAY = "<conference jid='play@rooms.example' name='Play' autojoin='1'><nick>JC</nick><password>s</password></conference>"
local ORCHARD = "<conference jid='orchard@rooms.example'/>"

check.test("set in one way, seen in all", function()
  local all = { "orchard@rooms.example - - - -", "play@rooms.example Play true JC s" }
  local ways = {
    function(romeo) return private(romeo, "set", PLAY .. ORCHARD) end,
    function(romeo)
      return pubsub(romeo, "set", "<publish node='storage:bookmarks'><item id='current'><storage xmlns='storage:bookmarks'>"
        .. PLAY .. ORCHARD .. "</storage></item></publish>")
    end,
    function(romeo)
      publish(romeo, "orchard@rooms.example", "/>")
      return publish(romeo, "play@rooms.example", " name='Play' autojoin='true'><nick>JC</nick><password>s</password>"
        .. "</conference>")
    end,
  }
  for i, set in ipairs(ways) do
    local host = new()
    local romeo, nurse = host:client "romeo@example.org/orchard", host:client "nurse@example.org/hall"
    check.equal(drawer(romeo), {})
    check.equal(set(romeo).attr.type, "result", i)
    check.equal(drawer(romeo), all, i)
  check.equal(old_node(romeo), all, i)
    check.equal(new_node(romeo), all, i)
    for _, node in ipairs { NODE, OLD } do                 -- nobody else's business
      check.equal(pubsub(nurse, "get", ("<items node='%s'/>"):format(node), "romeo@example.org").attr.type, "error")
    end
    host:close()
  end
end)

check.test("an old client changes some: the others stay as they were, with what it does not know", function()
  local host = new()
  local romeo = host:client "romeo@example.org/orchard"
  publish(romeo, "play@rooms.example", " name='Play'><extensions><x xmlns='urn:x'/></extensions></conference>")
  publish(romeo, "orchard@rooms.example", "/>")
  local phone = host:client "romeo@example.org/phone"
  local query = st.stanza("query", { xmlns = "http://jabber.org/protocol/disco#info" })
    :tag("identity", { category = "client", type = "pc" }):up():tag("feature", { var = NODE .. "+notify" }):up()
    :tag("feature", { var = OLD .. "+notify" }):up()
  phone:send(("<presence><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='urn:c' ver='%s'/></presence>")
    :format(calculate_hash(query)))
  phone:send(tostring(st.reply(phone:expect { name = "iq", type = "get" }):add_child(query)))
  phone:received()
  check.equal(private(romeo, "set", "<conference jid='play@rooms.example' name='The Play'/><conference jid='new@rooms.example'/>"
    .. "<conference jid='@@'/>").attr.type, "result")
  local heard = {}
  for _, s in ipairs(phone:received()) do
    local items = s:find("{" .. NS .. "#event}event/items")
    local tag = items and items.tags[1]
    if tag then heard[#heard + 1] = ("%s %s %s"):format(items.attr.node, tag.name, tag.attr.id) end
  end
  table.sort(heard)
  check.equal(heard, { "storage:bookmarks item current", "urn:xmpp:bookmarks:1 item new@rooms.example",
    "urn:xmpp:bookmarks:1 item play@rooms.example", "urn:xmpp:bookmarks:1 retract orchard@rooms.example" })
  check.equal(new_node(romeo), { "new@rooms.example - - - -", "play@rooms.example The Play - - -" })
  check.ok(pubsub(romeo, "get", ("<items node='%s'><item id='play@rooms.example'/></items>"):format(NODE))
    :find("{" .. NS .. "}pubsub/items/item/{" .. NODE .. "}conference/extensions/{urn:x}x"))
  check.equal(private(romeo, "set", "").attr.type, "result")
  check.equal(new_node(romeo), {})
  local rooms = {}
  for i = 1, 257 do rooms[i] = ("<conference jid='r%d@rooms.example'/>"):format(i) end
  check.equal(select(2, private(romeo, "set", table.concat(rooms)):get_error()), "resource-constraint")
  check.equal(new_node(romeo), {})
  host:close()
end)

check.test("bookmarks too large for one answer are there for new clients; old ones hear why they get none", function()
  local host = new()
  local romeo = host:client "romeo@example.org/orchard"
  local old = "<item id='current'><storage xmlns='storage:bookmarks'>" .. ORCHARD .. "</storage></item>"
  for i = 1, 7 do
    local inner = "><extensions><x xmlns='urn:x'>" .. ("x"):rep(200000) .. "</x></extensions></conference>"
    check.equal(publish(romeo, ("r%d@rooms.example"):format(i), inner).attr.type, "result")
    if i == 3 then check.equal(#drawer(romeo), 3) end
  end
  for _, reply in ipairs { private(romeo, "get"), private(romeo, "set", ORCHARD),
    pubsub(romeo, "get", "<items node='storage:bookmarks'/>"),
    pubsub(romeo, "set", "<publish node='storage:bookmarks'>" .. old .. "</publish>") } do
    check.equal(select(2, reply:get_error()), "resource-constraint")
  end
  local kept = pubsub(romeo, "get", ("<items node='%s' max_items='1'/>"):format(NODE)):find("{" .. NS .. "}pubsub/items/item@id")
  check.equal(kept, "r7@rooms.example")
  for _, room in ipairs { "r6@rooms.example", "r7@rooms.example" } do
    pubsub(romeo, "set", ("<retract node='%s'><item id='%s'/></retract>"):format(NODE, room))
  end
  check.equal(#drawer(romeo), 5)
  host:close()
end)

check.test("what was in the old places is moved; who has nothing is told of; other private XML is left alone", function()
  local host = fake.new { plugins = { "iq", "presence", "message", "roster", "disco", "private", "pep" } }
  local romeo = host:client "romeo@example.org/orchard"
  check.equal(private(romeo, "set", PLAY).attr.type, "result")
  check.equal(ask(romeo, "set", "<query xmlns='jabber:iq:private'><x xmlns='urn:x'>kept</x></query>").attr.type, "result")
  check.equal(pubsub(romeo, "set", "<publish node='storage:bookmarks'><item id='current'><storage xmlns='storage:bookmarks'>"
    .. ORCHARD .. "</storage></item></publish>").attr.type, "result")
  local empty = {}
  host.events.add_handler("bookmarks/empty", function(event) empty[#empty + 1] = event.session.username end)
  host:load "bookmarks"
  host:client "romeo@example.org/phone"
  host:client "nurse@example.org/hall"
  host:advance(0)
  check.equal(new_node(romeo), { "orchard@rooms.example - - - -", "play@rooms.example Play true JC s" })
  check.equal(drawer(romeo), new_node(romeo))
  check.equal(empty, { "nurse" })
  local all = host:run(function() return (host:store("private"):get "romeo") end)
  check.equal(all["storage:storage:bookmarks"], nil)
  check.equal(ask(romeo, "get", "<query xmlns='jabber:iq:private'><x xmlns='urn:x'/></query>")
    :find "{jabber:iq:private}query/{urn:x}x#", "kept")
  host:close()
end)

check.test("a node that others could read is closed; the account says what it can; bad ones are refused", function()
  local host = new()
  local romeo, nurse = host:client "romeo@example.org/orchard", host:client "nurse@example.org/hall"
  host:run(function()
    local service = host:module "pep".environment.get_pep_service "romeo"
    assert(service:create(NODE, "romeo@example.org", { access_model = "open" }))
  end)
  check.equal(private(romeo, "set", PLAY).attr.type, "result")
  check.equal(pubsub(nurse, "get", ("<items node='%s'/>"):format(NODE), "romeo@example.org").attr.type, "error")
  local info = tostring(ask(romeo, "get", "<query xmlns='http://jabber.org/protocol/disco#info'/>", "romeo@example.org"))
  for _, name in ipairs { "#compat'", "#compat-pep'" } do check.ok(info:find(NODE .. name, 1, true), name) end
  local bad = pubsub(romeo, "set", "<publish node='storage:bookmarks'><item><x xmlns='urn:x'/></item></publish>")
  check.equal(select(2, bad:get_error()), "bad-request")
  check.equal(new_node(romeo), { "play@rooms.example Play true JC s" })
  check.equal(host:close(), {})
end)

check.done()
