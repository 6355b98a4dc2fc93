-- SPDX-License-Identifier: MIT
-- s2s.lua: the life of sessions with other servers (core.s2smanager): made, proved, the end. What they carry, and what waits for
-- them, is in couplet.s2s_link.
--
--   new_incoming(native) -> session                     type s2sin_unauthed
--   new_outgoing(from_host, to_host) -> session         type s2sout_unauthed; it carries nothing yet
--   to(from_host, to_host) -> session | nil             the connection of our own from here to there
--   make_authenticated(session, remote?, mechanism?, here?) -> bool      the remote domain is proved, for our domain `here`; of
--                                                       an outgoing session: it knows us, and what waits is sent
--   authorized(session, remote, here) -> bool           may stanzas of that pair come in on this stream?
--   told(session, remote, here)                         the other side knows that it is proved: event s2s/proved
--   adopt(session, remote, here)                        a stream from there may carry what goes there (XEP-0288)
--   give_up(link, bounce)                               no way for it, for a while
--   destroy_session(session, reason?, bounce?)          bounce: { condition, text, type? } for what waits
--   refused(condition, text) -> bounce                  the other side has said so, in a stream error or an error of dialback
--   needs_tls(host) -> bool                             option s2s_require_encryption
--   needs_certificate(host, domain) -> bool, why        must it be a good one? options s2s_secure_auth, s2s_(in)secure_domains
--   listed(host, option) -> names(domain) -> bool       a list of the configuration: for all hosts and for this one together;
--                                                       "*.example.com" names all domains below that one
--   forbid(forbidden, reason, bounce)                   ends all that is up between domains for which forbidden(here, remote)
--   domain(text | nil) -> domain as it is compared | nil     what other servers say they are
--   each() -> iterator over all sessions                incoming_s2s: set of the incoming ones
--
-- mod_s2s adds what needs the network:
--   talks(host) -> bool                                 a host of ours that talks to other servers
--   outgoing(from_host, to_host, asker?) -> session | nil, condition, text      the one there is, or a new one; asker: the
--                                                       address that has us ask dialback's question
--   check_certificate(session, remote, here?) -> bool, what is wrong      is what the other side shows good enough for it?
--   stream_ready(session, again?)                       TLS is as it should be: prove us, ask dialback's questions
--   prove(link) -> bool                                 begin to make ourselves known for that pair; false: there is no way
--   may_carry(session, remote) -> bool                  is it as good for what goes there as a connection of our own? may wait
--   on_its_own(link)                                    a shared stream did not do: a connection for this link alone

local config = require "couplet.config"
local hosts = require "couplet.hosts"
local link = require "couplet.s2s_link"
local options = require "couplet.options"
local prepped_split = require "couplet.jid".prepped_split
local prosody = require "couplet.prosody"
local server_session = require "couplet.server_session"
local to_ascii = require "couplet.util.encodings".idna.to_ascii

local s2s = { incoming_s2s = prosody.incoming_s2s }

local outgoing = {}                    -- "from to" -> session
local leaving = {}                     -- sessions that have said all, and still listen

-- In the same form as the domain of an address in a stanza, or what is proved would not be what is asked for.
function s2s.domain(text)
  if not text or #text > 1023 or text:find "[@/]" then return nil end
  local _, domain = prepped_split(text)
  return domain
end

local function bus_of(session)
  local home = session.host and hosts.get(session.host)
  return home and home.events or prosody.events
end
s2s.bus_of = bus_of

local function fire(session, event, data)
  data = data or {}
  data.session = session
  local fire_event = bus_of(session).fire_event
  fire_event("s2s-" .. event, data)
  return fire_event(session.base_type .. "-" .. event, data)
end

-- What the other side's refusal means to those who write there. remote-server-timeout is worth another try, unless the server was
-- found and does not want us or cannot know us (RFC 6120 §8.3.3.16).
local not_there = { ["host-unknown"] = true, ["host-gone"] = true, ["item-not-found"] = true }
local lasting = { ["not-authorized"] = true, ["policy-violation"] = true, forbidden = true, ["not-allowed"] = true }

function s2s.refused(condition, text)
  if not_there[condition] then return { condition = "remote-server-not-found", text = text } end
  return { condition = "remote-server-timeout", type = lasting[condition] and "cancel" or nil, text = text }
end

-- Making ----------------------------------------------------------------------------------------------------------------

