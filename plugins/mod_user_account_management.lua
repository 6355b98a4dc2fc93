-- SPDX-License-Identifier: MIT
-- mod_user_account_management: users change their password and close their account with their client (XEP-0077 §3.2, §3.3).
--
-- Events: user-deregistered { username, host, source, session } before the account goes; with registration_delete_grace_period
-- the account is disabled first (user-deregistered-pending) and goes when that time is over, unless an administrator enables it
-- again.

local nodeprep = require "util.encodings".stringprep.nodeprep
local needs_tls = require "couplet.login".needs_tls
local saslprep = require "util.encodings".stringprep.saslprep
local st = require "util.stanza"
local usermanager = require "core.usermanager"

local NS, FORM = "jabber:iq:register", "jabber:x:data"
local PASSWORD_BYTES = 1023

module:config {
  registration_delete_grace_period = { type = "period", default = 0,
    doc = "time between a user's request to delete an account and its end" },
}

local pending = module:open_store("account_cleanup", "map")        -- username -> when it was asked for

module:add_feature(NS)

local function refuse(session, stanza, kind, condition, text)
  -- without the request: there is a password in it (§3.3)
  session.send(st.error_reply(stanza, kind, condition, text))
  return true
end

-- The plain elements, or a form (§4) -> table
local function fields_of(query)
  local x = query:get_child("x", FORM)
  local data = {}
  if x then
    for field in x:childtags "field" do
      if field.attr.var then data[field.attr.var] = field:get_child_text "value" end
    end
  else
    for _, name in ipairs { "username", "password" } do data[name] = query:get_child_text(name) end
  end
  data.kind = x and data.FORM_TYPE or NS
  return data
end

-- Closing the account -----------------------------------------------------------------------------------------------------------

-- The answer goes out before the stream ends, which deleting or disabling brings about.
local function answer_at_close(session, stanza)
  local own, answered = rawget(session, "close"), false
  session.close = function(self, ...)
    session.close, answered = own, true
    session.send(st.reply(stanza))
    return self:close(...)
  end
  return function(ok)
    if answered then return true end
    session.close = own
    if ok then
      session.send(st.reply(stanza))
    else
      session.send(st.error_reply(stanza, "wait", "internal-server-error", "The account could not be deleted"))
    end
    return true
  end
end

local function delete(username, session)
  module:fire_event("user-deregistered", { username = username, host = module.host, source = "mod_register", session = session })
  local ok, err = usermanager.delete_user(username, module.host)
  if not ok then module:log("error", "cannot delete the account %s: %s", username, err) end
  return ok
end

local function remove(session, stanza)
  local username, grace = session.username, module.config.registration_delete_grace_period
  local finish = answer_at_close(session, stanza)
  if grace <= 0 then
    module:log("info", "%s@%s deletes their account", username, module.host)
    return finish(delete(username, session))
  end
  local ok, err = pending:set(username, "requested", os.time())
  if ok then
    ok, err = usermanager.disable_user(username, module.host,
      { reason = "ibr", comment = "The user asked for its deletion", when = os.time() })
  end
  if not ok then
    module:log("error", "cannot disable the account %s: %s", username, err)
    pending:set(username, "requested", nil)
    return finish(false)
  end
  module:log("info", "%s@%s deletes their account, which takes effect in %d s", username, module.host, grace)
  module:fire_event("user-deregistered-pending",
    { username = username, host = module.host, source = "mod_register", session = session })
  return finish(true)
end

module:hourly("Delete accounts whose time is over", function()
  local due, now = {}, os.time()
  for username, asked in pairs(pending:get_all "requested" or {}) do
    if now - asked >= module.config.registration_delete_grace_period then due[#due + 1] = username end
  end
  for _, username in ipairs(due) do
    local enabled, err = usermanager.user_is_enabled(username, module.host)
    if enabled then
      pending:set(username, "requested", nil)
    elseif enabled == false then
      delete(username)
    else                                         -- enabled again or not: nobody can tell now
      module:log("warn", "%s@%s is not deleted yet: %s", username, module.host, err or "its state cannot be read")
    end
  end
end)

module:hook_global("user-enabled", function(event)
  if event.host == module.host then pending:set(event.username, "requested", nil) end
end)

-- A new password ----------------------------------------------------------------------------------------------------------------

local function change_password(session, stanza, data)
  if not session.secure and needs_tls(module) then
    return refuse(session, stanza, "modify", "not-authorized", "Not without encryption")
  end
  local username = data.username and nodeprep(data.username, true)
  if data.username and data.username:find("@", 1, true) then                    -- the form's example has the whole address
    local node, host = require "util.jid".prepped_split(data.username)
    username = host == module.host and node or nil
  end
  local password = data.password
  if not username or not password or password == "" then
    return refuse(session, stanza, "modify", "bad-request", "Username and password are required")
  end
  if username ~= session.username then
    return refuse(session, stanza, "cancel", "not-allowed", "Only your own password can be changed")
  end
  if #password > PASSWORD_BYTES or not saslprep(password) then
    return refuse(session, stanza, "modify", "not-acceptable", "The password cannot be used")
  end
  if data.old_password and not usermanager.test_password(username, module.host, data.old_password) then
    return refuse(session, stanza, "modify", "not-authorized", "The old password is wrong")
  end
  local ok, err = usermanager.set_password(username, password, module.host, session.resource)
  if not ok then
    if err == "method not implemented" then
      return refuse(session, stanza, "cancel", "not-allowed", "Passwords cannot be changed here")
    end
    module:log("error", "cannot set the password of %s: %s", username, err)
    return refuse(session, stanza, "wait", "internal-server-error", "The password could not be changed")
  end
  session.send(st.reply(stanza))
  return true
end

-- Requests ----------------------------------------------------------------------------------------------------------------------

local function handle(event)
  local session, stanza = event.origin, event.stanza
  local query = stanza.tags[1]
  if stanza.attr.type == "get" then
    session.send(st.reply(stanza):query(NS):tag("registered"):up():text_tag("username", session.username):tag("password"):up())
    return true
  end
  local data = fields_of(query)
  if query:get_child "remove" or data.kind == NS .. ":cancel" then
    if query.tags[2] then return refuse(session, stanza, "modify", "bad-request", "<remove/> stands alone") end
    if data.password and not usermanager.test_password(session.username, module.host, data.password) then
      return refuse(session, stanza, "auth", "forbidden", "The password is wrong")
    end
    return remove(session, stanza)
  end
  return change_password(session, stanza, data)
end

module:hook("iq/self/" .. NS .. ":query", handle)
-- Clients send it to their server as well (§3.3, example 14).
module:hook("iq/host/" .. NS .. ":query", function(event)
  if event.origin.type == "c2s" and event.origin.host == module.host then return handle(event) end
end)
