-- SPDX-License-Identifier: MIT
-- Tokens: JWT and PASETO.

local check = require "check"
local crypto = require "couplet.core".crypto
local jwt = require "couplet.util.jwt"
local paseto = require "couplet.util.paseto"

check.test("JWT: a known token", function() -- RFC 7515 A.1
  local token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9"
    .. ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
    .. ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
  local key = crypto.base64url_decode "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"
  local ok, claims = jwt.verify(key, token)
  check.equal({ ok, claims }, { true, { iss = "joe", exp = 1300819380, ["http://example.com/is_root"] = true } })
  check.equal({ jwt.verify("another", token) }, { false, "signature-mismatch" })
end)

check.test("JWT: each algorithm", function()
  local ec, rsa, ed = crypto.generate_p256_keypair(), crypto.generate_rsa_keypair(), crypto.generate_ed25519_keypair()
  local keys = { HS = { "secret", "secret" }, ES256 = { ec:private_pem(), ec:public_pem() },
    RS = { rsa:private_pem(), rsa:public_pem() },
    PS = { rsa:private_pem(), rsa:public_pem() }, EdDSA = { ed:private_pem(), ed:public_pem() } }
  for name in pairs(jwt._algorithms) do
    local pair = keys[name] or keys[name:sub(1, 2)]
    if pair then
      local sign, verify = jwt.init(name, pair[1], pair[2])
      local token = sign { sub = "juliet" }
      local ok, claims = verify(token)
      check.equal({ ok, claims.sub }, { true, "juliet" }, name)
      check.equal(claims.exp - claims.iat, 3600)
      local last = token:sub(-3, -3) == "A" and "B" or "A"
      check.ok(not verify(token:sub(1, -4) .. last .. token:sub(-2)), name)
      check.ok(not verify(token:gsub("^[^.]+", (crypto.base64url_encode '{"alg":"none"}'))), name)
    end
  end
  check.raises("unknown", jwt.new_signer, "none", "")
  check.raises("wrong kind", jwt.new_signer, "ES256", rsa:private_pem())
end)

check.test("JWT: claims", function()
  local sign, verify = jwt.init("HS256", "k")
  check.equal({ verify(sign { exp = 1 }) }, { nil, "token-expired" })
  check.equal({ verify(sign { exp = "soon" }) }, { nil, "invalid-expiry" })
  check.equal(jwt.new_verifier("HS256", "k", { accept_expired = true })(sign { exp = 1 }), true)
  local picky = jwt.new_verifier("HS256", "k", { claim_verifier = function(c) return c.aud == "me" end })
  check.equal({ picky(sign { aud = "you" }) }, { nil, "incorrect-claims" })
  check.equal(picky(sign { aud = "me" }), true)
  for _, bad in ipairs { "", ".", "..", "a.b.c", "a.b", "a.b.c.d", "e30.e30.e30" } do check.ok(not verify(bad), bad) end
end)

check.test("PASETO v4.public", function() -- test vector 4-S-1
  local key = crypto.import_raw("ed25519", crypto.hex_decode "b4cbfb43df4ce210727d953e4a713307fa19bb7d9f85041438d9e11b942a3774")
  local token = "v4.public.eyJkYXRhIjoidGhpcyBpcyBhIHNpZ25lZCBtZXNzYWdlIiwiZXhwIjoiMjAyMi0wMS0wMVQwMDowMDowMCswMDowMCJ9"
    .. "bg_XBBzds8lTZShVlwwKSgeKpLT3yukTw6JUz3W4h_ExsQV-P0V54zemZDcAxFaSeef1QlXEFtkqxT1ciiQEDA"
  check.equal(paseto.v4_public.verify(token, key), { data = "this is a signed message", exp = "2022-01-01T00:00:00+00:00" })
  local pair = paseto.v4_public.new_keypair()
  local sign, verify = paseto.v4_public.init(pair:private_pem(), pair:public_pem(), { default_footer = "foot" })
  check.equal(verify(sign { a = 1 }), { a = 1 })
  check.equal({ verify(sign({ a = 1 }, "other")) }, { nil, "invalid-footer" })
  check.equal({ verify(sign({ a = 1 }, nil, "mine")) }, { nil, "invalid-token" })
  check.equal({ verify "v4.public.AAAA" }, { nil, "invalid-token-format" })
  check.equal({ verify "v2.public.AAAA" }, { nil, "invalid-token-format" })
end)

check.test("PASETO v3.local", function() -- test vector 3-E-2
  local key = crypto.hex_decode "707172737475767778797a7b7c7d7e7f808182838485868788898a8b8c8d8e8f"
  local token = "v3.local.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
  check.equal({ paseto.v3_local.decrypt(token, key) }, { nil, "invalid-token-format" })
  local sign, verify = paseto.v3_local.init(paseto.v3_local.new_key())
  check.equal(verify(sign({ a = { 1, 2 } }, "f")), { a = { 1, 2 } })
  local t = sign { a = 1 }
  check.equal({ verify(t:sub(1, 60) .. (t:sub(61, 61) == "A" and "B" or "A") .. t:sub(62)) }, { nil, "invalid-token" })
  check.equal({ paseto.v3_local.new_verifier(paseto.v3_local.new_key())(t) }, { nil, "invalid-token" })
  check.raises("invalid key", paseto.v3_local.init, "x")
end)

check.done()
