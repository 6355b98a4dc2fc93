-- SPDX-License-Identifier: MIT
-- mod_s2s: connections with other servers: streams in both directions, and the way out for stanzas (RFC 6120 §4, §10.4).
--
-- Who is who is proved by other plugins: mod_tls makes streams safe, mod_s2s_auth_certs looks at certificates (and does SASL
-- EXTERNAL), mod_dialback asks the domain itself. They hook the stream features, and on outgoing streams these events of the
-- host:
--   s2s/authenticate { session, features, link }      prove us, for that pair of domains; true: under way
--   s2s/ready { session }                             the stream may be used for dialback's questions
--   s2s/proved { session, host, here }                incoming: the other side has been told that it is proved for that pair
-- Each stream is handled in order, waits included, through one queue of its own.

module:set_global()

local core = require "couplet.core"
local hosts = require "couplet.hosts"
local id = require "couplet.util.id"
local listener = require "couplet.listener"
local network = require "couplet.lockout".network
local router = require "couplet.router"
local s2s = require "couplet.s2s"
local link = require "couplet.s2s_link"
local st = require "couplet.stanza"
local task = require "couplet.task"

local net, attr_of, route_of = core.net, core.stanza.attr, core.stanza.route
local process = router.core_process_stanza
local STREAMS = "http://etherx.jabber.org/streams"
local SILENT = "This host talks to no other server"

module:config {
  s2s_timeout = { type = "period", default = 90, min = 5,
    doc = "time from the beginning of a connection to a proved domain" },
  s2s_connect_timeout = { type = "period", default = 20, min = 1,
    doc = "time for one address: TCP, and the other side's stream header" },
  s2s_lookup_timeout = { type = "period", default = 12, min = 1,
    doc = "time for all of DNS on the way to one domain; when it is over the stanzas that wait go back" },
  use_dane = { type = "boolean", default = false,
    doc = "where DNSSEC vouches for the way to a server: believe its TLSA records, and certificates that name the SRV target" },
  s2s_keepalive = { type = "period", default = 300, min = 1,
    doc = "silence after which a space or a ping is sent, to see whether anybody is there" },
  s2s_ping_timeout = { type = "period", default = 30, min = 1,
    doc = "time for the answer to such a ping; without one the connection ends" },
  s2s_idle_timeout = { type = "period", default = "1h", min = 2,
    doc = "outgoing connections without traffic are closed after so long" },
  s2s_stanza_size_limit = { type = "integer", default = 524288, min = 10000, doc = "bytes of one stanza" },
  s2s_login_stanza_size_limit = { type = "integer", default = 16384, min = 4096,
    doc = "the same before the other side is proved" },
  s2s_unauthed_stanza_size_limit = { type = "integer", min = 4096, doc = "older name of s2s_login_stanza_size_limit" },
  s2s_login_elements = { type = "integer", default = 100, min = 10,
    doc = "elements one stream may send before anything is proved" },
  s2s_window = { type = "integer", default = 64, min = 1, doc = "stanzas of one server that may wait unhandled" },
  s2s_window_bytes = { type = "integer", default = 262144, min = 4096, doc = "and their bytes" },
  s2s_max_send_buffer = { type = "integer", default = 8 * 1024 * 1024, min = 65536,
    doc = "bytes kept for a server that does not read; over it the connection ends" },
  s2s_send_queue_size = { type = "integer", default = 10000, min = 1,
    doc = "stanzas that wait for a connection to one domain" },
  s2s_max_connections = { type = "integer", default = 0, min = 0,
    doc = "servers' connections at a time, both directions; 0: as many as the system gives" },
  s2s_max_connections_per_ip = { type = "integer", default = 1000, min = 0,
    doc = "incoming ones from one address; 0: no limit. A provider of many domains has them all behind one, and whoever has a "
      .. "wildcard of a domain has as many names as connections" },
  s2s_max_streams_per_pair = { type = "integer", default = 5, min = 1,
    doc = "incoming streams proved for the same two domains; with one more the oldest ends" },
  s2s_max_unproved_per_ip = { type = "integer", default = 20, min = 1,
    doc = "incoming ones from one address that have proved nothing yet" },
  s2s_max_pending = { type = "integer", default = 1000, min = 1,
    doc = "domains to which connections are being made at a time; half of them for dialback's questions, a tenth for claims from "
      .. "one address" },
  s2s_max_pairs = { type = "integer", default = 100, min = 1,
    doc = "pairs of domains that may share one outgoing connection; 1: none do" },
  disallow_s2s = { type = "boolean", default = false, doc = "this host talks to no other server" },
}
local config = module.config
local outgoing = module:require "outgoing"

