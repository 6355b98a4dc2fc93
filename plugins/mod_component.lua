-- SPDX-License-Identifier: MIT
-- mod_component: services of their own process attach here, each as one host (XEP-0114, the side that accepts).
--
--   Component "irc.example.org" { component_secret = "…" }
--
-- As with clients everything that happens on a connection goes through one queue per session. A component may say nothing but
-- its handshake until that was right. While it is away, what is sent to it is answered with an error, or kept for a moment
-- (component_queue).
--
-- Exports session_of(host) -> session | nil

module:set_global()

local core = require "couplet.core"
local client_session = require "couplet.client_session"
local crypto = core.crypto
local filters = require "couplet.filters"
local forwarded = require "couplet.forwarded"
local hosts = require "couplet.hosts"
local id = require "couplet.util.id"
local listener = require "couplet.listener"
local lockout = require "couplet.lockout"
local router = require "couplet.router"
local sha1 = require "couplet.util.hashes".sha1
local st = require "couplet.stanza"
local task = require "couplet.task"
local nameprep = require "couplet.util.encodings".stringprep.nameprep

local net, attr_of, set_attr, route_of = core.net, core.stanza.attr, core.stanza.set_attr, core.stanza.route
local ACCEPT, STREAMS = "jabber:component:accept", "urn:ietf:params:xml:ns:xmpp-streams"
local DISCO_INFO = "http://jabber.org/protocol/disco#info"
local HEADER = "<?xml version='1.0'?><stream:stream xmlns='%s' xmlns:stream='http://etherx.jabber.org/streams' id='%s'%s>"
local QUEUE_BYTES = 4 * 1024 * 1024            -- kept for one component
local FREE_FAILURES, WAIT_MAX = 5, 60          -- wrong handshakes of one address that cost nothing; seconds further ones may cost

module:config {
  component_secret = { type = "string", secret = true, doc = "what the component must know" },
  component_validate_from = { type = "boolean", default = true, doc = "its stanzas must come from its own domain" },
  validate_from_addresses = { type = "boolean", default = true, doc = "the same, as Prosody spells it" },
  component_conflict_resolve = { enum = { "kick_new", "kick_old" }, default = "kick_new",
    doc = "who goes if a component connects that is already there" },
  component_queue = { type = "integer", default = 0, min = 0, max = 10000,
    doc = "stanzas (up to 4 MiB) kept for a component that is away; 0: each is answered with an error at once" },
  component_queue_time = { type = "period", default = 30, min = 1, doc = "for so long" },
  component_timeout = { type = "period", default = 60, min = 1, doc = "time from the connection to the handshake" },
  component_read_timeout = { type = "period", default = 840, min = 1, doc = "silence after which a component is sent a space" },
  component_stanza_size_limit = { type = "integer", default = 524288, min = 10000, doc = "bytes of one stanza from a component" },
  component_window = { type = "integer", default = 256, min = 1, doc = "stanzas of one component that may wait unhandled" },
  component_window_bytes = { type = "integer", default = 524288, min = 4096, doc = "and their bytes" },
  component_max_send_buffer = { type = "integer", default = 16777216, min = 65536,
    doc = "bytes kept for a component that does not read; over it the connection ends" },
  component_max_connections = { type = "integer", default = 100, min = 0, doc = "connections of components; 0: no limit" },
}
local config = module.config

-- host -> { module =, session = (the one connected), queue = {…}, failures = wrong handshakes, by address }
local homes = module:shared "homes"
local open = module:shared "open"              -- sessions with a connection

-- For other plugins: the session of the component that is connected as this host.
function session_of(host)
  return homes[host] and homes[host].session
end

-- Sessions --------------------------------------------------------------------------------------------------------------------

local methods = { base_type = "component" }

function methods:open_stream()
  self.streamid = self.streamid or id.long()
  self.notopen = nil
  return self.rawsend(HEADER:format(ACCEPT, self.streamid, self.host and (" from='%s'"):format(st.xml_escape(self.host)) or ""))
end

function methods:over(reason)
  if self.destroyed then return end
  open[self] = nil
  local host, own_end = self.host, self.on_destroy
  local home = homes[host]
  local mine = home and home.session == self
  if mine then home.session = nil end
  local was = self.type
  client_session.retire(self)
  if type(own_end) == "function" then own_end(self, reason) end
  if was ~= "component" then return end
  self.log("info", "component %s disconnected: %s", host, reason or "closed")
  if mine then home.module:set_status("warn", reason and "Disconnected: " .. reason or "Disconnected") end
  if home then home.module:fire_event("component-disconnected", { session = self, reason = reason }) end
end

local new_session = client_session.kind(methods)

-- The way in: header, handshake, stanzas --------------------------------------------------------------------------------------

local function address_of(session) return lockout.network(session.ip or "?") end

local function too_early(session)
  local seconds = homes[session.host].failures:wait(address_of(session))
  if not seconds then return false end
  session:close { condition = "policy-violation", text = ("Too many failed handshakes; try again in %.0f s"):format(seconds) }
  return true
