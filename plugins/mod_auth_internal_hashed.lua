-- SPDX-License-Identifier: MIT
-- mod_auth_internal_hashed: accounts in the store `accounts`, with SCRAM keys instead of passwords.
--
-- An account: { stored_key, server_key (hexadecimal), salt, iteration_count } as Prosody has it: of SHA-1, or of SHA-256 if the
-- keys are that long; `scram = { [hash] = the same four }` for the other hashes; ha1 (DIGEST-MD5, where it is allowed);
-- created, updated, disabled, disabled_meta. `password` in clear, as other servers may have left it, is turned into keys
-- at the first login. Keys a hash lacks (data carried over) are added when the account logs in with PLAIN or changes its
-- password.

local hashes = require "util.hashes"
local hex = require "util.hex"
local new_sasl = require "util.sasl".new
local ha1_of = require "util.sasl".ha1
local saslprep = require "util.encodings".stringprep.saslprep
local derive = require "couplet.core".sasl.derive
local task = require "couplet.task"
local uuid = require "util.uuid"

module:config {
  password_hash = { type = "enum", enum = { "SHA-1", "SHA-256", "SHA-512" },
    doc = "keep keys of this hash only; default: SHA-1 and SHA-256" },
  password_hashes = { type = "set", doc = "keep keys of these hashes, for example with SHA-512 too" },
  default_iteration_count = { type = "integer", default = 10000, min = 4096,
    doc = "more cost an attacker, and each PLAIN login, more" },
}

local known = { ["SHA-1"] = "sha1", ["SHA-256"] = "sha256", ["SHA-512"] = "sha512" }
local strength = { "SHA-512", "SHA-256", "SHA-1" }
local iterations = module:get_option_integer("default_iteration_count", 10000, 4096)
local single = module:get_option_enum("password_hash", nil, "SHA-1", "SHA-256", "SHA-512")
local wanted = module:get_option_set("password_hashes", single and { single } or { "SHA-1", "SHA-256" })
local digest_md5 = not module:get_option_set("disable_sasl_mechanisms", { "DIGEST-MD5" }):contains "DIGEST-MD5"

local accounts = module:open_store("accounts")
local host = module.host

-- Keys ----------------------------------------------------------------------------------------------------------------------

-- The keys of a hash, decoded, or nil.
local function keys_of(account, name)
  local size = #hashes[known[name]] ""
  local kept = account.stored_key and #account.stored_key == 2 * size and account or account.scram and account.scram[name]
  if not kept or not kept.salt or kept.salt == "" or not kept.iteration_count then return nil end
  local stored, server = hex.decode(kept.stored_key or ""), hex.decode(kept.server_key or "")
  if not stored or not server or #stored ~= size or #server ~= size then return nil end
  return { stored = stored, server = server, salt = kept.salt, iterations = kept.iteration_count }
end

local function make(name, password, salt, count)
  return task.await(function(done) derive(known[name], password, salt, count, done) end)
end

-- Fresh keys for one hash, as they are stored; nil, message if jobs are refused.
local function fresh(name, password)
  local salt = uuid.generate()
  local stored, server = make(name, password, salt, iterations)
  if not stored then return nil, server end
  return { stored_key = hex.encode(stored), server_key = hex.encode(server), salt = salt, iteration_count = iterations }
end

-- All wanted keys for a prepared password -> fields to store | nil, message
local function all_keys(username, password)
  local fields = { scram = {} }
  for name in pairs(known) do
    if wanted:contains(name) then
      local keys, err = fresh(name, password)
      if not keys then return nil, err end
      if name == "SHA-1" then
        for key, value in pairs(keys) do fields[key] = value end
      else
        fields.scram[name] = keys
      end
    end
  end
  if not next(fields.scram) then fields.scram = nil end
  if digest_md5 then fields.ha1 = hex.encode(ha1_of(username, host, password)) end
  return fields
end

local key_fields = { "stored_key", "server_key", "salt", "iteration_count", "scram", "ha1", "password" }

-- Reads the account again: deriving has taken a while, and somebody may have changed it.
-- still(account), if given: is it what these keys are for?
local function store_keys(username, fields, still)
  local account, err = accounts:get(username)
  if not account then return nil, err or "Account not available." end
  if still and not still(account) then return true end
  for _, key in ipairs(key_fields) do account[key] = fields[key] end
  account.updated = os.time()
  return accounts:set(username, account)
end

-- Keys are salted: other ones mean that the password has been set anew.
local function same_keys(a, b)
  if a.stored_key ~= b.stored_key then return false end
  for name in pairs(known) do
    local one, other = a.scram and a.scram[name], b.scram and b.scram[name]
    if (one and one.stored_key) ~= (other and other.stored_key) then return false end
  end
  return true
end

-- Keys carried over from elsewhere may lack a hash that clients will choose: now the password is at hand.
local function complete(username, account, password)
  local missing = {}
  for name in pairs(known) do
    if wanted:contains(name) and not keys_of(account, name) then
      local keys = fresh(name, password)
      if not keys then return end
      missing[name] = keys
    end
  end
  if not next(missing) then return end
  local now = accounts:get(username)
  if not now or not same_keys(now, account) then return end
  now.scram = now.scram or {}
  for name, keys in pairs(missing) do now.scram[name] = keys end
  accounts:set(username, now)
