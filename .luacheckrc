-- SPDX-License-Identifier: MIT
-- What luacheck must know of this tree; `./dev lint` runs it.

std = "lua54"
max_line_length = 130
self = false                              -- a method keeps its interface's signature

-- A plugin's globals are its exports, called from elsewhere.
local plugin = { globals = { "module" }, read_globals = { "prosody" }, allow_defined_top = true, ignore = { "131" } }
files["plugins"] = plugin
files["tests/helpers/plugins"] = plugin

files["config.lua"] = { read_globals = { "VirtualHost", "Component", "Include" }, allow_defined_top = true, ignore = { "131" } }
files["tests/fakehost.lua"] = { globals = { "os.time" } }       -- a plugin's clock stands still
