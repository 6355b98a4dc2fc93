-- SPDX-License-Identifier: MIT
-- ip.lua: IP addresses and networks.
--
--   new_ip(text, proto?) -> ip | nil, message      ip.addr (shortest form), .proto "IPv4" | "IPv6", .packed (bytes), .zone,
--                                                  .private, .scope (bits, RFC 4291 §2.7), .toV4mapped; ip == ip compares
--   parse_cidr "10.0.0.0/8" -> ip, bits | nil       without /bits: bits is nil
--   match(a, b, bits?) -> bool       the first bits of a are those of b; an IPv4 address is the same as its mapped IPv6 one
--   commonPrefixLength(a, b), truncate(ip, bits) -> ip, is_ip(x)

local ip = {}
local mt = { __name = "ip" }

local function pack4(text)
  local a, b, c, d = text:match "^(%d%d?%d?)%.(%d%d?%d?)%.(%d%d?%d?)%.(%d%d?%d?)$"
  if not a then return nil end
  a, b, c, d = tonumber(a), tonumber(b), tonumber(c), tonumber(d)
  if a > 255 or b > 255 or c > 255 or d > 255 then return nil end
  return string.char(a, b, c, d)
end

-- "1:2:3" -> bytes; nil if there is something else in it
local function groups(text)
  if text == "" then return "" end
  local out = {}
  for part in (text .. ":"):gmatch "(.-):" do
    if not part:find "^%x%x?%x?%x?$" then return nil end
    out[#out + 1] = (">I2"):pack(tonumber(part, 16))
  end
  return table.concat(out)
end

local function pack6(text)
  local head, last = text:match "^(.*:)([%d.]+)$"
  if head and last:find(".", 1, true) then                     -- ::ffff:192.0.2.1
    local four = pack4(last)
    if not four then return nil end
    text = head .. ("%x:%x"):format(four:byte(1) << 8 | four:byte(2), four:byte(3) << 8 | four:byte(4))
  end
  local left, right = text:match "^(.-)::(.*)$"
  if not left then
    local all = groups(text)
    return all and #all == 16 and all or nil
  end
  left, right = groups(left), groups(right)
  if not left or not right or #left + #right > 14 then return nil end
  return left .. ("\0"):rep(16 - #left - #right) .. right
end

-- RFC 5952: lower case, the longest run of zeros as ::
local function text6(bytes)
  local parts, best, length = {}, nil, 1
  for i = 1, 8 do parts[i] = (">I2"):unpack(bytes, 2 * i - 1) end
  local i = 1
  while i <= 8 do
    local n = 0
    while i + n <= 8 and parts[i + n] == 0 do n = n + 1 end
    if n > length then best, length = i, n end
    i = i + math.max(n, 1)
  end
  local function join(from, to)
    local out = {}
    for k = from, to do out[#out + 1] = ("%x"):format(parts[k]) end
    return table.concat(out, ":")
  end
  if not best then return join(1, 8) end
  return join(1, best - 1) .. "::" .. join(best + length, 8)
end

local MAPPED = ("\0"):rep(10) .. "\255\255"

local function make(bytes, zone)
  local self = { packed = bytes, zone = zone }
  self.proto = #bytes == 4 and "IPv4" or "IPv6"
  self.addr = #bytes == 4 and table.concat({ bytes:byte(1, 4) }, ".") or text6(bytes)
  return setmetatable(self, mt)
end

function ip.is_ip(x) return getmetatable(x) == mt end

function ip.new_ip(text, proto)
  if ip.is_ip(text) then return text end
  if type(text) ~= "string" then return nil, "invalid-ipaddr" end
  local address, zone = text:match "^([^%%]+)%%(.+)$"
  local bytes
  if proto ~= "IPv6" and not zone then bytes = pack4(text) end
  if not bytes and proto ~= "IPv4" then bytes = pack6(address or text) end
  if not bytes then return nil, "invalid-ipaddr" end
  return make(bytes, zone)
end

local function wide(x)
  return #x.packed == 4 and MAPPED .. x.packed or x.packed
end

local function narrow(x)
  if #x.packed == 16 and x.packed:sub(1, 12) == MAPPED then return make(x.packed:sub(13)) end
  return x
end

function ip.commonPrefixLength(a, b)
  local x, y = a.packed, b.packed
  if #x ~= #y then x, y = wide(a), wide(b) end
  for i = 1, #x do
    local diff = x:byte(i) ~ y:byte(i)
    if diff ~= 0 then
      local n = 0
      while diff & 0x80 == 0 do diff, n = diff << 1, n + 1 end
      return (i - 1) * 8 + n
    end
  end
  return #x * 8
end

function ip.match(a, b, bits)
  a, b = narrow(a), narrow(b)
  if a.proto ~= b.proto then return false end
  return ip.commonPrefixLength(a, b) >= (bits or #b.packed * 8)
end

function ip.parse_cidr(text)
  local address, bits = text:match "^([^/]+)/(%d+)$"
  local parsed, err = ip.new_ip(address or text)
  if not parsed then return nil, err end
  bits = math.tointeger(tonumber(bits))
  if bits and bits > #parsed.packed * 8 then return nil, "invalid-prefix" end
  return parsed, bits
end

function ip.truncate(x, bits)
  local out = {}
  for i = 1, #x.packed do
    local keep = math.max(0, math.min(8, bits - (i - 1) * 8))
    out[i] = string.char(x.packed:byte(i) & (0xff << (8 - keep) & 0xff))
  end
  return make(table.concat(out))
end

local private = {}
for _, net in ipairs { "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "::1/128",
  "fc00::/7", "fe80::/10" } do
  private[#private + 1] = { ip.parse_cidr(net) }
end

local computed = {
  private = function(x)
    for _, net in ipairs(private) do
      if ip.match(x, net[1], net[2]) then return true end
    end
    return false
  end,
  -- RFC 4291 §2.7, RFC 6724 §3.2
  scope = function(x)
    local first, second = x.packed:byte(1, 2)
    if #x.packed == 4 then return (first == 127 or first == 169 and second == 254) and 0x2 or 0xE end
    if first == 0xff then return second & 0xf end
    if x.packed == ("\0"):rep(15) .. "\1" or first == 0xfe and second & 0xc0 == 0x80 then return 0x2 end
    if first == 0xfe and second & 0xc0 == 0xc0 then return 0x5 end
    return 0xE
  end,
  toV4mapped = function(x) return make(wide(x)) end,
}

function mt.__index(x, key)
  local compute = computed[key]
  local value = compute and compute(x)
  if value ~= nil then rawset(x, key, value) end
  return value
end
function mt.__tostring(x) return x.addr end
function mt.__eq(a, b) return a.packed == b.packed and a.zone == b.zone end

return ip
