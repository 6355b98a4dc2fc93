-- SPDX-License-Identifier: MIT
-- util.pposix: the process and the system, under the names plugins know. All answer nil or false and a text on failure.

local system = require "couplet.core".system

local pposix = { ENOENT = "ENOENT", _VERSION = "0.4.4", _NAME = "pposix" }

pposix.getpid, pposix.getuid, pposix.getgid = system.pid, system.uid, system.gid
pposix.isatty, pposix.uname, pposix.setenv, pposix.mkdir = system.isatty, system.uname, system.environment, system.mkdir

function pposix.isatty(file)
  if type(file) == "number" then return system.isatty(file) end
  return system.isatty(file == io.stdin and 0 or file == io.stdout and 1 or 2)
end

-- octal text, as in configuration files
function pposix.umask(mask)
  return ("%03o"):format(system.umask(tonumber(mask, 8) or error("umask: octal digits expected", 2)))
end

function pposix.getrlimit(name)
  local soft, hard = system.rlimit(name)
  if not soft then return false, hard end
  local function shown(n) return n < 0 and "unlimited" or n end
  return true, shown(soft), shown(hard)
end

function pposix.setrlimit(name, soft, hard)
  local function number(v) if v == "unlimited" then return -1 end return v end
  local ok, err = system.rlimit(name, number(soft), number(hard))
  if not ok then return false, err end
  return true
end

function pposix.meminfo()
  local m = system.memory()
  return { allocated = m.allocated, allocated_mmap = 0, used = m.used, unused = m.free, returnable = 0 }
end

function pposix.syslog_open(name, facility) system.syslog_open(name, facility) end
function pposix.syslog_log(level, source, text)
  if text == nil then system.syslog(level, source) else system.syslog(level, source .. ": " .. text) end
end
function pposix.syslog_close() system.syslog_close() end
function pposix.syslog_setminlevel() end

local function refused() return false, "the server decides that itself (option user)" end
pposix.setuid, pposix.setgid, pposix.initgroups, pposix.daemonize = refused, refused, refused, refused

-- Appends all of it, or nothing.
function pposix.atomic_append(file, data)
  local at = file:seek("end")
  local ok, err, code = file:write(data)
  if ok then ok, err, code = file:flush() end
  if not ok then
    file:seek("set", at)
    return nil, err, code
  end
  return true
end

function pposix.abort() system.kill(system.pid(), "SIGABRT") end

return pposix
