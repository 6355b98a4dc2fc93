-- SPDX-License-Identifier: MIT
-- peer_cert.lua: is what another server shows good for its domain (RFC 6120 §13.7.2, RFC 9525), and what DANE says of a
-- certificate (RFC 6698).
--
--   peer_cert.judge(tls, cert, domain, target?) -> chain, identity, problem      "valid" | "none" | "invalid"; "valid" | "none" |
--     "invalid"; nil or what is wrong. tls: of the connection; target: a host whose name is as good as the domain's
--   peer_cert.described(record, cert) -> boolean     is this the certificate of the TLSA record (rdata), whatever its usage?
--   peer_cert.fits(record, cert, tls, domain, target) -> boolean     … and does its usage make it good? Usages 1 and 3; target:
--     the host whose record it is. What says nothing of this certificate itself (0, 2) does not fit
--   peer_cert.record(cert) -> "3 1 1 …"              the record to publish for it
--   peer_cert.names_it(cert, domain) -> boolean
--   peer_cert.names(cert) -> { text, … }             whom it names

local hash = require "couplet.core".crypto.hash
local x509 = require "couplet.util.x509"

local peer_cert = {}

local PKIX_EE = 1
local DANE_EE = 3                      -- the record speaks of this certificate: names and dates do not matter (RFC 7671 §5.1)

-- Common names do not count (RFC 9525 §2).
function peer_cert.names_it(cert, domain)
  if not (cert.dns_names[1] or cert.srv_names[1] or cert.xmpp_addrs[1]) then return false end
  return x509.verify_identity(domain, "_xmpp-server", cert)
end

function peer_cert.judge(tls, cert, domain, target)
  if not cert then return "none", "none", "there is none" end
  if tls.dane == DANE_EE then return "valid", "valid" end
  local errors = tls.verify_errors or {}
  local identity = (peer_cert.names_it(cert, domain) or target and peer_cert.names_it(cert, target)) and "valid" or "invalid"
  if errors[1] then return "invalid", identity, (errors[1]:gsub("^%d+ ", "")) end
  return "valid", identity, identity ~= "valid" and "it does not name " .. domain or nil
end

local hashes = { "sha256", "sha512" }  -- by matching type (RFC 6698 §2.1.3)

local function public_key(cert) return x509.pem2der((cert:pubkey()), "PUBLIC KEY") end

function peer_cert.described(record, cert)
  local select, match, data = record:byte(2), record:byte(3), record:sub(4)
  local what = select == 0 and cert.der or select == 1 and public_key(cert)
  if not what or #data == 0 then return false end
  if match == 0 then return data == what end
  return hashes[match] ~= nil and data == hash(hashes[match], what)
end

-- Usage 1 asks for all that counts without DANE, too: a good chain and a name (RFC 7671 §5.3, RFC 7673 §6).
function peer_cert.fits(record, cert, tls, domain, target)
  local usage = record:byte(1)
  if not cert then return false end
  if usage ~= DANE_EE and (usage ~= PKIX_EE or tls.verify_errors and tls.verify_errors[1]
    or not (peer_cert.names_it(cert, domain) or peer_cert.names_it(cert, target))) then
    return false
  end
  return peer_cert.described(record, cert)
end

function peer_cert.record(cert)
  local key = public_key(cert)
  return key and "3 1 1 " .. hash("sha256", key, true)
end

function peer_cert.names(cert)
  local out = {}
  for _, list in ipairs { cert.dns_names, cert.srv_names, cert.xmpp_addrs } do table.move(list, 1, #list, #out + 1, out) end
  return out
end

return peer_cert
