-- SPDX-License-Identifier: MIT
-- mod_c2s: clients' connections: streams opened, kept in order, and closed (RFC 6120 §4).
--
-- Everything that happens on a connection (header, element, end, error, loss) goes through one queue per session, so it is
-- handled in the order it happened, waits included. Until a resource is bound the connection gives one element at a time.

module:set_global()

local clock = require "couplet.clock"
local core = require "couplet.core"
local client_session = require "couplet.client_session"
local directory = require "couplet.directory"
local hosts = require "couplet.hosts"
local jid = require "couplet.jid"
local listener = require "couplet.listener"
local router = require "couplet.router"
local sessions = require "couplet.sessions"
local st = require "couplet.stanza"
local task = require "couplet.task"
local turn_away = require "couplet.login".turn_away
local wrap = require "couplet.conn".wrap

local net, attr_of = core.net, core.stanza.attr
local process = router.core_process_stanza

module:config {
  c2s_timeout = { type = "period", default = 60, min = 5, doc = "time from the connection to a bound resource" },
  c2s_read_timeout = { type = "period", default = 840, min = 10, doc = "silence after which a client is looked at" },
  c2s_window = { type = "integer", default = 32, min = 1, doc = "stanzas of one client that may wait unhandled" },
  c2s_window_bytes = { type = "integer", default = 65536, min = 4096, doc = "and their bytes" },
  c2s_stanza_size_limit = { type = "integer", default = 262144, min = 10000, doc = "bytes of one stanza" },
  c2s_login_stanza_size_limit = { type = "integer", default = 16384, min = 1024, doc = "the same before a resource is bound" },
  c2s_unauthed_stanza_size_limit = { type = "integer", min = 1024, doc = "older name of c2s_login_stanza_size_limit" },
  c2s_max_send_buffer = { type = "integer", default = 4 * 1024 * 1024, min = 65536,
    doc = "bytes kept for a client that does not read; over it the connection ends" },
  c2s_max_connections = { type = "integer", default = 0, min = 0,
    doc = "clients' connections at a time; 0: as many as the system gives" },
  c2s_max_connections_per_ip = { type = "integer", default = 0, min = 0, doc = "the same from one address; 0: no limit" },
  c2s_connection_rate = { type = "integer", default = 0, min = 0,
    doc = "new connections a second from one address; 0: no limit" },
  c2s_connection_burst = { type = "integer", default = 50, min = 1, doc = "how many of them may come at once" },
}
local config = module.config

local enabled = {}                             -- hosts clients may connect to
local open = 0                                 -- connections, whatever their state

-- Who speaks when the client has named no host of ours (RFC 6120 §4.9.1.2).
function client_session.default_host()
  local first
  for name in pairs(enabled) do
    if not first or name < first then first = name end
  end
  return first
end

-- The stream header -------------------------------------------------------------------------------------------------------------

local function refuse(session, condition, text)
  if session.notopen then session:open_stream(session.host or client_session.default_host()) end
  return session:close { condition = condition, text = text }
end

local function old_version(text)
  local major = math.tointeger(tonumber(text and text:match "^(%d%d?%d?)%.%d+$"))
  return not major or major < 1
end

-- The client's own name, if it tells: to address the answer, and once it has logged in it must be true.
local function client_of(session, from)
  if not from then return nil end
  local node, domain, resource = jid.prepped_split(from)
  if not domain then return nil, "invalid-from" end
  if session.username and (node ~= session.username or domain ~= session.host) then return nil, "invalid-from" end
  return jid.join(node, domain, resource)
end

local LANG_BYTES = 35                          -- what RFC 5646 §4.4.1 asks to have room for

local function on_header(session, header, xmlns)
  -- A client that does not wait for the features (XEP-0484 §1) gets them along with what it waits for.
  if session.net then session.net:more() end
  if not session.notopen then return session:close "bad-format" end     -- a header inside a stream
  if xmlns ~= "jabber:client" then
    return refuse(session, "invalid-namespace", "Clients speak jabber:client here")
  end
  local to = attr_of(header, "to")
  local node, host, resource = jid.prepped_split(to or "")
  if not host or node or resource then return refuse(session, "improper-addressing", "Which host do you want?") end
  if not enabled[host] then return refuse(session, "host-unknown", "This server does not serve " .. host) end
  if session.username and host ~= session.host then
    return refuse(session, "host-unknown", "You have authenticated at another host")
  end
  session.host = host
  local version = attr_of(header, "version")
  if old_version(version) then return refuse(session, "unsupported-version", "XMPP 1.0 is spoken here") end
  local client, condition = client_of(session, attr_of(header, "from"))
  if condition then return refuse(session, condition) end
  session.version = "1.0"
  local lang = attr_of(header, "xml:lang")
  session.lang = lang and #lang <= LANG_BYTES and lang or nil
  session.stream_from = client and jid.bare(client)
  session:open_stream(host, session.stream_from)

  local features = st.stanza "stream:features"
  hosts.get(host).events.fire_event("stream-features", { origin = session, features = features, stream = header })
  if session.destroyed then return end
  features:reset()
  client_session.send(session, features)
