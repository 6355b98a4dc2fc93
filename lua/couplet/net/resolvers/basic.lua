-- SPDX-License-Identifier: MIT
-- net.resolvers.basic: new(hostname, port, "tcp", { servername =, … }) -> resolver for net.connect: the addresses of a name,
-- IPv6 first. An address stands for itself.

local adns = require "couplet.net.adns"
local config = require "couplet.config"
local pton = require "couplet.util.net".pton

local methods = {}
local mt = { __index = methods, __name = "resolver" }

local function gather(self, cb)
  local waiting = 0
  local found = { AAAA = {}, A = {} }
  local function done()
    waiting = waiting - 1
    if waiting > 0 then return end
    for _, kind in ipairs { "AAAA", "A" } do
      for _, address in ipairs(found[kind]) do table.insert(self.targets, { self.kind, address, self.port, self.extra }) end
    end
    if not self.targets[1] then self.last_error = self.last_error or "no address" end
    cb()
  end
  local wanted = {}
  if config.get("*", "use_ipv6") ~= false then wanted[#wanted + 1] = "AAAA" end
  if config.get("*", "use_ipv4") ~= false then wanted[#wanted + 1] = "A" end
  waiting = #wanted + 1
  for _, kind in ipairs(wanted) do
    adns.lookup(function(answer, err)
      if not answer then self.last_error = err
      elseif answer.bogus then self.last_error = "validation error: " .. tostring(answer.why_bogus) end
      for _, rr in ipairs(answer and not answer.bogus and answer or {}) do
        if #found[kind] < 8 then table.insert(found[kind], rr[kind]) end
      end
      done()
    end, self.hostname, kind)
  end
  done()
end

function methods:next(cb)
  local function give()
    local target = table.remove(self.targets, 1)
    if target then return cb(table.unpack(target, 1, 4)) end
    cb(nil, nil, nil, self.last_error)
  end
  if self.targets then return give() end
  self.targets = {}
  local literal = self.hostname:match "^%[(.*)%]$" or self.hostname
  if pton(literal) then
    self.targets[1] = { self.kind, literal, self.port, self.extra }
    return give()
  end
  gather(self, give)
end

local function new(hostname, port, kind, extra)
  extra = extra or {}
  if not extra.servername and not pton(hostname) then
    local copy = { servername = hostname }
    for k, v in pairs(extra) do copy[k] = v end
    extra = copy
  end
  return setmetatable({ hostname = hostname, port = port, kind = kind or "tcp", extra = extra }, mt)
end

return { new = new }
