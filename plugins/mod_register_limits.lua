-- SPDX-License-Identifier: MIT
-- mod_register_limits: how many accounts an address may make, and which addresses may at all. It judges the event
-- user-registering, wherever the account is made (mod_register_ibr, invitations, a web page).
--
-- An IPv6 address counts as its /64: whoever has one has them all.

local cache = require "util.cache"
local ip = require "util.ip"
local throttle = require "util.throttle"

module:config {
  min_seconds_between_registrations = { type = "period", doc = "one account per address in this time" },
  registration_throttle_max = { type = "integer", min = 1,
    doc = "accounts per address in a period. Default 10, or 1 with the option above" },
  registration_throttle_period = { type = "period", doc = "that period. Default an hour, or the time above" },
  registration_throttle_cache_size = { type = "integer", default = 10000, min = 1, doc = "addresses to remember" },
  registration_allowlist = { type = "set", doc = "addresses and networks without limits. Default: this machine" },
  registration_whitelist = { type = "set", doc = "older name of registration_allowlist" },
  registration_blocklist = { type = "set", doc = "addresses and networks that may not register" },
  registration_blacklist = { type = "set", doc = "older name of registration_blocklist" },
  allowlist_registration_only = { type = "boolean", default = false,
    doc = "only addresses of registration_allowlist may register" },
  whitelist_registration_only = { type = "boolean", default = false, doc = "older name of allowlist_registration_only" },
  blocklist_on_registration_throttle_overload = { type = "boolean", default = false,
    doc = "block an address forgotten while over its limit (until restart)" },
  blacklist_on_registration_throttle_overload = { type = "boolean", default = false, doc = "older name of the option above" },
}

local function option(getter, name, older, default)
  return module[getter](module, name, module[getter](module, older, default))
end

local gap = module:get_option_period("min_seconds_between_registrations")
local period = module:get_option_period("registration_throttle_period", gap or 3600)
local max = module:get_option_integer("registration_throttle_max", gap and 1 or 10, 1)
local block_overload = option("get_option_boolean", "blocklist_on_registration_throttle_overload",
  "blacklist_on_registration_throttle_overload", false)
local listed_only = option("get_option_boolean", "allowlist_registration_only", "whitelist_registration_only", false)

local function networks(name, older, default)
  local list = {}
  for text in option("get_option_set", name, older, default):items() do
    local net, bits = ip.parse_cidr(text)
    if net then
      list[#list + 1] = { net, bits }
    else
      module:log("error", "%s: %s is no address or network", name, text)
    end
  end
  return list
end
local allowed = networks("registration_allowlist", "registration_whitelist", { "127.0.0.0/8", "::1" })
local blocked = networks("registration_blocklist", "registration_blacklist", {})

local function listed(address, list)
  for _, net in ipairs(list) do
    if ip.match(address, net[1], net[2]) then return true end
  end
  return false
end

local size = module:get_option_integer("registration_throttle_cache_size", 10000, 1)
local overloaded = cache.new(size)
local throttles = cache.new(size, block_overload and function(address, t)
  if not t:peek() then
    module:log("info", "%s may not register any more (over its limit when it had to be forgotten)", address)
    overloaded:set(address, true)
  end
end or nil)

function module.save() return { throttles = throttles, overloaded = overloaded, max = max, period = period } end
function module.restore(state)
  if state.max == max and state.period == period and state.throttles and state.throttles.size == size then
    throttles, overloaded = state.throttles, state.overloaded
  end
end

local function too_many(key)
  if not (period > 0 and period < math.huge) then return false end
  local t = throttles:get(key)
  if not t then
    t = throttle.create(max, period)
    throttles:set(key, t)
  end
  return not t:poll(1)
end

local function refuse(event, kind, condition, text)
  event.allowed, event.reason = false, text
  event.error = { type = kind, condition = condition, text = text }
end

module:hook("user-registering", function(event)
  if not event.allowed then return end
  local text = event.ip or event.session and event.session.ip
  local address = ip.new_ip(text)
  if not address then
    module:log("warn", "a registration without an address is not limited: %s", tostring(text))
    return
  end
  local key = address.proto == "IPv6" and not ip.match(address, ip.new_ip "0.0.0.0", 0) and ip.truncate(address, 64).addr
    or address.addr
  if listed(address, blocked) or overloaded:get(key) then
    refuse(event, "auth", "forbidden", "Your address may not register here")
  elseif listed(address, allowed) then
    return
  elseif listed_only then
    refuse(event, "auth", "forbidden", "Only certain addresses may register here")
  elseif too_many(key) then
    refuse(event, "wait", "policy-violation", "Too many accounts from your address; try again later")
  end
  if not event.allowed then module:log("info", "registration of %s from %s refused: %s", event.username, text, event.reason) end
end)
