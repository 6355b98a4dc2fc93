-- SPDX-License-Identifier: MIT
-- ctl/check_certs: are the certificates of our hosts good for others, and how long?
--
--   check_certs.run(ctx, host?) -> ok, text, data

local certs = require "couplet.certs"
local config = require "couplet.config"
local peer_cert = require "couplet.peer_cert"
local report = require "couplet.ctl.report"
local system = require "couplet.core".system
local x509 = require "couplet.util.x509"

local check_certs = {}

local SOON = 14                        -- days
local SYSTEM = "/etc/ssl/certs/ca-certificates.crt"

local function date(t) return os.date("!%Y-%m-%d", t) end

-- The certificates of a file, in order.
local function chain_of(path)
  local out = {}
  local text = system.read_file(path, 1 << 20) or ""
  for block in text:gmatch "%-%-%-%-%-BEGIN CERTIFICATE%-%-%-%-%-.-%-%-%-%-%-END CERTIFICATE%-%-%-%-%-" do
    out[#out + 1] = x509.load(block)
  end
  return out
end

local function same_name(a, b)
  if #a ~= #b then return false end
  for i = 1, #a do
    if a[i].oid ~= b[i].oid or a[i].value ~= b[i].value then return false end
  end
  return true
end

local function common(name)
  for _, entry in ipairs(name) do if entry.oid == "2.5.4.3" then return entry.value end end
  return name[1] and name[1].value or "?"
end

-- Is who made it among the authorities of that file?
local function is_root(cert, file)
  for _, root in ipairs(chain_of(file)) do
    if root.self_issued and same_name(cert:issuer(), root:subject()) then return true end
  end
  return false
end

local function check_chain(r, host, path, chain)
  local leaf = chain[1]
  if leaf.self_issued then
    return r:problem("it is self-made: other servers and clients refuse it. An authority such as Let's Encrypt makes good ones")
  end
  for i = 1, #chain - 1 do
    if not same_name(chain[i]:issuer(), chain[i + 1]:subject()) then
      r:problem("in %s, certificate %d (%s) was not made by the one behind it (%s)", path, i, common(chain[i]:subject()),
        common(chain[i + 1]:subject()))
    end
    if not chain[i + 1]:validat(os.time()) then
      r:problem("in %s, %s is good only from %s to %s", path, common(chain[i + 1]:subject()), chain[i + 1]:notbefore(),
        chain[i + 1]:notafter())
    end
  end
  local maker = common(chain[#chain]:issuer())
  if #chain > 1 then r:ok("the chain has %d certificates, the last made by %s", #chain, maker) end
  local cafile = certs.authorities_file(host)
  if cafile and is_root(chain[#chain], cafile) then
    r:note("%s is an authority of your own cafile, %s: other servers and clients need it there, too", maker, cafile)
  elseif is_root(chain[#chain], SYSTEM) then
    if #chain == 1 then r:ok("it was made by %s, a root that this machine knows", maker) end
  elseif #chain == 1 then
    r:note("%s holds one certificate only, made by %s. If that is no root, others miss the one in between: use the file with "
      .. "the whole chain (fullchain.pem)", path, maker)
  end
end

local function check_host(r, entry)
  r:title("%s", entry.host)
  if not entry.certificate or not entry.notafter then
    if entry.harmless then return r:note("%s", entry.problem) end
    if entry.certificate then return r:problem("%s: %s", entry.certificate, entry.problem) end
    r:problem("%s in %s; `coupletctl cert generate %s` makes one for tests", entry.problem, certs.directory(), entry.host)
    return
  end
  local days = (entry.notafter - os.time()) // 86400
  r:ok("file %s, key %s", entry.certificate, entry.key)
  local context, err = certs.context(entry.host, "s2s")
  if not context then r:problem("%s", err) end
  if entry.notbefore > os.time() then r:problem("it begins only on %s", date(entry.notbefore)) end
  if days < 0 then r:problem("it expired on %s; get a new one, then `coupletctl reload`", date(entry.notafter))
  elseif days < SOON then r:problem("it expires on %s: %d days left", date(entry.notafter), days)
  else r:ok("good until %s: %d days left", date(entry.notafter), days) end
  local chain = chain_of(entry.certificate)
  local leaf = chain[1]
  if not leaf then return end
  if peer_cert.names_it(leaf, entry.host) then
    r:ok("it names %s", entry.host)
  else
    r:problem("it does not name %s, but %s. Ask the authority for one with DNS:%s in subjectAltName", entry.host,
      table.concat(entry.names, ", "), entry.host)
  end
  if not leaf.server_use then r:problem("it is not made for TLS servers (extended key usage serverAuth)") end
  check_chain(r, entry.host, entry.certificate, chain)
end

function check_certs.run(ctx, host)
  local r = report.new(ctx)
  host = host and (require "couplet.jid".prep(host) or host)
  if host and not config.kind(host) then return nil, ("the configuration has no host %s"):format(host) end
  for _, entry in ipairs(certs.report()) do
    if not host or entry.host == host then check_host(r, entry) end
  end
  return r:finish(host or "certificates")
end

return check_certs
