-- SPDX-License-Identifier: MIT
-- Stream management on one session (couplet.sm): numbers, what is acknowledged when, random histories against a model.
local check = require "check"
local clock = require "couplet.clock"
local core = require "couplet.core"
local durable = require "couplet.durable"
local sm = require "couplet.sm"
local st = require "couplet.stanza"
local task = require "couplet.task"

math.randomseed(20261126)
local MASK = 0xffffffff
local unacked = core.unacked

local function link_of(options)
  local sent = {}
  local session = { sent = sent, log = function() end, full_jid = "romeo@h.example/orchard" }
  session.net = { send = function(_, x) sent[#sent + 1] = x return true end }
  function session.send(x) sent[#sent + 1] = tostring(x) return true end
  local link = sm.new(session, options or {})
  return link, session
end

local function acks(session)
  local list = {}
  for _, x in ipairs(session.sent) do
    local h = x:match "^<a xmlns='urn:xmpp:sm:3' h='(%d+)'/>$"
    if h then list[#list + 1] = math.tointeger(tonumber(h)) end
  end
  return list
end

local function message(n) return st.message({ id = tostring(n), to = "juliet@h.example" }, "hello") end

-- Handles a stanza with fn, as mod_c2s does.
local function handle(link, stanza, fn)
  task.spawn(function()
    local ticket = link:begin(stanza)
    if fn then fn() end
    if ticket then durable.finish(ticket) end
  end)
end

check.test("numbers are unsigned and of 32 bits", function()
  local rows = { ["0"] = 0, ["00"] = 0, ["4294967295"] = MASK, ["4294967296"] = false, ["-1"] = false, ["1.0"] = false,
    [""] = false, ["1e3"] = false, [" 1"] = false, ["99999999999"] = false, ["0x1"] = false }
  for text, want in pairs(rows) do check.equal(sm.number(text) or false, want, text) end
  check.equal(sm.number(nil), nil)
end)

check.test("stanzas are counted, other elements are not", function()
  local link = link_of()
  for _, name in ipairs { "message", "presence", "iq" } do check.ok(link:begin(st.stanza(name))) end
  for _, x in ipairs { st.stanza("r", { xmlns = "urn:xmpp:sm:3" }), st.stanza("message", { xmlns = "urn:x" }), st.stanza "x" } do
    check.equal(link:begin(x), nil)
  end
  check.equal(link.received, 3)
  link:close()
end)

check.test("h wraps around at 2^32, in both directions", function()
  local link, session = link_of()
  link.received, link.handled = MASK - 1, MASK - 1
  for n = 1, 4 do handle(link, message(n)) end
  link:answer()
  check.equal(acks(session), { 2 })
  link.queue:start(MASK - 1)
  for n = 1, 5 do link.queue:add(message(n)) end
  check.equal({ link.queue:acked(), link.queue:sent() }, { MASK - 1, 3 })
  check.ok(link:ack(0))
  check.equal({ #link.queue, link.queue:acked() }, { 3, 0 })
  check.equal(link:ack(4), false)
  check.ok(link:ack(MASK))
  check.equal(#link.queue, 3)
  check.ok(link:ack(3))
  check.equal(#link.queue, 0)
  link:close()
end)

check.test("an acknowledgement waits for what holds the stanza, and for those before it", function()
  local link, session = link_of()
  local first, second
  handle(link, message(1), function() first = durable.hold() end)
  handle(link, message(2), function() second = durable.hold() end)
  handle(link, message(3))
  link:answer()
  check.equal(acks(session), {})
  second(true)
  check.equal(link.handled, 0)
  first(true)
  check.equal({ link.handled, acks(session) }, { 3, { 3 } })
  link:answer()
  check.equal(acks(session), { 3, 3 })
  link:close()
end)

check.test("the question is answered after a while all the same, and again when all is kept", function()
  local link, session = link_of()
  local now = clock.mono()
  local mono = clock.mono
  clock.mono = function() return now end
  local hold
  handle(link, message(1))
  handle(link, message(2), function() hold = durable.hold() end)
  link:answer()
  sm.tick()
  check.equal(acks(session), {})
  now = now + 1
  sm.tick()
  check.equal(acks(session), { 1 })
  sm.tick()
  check.equal(acks(session), { 1 })
  hold(true)
  check.equal(acks(session), { 1, 2 })
  clock.mono = mono
  link:close()
end)

check.test("what could not be kept is told to the sender, and counts then", function()
  local link, session = link_of()
  local hold
  handle(link, message(7), function() hold = durable.hold() end)
  link:answer()
  hold(false, "disk full")
  check.equal(acks(session), { 1 })
  local err
  for _, x in ipairs(session.sent) do err = err or x:match "<message [^>]*type='error'.*" end
  check.ok(err and err:find("id='7'", 1, true) and err:find("<internal-server-error", 1, true), err)
  link:close()
end)

check.test("who sends faster than the disk writes is made to wait", function()
  local link = link_of()
  local holds = {}
  for n = 1, 256 do handle(link, message(n), function() holds[n] = durable.hold() end) end
  local went_on
  task.spawn(function()
    link:room()
    went_on = true
  end)
  check.equal(went_on, nil)
  holds[2](true)
  check.equal(went_on, nil)
  holds[1](true)
  check.equal(went_on, true)
  for n = 3, 256 do holds[n](true) end
  check.equal(link.handled, 256)
  link:close()
end)

check.test("a clean end waits for acknowledgements and for what is not settled; for nothing if nobody acknowledges", function()
  local link, session = link_of()
  local result
  local function quiet(seconds)
    result = nil
    task.spawn(function() result = link:quiet(seconds) end)
    return result
  end
  check.equal({ link:open(), quiet(5) }, { false, true })
  link.queue:add(message(1))
  local release
  handle(link, message(1), function() release = durable.hold() end)
  check.equal({ link:open(), quiet(5) == nil }, { true, true })
  check.equal(session.sent[#session.sent], link.question)
  check.ok(link:ack(1))
  check.equal(result, nil)                       -- the stanza that came is still under way
  release(true)
  check.equal({ result, link:open() }, { true, false })
  link.queue:add(message(2))
  check.equal(quiet(5), nil)
  session.peer_ended = true                      -- who has said all acknowledges nothing more
  link:hurry()
  check.equal({ result, link:open() }, { true, false })
  link:close()
end)

check.test("what comes before the other side counts is not counted", function()
  local link = link_of()
  link.deaf = true
  check.equal({ link:begin(message(1)), link.received }, { nil, 0 })
  link.deaf = false
  check.ok(link:begin(message(2)))
  check.equal(link.received, 1)
  link:close()
end)

check.test("settle waits, but not for ever", function()
  local link = link_of()
  local hold, result
  handle(link, message(1), function() hold = durable.hold() end)
  task.spawn(function() result = link:settle(5) end)
  check.equal(result, nil)
  hold(true)
  check.equal(result, true)
  handle(link, message(2), function() hold = durable.hold() end)
  task.spawn(function() result = link:settle(0) end)
  check.equal(result, false)
  hold(true)
  link:close()
end)

check.test("limits, in stanzas and in bytes", function()
  local queue = unacked.new({}, "<r/>")
  queue:limits(2, 1000)
  queue:add "<message/>"
  queue:add "<message/>"
  check.equal({ queue:full(), queue:bytes() }, { false, 20 })
  queue:add "<message/>"
  check.equal(queue:full(), true)
  queue:ack(3)
  queue:add("<message>" .. ("x"):rep(1000) .. "</message>")
  check.equal(queue:full(), true)
  queue:clear()
  check.equal({ #queue, queue:bytes(), queue:sent(), queue:acked() }, { 0, 0, 4, 4 })
end)

check.test("what waits is seen as stanzas, parsed when looked at", function()
  local link = link_of()
  for n = 1, 3 do link.queue:add(message(n)) end
  local view = link:stanzas()
  check.equal({ #view, view:count_unacked(), view[2].attr.id, view[4] }, { 3, 3, "2", nil })
  local ids = {}
  for i, stanza in ipairs(view) do ids[i] = stanza.attr.id end
  check.equal(ids, { "1", "2", "3" })
  ids = {}
  for i, stanza in view:resume() do ids[i] = stanza.attr.id end
  check.equal(ids, { "1", "2", "3" })
  link:close()
end)

check.test("acknowledged stanzas are told to who wants them", function()
  local link = link_of()
  local seen = {}
  link.wants_acked = function() return true end
  link.on_ack = function(_, list)
    for _, bytes in ipairs(list) do seen[#seen + 1] = sm.stanza(bytes).attr.id end
  end
  for n = 1, 4 do link.queue:add(message(n)) end
  check.ok(link:ack(3))
  check.equal(link:ack(9), false)
  check.equal(seen, { "1", "2", "3" })
  link:close()
end)

check.test("queues that stay full are noticed, those that wait longest first", function()
  unacked.due(0)
  local a, b, c = unacked.new("a"), unacked.new("b"), unacked.new("c")
  for _, q in ipairs { b, a, c } do q:add "<message/>" end
  a:ack(1)
  check.equal(unacked.due(60), {})
  check.equal(unacked.due(0), { "b", "c" })
  check.equal(unacked.due(0), {})
  c:watch()
  a:watch()
  check.equal(unacked.due(0), { "c" })
end)

-- Both sides of a stream as lists of numbers; the network may lose everything that is under way.
check.test("random sending, acknowledging, loss and resumption: everything arrives once and in order", function()
  for _ = 1, 200 do
    local queue = unacked.new({})
    local start = math.random(0, 1) == 1 and MASK - math.random(0, 20) or 0
    queue:start(start)
    local sent, got, wire = 0, {}, {}          -- wire: what has left and not arrived
    local told                                 -- the peer's last <a/>, under way
    for _ = 1, math.random(1, 200) do
      local what = math.random(6)
      if what <= 2 then
        sent = sent + 1
        check.ok(queue:add(("<message id='%d'/>"):format(sent)))
        wire[#wire + 1] = sent
      elseif what == 3 and wire[1] then
        got[#got + 1] = table.remove(wire, 1)
      elseif what == 4 then
        told = (start + #got) & MASK
      elseif what == 5 and told then
        check.ok(queue:ack(told))
        told = nil
      elseif what == 6 then                    -- the connection breaks; the peer says what it has
        wire, told = {}, nil
        check.ok(queue:ack((start + #got) & MASK))
        for i = 1, #queue do wire[i] = math.tointeger(tonumber(queue:get(i):match "id='(%d+)'")) end
      end
      check.ok(#queue >= sent - #got)
      check.equal(queue:sent(), (start + sent) & MASK)
    end
    check.equal(queue:ack((start + sent + 1) & MASK), nil)
    for _, n in ipairs(wire) do got[#got + 1] = n end
    check.equal(#got, sent)
    for i = 1, sent do check.equal(got[i], i) end
  end
end)

check.test("random order of settling: never acknowledged before all that came earlier is kept", function()
  for _ = 1, 200 do
    local link, session = link_of()
    local open, settled, n = {}, {}, 0
    for _ = 1, math.random(1, 100) do
      local what = math.random(4)
      if what <= 2 then
        n = n + 1
        local number, holds = n, math.random(0, 2)
        settled[number] = holds == 0
        handle(link, message(number), function()
          for _ = 1, holds do open[#open + 1] = { number, durable.hold() } end
        end)
      elseif what == 3 and open[1] then
        local one = table.remove(open, math.random(#open))
        local more = false
        for _, other in ipairs(open) do more = more or other[1] == one[1] end
        settled[one[1]] = not more
        one[2](math.random(10) > 1, "a fault")
      else
        link:answer()
      end
      local prefix = 0
      while settled[prefix + 1] do prefix = prefix + 1 end
      check.equal(link.handled, prefix)
      local list = acks(session)
      check.ok((list[#list] or 0) <= prefix)
    end
    for _, one in ipairs(open) do one[2](true) end
    check.equal({ link.handled, link.received, link.ahead }, { n, n })
    link:answer()
    local list = acks(session)
    check.equal(list[#list], n)
    for i = 2, #list do check.ok(list[i] >= list[i - 1]) end
    link:close()
  end
end)

check.done()
