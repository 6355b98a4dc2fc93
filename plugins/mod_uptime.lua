-- SPDX-License-Identifier: MIT
-- mod_uptime: for how long the server has been up (XEP-0012 §4, asked of the host), and an ad-hoc command of the same.

local st = require "util.stanza"

module:add_feature("jabber:iq:last")

local function uptime() return math.max(0, math.floor(os.time() - prosody.start_time)) end

module:hook("iq-get/host/jabber:iq:last:query", function(event)
  event.origin.send(st.reply(event.stanza):tag("query", { xmlns = "jabber:iq:last", seconds = ("%d"):format(uptime()) }))
  return true
end)

local function describe(seconds)
  local parts = {}
  for _, unit in ipairs{ { 86400, "day" }, { 3600, "hour" }, { 60, "minute" } } do
    local n = seconds // unit[1]
    seconds = seconds % unit[1]
    if n > 0 or #parts > 0 then parts[#parts + 1] = ("%d %s%s"):format(n, unit[2], n == 1 and "" or "s") end
  end
  return parts[1] and table.concat(parts, ", ") or "less than a minute"
end

local adhoc_new = module:require "adhoc".new
module:provides("adhoc", adhoc_new("Get uptime", "uptime", function()
  return { status = "completed", info = ("The server has been up for %s (since %s)"):format(describe(uptime()),
    os.date("!%Y-%m-%d %H:%M UTC", math.floor(prosody.start_time))) }
end, "any"))
