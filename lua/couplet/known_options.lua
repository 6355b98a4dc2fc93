-- SPDX-License-Identifier: MIT
-- known_options: options of the server itself, for `coupletctl check config` and docs/config.md. Plugins declare their own.
--
-- name -> { type, default, text }. Types: string boolean integer number period path list map any; "x|y" takes either.
-- default: as it would be written. host = true: may stand below a host. Options with `none` are known from Prosody and have no
-- effect.

local options = {
  -- process
  user = { "string", nil, "give root up and become this user after start; without it the owner of data_path, if that is not "
    .. "root" },
  group = { "string", nil, "and this group" },
  run_as_root = { "boolean", "false", "allow to run as root" },
  umask = { "string|integer", '"027"', "octal; rights that new files do not have" },
  pidfile = { "path", nil, "write the process id here as well; relative to data_path" },
  data_path = { "path", '"data"', "database, control socket, pid file; without the option /var/lib/couplet for a file below "
    .. "/etc (/var/lib/prosody for one in /etc/prosody)" },
  control_socket = { "path", '"couplet.sock"', "where coupletctl reaches the server; relative to data_path" },
  io_threads = { "integer", nil, "threads for connections; 0: none of their own. Default: cores - 1, at most 4" },
  max_connections = { "integer", nil, "how many connections are accepted at a time" },
  gc = { "map", '{ mode = "incremental" }', "Lua's collector: mode, pause, speed, step_size" },
  log = { "map|string", '{ info = "*console" }', "where log lines go: level = file, or \"*console\", \"*syslog\"" },
  -- plugins
  plugin_paths = { "list", "{ }", "directories with plugins from elsewhere" },
  installer_plugin_path = { "path", '"custom_plugins"', "one more such directory, below data_path" },
  modules_enabled = { "list", "{ }", "plugins; a host's own list adds to the global one", host = true },
  modules_disabled = { "list", "{ }", "plugins that are not loaded, those that always are included", host = true },
  component_module = { "string", nil, "plugin of a component; Component \"name\" \"plugin\" sets it", host = true },
  plugin_slow_ms = { "number", "100", "log handlers that keep the server longer than this" },
  plugin_abort_ms = { "number", "5000", "end handlers that take longer than this; 0: never" },
  plugin_error_policy = { "string", nil, "\"unload\": plugins that fail again and again are unloaded" },
  plugin_error_limit = { "integer", "100", "errors a minute for that" },
  -- hosts and people
  enabled = { "boolean", "true", "serve this host", host = true },
  defined = { "boolean", nil, "set by VirtualHost", host = true },
  admins = { "list", "{ }", "accounts that may administer: all of the server, or their host", host = true },
  name = { "string", nil, "a name for people", host = true },
  -- ports
  interfaces = { "list", '{ "*", "::" }', "addresses to listen on" },
  interface = { "list", nil, "the same, for one" },
  local_interfaces = { "list", '{ "127.0.0.1", "::1" }', "addresses for services that are nobody else's business" },
  c2s_ports = { "list", "{ 5222 }", "ports for clients, with STARTTLS" },
  c2s_interfaces = { "list", nil, "their addresses" },
  c2s_ssl = { "map", nil, "what overrides ssl for clients", host = true },
  c2s_direct_tls_ports = { "list", "{ 5223 }", "ports for clients, TLS from the first byte" },
  c2s_direct_tls_interfaces = { "list", nil, "their addresses" },
  s2s_ports = { "list", "{ 5269 }", "ports for other servers, with STARTTLS" },
  s2s_interfaces = { "list", nil, "their addresses" },
  s2s_ssl = { "map", nil, "what overrides ssl for other servers", host = true },
  s2s_direct_tls_ports = { "list", "{ 5270 }", "ports for other servers, TLS from the first byte" },
  s2s_direct_tls_interfaces = { "list", nil, "their addresses" },
  conflict_resolve = { "string", '"kick_old"',
    "a resource is wished twice: \"kick_old\", \"kick_new\", \"random\" or \"increment\"", host = true },
  max_sessions_per_user = { "integer", "100", "resources one account may have bound at a time", host = true },
  legacy_ssl_ports = { "list", nil, "older name of c2s_direct_tls_ports" },
  limits = { "map", "{ }", "c2s = { rate = \"10kb/s\", burst = \"2s\" }: bandwidth of one connection" },
  limits_resolution = { "number", nil, "", none = true },
  migrate_legacy_blocking = { "boolean", nil, "", none = true },
  dns = { "map", nil, "servers = { \"192.0.2.1\" } instead of the system's; timeout: seconds for one look-up; trust_anchor: "
    .. "file, or false: no DNSSEC; options: libunbound's" },
  -- certificates
  certificates = { "path", '"certs"', "directory of certificates, searched by file name and by the names inside" },
  certificate = { "path|map", nil, "file of a host's certificate (chain), relative to `certificates`", host = true },
  key = { "path", nil, "its key, if it does not lie beside it", host = true },
  ssl = { "map", "{ }", "certificate, key, password, protocol, ciphers, ciphersuites, curve, dhparam, cafile, capath, "
    .. "crlfile (lists of revoked certificates), verify", host = true },
  tls_profile = { "string", '"intermediate"', "modern, intermediate or old", host = true },
  self_signed = { "boolean", nil, "make a certificate of our own if there is none; localhost: true", host = true },
  -- accounts and storage
  authentication = { "string", '"internal_hashed"', "plugin mod_auth_X that knows the accounts", host = true },
  authorization = { "string", '"internal"', "plugin mod_authz_X that knows roles", host = true },
  storage = { "string|map", nil, "plugin mod_storage_X, or one for each store: { archive = \"x\" }", host = true },
  default_storage = { "string", nil, "what storage does not name", host = true },
  sql = { "map", nil, "database settings of SQL drivers", host = true },
  default_user_role = { "string", '"prosody:registered"', "role of accounts without another", host = true },
  custom_roles = { "list", "{ }", "roles of your own", host = true },
  add_permissions = { "map", nil, "what a role may as well", host = true },
  remove_permissions = { "map", nil, "what a role may not", host = true },
  parent_host = { "string", nil, "the host a component belongs to", host = true },
  host_user_role = { "string", nil, "role of the parent host's users on a component", host = true },
  server_user_role = { "string", nil, "role of this server's users on a component", host = true },
  public_user_role = { "string", nil, "role of everybody else on a component", host = true },
  component_secret = { "string", nil, "password of an external component", host = true },
  component_ports = { "list", "{ 5347 }", "ports for external components" },
  component_interfaces = { "list", '{ "127.0.0.1", "::1" }', "their addresses" },
  component_interface = { "list", nil, "the same, for one" },
  dialback_secret = { "string", nil, "secret of server dialback keys", host = true },
  archive_expires_after = { "period", '"1w"', "how long archives are kept", host = true },
  contact_info = { "map", "{ }", "addresses of the people behind a server", host = true },
  disco_items = { "list", "{ }", "services to name to clients", host = true },
  statistics = { "string|boolean", nil, "figures are always kept; `coupletctl metrics` shows them" },
}

