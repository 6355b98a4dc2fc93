-- SPDX-License-Identifier: MIT
-- login.lua: what all ways to authenticate a client share (mod_saslauth: RFC 6120 §6, mod_sasl2: XEP-0388): which mechanisms and
-- channel bindings are offered (XEP-0440), the steps of an exchange, client certificates (XEP-0178), and the bounds.
--
--   login.needs_tls(module) -> bool                must clients of its host use TLS first? option c2s_require_encryption
--   login.turn_away(username, host, reason, which?)     whoever is about to log in there: reason for the stream of who has proved
--                                                 who he is; which(session) -> bool. May wait
--   login.new(module, dialect) -> login           dialect: { name = "sasl", failure(session, condition, text, proof),
--                                                 challenge(session, data), success(session, handler, data),
--                                                 accepts(session, handler)? -> condition, text to refuse a right proof }
--     login.load()                                to be called in module.load; may wait
--     login.offer(event) -> names, types | nil    in stream-features: mechanisms, strongest first; adds the channel bindings
--     login.element(name, xmlns, names) -> stanza     that lists them, of that name
--     login.start(event, mechanism, own?) -> bool     { origin, stanza } begins an exchange; own: a handler for it alone
--     login.process(session, message | nil)       goes on with it; may wait
--     login.refused(session, condition, text?)    one more failure that is no proof
--     login.equip(session, handler) -> types      a handler from elsewhere learns what those made here know
--     login.allowed(mechanism) -> bool            not disabled by the admin
--     login.secret() -> 32 bytes                  a secret of this host, the same after a restart
--
-- Failures are counted twice: on the stream (max_sasl_attempts wrong proofs, then it is closed) and per account and address,
-- where each one over the threshold doubles the time that must pass. Whoever comes too early gets temporary-auth-failure before
-- anything is asked about the account, whether it exists or not; another address is not concerned. It is asked
-- again before the verdict is told, so that guesses made side by side get no more answers than guesses in turn.

local jid = require "couplet.jid"
local lockout = require "couplet.lockout"
local sessions = require "couplet.sessions"
local st = require "couplet.stanza"
local task = require "couplet.task"
local users = require "couplet.users"
local base64 = require "couplet.util.base64"
local x509 = require "couplet.util.x509"
local parse = require "couplet.util.xml".parse

local login = {}

local IN_FLIGHT = 8                    -- steps of one address that wait for the store or a key at a time

-- What the plugins of one host share.
local function state_of(module)
  local state = module:shared "login/state"
  if not state.failures then
    state.failures = lockout.new(10000)          -- "account\0address" and "\0address"
    state.lines = {}                   -- address -> { n = in flight, first, last, [first … last] = who waits }
  end
  return state
end

local function address_of(session) return lockout.network(session.ip or "?") end

-- Steps that wait stand in line, so that a crowd of one address does not keep everybody else waiting.
local function stand_in_line(lines, address)
  local line = lines[address]
  if not line then
    line = { n = 0, first = 1, last = 0 }
    lines[address] = line
  end
  if line.n < IN_FLIGHT then
    line.n = line.n + 1
    return
  end
  task.await(function(done)
    line.last = line.last + 1
    line[line.last] = done
  end)
end

local function next_in_line(lines, address)
  local line = lines[address]
  local go = line[line.first]
  if go then                                     -- the place goes on to whoever is next
    line[line.first] = nil
    line.first = line.first + 1
    return go()
  end
  line.n = line.n - 1
  if line.n == 0 then lines[address] = nil end
end

local function tls_of(session)
  local conn = session.conn
  return session.encrypted and conn and conn.tls and conn:tls() or nil
end

-- Strongest first; who reads only the first line gets the best. What is in neither list stands between them.
local strong = {
  "EXTERNAL", "SCRAM-SHA-512-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1",
}
local weak = { "PLAIN", "ANONYMOUS" }
local ranked = {}
for _, names in ipairs { strong, weak } do
  for _, name in ipairs(names) do ranked[name] = true end
