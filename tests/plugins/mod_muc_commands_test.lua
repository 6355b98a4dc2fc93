-- SPDX-License-Identifier: MIT
-- coupletctl room list, room destroy: what is shown, what is refused, and who hears of it.

local check = require "check"
local fake = require "fakehost"
local rooms = require "rooms_fixture"
local ROOM, ROOMS = rooms.ROOM, rooms.ROOMS

local function run(host, name, ...)
  local lines = {}
  for _, item in ipairs(require "couplet.plugin".get_items("shell-command", ROOMS)) do
    if item.section == "room" and item.name == name then
      local ok, text = host:run(item.handler, { session = { print = function(line) lines[#lines + 1] = line end } }, ...)
      return ok, text, lines
    end
  end
  error("no command " .. name)
end

check.test("room list: all of them, those that rest too; what a name holds does nothing to a terminal", function()
  local host = rooms.new()
  local romeo = rooms.person(host, "romeo")
  check.equal({ run(host, "list", ROOMS) }, { true, "0 rooms", {} })
  rooms.join(romeo, "Romeo")
  rooms.configure(romeo, { roomname = "Ver\u{9b}2J\nona", publicroom = "0", membersonly = "1", moderatedroom = "1" })
  rooms.join(romeo, "Romeo", nil, nil, "kept@" .. ROOMS)
  rooms.ask(romeo, "set", "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'>"
    .. "<field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value></field>"
    .. "<field var='muc#roomconfig_persistentroom'><value>1</value></field>"
    .. "<field var='muc#roomconfig_roomsecret'><value>x</value></field></x></query>", "kept@" .. ROOMS)
  romeo:send("<presence type='unavailable' to='kept@" .. ROOMS .. "/Romeo'/>")
  check.equal({ run(host, "list", ROOMS) }, { true, "2 rooms", {
    "kept@rooms.example.org                     0  kept (password), owned by romeo@example.org",
    "verona@rooms.example.org                   1  Ver<U+009B>2J ona (temporary, hidden, members only, moderated), owned by "
      .. "romeo@example.org",
  } })
  host:close()
end)

check.test("room destroy: those inside hear why, and it is gone", function()
  local host, who = rooms.cast { persistentroom = "1" }
  check.equal({ run(host, "destroy", ROOM, "spam", "here") }, { true, ROOM .. " is destroyed", {} })
  local destroyed = who.guest:expect { name = "presence", type = "unavailable" }
    :find("{" .. rooms.USER .. "}x/destroy/reason#")
  check.equal(destroyed, "spam here")
  check.equal({ run(host, "list", ROOMS) }, { true, "0 rooms", {} })
  check.equal({ run(host, "destroy", ROOM) }, { false, "there is no room " .. ROOM, {} })
  host:close()
end)

check.test("what is no room, or no host with rooms", function()
  local host = rooms.new()
  for _, address in ipairs { "example.org", "nowhere.example", "@", "x@example.org" } do
    for _, name in ipairs { "list", "destroy" } do
      local ok, text = run(host, name, address)
      check.ok(ok == false and text:find("is no host with rooms", 1, true), text)
    end
  end
  check.equal({ run(host, "destroy", ROOMS) }, { false, "there is no room " .. ROOMS, {} })
  host:close()
end)

check.equal(fake.logged("", "error"), nil)
check.done()
