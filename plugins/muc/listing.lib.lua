-- SPDX-License-Identifier: MIT
-- muc/listing: the rooms that are listed, in the order of their addresses, and what is told of them: rooms that rest in the store
-- as well. Kept sorted, so that a page of a hundred thousand costs no more than one of ten (XEP-0045 §6.3, XEP-0059).
--
--   listing.update(room, exists)       what is told of it now; it leaves the list if it is not there, hidden or locked
--   listing.load(address, data)        a room in the store, before anybody has asked for it; sort() when all are there
--   listing.rooms { address, sorted }  listing.about(address) -> { name, description, language, open, anonymous } | nil
--   listing.after(address) -> index    of the first address behind that one

local jid = require "util.jid"
local lib = module:require "muc/room"
local rsm = require "util.rsm"

local rooms, about = {}, {}
local listing = { rooms = rooms }

function listing.about(address) return about[address] end

function listing.after(address)
  local low, high = 1, #rooms + 1
  while low < high do
    local middle = (low + high) // 2
    if rooms[middle] <= address then low = middle + 1 else high = middle end
  end
  return low
end

local function facts(room)
  return { name = room._data.name, description = room:get_description(), language = room:get_language(),
    open = not room:get_members_only() and not room:get_password() or nil, anonymous = room:get_whois() ~= "anyone" or nil }
end

function listing.update(room, exists)
  local address = room.jid
  local shown = exists and room:get_public() and not room:is_locked() and not room.destroying
  if shown and not about[address] then
    table.insert(rooms, listing.after(address), address)
  elseif not shown and about[address] then
    table.remove(rooms, listing.after(address) - 1)
  end
  about[address] = shown and facts(room) or nil
end

local scratch = lib.new_room("", {})
function listing.load(address, data)
  scratch.jid, scratch._data = address, data
  if scratch:get_public() then
    rooms[#rooms + 1] = address
    about[address] = facts(scratch)
  end
end

function listing.sort() table.sort(rooms) end

-- The list of rooms for everybody ---------------------------------------------------------------------------------------------

local PAGE = 1000

module:hook("host-disco-items", function(event)
  local set = rsm.get(event.stanza.tags[1])
  local first, last = 1, math.min(#rooms, PAGE)
  if set then
    local max = math.min(set.max or PAGE, PAGE)
    if set.before and not set.after then
      last = #rooms
      if set.before ~= true then
        last = listing.after(set.before) - 1
        if rooms[last] == set.before then last = last - 1 end
      end
      first = math.max(1, last - max + 1)
    else
      first = set.after and listing.after(set.after) or (set.index or 0) + 1
      last = math.min(#rooms, first + max - 1)
    end
  end
  for i = first, last do
    event.reply:tag("item", { jid = rooms[i], name = about[rooms[i]].name or jid.node(rooms[i]) }):up()
  end
  if set or #rooms > PAGE then
    event.reply:add_child(rsm.generate { first = first <= last and { index = first - 1, rooms[first] } or nil,
      last = first <= last and rooms[last] or nil, count = #rooms })
  end
end)

return listing
