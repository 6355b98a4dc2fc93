-- SPDX-License-Identifier: MIT
-- ctl/check_connectivity: calls another server as Couplet would, and tells what happens at each step: DNS, addresses, stream,
-- TLS, certificate, ways to prove a domain.
--
--   check_connectivity.run(ctx, domain, from?) -> ok, text, data       waits; from: the host of ours that calls

local certs = require "couplet.certs"
local clock = require "couplet.clock"
local config = require "couplet.config"
local core = require "couplet.core"
local dial = require "couplet.dial"
local options = require "couplet.options"
local peer_cert = require "couplet.peer_cert"
local report = require "couplet.ctl.report"
local s2s = require "couplet.s2s"
local st = require "couplet.stanza"
local task = require "couplet.task"
local to_ascii = require "couplet.util.encodings".idna.to_ascii
local x509 = require "couplet.util.x509"

local check_connectivity = {}

local ADDRESSES_MAX = 8                -- that are tried
local STEP = 15                        -- seconds for each
local TLS, SASL = "urn:ietf:params:xml:ns:xmpp-tls", "urn:ietf:params:xml:ns:xmpp-sasl"
local STREAMS, CONDITIONS = "http://etherx.jabber.org/streams", "urn:ietf:params:xml:ns:xmpp-streams"

-- A connection whose events are waited for, one after the other ----------------------------------------------------------------

