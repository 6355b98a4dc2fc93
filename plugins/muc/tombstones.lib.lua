-- SPDX-License-Identifier: MIT
-- muc/tombstones: rooms that were kept and have been destroyed: who comes hears that they are gone, why, and where to go instead
-- (`muc_tombstones`), and nobody takes the name for `muc_tombstone_expiry`.
--
--   tombstones.put(address, newjid, reason) -> true | nil, err      what this has answered is on disk
--   tombstones.has(address) -> bool                     never waits
--   tombstones.refuse(address, origin, stanza) -> true  an answer, if one is due
--   tombstones.forget(address)
--   tombstones.found(address, till, newjid, reason)     one that has come with the data of a room
-- Data: store "tombstones" (keyval: name -> { till, newjid, reason }).

local jid = require "util.jid"
local st = require "util.stanza"
local task = require "couplet.task"
local util = module:require "muc/util"

local MAX = 10000                              -- of the service; the one that would go next makes room

local tombstones = {}
local store = module:open_store("tombstones", "keyval")
local till, n = {}, 0                          -- { [address] = when it is over }

local function note(address, time)
  if not till[address] then n = n + 1 end
  till[address] = time
end

local function drop(address)
  if not till[address] then return end
  till[address], n = nil, n - 1
  return store:set(jid.node(address), nil)
end

local function make_room()
  local next_one
  for address, time in pairs(till) do
    if not next_one or time < till[next_one] then next_one = address end
  end
  if next_one then drop(next_one) end
end

function tombstones.put(address, newjid, reason)
  if not module.config.muc_tombstones then return true end
  local time = os.time() + module.config.muc_tombstone_expiry
  if not till[address] and n >= MAX then make_room() end
  note(address, time)
  local ok, err = store:set(jid.node(address), { till = time, newjid = newjid, reason = reason })
  if not ok then till[address], n = nil, n - 1 end
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

for name, time in pairs(module:open_store("tombstones", "map"):get_all("till") or {}) do
  note(name .. "@" .. module.host, time)
end

return tombstones
