-- SPDX-License-Identifier: MIT
-- couplet and coupletctl as processes: start, administer, reload, stop, and every way in which a start is refused.

local check = require "check"
local temp = require "temp"
local json = require "couplet.util.json"
local system = require "couplet.core".system
local loop = require "couplet.core".loop

local build = os.getenv("COUPLET_BUILD") or "build"
local source = os.getenv("COUPLET_SOURCE") or "."
local slow = build:find("san$") ~= nil
local DEADLINE = slow and 90 or 30
system.environment("LD_PRELOAD", nil)           -- a sanitizer's runtime is for us, not for the shells we start

local function quote(s) return "'" .. s:gsub("'", "'\\''") .. "'" end

local function pause() system.wait(-1, "r", 0.02) end

local function wait_for(what, fn)
  local stop = loop.mono() + DEADLINE
  while true do
    local value = fn()
    if value then return value end
    if loop.mono() > stop then error("waited too long for " .. what, 2) end
    pause()
  end
end

-- --- a server in a directory of its own ---

local server = {}
server.__index = server

local CONFIG = [[
run_as_root = true
interfaces = { "127.0.0.1" }
c2s_ports = { 0 }
c2s_direct_tls_ports = { 0 }
s2s_ports = { }
s2s_direct_tls_ports = { }
modules_enabled = { "disco", "roster", "saslauth", "tls", "ping", "version", "time" }
plugin_paths = { "plugins" }
log = { debug = "couplet.log" }
]]

local function new(text)
  local s = setmetatable({ dir = temp.dir() }, server)
  s.config = s:write("config.lua", text or CONFIG .. 'VirtualHost "localhost"\n')
  return s
end

function server:write(name, text) return temp.write(self.dir, name, text) end
function server:read(name) return system.read_file(self.dir .. "/" .. name) or "" end

function server:run(extra)
  os.remove(self.dir .. "/exit")
  os.execute(("cd %s && (%s/bin/couplet --config %s %s > out 2>&1; echo $? > exit.part; mv exit.part exit) &"):format(
    quote(self.dir), quote(build), quote(self.config), extra or ""))
end

function server:start(extra)
  self:run(extra)
  wait_for("the start", function()
    if self:read("exit") ~= "" then error("did not start: " .. self:read("out") .. self:read("couplet.log"), 3) end
    return system.stat(self.dir .. "/data/couplet.sock") and self:ctl("status") == 0
  end)
  self.pid = tonumber(self:read("data/couplet.pid"))
  return self
end

-- exit code, output and errors of coupletctl; env: variables of its environment
function server:ctl(command, input, env)
  local p = io.popen(("cd %s && %s | %s %s/bin/coupletctl --config %s %s 2>&1; echo \"exit $?\""):format(quote(self.dir),
    input and "printf %s " .. quote(input) or "true", env or "", quote(build), quote(self.config), command))
  local text = p:read("a")
  p:close()
  local code = tonumber(text:match("exit (%d+)\n$"))
  return code, (text:gsub("exit %d+\n$", ""))
end

function server:status()
  local code, text = self:ctl("--json status")
  check.equal(code, 0, text)
  return json.decode(text)
end

function server:exited()
  return tonumber(wait_for("the end", function()
    local text = self:read("exit")
    return text ~= "" and text
  end))
end

function server:signal(name) check.ok(system.kill(self.pid, name)) end

function server:remove()
  if self.pid and self:read("exit") == "" then
    system.kill(self.pid, "SIGKILL")
    self:exited()
  end
  temp.remove(self.dir)
end

local function with(text, fn)
  local s = new(text)
  local ok, err = xpcall(fn, debug.traceback, s)
  if not ok then err = err .. "\n" .. s:read("out") .. s:read("couplet.log"):sub(-3000) end
  s:remove()
  if not ok then error(err, 0) end
end

local function expect(s, command, code, pattern, input, env)
  local got, text = s:ctl(command, input, env)
  check.equal(got, code, command .. ": " .. text)
  check.ok(text:find(pattern), command .. ": " .. text)
  return text
end

-- --- a connection from here ---

local net = require "couplet.core".net
net.on("probe", {
  data = function(conn, bytes)
    local c = conn:session()
    c.input = c.input .. bytes
    conn:done()
  end,
  opened = function(conn) conn:session().open = true end,
  closed = function(conn, reason) conn:session().closed = reason or true end,
})

local function connect(port)
  local conn = check.ok(net.connect { address = "127.0.0.1", port = port, class = "probe", mode = "raw" })
  local c = { input = "" }
  conn:session(c)
  local function turn(what, fn)
    local stop = loop.mono() + DEADLINE
    while not fn() do
      if c.closed then error(("closed (%s) before %s: %s"):format(c.closed, what, c.input), 3) end
      if loop.mono() > stop then error("waited too long for " .. what .. ": " .. c.input, 3) end
      loop.poll()
      pause()
    end
  end
  function c.send(text) conn:send(text) end
  function c.expect(pattern)
    turn(pattern, function() return c.input:find(pattern) end)
    c.input = c.input:gsub("^.-" .. pattern, "", 1)
  end
  turn("the connection", function() return c.open end)
  return c
