-- SPDX-License-Identifier: MIT
-- restart.lib.lua: sessions outlive an orderly restart. When the server stops, each session that can be resumed is written to
-- the store: how much is handled, what waits, presence, what the roster owes it. When it starts they are there again, without a
-- connection, until they are resumed or their time is over.
--
-- Other plugins keep what they know of a session at these events of the host; state is a table of what can be stored:
--   smacks/save { session, state }      smacks/restore { session, state }

local client_session = require "couplet.client_session"
local clock = require "couplet.clock"
local directory = require "couplet.directory"
local sessions = require "couplet.sessions"
local sm = require "couplet.sm"
local st = require "couplet.stanza"
local task = require "couplet.task"
local users = require "couplet.users"

local restart = {}
local host = module.host
local store = module:open_store("smacks_sessions", "map")
local rows = module:open_store("smacks_sessions", "keyval")

local SETTLE = 2                               -- seconds for what is still under way when the server stops

-- Saving --------------------------------------------------------------------------------------------------------------

-- Everything a session needs to go on.
function restart.freeze(session)
  local link = session.sm
  local state = { h = link:h(), acked = link.queue:acked(), xmlns = link.xmlns, resource = session.resource,
    timeout = session.original_smacks_timeout, since = session.hibernating, available_since = session.available_since,
    interested = session.interested and true or nil, priority = session.priority, lang = session.lang,
    client_id = session.client_id, client_software = session.client_software, client_device = session.client_device,
    queue = {}, extra = {} }
  if session.presence then state.presence = tostring(session.presence) end
  for i = 1, #link.queue do
    local bytes, when = link.queue:get(i)
    state.queue[i] = { bytes, when }
  end
  if session.directed then
    state.directed = {}
    for to in pairs(session.directed) do state.directed[#state.directed + 1] = to end
  end
  module:fire_event("smacks/save", { session = session, state = state.extra })
  return state
end

local function save(session)
  local queue = session.queue
  if queue then                                -- what has come in is handled first
    task.await(function(done)
      local timer = clock.timer(SETTLE, function() done() end)
      queue:push { session, function()
        timer:stop()
        done()
      end }
    end)
  end
  if session.destroyed then return end
  session.sm:settle(SETTLE)
  if session.destroyed then return end
  local token = session.resumption_token
  local ok, err = store:set(session.username, token, restart.freeze(session))
  if not ok then
    module:log("error", "a session of %s is not kept over the restart: %s", session.full_jid, err)
    session.sm.final = true
    return sessions.destroy_session(session, "the server stops")
  end
  if session.hibernation_timer then session.hibernation_timer:stop() end
  session.sm:close()
  directory.remove(session)
  client_session.retire(session)
end

-- All at once: they are committed together.
function restart.save(list)
  local left = #list
  if left == 0 then return end
  module:log("info", "%d sessions are kept for the time after the restart", left)
  task.await(function(done)
    for _, session in ipairs(list) do
      task.spawn(function()
        local ok, err = xpcall(save, debug.traceback, session)
        if not ok then module:log("error", "%s", err) end
        left = left - 1
        if left == 0 then done() end
      end)
    end
  end)
end

-- Restoring -----------------------------------------------------------------------------------------------------------

-- begin(session, xmlns) makes its link. nil: it cannot come back.
function restart.thaw(username, state, begin)
  local session, err = sessions.revive(username, host, state.resource)
  if not session then return nil, err end
  session.interested, session.lang = state.interested, state.lang
  session.client_id, session.client_software, session.client_device = state.client_id, state.client_software, state.client_device
  local link = begin(session, state.xmlns)
  link.received, link.handled = state.h, state.h
  link.queue:start(state.acked)
  for _, item in ipairs(state.queue) do link.queue:add(item[1], item[2]) end
  for _, to in ipairs(state.directed or {}) do
    session.directed = session.directed or {}
    session.directed[to] = true
    session.directed_count = (session.directed_count or 0) + 1
  end
  local presence = state.presence and sm.stanza(state.presence)
  if st.is_stanza(presence) then
    sessions.add_presence(session, presence, state.priority or 0)
    session.available_since = state.available_since
  end
  module:fire_event("smacks/restore", { session = session, state = state.extra or {} })
  return session
end

-- each(session, token, seconds left) for all that were written.
function restart.restore(begin, each)
  local list = {}
  for username in rows:users() do list[#list + 1] = username end
  local n = 0
  for _, username in ipairs(list) do
    local all = rows:get(username) or {}
    local exists = users.user_exists(username, host) and users.user_is_enabled(username, host)
    for token, state in pairs(all) do
      local session, err
      if exists then session, err = restart.thaw(username, state, begin) end
      if session then
        n = n + 1
        each(session, token, state.timeout, math.max(state.since + state.timeout - clock.wall(), 0.1))
      else
        module:log("info", "a session of %s does not come back: %s", username, err or "its account is not there, or disabled")
        store:set(username, token, nil)
      end
    end
  end
  if n > 0 then module:log("info", "%d sessions wait to be resumed", n) end
end

-- It goes on with a connection, or is over.
function restart.forget(session, token)
  if not session.restored then return end
  session.restored = nil
  local ok, err = store:set(session.username, token, nil)
  if not ok then module:log("error", "what was kept of %s over the restart is not removed: %s", session.full_jid, err) end
end

return restart
