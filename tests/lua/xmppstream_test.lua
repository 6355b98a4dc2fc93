-- SPDX-License-Identifier: MIT
-- xmppstream_test.lua: util.xmppstream as plugins use it, over the core's parser.
local check = require "check"
local xml = require "couplet.util.xml"
local xmppstream = require "couplet.util.xmppstream"

local HEADER = "<?xml version='1.0'?><stream:stream to='x' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"

-- what was called back, as a list of strings
local function recorder(more)
  local log = {}
  local callbacks = {
    streamopened = function(s, attr) log[#log + 1] = s.name .. " opened " .. tostring(attr.to) end,
    streamclosed = function(s) log[#log + 1] = s.name .. " closed" end,
    handlestanza = function(s, stanza) log[#log + 1] = s.name .. " " .. tostring(stanza) end,
    error = function(s, kind, data) log[#log + 1] = s.name .. " " .. kind .. " " .. tostring(data) end,
  }
  for k, v in pairs(more or {}) do callbacks[k] = v end
  return log, callbacks
end

check.test("a stream, whole and byte by byte", function()
  local text = HEADER .. " <presence/><message><body>é</body></message></stream:stream>"
  local want = { "s opened x", "s <presence/>", "s <message><body>é</body></message>", "s closed" }
  for _, size in ipairs { #text, 1, 2, 3, 50 } do
    local log, callbacks = recorder()
    local stream = xmppstream.new({ name = "s" }, callbacks)
    for i = 1, #text, size do check.equal(stream:feed(text:sub(i, i + size - 1)), true) end
    check.equal(log, want)
  end
end)

check.test("reset, set_session", function()
  local stream
  local log, callbacks = recorder()
  local plain = callbacks.handlestanza
  function callbacks.handlestanza(s, stanza)
    plain(s, stanza)
    if stanza.name == "success" then stream:reset() end
  end
  stream = xmppstream.new({ name = "s" }, callbacks)
  check.equal(stream:feed(HEADER .. "<success/><dropped/>"), true)
  stream:set_session { name = "t" }
  check.equal(stream:feed(HEADER .. "<a/>"), true)
  check.equal(log, { "s opened x", "s <success/>", "t opened x", "t <a/>" })
end)

check.test("errors", function()
  local log, callbacks = recorder()
  check.equal(xmppstream.new({ name = "s" }, callbacks):feed("<a xmlns='b'>"), nil)
  check.equal(xmppstream.new({ name = "s" }, callbacks):feed(HEADER .. "<!-- x -->"), nil)
  check.equal(xmppstream.new({ name = "s" }, callbacks):feed(HEADER .. "<stream:error/>"), true)
  check.equal(select("#", xmppstream.new({ name = "s" }, callbacks):feed(HEADER .. "<a></b>")), 2)
  local _, err = xmppstream.new({ name = "s" }, callbacks, 200):feed(HEADER .. "<a>" .. ("x"):rep(200))
  check.equal(err, "stanza-too-large")
  check.equal(log, { "s no-stream b\1a", "s opened x", "s parse-error restricted-xml", "s opened x",
    "s stream-error " .. "<error xmlns='http://etherx.jabber.org/streams'/>", "s opened x", "s opened x" })
end)

check.test("progress", function()
  local bytes
  local _, callbacks = recorder { handleprogress = function(_, n) bytes = n end }
  local stream = xmppstream.new({ name = "s" }, callbacks)
  stream:feed(HEADER .. "<a/>")
  check.equal(bytes, nil)
  stream:feed("<message")
  check.equal(bytes, 8)
end)

check.test("documents that are read like streams", function()
  local log, callbacks = recorder { stream_ns = "http://jabber.org/protocol/httpbind", stream_tag = "body",
    default_ns = "jabber:client" }
  local stream = xmppstream.new({ name = "s" }, callbacks)
  check.equal(stream:feed("<body to='y' xmlns='http://jabber.org/protocol/httpbind'><message xmlns='jabber:client'><body/>"
    .. "</message></body>"), true)
  check.equal(log, { "s opened y", "s <message><body/></message>", "s closed" })
end)

check.test("no namespace inside another one survives changes", function()
  local text = "<a xmlns='u'><k xmlns=''><l/></k></a>"
  local a = xml.parse(text)
  local k = a.tags[1]
  check.equal(k.attr.xmlns, "")
  check.equal(tostring(a), text)
  k.attr.x = "1"
  k.tags[1]:text("t")
  a:tag("z")
  check.equal(tostring(a), "<a xmlns='u'><k xmlns='' x='1'><l>t</l></k><z/></a>")
  local b = xml.parse("<a><b/></a>")
  check.equal(b.attr.xmlns, nil)
  b.attr.xmlns = ""
  check.equal(b.attr.xmlns, "")
  check.equal(tostring(b), "<a><b/></a>")
end)

check.test("xml.parse", function()
  local s = xml.parse("<?xml version='1.0'?>\n<a xmlns='u' b='1'><c/>t<d xmlns='v'/></a>\n")
  check.equal(s.name, "a")
  check.equal(s.attr.xmlns, "u")
  check.equal(s.attr.b, "1")
  check.equal(#s, 3)
  check.equal(s.tags[2].attr.xmlns, "v")
  check.equal(tostring(xml.parse("<a><b xml:lang='de' x:y='z' xmlns:x='n'/></a>")),
    "<a><b xml:lang='de' xmlns:ns0='n' ns0:y='z'/></a>")
  for _, bad in ipairs { "", "x", "<a>", "<a/><b/>", "<a></b>", "<!DOCTYPE a><a/>", "<?p?><a/>", "<!--c--><a/>", "<a>&b;</a>",
    "<a>\xff</a>", "<p:a/>", "<?xml version='1.0' encoding='latin1'?><a/>" } do
    local got, err = xml.parse(bad)
    check.equal(got, nil, bad)
    check.equal(type(err), "string")
  end
  check.equal(xml.parse(nil), nil)
  check.equal(xml.parse("<a>" .. ("<b>"):rep(1000) .. ("</b>"):rep(1000) .. "</a>"), nil)
end)

check.done()
