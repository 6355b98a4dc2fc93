-- SPDX-License-Identifier: MIT
-- util.openmetrics: counters, gauges, histograms and summaries, and their text form (OpenMetrics 1.0).
--
--   new_metric_registry() -> registry
--   registry:counter|gauge|histogram|summary(name, unit?, description?, labels?, conf?) -> family      the same name, the same
--   family
--   registry:families() -> iterator (name, family), sorted     registry:remove(name)     registry:render() -> text
--   family:with_labels(v1, v2 …) -> metric       family:with_partial_label(v) -> family with its first label fixed
--   family:add(n) :set(n) :sample(n)             of a family without labels
--   metric:add(n?) (counter, gauge)  :set(n) (gauge)  :sample(n) (histogram, summary)  :reset()
-- Histograms: conf.buckets, ascending upper bounds. At most MAX_SERIES label combinations a family are kept: more would let
-- strangers fill the memory with names.

local openmetrics = {}

local MAX_SERIES = 5000

local default_buckets = {
  seconds = { 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60 },
  bytes = { 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576 },
}
local any_buckets = { 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000 }

-- --- one series ---

local metric = {}
metric.__index = metric

local function new_metric(family, values)
  local m = setmetatable({ family = family, labels = values, value = 0 }, metric)
  if family.type == "histogram" then
    m.counts, m.sum, m.count = {}, 0, 0
    for i = 1, #family.buckets do m.counts[i] = 0 end
  elseif family.type == "summary" then
    m.sum, m.count = 0, 0
  end
  return m
end

function metric:add(n)
  n = n or 1
  if self.family.type == "counter" and n < 0 then error("a counter only grows", 2) end
  self.value = self.value + n
end
metric.inc = metric.add

function metric:set(n)
  self.value = n
end

function metric:sample(n)
  self.sum, self.count = self.sum + n, self.count + 1
  local buckets = self.family.buckets
  if buckets then
    for i = 1, #buckets do
      if n <= buckets[i] then
        self.counts[i] = self.counts[i] + 1
        break
      end
    end
  end
end

function metric:reset()
  local fresh = new_metric(self.family, self.labels)
  for k, v in pairs(fresh) do self[k] = v end
end

-- --- a family ---

local family = {}
family.__index = family

function family:with_labels(...)
  local given = select("#", ...)
  if given ~= #self.labels then error(("%s has %d labels, got %d"):format(self.name, #self.labels, given), 2) end
  local values = { ... }
  for i = 1, given do values[i] = tostring(values[i]) end
  local key = table.concat(values, "\0")
  local m = self.series[key]
  if not m then
    if self.size >= MAX_SERIES then
      self.overflow = self.overflow or new_metric(self, values)
      return self.overflow
    end
    m = new_metric(self, values)
    self.series[key] = m
    self.size = self.size + 1
  end
  return m
end

local partial = {}
partial.__index = partial

function partial:with_labels(...) return self.family:with_labels(self.value, ...) end
function partial:with_partial_label(v)
  local outer = self
  return setmetatable({ family = { with_labels = function(_, ...) return outer:with_labels(...) end }, value = v }, partial)
end
for _, name in ipairs { "add", "set", "sample", "inc", "reset" } do
  partial[name] = function(self, ...) local m = self:with_labels() return m[name](m, ...) end
  family[name] = function(self, ...) local m = self:with_labels() return m[name](m, ...) end
end

function family:with_partial_label(v)
  return setmetatable({ family = self, value = v }, partial)
end

function family:clear()
  self.series, self.size = {}, 0
end

