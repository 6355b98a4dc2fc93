-- SPDX-License-Identifier: MIT
-- outgoing: the half of mod_s2s that calls other servers: connections made, proved, shared, and the way out for stanzas.
--
--   outgoing.route(event)             route/remote
--   outgoing.features(event)          what the other side offers
--   outgoing.needs_tls(session) -> bool
--   outgoing.connected(conn) -> attempt | nil     a connection that has not become a session's yet
--   outgoing.gone(conn) -> bool       it is over: was it one of those?
--   outgoing.no_longer_pending(session)
--   outgoing.state                    what a reload of mod_s2s keeps
-- mod_s2s sets outgoing.kind, for the queues of its sessions.

local certs = require "couplet.certs"
local clock = require "couplet.clock"
local dial = require "couplet.dial"
local hosts = require "couplet.hosts"
local link = require "couplet.s2s_link"
local listener = require "couplet.listener"
local net = require "couplet.core".net
local peer_cert = require "couplet.peer_cert"
local s2s = require "couplet.s2s"
local server_session = require "couplet.server_session"
local task = require "couplet.task"
local to_ascii = require "couplet.util.encodings".idna.to_ascii
local count = require "couplet.util.iterators".count

local config = module.config
local DIALBACK = "urn:xmpp:features:dialback"
local CANDIDATES_MAX = 8               -- on the way to a domain, whose records are looked at

-- attempts: connection -> attempt of a race; pending: sessions not yet authenticated; asked: address -> of these, how many for
-- its claims
local outgoing = { state = { attempts = {}, pending = 0, asked = {} } }

local function fire(session, event, data) return s2s.bus_of(session).fire_event(event, data) end

local function later(text) return { condition = "remote-server-timeout", text = text } end

-- What comes after the features -----------------------------------------------------------------------------------------

function s2s.prove(l)
  l.proving = true
  local session = l.session
  local under_way = hosts.get(l.here).events.fire_event("s2s/authenticate",
    { session = session, features = session.features, link = l })
  if under_way or session.destroyed then return true end
  l.proving = nil
  return false
end

-- TLS is as it should be. Proves us if somebody waits for that (again: one way has failed), and lets dialback ask.
function s2s.stream_ready(session, again)
  session.usable = true
  local l = link.get(session.from_host, session.to_host)
  if l and l.session == session and (again or not l.proving) and not s2s.prove(l) then
    local text = "No common way to prove a domain"
    return session:close({ condition = "undefined-condition", text = text }, nil, later(text))
  end
  if not session.destroyed and not session.sasl_under_way then fire(session, "s2s/ready", { session = session }) end
end

-- TLSA records promise TLS (RFC 7673 §3.4).
function outgoing.needs_tls(session)
  return s2s.needs_tls(session.from_host) or session.way and session.way.tlsa ~= nil
end

function outgoing.features(event)
  local session, features = event.origin, event.stanza
  if session.direction ~= "outgoing" then return nil end
  session.features = features
  if session.external_auth == "succeeded" and session.type == "s2sout_unauthed" then
    session.sasl_under_way = nil
    if not s2s.make_authenticated(session, session.to_host, "EXTERNAL") then
      return session:close "policy-violation" or true
    end
    fire(session, "s2sout-stream-features", { session = session, features = features })
    fire(session, "s2s/ready", { session = session })
    return true
  end
  local dialback = features:get_child("dialback", DIALBACK)
  session.knows_dialback = dialback and (dialback:get_child "errors" and "errors" or "yes")
  if not session.secure and outgoing.needs_tls(session) then
    session:close({ condition = "policy-violation", text = "TLS is needed here" }, nil,
      { condition = "remote-server-timeout", type = "cancel",
      text = "The other server offers no TLS" })
    return true
  end
  if session.type == "s2sout_unauthed" then s2s.stream_ready(session) end
  return true
end

-- Sharing a connection (XEP-0220 §2.6) ----------------------------------------------------------------------------------

-- May the link be proved on that stream, by dialback? The certificate must be good for it as if the stream were its own; what
-- DNSSEC vouches for on the way to another domain does not count.
local function may_share(session, l)
  local home = hosts.get(l.here)
  if session.type ~= "s2sout" or not link.takes(session) or not session.knows_dialback or not home.modules.dialback
    or count(pairs(session.links or {})) >= config.s2s_max_pairs
    or not session.secure and s2s.needs_tls(l.here) then
    return false
  end
  if l.remote ~= session.to_host and session.way and session.way.tlsa then return false end
  local good = s2s.check_certificate(session, l.remote, l.here)
  return good and not session.destroyed and not session.closing