local enabled = {}                     -- hosts that talk to other servers
local streams = {}                     -- "remote here" -> incoming sessions proved for that pair, the oldest first
local unproved = {}                    -- address -> incoming connections that have proved nothing

local function proved(session)
  local group = session.unproved_from
  if not group then return end
  session.unproved_from = nil
  unproved[group] = unproved[group] > 1 and unproved[group] - 1 or nil
end

function s2s.talks(host) return enabled[host] == true end

local bus_of = s2s.bus_of
local function fire(session, event, data) return bus_of(session).fire_event(event, data) end

-- Certificates ----------------------------------------------------------------------------------------------------------

-- What is found out about one more domain of a stream is not the stream's own: plugins, which may take their time, look at this
-- instead of the session, and what they write of their judgement stays here.
local JUDGEMENT = { cert_chain_status = true, cert_identity_status = true, cert_chain_errors = true, cert_problem = true,
  way = true }

local function view(session, remote)
  local found = { way = remote == session.to_host and session.way or nil }
  local function close(_, ...) return session:close(...) end
  return setmetatable({ close = close }, {
    __index = function(_, key)
      if JUDGEMENT[key] then return found[key] end
      return session[key]
    end,
    __newindex = function(_, key, value)
      if JUDGEMENT[key] then found[key] = value else session[key] = value end
    end,
  })
end

-- Is what the other side shows good enough for this domain, as `here` judges? A plugin says so (mod_s2s_auth_certs).
function s2s.check_certificate(session, remote, here)
  if not session.secure then return true end
  local tls = session.net and session.net:tls()
  if not tls then return false, "the connection is gone" end
  local opened_for = session.direction == "outgoing" and session.to_host or session.from_host
  local judged = remote == opened_for and (here or session.host) == session.host and session or view(session, remote)
  local home = here and hosts.get(here)
  local bus = home and home.events or bus_of(session)
  local good = bus.fire_event("s2s-check-certificate",
    { session = judged, host = remote, cert = session.conn:ssl_peercertificate(), tls = tls }) ~= false
  return good, judged.cert_problem
end

local function certificate_trouble(session, remote, what)
  what = what or "not trusted"
  session.log("info", "the certificate of %s is refused: %s", remote, what)
  local bounce = { condition = "remote-server-timeout", type = "cancel",
    text = "The certificate of this domain is not good: " .. what }
  local text = ("The certificate of %s is not good: %s"):format(remote, what)
  session:close({ condition = "not-authorized", text = text }, nil, bounce)
end

-- Stream headers --------------------------------------------------------------------------------------------------------

local function refuse(session, condition, text)
  return session:close { condition = condition, text = text }
end

local function is_old(text)
  local major = math.tointeger(tonumber(text and text:match "^(%d%d?%d?)%.%d+$"))
  return not major or major < 1
end

local function features_for(session)
  local features = st.stanza "stream:features"
  fire(session, "s2s-stream-features", { origin = session, features = features, session = session })
  if session.destroyed or session.closing then return end
  features:reset()
  session.sends2s(features)
end

-- The other side has called us.
local function on_incoming(session, header)
  local to, from = attr_of(header, "to"), attr_of(header, "from")
  local here, remote = s2s.domain(to), s2s.domain(from)
  local old = is_old(attr_of(header, "version"))
  session.version = old and 0 or 1
  if not to then return refuse(session, "improper-addressing", "Which host do you want?") end
  if not here or not hosts.get(here) then
    return refuse(session, "host-unknown", "This server does not serve " .. to:sub(1, 255))
  end
  if not enabled[here] then return refuse(session, "policy-violation", SILENT) end
  if from and not remote or remote and hosts.get(remote) then
    return refuse(session, "invalid-from", from and remote and "That is a domain of ours" or "No valid domain in from")
  end
  if session.authenticated_remote then           -- after SASL
    if remote and remote ~= session.from_host then return refuse(session, "invalid-from", "You have proved another domain") end
    if here ~= session.to_host then return refuse(session, "host-unknown", "You have authenticated at another host") end
    remote = session.from_host
  else
    session.to_host, session.host, session.from_host = here, here, remote
  end
  if old and not session.secure and s2s.needs_tls(here) then
    return refuse(session, "unsupported-version", "TLS is needed here, and that needs XMPP 1.0")
  end
  if remote then
    local good, problem = s2s.check_certificate(session, remote)
    if session.destroyed then return end
    if not good then return certificate_trouble(session, remote, problem) end
  end
  session.notopen = nil
  session:open_stream(here, remote)
  if old then
    fire(session, "s2s-stream-features-legacy", { origin = session, features = st.stanza "stream:features" })
  else
    features_for(session)
    if session.authenticated_remote and not session.destroyed then s2s.told(session, session.from_host, here) end
  end
