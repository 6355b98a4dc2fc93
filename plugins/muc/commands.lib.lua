-- SPDX-License-Identifier: MIT
-- muc/commands: rooms for who administers the server from outside: `coupletctl room list HOST`, `room destroy ROOM [REASON]`.

local clean = require "couplet.log".clean            -- names are owners' own, and this goes to a terminal
local hosts = require "couplet.hosts"
local jid = require "util.jid"

local commands = {}

local function service(host)
  local home = host and hosts.get(host)
  local muc = home and home.modules.muc
  if not muc then return nil, ("%s is no host with rooms (Component \"…\" \"muc\")"):format(tostring(host)) end
  return muc
end

-- What strikes the eye: what is not as a public, open room is.
local function words_of(room)
  local words = {}
  local function word(is, text) if is then words[#words + 1] = text end end
  word(not room:get_persistent(), "temporary")
  word(not room:get_public(), "hidden")
  word(room:get_members_only(), "members only")
  word(room:get_password(), "password")
  word(room:get_moderated(), "moderated")
  return table.concat(words, ", ")
end

commands[1] = {
  section = "room", section_desc = "Rooms", name = "list", args = { { name = "host", type = "string" } },
  desc = "all rooms of a host: address, people inside, name, what it is not open for, owners",
  handler = function(self, host)
    local muc, err = service(jid.prep(host))
    if not muc then return false, err end
    local lines = {}
    for room in muc.all_rooms() do
      local owners = {}
      for who in room:each_affiliation "owner" do owners[#owners + 1] = who end
      table.sort(owners)
      local name, words = room:get_name():gsub("%s+", " "), words_of(room)
      lines[#lines + 1] = ("%-38s %5d  %s%s, owned by %s"):format(room.jid, room:occupant_count(), name,
        words ~= "" and " (" .. words .. ")" or "", owners[1] and table.concat(owners, " ", 1, math.min(#owners, 5)) or "nobody")
    end
    table.sort(lines)
    for _, line in ipairs(lines) do self.session.print(clean(line)) end
    return true, #lines .. (#lines == 1 and " room" or " rooms")
  end,
}

commands[2] = {
  section = "room", section_desc = "Rooms", name = "destroy",
  args = { { name = "room", type = "string" }, { name = "reason", type = "string", optional = true } },
  desc = "put everybody out of a room and delete it",
  handler = function(_, address, ...)
    local room_jid = jid.prep(address)
    local muc, err = service(room_jid and jid.host(room_jid))
    if not muc then return false, err end
    local room
    room, err = muc.get_room_from_jid(room_jid)
    if not room then return false, err or ("there is no room %s"):format(address) end
    local words = {}
    for i = 1, select("#", ...) do words[#words + 1] = (select(i, ...)) end
    local ok, _, condition = room:destroy(nil, words[1] and table.concat(words, " "))
    if not ok then return false, ("%s is not destroyed: %s"):format(address, tostring(condition)) end
    return true, ("%s is destroyed"):format(room_jid)
  end,
}

return commands
