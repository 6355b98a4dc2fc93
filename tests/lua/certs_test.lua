-- SPDX-License-Identifier: MIT
-- certs: which certificate a host gets, and contexts.

local check = require "check"
local temp = require "temp"
local core = require "couplet.core"
local config = require "couplet.config"
local certs = require "couplet.certs"
local system = core.system

require "couplet.log".quiet()
local base = temp.dir()

local function certificate(names, path, key, days)
  local c, k = assert(system.make_certificate(names, days or 30))
  temp.write(base, "certs/" .. path, c)
  temp.write(base, "certs/" .. key, k)
end

local function load(text)
  temp.write(base, "config.lua", text)
  assert(config.load(base .. "/config.lua"))
  certs.reload()
end

check.test("made by ourselves: what it says", function()
  local c, k = system.make_certificate({ "localhost", "127.0.0.1", "::1" }, 10)
  local x = core.crypto.x509_parse(c)
  check.equal(x.dns_names, { "localhost" })
  check.equal(#x.ips, 2)
  check.equal(x.common_names, { "localhost" })
  check.equal(x.key_type, "id-ecPublicKey")
  check.equal(x.ca, false)
  check.ok(math.abs(x.notafter - os.time() - 10 * 86400) < 60)
  check.ok(k:find("BEGIN PRIVATE KEY"))
  check.ok(c ~= system.make_certificate({ "localhost" }, 10))
  check.equal(system.make_certificate({ "a\0b" }, 10), nil)
  check.equal(system.make_certificate({ ("x"):rep(300) }, 10), nil)
  check.ok(system.make_certificate({ ("x"):rep(200) .. ".example" }, 10), "longer than a common name may be")
  check.raises("1 to 64 names", system.make_certificate, {}, 10)
end)

certificate({ "a.example" }, "a.example.crt", "a.example.key")
certificate({ "b.example" }, "b.example/fullchain.pem", "b.example/privkey.pem")
certificate({ "c.example", "*.c.example" }, "whatever/fullchain.pem", "whatever/privkey.pem")
certificate({ "d.example" }, "d-old.crt", "d-old.key", 5)
certificate({ "d.example" }, "d-new.crt", "d-new.key", 50)
certificate({ "e.example" }, "e.example.pem", "e.example.key")
temp.write(base, "certs/broken.crt", "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
temp.write(base, "certs/keyless.crt", (system.make_certificate({ "f.example" }, 5)))

check.test("found by file name, by directory, by the names inside", function()
  load ""
  local rows = {
    { "a.example", "a.example.crt" }, { "b.example", "b.example/fullchain.pem" }, { "c.example", "whatever/fullchain.pem" },
    { "rooms.c.example", "whatever/fullchain.pem" }, { "d.example", "d-new.crt" }, { "e.example", "e.example.pem" },
    { "rooms.a.example", "a.example.crt" }, { "f.example", nil }, { "g.example", nil }, { "example", nil },
  }
  for i, row in ipairs(rows) do
    local found = certs.find_host_cert(row[1])
    check.equal(found and found.certificate, row[2] and base .. "/certs/" .. row[2], "row " .. i)
  end
  check.equal(certs.find_host_cert("b.example").key, base .. "/certs/b.example/privkey.pem")
end)

check.test("options of a host, of a service, of everybody", function()
  load [[
    ssl = { protocol = "tlsv1_3", ciphers = { "A", "B" } }
    s2s_ssl = { cafile = "ours.pem" }
    c2s_ssl = { cafile = "ca.pem", verify = { "peer" } }
    VirtualHost "a.example"
      ssl = { certificate = "certs/b.example/fullchain.pem", key = "certs/b.example/privkey.pem" }
    VirtualHost "x.example"
      certificate = "whatever"
      tls_profile = "old"
    VirtualHost "y.example"
      certificate = "gone.crt"
    VirtualHost "e.example"
      tls_profile = "modern"
  ]]
  local a = certs.settings("a.example")
  check.equal(a.certificate, base .. "/certs/b.example/fullchain.pem")
  check.equal(a.key, base .. "/certs/b.example/privkey.pem")
  check.equal(a.min_version, "TLSv1.3")
  check.equal(a.max_version, "TLSv1.3")
  check.equal(a.ciphers, "A:B")
  check.equal(a.verify, nil)
  a = certs.settings("a.example", "c2s")
  check.equal(a.ca_file, base .. "/ca.pem")
  check.equal(a.verify, "request")
  check.equal(a.ca_system, nil)
  a = certs.settings("a.example", "s2s")
  check.equal({ a.ca_file, a.ca_system, a.verify }, { base .. "/ours.pem", true, "request" })
  check.equal(certs.settings("x.example").certificate, base .. "/certs/whatever/fullchain.pem")
  check.equal(certs.settings("y.example").certificate, base .. "/certs/gone.crt")
  check.ok(certs.settings("x.example").ciphers:find("^A:B$"))
  check.equal(certs.settings("e.example").min_version, "TLSv1.3")
end)

check.test("a profile that is none is told once, and once more at a reload", function()
  local lines, logger = {}, require "couplet.logger"
  local function sink(_, _, text) lines[#lines + 1] = text end
  logger.add_simple_sink(sink, { "error" })
  for i = 1, 2 do
    load 'tls_profile = "best"\nVirtualHost "a.example"\nVirtualHost "b.example"\ntls_profile = "worst"'
    for _, host in ipairs { "a.example", "b.example", "a.example" } do
      for _, service in ipairs { "c2s", "s2s" } do check.ok(certs.context(host, service)) end
    end
    local at = base .. "/config.lua:"
    check.equal(lines, { at .. '1: no TLS profile "best"; there are modern, intermediate, old',
      at .. '4: no TLS profile "worst"; there are modern, intermediate, old' }, "time " .. i)
    lines = {}
  end
  logger.remove_sink(sink)
end)

check.test("localhost and those who wish get one of our own", function()
  load 'VirtualHost "localhost"\nVirtualHost "w.example" { self_signed = true }\nVirtualHost "n.example"'
  check.equal(certs.settings("n.example").certificate, nil)
  for _, host in ipairs { "localhost", "w.example" } do
    local s = certs.settings(host)
    check.equal(s.certificate, base .. "/certs/" .. host .. ".crt")
    check.equal(system.stat(s.key).mode, 384, "0600")
    local again = certs.settings(host)
    check.equal(again.certificate, s.certificate)
  end
  check.equal(core.crypto.x509_parse(system.read_file(base .. "/certs/w.example.crt")).dns_names, { "w.example", "*.w.example" })
end)

check.test("report", function()
  certificate({ "old.example" }, "old.example.crt", "old.example.key", 5)
  load('VirtualHost "a.example"\nVirtualHost "old.example"\nVirtualHost "n.example"\nVirtualHost "z.example" { certificate = '
    .. '"a.example.crt" }')
  local by = {}
  for _, e in ipairs(certs.report()) do by[e.host] = e end
  check.equal(by["a.example"].problem, nil)
  check.equal(by["a.example"].self_made, true)
  check.ok(by["old.example"].problem:find("^expires in [45] days$"), by["old.example"].problem)
  check.equal(by["n.example"].problem, "no certificate")
  check.equal(by["z.example"].problem, "does not name the host")
end)

check.test("what is wrong is told with the line that asks for it", function()
  certificate({ "old.example" }, "old.example.crt", "old.example.key", 5)
  local c, k = "certs/a.example.crt", "certs/a.example.key"
  local rows = {
    -- options above the host, below it, line, what is said; trouble with a service
    { "", "", 3, "no certificate", host = "n.example" },
    { "", "", 3, "expires in", host = "old.example" },
    { "", 'certificate = "gone.crt"', 4, "there is no such file" },
    { 'certificate = "gone.crt"', "", 2, "there is no such file" },
    { "", '\ncertificate = "a.example.crt"', 5, "does not name the host", host = "z.example" },
    { "", 'certificate = "keyless.crt"\nkey = "gone.key"', 5, "its key, .*/gone.key, is not there" },
    -- a key that is named is missed, though another lies beside the certificate
    { "", 'certificate = "a.example.crt"\nkey = "gone.key"', 5, "its key, .*/certs/gone.key, is not there" },
    { "", 'key = "gone.key"', 4, "its key, .*/certs/gone.key, is not there" },
    { "", 'ssl = { key = "gone.key" }', 4, "its key, .*/gone.key, is not there" },
    { 'ssl = { key = "gone.key" }', 'certificate = "a.example.crt"', 2, "its key, .*/gone.key, is not there" },
    { 'ssl = { certificate = "b.crt", key = "gone.key" }', 'certificate = "a.example.crt"', nil, nil, service = "c2s" },
    { "", ('ssl = { certificate = "%s", key = "gone.key" }'):format(c), 4, "its key, .*/gone.key, is not there" },
    { "", 'c2s_ssl = { key = "gone.key" }', 4, "c2s_ssl: key: .*/gone.key.*the file is not there", service = "c2s" },
    { "", 'ssl = { certificate = "gone.crt", key = "gone.key" }', 4, "there is no such file" },
    { 'ssl = { certificate = "gone.crt", key = "gone.key" }', "tls_profile = 'old'", 2, "there is no such file" },
    { 'ssl = { cafile = "gone.pem", verify = "peer" }', "", 2, "ssl: .*/gone.pem.*the file is not there", service = "c2s" },
    { 's2s_ssl = { cafile = "gone.pem" }', "", 2, "s2s_ssl: .*/gone.pem.*the file is not there", service = "s2s" },
    { 's2s_ssl = { cafile = "gone.pem" }', "", nil, nil, service = "c2s" },
    { "", ('https_ssl = {\ncertificate = "%s", key = "certs/b.example/privkey.pem" }'):format(c), 4,
      "https_ssl: .*another certificate", service = "https" },
    { "", ('ssl = { certificate = "%s", key = "%s", ciphers = "NONE" }'):format(c, k), 4, "ssl: ciphers: no cipher match",
      service = "c2s" },
    { 'c2s_ssl = { curve = "none" }', "", 2, "c2s_ssl: ", service = "c2s" },
    { 'c2s_ssl = { dhparam = "gone.pem" }', "", 2, "c2s_ssl: .*gone.pem", service = "c2s" },
    { "", "", nil, nil, service = "c2s" },
  }
  for i, row in ipairs(rows) do
    local host = row.host or "a.example"
    load(("\n%s\nVirtualHost %q\n%s\n"):format(row[1], host, row[2]))
    local text, place
    if row.service then
      text, place = certs.trouble(host, row.service)
    else
      local entry = certs.report()[1]
      text, place = entry.problem, entry.place
    end
    check.equal({ i, place }, { i, row[3] and base .. "/config.lua:" .. row[3] })
    check.ok(row[4] == nil and text == nil or text:find(row[4]), ("row %d: %s"):format(i, text))
  end
end)

check.test("what cannot be read is named: authorities, lists of revoked certificates", function()
  for _, key in ipairs { "cafile", "crlfile" } do
    load(('VirtualHost "localhost"\nself_signed = true\nssl = { %s = "gone.pem" }'):format(key))
    local context, err = certs.context("localhost", "s2s")
    check.equal(context, nil)
    check.ok(err:find(base .. "/gone.pem for ", 1, true) and err:find("the file is not there", 1, true), err)
  end
end)

check.test("contexts are made once, and anew after a reload", function()
  load('VirtualHost "a.example"\nVirtualHost "n.example"\nVirtualHost "bad.example" { ssl = { certificate = '
    .. '"certs/a.example.crt", key = "certs/b.example/privkey.pem" } }')
  local one = check.ok(certs.context("a.example", "c2s"))
  check.equal(certs.context("a.example", "c2s"), one)
  certs.reload()
  check.ok(certs.context("a.example", "c2s") ~= one)
  local none, err = certs.context("n.example", "c2s")
  check.equal(none, nil)
  check.ok(err:find("cert generate n.example"), err)
  none, err = certs.context("bad.example", "c2s")
  check.equal(none, nil)
  check.ok(err:find("a.example.crt"), err)
  check.ok(certs.direct("c2s_direct_tls"))
end)

check.test("what root makes belongs to the user the server becomes", function()
  if system.uid() ~= 0 then return end
  local nobody = system.user "nobody"
  system.mkdir(base .. "/data", 0x1e8)
  for i, options in ipairs { 'user = "nobody"', 'data_path = "data"' } do
    system.chown(base .. "/data", i == 2 and nobody.uid or 0, 0)
    load(('%s certificates = "own%d" VirtualHost "n.example"'):format(options, i))
    local made = assert(certs.generate "n.example")
    for _, path in ipairs { certs.directory(), made.key, made.certificate } do
      check.equal(system.stat(path).uid, nobody.uid, options .. " " .. path)
    end
  end
end)

check.test("a certificate of our own that cannot be made is tried once, and again after a reload", function()
  local generate, tries = certs.generate, 0
  certs.generate = function() tries = tries + 1 return nil, "the disk is full" end
  for round = 1, 2 do
    load 'certificates = "nothing" VirtualHost "localhost"'
    for _, service in ipairs { "c2s", "c2s_direct_tls", "s2s" } do check.equal(certs.context("localhost", service), nil) end
    check.equal(tries, round)
  end
  certs.generate = generate
end)

temp.remove(base)
check.done()
