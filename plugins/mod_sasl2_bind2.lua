-- SPDX-License-Identifier: MIT
-- mod_sasl2_bind2: a resource is bound, and features of the session switched on, along with authentication (XEP-0386).
--
-- Plugins whose feature can be switched on that way hook two events of the host:
--   advertise-bind-features { origin, features }             features:tag("feature", { var = "urn:…" }):up()
--   enable-bind-features { session, request, result }        request: <bind/>, look for your element; result: <bound/>, add to it
--
-- The resource is "tag/identifier"; a client that tells its id gets the same identifier each time, which does not show the id.

local crypto = require "couplet.core".crypto
local directory = require "couplet.directory"
local id = require "couplet.util.id"
local sessions = require "couplet.sessions"
local st = require "couplet.stanza"

local BIND2 = "urn:xmpp:bind:0"
local TAG_BYTES = 256

local login = module:depends "sasl2".login

module:hook("advertise-sasl-features", function(event)
  local bind, inline = st.stanza("bind", { xmlns = BIND2 }), st.stanza("inline", { xmlns = BIND2 })
  module:fire_event("advertise-bind-features", { origin = event.origin, features = inline })
  inline:reset()
  if inline.tags[1] then bind:add_child(inline) end
  event.features:add_child(bind)
end, 1)

local function resource_of(session, request, fixed)
  if fixed then return fixed end                 -- by the authentication plugin
  local tag = request:get_child_text "tag"
  if tag and (tag == "" or #tag > TAG_BYTES) then tag = nil end
  local own
  if session.client_id then
    local text = ("bind2\0%s\0%s\0%s"):format(session.username, session.client_id, tag or "")
    own = crypto.base64url_encode(crypto.hmac_sha256(login.secret(), text):sub(1, 9))
  else
    own = id.short()
  end
  return tag and tag .. "/" .. own or own
end

-- A client has one session: an earlier one, under another resource, has been left behind.
local function end_others(session)
  local user, others = directory.user(session.username .. "@" .. session.host), {}
  for _, other in pairs(user and user.sessions or {}) do
    if other ~= session and other.client_id == session.client_id then others[#others + 1] = other end
  end
  for _, other in ipairs(others) do
    other:close { condition = "conflict", text = "Replaced by new connection" }
    if not other.destroyed then sessions.destroy_session(other, "Replaced by new connection") end
  end
end

local conditions = { conflict = "conflict", ["resource-constraint"] = "resource-constraint", ["not-allowed"] = "policy-violation",
  ["internal-server-error"] = "internal-server-error" }

module:hook("sasl2/c2s/success", function(event)
  local session = event.session
  local request = event.stanza:get_child("bind", BIND2)
  if not request or session.resource then return end         -- of a resumed stream: ignored
  local ok, _, condition, text = sessions.bind_resource(session, resource_of(session, request, session.sasl_resource))
  if not ok and condition == "bad-request" then              -- no resource can be made of that tag
    ok, _, condition, text = sessions.bind_resource(session, resource_of(session, st.stanza("bind", { xmlns = BIND2 })))
  end
  if session.destroyed then return true end
  if not ok then
    session.log("info", "no resource for a client that has authenticated: %s", text or condition)
    session:close { condition = conditions[condition] or "undefined-condition", text = text }
    return true
  end
  session.sasl_resource = nil
  if session.client_id then end_others(session) end
  local bound = st.stanza("bound", { xmlns = BIND2 })
  module:fire_event("enable-bind-features", { session = session, request = request, result = bound, stanza = request })
  if session.destroyed then return true end
  bound:reset()
  event.success:add_child(bound)
end, 50)
