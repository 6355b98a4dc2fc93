-- SPDX-License-Identifier: MIT
-- net.resolvers.service: new(hostname, service, "tcp", { default_port =, … }) -> resolver by SRV (RFC 2782), e.g. service
-- "xmpp-server".
-- Without SRV records: the name itself at default_port. "." as target: the service is decidedly not there.

local adns = require "couplet.net.adns"
local manual = require "couplet.net.resolvers.manual"
local pton = require "couplet.util.net".pton

local methods = {}
local mt = { __index = methods, __name = "resolver" }

-- By priority; among equals at random by weight.
local function order(records, random)
  local by_priority, priorities, out = {}, {}, {}
  for _, srv in ipairs(records) do
    if not by_priority[srv.priority] then
      by_priority[srv.priority] = {}
      priorities[#priorities + 1] = srv.priority
    end
    table.insert(by_priority[srv.priority], srv)
  end
  table.sort(priorities)
  for _, priority in ipairs(priorities) do
    local group = by_priority[priority]
    while group[1] do
      local total = 0
      for _, srv in ipairs(group) do total = total + srv.weight end
      local at, chosen = random(0, total), 1
      for i, srv in ipairs(group) do
        at = at - srv.weight
        if at <= 0 then chosen = i break end
      end
      out[#out + 1] = table.remove(group, chosen)
    end
  end
  return out
end

local function targets_of(self, answer)
  local records = {}
  for _, rr in ipairs(answer or {}) do
    if rr.SRV and type(rr.SRV) == "table" and #records < 16 then records[#records + 1] = rr.SRV end
  end
  if #records == 1 and records[1].target == "." then
    self.last_error = "service does not exist"
    return {}
  end
  local out = {}
  for _, srv in ipairs(order(records, math.random)) do
    out[#out + 1] = { self.kind, (srv.target:gsub("%.$", "")), srv.port, self.extra }
  end
  if not out[1] and self.extra.default_port ~= false then
    out[1] = { self.kind, self.hostname, self.extra.default_port, self.extra }
  end
  return out
end

function methods:next(cb)
  if self.inner then return self.inner:next(cb) end
  local function start(targets)
    self.inner = manual.new(targets)
    self.inner.last_error = self.last_error
    self.inner:next(cb)
  end
  if pton(self.hostname) then
    return start { { self.kind, self.hostname, self.extra.default_port, self.extra } }
  end
  adns.lookup(function(answer, err)
    if not answer then self.last_error = err end
    if answer and answer.bogus then
      self.last_error = "validation error: " .. tostring(answer.why_bogus)
      return start {}
    end
    start(targets_of(self, answer))
  end, ("_%s._%s.%s"):format(self.service, self.kind, self.hostname), "SRV")
end

local function new(hostname, service, kind, extra)
  local copy = { servername = hostname }
  for k, v in pairs(extra or {}) do copy[k] = v end
  return setmetatable({ hostname = hostname, service = service, kind = kind or "tcp", extra = copy }, mt)
end

return { new = new, order = order }
