-- SPDX-License-Identifier: MIT
-- mod_saslauth: clients log in with SASL (RFC 6120 §6) and bind a resource (§7). What is not syntax is in couplet.login, which
-- mod_sasl2 uses too; the options of both are declared here.

local base64 = require "util.base64"
local new_login = require "couplet.login".new
local sessionmanager = require "core.sessionmanager"
local st = require "util.stanza"

module:config {
  allow_unencrypted_plain_auth = { type = "boolean", default = false, doc = "PLAIN without TLS: never on a network" },
  disable_sasl_mechanisms = { type = "set", default = { "DIGEST-MD5" }, doc = "mechanisms nobody may use" },
  insecure_sasl_mechanisms = { type = "set", default = { "PLAIN", "LOGIN" }, doc = "mechanisms that need TLS" },
  max_sasl_attempts = { type = "integer", default = 3, min = 1, doc = "wrong proofs on one stream" },
  auth_lockout_threshold = { type = "integer", default = 5, min = 1,
    doc = "failures of one account from one address that cost nothing" },
  auth_lockout_address_threshold = { type = "integer", default = 50, min = 1,
    doc = "the same for an address, whatever the account" },
  auth_lockout_max = { type = "period", default = 600, doc = "longest time somebody has to wait" },
  client_certificate_auth = { type = "boolean", default = false, doc = "EXTERNAL with a certificate the TLS layer has verified" },
  certificate_match = { type = "enum", default = "xmppaddr", enum = { "xmppaddr", "email" }, doc = "the name in it that counts" },
  tls_server_end_point_hash = { type = "string",
    doc = "hex; if something in front of the server does TLS with its own certificate" },
}

module:depends "sasl_ssdp"

local SASL, BIND, SESSION = "urn:ietf:params:xml:ns:xmpp-sasl", "urn:ietf:params:xml:ns:xmpp-bind",
  "urn:ietf:params:xml:ns:xmpp-session"

-- Answers -----------------------------------------------------------------------------------------------------------------

local dialect = { name = "sasl" }

function dialect.failure(session, condition, text)
  local answer = st.stanza("failure", { xmlns = SASL }):tag(condition):up()
  if text then answer:text_tag("text", text, { ["xml:lang"] = "en" }) end
  session.send(answer)
end

function dialect.challenge(session, data)
  session.send(st.stanza("challenge", { xmlns = SASL }):text(base64.encode(data or "")))
end

function dialect.success(session, _, data)
  local event = { session = session, message = data }
  module:fire_event("sasl/" .. session.base_type .. "/success", event)
  local answer, last = st.stanza("success", { xmlns = SASL }), event.message
  if last then answer:text(last == "" and "=" or base64.encode(last)) end        -- §6.3.10: "=" is present but empty
  session.send(answer)
  session:reset_stream()
end

local login = new_login(module, dialect)
module.load = login.load

-- Elements ----------------------------------------------------------------------------------------------------------------

local function text_of(element)
  if #element.tags > 0 then return nil end
  local parts = {}
  for _, part in ipairs(element) do parts[#parts + 1] = part end
  return table.concat(parts)
end

-- The message of <auth/> or <response/> goes to the handler. In <auth/> nothing means: no initial response (§6.4.2).
local function process(session, element)
  local text, message = text_of(element), nil
  if not text then return login.refused(session, "malformed-request") end
  if text == "=" then
    message = ""
  elseif text ~= "" then
    message = base64.decode_strict(text)
    if not message then
      session.sasl_handler = nil
      return login.refused(session, "incorrect-encoding")
    end
  elseif element.name == "response" then
    message = ""
  end
  return login.process(session, message)
end

module:hook("stream-features", function(event)
  local session, features = event.origin, event.features
  if session.type ~= "c2s_unauthed" then
    if session.username and not session.full_jid and session.base_type == "c2s" then
      features:tag("bind", { xmlns = BIND }):tag("required"):up():up()
      features:tag("session", { xmlns = SESSION }):tag("optional"):up():up()
    end
    return
  end
  local names = login.offer(event)
  if not names then return end
  features:add_child(login.element("mechanisms", SASL, names))
end)

module:hook("stanza/" .. SASL .. ":auth", function(event)
  local session = event.origin
  if session.type ~= "c2s_unauthed" or module:get_host_type() ~= "local" then return nil end
  if not login.start(event, event.stanza.attr.mechanism) then return true end
  return process(session, event.stanza)
end)

module:hook("stanza/" .. SASL .. ":response", function(event)
  local session = event.origin
  if session.type ~= "c2s_unauthed" then return nil end
  local handler = session.sasl_handler
  if not (handler and handler.selected) then return login.refused(session, "malformed-request", "Out of order SASL element") end
  return process(session, event.stanza)
end)

module:hook("stanza/" .. SASL .. ":abort", function(event)
  local session = event.origin
  if session.type ~= "c2s_unauthed" then return nil end
  session.sasl_handler = nil
  return login.refused(session, "aborted")
end)

-- Binding -----------------------------------------------------------------------------------------------------------------

module:hook("stanza/iq/" .. BIND .. ":bind", function(event)
  local session, stanza = event.origin, event.stanza
  if session.type ~= "c2s_unbound" then return nil end
  if stanza.attr.type ~= "set" then
    session.send(st.error_reply(stanza, "modify", "bad-request", "Binding is an iq of type set"))
    return true
  end
  local resource = session.sasl_resource
  local wish = stanza.tags[1]:get_child "resource"
  if not resource and wish and #wish.tags == 0 then resource = wish:get_text() end
  local ok, kind, condition, text = sessionmanager.bind_resource(session, resource)
  if session.destroyed then return true end
  if not ok then
    session.log("debug", "resource refused: %s", text or condition)
    session.send(st.error_reply(stanza, kind, condition, text))
    return true
  end
  session.sasl_resource = nil
  session.send(st.reply(stanza):tag("bind", { xmlns = BIND }):text_tag("jid", session.full_jid))
  return true
end)

-- A second resource on the same stream is not what RFC 6120 knows any more.
local function bind_again(event)
  if event.stanza.attr.type ~= "set" then return nil end
  event.origin.send(st.error_reply(event.stanza, "cancel", "not-allowed", "A resource is bound already"))
  return true
end

for _, target in ipairs { "self", "host", "bare" } do
  module:hook("iq-set/" .. target .. "/" .. BIND .. ":bind", function(event)
    if event.origin.type ~= "c2s" then return nil end
    return bind_again(event)
  end)
end

-- RFC 3921's session is a harmless no-op.
local function session_request(event)
  if event.origin.type ~= "c2s" then return nil end
  event.origin.send(st.reply(event.stanza))
  return true
end
module:hook("iq-set/self/" .. SESSION .. ":session", session_request)
module:hook("iq-set/host/" .. SESSION .. ":session", session_request)
