-- SPDX-License-Identifier: MIT
-- metrics: what the server counts (known to plugins as core.statsmanager).
--
--   metrics.metric(type, name, unit?, description?, labels?, conf?) -> family      util.openmetrics
--   metrics.measure(kind, name, conf?, label?, value?) -> function, family       kinds of module:measure; one fixed label if
--   given
--   metrics.collect()           brings gauges up to date: events stats-update, stats-updated, openmetrics-updated
--   metrics.render() -> text    collects, then OpenMetrics text
--   metrics.get_stats() -> map name -> value      metrics.get_metric_registry()

local core = require "couplet.core"
local openmetrics = require "couplet.util.openmetrics"
local prosody = require "couplet.prosody"

local metrics = {}
local registry = openmetrics.new_metric_registry()

function metrics.metric(kind, name, unit, description, labels, conf)
  if not (kind == "counter" or kind == "gauge" or kind == "histogram" or kind == "summary") then
    error("unknown kind of metric: " .. tostring(kind), 2)
  end
  return registry[kind](registry, name, unit, description, labels, conf)
end

local now = core.loop.mono

local function timed(m)
  return function()
    local from = now()
    return function()
      m:sample(now() - from)
    end
  end
end

-- kind -> metric type, unit, what the caller gets
local kinds = {
  amount = { "gauge", nil, function(m) return function(v) m:set(v) end end },
  counter = { "gauge", nil, function(m) return function(v) m:add(v or 1) end end },      -- goes down as well, by custom
  rate = { "counter", nil, function(m) return function(v) m:add(v or 1) end end },
  distribution = { "summary", nil, function(m) return function(v) m:sample(v) end end },
  sizes = { "histogram", "bytes", function(m) return function(v) m:sample(v) end end },
  duration = { "histogram", "seconds", function(m) return timed(m) end },
  times = { "histogram", "seconds", function(m) return timed(m) end },
}

function metrics.measure(kind, name, conf, label, value)
  local how = kinds[kind] or error("unknown kind of measure: " .. tostring(kind), 2)
  if type(conf) == "number" then conf = { initial = conf } end
  local unit = conf and conf.unit or how[2]
  local family = registry[how[1]](registry, "couplet_" .. name, unit, conf and conf.description, label and { label } or {}, conf)
  local m = label and family:with_labels(value) or family:with_labels()
  if how[1] == "gauge" and conf and conf.initial then m:set(conf.initial) end
  return how[3](m), family
end

-- --- the server itself ---

local g = {}
local function gauge(name, unit, description) g[name] = registry:gauge(name, unit, description) end
local function counter(name, unit, description) g[name] = registry:counter(name, unit, description) end

counter("process_cpu", "seconds", "CPU time used, user and system")
gauge("process_resident_memory", "bytes", "Resident memory")
gauge("process_virtual_memory", "bytes", "Virtual memory")
gauge("process_open_fds", nil, "Open file descriptors")
gauge("process_max_fds", nil, "How many may be open")
gauge("process_threads", nil, "Threads")
gauge("process_start_time", "seconds", "Start, seconds since 1970")
gauge("lua_heap", "bytes", "Memory of the Lua state")
counter("couplet_tasks", nil, "Tasks started")
counter("couplet_task_errors", nil, "Tasks that ended with an error")
counter("couplet_task_blocking", nil, "Waits that could not yield")
local info = registry:gauge("couplet_info", nil, "Version", { "version" })
gauge("couplet_c2s_sessions", nil, "Bound client sessions")
gauge("couplet_c2s_users", nil, "Accounts with at least one of them")
local native = {}

local function flat(prefix, t, depth)
  for k, v in pairs(t) do
    if type(k) == "string" then
      local name = prefix .. "_" .. k
      if type(v) == "number" then
        native[name] = native[name] or registry:gauge(name, nil, "Counted by the core")
        native[name]:set(v)
      elseif type(v) == "table" and depth < 3 then
        flat(name, v, depth + 1)
      end
    end
  end
end

function metrics.collect()
  prosody.events.fire_event("stats-update")
  local use = core.system.usage()
  g.process_cpu:with_labels().value = use.user + use.system
  g.process_resident_memory:set(use.rss)
  g.process_virtual_memory:set(use.virtual)
  g.process_open_fds:set(use.fds)
  g.process_max_fds:set((core.system.rlimit("NOFILE")))
  g.process_threads:set(use.threads)
  g.process_start_time:set(prosody.start_time)
  g.lua_heap:set(math.floor(collectgarbage("count") * 1024))
  info:with_labels(prosody.version):set(1)
  local stats = require "couplet.task".stats
  g.couplet_tasks:with_labels().value = stats.tasks or 0
  g.couplet_task_errors:with_labels().value = stats.errors or 0
  g.couplet_task_blocking:with_labels().value = stats.blocking or 0
  local sessions, users = require "couplet.directory".count()
  g.couplet_c2s_sessions:set(sessions)
  g.couplet_c2s_users:set(users)
  for part, prefix in pairs { net = "couplet_net", store = "couplet_store", sasl = "couplet_sasl" } do
    local fn = core[part].stats
    local ok, t = pcall(fn or error)
    if fn and ok and type(t) == "table" then flat(prefix, t, 1) end
  end
  prosody.events.fire_event("stats-updated", { stats = metrics.get_stats(), metric_registry = registry })
  prosody.events.fire_event("openmetrics-updated", { metric_registry = registry })
end

function metrics.render()
  metrics.collect()
  return registry:render()
end

function metrics.get_metric_registry() return registry end

function metrics.get_stats()
  local out = {}
  for name, f in registry:families() do
    for suffix, labels, value in f:iter_metrics() do
      local key = name .. suffix
      for _, pair in ipairs(labels) do key = key .. " " .. pair[1] .. "=" .. pair[2] end
      out[key] = value
    end
  end
  return out, out, {}
end

return metrics
