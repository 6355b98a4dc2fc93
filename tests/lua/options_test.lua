-- SPDX-License-Identifier: MIT
-- Options as plugins read them (PLUGIN-API §3.2).
local check = require "check"
local fake = require "fakehost"
local array, set = require "couplet.util.array", require "couplet.util.set"

local host = fake.new {
  options = {
    str = "text", num = 5, big = 500, float = 2.5, yes = true, yes_s = "true", one = 1, no_s = "false", zero = 0, numstr = "7",
    list = { "a", "b" }, map = { k = 1 }, empty = {}, days = "2 days", secs = 90, never = "never", off = false, odd = "soon",
    mode = "fast", rel = "sub/dir", abs = "/etc/x", neg = -5, huge_ = "1e400", nan = "nan",
  },
  global = { str = "global", only_global = "g", list = { "c" }, glist = { "x", "y" } },
}
local m = host:load("opt", "").module

local function rows(method, list)
  for i, row in ipairs(list) do
    fake.forget_log()
    host:configure {}                            -- each complaint is made once a reload
    local got = m[method](m, table.unpack(row.args, 1, row.n or #row.args))
    check.equal(got, row.want, method .. " row " .. i)
    check.equal(#fake.lines "error" + #fake.lines "warn" > 0, row.warns or false, method .. " row " .. i .. " complaint")
    if row.says then check.ok(fake.logged(row.says), row.says) end
  end
end

check.test("get_option: raw, host before global", function()
  rows("get_option", {
    { args = { "str" }, want = "text" }, { args = { "only_global" }, want = "g" }, { args = { "nope" }, want = nil },
    { args = { "nope", 5 }, want = 5 }, { args = { "list" }, want = { "a", "b" } }, { args = { "off", true }, want = false },
  })
end)

check.test("scalar, string", function()
  rows("get_option_scalar", { { args = { "num" }, want = 5 }, { args = { "list" }, want = "a", warns = true } })
  rows("get_option_string", {
    { args = { "str" }, want = "text" }, { args = { "num" }, want = "5" }, { args = { "yes" }, want = "true" },
    { args = { "off" }, want = "false" },
    { args = { "list" }, want = "a", warns = true, says = "option list of example.org is a list" },
    { args = { "map", "d" }, want = "d", warns = true }, { args = { "nope", "d" }, want = "d" },
    { args = { "nope" }, want = nil },
  })
end)

check.test("number, integer", function()
  rows("get_option_number", {
    { args = { "num" }, want = 5 }, { args = { "numstr" }, want = 7 }, { args = { "float" }, want = 2.5 },
    { args = { "str", 3 }, want = 3, warns = true, says = 'option str of example.org is "text", but a number is expected' },
    { args = { "yes", 3 }, want = 3, warns = true },
    { args = { "big", 1, 0, 100 }, want = 100, warns = true, says = "above the greatest value 100" },
    { args = { "neg", 1, 0 }, want = 0, warns = true, says = "below the least value 0" }, { args = { "nope", -9, 0 }, want = -9 },
  })
  rows("get_option_integer", {
    { args = { "num" }, want = 5 }, { args = { "float" }, want = 2, warns = true, says = "not a whole number" },
    { args = { "numstr" }, want = 7 },
    { args = { "big", 1, 0, 100 }, want = 100, warns = true }, { args = { "huge_", 4 }, want = 4, warns = true },
    { args = { "nan", 4 }, want = 4, warns = true },
  })
  check.equal(math.type(m:get_option_integer "float"), "integer")
end)

check.test("boolean", function()
  rows("get_option_boolean", {
    { args = { "yes" }, want = true }, { args = { "yes_s" }, want = true }, { args = { "one" }, want = true },
    { args = { "no_s", true }, want = false },
    { args = { "zero", true }, want = false }, { args = { "off", true }, want = false },
    { args = { "str", true }, want = true, warns = true }, { args = { "nope" }, want = nil },
  })
end)

check.test("period", function()
  rows("get_option_period", {
    { args = { "days" }, want = 172800 }, { args = { "secs" }, want = 90 }, { args = { "never" }, want = math.huge },
    { args = { "off" }, want = math.huge },
    { args = { "odd", 5 }, want = 5, warns = true }, { args = { "nope", "1 minute" }, want = 60 },
    { args = { "nope" }, want = nil },
    { args = { "days", nil, nil, "1 day" }, n = 4, want = 86400, warns = true },
    { args = { "secs", nil, "1h" }, n = 3, want = 3600, warns = true }, { args = { "neg", 7 }, want = 7, warns = true },
  })
end)

check.test("enum", function()
  rows("get_option_enum", {
    { args = { "mode", "slow", "fast" }, want = "fast" },
    { args = { "mode", "slow", "medium" }, want = nil, warns = true, says = 'one of "slow", "medium"' },
    { args = { "nope", "slow", "fast" }, want = "slow" },
  })
end)

check.test("array, set, inherited set: copies", function()
  local a = m:get_option_array "list"
  check.ok(array.is_array(a))
  a:push "more"
  check.equal(m:get_option_array "list", { "a", "b" })
  check.equal(m:get_option_array "str", { "text" })
  check.equal(m:get_option_array("nope", { 1 }), { 1 })
  check.equal(m:get_option_array "nope", nil)
  check.equal(m:get_option_array "empty", {})
  check.ok(m:get_option_set "list" == set.new { "a", "b" })
  check.ok(m:get_option_set("nope", { "d" }) == set.new { "d" })
  check.ok(m:get_option_set("nope", set.new { "d" }) == set.new { "d" })
  check.equal(m:get_option_set "nope", nil)
  check.ok(m:get_option_inherited_set "list" == set.new { "a", "b", "c" })
  check.ok(m:get_option_inherited_set "glist" == set.new { "x", "y" })
  check.ok(m:get_option_inherited_set("nope", { "d" }) == set.new { "d" })
  check.equal(m:get_option_inherited_set "nope", nil)
  rows("get_option_array", { { args = { "map", {} }, want = {}, warns = true } })
end)

check.test("path", function()
  local prosody = require "couplet.prosody"
  local old = prosody.paths
  prosody.paths = { config = "/etc/couplet", data = "/var/lib/couplet" }
  check.equal(m:get_option_path("rel", nil, "config"), "/etc/couplet/sub/dir")
  check.equal(m:get_option_path("rel", nil, "data"), "/var/lib/couplet/sub/dir")
  check.equal(m:get_option_path("rel", nil, "/srv"), "/srv/sub/dir")
  check.equal(m:get_option_path("abs", nil, "data"), "/etc/x")
  check.equal(m:get_option_path("nope", "d", "data"), "/var/lib/couplet/d")
  check.equal(m:get_option_path "nope", nil)
  prosody.paths = old
end)

check.test("a global plugin reads the global section only", function()
  local g = host:load("glob", "module:set_global()")
  check.equal(host:module "glob":get_option_string "str", "global")
  check.equal(g.module:get_option_string "num", nil)
end)

check.test("another host through context", function()
  host:add_host("second.example", { str = "second" })
  check.equal(m:context "second.example":get_option_string "str", "second")
  check.equal(m:get_option_string "str", "text")
end)

check.test("declarations are checked", function()
  check.raises("unknown type", function() m:config { x = { type = "colour" } } end)
  check.raises("unknown field", function() m:config { x = { typo = 1 } } end)
  local options = require "couplet.options"
  check.equal(options.check({ type = "integer", min = 1 }, 0) , nil)
  check.equal(options.check({ type = "integer", min = 1 }, 5), true)
  check.equal({ options.check({ type = "enum", enum = { "a" } }, "b") }, { nil, 'one of "a"' })
end)

host:close()
check.test("what is wrong is told once, however many hosts and plugins read it, and once more at a reload", function()
  local many = fake.new { options = { own = "soon" }, global = { all = "soon", mode = "odd" } }
  many:add_host("second.example", { all = "later" })
  many:add_host "third.example"
  local code = [[
    module:config { all = { type = "integer", default = 1 }, own = { type = "integer", default = 1 },
      mode = { enum = { "fast", "slow" }, default = "fast" } }
    module:config { other = { type = "string" } }        -- which reads all anew
    module:get_option_integer("all", 1)
    module:hook_global("config-reloaded", function() module:get_option_integer("own", 1) end)
  ]]
  for _, name in ipairs { "one", "two" } do
    for _, host_name in ipairs { "example.org", "second.example", "third.example" } do
      many:load(name, code, host_name)
    end
  end
  local want = {
    'configuration: option all of second.example is "later", but a whole number is expected',
    'configuration: option all of the server is "soon", but a whole number is expected',
    'configuration: option mode of the server is "odd", but one of "fast", "slow" is expected',
    'configuration: option own of example.org is "soon", but a whole number is expected',
  }
  for i = 1, 3 do
    local lines = {}
    for _, line in ipairs(fake.lines "error") do lines[#lines + 1] = line:match("configuration: .*") end
    table.sort(lines)
    check.equal(lines, want, "time " .. i)
    fake.forget_log()
    many:configure {}
  end
  many:close()
end)

check.done()
