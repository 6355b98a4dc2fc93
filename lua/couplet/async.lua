-- SPDX-License-Identifier: MIT
-- async.lua: waiting in plugins (util.async). All of it joins the server's scheduler (couplet.task).
--
--   async.waiter(n?, allow_many?) -> wait, done         wait() returns after n calls of done()
--   async.wait_for(promise) (wait) -> value | nil, err
--   async.sleep(seconds)
--   async.guarder() -> guard(id?, fn?)                  one at a time per id: guard(id) -> release()
--   async.runner(fn, watchers?, data?) -> runner        runner:run(x), :enqueue(x): fn(x) in order; .state, .data
--   async.ready() -> bool                               would a wait suspend rather than block?
--   async.set_nexttick, async.once: names only

local events = require "couplet.events"
local task = require "couplet.task"
local promise = require "couplet.promise"
local xpcall = xpcall

local async = { ready = task.ready, sleep = task.sleep }

function async.waiter(n, allow_many)
  n = n or 1
  local wake
  local function wait()
    if n <= 0 then return end
    if wake then error("there is already a wait on this waiter", 2) end
    task.await(function(done) wake = done end)
  end
  local function done()
    n = n - 1
    if n == 0 then
      if wake then wake() end
    elseif n < 0 and not allow_many then
      error("done() called too many times", 2)
    end
  end
  return wait, done
end

function async.wait_for(p)
  if not promise.is_promise(p) then p = promise.resolve(p) end
  local ok, value
  if p._state then
    ok, value = p._state == "fulfilled", p._value
  else
    ok, value = task.await(function(done) p:_then(done) end)
  end
  if ok then return value end
  return nil, value
end
async.wait = async.wait_for

function async.guarder()
  local busy = {}                       -- id -> array of those who wait
  return function(id, fn)
    id = id == nil and busy or id
    local function release()
      local queue = busy[id]
      if not queue then return end
      local nxt = table.remove(queue, 1)
      if nxt then nxt() else busy[id] = nil end
    end
    if busy[id] then
      task.await(function(done) table.insert(busy[id], done) end)
    else
      busy[id] = {}
    end
    local released
    local function exit()
      if released then return end
      released = true
      release()
    end
    if not fn then return exit end
    local results = table.pack(xpcall(fn, events.explain))
    exit()
    if not results[1] then error(results[2], 0) end
    return table.unpack(results, 2, results.n)
  end
end

-- --- runners ---

local Runner = {}
Runner.__index = Runner

local none = {}

local function watch(self, name, ...)
  local fn = self.watchers[name]
  if fn then fn(self, ...) end
end

local function handle(self, input)
  self.state = "running"
  local ok, err
  local fn = self.func
  if type(input) == "function" and not fn then fn, input = input, nil end
  if type(input) == "function" and self.callable then fn, input = input, nil end
  ok, err = xpcall(fn, events.explain, input)
  if not ok then
    self.state = "error"
    if self.watchers.error then watch(self, "error", err) else events.report(nil, "runner", err) end
  end
  self.state = "ready"
  self.notified_state = nil
  if self.queue:count() <= 1 then watch(self, "ready") end
end

function async.runner(fn, watchers, data)
  local self = setmetatable({ func = fn, callable = fn == nil, watchers = watchers or none, data = data, state = "ready",
    held = {} }, Runner)
  self.queue = task.queue(handle)
  return self
end

-- What was enqueued runs first.
function Runner:run(input)
  for i, x in ipairs(self.held) do
    self.held[i] = nil
    self.queue:push(self, x)
  end
  if input ~= nil then self.queue:push(self, input) end
  if self.queue:count() > 0 and self.state == "running" then
    self.state = "waiting"
    watch(self, "waiting")
  end
  return true, self.state, self.queue:count()
end

function Runner:enqueue(input)
  self.held[#self.held + 1] = input
  return self
end

function Runner:log(level, fmt, ...)
  require "couplet.logger".init "runner"(level, fmt, ...)
end

function Runner:onready(fn)
  self.watchers = setmetatable({ ready = fn }, { __index = self.watchers })
  return self
end

function Runner:onwaiting(fn)
  self.watchers = setmetatable({ waiting = fn }, { __index = self.watchers })
  return self
end

function Runner:onerror(fn)
  self.watchers = setmetatable({ error = fn }, { __index = self.watchers })
  return self
end

function async.once(fn)
  local results
  return function(...)
    if not results then results = table.pack(fn(...)) end
    return table.unpack(results, 1, results.n)
  end
end

function async.set_nexttick() end
function async.set_schedule_function() end

return async
