-- SPDX-License-Identifier: MIT
-- util.x509: whose certificate is it? RFC 6120 §13.7.2, RFC 6125, RFC 9525. Trust is decided by TLS; this compares names.
--
--   x509.load(pem or der) -> certificate | nil, message        an object with the fields of crypto.x509_parse, and methods as
--     plugins know them from TLS libraries: subject() issuer() serial() notbefore() notafter() validat(t) pem() digest(hash)
--     pubkey() extensions()
--   x509.verify_identity(host, service, cert) -> boolean       service: "_xmpp-client", "_xmpp-server", …
--   x509.get_identities(cert) -> { [name] = { [service or "*"] = true } }
--   x509.pem2der(text, kind?)  x509.der2pem(der, kind?)

local crypto = require "couplet.core".crypto
local pton = require "couplet.util.net".pton
local to_ascii = require "couplet.util.encodings".idna.to_ascii

local x509 = { pem2der = crypto.pem2der, der2pem = crypto.der2pem }

-- Objects -----------------------------------------------------------------------------------------------------------------

local methods = {}
local Certificate = { __name = "certificate" }
local readings = setmetatable({}, { __mode = "k" })         -- object -> what the certificate says

function Certificate.__index(cert, key)
  local method = methods[key]
  if method then return method end
  return readings[cert][key]
end
function Certificate.__tostring(cert) return "certificate of " .. (readings[cert].common_names[1] or "?") end
Certificate.__eq = function(a, b) return readings[a].der == readings[b].der end

-- A time that is none is nil: such a certificate is never valid.
local function date(t) return t and os.date("!%b %d %H:%M:%S %Y GMT", t) end

function methods.subject(cert) return readings[cert].subject end
function methods.issuer(cert) return readings[cert].issuer end
function methods.serial(cert) return readings[cert].serial end
function methods.notbefore(cert) return date(readings[cert].notbefore) end
function methods.notafter(cert) return date(readings[cert].notafter) end
function methods.validat(cert, t)
  local from, to = readings[cert].notbefore, readings[cert].notafter
  return from ~= nil and to ~= nil and t >= from and t <= to
end
function methods.pem(cert) return readings[cert].pem end
function methods.digest(cert, hash) return crypto.hash((hash or "sha1"):lower(), readings[cert].der, true) end
function methods.getsignaturename(cert) return readings[cert].signature_hash end
function methods.pubkey(cert) return readings[cert].pubkey, readings[cert].key_type, readings[cert].key_bits end

function methods.extensions(cert)
  local r = readings[cert]
  return { ["2.5.29.17"] = {
    name = "X509v3 Subject Alternative Name", dNSName = r.dns_names, rfc822Name = r.emails,
    ["1.3.6.1.5.5.7.8.5"] = r.xmpp_addrs, ["1.3.6.1.5.5.7.8.7"] = r.srv_names,
  } }
end

function x509.load(text)
  local read, err = crypto.x509_parse(text)
  if not read then return nil, err end
  local cert = setmetatable({}, Certificate)
  readings[cert] = read
  return cert
end

-- Certificates of other makers: what their extensions say, in our words.
local function names_of(cert)
  local r = readings[cert]
  if r then return r end
  local alt = cert.extensions and cert:extensions()["2.5.29.17"] or {}
  local common = {}
  for _, entry in ipairs(cert:subject() or {}) do
    if entry.oid == "2.5.4.3" then common[#common + 1] = entry.value end
  end
  return { dns_names = alt.dNSName or {}, srv_names = alt["1.3.6.1.5.5.7.8.7"] or {}, xmpp_addrs = alt["1.3.6.1.5.5.7.8.5"] or {},
    common_names = common }
end

-- Names ---------------------------------------------------------------------------------------------------------------------

-- A wildcard stands for one whole label, the first (RFC 9525 §6.3).
local function dns_matches(pattern, host)
  pattern = pattern:lower()
  if pattern:sub(1, 2) ~= "*." then return pattern == host end
  local rest = host:match "^[^.]+(%..+)$"
  return rest ~= nil and pattern:sub(2) == rest and not pattern:find("*", 2, true)
end

local function any(list, test)
  for _, name in ipairs(list) do
    if test(name) then return true end
  end
  return false
end

function x509.verify_identity(host, service, cert)
  local names = names_of(cert)
  local ascii = to_ascii(host)
  if not ascii then return false end
  ascii = ascii:lower()
  if any(names.xmpp_addrs, function(name) return (to_ascii(name) or ""):lower() == ascii end) then return true end
  if any(names.srv_names, function(name)
    local kind, domain = name:match "^(_[^.]+)%.(.+)$"
    return kind ~= nil and kind:lower() == service and dns_matches(domain, ascii)           -- RFC 9525 §6.5
  end) then return true end
  local octets = pton(ascii:match "^%[(.+)%]$" or ascii)
  if octets then return any(names.ips or {}, function(ip) return ip == octets end) end        -- §6.4: an address is no name
  if any(names.dns_names, function(name) return dns_matches(name, ascii) end) then return true end
  if names.dns_names[1] or names.srv_names[1] or names.xmpp_addrs[1] then return false end
  return any(names.common_names, function(name) return name:lower() == ascii end)     -- only where nothing better is said
end

function x509.get_identities(cert)
  local names, found = names_of(cert), {}
  local function add(name, service)
    name = name:lower()
    found[name] = found[name] or {}
    found[name][service] = true
  end
  for _, name in ipairs(names.srv_names) do
    local service, domain = name:match "^_([^.]+)%.(.+)$"
    if service then add(domain, service) end
  end
  for _, name in ipairs(names.xmpp_addrs) do
    if not name:find "@" then add(name, "xmpp-client") add(name, "xmpp-server") end
  end
  for _, name in ipairs(names.dns_names) do add(name, "*") end
  if not next(found) then
    for _, name in ipairs(names.common_names) do add(name, "*") end
  end
  return found
end

return x509