end

local COMPRESSION_FAILED = "<failure xmlns='http://jabber.org/protocol/compress'><processing-failed/></failure>"

local function on_error(session, condition, text)
  if session.notopen then session:open_stream(session.host or client_session.default_host()) end
  -- XEP-0138 §3: what cannot be decompressed is the only trouble without a condition of its own
  local extra = condition == "undefined-condition" and session.compressed and COMPRESSION_FAILED or nil
  session:close { condition = condition, text = text, extra = extra }
end

local function on_closed(session, reason)
  sessions.destroy_session(session, reason)
end

-- In order ----------------------------------------------------------------------------------------------------------------------

-- A stanza that is much work keeps everybody waiting. Its account, with all its sessions (which share one roster), then rests as
-- long again: nobody gets more than half of the time, and everybody else gets a turn between any two such stanzas.
local TIRING, REST_MAX = 0.01, 1                 -- seconds of this thread's work
local resting = setmetatable({}, { __mode = "k" })      -- roster -> until when
local at_work
local read_at, read = 0, 0                       -- clock.cpu() is a system call: read once a millisecond, which is near enough

local function rest(account)
  while account and resting[account] do
    local left = resting[account] - clock.mono()
    if left > 0 then task.sleep(left) else resting[account] = nil end
  end
end

local function worked(session, began)
  if at_work ~= session then return end          -- it has waited, and others have worked
  local now = clock.mono()
  if now - began < TIRING or not session.roster then return end
  if clock.cpu() - read < TIRING then return end          -- a busy machine let it wait, that is all
  resting[session.roster] = now + math.min(now - began, REST_MAX)
end

local function turn(session)
  if next(resting) then rest(session.roster) end
end

local function on_element(session, stanza)
  local began = clock.mono()
  if began - read_at > 0.001 then read_at, read = began, clock.cpu() end
  at_work = session
  process(session, stanza)
  worked(session, began)
end

local function bus_of(session)
  local home = session.host and hosts.get(session.host)
  return home and home.events or require "couplet.prosody".events
end

local on = listener.new {
  log = function(...) module:log(...) end,
  header = on_header, turn = turn, element = on_element, error = on_error, closed = on_closed,
  opened = function(conn)
    open = open + 1
    local session = sessions.new_session(conn, "c2s_unauthed")
    sessions.unbound[session] = clock.mono() + config.c2s_timeout        -- when its time is over
    conn:session(session)
    return session
  end,
  idle = function(session)
    if not bus_of(session).fire_event("c2s-read-timeout", { session = session }) then session:close "connection-timeout" end
  end,
}
module.environment.listener = on

local lost = on.closed
function on.closed(conn, reason)
  open = open - 1
  local session, bus = conn:session(), prosody.events
  local known = bus.heard "c2s-closed" and (session and session.conn or wrap(conn))        -- as plugins know it
  lost(conn, reason)
  if session then client_session.flushed(session, false) end           -- what waits for it holds up the queue
  if known then task.spawn(bus.fire_event, "c2s-closed", { session = session, conn = known }) end
end

-- The first is for whoever has more to send along; what it adds is one write here as well, after the one that has just gone.
local DRAINS = { "c2s-pre-ondrain", "c2s-ondrain" }

function on.drained(conn)
  local session = conn:session()
  if not session then return end
  client_session.flushed(session, true)
  local bus = bus_of(session)
  for _, event in ipairs(DRAINS) do
    if bus.heard(event) then task.spawn(bus.fire_event, event, { session = session }) end
  end
end

net.on("c2s", on)

-- Which buses would tell somebody of each buffer that has emptied? Without any, connections report it to who waits for it alone.
local drains = {}
local function tells(who, heard)
  drains[who] = heard or nil
  net.every_drained("c2s", next(drains) ~= nil)
end
local function watch(host, bus)
  for _, event in ipairs(DRAINS) do
    bus.watch(event, function(heard) tells(event .. " " .. host, heard) end)
  end
end
local function watch_no_more(host, bus)
  for _, event in ipairs(DRAINS) do
    bus.watch(event, nil)
    tells(event .. " " .. host, false)
  end
end
watch("*", prosody.events)

function module.unload()
  watch_no_more("*", prosody.events)
  net.every_drained("c2s", false)
