-- SPDX-License-Identifier: MIT
-- directory_test.lua: who is where: users, resources, connections.
local check = require "check"
local directory = require "couplet.directory"

local function session(username, resource)
  return { username = username, host = "h.example", resource = resource,
    full_jid = username .. "@h.example/" .. resource }
end

check.test("finds sessions and users, and forgets them", function()
  local a, b = session("romeo", "one"), session("romeo", "two")
  directory.add(a)
  local user = directory.add(b)
  check.ok(directory.session("romeo@h.example/one") == a)
  check.ok(directory.user("romeo@h.example") == user)
  check.ok(user.sessions.two == b)
  check.equal({ directory.count() }, { 2, 1 })
  check.ok(directory.remove(a))
  check.ok(not directory.remove(a), "twice is once")
  check.ok(directory.user("romeo@h.example") == user)
  check.ok(directory.remove(b))
  check.ok(directory.user("romeo@h.example") == nil)
  check.equal({ directory.count() }, { 0, 0 })
end)

check.test("a replaced session does not take its successor along", function()
  local old, new = session("romeo", "one"), session("romeo", "one")
  directory.add(old)
  directory.add(new)
  check.ok(not directory.remove(old))
  check.ok(directory.session("romeo@h.example/one") == new)
  check.ok(directory.remove(new))
  check.equal({ directory.count() }, { 0, 0 })
end)

check.test("plugins' tables read and iterate like tables", function()
  local list = {}
  for i = 1, 3000 do list[i] = session("user" .. i, "r") directory.add(list[i]) end
  local n = 0
  for full, s in pairs(directory.full_sessions) do n = n + 1 check.ok(s.full_jid == full) end
  check.equal(n, 3000)
  n = 0
  for username, user in pairs(directory.of_host("h.example")) do
    n = n + 1
    check.ok(user.sessions.r.username == username)
  end
  check.equal(n, 3000)
  for _ in pairs(directory.of_host("other.example")) do error("none there") end
  check.ok(directory.of_host("h.example").user7.sessions.r == list[7])
  check.ok(directory.full_sessions[nil] == nil and directory.bare_sessions[true] == nil)
  for _, s in ipairs(list) do directory.remove(s) end
  check.ok(not directory.full_sessions["user1@h.example/r"])
end)

check.test("entries can be removed while iterating", function()
  for i = 1, 500 do directory.add(session("user" .. i, "r")) end
  for _, s in pairs(directory.full_sessions) do directory.remove(s) end
  check.equal({ directory.count() }, { 0, 0 })
end)

check.done()
