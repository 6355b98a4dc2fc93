-- SPDX-License-Identifier: MIT
-- Connections, without a server around them: our own client half (raw, or XML) against our listeners in one process.
-- Everything runs with 0, 1 and 2 I/O threads (tests/lua/net_*test.lua) and must not notice.

local check = require "check"
local core = require "couplet.core"
local st = require "couplet.stanza"
local net, loop, unacked = core.net, core.loop, core.unacked

net.setup { io_threads = ... }

local SLOW = (os.getenv "COUPLET_WRAP" or ""):find "san" and 5 or 1     -- sanitizers take their time

-- --- tools ---

local function wait(what, condition, seconds)
  local over = false
  local timer = loop.timer((seconds or 10) * SLOW, function() over = true end)
  while not condition() do
    if over then error("waited in vain: " .. what, 2) end
    loop.once()
  end
  timer:stop()
end

local function pass(seconds)
  local over = false
  loop.timer(seconds, function() over = true end)
  while not over do loop.once() end
end

local HEADER = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='localhost' "
  .. "version='1.0'>"
local names = 0

-- What a connection told: its data are pieces until somebody looks (one string that grows megabyte by megabyte takes a
-- sanitizer half a minute).
local told = { __index = function(o, k)
  if k ~= "data" then return nil end
  o.pieces = { table.concat(o.pieces) }
  return o.pieces[1]
end }