local function event(kind, counted)
  return function(conn, a, b)
    local line = conn:session()
    if not line then return counted and conn:done() end
    line.events[#line.events + 1] = { kind = kind, a, b, counted = counted }
    if line.wake then line.wake() end
  end
end

core.net.on("check", { xmlns = "jabber:server", opened = event "opened", secured = event "secured",
  stream = event("stream", true), element = event("element", true), ended = event("ended", true),
  error = event("error", true), closed = event "closed" })

local Line = {}
Line.__index = Line

local function open(settings)
  settings.class, settings.window, settings.deadline = "check", { 8, 1 << 18 }, STEP
  settings.limits = { stanza_bytes = 1 << 16 }
  local conn, err = core.net.connect(settings)
  if not conn then return nil, err end
  local line = setmetatable({ conn = conn, events = {} }, Line)
  conn:session(line)
  return line
end

-- -> event | nil, what came instead. Everything but kinds (a set) ends the line.
function Line:expect(kinds)
  if self.over then return nil, self.over end
  if not self.events[1] then
    task.await(function(done)
      local timer = clock.timer(STEP, function() if self.wake then self.wake() end end)
      self.wake = function()
        self.wake = nil
        timer:stop()
        done()
      end
    end)
  end
  local e = table.remove(self.events, 1)
  if e and e.counted then self.conn:done() end
  if e and kinds[e.kind] then return e end
  self.over = not e and ("nothing for %d seconds"):format(STEP)
    or e.kind == "closed" and "the connection ended: " .. tostring(e[1])
    or e.kind == "ended" and "the other side closed the stream"
    or e.kind == "error" and "what it says is no XMPP: " .. tostring(e[2])
    or "unexpected: " .. e.kind
  return nil, self.over
end

function Line:close()
  self.over = self.over or "closed"
  self.conn:session(false)
  self.conn:close(1)
end

-- The stream header and what comes behind it -> features | nil, why
function Line:stream(from, to)
  self.conn:send("<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:stream='" .. STREAMS .. "'"
    .. " xmlns:db='jabber:server:dialback' to='" .. st.xml_escape(to) .. "'"
    .. (from and " from='" .. st.xml_escape(from) .. "'" or "") .. " version='1.0'>")
  local e, err = self:expect { stream = true }
  if not e then return nil, err end
  local version = e[1].attr.version
  if not version then return nil, "a server from before XMPP 1.0: it knows no TLS" end
  return self:element()
end

function Line:element()
  local e, err = self:expect { element = true }
  if not e then return nil, err end
  local stanza = e[1]
  if stanza.name ~= "error" or stanza.attr.xmlns ~= STREAMS then return stanza end
  local condition, text = "undefined-condition", nil
  for _, child in ipairs(stanza.tags) do
    if child.attr.xmlns == CONDITIONS then
      if child.name == "text" then text = child:get_text() else condition = child.name end
    end
  end
  self.over = ("it ends the stream: %s%s"):format(condition, text and " (" .. text:sub(1, 300) .. ")" or "")
  return nil, self.over
end

-- The steps ---------------------------------------------------------------------------------------------------------------------

local function offered(features)
  local names, mechanisms = {}, {}
  for _, child in ipairs(features.tags) do
    if child.name == "mechanisms" then
      for m in child:childtags("mechanism", SASL) do mechanisms[#mechanisms + 1] = m:get_text() end
    else
      names[#names + 1] = child.name
    end
  end
  if mechanisms[1] then names[#names + 1] = "SASL " .. table.concat(mechanisms, " ") end
  return names[1] and table.concat(names, ", "):sub(1, 300) or "nothing", table.concat(mechanisms, " ")
end

local function check_certificate(r, tls, from, domain, candidate)
  local cert = tls.peer_cert and x509.load(tls.peer_cert)
  local days = cert and (core.crypto.x509_parse(tls.peer_cert).notafter - os.time()) // 86400
  r:ok("TLS: %s, %s", tls.version, tls.cipher)
  if cert then
    local names = table.concat(peer_cert.names(cert), ", "):sub(1, 300)
    r:note("its certificate names %s; %s", names ~= "" and names or "nobody (it has no subjectAltName, and nothing else counts)",
      (days < 0 and "expired %d days ago" or "%d days left"):format(math.abs(days)))
  end
  local _, _, problem = peer_cert.judge(tls, cert, domain, candidate.secure and candidate.host or nil)
  if not problem then
    r:ok("its certificate is good%s", tls.dane and " (DANE, usage " .. tls.dane .. ")" or "")
    return true
  end
  local needed, exception, remedy = s2s.needs_certificate(from, domain)
  if not needed then
    r:note("its certificate is not good: %s; but none is needed (%s): dialback may prove it", problem, exception)
    return true
  end
  r:problem("its certificate is not good: %s", problem)
  if problem:find "issuer" then
    r:note("either nobody known here made it, or the other side leaves out a certificate of the chain; tell its admin, or name "
      .. "the authority in ssl = { cafile = … }")
  elseif problem:find "DANE" then
    r:note("its zone has TLSA records of another certificate; only its admin can mend that")
  end
  r:note("%s would let dialback prove it instead", remedy)
  return false
end

-- The features before TLS lead to TLS -> connection's TLS | nil, why
local function starttls(r, line, features, from, domain, candidate)
  local tls = features:get_child("starttls", TLS)
  if not tls then return nil, "it offers no TLS (only s2s_require_encryption = false would talk to it)" end
  r:ok("it offers STARTTLS%s", tls:get_child("required") and ", and needs it" or "")
  local context, err = certs.client_context(from, candidate.tlsa)
  if not context then return nil, "no TLS here: " .. tostring(err) end
  line.conn:send("<starttls xmlns='" .. TLS .. "'/>")
  local proceed
  proceed, err = line:element()
  if not proceed then return nil, err end
  if proceed.name ~= "proceed" then return nil, "it does not begin TLS after all: " .. proceed.name end
  line.conn:starttls(context, to_ascii(domain))
  local e
  e, err = line:expect { secured = true }
  return e and line.conn:tls(), err
end

local function talk(r, line, from, domain, candidate)
  local called = from ~= domain and from or nil
  local tls, err, features
  if candidate.tls then
    tls = line.conn:tls()
  else
    features, err = line:stream(called, domain)
    if not features then return nil, err end
    tls, err = starttls(r, line, features, from, domain, candidate)
    if not tls then return nil, err end
  end
  local good = check_certificate(r, tls, from, domain, candidate)
  features, err = line:stream(called, domain)
  if not features then
    if err:find "certificate" or err:find "not%-authorized" then
      r:note("it does not like the certificate of %s: see `coupletctl check certs %s`", from, from)
    end
    return nil, err
  end
  local names, mechanisms = offered(features)
  r:ok("over TLS it offers: %s", names)
  if mechanisms:find("EXTERNAL", 1, true) then
    r:ok("%s is proved by its certificate (SASL EXTERNAL)", from)
  elseif not called then
    r:note("called without a name, for no server calls itself: what it makes of our certificate another host must ask")
  elseif features:get_child("dialback", "urn:xmpp:features:dialback") then
    r:note("it does not take the certificate of %s; dialback proves it, which asks our server back: port 5269 must be open", from)
  else
    r:note("it offers neither EXTERNAL nor dialback; servers often know dialback all the same")
  end
  return good
end

local function try(r, from, domain, candidate)
  local label = ("%s port %d%s"):format(candidate.address, candidate.port, candidate.tls and " (direct TLS)" or "")
  r:title("%s%s", label, candidate.host ~= candidate.address and ", " .. candidate.host or "")
  local context, err
  if candidate.tls then
    context, err = certs.client_context(from, candidate.tlsa)
    if not context then
      r:problem("no TLS here: %s", err)
      return false
    end
  end
  local began = clock.mono()
  local line
  line, err = open { address = candidate.address, port = candidate.port, tls = context,
    alpn = candidate.tls and "xmpp-server" or nil, server_name = candidate.tls and to_ascii(domain) or nil }
  local e
  if line then e, err = line:expect { opened = true } end
  if e and candidate.tls then e, err = line:expect { secured = true } end
  if not e then
    r:problem("no connection: %s", err)
    if tostring(err):find "refused" then r:note("nobody listens there: wrong port in DNS, or its server is down")
    elseif not candidate.tls then r:note("a firewall, here (outgoing) or there, or no way to that address") end
    if line then line:close() end
    return false
  end
  r:ok("connected in %d ms", math.ceil((clock.mono() - began) * 1000))
  local good
  good, err = talk(r, line, from, domain, candidate)
  if good == nil then r:problem("%s", err) end
  if not line.over then line.conn:send "</stream:stream>" end
  line:close()
  return good == true
end

-- What the configuration of a host says against that domain. The way is tried all the same.
local function refused_here(r, from, domain)
  local before = r.problems
  if options.get_option_boolean({ host = from, log = function() end }, "disallow_s2s", false) then
    r:problem("disallow_s2s: %s talks to no other server", from)
  end
  local enabled = require "couplet.plugin".get_modules_for_host(from)
  for _, row in ipairs { { "s2s_blacklist", true, "names" }, { "s2s_whitelist", false, "does not name" } } do
    local option, bad, says = table.unpack(row)
    if enabled:contains(option) and s2s.listed(from, option)(domain) == bad then
      r:problem("%s %s %s: %s does not talk to it", option, says, domain, from)
    end
  end
  return r.problems > before
end

function check_connectivity.run(ctx, domain, from)
  local r = report.new(ctx)
  local prep = require "couplet.jid".prep
  domain, from = prep(domain) or domain, from and (prep(from) or from)
  if from and not config.kind(from) then return nil, ("the configuration has no host %s"):format(from) end
  for _, host in ipairs(config.hosts()) do
    if not from and host ~= domain and config.get(host, "disallow_s2s") ~= true and config.get(host, "enabled") ~= false then
      from = host
    end
  end
  from = from or config.hosts()[1]
  if not from then return nil, "the configuration has no host that could call" end
  r:title("from %s to %s", from, domain)
  if config.kind(domain) then
    r:note("%s is a host of this server, which refuses such a call in the end; what comes before, others find", domain)
  end
  local refused = refused_here(r, from, domain)
  local next = dial.candidates(domain, { dane = config.get("*", "use_dane") == true })
  local good, tried = false, 0
  while tried < ADDRESSES_MAX do
    local candidate, _, text = next()
    if not candidate then
      if tried == 0 then
        r:problem("%s", text)
        r:note("`coupletctl check dns %s` shows what is looked up", domain)
      end
      break
    end
    tried = tried + 1
    good = try(r, from, domain, candidate) or good
  end
  if good and r.problems > 0 and not refused then r:note("all the same %s can be reached", domain) end
  return r:finish(domain)
end

return check_connectivity
