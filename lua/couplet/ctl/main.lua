-- SPDX-License-Identifier: MIT
-- ctl/main: coupletctl. main.run(arg) -> exit code: 0 done, 1 refused or failed, 2 not understood.

local core = require "couplet.core"
local system = core.system

local main = {}

local intro = [[
usage: coupletctl [--config FILE] COMMAND [ARGUMENT…]

Administers Couplet: the running server if there is one, its storage otherwise.
`coupletctl COMMAND --help` says more about one.

]]

local function out(text) io.stdout:write(text, "\n") end
local function complain(text) io.stderr:write("coupletctl: ", require "couplet.log".clean(text), "\n") end

-- Words Prosody's administrators type, and what to do here.
local elsewhere = {
  start = "the server is started with `couplet` or by the service manager (systemctl start couplet)",
  restart = "restart the server with the service manager (systemctl restart couplet); `coupletctl reload` is often enough",
  shell = "there is no shell: commands are given directly, for example `coupletctl c2s list`",
  install = "put plugins into a directory named in plugin_paths, then add them to modules_enabled and `coupletctl reload`",
}
elsewhere.remove, elsewhere.list = elsewhere.install, elsewhere.install
local synonyms = { deleteuser = "deluser", ["cert generate"] = nil, ["user create"] = "adduser", ["user password"] = "passwd",
  ["user delete"] = "deluser", ["config reload"] = "reload", ["server shutdown"] = "stop", ["host add"] = "host activate" }

-- --- asking people ---

local function ask_password(twice)
  if not system.isatty(0) then return system.password("") end
  local first = system.password("New password: ")
  if not first or first == "" then return nil, "no password given" end
  if twice and system.password("Once more:    ") ~= first then return nil, "the two passwords differ" end
  return first
end

local function confirmed(question)
  io.stdout:write(question, " [y/N] ")
  io.stdout:flush()
  local answer = io.read("l") or ""
  return answer:lower():match("^%s*y") ~= nil
end

-- --- talking to the server ---

local function connect()
  local path = require "couplet.control".path()
  local fd, err = system.connect(path)
  if not fd and err:find("Permission denied") then return nil, err end
  return fd
end

