-- SPDX-License-Identifier: MIT
-- Accounts with SCRAM keys: what is stored, who gets in, and data carried over.

local check = require "check"
local client = require "sasl_client"
local crypto = require "couplet.core".crypto
local fake = require "fakehost"
require "couplet.store"
require "couplet.users"

local last
local function new(options)
  if last then pcall(last.close, last) end
  local host = fake.new { options = options, global = { storage = "memory" } }
  last = host
  local provider = {}
  local env = require "couplet.hosts".get(host.name).users
  for name, fn in pairs(env) do
    provider[name] = function(...)
      local args = table.pack(...)
      return host:run(function() return fn(table.unpack(args, 1, args.n)) end)
    end
  end
  return host, provider, host:store "accounts"
end

local function login(host, provider, mech, name, password)
  local handler = provider.get_sasl_handler()
  assert(handler:select(mech), mech)
  local next = mech == "PLAIN" and function() return client.plain(name, password) end
    or mech == "DIGEST-MD5" and client.digest_md5 { username = name, password = password, realm = host.name }
    or client.scram { mech = mech, username = name, password = password }
  local message
  if mech ~= "DIGEST-MD5" then message = next(nil) end
  for _ = 1, 5 do
    local m = message
    local status, data = host:run(function() return handler:process(m) end)
    if status ~= "challenge" then return status == "success" and status or data end
    message = next(data)
  end
end

local function keys(hash, password, salt, count)
  local salted = crypto.pbkdf2_sync(hash, password, salt, count)
  return crypto.hash(hash, crypto.hmac(hash, salted, "Client Key"), true), crypto.hmac(hash, salted, "Server Key", true)
end

