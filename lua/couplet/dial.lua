-- SPDX-License-Identifier: MIT
-- dial.lua: the way to another server: its names looked up (RFC 6120 §3.2, XEP-0368), its addresses tried in turn (RFC 8305).
--
--   dial.order(records, random?) -> records in the order to try them (RFC 2782); record: { priority, weight, port, target, … }
--   dial.candidates(domain, { timeout =, dane = }) -> next        waits for DNS, all look-ups together for timeout seconds
--     next() -> candidate | nil, condition, text       candidate: { address, port, tls = bool, host = }; with dane = true also
--     secure: DNSSEC vouches for the step from domain to host (RFC 7712); tlsa = { rdata, … } | nil: where it vouches for all
--     of the way (RFC 7673)
--   dial.targets(domain, budget?, dane?) -> { { host =, port =, tls = bool, secure = bool }, … } | nil, condition, text
--   dial.tlsa(target, budget?) -> { rdata, … }, none if there is nothing usable | nil, message
--   dial.race{ next =, connect = fn(candidate, attempt) -> conn | nil, message, won = fn(conn, candidate),
--     lost = fn(condition, text) } -> race
--     begins at once; one attempt after the other, each a moment after the one before; the first that is up wins
--     attempt:up(), attempt:down(reason)     the caller tells what became of the connection
--     race:again(reason)   the winner was of no use (no stream came about): the rest is tried
--     race:stop()          nothing more happens; connections that have not won are aborted
--
-- Forged answers (DNSSEC says bogus) are failures: a target with them is passed over, a domain with forged SRV records is not
-- reached at all. How many records and addresses are looked at is bounded.

local clock = require "couplet.clock"
local config = require "couplet.config"
local is_ip = require "couplet.util.net".pton
local task = require "couplet.task"
local to_ascii = require "couplet.util.encodings".idna.to_ascii

local dial = {}

local PORT = 5269
local HEAD_START = 0.25                -- seconds an attempt has before the next one begins (RFC 8305 §5)
local RESOLUTION_DELAY = 0.05          -- what IPv6 may come later than IPv4 (RFC 8305 §3)
local LOOKUPS = 12                     -- seconds for all look-ups on the way to one domain
local SRV_SHARE = 2 / 3                -- of these for the SRV records: some firewalls let only questions for addresses through
local NXDOMAIN = 3
local TLSA_MAX = 16                    -- TLSA records of one target
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

-- Look-ups --------------------------------------------------------------------------------------------------------------

local function judged(answer, err)
  if not answer then return { failed = err or "no answer" } end
  if answer.bogus then return { failed = "DNSSEC says the answer is forged", bogus = true } end
  if answer.rcode and answer.rcode ~= 0 and answer.rcode ~= NXDOMAIN then
    return { failed = tostring(answer.status or answer.rcode) }
  end
  return answer
end

local function lookup(name, kind, seconds, done)
  local adns = require "couplet.net.adns"
  local timer, over
  local function answered(answer, err)
    if over then return end
    over = true
    if timer then timer:stop() end
    done(judged(answer, err))
  end
  local query = adns.lookup(answered, name, kind)
  if over then return end
  timer = clock.timer(seconds, function()
    adns.cancel(query)
    task.spawn(answered, nil, "timeout")
  end)
end

-- What is spent waiting for DNS is taken from budget.left.
local function waiting(budget, fn)
  local began = clock.mono()
  local result = task.await(fn)
  budget.left = math.max(0, budget.left - (clock.mono() - began))
  return result
end

local function new_budget(seconds) return { left = seconds or LOOKUPS } end

-- Asks all questions at once: { { name, type }, … } -> answers in that order; one without answer is { failed = message }.
local function ask(questions, budget, share)
  return waiting(budget, function(done)
    local left, answers = #questions, {}
    for i, question in ipairs(questions) do
      lookup(question[1], question[2], budget.left * (share or 1), function(answer)
        answers[i] = answer
        left = left - 1
        if left == 0 then done(answers) end
      end)
    end
  end)
end

local function literal(domain)
  local address = domain:match "^%[(.+)%]$" or domain
  return is_ip(address) and address or nil
end

