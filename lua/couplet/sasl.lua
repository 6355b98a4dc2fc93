-- SPDX-License-Identifier: MIT
-- sasl.lua: SASL handlers as authentication plugins make them (util.sasl). PLUGIN-API §10.
--
--   sasl.new(realm, profile, userdata?) -> handler
--     handler:mechanisms() -> map      handler:select(name) -> true | nil     handler:clean_clone() -> handler
--     handler:process(message | nil) -> "challenge", data | "success", data | "failure", condition, text       may wait
--     handler:add_cb_handler(type, fn(handler) -> bytes | nil) -> handler
--     .username .role .resource .selected .profile .realm .userdata
--     [+] .token: which of the tokens it was (HT-*)
--   sasl.registerMechanism(name, backends, fn(handler, message), cb_backends?)       a mechanism in Lua
--
-- Profile: plain, plain_test, scram_sha_1, scram_sha_256, scram_sha_512, digest_md5, external, anonymous, oauthbearer;
-- [+] ht_tokens(handler, username) -> array of at most two tokens, state, trouble (HT-*; a token: { text = } or { initiator =,
-- responder = } as core.sasl.ht_hash makes them, and expired = true), ht_used(handler, place) -> condition | nil: the token in
-- that place was right, and has been used; both without a wait between the reading of tokens and this;
-- mechanisms = map, if not all that these make possible; cb = map of channel binding functions;
-- [+] iterations: what invented keys for unknown names say. [+] One value more from plain_test and scram_*, true: nobody can
-- tell now (the store fails, the server is too busy); that is a temporary-auth-failure and no guess.
-- [+] .common: a table that is the same for handlers whose mechanisms depend on the connection's channel binding alone.
-- [+] What mod_saslauth sets on a handler: announced (map: the mechanisms the client was told), secret (what invented keys
-- depend on), advertised (text; SCRAM tells the client a hash of it: mod_sasl_ssdp), gate (fn(handler, username) -> condition,
-- text to refuse that name before anything is asked about it), beside (fn(handler, username): what else is read of that
-- account, in the same wait as what proves it).
--
-- core.sasl does the mechanisms of the RFCs. An unknown account, a known one and a disabled one look the same to a client that
-- does not know the password.

local core = require "couplet.core"
local stringprep = require "couplet.util.encodings".stringprep
local id = require "couplet.util.id"
local log = require "couplet.logger".init "sasl"
local task = require "couplet.task"

local crypto, cyrus = core.crypto, core.sasl
local nodeprep, saslprep = stringprep.nodeprep, stringprep.saslprep
local pack, unpack = table.pack, table.unpack

local sasl = {}
local handler = {}
handler.__index = handler

local registered = {}          -- mechanism -> fn(handler, message)
local by_backend = {}          -- profile key -> array of mechanisms
local made = setmetatable({}, { __mode = "k" })        -- profile -> set of the mechanisms it makes possible
local bindings_of = {}         -- mechanism -> set of channel binding types it can use

local process_secret = crypto.random_bytes(32)
local ITERATIONS = 10000       -- of an invented key
local DERIVED = 4096           -- of a key made from a password the backend tells: made at each login

-- Handlers ------------------------------------------------------------------------------------------------------------

