-- SPDX-License-Identifier: MIT
-- mod_limits: how many bytes a second a connection may send: limits = { c2s = { rate = "10kb/s", burst = "2s" } }.
--
-- Once a server has proved its domain, all streams on which that domain may send to us share the rate of s2sin.
--
-- rate: a number (bytes) or "5 kb/s", "1 mb/s"; burst: seconds at that rate that may come at once, or bytes ("64kb").

module:set_global()

local config = require "couplet.config"
local bandwidth = require "couplet.bandwidth"
local filters = require "couplet.filters"

module:config {
  limits = { type = "any", default = {}, doc = "class -> { rate =, burst = }: what one connection may send" },
  unlimited_jids = { type = "set", default = {}, doc = "accounts without such a limit" },
}

-- class -> { rate, burst } in bytes
local function read(options)
  local limits = {}
  for class, limit in pairs(type(options) == "table" and options or {}) do
    local rate = type(limit) == "table" and bandwidth.rate(limit.rate)
    local burst = rate and bandwidth.burst(limit.burst or "2s", rate)
    if rate and burst then
      limits[class] = { rate = math.floor(rate), burst = math.floor(math.max(burst, rate)) }
    else
      module:log("error", "%s: limits.%s: cannot read its rate %q and burst %q; no limit for %s",
        config.place(module.host, "limits") or "configuration", class,
        tostring(type(limit) == "table" and limit.rate or limit), tostring(type(limit) == "table" and limit.burst), class)
    end
  end
  return limits
end
module.environment.read = read

local limits = read(module:get_option("limits", {}))
local unlimited = module:get_option_set("unlimited_jids", {})

local function limit_session(session)
  local limit = limits[session.base_type or session.type:match "^%a+"]
  if limit and session.net then session.net:limits(limit) end
end

filters.add_filter_hook(limit_session, false)
function module.unload() filters.remove_filter_hook(limit_session) end

-- Streams of servers ----------------------------------------------------------------------------------------------------

local by_domain = {}                   -- domain that sends -> { session = true }

local function sender(session)
  if session.direction == "incoming" then return session.from_host end
  return session.incoming and session.to_host or nil             -- our stream, used both ways
end

local function share(domain)
  local limit, n = limits.s2sin, 0
  for _ in pairs(by_domain[domain] or {}) do n = n + 1 end
  for session in pairs(limit and by_domain[domain] or {}) do
    if session.net then session.net:limits { rate = math.max(limit.rate // n, 1), burst = math.max(limit.burst // n, 1) } end
  end
end

local function stream_begins(event)
  local session = event.session
  local domain = sender(session)
  if not domain then return end
  by_domain[domain] = by_domain[domain] or {}
  by_domain[domain][session] = true
  share(domain)
end

local function stream_ends(event)
  local session = event.session
  local domain = sender(session)
  local streams = domain and by_domain[domain]
  if not streams or not streams[session] then return end
  streams[session] = nil
  if next(streams) then share(domain) else by_domain[domain] = nil end
end

function module.save() return { by_domain = by_domain } end
function module.restore(state) by_domain = state.by_domain or by_domain end

function module.add_host(host_module)
  for _, base in ipairs { "s2sin", "s2sout" } do
    host_module:hook(base .. "-established", stream_begins)
    host_module:hook(base .. "-destroyed", stream_ends)
  end
  host_module:hook("authentication-success", function(event)
    local session = event.session
    if session.username and session.net and unlimited:contains(session.username .. "@" .. session.host) then
      session.net:limits { rate = 0 }
    end
  end)
end

module:hook("config-reloaded", function()
  limits = read(module:get_option("limits", {}))
  unlimited = module:get_option_set("unlimited_jids", {})
  for domain in pairs(by_domain) do share(domain) end
end)
