-- SPDX-License-Identifier: MIT
-- Finding rooms: the list of the service in pages (XEP-0059), and by words (XEP-0433).

local check = require "check"
local rooms = require "rooms_fixture"
local plugin = require "couplet.plugin"
local ROOMS = rooms.ROOMS
local NS = "urn:xmpp:channel-search:0"

-- Rooms r1 … r9: kept, nobody in them; verona and mantua with two and one; a secret one that is hidden.
local function new(options)
  local host = rooms.new(options)
  host:run(function()
    local muc = plugin.get_module(ROOMS, "muc")
    for i = 1, 9 do
      assert(muc.create_room(("r%d@%s"):format(i, ROOMS), { persistent = true, name = "Room " .. i,
        description = i % 2 == 1 and "An ODD room" or nil, members_only = i == 1, whois = i == 2 and "anyone" or nil,
        language = i == 3 and "it" or nil }))
      muc.forget_room(muc.get_room_from_jid(("r%d@%s"):format(i, ROOMS)))
    end
    assert(muc.create_room("secret@" .. ROOMS, { persistent = true, public = false, name = "Room X" }))
  end)
  local romeo, juliet = rooms.person(host, "romeo"), rooms.person(host, "juliet")
  rooms.join(romeo, "Romeo")
  rooms.join(juliet, "Juliet")
  rooms.join(romeo, "Romeo", nil, nil, "mantua@" .. ROOMS)
  romeo:received()
  return host, romeo
end