end

local HEADER = "<stream:stream to='%s' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"

-- --- the tests ---

check.test("start, administer, stop", function()
  with(nil, function(s)
    s:start()
    local status = s:status()
    check.equal(status.hosts[1].host, "localhost")
    check.equal(status.pid, s.pid)
    local ports = {}
    for _, p in ipairs(status.ports) do
      ports[p.service] = p
      check.ok(p.port > 0)
    end
    check.equal(ports.c2s.tls, false)
    check.equal(ports.c2s_direct_tls.tls, true)
    check.equal(system.stat(s.dir .. "/data/couplet.sock").mode, 384)
    check.equal(system.stat(s.dir .. "/data").mode, 488)
    check.ok(s:read("certs/localhost.crt"):find("CERTIFICATE"))

    expect(s, "adduser juliet@localhost", 0, "juliet@localhost is ready", "secret\n")
    expect(s, "adduser juliet@localhost", 1, "exists already", "secret\n")
    expect(s, "adduser romeo@nowhere.example", 1, "no host nowhere.example", "secret\n")
    expect(s, "adduser nobody", 1, "no address of an account", "secret\n")
    expect(s, "adduser romeo@localhost", 1, "no password given", "\n")
    expect(s, "passwd juliet@localhost", 0, "new password", "other\n")
    expect(s, "passwd ghost@localhost", 1, "no account ghost@localhost", "other\n")
    expect(s, "register romeo localhost pass", 0, "romeo@localhost is ready")
    expect(s, "user list localhost", 0, "juliet@localhost\nromeo@localhost\n2 accounts")
    expect(s, "unregister romeo localhost", 0, "are gone")
    expect(s, "unregister romeo localhost", 1, "no account")
    expect(s, "deluser juliet@localhost", 1, "nothing was done", "n\n")
    expect(s, "deluser juliet@localhost", 1, "nothing was done", "")
    expect(s, "deluser juliet@localhost", 0, "are gone", "y\n")
    expect(s, "user list localhost", 0, "0 accounts")

    expect(s, "module list localhost", 0, "localhost: .*ping.*version")
    expect(s, "module unload ping", 0, "ping: unloaded on localhost")
    expect(s, "module unload ping", 1, "module ping is loaded on no host %(hosts: localhost%)")
    expect(s, "module reload ping localhost", 1, "module ping is not loaded on localhost\n")
    expect(s, "module load ping localhost", 0, "ping: loaded")
    expect(s, "module reload ping", 0, "ping: reloaded")
    expect(s, "module load nothing_like_it localhost", 1, "nothing_like_it on localhost: no mod_.*plugin_paths")
    expect(s, "module load nothing_like_it", 1, "nothing_like_it on localhost: no mod_.*plugin_paths")
    expect(s, "c2s list", 0, "0 clients")
    expect(s, "c2s close juliet@localhost", 1, "nobody is connected")
    expect(s, "metrics", 0, "process_resident_memory_bytes %d+.*# EOF\n$")
    expect(s, "cert list", 0, "localhost: .*localhost.crt")
    expect(s, "status", 0, "0 sessions of 0 users online\n")
    expect(s, "version", 0, "Couplet")
    expect(s, "frobnicate", 2, "unknown command frobnicate; coupletctl %-%-help lists all\n$")
    expect(s, "host activate nowhere.example", 1, "the configuration has no host nowhere.example; ")
    expect(s, "host list", 0, "^localhost %(local%)\n$")
    expect(s, "host activate localhost", 1, "already activated")
    expect(s, "check connectivity localhost", 1, "note +localhost is a host of this server, ")
    expect(s, "module", 2, "module load NAME")
    expect(s, "module load", 2, "usage: coupletctl module load NAME")
    expect(s, "restart", 1, "systemctl restart")
    expect(s, "--help", 0, "adduser JID")
    expect(s, "help passwd", 0, "usage: coupletctl passwd JID")
    expect(s, "status --help", 0, "usage: coupletctl status")
    expect(s, "", 2, "usage: coupletctl")
    expect(s, "--nonsense", 2, "unknown option")

    expect(s, "stop", 0, "stopping\nstopped")
    system.close(assert(system.pidfile(s.dir .. "/data/couplet.pid")))       -- the next start would not be too early
    check.equal(s:exited(), 0)
    check.equal(system.stat(s.dir .. "/data/couplet.sock"), nil)
    expect(s, "status", 1, "not running")
    expect(s, "reload", 1, "not running")
    expect(s, "announce all localhost hello", 2, "those of plugins only while the server runs, and it does not")
    expect(s, "--help", 0, "plugins of the running server have commands")
  end)
end)

