-- SPDX-License-Identifier: MIT
local check = require "check"
local budget = require "couplet.budget"
local clock = require "couplet.clock"

check.test("so much for each, and looking takes nothing", function()
  local take, left = budget.new(10, 3, 3600)
  for _ = 1, 5 do check.equal(left "romeo", true) end
  for _, may in ipairs { true, true, true, false } do check.equal(take "romeo", may) end
  check.equal({ left "romeo", left "juliet", take "juliet" }, { false, true, true })
end)

check.test("what costs more", function()
  local take, left = budget.new(10, 3, 3600)
  check.equal({ left("romeo", 4), take("romeo", 4), take("romeo", 2), take("romeo", 2), take "romeo" },
    { false, false, true, false, true })
end)

check.test("a silence fills up what is left, and no more", function()
  local mono, now = clock.mono, 1000
  clock.mono = function() return now end
  local take = budget.new(10, 3, 60)
  check.equal(take "romeo", true)
  now = now + 600
  for i, may in ipairs { true, true, true, false } do check.equal({ i, take "romeo" }, { i, may }) end
  now = now + 20
  for i, may in ipairs { true, false } do check.equal({ i, take "romeo" }, { i, may }) end
  clock.mono = mono
end)

check.test("a key that others have pushed out begins anew", function()
  local take = budget.new(2, 1, 3600)
  check.equal({ take "a", take "a" }, { true, false })
  for i = 1, 4 do check.equal(take(i), true) end
  check.equal(take "a", true)
end)

check.done()
