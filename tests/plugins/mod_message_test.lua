-- SPDX-License-Identifier: MIT
-- The delivery rules of RFC 6121 §8.5, table 1 of §8.5.4 row by row.
local check = require "check"
local fixture = require "client_fixture"
local st = require "couplet.stanza"
fixture.host "h.example"

local KINDS = { "normal", "chat", "groupchat", "headline", "error" }

-- What happens: D delivered to all named below, O kept for later, E error service-unavailable, S silently dropped. Where the RFC
-- leaves the choice between S and E we answer requests of people (normal, groupchat), and drop what nobody waits for (headline).
-- resources: name = priority; to: "bare", or the resource of the address; got: who receives it when it says D.
local rows = {
  -- the account does not exist
  { account = false, to = "bare", normal = "E", chat = "E", groupchat = "E", headline = "S", error = "S" },
  { account = false, to = "home", normal = "E", chat = "E", groupchat = "E", headline = "S", error = "S" },
  -- it exists, no resource is there
  { to = "bare", normal = "O", chat = "O", groupchat = "E", headline = "S", error = "S" },
  { to = "home", normal = "E", chat = "O", groupchat = "E", headline = "S", error = "S" },
  -- connected, but without presence
  { resources = { home = "none" }, to = "bare", normal = "O", chat = "O", groupchat = "E", headline = "S", error = "S" },
  { resources = { home = "none" }, to = "home", normal = "D", chat = "D", groupchat = "D", headline = "D", error = "D",
    got = { "home" } },
  -- only negative priorities
  { resources = { home = -1 }, to = "bare", normal = "O", chat = "O", groupchat = "E", headline = "S", error = "S" },
  { resources = { home = -1 }, to = "home", normal = "D", chat = "D", groupchat = "D", headline = "D", error = "D",
    got = { "home" } },
  { resources = { home = -1 }, to = "work", normal = "E", chat = "O", groupchat = "E", headline = "S", error = "S" },
  -- one that listens
  { resources = { home = 0 }, to = "bare", normal = "D", chat = "D", groupchat = "E", headline = "D", error = "S",
    got = { "home" } },
  { resources = { home = 0 }, to = "home", normal = "D", chat = "D", groupchat = "D", headline = "D", error = "D",
    got = { "home" } },
  { resources = { home = 0 }, to = "work", normal = "E", chat = "D", groupchat = "E", headline = "S", error = "S",
    got = { "home" } },
  -- several: chats and normal messages to the most available, headlines to all that listen
  { resources = { home = 5, work = 1, car = -1 }, to = "bare", normal = "D", chat = "D", groupchat = "E", headline = "A",
    error = "S", got = { "home" }, all = { "home", "work" } },
  { resources = { home = 5, work = 5, car = 1 }, to = "bare", normal = "D", chat = "D", groupchat = "E", headline = "A",
    error = "S", got = { "home", "work" }, all = { "home", "work", "car" } },
  { resources = { home = 5, work = 1, car = -1 }, to = "car", normal = "D", chat = "D", groupchat = "D", headline = "D",
    error = "D", got = { "car" } },
  { resources = { home = 5, work = 1 }, to = "nowhere", normal = "E", chat = "D", groupchat = "E", headline = "S", error = "S",
    got = { "home" } },
}

local function count(t) local n = 0 for _ in pairs(t) do n = n + 1 end return n end

for i, row in ipairs(rows) do
  for _, kind in ipairs(KINDS) do
    check.test(("row %d, %s to %s"):format(i, kind, row.to), function()
      fixture.reset()
      local romeo = fixture.login "romeo@h.example/orchard"
      if row.account ~= false then fixture.account "juliet@h.example" end
      local clients = {}
      for resource, priority in pairs(row.resources or {}) do
        clients[resource] = fixture.login("juliet@h.example/" .. resource, priority)
      end
      for _, client in pairs(clients) do client:got() end
      local to = "juliet@h.example" .. (row.to == "bare" and "" or "/" .. row.to)
      romeo:send(st.message({ to = to, type = kind ~= "normal" and kind or nil, id = "m" }, "hello"))

      local want, receivers = row[kind], {}
      for _, resource in ipairs(want == "D" and row.got or want == "A" and row.all or {}) do receivers[resource] = true end
      for resource, client in pairs(clients) do
        if receivers[resource] then
          client:expect("message", { to = to, from = romeo.jid, id = "m" })
        end
        client:nothing()
      end
      if want == "E" then
        check.equal({ romeo:expect("message", { type = "error", from = to, id = "m" }):get_error() },
          { "cancel", "service-unavailable" })
      end
      romeo:nothing()
      check.equal(count(fixture.stored("offline", "juliet", "h.example")), want == "O" and 1 or 0)
    end)
  end
end

check.test("a message without an address is for oneself (RFC 6120 §10.3.1)", function()
  fixture.reset()
  local romeo = fixture.login "romeo@h.example/orchard"
  romeo:send(st.message({ type = "chat" }, "note to self"))
  romeo:expect("message", { from = romeo.jid })
end)

check.test("messages of unknown types are normal ones (§5.2.2)", function()
  fixture.reset()
  local romeo, juliet = fixture.login "romeo@h.example/orchard", fixture.login "juliet@h.example/home"
  romeo:send(st.message({ to = "juliet@h.example", type = "sonnet" }, "…"))
  juliet:expect("message", { type = "sonnet" })
end)

check.test("a resource whose connection is gone is no recipient", function()
  fixture.reset()
  local romeo, juliet = fixture.login "romeo@h.example/orchard", fixture.login "juliet@h.example/home"
  juliet.conn.dead = true
  romeo:send(st.message({ to = juliet.jid, type = "chat" }, "hello"))
  romeo:nothing()
  check.equal(#fixture.stored("offline", "juliet", "h.example"), 1)
end)

check.test("several resources get one serialised copy", function()
  fixture.reset()
  local romeo = fixture.login "romeo@h.example/orchard"
  local a, b = fixture.login "juliet@h.example/a", fixture.login "juliet@h.example/b"
  local before = fixture.multicasts
  romeo:send(st.message({ to = "juliet@h.example", type = "chat" }, "hello"))
  a:expect("message", { to = "juliet@h.example" })
  b:expect("message", { to = "juliet@h.example" })
  check.equal(fixture.multicasts - before, 1)
  local seen
  b.session.send = function(stanza) seen = stanza return true end           -- a plugin takes over
  romeo:send(st.message({ to = "juliet@h.example", type = "chat" }, "hello"))
  a:expect "message"
  check.ok(seen and seen:get_child_text "body" == "hello")
end)

check.done()
