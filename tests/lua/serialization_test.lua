-- SPDX-License-Identifier: MIT
-- util.serialization: values as Lua text and back.

local check = require "check"
local s = require "couplet.util.serialization"

check.test("what is written is read back the same, by us and by Lua", function()
  local rows = {
    1, -1, 0.1, 3.0, 1 / 0, -1 / 0, 1e300, math.mininteger, math.maxinteger, true, false, "", "a\0001\n\r\"\\é'", "]]", {},
    { {}, { {} } }, { 1, 2, { a = 1, ["b c"] = 2, [true] = 3, [1.5] = 4, ["end"] = 5 } }, { [-1] = 1, [3] = 3 },
  }
  for i, v in ipairs(rows) do
    for _, preset in ipairs { "", "oneline", "compact", "pretty" } do
      local text = s.serialize(v, preset ~= "" and preset or nil)
      local back, err = s.deserialize(text)
      check.equal(err, nil, "row " .. i)
      check.equal(back, v, "row " .. i)
      check.equal(math.type(back), math.type(v), "row " .. i)
      check.equal(load("return " .. text)(), v, "row " .. i)
    end
  end
  local nan = s.deserialize(s.serialize(0 / 0))
  check.ok(nan ~= nan)
end)

check.test("what Lua writes by hand is read", function()
  local rows = {
    { "return { ['x'] = 'it\\'s', y = [[long\ntext]], -- comment\n 0x10, 1e3; --[==[ more ]==] '\\65\\x42\\u{43}' };",
      { x = "it's", y = "long\ntext", 16, 1000.0, "ABC" } },
    { " nil ", nil }, { "- 5", -5 },
  }
  for i, row in ipairs(rows) do check.equal(s.deserialize(row[1]), row[2], "row " .. i) end
end)

check.test("nothing in a text is run", function()
  for i, text in ipairs { "os.exit()", "while true do end", "{ f() }", "{ a = b }", "function() end", "return", "", "{",
    "{ 1 2 }", "'open", "{ [nil] = 1 }", "1 + 1", ("{"):rep(1000), "'\\999'", "\"a\nb\"" } do
    local value, err = s.deserialize(text)
    check.equal(value, nil, "row " .. i)
    check.equal(type(err), "string", "row " .. i)
  end
end)

check.test("what is no data fails, or is shown for people", function()
  local circle = {}
  circle[1] = circle
  check.raises("recursion", s.serialize, circle)
  check.raises("function", s.serialize, { print })
  check.ok(s.serialize({ print, circle }, "debug"):find "recursion")
end)

check.done()