end

local function share(l)
  l.session.log("debug", "is to carry what goes from %s to %s too", l.here, l.remote)
  l.shared = true
  l.timer = clock.timer(config.s2s_timeout, function() task.spawn(s2s.on_its_own, l) end)
  if not s2s.prove(l) then s2s.on_its_own(l) end
end

-- The same server for another domain of ours: nothing need be asked for that.
local function same_target(l)
  for session in s2s.each() do
    if session.to_host == l.remote and may_share(session, l) then return session end
  end
end

-- Another domain, whose name leads to the same port of the same machine: only where errors are part of the dialback.
local function same_machine(l, candidate)
  if candidate.tlsa then return nil end          -- its own records judge, and they did not there
  for session in s2s.each() do
    local native = session.knows_dialback == "errors" and session.net
    if native and native:ip() == candidate.address and native:port() == candidate.port and may_share(session, l) then
      return session
    end
  end
end

function s2s.on_its_own(l)
  if l.open or not l.shared or link.get(l.here, l.remote) ~= l then return end
  if l.timer then l.timer:stop() end
  l.shared, l.timer, l.alone = nil, nil, true
  local session, condition, text = s2s.outgoing(l.here, l.remote)
  if not session then return link.drop(l, { condition = condition, text = text }) end
  link.move(l, session)
  if session.usable then s2s.stream_ready(session) end
end

-- A stream the other side has made may carry what goes to that domain, unless we would find TLSA records on our way there and its
-- certificate is not what they describe: a good authority is less than they ask for (RFC 7673 §4.2).
function s2s.may_carry(session, remote)
  if not config.use_dane then return true end
  local next_candidate, free = dial.candidates(remote, { timeout = config.s2s_lookup_timeout, dane = true }), nil
  for _ = 1, CANDIDATES_MAX do
    local candidate, condition = next_candidate()
    if not candidate then return free or free == nil and condition == "remote-server-not-found" end
    if free == nil then free = true end
    local tls = session.secure and session.net and session.net:tls()
    for _, record in ipairs(candidate.tlsa or {}) do
      if tls and peer_cert.fits(record, session.conn:ssl_peercertificate(), tls, remote, candidate.host) then return true end
      free = false
    end
  end
  return free
end

-- Connections -----------------------------------------------------------------------------------------------------------

function outgoing.limits()
  return { stanza_bytes = config.s2s_unauthed_stanza_size_limit or config.s2s_login_stanza_size_limit,
    max_send_buffer = config.s2s_max_send_buffer }
end

local function connect_to(session, candidate, attempt)
  local context, err
  if candidate.tls then
    context, err = certs.client_context(session.from_host, candidate.tlsa)
    if not context then return nil, err end
  end
  session.log("debug", "trying %s port %d%s", candidate.address, candidate.port, candidate.tls and " (TLS)" or "")
  local conn
  conn, err = net.connect {
    address = candidate.address, port = candidate.port, class = "s2s", tls = context,
    alpn = candidate.tls and "xmpp-server" or nil, server_name = candidate.tls and to_ascii(session.to_host) or nil,
    limits = outgoing.limits(), window = { 1, config.s2s_window_bytes }, deadline = config.s2s_connect_timeout,
  }
  if not conn then return nil, err end
  outgoing.state.attempts[conn], attempt.session = attempt, session
  return conn
end

-- A connection there is already will do. The session made for this one was never seen by anybody.
local function instead(session, candidate)
  local l = link.get(session.from_host, session.to_host)
  if not l or l.session ~= session or l.alone or session.questions and session.questions[1] then return false end
  local other = same_machine(l, candidate)
  if not other then return false end
  link.move(l, other)
  share(l)
  s2s.destroy_session(session, "another connection will do")
  return true
end

