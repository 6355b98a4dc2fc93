-- SPDX-License-Identifier: MIT
-- loader.lua: finding and compiling plugin files (util.pluginloader). PLUGIN-API §2.1.
--
--   loader.set_paths{ dir, ... }                 directories looked in before the built-in one
--   loader.load_resource(plugin, name?) -> text, path | nil, message        name: mod_X.lua by default
--   loader.load_code(plugin, name, env) -> chunk, path, meta | nil, message
--   loader.load_code_ext(plugin, name, extension, env) -> chunk, path       name.EXTENSION, as the `require` method wants
--   loader.compile(text, path, env) -> chunk, path, meta | nil, message
--   loader.find(plugin, name) -> path | nil, list of places
--   loader.meta(text) -> { requires = {...}, conflicts = {...}, lua = "...", api = n }

local features = require "couplet.features".available

local loader = { paths = {} }

-- Beside the library when installed, $COUPLET_PLUGINS in the source tree.
local function built_in()
  local dir = os.getenv "COUPLET_PLUGINS"
  if dir and dir ~= "" then return dir end
  local here = package.searchpath("couplet.loader", package.path) or "./loader.lua"
  return (here:gsub("[^/]*$", "plugins"))
end

function loader.set_paths(paths)
  loader.paths = {}
  for _, dir in ipairs(paths or {}) do loader.paths[#loader.paths + 1] = (dir:gsub("/+$", "")) end
end

function loader.directories()
  local out = { table.unpack(loader.paths) }
  out[#out + 1] = built_in()
  return out
end

local places = {
  "mod_%s/%s/%s", "mod_%s/%s", "%s/%s", "%s", "share/lua/5.4/%s", "share/lua/5.4/mod_%s/%s",
}

local function each_place(dir, plugin, name)
  local i = 0
  return function()
    i = i + 1
    local form = places[i]
    if not form then return nil end
    local path
    if i == 1 then path = form:format(plugin, plugin, name)
    elseif i == 4 or i == 5 then path = form:format(name)
    else path = form:format(plugin, name) end
    return dir .. "/" .. path
  end
end

function loader.meta(text)
  local meta = {}
  for line in text:gmatch "[^\n]*" do
    local key, value = line:match "^%-%-%%%s*(%w+):%s*(.-)%s*$"
    if key then
      if key == "requires" or key == "conflicts" or key == "provides" then
        local list = meta[key] or {}
        for word in value:gmatch "[^,%s]+" do list[#list + 1] = word end
        meta[key] = list
      elseif key == "api" then
        meta.api = tonumber(value)
      else
        meta[key] = value
      end
    elseif line ~= "" and not line:find "^%-%-" and not line:find "^#" then
      break
    end
  end
  return meta
end

local function read(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read "a"
  file:close()
  return text                           -- nil for a directory
end

local function unsuitable(meta)
  for _, feature in ipairs(meta.conflicts or {}) do
    if features:contains(feature) then return "this server has " .. feature .. " built in" end
  end
  if meta.lua and not (" " .. meta.lua .. ","):find("[ ,]5%.4%s*,") then return "it is for Lua " .. meta.lua end
end

local function bad_name(name)
  return name == "" or name:find("..", 1, true) or name:find "^/" or name:find "%z"
end

-- The first file there is. Code is skipped if its header says it does not fit here.
local function search(plugin, name, code)
  local tried = {}
  if bad_name(plugin) or bad_name(name) then return nil, "bad name" end
  for _, dir in ipairs(loader.directories()) do
    for path in each_place(dir, plugin, name) do
      local text = read(path)
      if text then
        local meta = code and loader.meta(text) or nil
        local why = meta and unsuitable(meta)
        if not why then return text, path end
        tried[#tried + 1] = path .. " (" .. why .. ")"
      end
    end
    tried[#tried + 1] = dir
  end
  return nil, "no " .. name .. " in " .. table.concat(tried, ", ")
end

function loader.load_resource(plugin, name)
  return search(plugin, name or "mod_" .. plugin .. ".lua", false)
end

function loader.find(plugin, name)
  local text, path = search(plugin, name or "mod_" .. plugin .. ".lua", true)
  if text then return path end
  return nil, path
end

-- The methods of `module` a text calls -> the line.
local function methods_of(text)
  local out, number = {}, 0
  for line in (text .. "\n"):gmatch "(.-)\n" do
    number = number + 1
    for method in line:gsub("%-%-.*", ""):gmatch "%f[%w_]module:([%a_][%w_]*)" do out[method] = out[method] or number end
  end
  return out
end

-- A chunk of a text whose header fits.
function loader.compile(text, path, env)
  local meta = loader.meta(text)
  for _, feature in ipairs(meta.requires or {}) do
    if not features:contains(feature) then return nil, path .. " needs a feature this server does not have: " .. feature end
  end
  local chunk, err = load(text:gsub("^#[^\n]*", "", 1), "@" .. path, "t", env)
  if not chunk then return nil, err end
  if meta.api then meta.methods = methods_of(text) end
  return chunk, path, meta
end

function loader.load_code(plugin, name, env)
  local text, path = search(plugin, name or "mod_" .. plugin .. ".lua", true)
  if not text then return nil, path end
  return loader.compile(text, path, env)
end

function loader.load_code_ext(plugin, name, extension, env)
  local chunk, path, meta = loader.load_code(plugin, name .. "." .. extension, env)
  if not chunk and extension == "lib.lua" and path:find("^no ") then
    local plain, plain_path, plain_meta = loader.load_code(plugin, name .. ".lua", env)
    if plain or not plain_path:find("^no ") then return plain, plain_path, plain_meta end
  end
  return chunk, path, meta
end

return loader
