-- SPDX-License-Identifier: MIT
-- events.lua: a bus of named events with ordered handlers (util.events). PLUGIN-API §4.
--
--   local bus = events.new()
--   bus.add_handler(event, fn, priority?, options?)   higher first; the same fn again changes its priority.
--                                  options: owner (a module; named in logs, counted), match (see match.lua), once, name
--   bus.remove_handler(event, fn)  bus.add_handlers{event = fn}  bus.remove_handlers{...}  bus.get_handlers(event)
--   bus.fire_event(event, data)    the first result that is not nil
--   bus.add_wrapper(event|false, w)  bus.remove_wrapper(event|false, w)     w(next, event, data); the last added is outermost
--   bus.entries(event) -> array of { fn, priority, owner, … }     bus.wrapped(event) -> bool: does more than handlers see it?
--   bus.heard(event) -> bool       would anybody be told? Asked before making data for events that fire with each message
--   bus.watch(event, fn | nil)     fn(heard) at once and with each change of its handlers: for who would rather not notice
--                                  what nobody is to be told; one for each event
--   bus.set_debug_hook(fn) -> old  fn(handler, event, data) calls the handlers instead
--   bus.count() -> handlers
--
-- A handler that raises is logged with its traceback and counted; the next one goes on. Lists are never changed once
-- fired from, only replaced, so handlers may come and go meanwhile; a removed one leaves `false` in the lists before.
-- The loop over the handlers is C (core/bind/bind_events.c); events fired inside events, 150 deep, raise.

local compile = require "couplet.match".compile
local log = require "couplet.logger".init "events"

local native = require "couplet.core".events

local xpcall, tostring, traceback, pairs, type = xpcall, tostring, debug.traceback, pairs, type

local events = { stats = { errors = 0 } }

local function explain(err)
  return traceback(tostring(err), 2)
end

-- What happens to an error in plugin code, wherever it was called from.
function events.report(owner, what, text)
  events.stats.errors = events.stats.errors + 1
  if owner and owner._failed then return owner:_failed(what, text) end
  log("error", "%s: %s", what, text)
end
events.explain = explain

local report = events.report

local run = native.run
local SAMPLE = native.SAMPLE            -- one firing in so many is measured

-- Handler i of a list raised; or (no text) a sample says it takes so many seconds.
local function failed(list, i, name, text, seconds)
  local owner = list.entries[i].owner
  if text then return report(owner, name, text) end
  local stats = owner and owner._stats
  if stats then
    stats.calls = stats.calls + SAMPLE
    stats.seconds = stats.seconds + seconds
  end
end

local function run_debugged(hook, list, name, data)
  for i = 1, #list do
    local fn = list[i]
    local match = list[0] and list[0][i]
    if fn and (not match or match(data)) then
      local ok, result = xpcall(hook, explain, fn, name, data)
      if not ok then
        report(list.entries[i].owner, name, result)
      elseif result ~= nil then
        return result
      end
    end
  end
end

-- [1..n]: the functions; [0]: their conditions, or false
local function build(entries)
  local n = #entries
  if n == 0 then return nil end
  local list = { [0] = false, entries = entries }
  for i = 1, n do
    list[i] = entries[i].fn
    if entries[i].match then list[0] = list[0] or {} end
  end
  for i = 1, list[0] and n or 0 do list[0][i] = entries[i].match or false end
  return list
end

