-- SPDX-License-Identifier: MIT
-- promise.lua: values that come later (util.promise). Callbacks run in a fresh task each, in the order they were added.
--
--   promise.new(fn(resolve, reject))  promise.resolve(v)  promise.reject(e)  promise.try(fn)
--   promise.all(list)  promise.all_settled(list)  promise.race(list)  promise.any(list)  promise.join(fn, p1, p2, …)
--   promise.is_promise(x)
--   p:next(ok?, fail?)  p:catch(fail)  p:finally(fn)  -> a new promise
--
-- A callback's result settles the promise next() gave back; a promise as a result is waited for.

local task = require "couplet.task"
local events = require "couplet.events"
local xpcall, pack, unpack = xpcall, table.pack, table.unpack

local promise = {}

local Promise = {}
Promise.__index = Promise
Promise.__name = "promise"
function Promise.__tostring(self) return ("promise (%s)"):format(self._state or "pending") end

local function is_promise(x)
  return getmetatable(x) == Promise
end
promise.is_promise = is_promise

local function settle(self, state, value)
  self._state, self.value, self.reason = state, state == "fulfilled" and value or nil, state == "rejected" and value or nil
  self._value = value
  local list = self._waiting
  self._waiting = nil
  for i = 1, list and #list or 0 do task.spawn(list[i], state == "fulfilled", value) end
end

-- Follows another promise, or settles at once.
local function resolve(self, value)
  if self._state then return end
  if value == self then return settle(self, "rejected", "a promise cannot wait for itself") end
  if is_promise(value) then
    if value._state then return settle(self, value._state, value._value) end
    return value:_then(function(ok, v) settle(self, ok and "fulfilled" or "rejected", v) end)
  end
  settle(self, "fulfilled", value)
end

-- fn(ok, value), in a task; at once if settled
function Promise:_then(fn)
  if self._state then
    task.spawn(fn, self._state == "fulfilled", self._value)
  else
    local list = self._waiting
    if not list then
      list = {}
      self._waiting = list
    end
    list[#list + 1] = fn
  end
end

local function bare() return setmetatable({}, Promise) end

local function explain(err)
  if type(err) == "string" and promise.tracebacks then return events.explain(err) end
  return err
end

function promise.new(fn)
  local self, done = bare(), false
  if fn then
    local function ok(value)
      if done then return end
      done = true
      resolve(self, value)
    end
    local function fail(reason)
      if done then return end
      done = true
      settle(self, "rejected", reason)
    end
    local good, err = xpcall(fn, explain, ok, fail)
    if not good then fail(err) end
  end
  return self
end

local function run(self, fn, value, fallback)
  if not fn then
    if fallback then return resolve(self, value) end
    return settle(self, "rejected", value)
  end
  local ok, result = xpcall(fn, explain, value)
  if ok then return resolve(self, result) end
  settle(self, "rejected", result)
end

function Promise:next(on_ok, on_fail)
  local out = bare()
  self:_then(function(ok, value)
    if ok then run(out, on_ok, value, true) else run(out, on_fail, value, false) end
  end)
  return out
end

function Promise:catch(on_fail)
  return self:next(nil, on_fail)
end

function Promise:finally(fn)
  local out = bare()
  self:_then(function(ok, value)
    local good, err = xpcall(fn, explain)
    if not good then return settle(out, "rejected", err) end
    local function pass() if ok then resolve(out, value) else settle(out, "rejected", value) end end
    if is_promise(err) then
      err:_then(function(fine, reason)
        if fine then pass() else settle(out, "rejected", reason) end
      end)
    else
      pass()
    end
  end)
  return out
end

function promise.resolve(value)
  if is_promise(value) then return value end
  local self = bare()
  resolve(self, value)
  return self
end

function promise.reject(reason)
  local self = bare()
  settle(self, "rejected", reason)
  return self
end

promise["try"] = function(fn)
  return promise.resolve():next(function() return fn() end)
end

-- Waits for every member; each(ok, value, key) may settle the whole, finish() does when all are in.
local function gather(list, each, finish)
  return promise.new(function(ok, fail)
    local left = 1
    local function one()
      left = left - 1
      if left == 0 then finish(ok, fail) end
    end
    for key, member in pairs(list) do
      if is_promise(member) then
        left = left + 1
        member:_then(function(good, value)
          each(good, value, key, ok, fail)
          one()
        end)
      else
        each(true, member, key, ok, fail)
      end
    end
    one()
  end)
end

function promise.all(list)
  local out = {}
  return gather(list, function(good, value, key, _, fail)
    if good then out[key] = value else fail(value) end
  end, function(ok) ok(out) end)
end

function promise.all_settled(list)
  local out = {}
  return gather(list, function(good, value, key)
    out[key] = good and { status = "fulfilled", value = value } or { status = "rejected", reason = value }
  end, function(ok) ok(out) end)
end

function promise.race(list)
  return promise.new(function(ok, fail)
    for _, member in pairs(list) do
      if not is_promise(member) then return ok(member) end
      member:_then(function(good, value) if good then ok(value) else fail(value) end end)
    end
  end)
end

function promise.any(list)
  local reasons = {}
  return gather(list, function(good, value, key, ok)
    if good then ok(value) else reasons[key] = value end
  end, function(_, fail) fail(reasons) end)
end

function promise.join(fn, ...)
  local members = pack(...)
  local n = members.n
  members.n = nil
  return promise.all(members):next(function(values) return fn(unpack(values, 1, n)) end)
end

return promise
