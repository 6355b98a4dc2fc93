-- SPDX-License-Identifier: MIT
-- mod_register_ibr: new accounts, made by clients before they log in (XEP-0077 §3.1). Off unless allow_registration is true, and
-- only over TLS. With registration_url clients are sent to a web page instead (§5).
--
-- Events: user-registering { username, host, ip, session, allowed, additional, error? } (set allowed = false to refuse; error:
-- { type, condition, text }), user-registered { username, host, source, session, ip }. What additional fields were filled in is
-- kept in the store account_details.

local dataforms = require "util.dataforms"
local nodeprep = require "util.encodings".stringprep.nodeprep
local saslprep = require "util.encodings".stringprep.saslprep
local st = require "util.stanza"
local usermanager = require "core.usermanager"

local NS, FORM, OOB = "jabber:iq:register", "jabber:x:data", "jabber:x:oob"

module:config {
  allow_registration = { type = "boolean", default = false, doc = "clients may make accounts" },
  registration_title = { type = "string", default = "Creating a new account", doc = "heading of the form" },
  registration_instructions = { type = "string", default = "Choose a username and password for use with this service.",
    doc = "what the form says" },
  additional_registration_fields = { type = "array", default = {},
    doc = "further fields: \"email\", \"name+\" (required), or data form fields" },
  registration_url = { type = "string", doc = "accounts are made there: clients are sent to this page" },
  registration_text = { type = "string", doc = "what they are told about it" },
  register_ibr_default_role = { type = "string", default = "prosody:registered", doc = "role of accounts made this way" },
}

local PASSWORD_BYTES, FIELD_BYTES = 1023, 1023
local needs_tls = require "couplet.login".needs_tls(module)

-- The form, and the same as plain fields (§4) --------------------------------------------------------------------------------

local labels = { nick = "Nickname", name = "Full name", first = "Given name", last = "Family name", email = "Email",
  address = "Street",
  city = "City", state = "Region", zip = "Postal code", phone = "Telephone number", url = "Homepage", date = "Birth date" }

local form, query, additional

