-- SPDX-License-Identifier: MIT
-- client_fixture.lua: hosts, accounts and connected clients without a network, a database or a clock, for the tests of the
-- client path.
--
--   local fixture = require "client_fixture"            before anything of couplet
--   fixture.host("h.example", { plugins... }?)          a VirtualHost; by default with the plugins of RFC 6121
--   fixture.account("romeo@h.example")
--   local romeo = fixture.login("romeo@h.example/orchard", priority?)     account made if need be; priority: number or "none"
--   romeo:send(stanza)  romeo:got() -> stanzas since the last call  romeo:expect("message", {attr…}) -> stanza  romeo:nothing()
--   fixture.fail("roster") / fixture.fail(nil)          that store fails from now on
--   fixture.stored("roster", "romeo", "h.example")      what is stored
--   fixture.forget()                                    nothing is stored any more
--   fixture.option(host, key, value)

local core = require "couplet.core"
local fixture = { users = {} }

-- Network ---------------------------------------------------------------------------------------------------------------

local st
local Conn = {}
Conn.__index = Conn

local function copy(x) return type(x) == "string" and x or st.clone(x) end

function fixture.conn(values)
  fixture.next_id = (fixture.next_id or 0) + 1
  local conn = setmetatable({ number = fixture.next_id, out = {}, calls = {} }, Conn)
  for k, v in pairs(values or {}) do conn[k] = v end
  return conn
end

function Conn:session(...)
  if select("#", ...) > 0 then self.attached = ... end
  return self.attached