-- Words of Prosody without a meaning here: accepted in silence.
for _, name in ipairs {
  "daemonize", "use_libevent", "network_backend", "network_settings", "use_ipv4", "use_ipv6", "statistics_interval",
  "statistics_config",
  "prosody_user", "prosody_group", "couplet_user", "couplet_group", "proxy_dns", "tcp_keepalives", "unbound", "dns_timeout",
  "reload_global_modules", "reload_modules", "rlimit_nofile", "unlimited_open_files", "cross_domain_bosh", "consider_bosh_secure",
  "storage_archive_item_limit", "authz", "new_muc_storage_format", "muc_registration_include_form",
  "muc_log_cleanup_date_cache_size",
  "trusted_proxies", "http_host", "http_default_host", "http_external_url", "http_paths", "certs", "setuid", "setgid",
  "max_inactivity", "trap_signals", "openfire_private_key", "legacy_ssl_ssl",
} do
  options[name] = options[name] or { "any", nil, "", none = true, host = true }
end

local known = { options = options }

-- Options of services: WORD_ports and so on.
local suffixes = {
  ports = "list", port = "list", interfaces = "list", interface = "list", ssl = "map", private = "boolean",
}
known.suffixes = suffixes

function known.find(name)
  if options[name] then return options[name] end
  local word, suffix = name:match("^([%w_]+)_(%a+)$")
  if word and suffixes[suffix] then return { suffixes[suffix], nil, "of the service " .. word } end
end

return known
