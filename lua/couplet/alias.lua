-- SPDX-License-Identifier: MIT
-- alias.lua: the names plugins know (util.*, core.*, net.*, each also with prosody. before it) resolve to our modules.
--
--   alias.resolve(name) -> our module's name | nil
--   alias.require(name)   what `require` does in plugins: one object whatever the spelling; a library from outside is run
--                         with globals of its own, so that it cannot leak any
--   alias.install()       the same names for plain require (a searcher before the files)

local alias = {}

-- Modules that live directly in lua/couplet/ under a name of their own. Everything else: couplet.util.X, couplet.net.X.
local names = {
  ["util.stanza"] = "couplet.stanza",
  ["util.jid"] = "couplet.jid",
  ["util.events"] = "couplet.events",
  ["util.timer"] = "couplet.timer",
  ["util.promise"] = "couplet.promise",
  ["util.async"] = "couplet.async",
  ["util.error"] = "couplet.errors",
  ["util.logger"] = "couplet.logger",
  ["util.sasl"] = "couplet.sasl",
  ["util.datamanager"] = "couplet.datamanager",
  ["util.roles"] = "couplet.roles",
  ["util.filters"] = "couplet.filters",
  ["util.pluginloader"] = "couplet.loader",
  ["core.hostmanager"] = "couplet.hosts",
  ["core.modulemanager"] = "couplet.plugin",
  ["core.moduleapi"] = "couplet.module",
  ["core.features"] = "couplet.features",
  ["core.configmanager"] = "couplet.config",
  ["core.loggingmanager"] = "couplet.log",
  ["core.statsmanager"] = "couplet.metrics",
  ["core.portmanager"] = "couplet.ports",
  ["core.certmanager"] = "couplet.certs",
  ["core.sessionmanager"] = "couplet.sessions",
  ["core.stanza_router"] = "couplet.router",
  ["core.rostermanager"] = "couplet.roster",
  ["core.usermanager"] = "couplet.users",
  ["core.storagemanager"] = "couplet.store",
  ["core.s2smanager"] = "couplet.s2s",
  ["net.dns"] = "couplet.net.adns",
  ["net.httpserver"] = "couplet.net.http.server",
  ["util.hmac"] = "couplet.util.hashes",
  ["util.bit"] = "couplet.util.bitcompat",
}
alias.names = names

-- Libraries of others, and what we have of them where they are not installed.
local stand_ins = {
  ["lfs"] = "couplet.util.lfs",
  ["socket"] = "couplet.outside.socket",
  ["socket.url"] = "couplet.outside.socket_url",
  ["lxp.lom"] = "couplet.outside.lxp_lom",
  ["cjson"] = "couplet.outside.cjson",
  ["cjson.safe"] = "couplet.outside.cjson_safe",
  ["bit"] = "couplet.util.bitcompat",
  ["bit32"] = "couplet.util.bitcompat",
}

local function exists(name)
  return package.loaded[name] ~= nil or package.preload[name] ~= nil or package.searchpath(name, package.path) ~= nil
    or package.searchpath(name, package.cpath) ~= nil
end

local resolved = {}

function alias.resolve(name)
  local known = resolved[name]
  if known ~= nil then return known or nil end
  local short = name:match "^prosody%.(.+)$" or name
  local target = names[short]
  if not target and short:find "^util%." or short:find "^net%." then
    target = target or "couplet." .. short
    if not exists(target) then target = nil end
  end
  if not target and stand_ins[short] and not exists(short) then target = stand_ins[short] end
  if not target and short ~= name then target = short end
  if target then resolved[name] = target end
  return target
end

-- --- libraries from outside: their globals stay with them ---

local function outside(name)
  local path = package.searchpath(name, package.path)
  if not path then return nil end
  local env = setmetatable({ require = alias.require, coroutine = require "couplet.task".coroutine }, { __index = _G })
  local chunk, err = loadfile(path, "t", env)
  if not chunk then error(("error loading module '%s' from file '%s':\n\t%s"):format(name, path, err), 0) end
  return chunk, path
end

local loading = {}

function alias.require(name)
  if type(name) ~= "string" then error("bad argument #1 to 'require' (string expected)", 2) end
  local target = alias.resolve(name) or name
  local found = package.loaded[target]
  if found ~= nil then return found end
  if target:find "^couplet%." or target == "couplet" or package.preload[target] then return require(target) end
  local chunk, path = outside(target)
  if not chunk then return require(target) end       -- C modules, and the message that lists the places
  if loading[target] then error("loop in require of '" .. target .. "'", 2) end
  loading[target] = true
  local ok, result = pcall(chunk, target, path)
  loading[target] = nil
  if not ok then error(result, 0) end
  if result == nil then result = package.loaded[target] end
  if result == nil then result = true end
  package.loaded[target] = result
  return result
end

local installed = false

function alias.install()
  if installed then return end
  installed = true
  table.insert(package.searchers, 2, function(name)
    local target = alias.resolve(name)
    if not target or target == name then return "\n\tno alias '" .. name .. "'" end
    return function() return alias.require(target) end, target
  end)
end

return alias