end

local function on_header(session, header, xmlns)
  if not session.notopen then return session:close "bad-format" end
  if xmlns ~= ACCEPT then
    return session:close { condition = "invalid-namespace", text = "Components speak " .. ACCEPT .. " here" }
  end
  local to = attr_of(header, "to")
  if not to then
    return session:close { condition = "improper-addressing", text = "The header must say in `to` which component this is" }
  end
  local host = nameprep(to)
  if not host or not homes[host] then
    session.log("warn", "refused a component from %s: no Component \"%s\" is configured to attach", session.ip, to:sub(1, 255))
    return session:close { condition = "host-unknown", text = to:sub(1, 255) .. " is no external component of this server" }
  end
  session.host = host
  if not too_early(session) then session:open_stream() end
end

-- XEP-0114 §3: SHA-1 of stream id and secret, in hex.
local function authenticate(event)
  local session, home = event.origin, homes[event.origin.host]
  if session.type ~= "component_unauthed" or not home then return end
  local options = home.module
  local secret = options:get_option_string "component_secret"
  if not secret or secret == "" then
    session.log("error", "refused component %s: component_secret is not set", session.host)
    session:close { condition = "not-authorized", text = "No secret is configured" }
    return true
  end
  if too_early(session) then return true end     -- others may have failed meanwhile
  local token = event.stanza:get_text():match "^%s*(.-)%s*$"
  if not crypto.equals(token, sha1(session.streamid .. secret, true)) then
    home.failures:failed(address_of(session), FREE_FAILURES, WAIT_MAX)
    session.log("warn", "refused component %s from %s: its secret is not ours", session.host, session.ip)
    session:close { condition = "not-authorized", text = "The handshake does not match" }
    return true
  end
  home.failures:forget(address_of(session))
  local old = home.session
  if old and options:get_option_enum("component_conflict_resolve", "kick_new", "kick_old") ~= "kick_old" then
    session.log("warn", "refused component %s from %s: it is already connected from %s", session.host, session.ip, old.ip)
    session:close { condition = "conflict", text = "The component is already connected" }
    return true
  end
  home.session = session
  session.type = "component"
  session.component_validate_from = options:get_option_boolean("component_validate_from",
    options:get_option_boolean("validate_from_addresses", true))
  if old then old:close { condition = "conflict", text = "Replaced by a new connection" } end
  local native = session.net
  native:deadline(nil)
  local silence = config.component_read_timeout
  native:idle_after(silence < math.huge and silence or nil)
  native:window(config.component_window, config.component_window_bytes)
  local size = options:get_option_integer("component_stanza_size_limit", config.component_stanza_size_limit, 10000)
  native:limits { stanza_bytes = size, children = math.max(4096, size // 32) }     -- a list of rooms: many elements, all small
  session.log("info", "component %s connected from %s", session.host, session.ip)
  options:set_status("info", "Connected")
  session.send(st.stanza "handshake")
  local queue = home.queue
  home.queue = nil
  for _, kept in ipairs(queue or {}) do session.send(kept.stanza) end
  options:fire_event("component-authenticated", { session = session })
  return true
end

local STANZAS = { message = true, presence = true, iq = true }

local function on_element(session, stanza)
  local name, to, from, _, _, xmlns = route_of(stanza)
  if STANZAS[name] and (not xmlns or xmlns == "jabber:client") then
    if session.type ~= "component" then
      return session:close { condition = "not-authorized", text = "The handshake comes first" }
    end
    forwarded.plain(stanza)                    -- jabber:client is what everybody means here
    if not from then
      set_attr(stanza, "from", session.host)
    elseif session.component_validate_from then
      local place = router.address(from)
      if not place or place.host ~= session.host then
        session.log("warn", "component %s sent a stanza from %s", session.host, from:sub(1, 255))
        return session:close { condition = "invalid-from", text = from:sub(1, 255) .. " is not an address of " .. session.host }
      end
    end
    if not to then
      return router.reply_error(session, stanza, "modify", "bad-request", "A component's stanza must say in `to` whom it is for")
    end
    return router.core_process_stanza(session, stanza)
  elseif name == "error" and xmlns == "http://etherx.jabber.org/streams" then
    local condition = stanza:get_child(nil, STREAMS)
    session.log("info", "component %s ended its stream: %s", session.host, condition and condition.name or "undefined-condition")
    return session:close()
  end
  local home = session.host and hosts.get(session.host)
  local event = ("stanza/%s:%s"):format(xmlns or ACCEPT, name)
  if home and home.events.fire_event(event, { origin = session, stanza = stanza }) then return end
  if session.destroyed then return end
  if session.type ~= "component" then
    return session:close { condition = "not-authorized", text = "The handshake comes first" }
  end
  return session:close { condition = "unsupported-stanza-type", text = "Not understood here: " .. name:sub(1, 64) }
end

local function on_error(session, condition, text)
  session.log("warn", "component %s: %s %s", session.host or session.ip, condition, text)
  session:close { condition = condition, text = text }
end

local function on_closed(session, reason) session:over(reason) end

local on = listener.new {
  log = function(...) module:log(...) end,
  header = on_header, element = on_element, error = on_error, closed = on_closed,
  opened = function(conn)
    local session = new_session(conn, "component_unauthed")
    open[session] = true
    conn:session(session)
    filters.initialize(session)
    return session
  end,
  idle = function(session)
    local home = homes[session.host]
    local kept = home and home.module:fire_event("component-read-timeout", { session = session })
    if not kept then session:close "connection-timeout" end
  end,
}
on.xmlns = ACCEPT
module.environment.listener = on

net.on("component", on)

-- The way out -----------------------------------------------------------------------------------------------------------------

local function refuse(event)
  return router.reply_error(event.origin, event.stanza, "wait", "remote-server-timeout", "The component is not connected")
end

-- What is left in the queue has waited too long.
local function expire(home, queue)
  if home.queue ~= queue then return end
  home.queue = nil
  for _, kept in ipairs(queue) do refuse(kept) end
end

-- The time is that of the oldest; the next queue begins after it.
local function wait(home)
  local queue = home.queue
  home.module:add_timer(math.max(0, queue.ends - os.time()), function() expire(home, queue) end)
end

local function keep(home, event)
  local max = home.module:get_option_integer("component_queue", 0, 0, 10000)
  local queue, size = home.queue or { bytes = 0 }, max > 0 and #tostring(event.stanza)
  if #queue >= max or queue.bytes + size > QUEUE_BYTES then return refuse(event) end
  queue[#queue + 1] = { origin = event.origin, stanza = event.stanza }
  queue.bytes = queue.bytes + size
  if not home.queue then
    queue.ends = os.time() + config.component_queue_time
    home.queue = queue
    wait(home)
  end
  return true
end

local function deliver(event)
  local stanza = event.stanza
  local home = homes[attr_of(stanza, "to") and router.address(attr_of(stanza, "to")).host]
  if not home then return end
  local session = home.session
  if not session then return keep(home, event) end
  if attr_of(stanza, "xmlns") == "jabber:client" then
    stanza = st.clone(stanza)
    stanza.attr.xmlns = nil
  end
  if not client_session.send(session, stanza) then return refuse(event) end
  return true
end

-- Clients that look around meanwhile learn at least its name.
local function describe(event)
  local home, query = homes[attr_of(event.stanza, "to")], event.stanza.tags[1]
  if not home or home.session or query.attr.node then return end
  local answer = st.reply(event.stanza):query(DISCO_INFO)
  answer:tag("identity", { category = "component", type = "generic", name = home.module:get_option_string "name" }):up()
  event.origin.send(answer:tag("feature", { var = DISCO_INFO }):up())
  return true
end

-- Hosts -----------------------------------------------------------------------------------------------------------------------

function module.add_host(host_module)
  if host_module:get_host_type() ~= "component" then return false, "components attach to a Component of the configuration" end
  local host = host_module.host
  local home = homes[host] or {}
  homes[host] = home
  home.module, home.reloading = host_module, nil
  home.failures = home.failures or lockout.new(1000)
  for _, kind in ipairs { "message", "presence", "iq" } do
    for _, target in ipairs { "full", "bare", "host" } do host_module:hook(kind .. "/" .. target, deliver, -1) end
  end
  host_module:hook("iq-get/host/" .. DISCO_INFO .. ":query", describe, -1)
  host_module:hook("stanza/" .. ACCEPT .. ":handshake", authenticate, -1)
  host_module:hook("component-read-timeout", function(event)
    if event.session.notopen then return false end
    return event.session.rawsend " "
  end, -1)
  if not home.session then host_module:set_status("warn", "Disconnected") end
  if home.queue then wait(home) end

  function host_module.save() home.reloading = true return {} end
  function host_module.unload()
    if home.reloading then return end
    homes[host] = nil
    for _, kept in ipairs(home.queue or {}) do refuse(kept) end
    local gone = { condition = "host-gone", text = "This server no longer serves " .. host }
    for session in pairs(open) do
      if session.host == host then session:close(gone) end
    end
  end
end

module:hook("server-stopping", function(event)
  local list = {}
  for session in pairs(open) do list[#list + 1] = session end
  local reason = { condition = "system-shutdown", text = event.reason or "The server stops" }
  for _, session in ipairs(list) do session:close(reason) end
  for _ = 1, 20 do                             -- up to 2 seconds for the connections to drain
    if (net.stats().classes.component or 0) == 0 then break end
    task.sleep(0.1)
  end
end, -50)

module:provides("net", {
  name = "component", class = "component", default_port = 5347, private = true,
  listen = { window = { 1, 65536 }, deadline = config.component_timeout,
    max_connections = config.component_max_connections > 0 and config.component_max_connections or nil },
  limits = function() return { stanza_bytes = 16384, max_send_buffer = config.component_max_send_buffer } end,
})
