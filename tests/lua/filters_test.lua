-- SPDX-License-Identifier: MIT
-- filters_test.lua: filters of sessions: their order, what they change and drop, and their end.
local check = require "check"
local filters = require "couplet.filters"

local function append(text) return function(data) return data .. text end end

check.test("filters run by falling priority, and one may drop", function()
  local session = {}
  filters.add_filter(session, "bytes/in", append "b")
  filters.add_filter(session, "bytes/in", append "a", 10)
  local last = append "c"
  filters.add_filter(session, "bytes/in", last, -1)
  check.equal(filters.run(session, "bytes/in", ""), "abc")
  check.equal(filters.run(session, "bytes/out", "x"), "x")
  filters.add_filter(session, "bytes/in", last, 99)             -- same function: priority changed
  check.equal(filters.run(session, "bytes/in", ""), "cab")
  local function drop() return nil end
  filters.add_filter(session, "bytes/in", drop, 5)
  check.equal(filters.run(session, "bytes/in", ""), nil)
  filters.remove_filter(session, "bytes/in", drop)
  check.equal(filters.run(session, "bytes/in", ""), "cab")
end)

check.test("the last filter removed leaves nothing behind", function()
  local session, fn = {}, append "x"
  filters.add_filter(session, "stanzas/out", fn)
  filters.remove_filter(session, "stanzas/out", fn)
  filters.remove_filter(session, "stanzas/out", fn)
  check.equal(session, {})
  check.raises("no such kind", filters.add_filter, session, "stanzas/sideways", fn)
end)

check.test("hooks hear of new sessions", function()
  local seen = 0
  local function hook(session) seen = seen + session.n end
  filters.add_filter_hook(hook)
  filters.add_filter_hook(hook)
  filters.initialize { n = 2 }
  filters.remove_filter_hook(hook)
  filters.initialize { n = 2 }
  check.equal(seen, 2)
end)

check.done()
