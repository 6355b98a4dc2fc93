-- SPDX-License-Identifier: MIT
-- util.jwt: signed tokens (RFC 7515 compact form, RFC 7519 claims).
--
--   jwt.new_signer(algorithm, private key, { default_ttl = 3600 }?) -> sign(claims) -> token      adds iat and exp
--   jwt.new_verifier(algorithm, public key, { accept_expired=, claim_verifier = fn(claims) }?)
--     -> verify(token) -> true, claims | false or nil, error
--   jwt.init(algorithm, private key, public key, options) -> sign, verify
--   jwt.sign(key, claims), jwt.verify(key, token)       HS256
-- Keys: text for HS256 HS384 HS512, PEM for ES256 ES512, RS256 …, PS256 …, EdDSA. A token says which algorithm it claims; one
-- that is not the verifier's is refused.

local crypto = require "couplet.core".crypto
local json = require "couplet.util.json"

local encode, decode = crypto.base64url_encode, crypto.base64url_decode

local algorithms = {}

-- sign(key, text) -> bytes; check(key, text, bytes) -> boolean; public(input), private(input) -> key
local function add(name, sign, check, private, public)
  local head = encode(('{"alg":"%s","typ":"JWT"}'):format(name)) .. "."
  algorithms[name] = {
    load_key = private, load_private_key = private, load_public_key = public,
    sign = function(key, claims)
      local text = head .. encode(json.encode(claims))
      return text .. "." .. encode(assert(sign(key, text)))
    end,
    verify = function(key, token)
      local header, body, mark = tostring(token):match "^([^.]*)%.([^.]*)%.([^.]*)$"
      header = header and decode(header)
      local claims, signature = body and decode(body), mark and decode(mark)
      if not header or not claims or not signature then return nil, "invalid-encoding" end
      header = json.decode(header)
      if type(header) ~= "table" then return nil, "invalid-header" end
      if header.alg ~= name then return nil, "unsupported-algorithm" end
      if not check(key, token:match "^(.*)%.", signature) then return false, "signature-mismatch" end
      claims = json.decode(claims)
      if claims == nil then return nil, "json-decode-error" end
      if type(claims) ~= "table" then return nil, "invalid-payload-type" end
      return true, claims
    end,
  }
end

local function same(key) return key end

for _, bits in ipairs { "256", "384", "512" } do
  local hmac = crypto["hmac_sha" .. bits]
  add("HS" .. bits, hmac, function(key, text, mark) return crypto.equals(hmac(key, text), mark) end, same, same)
end

local function pem(import, kind)
  return function(text)
    local key, err = import(text)
    if not key then error("not a key: " .. tostring(err), 3) end
    if key:get_type() ~= kind then error("wrong kind of key: " .. key:get_type(), 3) end
    return key
  end
end

local function add_public(name, kind, scheme, pack, unpack)
  local sign, check = crypto[scheme .. "_sign"], crypto[scheme .. "_verify"]
  add(name, pack and function(key, text) return pack(sign(key, text)) end or sign,
    unpack and function(key, text, mark)
      local signature = unpack(mark)
      return signature and check(key, text, signature)
    end or check,
    pem(crypto.import_private_pem, kind), pem(crypto.import_public_pem, kind))
end

for _, bits in ipairs { "256", "384", "512" } do
  add_public("RS" .. bits, "rsaEncryption", "rsassa_pkcs1_sha" .. bits)
  add_public("PS" .. bits, "rsaEncryption", "rsassa_pss_sha" .. bits)
end
for bits, size in pairs { ["256"] = 32, ["512"] = 66 } do            -- r and s side by side (RFC 7518 §3.4)
  add_public("ES" .. bits, "id-ecPublicKey", "ecdsa_sha" .. bits, function(der)
    local r, s = crypto.parse_ecdsa_signature(der, size)
    return r and r .. s
  end, function(mark)
    return #mark == 2 * size and crypto.build_ecdsa_signature(mark:sub(1, size), mark:sub(size + 1))
  end)
end
add_public("EdDSA", "ED25519", "ed25519")

local jwt = { _algorithms = algorithms, sign = algorithms.HS256.sign, verify = algorithms.HS256.verify }

local function algorithm(name)
  return algorithms[name] or error("unknown JWT algorithm: " .. tostring(name), 3)
end

function jwt.new_signer(name, key, options)
  local a = algorithm(name)
  key = a.load_private_key(key)
  local ttl = options and options.default_ttl or 3600
  return function(claims)
    local now = os.time()
    claims.exp = claims.exp or now + ttl
    claims.iat = claims.iat or now
    return a.sign(key, claims)
  end
end

function jwt.new_verifier(name, key, options)
  local a = algorithm(name)
  options = options or {}
  key = a.load_public_key(key)
  return function(token)
    local ok, claims = a.verify(key, token)
    if not ok then return ok, claims end
    local exp = not options.accept_expired and claims.exp
    if exp and type(exp) ~= "number" then return nil, "invalid-expiry" end
    if exp and exp < os.time() then return nil, "token-expired" end
    if options.claim_verifier and not options.claim_verifier(claims) then return nil, "incorrect-claims" end
    return true, claims
  end
end

function jwt.init(name, private, public, options)
  return jwt.new_signer(name, private, options), jwt.new_verifier(name, public or private, options)
end

return jwt
