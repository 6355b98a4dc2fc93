-- SPDX-License-Identifier: MIT
-- mod_admin_adhoc: administration as ad-hoc commands: accounts as XEP-0133 has them, plugins, configuration, shutdown. What they
-- do is what coupletctl does (couplet.commands); here are the forms, and who may: administrators of this host for its accounts
-- and plugins, those of the whole server for the rest. There is no "get user password": nobody here knows any.

local adhoc = require "util.adhoc"
local commands = require "couplet.commands"
local dataforms = require "util.dataforms"
local datetime = require "util.datetime"
local jid = require "util.jid"
local modulemanager = require "core.modulemanager"
local rostermanager = require "core.rostermanager"
local st = require "util.stanza"
local usermanager = require "core.usermanager"
local adhoc_new = module:require "adhoc".new

require "couplet.ctl.accounts"
require "couplet.ctl.server"
module:depends "adhoc"
local announce = module:depends "announce"

local ADMIN = "http://jabber.org/protocol/admin"
local host = module.host
local seen = module:open_store("lastactivity")

-- Pieces ------------------------------------------------------------------------------------------------------------------------

-- What coupletctl would do -> true, text | nil, text
local function run(name, ...)
  local ok, text = commands.run(name, { ... }, { print = function() end })
  return ok, text
end

local function layout(title, form_type, ...)
  return dataforms.new { title = title, instructions = "Fill out this form.",
    { name = "FORM_TYPE", type = "hidden", value = form_type }, ... }
end

local function field(kind, name, label, extra)
  local f = { type = kind, name = name, label = label, required = true }
  for k, v in pairs(extra or {}) do f[k] = v end
  return f
end

local function failure(text, condition, kind)
  return { status = "completed", error = { message = text, condition = condition, type = kind } }
end

