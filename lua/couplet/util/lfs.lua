-- SPDX-License-Identifier: MIT
-- util.lfs: what plugins use of LuaFileSystem; `require "lfs"` gives this where the real one is not installed.

local system = require "couplet.core".system

local lfs = { _VERSION = "LuaFileSystem (Couplet)" }

local types = { file = "file", directory = "directory", link = "link", socket = "socket", fifo = "named pipe",
  char = "char device", block = "block device" }

local function permissions(mode)
  local out = {}
  for i = 8, 0, -1 do out[#out + 1] = mode & (1 << i) ~= 0 and ("xwr"):sub(i % 3 + 1, i % 3 + 1) or "-" end
  return table.concat(out)
end

local function attributes(how, path, what)
  local s, err, code = system.stat(path, how)
  if not s then return nil, err, code end
  local all = type(what) == "table" and what or {}
  all.mode, all.size, all.uid, all.gid, all.nlink, all.ino, all.dev = types[s.type], s.size, s.uid, s.gid, s.nlink, s.ino, s.dev
  all.access, all.modification, all.change, all.permissions = s.atime, s.mtime, s.ctime, permissions(s.mode)
  if type(what) == "string" then return all[what] end
  return all
end

function lfs.attributes(path, what) return attributes("follow", path, what) end
function lfs.symlinkattributes(path, what) return attributes("link", path, what) end

function lfs.dir(path)
  local names, err = system.list(path)
  if not names then error(("cannot open %s"):format(err), 2) end
  table.insert(names, 1, ".")
  table.insert(names, 2, "..")
  local i = 0
  local object = { close = function() i = #names end }
  function object.next()
    i = i + 1
    return names[i]
  end
  return object.next, object
end

function lfs.mkdir(path) return system.mkdir(path, 0x1fd) end       -- 0775, less the umask
lfs.rmdir, lfs.chdir, lfs.currentdir = system.rmdir, system.chdir, system.cwd
function lfs.touch(path, access, modification) return system.touch(path, access, modification or access) end
function lfs.link(old, new, symbolic)
  if symbolic then return system.symlink(old, new) end
  return system.link(old, new)
end
function lfs.setmode() return true, "binary" end

return lfs
