-- SPDX-License-Identifier: MIT
-- util.hashes: hashes and key derivation. Long derivations run off the logic thread; the caller waits in its task.

local crypto = require "couplet.core".crypto
local task = require "couplet.task"

local hashes = { hash = crypto.hash, hmac = crypto.hmac, equals = crypto.equals }

for _, name in ipairs { "md5", "sha1", "sha224", "sha256", "sha384", "sha512", "sha3_256", "sha3_512", "blake2s256",
  "blake2b512" } do
  hashes[name] = crypto[name]
  hashes["hmac_" .. name] = crypto["hmac_" .. name]
end

local QUICK = 128 -- iterations that cost less than a job's way there and back

local function pbkdf2(name, length)
  return function(password, salt, iterations)
    if iterations <= QUICK then return crypto.pbkdf2_sync(name, password, salt, iterations, length) end
    return task.await(function(done) crypto.pbkdf2(name, password, salt, iterations, length, done) end)
  end
end

hashes.pbkdf2_hmac_sha1 = pbkdf2("sha1", 20)
hashes.pbkdf2_hmac_sha256 = pbkdf2("sha256", 32)
hashes.pbkdf2_hmac_sha512 = pbkdf2("sha512", 64)
hashes.scram_Hi_sha1 = hashes.pbkdf2_hmac_sha1

local function hkdf(name)
  return function(length, key, salt, info) return crypto.hkdf(name, key, length, salt, info) end
end

hashes.hkdf_hmac_sha256 = hkdf "sha256"
hashes.hkdf_hmac_sha384 = hkdf "sha384"
hashes.hkdf_hmac_sha512 = hkdf "sha512"

return hashes
