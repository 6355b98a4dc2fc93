-- SPDX-License-Identifier: MIT
-- util.ip: IP addresses.
--
--   new_ip("192.0.2.1" | "2001:db8::1%eth0", proto?) -> ip | nil, message
--     ip.addr ip.proto ("IPv4" | "IPv6") ip.zone ip.packed ip.bits ("0101…") ip.normal (= addr: shortest form) ip.scope ip.label
--     ip.precedence ip.private ip.toV4mapped (IPv4 only); comparing with == compares addresses, not spellings
--   is_ip(x) -> bool                           made by new_ip
--   parse_cidr("192.0.2.0/24") -> ip, bits | nil, message      match(ip, network, bits?) -> bool     192.0.2.1 and
--   ::ffff:192.0.2.1 are the same
--   truncate(ip, bits) -> ip                   commonPrefixLength(a, b) -> bits

local net = require "couplet.util.net"
local pton, ntop = net.pton, net.ntop

local ip = {}
local V4MAPPED = ("\0"):rep(10) .. "\255\255"

-- RFC 6724 §2.1: prefix, bits, precedence, label
local policy = {
  { "::1", 128, 50, 0 }, { "::ffff:0:0", 96, 35, 4 }, { "2002::", 16, 30, 2 }, { "2001::", 32, 5, 5 }, { "fc00::", 7, 3, 13 },
  { "::", 96, 1, 3 }, { "fec0::", 10, 1, 11 }, { "3ffe::", 16, 1, 12 }, { "::", 0, 40, 1 },
}
for _, row in ipairs(policy) do row.bytes = pton(row[1]) end

-- RFC 1918, 6598, 3927, 4193, loopback
local private = {}
for _, cidr in ipairs { "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10", "127.0.0.0/8",
  "::1/128", "fc00::/7", "fe80::/10" } do
  local address, bits = cidr:match "^(.*)/(%d+)$"
  private[#private + 1] = { bytes = pton(address), bits = tonumber(bits) }
end

local function common(a, b)
  local n = 0
  for i = 1, math.min(#a, #b) do
    local x = a:byte(i) ~ b:byte(i)
    if x == 0 then
      n = n + 8
    else
      while x & 0x80 == 0 do
        n = n + 1
        x = x << 1
      end
      break
    end
  end
  return n
end

local function as_six(self)
  if #self.packed == 16 then return self.packed end
  return V4MAPPED .. self.packed
end

local function as_four(self)
  if #self.packed == 4 then return self.packed end
  if self.packed:sub(1, 12) == V4MAPPED then return self.packed:sub(13) end
end

local function policy_of(self)
  local bytes = as_six(self)
  for _, row in ipairs(policy) do
    if common(bytes, row.bytes) >= row[2] then return row end
  end
end

local fields = {}

function fields.bits(self)
  return (self.packed:gsub(".", function(c)
    local out, byte = {}, c:byte()
    for i = 7, 0, -1 do out[#out + 1] = byte >> i & 1 end
    return table.concat(out)
  end))
end

function fields.normal(self) return self.addr end
function fields.precedence(self) return policy_of(self)[3] end
function fields.label(self) return policy_of(self)[4] end

-- RFC 6724 §3.1, 3.2
function fields.scope(self)
  local four = as_four(self)
  if four then
    local a, b = four:byte(1, 2)
    return (a == 127 or a == 169 and b == 254) and 0x2 or 0xE
  end
  local a, b = self.packed:byte(1, 2)
  if a == 0xff then return b & 0xf end
  if self.packed == ("\0"):rep(15) .. "\1" or a == 0xfe and b & 0xc0 == 0x80 then return 0x2 end
  if a == 0xfe and b & 0xc0 == 0xc0 then return 0x5 end
  return 0xE
end

function fields.private(self)
  local bytes = as_four(self) or self.packed
  for _, row in ipairs(private) do
    if #row.bytes == #bytes and common(bytes, row.bytes) >= row.bits then return true end
  end
  return false
end

function fields.toV4mapped(self)
  if self.proto ~= "IPv4" then return nil, "no IPv4 address" end
  return ip.new_ip("::ffff:" .. self.addr)
end

local mt = { __name = "ip" }

function mt.__index(self, key)
  local fn = fields[key]
  if not fn then return ip[key] end
  local value, err = fn(self)
  if value == nil then return nil, err end
  rawset(self, key, value)
  return value
end

function mt.__tostring(self) return self.addr end
function mt.__eq(a, b) return a.packed == b.packed and a.zone == b.zone end

function ip.is_ip(x) return getmetatable(x) == mt end

local function make(bytes, zone)
  return setmetatable({ addr = ntop(bytes), proto = #bytes == 4 and "IPv4" or "IPv6", packed = bytes, zone = zone }, mt)
end

function ip.new_ip(text, proto)
  if ip.is_ip(text) then return text end
  if type(text) ~= "string" then return nil, "invalid-ip" end
  local address, zone = text:match "^([^%%]+)%%(.+)$"
  local bytes = pton(address or text)
  if not bytes or zone and #bytes == 4 then return nil, "invalid-ip" end
  if proto and proto ~= "IPv4" and proto ~= "IPv6" then return nil, "invalid protocol" end
  if proto and (proto == "IPv4") ~= (#bytes == 4) then return nil, "invalid-ip" end
  return make(bytes, zone)
end

local function to_ip(x)
  if type(x) == "string" then return ip.new_ip(x) end
  return x
end

function ip.parse_cidr(text)
  local address, bits = text:match "^([^/]+)/(%d%d?%d?)$"
  local parsed, err = ip.new_ip(address or text)
  if not parsed then return nil, err end
  bits = bits and math.tointeger(tonumber(bits))
  if not address and text:find("/", 1, true) or bits and bits > #parsed.packed * 8 then return nil, "invalid-cidr" end
  return parsed, bits
end

function ip.commonPrefixLength(a, b)
  return common(as_six(to_ip(a)), as_six(to_ip(b)))
end

function ip.match(a, b, bits)
  local x, y = to_ip(a), to_ip(b)
  if not x or not y then return false end
  local p, q = as_four(x) or x.packed, as_four(y) or y.packed
  return #p == #q and common(p, q) >= (bits or #q * 8)
end

function ip.truncate(address, bits)
  address = to_ip(address)
  local bytes, out = address.packed, {}
  for i = 1, #bytes do
    local keep = math.max(0, math.min(8, bits - (i - 1) * 8))
    out[i] = string.char(bytes:byte(i) & (0xff << (8 - keep) & 0xff))
  end
  return make(table.concat(out))
end

return ip
