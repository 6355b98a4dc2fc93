-- SPDX-License-Identifier: MIT
-- filters.lua: functions that see everything a session receives or sends (util.filters).
--
-- Kinds: stanzas/in, stanzas/out (stanza -> stanza, or nil to drop it), bytes/in, bytes/out (string -> string or nil).
-- A session without filters carries no table and pays one comparison. Bytes of a session with a bytes/in filter come by way of
-- Lua: before they are parsed the core hands them to filters.bytes_in, the handler `bytes` of the connection's class.
--
--   add_filter(session, kind, fn, priority?)  remove_filter(session, kind, fn)
--   add_filter_hook(fn, bytes?)  remove_filter_hook(fn)      fn(session) for each new one; bytes == false: it adds no bytes/in

local core = require "couplet.core"
local task = require "couplet.task"

local filters = {}

local hooks = {}                                    -- functions told about each new session
local early = {}                                    -- those that may want to see a session's first bytes

local KINDS = { ["stanzas/in"] = true, ["stanzas/out"] = true, ["bytes/in"] = true, ["bytes/out"] = true }

-- The data after all filters of that kind, highest priority first; nil as soon as one drops it.
local function run(session, kind, data)
  local list = session.filters
  list = list and list[kind]
  if not list then return data end
  for i = 1, #list do
    data = list[i].run(data, session)
    if data == nil then return nil end
  end
  return data
end
filters.run = run

-- session.filter(kind, data)
function filters.runner(session)
  return function(kind, data) return run(session, kind, data) end
end

-- Tells those interested that a session exists.
function filters.initialize(session)
  for i = 1, #hooks do hooks[i](session) end
  return session.filter
end

-- The core must know whose bytes to hand over.
local function changed(session, kind)
  local net = kind == "bytes/in" and session.net
  local all = session.filters
  if net then net:tap(all and all[kind] ~= nil or false) end
end

-- What has come in on a connection: filtered, then given back to be parsed. The next piece comes after that. A filter that
-- fails would leave a hole in the stream: the connection ends.
local function feed(net, bytes)
  local session = net:session()
  if session then
    local ok, out = xpcall(run, debug.traceback, session, "bytes/in", bytes)
    if not ok then
      session.log("error", "a filter for bytes/in failed: %s", out)
      return net:abort "a filter failed"
    end
    bytes = out
  end
  net:feed(bytes or "")
end

function filters.bytes_in(net, bytes) task.spawn(feed, net, bytes) end

local function without(list, fn)
  local rest = {}
  for _, entry in ipairs(list) do
    if entry.run ~= fn then rest[#rest + 1] = entry end
  end
  return rest
end

-- The same function twice is one filter with the later priority. Lists are replaced, not changed: one may be running.
function filters.add_filter(session, kind, fn, priority)
  if not KINDS[kind] then error("no such kind of filter: " .. tostring(kind), 2) end
  priority = priority or 0
  local all = session.filters
  if not all then all = {} session.filters = all end
  local list = without(all[kind] or {}, fn)
  local at = #list + 1
  for i, entry in ipairs(list) do
    if priority > entry.priority then at = i break end
  end
  table.insert(list, at, { run = fn, priority = priority })
  all[kind] = list
  changed(session, kind)
end

function filters.remove_filter(session, kind, fn)
  local all = session.filters
  if not all or not all[kind] then return end
  local list = without(all[kind], fn)
  all[kind] = #list > 0 and list or nil
  if not next(all) then session.filters = nil end
  changed(session, kind)
end

function filters.add_filter_hook(fn, bytes)
  filters.remove_filter_hook(fn)
  local list = { table.unpack(hooks) }
  list[#list + 1] = fn
  hooks = list
  early[fn] = bytes ~= false or nil
  core.net.hold_new(next(early) ~= nil)
end

function filters.remove_filter_hook(fn)
  local list = {}
  for _, hook in ipairs(hooks) do
    if hook ~= fn then list[#list + 1] = hook end
  end
  hooks = list
  early[fn] = nil
  core.net.hold_new(next(early) ~= nil)
end

return filters
