-- SPDX-License-Identifier: MIT
-- Hashes, codings, keys and random names against published vectors.

local check = require "check"
local crypto = require "couplet.core".crypto
local core = require "couplet.core"

check.test("hashes", function()
  local rows = { -- of "abc": FIPS 180-4, FIPS 202, RFC 1321, RFC 7693
    { "md5", "900150983cd24fb0d6963f7d28e17f72" },
    { "sha1", "a9993e364706816aba3e25717850c26c9cd0d89d" },
    { "sha224", "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7" },
    { "sha256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
    { "sha3_256", "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532" },
    { "blake2s256", "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982" },
  }
  for _, row in ipairs(rows) do
    check.equal(crypto[row[1]]("abc", true), row[2], row[1])
    check.equal(crypto.hash(row[1], "abc", true), row[2], row[1])
    check.equal(crypto.hex_encode(crypto[row[1]]("abc")), row[2], row[1])
  end
  check.equal(crypto.sha1(42, true), crypto.sha1("42", true)) -- numbers are text
  check.equal(#crypto.sha512(""), 64)
  check.raises("no such hash", crypto.hash, "sha0", "")
end)

check.test("HMAC", function() -- RFC 4231 §4.3, RFC 2202
  check.equal(crypto.hmac_sha256("Jefe", "what do ya want for nothing?", true),
    "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
  check.equal(crypto.hmac_sha1("Jefe", "what do ya want for nothing?", true), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79")
  check.equal(crypto.hmac("sha256", "", "", true), "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad")
end)

check.test("key derivation", function()
  -- RFC 6070
  check.equal(crypto.hex_encode(crypto.pbkdf2_sync("sha1", "password", "salt", 4096, 20)),
    "4b007901b765489abead49d926f721d065a429c1")
  check.equal(crypto.hex_encode(crypto.hkdf("sha256", ("\x0b"):rep(22), 42, crypto.hex_decode "000102030405060708090a0b0c",
    crypto.hex_decode "f0f1f2f3f4f5f6f7f8f9")), -- RFC 5869 A.1
    "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")
  local got
  crypto.pbkdf2("sha1", "password", "salt", 4096, 20, function(key) got = key end)
  while not got do core.loop.once() end
  check.equal(crypto.hex_encode(got), "4b007901b765489abead49d926f721d065a429c1")
  check.raises("iterations", crypto.pbkdf2_sync, "sha1", "", "", 0)
  check.equal(#crypto.pbkdf2_sync("sha1", "", "", 1), 20)
end)

-- RFC 8018 §5.2 as it is written there, over our HMAC.
local function pbkdf2(name, password, salt, iterations, length)
  local out, number = "", 0
  while #out < length do
    number = number + 1
    local u = crypto.hmac(name, password, salt .. (">I4"):pack(number))
    local t = { u:byte(1, -1) }
    for _ = 2, iterations do
      u = crypto.hmac(name, password, u)
      for i = 1, #t do t[i] = t[i] ~ u:byte(i) end
    end
    out = out .. string.char(table.unpack(t))
  end
  return out:sub(1, length)
end

check.test("PBKDF2 with passwords around the block size, salts and keys of any length", function()
  for _, name in ipairs { "sha1", "sha256", "sha512", "sha384" } do
    for _, n in ipairs { 0, 1, 19, 63, 64, 65, 127, 128, 129, 300 } do
      for _, length in ipairs { 1, 20, 64, 65, 150 } do
        local password, salt = ("p\0q"):rep(n):sub(1, n), ("s"):rep(n % 50)
        check.equal(crypto.hex_encode(crypto.pbkdf2_sync(name, password, salt, 3, length)),
          crypto.hex_encode(pbkdf2(name, password, salt, 3, length)), name .. " " .. n .. " " .. length)
      end
    end
  end
end)

check.test("codings", function()
  check.equal(crypto.base64_encode "foob", "Zm9vYg==")
  check.equal(crypto.base64_decode "Zm9vYg==", "foob")
  check.equal(crypto.base64_decode "Zm9v\n", nil)
  check.equal(crypto.base64_decode_lenient " Zm9v\nYg", "foob")
  check.equal(crypto.base64url_encode "\xff\xfe\xfd\xfc", "__79_A")
  check.equal(crypto.base64url_decode "__79_A", "\xff\xfe\xfd\xfc")
  check.equal(crypto.base64url_decode "//79/A", nil)
  check.equal(crypto.base64_decode "", "")
  check.equal(crypto.hex_decode "0fF0", "\x0f\xf0")
  check.equal(crypto.hex_decode "0fF", nil)
  check.equal(crypto.hex_decode "0g", nil)
  check.equal(crypto.equals("abc", "abc"), true)
  check.equal(crypto.equals("abc", "abcd"), false)
end)

check.test("AES", function() -- McGrew & Viega, test case 4 without associated data is their case 3
  local key, iv = crypto.hex_decode "feffe9928665731c6d6a8f9467308308", crypto.hex_decode "cafebabefacedbaddecaf888"
  local text = crypto.hex_decode("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
    .. "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255")
  local sealed = crypto.aes_128_gcm_encrypt(key, iv, text)
  check.equal(crypto.hex_encode(sealed:sub(-16)), "4d5c2af327cd64a62cf35abd2ba6fab4")
  check.equal(crypto.aes_128_gcm_decrypt(key, iv, sealed), text)
  check.equal(crypto.aes_128_gcm_decrypt(key, iv, sealed:sub(1, -2) .. "x"), nil)
  check.equal(crypto.aes_128_gcm_decrypt(key, iv, "short"), nil)
  check.equal(crypto.aes_256_gcm_decrypt(key .. key, iv, crypto.aes_256_gcm_encrypt(key .. key, iv, "", "more"), "more"), "")
  check.raises("key length", crypto.aes_256_gcm_encrypt, key, iv, "")
  check.equal(crypto.aes_256_ctr_decrypt(key .. key, key, crypto.aes_256_ctr_encrypt(key .. key, key, text)), text)
end)

check.test("keys and signatures", function()
  for _, row in ipairs {
    { crypto.generate_ed25519_keypair(), "ed25519", "ED25519" },
    { crypto.generate_p256_keypair(), "ecdsa_sha256", "id-ecPublicKey" },
    { crypto.generate_rsa_keypair(2048), "rsassa_pkcs1_sha256", "rsaEncryption" },
    { crypto.generate_rsa_keypair(2048), "rsassa_pss_sha512", "rsaEncryption" },
  } do
    local key, scheme = row[1], row[2]
    check.equal(key:get_type(), row[3])
    local public = check.ok(crypto.import_public_pem(key:public_pem()))
    local again = check.ok(crypto.import_private_pem(key:private_pem()))
    local signature = check.ok(crypto[scheme .. "_sign"](again, "text"))
    check.equal(crypto[scheme .. "_verify"](public, "text", signature), true, scheme)
    check.equal(crypto[scheme .. "_verify"](public, "texT", signature), false, scheme)
    check.equal(crypto[scheme .. "_verify"](public, "text", ""), false, scheme)
    check.raises("private key", crypto[scheme .. "_sign"], public, "text")
    if scheme == "ecdsa_sha256" then
      local r, s = crypto.parse_ecdsa_signature(signature)
      check.equal(#r + #s, 64)
      check.equal(crypto[scheme .. "_verify"](public, "text", crypto.build_ecdsa_signature(r, s)), true)
      check.equal(#key:public_raw(), 65)
      check.raises("wrong kind", crypto.ed25519_sign, key, "text")
    end
  end
  local raw = crypto.hex_decode "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60" -- RFC 8032 §7.1
  local key = crypto.import_raw("ed25519", raw)
  check.equal(crypto.hex_encode(key:public_raw()), "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
  check.equal(crypto.import_private_pem "nonsense", nil)
  check.equal(crypto.import_public_pem "", nil)
end)

check.test("certificates", function()
  local name = os.tmpname()
  local ok = os.execute(([[openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -days 3 \
    -subj "/CN=juliet/O=Capulet" -addext "subjectAltName=DNS:capulet.example,DNS:*.capulet.example,\
otherName:1.3.6.1.5.5.7.8.5;UTF8:juliet@capulet.example,\
otherName:1.3.6.1.5.5.7.8.7;IA5STRING:_xmpp-client.capulet.example,IP:127.0.0.1" -out %s 2>/dev/null]]):format(name))
  check.ok(ok, "openssl")
  local f <close> = io.open(name)
  local pem = f:read "a"
  os.remove(name)
  local cert = check.ok(crypto.x509_parse(pem))
  check.equal(cert.common_names, { "juliet" })
  check.equal(cert.dns_names, { "capulet.example", "*.capulet.example" })
  check.equal(cert.xmpp_addrs, { "juliet@capulet.example" })
  check.equal(cert.srv_names, { "_xmpp-client.capulet.example" })
  check.equal(cert.ips, { "\127\0\0\1" })
  check.equal(cert.pem, pem)
  check.equal(cert.subject[2].value, "Capulet")
  check.equal(cert.key_type, "id-ecPublicKey")
  check.equal(cert.signature_hash, "sha256")
  check.ok(cert.notafter - cert.notbefore == 3 * 86400)
  check.equal(cert.server_use, true)           -- no extension says otherwise
  check.equal(crypto.x509_parse(cert.der).sha256, cert.sha256)
  check.equal(crypto.sha256(cert.der, true), cert.sha256)
  check.equal(crypto.pem2der(pem), cert.der)
  check.equal(crypto.der2pem(cert.der), pem)
  check.equal(crypto.x509_parse "0rubbish", nil)
  check.equal(crypto.x509_parse "", nil)
  check.equal(crypto.pem2der "x", nil)
  check.ok(crypto.import_public_pem(cert.pubkey))
end)

check.test("names", function()
  local id, uuid = require "couplet.util.id", require "couplet.util.uuid"
  check.equal(#id.tiny(), 4)
  check.equal(#id.short(), 12)
  check.equal(#id.medium(), 24)
  check.equal(#id.long(), 44)
  check.ok(id.medium() ~= id.medium())
  for _ = 1, 50 do
    check.ok(uuid.generate():find "^%x%x%x%x%x%x%x%x%-%x%x%x%x%-4%x%x%x%-[89ab]%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x$")
    check.ok(uuid.v7():find "^%x+%-%x%x%x%x%-7%x%x%x%-[89ab]%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x$")
  end
  check.equal(#require "couplet.util.random".bytes(7), 7)
end)

check.done()
