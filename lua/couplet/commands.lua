-- SPDX-License-Identifier: MIT
-- commands: administrative commands, each declared once; coupletctl runs them, ad-hoc commands and HTTP can.
--
--   commands.declare{ name = "c2s list", args = "[HOST]", help = "one line", min = 0, max = 1, where = "server", run = fn }
--     run(ctx, …) -> true, text?, data? | nil, text        ctx:print(fmt, …) writes a line; may wait
--     where: "server" (needs the running one), "any" (the running one if there is one, else in coupletctl),
--            "tool" (always in coupletctl; waits = true: as a task, or it cannot wait). bare = true: in coupletctl it needs no
--            hosts and no storage
--     confirm, password = number of the argument: what coupletctl asks for first; account = true | false: whether the account the
--     first argument names has to be there, which it finds out before it asks for anything
--     options: set of words that may come as --word or --word=value; they arrive in ctx.options
--   commands.find(words) -> command, number of words used | nil          commands.list() -> sorted list
--   commands.run(name, args, ctx) -> ok, text, data
--   commands.counted(n, "client"[, "clients"]) -> "1 client", "2 clients"
--
-- shell-command items of plugins ({ section, name, desc, args, handler }) appear as "section name".

local core = require "couplet.core"
local log = require "couplet.log".new "commands"

local commands = {}
local declared = {}

function commands.declare(c)
  assert(type(c.name) == "string" and type(c.run) == "function", "a command has a name and run")
  c.where = c.where or "server"
  c.min = c.min or 0
  c.max = c.max or c.min
  declared[c.name] = c
  return c
end

function commands.counted(n, one, many)
  return ("%d %s"):format(n, n == 1 and one or many or one .. "s")
end

-- --- what plugins bring ---

local function from_item(item)
  local words, min = {}, 0
  for _, a in ipairs(item.args or {}) do
    local name = (a.name or a[1] or "arg"):upper()
    words[#words + 1] = a.optional and "[" .. name .. "]" or name
    if not a.optional then min = min + 1 end
  end
  return {
    name = item.section .. " " .. item.name, args = table.concat(words, " "), help = item.desc or "", where = "server",
    min = min, max = math.max(#words, min) + 8,
    run = function(ctx, ...)
      local values = { ... }
      for i, a in ipairs(item.args or {}) do
        local kind = a.type or a[2]
        if values[i] and (kind == "number" or kind == "integer") then
          values[i] = tonumber(values[i])
          if not values[i] then return nil, (a.name or "argument") .. " is a number" end
        elseif values[i] and kind == "boolean" then
          values[i] = values[i] == "true" or values[i] == "yes" or values[i] == "1"
        end
      end
      local self = { session = { print = function(...)
        local parts = {}
        for i = 1, select("#", ...) do parts[i] = tostring((select(i, ...))) end
        ctx:print("%s", table.concat(parts, "\t"))
      end, width = ctx.width or 80, is_tty = false } }
      self.session.repl_print = self.session.print
      local ok, text = item.handler(self, table.unpack(values, 1, math.max(#values, #(item.args or {}))))
      if ok == false then return nil, text or "failed" end
      if ok == nil then return nil, text or "failed" end
      return true, text
    end,
  }
end

local function plugin_commands()
  local prosody = require "couplet.prosody"
  local plugin = package.loaded["couplet.plugin"]
  local out = {}
  if not plugin or not plugin.get_items then return out end
  local places = { "*" }
  for host in pairs(prosody.hosts) do places[#places + 1] = host end
  for _, place in ipairs(places) do
    for _, item in ipairs(plugin.get_items("shell-command", place)) do
      if type(item.section) == "string" and type(item.name) == "string" and type(item.handler) == "function" then
        local name = item.section .. " " .. item.name
        if not declared[name] and not out[name] then out[name] = from_item(item) end
      end
    end
  end
  return out
end

-- --- finding and running ---

function commands.get(name)
  return declared[name] or plugin_commands()[name]
end

-- The longest declared name that the words begin with.
function commands.find(words)
  local plugins = plugin_commands()
  for n = math.min(#words, 3), 1, -1 do
    local name = table.concat(words, " ", 1, n)
    local c = declared[name] or plugins[name]
    if c then return c, n end
  end
end

function commands.list()
  local list = {}
  for _, c in pairs(declared) do list[#list + 1] = c end
  for _, c in pairs(plugin_commands()) do list[#list + 1] = c end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

function commands.usage(c)
  return c.name .. (c.args and c.args ~= "" and " " .. c.args or "")
end

local function options_of(c, args)
  if not c.options then return args, {} end
  local rest, options = {}, {}
  for _, a in ipairs(args) do
    local word, value = a:match("^%-%-([%w%-]+)=?(.*)$")
    if word and c.options[word] then options[word] = a:find("=", 1, true) and value or true else rest[#rest + 1] = a end
  end
  return rest, options
end

function commands.run(name, args, ctx)
  local c = commands.get(name)
  if not c then return nil, "no such command: " .. name end
  local rest, options = options_of(c, args)
  if #rest < c.min or #rest > c.max then return nil, "usage: " .. commands.usage(c) end
  ctx.options = options
  local result = table.pack(xpcall(c.run, function(e)
    if type(e) == "table" then return e end
    return debug.traceback(tostring(e), 2)
  end, ctx, table.unpack(rest)))
  if not result[1] then
    local err = result[2]
    log("error", "command %s: %s", name, err)
    return nil, "internal error: " .. (tostring(err):match("^[^\n]*") or "?")
  end
  if not result[2] then return nil, result[3] ~= nil and tostring(result[3]) or "failed" end
  return true, result[3], result[4]
end

commands.version = core.version

return commands
