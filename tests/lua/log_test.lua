-- SPDX-License-Identifier: MIT
-- log: levels, sinks, and what strangers' text may do to a log file (nothing).

local check = require "check"
local temp = require "temp"
local log = require "couplet.log"
local logger = require "couplet.logger"
local system = require "couplet.core".system

local base = temp.dir()
local function content(name) return system.read_file(base .. "/" .. name) or "" end
local function lines(name)
  local n = 0
  for _ in content(name):gmatch("\n") do n = n + 1 end
  return n
end
local function say(...)
  local l = log.new("test")
  for _, level in ipairs { "debug", "info", "warn", "error" } do l(level, ...) end
end

check.test("forms of the option", function()
  local rows = {
    { "a.log", "a.log", 3 },
    { { info = "b.log" }, "b.log", 3 },
    { { debug = "c.log" }, "c.log", 4 },
    { { error = "d.log", info = "e.log" }, "d.log", 1 },
    { { { levels = { "error" }, to = "file", filename = "f.log" } }, "f.log", 1 },
    { { { levels = { "debug", "warn" }, to = "file", filename = "g.log" } }, "g.log", 2 },
    { { { levels = { min = "info", max = "warn" }, to = "file", filename = "h.log" } }, "h.log", 2 },
    { { { levels = { min = "warn" }, filename = "i.log" } }, "i.log", 2 },
    { { { levels = "warn", to = "file", filename = "j.log" } }, "j.log", 2 },
    { { info = { to = "file", filename = "k.log" } }, "k.log", 3 },
    { { [1] = "l.log" }, "l.log", 3 },
  }
  for i, row in ipairs(rows) do
    log.setup(row[1], base)
    say("hello %d", i)
    check.equal(lines(row[2]), row[3], "row " .. i)
  end
end)

check.test("a line: time, level, source, text", function()
  log.setup({ info = "x.log" }, base)
  log.new("c2s")("info", "%s is %q", "juliet", "here")
  check.ok(content("x.log"):match('^%d%d%d%d%-%d%d%-%d%d %d%d:%d%d:%d%d info c2s: juliet is "here"\n$'), content("x.log"))
  log.setup({ { to = "file", filename = "y.log", timestamps = false } }, base)
  log.new("c2s")("warn", "plain %")
  check.equal(content("y.log"), "warn c2s: plain %\n")
  log.setup({ { to = "file", filename = "z.log", timestamps = "%Y!" } }, base)
  log.new("c2s")("warn", "x")
  check.equal(content("z.log"), os.date("%Y!") .. " warn c2s: x\n")
end)

check.test("where the option names no level: the one that is given, else info", function()
  for level, text in pairs { debug = "y\nz\n", info = "z\n" } do
    log.setup({ { to = "file", filename = level .. ".least", timestamps = false } }, base, { level = level })
    log.new("c2s")("debug", "y")
    log.new("c2s")("info", "z")
    check.equal(content(level .. ".least"), (text:gsub("y", "debug c2s: y"):gsub("z", "info c2s: z")))
  end
end)

check.test("a stranger's text starts no line and moves no cursor", function()
  local rows = {
    { "a\nerror c2s: forged", "a\n    error c2s: forged" },
    { "a\27[2Jb", "a\\027[2Jb" },
    { "a\0b\127", "a\\000b\\127" },
    { "a\rb", "a\\013b" },
    { "tab\tstays", "tab\tstays" },
    { "csi \xc2\x9b2J", "csi <U+009B>2J" },
    { "\u{202e}tfel\u{2069} \u{2028}\u{61c}", "<U+202E>tfel<U+2069> <U+2028><U+061C>" },
    { "grüße ☃", "grüße ☃" },
  }
  for i, row in ipairs(rows) do check.equal(log.clean(row[1]), row[2], "row " .. i) end
  check.ok(#log.clean(("x"):rep(100000)) < 17000)
end)

check.test("a stranger's text among the arguments stays on the line; a traceback does not", function()
  local rows = {
    { "bye\nerror c2s: forged\r\t\27[2J", "the other side says bye␊error c2s: forged␍\t␛[2J" },
    { "\u{202e}gnorw\u{202c}", "the other side says <U+202E>gnorw<U+202C>" },
    { "x\27\nstack traceback:\n\tin main", "the other side says x␛\n    stack traceback:\n    \tin main" },
    { "stack traceback:\n\tin main", "the other side says stack traceback:\n    \tin main" },
    { "grüße\u{200d} ☃", "the other side says grüße\u{200d} ☃" },
  }
  for i, row in ipairs(rows) do
    local name = "arguments" .. i
    log.setup({ { to = "file", filename = name, timestamps = false } }, base)
    log.new("s2s")("info", "the other side says %s", row[1])
    check.equal(content(name), "info s2s: " .. row[2] .. "\n", "row " .. i)
  end
end)

check.test("what cannot be opened is said, and lines are not lost", function()
  local heard = {}
  log.register_sink_type("ear", function(settings)
    check.equal(settings.colour, "blue")
    return function(source, level, text) heard[#heard + 1] = level .. " " .. source .. ": " .. text end
  end)
  local err = io.stderr
  io.stderr = assert(io.open(base .. "/stderr", "w"))          -- luacheck: ignore
  log.setup({ info = "no/such/dir/x.log", { to = "ear", levels = { min = "info" }, colour = "blue" } }, base)
  log.new("a")("info", "still heard")
  io.stderr:close()
  io.stderr = err                                              -- luacheck: ignore
  check.equal(#heard, 2)
  check.ok(heard[1]:find("^error log: cannot open log file .*no/such/dir"), heard[1])
  check.equal(heard[2], "info a: still heard")
  check.ok(content("stderr"):find("still heard"))
end)

check.test("reopening after rotation", function()
  log.setup({ info = "r.log" }, base)
  log.new("a")("info", "one")
  assert(system.rename(base .. "/r.log", base .. "/r.log.1"))
  log.new("a")("info", "two")
  log.reopen()
  log.new("a")("info", "three")
  check.equal(lines("r.log.1"), 2)
  check.equal(lines("r.log"), 1)
end)

check.test("lines of the core reach the sinks", function()
  local core = require "couplet.core"
  log.setup({ debug = "core.log" }, base)
  core.log.write("info", "net", "from the core %s\n")
  core.loop.poll()
  check.ok(content("core.log"):find("info net: from the core %%s"), content("core.log"))
  core.log.write("debug", "net", "debug is on")
  core.loop.poll()
  check.equal(lines("core.log"), 2)
  log.setup({ warn = "core2.log" }, base)
  core.log.write("info", "net", "not formatted")
  core.loop.poll()
  check.equal(content("core2.log"), "")
end)

check.test("sinks of plugins stay when the configuration changes", function()
  local n = 0
  local function fn() n = n + 1 end
  logger.add_simple_sink(fn, { "error" })
  log.setup({ info = "s.log" }, base)
  log.new("a")("error", "x")
  log.setup({ info = "s2.log" }, base)
  log.new("a")("error", "x")
  check.equal(n, 2)
  logger.remove_sink(fn)
end)

log.setup({ error = "last.log" }, base)
temp.remove(base)
check.done()