end

-- The provider ----------------------------------------------------------------------------------------------------------------

local provider = { announces_changes = true }

local function prepared(password)
  password = type(password) == "string" and saslprep(password)
  if not password or password == "" then return nil end
  return password
end

-- A password in clear becomes keys. -> account | nil, message
local function converted(username, account)
  if type(account.password) ~= "string" or account.password == "" then return account end
  local password = prepared(account.password)
  if not password then return nil, "The stored password is no password." end
  local fields, err = all_keys(username, password)
  if not fields then return nil, err end
  local ok
  ok, err = store_keys(username, fields, function(now) return now.password == account.password end)
  if not ok then return nil, err end
  return accounts:get(username)
end

-- -> account | nil, message, trouble: the store cannot tell
local function load(username)
  local account, err = accounts:get(username)
  if not account then return nil, err, err ~= nil end
  return converted(username, account)
end

-- True if the password is right, whatever the state of the account; nil, message, account, trouble otherwise. It costs the
-- same if there is no such account.
local function compare(username, password)
  local account, err, trouble = load(username)
  if trouble then return nil, err, nil, true end
  password = prepared(password)
  for _, name in ipairs(strength) do
    local keys = account and keys_of(account, name)
    if keys and password then
      local stored = make(name, password, keys.salt, keys.iterations)
      if not stored then return nil, "The server is too busy.", account, true end
      if not hashes.equals(stored, keys.stored) then return nil, "Wrong password.", account end
      return true, nil, account
    end
  end
  for _, name in ipairs(strength) do
    if wanted:contains(name) then
      if not make(name, password or "x", uuid.generate(), iterations) then
        return nil, "The server is too busy.", account, true
      end
      break
    end
  end
  return nil, err or "Wrong password.", account
end

function provider.test_password(username, password)
  local ok, err, account = compare(username, password)
  if not ok then return nil, err end
  if account.disabled then return nil, "Account disabled." end
  return true
end

function provider.set_password(username, password)
  password = prepared(password)
  if not password then return nil, "Password fails SASLprep." end
  local fields, err = all_keys(username, password)
  if not fields then return nil, err end
  return store_keys(username, fields)
end

function provider.get_password()
  return nil, "Passwords are not stored."
end

function provider.user_exists(username)
  local account, err = accounts:get(username)
  if not account then return nil, err end          -- an error is the store's: an account that is not there is none
  return true
end

function provider.create_user(username, password)
  local now = os.time()
  local fields = { disabled = true }               -- an account without a password: for later
  if password ~= nil then
    password = prepared(password)
    if not password then return nil, "Password fails SASLprep." end
    local err
    fields, err = all_keys(username, password)
    if not fields then return nil, err end
  end
  fields.created, fields.updated = now, now
  return accounts:set(username, fields)
end

function provider.delete_user(username)
  return accounts:set(username, nil)
end

function provider.get_account_info(username)
  local account, err = accounts:get(username)
  if not account then return nil, err or "No such account." end
  return { created = account.created, password_updated = account.updated, enabled = not account.disabled }
end

function provider.is_enabled(username)
  local info, err = provider.get_account_info(username)
  if not info then return nil, err end
  return info.enabled
end

local function set_disabled(username, disabled, meta)
  local account, err = accounts:get(username)
  if not account then return nil, err or "No such account." end
  account.disabled, account.disabled_meta = disabled, meta
  return accounts:set(username, account)
end

function provider.enable(username) return set_disabled(username, nil, nil) end
function provider.disable(username, meta) return set_disabled(username, true, meta) end

function provider.users() return accounts:users() end

-- With Prosody's configuration comes where its data lie, but not the data; nobody could log in, and nothing would say why.
module:hook_global("server-started", function()
  task.spawn(function()
    local from = require "couplet.storage.copy".of_prosody(host)
    local users = from and accounts:users()
    if users and not users() then
      module:log("warn", "no accounts yet, but Prosody's are there: coupletctl stop; coupletctl storage copy %s", from)
    end
  end)
end)

-- SASL ------------------------------------------------------------------------------------------------------------------------

local profile = { iterations = iterations }

function profile.plain_test(_, username, password)
  local ok, err, account, trouble = compare(username, password)
  if trouble then module:log("warn", "cannot check the password of %s: %s", username, err) end
  if trouble or not account then return nil, nil, trouble end
  if ok then complete(username, account, prepared(password)) end
  return ok, not account.disabled
end

for name, hash in pairs(known) do
  if wanted:contains(name) then
    profile["scram_" .. hash:gsub("sha", "sha_")] = function(_, username)
      local account, _, trouble = load(username)
      local keys = account and keys_of(account, name)
      if not keys then return nil, nil, nil, nil, nil, trouble end
      return keys.stored, keys.server, keys.iterations, keys.salt, not account.disabled
    end
  end
end

if digest_md5 then
  function profile.digest_md5(_, username)
    local account = load(username)
    if not account or not account.ha1 then return nil end
    return hex.decode(account.ha1), not account.disabled
  end
end

function provider.get_sasl_handler()
  return new_sasl(host, profile)
end

module:provides("auth", provider)
