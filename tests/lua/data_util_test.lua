-- SPDX-License-Identifier: MIT
-- Libraries about data: bits, bytes, rings, queues, machines, addresses, DNS; and stand-ins for libraries that are not installed.
local check = require "check"
local st = require "couplet.stanza"

check.test("bits", function()
  local bit = require "couplet.util.bitcompat"
  local rows = {
    { bit.band(0xff, 0x0f, 0x3), 3 }, { bit.bor(1, 2, 4), 7 }, { bit.bxor(5, 1), 4 }, { bit.bnot(0), 0xffffffff },
    { bit.lshift(1, 31), 0x80000000 },
    { bit.lshift(1, 32), 0 }, { bit.rshift(0x80000000, 31), 1 }, { bit.arshift(0x80000000, 31), 0xffffffff },
    { bit.arshift(8, 1), 4 },
    { bit.lshift(8, -1), 4 }, { bit.lrotate(0x80000001, 1), 3 }, { bit.rrotate(3, 1), 0x80000001 },
    { bit.extract(0xabcd, 4, 8), 0xbc },
    { bit.replace(0xabcd, 0, 4, 8), 0xa00d }, { bit.band(-1), 0xffffffff }, { bit.btest(4, 2), false },
    { bit.tohex(255), "000000ff" },
  }
  for i, row in ipairs(rows) do check.equal(row[1], row[2], "row " .. i) end
  local wide = require "couplet.util.bit53"
  check.equal(wide.lshift(1, 40), 1 << 40)
  check.equal(wide.band(7, 6, 4), 4)
  local s = require "couplet.util.strbitop"
  check.equal(s.sxor("hello", "k"), s.sxor("hello", "kk"))
  check.equal(s.sxor(s.sxor("hello", "key"), "key"), "hello")
  check.equal(s.sand("\255\240", "\15"), "\15\0")
  check.equal(s.sor("\1\2", "\16"), "\17\18")
  check.equal(s.common_prefix_bits("ab", "ac"), 15)
  check.equal(s.common_prefix_bits("a", "a"), 8)
end)

check.test("struct", function()
  local struct = require "couplet.util.struct"
  check.equal(struct.pack(">HBs", 258, 3, "x"), "\1\2\3x\0")
  check.equal({ struct.unpack(">HBs", "\1\2\3x\0") }, { 258, 3, "x", 6 })
  check.equal({ struct.unpack(">I2c0", "\0\3abcd") }, { "abc", 6 })
  check.equal(struct.pack("<i4", -2), "\254\255\255\255")
  check.equal(struct.size(">HBxI4"), 8)
  check.raises("invalid format", struct.pack, "q", 1)
  check.raises("too short", struct.unpack, "c4", "abc")
end)

