-- SPDX-License-Identifier: MIT
-- mod_smacks: stream management for clients (XEP-0198): acknowledgements, and sessions that outlive their connection.
--
-- Exports, for one-round-trip login (XEP-0388, XEP-0386):
--   do_enable(session, element) -> { id?, resume_max?, element } | nil, error           element: <enabled/>, to be sent
--   do_resume(session, element) -> { session, id, element, finish } | nil, error        may wait. element: <resumed/>, to be
--         sent on the session returned; then finish() sends what the client has not got. error.context.h: as far as is known
--   failed(error, xmlns?) -> <failed/>
-- and for those who can wake clients: keep_waiting(session, seconds)
--
-- What counts as handled: docs/reliability.md. What happens to a session over a restart: smacks/restart.lib.lua.

local client_session = require "couplet.client_session"
local clock = require "couplet.clock"
local core = require "couplet.core"
local directory = require "couplet.directory"
local errors = require "couplet.errors"
local hosts = require "couplet.hosts"
local id = require "couplet.util.id"
local sessions = require "couplet.sessions"
local sm = require "couplet.sm"
local st = require "couplet.stanza"
local task = require "couplet.task"

local host = module.host
local attr_of = core.stanza.attr

module:config {
  smacks_hibernation_time = { type = "period", default = 600, min = 0,
    doc = "time a session without connection may be resumed" },
  smacks_location = { type = "string", doc = "where clients should come to resume, if not where they came first: "
    .. "a host or address, with or without a port (IPv6 in square brackets)" },
  smacks_max_hibernated_sessions = { type = "integer", default = 10, min = 0,
    doc = "sessions of one account without connection; the oldest ends first" },
  smacks_max_queue_size = { type = "integer", default = 500, min = 1,
    doc = "stanzas kept for a session without connection; with one, sixteen times as many may be unacknowledged" },
  smacks_max_queue_bytes = { type = "integer", default = 1024 * 1024, min = 16384, doc = "and their bytes" },
  smacks_max_total_bytes = { type = "integer", default = 256 * 1024 * 1024, min = 1024 * 1024,
    doc = "bytes that may wait for acknowledgement in all sessions of the server; over it, sessions of whoever has most end" },
  smacks_max_unacked_stanzas = { type = "integer", default = 5, min = 0,
    doc = "stanzas that go out before acknowledgement is asked for at once; for fewer, after a second" },
  smacks_max_ack_delay = { type = "period", default = 30, min = 1,
    doc = "time after which a client that does not acknowledge is thought to be away" },
  smacks_enabled_s2s = { type = "boolean", default = true, doc = "stream management between servers, too" },
  smacks_max_inactive_unacked_stanzas = { type = "integer", default = 256, min = 0,
    doc = "as smacks_max_unacked_stanzas, for clients that said they are inactive (XEP-0352)" },
}
local config = module.config

local SETTLE = 10                              -- seconds a resumption waits for what is still under way
local CONNECTED = 16                           -- how much more may wait while there is a connection
local NAMESPACES = { "urn:xmpp:sm:3", "urn:xmpp:sm:2" }

local by_token = {}                            -- token -> session, all that can be resumed
local memory = module:require "memory"         -- what is known of sessions that are over
local restart = module:require "restart"

-- Limits, questions ---------------------------------------------------------------------------------------------------

local function set_limits(session)
  if not session.sm then return end
  local link, factor = session.sm, session.hibernating and 1 or CONNECTED
  link:limits(config.smacks_max_queue_size * factor, config.smacks_max_queue_bytes * factor)
  link:ask_after(session.state == "inactive" and config.smacks_max_inactive_unacked_stanzas
    or config.smacks_max_unacked_stanzas)
end

local function listened(event)
  local bus = hosts.get(host).events
  return bus.entries(event)[1] ~= nil or bus.wrapped(event)
end

-- The end of a session without connection.
local function finish(session, why)
  if session.destroyed or session.sm.final then return end
  session.sm.final = true
  sessions.destroy_session(session, why)
end

local function on_full(link)
  local session = link.session
  if session.hibernating then
    return finish(session, "too much waits for it")
  end
  session:close { condition = "policy-violation", text = "Too many stanzas are not acknowledged" }
end

-- A server that does not acknowledge is not there: a new connection may find it.
local function gone(link)
  local session = link.session
  session.log("info", "%s does not acknowledge", session.to_host or "?")
  if session.net then session.net:abort "no acknowledgement" end
end

