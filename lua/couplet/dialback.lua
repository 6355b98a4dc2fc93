-- SPDX-License-Identifier: MIT
-- dialback.lua: keys that need no memory (XEP-0185).
--
--   key(secret, receiving, originating, stream_id) -> hex
--   secret_of(host) -> text        option dialback_secret, or one made for as long as the process lives

local config = require "couplet.config"
local hashes = require "couplet.util.hashes"
local hex = require "couplet.util.hex"
local random = require "couplet.util.random"

local dialback = {}

function dialback.key(secret, receiving, originating, stream_id)
  return hashes.hmac_sha256(hashes.sha256(secret, true), ("%s %s %s"):format(receiving, originating, stream_id), true)
end

local own

function dialback.secret_of(host)
  local secret = config.get(host, "dialback_secret")
  if type(secret) == "string" and secret ~= "" then return secret end
  own = own or hex.encode(random.bytes(32))
  return own
end

return dialback
