-- SPDX-License-Identifier: MIT
-- XEP-0077: accounts made, changed and closed by clients; limits.

local check = require "check"
local fake = require "fakehost"
local st = require "couplet.stanza"
local users = require "couplet.users"

local NS = "jabber:iq:register"

local function setup(options, global)
  options = options or {}
  if options.allow_registration == nil then options.allow_registration = true end
  return fake.new { plugins = { "iq", "roster", "register" }, options = options, global = global }
end

local function stranger(host, ip)
  local client = host:client "example.org"
  client.session.ip = ip or "127.0.0.1"
  return client
end

local function ask(client, kind, fields, form, to)
  local iq = st.iq { type = kind, id = "r", to = to }:tag("query", { xmlns = NS })
  for _, field in ipairs(fields or {}) do iq:text_tag(field[1], field[2]) end
  if form then
    iq:tag("x", { xmlns = "jabber:x:data", type = "submit" })
    for name, value in pairs(form) do iq:tag("field", { var = name }):text_tag("value", value):up() end
  end
  client:send(iq:reset())
  return client:expect { name = "iq", id = "r" }
end

local function account(client, name, password)
  return ask(client, "set", { { "username", name }, { "password", password or "secret" } })
end

local function condition(reply)
  local kind, name = reply:get_error()
  return kind, name
end

check.test("§3.1: a feature, the fields, an account", function()
  local host = setup()
  local features = st.stanza "stream:features"
  local client = stranger(host)
  host:fire("stream-features", { origin = client.session, features = features })
  check.ok(features:get_child("register", "http://jabber.org/features/iq-register"))
  local fields = ask(client, "get"):get_child("query", NS)
  check.ok(fields:get_child "username")
  check.ok(fields:get_child "password")
  check.ok(fields:get_child("x", "jabber:x:data"))
  local seen
  host.events.add_handler("user-registered", function(event) seen = event.username .. "@" .. event.host .. " "
    .. event.source end)
  check.equal(account(client, "Romeo").attr.type, "result")
  check.equal(seen, "romeo@example.org mod_register")
  check.equal(host:run(users.test_password, "romeo", "example.org", "secret"), true)
  check.equal(host:run(users.get_user_role, "romeo", "example.org").name, "prosody:registered")
  check.equal({ condition(account(client, "benvolio")) }, { "modify", "not-acceptable" })            -- a second one
  host:close()
end)

