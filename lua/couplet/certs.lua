-- SPDX-License-Identifier: MIT
-- certs: which certificate a host has, and the TLS contexts made of them (known to plugins as core.certmanager).
--
--   certs.context(host, service?) -> context | nil, message     for STARTTLS; made once, anew after a reload
--   certs.client_context(host, tlsa?) -> context | nil, message     for connections to other servers; tlsa: records of DANE
--   certs.direct(service) -> context | nil, message             for ports that start with TLS: picks the host by SNI
--   certs.same_authorities(host, other, service) -> bool        do both trust the same? "*": who names no host
--   certs.authorities_file(host) -> path | nil                  its cafile, if the configuration names one
--   certs.create_context(host, mode, …) -> context, message, settings    made anew; further tables override settings
--   certs.find_host_cert(host) -> { certificate =, key = } | nil
--   certs.generate(host, days?) -> { certificate =, key = } | nil, message     self-made, into the certificates directory
--   certs.start()              from now on every activated host gets its ssl_ctx
--   certs.reload()             reads everything anew; connections keep what they have
--   certs.report() -> array of { host =, certificate =, notafter =, names =, self_made =, problem =, missing = a file that the
--     configuration names is not there, place = "file:line" }
--   certs.trouble(host, service) -> text, "file:line" | nil        why it has no TLS there
--
-- Where a certificate is found, in this order: option `certificate` (and `key`), `ssl = { certificate =, key = }`, and in the
-- directory `certificates`: HOST.crt + HOST.key, HOST.pem + HOST.key, HOST/fullchain.pem + HOST/privkey.pem, any file there that
-- names the host or has a wildcard for it, and the same for the parent domain. localhost and hosts with `self_signed = true` get
-- one of our own.

local core = require "couplet.core"
local config = require "couplet.config"
local log = require "couplet.log".new "certs"
local prosody = require "couplet.prosody"
local system = core.system

local certs = {}

local WARN_DAYS = 14

