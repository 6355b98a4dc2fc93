-- SPDX-License-Identifier: MIT
-- ip_test.lua: addresses, their classes, and matching them against networks.
local check = require "check"
local ip = require "couplet.util.ip"

check.test("addresses are read and written in their shortest form (RFC 5952)", function()
  for text, want in pairs {
    ["192.0.2.1"] = "192.0.2.1", ["::1"] = "::1", ["2001:DB8:0:0:1:0:0:1"] = "2001:db8::1:0:0:1", ["::"] = "::",
    ["::ffff:192.0.2.1"] = "::ffff:192.0.2.1", ["fe80::1%eth0"] = "fe80::1", ["1:2:3:4:5:6:7::"] = "1:2:3:4:5:6:7:0",
  } do
    check.equal(check.ok(ip.new_ip(text), text).addr, want, text)
  end
end)

check.test("what is no address is refused", function()
  for _, text in ipairs { "", "1.2.3", "1.2.3.256", "1.2.3.4.5", ":::", "1::2::3", "12345::", "g::", "1:2:3:4:5:6:7:8:9",
    "::1.2.3", "localhost", "1:2:3:4:5:6:7:8::" } do
    check.equal(ip.new_ip(text), nil, text)
  end
  check.equal(ip.new_ip(nil), nil)
  check.equal(ip.parse_cidr "10.0.0.0/33", nil)
end)

check.test("networks", function()
  local rows = {
    { "10.1.2.3", "10.0.0.0/8", true }, { "11.0.0.1", "10.0.0.0/8", false }, { "10.0.0.1", "10.0.0.1", true },
    { "::ffff:10.1.2.3", "10.0.0.0/8", true }, { "2001:db8::1", "2001:db8::/32", true },
    { "2001:db9::1", "2001:db8::/32", false }, { "10.1.2.3", "::/0", false }, { "1.2.3.4", "0.0.0.0/0", true },
  }
  for i, row in ipairs(rows) do
    local net, bits = ip.parse_cidr(row[2])
    check.equal(ip.match(ip.new_ip(row[1]), net, bits), row[3], "row " .. i)
  end
  check.equal(ip.truncate(ip.new_ip "2001:db8:1:2:3:4:5:6", 64).addr, "2001:db8:1:2::")
  check.equal(ip.truncate(ip.new_ip "192.0.2.130", 25).addr, "192.0.2.128")
  check.equal(ip.new_ip "127.0.0.1".private, true)
  check.equal(ip.new_ip "1.1.1.1".private, false)
  check.ok(ip.new_ip "1.1.1.1" == ip.new_ip "1.1.1.1")
end)

check.done()
