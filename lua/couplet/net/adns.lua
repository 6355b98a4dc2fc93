-- SPDX-License-Identifier: MIT
-- net.adns (and net.dns): DNS by couplet.resolver, with a deadline for each look-up.
--
--   adns.resolver() -> r     r:lookup(cb, name, type?) -> query      cb(answer) or cb(nil, message), in a task
--                            r:lookup_promise(name, type?) -> promise of an answer
--                            r:cancel(query)
--   adns.lookup(cb, name, type?) -> query      adns.cancel(query)      adns.lookup(name, type?) -> answer | nil, message (waits)
--
-- An answer is an array of rr (util.dns) with name canonical type rcode status secure bogus nxdomain ttl. No address is no error:
-- the array is empty. Settings: dns = { servers = { "192.0.2.1" }, trust_anchor = file, timeout = 20 }; unbound = { trustfile =,
-- resolvconf =, … } as in existing files.

local clock = require "couplet.clock"
local config = require "couplet.config"
local core = require "couplet.core"
local dns = require "couplet.util.dns"
local errors = require "couplet.errors"
local idna = require "couplet.util.encodings".idna
local log = require "couplet.logger".init "adns"
local promise = require "couplet.promise"
local prosody = require "couplet.prosody"
local task = require "couplet.task"

local adns = {}

local TIMEOUT = 20                      -- seconds, unless the configuration says otherwise
local ANCHORS = { "/usr/share/dns/root.key", "/var/lib/unbound/root.key", "/etc/unbound/root.key" }

local native, watcher, timeout

local function anchor_of(settings, older)
  local file = settings.trust_anchor
  if file == nil then file = older.trustfile end
  if file == false then return nil end
  for _, path in ipairs(file and { file } or ANCHORS) do
    if core.system.stat(path) then return path end
  end
  if file then log("error", "no trust anchor: %s is not there; DNSSEC is off", file) end
end

local function open()
  local settings, older = config.get("*", "dns"), config.get("*", "unbound")
  settings, older = type(settings) == "table" and settings or {}, type(older) == "table" and older or {}
  timeout = tonumber(settings.timeout) or TIMEOUT
  local servers = settings.servers or older.forward
  if type(servers) == "string" then servers = { servers } end
  local resolver, err = require "couplet.resolver".new { servers = servers, anchor_file = anchor_of(settings, older),
    options = settings.options or older.options }
  if not resolver then return nil, err end
  native = resolver
  watcher = core.loop.watch(resolver:fd(), "r", function() resolver:process() end)
  return resolver
end

-- A new configuration: the next look-up starts anew; those under way go on.
local pending = 0
local function forget()
  if not native then return end
  local old, old_watcher = native, watcher
  native, watcher = nil, nil
  if pending > 0 then return end        -- its watcher keeps it until the process ends
  old_watcher:stop()
  old:close()
end

prosody.events.add_handler("config-reloaded", function(event)
  local changed = event and event.changed and event.changed["*"]
  if not changed or changed.dns or changed.unbound then forget() end
end)

function adns.lookup(cb, name, kind)
  if type(cb) ~= "function" then
    local wanted, what = cb, name
    return task.await(function(done)
      adns.lookup(done, wanted, what)
    end)
  end
  local query = { name = name, type = kind or "A" }
  local function answer(...)
    if query.over then return end
    query.over = true
    if query.timer then query.timer:stop() end
    task.spawn(cb, ...)
  end
  local number = type(query.type) == "number" and query.type or dns.types[query.type:upper()]
  local ascii = type(name) == "string" and (name:find "^[%w._%-/]+$" and name or idna.to_ascii(name))
  if not number then error("no such type of record: " .. tostring(kind), 2) end
  local resolver, err = native, nil
  if not resolver then resolver, err = open() end
  if not ascii or #ascii > 255 then resolver, err = nil, "no valid name" end
  if not resolver then
    answer(nil, err)
    return query
  end
  local id
  id, err = resolver:lookup(ascii, number, function(result, problem)
    pending = pending - 1
    if result then
      log("debug", "%s %s: %d records, %s%s", ascii, query.type, #result, dns.errors[result.rcode] or result.rcode,
        result.bogus and ", bogus: " .. tostring(result.why_bogus) or result.secure and ", secure" or "")
      answer(dns.answer(result))
    else
      answer(nil, problem)
    end
  end)
  if not id then
    answer(nil, err)
    return query
  end
  pending = pending + 1
  query.cancel = function()
    pending = pending - 1
    resolver:cancel(id)
  end
  query.timer = clock.timer(timeout, function()
    if query.over then return end
    query.cancel()
    answer(nil, "timeout")
  end)
  return query
end

function adns.cancel(query)
  if type(query) ~= "table" or query.over then return end
  query.over = true
  if query.timer then query.timer:stop() end
  if query.cancel then query.cancel() end
end

local Resolver = {}
Resolver.__index = Resolver

function Resolver:lookup(cb, name, kind) return adns.lookup(cb, name, kind) end
function Resolver:cancel(query) return adns.cancel(query) end
function Resolver:purge() forget() end

function Resolver:lookup_promise(name, kind)
  return promise.new(function(resolve, reject)
    adns.lookup(function(answer, err)
      if answer then return resolve(answer) end
      reject(errors.new({ type = "wait", condition = "remote-server-timeout", text = err }, { qname = name, qtype = kind }, nil,
        "adns"))
    end, name, kind)
  end)
end

local one = setmetatable({}, Resolver)

function adns.resolver() return one end
function adns.purge() forget() end
adns.settings = function() end          -- time-outs are ours
adns.types, adns.classes, adns.errors = dns.types, dns.classes, dns.errors

return adns
