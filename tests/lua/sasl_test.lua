-- SPDX-License-Identifier: MIT
-- SASL handlers: every mechanism, every kind of profile, and mechanisms in Lua.

local check = require "check"
local client = require "sasl_client"
local crypto = require "couplet.core".crypto
local sasl = require "couplet.sasl"
local task = require "couplet.task"

local HOST = "example.org"
local passwords = { juliet = "O Romeo", tybalt = "no peace", ["élise"] = "für" }

local function keys(hash)
  return function(_, name)
    if not passwords[name] then return nil end
    local salted = crypto.pbkdf2_sync(hash, passwords[name], "salt of " .. name, 7)
    local stored = crypto.hash(hash, crypto.hmac(hash, salted, "Client Key"))
    return stored, crypto.hmac(hash, salted, "Server Key"), 7, "salt of " .. name, name ~= "tybalt"
  end
end

local function state_of(name)
  if not passwords[name] then return nil end
  return name ~= "tybalt"
end

local profiles = {
  plain = { plain = function(_, name) return passwords[name], state_of(name) end },
  test = {
    plain_test = function(_, name, password)
      task.sleep(0.001)                        -- backends may wait
      return passwords[name] == password, state_of(name)
    end,
  },
  keys = { scram_sha_1 = keys "sha1", scram_sha_256 = keys "sha256", scram_sha_512 = keys "sha512" },
  md5 = { digest_md5 = function(_, name)
    return passwords[name] and sasl.ha1(name, HOST, passwords[name]), state_of(name)
  end },
}

-- -> status, data or condition, text
local function talk(handler, mech, next)
  assert(handler:select(mech), "cannot select " .. mech)
  local message
  if mech ~= "DIGEST-MD5" then message = next(nil) end
  for _ = 1, 6 do
    local status, data, text = handler:process(message)
    if status ~= "challenge" then
      if status == "success" and data then check.equal(next(data), true, "the server's proof") end
      return status, data, text
    end
    message = next(data)
  end
  error "endless"
end

local function next_of(mech, name, password, extra)
  if mech == "PLAIN" then return function() return client.plain(name, password) end end
  local o = { mech = mech, username = name, password = password, realm = HOST }
  for k, v in pairs(extra or {}) do o[k] = v end
  return mech == "DIGEST-MD5" and client.digest_md5(o) or client.scram(o)
end

