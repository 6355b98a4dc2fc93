-- SPDX-License-Identifier: MIT
-- metrics: kinds, labels, and the text form.

local check = require "check"
local openmetrics = require "couplet.util.openmetrics"
local metrics = require "couplet.metrics"

check.test("text form", function()
  local r = openmetrics.new_metric_registry()
  local c = r:counter("requests", nil, "Requests\nseen", { "host", "what" })
  c:with_labels("a.example", 'say "hi"'):add(2)
  c:with_labels("a.example", 'say "hi"'):add()
  r:gauge("temperature", "celsius", ""):set(-1.5)
  local h = r:histogram("delay", "seconds", "Delay", {}, { buckets = { 0.1, 1 } })
  for _, v in ipairs { 0.05, 0.1, 0.5, 7 } do h:sample(v) end
  local s = r:summary("size", "bytes", "", { "k" })
  s:with_labels("x"):sample(10)
  check.equal(r:render(), table.concat({
    "# TYPE delay_seconds histogram", "# UNIT delay_seconds seconds", "# HELP delay_seconds Delay",
    'delay_seconds_bucket{le="0.1"} 2', 'delay_seconds_bucket{le="1"} 3', 'delay_seconds_bucket{le="+Inf"} 4',
    "delay_seconds_count 4", "delay_seconds_sum 7.65",
    "# TYPE requests counter", "# HELP requests Requests\\nseen",
    'requests_total{host="a.example",what="say \\"hi\\""} 3',
    "# TYPE size_bytes summary", "# UNIT size_bytes bytes", 'size_bytes_count{k="x"} 1', 'size_bytes_sum{k="x"} 10',
    "# TYPE temperature_celsius gauge", "# UNIT temperature_celsius celsius", "temperature_celsius -1.5",
    "# EOF\n" }, "\n"))
end)

check.test("names, and one family for one name", function()
  local r = openmetrics.new_metric_registry()
  check.equal(r:counter("mod_x/y-z_total").name, "mod_x_y_z")
  check.equal(r:counter("a"), r:counter("a"))
  check.raises("exists already", r.gauge, r, "a")
  check.raises("2 labels, got 1", function() r:gauge("l", nil, "", { "a", "b" }):with_labels("x") end)
  check.raises("only grows", function() r:counter("a"):add(-1) end)
  local p = r:gauge("l", nil, "", { "a", "b" }):with_partial_label("one")
  p:with_labels("two"):set(5)
  check.equal(r:gauge("l", nil, "", { "a", "b" }):with_labels("one", "two").value, 5)
  local q = p:with_partial_label("three")
  q:set(9)
  check.equal(r:gauge("l", nil, "", { "a", "b" }):with_labels("one", "three").value, 9)
end)

check.test("strangers cannot fill the memory with label values", function()
  local r = openmetrics.new_metric_registry()
  local f = r:counter("c", nil, "", { "who" })
  for i = 1, 6000 do f:with_labels("user" .. i):add(1) end
  check.equal(f.size, 5000)
end)

check.test("kinds of measure", function()
  local stats
  local function value(name)
    stats = metrics.get_stats()
    return stats[name]
  end
  metrics.measure("amount", "mod_t/amount")(7)
  check.equal(value("couplet_mod_t_amount"), 7)
  metrics.measure("amount", "mod_t/old", 4)                -- an initial value, as plugins said it once
  check.equal(value("couplet_mod_t_old"), 4)
  local counter = metrics.measure("counter", "mod_t/counter", nil, "host", "h.example")
  counter(1) counter(1) counter(-1)
  check.equal(value("couplet_mod_t_counter host=h.example"), 1)
  local rate = metrics.measure("rate", "mod_t/rate")
  rate() rate()
  check.equal(value("couplet_mod_t_rate_total"), 2)
  metrics.measure("sizes", "mod_t/sizes")(300)
  check.equal(value("couplet_mod_t_sizes_bytes_bucket le=1024"), 1)
  check.equal(value("couplet_mod_t_sizes_bytes_bucket le=256"), 0)
  metrics.measure("distribution", "mod_t/dist")(3)
  check.equal(value("couplet_mod_t_dist_sum"), 3)
  local stop = metrics.measure("times", "mod_t/times")()
  stop()
  check.equal(value("couplet_mod_t_times_seconds_count"), 1)
  check.raises("unknown kind", metrics.measure, "nonsense", "x")
end)

check.test("the server's own", function()
  local text = metrics.render()
  for _, name in ipairs { "process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "lua_heap_bytes",
    "couplet_tasks_total" } do
    check.ok(text:find("\n" .. name .. " [%d.e+-]+\n"), name)
  end
  check.equal(text:sub(-6), "# EOF\n")
end)

check.done()
