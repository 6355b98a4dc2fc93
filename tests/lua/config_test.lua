-- SPDX-License-Identifier: MIT
-- config: the language of config.lua (PLUGIN-API §13).

local check = require "check"
local temp = require "temp"
local system = require "couplet.core".system
local config = require "couplet.config"

local base = temp.dir()
local function write(name, text) return temp.write(base, name, text) end

local function parse(text)
  local path = write("config.lua", text)
  local cfg, err = config.parse(path)
  return cfg, err, path
end

local function load(text)
  local cfg, err = parse(text)
  check.ok(cfg, err)
  config.use(cfg)
  return cfg
end

check.test("options belong to sections", function()
  load [[
    a = 1; b = "x"
    VirtualHost "Example.ORG"
      a = 2
    VirtualHost "other.example" { a = 3, c = true }
    d = "global again"
    Component "rooms.example.org" "muc"
      a = 4
    Component "gateway.example.org"
      component_secret = "s"
    Component "files.example.org" "http_file_share" { a = 5 }
  ]]
  local rows = {
    { "*", "a", 1 }, { "example.org", "a", 2 }, { "example.org", "b", "x" }, { "other.example", "a", 3 },
    { "other.example", "c", true },
    { "nobody.example", "a", 1 }, { "example.org", "c", nil }, { "other.example", "d", "global again" },
    { "rooms.example.org", "component_module", "muc" }, { "rooms.example.org", "a", 4 },
    { "gateway.example.org", "component_module", "component" }, { "gateway.example.org", "component_secret", "s" },
    { "files.example.org", "component_module", "http_file_share" }, { "files.example.org", "a", 5 },
  }
  for i, row in ipairs(rows) do check.equal(config.get(row[1], row[2]), row[3], "row " .. i) end
  check.equal(config.rawget("example.org", "b"), nil)
  check.equal(config.getconfig()["example.org"].b, "x")
  check.equal(config.hosts(), { "example.org", "other.example", "rooms.example.org", "gateway.example.org", "files.example.org" })
  check.equal(config.kind("rooms.example.org"), "component")
  check.equal(config.kind("example.org"), "local")
  check.equal(config.kind("nobody.example"), nil)
end)

check.test("lower case words and Host are the same words", function()
  write("more.lua", "m = 1")
  load 'Host "a.example" { x = 1 } host "b.example" x = 2 component "c.example" "muc" include "more.lua"'
  check.equal(config.get("a.example", "x"), 1)
  check.equal(config.get("b.example", "x"), 2)
  check.equal(config.kind("c.example"), "component")
  check.equal(config.get("*", "m"), 1)
end)

check.test("what cannot be: file, line, words", function()
  local rows = {
    { 'x = = 1', ":1: unexpected symbol near '='" },
    { 'a = 1\nmodules_enabled {', ":2: .*near <eof>" },
    { 'a = {\n "x" "y"\n}', ":2: '}' expected .*near '\"y\"', in: \"x\" \"y\"" },
    { 'VirtualHost "a.example"\nComponent "a.example" "muc"', ":2: Component \"a.example\" is already defined as a VirtualHost" },
    { 'Component "a.example" "muc"\nVirtualHost "a.example"', ":2: VirtualHost \"a.example\" is already defined as a Component" },
    { 'Component "a.example" "muc"\nComponent "a.example" "x"', ":2: .*already defined as a Component" },
    { 'VirtualHost ""', ":1: a host needs a name" },
    { '\nVirtualHost()', ":2: a host needs a name" },
    { 'VirtualHost "a b@c"', ":1: .*no valid host name" },
    { '\n\nInclude "nothing.lua"', ":3: .*nothing.lua: No such file" },
    { 'x = FileContents "nothing"', ":1: .*No such file" },
    { 'x = Credential "secret"', ":1: Credential: no $CREDENTIALS_DIRECTORY" },
    { 'Include = 1', ":1: 'Include' is a word of the configuration" },
    { 'never_set { "x" }', ":1: .*global 'never_set'" },
    { 'Lua.error("my own words")', ":1: my own words" },
    { 'VirtualHost "a.example" { "no name" }', ":1: expected name = value" },
    { 'local t = {} t.t = t x = t', "inside itself" },
    { 'while true do end', "does not come to an end" },
    { '\27Lua', "attempt to load a binary chunk" },
    { 'x = "\0', "unfinished string" },
  }
  for i, row in ipairs(rows) do
    local cfg, err, path = parse(row[1])
    check.equal(cfg, nil, "row " .. i)
    check.ok(err:find(row[2]), ("row %d: %s"):format(i, err))
    if row[2]:find("^:") then check.ok(err:find(path, 1, true), "row " .. i .. " names the file: " .. err) end
  end
  check.equal(config.load(base .. "/none.lua"), nil)
end)

