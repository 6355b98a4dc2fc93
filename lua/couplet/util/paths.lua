-- SPDX-License-Identifier: MIT
-- util.paths: file names.

local paths = {}

paths.path_sep = "/"

-- path seen from parent; absolute and ~/ paths stay what they are
function paths.resolve_relative_path(parent, path)
  if type(path) ~= "string" then return nil end
  if path:sub(1, 1) == "/" or not parent then return path end
  if path:sub(1, 2) == "~/" and os.getenv("HOME") then return os.getenv("HOME") .. path:sub(2) end
  parent = parent:gsub("/+$", "")
  path = path:gsub("^%./", "")
  if path == "" or path == "." then return parent end
  return parent .. "/" .. path
end

-- file name pattern -> Lua pattern
function paths.glob_to_pattern(glob)
  return "^" .. glob:gsub("[%p*?]", function(c)
    if c == "*" then return ".*" end
    if c == "?" then return "." end
    return "%" .. c
  end) .. "$"
end

function paths.join(first, ...)
  local out = first
  for _, part in ipairs { ... } do out = out:gsub("/+$", "") .. "/" .. part end
  return out
end

-- Adds DIR/share/lua/5.4/?.lua and friends to package.path and package.cpath.
function paths.complement_lua_path(dir)
  local version = _VERSION:match("%d+%.%d+")
  local function add(list, entry)
    return (";" .. list .. ";"):find(";" .. entry .. ";", 1, true) and list or entry .. ";" .. list
  end
  package.path = add(add(package.path, ("%s/share/lua/%s/?/init.lua"):format(dir, version)),
    ("%s/share/lua/%s/?.lua"):format(dir, version))
  package.cpath = add(package.cpath, ("%s/lib/lua/%s/?.so"):format(dir, version))
end

return paths
