-- SPDX-License-Identifier: MIT
-- temp.lua: a directory of a test's own. temp.dir() -> path; temp.write(dir, name, text) -> path; temp.remove(dir)

local system = require "couplet.core".system

local temp = {}

function temp.dir()
  local path = os.tmpname()
  os.remove(path)
  assert(system.mkdir(path, 448))
  return path
end

function temp.write(dir, name, text)
  local path = dir .. "/" .. name
  local parent = path:match("^(.*)/")
  if not system.stat(parent) then assert(system.mkdir(parent)) end
  assert(system.write_file(path, text))
  return path
end

function temp.remove(path)
  local stat = system.stat(path, "link")
  if not stat then return end
  if stat.type == "directory" then
    for _, name in ipairs(assert(system.list(path))) do temp.remove(path .. "/" .. name) end
    assert(system.rmdir(path))
  else
    assert(system.unlink(path))
  end
end

return temp