function events.new()
  local lists = {}                      -- event -> list; absent: nobody
  local watched = {}                    -- event -> who wants to know whether there is somebody
  local wrappers, everywhere = nil, nil -- event -> array; wrappers of all events
  local debug_hook
  local fire_event, special = native.bus(lists, failed)

  local function heard(event)
    return lists[event] ~= nil or everywhere ~= nil or wrappers ~= nil and wrappers[event] ~= nil
  end

  local function tell(event)
    local fn = watched[event]
    if fn then fn(heard(event)) end
  end

  local function forget(event, fn)
    local list = lists[event]
    if not list then return nil end
    local entries, found = {}, nil
    for i = 1, #list do
      local entry = list.entries[i]
      if entry.fn == fn and not found then
        found = entry
        list[i] = false                 -- firings under way skip it
      else
        entries[#entries + 1] = entry
      end
    end
    if found then
      lists[event] = build(entries)
      tell(event)
    end
    return found
  end

  local function add_handler(event, fn, priority, options)
    if event == nil then error("no event name", 2) end
    if type(fn) ~= "function" and not (getmetatable(fn) or {}).__call then
      error("handler of event " .. tostring(event) .. " is not a function", 2)
    end
    local entry = { fn = fn, priority = priority or 0 }
    if options then
      entry.owner, entry.name, entry.once = options.owner, options.name, options.once
      if options.match then
        entry.match = compile(options.match)
        entry.from_local = type(options.match) == "table" and options.match.from_local
      end
      if options.once then
        entry.fn = function(data)
          forget(event, entry.fn)
          return fn(data)
        end
      end
    end
    local list, entries, placed = lists[event], {}, false
    for i = 1, list and #list or 0 do
      local old = list.entries[i]
      if old.fn ~= fn then
        if not placed and old.priority < entry.priority then
          placed = true
          entries[#entries + 1] = entry
        end
        entries[#entries + 1] = old
      end
    end
    if not placed then entries[#entries + 1] = entry end
    lists[event] = build(entries)
    tell(event)
    return entry.fn
  end

  local function plain(event, data)
    local list = lists[event]
    if not list then return nil end
    if debug_hook then return run_debugged(debug_hook, list, event, data) end
    return run(list, event, data, failed)
  end

  -- wrappers of the event, outermost first, then those of all events, then the handlers
  local function enter(own, i, all, j, event, data)
    if i > 0 then
      return own[i](function(e, d) return enter(own, i - 1, all, j, e, d) end, event, data)
    elseif j > 0 then
      return all[j](function(e, d) return enter(own, 0, all, j - 1, e, d) end, event, data)
    end
    return plain(event, data)
  end

  local function wrapped(event, data)
    local own = wrappers and wrappers[event]
    return enter(own, own and #own or 0, everywhere, everywhere and #everywhere or 0, event, data)
  end

  local function settle()
    special((wrappers or everywhere) and wrapped or debug_hook and plain or nil)
    for event in pairs(watched) do tell(event) end
  end

  local function remove_handler(event, fn)
    return forget(event, fn) ~= nil
  end

  local function with(list, w)
    list = { table.unpack(list or {}) }
    list[#list + 1] = w
    return list
  end

  local function without(list, w)
    local rest = {}
    for _, x in ipairs(list or {}) do
      if x ~= w then rest[#rest + 1] = x end
    end
    return rest[1] and rest or nil
  end

  local function add_wrapper(event, w)
    if not event then
      everywhere = with(everywhere, w)
    else
      wrappers = wrappers or {}
      wrappers[event] = with(wrappers[event], w)
    end
    settle()
  end

  local function remove_wrapper(event, w)
    if not event then
      everywhere = without(everywhere, w)
    elseif wrappers then
      wrappers[event] = without(wrappers[event], w)
      if next(wrappers) == nil then wrappers = nil end
    end
    settle()
  end

  local function get_handlers(event)
    local list, out = lists[event], {}
    for i = 1, list and #list or 0 do out[i] = list.entries[i].fn end
    return list and out or nil
  end

  return {
    add_handler = add_handler,
    remove_handler = remove_handler,
    add_handlers = function(map) for event, fn in pairs(map) do add_handler(event, fn) end end,
    remove_handlers = function(map) for event, fn in pairs(map) do remove_handler(event, fn) end end,
    get_handlers = get_handlers,
    heard = heard,
    watch = function(event, fn)
      watched[event] = fn
      tell(event)
    end,
    fire_event = fire_event,
    add_wrapper = add_wrapper,
    remove_wrapper = remove_wrapper,
    wrappers = { add_handler = add_wrapper, remove_handler = remove_wrapper },
    set_debug_hook = function(fn)
      local old = debug_hook
      debug_hook = fn
      settle()
      return old
    end,
    wrapped = function(event)
      return everywhere ~= nil or wrappers ~= nil and wrappers[event] ~= nil or debug_hook ~= nil
    end,
    entries = function(event) return lists[event] and lists[event].entries or {} end,
    names = function() return pairs(lists) end,
    count = function()
      local n = 0
      for _, list in pairs(lists) do n = n + #list end
      for _, w in pairs(wrappers or {}) do n = n + #w end
      return n + (everywhere and #everywhere or 0)
    end,
    _handlers = lists,
  }
end

return events
