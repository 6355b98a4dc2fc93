-- SPDX-License-Identifier: MIT
-- mod_tls: STARTTLS (RFC 6120 §5), and TLS demanded before anything else.

local certs = require "couplet.certs"
local hosts = require "couplet.hosts"
local st = require "couplet.stanza"

local NS = "urn:ietf:params:xml:ns:xmpp-tls"

module:config {
  c2s_require_encryption = { type = "boolean", default = true, doc = "clients must use TLS before they log in" },
}
local required = module:get_option_boolean("c2s_require_encryption", module:get_option_boolean("require_encryption", true))

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

local function context()
  local host = hosts.get(module.host)
  return host and host.ssl_ctx
end

local function offered(session)
  return session.type == "c2s_unauthed" and session.net and not session.secure and context() ~= nil
end

module:hook("stream-features", function(event)
  if not offered(event.origin) then return end
  event.features:tag("starttls", { xmlns = NS })
  if required then event.features:tag("required"):up() end
  event.features:up()
end, 100)

module:hook("stanza/" .. NS .. ":starttls", function(event)
  local origin = event.origin
  local net = origin.net
  if not net then return nil end
  if not offered(origin) then                  -- §5.4.2.2: the stream and the connection end
    origin.log("info", "TLS refused: %s", origin.secure and "there is TLS already" or "no certificate for this host")
    origin.send(failure)
    origin:close()
    net:close()
    return true
  end
  origin.send(proceed)
  origin.notopen, origin.streamid = true, nil
  net:starttls(context())                      -- what was sent in clear behind <starttls/> is thrown away
  return true
end)