function dial.targets(domain, budget, dane)
  local address = literal(domain)
  if address then return { { host = address, port = PORT, tls = false, secure = false } } end
  local ascii = to_ascii(domain)
  if not ascii then return nil, "remote-server-not-found", "No such domain" end
  local answers = ask({ { "_xmpps-server._tcp." .. ascii, "SRV" }, { "_xmpp-server._tcp." .. ascii, "SRV" } },
    budget or new_budget(), SRV_SHARE)
  local records, refused = {}, false
  for i, answer in ipairs(answers) do
    if answer.bogus then
      return nil, "remote-server-timeout", "DNSSEC says the SRV records of this domain are forged"
    end
    for _, rr in ipairs(answer) do
      local srv = rr.srv
      if srv and #records < RECORDS_MAX then
        local host = srv.target:gsub("%.$", "")
        if host == "" then
          refused = true
        else
          records[#records + 1] = { priority = srv.priority, weight = srv.weight, port = srv.port, host = host, tls = i == 1,
            secure = answer.secure or false }
        end
      end
    end
  end
  if records[1] then return dial.order(records) end
  if dane and (answers[1].failed or answers[2].failed) then              -- somebody may not want us to see them (RFC 7673 §3.1)
    return nil, "remote-server-timeout", "DNS does not answer for its SRV records"
  end
  if refused then return nil, "remote-server-not-found", "This domain does not take connections of servers" end
  -- No other host comes in between, so nothing is delegated; whether DANE counts, the addresses will say.
  return { { host = ascii, port = PORT, tls = false, secure = true, fallback = true } }
end

-- TLSA ------------------------------------------------------------------------------------------------------------------

function dial.tlsa(target, budget)
  local answer = ask({ { ("_%d._tcp.%s"):format(target.port, target.host), "TLSA" } }, budget or new_budget())[1]
  if answer.failed then return nil, answer.failed end
  local list = {}
  for _, rr in ipairs(answer.secure and answer or {}) do
    local tlsa = type(rr.tlsa) == "table" and rr.tlsa
    if tlsa and #list < TLSA_MAX then list[#list + 1] = string.char(tlsa.use, tlsa.select, tlsa.match) .. tlsa.data end
  end
  return list
end

-- Addresses -------------------------------------------------------------------------------------------------------------

local function families()
  local four, six = config.get("*", "use_ipv4") ~= false, config.get("*", "use_ipv6") ~= false
  return four and six and { "aaaa", "a" } or six and { "aaaa" } or { "a" }
end

-- -> next; next() -> address, secure | nil, why. IPv6 and IPv4 by turns; nobody waits for the slower family longer than a
-- moment, and what comes late still has its turn.
local function addresses(host, budget)
  local address = literal(host)
  local count, found, open, failed = 0, { aaaa = {}, a = {} }, {}, nil
  local wake, last
  if address then
    found.a[1], open = { address, false }, {}
  else
    local asked = families()
    for _, family in ipairs(asked) do open[family] = true end
    for _, family in ipairs(asked) do
      lookup(host, family:upper(), budget.left, function(answer)
        open[family] = nil
        failed = failed or answer.failed
        for _, rr in ipairs(answer) do
          if rr[family] and is_ip(rr[family]) and #found[family] < ADDRESSES_MAX then
            table.insert(found[family], { rr[family], answer.secure or false })
          end
        end
        if wake then wake() end
      end)
    end
  end
  local function wait(seconds)
    waiting(budget, function(done)
      local timer = seconds and clock.timer(seconds, function() if wake then task.spawn(wake) end end)
      wake = function()
        wake = nil
        if timer then timer:stop() end
        done(true)
      end
    end)
  end
  return function()
    while not (found.aaaa[1] or found.a[1]) and (open.aaaa or open.a) do wait() end
    if not last and open.aaaa and not found.aaaa[1] then wait(RESOLUTION_DELAY) end
    local family = last == "aaaa" and "a" or "aaaa"
    if not found[family][1] then family = family == "a" and "aaaa" or "a" end
    local entry = table.remove(found[family], 1)
    if not entry or count >= ADDRESSES_MAX then return nil, failed end
    count, last = count + 1, family
    return entry[1], entry[2]
  end
end

-- Everything on the way ---------------------------------------------------------------------------------------------------

function dial.candidates(domain, options)
  options = options or {}
  local budget = new_budget(options.timeout)
  local targets, condition, text
  local target, at, address = nil, 0, nil
  local found, unanswered = false, nil
  return function()
    if not targets then
      targets, condition, text = dial.targets(domain, budget, options.dane)
      targets = targets or {}
    end
    while true do
      if target then
        local ip, secure = address()
        local tlsa
        if ip and options.dane and target.secure and secure then
          local err
          if not target.tlsa then target.tlsa, err = dial.tlsa(target, budget) end
          tlsa = target.tlsa
          if err then ip, secure = nil, ("TLSA records of %s: %s"):format(target.host, err) end     -- RFC 7673 §3.4
        end
        if ip then
          found = true
          return { address = ip, port = target.port, tls = target.tls, host = target.host,
            secure = options.dane == true and target.secure and not target.fallback, tlsa = tlsa and tlsa[1] and tlsa or nil }
        end
        unanswered = unanswered or secure
      end
      at = at + 1
      target = targets[at]
      if not target then
        if condition then return nil, condition, text end
        if found then return nil, "remote-server-timeout", "No connection to the server of this domain" end
        if unanswered then return nil, "remote-server-timeout", "DNS does not answer (" .. unanswered .. ")" end
        return nil, "remote-server-not-found", "This domain has no server"
      end
      address = addresses(target.host, budget)
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