check.test("a broken file leaves the loaded one", function()
  load "keep = 'this'"
  local ok, err = config.load((write("broken.lua", "keep = 'that'\nx = }")))
  check.equal(ok, nil)
  check.ok(err:find("broken.lua:2:"), err)
  check.equal(config.get("*", "keep"), "this")
end)

check.test("a broken file still says where the server would listen", function()
  local rows = {
    { "data_path = '/x'\nVirtualHost ''", "/x" },                                     -- it ran so far
    { "data_path = Lua.string.rep('/x', 2)\nVirtualHost ''\ndata_path = '/y'", "/x/x" },
    { "VirtualHost ''\ndata_path = '/y'", nil },                                      -- below a host
    { "a = = 1\ndata_path = '/x'", "/x" },
    { "modules_enabled = {\n'a'\n  data_path = \"/x\"; -- here\ncontrol_socket = 'c'\nVirtualHost 'a.example'", "/x", "c" },
    { "a = = 1\ndata_path = '/x' .. y\n-- control_socket = 'c'\nmy_data_path = '/z'", nil },
    { "a = = 1", nil },
  }
  for i, row in ipairs(rows) do
    local before = config.current()
    local cfg, err, part = config.parse((write("config.lua", row[1])))
    check.ok(not cfg and err, "row " .. i)
    config.salvage(part)
    check.equal(config.get("*", "data_path"), row[2], "row " .. i)
    check.equal(config.get("*", "control_socket"), row[3], "row " .. i)
    check.equal(config.data_path(), row[2] or base .. "/data", "row " .. i)
    config.use(before)
  end
end)

