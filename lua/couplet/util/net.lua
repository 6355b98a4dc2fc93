-- SPDX-License-Identifier: MIT
-- util.net: addresses as bytes, and those of this machine.
--
--   pton("192.0.2.1" | "2001:db8::1") -> 4 or 16 bytes | nil, message        ntop(bytes) -> text | nil, message (RFC 5952)
--   local_addresses("both" | "ipv4" | "ipv6", link_local?) -> array of texts (loopback is left out)

local system = require "couplet.core".system

local net = {}

local function pton4(text)
  local a, b, c, d = text:match "^(%d%d?%d?)%.(%d%d?%d?)%.(%d%d?%d?)%.(%d%d?%d?)$"
  if not a then return nil end
  for _, part in ipairs { a, b, c, d } do
    if tonumber(part) > 255 or #part > 1 and part:sub(1, 1) == "0" then return nil end
  end
  return string.char(a, b, c, d)
end

-- Groups of one side of "::" -> bytes
local function groups(text)
  if text == "" then return "" end
  local out = {}
  for group, at in (text .. ":"):gmatch "([^:]*):()" do
    local last = at > #text + 1
    if last and group:find(".", 1, true) then
      out[#out + 1] = pton4(group)
      if not out[#out] then return nil end
    elseif group:find "^%x%x?%x?%x?$" then
      out[#out + 1] = string.pack(">I2", tonumber(group, 16))
    else
      return nil
    end
  end
  return table.concat(out)
end

local function pton6(text)
  if #text > 45 then return nil end
  local head, tail = text:match "^(.-)::(.*)$"
  if not head then
    local all = groups(text)
    return all and #all == 16 and all or nil
  end
  if tail:find("::", 1, true) or head:find(".", 1, true) then return nil end
  head, tail = groups(head), groups(tail)
  if not head or not tail or #head + #tail > 14 then return nil end
  return head .. ("\0"):rep(16 - #head - #tail) .. tail
end

function net.pton(text)
  if type(text) ~= "string" then error("bad argument #1 to 'pton' (string expected)", 2) end
  local bytes
  if text:find(":", 1, true) then bytes = pton6(text) else bytes = pton4(text) end
  if not bytes then return nil, "no IP address" end
  return bytes
end

local function ntop6(bytes)
  local g = { string.unpack(">I2I2I2I2I2I2I2I2", bytes) }
  if bytes:sub(1, 12) == ("\0"):rep(10) .. "\255\255" then
    return "::ffff:" .. net.ntop(bytes:sub(13))
  end
  local from, length = 0, 1             -- the longest run of two zeros or more
  local i = 1
  while i <= 8 do
    local j = i
    while j <= 8 and g[j] == 0 do j = j + 1 end
    if j - i > length then from, length = i, j - i end
    i = math.max(j, i + 1)
  end
  local out = {}
  for n = 1, 8 do out[n] = ("%x"):format(g[n]) end
  if from == 0 then return table.concat(out, ":") end
  return table.concat(out, ":", 1, from - 1) .. "::" .. table.concat(out, ":", from + length, 8)
end

function net.ntop(bytes)
  if #bytes == 4 then return ("%d.%d.%d.%d"):format(bytes:byte(1, 4)) end
  if #bytes == 16 then return ntop6(bytes) end
  return nil, "unknown address family"
end

-- What the kernel lists; nothing where it does not.
local function addresses4(out)
  local file = io.open "/proc/net/fib_trie"
  if not file then return end
  local last, seen = nil, {}
  for line in file:lines() do
    local address = line:match "|%-%- (%d+%.%d+%.%d+%.%d+)"
    if address then
      last = address
    elseif last and line:find "/32 host LOCAL" and not last:find "^127%." and not seen[last] then
      seen[last] = true
      out[#out + 1] = last
    end
  end
  file:close()
end

local function addresses6(out, link_local)
  local text = system.read_file and system.read_file "/proc/net/if_inet6" or nil
  for hex, scope in (text or ""):gmatch "(%x+) %x+ %x+ (%x+) [^\n]*" do
    if #hex == 32 and scope ~= "10" and (scope ~= "20" or link_local) then
      out[#out + 1] = net.ntop((hex:gsub("%x%x", function(x) return string.char(tonumber(x, 16)) end)))
    end
  end
end

function net.local_addresses(kind, link_local)
  kind = kind or "both"
  local out = {}
  if kind ~= "ipv6" then addresses4(out) end
  if kind ~= "ipv4" then addresses6(out, link_local) end
  return out
end

return net
