-- SPDX-License-Identifier: MIT
-- net.http: reading responses whole, byte by byte and cut; the client against servers that answer well, badly, or not at all.
-- net.server, net.connect, net.adns on the way.
local check = require "check"
local core = require "couplet.core"
local config = require "couplet.config"
local task = require "couplet.task"
local new = require "couplet.net.http.response".new

config.use { options = { ["*"] = { use_ipv6 = false } }, order = {}, files = {}, warnings = {}, directory = "/nonexistent",
  places = { ["*"] = {} } }

-- --- the parser ---

local function parse(bytes, step, o)
  local p = new(o)
  for i = 1, #bytes, step do
    local ok, err = p:feed(bytes:sub(i, i + step - 1))
    if not ok then return nil, err end
  end
  local ok, err = p:finish()
  if not ok then return nil, err end
  return p
end

check.test("responses, in pieces of any size", function()
  local H = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
  local rows = {
    { H .. "Content-Length: 5\r\n\r\nhello", "hello" }, { H .. "Content-Length: 0\r\n\r\n", "" },
    { H .. "\r\nto the end", "to the end" },
    { H .. "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nTrailer: 1\r\n\r\n", "hello world" },
    { "HTTP/1.1 100 Continue\r\n\r\n" .. H .. "Content-Length: 2\r\n\r\nok", "ok" }, { "HTTP/1.1 204 No Content\r\n\r\n", "" },
    { "HTTP/1.0 404 Not Found\nContent-Length: 2\n\nno", "no" }, { H .. "Content-Length: 2, 2\r\n\r\nok", "ok" },
    { H .. "Transfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n", "hello" },
  }
  for i, row in ipairs(rows) do
    for _, step in ipairs { 1, 2, 7, 10000 } do
      local p = check.ok(parse(row[1], step), "row " .. i .. " step " .. step)
      check.equal(p.body, row[2], "row " .. i .. " step " .. step)
    end
  end
  local p = parse(H .. "Set-Cookie: a\r\nset-cookie: b\r\n\r\n", 3)
  check.equal({ p.code, p.headers.content_type, p.headers["Content-Type"], p.headers.set_cookie },
    { 200, "text/plain", "text/plain", "a, b" })
  check.equal(parse("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", 9, { head = true }).body, "")
end)

check.test("what is no response, or cut, or too large", function()
  local H = "HTTP/1.1 200 OK\r\n"
  local rows = {
    { "SSH-2.0-x\r\n\r\n", "invalid-response" }, { "HTTP/2.0 200 OK\r\n\r\n", "invalid-response" },
    { H .. "No colon\r\n\r\n", "invalid-response" },
    { H .. " folded: x\r\n\r\n", "invalid-response" }, { H .. "Content-Length: -1\r\n\r\n", "invalid-response" },
    { H .. "Content-Length: 1, 2\r\n\r\nab", "invalid-response" },
    { H .. "Content-Length: 99999999999999999999\r\n\r\n", "invalid-response" },
    { H .. "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello", "invalid-response" },
    { H .. "Transfer-Encoding: gzip\r\n\r\n", "invalid-response" },
    { H .. "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", "invalid-response" },
    { H .. "Transfer-Encoding: chunked\r\n\r\n2\r\nabX\r\n", "invalid-response" },
    { H .. "Content-Length: 5\r\n\r\nhell", "connection-closed" }, { H, "connection-closed" }, { "", "connection-closed" },
    { H .. "Content-Length: 101\r\n\r\n", "response-too-large" }, { H .. "\r\n" .. ("x"):rep(101), "response-too-large" },
    { H .. "Transfer-Encoding: chunked\r\n\r\nfffff\r\n", "response-too-large" },
    { H .. "X: " .. ("x"):rep(300), "response-too-large" },
    { H .. "Transfer-Encoding: chunked\r\n\r\n1;" .. ("x"):rep(2000), "invalid-response" },
    { "HTTP/1.1 101 Switching Protocols\r\n\r\n", "invalid-response" },
  }
  for i, row in ipairs(rows) do
    for _, step in ipairs { 1, 10000 } do
      check.equal({ parse(row[1], step, { max_body = 100, max_head = 200 }) }, { nil, row[2] }, "row " .. i)
    end
  end
end)

-- --- the client ---

local server = require "couplet.net.server"
local http = require "couplet.net.http"
local system = core.system

local function run(fn)
  local results
  local over = core.loop.timer(60, function() results = { false, "this takes too long" } end)
  task.spawn(function() results = table.pack(xpcall(fn, debug.traceback)) end)
  while not results do
    core.loop.once()
    task.run_ready()
  end
  over:stop()
  if not results[1] then error(results[2], 0) end
  return table.unpack(results, 2, results.n)
end

