-- SPDX-License-Identifier: MIT
-- util.json

local check = require "check"
local json = require "couplet.util.json"

check.test("writes", function()
  local rows = {
    { nil, "null" }, { json.null, "null" }, { true, "true" }, { 1, "1" }, { -1.5, "-1.5" }, { 1e15, "1e+15" }, { 2.0, "2" },
    { 0.1, "0.1" },
    { 1 / 3, "0.33333333333333331" }, { "a\"\\\n\0é", '"a\\"\\\\\\n\\u0000é"' }, { {}, "{}" }, { { 1, 2, "x" }, '[1,2,"x"]' },
    { { a = 1 }, '{"a":1}' }, { { a = { b = { 1 } } }, '{"a":{"b":[1]}}' }, { json.array {}, "[]" },
    { { __array = { 1 } }, "[1]" }, { { __array = { 1 }, a = 2 }, '{"a":2,"__array":[1]}' },
    { { __hash = { "b", 1, "a", 2 } }, '{"b":1,"a":2}' }, { { [1] = "x", [3] = "y" }, '{"1":"x","3":"y"}' },
  }
  for i, row in ipairs(rows) do check.equal(json.encode(row[1]), row[2], "row " .. i) end
  check.equal(json.encode_ordered { b = 1, a = 2, c = { z = 1, y = 2 } }, '{"a":2,"b":1,"c":{"y":2,"z":1}}')
  check.equal(json.encode_array {}, "[]")
  local loop = {}
  loop[1] = loop
  for _, v in ipairs { print, 0 / 0, math.huge, loop, { [{}] = 1 } } do check.raises("JSON", json.encode, v) end
end)

check.test("reads", function()
  local rows = {
    { "null", json.null }, { " true ", true }, { "-0.5e2", -50.0 }, { "12", 12 }, { '"\\u00e9\\ud83d\\ude00\\/"', "é😀/" },
    { "[]", {} },
    { "[1, [2], {}]", { 1, { 2 }, {} } }, { '{"a" : {"b":[null,false]}}', { a = { b = { json.null, false } } } }, { '""', "" },
  }
  for i, row in ipairs(rows) do
    local value, err = json.decode(row[1])
    check.equal(err, nil, "row " .. i)
    check.equal(value, row[2], "row " .. i)
  end
  check.equal(math.type(json.decode("12")), "integer")
  check.equal(json.encode(json.decode("[[],{}]")), "[[],{}]")
end)

check.test("refuses", function()
  for _, text in ipairs { "", "nul", "[1,]", "{,}", "{1:2}", '{"a"}', '"abc', '"\n"', '"\\x"', '"\\ud800"', '"\\udc00"', "01",
    "1.", "+1", ".5", "[1 2]", "1 2", "tru", '{"a":1,}', '"\xff"', "[" , ("["):rep(300) .. ("]"):rep(300), "NaN", "-" } do
    local value, err = json.decode(text)
    check.equal(value, nil, text)
    check.ok(type(err) == "string", text)
  end
  check.equal(json.decode(nil), nil)
end)

check.test("cut everywhere", function()
  local text = json.encode_ordered { a = { 1, 2.5, "x\n\u{1f600}", json.null, true }, b = { c = {} } }
  for i = 0, #text - 1 do check.equal(json.decode(text:sub(1, i)), nil, "cut at " .. i) end
  check.ok(json.decode(text))
end)

check.done()
