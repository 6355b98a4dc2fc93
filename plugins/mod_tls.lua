-- SPDX-License-Identifier: MIT
-- mod_tls: STARTTLS (RFC 6120 §5) with clients and, both ways, with servers; TLS demanded before anything else.

local certs = require "couplet.certs"
local hosts = require "couplet.hosts"
local s2s = require "couplet.s2s"
local st = require "couplet.stanza"
local to_ascii = require "couplet.util.encodings".idna.to_ascii

local NS = "urn:ietf:params:xml:ns:xmpp-tls"

module:config {
  c2s_require_encryption = { type = "boolean", default = true, doc = "clients must use TLS before they log in" },
  require_encryption = { type = "boolean", doc = "older name of c2s_require_encryption" },
  s2s_require_encryption = { type = "boolean", default = true, doc = "other servers must use TLS" },
  s2s_allow_encryption = { type = "boolean", default = true, doc = "TLS with other servers; false: for museums" },
}
local s2s_required = s2s.needs_tls(module.host)
local s2s_allowed = module.config.s2s_allow_encryption
local required = require "couplet.login".needs_tls(module)

local proceed, failure = st.stanza("proceed", { xmlns = NS }), st.stanza("failure", { xmlns = NS })

-- The host's context, or one a plugin has put in its place.
local ours
local function refresh()
  local host = hosts.get(module.host)
  if host.ssl_ctx ~= nil and host.ssl_ctx ~= ours then return end
  ours = certs.context(module.host, "c2s")
  host.ssl_ctx, host.ssl_ctx_in = ours, ours
end
refresh()
module:hook_global("certificates-reloaded", refresh)

local function context(session)
  if session.direction then return s2s_allowed and certs.context(module.host, "s2s") or nil end
  local host = hosts.get(module.host)
  return host and host.ssl_ctx
end

local function offered(session)
  return (session.type == "c2s_unauthed" or session.type == "s2sin_unauthed") and session.net and not session.secure
    and context(session) ~= nil
end

local function offer(event, needed)
  if not offered(event.origin) then return end
  event.features:tag("starttls", { xmlns = NS })
  if needed then event.features:tag("required"):up() end
  event.features:up()
end

module:hook("stream-features", function(event) offer(event, required) end, 100)
module:hook("s2s-stream-features", function(event) offer(event, s2s_required) end, 100)

module:hook("stanza/" .. NS .. ":starttls", function(event)
  local origin = event.origin
  local net = origin.net
  if not net then return nil end
  local answer = origin.sends2s or origin.send
  if not offered(origin) then                  -- §5.4.2.2: the stream and the connection end
    origin.log("info", "TLS refused: %s", origin.secure and "there is TLS already" or "no certificate for this host")
    answer(failure)
    origin:close()
    net:close()
    return true
  end
  answer(proceed)
  origin.notopen, origin.streamid, origin.header_sent = true, nil, nil
  origin.tls_host = module.host                -- whose authorities judge the other side
  net:starttls(context(origin))                -- what was sent in clear behind <starttls/> is thrown away
  return true
end)

-- Servers we have called ------------------------------------------------------------------------------------------------------

module:hook("stanza/http://etherx.jabber.org/streams:features", function(event)
  local session = event.origin
  if session.direction ~= "outgoing" or session.secure or not s2s_allowed then return nil end
  if not event.stanza:get_child("starttls", NS) then return nil end
  session.starttls_sent = true
  session.sends2s(st.stanza("starttls", { xmlns = NS }))
  return true
end, 500)

module:hook("stanza/" .. NS .. ":proceed", function(event)
  local session = event.origin
  if session.direction ~= "outgoing" or session.secure or not session.starttls_sent then return nil end
  local ctx, err = certs.client_context(module.host, session.way and session.way.tlsa)
  if not ctx then
    session:close(nil, "no TLS: " .. tostring(err))
    return true
  end
  session.starttls_sent = nil
  session.notopen, session.streamid, session.header_sent = true, nil, nil
  session.net:starttls(ctx, to_ascii(session.to_host))
  return true
end)

module:hook("stanza/" .. NS .. ":failure", function(event)
  local session = event.origin
  if session.direction ~= "outgoing" or not session.starttls_sent then return nil end
  session:close(nil, "the other side refuses TLS", { condition = "remote-server-timeout", text = "The other server refuses TLS" })
  return true
end)
