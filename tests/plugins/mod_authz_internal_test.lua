-- SPDX-License-Identifier: MIT
-- Accounts, roles and permissions: couplet.users with mod_authz_internal and mod_auth_internal_hashed.

local check = require "check"
local fake = require "fakehost"
local prosody = require "couplet.prosody"
local users = require "couplet.users"

local equal, ok = check.equal, check.ok

local function new(options)
  options = options or {}
  local global = options.global or {}
  global.default_storage = "memory"
  return fake.new { plugins = {}, options = options.host, global = global }
end

local events = {}
for _, name in ipairs { "user-deleted", "user-password-changed", "user-enabled", "user-disabled", "user-role-changed",
  "user-role-added", "user-role-removed" } do
  prosody.events.add_handler(name, function(event) events[#events + 1] = { name, event } end)
end
local function fired(name)
  for _, e in ipairs(events) do
    if e[1] == name then
      events = {}
      return e[2]
    end
  end
end

check.test("an account is made, checked, changed, disabled and deleted", function()
  local host = new()
  host:run(function()
    equal(users.user_exists("romeo", "example.org"), nil)
    equal(users.user_exists("romeo", "nowhere.example"), false)
    ok(users.create_user("romeo", "first", "example.org"))
    equal(users.user_exists("romeo", "example.org"), true)
    equal(users.test_password("romeo", "example.org", "first"), true)
    equal(users.test_password("romeo", "example.org", "second"), nil)
    ok(users.set_password("romeo", "second", "example.org", "orchard"))
    equal(fired "user-password-changed".resource, "orchard")
    equal(users.test_password("romeo", "example.org", "second"), true)
    equal(users.user_is_enabled("romeo", "example.org"), true)
    ok(users.disable_user("romeo", "example.org", { why = "test" }))
    equal(fired "user-disabled".meta, { why = "test" })
    equal(users.user_is_enabled("romeo", "example.org"), false)
    equal(users.test_password("romeo", "example.org", "second"), nil)
    ok(users.enable_user("romeo", "example.org"))
    ok(fired "user-enabled")
    local names = {}
    for name in users.users("example.org") do names[#names + 1] = name end
    equal(names, { "romeo" })
    ok(users.get_account_info("romeo", "example.org").created)
  end)
  local vcard = host:store("vcard")
  vcard:set("romeo", { name = "Romeo" })
  vcard:set("juliet", { name = "Juliet" })
  host:run(function() ok(users.delete_user("romeo", "example.org")) end)
  equal(fired "user-deleted".username, "romeo")
  host:run(function() equal(users.user_exists("romeo", "example.org"), nil) end)
  equal(vcard:get("romeo"), nil, "its data are gone")
  equal(vcard:get("juliet"), { name = "Juliet" })
  host:close()
end)

check.test("an account can be made with a role", function()
  local host = new()
  host:run(function()
    equal(users.create_user_with_role("a", "pw", "example.org", "no:such"), nil)
    equal(users.user_exists("a", "example.org"), nil)
    ok(users.create_user_with_role("a", "pw", "example.org", "prosody:admin"))
    equal(users.test_password("a", "example.org", "pw"), true)
    equal(users.get_user_role("a", "example.org").name, "prosody:admin")
    equal(users.create_user_with_role("a", "pw", "example.org", "prosody:admin"), nil)
    ok(users.delete_user("a", "example.org"))
    ok(users.create_user("a", "pw", "example.org"))
    equal(users.get_user_role("a", "example.org").name, "prosody:registered", "a new account does not inherit an old one's role")
  end)
  host:close()
end)

check.test("a name is free when nothing is left of the account that had it", function()
  local host, store, bus = new(), require "couplet.store", require "couplet.prosody".events
  local name, purge = host.name, store.purge
  local private = host:store "private"
  local function full()
    ok(users.create_user_with_role("a", "pw", name, "prosody:admin"))
    ok(store.open(name, "private"):set("a", { x = "y" }))
  end
  local function empty()
    equal(users.get_user_role("a", name).name, "prosody:registered")
    equal(store.open(name, "private"):get "a", nil)
  end
  host:run(function()
    full()
    local made, why
    local function make() made, why = users.create_user("a", "another person", name) end
    bus.add_handler("user-deleted", make)
    ok(users.delete_user("a", name))
    bus.remove_handler("user-deleted", make)
    equal({ made, why }, { nil, "the account is just being made or deleted" })
    equal(users.user_exists("a", name), nil)
    empty()
    full()                                 -- not all can be removed
    function store.purge() return nil, "no disk" end
    equal(users.delete_user("a", name), nil)
    equal({ users.create_user("a", "another person", name) }, { nil, "no disk" })
    store.purge = purge
    ok(users.create_user("a", "another person", name))
    empty()
    ok(users.delete_user("a", name))
    full()                                 -- the process ends before all is removed
    function store.purge() return nil, "no time" end
    equal(users.delete_user("a", name), nil)
    store.purge = purge
    full()                                 -- and another time before anything is
    require "couplet.leftovers".begin("a", name)
    bus.fire_event "server-started"
    equal(users.get_user_role("a", name).name, "prosody:admin")
    function store.purge() return nil, "no time" end
    equal(users.delete_user("a", name), nil)
    store.purge = purge
    bus.fire_event "server-started"
    empty()
  end)
  equal(private:get "a", nil)
  equal(host:store("account_deletions"):get(nil), nil)
  host:close()
end)

check.test("of two who make an account at once one gets it", function()
  local host = new()
  host:run(function()
    local function make(password)
      return function() return users.create_user("a", password, host.name) and password or false end
    end
    local first, second = require "couplet.task".together(make "one", make "two")
    equal({ first, second }, { "one", false })
    equal(users.test_password("a", host.name, "one"), true)
    equal(users.create_user("a", "three", host.name), nil)
    equal(users.test_password("a", host.name, "one"), true)
  end)
  host:close()
end)

check.test("roles: default, stored, by configuration; secondary ones", function()
  local host = new { global = { admins = { "op@example.org", "far@elsewhere.example" } },
    host = { admins = { "boss@example.org" } } }
  host:run(function()
    local function role(name) return users.get_user_role(name, "example.org").name end
    equal(role "romeo", "prosody:registered")
    equal(role "op", "prosody:operator")
    equal(role "boss", "prosody:admin")
    ok(users.set_user_role("romeo", "example.org", "prosody:member"))
    equal(role "romeo", "prosody:member")
    local event = fired "user-role-changed"
    equal({ event.username, event.role.name, event.previous_role.name }, { "romeo", "prosody:member", "prosody:registered" })
    equal(users.set_user_role("romeo", "example.org", "no:such"), nil)
    equal(users.set_user_role("op", "example.org", "prosody:guest"), nil, "admins wins over stored")
    equal(users.set_user_role("romeo", "example.org", "couplet:member").name, "prosody:member")
    ok(users.add_user_secondary_role("romeo", "example.org", "prosody:admin"))
    ok(fired "user-role-added")
    ok(users.get_user_secondary_roles("romeo", "example.org")["prosody:admin"])
    equal(users.user_can_assume_role("romeo", "example.org", "prosody:admin"), true)
    equal(users.user_can_assume_role("romeo", "example.org", "prosody:guest"), true, "what the primary role includes")
    equal(users.user_can_assume_role("romeo", "example.org", "prosody:operator"), false)
    equal(users.get_users_with_role("prosody:admin", "example.org"), { "boss", "romeo" })
    ok(users.remove_user_secondary_role("romeo", "example.org", "prosody:admin"))
    equal(users.get_user_secondary_roles("romeo", "example.org"), {})
    equal(users.get_users_with_role("prosody:member", "example.org"), { "romeo" })
    equal(users.get_jid_role("far@elsewhere.example/x", "example.org").name, "prosody:operator")
    equal(users.get_jid_role("else@elsewhere.example", "example.org"), nil)
    equal(users.get_jid_role("romeo@example.org/x", "example.org").name, "prosody:member")
    equal(users.get_jids_with_role("prosody:operator", "example.org"), { "op@example.org", "far@elsewhere.example" })
    local rows = {
      { "op@example.org", nil, true }, { "op@example.org", "example.org", true }, { "boss@example.org", nil, false },
      { "boss@example.org/r", "example.org", true }, { "romeo@example.org", "example.org", false },
      { "far@elsewhere.example", "example.org", true }, { "nobody@elsewhere.example", "*", false },
    }
    for i, row in ipairs(rows) do equal(users.is_admin(row[1], row[2]), row[3], "row " .. i) end
    equal(users.get_roles("op@example.org", "example.org"), { ["prosody:operator"] = true })
    ok(users.get_all_roles("example.org")["prosody:guest"])
    ok(users.set_user_role("unknown:role", "example.org", "prosody:member"))
  end)
  host:close()
end)

check.test("permissions: seeded, inherited, added, removed, custom roles", function()
  local host = new { host = {
    custom_roles = { { name = "lib:rarian", inherits = { "prosody:registered" }, allow = { "books:lend" },
      deny = { "test:seeded" } } },
    add_permissions = { ["prosody:guest"] = { "test:extra" } }, remove_permissions = { ["prosody:admin"] = { "test:purge" } },
  } }
  local env = host:load("test", [[
    module:default_permission("prosody:admin", ":purge")
    module:default_permission("prosody:registered", ":seeded")
    module:default_permissions("prosody:operator", { ":a", ":b" })
    function may(action, who) return module:may(action, who) end
  ]])
  host:run(function()
    local get = function(name) return users.get_role_by_name(name, "example.org") end
    local rows = {
      { "prosody:admin", "test:purge", false }, { "prosody:registered", "test:seeded", true },
      { "prosody:guest", "test:seeded", false },
      { "prosody:operator", "test:seeded", true }, { "prosody:operator", "test:a", true }, { "prosody:admin", "test:b", false },
      { "prosody:guest", "test:extra", true }, { "prosody:member", "test:extra", true }, { "lib:rarian", "books:lend", true },
      { "lib:rarian", "test:seeded", false }, { "lib:rarian", "test:extra", true }, { "prosody:guest", "un:known", false },
    }
    for i, row in ipairs(rows) do equal(get(row[1]):may(row[2]), row[3], "row " .. i) end
    local all = {}
    for permission, policy in get("lib:rarian"):policies() do all[permission] = policy end
    equal(all, { ["books:lend"] = true, ["test:seeded"] = false, ["test:extra"] = true })
    ok(users.set_user_role("romeo", "example.org", "lib:rarian"))
    equal(env.may("books:lend", "romeo@example.org/x"), true)
    equal(env.may(":seeded", "romeo@example.org/x"), false)
    equal(env.may(":seeded", "juliet@example.org"), true)
    equal(env.may(":seeded", "else@elsewhere.example"), false)
  end)
  host:close()
end)

check.test("a component's users: of its host, of the server, of the world", function()
  local host = new { global = { admins = { "op@example.org" } } }
  host:component("rooms.example.org", "ping", { server_user_role = "prosody:guest", public_user_role = nil })
  host:run(function()
    local function role(address)
      local r = users.get_jid_role(address, "rooms.example.org")
      return r and r.name
    end
    equal(role "romeo@example.org", "prosody:registered")
    equal(role "op@example.org", "prosody:operator")
    equal(role "someone@elsewhere.example", nil)
  end)
  host:close()
end)

check.test("roles are objects", function()
  local roles = require "couplet.roles"
  local base = roles.new { name = "a", permissions = { x = true } }
  local role = base:clone()
  equal(roles.is_role(role), true)
  equal(roles.is_role({}), false)
  role:set_permission("x", false)
  equal({ base:may "x", role:may "x" }, { true, false })
  equal(select(2, role:set_permission("x", true)), "policy-already-exists")
  ok(role:set_permission("x", true, true))
  equal(role:may "x", true)
  ok(role:includes "a")
end)

check.done()
