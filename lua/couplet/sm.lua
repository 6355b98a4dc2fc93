-- SPDX-License-Identifier: MIT
-- sm.lua: stream management on one session (XEP-0198): what came in and is handled, what went out and is not acknowledged.
--
--   sm.new(session, options) -> link     options: xmlns, ask (stanzas that go without a question), max_ack_delay (seconds),
--                                        max_stanzas, max_bytes (that may wait for the peer's acknowledgement)
--   link.queue                           couplet.core.unacked: what went out
--   link.received, link.handled          stanzas that came in, and how many of them, from the first on, are handled for good
--
--   link.deaf                            set by the owner: what comes is not counted yet
-- In:
--   link:begin(stanza) -> ticket | nil   to be handled; nil: it is not counted. couplet.durable.finish(ticket) at the end of it
--   link:room()                          waits while too much is not settled yet
--   link:answer()                        <r/> has come
--   link:tell()                          <a/> without a question
--   link:open() -> bool                  is anything not settled, or not acknowledged?
--   link:settle(seconds) -> bool         waits until all that has come is settled
--   link:h() -> number                   for the wire
-- Out:
--   link:ack(h) -> bool                  <a/> has come; false: more than was sent (the stream is closed)
--   link:too_many(h) -> reason           for close(): handled-count-too-high
--   link:delivered() -> bool             waits until all sent so far is acknowledged; false: the session is over
--   link:quiet(seconds)                  waits until all that came is settled and all that went is acknowledged, if anybody
--                                        listens; link:hurry() lets it look again whether somebody does
--   link:ask()  link:resumed() link:resend()    for acknowledgement; the stream goes on; all that waits, on a new connection
--   link:stanzas() -> view               what waits, as an array of stanzas, each parsed when looked at
--   sm.stanza(bytes) -> stanza | nil
--   sm.limit_total(bytes)                that may wait in all sessions together: over it, those of whoever has most are full
--   sm.number(text) -> h | nil           an unsigned 32 bit number
-- The owner may set: link.on_full(link), link.on_delayed(link), link.on_ack(link, stanzas) (asked with link.wants_acked()),
-- link.on_handled(link). They run in a task.
--
-- Acknowledged is what is kept (couplet.durable), in order: a stanza that is not settled holds back those behind it. What could
-- not be kept is answered with an error, and then counts as handled. <r/> is answered when all that came before it is settled,
-- at the latest after WITHHELD seconds; if that was too early, once more when it is.

local clock = require "couplet.clock"
local core = require "couplet.core"
local durable = require "couplet.durable"
local task = require "couplet.task"

local route_of, unacked = core.stanza.route, core.unacked
local begin = durable.begin

local sm = {}
local Link = {}
Link.__index = Link

local WITHHELD = 1                     -- seconds <r/> may wait for its answer
local QUIET = 1                        -- seconds after which what nobody has asked about is asked about
local UNSETTLED = 256                  -- stanzas of one session that may wait for the disk
local MASK = 0xffffffff

function sm.number(text)
  if not text or not text:find "^%d+$" or #text > 10 then return nil end
  local n = math.tointeger(tonumber(text))
  return n and n <= MASK and n or nil
end

local parse_limits = { stanza_bytes = 64 * 1024 * 1024 }

function sm.stanza(bytes)
  return core.stream.parse(bytes, parse_limits)
end

-- The clock: one timer for all, while there is something to look at ---------------------------------------------------

local links, timer = {}, nil           -- those that are alive, as a set
local total_bytes = math.huge
local withheld = {}                    -- link -> since when <r/> waits

local function look_at(link)
  local queue = link.queue
  local net = link.session.net
  if queue:full() then
    if link.on_full then return link:on_full() end
  elseif not net then
    return
  end
  local asked = queue:requested()
  if not asked then
    link:ask()
    queue:watch()
  elseif asked < link.max_ack_delay then
    queue:watch()
  elseif not link.delayed then
    link.delayed = true
    if link.on_delayed then link:on_delayed() end
  end
end

function sm.limit_total(bytes) total_bytes = bytes end

-- An account, or another server.
local function owner_of(session)
  if session.username then return session.username .. "@" .. session.host end
  return session.to_host or session.from_host or ""
end

-- The memory is used up: the greatest queues of whoever has most go, until a tenth is free. Others notice nothing.
local function relieve()
  local excess = unacked.total() - total_bytes
  if excess <= 0 then return end
  excess = excess + total_bytes // 10
  local owners = {}
  for link in pairs(links) do
    local name = owner_of(link.session)
    local owner = owners[name] or { bytes = 0 }
    owners[name], owner[#owner + 1] = owner, link
    owner.bytes = owner.bytes + link.queue:bytes()
  end
  local list = {}
  for _, owner in pairs(owners) do list[#list + 1] = owner end
  table.sort(list, function(a, b) return a.bytes > b.bytes end)
  for _, owner in ipairs(list) do
    table.sort(owner, function(a, b) return a.queue:bytes() > b.queue:bytes() end)
    for _, link in ipairs(owner) do
      if excess <= 0 then return end
      excess = excess - link.queue:bytes()
      link.session.log("warn", "what waits for acknowledgement takes too much memory; this session ends")
      if link.on_full then task.spawn(link.on_full, link) end
    end
  end
end

local function tick()
  relieve()
  for _, link in ipairs(unacked.due(QUIET)) do
    if not link.over then task.spawn(look_at, link) end
  end
  local now = clock.mono()
  for link, since in pairs(withheld) do
    if link.over then
      withheld[link] = nil
    elseif now - since >= WITHHELD then
      withheld[link] = nil
      link:tell()
    end
  end
  if next(links) then return 0.5 end
  timer = nil
end
sm.tick = tick

-- Lets those go on who wait for the link; they look whether what they wait for is true.
local function wake(link, who)
  local waits = link[who]
  if not waits then return end
  link[who] = nil
  for i = 1, #waits do waits[i]() end
end

local function wait(link, who, seconds)
  task.await(function(done)
    local alarm
    local waits = link[who] or {}
    link[who] = waits
    waits[#waits + 1] = function()
      if alarm then alarm:stop() end
      done()
    end
    if seconds then alarm = clock.timer(seconds, function() done() end) end
  end)
end

-- Links -----------------------------------------------------------------------------------------------------------------

function sm.new(session, o)
  local link = setmetatable({ session = session, received = 0, handled = 0, wanted = false, delayed = false, over = false,
    deaf = false,
    max_ack_delay = o.max_ack_delay or math.huge, xmlns = o.xmlns or "urn:xmpp:sm:3" }, Link)
  link.question = ("<r xmlns='%s'/>"):format(link.xmlns)
  link.queue = unacked.new(link, link.question)
  link:ask_after(o.ask or 0)
  link:limits(o.max_stanzas, o.max_bytes)
  links[link] = true
  if not timer then timer = clock.timer(0.5, tick) end
  return link
end

function Link:limits(stanzas, bytes)
  self.queue:limits(stanzas or 0x7fffffff, bytes or 0x7fffffff)
end

-- Nothing more will happen to it.
function Link:close()
  if self.over then return end
  self.over = true
  links[self] = nil
  withheld[self] = nil
  self.queue:clear()
  wake(self, "waits")
  wake(self, "senders")
end

-- So many stanzas may go before acknowledgement is asked for.
function Link:ask_after(n)
  self.ask_at = n
  self.queue:ask(n)
end

-- In --------------------------------------------------------------------------------------------------------------------

local KINDS = { message = true, presence = true, iq = true }

local function advance(link, n)
  if n ~= link.handled + 1 then
    local ahead = link.ahead
    if not ahead then
      ahead = {}
      link.ahead = ahead
    end
    ahead[n] = true
    return
  end
  local ahead = link.ahead
  if ahead then
    while ahead[n + 1] do
      n = n + 1
      ahead[n] = nil
    end
    if not next(ahead) then link.ahead = nil end
  end
  link.handled = n
  if link.wanted and n >= link.wanted then
    link.wanted = false
    withheld[link] = nil
    if not link.over then link:tell() end
  end
  if link.waits then wake(link, "waits") end
  if link.on_handled then link:on_handled() end
end

local function settled(ok, why, link, n, stanza)
  if not ok then
    local session = link.session
    session.log("warn", "a stanza of %s could not be kept: %s", session.full_jid or session.from_host, why)
    if not link.over then
      -- The sender must not believe that it is safe; when it is told, the stanza is dealt with.
      task.spawn(require "couplet.router".reply_error, session, stanza, "wait", "internal-server-error",
        "This could not be stored")
    end
  end
  return advance(link, n)
end

function Link:begin(stanza)
  local name, _, _, _, _, xmlns = route_of(stanza)
  if self.deaf or not KINDS[name] or xmlns and xmlns ~= "jabber:client" and xmlns ~= "jabber:server" then return nil end
  local n = self.received + 1
  self.received = n
  return begin(settled, self, n, stanza)
end

function Link:room()
  while self.received - self.handled >= UNSETTLED and not self.over do wait(self, "waits") end
end

function Link:settle(seconds)
  local limit = clock.mono() + seconds
  while self.handled < self.received and not self.over do
    local left = limit - clock.mono()
    if left <= 0 then return false end
    wait(self, "waits", left)
  end
  return true
end

function Link:h() return self.handled & MASK end

function Link:tell()
  local net = self.session.net
  if net then net:send(("<a xmlns='%s' h='%d'/>"):format(self.xmlns, self.handled & MASK)) end
end

function Link:answer()
  if self.handled == self.received then return self:tell() end
  self.wanted = self.received
  withheld[self] = withheld[self] or clock.mono()
end

-- Out -------------------------------------------------------------------------------------------------------------------

function Link:too_many(h)
  return { condition = "undefined-condition", text = ("You acknowledged %d stanzas, but I only sent you %d so far."):format(h,
    self.queue:sent()), extra = ("<handled-count-too-high xmlns='%s' h='%d' send-count='%d'/>"):format(self.xmlns, h,
    self.queue:sent()) }
end

function Link:ack(h)
  local queue = self.queue
  local gone
  if self.on_ack and self.wants_acked() then
    local list, n = {}, (h - queue:acked()) & MASK
    if n <= #queue then
      for i = 1, n do list[i] = queue:get(i) end
    end
    gone = queue:ack(h)
    if gone and gone > 0 then self:on_ack(list) end
  else
    gone = queue:ack(h)
  end
  if not gone then return false end
  self.delayed = false
  if self.senders then wake(self, "senders") end
  if #queue > self.ask_at then self:ask() end
  return true
end

-- Waits until the peer has acknowledged all that was sent so far; false: it never will.
function Link:delivered()
  local queue = self.queue
  local last = queue:sent()
  if #queue > 0 then self:ask() end
  while not self.over do
    local left = (last - queue:acked()) & MASK
    if left == 0 or left > 0x7fffffff then return true end
    wait(self, "senders")
  end
  return false
end

function Link:open()
  return self.handled < self.received or #self.queue > 0 and not self.session.peer_ended
end

function Link:quiet(seconds)
  local limit = clock.mono() + seconds
  if #self.queue > 0 then self:ask() end
  while not self.over and #self.queue > 0 and not self.session.peer_ended do
    local left = limit - clock.mono()
    if left <= 0 then break end
    wait(self, "senders", left)
  end
  return self:settle(math.max(limit - clock.mono(), 0))
end

function Link:hurry() wake(self, "senders") end

-- Asks for acknowledgement.
function Link:ask()
  local net = self.session.net
  if not net or not net:send(self.question) then return end
  self.queue:asked()
end

-- The stream goes on; what was asked on the old connection is not answered on the new one.
function Link:resumed()
  self.broken, self.wanted, self.delayed = nil, false, false
  withheld[self] = nil
end

-- A new connection: all that waits goes out again, in order, and what comes from now on behind it.
function Link:resend()
  local net, queue = self.session.net, self.queue
  if not net then return end
  net:track(nil)
  for i = 1, #queue do net:send((queue:get(i))) end
  net:track(queue)
  if #queue > 0 then self:ask() end
  queue:watch()
end

-- What waits, as plugins like to see it.
local View = {}

function View.__len(view) return #view.queue end

function View.__index(view, i)
  if math.type(i) ~= "integer" then return View[i] end
  local bytes = view.queue:get(i)
  return bytes and sm.stanza(bytes) or nil
end

function View:count_unacked() return #self.queue end
function View:count_acked() return self.queue:acked() end
function View:resumable() return not self.queue:full() end
function View:table() return self end

function View:resume()
  local i = 0
  return function()
    i = i + 1
    local stanza = self[i]
    if stanza then return i, stanza end
  end
end

function Link:stanzas() return setmetatable({ queue = self.queue }, View) end

return sm