check.test("accounts without the server", function()
  with(CONFIG .. 'VirtualHost "localhost"\nComponent "rooms.localhost" "muc"\n', function(s)
    expect(s, "adduser juliet@localhost", 0, "is ready", "secret\n")
    expect(s, "register romeo localhost x", 0, "is ready")
    expect(s, "user list localhost", 0, "2 accounts")
    expect(s, "deluser romeo@localhost --yes", 0, "are gone")
    -- what cannot be is said before anything is asked: no question, no end of input
    local function told_before_asking()
      expect(s, "adduser juliet@localhost", 1, "^coupletctl: juliet@localhost exists already; `coupletctl passwd [^\n]*\n$", "")
      expect(s, "deluser romeo@localhost", 1, "^coupletctl: there is no account romeo@localhost\n$", "")
      expect(s, "passwd romeo@localhost", 1, "^coupletctl: there is no account romeo@localhost\n$", "")
      expect(s, "adduser romeo@nowhere", 1, "^coupletctl: this server has no host nowhere [^\n]*\n$", "")
      expect(s, "deluser juliet@localhost", 1, "nothing was done", "no\n")
      expect(s, "user exists juliet@localhost", 0, "exists already")
      expect(s, "user exists romeo@localhost", 1, "^there is no account romeo@localhost\n$")     -- for scripts
      expect(s, "--json user exists romeo@localhost", 1, "^false\n$")
      expect(s, "user list localhost lie", 0, "juliet@localhost\n1 account\n")
      expect(s, "user list localhost 'j*'", 0, "^0 accounts\n$")
      expect(s, "adduser a@rooms.localhost", 1, "^coupletctl: rooms.localhost is a component, which has no accounts; ", "x\n")
      for _, command in ipairs { "adduser a@localhost --role=king", "user role juliet@localhost king" } do
        expect(s, command, 1, "^coupletctl: there is no role king on localhost; there are .*prosody:admin, .*\n$", "x\n")
      end
    end
    told_before_asking()
    s:start()
    told_before_asking()
    expect(s, "user list localhost", 0, "juliet@localhost\n1 account\n")
    s:signal("SIGTERM")
    check.equal(s:exited(), 0)
  end)
end)

check.test("Prosody's accounts, where ours are to be, are pointed out until they are here", function()
  local rows = {
    { "", "prosody:%S+/data internal", function(s)
      system.mkdir(s.dir .. "/data", 488)
      system.mkdir(s.dir .. "/data/a%2dhost%2eexample", 488)
      system.mkdir(s.dir .. "/data/a%2dhost%2eexample/accounts", 488)
      s:write("data/a%2dhost%2eexample/accounts/juliet.dat", 'return { ["password"] = "x" };\n')
    end },
    { "storage = 'sql'\nsql = { driver = 'SQLite3', database = 'prosody.sqlite' }\n", "prosody:sql sql", function(s)
      system.mkdir(s.dir .. "/data", 488)
      s:write("prosody.sql", [[
        CREATE TABLE prosody (host TEXT, "user" TEXT, store TEXT, "key" TEXT, "type" TEXT, value TEXT);
        CREATE TABLE prosodyarchive (sort_id INTEGER PRIMARY KEY, host TEXT, "user" TEXT, store TEXT, "key" TEXT,
          "when" INTEGER, "with" TEXT, "type" TEXT, value TEXT);
        INSERT INTO prosody VALUES ('a-host.example', 'juliet', 'accounts', 'password', 'string', 'x');
      ]])
      assert(os.execute(("sqlite3 %s/data/prosody.sqlite < %s/prosody.sql"):format(s.dir, s.dir)))
    end },
  }
  for _, row in ipairs(rows) do
    with(CONFIG .. row[1] .. 'VirtualHost "localhost"\nVirtualHost "a-host.example"\n', function(s)
      row[3](s)
      s:start()
      local function told() return s:read "couplet.log":match "warn ([^\n]*) yet, but Prosody's are there: ([^\n]*)\n" end
      wait_for("the log", told)
      local from, command = told()
      check.equal(from, "a-host.example:auth_internal_hashed: no accounts")
      command = check.ok(command:match("^coupletctl stop; coupletctl (storage copy " .. row[2] .. ")$"))
      expect(s, "stop", 0, "stopped")
      expect(s, command, 0, " now\n$")
      os.remove(s.dir .. "/couplet.log")
      s:start()
      expect(s, "user list a-host.example", 0, "^juliet@a%-host.example\n1 account\n$")
      expect(s, "stop", 0, "stopped")
      check.equal(told(), nil)
    end)
  end
end)