end

local function strongest_first(names)
  local list = {}
  local function take(order)
    for i = 1, #order do
      if names[order[i]] then list[#list + 1] = order[i] end
    end
  end
  take(strong)
  local others
  for name in pairs(names) do
    if not ranked[name] then
      others = others or {}
      others[#others + 1] = name
    end
  end
  if others then
    table.sort(others)
    table.move(others, 1, #others, #list + 1, list)
  end
  take(weak)
  return list
end

-- The types of channel binding a connection can have: one list for all connections that have the same.
local kinds = { "tls-exporter", "tls-server-end-point", "tls-unique" }
local combinations = {}
for bits = 0, 2 ^ #kinds - 1 do
  local list = {}
  for i, kind in ipairs(kinds) do
    if bits & 1 << i - 1 ~= 0 then list[#list + 1] = kind end
  end
  combinations[bits] = list
end
local EXPORTER, NONE = 1, combinations[0]

-- Copies of what was parsed share its bytes.
local function compact(element) return parse(tostring(element)) end

local too_many = { condition = "policy-violation", text = "Too many failed attempts to authenticate" }

-- A wrong proof is a guess and counts in full. A mechanism or a channel binding that does not fit is no guess: real clients
-- walk down the list of mechanisms until one does, so these have a wider bound of their own.
local guesses = { ["not-authorized"] = true, ["account-disabled"] = true, ["temporary-auth-failure"] = true }

function login.needs_tls(module)
  return module:get_option_boolean("c2s_require_encryption", module:get_option_boolean("require_encryption", true))
end

-- What was proved, or is being proved, holds no longer; bound sessions are somebody else's business. Who has not proved anything
-- yet learns nothing before he has: anybody can begin, and must not be told what becomes of an account, or that there is one.
function login.turn_away(username, host, reason, which)
  local proved = {}
  for session in pairs(sessions.unbound) do
    local handler = session.sasl_handler
    local concerned = session.host == host and (not which or which(session))
    if concerned and session.username == username then
      proved[#proved + 1] = session
    elseif concerned and handler and handler.claimed == username then
      handler.outdated = true
    end
  end
  for _, session in ipairs(proved) do session:close(reason) end
end

function login.new(module, dialect)
  local self, state = {}, state_of(module)
  local failures, lines = state.failures, state.lines

  local secure_only = login.needs_tls(module)
  local allow_plain = module:get_option_boolean("allow_unencrypted_plain_auth", false)
  local insecure = module:get_option_set("insecure_sasl_mechanisms", allow_plain and {} or { "PLAIN", "LOGIN" })
  local disabled = module:get_option_set("disable_sasl_mechanisms", { "DIGEST-MD5" })
  local max_attempts = module:get_option_integer("max_sasl_attempts", 3, 1)
  local max_misfits = max_attempts + 7
  local threshold = module:get_option_integer("auth_lockout_threshold", 5, 1)
  local address_threshold = module:get_option_integer("auth_lockout_address_threshold", 50, 1)
  local lockout_max = module:get_option_period("auth_lockout_max", 600, 1)
  local with_certificates = module:get_option_boolean("client_certificate_auth", false)
  local certificate_match = module:get_option_enum("certificate_match", "xmppaddr", "email")
  local end_point_hash = module:get_option_string("tls_server_end_point_hash")

  -- What invented keys of unknown accounts depend on must outlive a restart, or they could be told by changing with it.
  function self.load()
    if state.secret then return end
    local store = module:open_store("saslauth", "keyval")
    local kept = store and store:get(nil)
    local secret = kept and base64.decode(kept.secret or "")
    if secret and #secret == 32 then
      state.secret = secret
      return
    end
    state.secret = state.secret or require "couplet.util.random".bytes(32)
    local ok, err
    if store then ok, err = store:set(nil, { secret = base64.encode(state.secret) }) end
    if not ok then module:log("warn", "cannot keep the secret for unknown accounts: %s", err or "no store") end
  end

  function self.secret() return state.secret end

  -- Too many failures -----------------------------------------------------------------------------------------------------

  local function waiting(key) return failures:wait(key) ~= nil end
  local function count_failure(key, allowed) failures:failed(key, allowed, lockout_max) end

  local function role_of(handler, username)
    handler.own_role = users.user_role_ahead(username, module.host)
  end

  local function gate(session)
    local address = address_of(session)
    return function(_, username)
      if waiting(username .. "\0" .. address) or waiting("\0" .. address) then
        return "temporary-auth-failure", "Too many failures; try again later"
      end
    end
  end

  -- One more failure on this stream; closes it if that was one too many.
  function self.refused(session, condition, text, proof)
    local field = guesses[condition] and "sasl_failures" or "sasl_misfits"
    session[field] = (session[field] or 0) + 1
    dialect.failure(session, condition, text, proof)
    if (session.sasl_failures or 0) >= max_attempts or (session.sasl_misfits or 0) >= max_misfits then session:close(too_many) end
    return true
  end

  -- Handlers ----------------------------------------------------------------------------------------------------------------

  -- The accounts a verified client certificate speaks for; nil: none.
  local function certificate_accounts(tls)
    if not with_certificates or not tls or not tls.peer_cert or #(tls.verify_errors or {}) > 0 then return nil end
    local cert = x509.load(tls.peer_cert)
    local names, any = {}, false
    for _, address in ipairs(cert and (certificate_match == "email" and cert.emails or cert.xmpp_addrs) or {}) do
      local node, host, resource = jid.prepped_split(address)
      if node and host == module.host and not resource then
        names[#names + 1] = node
        any = true
      end
    end
    return any and names or nil
  end

  -- XEP-0178 §2: without an authzid the certificate must name one account; with one it must name that.
  local function external(names)
    return function(authzid)
      local username = names[1]
      if authzid ~= "" then
        local node, host, resource = jid.prepped_split(authzid)
        username = nil
        for _, name in ipairs(names) do
          if name == node and host == module.host and not resource then username = name end
        end
        if not username then return nil, "invalid-authzid" end
      elseif names[2] then
        return nil, "invalid-authzid"
      end
      if not users.user_exists(username, module.host) then return nil end
      local enabled = users.user_is_enabled(username, module.host)
      if enabled == nil then return nil, "temporary-auth-failure" end        -- it has just gone, or nobody can tell
      return username, enabled
    end
  end

  local function add_bindings(session, handler, tls)
    if not tls or not handler.add_cb_handler then return NONE end
    local bindings, bits = tls.bindings or {}, 0
    if tls.version == "TLSv1.3" then                -- RFC 9266; derived when a client binds to it, most do not
      handler:add_cb_handler("tls-exporter", function()
        return session.conn:ssl_exportkeyingmaterial("EXPORTER-Channel-Binding", 32, "")
      end)
      bits = EXPORTER
    end
    for i = 2, #kinds do
      local kind = kinds[i]
      local data = bindings[kind]
      if kind == "tls-server-end-point" and end_point_hash and end_point_hash ~= "auto" then
        data = require "couplet.util.hex".decode(end_point_hash)
      end
      if data then
        handler:add_cb_handler(kind, function() return data end)
        bits = bits | 1 << i - 1
      end
    end
    handler.userdata = handler.userdata or { ["tls-unique"] = session.conn, ["tls-exporter"] = session.conn }
    handler.cb_types = combinations[bits]
    return handler.cb_types
  end

  -- XEP-0440
  local function bindings_element(types)
    local element = st.stanza("sasl-channel-binding", { xmlns = "urn:xmpp:sasl-cb:0" })
    for _, kind in ipairs(types) do element:tag("channel-binding", { type = kind }):up() end
    return compact(element)
  end

  -- What is offered -> { names = set, list = strongest first, bindings = element, if one is used }
  local function make_offer(session, handler, types)
    local names, plus = {}, false
    for name in pairs(handler:mechanisms()) do
      if not disabled:contains(name) and (session.secure or not insecure:contains(name)) then
        names[name] = true
        plus = plus or name:find("-PLUS", -5, true) ~= nil
      end
    end
    return { names = names, list = strongest_first(names), bindings = plus and bindings_element(types) or nil }
  end

  -- Made once for all sessions that are alike.
  local function weak_keys() return setmetatable({}, { __mode = "k" }) end
  local offers = { [true] = weak_keys(), [false] = weak_keys() }    -- secure -> handler.common -> types -> offer

  local function offer_of(session, handler, types)
    local common = handler.common
    if not common then return make_offer(session, handler, types) end
    local made = offers[session.secure and true or false]
    local by_types = made[common] or {}
    made[common] = by_types
    local offer = by_types[types] or make_offer(session, handler, types)
    by_types[types] = offer
    return offer
  end

  function self.allowed(mechanism) return not disabled:contains(mechanism) end

  function self.equip(session, handler, tls)
    handler.secret = state.secret
    handler.gate, handler.beside = gate(session), role_of
    local offered = session.sasl_handler
    if offered and offered.cb_types then         -- of the same connection
      handler.cb, handler.userdata, handler.cb_types = offered.cb, offered.userdata, offered.cb_types
    else
      add_bindings(session, handler, tls or tls_of(session))
    end
    return handler.cb_types or NONE
  end

  -- A handler for this session, the channel binding types it can use, and what is offered.
  local function new_handler(session)
    local handler = users.get_sasl_handler(module.host, session)
    if not handler then return nil end
    local tls = tls_of(session)
    local names = certificate_accounts(tls)
    if names and handler.extended and not handler.profile.external then
      handler = handler:extended { external = external(names) }
    end
    if handler.cb then handler.common = nil end             -- it binds to more than the connection has
    local types = self.equip(session, handler, tls)
    local offer = offer_of(session, handler, types)
    handler.announced = offer.names
    return handler, types, offer
  end

  -- All plugins that offer something on this stream offer the same. The lists are others' too: not to be changed.
  function self.offer(event)
    local offer, session = event.sasl_offer, event.origin
    if offer ~= nil then return offer or nil, event.sasl_bindings end
    event.sasl_offer = false
    if secure_only and not session.secure then return nil end
    local handler, types, made = new_handler(session)
    session.sasl_handler = handler
    if not handler then
      module:log("error", "the authentication plugin of %s gives no SASL handler", module.host)
      return nil
    end
    local list = made.list
    if not list[1] then
      module:log("warn", "no SASL mechanism is left to offer: see authentication, disable_sasl_mechanisms, "
        .. "insecure_sasl_mechanisms")
      return nil
    end
    event.sasl_offer, event.sasl_bindings = list, types
    if made.bindings then event.features:add_child(st.clone(made.bindings)) end
    return list, types
  end

  local elements = weak_keys()                        -- list -> the element that offers it

  -- An element of that name with a <mechanism/> for each of an offer's list; the caller may add to it.
  function self.element(name, xmlns, list)
    local element = elements[list]
    if not element then
      element = st.stanza(name, { xmlns = xmlns })
      for i = 1, #list do element:text_tag("mechanism", list[i]) end
      element = compact(element)
      elements[list] = element
    end
    return st.clone(element)
  end

  -- An exchange -----------------------------------------------------------------------------------------------------------------

  local function fire(session, what, data)
    data.session = session
    return module:fire_event(dialect.name .. "/" .. session.base_type .. "/" .. what, data)
  end

  local function fail(session, handler, condition, text)
    local event = { session = session, condition = condition, text = text }
    handler.username = handler.username or handler.claimed       -- who it was that failed, as plugins look for it
    module:fire_event("authentication-failure", event)
    local name = handler.claimed or handler.username
    if condition == "not-authorized" or condition == "account-disabled" then
      local address = address_of(session)
      if name then count_failure(name .. "\0" .. address, threshold) end
      count_failure("\0" .. address, address_threshold)
    end
    session.log("info", "Failed authentication attempt (%s) for user %s from IP: %s", condition, name or "?", session.ip or "?")
    session.sasl_handler = handler.clean_clone and not handler.alone and handler:clean_clone() or nil
    local status = { message = event.condition, error_text = event.text }
    fire(session, "failure", status)
    return self.refused(session, status.message, status.error_text, true)
  end

  local function succeed(session, handler, data)
    if dialect.accepts then
      local condition, text = dialect.accepts(session, handler)
      if condition then return fail(session, handler, condition, text) end
    end
    local role = handler.role or handler.own_role and handler.claimed == handler.username and handler.own_role()
    if session.destroyed then return true end
    if handler.outdated then                     -- what was proved held when the exchange began, but no longer
      return fail(session, handler, "temporary-auth-failure", "The account has just been changed; try again")
    end
    local ok, err = sessions.make_authenticated(session, handler.username, role)
    if session.destroyed then return true end
    if not ok then
      session.log("warn", "SASL succeeded, but the session cannot be authenticated: %s", err)
      return fail(session, handler, "not-authorized", "User authenticated successfully, but username was invalid")
    end
    session.sasl_resource = handler.resource
    session.sasl_mechanism = handler.selected
    session.sasl_failures, session.sasl_misfits, session.sasl_advertised = nil, nil, nil
    failures:forget(session.username .. "\0" .. address_of(session))
    module:fire_event("authentication-success", { session = session })
    session.sasl_handler = nil
    dialect.success(session, handler, data)
    return true
  end

  function self.start(event, mechanism, own)
    local session = event.origin
    event.session = session
    module:fire_event("authentication-attempt", event)
    if event.allowed == false then
      self.refused(session, event.error_condition or "not-authorized", event.error_text)
      return false
    end
    local condition, text
    local handler = own or session.sasl_handler
    if waiting("\0" .. address_of(session)) then
      condition, text = "temporary-auth-failure", "Too many failures; try again later"
      session.log("info", "Failed authentication attempt (%s) from IP: %s, which has failed too often", condition,
        session.ip or "?")
    elseif not mechanism then
      condition, text = "malformed-request", "No mechanism named"
    elseif not session.secure and (secure_only or insecure:contains(mechanism)) then
      condition = "encryption-required"
    else
      if handler and handler.selected then               -- a new negotiation ends one that was not completed
        session.sasl_misfits = (session.sasl_misfits or 0) + 1
        handler = nil
      end
      handler = handler or new_handler(session)
      session.sasl_handler = handler
      if not handler then
        condition = "temporary-auth-failure"
      elseif disabled:contains(mechanism) or not handler:select(mechanism) then
        condition = "invalid-mechanism"
      end
    end
    if condition then
      if own then session.sasl_handler = nil end
      self.refused(session, condition, text)
      return false
    end
    handler.alone = own ~= nil
    handler.advertised = session.sasl_advertised            -- mod_sasl_ssdp's
    return true
  end

  function self.process(session, message)
    local handler, address = session.sasl_handler, address_of(session)
    stand_in_line(lines, address)
    local native = session.net
    if session.destroyed or session.sasl_handler ~= handler or native and not native:connected() then
      next_in_line(lines, address)
      return true
    end
    local ok, status, data, more = xpcall(handler.process, debug.traceback, handler, message)
    next_in_line(lines, address)
    if session.destroyed then return true end
    if not ok then
      module:log("error", "authentication of %s: %s", session.ip or "?", status)
      status, data, more = "failure", "temporary-auth-failure", nil
    end
    if status == "success" then return succeed(session, handler, data) end
    if status == "failure" then return fail(session, handler, data, more) end
    local event = { message = data }
    fire(session, "challenge", event)
    dialect.challenge(session, event.message)
    return true
  end

  self.fire = fire
  return self
end

return login
