-- SPDX-License-Identifier: MIT
-- muc/tombstones: rooms that were kept and have been destroyed: who comes hears that they are gone, why, and where to go instead
-- (`muc_tombstones`), and nobody takes the name for `muc_tombstone_expiry`.
--
--   tombstones.put(address, newjid, reason, by) -> true | nil, err      what this has answered is on disk. by: who made the room
--   tombstones.has(address) -> bool                     never waits
--   tombstones.refuse(address, origin, stanza) -> true  an answer, if one is due
--   tombstones.forget(address)
--   tombstones.found(address, till, newjid, reason)     one that has come with the data of a room
-- Data: store "tombstones" (keyval: name -> { till, newjid, reason, by }). One account leaves as many as it may have rooms,
-- all of one other server a tenth of MAX; those whose time is over go within the hour.

local jid = require "util.jid"
local st = require "util.stanza"
local task = require "couplet.task"
local util = module:require "muc/util"

local MAX = 10000                              -- of the service; the one that would go next makes room

local tombstones = {}
local store = module:open_store("tombstones", "keyval")
local till, n = {}, 0                          -- { [address] = when it is over }
local made_by, left = {}, {}                   -- { [address] = account }, { [account, and "@" with its domain] = how many }

local function note(address, time, by)
  if not till[address] then n = n + 1 end
  till[address] = time
  if by and not made_by[address] then
    made_by[address] = by
    util.count_account(left, by, 1)
  end
end

local function unnote(address)
  if not till[address] then return false end
  till[address], n = nil, n - 1
  local by = made_by[address]
  if by then
    made_by[address] = nil
    util.count_account(left, by, -1)
  end
  return true
end

local function drop(address)
  return unnote(address) and store:set(jid.node(address), nil)
end

-- by: of that account, or "@" with a domain: of all of that server.
local function make_room(by)
  local next_one
  for address, time in pairs(till) do
    local who = made_by[address]
    if (not by or who == by or who and "@" .. jid.host(who) == by) and (not next_one or time < till[next_one]) then
      next_one = address
    end
  end
  if next_one then drop(next_one) end
end

function tombstones.put(address, newjid, reason, by)
  if not module.config.muc_tombstones then return true end
  local time = os.time() + module.config.muc_tombstone_expiry
  if not till[address] then
    if by and (left[by] or 0) >= module.config.muc_max_rooms_per_account then make_room(by) end
    local domain = by and util.elsewhere(by)
    if domain and (left["@" .. domain] or 0) >= MAX // 10 then make_room("@" .. domain) end
    if n >= MAX then make_room() end
  end
  note(address, time, by)
  local ok, err = store:set(jid.node(address), { till = time, newjid = newjid, reason = reason, by = by })
  if not ok then unnote(address) end
  return ok, err
end

function tombstones.has(address)
  local time = till[address]
  if time and time <= os.time() then
    task.spawn(drop, address)
    return false
  end
  return time ~= nil
end

tombstones.forget = drop
tombstones.found = function(address, time, newjid, reason)
  note(address, time)
  return store:set(jid.node(address), { till = time, newjid = newjid, reason = reason })
end

module:hourly("Forget rooms that have been gone for long", function()
  local over, now = {}, os.time()
  for address, time in pairs(till) do
    if time <= now then over[#over + 1] = address end
  end
  for _, address in ipairs(over) do
    if till[address] and till[address] <= now then drop(address) end
  end
end)

local STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"
local SILENT = { error = true, result = true, unavailable = true }

function tombstones.refuse(address, origin, stanza)
  if SILENT[stanza.attr.type] then return true end
  local stone = store:get(jid.node(address)) or {}
  local answer = stanza.name == "presence" and util.refuse_presence or function(to, ...) to.send(st.error_reply(...)) end
  local function send(reply)
    if stone.newjid then reply:get_child("error"):get_child("gone", STANZAS):text("xmpp:" .. stone.newjid .. "?join") end
    return origin.send(reply)
  end
  answer({ send = send }, stanza, "cancel", "gone", stone.reason, address)
  return true
end

do
  local map = module:open_store("tombstones", "map")
  local by = map:get_all("by") or {}
  for name, time in pairs(map:get_all("till") or {}) do note(name .. "@" .. module.host, time, by[name]) end
end

return tombstones
