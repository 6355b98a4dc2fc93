-- SPDX-License-Identifier: MIT
-- ctl/server: commands about the running server: state, modules, connections, ports, hosts, certificates, figures.

local core = require "couplet.core"
local commands = require "couplet.commands"
local counted = commands.counted
local directory = require "couplet.directory"
local json_array = require "couplet.util.json".array
local prosody = require "couplet.prosody"

local function age(seconds)
  seconds = math.floor(seconds)
  local d, h, m = seconds // 86400, seconds % 86400 // 3600, seconds % 3600 // 60
  if d > 0 then return ("%dd %dh"):format(d, h) end
  if h > 0 then return ("%dh %dm"):format(h, m) end
  if m > 0 then return ("%dm %ds"):format(m, seconds % 60) end
  return seconds .. "s"
end

local function size(bytes)
  if bytes >= 1 << 30 then return ("%.1f GiB"):format(bytes / (1 << 30)) end
  if bytes >= 1 << 20 then return ("%.1f MiB"):format(bytes / (1 << 20)) end
  return ("%d KiB"):format(bytes // 1024)
end

local function sorted_hosts(only)
  local list = {}
  for name in pairs(prosody.hosts) do
    if not only or name == only then list[#list + 1] = name end
  end
  table.sort(list)
  return list
end

-- of one host, or of all
local function sessions_of(host)
  local list = {}
  for _, session in pairs(directory.full_sessions) do
    if not host or session.host == host then list[#list + 1] = session end
  end
  table.sort(list, function(a, b) return tostring(a.full_jid) < tostring(b.full_jid) end)
  return list
end

local function no_host(host)
  if host and not prosody.hosts[host] then return "this server has no host " .. host end
end

-- --- state ---

commands.declare { name = "status", help = "is the server up, since when, with how many users and which ports",
  run = function(ctx)
    local use = core.system.usage()
    local total, users = directory.count()
    local hosts, of = {}, {}
    for _, session in pairs(directory.full_sessions) do of[session.host] = (of[session.host] or 0) + 1 end
    for _, host in ipairs(sorted_hosts()) do
      hosts[#hosts + 1] = { host = host, type = prosody.hosts[host].type, sessions = of[host] or 0 }
    end
    local ports = require "couplet.ports".open_doors()
    ctx:print("Couplet %s, process %d, up %s", prosody.version, core.system.pid(), age(os.time() - prosody.start_time))
    ctx:print("memory %s, CPU %.1f s, %s of %s online", size(use.rss), use.user + use.system,
      counted(total, "session"), counted(users, "user"))
    for _, h in ipairs(hosts) do ctx:print("host %s (%s): %s", h.host, h.type, counted(h.sessions, "session")) end
    for _, p in ipairs(ports) do ctx:print("%s on %s port %d%s", p.service, p.interface, p.port, p.tls and ", TLS" or "") end
    return true, nil, { version = prosody.version, pid = core.system.pid(), start_time = prosody.start_time, sessions = total,
      users = users, hosts = hosts, ports = ports, rss = use.rss, config = prosody.config_file }
  end }

commands.declare { name = "version", help = "versions of the server and its libraries", where = "any", bare = true,
  run = function(ctx)
    local versions = core.system.versions()
    ctx:print("Couplet %s on %s", core.version, _VERSION)
    for _, name in ipairs { "openssl", "expat", "libev", "sasl", "sqlite", "icu", "zlib" } do
      ctx:print("  %-8s %s", name, versions[name])
    end
    versions.couplet = core.version
    return true, nil, versions
  end }
commands.declare { name = "about", help = "the same as version", where = "any", bare = true,
  run = function(ctx) return commands.get("version").run(ctx) end }

commands.declare { name = "reload", help = "read configuration and certificates anew; nobody is disconnected",
  run = function()
    local ok, err = prosody.reload_config()
    if not ok then return nil, err end
    prosody.reopen_logfiles()
    return true, "configuration read anew"
  end }

commands.declare { name = "stop", args = "[REASON]", max = 20, help = "close all streams, end the server, wait until it has",
  run = function(_, ...)
    local reason = table.concat({ ... }, " ")
    prosody.shutdown(reason ~= "" and reason or "Stopped by the administrator")
    return true, "stopping"
  end }

commands.declare { name = "metrics", help = "all figures, as OpenMetrics text",
  run = function(ctx)
    ctx:print("%s", (require "couplet.metrics".render():gsub("\n$", "")))
    return true
  end }

commands.declare { name = "log reopen", help = "open log files anew, after rotation",
  run = function()
    prosody.reopen_logfiles()
    return true
  end }

-- --- modules ---

local function hosts_for(name, host)
  local plugin = require "couplet.plugin"
  if host then return { host } end
  local list = {}
  for _, h in ipairs(sorted_hosts()) do
    if plugin.is_loaded(h, name) then list[#list + 1] = h end
  end
  if #list == 0 and plugin.is_loaded("*", name) then list[1] = "*" end
  return list
end

local function refusal(name, host, err)
  err = tostring(err)
  local where = host == "*" and "globally" or "on " .. host
  if err == "module-not-loaded" then return ("module %s is not loaded %s"):format(name, where) end
  local hint = err:find("^no mod_") and " (plugins from elsewhere: their directory belongs in plugin_paths)" or ""
  return ("%s %s: %s%s"):format(name, where, err, hint)
end

local function each(name, host, verb, action)
  if host and host ~= "*" and no_host(host) then return nil, no_host(host) end
  local list = hosts_for(name, host)
  if #list == 0 then
    return nil, ("module %s is loaded on no host (hosts: %s)"):format(name, table.concat(sorted_hosts(), ", "))
  end
  local done = {}
  for _, h in ipairs(list) do
    local ok, err = action(h, name)
    if not ok then return nil, refusal(name, h, err) end
    done[#done + 1] = h
  end
  return true, ("%s: %sed on %s"):format(name, verb, table.concat(done, ", "))
end

commands.declare { name = "module load", args = "NAME [HOST]",
  help = "load a plugin (on every host that takes users, if none is named)", min = 1, max = 2,
  run = function(_, name, host)
    local plugin = require "couplet.plugin"
    if not host then
      local list = {}
      for _, h in ipairs(sorted_hosts()) do
        if prosody.hosts[h].type == "local" and not plugin.is_loaded(h, name) then list[#list + 1] = h end
      end
      if #list == 0 then return nil, ("module %s is loaded everywhere already"):format(name) end
      for _, h in ipairs(list) do
        local ok, err = plugin.load(h, name)
        if not ok then return nil, refusal(name, h, err) end
      end
      return true, ("%s: loaded on %s"):format(name, table.concat(list, ", "))
    end
    return each(name, host, "load", plugin.load)
  end }
commands.declare { name = "module unload", args = "NAME [HOST]", help = "unload a plugin", min = 1, max = 2,
  run = function(_, name, host) return each(name, host, "unload", require "couplet.plugin".unload) end }
commands.declare { name = "module reload", args = "NAME [HOST]", help = "load a plugin anew, state handed over", min = 1, max = 2,
  run = function(_, name, host) return each(name, host, "reload", require "couplet.plugin".reload) end }

commands.declare { name = "module list", args = "[HOST]", help = "loaded plugins", max = 1,
  run = function(ctx, host)
    if host and host ~= "*" and no_host(host) then return nil, no_host(host) end
    local data = {}
    local list = host and { host } or sorted_hosts()
    if not host then table.insert(list, 1, "*") end
    for _, h in ipairs(list) do
      local names = json_array()
      for name in pairs(require "couplet.plugin".get_modules(h) or {}) do names[#names + 1] = name end
      table.sort(names)
      if #names > 0 or host then ctx:print("%s: %s", h == "*" and "everywhere" or h, table.concat(names, " ")) end
      data[h] = names
    end
    return true, nil, data
  end }

-- --- client connections ---

local function describe(session)
  local conn = session.net
  local tls = conn and conn:tls()
  return {
    jid = session.full_jid, id = session.id, ip = session.ip, secure = session.secure and true or false,
    tls = tls and tls.version, priority = session.priority, since = session.conntime or session.since,
  }
end

commands.declare { name = "c2s list", args = "[HOST|JID]", help = "connected clients", max = 1,
  run = function(ctx, what)
    local node, host = nil, what
    if what and what:find("@", 1, true) then node, host = require "couplet.jid".prepped_split(what) end
    if no_host(host) then return nil, no_host(host) end
    local data = json_array()
    for _, session in ipairs(sessions_of(host)) do
      if not node or session.username == node then
        local d = describe(session)
        data[#data + 1] = d
        ctx:print("%-40s %-22s %s%s", tostring(d.jid), tostring(d.ip or "?"), d.tls or (d.secure and "TLS" or "in the clear"),
          d.priority and ", priority " .. d.priority or "")
      end
    end
    return true, counted(#data, "client"), data
  end }

commands.declare { name = "c2s close", args = "JID|HOST|all [REASON]",
  help = "disconnect clients: one, those of an account or host, or all", min = 1, max = 20,
  run = function(_, what, ...)
    local reason = table.concat({ ... }, " ")
    local node, host, resource
    if what ~= "all" then
      node, host, resource = require "couplet.jid".prepped_split(what)
      if not host then return nil, what .. " is no address" end
      if no_host(host) then return nil, no_host(host) end
    end
    local n = 0
    for _, session in ipairs(sessions_of(host)) do
      if (not node or session.username == node) and (not resource or session.resource == resource) then
        session:close { condition = "policy-violation", text = reason ~= "" and reason or "Disconnected by the administrator" }
        n = n + 1
      end
    end
    if n == 0 and what ~= "all" then return nil, "nobody is connected as " .. what end
    return true, counted(n, "client") .. " disconnected"
  end }

-- --- other servers ---

-- Pairs of domains a session carries stanzas of, in either direction, besides the one it was made for.
local function further_pairs(session, here, remote)
  local seen, list = { [here .. " " .. remote] = true }, json_array()
  local function add(h, r)
    if seen[h .. " " .. r] then return end
    seen[h .. " " .. r] = true
    list[#list + 1] = { host = h, remote = r }
  end
  for domain, known in pairs(session.hosts or {}) do
    for h in pairs(known.authed and known.locals or {}) do add(h, domain) end
  end
  for _, l in ipairs(require "couplet.s2s_link".of(session)) do add(l.here, l.remote) end
  return list
end

-- Those of one host of ours, or with one domain; "all".
local function s2s_sessions(what)
  local list = {}
  for session in require "couplet.s2s".each() do
    local incoming = session.direction == "incoming"
    local here, remote = incoming and session.to_host or session.from_host, incoming and session.from_host or session.to_host
    here, remote = here or "?", remote or "?"
    local others = further_pairs(session, here, remote)
    local meant = not what or what == "all" or what == here or what == remote
    for _, pair in ipairs(others) do meant = meant or what == pair.host or what == pair.remote end
    if meant then
      list[#list + 1] = { session = session, here = here, remote = remote, incoming = incoming, ip = session.ip, others = others,
        both_ways = session.authenticated_remote and session[incoming and "outgoing" or "incoming"] or false,
        state = session.authenticated_remote and session.mechanism or session.destroyed and "ended" or "not proved",
        secure = session.secure or false, waiting = session.sendq and session.sendq.last - session.sendq.first + 1 or 0 }
    end
  end
  table.sort(list, function(a, b)
    if a.here ~= b.here then return a.here < b.here end
    if a.remote ~= b.remote then return a.remote < b.remote end
    return a.session.id < b.session.id
  end)
  return list
end

commands.declare { name = "s2s list", args = "[DOMAIN]", help = "connections with other servers; <> is one for both directions",
  max = 1,
  run = function(ctx, what)
    local data = json_array()
    for _, entry in ipairs(s2s_sessions(what)) do
      local tls = entry.secure and entry.session.net and entry.session.net:tls()
      ctx:print("%-24s %s %-24s %-22s %-10s %s%s", entry.here, entry.both_ways and "<>" or entry.incoming and "<-" or "->",
        entry.remote, entry.ip or "connecting", entry.state, tls and tls.version .. " " .. tls.cipher or "in the clear",
        entry.waiting > 0 and (", %s"):format(counted(entry.waiting, "stanza waits", "stanzas wait")) or "")
      for _, pair in ipairs(entry.others) do ctx:print("  carries %s, %s as well", pair.host, pair.remote) end
      data[#data + 1] = { host = entry.here, remote = entry.remote, direction = entry.session.direction, ip = entry.ip,
        both_ways = entry.both_ways, proved_by = entry.state, tls = tls and tls.version, waiting = entry.waiting,
        further = entry.others }
    end
    return true, counted(#data, "connection"), data
  end }

commands.declare { name = "s2s close", args = "DOMAIN|all", min = 1,
  help = "close the connections with a server, or of a host, or all; the next attempt is made at once",
  run = function(_, what)
    local list, link = s2s_sessions(what), require "couplet.s2s_link"
    if what == "all" or prosody.hosts[what] then
      link.forget_failures()
    else
      for host in pairs(prosody.hosts) do link.forget_failures(host, what) end
    end
    for _, entry in ipairs(list) do entry.session:close(nil, "closed by the administrator") end
    return true, counted(#list, "connection") .. " closed"
  end }

-- --- hosts and ports ---

commands.declare { name = "host list", help = "hosts, with their kind",
  run = function(ctx)
    local data = json_array()
    for _, name in ipairs(sorted_hosts()) do
      local h = prosody.hosts[name]
      ctx:print("%s (%s)", name, h.type == "component" and "component " .. tostring(h.component_module or "") or h.type)
      data[#data + 1] = { host = name, type = h.type }
    end
    return true, nil, data
  end }
commands.declare { name = "host activate", args = "HOST", help = "start serving a configured host", min = 1,
  run = function(_, name)
    if not require "couplet.config".kind(name) then
      return nil, ("the configuration has no host %s; with one, `coupletctl reload` serves it"):format(name)
    end
    local ok, err = require "couplet.hosts".activate(name)
    if not ok then return nil, err end
    return true, name .. " is served"
  end }
commands.declare { name = "host deactivate", args = "HOST [REASON]", help = "stop serving a host, until the next start", min = 1,
  max = 20, run = function(_, name)
    local ok, err = require "couplet.hosts".deactivate(name)
    if not ok then return nil, err end
    return true, name .. " is no longer served"
  end }

commands.declare { name = "port list", help = "listening ports",
  run = function(ctx)
    local list = json_array(require "couplet.ports".open_doors())
    for _, p in ipairs(list) do ctx:print("%-18s %-24s %5d%s", p.service, p.interface, p.port, p.tls and " TLS" or "") end
    return true, nil, list
  end }

commands.declare { name = "cert list", help = "certificates of the hosts, and what is wrong with them", where = "any",
  bare = true,
  run = function(ctx)
    local list = json_array(require "couplet.certs".report())
    for _, e in ipairs(list) do
      ctx:print("%s: %s%s%s", e.host, e.certificate or "none",
        e.notafter and ", until " .. os.date("!%Y-%m-%d", e.notafter) or "",
        e.problem and " (" .. e.problem .. ")" or e.self_made and " (self-made)" or "")
    end
    return true, nil, list
  end }
