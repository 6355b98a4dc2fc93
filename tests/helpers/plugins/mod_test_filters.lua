-- SPDX-License-Identifier: MIT
-- mod_test_filters: counts the bytes of each client from the first one on, and turns what it sends by 13 letters once it has
-- asked:
--   <iq type='get'><count xmlns='test:filters'/></iq>     -> <count in='…' out='…'/>
--   <iq type='set'><rot13 xmlns='test:filters'/></iq>     from behind this stanza on; <plain/>: no more

local filters = require "util.filters"
local st = require "util.stanza"

local function rot13(bytes)
  return (bytes:gsub("%a", function(c)
    local base = c:byte() >= 97 and 97 or 65
    return string.char((c:byte() - base + 13) % 26 + base)
  end))
end

local function watch(session)
  session.seen = { ["in"] = 0, out = 0 }
  for kind in pairs(session.seen) do
    filters.add_filter(session, "bytes/" .. kind, function(bytes)
      session.seen[kind] = session.seen[kind] + #bytes
      return bytes
    end)
  end
end

filters.add_filter_hook(watch)
function module.unload() filters.remove_filter_hook(watch) end

module:hook("iq-get/host/test:filters:count", function(event)
  local seen = event.origin.seen
  event.origin.send(st.reply(event.stanza):tag("count",
    { xmlns = "test:filters", ["in"] = tostring(seen["in"]), out = tostring(seen.out) }))
  return true
end)

module:hook("iq-set/host/test:filters:rot13", function(event)
  filters.add_filter(event.origin, "bytes/in", rot13, -1)
  event.origin.send(st.reply(event.stanza))
  return true
end)

module:hook("iq-set/host/test:filters:plain", function(event)
  filters.remove_filter(event.origin, "bytes/in", rot13)
  event.origin.send(st.reply(event.stanza))
  return true
end)

module:hook("iq-set/host/test:filters:broken", function(event)
  filters.add_filter(event.origin, "bytes/in", function() error "broken" end)
  event.origin.send(st.reply(event.stanza))
  return true
end)
