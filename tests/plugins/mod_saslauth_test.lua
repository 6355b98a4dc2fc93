-- SPDX-License-Identifier: MIT
-- Logging in and binding, as a client's elements and the server's answers.

local check = require "check"
local client = require "sasl_client"
local base64 = require "couplet.util.base64"
local fake = require "fakehost"
local st = require "couplet.stanza"
local users = require "couplet.users"
require "couplet.store"

local SASL = "urn:ietf:params:xml:ns:xmpp-sasl"

-- An authentication plugin as somebody else might write it.
local AUTH = [[
  local new_sasl = require "util.sasl".new
  local passwords = { juliet = "O Romeo", tybalt = "no peace" }
  local provider = {}
  function provider.user_exists(name) return passwords[name] ~= nil end
  function provider.is_enabled(name) return name ~= "tybalt" end
  function provider.get_account_info(name) return passwords[name] and { enabled = name ~= "tybalt" } end
  function provider.test_password(name, password) return passwords[name] == password end
  function provider.users() return pairs(passwords) end
  function provider.get_sasl_handler()
    return new_sasl(module.host, { plain = function(_, name)
      if name == "crash" then error "the backend is on fire" end
      local state
      if passwords[name] then state = name ~= "tybalt" end
      return passwords[name], state
    end })
  end
  module:provides("auth", provider)
]]

local last
local function new(options, plugin)
  if last then pcall(last.close, last) end         -- of a test that failed
  collectgarbage()                                 -- failures are counted as long as somebody holds the counters
  options = options or {}
  options.authentication = options.authentication or "own"
  local host = fake.new { options = options, global = { storage = "memory" } }
  last = host
  if options.authentication == "own" then host:load("auth_own", plugin or AUTH) end
  host:load "saslauth"
  return host
end

local function connect(host, fields)
  local c
  local all = { reset_stream = function(session) session.resets = (session.resets or 0) + 1 end }
  for k, v in pairs(fields or {}) do all[k] = v end
  if all.bindings or all.peer_cert then
    all.conn = client.channel(all.bindings, all.peer_cert, all.verify_errors)
  end
  c = host:client(host.name, all)
  c.features = function()
    local features = st.stanza "features"
    host:fire("stream-features", { origin = c.session, features = features })
    return features:reset()
  end
  return c
end

