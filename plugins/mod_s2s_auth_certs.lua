-- SPDX-License-Identifier: MIT
-- mod_s2s_auth_certs: other servers proved by their certificates: the judgement (RFC 6120 §13.7.2, RFC 9525), and SASL EXTERNAL
-- in both directions (RFC 6120 §6, XEP-0178).
--
-- session.cert_chain_status and cert_identity_status are "valid" or not; with s2s_secure_auth (the default) a stream whose
-- certificate is not good for its domain ends. Without, such a domain may still be proved by dialback, over TLS.

local base64 = require "couplet.util.base64"
local certs = require "couplet.certs"
local hosts = require "couplet.hosts"
local peer_cert = require "couplet.peer_cert"
local s2s = require "couplet.s2s"
local st = require "couplet.stanza"

local SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
local ATTEMPTS_MAX = 3

module:config {
  s2s_secure_auth = { type = "boolean", default = true,
    doc = "other servers need a certificate that is good for their domain; false: dialback over TLS will do" },
  s2s_secure_domains = { type = "set", default = {}, doc = "domains that need one although s2s_secure_auth is false" },
  s2s_insecure_domains = { type = "set", default = {}, doc = "domains that need none although it is true" },
}

-- The host DNSSEC has led us to may be named instead of the domain (RFC 7673 §4.1, RFC 7712 §6).
local function target_of(session)
  local way = session.direction == "outgoing" and session.way
  return way and way.secure and way.host or nil
end

-- Whose authorities have looked at the chain: those of the host TLS was made for. Direct TLS: of the one SNI names.
local function judged_for(session, tls)
  if session.direction == "outgoing" then return session.from_host end
  if session.tls_host then return session.tls_host end
  local named = tls.sni and s2s.domain(tls.sni)
  return named and hosts.get(named) and named or "*"
end

module:hook("s2s-check-certificate", function(event)
  local session, domain = event.session, event.host
  local chain, identity, problem = peer_cert.judge(event.tls, event.cert, domain, target_of(session))
  if not problem and not event.tls.dane and not certs.same_authorities(judged_for(session, event.tls), module.host, "s2s") then
    chain, problem = "invalid", "authorities of another host have judged it"
  end
  session.cert_chain_status, session.cert_identity_status, session.cert_problem = chain, identity, problem
  session.cert_chain_errors = event.tls.verify_errors
  session.log("debug", "certificate of %s: %s%s", domain, problem or "good", event.tls.dane and " (DANE)" or "")
  if problem and s2s.needs_certificate(module.host, domain) then return false end
end)

local function good(session)
  return session.secure and session.cert_chain_status == "valid" and session.cert_identity_status == "valid"
end

-- Nothing is proved without TLS where a certificate is needed, whoever says so.
module:hook("s2s-authenticated", function(event)
  if not event.session.secure and s2s.needs_certificate(module.host, event.host) then
    event.session.log("info", "%s: a certificate is needed, and there is no TLS", event.host)
    return false
  end
end, 10)

-- Incoming -----------------------------------------------------------------------------------------------------------------

module:hook("s2s-stream-features", function(event)
  local session = event.origin
  if session.type ~= "s2sin_unauthed" or not session.from_host or not good(session) then return end
  event.features:tag("mechanisms", { xmlns = SASL }):text_tag("mechanism", "EXTERNAL"):up()
end)

local function refused(session, condition, text)
  session.sasl_failures = (session.sasl_failures or 0) + 1
  session.log("info", "SASL refused: %s%s", condition, text and ": " .. text or "")
  local failure = st.stanza("failure", { xmlns = SASL }):tag(condition):up()
  if text then failure:text_tag("text", text, { ["xml:lang"] = "en" }) end
  session.sends2s(failure)
  if session.sasl_failures >= ATTEMPTS_MAX then
    session:close { condition = "policy-violation", text = "Too many failed attempts to authenticate" }
  end
  return true
end

-- The name in <auth/>: nil, or one that must be that of the stream header.
local function authzid(element)
  local text = element:get_text()
  if #element.tags > 0 then return nil, "malformed-request" end
  if not text or text == "" or text == "=" then return nil end
  local name = base64.decode_strict(text)
  if not name then return nil, "incorrect-encoding" end
  name = s2s.domain(name)
  if not name then return nil, "invalid-authzid" end
  return name
end

module:hook("stanza/" .. SASL .. ":auth", function(event)
  local session, element = event.origin, event.stanza
  if session.type ~= "s2sin_unauthed" then return nil end
  if not session.secure then return refused(session, "encryption-required") end
  if element.attr.mechanism ~= "EXTERNAL" then return refused(session, "invalid-mechanism") end
  if not session.from_host then return refused(session, "not-authorized", "The stream header named no domain") end
  local name, condition = authzid(element)
  if condition then return refused(session, condition) end
  if name and name ~= session.from_host then
    return refused(session, "invalid-authzid", "The stream header named another domain")
  end
  -- Judged again, for exactly the domain that is to be proved: dialback may have had it judged for others since the header.
  local sound, problem = s2s.check_certificate(session, session.from_host)
  if session.destroyed then return true end
  if session.type ~= "s2sin_unauthed" then                -- dialback was faster, perhaps for another domain
    return session:close { condition = "policy-violation", text = "One proof at a time" } or true
  end
  if not sound or not good(session) then return refused(session, "not-authorized", problem) end
  if not s2s.make_authenticated(session, session.from_host, "EXTERNAL") then
    return session.closing or session.destroyed or refused(session, "not-authorized", "This domain is not wanted here")
  end
  session.sends2s(st.stanza("success", { xmlns = SASL }))
  session:reset_stream()
  return true
end)

-- Outgoing -----------------------------------------------------------------------------------------------------------------

module:hook("s2s/authenticate", function(event)
  local session = event.session
  if session.external_auth or session.type ~= "s2sout_unauthed" or not session.secure or not event.features then return nil end
  local mechanisms = event.features:get_child("mechanisms", SASL)
  local offered = false
  for mechanism in (mechanisms or st.stanza "none"):childtags("mechanism", SASL) do
    offered = offered or mechanism:get_text() == "EXTERNAL"
  end
  if not offered then return nil end
  session.external_auth, session.sasl_under_way = "attempted", true
  session.sends2s(st.stanza("auth", { xmlns = SASL, mechanism = "EXTERNAL" }):text(base64.encode(session.from_host)))
  return true
end, 100)

module:hook("stanza/" .. SASL .. ":success", function(event)
  local session = event.origin
  if session.type ~= "s2sout_unauthed" or session.external_auth ~= "attempted" then return nil end
  session.external_auth = "succeeded"
  session:reset_stream()
  session:open_stream(session.from_host, session.to_host)
  return true
end)

-- Some servers offer what they then refuse: other ways are left.
module:hook("stanza/" .. SASL .. ":failure", function(event)
  local session = event.origin
  if session.type ~= "s2sout_unauthed" or session.external_auth ~= "attempted" then return nil end
  local reason = event.stanza.tags[1]
  session.log("info", "%s does not take our certificate (%s)", session.to_host, reason and reason.name or "no reason given")
  session.external_auth, session.sasl_under_way = "failed", nil
  s2s.stream_ready(session, true)
  return true
end)