-- suffix, labels (map), value
function family:iter_metrics()
  return coroutine.wrap(function()
    local keys = {}
    for key in pairs(self.series) do keys[#keys + 1] = key end
    table.sort(keys)
    for _, key in ipairs(keys) do
      local m = self.series[key]
      local labels = {}
      for i, name in ipairs(self.labels) do labels[i] = { name, m.labels[i] } end
      local function with(name, value)
        local more = { table.unpack(labels) }
        more[#more + 1] = { name, value }
        return more
      end
      if self.type == "counter" then
        coroutine.yield("_total", labels, m.value)
      elseif self.type == "gauge" then
        coroutine.yield("", labels, m.value)
      else
        if self.buckets then
          local sum = 0
          for i, bound in ipairs(self.buckets) do
            sum = sum + m.counts[i]
            coroutine.yield("_bucket", with("le", ("%.14g"):format(bound)), sum)
          end
          coroutine.yield("_bucket", with("le", "+Inf"), m.count)
        end
        coroutine.yield("_count", labels, m.count)
        coroutine.yield("_sum", labels, m.sum)
      end
    end
  end)
end

-- --- all of them ---

local registry = {}
registry.__index = registry

local function proper(name)
  return (name:gsub("[^%w_:]", "_"):gsub("^%d", "_%0"))
end

local function declare(self, kind, name, unit, description, labels, conf)
  unit = unit ~= "" and unit or nil
  name = proper(name)
  if unit and name:sub(-#unit - 1) ~= "_" .. unit then name = name .. "_" .. proper(unit) end
  if kind == "counter" then name = name:gsub("_total$", "") end
  local known = self.list[name]
  if known then
    if known.type ~= kind or #known.labels ~= #(labels or {}) then
      error(("metric %s exists already, as a %s with %d labels"):format(name, known.type, #known.labels), 3)
    end
    return known
  end
  local f = setmetatable({ type = kind, name = name, unit = unit, description = description or "", labels = {}, series = {},
    size = 0 }, family)
  for i, label in ipairs(labels or {}) do f.labels[i] = proper(label) end
  if kind == "histogram" then f.buckets = conf and conf.buckets or default_buckets[unit or ""] or any_buckets end
  self.list[name] = f
  if #f.labels == 0 then f:with_labels() end
  return f
end

for _, kind in ipairs { "counter", "gauge", "histogram", "summary" } do
  registry[kind] = function(self, ...) return declare(self, kind, ...) end
end

function registry:remove(name) self.list[proper(name)] = nil end

function registry:families()
  local names, i = {}, 0
  for name in pairs(self.list) do names[#names + 1] = name end
  table.sort(names)
  return function()
    i = i + 1
    if names[i] then return names[i], self.list[names[i]] end
  end
end
function registry:get_metric_families() return self.list end

local function escape(text)
  return (text:gsub('[\\\n"]', { ["\\"] = "\\\\", ["\n"] = "\\n", ['"'] = '\\"' }))
end

local function number(v)
  if math.type(v) == "integer" then return tostring(v) end
  if v ~= v then return "NaN" elseif v == math.huge then return "+Inf" elseif v == -math.huge then return "-Inf" end
  return ("%.14g"):format(v)
end

function registry:render()
  local out = {}
  for name, f in self:families() do
    if next(f.series) then
      out[#out + 1] = "# TYPE " .. name .. " " .. f.type
      if f.unit then out[#out + 1] = "# UNIT " .. name .. " " .. proper(f.unit) end
      if f.description ~= "" then out[#out + 1] = "# HELP " .. name .. " " .. escape(f.description) end
      for suffix, labels, value in f:iter_metrics() do
        local text = {}
        for i, pair in ipairs(labels) do text[i] = pair[1] .. '="' .. escape(pair[2]) .. '"' end
        out[#out + 1] = name .. suffix .. (#text > 0 and "{" .. table.concat(text, ",") .. "}" or "") .. " " .. number(value)
      end
    end
  end
  out[#out + 1] = "# EOF\n"
  return table.concat(out, "\n")
end

function openmetrics.new_metric_registry()
  return setmetatable({ list = {} }, registry)
end

openmetrics.render = registry.render
openmetrics.default_buckets = default_buckets

return openmetrics
