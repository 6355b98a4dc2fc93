-- SPDX-License-Identifier: MIT
-- make-config.lua: writes the tables of options into docs/config.md, from what the server and the plugins declare.
--   build/bin/lua docs/make-config.lua

local check = require "couplet.ctl.check"
local known = require "couplet.known_options"
local system = require "couplet.core".system

local function cell(text) return (tostring(text or ""):gsub("|", "\\|"):gsub("%s+", " ")) end
local function code(text) return text and "`" .. cell(text) .. "`" or "" end

local function sorted(map)
  local names = {}
  for name in pairs(map) do names[#names + 1] = name end
  table.sort(names)
  return ipairs(names)
end

local out = {}
local function line(fmt, ...) out[#out + 1] = fmt:format(...) end

line "### The server"
line ""
line "| option | type | default | |"
line "|---|---|---|---|"
for _, name in sorted(known.options) do
  local o = known.options[name]
  if not o.none then line("| `%s` | %s | %s | %s |", name, cell(o[1]:gsub("|", " or ")), code(o[2]), cell(o[3])) end
end

local options = check.plugin_options()
local by_plugin = {}
for name, o in pairs(options) do
  if not known.options[name] and not o.plugin:find("^test_") then
    by_plugin[o.plugin] = by_plugin[o.plugin] or {}
    by_plugin[o.plugin][name] = o
  end
end
line ""
line "### Plugins"
line ""
line "| option | plugin | type | default | |"
line "|---|---|---|---|---|"
-- The one that declares it, and whoever else reads it.
local function plugins_of(o)
  local names = { o.plugin }
  for _, name in sorted(o.readers or {}) do
    if name ~= o.plugin and name ~= "couplet" and not name:find "^test_" then names[#names + 1] = name end
  end
  return table.concat(names, ", ")
end

local function type_of(o)
  if type(o.enum) ~= "table" then return o.type end
  local values = {}
  for i, value in ipairs(o.enum) do values[i] = ("`%s`"):format(type(value) == "string" and ("%q"):format(value) or value) end
  return table.concat(values, " ")
end

for _, plugin in sorted(by_plugin) do
  for _, name in sorted(by_plugin[plugin]) do
    local o = by_plugin[plugin][name]
    local default = o.default and not o.default:find("[%a_]%s*[.:]?%s*$") and o.default or o.default and o.default:match("^[\"']?[%w%s]+[\"']?$")
    line("| `%s` | %s | %s | %s | %s |", name, plugins_of(o), type_of(o), code(default), cell(o.doc))
  end
end

line ""
line "### Prosody's, without effect"
line ""
line "Options that mean nothing here. `coupletctl check config` notes them, and those of plugins of Prosody's that are not installed."
line ""
line "| because | options |"
line "|---|---|"
local because = {}
for _, name in sorted(known.options) do
  local o = known.options[name]
  if o.none then because[o[3]] = (because[o[3]] and because[o[3]] .. ", " or "") .. "`" .. name .. "`" end
end
for _, why in sorted(because) do line("| %s | %s |", cell(why), because[why]) end

line ""
line "### Prosody's plugins that are not needed"
line ""
line "They may stay in `modules_enabled`; `coupletctl check config` and the log note them."
line ""
line "| because | plugins |"
line "|---|---|"
because = {}
for _, name in sorted(known.instead) do
  local why = known.instead[name]
  because[why] = (because[why] and because[why] .. ", " or "") .. "`" .. name .. "`"
end
for _, why in sorted(because) do line("| %s | %s |", cell(why), because[why]) end

local path = (os.getenv("COUPLET_SOURCE") or ".") .. "/docs/config.md"
local text = assert(system.read_file(path))
local first, last = text:find("<!-- options: made by docs/make-config.lua -->\n", 1, true)
local stop = text:find("<!-- end of options -->", 1, true)
assert(first and stop, "the marks are gone from docs/config.md")
assert(system.write_file(path, text:sub(1, last) .. table.concat(out, "\n") .. "\n" .. text:sub(stop), 420))
