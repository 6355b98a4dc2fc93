-- SPDX-License-Identifier: MIT
-- util.dns: numbers and bytes of DNS.
--
--   types: name <-> number    classes, errors, error names    parsers[type](rdata) -> value with fields and tostring
--   parse(type, rdata) -> value    a value of A and AAAA is its text; others are tables

local ntop = require "couplet.util.net".ntop

local dns = {}

local types = {
  A = 1, NS = 2, CNAME = 5, SOA = 6, PTR = 12, MX = 15, TXT = 16, AAAA = 28, SRV = 33, NAPTR = 35, DS = 43, RRSIG = 46,
  DNSKEY = 48, TLSA = 52, SVCB = 64, HTTPS = 65, SPF = 99, ANY = 255, CAA = 257,
}
local both = {}
for name, number in pairs(types) do
  both[name], both[number] = number, name
end
dns.types = setmetatable(both, { __index = function(_, key)
  if type(key) == "number" then return "TYPE" .. key end
  local number = type(key) == "string" and key:match "^TYPE(%d+)$"
  return number and math.tointeger(tonumber(number)) or nil
end })

dns.classes = { IN = 1, CH = 3, HS = 4, [1] = "IN", [3] = "CH", [4] = "HS" }

dns.errors = {
  NoError = "No Error", FormErr = "Format Error", ServFail = "Server Failure", NXDomain = "Non-Existent Domain",
  NotImp = "Not Implemented",
  Refused = "Query Refused", YXDomain = "Name Exists when it should not", NotAuth = "Server Not Authoritative for zone",
  [0] = "NoError", "FormErr", "ServFail", "NXDomain", "NotImp", "Refused", "YXDomain", "YXRRSet", "NXRRSet", "NotAuth", "NotZone",
}

-- A name in rdata (never compressed there: libunbound has resolved that) -> text, next position
local function name_at(bytes, at)
  local labels = {}
  while true do
    local length = bytes:byte(at)
    if not length then return nil end
    at = at + 1
    if length == 0 then break end
    if length > 63 then return nil end
    labels[#labels + 1] = (bytes:sub(at, at + length - 1):gsub("[.\\]", "\\%0"))
    at = at + length
  end
  return table.concat(labels, ".") .. ".", at
end

local function value(fields, show)
  return setmetatable(fields, { __tostring = show })
end

local parsers = {}
dns.parsers = parsers

function parsers.A(data) return #data == 4 and ntop(data) or nil end
function parsers.AAAA(data) return #data == 16 and ntop(data) or nil end
function parsers.CNAME(data) return (name_at(data, 1)) end
parsers.NS, parsers.PTR = parsers.CNAME, parsers.CNAME

function parsers.MX(data)
  if #data < 3 then return nil end
  local pref = string.unpack(">I2", data)
  local mx = name_at(data, 3)
  return mx and value({ pref = pref, mx = mx }, function(v) return ("%d %s"):format(v.pref, v.mx) end)
end

function parsers.SRV(data)
  if #data < 7 then return nil end
  local priority, weight, port = string.unpack(">I2I2I2", data)
  local target = name_at(data, 7)
  return target and value({ priority = priority, weight = weight, port = port, target = target },
    function(v) return ("%d %d %d %s"):format(v.priority, v.weight, v.port, v.target) end)
end

function parsers.TXT(data)
  local out, at = {}, 1
  while at <= #data do
    local length = data:byte(at)
    out[#out + 1] = data:sub(at + 1, at + length)
    at = at + length + 1
  end
  return value(out, table.concat)
end
parsers.SPF = parsers.TXT

local hex = require "couplet.util.hex"

function parsers.TLSA(data)
  if #data < 4 then return nil end
  local use, select_, match = data:byte(1, 3)
  local tlsa = { use = use, select = select_, match = match, data = data:sub(4) }
  tlsa.getUsage = function() return ({ [0] = "PKIX-CA", "PKIX-EE", "DANE-TA", "DANE-EE" })[use] end
  tlsa.getSelector = function() return ({ [0] = "Cert", "SPKI", [255] = "PrivSel" })[select_] end
  tlsa.getMatchType = function() return ({ [0] = "Full", "SHA2-256", "SHA2-512", [255] = "PrivMatch" })[match] end
  return value(tlsa, function(v) return ("%d %d %d %s"):format(v.use, v.select, v.match, hex.encode(v.data)) end)
end

function parsers.SOA(data)
  local mname, at = name_at(data, 1)
  local rname, after = name_at(data, at or #data + 1)
  if not rname or #data < after + 19 then return nil end
  local serial, refresh, retry, expire, minimum = string.unpack(">I4I4I4I4I4", data, after)
  return value({ mname = mname, rname = rname, serial = serial, refresh = refresh, retry = retry, expire = expire,
    minimum = minimum },
    function(v) return ("%s %s %d %d %d %d %d"):format(v.mname, v.rname, v.serial, v.refresh, v.retry, v.expire, v.minimum) end)
end

-- What it is, or the bytes as RFC 3597 §5 writes them.
function dns.parse(kind, data)
  if type(kind) == "number" then kind = dns.types[kind] end
  local parser = parsers[kind]
  local parsed = parser and parser(data)
  if parsed ~= nil then return parsed end
  return ("\\# %d %s"):format(#data, hex.encode(data))
end

-- An answer of couplet.resolver -> array of rr { name =, type =, class =, ttl =, TYPE and type = value } and what is true of all.
-- Records that are not what their type says are left out.
function dns.answer(result)
  local kind = dns.types[result.type]
  local out = { name = result.name, canonical = result.canonical, type = kind, qtype = result.type, rcode = result.rcode,
    status = dns.errors[result.rcode] or tostring(result.rcode), secure = result.secure, bogus = result.bogus,
    why_bogus = result.why_bogus, nxdomain = result.nxdomain, ttl = result.ttl }
  for _, data in ipairs(result) do
    local parsed = dns.parse(kind, data)
    if not parsers[kind] or parsers[kind](data) ~= nil then
      out[#out + 1] = setmetatable({ name = result.canonical or result.name, type = kind, class = "IN", ttl = result.ttl,
        [kind] = parsed, [kind:lower()] = parsed, data = data }, { __tostring = function(rr)
          return ("%s\t%s\t%s\t%s"):format(rr.name, rr.class, rr.type, tostring(rr[rr.type]))
        end })
    end
  end
  return setmetatable(out, { __tostring = function(a)
    local lines = { ("Status: %s"):format(dns.errors[a.status] or a.status) }
    for _, rr in ipairs(a) do lines[#lines + 1] = tostring(rr) end
    return table.concat(lines, "\n")
  end })
end

return dns