local function on_delayed(link)
  local session = link.session
  session.log("debug", "does not acknowledge")
  local view = link:stanzas()
  module:fire_event("smacks-ack-delayed", { origin = session, queue = view, stanza = view[#view] })
end

local function wants_acked() return listened "delivery/success" end

local function on_ack(link, list)
  for _, bytes in ipairs(list) do
    module:fire_event("delivery/success", { session = link.session, stanza = sm.stanza(bytes) })
  end
end

local function on_kept(link, x)
  local session = link.session
  if not session.hibernating then return end
  if link.queue:full() then task.spawn(on_full, link) end
  if listened "smacks-hibernation-stanza-queued" then
    task.spawn(module.fire_event, module, "smacks-hibernation-stanza-queued",
      { origin = session, queue = link:stanzas(), stanza = type(x) == "string" and sm.stanza(x) or x })
  end
end

-- A session and its link ----------------------------------------------------------------------------------------------

-- What plugins know a session's state by (PLUGIN-API §5), made when asked for.
local function adopt(link)
  link.on_full, link.on_delayed, link.on_kept = on_full, on_delayed, on_kept
  link.on_ack, link.wants_acked = on_ack, wants_acked
end

local function begin(session, xmlns)
  local link = sm.new(session, { xmlns = xmlns, max_ack_delay = config.smacks_max_ack_delay })
  session.sm, session.smacks = link, xmlns
  adopt(link)
  set_limits(session)
  return link
end

local function problem(condition, text, h)
  return errors.new({ type = "cancel", condition = condition, text = text }, { h = h })
end

function failed(err, xmlns)
  local h = err.context and err.context.h
  return st.stanza("failed", { xmlns = xmlns or NAMESPACES[1], h = h and ("%d"):format(h) or nil })
    :tag(err.condition, { xmlns = "urn:ietf:params:xml:ns:xmpp-stanzas" }):up()
end

local function bool(text) return text == "true" or text == "1" end

-- Enable --------------------------------------------------------------------------------------------------------------

function do_enable(session, element)
  if session.type ~= "c2s" then return nil, problem("unexpected-request", "Bind a resource first") end
  if session.sm then return nil, problem("unexpected-request", "It is enabled already") end
  local xmlns = attr_of(element, "xmlns") or NAMESPACES[1]
  begin(session, xmlns)
  local result = {}
  local seconds = config.smacks_hibernation_time
  if bool(attr_of(element, "resume")) and seconds > 0 then
    local wish = math.tointeger(tonumber(attr_of(element, "max") or ""))
    if wish and wish > 0 then seconds = math.min(seconds, wish) end
    result.id, result.resume_max = id.medium(), seconds < math.huge and math.floor(seconds) or nil
    session.resumption_token, session.original_smacks_timeout = result.id, seconds
    by_token[result.id] = session
    memory.watch(session)
  end
  session.net:track(session.sm.queue)
  result.element = st.stanza("enabled", { xmlns = xmlns, id = result.id, resume = result.id and "true" or nil,
    max = result.resume_max and ("%d"):format(result.resume_max) or nil, location = result.id and config.smacks_location })
  return result
end

local function on_enable(event)
  local session = event.origin
  local result, err = do_enable(session, event.stanza)
  session.send(result and result.element or failed(err, attr_of(event.stanza, "xmlns")))
  return true
end

-- Acknowledgements ----------------------------------------------------------------------------------------------------

local function on_r(event)
  local link = event.origin.sm
  if link then link:answer() end
  return true
end

local function on_a(event)
  local session = event.origin
  local link = session.sm
  if not link then return true end
  local h = sm.number(attr_of(event.stanza, "h"))
  if not h then
    session:close { condition = "undefined-condition", text = "An acknowledgement has a number h" }
  elseif not link:ack(h) then
    session:close(link:too_many(h))
  end
  return true
end

-- Resume --------------------------------------------------------------------------------------------------------------

-- Everything that came in on the old connection is handled, and settled.
local function finish_old(old)
  local net = old.net
  if net then
    if not old.closing then
      old.rawsend "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>"
    end
    net:session(nil)
    net:close()
    old.net, old.conn = nil, nil
    client_session.flushed(old, false)         -- what waits for this connection would hold up the queue
  end
  local queue = old.queue
  if queue then
    local passed = task.await(function(done)
      local timer = clock.timer(SETTLE, function() done(false) end)
      queue:push { old, function()
        timer:stop()
        done(true)
      end }
    end)
    if not passed then return false end
  end
  return old.sm ~= nil and old.sm ~= false and old.sm:settle(SETTLE)
end

local settle_away                              -- below

-- -> true, or nil and an error: then nothing has been taken from the old session but its connection.
local function ready(old, session, token, h)
  local settled = finish_old(old)
  -- what was written for a restart is out of date from now on, also if the server is killed in a moment
  if settled then restart.forget(old, token) end
  if session.destroyed or session.closing then return nil, problem("unexpected-request", "The new stream has ended") end
  if by_token[token] ~= old or old.destroyed then
    return nil, problem("item-not-found", nil, memory.h(session.username, token))
  end
  local link = old.sm
  if not settled then
    task.spawn(finish, old, "what it sent could not be stored in time")
    return nil, problem("resource-constraint", "What you sent is still under way", link:h())
  end
  if not link:ack(h) then
    session:close(link:too_many(h))
    return nil, problem("unexpected-request", "More was acknowledged than was sent")
  end
  return true
end

function do_resume(session, element)
  local token, h = attr_of(element, "previd"), sm.number(attr_of(element, "h"))
  if session.type ~= "c2s_unbound" then
    return nil, problem("unexpected-request", "Only after authentication, and before a resource is bound")
  end
  if not token or not h then return nil, problem("bad-request", "previd and h are needed") end
  local old = by_token[token]
  if not old or old.destroyed or old.username ~= session.username or old.host ~= session.host then
    return nil, problem("item-not-found", nil, memory.h(session.username, token))
  end
  if old.resuming then return nil, problem("resource-constraint", "It is being resumed") end
  old.resuming = true
  local ok, err = ready(old, session, token, h)
  old.resuming = nil
  if not ok then
    settle_away(old)
    return nil, err
  end
  local link, was_away = old.sm, old.hibernating
  old.hibernating, old.first_hibernated_push = nil, nil
  if old.hibernation_timer then
    old.hibernation_timer:stop()
    old.hibernation_timer = nil
  end
  link:resumed()
  sessions.update_session(old, session)
  set_limits(old)
  old.log("debug", "resumed; %d stanzas were not acknowledged", #link.queue)
  return {
    session = old, id = token,
    element = st.stanza("resumed", { xmlns = link.xmlns, previd = token, h = ("%d"):format(link:h()) }),
    finish = function()
      if not link.over then link:resend() end
      if was_away then
        module:fire_event("smacks-hibernation-end", { origin = old, resumed = true, queue = link:stanzas() })
      end
    end,
  }
end

local function on_resume(event)
  local session, element = event.origin, event.stanza
  local xmlns = attr_of(element, "xmlns")
  local result, err = do_resume(session, element)
  if not result then
    if not session.destroyed then session.send(failed(err, xmlns)) end
    return true
  end
  result.session.send(result.element)
  result.finish()
  return true
end

-- Away ----------------------------------------------------------------------------------------------------------------

local function hibernated(user)
  local oldest, n = nil, 0
  for _, session in pairs(user and user.sessions or {}) do
    if session.hibernating then
      n = n + 1
      if not oldest or session.hibernating < oldest.hibernating then oldest = session end
    end
  end
  return n, oldest
end

local function time_out(session)
  if not session.hibernating or session.destroyed or session.resuming then return end
  finish(session, "not resumed in time")
end

-- Until when it is kept; seconds: from now.
local function keep(session, seconds)
  if session.hibernation_timer then session.hibernation_timer:stop() end
  if seconds == math.huge then return end
  session.hibernation_timer = clock.timer(seconds, function() task.spawn(time_out, session) end)
end

local function hibernate(session)
  session.hibernating = clock.wall()
  session.sm.broken = nil
  set_limits(session)
  if session.sm.queue:full() then
    session.hibernating = nil
    return false
  end
  keep(session, session.original_smacks_timeout)
  session.log("info", "%s hibernates: %d stanzas wait", session.full_jid, #session.sm.queue)
  local user = directory.user(session.username .. "@" .. host)
  local n, oldest = hibernated(user)
  if n > config.smacks_max_hibernated_sessions and oldest ~= session then
    task.spawn(finish, oldest, "too many sessions without connection")
  end
  module:fire_event("smacks-hibernation-start", { origin = session, queue = session.sm:stanzas() })
  return true
end

-- A resumption took the connection and then failed: the session goes on waiting, as it did before or from now on.
function settle_away(session)
  if session.destroyed or session.net or session.sm.final then return end
  if session.hibernating then
    local left = session.hibernation_timer and not session.hibernation_timer:active()
    if left then task.spawn(time_out, session) end
  elseif by_token[session.resumption_token] ~= session or not hibernate(session) then
    task.spawn(finish, session, "not resumed")
  end
end

-- For mod_cloud_notify: a session without connection is kept for so long from now on.
function keep_waiting(session, seconds)
  if session.hibernating and not session.resuming then keep(session, seconds) end
end

local stopping = false

module:hook("pre-resource-unbind", function(event)
  local session = event.session
  local link = session.sm
  if not link then return nil end
  local token = session.resumption_token
  local wanted = token and not link.final and by_token[token] == session and config.smacks_max_hibernated_sessions > 0
    and (stopping and not session.peer_ended or not session.closing)
  if wanted and (session.hibernating or hibernate(session)) then return true end
  if token then by_token[token], session.resumption_token = nil, nil end
  link.priority = session.priority               -- unavailable presence takes it away
  memory.over(session, token, session.closing and session.peer_ended)
  if token then restart.forget(session, token) end
end, -1000)

-- The end: what was not acknowledged goes another way -----------------------------------------------------------------

local redeliver = module:require "redeliver"

module:hook("resource-unbind", function(event)
  local session = event.session
  local link = session.sm
  if not link then return end
  if session.hibernation_timer then session.hibernation_timer:stop() end
  if session.hibernating then
    session.hibernating = nil
    module:fire_event("smacks-hibernation-end", { origin = session, resumed = false, queue = link:stanzas() })
  end
  local list = redeliver.collect(link)
  redeliver.run(session, list)
  link:close()
end, -1)

-- Silence: a question shows whether anybody is there. One that was not answered is the answer.
module:hook("c2s-read-timeout", function(event)
  local session = event.session
  local link = session.sm
  if not link or not session.net then return nil end
  if link.queue:requested() then
    session.log("info", "the client has not answered for %.0f seconds", link.queue:requested())
    session.net:abort "no answer"
  else
    link:ask()
  end
  return true
end)

-- Hooks ---------------------------------------------------------------------------------------------------------------

module:hook("stream-features", function(event)
  local session = event.origin
  if session.type ~= "c2s_unbound" then return end
  for _, xmlns in ipairs(NAMESPACES) do event.features:reset():tag("sm", { xmlns = xmlns }):up() end
end)

for _, xmlns in ipairs(NAMESPACES) do
  for name, fn in pairs { enable = on_enable, resume = on_resume, r = on_r, a = on_a } do
    module:hook("stanza/" .. xmlns .. ":" .. name, function(event)
      if event.origin.base_type == "c2s" then return fn(event) end
    end)
  end
end

for _, xmlns in ipairs(NAMESPACES) do
  for name, fn in pairs { r = on_r, a = on_a } do
    module:hook("stanza/" .. xmlns .. ":" .. name, function(event)
      if event.origin.direction and event.origin.sm then return fn(event) end
    end)
  end
end

local restore_servers
if config.smacks_enabled_s2s then
  restore_servers = module:require "servers"(function(session, xmlns)
    local link = sm.new(session, { xmlns = xmlns, max_ack_delay = config.smacks_max_ack_delay })
    session.sm, session.smacks = link, xmlns
    link.on_full, link.on_delayed = gone, gone
    set_limits(session)
    return link
  end)
end

local function state_changed(event)
  if event.origin.sm then set_limits(event.origin) end
end
module:hook("csi-client-active", state_changed, -1)
module:hook("csi-client-inactive", state_changed, -1)

-- Restarts ------------------------------------------------------------------------------------------------------------

module:hook_global("server-stopping", function() stopping = true end, 1000)

-- mod_c2s has closed all streams (at -100): nobody sends any more.
module:hook_global("server-stopping", function()
  local list = {}
  for _, session in pairs(by_token) do
    if session.hibernating and not session.destroyed then list[#list + 1] = session end
  end
  restart.save(list)
end, -150)

local function restore()
  if restore_servers then task.spawn(restore_servers) end
  if module:get_host_type() ~= "local" then return end
  restart.restore(begin, function(session, token, timeout, left)
    session.resumption_token, session.original_smacks_timeout, session.restored = token, timeout, true
    session.hibernating = clock.wall()
    by_token[token] = session
    session.sm.remembered = true
    memory.watch(session)
    set_limits(session)
    keep(session, left)
  end)
end

if not module.reloading then
  if require "couplet.prosody".is_started then module:spawn(restore) else module:hook_global("hosts-activated", restore) end
end

sm.limit_total(config.smacks_max_total_bytes)
module:on_config_change(function()
  sm.limit_total(config.smacks_max_total_bytes)
  for _, session in pairs(by_token) do set_limits(session) end
end)

function module.save() return { by_token = by_token } end
function module.restore(state)
  for token, session in pairs(state.by_token or {}) do
    by_token[token] = session
    if session.sm then
      adopt(session.sm)
      memory.watch(session)
    end
  end
end
