-- SPDX-License-Identifier: MIT
-- ctl/check_dns: are our domains found by clients and servers, and another's by us? Says which records to add.
--
--   check_dns.run(ctx, domain?) -> ok, text, data       waits; without a domain: all of the configuration

local adns = require "couplet.net.adns"
local certs = require "couplet.certs"
local config = require "couplet.config"
local dial = require "couplet.dial"
local peer_cert = require "couplet.peer_cert"
local report = require "couplet.ctl.report"
local system = require "couplet.core".system
local to_ascii = require "couplet.util.encodings".idna.to_ascii
local x509 = require "couplet.util.x509"

local check_dns = {}

local SERVICES = {
  { name = "_xmpp-client", options = { "c2s_ports" }, port = 5222, what = "clients", clients = true },
  { name = "_xmpps-client", options = { "c2s_direct_tls_ports", "legacy_ssl_ports" }, port = 5223, direct = true,
    what = "clients, direct TLS", clients = true },
  { name = "_xmpp-server", options = { "s2s_ports" }, port = 5269, what = "servers" },
  { name = "_xmpps-server", options = { "s2s_direct_tls_ports" }, port = 5270, direct = true, what = "servers, direct TLS" },
}

local function ports_of(service)
  local value
  for _, option in ipairs(service.options) do
    if value == nil then value = config.get("*", option) end
  end
  if value == nil then value = service.port end
  local set, list = {}, {}
  for _, port in ipairs(type(value) == "table" and value or { value }) do
    port = math.tointeger(tonumber(port))
    if port and port > 0 then
      set[port] = true
      list[#list + 1] = port
    end
  end
  return set, list
end

-- -> answer | nil, having said what is wrong
local function ask(r, name, kind)
  local answer, err = adns.lookup(name, kind)
  if not answer then
    r:problem("%s %s: DNS does not answer (%s); asked were the servers of %s", kind, name, err,
      config.get("*", "dns") and "the option dns" or "/etc/resolv.conf")
    return nil
  end
  if answer.bogus then
    r:problem("%s %s: DNSSEC says the answer is forged, validating servers do not see it: %s", kind, name,
      tostring(answer.why_bogus):sub(1, 200))
    return nil
  end
  if answer.rcode ~= 0 and answer.rcode ~= 3 then
    r:problem("%s %s: the name server says %s", kind, name, answer.status)
    return nil
  end
  return answer
end

local function addresses(r, name)
  local list, alias = {}, false
  for _, kind in ipairs { "AAAA", "A" } do
    local answer = ask(r, name, kind)
    if not answer then return nil end
    for _, rr in ipairs(answer) do list[#list + 1] = rr[kind] end
    alias = alias or answer.canonical and answer.canonical:lower():gsub("%.$", "") ~= name:lower()
  end
  return list, alias
end

local function here()
  local set = {}
  for _, address in ipairs(require "couplet.util.net".local_addresses("both") or {}) do set[address] = true end
  return set
end

local function srv_line(service, domain, port, target)
  return ("%s._tcp.%s. 3600 IN SRV 0 5 %d %s."):format(service.name, domain, port, target)
end

local function are_ours(r, list, ours, port)
  local mine
  for _, address in ipairs(list) do
    local loopback = address:find "^127%." or address == "::1"
    mine = mine or ours[address] or loopback
    if loopback then r:note("%s is this machine only to itself: nobody else gets here", address) end
  end
  if not mine then
    r:note("no address of this machine among these: right only if something in front (NAT, proxy) passes port %d on", port)
  end
end

-- Is what one SRV record leads to there, and is it us?
local function target_is_good(r, label, srv, ours, open_ports)
  local target = srv.target:gsub("%.$", "")
  if target:find "^[%d.]+$" or target:find(":", 1, true) then
    return r:problem("%s leads to the address %s, but a host name is needed there", label, target)
  end
  local list, alias = addresses(r, target)
  if not list then return end
  local where = ("%s leads to %s port %d"):format(label, target, srv.port)
  if not list[1] then return r:problem("%s, which has no address (add an A or AAAA record for %s)", where, target) end
  r:ok("%s (%s)", where, table.concat(list, ", "))
  if alias then r:note("%s is an alias (CNAME); RFC 2782 wants a name with addresses of its own there", target) end
  if not open_ports then return end
  are_ours(r, list, ours, srv.port)
  if not open_ports[srv.port] then
    r:note("Couplet does not listen on port %d: right only if something in front passes it on", srv.port)
  end
end

-- DANE: what the zone says of the certificate (RFC 6698).
local function check_tlsa(r, host, port, target)
  local records, err = dial.tlsa { host = target, port = port }
  if not records then return r:problem("TLSA _%d._tcp.%s: %s", port, target, err) end
  local settings = certs.settings(host, "s2s", false)
  local text = settings.certificate and system.read_file(settings.certificate, 1 << 18)
  local cert = text and x509.load(text)
  local wanted = cert and peer_cert.record(cert)
  if not wanted then return end
  local line = ("_%d._tcp.%s. 3600 IN TLSA %s"):format(port, target, wanted)
  if not records[1] then
    r:note("DNSSEC vouches for this zone; servers that know DANE could check the certificate by its key. To offer that, add:")
    return r:add(line)
  end
  local authority
  for _, record in ipairs(records) do
    if peer_cert.described(record, cert) then
      return r:ok("TLSA _%d._tcp.%s fits the certificate %s", port, target, settings.certificate)
    end
    authority = authority or record:byte(1) == 0 or record:byte(1) == 2
  end
  if authority then
    return r:note("TLSA _%d._tcp.%s names an authority; whether it made the certificate is not checked here", port, target)
  end
  r:problem("TLSA _%d._tcp.%s fits not the certificate %s: servers that know DANE refuse it. Add, then take the old away:",
    port, target, settings.certificate)
  r:add(line)
end

local function check_service(r, domain, service, state)
  local ascii = to_ascii(domain)
  local open_ports, list = ports_of(service)
  local answer = ask(r, service.name .. "._tcp." .. ascii, "SRV")
  if not answer then return end
  local label = service.name .. "._tcp"
  if not list[1] then
    if answer[1] and not (answer[1].srv and answer[1].srv.target == ".") then
      r:problem("%s: there are records, but %s is an empty list: nobody listens", label, service.options[1])
    end
    return
  end
  if not answer[1] then
    if service.direct then
      r:note("%s: no record (it is optional: %s). To offer it, add:", label, service.what)
    elseif state.addresses[1] and open_ports[service.port] then
      r:ok("%s: no record; %s is found at its own address, port %d (%s)", label, domain, service.port,
        table.concat(state.addresses, ", "))
      return are_ours(r, state.addresses, state.ours, service.port)
    else
      r:problem("%s: no record, and %s. %s cannot find this domain. Add:", label,
        state.addresses[1] and ("Couplet does not listen on port %d"):format(service.port) or domain .. " has no address",
        service.clients and "Clients" or "Servers")
    end
    local target = state.target or state.addresses[1] and ascii or "xmpp." .. ascii
    r:add(srv_line(service, ascii, list[1], target))
    if not state.target and not state.addresses[1] then r:add(("%s. 3600 IN A %s"):format(target, state.mine or "192.0.2.1")) end
    return
  end
  for _, rr in ipairs(answer) do
    local srv = rr.srv
    if srv and srv.target == "." then
      r:problem("%s says that this domain has no such service (target \".\"), but port %d is open here. Put in its place:", label,
        list[1])
      r:add(srv_line(service, ascii, list[1], state.target or ascii))
    elseif srv then
      state.target = state.target or srv.target:gsub("%.$", "")
      target_is_good(r, label, srv, state.ours, open_ports)
      if answer.secure and not service.clients then check_tlsa(r, domain, srv.port, (srv.target:gsub("%.$", ""))) end
    end
  end
  state.secure = state.secure or answer.secure
end

local function check_own(r, domain)
  r:title("%s", domain)
  local ascii = to_ascii(domain)
  if not ascii or not ascii:find(".", 1, true) then return r:note("only this machine knows such a name; nothing to look up") end
  local ours = here()
  local list = addresses(r, ascii)
  if not list then return end
  local state = { addresses = list, ours = ours }
  for address in pairs(ours) do
    if address:find "^%d+%." then state.mine = address end
  end
  for _, service in ipairs(SERVICES) do
    local closed = service.clients and config.kind(domain) == "component"
      or not service.clients and config.get(domain, "disallow_s2s") == true
    if not closed then check_service(r, domain, service, state) end
  end
  if not state.secure then r:note("no DNSSEC: others must believe their name servers, and DANE is not possible") end
end

local function check_other(r, domain)
  local ascii = to_ascii(domain)
  r:title("%s, as this server sees it", domain)
  if not ascii then return r:problem("this is no domain") end
  local budget = { left = 20 }
  local targets, _, text = dial.targets(domain, budget)
  if not targets then return r:problem("%s", text) end
  for _, target in ipairs(targets) do
    local list = addresses(r, target.host)
    local label = ("%s port %d%s"):format(target.host, target.port, target.tls and ", direct TLS" or "")
    if target.fallback then label = "no SRV records; " .. label end
    if list and list[1] then
      r:ok("%s (%s)%s", label, table.concat(list, ", "), target.secure and not target.fallback and ", DNSSEC vouches" or "")
    elseif list then
      r:problem("%s has no address", label)
    end
    local records = target.secure and dial.tlsa(target, budget)
    if records and records[1] then
      r:ok("%d TLSA records for %s%s", #records, target.host, config.get("*", "use_dane") == true and ""
        or " (they do not count without use_dane = true)")
    end
  end
end

function check_dns.run(ctx, domain)
  local r = report.new(ctx)
  domain = domain and (require "couplet.jid".prep(domain) or domain)
  if domain and not config.kind(domain) then
    check_other(r, domain)
  else
    for _, host in ipairs(domain and { domain } or config.hosts()) do
      if config.get(host, "enabled") ~= false then check_own(r, host) end
    end
  end
  return r:finish(domain or "DNS")
end

return check_dns
