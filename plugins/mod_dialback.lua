-- SPDX-License-Identifier: MIT
-- mod_dialback: a domain is proved by asking it (XEP-0220), with keys that need no memory (XEP-0185).
--
-- The dance: the originating server sends <db:result/> with its key (prove, below); the receiving server connects to the domain
-- and asks <db:verify/> (ask); the authoritative server answers (on_verify); the receiving server tells the originating one.
-- Any number of domain pairs may be proved on one incoming stream, each in its own time; trouble with one is an error inside the
-- dialback element and does not touch the stream.

local clock = require "couplet.clock"
local dialback = require "couplet.dialback"
local equals = require "couplet.util.hashes".equals
local hosts = require "couplet.hosts"
local link = require "couplet.s2s_link"
local network = require "couplet.lockout".network
local s2s = require "couplet.s2s"
local st = require "couplet.stanza"
local task = require "couplet.task"
local count = require "couplet.util.iterators".count

local NS, FEATURE = "jabber:server:dialback", "urn:xmpp:features:dialback"
local STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"

module:config {
  dialback_secret = { type = "string", secret = true, doc = "secret of the keys; needed where several machines serve a domain" },
  dialback_max_domains = { type = "integer", default = 100, min = 1,
    doc = "domain pairs on one incoming stream; as many failures end it" },
  dialback_max_questions = { type = "integer", default = 20, min = 1, doc = "of these, how many may be under way" },
}
local config = module.config

-- The host if it is ours, talks to others and does dialback.
local function our(name)
  local host = name and hosts.get(name)
  return host and host.modules.dialback and s2s.talks(name) and host or nil
end

local KEY_MAX = 1024                   -- bytes of a key that is kept until it is verified

local function text_of(element)
  return #element.tags == 0 and element:get_text() or ""
end

-- The other side may claim domains on a stream it has opened, or that may be used both ways once it is at work (XEP-0288 §2.2).
local function takes_claims(session)
  return session.direction == "incoming" or session.incoming and session.type == "s2sout"
end

local kinds = { ["remote-connection-failed"] = "cancel", ["remote-server-timeout"] = "wait", ["resource-constraint"] = "wait",
  ["policy-violation"] = "modify", ["not-authorized"] = "auth", forbidden = "auth", ["not-acceptable"] = "modify" }

-- from, to as the answer has them.
local function reply(session, name, from, to, id, kind, condition)
  local answer = st.stanza("db:" .. name, { from = from, to = to, id = id, type = kind })
  if kind == "error" then
    answer:tag("error", { type = kinds[condition] or "cancel" }):tag(condition, { xmlns = STANZAS }):up():up()
  end
  session.sends2s(answer)
  return true
end

module:hook("s2s-stream-features", function(event)
  if event.origin.type ~= "s2sin_unauthed" then return end
  event.features:tag("dialback", { xmlns = FEATURE }):tag("errors"):up():up()
end)

-- The authoritative server: was this key ours? Anybody may ask (steps 2 and 3).
local function on_question(session, element)
  local attr = element.attr
  local receiving, originating = s2s.domain(attr.from), s2s.domain(attr.to)
  if not receiving or not originating or not attr.id then
    return session:close { condition = "improper-addressing", text = "Dialback needs from, to and id" }
  end
  if not our(originating) then return reply(session, "verify", attr.to, attr.from, attr.id, "error", "item-not-found") end
  local key = dialback.key(dialback.secret_of(originating), receiving, originating, attr.id)
  local valid = equals(key, text_of(element))
  if not valid and not session.asked_wrongly then
    session.asked_wrongly = true                 -- one line for each stream
    session.log("warn", "%s asks about a key for %s that is not ours", receiving, originating)
  end
  return reply(session, "verify", attr.to, attr.from, attr.id, valid and "valid" or "invalid")
end

-- The receiving server asks (step 2): done(kind, condition, why?) at most once ------------------------------------------

local LINGER = 10                      -- seconds a connection made for a question is kept for what there may be to say

local function send_question(session, question)
  question.sent = true
  session.sends2s(st.stanza("db:verify", { from = question.here, to = question.remote, id = question.id }):text(question.key))
end

-- It gives its place back, but not at once: so many domains are called in so much time for one address, however fast it asks.
local function linger(session)
  if session.type ~= "s2sout_unauthed" or session.destroying then return end
  clock.timer(LINGER, function()
    if session.type ~= "s2sout_unauthed" or session.questions[1] or next(session.links or {}) then return end
    task.spawn(session.close, session, nil, "nothing more to ask")
  end)