function sasl.registerMechanism(name, backends, fn, cb_backends)
  assert(type(name) == "string" and type(fn) == "function", "a mechanism needs a name and a function")
  registered[name] = fn
  made = setmetatable({}, { __mode = "k" })
  if type(backends) == "string" then backends = { backends } end
  for _, backend in ipairs(backends) do
    local list = by_backend[backend] or {}
    by_backend[backend] = list
    list[#list + 1] = name
  end
  bindings_of[name] = nil
  if cb_backends then
    local types = {}
    for _, kind in ipairs(cb_backends) do types[kind] = true end
    bindings_of[name] = types
  end
end

function sasl.new(realm, profile, userdata)
  local mechs, common = profile.mechanisms, nil
  if not mechs then
    mechs = made[profile]
    if not mechs then
      mechs = {}
      made[profile] = mechs
      for backend in pairs(profile) do
        for _, name in ipairs(by_backend[backend] or {}) do mechs[name] = true end
      end
    end
    common = not profile.cb and mechs or nil
  end
  return setmetatable({ realm = realm, profile = profile, mechs = mechs, common = common, userdata = userdata }, handler)
end

-- A handler that can do more: the profile with `more` added. For who is not the backend but knows something (certificates).
function handler:extended(more)
  local profile = {}
  for key, value in pairs(self.profile) do profile[key] = value end
  for key, value in pairs(more) do profile[key] = value end
  return sasl.new(self.realm, profile, self.userdata)
end

function handler:clean_clone()
  local clone = sasl.new(self.realm, self.profile, self.userdata)
  clone.cb, clone.announced, clone.secret = self.cb, self.announced, self.secret
  clone.gate, clone.beside = self.gate, self.beside
  return clone
end

function handler:add_cb_handler(kind, fn)
  self.cb = self.cb or {}
  self.cb[kind] = fn
  return self
end

local function binding_function(self, kind)
  local shared = self.profile.cb
  return self.cb and self.cb[kind] or type(shared) == "table" and shared[kind] or nil
end

local function available(self, name)
  local types = bindings_of[name]
  if not types then return true end
  for kind in pairs(types) do
    if binding_function(self, kind) then return true end
  end
  return false
end

function handler:mechanisms()
  local map = {}
  for name in pairs(self.mechs) do map[name] = available(self, name) or nil end
  return map
end

function handler:select(name)
  if self.selected or not registered[name] or not self.mechs[name] or not available(self, name) then return nil end
  self.selected = name
  return true
end

function handler:process(message)
  return registered[self.selected](self, message)
end

-- Exchanges with Cyrus ------------------------------------------------------------------------------------------------

local states = { [true] = "enabled", [false] = "disabled", expired = "expired" }

local function fail(self, condition, text)
  if self.exchange then self.exchange:close() end
  self.exchange = nil
  self.over = true
  return "failure", condition, text
end

local function step(self, message, credentials)
  if self.over then return "failure", "malformed-request", "The exchange is over" end
  if self.gate and self.claimed then             -- it may have closed while the credentials were fetched
    local refused, text = self.gate(self, self.claimed)
    if refused then return fail(self, refused, text) end
  end
  local exchange = self.exchange
  if not exchange then
    local err, condition
    exchange, err, condition = cyrus.new(self.selected, self.realm)
    if not exchange then return fail(self, condition, err) end
    self.exchange = exchange
  end
  if credentials then credentials.secret = self.secret or process_secret end
  local status, data, more, token = exchange:step(message, credentials)
  if status == "challenge" then return status, data or "" end
  if status == "failure" then return fail(self, data, more) end
  exchange:close()
  self.exchange = nil
  self.over = true
  self.username, self.token = more, token
  return status, data
end

-- The name in the message, prepared; or nil and the answer.
local function name_of(self, message)
  local found, condition = cyrus.peek(self.selected, message)
  if not found then return nil, fail(self, condition) end
  local name = nodeprep(found.name, true)
  if not name or name == "" then return nil, fail(self, "malformed-request", "Invalid user name") end
  self.claimed = name              -- for whoever counts failures
  if self.gate then
    local refused, text = self.gate(self, name)
    if refused then return nil, fail(self, refused, text) end
  end
  return name, found
end

-- What the backend says of that name; what is wanted beside it is there by then.
local function ask(self, backend, name, ...)
  local beside, fn, more, said = self.beside, self.profile[backend], pack(...), nil
  if not beside then return fn(self, name, ...) end
  task.together(function() said = pack(fn(self, name, unpack(more, 1, more.n))) end, function() beside(self, name) end)
  return unpack(said, 1, said.n)
end

-- SCRAM ---------------------------------------------------------------------------------------------------------------

-- The salt stays the same as long as the secret does: a client may keep its salted password.
local function salt_for(self, hash, name)
  local raw = crypto.hmac_sha256(self.secret or process_secret, hash .. " " .. name)
  return crypto.base64url_encode(raw:sub(1, 18))
end

-- Keys from the password that the backend tells.
local function from_password(self, hash, name)
  local password, state = ask(self, "plain", name, self.realm)
  password = type(password) == "string" and password ~= "" and saslprep(password) or nil
  local salt = salt_for(self, hash, name)
  local stored, server, code = task.await(function(done)
    cyrus.derive(hash, password or "x", salt, DERIVED, done)
  end)
  if not stored then
    log("warn", "cannot derive keys: %s", server)
    return nil, code
  end
  if password == nil then state = nil end
  return { username = name, state = states[state], hash = hash, stored_key = stored, server_key = server, salt = salt,
    iterations = DERIVED }
end

-- nil: they cannot be had now.
local function scram_credentials(self, hash, backend, name)
  local profile = self.profile
  if not profile[backend] then return from_password(self, hash, name) end
  local stored, server, iterations, salt, state, trouble = ask(self, backend, name)
  if trouble then return nil end
  if not (stored and server and iterations and salt) then
    return { username = name, iterations = profile.iterations or ITERATIONS }
  end
  return { username = name, state = states[state], hash = hash, stored_key = stored, server_key = server,
    iterations = iterations, salt = salt }
end

-- Plugins from elsewhere put attributes behind the challenge: into what is sent, and into this field of Prosody's, so that the
-- proofs cover it.
local function proof(self, message)
  local sent = self.state and self.state.server_first_message
  if self.exchange and sent ~= self.challenge then self.exchange:amend(sent) end
  return step(self, message)
end

local function scram(hash, backend, plus_name)
  return function(self, message)
    if message == nil then return step(self, nil) end
    if self.named then return proof(self, message) end
    local name, found, condition, text = name_of(self, message)
    if not name then return found, condition, text end
    self.named = true
    local credentials = scram_credentials(self, hash, backend, name)
    if not credentials then return fail(self, "temporary-auth-failure", "The server cannot look that up now") end
    local offered = (self.announced or self:mechanisms())[plus_name]
    local fn = found.binding and binding_function(self, found.binding)
    local binding = fn and fn(self)
    if self.over then return "failure", "aborted" end
    if not self.exchange then
      local err
      self.exchange, err, condition = cyrus.new(self.selected, self.realm)
      if not self.exchange then return fail(self, condition, err) end
    end
    self.exchange:bind(found.binding, binding)
    self.exchange:offer(offered, self.advertised)
    local status, data, more = step(self, message, credentials)
    if status == "challenge" then self.challenge, self.state = data, { server_first_message = data } end
    return status, data, more
  end
end

local binding_types = { "tls-exporter", "tls-unique", "tls-server-end-point" }

local function register_scram(name, hash, backend, from_plain)
  local fn = scram(hash, backend, name .. "-PLUS")
  local backends = from_plain and { "plain", backend } or { backend }
  sasl.registerMechanism(name, backends, fn)
  sasl.registerMechanism(name .. "-PLUS", backends, fn, binding_types)
end

register_scram("SCRAM-SHA-1", "sha1", "scram_sha_1", true)
register_scram("SCRAM-SHA-256", "sha256", "scram_sha_256", true)
register_scram("SCRAM-SHA-512", "sha512", "scram_sha_512", false)

-- HT-*: hashed tokens ---------------------------------------------------------------------------------------------------

for _, name in ipairs { "NONE", "EXPR", "ENDP", "UNIQ" } do
  name = "HT-SHA-256-" .. name
  local kind = cyrus.ht_binding(name)
  if kind == "" then kind = nil end
  sasl.registerMechanism(name, "ht_tokens", function(self, message)
    if message == nil then return step(self, nil) end
    local username, found, condition, text = name_of(self, message)
    if not username then return found, condition, text end
    local fn = kind and binding_function(self, kind)
    local data = fn and fn(self)               -- this may wait, which nobody may between tokens read and used
    local tokens, state, trouble = self.profile.ht_tokens(self, username)
    if trouble then return fail(self, "temporary-auth-failure", "The server cannot look that up now") end
    if self.over then return "failure", "aborted" end
    if not self.exchange then
      local err
      self.exchange, err, condition = cyrus.new(name, self.realm)
      if not self.exchange then return fail(self, condition, err) end
    end
    self.exchange:bind(kind, data)
    local status, answer, more = step(self, message, { username = username, state = states[state], tokens = tokens })
    local refused = status == "success" and self.profile.ht_used and self.profile.ht_used(self, self.token)
    if refused then return "failure", refused end
    return status, answer, more
  end, kind and { kind })
end

-- PLAIN ---------------------------------------------------------------------------------------------------------------

sasl.registerMechanism("PLAIN", { "plain", "plain_test" }, function(self, message)
  if message == nil then return step(self, nil) end
  local name, found, condition, text = name_of(self, message)
  if not name then return found, condition, text end
  local password = saslprep(found.password)
  if not password or password == "" then return fail(self, "malformed-request", "Invalid password") end
  local profile = self.profile
  local right, state
  if profile.plain then
    local correct
    correct, state = ask(self, "plain", name, self.realm)
    correct = type(correct) == "string" and correct ~= "" and saslprep(correct) or nil
    right = correct ~= nil and crypto.equals(correct, password)
  else
    local trouble
    right, state, trouble = ask(self, "plain_test", name, password, self.realm)
    if trouble then return fail(self, "temporary-auth-failure", "The server cannot look that up now") end
  end
  return step(self, message, { username = name, state = states[state], right = right and true or false })
end)

-- DIGEST-MD5 ------------------------------------------------------------------------------------------------------------

-- RFC 2831 §2.1.2.1: what fits into ISO 8859-1 is hashed as that.
local function latin(text)
  local out = {}
  for _, code in utf8.codes(text) do
    if code > 255 then return text end
    out[#out + 1] = string.char(code)
  end
  return table.concat(out)
end

function sasl.ha1(username, realm, password)
  return crypto.md5(latin(username) .. ":" .. latin(realm) .. ":" .. latin(password))
end

sasl.registerMechanism("DIGEST-MD5", { "plain", "digest_md5" }, function(self, message)
  if message == nil or not self.exchange or self.named then return step(self, message) end
  local name, found, condition, text = name_of(self, message)
  if not name then return found, condition, text end
  self.named = true
  local ha1, state
  if self.profile.digest_md5 then
    ha1, state = self.profile.digest_md5(self, name, self.realm)
  else
    local password
    password, state = self.profile.plain(self, name, self.realm)
    ha1 = type(password) == "string" and sasl.ha1(found.name, self.realm, password) or nil
  end
  return step(self, message, { username = name, state = ha1 and states[state] or nil, ha1 = ha1 })
end)

-- EXTERNAL, ANONYMOUS, OAUTHBEARER --------------------------------------------------------------------------------------

-- Plugins from elsewhere take the authzid alone; PLUGIN-API names the handler first.
local function call_external(self, authzid)
  local external = self.profile.external
  local info = debug.getinfo(external, "u")
  if info.nparams >= 2 then return external(self, authzid) end
  return external(authzid)
end

sasl.registerMechanism("EXTERNAL", { "external" }, function(self, message)
  if message == nil then return step(self, nil) end
  local authzid = saslprep(message)
  if not authzid then return fail(self, "malformed-request") end
  local username, state = call_external(self, authzid)
  if type(state) == "string" and state ~= "expired" then return fail(self, state) end     -- [+] a condition of its own
  if not username or state == nil then return fail(self, "not-authorized") end
  return step(self, message, { username = username, state = states[state] })
end)

-- The trace is optional, and so no reason to ask for it (XEP-0175 §2).
sasl.registerMechanism("ANONYMOUS", { "anonymous" }, function(self, message)
  message = message or ""
  for _ = 1, 10 do
    local username = id.medium():lower()
    if self.profile.anonymous(self, username, self.realm, message) then
      return step(self, message, { username = username, state = "enabled" })
    end
  end
  return fail(self, "not-authorized")
end)

-- RFC 7628. A refused token is answered with a challenge that says why; the client's "\1" then ends it.
sasl.registerMechanism("OAUTHBEARER", { "oauthbearer" }, function(self, message)
  if message == nil then return "challenge", "" end
  if message == "\1" and self.refused then return fail(self, self.refused) end
  local header, pairs_text = message:match "^(n,[^,]*,)\1(.+)\1$"
  local token
  for key, value in (pairs_text or ""):gmatch "([%a]+)=([\33-\126 \9\r\n]*)\1" do
    if key == "auth" then token = token or value:match "^[Bb]earer +(%S+)$" end
  end
  if not token or self.refused then return fail(self, "malformed-request") end
  local username, state, info = self.profile.oauthbearer(self, token, self.realm, header:match "^[^,]*,a=([^,]*),$")
  if state == false then return fail(self, "account-disabled") end
  if not username or state == nil then
    self.refused = "not-authorized"
    return "challenge", require "couplet.util.json".encode {
      status = info and info.status or "invalid_token",
      scope = info and info.scope or nil,
      ["openid-configuration"] = info and info.oidc_discovery_url or nil,
    }
  end
  self.username, self.token_info, self.over = username, info, true
  return "success"
end)

return sasl
