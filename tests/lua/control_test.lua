-- SPDX-License-Identifier: MIT
-- commands and the control socket: requests as they come, cut and in bulk, and requests that are none.

local check = require "check"
local temp = require "temp"
local core = require "couplet.core"
local commands = require "couplet.commands"
local config = require "couplet.config"
local control = require "couplet.control"
local json = require "couplet.util.json"
local task = require "couplet.task"
local system, loop = core.system, core.loop

require "couplet.log".quiet("error")
require "couplet.logger".reset()
require "couplet.logger".add_simple_sink(function() end)          -- failures of commands are wanted here

local base = temp.dir()
temp.write(base, "config.lua", 'data_path = "."')
assert(config.load(base .. "/config.lua"))
assert(control.open())

commands.declare { name = "test echo", args = "A [B]", help = "echo", min = 1, max = 2, options = { loud = true },
  run = function(ctx, a, b)
    ctx:print("%s and %s", a, tostring(b))
    return true, ctx.options.loud and "LOUD" or "quiet", { a, b }
  end }
commands.declare { name = "test wait", run = function() task.sleep(0.05) return true, "waited" end }
commands.declare { name = "test fail", run = function() return nil, "no" end }
commands.declare { name = "test raise", run = function() error("oops") end }
commands.declare { name = "test much", run = function(ctx)
  for i = 1, 20000 do ctx:print("%s", ("line %d "):format(i) .. ("x"):rep(100)) end
  return true
end }
commands.declare { name = "test odd", run = function() return true, nil, { print } end }

local function connect()
  return check.ok(system.connect(control.path()))
end

-- answers as a list, up to the last one asked for
local function read(fd, finals)
  local input, list = "", {}
  local stop = loop.mono() + 60
  while true do
    loop.poll()
    if system.wait(fd, "r", 0.01) then
      local bytes = system.recv(fd)
      if not bytes or bytes == "" then return list, "closed" end
      input = input .. bytes
      input = input:gsub("([^\n]*)\n", function(line)
        local message = check.ok(json.decode(line))
        list[#list + 1] = message
        if message.ok ~= nil then finals = finals - 1 end
        return ""
      end)
      if finals == 0 then return list end
    end
    if loop.mono() > stop then error("no answer") end
  end
end

local function ask(request)
  local fd = connect()
  local text = type(request) == "string" and request or json.encode(request) .. "\n"
  check.equal(system.send(fd, text), #text)
  local list, closed = read(fd, 1)
  system.close(fd)
  return list, closed
end

check.test("a command, its lines, its result", function()
  check.equal(ask { command = "test echo", args = { "x", "y" } },
    { { print = "x and y" }, { ok = true, text = "quiet", data = { "x", "y" } } })
  check.equal(ask { command = "test echo", args = { "x", "--loud" } }[2].text, "LOUD")
  check.equal(ask { command = "test fail" }, { { ok = false, text = "no" } })
  check.equal(ask { command = "test wait" }, { { ok = true, text = "waited" } })
  check.equal(ask { command = "test odd" }[1].ok, false)
  check.ok(ask { command = "test raise" }[1].text:find("internal error: .*oops"))
  check.equal(#ask { command = "test much" }, 20001)
end)

check.test("what is no request", function()
  local rows = {
    { "nonsense\n", "not a request" }, { "[]\n", "not a request" }, { "{}\n", "not a request" },
    { '{"command":7}\n', "not a request" },
    { '{"command":"rm -rf"}\n', "no such command" }, { '{"command":"test echo"}\n', "usage: test echo A %[B%]" },
    { '{"command":"test echo","args":["1","2","3"]}\n', "usage:" }, { '{"command":"test echo","args":7}\n', "usage:" },
    { "\xff\xfe\n", "not UTF%-8" }, { ("["):rep(1000) .. "\n", "nested too deep" },
  }
  for i, row in ipairs(rows) do
    local list = ask(row[1])
    check.equal(list[1].ok, false, "row " .. i)
    check.ok(list[1].text:find(row[2]), ("row %d: %s"):format(i, list[1].text))
  end
end)

check.test("byte by byte, several at once, in order", function()
  local fd = connect()
  local text = json.encode { command = "test wait" } .. "\n\n" .. json.encode { command = "test echo", args = { "z" } } .. "\n"
  for i = 1, #text do
    system.send(fd, text:sub(i, i))
    loop.poll()
  end
  check.equal(read(fd, 2), { { ok = true, text = "waited" }, { print = "z and nil" },
    { ok = true, text = "quiet", data = { "z" } } })
  system.close(fd)
end)

check.test("a line without end, a client that leaves, too many clients", function()
  local fd = connect()
  local junk = ("x"):rep(65536)
  local closed
  for _ = 1, 20 do
    if not system.send(fd, junk) then closed = true break end
    for _ = 1, 5 do loop.poll() end
  end
  if not closed then closed = select(2, read(fd, 2)) end
  check.ok(closed)
  system.close(fd)
  fd = connect()
  local text = json.encode { command = "test much" } .. "\n"
  system.send(fd, text)
  loop.poll()
  system.close(fd)
  local many = {}
  for i = 1, 40 do
    many[i] = connect()
    loop.poll()
  end
  for _ = 1, 20 do loop.poll() end
  local _, how = read(many[40], 1)
  check.equal(how, "closed")
  for _, one in ipairs(many) do system.close(one) end
  for _ = 1, 20 do loop.poll() end
  check.equal(ask { command = "test fail" }[1].text, "no")
end)

check.test("counting in words", function()
  for _, row in ipairs { { 0, "0 errors" }, { 1, "1 error" }, { 2, "2 errors" } } do
    check.equal(commands.counted(row[1], "error"), row[2])
  end
  check.equal(commands.counted(1, "stanza waits", "stanzas wait"), "1 stanza waits")
  check.equal(commands.counted(2, "stanza waits", "stanzas wait"), "2 stanzas wait")
end)

check.test("finding commands in words", function()
  local c, n = commands.find { "test", "echo", "a" }
  check.equal(c.name, "test echo")
  check.equal(n, 2)
  check.equal(commands.find { "nothing" }, nil)
  check.equal(commands.find {}, nil)
end)

control.close()
check.equal(system.stat(control.path()), nil)
temp.remove(base)
check.done()
