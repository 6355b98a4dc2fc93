-- SPDX-License-Identifier: MIT
-- How much one person may say in a room.

local check = require "check"
local rooms = require "rooms_fixture"

local ROOM = rooms.ROOM

local function errors(client)
  local n, first = 0, nil
  for _, s in ipairs(client:received()) do
    if s.attr.type == "error" then
      n = n + 1
      first = first or s.name .. " " .. table.concat({ s:get_error() }, " ", 1, 2)
    end
  end
  return { n, first }
end

check.test("who floods a room is refused, and nobody else; members are exempt", function()
  local host = rooms.new({ muc_room_locking = false, muc_event_rate = 1, muc_burst_factor = 4, muc_max_line_count = 3 }, nil,
    { "muc_limits" })
  local romeo, juliet, nurse = rooms.person(host, "romeo"), rooms.person(host, "juliet"), rooms.person(host, "nurse")
  rooms.join(romeo, "Romeo")
  rooms.join(juliet, "Juliet")
  rooms.join(nurse, "Nurse")
  host:advance(10)
  for _, c in ipairs { romeo, juliet, nurse } do c:received() end
  local rows = {
    -- who, times, text, seconds before, errors
    { juliet, 6, "hi", 0, { 2, "message wait policy-violation" } },
    { nurse, 4, "hi", 0, { 0 } },                          -- hers is her own
    { juliet, 3, "hi", 2, { 1, "message wait policy-violation" } },
    { romeo, 20, "hi", 0, { 0 } },                         -- the owner
    { juliet, 1, ("x"):rep(5665), 10, { 1, "message modify policy-violation" } },
    { juliet, 1, "a\nb\nc\nd", 0, { 1, "message modify policy-violation" } },
    { juliet, 1, "a\nb\nc", 0, { 0 } },
  }
  for i, row in ipairs(rows) do
    host:advance(row[4])
    for _ = 1, row[2] do rooms.say(row[1], row[3]) end
    check.equal({ i, errors(row[1]) }, { i, row[5] })
  end
  for n = 1, 5 do juliet:send(("<presence to='%s/Juliet%d'/>"):format(ROOM, n)) end
  check.equal(errors(juliet), { 2, "presence wait policy-violation" })
  check.equal(host:close(), {})
end)

check.done()