check.test("who the backend is decides what is offered", function()
  local function list(profile, cb)
    local handler = sasl.new(HOST, profile)
    if cb then handler:add_cb_handler(cb, function() return "data" end) end
    local out = {}
    for name in pairs(handler:mechanisms()) do out[#out + 1] = name end
    table.sort(out)
    return table.concat(out, " ")
  end
  check.equal(list(profiles.test), "PLAIN")
  check.equal(list(profiles.plain), "DIGEST-MD5 PLAIN SCRAM-SHA-1 SCRAM-SHA-256")
  check.equal(list(profiles.keys), "SCRAM-SHA-1 SCRAM-SHA-256 SCRAM-SHA-512")
  check.equal(list({ scram_sha_1 = keys "sha1" }, "tls-exporter"), "SCRAM-SHA-1 SCRAM-SHA-1-PLUS")
  check.equal(list({ scram_sha_1 = keys "sha1" }, "tls-carrier-pigeon"), "SCRAM-SHA-1")
  check.equal(list({ scram_sha_1 = keys "sha1", cb = { ["tls-unique"] = function() end } }), "SCRAM-SHA-1 SCRAM-SHA-1-PLUS")
  check.equal(list { external = print, anonymous = print, oauthbearer = print, unknown = 1 }, "ANONYMOUS EXTERNAL OAUTHBEARER")
  check.equal(list { mechanisms = { PLAIN = true }, plain = print }, "PLAIN")
  local handler = sasl.new(HOST, profiles.test)
  check.equal(handler:select "SCRAM-SHA-1", nil)
  check.equal(handler:select "PLAIN", true)
  check.equal(handler:select "PLAIN", nil)
  check.equal(handler:clean_clone():select "PLAIN", true)
end)

check.test("every mechanism with every backend that can do it", function()
  local rows = {
    { "plain", "PLAIN" }, { "plain", "SCRAM-SHA-1" }, { "plain", "SCRAM-SHA-256" }, { "plain", "DIGEST-MD5" },
    { "test", "PLAIN" },
    { "keys", "SCRAM-SHA-1" }, { "keys", "SCRAM-SHA-256" }, { "keys", "SCRAM-SHA-512" }, { "md5", "DIGEST-MD5" },
  }
  for _, row in ipairs(rows) do
    local what = row[1] .. " " .. row[2]
    local function try(name, password, extra)
      local handler = sasl.new(HOST, profiles[row[1]])
      local status, condition = talk(handler, row[2], next_of(row[2], name, password, extra))
      return status == "success" and handler.username or condition
    end
    check.equal(try("juliet", "O Romeo"), "juliet", what)
    check.equal(try("élise", "für"), "élise", what)
    check.equal(try("juliet", "O romeo"), "not-authorized", what)
    check.equal(try("nobody", "O Romeo"), "not-authorized", what)
    check.equal(try("tybalt", "no peace"), "account-disabled", what)
    check.equal(try("tybalt", "peace"), "not-authorized", what)
    check.equal(try("juliet@example.org", "O Romeo"), "malformed-request", what)
    -- there the name is part of the hash
    if row[2] ~= "DIGEST-MD5" then check.equal(try("JULIET", "O Romeo"), "juliet", what) end
  end
end)

-- RFC 5802 §2.2, §3, §5.1: names and passwords as SASLprep has them, hashed as they were sent. The RFC wants codepoints that the
-- forms C and KC write differently: ½ is 1⁄2, ´ a space and an accent, ª is a.
check.test("names and passwords in other forms", function()
  passwords.benvolio = "½´ª"
  local name_rows = { "élise", "e\u{301}lise", "ÉLISE", "\u{ff45}\u{301}lise", "é\u{ad}lise", "éli\u{17f}e" }
  local password_rows = { "½´ª", "1⁄2 \u{301}a", "1⁄2\u{a0}\u{301}a", "\u{ad}½´a" }
  for _, kind in ipairs { "plain", "keys" } do
    for _, mech in ipairs { "SCRAM-SHA-1", "SCRAM-SHA-256" } do
      for i, name in ipairs(name_rows) do
        local handler = sasl.new(HOST, profiles[kind])
        check.equal((talk(handler, mech, next_of(mech, name, "für"))), "success", kind .. " name " .. i)
        check.equal(handler.username, "élise")
      end
      for _, name in ipairs { "\u{ad}", "a b", "a\u{a0}b", "\u{7}", "\u{e000}", "\u{fffd}" } do     -- nothing, or prohibited
        local handler = sasl.new(HOST, profiles[kind])
        local status, condition = talk(handler, mech, next_of(mech, name, "für"))
        check.equal({ status, condition }, { "failure", "malformed-request" }, name)
      end
    end
  end
  for _, mech in ipairs { "SCRAM-SHA-1", "SCRAM-SHA-256", "PLAIN" } do      -- a client prepares what it hashes; in PLAIN we do
    for i, password in ipairs(password_rows) do
      local said = mech == "PLAIN" and password or password_rows[2]
      check.equal((talk(sasl.new(HOST, profiles.plain), mech, next_of(mech, "benvolio", said))), "success", mech .. " " .. i)
    end
  end
  passwords.benvolio = nil
end)

-- RFC 5802 §5.1: "different for each authentication", printable, no comma.
check.test("no two nonces are alike", function()
  local seen = {}
  for _ = 1, 200 do
    local handler = sasl.new(HOST, profiles.keys)
    handler:select "SCRAM-SHA-1"
    local _, challenge = handler:process "n,,n=juliet,r=abc"
    local nonce, salt, count = challenge:match "^r=abc([%w+/]+),s=([%w+/]+=*),i=(%d+)$"
    check.ok(nonce and #nonce >= 24 and not seen[nonce], challenge)
    check.equal({ crypto.base64_decode(salt), count }, { "salt of juliet", "7" })
    seen[nonce] = true
  end
end)

check.test("unknown and known accounts look the same", function()
  for _, kind in ipairs { "plain", "keys" } do
    local function first(name, secret)
      local handler = sasl.new(HOST, profiles[kind])
      handler.secret = secret
      handler:select "SCRAM-SHA-256"
      local status, data = handler:process("n,,n=" .. name .. ",r=abc")
      check.equal(status, "challenge")
      return data:match "s=([^,]+)", data:match "i=(%d+)"
    end
    local one = ("x"):rep(32)
    local a, count = first("nobody", one)
    check.equal(first("nobody", one), a)
    check.ok(first("nobody", ("y"):rep(32)) ~= a)
    check.ok(first("somebody", one) ~= a)
    if kind == "plain" then
      local b, other = first("juliet", one)
      check.equal(#a, #b)
      check.equal(count, other)
    else
      check.equal(#crypto.base64_decode(a), 36)
    end
  end
end)

-- Keys are derived for accounts that are not there too, from something: whoever knows from what has not become anybody.
check.test("nobody logs in to an account without a password", function()
  for _, said in ipairs { { n = 1 }, { nil, true, n = 2 }, { "", true, n = 2 }, { false, true, n = 2 } } do
    local profile = { plain = function() return table.unpack(said, 1, said.n) end }
    for _, mech in ipairs { "SCRAM-SHA-1", "SCRAM-SHA-256", "PLAIN" } do
      for _, guess in ipairs { "x", "nil", "false" } do
        local status, condition = talk(sasl.new(HOST, profile), mech, next_of(mech, "nobody", guess))
        check.equal({ status, condition }, { "failure", "not-authorized" }, mech .. " " .. guess)
      end
    end
  end
end)

check.test("channel binding", function()
  local function handler(data)
    local h = sasl.new(HOST, profiles.keys):add_cb_handler("tls-exporter", function(self) return self.userdata.data end)
    h.userdata = { data = data }
    return h
  end
  local function try(mech, h, extra)
    local status, condition = talk(h, mech, next_of(mech, "juliet", "O Romeo", extra))
    return status == "success" and status or condition
  end
  check.equal(try("SCRAM-SHA-256-PLUS", handler "0123", { binding = { "tls-exporter", "0123" } }), "success")
  check.equal(try("SCRAM-SHA-1-PLUS", handler "0123", { binding = { "tls-exporter", "0124" } }), "not-authorized")
  check.equal(try("SCRAM-SHA-1-PLUS", handler "0123", { binding = { "tls-unique", "0123" } }), "malformed-request")
  check.equal(try("SCRAM-SHA-1-PLUS", handler(nil), { binding = { "tls-exporter", "0123" } }), "malformed-request")
  check.equal(try("SCRAM-SHA-1", handler "0123", { flag = "n" }), "success")
  check.equal(try("SCRAM-SHA-1", handler "0123", { flag = "y" }), "malformed-request")
  local h = handler "0123"
  h.announced = { ["SCRAM-SHA-1"] = true, ["SCRAM-SHA-256-PLUS"] = true }     -- an admin has taken SCRAM-SHA-1-PLUS out
  check.equal(try("SCRAM-SHA-1", h, { flag = "y" }), "success")
end)

check.test("EXTERNAL, ANONYMOUS", function()
  local function external(fn, message)
    local h = sasl.new(HOST, { external = fn })
    h:select "EXTERNAL"
    local status, condition = h:process(message)
    return status == "success" and h.username or status == "challenge" and status or condition
  end
  check.equal(external(function(authzid) return authzid == "" and "juliet", true end, ""), "juliet")
  check.equal(external(function(_, authzid) return authzid, true end, "juliet"), "juliet")     -- with the handler first
  check.equal(external(function() return "juliet", false end, ""), "account-disabled")
  check.equal(external(function() return "juliet", "expired" end, ""), "credentials-expired")
  check.equal(external(function() return nil end, ""), "not-authorized")
  check.equal(external(function() return nil, "invalid-authzid" end, ""), "invalid-authzid")
  check.equal(external(function() return "juliet", true end, nil), "challenge")
  local seen
  local h = sasl.new(HOST, { anonymous = function(_, name, realm)
    check.equal(realm, HOST)
    if not seen then seen = name return false end
    return true
  end })
  h:select "ANONYMOUS"
  check.equal(h:process "", "success")
  check.ok(h.username ~= seen and #h.username == 24)
  h = sasl.new(HOST, { anonymous = function() return false end })
  h:select "ANONYMOUS"
  check.equal(h:process "trace", "failure")
end)

check.test("OAUTHBEARER", function()
  local function try(message, more)
    local h = sasl.new(HOST, { oauthbearer = function(_, token)
      if token == "right" then return "juliet", true, { grant = 1 } end
      if token == "off" then return "juliet", false end
      return nil, nil, { scope = "xmpp" }
    end })
    h:select "OAUTHBEARER"
    local status, data = h:process(message)
    if more then status, data = h:process(more) end
    return status == "success" and h.username or status == "challenge" and data or data
  end
  check.equal(try "n,,\1auth=Bearer right\1\1", "juliet")
  check.equal(try "n,a=juliet@example.org,\1host=x\1auth=Bearer right\1\1", "juliet")
  check.equal(try "n,,\1auth=Bearer off\1\1", "account-disabled")
  check.ok(try "n,,\1auth=Bearer wrong\1\1":find '"scope":"xmpp"')
  check.equal(try("n,,\1auth=Bearer wrong\1\1", "\1"), "not-authorized")
  check.equal(try("n,,\1auth=Bearer wrong\1\1", "n,,\1auth=Bearer right\1\1"), "malformed-request")
  check.equal(try "garbage", "malformed-request")
end)

check.test("a mechanism in Lua", function()
  sasl.registerMechanism("X-TEST", { "x_test" }, function(self, message)
    if message == nil then return "challenge", "who?" end
    self.username = message
    return "success", "hello"
  end)
  local h = sasl.new(HOST, { x_test = true, plain_test = function() end })
  check.equal(h:mechanisms(), { ["X-TEST"] = true, PLAIN = true })
  h:select "X-TEST"
  check.equal({ h:process(nil) }, { "challenge", "who?" })
  check.equal({ h:process "juliet" }, { "success", "hello" })
  check.equal(h.username, "juliet")
  local builtin = sasl.new(HOST, profiles.keys)
  sasl.registerMechanism("SCRAM-SHA-512", { "x_other" }, function() return "failure", "mechanism-too-weak" end)
  builtin:select "SCRAM-SHA-512"
  check.equal({ builtin:process "" }, { "failure", "mechanism-too-weak" })
end)

check.test("what clients may get wrong", function()
  local rows = {
    { "PLAIN", "juliet", "malformed-request" }, { "PLAIN", "", "malformed-request" },
    { "PLAIN", "\0juliet\0\xff", "malformed-request" }, { "PLAIN", "\0ju liet\0x", "malformed-request" },
    { "SCRAM-SHA-1", "", "malformed-request" }, { "SCRAM-SHA-1", "n,,n=a/b,r=x", "malformed-request" },
    { "DIGEST-MD5", "x", "malformed-request" }, { "SCRAM-SHA-1", ("n,,n=x,r="):rep(2000), "malformed-request" },
  }
  for i, row in ipairs(rows) do
    local h = sasl.new(HOST, profiles.plain)
    h:select(row[1])
    local status, condition = h:process(row[2])
    check.equal({ status, condition }, { "failure", row[3] }, "row " .. i)
    check.equal((h:process(row[2])), "failure", "row " .. i)       -- over is over
  end
  local h = sasl.new(HOST, profiles.plain)
  h.gate = function(_, name) if name == "juliet" then return "temporary-auth-failure", "later" end end
  h:select "PLAIN"
  check.equal({ h:process "\0juliet\0O Romeo" }, { "failure", "temporary-auth-failure", "later" })
  h = sasl.new(HOST, profiles.plain)                                -- without initial response
  h:select "SCRAM-SHA-1"
  check.equal({ h:process(nil) }, { "challenge", "" })
  check.equal((h:process "n,,n=juliet,r=x"), "challenge")
  check.equal((h:process(nil)), "failure")
end)

check.done()