end

-- A question is on two lists: of the stream it goes out on, and of the one the claim came on.
local function take_off(question)
  question.timer:stop()
  question.claimant.claims[question] = nil
  local questions = question.session.questions
  for i, other in ipairs(questions) do
    if other == question then table.remove(questions, i) break end
  end
  if not questions[1] then linger(question.session) end
end

local function settle(question, ...)
  take_off(question)
  return question.done(...)
end

-- Over a connection of our own: never the one the claim came on (XEP-0288 §2.2).
local function ask(claimant, here, remote, key, done)
  local session, condition = s2s.outgoing(here, remote, network(claimant.ip))
  if not session then return done("error", condition) end
  local question = { claimant = claimant, session = session, done = done,
    here = here, remote = remote, id = claimant.streamid, key = key }
  question.timer = clock.timer(module:get_option_period("s2s_timeout", 90), function()
    task.spawn(settle, question, "error", "remote-server-timeout", "no answer")
  end)
  claimant.claims[question] = true
  session.questions = session.questions or {}
  table.insert(session.questions, question)
  if session.usable and not session.sasl_under_way or session.type == "s2sout" then send_question(session, question) end
end

module:hook("s2s/ready", function(event)
  for _, question in ipairs(event.session.questions or {}) do
    if not question.sent then send_question(event.session, question) end
  end
end)

local function on_answer(session, element)
  local attr = element.attr
  local remote, here = s2s.domain(attr.from), s2s.domain(attr.to)
  for _, question in ipairs(session.questions or {}) do
    if question.sent and question.id == attr.id and question.remote == remote and question.here == here then
      if attr.type == "valid" or attr.type == "invalid" then
        settle(question, attr.type)
      else
        settle(question, "error", "remote-server-timeout")
      end
      return true
    end
  end
  session.log("debug", "an answer to a question nobody asked")
  return true
end

-- Nobody waits for the answers to what was claimed on it.
local function claimant_gone(session)
  for question in pairs(session.claims or {}) do take_off(question) end
end

module:hook("s2sin-destroyed", function(event) claimant_gone(event.session) end)

module:hook("s2sout-destroyed", function(event)
  local session = event.session
  claimant_gone(session)
  local condition = session.notopen and "remote-connection-failed" or "remote-server-timeout"
  if event.bounce and event.bounce.condition == "remote-server-not-found" then condition = "remote-server-not-found" end
  for _, question in ipairs({ table.unpack(session.questions or {}) }) do settle(question, "error", condition, event.reason) end
end)

-- The receiving server: somebody claims a domain (steps 1 and 4) --------------------------------------------------------

-- Each claim makes us call whoever it names: a stream has so many failures, proved for something else or not.
local function note_failure(session)
  session.failed_claims = (session.failed_claims or 0) + 1
  if session.failed_claims >= config.dialback_max_domains then
    session:close { condition = "policy-violation", text = "Too many claims that could not be verified" }
  end
end

local function answered(session, claim, kind, condition, why)
  if session.destroyed or session.closing then return end
  if claim.stream ~= session.streamid then return end      -- TLS or SASL has begun another: nobody looked at its certificate then
  local here, remote = claim.here, claim.remote
  if kind == "valid" then
    if s2s.make_authenticated(session, remote, "dialback", here) then
      reply(session, "result", here, remote, nil, "valid")
      s2s.told(session, remote, here)
    elseif not session.destroyed and not session.closing then
      reply(session, "result", here, remote, nil, "error", "not-authorized")
    end
  elseif kind == "invalid" then
    session.log("warn", "%s is not who it says: the key is not that of %s", session.ip, remote)
    if session.authenticated_remote then
      reply(session, "result", here, remote, nil, "error", "forbidden")
      return note_failure(session)
    end
    reply(session, "result", here, remote, nil, "invalid")
    session:close(nil, "dialback says no")
  else
    session.log("info", "cannot verify %s: %s%s", remote, condition, why and ": " .. why or "")
    reply(session, "result", here, remote, nil, "error", condition)
    if condition ~= "resource-constraint" then note_failure(session) end       -- for want of room nobody was called
  end
end

-- Is the certificate good enough for this domain? An old server, whose header names nobody, is the first one it is good for.
local function vouched(session, remote, here)
  local nobody = session.from_host == nil
  if nobody then session.from_host = remote end
  local good, problem = s2s.check_certificate(session, remote, here)
  if nobody and not good then session.from_host = nil end
  return good, problem
end