local function complaint(errors)
  local list = {}
  for name, text in pairs(errors) do list[#list + 1] = name .. ": " .. text end
  table.sort(list)
  return failure(table.concat(list, "\n"))
end

local function done(ok, text)
  if not ok then return failure(text) end
  return { status = "completed", info = text }
end

-- title is the command's name as well; handler(fields, data) -> answer; form: nil for commands of one step.
local function command(title, node, permission, form, handler, initial)
  local run_form = form and adhoc.new_initial_data_form(form, initial, function(fields, errors, data)
    if errors then return complaint(errors) end
    return handler(fields, data)
  end)
  local function run_plain(_, data) return handler({}, data) end
  module:provides("adhoc", adhoc_new(title, node, run_form or run_plain, permission))
end

-- An account of this host (an administrator of one host has nothing to say on another).
local function account(address)
  local node, domain, resource = jid.split(address)
  if domain ~= host or not node then return nil, address .. " is no account of " .. host end
  return node, resource
end

local function existing(address)
  local node, resource = account(address)
  if not node then return nil, resource end
  if not usermanager.user_exists(node, host) then return nil, "there is no account " .. jid.bare(address) end
  return node, resource
end

-- action(address, node, resource) -> true, text | nil, text    for each; what failed is told by name
local function each(addresses, action)
  local good, bad = {}, {}
  for _, address in ipairs(addresses) do
    local node, resource = existing(address)
    local ok, text = nil, resource
    if node then ok, text = action(address, node, resource) end
    table.insert(ok and good or bad, text or address)
  end
  local answer = { status = "completed" }
  if good[1] then answer.info = table.concat(good, "\n") end
  if bad[1] then answer.error = { message = table.concat(bad, "\n") } end
  return answer
end

local function result(title, values, ...)
  local form = dataforms.new { title = title, { name = "FORM_TYPE", type = "hidden", value = ADMIN }, ... }
  return { status = "completed", result = { layout = form, values = values } }
end

-- Accounts ----------------------------------------------------------------------------------------------------------------------

command("Add User", ADMIN .. "#add-user", "admin", layout("Adding a User", ADMIN,
  field("jid-single", "accountjid", "The Jabber ID for the account to be added"),
  field("text-private", "password", "The password for this account"),
  field("text-private", "password-verify", "Retype password")), function(fields)
  local node, text = account(fields.accountjid)
  if not node then return failure(text) end
  if text then return failure(fields.accountjid .. " has a resource: USER@HOST is needed") end
  if fields.password ~= fields["password-verify"] then return failure "The passwords differ" end
  if usermanager.user_exists(node, host) then return failure(fields.accountjid .. " exists already", "conflict", "cancel") end
  return done(run("register", node, host, fields.password))
end)

local function many(title, verb, name, action)
  command(title, ADMIN .. "#" .. name, "admin", layout(title, ADMIN,
    field("jid-multi", "accountjids", "The Jabber ID(s) to " .. verb)),
      function(fields) return each(fields.accountjids, action) end)
end

many("Delete User", "delete", "delete-user", function(_, node) return run("unregister", node, host) end)
many("Disable User", "disable", "disable-user", function(address) return run("user disable", jid.bare(address)) end)
many("Re-Enable User", "re-enable", "reenable-user", function(address) return run("user enable", jid.bare(address)) end)
many("End User Session", "disconnect", "end-user-session", function(address) return run("c2s close", address) end)

command("Change User Password", ADMIN .. "#change-user-password", "admin", layout("Changing a User Password", ADMIN,
  field("jid-single", "accountjid", "The Jabber ID for this account"),
  field("text-private", "password", "The password for this account")), function(fields)
  local node, text = existing(fields.accountjid)
  if not node then return failure(text) end
  return done(run("passwd", jid.bare(fields.accountjid), fields.password))
end)

command("Get User Roster", ADMIN .. "#get-user-roster", "admin", layout("Getting a User's Roster", ADMIN,
  field("jid-multi", "accountjids", "The Jabber ID(s) for which to retrieve the roster")), function(fields)
  local query = st.stanza("query", { xmlns = "jabber:iq:roster" })
  local names = {}
  for _, address in ipairs(fields.accountjids) do
    local node, text = existing(address)
    if not node then return failure(text) end
    names[#names + 1] = node .. "@" .. host
    local roster = rostermanager.load_roster(node, host)
    for contact, item in pairs(roster or {}) do
      if contact then
        query:tag("item", { jid = contact, subscription = item.subscription, ask = item.ask, name = item.name })
        for group in pairs(item.groups or {}) do query:text_tag("group", group) end
        query:up()
      end
    end
  end
  local answer = result("Roster", nil, { name = "accountjids", type = "jid-multi", value = names })
  answer.result = answer.result.layout:form(nil, "result"):add_child(query)
  return answer
end)

local function sessions_of(node)
  local user = prosody.bare_sessions[node .. "@" .. host]
  return user and user.sessions or {}
end

command("Get User Last Login Time", ADMIN .. "#get-user-lastlogin", "admin", layout("Getting a User's Last Login Time", ADMIN,
  field("jid-multi", "accountjids", "The Jabber ID(s) for which to retrieve the last login time")), function(fields)
  local names, times = {}, {}
  for _, address in ipairs(fields.accountjids) do
    local node, text = existing(address)
    if not node then return failure(text) end
    local last
    for _, session in pairs(sessions_of(node)) do last = math.max(last or 0, session.conntime or 0) end
    if not last then                                      -- away: when the last session ended is what is kept
      local kept = seen:get(node)
      last = kept and tonumber(kept.time)
    end
    names[#names + 1] = node .. "@" .. host
    times[#times + 1] = last and datetime.datetime(math.floor(last)) or "never"
  end
  return result("Last login", nil, { name = "accountjids", type = "jid-multi", value = names },
    { name = "lastlogin", type = "text-multi", value = table.concat(times, "\n") })
end)

command("Get User Statistics", ADMIN .. "#user-stats", "admin", layout("Get User Statistics", ADMIN,
  field("jid-single", "accountjid", "The Jabber ID for statistics")), function(fields)
  local node, text = existing(fields.accountjid)
  if not node then return failure(text) end
  local size, addresses, resources = 0, {}, {}
  for contact in pairs(rostermanager.load_roster(node, host) or {}) do
    if contact then size = size + 1 end
  end
  for resource, session in pairs(sessions_of(node)) do
    resources[#resources + 1] = resource
    addresses[#addresses + 1] = session.ip
  end
  return result("User statistics", nil,
    { name = "ipaddresses", type = "text-multi", label = "Addresses", value = table.concat(addresses, "\n") },
    { name = "rostersize", type = "text-single", label = "Roster size", value = ("%d"):format(size) },
    { name = "onlineresources", type = "text-multi", label = "Online resources", value = table.concat(resources, "\n") })
end)

-- Numbers and lists -------------------------------------------------------------------------------------------------------------

-- The bare JIDs, sorted.
local function registered(only_disabled)
  local list = {}
  for name in usermanager.users(host) do
    if not only_disabled or not usermanager.user_is_enabled(name, host) then list[#list + 1] = name .. "@" .. host end
  end
  table.sort(list)
  return list
end

local function online()
  local list = {}
  for bare, user in pairs(prosody.bare_sessions) do
    if jid.host(bare) == host and next(user.sessions) then list[#list + 1] = bare end
  end
  table.sort(list)
  return list
end

local limits = {}
for _, n in ipairs { "25", "50", "75", "100", "150", "200" } do limits[#limits + 1] = { label = n, value = n } end
limits[#limits + 1] = { label = "None", value = "none" }

for kind, list in pairs { registered = registered, disabled = function() return registered(true) end, online = online } do
  local title = kind:gsub("^%l", string.upper)
  command("Get Number of " .. title .. " Users", ADMIN .. "#get-" .. kind .. "-users-num", "admin", nil, function()
    return result("Number of " .. kind .. " users", nil,
      { name = kind .. "usersnum", type = "text-single", label = "The number of " .. kind .. " users",
        value = ("%d"):format(#list()) })
  end)
  command("Get List of " .. title .. " Users", ADMIN .. "#get-" .. kind .. "-users-list", "admin",
    layout("Requesting List of " .. title .. " Users", ADMIN, field("list-single", "max_items", "Maximum number of items to show",
      { options = limits, value = "25", required = false })), function(fields)
    local max = fields.max_items == "none" and math.huge or math.tointeger(tonumber(fields.max_items or "25"))
    if not max or max < 1 then
      return failure("max_items: " .. tostring(fields.max_items) .. " is no number", "not-acceptable", "modify")
    end
    local all = list()
    local shown = table.move(all, 1, math.min(#all, max), 1, {})
    return result("List of " .. kind .. " users", nil,
      { name = kind .. "userjids", type = "text-multi", label = ("The list of all %s users"):format(kind),
        value = table.concat(shown, "\n") })
  end)
end

-- Plugins -----------------------------------------------------------------------------------------------------------------------

local MODULES = "http://prosody.im/protocol/modules"                -- names clients and scripts know

local function loaded(where)
  local names = {}
  for name in pairs(modulemanager.get_modules(where) or {}) do names[#names + 1] = name end
  table.sort(names)
  return names
end

command("List loaded modules", MODULES .. "#list", "admin", nil, function()
  local form = dataforms.new { title = "List of loaded modules",
    { name = "FORM_TYPE", type = "hidden", value = MODULES .. "#list" },
    { name = "modules", type = "text-multi", label = "The following modules are loaded:",
      value = table.concat(loaded(host), "\n") } }
  return { status = "completed", result = { layout = form } }
end)

local function on_modules(title, node, verb, permission, where)
  if verb == "load" then
    command(title, node, permission, layout(title, node, field("text-single", "module", "Module to be loaded:")), function(fields)
      if where then return done(run("module load", fields.module, where)) end
      return done(run("module load", fields.module))
    end)
    return
  end
  command(title, node, permission, layout(title, node, field("list-multi", "modules", ("Modules to be %sed:"):format(verb))),
    function(fields)
    local good, bad = {}, {}
    for _, name in ipairs(fields.modules) do
      local ok, text
      if where then ok, text = run("module " .. verb, name, where) else ok, text = run("module " .. verb, name) end
      table.insert(ok and good or bad, text or name)
    end
    return { status = "completed", info = good[1] and table.concat(good, "\n"),
      error = bad[1] and { message = table.concat(bad, "\n") } }
  end, function()
    local names, options = {}, {}
    for place in pairs(where and { [where] = true } or prosody.hosts) do
      for _, name in ipairs(loaded(place)) do names[name] = true end
    end
    for _, name in ipairs(where and {} or loaded "*") do names[name] = true end
    for name in pairs(names) do options[#options + 1] = { label = name, value = name } end
    table.sort(options, function(a, b) return a.value < b.value end)
    return { modules = options }
  end)
end

for verb, word in pairs { load = "Load", unload = "Unload", reload = "Reload" } do
  on_modules(word .. " modules", MODULES .. "#" .. verb, verb, "admin", host)
  on_modules("Globally " .. word:lower() .. " modules", MODULES .. "#global-" .. verb, verb, "global_admin", nil)
end

-- The server --------------------------------------------------------------------------------------------------------------------

command("Reload configuration", "http://prosody.im/protocol/config#reload", "global_admin", nil,
  function() return done(run "reload") end)

local delays = {}
for _, row in ipairs { { "5 seconds", 5 }, { "30 seconds", 30 }, { "60 seconds", 60 }, { "90 seconds", 90 }, { "2 minutes", 120 },
  { "3 minutes", 180 }, { "4 minutes", 240 }, { "5 minutes", 300 } } do
  delays[#delays + 1] = { label = row[1], value = ("%d"):format(row[2]) }
end

command("Shut Down Service", ADMIN .. "#shutdown", "global_admin", layout("Shutting Down the Service", ADMIN,
  field("list-single", "delay", "Time delay before shutting down", { options = delays, value = "5" }),
  field("text-multi", "announcement", "Announcement", { required = false })), function(fields, data)
  local delay = math.tointeger(tonumber(fields.delay))
  if not delay or delay < 0 or delay > 86400 then return failure("delay: a number of seconds, please") end
  local text = fields.announcement
  if text and text ~= "" then
    local message = st.message({ type = "headline" }, text):text_tag("subject", "Server is shutting down")
    for name, h in pairs(prosody.hosts) do
      if h.type == "local" then announce.send_to_online(message, name) end
    end
  end
  module:log("info", "%s shuts the server down in %d s", data.from, delay)
  -- not the plugin's timer: the answer should get out, and reloading the plugin should not save the server
  require "util.timer".add_task(math.max(delay, 1), function()
    prosody.shutdown(text and text ~= "" and text or "Shut down by an administrator")
  end)
  return { status = "completed", info = ("Server is about to shut down in %d seconds"):format(delay) }
end)
