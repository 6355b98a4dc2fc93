-- SPDX-License-Identifier: MIT
-- One-round-trip login: SASL2, Bind 2 and FAST as a client's elements and the server's answers.

local check = require "check"
local client = require "sasl_client"
local base64 = require "couplet.util.base64"
local crypto = require "couplet.core".crypto
local datetime = require "couplet.util.datetime"
local directory = require "couplet.directory"
local fake = require "fakehost"
local prosody = require "couplet.prosody"
local st = require "couplet.stanza"
local users = require "couplet.users"
require "couplet.store"

local SASL2, SASL, BIND2, FAST = "urn:xmpp:sasl:2", "urn:ietf:params:xml:ns:xmpp-sasl", "urn:xmpp:bind:0", "urn:xmpp:fast:0"
local AGENT = "d4565fa7-4d72-4749-b3d3-740edbf87770"
local OTHER = "aaaaaaaa-4d72-4749-b3d3-740edbf87770"

local last
local function new(options, ...)
  if last then pcall(last.close, last) end         -- of a test that failed
  collectgarbage()                                 -- failures are counted as long as somebody holds the counters
  options = options or {}
  options.default_iteration_count = 4096
  local host = fake.new { options = options, global = { storage = "memory" }, plugins = { ... } }
  last = host
  for _, name in ipairs { "saslauth", "sasl2", "sasl2_bind2", "sasl2_fast" } do
    if not host:module(name) then host:load(name) end
  end
  for name, password in pairs { juliet = "O Romeo", tybalt = "no peace" } do
    check.ok(host:run(users.create_user, name, password, host.name))
  end
  check.ok(host:run(users.disable_user, "tybalt", host.name))
  return host
end

local function connect(host, fields)
  local c
  local all = { reset_stream = function() error "SASL2 restarts no stream" end }
  for k, v in pairs(fields or {}) do all[k] = v end
  all.conn = client.channel(all.bindings)
  c = host:client(host.name, all)
  c.features = function()
    local features = st.stanza "features"
    host:fire("stream-features", { origin = c.session, features = features })
    return features:reset()
  end
  return c
end

-- <authenticate/>: more = { agent = id, software =, device =, [n] = further children }
local function authenticate(c, mechanism, message, more)
  more = more or {}
  local e = st.stanza("authenticate", { xmlns = SASL2, mechanism = mechanism })
  if message then e:text_tag("initial-response", base64.encode(message)) end
  if more.agent then
    e:tag("user-agent", { id = more.agent })
    if more.software then e:text_tag("software", more.software) end
    if more.device then e:text_tag("device", more.device) end
    e:up()
  end
  for _, child in ipairs(more) do e:add_child(child) end
  c:send(e)
  return c:received()
end

local function respond(c, message)
  c:send(st.stanza("response", { xmlns = SASL2 }):text(base64.encode(message)))
  return c:received()
end

