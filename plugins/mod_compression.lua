-- SPDX-License-Identifier: MIT
-- mod_compression: XEP-0138 with zlib. Not enabled by default: compressing secrets together with what others send leaks them,
-- and each compressed stream costs memory. Offered after authentication only (XEP-0170); the core bounds what a peer's bytes may
-- inflate to.

local st = require "couplet.stanza"

local FEATURE, NS = "http://jabber.org/features/compress", "http://jabber.org/protocol/compress"

local feature = st.stanza("compression", { xmlns = FEATURE }):text_tag("method", "zlib")
local compressed = st.stanza("compressed", { xmlns = NS })

local function possible(session)
  return session.type == "c2s_unbound" and session.net and not session.compressed
end

module:hook("stream-features", function(event)
  if possible(event.origin) then event.features:add_child(feature) end
end)

local function fail(origin, condition)
  origin.send(st.stanza("failure", { xmlns = NS }):tag(condition):up())
  return true
end

module:hook("stanza/" .. NS .. ":compress", function(event)
  local origin, stanza = event.origin, event.stanza
  if not possible(origin) then return fail(origin, "setup-failed") end
  local method
  for child in stanza:childtags("method", NS) do
    if child:get_text() == "zlib" then method = "zlib" end
  end
  if not method then
    return fail(origin, stanza:get_child("method", NS) and "unsupported-method" or "setup-failed")
  end
  local net = origin.net
  origin.send(compressed)
  origin.compressed, origin.notopen, origin.streamid = true, true, nil
  net:compress(method)                         -- from the next byte on, both ways; a new stream comes
  return true
end)
