-- SPDX-License-Identifier: MIT
-- mod_s2s_bidi: one connection for both directions between two servers (XEP-0288).
--
-- session.incoming, of an outgoing stream: the other side may send stanzas on it; session.outgoing, of an incoming one: we may.
-- Only pairs of domains proved on the stream travel on it: of a pair that was proved, the inverse goes back (§2.2).

local s2s = require "couplet.s2s"
local st = require "couplet.stanza"
local task = require "couplet.task"

local NS, FEATURE = "urn:xmpp:bidi", "urn:xmpp:features:bidi"

module:hook("s2s-stream-features", function(event)
  if event.origin.type ~= "s2sin_unauthed" then return end
  event.features:tag("bidi", { xmlns = FEATURE }):up()
end)

module:hook("stanza/" .. NS .. ":bidi", function(event)
  local session = event.origin
  if session.type ~= "s2sin_unauthed" then return nil end
  if not session.secure and s2s.needs_tls(module.host) then
    session:close { condition = "policy-violation", text = "TLS comes first" }
    return true
  end
  session.log("debug", "wants to use this stream both ways")
  session.outgoing = true
  return true
end)

-- Before whatever proves us.
module:hook("s2s/authenticate", function(event)
  local session, features = event.session, event.features
  if session.type ~= "s2sout_unauthed" or session.incoming or not features or not features:get_child("bidi", FEATURE) then
    return nil
  end
  session.incoming = true
  session.sends2s(st.stanza("bidi", { xmlns = NS }))
end, 1000)

-- DNS is asked about a pair once at a time, however often the other side has it confirmed.
local function carry(session, remote, here)
  local pair = here .. " " .. remote
  session.finding_out = session.finding_out or {}
  if session.finding_out[pair] then return end
  session.finding_out[pair] = true
  local good = s2s.may_carry(session, remote)
  if session.destroyed then return end
  session.finding_out[pair] = nil
  if good then return s2s.adopt(session, remote, here) end
  session.log("info", "what goes to %s looks for its own way: its TLSA records describe another certificate", remote)
end

-- A task of its own: DNS may be asked.
module:hook("s2s/proved", function(event)
  local session = event.session
  if session.incoming or session.outgoing then task.spawn(carry, session, event.host, event.here) end
end)
