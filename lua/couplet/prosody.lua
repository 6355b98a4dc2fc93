-- SPDX-License-Identifier: MIT
-- prosody.lua: the table plugins know as `prosody` (alias `couplet`): the server, its hosts and sessions. PLUGIN-API §5.
-- Each field is filled in by the module that knows it: hosts by couplet.hosts, sessions by couplet.sessions, config_file,
-- paths, reload_config, shutdown … by couplet.init, core_* by couplet.router.

local directory = require "couplet.directory"
local events = require "couplet.events"

local prosody = {
  hosts = {},
  full_sessions = directory.full_sessions,
  bare_sessions = directory.bare_sessions,
  events = events.new(),
  platform = "posix",
  version = "scm",
  process_type = "prosody",
  start_time = os.time(),
  paths = { source = ".", config = ".", plugins = ".", data = ".", certs = "certs" },
  arg = {},
  opts = {},
  installed = false,
  is_started = false,           -- true from server-started on
  features = require "couplet.features".available,
  log = require "couplet.logger".init "general",
}

prosody.incoming_s2s = require "couplet.util.set".new()._items

local resolve
prosody.started = require "couplet.promise".new(function(ok) resolve = ok end)
prosody.events.add_handler("server-started", function()
  prosody.is_started = true
  resolve()
end, 2 ^ 32)

function prosody.lock_globals() end
function prosody.unlock_globals() end

return prosody
