-- SPDX-License-Identifier: MIT
-- dial.lua: the way to another server: its names looked up (RFC 6120 §3.2, XEP-0368), its addresses tried in turn (RFC 8305).
--
--   dial.order(records, random?) -> records in the order to try them (RFC 2782); record: { priority, weight, port, target, … }
--   dial.targets(domain) -> { { host =, port =, tls = bool }, … } | nil, condition, text       waits for DNS
--   dial.candidates(domain) -> next        next() -> { address, port, tls, host } | nil, condition, text; waits for DNS
--   dial.race{ next =, connect = fn(candidate, attempt) -> conn | nil, message, won = fn(conn, candidate),
--     lost = fn(condition, text) } -> race
--     begins at once; one attempt after the other, each a moment after the one before; the first that is up wins
--     attempt:up(), attempt:down(reason)     the caller tells what became of the connection
--     race:again(reason)   the winner was of no use (no stream came about): the rest is tried
--     race:stop()          nothing more happens; connections that have not won are aborted
--
-- Each look-up has its own deadline (net.adns). How many records and addresses are looked at is bounded.

local clock = require "couplet.clock"
local is_ip = require "couplet.util.net".pton
local task = require "couplet.task"
local to_ascii = require "couplet.util.encodings".idna.to_ascii

local dial = {}

local PORT = 5269
local HEAD_START = 0.25                -- seconds an attempt has before the next one begins (RFC 8305 §5)
local RECORDS_MAX = 24                 -- SRV records that are looked at
local ADDRESSES_MAX = 8                -- addresses of one target

-- SRV -------------------------------------------------------------------------------------------------------------------

