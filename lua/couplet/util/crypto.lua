-- SPDX-License-Identifier: MIT
-- util.crypto: ciphers, keys, signatures; the calls are described in core/bind/bind_crypto_cipher.c and bind_crypto_key.c.

local crypto = require "couplet.core".crypto
local M = {}

for name, fn in pairs(crypto) do
  if name:find "^aes_" or name:find "_sign$" or name:find "_verify$" or name:find "^generate_" or name:find "^import_"
    or name:find "ecdsa_signature$" then
    M[name] = fn
  end
end

return M