local function on_claim(session, element)
  local attr = element.attr
  local here, remote = s2s.domain(attr.to), s2s.domain(attr.from)
  if not here or not remote then
    return session:close { condition = "improper-addressing", text = "Dialback needs from and to" }
  end
  if hosts.get(remote) then return session:close { condition = "invalid-from", text = "That is a domain of ours" } end
  local function trouble(condition) return reply(session, "result", attr.to, attr.from, nil, "error", condition) end
  if not our(here) then return trouble "item-not-found" end
  if #text_of(element) > KEY_MAX then return trouble "not-acceptable" end
  if not session.secure and s2s.needs_tls(here) then
    return trouble "policy-violation"
  end
  if not session.notopen then
    local good, problem = vouched(session, remote, here)
    if not good then
      session.log("info", "%s: the certificate is not good: %s", remote, problem or "refused")
      trouble "not-authorized"
      return note_failure(session)
    end
  end
  if session.destroyed then return true end
  if not our(here) or hosts.get(remote) then return trouble "item-not-found" end            -- not any more
  if s2s.authorized(session, remote, here) then            -- there is nothing to ask, on a stream of ours least of all
    reply(session, "result", here, remote, nil, "valid")
    return s2s.told(session, remote, here) or true
  end
  session.claims = session.claims or {}
  if count(pairs(session.claims)) >= config.dialback_max_questions
    or not session.hosts[remote] and count(pairs(session.hosts)) >= config.dialback_max_domains then
    return trouble "resource-constraint"
  end
  session.hosts[remote] = session.hosts[remote] or { authed = false }
  session.log("debug", "claims to be %s", remote)
  local claim = { here = here, remote = remote, stream = session.streamid }
  ask(session, here, remote, text_of(element), function(...) answered(session, claim, ...) end)
  return true
end

-- The originating server (steps 1 and 4) --------------------------------------------------------------------------------

module:hook("s2s/authenticate", function(event)
  local session, l = event.session, event.link
  if not session.streamid then return nil end
  local key = dialback.key(dialback.secret_of(l.here), l.remote, l.here, session.streamid)
  session.dialback_key = session.dialback_key or key
  session.claimed = session.claimed or {}
  session.claimed[l.here .. " " .. l.remote] = true
  session.sends2s(st.stanza("db:result", { from = l.here, to = l.remote }):text(key))
  return true
end)

-- One that nobody waits for changes nothing (XEP-0220 §3.1). The link may have found another stream meanwhile.
local function on_verdict(session, element)
  local attr = element.attr
  local here, remote = s2s.domain(attr.to), s2s.domain(attr.from)
  local pair = here and remote and here .. " " .. remote
  if not pair or not session.claimed or not session.claimed[pair] then
    session.log("debug", "a verdict nobody waits for")
    return true
  end
  session.claimed[pair] = nil
  if attr.type == "valid" then
    if s2s.make_authenticated(session, remote, "dialback", here) or session.destroyed then return true end
    local l = link.get(here, remote)
    if l and l.session == session and l.shared then        -- this host of ours asks for more than the one it was made for
      s2s.on_its_own(l)
    elseif session.type ~= "s2sout" then
      session:close "policy-violation"
    end
    return true
  end
  local bounce = { condition = "internal-server-error", text = "The other server does not believe us" }
  if attr.type ~= "invalid" then
    local reason
    for _, child in ipairs(element.tags) do
      if child.name == "error" then reason = child.tags[1] and child.tags[1].name end
    end
    bounce = s2s.refused(reason, "The other server cannot verify us: " .. (reason or "error"))
  end
  local l = link.get(here, remote)
  l = l and l.session == session and l or nil
  if l and l.shared then
    session.log("info", "%s to %s cannot share this connection: %s", here, remote, bounce.text)
    s2s.on_its_own(l)
  elseif session.questions and session.questions[1] then                           -- these may still be answered
    if l then s2s.give_up(l, bounce) end
  elseif session.type ~= "s2sout" then           -- else others still use it
    session:close(nil, bounce.text, bounce)
  end
  return true
end

module:hook("stanza/" .. NS .. ":verify", function(event)
  local session, element = event.origin, event.stanza
  if not element.attr.type and takes_claims(session) then return on_question(session, element) or true end
  if session.direction == "outgoing" and element.attr.type then return on_answer(session, element) end
end)

module:hook("stanza/" .. NS .. ":result", function(event)
  local session, element = event.origin, event.stanza
  if not element.attr.type and takes_claims(session) then return on_claim(session, element) or true end
  if session.direction == "outgoing" and element.attr.type then return on_verdict(session, element) end
end)