end

-- We have called the other side.
local function on_outgoing(session, header)
  local old = is_old(attr_of(header, "version"))
  session.version = old and 0 or 1
  session.streamid, session.notopen = attr_of(header, "id"), nil
  session.race:stop()
  session.net:deadline(config.s2s_timeout)
  local claimed = s2s.domain(attr_of(header, "from"))
  if claimed and claimed ~= session.to_host then
    return refuse(session, "invalid-from", "I wanted " .. session.to_host)
  end
  local good, problem = s2s.check_certificate(session, session.to_host)
  if session.destroyed then return end
  if not good then return certificate_trouble(session, session.to_host, problem) end
  if not old then return end
  if not session.secure and outgoing.needs_tls(session) then
    return session:close({ condition = "policy-violation", text = "TLS is needed here, and that needs XMPP 1.0" }, nil,
      { condition = "remote-server-timeout", type = "cancel", text = "The other server knows no TLS" })
  end
  s2s.stream_ready(session)
end

local function on_header(session, header, xmlns)
  if not session.notopen then return session:close "bad-format" end
  if xmlns ~= "jabber:server" then
    return refuse(session, "invalid-namespace", "Servers speak jabber:server here")
  end
  if session.direction == "incoming" then return on_incoming(session, header) end
  return on_outgoing(session, header)
end

-- Stanzas that come in --------------------------------------------------------------------------------------------------

local KINDS = { message = true, presence = true, iq = true }

local function domain_in(text)
  local place = router.address(text)
  if place then return place.host, true end
  return s2s.domain((text:gsub("/.*$", ""):gsub("^[^@]*@", ""))), false
end

-- The rest of an address is its user's affair: the stream is everybody's, and goes on. The answer comes from the host, since the
-- other side could not take such a sender either.
local function malformed(session, stanza, here)
  local origin = { send = function(reply)
    reply.attr.from = here
    return session.send(reply)
  end }
  router.reply_error(origin, stanza, "modify", "jid-malformed")
  return false
end

-- RFC 6120 §8.1.1.2, §8.1.2.2: both addresses there, and of a pair that has been proved on this stream.
local function check_addresses(session, stanza)
  local _, to, from = route_of(stanza)
  local remote, good_from, here, good_to
  if from and to then
    remote, good_from = domain_in(from)
    here, good_to = domain_in(to)
  end
  if not remote or not here then
    refuse(session, "improper-addressing", "A stanza between servers has a valid `to` and `from`")
    return false
  end
  if s2s.authorized(session, remote, here) then
    return good_from and good_to or good_from and malformed(session, stanza, here)
  end
  local known = session.hosts[remote]
  if known and known.authed then
    refuse(session, "host-unknown", "Not proved for " .. here)
  else
    refuse(session, "invalid-from", "Not proved on this stream: " .. remote)
  end
  return false
end

-- The other side ends the stream with an error.
local function on_stream_error(session, element)
  local condition, text = "undefined-condition", nil
  for _, child in ipairs(element.tags) do
    if child.attr.xmlns == "urn:ietf:params:xml:ns:xmpp-streams" then
      if child.name == "text" then text = child:get_text() else condition = child.name end
    end
  end
  local said = ("%s%s"):format(condition, text and ": " .. text:sub(1, 255) or "")
  session.log("debug", "the other side says %s", said)
  session:close(nil, "the other side said " .. said, s2s.refused(condition, "The other server said: " .. said))
end

local function on_element(session, stanza)
  local name, _, _, _, _, xmlns = route_of(stanza)
  if xmlns == STREAMS and name == "error" then return on_stream_error(session, stanza) end
  if session.notopen then return session:close "bad-format" end
  if KINDS[name] and (not xmlns or xmlns == "jabber:server" or xmlns == "jabber:client") then       -- the router takes all three
    if session.type ~= "s2sin" and not (session.type == "s2sout" and session.incoming) then
      return refuse(session, "not-authorized", "Prove your domain first")
    end
    if not check_addresses(session, stanza) then return end
    session.active = os.time()
  elseif session.type == "s2sin_unauthed" then
    session.elements = session.elements + 1
    if session.elements > config.s2s_login_elements then
      return refuse(session, "policy-violation", "Too much before any domain is proved")
    end
  end
  return process(session, stanza)
