-- SPDX-License-Identifier: MIT
-- util.paseto: PASETO tokens, v4.public (signed, Ed25519) and v3.local (encrypted, one shared key). paseto.io's specification.
--
--   paseto.v4_public.sign(claims, private key, footer?, assertion?) -> token
--   paseto.v4_public.verify(token, public key, expected footer?, assertion?) -> claims | nil, error
--   paseto.v3_local.encrypt(claims, 32 bytes, footer?, assertion?), .decrypt(token, key, footer?, assertion?)
--   .init(keys…, options) -> make, read      .new_signer  .new_verifier    with keys as PEM or as new_key() gives them;
--     options: default_footer, default_implicit_assertion

local crypto = require "couplet.core".crypto
local json = require "couplet.util.json"

local encode, decode = crypto.base64url_encode, crypto.base64url_decode

-- Pre-authentication encoding: what is signed cannot be cut elsewhere.
local function pae(parts)
  if type(parts) ~= "table" then error("bad argument #1 to 'pae' (table expected, got " .. type(parts) .. ")", 2) end
  local out = { string.pack("<i8", #parts) }
  for _, part in ipairs(parts) do out[#out + 1] = string.pack("<s8", part) end
  return table.concat(out)
end

local function write(head, body, footer)
  local token = head .. encode(body)
  return footer and footer ~= "" and token .. "." .. encode(footer) or token
end

-- -> body, footer ("" if there is none) | nil, nil, error
local function read(token, head, shortest, expected)
  local rest = type(token) == "string" and token:sub(1, #head) == head and token:sub(#head + 1)
  local body, footer = (rest or ""):match "^([^.]+)%.?([^.]*)$"
  body, footer = body and decode(body), footer and decode(footer)
  if not body or not footer or #body <= shortest then return nil, nil, "invalid-token-format" end
  if expected and not crypto.equals(expected, footer) then return nil, nil, "invalid-footer" end
  return body, footer
end

local function claims_of(text)
  local claims = json.decode(text)
  if type(claims) ~= "table" then return nil, "json-decode-error" end
  return claims
end

local function with_defaults(fn, key, options)
  options = options or {}
  return function(what, footer, assertion)
    return fn(what, key, footer or options.default_footer, assertion or options.default_implicit_assertion)
  end
end

-- Signed --------------------------------------------------------------------------------------------------------------

local public = { import_private_key = crypto.import_private_pem, import_public_key = crypto.import_public_pem,
  new_keypair = crypto.generate_ed25519_keypair }
local PUBLIC = "v4.public."

function public.sign(claims, key, footer, assertion)
  if type(claims) ~= "table" then return nil, "PASETO payloads must be a table" end
  local text = json.encode(claims)
  return write(PUBLIC, text .. crypto.ed25519_sign(key, pae { PUBLIC, text, footer or "", assertion or "" }), footer)
end

function public.verify(token, key, expected, assertion)
  local body, footer, err = read(token, PUBLIC, 64, expected)
  if not body then return nil, err end
  local text = body:sub(1, -65)
  if not crypto.ed25519_verify(key, pae { PUBLIC, text, footer, assertion or "" }, body:sub(-64)) then
    return nil, "invalid-token"
  end
  return claims_of(text)
end

function public.init(private_pem, public_pem, options)
  local private = private_pem and assert(crypto.import_private_pem(private_pem))
  local known = public_pem and assert(crypto.import_public_pem(public_pem))
  return private and with_defaults(public.sign, private, options) or nil,
    known and with_defaults(public.verify, known, options) or nil
end

function public.new_signer(private_pem, options) return (public.init(private_pem, nil, options)) end
function public.new_verifier(public_pem, options) return (select(2, public.init(nil, public_pem, options))) end

-- Encrypted -----------------------------------------------------------------------------------------------------------

local secret = {}
local LOCAL, PREFIX = "v3.local.", "secret-token:paseto.v3.local:"

local function keys(key, nonce)
  assert(#key == 32, "a key has 32 bytes")
  local both = crypto.hkdf("sha384", key, 48, nil, "paseto-encryption-key" .. nonce)
  return both:sub(1, 32), both:sub(33), crypto.hkdf("sha384", key, 48, nil, "paseto-auth-key-for-aead" .. nonce)
end

function secret.encrypt(claims, key, footer, assertion)
  if type(claims) ~= "table" then return nil, "PASETO payloads must be a table" end
  local nonce = crypto.random_bytes(32)
  local cipher_key, iv, mac_key = keys(key, nonce)
  local sealed = crypto.aes_256_ctr_encrypt(cipher_key, iv, json.encode(claims))
  local mark = crypto.hmac_sha384(mac_key, pae { LOCAL, nonce, sealed, footer or "", assertion or "" })
  return write(LOCAL, nonce .. sealed .. mark, footer)
end

function secret.decrypt(token, key, expected, assertion)
  local body, footer, err = read(token, LOCAL, 80, expected)
  if not body then return nil, err end
  local nonce, sealed, mark = body:sub(1, 32), body:sub(33, -49), body:sub(-48)
  local cipher_key, iv, mac_key = keys(key, nonce)
  if not crypto.equals(mark, crypto.hmac_sha384(mac_key, pae { LOCAL, nonce, sealed, footer, assertion or "" })) then
    return nil, "invalid-token"
  end
  return claims_of(crypto.aes_256_ctr_decrypt(cipher_key, iv, sealed))
end

function secret.new_key() return PREFIX .. crypto.hex_encode(crypto.random_bytes(32)) end

function secret.init(text, options)
  local key = text:sub(1, #PREFIX) == PREFIX and crypto.hex_decode(text:sub(#PREFIX + 1))
  if not key or #key ~= 32 then error("invalid key for v3.local", 2) end
  return with_defaults(secret.encrypt, key, options), with_defaults(secret.decrypt, key, options)
end

function secret.new_signer(text, options) return (secret.init(text, options)) end
function secret.new_verifier(text, options) return (select(2, secret.init(text, options))) end

return { pae = pae, v3_local = secret, v4_public = public }
