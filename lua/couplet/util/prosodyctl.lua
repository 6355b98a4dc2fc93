-- SPDX-License-Identifier: MIT
-- util.prosodyctl: what commands of plugins (module.command) say to a person.
--
--   show_message show_warning (fmt, …)   show_usage(usage, description)   show_module_configuration_help(name)
--   isrunning() -> true, bool            getpid() -> true, pid | false, reason
--   getchar getline getpass show_yesno read_password show_prompt
--   user_exists create_user (…) passwd deluser: { user =, host =, password = } -> true | false, reason

local human = require "couplet.util.human.io"
local config = require "couplet.config"
local system = require "couplet.core".system

local ctl = {
  show_message = human.show_message, show_warning = human.show_warning, show_yesno = human.show_yesno,
  show_prompt = human.show_prompt, read_password = human.read_password,
}

function ctl.show_usage(usage, description)
  print("Usage: " .. (require "couplet.prosody".arg.name or "coupletctl") .. " " .. usage)
  if description then print(" " .. description) end
end

function ctl.show_module_configuration_help(name)
  print("Plugin " .. name .. " must be enabled in the configuration (modules_enabled)")
end

function ctl.getline() return io.read "l" end
function ctl.getchar(n) return io.read(n or 1) end
function ctl.getpass() return human.read_password() end

function ctl.getpid()
  local file = config.get("*", "pidfile")
  local text = file and system.read_file(config.path(file, config.data_path()))
    or system.read_file(config.data_path() .. "/couplet.pid")
  local pid = text and math.tointeger(tonumber(text:match "^%s*(%d+)"))
  if not pid then return false, "no-pid" end
  return true, pid
end

function ctl.isrunning()
  local ok, pid = ctl.getpid()
  return true, ok and system.kill(pid, 0) and true or false
end

local function users() return require "couplet.users" end

function ctl.user_exists(o) return users().user_exists(o.user, o.host) end

local function outcome(ok, err)
  if ok then return true end
  return false, err
end

function ctl.adduser(o)
  if ctl.user_exists(o) then return outcome(users().set_password(o.user, o.password, o.host)) end
  return outcome(users().create_user(o.user, o.password, o.host))
end
ctl.create_user = ctl.adduser
function ctl.passwd(o) return outcome(users().set_password(o.user, o.password, o.host)) end
function ctl.deluser(o) return outcome(users().delete_user(o.user, o.host)) end

return ctl
