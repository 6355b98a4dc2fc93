-- SPDX-License-Identifier: MIT
-- control: the local socket through which coupletctl talks to the running server.
--
--   control.open() -> true | nil, message      control.close()      control.path() -> path
--
-- DATA/couplet.sock, mode 0600: who may open it may do anything. One JSON object a line. Request: { command = "c2s list",
-- args = { … } }. Answers: any number of { print = text }, then { ok = true, text =, data = } or { ok = false, text = }.

local core = require "couplet.core"
local commands = require "couplet.commands"
local config = require "couplet.config"
local json = require "couplet.util.json"
local log = require "couplet.log".new "control"
local task = require "couplet.task"
local loop, system = core.loop, core.system

local control = {}

local LINE_MAX = 256 * 1024
local OUT_MAX = 64 * 1024 * 1024
local CLIENTS_MAX = 32
local IDLE_SECONDS = 600

local socket, watcher, path
local clients, count = {}, 0

function control.path()
  return config.path(config.get("*", "control_socket") or "couplet.sock", config.data_path())
end

-- --- one client ---

local function close(c)
  if not clients[c] then return end
  clients[c] = nil
  count = count - 1
  c.watcher:stop()
  c.timer:stop()
  system.close(c.fd)
end

local function flush(c)
  while c.out[c.first] do
    local n, err = system.send(c.fd, c.out[c.first], c.sent + 1)
    if not n then
      if err == "again" then return c.watcher:mode("rw") end
      return close(c)
    end
    c.pending = c.pending - n
    c.sent = c.sent + n
    if c.sent == #c.out[c.first] then
      c.out[c.first] = nil
      c.first, c.sent = c.first + 1, 0
    end
  end
  if c.done then return close(c) end
  c.watcher:mode("r")
end

local function answer(c, message)
  if not clients[c] then return false end
  local ok, text = pcall(json.encode, message)
  if not ok then text = json.encode { ok = false, text = "the answer cannot be written down: " .. tostring(text) } end
  c.last = c.last + 1
  c.out[c.last] = text .. "\n"
  c.pending = c.pending + #text + 1
  if c.pending > OUT_MAX then
    close(c)
    return false
  end
  flush(c)
  return true
end

local function serve(c, line)
  local request, err = json.decode(line)
  if type(request) ~= "table" or type(request.command) ~= "string" then
    return answer(c, { ok = false, text = "not a request: " .. tostring(err or "no command") })
  end
  local args = {}
  for i, a in ipairs(type(request.args) == "table" and request.args or {}) do args[i] = tostring(a) end
  log("debug", "%s", request.command)
  local ok, text, data = commands.run(request.command, args, {
    print = function(_, fmt, ...)
      answer(c, { print = select("#", ...) > 0 and fmt:format(...) or tostring(fmt) })
    end,
    remote = true, width = tonumber(request.width),
  })
  answer(c, { ok = ok and true or false, text = text ~= nil and tostring(text) or nil, data = data })
end

local function readable(c)
  while clients[c] do
    local bytes, err = system.recv(c.fd)
    if not bytes then
      if err ~= "again" then close(c) end
      return
    end
    if bytes == "" then
      c.done = true
      if c.busy == 0 and not c.out[c.first] then return close(c) end
      return c.watcher:mode(c.out[c.first] and "w" or "")
    end
    c.timer:start(IDLE_SECONDS)
    c.input = c.input .. bytes
    while true do
      local line, rest = c.input:match("^([^\n]*)\n(.*)$")
      if not line then break end
      c.input = rest
      if line ~= "" then c.queue:push(line) end
    end
    if #c.input > LINE_MAX then
      answer(c, { ok = false, text = "line too long" })
      return close(c)
    end
  end
end

local function accept()
  while true do
    local fd, uid = system.accept(socket)
    if not fd then return end
    if count >= CLIENTS_MAX then
      system.close(fd)
    else
      local c = { fd = fd, uid = uid, input = "", out = {}, first = 1, last = 0, sent = 0, pending = 0, busy = 0 }
      count = count + 1
      clients[c] = true
      c.queue = task.queue(function(line)
        c.busy = c.busy + 1
        serve(c, line)
        c.busy = c.busy - 1
        if c.done and c.busy == 0 and clients[c] and not c.out[c.first] then close(c) end
      end)
      c.timer = loop.timer(IDLE_SECONDS, function() close(c) end)
      c.watcher = loop.watch(fd, "r", function(r, w)
        if w and clients[c] then flush(c) end
        if r and clients[c] then readable(c) end
      end)
    end
  end
end

-- --- the socket ---

function control.open()
  require "couplet.ctl.accounts"
  require "couplet.ctl.server"
  require "couplet.ctl.storage"
  require "couplet.ctl.tool"
  path = control.path()
  local err
  socket, err = system.listen(path, 0x180)
  if not socket then return nil, err end
  watcher = loop.watch(socket, "r", accept)
  return true
end

function control.close()
  if not socket then return end
  watcher:stop()
  system.close(socket)
  system.unlink(path)
  socket = nil
  for c in pairs(clients) do flush(c) end        -- they see the end of the process by that of their connection
end

return control