local function begin(session)
  if session.destroyed or session.closing then return end
  session.queue = listener.queue(outgoing.kind)
  session.timer = clock.timer(config.s2s_timeout, function()
    task.spawn(function()
      if session.type ~= "s2sout_unauthed" then return end
      session:close(session.net and "connection-timeout" or nil, "not proved in time", later "The other server took too long")
    end)
  end)
  session.race = dial.race {
    next = dial.candidates(session.to_host, { timeout = config.s2s_lookup_timeout, dane = config.use_dane }),
    connect = function(candidate, attempt)
      if instead(session, candidate) then return nil end
      return connect_to(session, candidate, attempt)
    end,
    won = function(conn, candidate)
      outgoing.state.attempts[conn] = nil
      session.way = candidate
      server_session.attach(session, conn)
      if candidate.tls then session.secure, session.encrypted = true, true end
      session.queue:push { session, session.open_stream, session.from_host, session.to_host }
    end,
    lost = function(condition, text)
      task.spawn(s2s.destroy_session, session, text, { condition = condition, text = text })
    end,
  }
end

-- Our own connection from here to there; made if there is none, in a moment: links wait for it, and dialback's questions do.
-- Questions, to which strangers move us, get half of the places: the rest is for what our users say. Of these one stranger's
-- address gets a fifth.
local function full(asker)
  local state, places = outgoing.state, config.s2s_max_pending
  if not asker then return state.pending >= places end
  return state.pending >= places / 2 or (state.asked[asker] or 0) >= places / 10
end

function s2s.outgoing(from_host, to_host, asker)
  local session = s2s.to(from_host, to_host)
  if session then return session end
  if full(asker) then return nil, "resource-constraint", "Too many connections are being made" end
  local state = outgoing.state
  session = s2s.new_outgoing(from_host, to_host)
  state.pending = state.pending + 1
  if asker then state.asked[asker] = (state.asked[asker] or 0) + 1 end
  session.counted = asker or true
  local event = { session = session }
  if hosts.get(from_host).events.fire_event("s2sout-pre-connect", event) == false then
    s2s.destroy_session(session, event.reason or "refused by a plugin")
    return nil, "remote-server-not-found", event.reason
  end
  clock.timer(0, function() task.spawn(begin, session) end)
  return session
end

function outgoing.no_longer_pending(session)
  local asker, state = session.counted, outgoing.state
  if not asker then return end
  session.counted = nil
  state.pending = state.pending - 1
  local n = state.asked[asker]
  if n then state.asked[asker] = n > 1 and n - 1 or nil end
end

function outgoing.connected(conn) return outgoing.state.attempts[conn] end

function outgoing.gone(conn, reason)
  local attempt = outgoing.state.attempts[conn]
  if not attempt then return false end
  outgoing.state.attempts[conn] = nil
  local candidate = attempt.candidate
  attempt.session.log("debug", "%s port %d does not do: %s", candidate.address, candidate.port, reason)
  attempt:down(reason)
  return true
end

-- The way out -----------------------------------------------------------------------------------------------------------

-- A new link -> link | nil, condition, text, type
local function find(here, remote)
  local session = link.offered(here, remote)
  if session then
    local l = link.make(here, remote, session)
    link.opened(l)
    return l
  end
  local condition, text, kind = link.backing_off(here, remote)
  if condition then return nil, condition, text, kind end
  session = s2s.to(here, remote)
  local other = not session and same_target { here = here, remote = remote }
  if other then
    local l = link.make(here, remote, other)
    share(l)
    return l
  end
  session, condition, text = s2s.outgoing(here, remote)
  if not session then return nil, condition, text end
  local l = link.make(here, remote, session)
  if session.type == "s2sout" and s2s.authorized(session, remote, here) then link.opened(l) end
  return l
end

function outgoing.route(event)
  local here, remote, stanza = event.from_host, event.to_host, event.stanza
  local l = link.get(here, remote)
  if l and l.open and not l.queue and not l.session.parting and l.session.sends2s(stanza) then return true end
  if not l then
    local condition, text, kind
    l, condition, text, kind = find(here, remote)
    if not l then return link.refuse(stanza, condition, text, kind) or true end
    if l.open and l.session.sends2s(stanza) then return true end
  end
  if not link.enqueue(l, stanza) then
    return link.refuse(stanza, "resource-constraint", "Too much waits for that server") or true
  end
  if l.session.usable and not l.proving and not l.open then s2s.stream_ready(l.session) end
  return true
end

return outgoing
