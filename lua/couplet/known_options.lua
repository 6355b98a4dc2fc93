-- SPDX-License-Identifier: MIT
-- known_options: options of the server itself, for `coupletctl check config` and docs/config.md. Plugins declare their own.
--
-- name -> { type, default, text }. Types: string boolean integer number period path list map any; "x|y" takes either.
-- default: as it would be written. host = true: may stand below a host. Options with `none` are known from Prosody and have no
-- effect: text says why.
--
--   known.find(name) -> option | nil        known.absent(name) -> the plugin of Prosody's it is for, which is not here | nil
--   known.instead[plugin of Prosody's or its community's] -> why it is not needed

local options = {
  -- process
  user = { "string", nil, "give root up and become this user after start; without it the owner of data_path, if that is not "
    .. "root" },
  group = { "string", nil, "and this group" },
  prosody_user = { "string", nil, "the same as user" },
  prosody_group = { "string", nil, "the same as group" },
  couplet_user = { "string", nil, "the same as user" },
  couplet_group = { "string", nil, "the same as group" },
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
  debug = { "boolean", "false", "log from debug upwards where `log` names no level" },
  syslog_facility = { "string", '"daemon"', "facility of lines that go to syslog" },
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
  use_ipv4 = { "boolean", "true", "listen at and connect to IPv4 addresses, unless an option names some" },
  use_ipv6 = { "boolean", "true", "the same for IPv6" },
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
  authentication = { "string", '"internal_hashed"',
    "plugin mod_auth_X that knows the accounts; internal_plain: the same as internal_hashed", host = true },
  anonymous_login = { "boolean", "false", "the same as authentication = \"anonymous\"", host = true },
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

-- Words of Prosody without a meaning here, by why that is: `coupletctl check config` notes them.
local pointless = {
  ["the service manager keeps the server running"] = { "daemonize", "prosodyctl_service_warnings", "prosodyctl_timeout" },
  ["connections are served by threads of the server's own (io_threads)"] = { "use_libevent", "network_backend",
    "network_settings", "network_default_read_size" },
  ["TCP keep-alive is always on"] = { "tcp_keepalives", "c2s_tcp_keepalives", "s2s_tcp_keepalives", "component_tcp_keepalives" },
  ["streams have five seconds to close"] = { "c2s_close_timeout", "s2s_close_timeout" },
  ["the parser bounds what a stanza costs"] = { "c2s_max_child_elements", "s2s_max_child_elements" },
  ["bandwidth is counted by the byte"] = { "limits_resolution" },
  ["`dns` says how names are looked up"] = { "unbound", "dns_timeout", "proxy_dns" },
  ["figures are always kept: `coupletctl metrics`"] = { "statistics_interval", "statistics_config" },
  ["`coupletctl reload` and `coupletctl module reload` do that"] = { "reload_global_modules", "reload_modules",
    "force_module_reload" },
  ["the limit of open files is raised to what the system allows"] = { "rlimit_nofile", "unlimited_open_files" },
  ["`user` and `group` do that"] = { "setuid", "setgid" },
  ["`coupletctl` is the console"] = { "admin_socket", "admin_shell_prompt", "console_banner", "plugin_server",
    "external_addresses", "connectivity_probe", "default_provisioned_role", "console_prettyprint_settings" },
  ["signals are always handled"] = { "trap_signals" },
  ["`certificates` does that"] = { "certs" },
  ["TLS never compresses"] = { "ssl_compression" },
  ["`authorization` does that"] = { "authz" },
  ["certificates of other web servers are checked against the system's authorities"] = { "client_https_ssl" },
  ["`c2s_direct_tls_ssl` does that"] = { "legacy_ssl_ssl" },
  ["`c2s_direct_tls_ports` does that"] = { "ssl_ports" },
  ["the store is arranged otherwise and needs no such help"] = { "new_muc_storage_format", "muc_log_cleanup_date_cache_size",
    "archive_cleanup_date_cache_size", "storage_archive_item_limit_cache_size", "storage_archive_experimental_fast_delete",
    "storage_async_check", "sql_manage_tables", "sqlite_tune", "pep_info_cache_size", "vcard_store_name" },
  ["plugin storage_memory keeps what it has until the server stops"] = { "storage_memory_temporary",
    "storage_memory_temporary_stores" },
  ["privacy lists are not read"] = { "migrate_legacy_blocking" },
  ["bookmarks are always moved"] = { "upgrade_legacy_bookmarks" },
  ["administrators own all nodes"] = { "default_admin_affiliation" },
  ["texts for notifications are made by plugins"] = { "pubsub_summary_templates" },
  ["who asks is told the nickname alone"] = { "muc_registration_include_form" },
  ["what a server cannot be sent any more goes back with an error"] = { "smacks_s2s_resend" },
  ["the system is asked, no command"] = { "os_version_command" },
  ["both ways of changing a password are understood"] = { "registration_compat" },
  ["tasks run when they are due"] = { "cron_check_delay", "cron_initial_delay", "cron_spread_factor" },
  ["errors are objects of one kind"] = { "error_library", "strict_deprecate_is_admin" },
  ["this server does not listen for HTTP yet"] = { "trusted_proxies", "http_host", "http_default_host", "http_external_url",
    "http_paths", "http_ports", "http_interfaces", "https_ports", "https_interfaces", "http_ssl", "https_ssl",
    "http_max_buffer_size", "http_max_content_size", "http_dir_listing", "http_files_cache_max_file_size",
    "http_files_cache_size", "http_legacy_x_forwarded", "http_default_cors_enabled", "http_cors_override", "mime_types_file",
    "access_control_allow_credentials", "access_control_allow_headers", "access_control_allow_methods",
    "access_control_allow_origins", "access_control_max_age", "advertise_bosh", "advertise_websocket", "cross_domain_bosh",
    "consider_bosh_secure", "cross_domain_websocket", "consider_websocket_secure", "max_inactivity" },
  ["it belonged to other software"] = { "openfire_private_key" },
}
for why, names in pairs(pointless) do
  for _, name in ipairs(names) do options[name] = { "any", nil, why, none = true, host = true } end
end

-- Options of Prosody's plugins that are not here, by how they begin.
local absent = {
  { "bosh_", "bosh" }, { "websocket_", "websocket" }, { "http_file_share_", "http_file_share" },
  { "http_upload_external_", "http_upload_external" }, { "http_upload_", "http_upload" }, { "register_web_", "register_web" },
  { "http_errors_", "http_errors" }, { "openmetrics_", "http_openmetrics" },
  { "proxy65_", "proxy65" }, { "turn_external_", "turn_external" }, { "external_service", "external_services" },
  { "invite", "invites" }, { "registration_invite_only", "invites_register" }, { "allow_contact_invites", "invites_adhoc" },
  { "allow_user_invites", "invites_adhoc" }, { "ldap_", "auth_ldap" }, { "groups_file", "groups" },
  { "tokenless_grant_ttl", "tokenauth" }, { "token_auth_", "tokenauth" }, { "tombstone_cache_size", "tombstones" },
  { "user_tombstone_", "tombstones" }, { "multiplex_buffer_size", "net_multiplex" },
}

local instead = {
  admin_shell = "`coupletctl` is the console", admin_socket = "`coupletctl` is the console",
  admin_telnet = "`coupletctl` is the console",
  statistics = "figures are always kept: `coupletctl metrics`",
  legacyauth = "it sends passwords outside SASL",
  vcard_muc = "rooms have cards and pictures (option `muc_vcard`)",
  omemo_all_access = "everybody may read OMEMO's keys from the start",
  smacks_offline = "what was not acknowledged goes to the offline store",
  offline_hints = "`offline` heeds them",
  log_auth = "who fails to log in is in the log, with his address",
  s2s_keepalive = "silent streams are looked after (option `s2s_keepalive`)",
}

local known = { options = options, instead = instead }

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

function known.absent(name)
  for _, row in ipairs(absent) do
    if name:sub(1, #row[1]) == row[1] then return row[2] end
  end
end

return known