-- A server that reads one request and does as answer(conn, request) says. -> listener, list of requests
local function serve(answer, tls)
  local requests, closed = {}, {}
  local listener = assert(server.addserver("127.0.0.1", 0, {
    onincoming = function(conn, data)
      conn.got = (conn.got or "") .. data
      local head, body = conn.got:match "^(.-\r\n\r\n)(.*)$"
      if head and #body >= tonumber(head:lower():match "content%-length: (%d+)" or 0) then
        requests[#requests + 1] = conn.got
        conn.got = ""
        answer(conn, requests[#requests])
      end
    end,
    ondisconnect = function() closed[#closed + 1] = true end,
  }, "*a", tls))
  return listener, requests, closed
end

local function get(url, options)
  return task.await(function(done) http.request(url, options, done) end)
end

local function reply(text)
  return function(conn)
    conn:write(text)
    conn:close()
  end
end

local OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Test: yes\r\n\r\nok"

check.test("a request and its answer", function()
  run(function()
    local l, requests = serve(reply(OK))
    local url = ("http://127.0.0.1:%d"):format(l:port())
    local body, code, response, request = get(url .. "/a?b=c#d")
    check.equal({ body, code, response.headers.x_test, response.code, request.method }, { "ok", 200, "yes", 200, "GET" })
    check.ok(requests[1]:find "^GET /a%?b=c HTTP/1.1\r\n", requests[1])
    check.ok(requests[1]:find(("\r\nHost: 127.0.0.1:%d\r\n"):format(l:port()), 1, true), requests[1])
    check.equal((get(url:gsub("//", "//u:p%%20w@"),
      { body = "x=1", headers = { ["X-Own"] = "v", ["Content-Type"] = "text/plain" } })), "ok")
    get(url, { body = "x" })
    check.ok(requests[2]:find "^POST / HTTP/1.1\r\n" and requests[2]:find "Authorization: Basic dTpwIHc=\r\n"
      and requests[2]:find "X%-Own: v\r\n"
      and requests[2]:find "Content%-Type: text/plain\r\n" and requests[2]:find "\r\n\r\nx=1$", requests[2])
    check.ok(requests[3]:find "application/x%-www%-form%-urlencoded")
    get(url, { method = "HEAD" })
    check.ok(requests[#requests]:find "^HEAD ")
    l:close()
  end)
end)

check.test("promises", function()
  run(function()
    local async = require "couplet.async"
    local l = serve(reply "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    local url = ("http://127.0.0.1:%d/"):format(l:port())
    local response = check.ok(async.wait_for(http.request(url)))
    check.equal(response.code, 404)
    l:close()
    local nothing, err = async.wait_for(http.request(url))
    check.equal(nothing, nil)
    check.ok(require "couplet.errors".is_error(err))
    local _, bad = async.wait_for(http.request "ftp://x/")
    check.equal(bad.condition, "bad-request")
  end)
end)

check.test("who waits for an answer goes on inside its callback, as on Prosody", function()
  run(function()
    local async = require "couplet.async"
    local l = serve(reply(OK))
    local url = ("http://127.0.0.1:%d/"):format(l:port())
    local log = {}
    local wait, done = async.waiter()
    task.spawn(function()
      wait()
      log[#log + 1] = "goes on"
    end)
    local all, over = async.waiter()
    http.request(url, function(body)
      log[#log + 1] = body
      done()
      log[#log + 1] = "callback over"
      over()
    end)
    all()
    check.equal(log, { "ok", "goes on", "callback over" })
    log = {}
    local p = http.request(url)
    p:next(function(response) log[#log + 1] = response.body end)
    local response = async.wait_for(p)
    log[#log + 1] = response.code
    check.equal(log, { "ok", 200 })
    l:close()
  end)
end)

check.test("failures have code 0 and a reason", function()
  run(function()
    local l = serve(reply "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort")
    local url = ("http://127.0.0.1:%d/"):format(l:port())
    check.equal((get(url)), "connection-closed")
    check.equal(select(2, get(url)), 0)
    check.equal((get(url, { max_body = 5 })), "response-too-large")
    local silent, _, closed = serve(function() end)
    check.equal((get(("http://127.0.0.1:%d/"):format(silent:port()), { timeout = 0.2 })), "connection-timeout")
    task.sleep(0.05)
    check.equal(#closed, 1)
    for _, bad in ipairs { "", "http://", "http:///x", "http://a b/", "http://a:99999/", "http://a/\r\nX: y", "gopher://a/" } do
      check.equal({ (get(bad)) }, { "invalid-url" }, bad)
    end
    check.equal((get(url, { headers = { X = "a\r\nY: b" } })), "invalid-request")
    check.equal((get(url, { method = "GET / HTTP/1.1\r\nX" })), "invalid-request")
    check.equal(select(2, get "http://nowhere.invalid/"), 0)
    l:close()
    silent:close()
  end)
end)

check.test("streaming, handlers that answer, requests given up", function()
  run(function()
    local l = serve(reply "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")
    local url = ("http://127.0.0.1:%d/"):format(l:port())
    local got, partial = {}, nil
    local body = get(url, { streaming_handler = function(response)
      partial = response.partial
      response.body_sink = { write = function(_, bytes) got[#got + 1] = bytes end }
    end })
    check.equal({ table.concat(got), partial, body }, { "abcdef", true, "" })
    local client = http.new { headers = {} }
    client.events.add_handler("request", function(event) return event.url == "http://cached/"
      and { code = 200, body = "from memory" } or nil end)
    check.equal((task.await(function(done) client:request("http://cached/", nil, done) end)), "from memory")
    local called = false
    local r = http.request(url, nil, function() called = true end)
    http.destroy_request(r)
    task.sleep(0.1)
    check.equal(called, false)
    l:close()
  end)
end)

check.test("TLS: the certificate must be trusted and the host's", function()
  local temp = require "temp"
  local certificate, key = system.make_certificate({ "localhost" }, 10)
  local dir = temp.dir()
  local file = temp.write(dir, "ca.pem", certificate)
  local ok, err = pcall(run, function()
    local l = serve(reply(OK), assert(core.net.tls_context { certificate = certificate, key = key }))
    local port = l:port()
    local trusting = assert(core.net.tls_context { verify = "require", ca_file = file })
    check.equal((get(("https://localhost:%d/"):format(port), { sslctx = trusting })), "ok")
    check.equal((get(("https://127.0.0.1:%d/"):format(port), { sslctx = trusting })), "certificate-verify-failed")
    check.equal((get(("https://localhost:%d/"):format(port))), "certificate-chain-invalid")
    check.equal((get(("https://localhost:%d/"):format(port), { insecure = true })), "ok")
    l:close()
  end)
  temp.remove(dir)
  if not ok then error(err, 0) end
end)

-- --- connections of plugins ---

check.test("net.connect goes on to the next address; setlistener hands over", function()
  run(function()
    local l = assert(server.listen("127.0.0.1", 0,
      { onconnect = function(c) c:write "hello" end, onincoming = function(c, data) c:write(data:upper()) end }))
    local dead = assert(server.listen("127.0.0.1", 0, {}))
    local dead_port = dead:port()
    dead:close()
    local log = {}
    local resolver = require "couplet.net.resolvers.chain".new {
      require "couplet.net.resolvers.manual".new { { "tcp", "127.0.0.1", dead_port } },
      require "couplet.net.resolvers.basic".new("localhost", l:port(), "tcp"),
    }
    task.await(function(done)
      require "couplet.net.connect"(resolver, {
        onattach = function(_, data) log[#log + 1] = "attach " .. data end,
        onconnect = function(c) log[#log + 1] = "connect " .. c:ip() end,
        onincoming = function(c, data)
          log[#log + 1] = data
          c:setlistener({ onattach = function(_, data2) log[#log + 1] = "then " .. data2 end,
            onincoming = function(c2, more) log[#log + 1] = more c2:close() end, ondisconnect = function() done() end }, "b")
          c:write "abc"
        end,
      }, nil, "a")
    end)
    check.equal(log, { "attach a", "connect 127.0.0.1", "hello", "then b", "ABC" })
    local reason = task.await(function(done)
      require "couplet.net.connect"(require "couplet.net.resolvers.manual".new { { "tcp", "127.0.0.1", dead_port } },
        { onfail = function(data, why) done(data .. ": " .. tostring(why)) end }, nil, "x")
    end)
    check.ok(reason:find "^x: .*refused", reason)
    l:close()
  end)
end)

check.test("watched descriptors, timers", function()
  run(function()
    local n = 0
    task.await(function(done)
      server.add_task(0.001, function()
        n = n + 1
        if n == 3 then return done() end
        return 0.001
      end)
    end)
    check.equal(n, 3)
    local ok, socket = pcall(require, "socket")
    if not ok or not socket.tcp then return end
    local l = assert(server.listen("127.0.0.1", 0, { onincoming = function(c, data) c:write(data .. data) c:close() end }))
    local s = assert(socket.connect("127.0.0.1", l:port()))
    local got = {}
    task.await(function(done)
      local c = server.wrapclient(s, "127.0.0.1", l:port(), { onconnect = function(c) c:write "ab" end,
        onincoming = function(_, data) got[#got + 1] = data end, ondisconnect = function() done() end })
      c:write ""
    end)
    check.equal(table.concat(got), "abab")
    l:close()
  end)
end)

check.test("names are looked up, with a deadline", function()
  run(function()
    local adns = require "couplet.net.adns"
    local answer = check.ok(adns.lookup("localhost", "A"))
    check.equal({ answer[1] and answer[1].a, answer.rcode }, { "127.0.0.1", 0 })
    check.equal({ adns.lookup(("x"):rep(300), "A") }, { nil, "no valid name" })
    local over = false
    local query = adns.lookup(function() over = true end, "localhost", "AAAA")
    adns.cancel(query)
    task.sleep(0.05)
    check.equal(over, false)
  end)
end)

core.net.stop()
check.done()