end

-- Hosts -------------------------------------------------------------------------------------------------------------------------

function module.add_host(host_module)
  local host = host_module.host
  if host_module:get_host_type() ~= "local" then return false, "clients log in at virtual hosts" end
  local bus = hosts.get(host).events
  enabled[host] = true
  watch(host, bus)
  local function at_work_now(event)
    local session = event.session
    local native = session.net
    if not native or session.host ~= host then return end
    native:deadline(nil)
    local silence = config.c2s_read_timeout
    native:idle_after(silence < math.huge and silence or nil)
    native:window(config.c2s_window, config.c2s_window_bytes)
    native:limits { stanza_bytes = config.c2s_stanza_size_limit }
  end
  host_module:hook("resource-bind", at_work_now, 1000)
  host_module:hook_global("c2s-session-updated", at_work_now, 1000)
  -- Silence is no crime: a space shows whether anybody is there (RFC 6120 §4.6.1).
  host_module:hook("c2s-read-timeout", function(event)
    local session = event.session
    if session.notopen then return false end
    return session.rawsend " "
  end, -1)
  host_module:hook_global("host-deactivating", function(event)
    if event.host == host then enabled[host] = nil end
  end)
  host_module:on_unload(function()
    enabled[host] = nil
    watch_no_more(host, bus)
  end)
end

-- Sessions without a resource, as they are now: closing one may wait.
local function unbound()
  local list = {}
  for session in pairs(sessions.unbound) do list[#list + 1] = session end
  return list
end

module:hook("host-deactivated", function(host)
  enabled[host] = nil
  for _, session in ipairs(unbound()) do
    if session.host == host then session:close { condition = "host-gone", text = "This server has stopped serving " .. host } end
  end
end)

-- Whoever reports an error has ended the stream with it; an answer in kind could go on for ever.
module:hook("stanza/http://etherx.jabber.org/streams:error", function(event)
  local session, condition = event.origin, event.stanza.tags[1]
  session.log("info", "the client reports a stream error: %s", condition and condition.name or "none")
  session:close()
  return true
end)

-- Who takes too long is told so. The connection's own deadline is a little later: it ends what cannot be told, an unfinished
-- handshake.
local function look()
  local now = clock.mono()
  for session, limit in pairs(sessions.unbound) do
    if limit ~= true and now >= limit then
      sessions.unbound[session] = true
      task.spawn(session.close, session, { condition = "connection-timeout", text = "Logging in took too long" })
    end
  end
  return math.max(config.c2s_timeout / 20, 0.5)
end
module:add_timer(0.5, look)

local function close_logins(condition, text)
  return function(event) turn_away(event.username, event.host, { condition = condition, text = text }) end
end
module:hook("user-password-changed", close_logins("reset", "Your password was changed"), 250)
module:hook("user-disabled", close_logins("not-authorized", "This account has been disabled"), 250)
module:hook("user-deleted", close_logins("not-authorized", "This account has been deleted"), 250)

local function close_all(reason)
  local list = unbound()
  for _, session in pairs(directory.full_sessions) do list[#list + 1] = session end
  for _, session in ipairs(list) do session:close(reason) end
end

module:hook("server-stopping", function(event)
  close_all { condition = "system-shutdown", text = event.reason or "The server stops" }
end, -100)

module:hook("server-stopping", function()
  for _ = 1, 50 do                             -- up to 5 seconds for the connections to drain
    if open <= 0 then break end
    task.sleep(0.1)
  end
end, -200)

function module.save() return { open = open } end
function module.restore(state)
  open = state.open or open
end

local function positive(n) return n > 0 and n or nil end

local listen = {
  window = { 1, config.c2s_window_bytes }, deadline = config.c2s_timeout * 1.1 + 1,
  max_connections = positive(config.c2s_max_connections), max_per_ip = positive(config.c2s_max_connections_per_ip),
  rate = positive(config.c2s_connection_rate)
    and { per_ip = config.c2s_connection_rate, burst = config.c2s_connection_burst, period = 1 },
}
local function limits()
  return { stanza_bytes = config.c2s_unauthed_stanza_size_limit or config.c2s_login_stanza_size_limit,
    max_send_buffer = config.c2s_max_send_buffer }
end

module:provides("net", {
  name = "c2s", class = "c2s", listen = listen, limits = limits, default_port = 5222, encryption = "starttls",
  multiplex = { protocol = "xmpp-client" },
})
module:provides("net", {
  name = "c2s_direct_tls", class = "c2s", listen = listen, limits = limits, default_port = 5223, encryption = "ssl",
  alpn = "xmpp-client", multiplex = { protocol = "xmpp-client" },
})