local function talk(fd, request, on_print)
  local json = require "couplet.util.json"
  local line = json.encode(request) .. "\n"
  local from = 1
  while from <= #line do
    local n, err = system.send(fd, line, from)
    if not n then return { ok = false, text = err } end
    from = from + n
  end
  local parts = {}
  while true do
    local bytes, err = system.recv(fd)
    if not bytes then return { ok = false, text = err } end
    if bytes == "" then return { ok = false, text = "the server closed the connection" } end
    parts[#parts + 1] = bytes
    if bytes:find("\n", 1, true) then
      local input = table.concat(parts)
      local at = 1
      while true do
        local stop = input:find("\n", at, true)
        if not stop then break end
        local message = json.decode(input:sub(at, stop - 1))
        at = stop + 1
        if type(message) ~= "table" then return { ok = false, text = "the server's answer makes no sense" } end
        if message.ok ~= nil then return message end
        on_print(message.print)
      end
      parts = { input:sub(at) }
    end
  end
end

-- --- without the server ---

-- As root, become who owns the data: files made here must be readable by the server.
local function become_owner()
  if system.uid() ~= 0 then return true end
  local config = require "couplet.config"
  local user = config.get("*", "user") or config.get("*", "couplet_user") or config.get("*", "prosody_user")
  if not user then
    local stat = system.stat(config.data_path())
    local owner = stat and stat.uid ~= 0 and system.user(stat.uid)
    user = owner and owner.name
  end
  if not user then return true end
  local ok, err = system.become(user)
  if not ok then return nil, ("cannot become %s: %s"):format(user, err) end
  return require "couplet.init".may_read(user)
end

-- Runs fn as a task; returns its results when it has ended.
local function as_task(fn)
  local results
  require "couplet.task".spawn(function()
    results = table.pack(xpcall(fn, debug.traceback))
    core.loop.stop()
  end)
  if not results then core.loop.run() end
  core.loop.finish()
  if not results[1] then return nil, results[2] end
  return table.unpack(results, 2, results.n)
end

local function prepare_offline()
  local config = require "couplet.config"
  local ok, err = become_owner()
  if not ok then return nil, err end
  system.umask(0x17)                    -- 027
  local data = config.data_path()
  if not system.stat(data) then
    ok, err = system.mkdir(data, 0x1e8)
    if not ok then return nil, "cannot make the data directory: " .. err end
  end
  if not system.access(data, "rwx") then
    return nil, "cannot write to the data directory " .. data .. " (which user runs the server?)"
  end
  require "couplet.prosody".process_type = "prosodyctl"
  local plugin = require "couplet.plugin"
  require "couplet.init".libraries()
  plugin.configure()
  require "couplet.store"
  require "couplet.users"
  require "couplet.hosts".load()
  return true
end

-- How many there are besides options.
local function plain_arguments(c, args)
  local n = 0
  for _, a in ipairs(args) do
    if not (c.options and a:match("^%-%-") and c.options[a:match("^%-%-([%w%-]+)")]) then n = n + 1 end
  end
  return n
end

-- What a command wants to know before it is run; then runs it: run(name, args) -> ok, text, data.
local function asked(c, args, run)
  local yes = false
  for _, a in ipairs(args) do yes = yes or a == "--yes" end
  local wants_password = c.password and plain_arguments(c, args) < c.password
  if c.account ~= nil and (wants_password or c.confirm and not yes) then
    local ok, text, exists = run("user exists", { args[1] })
    if not ok or exists ~= c.account then return nil, text end
  end
  if c.confirm and not yes and not confirmed(c.confirm:format(args[1])) then return nil, "nothing was done" end
  if wants_password then
    local password, err = ask_password(true)
    if not password or password == "" then return nil, err or "no password given" end
    table.insert(args, password)
  end
  return run(c.name, args)
end

local function run_offline(c, args, print_line)
  return as_task(function()
    if not c.bare then
      local ok, err = prepare_offline()
      if not ok then return nil, err end
    end
    return asked(c, args, function(name, words)
      return require "couplet.commands".run(name, words, { print = function(_, fmt, ...)
        print_line(select("#", ...) > 0 and fmt:format(...) or tostring(fmt))
      end })
    end)
  end)
end

-- `coupletctl mod_X …`: module.command(arg)
local function run_module(name, args)
  return as_task(function()
    local ok, err = prepare_offline()
    if not ok then return nil, err end
    local plugin, prosody = require "couplet.plugin", require "couplet.prosody"
    local where = "*"
    for _, host in ipairs(require "couplet.config".hosts()) do
      if prosody.hosts[host] and plugin.get_modules_for_host(host):contains(name) then where = host break end
    end
    if where == "*" then where = next(prosody.hosts) or "*" end
    local env
    env, err = plugin.load(where, name)
    if not env then return nil, tostring(err) end
    if not plugin.module_has_method(env, "command") then return nil, "mod_" .. name .. " has no commands" end
    local good, result = plugin.call_module_method(env, "command", args)
    if not good then return nil, tostring(result) end
    return true, nil, result
  end)
end

-- --- help ---

local groups = {
  { "Accounts", "^adduser$|^passwd$|^deluser$|^register$|^unregister$|^user " },
  { "Server", "^status$|^reload$|^stop$|^version$|^about$|^metrics$|^log " },
  { "Configuration", "^check|^cert " },
  { "Hosts, plugins, connections", "." },
}

-- Columns are characters: %-38s counts bytes.
local function help_line(usage, text)
  return ("  %s%s %s\n"):format(usage, (" "):rep(38 - (utf8.len(usage) or #usage)), text or "")
end

local function in_group(name, patterns)
  for pattern in patterns:gmatch("[^|]+") do if name:find(pattern) then return true end end
end

-- of_plugins: commands that plugins of the running server bring.
local function help(of_plugins)
  local commands = require "couplet.commands"
  local text, seen = { intro }, {}
  for _, group in ipairs(groups) do
    text[#text + 1] = group[1] .. "\n"
    for _, c in ipairs(commands.list()) do
      if not seen[c.name] and in_group(c.name, group[2]) then
        seen[c.name] = true
        text[#text + 1] = help_line(commands.usage(c), c.help)
      end
    end
    text[#text + 1] = "\n"
  end
  text[#text + 1] = "Plugins\n"
  for _, c in ipairs(of_plugins) do
    text[#text + 1] = help_line(commands.usage(c), c.help)
  end
  if not of_plugins[1] then text[#text + 1] = help_line("…", "plugins of the running server have commands, too") end
  text[#text + 1] = help_line("mod_NAME [ARGUMENT…]", "what that plugin offers as a command")
  text[#text + 1] = "\nOptions\n  --config FILE   default: $COUPLET_CONFIG, /etc/couplet/config.lua, ./config.lua\n"
    .. "  --json          the answer as JSON, where there is data\n"
  return table.concat(text)
end

local function command_help(c)
  local commands = require "couplet.commands"
  local text, more = ("usage: coupletctl %s\n\n  %s\n"):format(commands.usage(c), c.help or ""), ""
  for _, x in ipairs(commands.list()) do
    if x.name:sub(1, #c.name + 1) == c.name .. " " then
      more = more .. help_line(commands.usage(x), x.help)
    end
  end
  return text .. (more ~= "" and "\n" .. more or "")
end

-- --- main ---

local function arguments(argv)
  local words, opts = {}, {}
  local i = 1
  while argv[i] do
    local a = argv[i]
    local file = a:match("^%-%-config=(.+)$")
    if file then opts.config = file
    elseif (a == "--config" or a == "-c") and #words == 0 then
      i = i + 1
      opts.config = argv[i]
      if not opts.config then return nil, "--config needs a file" end
    elseif a == "--json" then opts.json = true
    elseif a == "--version" and #words == 0 then words[1] = "version"
    elseif a == "--root" and #words == 0 then opts.root = true       -- scripts written for others say so
    elseif a == "--help" or a == "-h" or a == "-?" then opts.help = true
    elseif a:sub(1, 1) == "-" and #words == 0 then return nil, "unknown option " .. a
    else words[#words + 1] = a end
    i = i + 1
  end
  return words, opts
end

local function find(words)
  local commands = require "couplet.commands"
  for n = math.min(2, #words), 1, -1 do
    local other = synonyms[table.concat(words, " ", 1, n)]
    if other then
      local rest = { table.unpack(words, n + 1) }
      words = {}
      for w in other:gmatch("%S+") do words[#words + 1] = w end
      for _, w in ipairs(rest) do words[#words + 1] = w end
      break
    end
  end
  local c, n = commands.find(words)
  if not c then return nil end
  return c, { table.unpack(words, n + 1) }
end

-- -> path | nil, message, path of the file that does not load. Where the server listens is then known all the same, as a rule:
-- an administrator who broke his file wants to look at the server that runs.
local function load_configuration(opts)
  local init = require "couplet.init"
  local path, err = init.find_config(opts.config)
  if not path then return nil, err end
  local ok, part
  ok, err, part = init.load(path)
  if ok then return path end
  if part then require "couplet.config".salvage(part) end
  return nil, err, part and path
end

-- Commands of the server that runs, if one does: all it has, and the connection.
local function listed(fd)
  fd = fd or connect()
  local answer = fd and talk(fd, { command = "commands" }, function() end)
  return answer and answer.data or {}, fd
end

local function of_plugins(opts)
  local list = {}
  local path, _, broken = load_configuration(opts)
  if not path and not broken then return list end
  local all, fd = listed()
  for _, x in ipairs(all) do
    if not require "couplet.commands".get(x.name) then list[#list + 1] = x end
  end
  if fd then system.close(fd) end
  return list
end

function main.run(argv)
  require "couplet.log".quiet("warn")
  require "couplet.ctl.accounts"
  require "couplet.ctl.server"
  require "couplet.ctl.storage"
  require "couplet.ctl.tool"
  local words, opts = arguments(argv)
  if not words then
    complain(opts .. "; see coupletctl --help")
    return 2
  end
  if words[1] == "help" then
    table.remove(words, 1)
    opts.help = true
  end
  if #words == 0 then
    (opts.help and io.stdout or io.stderr):write(help(of_plugins(opts)))
    return opts.help and 0 or 2
  end
  local module_name = words[1]:match("^mod_([%w_]+)$")
  local c, args
  if not module_name then
    c, args = find(words)
    if c and opts.help then
      io.stdout:write(command_help(c))
      return 0
    end
    if not c and #words == 1 or opts.help then        -- a section: list what is in it
      local commands, lines = require "couplet.commands", {}
      for _, x in ipairs(commands.list()) do
        if x.name:sub(1, #words[1] + 1) == words[1] .. " " then
          lines[#lines + 1] = help_line(commands.usage(x), x.help)
        end
      end
      if #lines > 0 then
        (opts.help and io.stdout or io.stderr):write("usage: coupletctl ", words[1], " …\n\n", table.concat(lines))
        return opts.help and 0 or 2
      end
    end
    if not c and elsewhere[words[1]] then
      complain(elsewhere[words[1]])
      return 1
    end
  elseif opts.help then
    table.insert(words, 2, "--help")
  end

  local path, err, broken = load_configuration(opts)
  local fd
  if not path and not (c and c.broken_ok) then
    local for_server = broken and not module_name and not (c and (c.where == "tool" or c.name == "reload"))
    local refused
    if for_server then fd, refused = connect() end
    complain((fd and "warning: " or "") .. (broken and "the configuration does not load: " or "") .. err)
    if not fd then
      if for_server then
        complain(refused and "cannot reach the server: " .. refused
          or "as far as the file can be read, the server would listen at " .. require "couplet.control".path() .. "; none does")
      end
      return 1
    end
    err = nil
  end
  opts.path, opts.problem = path or broken, not path and err or nil
  if module_name then
    local ok, text, result = run_module(module_name, { table.unpack(words, 2) })
    if not ok then
      complain(tostring(text))
      return 1
    end
    return math.type(result) == "integer" and result or result == false and 1 or 0
  end

  if not c then                         -- perhaps a plugin of the running server brings it
    local all
    all, fd = listed(fd)
    for _, x in ipairs(all) do
      local n = select(2, x.name:gsub("%S+", ""))
      if table.concat(words, " ", 1, math.min(n, #words)) == x.name then
        c, args = { name = x.name, args = x.args, help = x.help, where = "server", min = 0, max = 100 },
          { table.unpack(words, n + 1) }
      end
    end
    local family = {}
    for _, x in ipairs(c and {} or all) do
      if x.name:sub(1, #words[1] + 1) == words[1] .. " " then
        family[#family + 1] = help_line(require "couplet.commands".usage(x), x.help)
      end
    end
    if family[1] then
      io.stderr:write("usage: coupletctl ", words[1], " …\n\n", table.concat(family))
      return 2
    end
    if not c then
      complain(("unknown command %s; coupletctl --help lists all%s"):format(table.concat(words, " "),
        fd and "" or " (those of plugins only while the server runs, and it does not)"))
      return 2
    end
    if opts.help then
      io.stdout:write(command_help(c))
      return 0
    end
  end

  local plain = plain_arguments(c, args)
  if plain < c.min or plain > c.max then
    io.stderr:write(command_help(c))
    return 2
  end
  local function show(text) if not opts.json then out(text) end end
  local ok, text, data
  if c.where == "tool" then
    if c.name:find("^check") then       -- with the eyes of the server's user: what it cannot read is worth a word
      ok, text = become_owner()
      if not ok then
        complain(text)
        return 1
      end
    end
    local run = require "couplet.commands".run
    if c.waits then
      local now = run
      run = function(...)
        local values = table.pack(...)
        return as_task(function() return now(table.unpack(values, 1, values.n)) end)
      end
    end
    ok, text, data = asked(c, args, function(name, of)
      return run(name, of, { print = function(_, fmt, ...)
        show(select("#", ...) > 0 and fmt:format(...) or tostring(fmt))
      end, tool = opts })
    end)
  else
    if not fd then fd, err = connect() end
    if err then
      complain("cannot reach the server: " .. err)
      return 1
    end
    if fd then
      ok, text, data = asked(c, args, function(name, of)
        local result = talk(fd, { command = name, args = of, width = tonumber(os.getenv("COLUMNS")) }, show)
        return result.ok, result.text, result.data
      end)
      if ok and c.name == "stop" then   -- what comes next may need the data: the next start, a copy of the storage
        show(text)
        repeat local more = system.recv(fd) until not more or more == ""
        text = "stopped"
      end
      system.close(fd)
    elseif c.where == "any" then
      ok, text, data = run_offline(c, args, show)
    else
      complain("Couplet is not running: nobody listens at " .. require "couplet.control".path())
      return 1
    end
  end
  if not ok then
    complain(tostring(text or "failed"))
    return 1
  end
  if opts.json then out(require "couplet.util.json".encode_ordered(data == nil and { text = text } or data))
  elseif text and text ~= "" then out(text) end
  if data == false then return 1 end    -- a question, answered with no
  if c.name == "reload" then
    io.stdout:flush()                   -- what follows may go another way
    local errors = 0                    -- the server counts them as not set, and says so in its log; here they are a failure
    for _, finding in ipairs(require "couplet.ctl.check".run()) do
      if finding.level == "error" then
        errors = errors + 1
        complain(finding.text)
      else
        show(("%s: %s"):format(finding.level, finding.text))
      end
    end
    if errors > 0 then
      complain(("read anew, but not all of it: %s in %s"):format(require "couplet.commands".counted(errors, "error"), path))
      return 1
    end
  end
  return 0
end

return main