check.test("reload takes what changed, and nothing that is broken", function()
  with(nil, function(s)
    s:start()
    local before = s:status()
    s:write("config.lua", CONFIG .. 'VirtualHost "localhost"\nmodules_enabled = {\n "uptime" "last" }\n')
    expect(s, "reload", 1, "config.lua:12: '}' expected .*near '\"last\"'")
    expect(s, "check config", 1, "config.lua:12: ")
    s:signal("SIGHUP")
    wait_for("the message", function() return s:read("couplet.log"):find("stays as it was: .*config.lua:12: '}' expected") end)
    check.equal(before.pid, tonumber(s:read("data/couplet.pid")))

    -- a wrong option is a failure as well: the rest is taken, ports stay, other options count as not set
    s:write("config.lua", CONFIG:gsub("c2s_ports = { 0 }", "c2s_ports = { 70000 }") .. 'c2s_timeout = "soon"\n'
      .. 'VirtualHost "localhost"\nVirtualHost "second.localhost"\n')
    local text = expect(s, "reload", 1, "coupletctl: [^\n]*config.lua:3: c2s_ports: 70000 is no port number\n")
    check.ok(text:find('coupletctl: [^\n]*config.lua:10: option \'c2s_timeout\' is "soon", but a time, '), text)
    check.ok(text:find("coupletctl: read anew, but not all of it: 2 errors in [^\n]*config.lua\n$"), text)
    expect(s, "--json reload", 1, '^{"text":"configuration read anew"}\ncoupletctl: ')
    check.equal(#s:status().hosts, 2)
    check.equal(s:status().ports, before.ports)

    s:write("config.lua", CONFIG:gsub('c2s_direct_tls_ports = { 0 }', "c2s_direct_tls_ports = { }")
      .. 'VirtualHost "localhost"\nmodules_enabled = { "uptime" }\nmodules_disabled = { "time" }\nVirtualHost '
        .. '"second.localhost"\n')
    expect(s, "reload", 0, "read anew")
    local after = s:status()
    check.equal(#after.hosts, 2)
    check.equal(#after.ports, 1)
    check.equal(after.ports[1].service, "c2s")
    check.equal(after.ports[1].port, before.ports[1].port, "a port that stays is not touched")
    local list = select(2, s:ctl("module list localhost"))
    check.ok(list:find("uptime"), list)
    check.ok(not list:find(" time"), list)
    expect(s, "module list second.localhost", 0, " time")

    s:write("config.lua", CONFIG .. 'VirtualHost "second.localhost"\n')
    s:signal("SIGHUP")
    wait_for("one host", function() return #s:status().hosts == 1 end)
    check.equal(s:status().hosts[1].host, "second.localhost")

    assert(system.rename(s.dir .. "/couplet.log", s.dir .. "/couplet.log.1"))
    expect(s, "log reopen", 0, "")
    expect(s, "reload", 0, "read anew")
    check.ok(s:read("couplet.log"):find("read anew"))
    s:signal("SIGINT")
    check.equal(s:exited(), 0)
  end)
end)

check.test("a server whose file was broken is looked at and stopped", function()
  with(nil, function(s)
    s:start()
    local said = "warning: the configuration does not load: .*config.lua:12: '}' expected .*near '\"last\"'"
    s:write("config.lua", CONFIG .. 'VirtualHost "localhost"\nmodules_enabled = {\n "uptime" "last" }\n')
    expect(s, "status", 0, said .. ".*host localhost")
    local answer = json.decode(select(2, s:ctl("--json status")):match("\n({.*)$"))
    check.equal(answer.pid, s.pid)
    expect(s, "module list", 0, said .. ".*ping")
    expect(s, "user list localhost", 0, said .. ".*0 accounts")
    expect(s, "no such word", 2, said .. ".*unknown command no such word")
    expect(s, "help", 0, "^usage")
    expect(s, "cert generate localhost", 1, "^coupletctl: the configuration does not load: [^\n]*\n$")
    expect(s, "stop", 0, said .. ".*stopping")
    check.equal(s:exited(), 0)
    expect(s, "status", 1,
      "^coupletctl: the configuration does not load: .*config.lua:12: .*would listen at .*/data/couplet.sock")
    expect(s, "user list localhost", 1, "config.lua:12: ")
  end)
end)

check.test("signals that come together are one request to stop", function()
  with(nil, function(s)
    s:start()
    for _, name in ipairs { "SIGSTOP", "SIGINT", "SIGTERM", "SIGCONT" } do s:signal(name) end
    check.equal(s:exited(), 0, s:read("out"))
    check.ok(s:read("couplet.log"):find("stopping: Received SIG"))
  end)
end)

check.test("a reload disconnects nobody it does not concern", function()
  with(CONFIG .. 'VirtualHost "localhost"\nVirtualHost "second.localhost"\n', function(s)
    s:start()
    local port = s:status().ports[1].port
    local one, two = connect(port), connect(port)
    one.send(HEADER:format("localhost"))
    two.send(HEADER:format("second.localhost"))
    one.expect("</stream:features>")
    two.expect("</stream:features>")
    assert(system.unlink(s.dir .. "/certs/localhost.crt"))        -- another certificate is made
    s:write("config.lua", CONFIG:gsub('c2s_direct_tls_ports = { 0 }', "c2s_direct_tls_ports = { }")
      .. 'VirtualHost "localhost"\n')
    expect(s, "reload", 0, "read anew")
    two.expect("<host%-gone ")
    one.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
    one.expect("<proceed ")
    s:signal("SIGTERM")
    check.equal(s:exited(), 0)
  end)
end)

check.test("services of plugins", function()
  with(CONFIG .. 'echo_ports = { 0 }\nVirtualHost "localhost"\nmodules_enabled = { "echo" }\n', function(s)
    s:write("plugins/mod_echo.lua", [[
      module:set_global()
      module:provides("net", { name = "echo", default_port = 7, listener = {
        onconnect = function(conn)             -- the second line is how mod_proxy65 finds its port
          conn:write("hello\n")
          conn:write("at " .. next(require "core.portmanager".get_active_services():search("echo", nil)[1] or {}) .. "\n")
        end,
        onincoming = function(conn, data)
          require "util.async".sleep(0.01)
          conn:write("heard " .. data)
        end,
        ondisconnect = function() module:log("info", "left") end,
      } })
    ]])
    s:start()
    local port
    for _, p in ipairs(s:status().ports) do if p.service == "echo" then port = p.port end end
    local c = connect(check.ok(port))
    c.expect("hello\nat " .. port .. "\n")
    c.send("one")
    c.expect("heard one")
    expect(s, "module unload echo", 0, "unloaded")
    for _, p in ipairs(s:status().ports) do check.ok(p.service ~= "echo") end
    expect(s, "stop", 0, "stopping")
    check.equal(s:exited(), 0)
  end)
end)

check.test("a plugin that hangs does not keep the server from ending", function()
  with(CONFIG .. 'plugin_abort_ms = 0\nVirtualHost "localhost"\nmodules_enabled = { "hangs" }\n', function(s)
    s:write("plugins/mod_hangs.lua", 'module:hook_global("server-stopping", function() while true do end end, 1000)')
    s:start()
    s:signal("SIGTERM")
    wait_for("it to notice", function() return s:read("couplet.log"):find("stopping: Received SIGTERM") end)
    local stopped = wait_for("a SIGINT well behind another signal to end it at once", function()
      system.kill(s.pid, "SIGINT")
      return s:read("exit") ~= "" and s:exited()
    end)
    check.equal(stopped, 130)
    s:start()
    local from = loop.mono()
    s:signal("SIGTERM")
    check.equal(s:exited(), 0)
    check.ok(loop.mono() - from < 25, "soon after nine seconds, on a busy machine too")
    check.ok(s:read("out"):find("took too long"), s:read("out"))
  end)
end)

check.test("a plugin that waits too long is not waited for", function()
  with(CONFIG .. 'VirtualHost "localhost"\nmodules_enabled = { "waits" }\n', function(s)
    s:write("plugins/mod_waits.lua", 'module:hook_global("server-stopping", function() require "util.async".sleep(1000) end)')
    s:start()
    s:signal("SIGTERM")
    check.equal(s:exited(), 0)
    check.ok(not s:read("out"):find("took too long"))
  end)
end)

check.test("commands of plugins", function()
  with(CONFIG .. 'VirtualHost "localhost"\nmodules_enabled = { "talks" }\n', function(s)
    s:write("plugins/mod_talks.lua", [[
      module:add_item("shell-command", { section = "talk", name = "echo", desc = "say it again",
        args = { { name = "what", type = "string" } },
        handler = function(self, what)
          self.session.print("heard", what)
          return what ~= "nothing", what .. "!"
        end })
      function module.command(arg)
        print("command " .. table.concat(arg, ","))
        return arg[1] == "three" and 3 or nil
      end
    ]])
    s:start()
    expect(s, "talk echo hello", 0, "heard\thello\nhello!")
    expect(s, "talk echo nothing", 1, "nothing!")
    expect(s, "talk echo --help", 0, "say it again")
    expect(s, "commands", 0, "talk echo WHAT")
    expect(s, "talk", 2, "^usage: coupletctl talk …\n\n  talk echo WHAT +say it again\n$")
    expect(s, "--help", 0, "Plugins\n.*talk echo WHAT +say it again\n")
    local help = expect(s, "", 2, "Plugins\n.*talk echo WHAT +say it again\n")
    local function column(text) return utf8.len(help:match("\n([^\n]*)" .. text)) end
    check.equal(column("what that plugin offers"), column("say it again"))
    expect(s, "mod_talks a b", 0, "command a,b")
    expect(s, "mod_talks three", 3, "command three")
    expect(s, "mod_ping x", 1, "no commands")
    expect(s, "mod_nowhere x", 1, "nowhere")
  end)
end)

check.test("starts that are refused, and why", function()
  local rows = {
    { "x = = 1", "config.lua:1: unexpected symbol near '='" },
    { "run_as_root = true", "names no host: add VirtualHost" },
    { "run_as_root = true data_path = 'config.lua' VirtualHost 'localhost'",
      "config.lua is no directory .data_path, .*config.lua:1" },
    { "run_as_root = true data_path = '/proc/couplet' VirtualHost 'localhost'",
      "cannot make the data directory: .*data_path, .*config.lua:1" },
    { "run_as_root = true interfaces = 'localhost' VirtualHost 'localhost'",
      'interfaces: "localhost" is no address: a numeric one.*config.lua:1.*none of the ports could be opened' },
    { "run_as_root = true umask = 'rw' VirtualHost 'localhost'", "umask is an octal number" },
  }
  if system.uid() == 0 then
    rows[#rows + 1] = { "VirtualHost 'localhost'", "does not run as root by accident" }
    rows[#rows + 1] = { "user = 'no such user' VirtualHost 'localhost'", "no such user: no such user %(user, .*config.lua:1%)" }
  end
  for i, row in ipairs(rows) do
    with(row[1], function(s)
      s:run()
      check.equal(s:exited(), 1, "row " .. i)
      check.ok(s:read("out"):find(row[2]), ("row %d: %s"):format(i, s:read("out")))
    end)
  end
  with(nil, function(s)
    s:start()
    local again = setmetatable({ dir = s.dir, config = s.config }, server)
    again:run()
    check.equal(again:exited(), 1)
    check.ok(s:read("out"):find("another Couplet uses this data directory"), s:read("out"))
    check.equal(s:ctl("status"), 0, "the first goes on")
    s.pid = tonumber(s:read("data/couplet.pid"))
    os.remove(s.dir .. "/exit")
    s:ctl("stop")
  end)
end)

check.test("a port that is taken is named", function()
  with(nil, function(s)
    s:start()
    local port = s:status().ports[1].port
    with(CONFIG:gsub("c2s_ports = { 0 }", "c2s_ports = { " .. port .. " }") .. 'VirtualHost "localhost"\n', function(other)
      other:start()
      local log = other:read("couplet.log")
      check.ok(log:find("c2s cannot listen on 127.0.0.1 port " .. port .. ": .*c2s_ports at .*config.lua:3"), log)
    end)
  end)
end)

check.test("root is given up where an option says so", function()
  if system.uid() ~= 0 or not system.user("nobody") then return print("# skipped: not root") end
  -- a checkout below /root, say
  if not os.execute("setpriv --reuid=nobody --regid=nogroup --clear-groups test -r " .. source .. "/config.lua") then
    return with(CONFIG:gsub("run_as_root = true", 'user = "nobody"') .. 'VirtualHost "localhost"\n', function(s)
      s:run()
      check.equal(s:exited(), 1)
      check.ok(s:read("out"):find("user nobody cannot read Couplet's files in ", 1, true), s:read("out"))
      expect(s, "register juliet localhost x", 1, "^coupletctl: user nobody cannot read Couplet's files in [^\n]*\n$")
    end)
  end
  with(CONFIG:gsub("run_as_root = true", 'user = "nobody"'):gsub('log = %b{}', 'log = "*console"') .. 'VirtualHost "localhost"\n',
    function(s)
    system.mkdir(s.dir .. "/data")
    system.mkdir(s.dir .. "/certs")
    system.chmod(s.dir, 493)
    for _, name in ipairs { "data", "certs" } do system.chown(s.dir .. "/" .. name, system.user("nobody").uid, 0) end
    s:start()
    local uid = (system.read_file("/proc/" .. s.pid .. "/status") or ""):match("Uid:%s+(%d+)")
    check.equal(tonumber(uid), system.user("nobody").uid)
    expect(s, "register juliet localhost x", 0, "is ready")
    expect(s, "stop", 0, "stopping")
    check.equal(s:exited(), 0)
    expect(s, "register romeo localhost x", 0, "is ready")
    for _, name in ipairs(system.list(s.dir .. "/data")) do
      check.equal(system.stat(s.dir .. "/data/" .. name).uid, system.user("nobody").uid, name)
    end
    system.mkdir(s.dir .. "/closed", 448)
    system.mkdir(s.dir .. "/closed/plugins", 448)
    for _, command in ipairs { "register mercutio localhost x", "check config" } do
      expect(s, command, 1, "^coupletctl: user nobody cannot read Couplet's files in [^\n]*/closed: let others[^\n]*\n$", nil,
        "COUPLET_PLUGINS=" .. quote(s.dir .. "/closed/plugins"))
    end
  end)
end)

check.test("check config", function()
  local rows = {
    { "c2s_portz = { 1 }", 0, "warning: .*config.lua:1: unknown option 'c2s_portz'; do you mean 'c2s_ports'%?" },
    { "io_threads = 'many'", 1, "error: .*config.lua:1: option 'io_threads' is \"many\", but a whole number is expected" },
    { "c2s_ports = { 70000 }", 1, "70000 is no port number" },
    { "modules_enabled = {\n'pong' }", 0, "warning: .*config.lua:1: plugin 'pong' is not installed; do you mean 'ping'%?" },
    { "modules_enabled = { 'vcard_muc' }", 0, "note: .*config.lua:1: plugin 'vcard_muc' is not needed: rooms .*all is well" },
    { "", 1, "error: .*config.lua:4: plugin 'vcard_muc' is not installed: nobody serves p.localhost",
      "name = 'x'\nComponent 'p.localhost' 'vcard_muc'" },
    { "", 1, "error: .*config.lua:4: plugin 'proxy66' is not installed: nobody serves p.localhost",
      "name = 'x'\nComponent 'p.localhost' 'proxy66'" },
    { "authentication = 'ldap'", 1, "error: .*config.lua:1: plugin 'auth_ldap' is not installed: nobody can log in" },
    { "admins = { 'juliet' }", 0, 'config.lua:1: "juliet" in admins is no address like "user@example.org"' },
    { "admins = { 'juliet@localhost', 'gateway.localhost' }", 0, "all is well" },
    { "x = hello", 0, "unknown word 'hello'" },
    { "certificate = 'gone.crt'", 1, "error: .*config.lua:1: certificate of host localhost %(.*/gone.crt%): there is no such" },
    { "", 0, "warning: .*config.lua:4: certificate of host b.example: no certificate", "name = 'x'\nVirtualHost 'b.example'" },
    { "tls_profile = 'best'", 1, "tls_profile is modern, intermediate or old" },
    { "limits = { c2s = { rate = '10kb/s', burst = '2s' }, s2sin = { rate = 3000, burst = '64kb' } }", 0, "all is well" },
    { "limits = { c2s = { rate = '10 kbs' } }", 1, 'lua:1: limits.c2s.rate is "10 kbs", but a number of bytes a second' },
    { "limits = { c2s = { rate = -1 } }", 1, "config.lua:1: limits.c2s.rate is %-1, but a number of bytes" },
    { "limits = { c2s = { rate = {} } }", 1, "config.lua:1: limits.c2s.rate is a list, but a number of bytes" },
    { "limits = { c2s = {} }", 1, "config.lua:1: limits.c2s.rate is nil, but a number of bytes" },
    { "limits = { c2s = '10kb/s' }", 1, 'config.lua:1: limits.c2s is "10kb/s", but a table like' },
    { "limits = { c2s = { rate = '10kb/s', burst = 'soon' } }", 1, 'config.lua:1: limits.c2s.burst is "soon", but a time like' },
    { "interfaces = '127.0.0.1'", 0, "all is well" },
    { "daemonize = true", 0, "note: .*lua:1: option 'daemonize' does nothing here: the service manager .*all is well" },
    { "turn_external_secret = 'x'", 0, "note: .*lua:1: option 'turn_external_secret' is for the plugin turn_external" },
    { "prosody_user = 'prosody' authentication = 'internal_plain' use_ipv6 = false debug = true", 0, "all is well" },
    { "", 0, "all is well", "Component 'r.localhost' 'muc' restrict_room_creation = true" },
    { "", 1, "'restrict_room_creation' is \"?all\"?, but one of these is expected: false, true, local",
      "Component 'r.localhost' 'muc' restrict_room_creation = 'all'" },
    { "default_archive_policy = false modules_enabled = { 'mam' }", 0, "all is well" },
    { "min_seconds_between_registrations = '1 hour' modules_enabled = { 'register_limits' }", 0, "all is well" },
    { "interfaces = 'localhost'", 1, 'error: .*config.lua:1: interfaces: "localhost" is no address' },
    { "archive_expires_after = '2 days'", 0, "all is well" },
    { "archive_expires_after = 'soon'", 1, "a time, like" },
    { "s2s_blacklist = { 'x' }", 0, "lua:1: option 's2s_blacklist' does nothing: the plugin s2s_blacklist is not enabled" },
    { "s2s_blacklist = { 'x' } modules_enabled = { 's2s_blacklist' }", 0, "all is well" },
    { "mam_include_total = true", 0, "does nothing: the plugin mam or muc_mam is not enabled" },
    { "mam_include_total = true modules_enabled = { 'mam' }", 0, "all is well" },
    { "c2s_require_encryption = true s2s_secure_auth = false", 0, "all is well" },
    { "", 0, "config.lua:3: option 's2s_blacklist' does nothing: the plugin s2s_blacklist is not enabled on localhost",
      "s2s_blacklist = { 'x' }\nVirtualHost 'b.localhost' self_signed = true modules_enabled = { 's2s_blacklist' }" },
    { "", 0, "all is well",
      "VirtualHost 'b.localhost' self_signed = true modules_enabled = { 'vcard_legacy' } vcard_max_size = 2000" },
    { "autocreate_on_publish = true", 0, "all is well", "Component 'ps.localhost' 'pubsub'" },
    { "", 0, "all is well", "c2s_require_encryption = true s2s_secure_auth = false disallow_s2s = true name = 'x'" },
    { "", 0, "lua:3: option 'c2s_timeout' belongs above the first VirtualHost; below a host it does", "c2s_timeout = 50" },
    { "", 0, "lua:3: option 'component_max_connections' belongs above the first VirtualHost",
      "Component 'c.localhost' component_secret = 'x' component_max_connections = 5" },
    { "modules_enabled = { 'limits' }", 0, "lua:3: option 'limits' belongs above the first VirtualHost",
      "limits = { c2s = { rate = 3000 } }" },
    { "", 0, "lua:3: option 'component_secret' does nothing: the plugin component is not enabled on localhost",
      "component_secret = 'x' Component 'c.localhost' component_secret = 'x'" },
    { "http_ports = { 5280 }", 0, "note: .*lua:1: option 'http_ports' does nothing here: this server does not listen for HTTP" },
    { "https_ports = { 5281 } modules_enabled = { 'http' }", 0, "note: .*lua:1: option 'https_ports' does nothing here: " },
    { "", 0, "note: .*lua:3: VirtualHost \"localhost\" begins again; what stands here adds to .*config.lua:2\n",
      "VirtualHost 'localhost'" },
    { "modules_disabled = { 'tim', 's2s', 'ping' }", 0,
      "^warning: [^\n]*lua:1: modules_disabled names \"tim\", which is not installed; do you mean 'time'%?\n[^\n]*1 warning\n$" },
    { "modules_disabled = { 'websocket' }", 0,
      "^note: [^\n]*lua:1: modules_disabled names \"websocket\", which is not installed\n" },
    { "vcard_max_size = 5 modules_enabled = { 'vcard' }", 1, "is 5, but 1024 or more is allowed" },
  }
  for i, row in ipairs(rows) do
    with(row[1] .. '\nVirtualHost "localhost"\n' .. (row[4] or ""), function(s)
      local code, text = s:ctl("check config")
      check.equal(code, row[2], ("row %d: %s"):format(i, text))
      check.ok(text:find(row[3]), ("row %d: %s"):format(i, text))
    end)
  end
  with(nil, function(s)
    s:write("config.lua", system.read_file(source .. "/config.lua"))
    expect(s, "check config", 0, "config.lua: ")
  end)
  with(CONFIG .. 'VirtualHost "localhost"\nc2s_timeout = 50\nhttp_host = "x"\n', function(s)
    s:write("plugins/mod_pages.lua", 'print(module:get_option("http_host"), module:get_option("c2s_timeout"))')
    local text = expect(s, "check config", 0, "all is well")
    check.ok(not text:find "does nothing", "what plugins from elsewhere read is theirs to know")
  end)
end)

check.test("without its library, each says what to do", function()
  local dir = temp.dir()
  for _, name in ipairs { "bin", "broken" } do system.mkdir(dir .. "/" .. name, 448) end
  for _, name in ipairs { "couplet", "coupletctl" } do
    temp.write(dir, "bin/" .. name, system.read_file(source .. "/bin/" .. name))
    temp.write(dir, "broken/couplet/core.so", "no library")
    local rows = {
      { source, "nowhere", ": not built: run %./dev build, then build/bin/" .. name .. "\n$" },
      { dir, "nowhere", ": the library couplet/core%.so is missing; it was looked for here:\n\tno file '" .. dir
        .. "/bin/%.%./lib/lua/5%.4/couplet/core%.so'\n\tno file '[^\n]*/nowhere/couplet/core%.so'\n$" },
      { dir, "broken", ": error loading module 'couplet.core' from file '[^\n]*/broken/couplet/core%.so':\n[^\n]*\n$" },
    }
    for i, row in ipairs(rows) do
      local p = io.popen(("LUA_CPATH=%s/%s/?.so lua5.4 %s/bin/%s --version 2>&1; echo exit $?"):format(quote(dir), row[2],
        quote(row[1]), name))
      local text = p:read "a"
      p:close()
      check.ok(text:gsub("exit 1\n$", ""):find("^" .. name .. row[3]), ("row %d: %s"):format(i, text))
    end
  end
  temp.remove(dir)
end)

check.test("making certificates", function()
  with(CONFIG .. 'VirtualHost "a.example"', function(s)
    expect(s, "cert generate b.example", 1, "has no host b.example")
    expect(s, "cert generate a.example 0", 1, "DAYS")
    expect(s, "cert generate a.example 30", 0, "certs/a.example.crt\n.*certs/a.example.key")
    expect(s, "cert generate a.example", 1, "exists")
    expect(s, "cert list", 0, "a.example: .*a.example.crt, until ")
  end)
end)

check.test("the configuration Debian's prosody ships starts a server", function()
  local shipped = "/etc/prosody/prosody.cfg.lua"
  if not system.stat(shipped) then return print("# skipped: Debian's prosody is not installed here") end
  with('c2s_ports = { 0 } c2s_direct_tls_ports = { 0 } s2s_ports = { } s2s_direct_tls_ports = { }\n'
    .. 'http_ports = { } https_ports = { }\n'
    .. 'data_path = "data" interfaces = { "127.0.0.1" } Include "prosody.cfg.lua"\n', function(s)
    s:write("prosody.cfg.lua", system.read_file(shipped))
    s:start("--root")
    check.equal(s:status().hosts[1].host, "localhost")
    expect(s, "check config", 0, "no errors")
    expect(s, "stop", 0, "stopping")
    check.equal(s:exited(), 0)
  end)
end)

check.done()