local function condition(answers)
  local answer = answers[1]
  if not answer then return nil end
  check.equal(answer.attr.xmlns, SASL2)
  if answer.name ~= "failure" then return answer.name end
  check.equal(#answers, 1)
  check.equal(answer.tags[1].attr.xmlns, SASL)
  return answer.tags[1].name
end

local function plain(c, more, name, password)
  return authenticate(c, "PLAIN", client.plain(name or "juliet", password or "O Romeo"), more)
end

local function bind(tag)
  local e = st.stanza("bind", { xmlns = BIND2 })
  if tag then e:text_tag("tag", tag) end
  return e
end

local function want_token(mechanism)
  return st.stanza("request-token", { xmlns = FAST, mechanism = mechanism or "HT-SHA-256-NONE" })
end

local function token_in(answers)
  local token = answers[1]:get_child("token", FAST)
  return token and token.attr.token, token and token.attr.expiry
end

local function proof(token, name, binding)
  return (name or "juliet") .. "\0" .. crypto.hmac("sha256", token, "Initiator" .. (binding or ""))
end

-- Logs in with a token: o = { agent, mechanism, name, binding, count, invalidate, [n] = children }
local function fast(c, token, o)
  o = o or {}
  local more = { agent = o.agent or AGENT, table.unpack(o) }
  more[#more + 1] = st.stanza("fast", { xmlns = FAST, count = o.count and tostring(o.count), invalidate = o.invalidate })
  return authenticate(c, o.mechanism or "HT-SHA-256-NONE", proof(token, o.name, o.binding), more)
end

check.test("what is offered", function()
  local host = new()
  local c = connect(host)
  local offer = c.features():get_child("authentication", SASL2)
  local names = {}
  for tag in offer:childtags "mechanism" do names[#names + 1] = tag:get_text() end
  check.equal(names, { "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN" })
  local inline = offer:get_child "inline"
  check.ok(inline:get_child("bind", BIND2))
  check.equal(#inline:get_child("fast", FAST).tags, 1)
  check.equal(inline:get_child("fast", FAST):get_child_text "mechanism", "HT-SHA-256-NONE")
  c = connect(host, { bindings = { ["tls-exporter"] = "x", ["tls-server-end-point"] = "y" } })
  local features = c.features()
  check.equal(features:get_child("authentication", SASL2):get_child_text "mechanism", "SCRAM-SHA-256-PLUS")
  check.ok(features:get_child("mechanisms", SASL))                 -- and as ever
  local n = 0
  for _, tag in ipairs(features.tags) do if tag.name == "sasl-channel-binding" then n = n + 1 end end
  check.equal(n, 1)
  names = {}
  for tag in features:get_child("authentication", SASL2):get_child("inline"):get_child("fast", FAST):childtags "mechanism" do
    names[#names + 1] = tag:get_text()
  end
  check.equal(names, { "HT-SHA-256-EXPR", "HT-SHA-256-ENDP", "HT-SHA-256-NONE" })
  host:close()
  host = new { c2s_require_encryption = false }                    -- after TLS, whatever the options say
  c = connect(host, { secure = false, encrypted = false })
  check.equal(c.features():get_child("authentication", SASL2), nil)
  check.equal(condition(plain(c)), "encryption-required")
  c = connect(host, { stream_from = "juliet@elsewhere.example" })
  c.features()
  check.equal(c.close_reason.condition, "invalid-from")
  host:close()
end)

check.test("logging in", function()
  local host = new()
  local events = {}
  for _, name in ipairs { "authentication-attempt", "authentication-success", "authentication-failure", "sasl2/c2s/challenge",
    "sasl2/c2s/success", "sasl2/c2s/failure", "sasl2/c2s/error" } do
    host.events.add_handler(name, function(event)
      check.ok(event.session, name)
      events[#events + 1] = name
    end, 2000)
  end
  local c = connect(host, { stream_from = "juliet@" .. host.name })
  local got = plain(c)
  check.equal(condition(got), "success")
  check.equal(#got, 2)
  check.equal(got[1]:get_child_text "authorization-identifier", "juliet@" .. host.name)
  check.equal(got[1]:get_child "additional-data", nil)
  check.equal(got[2].name, "stream:features")
  check.ok(got[2]:get_child("bind", "urn:ietf:params:xml:ns:xmpp-bind"))     -- the old way is still open
  check.equal(got[2]:get_child("authentication", SASL2), nil)
  check.equal(c.session.type, "c2s_unbound")
  check.equal(events, { "authentication-attempt", "authentication-success", "sasl2/c2s/success" })
  events = {}
  c = connect(host)
  local next = client.scram { mech = "SCRAM-SHA-256", username = "juliet", password = "O Romeo" }
  got = authenticate(c, "SCRAM-SHA-256", next(nil))
  check.equal(condition(got), "challenge")
  got = respond(c, next(base64.decode(got[1]:get_text())))
  check.equal(condition(got), "success")
  check.equal(next(base64.decode(got[1]:get_child_text "additional-data")), true, "the server's proof")
  check.equal(got[1].tags[1].name, "additional-data")
  check.equal(events, { "authentication-attempt", "sasl2/c2s/challenge", "authentication-success", "sasl2/c2s/success" })
  events = {}
  c = connect(host)
  check.equal(condition(plain(c, nil, "juliet", "wrong")), "not-authorized")
  check.equal(condition(authenticate(c, "FOO", "x")), "invalid-mechanism")
  check.equal(condition(plain(c)), "success")
  check.equal(events, { "authentication-attempt", "authentication-failure", "sasl2/c2s/failure", "authentication-attempt",
    "sasl2/c2s/error", "authentication-attempt", "authentication-success", "sasl2/c2s/success" })
  host:close()
end)

check.test("failures have the right condition", function()
  local host = new { max_sasl_attempts = 100, auth_lockout_threshold = 1000, auth_lockout_address_threshold = 1000 }
  local c = connect(host)
  check.equal(condition(plain(c, nil, "nobody")), "not-authorized")
  check.equal(condition(plain(c, nil, "tybalt", "no peace")), "account-disabled")
  check.equal(condition(authenticate(c, "PLAIN", client.plain("juliet", "O Romeo", "romeo@" .. host.name))), "invalid-authzid")
  check.equal(condition(authenticate(c, nil, "x")), "malformed-request")
  check.equal(condition(authenticate(c, "PLAIN", "")), "malformed-request")
  check.equal(condition(authenticate(c, "HT-SHA-256-NONE", proof "x")), "invalid-mechanism")       -- tokens are told by <fast/>
  check.equal(condition(plain(c, { agent = "my phone" })), "malformed-request")
  local e = st.stanza("authenticate", { xmlns = SASL2, mechanism = "PLAIN" }):text_tag("initial-response", "no base64!")
  c:send(e)
  check.equal(condition(c:received()), "incorrect-encoding")
  check.equal(condition(respond(c, "x")), "malformed-request")     -- nothing to respond to
  check.equal(condition(authenticate(c, "SCRAM-SHA-1", "n,,n=juliet,r=abc")), "challenge")
  c:send(st.stanza("abort", { xmlns = SASL2 }):text_tag("text", "never mind"))
  check.equal(condition(c:received()), "aborted")
  for _, name in ipairs { "next", "task-data" } do
    c:send(st.stanza(name, { xmlns = SASL2, task = "TOTP-EXAMPLE" }))
    check.equal(condition(c:received()), "malformed-request")
  end
  check.equal(condition(authenticate(c, "PLAIN")), "challenge")    -- no initial response
  check.equal(condition(respond(c, client.plain("juliet", "O Romeo"))), "success")
  plain(c)                                                         -- once is enough
  check.ok(c.closed)
  c = connect(host, { stream_from = "romeo@" .. host.name })
  check.equal(condition(plain(c)), "invalid-authzid")
  check.equal(c.session.type, "c2s_unauthed")
  host:close()
end)

check.test("blanks around the data, and an empty response, are no trouble", function()
  local host = new()
  local c = connect(host)
  c:send(st.stanza("authenticate", { xmlns = SASL2, mechanism = "PLAIN" })
    :text_tag("initial-response", "\n   " .. base64.encode(client.plain("juliet", "O Romeo")) .. "\n "))
  check.equal(condition(c:received()), "success")
  host:close()
end)

check.test("guesses are bounded, together with those of the other syntax", function()
  local host = new { max_sasl_attempts = 1000 }
  local c = connect(host, { ip = "192.0.2.7" })
  for _ = 1, 3 do
    check.equal(condition(plain(c, nil, "juliet", "wrong")), "not-authorized")
    c:send(st.stanza("auth", { xmlns = SASL, mechanism = "PLAIN" }):text(base64.encode(client.plain("juliet", "wrong"))))
    c:received()
  end
  check.equal(condition(plain(c)), "temporary-auth-failure")
  check.equal(condition(plain(connect(host, { ip = "192.0.2.8" }))), "success")
  host:close()
  host = new()
  c = connect(host)
  for _ = 1, 3 do plain(c, nil, "juliet", "wrong") end
  check.equal(c.close_reason.condition, "policy-violation")
  host:close()
end)

check.test("while an exchange goes on nothing else is said", function()
  local host = new()
  host:load "register_ibr"
  local rows = {
    st.stanza("auth", { xmlns = SASL, mechanism = "PLAIN" }), st.stanza("abort", { xmlns = SASL }),
    st.stanza("authenticate", { xmlns = SASL2, mechanism = "PLAIN" }),
    st.stanza("starttls", { xmlns = "urn:ietf:params:xml:ns:xmpp-tls" }),
    st.iq { type = "get", id = "1" }:tag("query", { xmlns = "jabber:iq:register" }), st.message { to = host.name },
  }
  for i, element in ipairs(rows) do
    local c = connect(host)
    check.equal(condition(authenticate(c, "SCRAM-SHA-1", "n,,n=juliet,r=abc")), "challenge")
    c:send(element)
    check.ok(c.closed, i)
    check.equal(c:received(), {}, i)
  end
  host:close()
end)

check.test("a resource along with it", function()
  local host = new()
  local got = plain(connect(host), { bind() })
  local full = got[1]:get_child_text "authorization-identifier"
  check.ok(full:find("^juliet@" .. host.name .. "/.+$"))
  check.ok(got[1]:get_child("bound", BIND2))
  check.equal(got[2]:get_child("bind", "urn:ietf:params:xml:ns:xmpp-bind"), nil)
  check.equal(directory.full_sessions[full].type, "c2s")
  local function resource(tag, agent)
    local answers = plain(connect(host), { bind(tag), agent = agent })
    return answers[1]:get_child_text("authorization-identifier"):match "/(.*)$"
  end
  local first = resource("AwesomeXMPP", AGENT)
  check.ok(first:find "^AwesomeXMPP/[%w_-]+$")
  check.ok(not first:find(AGENT, 1, true))
  check.equal(resource("AwesomeXMPP", AGENT:upper()), first)       -- the same client, the same resource
  check.ok(resource("Other", AGENT):match "/(.*)$" ~= first:match "/(.*)$")
  check.ok(resource("AwesomeXMPP", OTHER) ~= first)
  check.ok(resource("AwesomeXMPP") ~= resource "AwesomeXMPP")
  check.ok(resource(("x"):rep(2000), AGENT):find "^[%w_-]+$")      -- no resource can be made of these tags
  check.ok(resource("\239\183\144", AGENT):find "^[%w_-]+$")
  host:close()
end)

check.test("an earlier session of the same client ends", function()
  local host = new()
  local old, same, other = connect(host), connect(host), connect(host)
  plain(other, { bind "Phone", agent = OTHER })
  plain(old, { bind "Phone", agent = AGENT })
  plain(same, { bind "Phone/2", agent = AGENT })
  check.equal(old.close_reason.condition, "conflict")
  check.ok(not other.closed and not same.closed)
  plain(connect(host), { bind "Phone/2", agent = AGENT })          -- under the same resource
  check.equal(same.close_reason.condition, "conflict")
  host:close()
end)

check.test("features of the session, and what others send meanwhile", function()
  local host = new()
  local full, kept
  host.events.add_handler("advertise-bind-features", function(event) event.features:tag("feature", { var = "urn:x" }):up() end)
  host.events.add_handler("enable-bind-features", function(event)
    full, kept = event.session.full_jid, event.session.send
    if not event.request:get_child("enable", "urn:x") then return end
    event.session.send(st.message { to = full, id = "early" })
    event.result:tag("enabled", { xmlns = "urn:x" }):up()
  end)
  local c = connect(host)
  check.equal(c.features():get_child("authentication", SASL2):get_child("inline"):get_child("bind", BIND2):get_child("inline")
    :get_child("feature").attr.var, "urn:x")
  local got = plain(c, { bind():tag("enable", { xmlns = "urn:x" }):up() })
  check.equal({ got[1].name, got[2].name, got[3].attr.id, #got }, { "success", "stream:features", "early", 3 })
  check.ok(got[1]:get_child("bound", BIND2):get_child("enabled", "urn:x"))
  for i, send in ipairs { c.session.send, kept } do
    send(st.message { id = "late" })
    check.equal(c:received()[1].attr.id, "late", i)
  end
  c = connect(host)
  plain(c, { bind() })
  host:configure { global = { max_sessions_per_user = 1 } }        -- no resource: the client cannot go on
  c = connect(host)
  plain(c, { bind() })
  check.equal(c.close_reason.condition, "resource-constraint")
  host:close()
end)

check.test("messages kept offline that are archived too do not come twice", function()
  local host = new({}, "offline")
  local bare = "juliet@" .. host.name
  for i, by in ipairs { bare, "romeo@" .. host.name, bare } do
    host:fire("message/offline/handle", { username = "juliet", origin = { send = function() end },
      stanza = st.message({ to = bare, from = "romeo@" .. host.name, type = "chat", id = "m" .. i }, "Hi")
        :tag("stanza-id", { xmlns = "urn:xmpp:sid:0", by = by, id = "x" }):up() })
  end
  local c = connect(host)
  plain(c, { bind() })
  host:fire("message/offline/broadcast", { origin = c.session })
  local got = c:received()
  check.equal(#got, 1)
  check.equal(got[1].attr.id, "m2")
  host:close()
end)

check.test("clients are remembered, the latest of them", function()
  local host = new { sasl2_clients_max = 3 }
  local env = host:module "sasl2".environment
  plain(connect(host), { agent = AGENT, software = "Awesome\tXMPP " .. ("é"):rep(100), device = "Kiva's Phone", bind() })
  local list = host:run(env.clients, "juliet")
  check.equal(#list, 1)
  check.equal(list[1].id, AGENT)
  check.equal(list[1].software, "Awesome XMPP " .. ("é"):rep(51))
  check.equal(list[1].device, "Kiva's Phone")
  check.ok(list[1].resource)
  local c = connect(host)
  local token = token_in(plain(c, { agent = AGENT, want_token() }))
  check.ok(token)
  for i = 1, 3 do
    host:advance(100000)
    plain(connect(host), { agent = ("%d"):format(i):rep(8) .. AGENT:sub(9) })
  end
  list = host:run(env.clients, "juliet")
  check.equal(#list, 3)
  check.equal(list[3].id:sub(1, 2), "11")
  check.equal(condition(fast(connect(host), token)), "not-authorized")       -- its token went along
  plain(connect(host), {})                                         -- one that does not tell
  check.equal(#host:run(env.clients, "juliet"), 3)
  host:run(users.delete_user, "juliet", host.name)
  check.equal(#host:run(env.clients, "juliet"), 0)
  host:close()
end)

check.test("what a client has told of itself stays until it tells something else", function()
  local host = new()
  local env = host:module "sasl2".environment
  local function told(more, wait)
    host:advance(wait or 0)
    more.agent = AGENT
    plain(connect(host), more)
    local entry = host:run(env.clients, "juliet")[1]
    return ("%s on %s, %d"):format(entry.software, entry.device, entry.last - fake.time())
  end
  check.equal(told { software = "Rose", device = "phone" }, "Rose on phone, 0")
  check.equal(told({}, 60), "Rose on phone, -60")                  -- the same day: nothing is written
  check.equal(told({}, 86400), "Rose on phone, 0")
  check.equal(told { device = "tablet" }, "Rose on tablet, 0")
  check.equal(told { software = "Thorn" }, "Thorn on tablet, 0")
  host:close()
end)

check.test("a client is forgotten: its session and its token end", function()
  local host = new()
  local env = host:module "sasl2".environment
  local c = connect(host)
  local token = token_in(plain(c, { agent = AGENT, want_token(), bind() }))
  local other = token_in(plain(connect(host), { agent = OTHER, want_token() }))
  check.equal(host:run(env.forget, "juliet", AGENT), true)
  check.equal(c.close_reason.condition, "not-authorized")
  check.equal(condition(fast(connect(host), token)), "not-authorized")
  check.equal(condition(fast(connect(host), other, { agent = OTHER })), "success")
  check.equal(host:run(env.forget, "juliet", AGENT), nil)
  host:close()
end)

check.test("a token is given, and lets one in", function()
  local host = new()
  local got = plain(connect(host), { agent = AGENT, want_token() })
  local token, expiry = token_in(got)
  check.equal(#token, 43)
  check.equal(datetime.parse(expiry), fake.time() // 1 + 21 * 86400)
  got = fast(connect(host), token, { bind "x" })
  check.equal(condition(got), "success")
  check.equal(#got, 2)
  check.equal(base64.decode(got[1]:get_child_text "additional-data"), crypto.hmac("sha256", token, "Responder"))
  check.ok(got[1]:get_child_text("authorization-identifier"):find("^juliet@" .. host.name .. "/x/"))
  check.equal(token_in(got), nil)                                  -- no need of another yet
  check.equal(condition(fast(connect(host), token)), "success")    -- as often as it likes
  check.equal(token_in(plain(connect(host), { want_token() })), nil)               -- a client without an id
  check.equal(token_in(plain(connect(host), { agent = AGENT, want_token "PLAIN" })), nil)
  host:close()
end)

check.test("a token lets nobody else in", function()
  local host = new { max_sasl_attempts = 100, auth_lockout_threshold = 1000, auth_lockout_address_threshold = 1000 }
  local bindings = { ["tls-exporter"] = "this channel", ["tls-server-end-point"] = "certificate" }
  local c = connect(host, { bindings = bindings })
  local none = token_in(plain(connect(host), { agent = OTHER, want_token() }))
  local bound = token_in(plain(connect(host, { bindings = bindings }), { agent = AGENT, want_token "HT-SHA-256-EXPR" }))
  local rows = {
    { "not-authorized", none, {} },                                                -- another client's
    { "not-authorized", none, { agent = OTHER, name = "nobody" } },
    { "not-authorized", none, { agent = OTHER, name = "tybalt" } },
    { "not-authorized", none .. "x", { agent = OTHER } },
    { "not-authorized", none, { agent = OTHER, mechanism = "HT-SHA-256-EXPR", binding = "this channel" } },
    { "not-authorized", bound, {} },                                               -- §3.4: bound to its mechanism
    { "not-authorized", bound, { mechanism = "HT-SHA-256-ENDP", binding = "certificate" } },
    { "not-authorized", bound, { mechanism = "HT-SHA-256-EXPR", binding = "another channel" } },
    { "invalid-mechanism", bound, { mechanism = "HT-SHA-256-UNIQ", binding = "" } },
    { "invalid-mechanism", none, { mechanism = "PLAIN" } },
    { "malformed-request", none, { agent = "x" } },
    { "malformed-request", none, { agent = OTHER, count = "x" } },
    { "malformed-request", none, { agent = OTHER, count = "99999999999" } },
    { "malformed-request", none, { agent = OTHER, name = "" } },
  }
  for i, row in ipairs(rows) do check.equal(condition(fast(c, row[2], row[3])), row[1], i) end
  c = connect(host, { bindings = bindings })
  check.equal(condition(fast(c, bound, { mechanism = "HT-SHA-256-EXPR", binding = "this channel" })), "success")
  check.equal(condition(fast(connect(host), none, { agent = OTHER })), "success")
  c = connect(host)                                                -- refused, the client takes its password
  check.equal(condition(fast(c, none)), "not-authorized")
  check.equal(condition(plain(c)), "success")
  host:close()
end)

check.test("what is stored of an unbound token lets nobody in", function()
  local host = new()
  local token = token_in(plain(connect(host), { agent = AGENT, want_token() }))
  local kept = host:store("fast_tokens", "keyval"):get "juliet"[AGENT].new
  check.equal(kept.text, nil)
  check.equal(kept.initiator, base64.encode(crypto.hash("sha256", crypto.hmac("sha256", token, "Initiator"))))
  check.ok(not require "couplet.util.serialization".serialize(kept):find(token, 1, true))
  host:close()
end)

check.test("guesses at tokens count as guesses", function()
  for _, name in ipairs { "juliet", "nobody" } do
    local host = new { max_sasl_attempts = 1000 }
    for _ = 1, 6 do check.equal(condition(fast(connect(host), "wrong", { name = name })), "not-authorized") end
    check.equal(condition(fast(connect(host), "wrong", { name = name })), "temporary-auth-failure")
    check.equal(condition(plain(connect(host), nil, name)), "temporary-auth-failure")
    host:close()
  end
end)

check.test("rotation and expiry", function()
  local host = new { sasl2_fast_token_ttl = "10 days", sasl2_fast_token_min_ttl = "1 day" }
  local one = token_in(plain(connect(host), { agent = AGENT, want_token() }))
  check.equal(token_in(fast(connect(host), one)), nil)
  host:advance(86400)
  local lost = token_in(fast(connect(host), one))                  -- due; but it does not arrive
  check.ok(lost and lost ~= one)
  local two = token_in(fast(connect(host), one))                   -- so the old one is still good
  check.ok(two and two ~= lost)
  check.equal(condition(fast(connect(host), lost)), "not-authorized")        -- never used, and replaced
  check.equal(condition(fast(connect(host), two)), "success")
  check.equal(condition(fast(connect(host), one)), "not-authorized")         -- its successor has been used
  check.equal(token_in(fast(connect(host), two, { want_token() })) ~= nil, true)
  host:advance(10 * 86400 + 1)
  local c = connect(host)
  check.equal(condition(fast(c, two)), "credentials-expired")
  check.equal(condition(fast(c, "wrong")), "not-authorized")
  check.equal(condition(plain(c)), "success")
  host:close()
end)

check.test("a client ends its token", function()
  for _, word in ipairs { "true", "1" } do
    local host = new { sasl2_fast_token_min_ttl = 0 }
    local token = token_in(plain(connect(host), { agent = AGENT, want_token() }))
    check.equal(token_in(fast(connect(host), token, { invalidate = "false" })) ~= nil, true)
    local got = fast(connect(host), token, { invalidate = word })
    check.equal(condition(got), "success")
    check.equal(token_in(got), nil)                                -- though due for rotation
    check.equal(condition(fast(connect(host), token)), "not-authorized")
    token = token_in(plain(connect(host), { agent = AGENT, want_token() }))
    local again = token_in(fast(connect(host), token, { invalidate = word, want_token() }))
    check.ok(again)
    check.equal(condition(fast(connect(host), token)), "not-authorized")
    check.equal(condition(fast(connect(host), again)), "success")
    host:close()
  end
end)

check.test("a copied request does nothing, if requests are counted", function()
  local host = new { max_sasl_attempts = 100, auth_lockout_threshold = 1000, auth_lockout_address_threshold = 1000 }
  local token = token_in(plain(connect(host), { agent = AGENT, want_token() }))
  for _, row in ipairs {
    { 0, "success" }, { 0, "not-authorized" }, { 5, "success" }, { 5, "not-authorized" }, { 4, "not-authorized" },
    { 6, "success" }, { nil, "success" }, { 6, "not-authorized" }, { 2147483647, "success" },
  } do
    check.equal(condition(fast(connect(host), token, { count = row[1] })), row[2], row[1])
  end
  host:reload "sasl2_fast"
  check.equal(condition(fast(connect(host), token, { count = 2147483647 })), "not-authorized")
  host:close()
end)

check.test("tokens in use are kept in mind, up to what may have changed past this server", function()
  for i, row in ipairs {
    { "success", function() end },
    { "success", function(host) host:advance(86000) end },
    { "not-authorized", function(host) host:advance(86401) end },
    { "not-authorized", function(host) host:configure {} end },
    { "not-authorized", function(host) users.get_provider(host.name).announces_changes = nil end },
  } do
    local host = new { sasl2_fast_token_min_ttl = "9 days" }
    local token = token_in(plain(connect(host), { agent = AGENT, want_token() }))
    for _ = 1, 2 do check.equal(condition(fast(connect(host), token)), "success", i) end
    row[2](host)
    host:store("fast_tokens", "keyval+"):set_key("juliet", AGENT, nil)
    check.equal(condition(fast(connect(host), token, { agent = OTHER })), "not-authorized", i)
    check.equal(condition(fast(connect(host), token)), row[1], i)
    host:close()
  end
end)

local changes = {
  function(host) return users.set_password("juliet", "new password", host.name) end,
  function(host) return users.disable_user("juliet", host.name) end,
  function(host) return users.delete_user("juliet", host.name) end,
}

-- Sessions end one after the other, and each may take its time.
check.test("nobody comes back with a token while the sessions of the account are being ended", function()
  for i, fn in ipairs(changes) do
    local host, got = new(), nil
    local token = token_in(plain(connect(host), { agent = AGENT, want_token(), bind() }))
    for _ = 1, 2 do check.equal(condition(fast(connect(host), token)), "success") end
    prosody.hosts[host.name].events.add_handler("resource-unbind", function()
      got = got or condition(fast(connect(host), token))
    end)
    check.ok(host:run(fn, host), i)
    check.equal(got, "not-authorized", i)
    host:close()
  end
end)

check.test("what ends all tokens of an account", function()
  local ends = {
    function(host) return users.set_password("juliet", "new password", host.name) end,
    function(host) return users.disable_user("juliet", host.name) and users.enable_user("juliet", host.name) end,
    function(host)
      return users.delete_user("juliet", host.name) and users.create_user("juliet", "another person", host.name)
    end,
  }
  for i, fn in ipairs(ends) do
    local host = new()
    local token = token_in(plain(connect(host), { agent = AGENT, want_token() }))
    check.equal(condition(fast(connect(host), token)), "success", i)
    check.ok(host:run(fn, host))
    check.equal(condition(fast(connect(host), token)), "not-authorized", i)
    host:close()
  end
end)

-- A host whose tokens are in a store that fails when told to.
local function with_failing_store(options)
  local host, failing = new(options), {}
  host:unload "sasl2_fast"
  host.events.add_handler("store-opened", function(event)
    if event.store_name ~= "fast_tokens" then return end
    local inner = event.store
    event.store = setmetatable({}, { __index = function(_, name)
      return function(_, ...)
        if failing.now and name:find "^set" then return nil, "disk full" end
        return inner[name](inner, ...)
      end
    end })
  end)
  host:load "sasl2_fast"
  return host, failing
end

check.test("tokens that cannot be removed when they end are worth nothing, and are removed later", function()
  for i = 1, 2 do
    local host, failing = with_failing_store()
    local token = token_in(plain(connect(host), { agent = AGENT, want_token() }))
    failing.now = true
    check.ok(host:run(users.set_password, "juliet", "new password", host.name))
    check.equal(condition(fast(connect(host), token)), "not-authorized", i)
    if i == 2 then host:reload "sasl2_fast" end
    check.equal(condition(fast(connect(host), token)), "not-authorized", i)
    check.equal(token_in(plain(connect(host), { agent = AGENT, want_token() }, "juliet", "new password")), nil, i)
    host:advance(100)
    check.ok(host:store("fast_tokens", "keyval"):get "juliet", i)
    failing.now = false
    host:advance(11)
    check.equal(host:store("fast_tokens", "keyval"):get "juliet", nil, i)
    token = token_in(plain(connect(host), { agent = AGENT, want_token() }, "juliet", "new password"))
    host:advance(11)
    check.equal(condition(fast(connect(host), token)), "success", i)
    host:close()
  end
end)

check.test("a client whose token cannot be ended is not said to be forgotten", function()
  local host, failing = with_failing_store { sasl2_clients_max = 1 }
  local forget = host:module "sasl2".environment.forget
  plain(connect(host), { agent = AGENT, want_token() })
  failing.now = true
  check.equal({ host:run(forget, "juliet", AGENT) }, { nil, "disk full" })
  plain(connect(host), { agent = OTHER })                          -- one too many
  check.equal(#host:run(host:module "sasl2".environment.clients, "juliet"), 2)
  failing.now = false
  check.equal(host:run(forget, "juliet", AGENT), true)
  check.equal(host:store("fast_tokens", "keyval"):get "juliet", nil)
  check.equal(host:run(forget, "juliet", AGENT), nil)
  host:close()
end)

check.test("a login that could not be noted is noted by the next", function()
  local host = new()
  local failing = true
  host:unload "sasl2"
  host.events.add_handler("store-opened", function(event)
    if event.store_name ~= "user_agents" then return end
    local inner = event.store
    event.store = setmetatable({ set_keys = function(_, ...)
      if failing then return nil, "disk full" end
      return inner:set_keys(...)
    end }, { __index = function(_, name) return function(_, ...) return inner[name](inner, ...) end end })
  end)
  host:load "sasl2"
  for _ = 1, 2 do
    plain(connect(host), { agent = AGENT })
    check.equal(#host:run(host:module "sasl2".environment.clients, "juliet"), failing and 0 or 1)
    failing = false
  end
  host:close()
end)

check.test("an account changes during a login: who knew the password is told to try again, others nothing", function()
  local unbound = require "couplet.sessions".unbound
  for i, fn in ipairs(changes) do
    for password, want in pairs { ["O Romeo"] = "temporary-auth-failure", guessed = "not-authorized" } do
      local host = new()
      host:load "c2s"
      local c = connect(host)
      unbound[c.session] = true
      local next = client.scram { mech = "SCRAM-SHA-256", username = "juliet", password = password }
      local answer = authenticate(c, "SCRAM-SHA-256", next(nil))
      check.equal(condition(answer), "challenge", i)
      check.ok(host:run(fn, host))
      check.equal(c:received(), {}, i)
      check.ok(not c.closed, i)
      check.equal(condition(respond(c, next(base64.decode(answer[1]:get_text())))), want, i .. " " .. password)
      unbound[c.session] = nil
      host:close()
    end
  end
end)

check.test("a login under way when tokens end gets no new one, and ends", function()
  local unbound = require "couplet.sessions".unbound
  for i, fn in ipairs {
    function(host) return host:module "sasl2".environment.forget("juliet", AGENT) end,
    function(host) return users.set_password("juliet", "new password", host.name) end,
    function(host) return users.disable_user("juliet", host.name) and users.enable_user("juliet", host.name) end,
  } do
    for _, more in ipairs { { want_token() }, { want_token(), bind() } } do
      local host = new()
      host:load "c2s"
      local token = token_in(plain(connect(host), { agent = AGENT, want_token() }))
      local c, changed = connect(host), nil
      unbound[c.session] = true
      host.events.add_handler("sasl2/c2s/success", function()
        if not changed then changed = fn(host) end
      end, 30)
      fast(c, token, more)
      unbound[c.session] = nil
      check.ok(changed and c.closed, i)
      check.equal(host:store("fast_tokens", "keyval+"):get "juliet", nil, i)
      host:close()
    end
  end
end)

check.test("a client is forgotten while it logs in with the password", function()
  local unbound = require "couplet.sessions".unbound
  local host = new()
  plain(connect(host), { agent = AGENT })
  local c, other = connect(host), connect(host)
  local next = client.scram { mech = "SCRAM-SHA-256", username = "juliet", password = "O Romeo" }
  unbound[c.session], unbound[other.session] = true, true
  local answer = authenticate(c, "SCRAM-SHA-256", next(nil), { agent = AGENT })
  plain(other, { agent = OTHER })
  check.equal(host:run(host:module "sasl2".environment.forget, "juliet", AGENT), true)
  check.equal(condition(respond(c, next(base64.decode(answer[1]:get_text())))), "temporary-auth-failure")
  check.ok(not other.closed)
  unbound[c.session], unbound[other.session] = nil, nil
  host:close()
end)

check.test("an account changes while the role of who has proved the password is read anew", function()
  local unbound = require "couplet.sessions".unbound
  local host = new()
  host:load "c2s"
  local c = connect(host)
  unbound[c.session] = true
  local next = client.scram { mech = "SCRAM-SHA-256", username = "juliet", password = "O Romeo" }
  local answer = authenticate(c, "SCRAM-SHA-256", next(nil))
  check.ok(host:run(users.set_user_role, "tybalt", host.name, "prosody:member"))
  local get_user_role = users.get_user_role
  function users.get_user_role(...)
    users.get_user_role = get_user_role
    check.ok(users.disable_user("juliet", host.name))
    return get_user_role(...)
  end
  check.equal(condition(respond(c, next(base64.decode(answer[1]:get_text())))), "temporary-auth-failure")
  check.ok(users.get_user_role == get_user_role)
  unbound[c.session] = nil
  host:close()
end)

check.test("a login with a role of its own gets no token for all", function()
  local host = new()
  host.events.add_handler("sasl2/c2s/success", function(event) event.handler.role = "prosody:guest" end, 2000)
  check.equal(token_in(plain(connect(host), { agent = AGENT, want_token() })), nil)
  host:close()
end)

check.test("plugins go away without traces", function()
  local host = new()
  for _, name in ipairs { "sasl2_fast", "sasl2_bind2", "sasl2" } do host:unload(name) end
  local c = connect(host)
  check.equal(c.features():get_child("authentication", SASL2), nil)
  check.equal(host:close(), {})
end)

check.done()