end
function Conn:id() return self.number end
function Conn:ip() return "192.0.2.1" end
function Conn:port() return 40000 + self.number end
function Conn:class() return "c2s" end
function Conn:tls() return self.tls_state end
function Conn:send(x)
  if self.dead or self.is_closed then return false end
  self.out[#self.out + 1] = copy(x)
  return true
end
function Conn:close() self.is_closed = true end
function Conn:done() self.dones = (self.dones or 0) + 1 end
for _, name in ipairs { "deadline", "idle_after", "window", "limits", "starttls", "restart", "compress", "tap", "feed", "more",
  "abort" } do
  Conn[name] = function(self, ...) self.calls[name] = table.pack(...) end
end

fixture.multicasts = 0
core.net.multicast = function(conns, stanza, tos)
  fixture.multicasts = fixture.multicasts + 1
  for i, conn in ipairs(conns) do
    local one = st.clone(stanza)
    if tos and tos[i] then one.attr.to = tos[i] end
    conn:send(one)
  end
end
core.net.on = function(class, handlers) fixture.handlers = fixture.handlers or {} fixture.handlers[class] = handlers end

-- Storage and accounts ------------------------------------------------------------------------------------------------------

local data, failing = {}, {}
local REMOVE = {}

local function deep(v)
  if type(v) ~= "table" then return v end
  local new = {}
  for k, x in pairs(v) do new[k] = deep(x) end
  return new
end

local function shelf(host, name, username)
  local key = host .. "\0" .. name
  data[key] = data[key] or {}
  data[key][username] = data[key][username] or {}
  return data[key][username], data[key]
end

function fixture.stored(name, username, host) return shelf(host, name, username) end
function fixture.fail(name, err)
  failing = {}
  if name then failing[name] = err or { type = "wait", condition = "resource-constraint", text = "the disk is full" } end
end

local function driver(host, name, kind)
  local d = { remove = REMOVE }
  if kind ~= "archive" then
    function d:get(username)
      if failing[name] then return nil, failing[name] end
      local t = shelf(host, name, username)
      return next(t) ~= nil and deep(t) or nil
    end
    function d:set(username, value)
      if failing[name] then return nil, failing[name] end
      local _, all = shelf(host, name, username)
      all[username] = deep(value)
      return true
    end
    function d:set_keys(username, map)
      if failing[name] then return nil, failing[name] end
      local t = shelf(host, name, username)
      for k, v in pairs(map) do
        if v == REMOVE then t[k] = nil else t[k] = deep(v) end
      end
      return true
    end
    function d:users()
      if failing[name] then return nil, failing[name] end
      local _, all = shelf(host, name, "")
      local username
      return function()
        repeat username = next(all, username) until username ~= ""
        return username
      end
    end
    function d:set_key(username, key, value) return self:set_keys(username, { [key] = value == nil and REMOVE or value }) end
    return d
  end
  function d:append(username, _, stanza, when, with)
    if failing[name] then return nil, failing[name] end
    local t = shelf(host, name, username)
    fixture.archive_id = (fixture.archive_id or 0) + 1
    t[#t + 1] = { id = tostring(fixture.archive_id), stanza = st.preserialize(stanza), when = when, with = with }
    return t[#t].id
  end
  function d:find(username, query)
    if failing[name] then return nil, failing[name] end
    local t, i, list = shelf(host, name, username), 0, {}
    query = query or {}
    for _, row in ipairs(t) do
      if not query.limit or #list < query.limit then list[#list + 1] = row end
    end
    return function()
      i = i + 1
      local row = list[i]
      if row then return row.id, st.deserialize(row.stanza), row.when, row.with end
    end, query.total and #t or nil
  end
  function d:delete(username, query)
    if failing[name] then return nil, failing[name] end
    local t, all = shelf(host, name, username)
    local doomed, rest = {}, {}
    for _, id in ipairs(query and query.ids or {}) do doomed[id] = true end
    for _, row in ipairs(t) do
      if query and query.ids and not doomed[row.id] then rest[#rest + 1] = row end
    end
    all[username] = rest
    return #t - #rest
  end
  return d
end

package.loaded["couplet.store"] = { open = function(host, name, kind) return driver(host, name, kind) end }
package.loaded["couplet.users"] = {
  user_exists = function(username, host) return fixture.users[username .. "@" .. host] ~= nil end,
  get_user_role = function() return { name = "prosody:member" } end,
  get_role_by_name = function(name) return { name = name } end,
}

st = require "couplet.stanza"
local config = require "couplet.config"
local directory = require "couplet.directory"
local hosts = require "couplet.hosts"
local jid = require "couplet.jid"
local plugin = require "couplet.plugin"
local router = require "couplet.router"
local sessions = require "couplet.sessions"
local task = require "couplet.task"

-- What is sent has left at once, or never will.
require "couplet.client_session".flush = function(session)
  local net = session.net
  return net ~= nil and not net.dead and not net.is_closed
end

-- Hosts and clients -----------------------------------------------------------------------------------------------------------

function fixture.option(host, key, value) config.set(host, key, value) end

function fixture.host(name, plugins)
  config.set(name, "defined", true)
  local host = assert(hosts.activate(name))
  for _, p in ipairs(plugins or { "iq", "message", "presence", "roster", "offline" }) do
    assert(plugin.load(p == "c2s" and "*" or name, p))
  end
  return host
end

function fixture.account(bare) fixture.users[bare] = true end

local Client = {}
Client.__index = Client

function Client:send(stanza)
  self.session.queue:push(self.session, stanza)
end

-- Everything that has come, as stanzas (strings stay strings).
function Client:got()
  local out = self.conn.out
  self.conn.out = {}
  return out
end

local function matches(stanza, name, attr)
  if type(stanza) == "string" or stanza.name ~= name then return false end
  for k, v in pairs(attr or {}) do
    if v == false then v = nil end
    if stanza.attr[k] ~= v then return false end
  end
  return true
end

-- Takes the first stanza that matches; attr values of false: absent.
function Client:expect(name, attr)
  for i, stanza in ipairs(self.conn.out) do
    if matches(stanza, name, attr) then return table.remove(self.conn.out, i) end
  end
  local seen = {}
  for _, stanza in ipairs(self.conn.out) do seen[#seen + 1] = tostring(stanza) end
  local want = {}
  for k, v in pairs(attr or {}) do want[#want + 1] = ("%s=%q"):format(k, tostring(v)) end
  error(("%s: no %s %s among: %s"):format(self.jid, name, table.concat(want, " "), table.concat(seen, "\n")), 2)
end

function Client:nothing(name, attr)
  for _, stanza in ipairs(self.conn.out) do
    if not name or matches(stanza, name, attr) then error(self.jid .. ": unexpected " .. tostring(stanza), 2) end
  end
end

function Client:lose(reason)
  task.spawn(sessions.destroy_session, self.session, reason)
end

-- A session that has bound its resource and read its roster; priority: sends presence.
function fixture.connect(full_jid)
  local node, host, resource = jid.split(full_jid)
  fixture.account(node .. "@" .. host)
  local conn = fixture.conn()
  local session = sessions.new_session(conn)
  session.queue = task.queue(function(s, stanza) router.core_process_stanza(s, stanza) end)
  conn:session(session)
  session.host, session.notopen = host, nil
  assert(sessions.make_authenticated(session, node))
  local ok, kind, condition, text
  task.spawn(function() ok, kind, condition, text = sessions.bind_resource(session, resource) end)
  if not ok then return nil, kind, condition, text end
  return setmetatable({ session = session, conn = conn, jid = session.full_jid, bare = node .. "@" .. host }, Client)
end

function fixture.login(full_jid, priority)
  local client = assert(fixture.connect(full_jid))
  client:send(st.iq { type = "get", id = "roster" }:query "jabber:iq:roster")
  if priority ~= "none" then
    client:send(st.presence():text_tag("priority", tostring(priority or 0)))
  end
  client:got()
  return client
end

-- Ends all sessions and forgets all accounts and data.
function fixture.forget()
  for key in pairs(data) do data[key] = nil end
end

function fixture.reset()
  fixture.fail(nil)
  for _, session in pairs(directory.full_sessions) do task.spawn(sessions.destroy_session, session) end
  fixture.forget()
  for bare in pairs(fixture.users) do
    require "couplet.roster".forget(bare)
    fixture.users[bare] = nil
  end
end

return fixture