local function submit(fields, set)
  local x = { ("<field var='FORM_TYPE'><value>%s:search-params</value></field>"):format(NS) }
  for name, value in pairs(fields) do x[#x + 1] = ("<field var='%s'><value>%s</value></field>"):format(name, value) end
  return ("<search xmlns='%s:search'>%s<x xmlns='jabber:x:data' type='submit'>%s</x></search>"):format(NS,
    set and "<set xmlns='http://jabber.org/protocol/rsm'>" .. set .. "</set>" or "", table.concat(x))
end

-- -> the names of those found | the error; <set/>
local function find(client, fields, set)
  local reply = rooms.ask(client, "get", submit(fields, set), ROOMS)
  if reply.attr.type == "error" then
    local own
    for _, child in ipairs(reply:get_child("error").tags) do
      if child.attr.xmlns == NS .. ":error" then own = child.name end
    end
    return rooms.result(reply) .. (own and " " .. own or "")
  end
  local out = {}
  local result = reply:get_child("result", NS .. ":search")
  for item in result:childtags "item" do out[#out + 1] = item.attr.address:match "^[^@]+" end
  return table.concat(out, " "), result:get_child("set", "http://jabber.org/protocol/rsm"), result
end

local ADDRESS = ("{%s:order}address"):format(NS)

check.test("XEP-0433: what is found, in which order, and what is refused", function()
  local host, romeo = new()
  local rows = {
    { { q = "room" }, "r1 r2 r3 r4 r5 r6 r7 r8 r9" },
    { { q = "odd ROOM" }, "r1 r3 r5 r7 r9" },
    { { q = "odd", sindescription = "0" }, "" },
    { { q = "room", sinname = "0", sindescription = "0" }, "" },             -- the host's name does not count
    { { q = "verona" }, "verona" },
    { { q = "verona@rooms.example.org" }, "verona" },
    { { q = "room", min_users = "1", sinaddress = "0" }, "" },
    { { all = "1" }, "verona mantua r1 r2 r3 r4 r5 r6 r7 r8 r9" },
    { { all = "1", min_users = "2" }, "verona" },
    { { all = "1", key = ADDRESS }, "mantua r1 r2 r3 r4 r5 r6 r7 r8 r9 verona" },
    { { all = "1", types = "xep-0369" }, "" },
    { { q = "nothing like it" }, "" },
    { { all = "1", q = "room" }, "modify bad-request conflicting-fields" },
    { {}, "modify bad-request no-search-conditions" },
    { { q = "  " }, "modify bad-request invalid-search-terms" },
    { { q = ("x"):rep(1000) }, "modify bad-request invalid-search-terms" },
    { { q = "x", sinname = "0", sindescription = "0", sinaddress = "0" }, "modify bad-request invalid-search-terms" },
    { { q = "room", key = "size" }, "modify feature-not-implemented invalid-sort-key" },
    { { q = "room", min_users = "many" }, "modify bad-request" },
    { { q = "room.*%d[" }, "" },
  }
  for i, row in ipairs(rows) do check.equal(i .. " " .. (find(romeo, row[1])), i .. " " .. row[2]) end
  local _, _, result = find(romeo, { q = "odd", key = ADDRESS })
  local function about(i, name) return result.tags[i]:get_child_text(name) end
  check.equal({ about(1, "name"), about(1, "description"), about(1, "is-open"), about(1, "anonymity-mode"), about(1, "nusers") },
    { "Room 1", "An ODD room", "false", "muc_semianonymous", "0" })
  check.equal({ about(2, "language"), about(2, "is-open"), about(2, "service-type") }, { "it", "true", "xep-0045" })
  _, _, result = find(romeo, { q = "2", sinaddress = "0" })
  check.equal(about(1, "anonymity-mode"), ("{%s:anonymity}none"):format(NS))
  local form = rooms.ask(romeo, "get", ("<search xmlns='%s:search'/>"):format(NS), ROOMS)
  local fields = {}
  for field in form:get_child("search", NS .. ":search"):get_child("x", "jabber:x:data"):childtags "field" do
    fields[#fields + 1] = field.attr.var
  end
  check.equal(fields, { "FORM_TYPE", "q", "all", "sinname", "sindescription", "sinaddress", "min_users", "types", "key" })
  local info = rooms.ask(romeo, "get", "<query xmlns='http://jabber.org/protocol/disco#info'/>", ROOMS)
  check.ok(info.tags[1]:get_child_with_attr("feature", nil, "var", NS .. ":search"))
  host:close()
end)

check.test("XEP-0433, XEP-0059: pages, both ways, in both orders", function()
  local host, romeo = new()
  for _, key in ipairs { ADDRESS, ("{%s:order}nusers"):format(NS) } do
    for _, query in ipairs { { all = "1" }, { q = "odd" } } do
      query.key = key
      local whole = find(romeo, query)
      for size = 1, 6 do
        local forth, back, after, before = {}, {}, nil, ""
        repeat
          local page, set = find(romeo, query, ("<max>%d</max>%s"):format(size, after and "<after>" .. after .. "</after>" or ""))
          forth[#forth + 1] = page ~= "" and page or nil
          after = set:get_child_text "last"
        until not after
        repeat
          local page, set = find(romeo, query, ("<max>%d</max><before>%s</before>"):format(size, before))
          if page ~= "" then table.insert(back, 1, page) end
          before = set:get_child_text "first"
        until not before
        check.equal(table.concat(forth, " "), whole, key .. size)
        check.equal(table.concat(back, " "), whole, key .. size)
      end
    end
  end
  host:close()
end)

check.test("XEP-0059: pages of the list of rooms that nobody would ask for", function()
  local host, romeo = new()
  local function page(set)
    local reply = rooms.ask(romeo, "get", ("<query xmlns='http://jabber.org/protocol/disco#items'>"
      .. "<set xmlns='http://jabber.org/protocol/rsm'>%s</set></query>"):format(set), ROOMS)
    local out = {}
    for item in reply.tags[1]:childtags "item" do out[#out + 1] = item.attr.jid:match "^[^@]+" end
    return ("%s of %s"):format(table.concat(out, " "), reply.tags[1]:find "{http://jabber.org/protocol/rsm}set/count#")
  end
  local all = "mantua r1 r2 r3 r4 r5 r6 r7 r8 r9 verona"
  local rows = {
    { "", all }, { "<max>0</max>", "" }, { "<max>-1</max>", all }, { "<max>1e1</max>", all }, { "<max>2.5</max>", all },
    { "<max>18446744073709551615</max>", all }, { "<max>99999999999999999999999</max>", all }, { "<max> 2 </max>", "mantua r1" },
    { "<max>0x2</max>", all }, { "<max/>", all }, { "<max>2</max><max>3</max>", "mantua r1 r2" },
    { "<index>10</index>", "verona" }, { "<index>11</index>", "" }, { "<index>-1</index>", all },
    { "<index>9223372036854775807</index>", "" }, { "<index>18446744073709551616</index>", "" },
    { "<after>nobody</after>", "r1 r2 r3 r4 r5 r6 r7 r8 r9 verona" }, { "<after>zz</after>", "" }, { "<after/>", all },
    { "<after>" .. ("z"):rep(3000) .. "</after>", "" }, { "<before>a</before>", "" },
    { "<before>" .. ("z"):rep(3000) .. "</before><max>1</max>", "verona" }, { "<before/><max>2</max>", "r9 verona" },
    { "<before/><after/><max>1</max>", "mantua" }, { "<max>1</max><after>a</after><index>5</index>", "mantua" },
  }
  for i, row in ipairs(rows) do check.equal({ i, page(row[1]) }, { i, row[2] .. " of 11" }) end
  check.equal(host:close(), {})
end)

check.test("the list stays sorted whatever becomes of rooms", function()
  local host, romeo = new()
  local function list()
    local out = {}
    local reply = rooms.ask(romeo, "get", "<query xmlns='http://jabber.org/protocol/disco#items'/>", ROOMS)
    for item in reply.tags[1]:childtags "item" do out[#out + 1] = item.attr.jid:match "^[^@]+" end
    return table.concat(out, " ")
  end
  check.equal(list(), "mantua r1 r2 r3 r4 r5 r6 r7 r8 r9 verona")
  check.equal(rooms.result(rooms.configure(romeo, { publicroom = "0" })), "ok")
  check.equal(list(), "mantua r1 r2 r3 r4 r5 r6 r7 r8 r9")
  rooms.configure(romeo, { publicroom = "1", persistentroom = "1" })
  romeo:send(("<presence type='unavailable' to='mantua@%s/Romeo'/>"):format(ROOMS))
  check.equal(list(), "r1 r2 r3 r4 r5 r6 r7 r8 r9 verona")
  romeo:send(("<presence type='unavailable' to='%s/Romeo'/>"):format(rooms.ROOM))
  host:run(function()
    local muc = plugin.get_module(ROOMS, "muc")
    muc.get_room_from_jid("r5@" .. ROOMS):destroy()
    muc.delete_room(muc.get_room_from_jid("r6@" .. ROOMS))
    assert(plugin.reload(ROOMS, "muc"))
  end)
  check.equal(list(), "r1 r2 r3 r4 r7 r8 r9 verona")
  host:close()
end)

check.done()