check.test("an account's life", function()
  local host, accounts, store = new()
  check.equal(accounts.user_exists "juliet", nil)
  check.equal(accounts.create_user("juliet", "O Romeo"), true)
  check.equal(accounts.user_exists "juliet", true)
  check.equal(accounts.test_password("juliet", "O Romeo"), true)
  check.equal((accounts.test_password("juliet", "O romeo")), nil)
  check.equal((accounts.test_password("nobody", "O Romeo")), nil)
  check.equal((accounts.test_password("juliet", "")), nil)
  check.equal((accounts.get_password "juliet"), nil)
  local info = accounts.get_account_info "juliet"
  check.equal(info.enabled, true)
  check.equal(info.created, info.password_updated)
  host:advance(100)
  check.equal(accounts.set_password("juliet", "O Paris"), true)
  check.equal((accounts.test_password("juliet", "O Romeo")), nil)
  check.equal(accounts.test_password("juliet", "O Paris"), true)
  info = accounts.get_account_info "juliet"
  check.equal(info.password_updated, info.created + 100)
  check.equal(accounts.disable("juliet", { reason = "family" }), true)
  check.equal(accounts.is_enabled "juliet", false)
  check.equal((accounts.test_password("juliet", "O Paris")), nil)
  check.equal(accounts.get_account_info("juliet").created, info.created)
  check.equal(accounts.enable "juliet", true)
  check.equal(accounts.test_password("juliet", "O Paris"), true)
  check.equal(store:get("juliet").disabled_meta, nil)
  check.equal(accounts.create_user("later", nil), true)               -- without a password: disabled until it has one
  check.equal(accounts.is_enabled "later", false)
  local names = {}
  for name in accounts.users() do names[#names + 1] = name end
  table.sort(names)
  check.equal(names, { "juliet", "later" })
  check.equal(accounts.delete_user "juliet", true)
  check.equal((accounts.user_exists "juliet"), nil)
  check.equal((accounts.set_password("nobody", "x")), nil)
  check.equal((accounts.enable "nobody"), nil)
  check.equal((accounts.disable "nobody"), nil)
  check.equal((accounts.get_account_info "nobody"), nil)
  check.equal(host:close(), {})
end)

check.test("no password is stored, and the keys are those of the RFCs", function()
  local host, accounts, store = new()
  accounts.create_user("juliet", "O Romeo")
  local account = store:get "juliet"
  local function walk(t)
    for _, v in pairs(t) do
      if type(v) == "table" then walk(v) else check.ok(not tostring(v):find("O Romeo", 1, true)) end
    end
  end
  walk(account)
  local stored, server = keys("sha1", "O Romeo", account.salt, account.iteration_count)
  check.equal({ account.stored_key, account.server_key, account.iteration_count }, { stored, server, 10000 })
  local second = account.scram["SHA-256"]
  stored, server = keys("sha256", "O Romeo", second.salt, second.iteration_count)
  check.equal({ second.stored_key, second.server_key }, { stored, server })
  check.ok(second.salt ~= account.salt)
  check.equal(account.scram["SHA-512"], nil)
  check.equal(account.ha1, nil)
  host:close()
end)

check.test("logging in", function()
  local host, accounts = new { password_hashes = { "SHA-1", "SHA-256", "SHA-512" }, disable_sasl_mechanisms = {} }
  accounts.create_user("juliet", "O Romeo")
  accounts.create_user("tybalt", "peace")
  accounts.disable "tybalt"
  for _, mech in ipairs { "PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512", "DIGEST-MD5" } do
    check.equal(login(host, accounts, mech, "juliet", "O Romeo"), "success", mech)
    check.equal(login(host, accounts, mech, "juliet", "O Paris"), "not-authorized", mech)
    check.equal(login(host, accounts, mech, "nobody", "O Romeo"), "not-authorized", mech)
    check.equal(login(host, accounts, mech, "tybalt", "peace"), "account-disabled", mech)
    check.equal(login(host, accounts, mech, "tybalt", "war"), "not-authorized", mech)
  end
  -- what SASLprep calls the same is the same: a soft hyphen is nothing, a wide letter is the letter
  accounts.create_user("nurse", "I\194\173X")
  check.equal(login(host, accounts, "PLAIN", "nurse", "IX"), "success")
  check.equal(login(host, accounts, "PLAIN", "nurse", "\239\188\169X"), "success")
  accounts.create_user("paris", "½´")                  -- RFC 5802 §3: the keys are of the prepared one
  check.equal(login(host, accounts, "SCRAM-SHA-1", "paris", "1⁄2 \u{301}"), "success")
  check.equal(login(host, accounts, "SCRAM-SHA-1", "paris", "½´"), "not-authorized")
  check.equal(login(host, accounts, "PLAIN", "paris", "½´"), "success")
  check.equal((accounts.create_user("bad", "\7")), nil)
  host:close()
end)

check.test("the hashes an admin wants", function()
  local host, accounts, store = new { password_hash = "SHA-256" }
  accounts.create_user("juliet", "x")
  check.equal(accounts.get_sasl_handler():mechanisms(), { PLAIN = true, ["SCRAM-SHA-256"] = true })
  check.equal(store:get("juliet").stored_key, nil)
  check.equal(login(host, accounts, "SCRAM-SHA-256", "juliet", "x"), "success")
  host:close()
end)

check.test("data carried over", function()
  local host, accounts, store = new()
  local stored, server = keys("sha1", "old", "36c0-salt", 4096)
  store:set("one", { stored_key = stored, server_key = server, salt = "36c0-salt", iteration_count = 4096, created = 1 })
  stored, server = keys("sha256", "old", "salt", 4096)
  store:set("two", { stored_key = stored, server_key = server, salt = "salt", iteration_count = 4096 })
  store:set("clear", { password = "old" })
  store:set("broken", { stored_key = "zz", server_key = server, salt = "salt", iteration_count = 4096 })
  check.equal(login(host, accounts, "SCRAM-SHA-1", "one", "old"), "success")
  check.equal(login(host, accounts, "SCRAM-SHA-256", "one", "old"), "not-authorized")         -- there is no such key yet
  check.equal(login(host, accounts, "PLAIN", "one", "old"), "success")
  check.equal(login(host, accounts, "SCRAM-SHA-256", "one", "old"), "success")                -- now there is
  check.equal(login(host, accounts, "SCRAM-SHA-1", "one", "old"), "success")
  check.equal(store:get("one").salt, "36c0-salt")
  check.equal(login(host, accounts, "SCRAM-SHA-256", "two", "old"), "success")
  check.equal(login(host, accounts, "PLAIN", "two", "old"), "success")
  check.equal(login(host, accounts, "SCRAM-SHA-1", "two", "old"), "success")
  check.equal(login(host, accounts, "SCRAM-SHA-1", "clear", "old"), "success")
  check.equal(store:get("clear").password, nil)
  check.equal(login(host, accounts, "SCRAM-SHA-256", "clear", "old"), "success")
  check.equal(login(host, accounts, "PLAIN", "broken", "old"), "not-authorized")
  check.equal(login(host, accounts, "SCRAM-SHA-1", "broken", "old"), "not-authorized")
  check.equal(accounts.set_password("two", "new"), true)
  for _, mech in ipairs { "PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256" } do
    check.equal(login(host, accounts, mech, "two", "new"), "success", mech)
    check.equal(login(host, accounts, mech, "two", "old"), "not-authorized", mech)
  end
  host:close()
end)

check.test("a new password while keys of the old one are being made", function()
  local users, hosts = require "couplet.users", require "couplet.hosts"
  local stored, server = keys("sha1", "old", "salt", 4096)
  for _, carried in ipairs { { password = "old" },
    { stored_key = stored, server_key = server, salt = "salt", iteration_count = 4096 } } do
    for when = 2, 6 do                             -- it is there when the account is read that time
      local host, _, store = new { default_iteration_count = 4096 }
      check.ok(host:run(users.create_user, "other", "new", host.name))
      local new_account, reads, nth = store:get "other", 0, when
      host:unload "auth_internal_hashed"
      host.events.add_handler("store-opened", function(event)
        if event.store_name ~= "accounts" then return end
        local inner = event.store
        event.store = setmetatable({ get = function(_, username)
          reads = reads + 1
          if reads == nth then inner:set("juliet", new_account) end
          return inner:get(username)
        end }, { __index = function(_, name) return function(_, ...) return inner[name](inner, ...) end end })
      end)
      host:load "auth_internal_hashed"
      store:set("juliet", carried)
      host:run(users.test_password, "juliet", host.name, "old")
      local provider = hosts.get(host.name).users
      login(host, provider, "PLAIN", "juliet", "old")
      if reads < nth then store:set("juliet", new_account) end
      nth = 0
      for _, mech in ipairs { "PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256" } do
        check.equal(login(host, provider, mech, "juliet", "new"), "success", mech)
        check.equal(login(host, provider, mech, "juliet", "old"), "not-authorized", mech)
      end
      host:close()
    end
  end
end)

check.done()