end

-- Connections -------------------------------------------------------------------------------------------------------------

local function on_ended(session)
  session.peer_ended = true
  session:close(nil, "closed by the other side",
    { condition = "remote-server-timeout", text = "The other server closed the stream" })
end

local function on_error(session, condition, text)
  session:close({ condition = condition, text = text }, nil,
    { condition = "remote-server-timeout", text = "The other server does not speak XMPP well: " .. condition })
end

local function on_closed(session, reason)
  if session.direction == "outgoing" and session.notopen and session.race and not session.race.over then
    session.net, session.conn, session.header_sent, session.secure, session.encrypted = nil, nil, nil, nil, nil
    return session.race:again(reason)            -- no stream came about: other addresses may be better
  end
  session.lost = true
  s2s.destroy_session(session, reason,
    { condition = "remote-server-timeout", text = "The connection broke: " .. tostring(reason) })
end

local kind = {
  log = function(...) module:log(...) end,
  header = on_header, element = on_element, ended = on_ended, error = on_error, closed = on_closed,
}

function kind.opened(conn)
  local attempt = outgoing.connected(conn)
  if attempt then
    if not attempt.candidate.tls then attempt:up() end
    return
  end
  local session = s2s.new_incoming(conn)
  local group = network(session.ip)
  unproved[group] = (unproved[group] or 0) + 1
  session.unproved_from = group
  if unproved[group] > config.s2s_max_unproved_per_ip then
    task.spawn(refuse, session, "resource-constraint", "Too many connections from your address that have proved nothing")
  end
  return session
end

function kind.secured(session)
  session.outgoing, session.incoming = nil, nil  -- what was agreed before does not count (RFC 6120 §5.4.3.3)
  if session.direction ~= "outgoing" then return end
  session.queue:push { session, session.open_stream, session.from_host, session.to_host }
end

local function answers_come(session, l)
  if session.incoming then return true end
  for other in pairs(s2s.incoming_s2s) do
    if s2s.authorized(other, l.remote, l.here) then return true end
  end
  return false
end

-- Asks the other side, if there is a way for its answer (XEP-0199 §4.3); what it says does not matter. Pings are no traffic.
local function ping(session)
  local l
  for _, one in ipairs(link.of(session)) do l = l or one.open and one end
  if not l or session.pinging or not answers_come(session, l) then return false end
  local active = session.active
  local question = st.iq({ type = "get", id = id.short(), from = l.here, to = l.remote }):tag("ping", { xmlns = "urn:xmpp:ping" })
  session.pinging = true
  local function over(err)
    if session.destroyed then return end
    session.pinging, session.active = nil, active
    if err and err.condition == "remote-server-timeout" then
      session:close({ condition = "connection-timeout", text = "No answer" }, nil,
        { condition = "remote-server-timeout", text = "The other server does not answer" })
    end
  end
  module:context(l.here):send_iq(question:reset(), nil, config.s2s_ping_timeout):next(function() over() end, over)
  session.active = active
  return true
end

-- Silence: is the other side still there, and is the connection still of use?
function kind.idle(session)
  if bus_of(session).fire_event("s2s-read-timeout", { session = session }) then return end
  local quiet, ours = os.time() - session.active, session.direction == "outgoing"
  if ours and quiet >= config.s2s_idle_timeout or quiet >= 2 * config.s2s_idle_timeout
    or ours and session.type == "s2sout" and not next(session.links or {}) then
    session:close(nil, "nothing to do")
  elseif not (ours and ping(session)) then
    session.rawsend " "
  end
end

outgoing.kind = kind
local on = listener.new(kind)
on.xmlns = "jabber:server"
module.environment.listener = on

local secured, closed = on.secured, on.closed

function on.secured(conn)
  local attempt = outgoing.connected(conn)
  if attempt then return attempt:up() end
  secured(conn)
end

function on.closed(conn, reason)
  if not outgoing.gone(conn, reason) then closed(conn, reason) end
end

net.on("s2s", on)

-- Hosts -----------------------------------------------------------------------------------------------------------------