check.test("warnings", function()
  local rows = {
    { "x = hello", { ":1: unknown word 'hello' %(quotes missing%?%)" } },
    { "x = { a,\n b }", { ":1: unknown word 'a'", ":2: unknown word 'b'" } },
    { "x = 1\n\nx = 2", { ":3: option 'x' is set again; it was set at .*:1" } },
    { "x = math.pi", { ":1: 'math' is Lua's: write Lua.math" } },
    { "x = math.pi\ny = math.pi z = string.rep('x', 2)", { ":1: 'math' is Lua's", ":2: 'string' is Lua's" } },
    { "x = Lua.math.pi", {} },
    { "x = ENV_NOT_THERE_AT_ALL", {} },
    { "x = 1 VirtualHost 'a.example' x = 2 VirtualHost 'b.example' x = 3", {} },
    { "x = 1 VirtualHost 'a.example' { x = 2, x2 = 3 }", {} },
  }
  for i, row in ipairs(rows) do
    local cfg, err = parse(row[1])
    check.ok(cfg, err)
    check.equal(#cfg.warnings, #row[2], "row " .. i .. " " .. table.concat(cfg.warnings, "; "))
    for j, pattern in ipairs(row[2]) do check.ok(cfg.warnings[j]:find(pattern), cfg.warnings[j]) end
  end
  check.equal(parse("x = hello").options["*"].x, nil)
end)

check.test("appending and reading options", function()
  load [[
    list = { "a" }
    list { "b", "c" }
    list:append { "d" }
    map = { x = 1 }
    map { y = 2 }
    one = "a"
    one:append { "b" }
    n = 5
    copy = n
    text = "ab" .. one:value()[1]
    first, second = list:values()
    storage.archive = "sql"
    storage.deep.er = 7
    in_table = { n, list }
    VirtualHost "h.example"
      list = { "own" }
      list { "more" }
  ]]
  check.equal(config.get("*", "list"), { "a", "b", "c", "d" })
  check.equal(config.get("*", "map"), { x = 1, y = 2 })
  check.equal(config.get("*", "one"), { "a", "b" })
  check.equal(config.get("*", "copy"), 5)
  check.equal(config.get("*", "text"), "aba")
  check.equal(config.get("*", "first"), "a")
  check.equal(config.get("*", "second"), "b")
  check.equal(config.get("*", "storage"), { archive = "sql", deep = { er = 7 } })
  check.equal(config.get("*", "in_table"), { 5, { "a", "b", "c", "d" } })
  check.equal(config.get("h.example", "list"), { "own", "more" })
  check.equal(#config.warnings(), 0)
end)

check.test("other files", function()
  write("conf.d/one.cfg.lua", 'VirtualHost "one.example" a = 1')
  write("conf.d/two.cfg.lua", 'g = "from two" VirtualHost "two.example" a = 2')
  write("conf.d/.hidden.cfg.lua", "error('dot-files are skipped')")
  write("conf.d/three.cfg.lua.bak", "error('not this either')")
  write("secret.txt", "line one\nline two\n")
  write("script.lua", "return 6 * 7")
  write("nested.lua", 'Include "conf.d/*.cfg.lua"')
  load [[
    VirtualHost "main.example"
    Include "nested.lua"
    a = 3
    Include "conf.d/nothing-*.lua"
    whole, first, lines = FileContents "secret.txt", FileLine "secret.txt", FileLines "secret.txt"
    answer = RunScript "script.lua"
    pass = Secret { file = "secret.txt" }
    home = ENV_HOME
  ]]
  check.equal(config.get("one.example", "a"), 1)
  check.equal(config.get("two.example", "a"), 2)
  check.equal(config.get("*", "g"), "from two")
  check.equal(config.get("main.example", "a"), 3, "the including file goes on in its own section")
  check.equal(config.get("main.example", "whole"), "line one\nline two\n")
  check.equal(config.get("main.example", "first"), "line one")
  check.equal(config.get("main.example", "lines"), { "line one", "line two" })
  check.equal(config.get("main.example", "answer"), 42)
  check.equal(config.get("main.example", "pass"), "line one")
  check.equal(config.get("main.example", "home"), os.getenv("HOME"))
  check.equal(#config.files(), 4)
  local cfg, err = parse 'Include "config.lua"'
  check.equal(cfg, nil)
  check.ok(err:find("include each other"), err)
end)

check.test("credentials of the service manager", function()
  system.environment("CREDENTIALS_DIRECTORY", base)
  write("db", "s3cret")
  load 'x = Credential "db"'
  check.equal(config.get("*", "x"), "s3cret")
  local cfg, err = parse 'x = Credential "../db"'
  check.ok(not cfg and err:find("plain name"), err)
  system.environment("CREDENTIALS_DIRECTORY", nil)
end)

check.test("every option knows where it was set", function()
  load '-- list\nlist = {\n"a",\n"b",\n}\nVirtualHost "h.example" {\n  x = 1,\n  y = 2,\n}\nlist { "c" }\n'
  check.ok(config.place("*", "list"):find("config.lua:2$"), config.place("*", "list"))
  check.ok(config.place("h.example", "y"):find("config.lua:8$"), config.place("h.example", "y"))
  check.ok(config.place("h.example", "list"):find("config.lua:2$"))
  check.equal(config.place("*", "nothing"), nil)
end)

check.test("paths", function()
  load "data_path = 'store'"
  check.equal(config.path("x/y"), base .. "/x/y")
  check.equal(config.path("./x"), base .. "/x")
  check.equal(config.path("/x"), "/x")
  check.equal(config.data_path(), base .. "/store")
  check.equal(config.resolve_relative_path("/a", "b"), "/a/b")
  load ""
  check.equal(config.data_path(), base .. "/data")
end)

check.test("the file Debian's prosody ships", function()
  local path = "/etc/prosody/prosody.cfg.lua"
  if not system.stat(path) then
    print("# skipped: Debian's prosody is not installed here")
    return
  end
  local cfg, err = config.parse(path)
  check.ok(cfg, err)
  check.equal(cfg.order[1], "localhost")
  check.equal(#cfg.warnings, 0)
end)

check.test("the file we ship", function()
  local cfg, err = config.parse((os.getenv("COUPLET_SOURCE") or ".") .. "/config.lua")
  check.ok(cfg, err)
  check.equal(cfg.warnings, {})
  check.equal(cfg.order, { "localhost", "rooms.localhost" })
end)

temp.remove(base)
check.done()