function dial.order(records, random)
  random = random or math.random
  local by_priority, priorities = {}, {}
  for _, r in ipairs(records) do
    if not by_priority[r.priority] then
      by_priority[r.priority] = {}
      priorities[#priorities + 1] = r.priority
    end
    table.insert(by_priority[r.priority], r)
  end
  table.sort(priorities)
  local out = {}
  for _, priority in ipairs(priorities) do
    local group = by_priority[priority]
    while group[1] do
      local sum = 0
      for _, r in ipairs(group) do sum = sum + r.weight end
      local at, pick = random(0, sum), #group
      local run = 0
      -- those of weight 0 stand first, so that they have the small chance the RFC wants
      table.sort(group, function(a, b) return a.weight < b.weight end)
      for i, r in ipairs(group) do
        run = run + r.weight
        if run >= at then pick = i break end
      end
      out[#out + 1] = table.remove(group, pick)
    end
  end
  return out
end

-- Asks all questions at once: { { name, type }, … } -> answers in that order; one without answer is { failed = message }.
local function ask(questions)
  local adns = require "couplet.net.adns"
  return task.await(function(done)
    local left, answers = #questions, {}
    for i, question in ipairs(questions) do
      adns.lookup(function(answer, err)
        if answer and answer.bogus then answer, err = nil, "DNSSEC says the answer is forged" end
        answers[i] = answer or { failed = err or "no answer" }
        left = left - 1
        if left == 0 then done(answers) end
      end, question[1], question[2])
    end
  end)
end

local function literal(domain)
  local address = domain:match "^%[(.+)%]$" or domain
  return is_ip(address) and address or nil
end

function dial.targets(domain)
  local address = literal(domain)
  if address then return { { host = address, port = PORT, tls = false } } end
  local ascii = to_ascii(domain)
  if not ascii then return nil, "remote-server-not-found", "No such domain" end
  local answers = ask { { "_xmpps-server._tcp." .. ascii, "SRV" }, { "_xmpp-server._tcp." .. ascii, "SRV" } }
  local records, refused = {}, false
  for i, answer in ipairs(answers) do
    for _, rr in ipairs(answer) do
      local srv = rr.srv
      if srv and #records < RECORDS_MAX then
        local host = srv.target:gsub("%.$", "")
        if host == "" then
          refused = true
        else
          records[#records + 1] = { priority = srv.priority, weight = srv.weight, port = srv.port, host = host, tls = i == 1 }
        end
      end
    end
  end
  if records[1] then return dial.order(records) end
  if refused then return nil, "remote-server-not-found", "This domain does not take connections of servers" end
  return { { host = ascii, port = PORT, tls = false, fallback = true } }
end

-- Addresses -------------------------------------------------------------------------------------------------------------

-- IPv6 and IPv4 by turns.
local function addresses(host)
  local address = literal(host)
  if address then return { address } end
  local answers = ask { { host, "AAAA" }, { host, "A" } }
  local six, four, out = {}, {}, {}
  for _, rr in ipairs(answers[1]) do if rr.aaaa then six[#six + 1] = rr.aaaa end end
  for _, rr in ipairs(answers[2]) do if rr.a then four[#four + 1] = rr.a end end
  for i = 1, math.max(#six, #four) do
    for _, list in ipairs { six, four } do
      if list[i] and #out < ADDRESSES_MAX then out[#out + 1] = list[i] end
    end
  end
  return out, answers[1].failed or answers[2].failed
end

function dial.candidates(domain)
  local targets, condition, text
  local target, at, list, index = nil, 0, {}, 0
  local found, unanswered = false, nil
  return function()
    if not targets then
      targets, condition, text = dial.targets(domain)
      if not targets then
        targets = {}
        return nil, condition, text
      end
    end
    while true do
      index = index + 1
      if list[index] then
        found = true
        return { address = list[index], port = target.port, tls = target.tls, host = target.host }
      end
      at = at + 1
      target = targets[at]
      if not target then
        if condition then return nil, condition, text end
        if found then return nil, "remote-server-timeout", "No connection to the server of this domain" end
        if unanswered then return nil, "remote-server-timeout", "DNS does not answer (" .. unanswered .. ")" end
        return nil, "remote-server-not-found", "This domain has no server"
      end
      local failed
      list, failed = addresses(target.host)
      index = 0
      unanswered = unanswered or not list[1] and failed or nil
    end
  end
end

-- The race --------------------------------------------------------------------------------------------------------------

local Race, Attempt = {}, {}
Race.__index, Attempt.__index = Race, Attempt

local function finish(race)
  if race.over then return end
  race.over = true
  local text = race.text
  if race.why then text = ("%s: %s"):format(text, race.why) end
  race.lost(race.condition, text)
end

local function rest(race)
  if race.timer then race.timer:stop() end
end

local function step(race)
  while not (race.over or race.winner or race.stepping) do
    rest(race)
    local candidate, condition, text = race.held, nil, nil
    race.held = nil
    if not candidate then
      race.stepping = true
      candidate, condition, text = race.next()
      race.stepping = nil
    end
    if race.over then return end
    if not candidate then
      race.condition, race.text, race.exhausted = condition, text, true
      if race.count == 0 and not race.winner then finish(race) end
      return
    end
    if race.winner then
      race.held = candidate
      return
    end
    local attempt = setmetatable({ race = race, candidate = candidate }, Attempt)
    local conn, err = race.connect(candidate, attempt)
    if conn then
      attempt.conn = conn
      race.pending[attempt], race.count = true, race.count + 1
      race.timer = clock.timer(HEAD_START, function() task.spawn(step, race) end)
      return
    end
    race.why = err
  end
end

local function drop(race, attempt)
  if race.pending[attempt] then race.pending[attempt], race.count = nil, race.count - 1 end
end

local function abort_others(race)
  for attempt in pairs(race.pending) do
    race.pending[attempt] = nil
    attempt.conn:abort()
  end
  race.count = 0
end

function Attempt:up()
  local race = self.race
  if race.over or race.winner or not race.pending[self] then return self.conn:abort() end
  drop(race, self)
  race.winner = self
  rest(race)
  abort_others(race)
  race.won(self.conn, self.candidate)
end

function Attempt:down(reason)
  local race = self.race
  if not race.pending[self] then return end
  drop(race, self)
  race.why = reason
  if race.exhausted then
    if race.count == 0 then finish(race) end
    return
  end
  task.spawn(step, race)
end

function Race:again(reason)
  if self.over then return end
  self.winner, self.why = nil, reason
  if self.exhausted then return finish(self) end
  task.spawn(step, self)
end

function Race:stop()
  self.over = true
  rest(self)
  abort_others(self)
end

function dial.race(race)
  race.pending, race.count = {}, 0
  setmetatable(race, Race)
  task.spawn(step, race)
  return race
end

return dial