-- A class whose connections write down what happens to them. handlers: what to do besides.
local function class(handlers)
  names = names + 1
  local name = "class" .. names
  local list = {}
  local function of(c)
    local o = c:session()
    if not o then
      o = setmetatable({ conn = c, events = {}, elements = {}, pieces = {}, got = 0 }, told)
      c:session(o)
      list[#list + 1] = o
    end
    return o
  end
  local on = { xmlns = handlers.xmlns }
  for _, event in ipairs { "opened", "secured", "stream", "element", "ended", "error", "data", "bytes", "idle", "drained",
    "closed" } do
    if event ~= "drained" or handlers.drained then
      on[event] = function(c, a, b)
        local o = of(c)
        o.events[#o.events + 1] = event
        if event == "element" then o.elements[#o.elements + 1] = tostring(a) end
        if event == "data" then
          o.pieces[#o.pieces + 1] = a
          o.got = o.got + #a
        end
        if event == "closed" then o.reason = a end
        if event == "error" then o.condition, o.text = a, b end
        if handlers[event] then handlers[event](c, a, b, o) end
        if event == "data" and not handlers.data then c:done() end
      end
    end
  end
  net.on(name, on)
  return name, list, of
end

local function echo(handlers)
  handlers = handlers or {}
  return class(setmetatable({}, { __index = function(_, k)
    if handlers[k] then return handlers[k] end
    if k == "stream" then return function(c) c:send(HEADER) c:done() end end
    if k == "element" then return function(c, s) c:send(s) c:done() end end
    if k == "ended" then return function(c) c:send "</stream:stream>" c:done() c:close() end end
    if k == "error" then return function(c) c:done() c:close() end end
  end }))
end

local function listen(name, options)
  local o = { address = "127.0.0.1", port = 0, class = name }
  for k, v in pairs(options or {}) do o[k] = v end
  return assert(net.listen(o))
end

local client_name, _, client_of = class {}

local function connect(listener, options)
  -- no deadline: every wait has one
  local o = { address = "127.0.0.1", port = listener:port(), class = client_name, mode = "raw", deadline = 0 }
  for k, v in pairs(options or {}) do o[k] = v end
  return client_of(assert(net.connect(o)))
end

local function has(o, event)
  for _, e in ipairs(o.events) do if e == event then return true end end
  return false
end

local function wait_closed(o, seconds) wait("closed", function() return o.reason end, seconds) end
-- The peer's end is told when everything before it is handled.
local function wait_handled(o)
  for _ = 1, #o.events do o.conn:done() end
  wait_closed(o)
end
local function wait_data(o, pattern, seconds) wait(pattern, function() return o.data:find(pattern, 1, true) end, seconds) end

local crt, key = core.system.make_certificate({ "localhost" }, 2)
local other_crt, other_key = core.system.make_certificate({ "other.example" }, 2)
assert(key and other_key)

-- The first name in a certificate.
local function named(der)
  local x = core.crypto.x509_parse(der)
  return x.dns_names[1] or x.common_names[1]
end

local function with_file(text, fn)
  local path = os.tmpname()
  local f = assert(io.open(path, "w"))
  f:write(text)
  f:close()
  local ok, err = pcall(fn, path)
  os.remove(path)
  if not ok then error(err, 0) end
end

local function context(o)
  o = o or {}
  o.certificate, o.key = o.certificate or crt, o.key or key
  return assert(net.tls_context(o))
end
local client_context = assert(net.tls_context {})

-- --- plain ---

check.test("a stanza comes back", function()
  local name, list = echo()
  local l <close> = setmetatable({ l = listen(name) }, { __close = function(s) s.l:close() end })
  local c = connect(l.l)
  wait("opened", function() return has(c, "opened") end)
  c.conn:send(HEADER .. "<message to='a@b'><body>hi</body></message>")
  wait_data(c, "</message>")
  check.ok(c.data:find("<message to='a@b'><body>hi</body></message>", 1, true))
  c.conn:send "</stream:stream>"
  wait_closed(c)
  wait_closed(list[1])
  check.equal(list[1].events, { "opened", "stream", "element", "ended", "closed" })
  check.equal(list[1].conn:send "x", false)
  check.equal(list[1].conn:ip(), "127.0.0.1")
end)

check.test("byte by byte, and cut at the end of a stanza", function()
  local name, list = echo()
  local l = listen(name)
  local c = connect(l)
  wait("opened", function() return has(c, "opened") end)
  local text = HEADER .. "<presence/><iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>"
  for i = 1, #text do
    c.conn:send(text:sub(i, i))
    loop.poll()
  end
  wait_data(c, "</iq>")
  check.equal(list[1].elements, { "<presence/>", "<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>" })
  c.conn:abort()
  wait_closed(list[1])
  l:close()
end)

check.test("what is no XMPP is an error, and the answer still arrives", function()
  local name, list = echo { error = function(c, condition)
    c:done()
    c:send("<" .. condition .. "/>")
    c:close()
  end }
  local l = listen(name)
  local c = connect(l)
  wait("opened", function() return has(c, "opened") end)
  c.conn:send(HEADER .. "<a></b>" .. ("x"):rep(100000))
  wait_closed(c)
  check.ok(c.data:find "<not%-well%-formed/>" or c.data:find "<bad%-format/>", c.data)
  wait_closed(list[1])
  l:close()
end)

check.test("the window stops the reading, done() opens it", function()
  local name, list = class { stream = function(c) c:window(3) c:done() end }
  local l = listen(name)
  local c = connect(l)
  wait("opened", function() return has(c, "opened") end)
  for i = 1, 20 do c.conn:send((i == 1 and HEADER or "") .. ("<message id='%d'/>"):format(i)) end
  wait("three", function() return list[1] and #list[1].elements == 3 end)
  pass(0.05)
  check.equal(#list[1].elements, 3)
  list[1].conn:done()
  pass(0.05)
  check.equal(#list[1].elements, 3)            -- half of the window must be free
  list[1].conn:done()
  wait("five", function() return #list[1].elements == 5 end)
  pass(0.05)
  check.equal(#list[1].elements, 5)
  while #list[1].elements < 20 do
    list[1].conn:done()
    pass(0.001)
  end
  check.equal(list[1].elements[20], "<message id='20'/>")
  c.conn:abort()
  wait_handled(list[1])
  l:close()
end)

check.test("before authentication it is lock-step; with its header comes what was sent along", function()
  local name, list = class {}
  local l = listen(name)
  local c = connect(l)
  wait("opened", function() return has(c, "opened") end)
  c.conn:send(HEADER .. "<a/><b/>")
  wait("header, a", function() return list[1] and has(list[1], "stream") and #list[1].elements == 1 end)
  list[1].conn:done()
  pass(0.05)
  check.equal(#list[1].elements, 1)
  list[1].conn:restart()
  list[1].conn:done()
  -- <b/> is where a new stream should begin
  wait("error", function() return list[1].condition end)
  c.conn:abort()
  wait_handled(list[1])
  l:close()
end)

check.test("pause and resume", function()
  local name, list = echo()
  local l = listen(name)
  local c = connect(l)
  wait("opened", function() return has(c, "opened") and list[1] end)
  list[1].conn:pause()
  pass(0.02)
  c.conn:send(HEADER)
  pass(0.1)
  check.ok(not has(list[1], "stream"))
  list[1].conn:resume()
  wait("stream", function() return has(list[1], "stream") end)
  c.conn:abort()
  wait_closed(list[1])
  l:close()
end)

check.test("half-closed: what came before the end is answered", function()
  local name, list = class { stream = function(c) c:window(10) c:send(HEADER) c:done() end }
  local l = listen(name)
  local c = connect(l)
  wait("opened", function() return has(c, "opened") end)
  c.conn:send(HEADER .. "<message id='1'/><message id='2'/>")
  c.conn:close(5)                              -- sends its end, and waits for ours
  wait("two", function() return list[1] and #list[1].elements == 2 end)
  pass(0.05)
  check.ok(not list[1].reason)
  list[1].conn:send "<late/>"
  list[1].conn:done()
  list[1].conn:done()
  wait_closed(list[1])
  check.equal(list[1].reason, "peer closed")
  wait_closed(c)
  l:close()
end)

check.test("a reset in any phase ends it", function()
  local name, list = echo()
  local l = listen(name)
  local texts = { "", "<stream", HEADER, HEADER .. "<mess", HEADER .. "<message/>" }
  for i, text in ipairs(texts) do
    local c = connect(l)
    wait("opened", function() return has(c, "opened") end)
    c.conn:send(text)
    wait("seen", function() return list[i] end)
    pass(0.01)
    c.conn:abort()
    wait_closed(list[i])
  end
  l:close()
end)

check.test("nobody there, and nobody answering", function()
  local l = listen((echo()))
  local port = l:port()
  l:close()
  local c, err = net.connect { address = "127.0.0.1", port = port, class = client_name, mode = "raw" }
  if c then
    local o = client_of(c)
    wait_closed(o)
    check.ok(o.reason:find "refused", o.reason)
    check.ok(not has(o, "opened"))
  else
    check.ok(err:find "refused", err)
  end
end)

check.test("a dial given up before it began", function()
  local name = echo()
  local l = listen(name)
  local c = connect(l)
  c.conn:abort()
  wait_closed(c)
  check.ok(not has(c, "opened"))
  l:close()
end)

check.test("a reset in any phase of TLS ends it", function()
  local ctx = context()
  for _, phase in ipairs { "opened", "hello", "secured", "half a stanza" } do
    local name, list = echo()
    local l = listen(name, { tls = ctx })
    local c = connect(l, phase ~= "opened" and { tls = client_context } or nil)
    wait("opened", function() return has(c, "opened") end)
    if phase == "secured" or phase == "half a stanza" then
      wait("secured", function() return has(c, "secured") and list[1] and has(list[1], "secured") end)
    end
    if phase == "half a stanza" then
      c.conn:send(HEADER .. "<message><bo")
      wait("header", function() return has(list[1], "stream") end)
    end
    c.conn:abort()
    wait("server's end", function() return list[1] and list[1].reason end)
    l:close()
  end
end)

check.test("a stream goes on after its parser was given back", function()
  local name, list = echo()
  local l = listen(name)
  local c = connect(l)
  wait("opened", function() return has(c, "opened") end)
  c.conn:send(HEADER .. "<message id='1'/>")
  wait_data(c, "id='1'")
  pass(4.5)
  c.conn:send "<message id='2'/>"
  wait_data(c, "id='2'")
  c.conn:abort()
  wait_closed(list[1])
  l:close()
end)

-- --- output ---

check.test("who never reads is bounded", function()
  local name, list = class {}
  local l = listen(name, { limits = { max_send_buffer = 1 << 20 } })
  local c = connect(l)
  wait("opened", function() return has(c, "opened") and list[1] end)
  c.conn:pause()
  local block = net.block(("x"):rep(65536))
  for _ = 1, 400 do
    list[1].conn:send(block)
    loop.poll()
    if list[1].reason then break end
  end
  wait_closed(list[1])
  check.equal(list[1].reason, "send buffer full")
  check.equal(list[1].conn:send "x", false)
  c.conn:abort()
  wait_closed(c)
  l:close()
end)

check.test("who takes nothing for too long is cut off", function()
  local name, list = class {}
  local l = listen(name, { limits = { max_send_buffer = 32 << 20, send_timeout = 1 } })
  local c = connect(l)
  wait("opened", function() return has(c, "opened") and list[1] end)
  c.conn:pause()
  list[1].conn:send(("x"):rep(16 << 20))
  wait_closed(list[1])
  check.equal(list[1].reason, "send timeout")
  c.conn:abort()
  wait_closed(c)
  l:close()
end)

check.test("much arrives whole and in order, and drained tells", function()
  local name, list = class { drained = function() end, stream = function(c) c:done() end }
  local l = listen(name, { limits = { max_send_buffer = 32 << 20 } })
  local c = connect(l)
  wait("opened", function() return has(c, "opened") and list[1] end)
  check.equal(list[1].conn:owes(), false)
  list[1].conn:send "unasked"
  wait("unasked", function() return c.got == 7 end)
  c.conn:send(HEADER)                          -- read after all that was to be done about the bytes before
  wait("stream", function() return has(list[1], "stream") end)
  check.equal(list[1].conn:owes(), false)
  check.ok(not has(list[1], "drained"))
  net.every_drained(name, true)
  list[1].conn:send "told"
  wait("told of each", function() return has(list[1], "drained") end)
  net.every_drained(name, false)
  list[1].events = {}
  local parts = {}
  for i = 1, 3000 do parts[i] = ("%06d"):format(i) .. ("."):rep(i) end
  for i = 1, #parts do list[1].conn:send(parts[i]) end
  check.equal(list[1].conn:owes(), true)
  local want = "unaskedtold" .. table.concat(parts)
  wait("all", function() return c.got >= #want end, 20)
  check.ok(c.data == want)
  wait("drained", function() return has(list[1], "drained") end)
  check.equal(list[1].conn:owes(), false)
  for _ = 1, 3 do                              -- one told while more is sent does not count for that
    list[1].events = {}
    net.multicast({ list[1].conn }, "x")
    list[1].conn:send "y"
    list[1].conn:send ""
    check.equal(list[1].conn:owes(), true)
    wait("drained", function() return has(list[1], "drained") end)
    check.equal(list[1].conn:owes(), false)
  end
  c.conn:abort()
  wait_closed(list[1])
  l:close()
end)

check.test("one stanza to many, each with its own address", function()
  local name, list = class {}
  local l = listen(name)
  local clients, conns = {}, {}
  for i = 1, 5 do clients[i] = connect(l) end
  wait("five", function() return #list == 5 end)
  for i = 1, 5 do conns[i] = list[i].conn end
  local stanza = st.message({ from = "room@x/me", to = "room@x" }):tag("body"):text("hi"):up()
  check.equal(net.multicast(conns, stanza, { "a@b/1", "a@b/'&<", false, "d" }), 5)
  check.equal(net.multicast(conns, "!"), 5)
  for i = 1, 5 do wait_data(clients[i], "!") end
  local seen = {}
  for i = 1, 5 do seen[clients[i].data:match "to='(.-)'" or ""] = true end
  check.equal(seen, { ["a@b/1"] = true, ["a@b/&apos;&amp;&lt;"] = true, d = true, [""] = true })
  local block = net.block(stanza)
  check.equal(#block, #tostring(stanza))
  for i = 1, 5 do clients[i].conn:abort() end
  for i = 1, 5 do wait_closed(list[i]) end
  check.equal(net.multicast(conns, stanza), 0)
  l:close()
end)

check.test("many stanzas to one, in one piece and in several", function()
  local name, list = class {}
  local l = listen(name)
  local c = connect(l)
  wait("one", function() return list[1] end)
  local blocks = {}
  for i = 1, 9 do blocks[i] = i ~= 4 and net.block(st.presence { from = "room@x/" .. i, to = "else@x" }, nil, true) end
  local function text(first, last)
    local out = {}
    for i = first, last do
      if blocks[i] then out[#out + 1] = ("<presence to='it&apos;s@x' from='room@x/%d'/>"):format(i) end
    end
    return table.concat(out)
  end
  check.equal(net.batch(list[1].conn, blocks, "it's@x"), nil)
  wait("all", function() return #c.data >= #text(1, 9) end)
  check.equal(c.data, text(1, 9))
  check.equal(net.batch(list[1].conn, blocks, "it's@x", 3, 60), 6)         -- the third, nothing, the fifth: that is enough
  check.equal(net.batch(list[1].conn, blocks, "it's@x", 6, 1000000), nil)
  wait("the rest", function() return #c.data >= #text(1, 9) + #text(3, 9) end)
  check.equal(c.data, text(1, 9) .. text(3, 9))
  local queue = unacked.new {}                                              -- each is kept by itself
  list[1].conn:track(queue)
  check.equal(net.batch(list[1].conn, blocks, "it's@x", 1, 1000000), nil)
  check.equal(#queue, 8)
  check.equal(queue:get(1), text(1, 1))
  check.raises("block", net.batch, list[1].conn, { "text" }, "a@b")
  check.raises("block of a stanza", net.batch, list[1].conn, { net.block "text" }, "a@b")
  c.conn:abort()
  wait_closed(list[1])
  check.equal(net.batch(list[1].conn, blocks, "a@b"), nil)                  -- into the queue alone
  check.equal(#queue, 16)
  l:close()
end)

check.test("what may wait goes with what may not, or after a moment", function()
  local name, list = class {}
  local l = listen(name)
  local clients, conns = {}, {}
  for i = 1, 3 do clients[i] = connect(l) end
  wait("three", function() return #list == 3 end)
  for i = 1, 3 do conns[i] = list[i].conn end
  local stanza = st.presence { from = "room@x/me" }
  for i = 1, 20 do
    stanza.attr.id = tostring(i)
    check.equal(net.multicast(conns, stanza, { "a", "b", "c" }, true), 3)
  end
  conns[1]:send "!"                            -- in order
  for i = 1, 3 do
    wait_data(clients[i], "id='20'")
    check.equal(select(2, clients[i].data:gsub("<presence", "")), 20)
  end
  local n = 0
  for i = 1, 3 do n = n + (clients[i].data:sub(-1) == "!" and 1 or 0) end
  check.equal(n, 1)
  net.multicast(conns, stanza, nil, true)      -- ends while something waits
  for i = 1, 3 do clients[i].conn:abort() end
  for i = 1, 3 do wait_closed(list[i]) end
  l:close()
end)

check.test("who has sent on gets what more() was said of along with the answer, or after a moment", function()
  local name, list = class { stream = function(c)
    c:more()
    c:send "features "
    c:done()
  end }
  local l = listen(name)
  local function says(text)
    local c = connect(l)
    wait("opened", function() return has(c, "opened") end)
    c.conn:send(text)
    return c
  end
  -- at once: the space behind the header, as some clients send it, says nothing
  local quick
  for _ = 1, 50 do
    local began, c = loop.mono(), says(HEADER .. "\r\n ")
    wait_data(c, "features ")
    quick = loop.mono() - began < 0.09
    c.conn:abort()
    wait("closed", function() return list[#list].reason end)
    if quick then break end
  end
  check.ok(quick)
  local waits = says(HEADER)
  wait_data(waits, "features ")
  local first = list[#list]

  local seen
  for _ = 1, 50 do                               -- until this process was not kept waiting itself
    local began, c = loop.mono(), says(HEADER .. "<a/>")
    local o
    wait("<a/>", function()
      o = list[#list]
      return o ~= first and #o.elements == 1
    end)
    pass(0.02)
    local data = c.data
    if loop.mono() - began < 0.09 then seen = data end
    o.conn:send "answer"
    wait_data(c, "answer")
    check.equal(c.data, "features answer")
    c.conn:abort()
    o.conn:done()
    wait_closed(o)
    if seen then break end
  end
  check.equal(seen, "")

  local c = says(HEADER .. "<a/>")
  wait_data(c, "features ")                      -- nobody answers <a/>
  for _, one in ipairs { c, waits } do one.conn:abort() end
  wait("closed", function() return first.reason end)
  l:close()
end)

-- --- time ---

check.test("deadline, and idle", function()
  local name, list = class { opened = function(c) c:deadline(0.3) c:idle_after(0.1) end }
  local l = listen(name)
  local c = connect(l)
  wait_closed(c)
  wait_closed(list[1])                         -- its end is told to each side by its own thread
  check.equal(list[1].reason, "deadline")
  check.ok(has(list[1], "idle"))
  l:close()
  local name2, list2 = class {}
  local l2 = listen(name2, { deadline = 0.2 })
  local c2 = connect(l2)
  wait_closed(c2)
  wait_closed(list2[1])
  check.equal(list2[1].reason, "deadline")
  l2:close()
end)

check.test("bytes a second", function()
  local name, list = echo { stream = function(c) c:window(1000, 1 << 20) c:done() end, element = function(c) c:done() end }
  local l = listen(name, { limits = { rate = 20000, burst = 5000 } })
  local c = connect(l)
  wait("opened", function() return has(c, "opened") end)
  local started = loop.mono()
  c.conn:send(HEADER .. ("<message><body>%s</body></message>"):format(("x"):rep(100)):rep(100))     -- 13.4 KB
  wait("all", function() return list[1] and #list[1].elements == 100 end)
  local took = loop.mono() - started
  check.ok(took > 0.25 and took < 3 * SLOW, took)
  check.ok(net.stats().read_throttled > 0)
  c.conn:abort()
  wait_closed(list[1])
  l:close()
end)

-- --- who may come in ---

check.test("so many at once, so many a second, so many of an address", function()
  local function admitted(options)
    local name, list = class {}
    local l = listen(name, options)
    local clients, refused = {}, 0
    for i = 1, 6 do clients[i] = connect(l) end
    wait("six", function()
      refused = 0
      for i = 1, 6 do if clients[i].reason then refused = refused + 1 end end
      return refused + #list == 6
    end)
    for i = 1, 6 do clients[i].conn:abort() wait_closed(clients[i]) end
    for i = 1, #list do wait_closed(list[i]) end
    local again
    if options.max_per_ip or options.max_connections then        -- room again
      pass(0.02)
      again = connect(l)
      wait("again", function() return #list == 7 - refused or again.reason end)
      check.ok(not again.reason)
      again.conn:abort()
      wait_closed(again)
    end
    l:close()
    return 6 - refused
  end
  check.equal(admitted { max_connections = 2 }, 2)
  check.equal(admitted { max_per_ip = 3 }, 3)
  check.equal(admitted { rate = { per_ip = 1, period = 3600, burst = 4 } }, 4)
  check.equal(admitted {}, 6)
end)

-- --- TLS ---

local function tls_pair(listener_options, client_options, handlers)
  local name, list = echo(handlers)
  local l = listen(name, listener_options)
  local c = connect(l, client_options)
  return l, c, list
end

check.test("direct TLS, and what is known of it", function()
  for _, version in ipairs { "TLSv1.2", "TLSv1.3" } do
    local l, c, list = tls_pair({ tls = context { max_version = version }, alpn = "xmpp-client" },
      { tls = client_context, alpn = "xmpp-client", server_name = "localhost" })
    wait("secured", function() return has(c, "secured") end)
    c.conn:send(HEADER .. "<message/>")
    wait_data(c, "<message/>")
    local a, b = c.conn:tls(), list[1].conn:tls()
    check.equal(a.version, version)
    check.equal(b.version, version)
    check.equal(a.cipher, b.cipher)
    check.equal({ a.alpn, b.alpn, b.sni }, { "xmpp-client", "xmpp-client", "localhost" })
    check.equal(a.bindings, b.bindings)
    check.equal(#b.bindings["tls-server-end-point"], 32)
    check.equal(b.bindings["tls-unique"] ~= nil, version == "TLSv1.2")
    check.equal(b.peer_cert, nil)
    check.ok(#a.peer_cert > 100)
    local k1, k2
    c.conn:export_key("EXPERIMENTAL-x", 20, "ctx", function(k) k1 = k end)
    list[1].conn:export_key("EXPERIMENTAL-x", 20, "ctx", function(k) k2 = k end)
    wait("keys", function() return k1 and k2 end)
    check.ok(#k1 == 20 and k1 == k2)
    c.conn:close()
    wait_closed(c)
    wait_closed(list[1])
    check.equal(list[1].reason, "peer closed")
    local gone
    list[1].conn:export_key("x", 20, nil, function(k, err) gone = err or k end)
    wait("answer", function() return gone end)
    check.equal(gone, "no keys to export")
    l:close()
  end
end)

check.test("STARTTLS, with clear bytes behind it thrown away", function()
  local ctx = context()
  local name, list = echo { element = function(c, s)
    if s.name == "starttls" then
      c:send "<proceed/>"
      c:starttls(ctx)
    else
      c:send(s)
    end
    c:done()
  end }
  local l = listen(name)
  local c = connect(l)
  wait("opened", function() return has(c, "opened") end)
  c.conn:send(HEADER .. "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/><message id='evil'/>" .. ("x"):rep(20000))
  wait_data(c, "<proceed/>")
  c.conn:starttls(client_context, "localhost")
  wait("secured", function() return has(c, "secured") end)
  check.ok(c.conn:tls().version)
  c.pieces = {}
  c.conn:send(HEADER .. "<message id='good'/>")
  wait_data(c, "good")
  check.equal(#list[1].elements, 2)
  check.equal(list[1].elements[2], "<message id='good'/>")
  check.ok(not c.data:find "evil")
  c.conn:close()
  wait_closed(list[1])
  l:close()
end)

check.test("a certificate for each name", function()
  local ctx = context()
  local other = context { certificate = other_crt, key = other_key }
  ctx:host("other.example", other)
  ctx:host("*.wild.example", other)
  ctx:host("localhost", ctx)
  local l = listen((echo()), { tls = ctx })
  local function served(name)
    local c = connect(l, { tls = client_context, server_name = name })
    wait("secured", function() return has(c, "secured") end)
    local der = c.conn:tls().peer_cert
    c.conn:abort()
    wait_closed(c)
    return named(der)
  end
  local rows = { { "localhost", "localhost" }, { "other.example", "other.example" }, { "OTHER.example", "other.example" },
    { "a.wild.example", "other.example" }, { "wild.example", "localhost" }, { "unknown", "localhost" } }
  for _, row in ipairs(rows) do check.equal(served(row[1]), row[2], row[1]) end
  ctx:host("other.example", nil)
  check.equal(served "other.example", "localhost")
  -- a new certificate for connections from now on
  l:tls(other)
  pass(0.05)
  check.equal(served "localhost", "other.example")
  l:close()
end)

check.test("a handshake that fails closes it and says why", function()
  local before = net.stats().handshakes_failed
  local rows = {
    { what = "ALPN", listener = { tls = context(), alpn = "xmpp-client" }, client = { tls = client_context, alpn = "http/1.1" },
      reason = "application protocol" },
    { what = "version", listener = { tls = context { min_version = "TLSv1.3" } },
      client = { tls = assert(net.tls_context { max_version = "TLSv1.2" }) }, reason = "unsupported protocol" },
    { what = "cipher", listener = { tls = context { max_version = "TLSv1.2", ciphers = "ECDHE-ECDSA-AES128-GCM-SHA256" } },
      client = { tls = assert(net.tls_context { ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384" }) }, reason = "cipher" },
    { what = "no client certificate", listener = { tls = context { verify = "require" } }, client = { tls = client_context },
      reason = "certificate" },
    { what = "no TLS", listener = { tls = context() }, client = {}, send = HEADER, reason = "TLS handshake failed" },
    { what = "gone", listener = { tls = context() }, client = {}, send = "\22\3\1", close = true, reason = "during the TLS" },
  }
  for _, row in ipairs(rows) do
    local l, c, list = tls_pair(row.listener, row.client)
    wait("opened", function() return has(c, "opened") end)
    if row.send then c.conn:send(row.send) end
    if row.close then c.conn:close() end
    wait("server's end of " .. row.what, function() return list[1] and list[1].reason end)
    check.ok(list[1].reason:lower():find(row.reason:lower(), 1, true), row.what .. ": " .. list[1].reason)
    check.ok(not has(list[1], "secured"), row.what)
    wait_closed(c)
    l:close()
  end
  check.ok(net.stats().handshakes_failed >= before + #rows)
end)

check.test("client certificates are shown, and what is wrong with them", function()
  local with = assert(net.tls_context { certificate = other_crt, key = other_key })
  for _, version in ipairs { "TLSv1.2", "TLSv1.3" } do
    for _, ca in ipairs { crt, other_crt } do with_file(ca, function(path)
      local l, c, list = tls_pair({ tls = context { verify = "request", ca_file = path, max_version = version } }, { tls = with })
      wait("secured", function() return list[1] and has(list[1], "secured") end)
      local t = list[1].conn:tls()
      check.equal(named(t.peer_cert), "other.example")
      check.equal(#t.verify_errors > 0, ca == crt)
      c.conn:abort()
      wait_closed(list[1])
      l:close()
    end) end
  end
end)

check.test("certificates that cannot be used are refused with a reason", function()
  local rows = {
    { { certificate = "/nowhere/none.crt" }, "no such file" },
    { { certificate = crt, key = other_key }, "key" },
    { { certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" }, "certificate" },
    { { certificate = crt, key = key, ciphers = "NONSENSE" }, "ciphers" },
    { { certificate = crt, key = key, min_version = "SSLv3" }, "min_version" },
    { { certificate = crt, key = key, curves = "nonsense" }, "curves" },
    { { verify = "request", ca_file = "/nowhere/none.crt" }, "ca_file" },
  }
  for i, row in ipairs(rows) do
    local ctx, err = net.tls_context(row[1])
    check.ok(not ctx and err:find(row[2]), i .. ": " .. tostring(err))
  end
  with_file(crt, function(crt_path)
    with_file(key, function(key_path) check.ok(net.tls_context { certificate = crt_path, key = key_path }) end)
  end)
end)

check.test("TLS and a full window: nothing is lost", function()
  for _, tls in ipairs { false, true } do
    local n = 0
    local name, list
    name, list = class { stream = function(c) c:window(2, 4096) c:done() end }
    local l = listen(name, tls and { tls = context() } or {})
    local c = connect(l, tls and { tls = client_context } or {})
    wait("opened", function() return has(c, tls and "secured" or "opened") end)
    c.conn:send(HEADER)
    local text = {}
    for i = 1, 2000 do text[i] = ("<message id='%d'><body>%s</body></message>"):format(i, ("y"):rep(i % 300)) end
    c.conn:send(table.concat(text))
    wait("all", function()
      local o = list[1]
      while o and n < #o.elements do
        n = n + 1
        o.conn:done()
      end
      return n == 2000
    end, 20)
    for i = 1, 2000 do
      if not list[1].elements[i]:find(("id='%d'"):format(i), 1, true) then error("out of order at " .. i) end
    end
    c.conn:abort()
    wait_closed(list[1])
    l:close()
  end
end)

check.test("compression", function()
  local name, list = echo { element = function(c, s)
    if s.name == "compress" then
      c:send "<compressed/>"
      c:compress "zlib"
    else
      c:send(s)
    end
    c:done()
  end, stream = function(c) c:window(4) c:send(HEADER) c:done() end }
  local l = listen(name)
  local xml_class, _, xml_of = class { element = function(c) c:done() end, stream = function(c) c:window(8) c:done() end }
  local c = xml_of(assert(net.connect { address = "127.0.0.1", port = l:port(), class = xml_class }))
  wait("opened", function() return has(c, "opened") end)
  c.conn:send(HEADER .. "<compress xmlns='http://jabber.org/protocol/compress'/>")
  wait("compressed", function() return #c.elements == 1 end)
  c.conn:compress "zlib"
  c.conn:send(HEADER)
  local text = ("z"):rep(50000)
  for i = 1, 20 do c.conn:send(("<message id='%d'><body>%s</body></message>"):format(i, text)) end
  wait("all", function() return #c.elements == 21 end)
  check.ok(c.elements[21]:find("id='20'", 1, true) and #c.elements[21] > 50000)
  c.conn:abort()
  wait_closed(list[1])
  -- no zlib data
  local r = connect(l)
  wait("opened", function() return has(r, "opened") end)
  r.conn:send(HEADER .. "<compress xmlns='http://jabber.org/protocol/compress'/>")
  wait_data(r, "<compressed/>")
  r.conn:send "<stream:stream>"
  wait("error", function() return list[2].condition end)
  wait_closed(r)
  l:close()
end)

-- --- bytes by way of Lua ---

check.test("tapped bytes are parsed as they are fed, late or at once, in order", function()
  local name, list = echo { bytes = function(c, bytes, _, o)
    o.taken = (o.taken or "") .. bytes
    o.times = (o.times or 0) + 1
    bytes = bytes:gsub("#", "e")
    if o.times % 2 == 0 then c:feed(bytes) else loop.timer(0.002, function() c:feed(bytes) end) end
  end, element = function(c, s)
    if s.attr.id == "1" then c:tap(true) elseif s.attr.id == "59" then c:tap(false) end
    c:send(s)
    c:done()
  end }
  for _, options in ipairs { {}, { tls = context() } } do
    local l = listen(name, options)
    local c = connect(l, options.tls and { tls = client_context })
    wait("opened", function() return has(c, options.tls and "secured" or "opened") end)
    c.conn:send(HEADER .. "<message id='1'/>")
    wait_data(c, "<message id='1'/>")
    local o = list[#list]
    local text = {}
    for i = 2, 59 do text[#text + 1] = ("<m#ssage id='%d'><body>%s</body></m#ssage>"):format(i, ("x"):rep(3000)) end
    text = table.concat(text)
    c.conn:send(text)
    wait_data(c, "<message id='59'>")
    check.equal(#o.taken, #text)
    check.ok(o.times >= 2)
    c.conn:send "<message id='60'/>"
    wait_data(c, "<message id='60'/>")
    check.equal(#o.taken, #text)
    local ids = {}
    for _, e in ipairs(o.elements) do ids[#ids + 1] = tonumber(e:match "id='(%d+)'") end
    for i = 1, 60 do check.equal(ids[i], i) end
    c.conn:abort()
    wait_closed(o)
    l:close()
  end
end)

check.test("nothing is read while tapped bytes are out, and its end is told afterwards", function()
  local name, list = class { opened = function(c) c:tap(true) end }
  net.hold_new(true)                           -- so that its first bytes are seen, whoever is faster
  local l = listen(name)
  local c = connect(l)
  wait("opened", function() return has(c, "opened") end)
  c.conn:send(HEADER .. "<a/>")
  wait("bytes", function() return list[1] and has(list[1], "bytes") end)
  net.hold_new(false)
  c.conn:close(5)
  pass(0.05)
  check.equal(list[1].events, { "opened", "bytes" })
  list[1].conn:feed(HEADER .. "<a/>")
  wait("header", function() return has(list[1], "stream") end)
  list[1].conn:done()
  wait("element", function() return has(list[1], "element") end)
  list[1].conn:feed "<b/>"                     -- nobody asked
  list[1].conn:done()
  wait_closed(list[1])
  check.equal(#list[1].elements, 1)
  l:close()
end)

check.test("tapped bytes from before TLS never come after it", function()
  local late
  local ctx = context()
  local name, list = echo { bytes = function(c, bytes)
    if bytes:find "evil" then late = bytes else c:feed(bytes) end
  end, element = function(c, s)
    if s.name == "starttls" then
      c:tap(true)
      c:send "<proceed/>"
      loop.timer(0.1, function()               -- meanwhile the next bytes have come
        c:starttls(ctx)
        loop.timer(0.05, function() c:feed(late) end)
        c:done()
      end)
    else
      c:send(s)
      c:done()
    end
  end }
  local l = listen(name)
  local c = connect(l)
  wait("opened", function() return has(c, "opened") end)
  c.conn:send(HEADER .. "<starttls/>")
  wait_data(c, "<proceed/>")
  list[1].conn:window(8)                       -- a plugin that forgets the lock-step
  c.conn:send(HEADER .. "<evil/>")
  wait("late", function() return late end)
  c.pieces = {}
  c.conn:starttls(client_context)
  wait("secured", function() return has(c, "secured") and has(list[1], "secured") end)
  c.conn:send(HEADER .. "<good/>")
  wait_data(c, "<good/>")
  check.ok(not c.data:find "evil" and not list[1].condition)
  c.conn:abort()
  wait_closed(list[1])
  l:close()
end)

check.test("bytes nobody takes end the connection", function()
  local name, list = class { opened = function(c) c:tap(true) end, bytes = function() error "no" end }
  local l = listen(name)
  local c = connect(l)
  wait("opened", function() return has(c, "opened") and list[1] end)
  pass(0.02)
  c.conn:send(HEADER)
  wait_closed(c)
  wait_closed(list[1])
  check.equal(list[1].reason, "nobody takes its bytes")
  l:close()
end)

-- --- over and over ---

local function resident()
  for line in io.lines "/proc/self/status" do
    local kb = line:match "^VmRSS:%s+(%d+)"
    if kb then return tonumber(kb) end
  end
end

check.test("connections come and go, and memory stays", function()
  net.on("come-and-go", { closed = function() end })
  net.on("come-and-go-client", { closed = function() end, opened = function(c) c:send(HEADER) c:close() end })
  local l = listen("come-and-go", { window = { 10 } })
  local ltls = listen("come-and-go", { tls = context(), window = { 10 } })
  local classes = function() local k = net.stats().classes return k["come-and-go"] + k["come-and-go-client"] end
  local function go(n, port, tls)
    for i = 1, n do
      assert(net.connect { address = "127.0.0.1", port = port, class = "come-and-go-client", tls = tls })
      if i % 50 == 0 then wait("all gone", function() return classes() == 0 end, 20) end
    end
    collectgarbage() collectgarbage()
  end
  local many = SLOW > 1 and 500 or 5000
  go(500, l:port())
  go(50, ltls:port(), client_context)
  local before = resident()
  go(many, l:port())
  go(many // 10, ltls:port(), client_context)
  local grown = resident() - before
  check.ok(grown < 3000 or SLOW > 1, grown .. " KB")
  l:close()
  ltls:close()
end)

check.done()