-- --- policies (Mozilla's recommendations, version 5.7) ---

local intermediate = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
  .. "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
  .. "DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:DHE-RSA-CHACHA20-POLY1305"

local profiles = {
  modern = { min_version = "TLSv1.3" },
  intermediate = { min_version = "TLSv1.2", ciphers = intermediate },
  old = { min_version = "TLSv1", ciphers = intermediate
    .. ":ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256:ECDHE-ECDSA-AES128-SHA:"
    .. "ECDHE-RSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384:ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA:"
    .. "DHE-RSA-AES128-SHA256:DHE-RSA-AES256-SHA256:AES128-GCM-SHA256:AES256-GCM-SHA384:AES128-SHA256:AES256-SHA256:AES128-SHA:"
    .. "AES256-SHA:@SECLEVEL=0" },
}
profiles.legacy = profiles.old

-- LuaSec's way to write versions, as existing files have it
local protocols = { tlsv1 = "TLSv1", tlsv1_1 = "TLSv1.1", tlsv1_2 = "TLSv1.2", tlsv1_3 = "TLSv1.3", sslv23 = "TLSv1" }

local function text_list(value, separator)
  return type(value) == "table" and table.concat(value, separator) or value
end

-- Our settings out of an `ssl` table.
local function understand(into, ssl, base)
  if type(ssl) ~= "table" then return into end
  local function path(value) return type(value) == "string" and config.path(value, base) or value end
  if ssl.certificate then into.certificate, into.key = path(ssl.certificate), path(ssl.key or ssl.certificate) end
  if ssl.key then into.key = path(ssl.key) end
  if type(ssl.protocol) == "string" then
    local name, plus = ssl.protocol:lower():match("^([%w_]-)(%+?)$")
    if protocols[name] then
      into.min_version = protocols[name]
      if plus == "" and name ~= "sslv23" then into.max_version = protocols[name] end
    end
  end
  into.ciphers = text_list(ssl.ciphers, ":") or into.ciphers
  into.ciphersuites = text_list(ssl.ciphersuites, ":") or into.ciphersuites
  into.curves = text_list(ssl.curveslist or ssl.curve, ":") or into.curves
  into.ca_file, into.ca_path = path(ssl.cafile) or into.ca_file, path(ssl.capath) or into.ca_path
  into.crl_file = path(ssl.crlfile) or into.crl_file
  into.password = ssl.password or into.password
  into.dh = type(ssl.dhparam) == "string" and path(ssl.dhparam) or into.dh
  if ssl.tickets ~= nil then into.tickets = ssl.tickets end
  local verify = ssl.verify
  if verify ~= nil then
    local set = {}
    for _, v in ipairs(type(verify) == "table" and verify or { verify }) do set[v] = true end
    into.verify = set.fail_if_no_peer_cert and "require" or set.peer and "request" or "none"
  end
  return into
end

-- --- finding certificates ---

function certs.directory()
  return config.path(tostring(config.get("*", "certificates") or "certs"))
end

local function readable(path)
  local stat = system.stat(path)
  return stat and stat.type == "file"
end

local function pair(certificate, key)
  return readable(certificate) and readable(key) and { certificate = certificate, key = key } or nil
end

-- What lies at a path: a file with a key beside it, or a directory as Let's Encrypt's tools make them.
local function at(path)
  local stat = system.stat(path)
  if stat and stat.type == "directory" then
    return pair(path .. "/fullchain.pem", path .. "/privkey.pem") or pair(path .. "/fullchain.cer", path .. "/privkey.key")
      or pair(path .. "/cert.pem", path .. "/key.pem")
  end
  if stat then
    for ending, key in pairs { ["%.[^./]+$"] = ".key", ["fullchain%.pem$"] = "privkey.pem", ["cert%.pem$"] = "key.pem" } do
      local other, n = path:gsub(ending, key)
      if n > 0 and other ~= path and pair(path, other) then return pair(path, other) end
    end
    local text = system.read_file(path, 1 << 18)
    return text and text:find("PRIVATE KEY-----", 1, true) and pair(path, path) or nil       -- both in one file
  end
  return pair(path .. ".crt", path .. ".key") or pair(path .. ".pem", path .. ".key")
end

local function parse(path)
  local text = system.read_file(path, 1 << 18)
  if not text or not text:find("-----BEGIN CERTIFICATE-----", 1, true) then return nil end
  return core.crypto.x509_parse(text)
end

local function names_of(x)
  local names = {}
  for _, list in ipairs { x.dns_names, x.xmpp_addrs } do
    for _, name in ipairs(list) do names[#names + 1] = name:lower() end
  end
  for _, name in ipairs(x.srv_names) do names[#names + 1] = name:gsub("^_[^.]*%.", ""):lower() end
  if #names == 0 then for _, name in ipairs(x.common_names) do names[#names + 1] = name:lower() end end
  return names
end

local index                              -- directory -> { name -> { certificate, key, notafter } }

local function look(found, path, depth)
  for _, entry in ipairs(system.list(path) or {}) do
    local full = path .. "/" .. entry
    local stat = entry:sub(1, 1) ~= "." and system.stat(full)
    if stat and stat.type == "directory" and depth < 2 then
      look(found, full, depth + 1)
    elseif stat and stat.type == "file" and stat.size < 1 << 18
      and (entry:find("%.crt$") or entry:find("%.cer$") or entry == "fullchain.pem"
        or entry:find("%.pem$") and not entry:find("key")) then
      local here = at(full)
      local x = here and parse(full)
      if x then
        for _, name in ipairs(names_of(x)) do
          if not found[name] or found[name].notafter < x.notafter then
            found[name] = { certificate = here.certificate, key = here.key, notafter = x.notafter }
          end
        end
      end
    end
  end
  return found
end

local function indexed(directory, host)
  index = index or {}
  index[directory] = index[directory] or look({}, directory, 0)
  local entry = index[directory][host] or index[directory]["*" .. (host:match("^[^.]*(%..*)$") or "")]
  return entry and { certificate = entry.certificate, key = entry.key }
end

function certs.find_host_cert(host)
  local directory = certs.directory()
  local name = host
  while name do
    local found = at(directory .. "/" .. name) or indexed(directory, name)
    if found then return found end
    name = name:match("^[^.]+%.([^.]+%..+)$")           -- the parent, but not a top-level domain
  end
end

function certs.find_service_cert(service, port)
  local directory = certs.directory()
  return at(directory .. "/" .. service .. "_" .. tostring(port)) or at(directory .. "/" .. service)
end

local function wants_own(host)
  return config.get(host, "self_signed") == true
    or config.get(host, "self_signed") == nil and (host == "localhost" or host:match("%.localhost$") ~= nil)
end

-- Who must be able to read what root makes here (coupletctl does): the server's user, by name or as the owner of its data.
local function server_user()
  if system.uid() ~= 0 then return nil end
  local user = config.get("*", "user") or config.get("*", "couplet_user") or config.get("*", "prosody_user")
  if user then return system.user(user) end
  local data = system.stat(config.data_path())
  return data and data.uid ~= 0 and system.user(data.uid) or nil
end

function certs.generate(host, days)
  local directory = certs.directory()
  local who = server_user()
  if not system.stat(directory) then
    local ok, err = system.mkdir(directory, 0x1e8)          -- 0750
    if not ok then return nil, "cannot make the certificates directory: " .. err end
    if who then system.chown(directory, who.uid, who.gid) end
  end
  local names = { host, "*." .. host }
  if host == "localhost" then names = { host, "127.0.0.1", "::1" } end
  local certificate, key = system.make_certificate(names, days or 3650)
  if not certificate then return nil, key end
  local base = directory .. "/" .. host
  -- never in place of somebody's own
  if system.stat(base .. ".crt") then return nil, ("%s.crt exists, but its key does not (%s.key)"):format(base, base) end
  if system.stat(base .. ".key") and not system.access(base .. ".key", "r") then return nil, base .. ".key is somebody else's" end
  local ok, err = system.write_file(base .. ".key", key, 0x180)                -- 0600
  if ok then ok, err = system.write_file(base .. ".crt", certificate, 0x1a4) end     -- 0644
  if not ok then return nil, "cannot write the certificate: " .. err end
  if who then
    system.chown(base .. ".key", who.uid, who.gid)
    system.chown(base .. ".crt", who.uid, who.gid)
  end
  index = nil
  return { certificate = base .. ".crt", key = base .. ".key" }
end

-- --- contexts ---

-- What the configuration says in words of TLS libraries, the most general first.
local function spelled_out(into, host, service)
  understand(into, config.rawget("*", "ssl"))
  if host ~= "*" then understand(into, config.rawget(host, "ssl")) end
  if service then understand(into, config.get(host, service .. "_ssl")) end
  return into
end

local unmade = {}                       -- hosts whose own certificate could not be made: said once

local function settings_for(host, service, own)
  local into = {}
  local profile = config.get(host, "tls_profile") or "intermediate"
  if not profiles[profile] then
    local text = ("%s: no TLS profile %q; there are modern, intermediate, old"):format(
      config.place(host, "tls_profile") or "tls_profile", tostring(profile))
    if config.once(text) then log("error", "%s", text) end
    profile = "intermediate"
  end
  for k, v in pairs(profiles[profile]) do into[k] = v end
  local directory = certs.directory()
  spelled_out(into, host, service)
  -- SASL EXTERNAL: whoever has a certificate may show it
  if service and service:find "^c2s" and config.get(host, "client_certificate_auth") == true then
    into.verify = into.verify or "request"
    into.tickets = false                   -- a resumed session would bring the verdict of the host it was made for
  end
  local certificate, key = config.get(host, "certificate"), config.get(host, "key")
  -- A key that is named is taken, be it there or not: with another one beside the certificate nobody would notice.
  local named = type(key) == "string" and config.path(key, directory) or not into.certificate and into.key or nil
  if type(certificate) == "table" then certificate = certificate["*"] or next(certificate) and select(2, next(certificate)) end
  if type(certificate) == "string" then
    local path = config.path(certificate, directory)
    local found = at(path)
    into.certificate, into.key = found and found.certificate or path, named or found and found.key or path
  end
  if not into.certificate and host ~= "*" then
    local found = certs.find_host_cert(host)
    if not found and wants_own(host) and own ~= false and not unmade[host] then
      local err
      found, err = certs.generate(host)
      if found then
        log("info", "made a certificate for %s: %s (nobody vouches for it: clients will ask)", host, found.certificate)
      else
        unmade[host] = true
        log("warn", "no certificate for %s, and %s", host, err)
      end
    end
    if found then into.certificate, into.key = found.certificate, named or found.key end
  end
  -- Servers show certificates to each other; what is wrong with one is judged by plugins, at each connection anew. All the
  -- world's authorities vouch for them beside those of the configuration; for clients these alone do, if there are any.
  if service and service:find "^s2s" then
    into.ca_system = true
    into.tickets = false
    if into.verify ~= "require" then into.verify = "request" end
  end
  return into
end
certs.settings = settings_for

local hints = {
  { "no start line", "is it a PEM file?" },
  { "key values mismatch", "the key belongs to another certificate" },
  { "key type mismatch", "the key belongs to another certificate" },
  { "bad decrypt", "ssl = { password = … } opens the key" },
  { "no cipher match", "see `openssl ciphers`" },
}

local function user_name()
  return (system.user(system.uid()) or {}).name or system.uid()
end

local words = { ca_file = "cafile", ca_path = "capath", crl_file = "crlfile", dh = "dhparam", min_version = "protocol",
  max_version = "protocol" }

-- Which option is behind a setting: -> its name, "file:line"; nothing where a file was found in the directory.
local function said(host, service, part)
  local by_option = config.get(host, "certificate") ~= nil
  if part == "key" and config.get(host, "key") ~= nil then return "key", config.place(host, "key") end
  if part == "certificate" and by_option then return "certificate", config.place(host, "certificate") end
  for _, option in ipairs { service and service .. "_ssl" or "ssl", "ssl" } do
    for _, section in ipairs { host, "*" } do
      local ssl = config.rawget(section, option)
      local pair_of_its_own = type(ssl) == "table" and part == "key" and ssl.certificate
      if type(ssl) == "table" and not (pair_of_its_own and by_option) and (ssl[words[part] or part] ~= nil or pair_of_its_own
        or part == "curves" and (ssl.curve or ssl.curveslist)) then
        return option, config.place(section, option)
      end
    end
  end
  if part == "key" and by_option then return "certificate", config.place(host, "certificate") end
end

local files = { key = true, certificate = true, ca_file = true, crl_file = true, dh = true }

-- Why there is no certificate, or what is wrong with it: file, reason, what to do; and the option that names it, "file:line".
local function explain(host, service, settings, err)
  if not settings.certificate then
    local directory = certs.directory()
    if system.stat(directory) and not system.access(directory, "rx") then
      return ("user %s cannot read the directory of certificates, %s"):format(user_name(), directory)
    end
    if host == "*" then return ("no host has a certificate in %s"):format(directory) end
    return ("no certificate for %s in %s; `coupletctl cert generate %s` makes one"):format(host, directory, host)
  end
  local part = tostring(err):match("^([%w_]+)")
  local file = files[part] and settings[part]
  local hint = ""
  for _, h in ipairs(hints) do if tostring(err):find(h[1], 1, true) then hint = "; " .. h[2] end end
  if file and not system.stat(file) then hint = "; the file is not there, or in a directory closed to user " .. user_name()
  elseif file and not system.access(file, "r") then hint = ("; user %s cannot read it"):format(user_name()) end
  if file and file ~= settings.certificate then file = file .. " for " .. settings.certificate end
  return ("%s%s%s"):format(err, file and " (" .. file .. ")" or "", hint), said(host, service, part)
end

-- The same with the place behind it.
local function explained(...)
  local text, option, place = explain(...)
  return place and ("%s (%s, %s)"):format(text, option, place) or text
end

local trusting = {}                      -- "cafile capath crlfile system?" -> a context that has read them

local function authorities(settings)
  return ("%s\0%s\0%s\0%s"):format(settings.ca_file or "", settings.ca_path or "", settings.crl_file or "",
    settings.ca_system or "")
end

-- Authorities are read once, however many hosts there are.
local function make(settings)
  local id = settings.verify and settings.verify ~= "none" and authorities(settings) or nil
  settings.trust = id and trusting[id]
  local typed, context, err = pcall(core.net.tls_context, settings)
  if not typed then return nil, context end      -- a number where a string belongs
  if id then trusting[id] = trusting[id] or context end
  return context, err
end

function certs.same_authorities(a, b, service)
  return a == b or authorities(spelled_out({}, a, service)) == authorities(spelled_out({}, b, service))
end

function certs.authorities_file(host) return settings_for(host, nil, false).ca_file end

local function build(settings)
  if not settings.certificate then return nil, "no certificate" end
  return make(settings)
end

function certs.create_context(host, mode, ...)
  local settings = settings_for(host)
  for _, more in ipairs { ... } do understand(settings, more) end
  if mode == "client" then
    settings.ca_system = true
    return make(settings), nil, settings
  end
  local context, err = build(settings)
  return context, err, settings
end

local contexts = {}                      -- "host service" -> context or false
local former = {}                        -- the same before the reload

local alpn = { c2s = { "xmpp-client" }, s2s = { "xmpp-server" }, http = { "http/1.1" }, https = { "http/1.1" } }

local function alpn_of(service)
  return alpn[service and service:gsub("_direct_tls$", "") or ""]
end

local complained = {}

function certs.context(host, service)
  local id = host .. " " .. (service or "")
  local context = contexts[id]
  if context then return context end
  if context == false then return nil, complained[host] end
  local settings = settings_for(host, service)
  local err
  context, err = build(settings)
  contexts[id] = context or former[id] or false
  if not context then
    local text = explained(host, service, settings, err)
    if former[id] then
      log("error", "%s keeps its old certificate: %s", host, text)
      return former[id]
    end
    if complained[host] ~= text then
      complained[host] = text
      log(config.kind(host) == "component" and "info" or "warn", "TLS is not available on %s: %s", host, text)
    end
    return nil, text
  end
  complained[host] = nil
  return context
end

-- With the host's certificate if it has one; TLS to other servers works without.
function certs.client_context(host, tlsa)
  local id = host .. " s2s client"
  if not contexts[id] then
    local settings = settings_for(host, "s2s")
    settings.verify = "request"
    local context, err = make(settings)
    if not context then return nil, err end
    contexts[id] = context
  end
  return tlsa and contexts[id]:dane(tlsa) or contexts[id]
end

local function fill(context, service)
  for _, host in ipairs(config.hosts()) do
    if config.get(host, "enabled") ~= false then
      local own = certs.context(host, service)
      if own then context:host(host, own) end
    end
  end
end

function certs.direct(service, port)
  local found = port and certs.find_service_cert(service, port)
  local settings, of = settings_for("*", service), "*"
  if found then settings.certificate, settings.key = found.certificate, found.key end
  if not settings.certificate then      -- whoever names no host gets the first host's
    for _, host in ipairs(config.hosts()) do
      local s = settings_for(host, service)
      if config.get(host, "enabled") ~= false and s.certificate then settings, of = s, host break end
    end
  end
  settings.alpn = alpn_of(service)
  local context, err = build(settings)
  if not context then return nil, explained(of, service, settings, err) end
  fill(context, service)
  return context
end

-- host.ssl_ctx is what STARTTLS uses
local function give(host)
  local object = prosody.hosts[host]
  if object then object.ssl_ctx = certs.context(host, "c2s") end
end

function certs.start()
  prosody.events.add_handler("host-activated", give, 100)        -- before the plugins of the host
end

function certs.reload()
  index, former, contexts, trusting = nil, contexts, {}, {}
  complained, unmade = {}, {}
  for host in pairs(prosody.hosts) do give(host) end
  prosody.events.fire_event("certificates-reloaded")
  former = {}
end

-- Why a host with a certificate has no TLS for a service: -> text, "file:line" of the option | nil
function certs.trouble(host, service)
  local settings = settings_for(host, service, false)
  if not settings.certificate then return nil end
  local context, err = make(settings)
  if context then return nil end
  local text, option, place = explain(host, service, settings, err)
  return option and ("%s: %s"):format(option, text) or text, place or config.place(host)
end

function certs.report()
  local list = {}
  for _, host in ipairs(config.hosts()) do
    if config.get(host, "enabled") ~= false then
      local settings = settings_for(host, nil, false)
      local entry = { host = host, certificate = settings.certificate, key = settings.key }
      entry.place = select(2, said(host, nil, "certificate")) or config.place(host)
      local x = settings.certificate and parse(settings.certificate)
      local directory = certs.directory()
      if not settings.certificate and system.stat(directory) and not system.access(directory, "rx") then
        entry.problem = explain(host, nil, settings)
      elseif not settings.certificate then
        entry.problem = wants_own(host) and "none yet; one is made at start" or "no certificate"
        entry.harmless = wants_own(host)
      elseif not x then
        entry.missing = not system.stat(settings.certificate)
        entry.problem = entry.missing and "there is no such file"
          or system.access(settings.certificate, "r") and "is no PEM certificate"
            or ("user %s cannot read it"):format(user_name())
      elseif not system.access(settings.key, "r") then
        entry.missing = not system.stat(settings.key)
        entry.problem = not entry.missing and ("user %s cannot read its key, %s"):format(user_name(), settings.key)
          or ("its key, %s, is not there"):format(settings.key)
        entry.place = select(2, said(host, nil, "key")) or entry.place
      else
        entry.notafter, entry.notbefore, entry.names, entry.self_made = x.notafter, x.notbefore, names_of(x), x.self_issued
        local covered = false
        for _, name in ipairs(entry.names) do
          covered = covered or name == host or name == "*" .. (host:match("^[^.]*(%..*)$") or "")
        end
        local left = (x.notafter - os.time()) // 86400
        if left < 0 then entry.problem = "expired"
        elseif left < WARN_DAYS then entry.problem = ("expires in %d days"):format(left)
        elseif not covered then entry.problem = "does not name the host" end
      end
      list[#list + 1] = entry
    end
  end
  return list
end

-- Said at start, at reload and once a day.
function certs.warn()
  for _, entry in ipairs(certs.report()) do
    if entry.problem and entry.certificate then
      log((entry.missing or entry.problem == "expired") and "error" or "warn", "certificate of %s (%s): %s%s", entry.host,
        entry.certificate, entry.problem, entry.missing and entry.place and " (" .. entry.place .. ")" or "")
    end
  end
end

return certs