function s2s.new_incoming(net)
  local session = server_session.new("incoming", net)
  s2s.incoming_s2s[session] = true
  fire(session, "created")
  return session
end

function s2s.new_outgoing(from_host, to_host)
  local session = server_session.new("outgoing")
  session.from_host, session.to_host, session.host = from_host, to_host, from_host
  session.hosts[to_host] = { authed = false }
  outgoing[from_host .. " " .. to_host] = session
  fire(session, "created")
  return session
end

function s2s.to(from_host, to_host)
  local session = outgoing[from_host .. " " .. to_host]
  if session and link.takes(session) then return session end
end

function s2s.each()
  local list = {}
  for session in pairs(s2s.incoming_s2s) do list[#list + 1] = session end
  for _, session in pairs(outgoing) do list[#list + 1] = session end
  for session in pairs(leaving) do
    if session.direction == "outgoing" then list[#list + 1] = session end
  end
  local i = 0
  return function()
    i = i + 1
    return list[i]
  end
end

-- The configuration of a host, as files from Prosody say it.
function s2s.needs_tls(host)
  local needed = config.get(host, "s2s_require_encryption")
  if needed == nil then needed = config.get(host, "require_encryption") end
  return needed ~= false
end

local function quietly(host) return { host = host, log = function() end } end      -- plugins complain of what is wrong there

function s2s.needs_certificate(host, domain)
  local owner = quietly(host)
  local function named_in(option)
    local domains = options.get_option_set(owner, option, {})
    return domains:contains(domain) or domains:contains(to_ascii(domain))
  end
  if options.get_option_boolean(owner, "s2s_secure_auth", true) then
    return not named_in "s2s_insecure_domains", "s2s_insecure_domains names it", ("s2s_insecure_domains = { %q }"):format(domain)
  end
  return named_in "s2s_secure_domains", "s2s_secure_auth is false", ("s2s_secure_domains without %q"):format(domain)
end

function s2s.listed(host, option)
  local set = {}
  for text in options.get_option_inherited_set(quietly(host), option, {}):items() do
    local below, domain = tostring(text):match "^(%*?%.?)(.*)$"
    if below ~= "*." then below, domain = "", tostring(text) end
    set[below .. (s2s.domain(domain) or domain)] = true
  end
  return function(domain)
    if set[domain] then return true end
    for dot in domain:gmatch "()%." do
      if set["*" .. domain:sub(dot)] then return true end
    end
    return false
  end
end

function s2s.may_carry() return true end              -- until mod_s2s says more

-- Proved ----------------------------------------------------------------------------------------------------------------

function s2s.authorized(session, remote, here)
  local known = session.hosts[remote]
  return known ~= nil and known.authed == true and (known.locals == nil or known.locals[here] == true)
end

local function at_work(session, remote, here, mechanism)
  session.mechanism, session.authenticated_remote = mechanism, true
  if session.direction == "incoming" then session.from_host, session.to_host, session.host = remote, here, here end
  session.type = session.base_type
  fire(session, "connected")
  fire(session, "established")
end

function s2s.make_authenticated(session, remote, mechanism, here)
  if session.destroyed or session.closing then return false end
  local incoming = session.direction == "incoming"
  remote = remote or (incoming and session.from_host or session.to_host)
  here = here or (incoming and session.to_host or session.from_host)
  if not remote or not here then return false end
  local home = hosts.get(here)
  if not home or hosts.get(remote) then return false end         -- a reload may have changed what is ours since the claim
  local verdict = home.events.fire_event("s2s-authenticated",
    { session = session, host = remote, mechanism = mechanism, here = here })
  if session.destroyed or session.closing then return false end
  if verdict == false then
    session.log("info", "%s is refused here", remote)
    return false
  end
  local known = session.hosts[remote] or {}
  session.hosts[remote] = known
  known.authed = true
  known.locals = known.locals or {}
  known.locals[here] = true
  link.forget_failures(here, remote)
  session.log("info", "%s %s for %s, %s, proved by %s", incoming and "from" or "to", remote, here,
    session.secure and "TLS" or "in the clear", mechanism or "?")
  if session.type == session.base_type .. "_unauthed" then
    at_work(session, remote, here, mechanism)
    if session.destroyed then return false end
  end
  local l = not incoming and link.get(here, remote)
  if l and l.session == session then link.opened(l) end
  return not session.destroyed
end

function s2s.told(session, remote, here)
  local home = hosts.get(here)
  if home then home.events.fire_event("s2s/proved", { session = session, host = remote, here = here }) end
end

-- If both sides have called each other, the smaller name keeps its own connection, so that not both change sides; and a link
-- that is open stays where it is, for the sake of order. Should its carrier end, there is another.
function s2s.adopt(session, remote, here)
  if not link.takes(session) or not s2s.authorized(session, remote, here) then return end        -- not any more
  link.offer(here, remote, session)
  local l = link.get(here, remote)
  if not l then
    l = link.make(here, remote, session)
  elseif l.open or l.session == session or here < remote then
    return
  else
    local before = l.session
    link.move(l, session)
    if not before.proving and not before.usable then before:close(nil, "the other side has called us") end
  end
  session.log("info", "what goes from %s to %s goes back on this stream", here, remote)
  link.opened(l)
end

-- The end ---------------------------------------------------------------------------------------------------------------

local function bounce_sendq(session, reason)
  if type(reason) ~= "table" then reason = { text = reason } end
  local n = 0
  for _, l in ipairs(link.of(session)) do n = n + link.give_back(l, reason) end
  return n
end
server_session.methods.bounce_sendq = bounce_sendq

-- There is no way for it, for a while.
function s2s.give_up(l, bounce)
  if not l.open and l.queue then
    local wait = link.failed(l.here, l.remote, bounce)
    l.session.log("info", "no way from %s to %s: %s; no attempt before %.0f s are over", l.here, l.remote,
      bounce.text or "closed", wait)
    bounce = { condition = bounce.condition, text = bounce.text, type = bounce.type, told = true }
  end
  link.drop(l, bounce)
end

-- A link has lost its carrier.
local function lost(session, l, reason, bounce)
  if session.parting and l.open and l.queue then return link.strand(session, l) end
  local other = not l.open and link.offered(l.here, l.remote)
  if other and other ~= session then
    link.move(l, other)
    return link.opened(l)
  end
  s2s.give_up(l, bounce.text and bounce or { condition = bounce.condition, type = bounce.type, text = reason })
end

-- Nothing goes out on it any more.
local function carries_nothing(session, reason, bounce)
  link.withdraw(session)
  if session.direction == "outgoing" then
    local key = session.from_host .. " " .. session.to_host
    if outgoing[key] == session then outgoing[key] = nil end
  end
  for _, l in ipairs(link.of(session)) do lost(session, l, reason, bounce) end
end

function server_session.left(session, reason, bounce)
  leaving[session] = true
  carries_nothing(session, reason, bounce or { condition = "remote-server-timeout", text = reason })
end

-- A stream of such a pair is closed with reason; one made for another pair carries these no longer. What waits goes back with
-- bounce.
function s2s.forbid(forbidden, reason, bounce)
  for session in s2s.each() do
    local remote = session.direction == "incoming" and session.from_host or session.to_host
    if session.host and remote and forbidden(session.host, remote) then
      session:close(reason, nil, bounce)
    else
      for _, l in ipairs(link.of(session)) do
        if forbidden(l.here, l.remote) then link.drop(l, bounce) end
      end
      for domain, known in pairs(session.hosts or {}) do
        for here in pairs(known.locals or {}) do
          if forbidden(here, domain) then
            known.locals[here] = nil
            link.take_back(here, domain, session)
          end
        end
      end
    end
  end
end

function s2s.destroy_session(session, reason, bounce)
  if session.destroyed or session.destroying then return end
  session.destroying = true
  if session.race then session.race:stop() end
  if session.timer then session.timer:stop() end
  s2s.incoming_s2s[session], leaving[session] = nil, nil
  if session.type ~= "s2sout_unauthed" then
    -- Who tries several addresses drops what it does not need: no news.
    local dropped = session.lost and session.notopen and not session.from_host
      and not tostring(reason):find "^TLS handshake failed"
    session.log(dropped and "debug" or "info", "session %s %s ended: %s", session.direction == "incoming" and "from" or "to",
      session.direction == "incoming" and (session.from_host or session.ip) or session.to_host, reason or "closed")
  end
  bounce = bounce or { condition = "remote-server-timeout", text = reason }
  carries_nothing(session, reason, bounce)
  fire(session, "destroyed", { reason = reason, bounce = bounce })
  link.send_again(session)
  server_session.retire(session)
end
server_session.destroy = s2s.destroy_session

return s2s