local function mechanisms(features)
  local list, parent = {}, features:get_child("mechanisms", SASL)
  for tag in parent and parent:childtags "mechanism" or function() end do list[#list + 1] = tag:get_text() end
  return list
end

local function auth(c, mechanism, message)
  local e = st.stanza("auth", { xmlns = SASL, mechanism = mechanism })
  if message then e:text(message == "" and "=" or base64.encode(message)) end
  c:send(e)
  return c:received()[1]
end

local function respond(c, message)
  c:send(st.stanza("response", { xmlns = SASL }):text(base64.encode(message)))
  return c:received()[1]
end

local function condition(answer)
  if not answer then return nil end
  check.equal(answer.attr.xmlns, SASL)
  if answer.name ~= "failure" then return answer.name end
  return answer.tags[1].name
end

local function login(c, mech, name, password, extra)
  if mech == "PLAIN" then return auth(c, mech, client.plain(name, password)) end
  local o = { mech = mech, username = name, password = password }
  for k, v in pairs(extra or {}) do o[k] = v end
  local next = client.scram(o)
  local answer = auth(c, mech, next(nil))
  while answer.name == "challenge" do answer = respond(c, next(base64.decode(answer:get_text() or ""))) end
  if answer.name == "success" then check.equal(next(base64.decode(answer:get_text())), true, "the server's proof") end
  return answer
end

check.test("what is offered", function()
  local host = new()
  local c = connect(host)
  check.equal(mechanisms(c.features()), { "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN" })
  check.equal(c.features():get_child("sasl-channel-binding", "urn:xmpp:sasl-cb:0"), nil)
  c = connect(host, { secure = false, encrypted = false })
  check.equal(mechanisms(c.features()), {})                      -- encryption comes first
  c = connect(host, { bindings = { ["tls-exporter"] = "x", ["tls-server-end-point"] = "y" } })
  local features = c.features()
  check.equal(mechanisms(features), { "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN" })
  local types = {}
  for tag in features:get_child("sasl-channel-binding", "urn:xmpp:sasl-cb:0"):childtags "channel-binding" do
    types[#types + 1] = tag.attr.type
  end
  check.equal(types, { "tls-exporter", "tls-server-end-point" })

  -- alike or not, each session is offered what fits it, and what one plugin makes of it is not another's
  features:get_child("mechanisms", SASL):text_tag("mechanism", "X-OTHER")
  check.equal(mechanisms(connect(host).features()), { "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN" })
  c = connect(host, { bindings = { ["tls-exporter"] = "x", ["tls-server-end-point"] = "y" } })
  check.equal(#mechanisms(c.features()), 5)

  -- RFC 5802 §6: no SCRAM without binding is -PLUS only
  host = new { disable_sasl_mechanisms = { "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "DIGEST-MD5" } }
  c = connect(host, { bindings = { ["tls-exporter"] = "x" } })
  check.equal(mechanisms(c.features()), { "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS" })
  check.equal(condition(auth(c, "SCRAM-SHA-1", "n,,n=x,r=y")), "invalid-mechanism")
  check.equal(mechanisms(connect(host).features()), {})
  host:close()
  host = new { c2s_require_encryption = false }
  c = connect(host, { secure = false, encrypted = false })
  check.equal(mechanisms(c.features()), { "SCRAM-SHA-256", "SCRAM-SHA-1" })
  check.equal(condition(login(c, "PLAIN", "juliet", "O Romeo")), "encryption-required")
  check.equal(condition(login(connect(host, { secure = false }), "SCRAM-SHA-1", "juliet", "O Romeo")), "success")
  host:close()
  host = new { c2s_require_encryption = false, allow_unencrypted_plain_auth = true,
    disable_sasl_mechanisms = { "SCRAM-SHA-1", "SCRAM-SHA-256" } }
  c = connect(host, { secure = false, encrypted = false })
  check.equal(mechanisms(c.features()), { "DIGEST-MD5", "PLAIN" })
  check.equal(condition(login(c, "SCRAM-SHA-1", "juliet", "O Romeo")), "invalid-mechanism")
  check.equal(condition(login(c, "PLAIN", "juliet", "O Romeo")), "success")
  host:close()
end)

check.test("logging in", function()
  local host = new()
  local events = {}
  for _, name in ipairs { "authentication-attempt", "authentication-success", "authentication-failure", "sasl/c2s/challenge",
    "sasl/c2s/success", "sasl/c2s/failure" } do
    host.events.add_handler(name, function() events[#events + 1] = name end)
  end
  for _, mech in ipairs { "PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256" } do
    local c = connect(host)
    c.features()
    check.equal(condition(login(c, mech, "juliet", "O Romeo")), "success", mech)
    check.equal(c.session.username, "juliet")
    check.equal(c.session.type, "c2s_unbound")
    check.equal(c.session.resets, 1)
    check.equal(c.session.sasl_handler, nil)
    check.equal(mechanisms(c.features()), {})
    check.ok(c.features():get_child("bind", "urn:ietf:params:xml:ns:xmpp-bind"))
  end
  check.equal(events, { "authentication-attempt", "authentication-success", "sasl/c2s/success", "authentication-attempt",
    "sasl/c2s/challenge", "authentication-success", "sasl/c2s/success", "authentication-attempt", "sasl/c2s/challenge",
    "authentication-success", "sasl/c2s/success" })
  local c = connect(host, { bindings = { ["tls-exporter"] = "0123" } })
  check.equal(condition(login(c, "SCRAM-SHA-256-PLUS", "juliet", "O Romeo", { binding = { "tls-exporter", "0123" } })), "success")
  c = connect(host, { bindings = { ["tls-exporter"] = "0123" } })
  check.equal(condition(login(c, "SCRAM-SHA-256-PLUS", "juliet", "O Romeo", { binding = { "tls-exporter", "abcd" } })),
    "not-authorized")
  check.equal(condition(login(c, "SCRAM-SHA-256", "juliet", "O Romeo", { flag = "y" })), "malformed-request")
  check.equal(condition(login(c, "SCRAM-SHA-256", "juliet", "O Romeo")), "failure" and "success")      -- the third try succeeds
  c = connect(host)                                                -- no initial response
  local answer = auth(c, "PLAIN")
  check.equal(answer.name, "challenge")
  check.equal(#answer, 0)
  check.equal(condition(respond(c, client.plain("juliet", "O Romeo"))), "success")
  host:close()
end)

check.test("the role is the one the account has when the proof is right", function()
  local sessions = require "couplet.sessions"
  local host = new()
  local c = connect(host)
  local next = client.scram { mech = "SCRAM-SHA-1", username = "juliet", password = "O Romeo" }
  local challenge = auth(c, "SCRAM-SHA-1", next(nil))
  check.ok(users.set_user_role("juliet", host.name, "prosody:admin"))
  check.equal(condition(respond(c, next(base64.decode(challenge:get_text())))), "success")
  check.equal(c.session.role.name, "prosody:admin")
  sessions.unbound[c.session] = true
  check.ok(users.set_user_role("juliet", host.name, "prosody:guest"))
  check.equal({ c.session.type, c.session.role.name }, { "c2s_unbound", "prosody:guest" })      -- before there is a resource, too
  sessions.unbound[c.session] = nil
  c = connect(host)
  check.equal(condition(login(c, "PLAIN", "juliet", "O Romeo")), "success")
  check.equal(c.session.role.name, "prosody:guest")
  host:close()
end)

check.test("failures have the right condition", function()
  local host = new { max_sasl_attempts = 100, auth_lockout_threshold = 1000, auth_lockout_address_threshold = 1000 }
  local c = connect(host)
  local function raw(text, name, mechanism)
    c:send(st.stanza(name or "auth", { xmlns = SASL, mechanism = mechanism or name == nil and "PLAIN" or nil }):text(text))
    return condition(c:received()[1])
  end
  check.equal(condition(login(c, "PLAIN", "juliet", "wrong")), "not-authorized")
  check.equal(condition(login(c, "PLAIN", "nobody", "wrong")), "not-authorized")
  check.equal(condition(login(c, "PLAIN", "tybalt", "no peace")), "account-disabled")
  check.equal(condition(login(c, "PLAIN", "tybalt", "peace")), "not-authorized")
  check.equal(condition(auth(c, "PLAIN", client.plain("juliet", "O Romeo", "romeo@" .. host.name))), "invalid-authzid")
  check.equal(condition(auth(c, "KERBEROS_V4", "x")), "invalid-mechanism")
  check.equal(condition(auth(c, "DIGEST-MD5")), "invalid-mechanism")
  check.equal(condition(auth(c, "SCRAM-SHA-1-PLUS", "p=tls-unique,,n=x,r=y")), "invalid-mechanism")
  check.equal(condition(auth(c, nil, "x")), "malformed-request")
  check.equal(condition(auth(c, "PLAIN", "")), "malformed-request")
  for _, text in ipairs { "a", "====", "AGp1", "AGp1bGlldABPIFJvbWVv\n", "AGp1bGlldABPIFJvbWVv ", "*" } do
    local want = text == "AGp1" and "malformed-request" or "incorrect-encoding"
    check.equal(raw(text), want, text)
  end
  check.equal(raw("AGp1", "response"), "malformed-request")          -- nothing to respond to
  c:send(st.stanza("auth", { xmlns = SASL, mechanism = "PLAIN" }):tag "x")
  check.equal(condition(c:received()[1]), "malformed-request")
  auth(c, "SCRAM-SHA-1", "n,,n=juliet,r=abc")
  c:send(st.stanza("abort", { xmlns = SASL }))
  check.equal(condition(c:received()[1]), "aborted")
  check.equal(raw("AGp1", "response"), "malformed-request")
  check.equal(condition(login(c, "PLAIN", "crash", "x")), "temporary-auth-failure")
  check.ok(fake.logged "the backend is on fire")
  check.equal(condition(login(c, "SCRAM-SHA-1", "juliet", "O Romeo")), "success")
  c:send(st.stanza("auth", { xmlns = SASL, mechanism = "PLAIN" }))   -- once is enough
  check.ok(c.closed)
  host:close()
end)

check.test("tries on a stream are bounded: three wrong proofs, ten that fit nothing", function()
  local host = new()
  for _, bad in ipairs { { 3, "PLAIN", "\0juliet\0wrong" }, { 10, "PLAIN", "garbage" }, { 10, "FOO", "" } } do
    local c = connect(host)
    for _ = 2, bad[1] do
      check.equal(auth(c, bad[2], bad[3]).name, "failure")
      check.ok(not c.closed)
    end
    check.equal(auth(c, bad[2], bad[3]).name, "failure")
    check.equal(c.close_reason.condition, "policy-violation")
  end
  local c = connect(host)                          -- negotiations that never end are tries as well
  for _ = 1, 11 do auth(c, "SCRAM-SHA-1", "n,,n=juliet,r=abc") end
  auth(c, "FOO", "")
  check.ok(c.closed)
  host:close()
end)

check.test("lock-out", function()
  for _, name in ipairs { "juliet", "nobody" } do                  -- it does not tell who exists
    local host = new { max_sasl_attempts = 1000, auth_lockout_max = 60 }
    local c = connect(host, { ip = "192.0.2.7" })
    local function try(password, mech, from)
      return condition(login(from or c, mech or "PLAIN", name, password))
    end
    for i = 1, 6 do check.equal(try "wrong", "not-authorized", i) end
    check.equal(try "wrong", "temporary-auth-failure")
    check.equal(try("O Romeo", "SCRAM-SHA-1"), "temporary-auth-failure")
    local right = name == "juliet" and "success" or "not-authorized"
    check.equal(try("O Romeo", nil, connect(host, { ip = "192.0.2.8" })), right)          -- somebody elsewhere
    check.equal(condition(login(c, "PLAIN", "other", "wrong")), "not-authorized")
    host:advance(3)
    check.equal(try "wrong", "not-authorized")
    host:advance(3)
    check.equal(try "wrong", "temporary-auth-failure")              -- twice as long
    for _ = 1, 20 do
      host:advance(61)
      try "wrong"
    end
    host:advance(61)                                                -- never longer than the bound
    check.equal(try "O Romeo", right)
    host:close()
  end
  local host = new { max_sasl_attempts = 1000, auth_lockout_address_threshold = 10 }
  local c = connect(host, { ip = "2001:db8:1:2:3::4" })
  for i = 1, 11 do check.equal(condition(login(c, "PLAIN", "user" .. i, "x")), "not-authorized") end
  local near, far = connect(host, { ip = "2001:db8:1:2:ffff::1" }), connect(host, { ip = "2001:db8:1:3::4" })
  check.equal(condition(login(near, "PLAIN", "juliet", "O Romeo")), "temporary-auth-failure")
  check.equal(condition(login(far, "PLAIN", "juliet", "O Romeo")), "success")
  host:close()
end)

check.test("plugins may look and refuse", function()
  local host = new()
  local c = connect(host)
  local function refuse(event)
    event.allowed, event.error_condition, event.error_text = false, "temporary-auth-failure", "not on Sundays"
  end
  host.events.add_handler("authentication-attempt", refuse)
  local answer = login(c, "PLAIN", "juliet", "O Romeo")
  check.equal(condition(answer), "temporary-auth-failure")
  check.equal(answer:get_child_text "text", "not on Sundays")
  host.events.remove_handler("authentication-attempt", refuse)
  host.events.add_handler("authentication-failure",
    function(event) event.condition, event.text = "credentials-expired", "renew" end)
  answer = login(c, "PLAIN", "juliet", "wrong")
  check.equal(condition(answer), "credentials-expired")
  check.equal(answer:get_child_text "text", "renew")
  host:close()
end)

check.test("client certificates", function()
  local name = os.tmpname()
  local function certificate(alt)
    check.ok(os.execute(([[openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -days 3 \
      -subj /CN=x -addext "subjectAltName=%s" -outform DER -out %s 2>/dev/null]]):format(alt, name)))
    local f <close> = io.open(name, "rb")
    return f:read "a"
  end
  local addr = "otherName:1.3.6.1.5.5.7.8.5;UTF8:"
  local one = certificate(addr .. "juliet@example.org")
  local two = certificate(addr .. "juliet@example.org," .. addr .. "tybalt@example.org," .. addr .. "x@elsewhere.example")
  local none = certificate "DNS:example.org,email:juliet@example.org"
  os.remove(name)
  local host = new { client_certificate_auth = true, max_sasl_attempts = 100 }
  local rows = {
    { one, "", "success" }, { one, "juliet@example.org", "success" }, { one, "tybalt@example.org", "invalid-authzid" },
    { two, "", "invalid-authzid" }, { two, "juliet@example.org", "success" }, { two, "tybalt@example.org", "account-disabled" },
    { two, "x@elsewhere.example", "invalid-authzid" }, { none, "", "invalid-mechanism" },
    { one, "", "invalid-mechanism", { "self signed" } },
  }
  for i, row in ipairs(rows) do
    local c = connect(host, { peer_cert = row[1], verify_errors = row[4] })
    check.equal(mechanisms(c.features())[1] == "EXTERNAL", row[3] ~= "invalid-mechanism", "row " .. i)
    check.equal(condition(auth(c, "EXTERNAL", row[2])), row[3], "row " .. i)
  end
  local user_is_enabled = users.user_is_enabled
  function users.user_is_enabled() return nil, "no database" end
  check.equal(condition(auth(connect(host, { peer_cert = one }), "EXTERNAL", "")), "temporary-auth-failure")
  users.user_is_enabled = user_is_enabled
  host:close()
  host = new()                                                     -- off unless asked for
  check.equal(condition(auth(connect(host, { peer_cert = one }), "EXTERNAL", "")), "invalid-mechanism")
  host:close()
end)

check.test("binding", function()
  local host = new()
  local c = connect(host)
  login(c, "PLAIN", "juliet", "O Romeo")
  c:received()
  c:send(st.iq { type = "get", id = "1" }:tag("bind", { xmlns = "urn:ietf:params:xml:ns:xmpp-bind" }))
  c:expect { name = "iq", type = "error", id = "1", has = "error" }
  c:send(st.iq { type = "set", id = "2" }:tag("bind", { xmlns = "urn:ietf:params:xml:ns:xmpp-bind" }):text_tag("resource",
    "balcony"))
  local answer = c:expect { name = "iq", type = "result", id = "2" }
  check.equal(answer.tags[1]:get_child_text "jid", "juliet@example.org/balcony")
  check.equal(c.session.type, "c2s")
  c:send(st.iq { type = "set", id = "3" }:tag("session", { xmlns = "urn:ietf:params:xml:ns:xmpp-session" }))
  host:close()
end)

check.test("reloading and unloading leave nothing", function()
  local host = new()
  host:reload "saslauth"
  check.equal(condition(login(connect(host), "PLAIN", "juliet", "O Romeo")), "success")
  check.equal(host:close(), {})
end)

check.done()