check.test("ring of bytes", function()
  local b = require "couplet.util.ringbuffer".new(8)
  check.equal({ b:write "abcd", b:write "efghi", b:write "efgh", #b, b:free() }, { 4, nil, 4, 8, 0 })
  check.equal({ b:read(3, true), b:read(3), b:read(6), b:read(5) }, { "abc", "abc", nil, "defgh" })
  b:write "one\ntwo"
  check.equal({ b:readuntil "\n", b:readuntil "\n", b:find "w", b:sub(1, 2), b:byte(1), tostring(b) },
    { "one\n", nil, 2, "tw", 116, "two" })
  check.equal({ b:discard(2), b:length(), b:discard(5) }, { true, 1, false })
  b:clear()
  check.equal({ b:length(), b:size() }, { 0, 8 })
  for i = 1, 1000 do
    assert(b:write "1234567")
    check.equal(b:read(7), "1234567", "round " .. i)
  end
end)

check.test("bytes in pieces", function()
  local b = require "couplet.util.dbuffer".new(20, 3)
  for _, s in ipairs { "abc", "de", "", "fgh", "ij", "kl" } do check.ok(b:write(s)) end
  check.equal({ #b, b:write "123456789" }, { 12, false })
  check.equal({ b:sub(2, 4), b:byte(1), tostring(b) }, { "bcd", 97, "abcdefghijkl" })
  check.equal({ b:read(2), b:read(3), b:read(50), b:length() }, { "ab", "cde", nil, 7 })
  check.equal({ b:read_until "h", b:read_until "z", b:discard(1), b:read() }, { "fgh", nil, true, "jkl" })
  check.equal({ b:read(), b:read(0), b:length() }, { nil, "", 0 })
end)

check.test("queue of what is not acknowledged", function()
  local q = require "couplet.util.smqueue".new(3)
  for i = 1, 3 do q:push(i) end
  check.equal({ q:count_unacked(), q:resumable() }, { 3, true })
  check.equal(q:ack(1), { 1 })
  q:push(4) q:push(5)
  check.equal({ q:count_unacked(), q:count_acked(), q:resumable() }, { 4, 1, false })
  check.equal(q:table(), { 3, 4, 5 })
  check.equal({ select(2, q:ack(0)).source, select(2, q:ack(9)).condition }, { "smqueue", "undefined-condition" })
  local seen = {}
  for i, x in q:resume() do seen[i] = x end
  check.equal(seen, { [3] = 3, [4] = 4, [5] = 5 })
  local n = 0
  for _ in q:consume() do n = n + 1 end
  check.equal({ n, q:count_unacked(), #q:ack(5) }, { 3, 0, 0 })
end)

check.test("state machines", function()
  local log = {}
  local machine = require "couplet.util.fsm".new {
    default_state = "off",
    transitions = { { name = "press", from = "off", to = "on" }, { name = "press", from = "on", to = "off" },
      { name = "explode", from = "*", to = "gone" } },
    transition_handlers = { explode = function(e) return e.to_attr ~= "dud" end },
    state_handlers = { on = function(e) log[#log + 1] = e.from .. ">" .. e.to end },
  }
  local lamp = machine:init { name = "lamp" }
  check.equal({ lamp.state, lamp.name, (lamp:press()), lamp.state }, { "off", "lamp", true, "on" })
  check.equal(log, { "off>on" })
  check.equal({ lamp:explode "dud", lamp.state, (lamp:explode()), lamp.state }, { false, "on", true, "gone" })
  check.raises("Invalid state transition", lamp.press, lamp)
end)

check.test("consistent hashing", function()
  local ring = require "couplet.util.hashring".new(64, require "couplet.util.hashes".sha1)
  check.equal(ring:get_node "x", nil)
  ring:add_nodes { "a", "b", "c" }
  ring:add_node("d", 4)
  local before, moved, of_d = {}, 0, 0
  for i = 1, 400 do before[i] = ring:get_node("key" .. i) end
  local copy = ring:clone()
  ring:remove_node "d"
  for i = 1, 400 do
    local node = ring:get_node("key" .. i)
    if before[i] == "d" then of_d = of_d + 1 elseif node ~= before[i] then moved = moved + 1 end
  end
  check.equal(moved, 0)                            -- only d's keys move
  check.ok(of_d > 20)
  for i = 1, 400 do check.equal(copy:get_node("key" .. i), before[i]) end
  check.equal(select(2, copy:get_node "key1") ~= nil, true)
end)

check.test("top resources", function()
  local p = require "couplet.util.presence"
  local function s(priority, there) return { priority = priority, presence = there ~= false and {} or nil } end
  local user = { sessions = { a = s(1), b = s(5), c = s(5), d = s(9, false), e = s(-1) } }
  check.equal(#p.select_top_resources(user), 2)
  p.recalc_resource_map(user)
  check.equal(#user.top_resources, 2)
  user.sessions = { e = s(-1) }
  p.recalc_resource_map(user)
  check.equal(user.top_resources, nil)
end)

check.test("addresses as bytes", function()
  local net = require "couplet.util.net"
  for text, bytes in pairs {
    ["192.0.2.1"] = "\192\0\2\1", ["::"] = ("\0"):rep(16), ["::1"] = ("\0"):rep(15) .. "\1",
    ["::ffff:1.2.3.4"] = ("\0"):rep(10) .. "\255\255\1\2\3\4", ["2001:db8::5"] = "\x20\x01\x0d\xb8" .. ("\0"):rep(11) .. "\5",
  } do
    check.equal(net.pton(text), bytes, text)
    check.equal(net.ntop(bytes), text)
  end
  for _, bad in ipairs { "", "1.2.3", "01.2.3.4", "1.2.3.256", "::1::", ":::", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "::1.2.3",
    "1.2.3.4::", "g::", "12345::", "1:2:3:4:5:6:7::8" } do
    check.equal(net.pton(bad), nil, bad)
  end
  check.equal(net.ntop "abc", nil)
  for _, address in ipairs(net.local_addresses()) do check.ok(net.pton(address), address) end
end)

check.test("DNS answers", function()
  local dns = require "couplet.util.dns"
  local function name(...)
    local out = {}
    for _, label in ipairs { ... } do out[#out + 1] = string.char(#label) .. label end
    return table.concat(out) .. "\0"
  end
  local rows = {
    { "A", "\192\0\2\1", "192.0.2.1" }, { "AAAA", ("\0"):rep(15) .. "\1", "::1" },
    { "CNAME", name("a", "example"), "a.example." },
    { "MX", "\0\10" .. name "mx", "10 mx." }, { "SRV", "\0\1\0\2\x14\x66" .. name("xmpp", "example"), "1 2 5222 xmpp.example." },
    { "TXT", "\3abc\2de", "abcde" }, { "TLSA", "\3\1\1\255\0", "3 1 1 ff00" }, { "PTR", name "x.y", "x\\.y." },
    { 999, "ab", "\\# 2 6162" },
    { "A", "abc", "\\# 3 616263" }, { "CNAME", "\64", "\\# 1 40" }, { "SRV", "\0\1\0\2\x14", "\\# 5 0001000214" },
  }
  for i, row in ipairs(rows) do check.equal(tostring(dns.parse(row[1], row[2])), row[3], "row " .. i) end
  local cut = dns.answer { "\0\1\0\2\x14", "\0\1\0\2\x14\x66" .. name "x", name = "_xmpp._tcp.x.", type = 33, rcode = 0 }
  check.equal({ #cut, cut[1].srv.target }, { 1, "x." })          -- what is no SRV record is left out
  check.equal({ dns.types.SRV, dns.types[28], dns.types.TYPE999, dns.types[999] }, { 33, "AAAA", 999, "TYPE999" })
  local a = dns.answer { "\0\1\0\2\x14\x66" .. name "x", name = "_xmpp._tcp.x.", canonical = "_xmpp._tcp.x.", type = 33,
    rcode = 0, ttl = 60, secure = true }
  check.equal({ a[1].srv.port, a[1].SRV.target, a[1].type, a.secure, a.status, #a }, { 5222, "x.", "SRV", true, "NoError", 1 })
end)

check.test("services in the order of RFC 2782", function()
  local order = require "couplet.net.resolvers.service".order
  local records = { { priority = 20, weight = 1, n = 1 }, { priority = 10, weight = 0, n = 2 },
    { priority = 10, weight = 9, n = 3 } }
  local function names(random)
    local out = {}
    for i, srv in ipairs(order(records, random)) do out[i] = srv.n end
    return out
  end
  check.equal(names(function(_, high) return high end), { 3, 2, 1 })
  check.equal(names(function(low) return low end), { 2, 3, 1 })
end)

check.test("SQL through LuaDBI, where it is installed", function()
  local sql = require "couplet.util.sql"
  check.equal(sql.db2uri { driver = "MySQL", username = "a b", password = "p", host = "h", port = 3306, database = "d" },
    "mysql://a%20b:p@h:3306/d")
  local engine = sql:create_engine { driver = "SQLite3", database = ":memory:" }
  local ok, err = engine:connect()
  if not ok then return check.ok(err:find "LuaDBI is not installed", err) end
  local t = sql.Table { name = "t", sql.Column { name = "k", type = "TEXT", nullable = false },
    sql.Column { name = "n", type = "INTEGER" }, sql.Index { name = "t_k", unique = true, "k" } }
  check.equal(engine:transaction(function() return t:create(engine) end), true)
  check.equal({ engine:transaction(function() return engine:insert("INSERT INTO t VALUES (?, ?)", "a", 1).affected end) },
    { true, 1 })
  local failed, why = engine:transaction(function()
    engine:insert("INSERT INTO t VALUES (?, ?)", "b", 2)
    engine:insert("INSERT INTO t VALUES (?, ?)", "a", 3)
  end)
  check.equal(failed, false)
  check.ok(tostring(why):find "UNIQUE", why)
  local rows = {}
  engine:transaction(function()
    for row in engine:select "SELECT k, n FROM t" do rows[#rows + 1] = { row[1], row[2] } end
  end)
  check.equal(rows, { { "a", 1 } })
  engine:close()
end)

-- --- libraries of others ---

check.test("URLs", function()
  local url = require "couplet.outside.socket_url"
  local p = url.parse "http://u:p@[::1]:8080/a/b;x?q=1#f"
  check.equal({ p.scheme, p.user, p.password, p.host, p.port, p.path, p.params, p.query, p.fragment },
    { "http", "u", "p", "::1", "8080", "/a/b", "x", "q=1", "f" })
  check.equal(url.build(p), "http://u:p@[::1]:8080/a/b;x?q=1#f")
  check.equal(url.parse "https://example.org".host, "example.org")
  check.equal(url.parse "/only/path".path, "/only/path")
  check.equal(url.parse "", nil)
  local base = "http://a/b/c/d;p?q"            -- RFC 3986 §5.4.1
  for relative, want in pairs { ["g:h"] = "g:h", ["g"] = "http://a/b/c/g", ["./g"] = "http://a/b/c/g", ["g/"] = "http://a/b/c/g/",
    ["/g"] = "http://a/g",
    ["//g"] = "http://g", ["?y"] = "http://a/b/c/d;p?y", [".."] = "http://a/b/", ["../.."] = "http://a/",
    ["../../../g"] = "http://a/g" } do
    check.equal(url.absolute(base, relative), want, relative)
  end
  local steps = url.parse_path "/a%20b/c/"
  check.equal({ steps[1], steps[2], steps.is_absolute, steps.is_directory, url.build_path(steps) },
    { "a b", "c", 1, 1, "/a%20b/c/" })
  check.equal(url.unescape(url.escape "ä /&"), "ä /&")
end)

check.test("XML as tables, JSON, the clock", function()
  local lom = require "couplet.outside.lxp_lom".parse "<a x='1' b='2'>t<c/></a>"
  check.equal({ lom.tag, lom.attr.x, lom.attr[1], lom.attr[2], lom[1], lom[2].tag }, { "a", "1", "b", "x", "t", "c" })
  check.equal((require "couplet.outside.lxp_lom".parse "<a>"), nil)
  local safe, strict = require "couplet.outside.cjson_safe", require "couplet.outside.cjson"
  check.equal({ safe.encode { 1, 2 }, (safe.decode "[1") }, { "[1,2]" })
  check.raises("", strict.decode, "[1")
  check.equal(strict.decode "null", safe.null)
  local socket = require "couplet.outside.socket"
  check.ok(math.abs(socket.gettime() - os.time()) < 5)
end)

check.test("names resolve as plugins know them", function()
  local alias = require "couplet.alias"
  for _, name in ipairs { "util.interpolation", "prosody.util.template", "util.xtemplate", "util.ip", "util.net", "util.http",
    "util.human.units", "util.human.io", "util.argparse", "util.table", "util.hashring", "util.ringbuffer", "util.dbuffer",
    "util.smqueue", "util.fsm", "util.jsonpointer", "util.jsonschema", "util.datamapper", "util.bitcompat", "util.bit53",
    "util.strbitop", "util.struct", "util.vcard", "util.termcolours", "util.mathcompat", "util.dns", "util.events",
    "util.presence", "util.session", "util.prosodyctl", "util.startup", "util.filters", "util.sql", "util.sqlite3",
    "net.http", "net.http.server", "net.http.codes", "net.http.errors", "net.http.files", "net.adns", "net.dns", "net.server",
    "net.connect", "net.resolvers.basic", "net.resolvers.service", "net.resolvers.manual", "net.resolvers.chain", "lfs",
    "socket", "socket.url", "lxp.lom", "cjson", "cjson.safe", "bit32", "bit" } do
    check.ok(alias.require(name) ~= nil, name)
  end
  check.ok(alias.require "util.ip" == alias.require "prosody.util.ip")
  check.ok(alias.require "net.dns" == alias.require "net.adns")
  check.ok(st.is_stanza(alias.require "util.template" "<a/>" {}))
end)

check.done()