local function at_work(event)
  local session = event.session
  proved(session)
  outgoing.no_longer_pending(session)
  if session.timer then session.timer:stop() end
  local native = session.net
  if not native then return end
  native:deadline(nil)
  native:idle_after(config.s2s_keepalive < math.huge and config.s2s_keepalive or nil)
  native:window(config.s2s_window, config.s2s_window_bytes)
  -- A list of a service's rooms has many elements, all small: of whom we know as many as that has bytes for.
  native:limits { stanza_bytes = config.s2s_stanza_size_limit, children = math.max(4096, config.s2s_stanza_size_limit // 32) }
end

-- A server that comes back has forgotten its old streams; one that opens more and more does not get more for it.
local function no_more_than_some(event)
  local session = event.session
  local pair = session.from_host .. " " .. session.to_host
  local list = streams[pair] or {}
  streams[pair] = list
  list[#list + 1] = session
  if #list > config.s2s_max_streams_per_pair then
    list[1]:close { condition = "policy-violation", text = "There are newer streams for this domain" }
  end
end

local function forget_stream(event)
  local session = event.session
  local pair = tostring(session.from_host) .. " " .. tostring(session.to_host)
  local list = streams[pair] or {}
  for i, other in ipairs(list) do
    if other == session then table.remove(list, i) break end
  end
  if #list == 0 then streams[pair] = nil end
end

local function over(event)
  proved(event.session)
  outgoing.no_longer_pending(event.session)
end

local function stop_talking(host, stream, stanzas)
  enabled[host] = nil
  s2s.forbid(function(here) return here == host end, stream, stanzas)
end

-- A host of ours may have been another server's a moment ago: what was proved for it then, and what waits for it, is void.
local function no_longer_remote(host)
  for session in s2s.each() do
    if session.hosts and session.hosts[host] then
      session:close { condition = "policy-violation", text = host .. " is a domain of ours now" }
    end
  end
end

function module.add_host(host_module)
  local host = host_module.host
  no_longer_remote(host)
  local function configure()
    local disallowed = host_module:get_option_boolean("disallow_s2s", false)
    if disallowed and enabled[host] then
      stop_talking(host, { condition = "policy-violation", text = SILENT }, { condition = "not-allowed", text = SILENT })
    end
    enabled[host] = not disallowed or nil
  end
  host_module:hook("route/remote", function(event)
    if enabled[host] and event.to_host then return outgoing.route(event) end
  end, -1)
  host_module:hook("s2s-authenticated", function()
    if not enabled[host] then return false end
  end, 1000)
  host_module:hook("stanza/" .. STREAMS .. ":features", outgoing.features)
  for _, base in ipairs { "s2sin", "s2sout" } do
    host_module:hook(base .. "-established", at_work, 1000)
    host_module:hook(base .. "-destroyed", over, 1000)
  end
  host_module:hook("s2sin-established", no_more_than_some)
  host_module:hook("s2sin-destroyed", forget_stream)
  host_module:hook_global("host-deactivating", function(event)
    if event.host ~= host then return end
    stop_talking(host, { condition = "host-gone", text = "This server has stopped serving " .. host },
      { condition = "remote-server-not-found" })
  end)
  host_module:hook_global("config-reloaded", configure)
  host_module:on_unload(function() enabled[host] = nil end)
  configure()
end

module:hook("s2sin-destroyed", over)             -- those that never named a host

-- Whoever has mended a certificate or an option wants to see it work now, not when the wait for the next attempt ends.
module:hook("config-reloaded", function() link.forget_failures() end)

-- The first question starts the resolver (its thread, keys, caches: 30 to 80 ms): this one, which asks nobody else.
module:hook("server-started", function()
  require "couplet.net.adns".lookup(function() end, "localhost", "A")
end)

module:hook("server-stopping", function(event)
  for session in s2s.each() do
    session:close { condition = "system-shutdown", text = event.reason or "The server stops" }
  end
end, -50)

function module.save() return { unproved = unproved, streams = streams, outgoing = outgoing.state } end
function module.restore(state)
  unproved, streams = state.unproved or unproved, state.streams or streams
  outgoing.state = state.outgoing or outgoing.state
end

local function positive(n) return n > 0 and n or nil end

local listen = {
  window = { 1, config.s2s_window_bytes }, deadline = config.s2s_timeout, max_connections = positive(config.s2s_max_connections),
  max_per_ip = positive(config.s2s_max_connections_per_ip),
}

module:provides("net", {
  name = "s2s", class = "s2s", listen = listen, limits = outgoing.limits, default_port = 5269, encryption = "starttls",
  multiplex = { protocol = "xmpp-server" },
})
module:provides("net", {
  name = "s2s_direct_tls", class = "s2s", listen = listen, limits = outgoing.limits, default_port = 5270, encryption = "ssl",
  alpn = "xmpp-server", multiplex = { protocol = "xmpp-server" },
})
