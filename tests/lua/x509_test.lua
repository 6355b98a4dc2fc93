-- SPDX-License-Identifier: MIT
-- Whose certificate is it? Rows of names in it, names asked for, answers.

local check = require "check"
local x509 = require "couplet.util.x509"

local name = os.tmpname()

local function certificate(cn, alt)
  local extra = alt and ('-addext "subjectAltName=%s"'):format(alt) or ""
  check.ok(os.execute(("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -days 3 -subj "
    .. "/CN=%s %s -out %s 2>/dev/null"):format(
    cn, extra, name)))
  local f <close> = io.open(name)
  return x509.load(f:read "a")
end

local XMPP, SRV = "otherName:1.3.6.1.5.5.7.8.5;UTF8:", "otherName:1.3.6.1.5.5.7.8.7;IA5STRING:"

check.test("identities", function()
  local rows = {
    { "x", "DNS:example.org", "example.org", true }, { "x", "DNS:example.org", "EXAMPLE.org", true },
    { "x", "DNS:example.org", "www.example.org", false }, { "x", "DNS:*.example.org", "www.example.org", true },
    { "x", "DNS:*.example.org", "example.org", false }, { "x", "DNS:*.example.org", "a.b.example.org", false },
    { "x", "DNS:w*.example.org", "www.example.org", false }, { "x", "DNS:*.*.org", "www.example.org", false },
    { "x", SRV .. "_xmpp-client.example.org", "example.org", true },
    { "x", SRV .. "_xmpp-server.example.org", "example.org", false },
    { "x", SRV .. "_XMPP-Client.Example.org", "example.org", true },                    -- RFC 9525 §6.5
    { "x", "DNS:192.0.2.1", "192.0.2.1", false }, { "x", "DNS:*.0.2.1", "192.0.2.1", false },     -- §6.4: no names
    { "x", "IP:192.0.2.1", "192.0.2.1", true }, { "x", "IP:192.0.2.1", "192.0.2.2", false },
    { "x", "IP:2001:db8::1", "[2001:db8::1]", true },
    { "x", XMPP .. "a@example.org", "example.org", false },
    { "x", XMPP .. "example.org", "example.org", true }, { "x", XMPP .. "other.org", "example.org", false },
    { "example.org", nil, "example.org", true }, { "example.org", "DNS:other.org", "example.org", false },
    { "x", "DNS:xn--bcher-kva.example", "bücher.example", true },
  }
  for i, row in ipairs(rows) do
    check.equal(x509.verify_identity(row[3], "_xmpp-client", certificate(row[1], row[2])), row[4], "row " .. i)
  end
  -- domains differ though older rules (IDNA 2003) would make them one
  local idn = { subject = function() return {} end, extensions = function()
    return { ["2.5.29.17"] = { ["1.3.6.1.5.5.7.8.5"] = { "Stra\u{df}e.example" } } }
  end }
  check.ok(x509.verify_identity("stra\u{df}e.example", "_xmpp-server", idn))
  check.ok(not x509.verify_identity("strasse.example", "_xmpp-server", idn))
  check.equal(x509.get_identities(certificate("x", "DNS:a.example," .. SRV .. "_xmpp-client.b.example," .. XMPP .. "c.example")),
    {
    ["a.example"] = { ["*"] = true }, ["b.example"] = { ["xmpp-client"] = true },
    ["c.example"] = { ["xmpp-client"] = true, ["xmpp-server"] = true },
  })
end)

check.test("certificates as objects", function()
  local cert = certificate("juliet", "DNS:example.org")
  check.equal(cert:subject()[1].value, "juliet")
  check.equal(cert:validat(os.time() + 10), true)
  check.equal(cert:validat(os.time() + 10 * 86400), false)
  check.equal(x509.load(cert:pem()), cert)
  check.equal(#cert:digest "sha256", 64)
  check.equal(cert:extensions()["2.5.29.17"].dNSName, { "example.org" })
  check.ok(cert:notafter():find "GMT$")
  check.equal(x509.pem2der(cert:pem()), cert.der)
  check.equal(x509.load "nothing", nil)
end)

os.remove(name)
check.done()
