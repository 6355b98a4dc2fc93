-- SPDX-License-Identifier: MIT
-- Anonymous users: a name of their own, this server only, nothing left behind.

local check = require "check"
local fake = require "fakehost"
local st = require "couplet.stanza"
require "couplet.store"
require "couplet.users"

local function new(options)
  options.authentication = "anonymous"
  return fake.new { options = options, global = { storage = "memory" } }
end

check.test("everybody gets in, each under another name", function()
  local host = new {}
  local provider = require "couplet.hosts".get(host.name).users
  local names = {}
  for _ = 1, 20 do
    local handler = provider.get_sasl_handler()
    check.equal(handler:mechanisms(), { ANONYMOUS = true })
    check.equal(handler:select "ANONYMOUS", true)
    check.equal(handler:process "", "success")
    check.ok(not names[handler.username])
    names[handler.username] = true
  end
  check.equal((provider.test_password("x", "y")), nil)
  check.equal((provider.create_user("x", "y")), nil)
  check.equal(provider.user_exists "x", nil)
  local c = host:client "x@example.org/r"
  check.equal(provider.user_exists "x", true)
  local list = {}
  for name in provider.users() do list[#list + 1] = name end
  check.equal(list, { "x" })
  c:close()
  check.equal(host:close(), {})
end)

check.test("they reach this server only", function()
  for _, open in ipairs { false, true } do
    local host = new { allow_anonymous_s2s = open }
    local c = host:client "x@example.org/r"
    c:send(st.message { to = "juliet@elsewhere.example", type = "chat", id = "1" })
    if open then
      host:expect_sent { name = "message", to = "juliet@elsewhere.example" }
      c:nothing()
    else
      c:expect { name = "message", type = "error", has = "error" }
      c:send(st.message { to = "juliet@elsewhere.example", type = "error" })
      c:nothing()
      check.equal(host:sent(), {})
    end
    host:close()
  end
end)

check.test("what they stored goes with them", function()
  for _, keep in ipairs { false, true } do
    local host = new { allow_anonymous_storage = keep }
    local store = host:store("private", "keyval")
    local a, b = host:client "x@example.org/a", host:client "x@example.org/b"
    store:set("x", { note = "mine" })
    a:close()
    check.ok(store:get "x")
    b:close()
    check.equal(store:get "x" ~= nil, keep)
    host:close()
  end
end)

check.test("older words: anonymous_login, internal_plain", function()
  for option, want in pairs { anonymous_login = "anonymous", authentication = "internal_hashed" } do
    local host = fake.new { options = { [option] = option == "anonymous_login" or "internal_plain" },
      global = { storage = "memory" } }
    check.equal({ option, require "couplet.hosts".get(host.name).users.name }, { option, want })
    host:close()
  end
end)

check.done()
