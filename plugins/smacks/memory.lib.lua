-- SPDX-License-Identifier: MIT
-- memory.lib.lua: what is known of sessions that are over, or were when the server was killed: how much of what they sent is
-- handled. A client that cannot resume learns from <failed h='…'/> what it need not send again (XEP-0198 §5).
--
-- h is written some seconds after it changed, so it may be too low after a crash, never too high.

local sm_memory = {}

local store = module:open_store("smacks_h", "map")
local rows = module:open_store("smacks_h", "keyval")

module:config {
  smacks_max_old_sessions = { type = "integer", default = 10, min = 0,
    doc = "sessions of one account whose count of handled stanzas is remembered" },
}

local EVERY = 5                                -- seconds between two looks at what has changed
local AT_ONCE = 500                            -- sessions written then
local changed = {}                             -- session -> true

-- The oldest go.
local function prune(username)
  local known = rows:get(username)
  if type(known) ~= "table" then return end
  local list = {}
  for token, entry in pairs(known) do list[#list + 1] = { token, type(entry) == "table" and tonumber(entry.t) or 0 } end
  table.sort(list, function(a, b) return a[2] > b[2] end)
  for i = module.config.smacks_max_old_sessions + 1, #list do store:set(username, list[i][1], nil) end
end

local function write(username, token, h, new)
  local ok, err = store:set(username, token, { h = h, t = os.time() })
  if not ok then return module:log("warn", "the state of a session of %s@%s is not written: %s", username, module.host, err) end
  if new then prune(username) end
end

local function write_session(session)
  local link, token = session.sm, session.resumption_token
  if not link or not token then return end
  local new = not link.remembered
  link.remembered = true
  write(session.username, token, link:h(), new)
end

module:add_timer(EVERY, function()
  local n = 0
  for session in pairs(changed) do
    if n == AT_ONCE then return 0.5 end
    n = n + 1
    changed[session] = nil
    if session.sm then session.sm.on_handled = sm_memory.mark end
    module:spawn(write_session, session)
  end
  return EVERY
end)

function sm_memory.mark(link)
  link.on_handled = nil                        -- until it is written
  changed[link.session] = true
end

function sm_memory.watch(session)
  session.sm.on_handled = sm_memory.mark
end

-- Handled by a session that is over; nil: not known.
function sm_memory.h(username, token)
  local entry = store:get(username, token)
  return type(entry) == "table" and tonumber(entry.h) or nil
end

-- ended: by the client, which will not ask.
function sm_memory.over(session, token, ended)
  changed[session] = nil
  local link = session.sm
  link.on_handled = nil
  if not token then return end
  if not ended then
    write(session.username, token, link:h(), not link.remembered)
  elseif link.remembered then
    store:set(session.username, token, nil)
  end
end

return sm_memory
