-- SPDX-License-Identifier: MIT
-- sparse: what few accounts have is read for them alone, once, and changes are seen at once.

local check = require "check"
local sparse = require "couplet.sparse"

local function store(data)
  local self = { data = data, reads = 0 }
  function self.users()
    if self.broken then return nil, "broken" end
    local username
    return function()
      username = next(self.data, username)
      return username
    end
  end
  function self.get(_, username)
    self.reads = self.reads + 1
    if self.broken then return nil, "broken" end
    return self.data[username]
  end
  function self.set(_, username, value)
    if self.broken then return nil, "broken" end
    self.data[username] = value
    return true
  end
  return self
end

local function quiet() end

check.test("only those who have something are read, and only once", function()
  local s = store { romeo = { 1 } }
  local data = sparse.new(s, 10, quiet)
  check.equal({ data.has "romeo", data.has "juliet" }, { true, false })
  check.equal({ data.get "juliet" }, {})
  check.equal(s.reads, 0)
  check.equal(data.get "romeo", { 1 })
  check.equal(data.get "romeo", { 1 })
  check.equal(s.reads, 1)
end)

check.test("changes are seen at once; what fails leaves things as they are", function()
  local s = store { romeo = { 1 } }
  local data = sparse.new(s, 10, quiet)
  check.equal(data.set("juliet", { 2 }), true)
  check.equal({ data.has "juliet", data.get "juliet", s.data.juliet }, { true, { 2 }, { 2 } })
  check.equal(s.reads, 0)
  data.set("juliet", nil)
  check.equal({ data.get "juliet" }, {})
  check.equal(s.data.juliet, nil)
  s.broken = true
  check.equal({ data.set("romeo", { 3 }) }, { nil, "broken" })
  check.equal({ data.get "romeo" }, { nil, "broken" })
  s.broken = nil
  check.equal(data.get "romeo", { 1 })
  data.forget "romeo"
  check.equal({ data.has "romeo", (data.get "romeo") }, { false })
end)

check.test("a store whose names cannot be read is asked each time", function()
  local s = store { romeo = { 1 } }
  s.broken = true
  local data = sparse.new(s, 10, quiet)
  s.broken = nil
  check.equal({ data.has "romeo", data.has "juliet", data.get "romeo" }, { true, true, { 1 } })
  check.equal({ data.get "juliet" }, {})
  check.equal(s.reads, 2)
  data.get "juliet"
  check.equal(s.reads, 2)                      -- that there is nothing is remembered too
end)

check.test("memory is bounded", function()
  local s = store {}
  for i = 1, 100 do s.data["u" .. i] = { i } end
  local data = sparse.new(s, 10, quiet)
  for i = 1, 100 do check.equal(data.get("u" .. i), { i }) end
  data.get "u1"
  check.equal(s.reads, 101)
end)

check.done()

check.test("a set with their addresses is kept up to date", function()
  local s, set = store { romeo = { 1 } }, {}
  local data = sparse.new(s, 10, quiet)
  check.equal(data.tell(set, "@h"), true)
  check.equal(set, { ["romeo@h"] = true })
  data.set("juliet", { 2 })
  data.forget "romeo"
  check.equal(set, { ["juliet@h"] = true })
  data.tell(nil)
  data.set("nurse", { 3 })
  check.equal(set, {})
  data.tell(set, "@g")
  check.equal(set, { ["juliet@g"] = true, ["nurse@g"] = true })
  s.broken = true
  check.equal(sparse.new(s, 10, quiet).tell({}, "@h"), false)
end)