check.test("off unless allowed, and only over TLS", function()
  local host = setup { allow_registration = false }
  local client = stranger(host)
  check.equal({ condition(ask(client, "get")) }, { "cancel", "service-unavailable" })
  check.equal({ condition(account(client, "romeo")) }, { "cancel", "not-allowed" })
  local features = st.stanza "stream:features"
  host:fire("stream-features", { origin = client.session, features = features })
  check.equal(#features.tags, 0)
  host:configure { host = { allow_registration = true } }
  client.session.secure = false
  check.equal({ condition(account(client, "romeo")) }, { "modify", "policy-violation" })
  client.session.secure = true
  check.equal(account(client, "romeo").attr.type, "result")
  host:close()
end)

check.test("§3.1: what is refused", function()
  local host = setup()
  host:run(users.create_user, "romeo", "other", "example.org")
  local rows = {
    { { { "username", "romeo" }, { "password", "secret" } }, "conflict" },
    { { { "username", "ROMEO" }, { "password", "secret" } }, "conflict" },
    { { { "username", "bill" } }, "not-acceptable" },
    { { { "password", "secret" } }, "not-acceptable" },
    { { { "username", "bill" }, { "password", "" } }, "not-acceptable" },
    { { { "username", "b@ill" }, { "password", "secret" } }, "not-acceptable" },
    { { { "username", "bill" }, { "password", "x\127" } }, "not-acceptable" },
    { { { "username", ("b"):rep(1024) }, { "password", "secret" } }, "not-acceptable" },
    { { { "username", "bill" }, { "password", ("b"):rep(1024) } }, "not-acceptable" },
    { { { "remove" } }, "unexpected-request" },
  }
  for i, row in ipairs(rows) do
    check.equal(select(2, condition(ask(stranger(host), "set", row[1]))), row[2], "row " .. i)
  end
  check.equal(host:run(users.test_password, "romeo", "example.org", "other"), true)
  host:close()
end)

check.test("§4: a form with more fields; what was filled in is kept", function()
  local host = setup { additional_registration_fields = { "email+", "nick" } }
  local client = stranger(host)
  check.ok(ask(client, "get"):get_child("query", NS):get_child "email")
  local form = { FORM_TYPE = NS, username = "romeo", password = "secret" }
  check.equal({ condition(ask(client, "set", nil, form)) }, { "modify", "not-acceptable" })
  form.email = "romeo@example.net"
  check.equal(ask(client, "set", nil, form).attr.type, "result")
  check.equal(host:store("account_details"):get "romeo".email, "romeo@example.net")
  host:close()
end)

check.test("§5: sent to a web page instead", function()
  local host = setup { allow_registration = false, registration_url = "https://example.org/join" }
  local client = stranger(host)
  local query = ask(client, "get"):get_child("query", NS)
  check.equal(query:get_child "username", nil)
  check.ok(query:get_child_text "instructions")
  check.equal(query:get_child("x", "jabber:x:oob"):get_child_text "url", "https://example.org/join")
  check.equal(select(2, condition(account(client, "romeo"))), "not-allowed")
  host:close()
end)

check.test("plugins may refuse", function()
  local host = setup()
  host:load("picky", [[ module:hook("user-registering", function(event)
    if event.username == "admin" then
      event.allowed, event.error = false, { type = "cancel", condition = "conflict", text = "Reserved" }
    end
  end) ]])
  local reply = account(stranger(host), "admin")
  check.equal({ reply:get_error() }, { "cancel", "conflict", "Reserved" })
  check.equal(account(stranger(host), "romeo").attr.type, "result")
  host:close()
end)

check.test("§3.3: a user changes the password; other sessions end", function()
  local host = setup { allow_registration = false }
  host:run(users.create_user, "romeo", "secret", "example.org")
  local romeo, phone = host:client "romeo@example.org/orchard", host:client "romeo@example.org/phone"
  local mine = ask(romeo, "get"):get_child("query", NS)
  check.ok(mine:get_child "registered")
  check.equal(mine:get_child_text "username", "romeo")
  local function change(name, password, form, to)
    if form then return ask(romeo, "set", nil, form, to) end
    return ask(romeo, "set", { { "username", name }, { "password", password } }, nil, to)
  end
  check.equal(select(2, condition(change("romeo", ""))), "bad-request")
  check.equal(select(2, condition(ask(romeo, "set", { { "password", "new" } }))), "bad-request")
  local refused = change("juliet", "new")
  check.equal(select(2, condition(refused)), "not-allowed")
  check.equal(refused:get_child("query", NS), nil, "no password comes back")
  check.equal(change("romeo", "newer", nil, "example.org").attr.type, "result")
  check.equal(host:run(users.test_password, "romeo", "example.org", "newer"), true)
  check.equal(phone.close_reason.condition, "reset")
  check.equal(romeo.closed, nil)
  local form = { FORM_TYPE = NS .. ":changepassword", username = "romeo@example.org", password = "newest",
    old_password = "wrong" }
  check.equal(select(2, condition(change(nil, nil, form))), "not-authorized")
  form.old_password = "newer"
  check.equal(change(nil, nil, form).attr.type, "result")
  check.equal(host:run(users.test_password, "romeo", "example.org", "newest"), true)
  host:close()
end)

check.test("§3.2: an account is closed with all that belongs to it", function()
  local host = setup()
  host:run(users.create_user, "romeo", "secret", "example.org")
  host:store("private"):set("romeo", { a = { 1 } })
  local romeo, phone = host:client "romeo@example.org/orchard", host:client "romeo@example.org/phone"
  local seen = {}
  host.events.add_handler("user-deregistered", function(event) seen[#seen + 1] = event.username end)
  check.equal(select(2, condition(ask(romeo, "set", { { "remove" }, { "username", "romeo" } }))), "bad-request")
  check.equal(ask(romeo, "set", { { "remove" } }).attr.type, "result")
  check.equal(seen, { "romeo" })
  check.ok(not host:run(users.user_exists, "romeo", "example.org"))
  check.equal(host:store("private"):get "romeo", nil)
  for _, client in ipairs { romeo, phone } do check.equal(client.close_reason.condition, "not-authorized") end
  host:close()
end)

check.test("a grace period: disabled first, gone later; an administrator may stop it", function()
  local host = setup { registration_delete_grace_period = "2 days" }
  for _, name in ipairs { "romeo", "tybalt" } do
    host:run(users.create_user, name, "secret", "example.org")
    local client = host:client(name .. "@example.org/orchard")
    check.equal(ask(client, "set", { { "remove" } }).attr.type, "result")
    check.equal(client.close_reason.condition, "not-authorized")
    check.equal(host:run(users.user_is_enabled, name, "example.org"), false)
  end
  host:run(users.enable_user, "tybalt", "example.org")
  host:advance(86400)
  check.ok(host:run(users.user_exists, "romeo", "example.org"))
  local provider = users.get_provider "example.org"
  local is_enabled = provider.is_enabled
  provider.is_enabled = function() return nil, "the database is away" end
  host:advance(90000)
  check.ok(host:run(users.user_exists, "romeo", "example.org"), "it may have been enabled again")
  provider.is_enabled = is_enabled
  host:advance(3600)
  check.ok(not host:run(users.user_exists, "romeo", "example.org"))
  check.ok(host:run(users.user_exists, "tybalt", "example.org"))
  host:close()
end)

check.test("limits: so many accounts per address, then others", function()
  local host = setup { min_seconds_between_registrations = 300, registration_blocklist = { "203.0.113.0/24" },
    registration_allowlist = { "192.0.2.7" } }
  check.equal(account(stranger(host, "198.51.100.1"), "a").attr.type, "result")
  check.equal({ condition(account(stranger(host, "198.51.100.1"), "b")) }, { "wait", "policy-violation" })
  check.equal(account(stranger(host, "198.51.100.2"), "b").attr.type, "result")
  check.equal({ condition(account(stranger(host, "203.0.113.9"), "c")) }, { "auth", "forbidden" })
  for _, name in ipairs { "d", "e" } do check.equal(account(stranger(host, "192.0.2.7"), name).attr.type, "result") end
  check.equal(account(stranger(host, "2001:db8::1"), "f").attr.type, "result")
  check.equal({ condition(account(stranger(host, "2001:db8::2"), "g")) }, { "wait", "policy-violation" })       -- the same /64
  host:advance(300)
  check.equal(account(stranger(host, "198.51.100.1"), "h").attr.type, "result")
  host:close()
end)

check.test("limits: only certain addresses; addresses forgotten over their limit are blocked", function()
  local host = setup { allowlist_registration_only = true }
  check.equal(account(stranger(host, "127.0.0.1"), "a").attr.type, "result")
  check.equal({ condition(account(stranger(host, "198.51.100.1"), "b")) }, { "auth", "forbidden" })
  host:close()
  host = setup { registration_throttle_max = 1, registration_throttle_period = 60, registration_throttle_cache_size = 1,
    blocklist_on_registration_throttle_overload = true }
  check.equal(account(stranger(host, "198.51.100.1"), "a").attr.type, "result")
  check.equal(account(stranger(host, "198.51.100.2"), "b").attr.type, "result")
  check.equal({ condition(account(stranger(host, "198.51.100.1"), "c")) }, { "auth", "forbidden" })
  host:close()
end)

check.done()