local function build()
  additional = {}
  local layout = { title = module.config.registration_title, instructions = module.config.registration_instructions,
    { name = "FORM_TYPE", type = "hidden", value = NS },
    { name = "username", type = "text-single", label = "Username", required = true },
    { name = "password", type = "text-private", label = "Password", required = true } }
  query = st.stanza("query", { xmlns = NS }):text_tag("instructions",
    layout.instructions):tag("username"):up():tag("password"):up()
  local plain = true
  for _, field in ipairs(module.config.additional_registration_fields) do
    local name = type(field) == "string" and field:gsub("%+$", "")
    if name and labels[name] then
      field = { name = name, type = "text-single", label = labels[name], required = field:find "%+$" ~= nil or nil }
      query:tag(name):up()
    elseif type(field) ~= "table" or type(field.name) ~= "string" then
      module:log("error", "additional_registration_fields: there is no field %s", tostring(field))
      field = nil
    elseif field.required then
      plain = false                                   -- no equivalent outside the form: instructions only (§6)
    end
    if field then
      layout[#layout + 1], additional[#additional + 1] = field, field
    end
  end
  form = dataforms.new(layout)
  if not plain then query = st.stanza("query", { xmlns = NS }):text_tag("instructions", layout.instructions) end
  query:add_child(form:form())
end
build()
module:on_config_change(build)

local function redirection(url)
  return st.stanza("query", { xmlns = NS }):text_tag("instructions",
    module.config.registration_text or "To register, visit " .. url)
    :tag("x", { xmlns = OOB }):text_tag("url", url):up()
end

-- Who may ask -------------------------------------------------------------------------------------------------------------------

local function offered(session)
  return session.type == "c2s_unauthed" and (session.secure or not needs_tls)
    and (module.config.allow_registration or module.config.registration_url ~= nil)
end

module:hook("stream-features", function(event)
  if offered(event.origin) then
    event.features:tag("register", { xmlns = "http://jabber.org/features/iq-register" }):up()
  end
end)

-- A new account -----------------------------------------------------------------------------------------------------------------

-- -> table of fields | nil, text
local function filled_in(request)
  local x = request:get_child("x", FORM)
  local data
  if x then
    if x.attr.type ~= "submit" then return nil, "The form was not submitted" end
    local errors
    data, errors = form:data(x)
    if errors then
      local name, text = next(errors)
      return nil, name .. ": " .. text
    end
    data.FORM_TYPE = nil
  else
    data = { username = request:get_child_text "username", password = request:get_child_text "password" }
    for _, field in ipairs(additional) do
      data[field.name] = request:get_child_text(field.name)
      if field.required and (data[field.name] or "") == "" then return nil, field.name .. ": Required value missing" end
    end
  end
  for name, value in pairs(data) do
    if type(value) == "string" and #value > FIELD_BYTES then return nil, name .. " is too long" end
  end
  return data
end

local busy = {}                            -- names that are being registered: two may want the same at once

local function refuse(session, stanza, kind, condition, text)
  session.send(st.error_reply(stanza, kind, condition, text))
  return true
end

local function create(session, stanza, username, password, details)
  local event = { username = username, host = module.host, ip = session.ip, session = session, allowed = true,
    additional = details }
  module:fire_event("user-registering", event)
  if not event.allowed then
    local err = event.error or {}
    return refuse(session, stanza, err.type or event.error_type or "modify",
      err.condition or event.error_condition or "not-acceptable", err.text or event.reason or "User registration is not allowed")
  end
  if usermanager.user_exists(username, module.host) then
    if event.allow_reset == username then                        -- an invitation to set a new password
      if not usermanager.set_password(username, password, module.host) then
        return refuse(session, stanza, "wait", "internal-server-error", "Failed to reset the password")
      end
      session.send(st.reply(stanza))
      module:fire_event("user-password-reset", { username = username, host = module.host, session = session })
      return true
    end
    return refuse(session, stanza, "cancel", "conflict", "The requested username already exists.")
  end
  local ok, err = usermanager.create_user_with_role(username, password, module.host, module.config.register_ibr_default_role)
  if not ok then
    module:log("error", "cannot create the account %s: %s", username, err)
    return refuse(session, stanza, "wait", "internal-server-error", "The account could not be created")
  end
  if next(details) then
    details.registered = os.time()
    local kept, why = module:open_store("account_details"):set(username, details)
    if not kept then module:log("error", "cannot keep the details of %s: %s", username, why) end
  end
  session.registered = username
  module:log("info", "account %s@%s registered from %s", username, module.host, session.ip or "?")
  session.send(st.reply(stanza))
  module:fire_event("user-registered", { username = username, host = module.host, source = "mod_register", session = session,
    ip = session.ip, validated_invite = session.validated_invite or event.validated_invite })
  return true
end

module:hook("stanza/iq/" .. NS .. ":query", function(event)
  local session, stanza = event.origin, event.stanza
  local is_get, request = stanza.attr.type == "get", stanza.tags[1]
  if session.type ~= "c2s_unauthed" or not module.config.allow_registration and not module.config.registration_url then
    return is_get and refuse(session, stanza, "cancel", "service-unavailable")
      or refuse(session, stanza, "cancel", "not-allowed", "Accounts are not made this way here")
  end
  if needs_tls and not session.secure then
    return refuse(session, stanza, "modify", "policy-violation", "Encryption is required")
  end
  local url = module.config.registration_url
  if is_get then
    session.send(st.reply(stanza):add_child(url and redirection(url) or st.clone(query)))
    return true
  end
  if url then return refuse(session, stanza, "cancel", "not-allowed", "Accounts are made at " .. url) end
  if request:get_child "remove" then                                  -- §3.2: of whom?
    return refuse(session, stanza, "wait", "unexpected-request", "Log in first")
  end
  if session.registered then
    return refuse(session, stanza, "modify", "not-acceptable", "An account was made on this connection already")
  end
  local data, problem = filled_in(request)
  if not data then return refuse(session, stanza, "modify", "not-acceptable", problem) end
  local username, password = data.username, data.password
  data.username, data.password = nil, nil
  if not username or username == "" then return refuse(session, stanza, "modify", "not-acceptable", "A username is required") end
  username = nodeprep(username, true)
  if not username or username == "" or #username > 1023 then
    return refuse(session, stanza, "modify", "not-acceptable", "The requested username is invalid.")
  end
  if not password or password == "" then return refuse(session, stanza, "modify", "not-acceptable", "A password is required") end
  if #password > PASSWORD_BYTES or not saslprep(password) then
    return refuse(session, stanza, "modify", "not-acceptable", "The password cannot be used")
  end
  if busy[username] then return refuse(session, stanza, "cancel", "conflict", "The requested username already exists.") end
  busy[username] = true
  local ok, result = xpcall(create, debug.traceback, session, stanza, username, password, data)
  busy[username] = nil
  if not ok then error(result, 0) end
  return result
end)
