-- SPDX-License-Identifier: MIT
-- sasl_client.lua: a SASL client for tests, in Lua.
--
--   client.scram{ mech=, username=, password=, binding = { type, data }?, flag = "y"?, authzid=? } -> next
--     next(nil) -> first message; next(challenge) -> final message; next(success data) -> true if the server knew the keys
--     seen = { mechanisms = { … }, bindings = { … }? }: what the client was shown; client.agrees then says after the
--     challenge whether the hash says so too (XEP-0474 §5.2), nil: there was none
--   client.plain(username, password, authzid?) -> message
--   client.digest_md5{ username=, password=, realm= } -> next;  next(challenge) -> response
--   client.channel(bindings, peer_cert?, verify_errors?) -> session.conn over TLS 1.3, or 1.2 without tls-exporter

local crypto = require "couplet.core".crypto
local task = require "couplet.task"
local timer = require "couplet.timer"

local client = {}

local function xor(a, b)
  local out = {}
  for i = 1, #a do out[i] = string.char(a:byte(i) ~ b:byte(i)) end
  return table.concat(out)
end

local function seen_text(seen)
  local function joined(list)
    list = table.move(list, 1, #list, 1, {})
    table.sort(list)
    return table.concat(list, "\x1e")
  end
  return joined(seen.mechanisms) .. (seen.bindings and "\x1f" .. joined(seen.bindings) or "")
end

function client.scram(o)
  local hash = o.mech:match "^SCRAM%-SHA%-(%d+)"
  hash = hash == "1" and "sha1" or "sha" .. hash
  local flag = o.binding and "p=" .. o.binding[1] or o.flag or "n"
  local gs2 = flag .. "," .. (o.authzid and "a=" .. o.authzid or "") .. ","
  local nonce = crypto.base64url_encode(crypto.random_bytes(12))
  local bare = "n=" .. o.username:gsub("=", "=3D"):gsub(",", "=2C") .. ",r=" .. nonce
  local signature
  return function(challenge)
    if signature then return challenge == "v=" .. crypto.base64_encode(signature) end
    if not challenge then return gs2 .. bare end
    local all, salt, count = challenge:match "^r=([^,]+),s=([^,]+),i=(%d+)"
    assert(all and all:sub(1, #nonce) == nonce, challenge)
    client.salt, client.iterations = salt, tonumber(count)
    client.agrees = nil
    local told = challenge:match ",h=([^,]+)"
    if told and o.seen then client.agrees = told == crypto.base64_encode(crypto.hash(hash, seen_text(o.seen))) end
    local salted = crypto.pbkdf2_sync(hash, o.password, crypto.base64_decode(salt), tonumber(count))
    local key = crypto.hmac(hash, salted, "Client Key")
    local without = "c=" .. crypto.base64_encode(gs2 .. (o.binding and o.binding[2] or "")) .. ",r=" .. all
    local auth = bare .. "," .. challenge .. "," .. without
    signature = crypto.hmac(hash, crypto.hmac(hash, salted, "Server Key"), auth)
    return without .. ",p=" .. crypto.base64_encode(xor(key, crypto.hmac(hash, crypto.hash(hash, key), auth)))
  end
end

function client.plain(username, password, authzid)
  return (authzid or "") .. "\0" .. username .. "\0" .. password
end

local function latin(text)              -- RFC 2831 §2.1.2.1
  return (text:gsub(utf8.charpattern, function(c) return utf8.codepoint(c) < 256 and string.char(utf8.codepoint(c)) or c end))
end

function client.digest_md5(o)
  local md5 = function(text) return crypto.md5(text, true) end
  return function(challenge)
    if challenge:find "^rspauth=" then return "" end
    local nonce = challenge:match 'nonce="([^"]+)"'
    local cnonce, uri = crypto.hex_encode(crypto.random_bytes(8)), "xmpp/" .. o.realm
    local ha1 = md5(crypto.md5(latin(o.username) .. ":" .. o.realm .. ":" .. latin(o.password)) .. ":" .. nonce .. ":" .. cnonce)
    local ha2 = md5("AUTHENTICATE:" .. uri)
    return ('charset=utf-8,username="%s",realm="%s",nonce="%s",nc=00000001,cnonce="%s",digest-uri="%s",qop=auth,'
      .. 'response=%s'):format(
      o.username, o.realm, nonce, cnonce, uri, md5(table.concat({ ha1, nonce, "00000001", cnonce, "auth", ha2 }, ":")))
  end
end

function client.channel(bindings, peer_cert, verify_errors)
  local state = { bindings = bindings or {}, peer_cert = peer_cert, verify_errors = verify_errors or {} }
  local exported = state.bindings["tls-exporter"]
  state.version = exported and "TLSv1.3" or "TLSv1.2"
  local conn = { tls = function() return state end }
  function conn:ssl_exportkeyingmaterial(label, length, context)         -- comes later, as from an I/O thread
    assert(label == "EXPORTER-Channel-Binding" and length == 32 and context == "")
    return task.await(function(done) timer.add_task(0, function() done(exported) end) end)
  end
  return conn
end

return client
