-- SPDX-License-Identifier: MIT
-- mod_s2s_auth_dane_in: servers that call us, proved by the TLSA records of their domain (RFC 7712 §5.1; DANE for outgoing
-- connections is use_dane, mod_s2s).
--
-- Where DNSSEC vouches for the domain's SRV records and for TLSA records of a host they name, and the certificate shown is the
-- one a record describes (usage 3, or 1 together with a good chain and name), it is good for the domain. If not, nothing is lost:
-- a server may call with another certificate than it answers with; then mod_s2s_auth_certs judges as ever. Usages 0 and 2
-- prove no domain of XMPP's (RFC 7712 §5.1): 0 could only repeat what mod_s2s_auth_certs says.

local dial = require "couplet.dial"
local peer_cert = require "couplet.peer_cert"

local TARGETS_MAX = 8                  -- hosts whose records are looked at

module:hook("s2s-check-certificate", function(event)
  local session, domain, cert = event.session, event.host, event.cert
  if session.direction ~= "incoming" or not cert then return nil end
  local budget = { left = module:get_option_period("s2s_lookup_timeout", 12) }
  local targets = dial.targets(domain, budget) or {}
  for i = 1, math.min(#targets, TARGETS_MAX) do
    local target = targets[i]
    for _, record in ipairs(target.secure and dial.tlsa(target, budget) or {}) do
      if peer_cert.fits(record, cert, event.tls, domain, target.host) then
        session.log("debug", "certificate of %s: good by the TLSA records of %s", domain, target.host)
        session.cert_chain_status, session.cert_identity_status, session.cert_problem = "valid", "valid", nil
        return true
      end
    end
  end
end, 10)
