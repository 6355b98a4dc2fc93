-- SPDX-License-Identifier: MIT
-- roster_test.lua: rosters as they are stored, changes taken back, requests of strangers.
local check = require "check"
local fixture = require "client_fixture"
local roster = require "couplet.roster"
local st = require "couplet.stanza"
local states = require "data.subscription_states"
local task = require "couplet.task"

fixture.host("h.example", {})
fixture.account "romeo@h.example"

local names = { N = "none", T = "to", F = "from", B = "both" }
local JULIET = "juliet@far.example"

-- Writes the state into the stored roster as if it had always been so.
local function put(state, contact)
  roster.forget "romeo@h.example"
  local stored = { [false] = { version = 5, pending = {} } }
  local letter = state:sub(1, 1)
  local item = { subscription = names[letter], groups = {}, name = "Jule" }
  if state:find "+out" then item.ask = "subscribe" end
  if state:find "+ok" then item.approved = true end
  if letter ~= "N" or item.ask or item.approved then stored[contact] = item end
  if state:find "+in" then stored[false].pending[contact] = true end
  local shelf = fixture.stored("roster", "romeo", "h.example")
  for k in pairs(shelf) do shelf[k] = nil end
  for k, v in pairs(stored) do shelf[k] = v end
end

local function read(contact)
  local stored = fixture.stored("roster", "romeo", "h.example")
  local item = stored[contact]
  local s = ({ none = "N", to = "T", from = "F", both = "B" })[item and item.subscription or "none"]
  if item and item.ask then s = s .. "+out" end
  if stored[false].pending[contact] then s = s .. "+in" end
  if item and item.approved then s = s .. "+ok" end
  return s, stored
end

for _, direction in ipairs { "outbound", "inbound" } do
  for kind, rows in pairs(states[direction]) do
    check.test(("appendix A: %s %s"):format(direction, kind), function()
      for _, row in ipairs(rows) do
        put(row[1], JULIET)
        local result = check.ok(roster.transition("romeo", "h.example", JULIET, direction, kind))
        local what = ("%s %s from %s"):format(direction, kind, row[1])
        check.equal(result.pass, row[2], what)
        check.equal(result.reply, row.reply, what .. ", reply")
        check.equal(read(JULIET), row[3], what)
        local _, stored = read(JULIET)
        if row[1] == row[3] then check.equal(stored[false].version, 5, what .. ": nothing to store") end
        if stored[JULIET] and row[1]:sub(1, 1) ~= "N" then check.equal(stored[JULIET].name, "Jule", what) end
      end
    end)
  end
end

check.test("a change the store refuses is taken back", function()
  put("N", JULIET)
  check.ok(roster.load_roster("romeo", "h.example"))
  fixture.fail "roster"
  for _, direction in ipairs { "outbound", "inbound" } do
    local result, err = roster.transition("romeo", "h.example", JULIET, direction, "subscribe")
    check.ok(not result)
    check.equal(err.condition, "resource-constraint")
  end
  fixture.fail(nil)
  local list = roster.load_roster("romeo", "h.example")
  check.equal(list[JULIET], nil)
  check.equal(list[false].pending, {})
  check.equal(roster.is_contact_pending_in("romeo", "h.example", JULIET), false)
end)

check.test("a store that cannot be read is not an empty roster", function()
  put("B", JULIET)
  fixture.fail "roster"
  local list, err = roster.load_roster("romeo", "h.example")
  check.equal(list, nil)
  check.equal(err.condition, "resource-constraint")
  fixture.fail(nil)
  check.equal(roster.load_roster("romeo", "h.example")[JULIET].subscription, "both")
end)

check.test("the functions plugins know", function()
  put("N", JULIET)
  check.equal(roster.set_contact_pending_in("romeo", "h.example", JULIET), true)
  check.equal(roster.is_contact_pending_in("romeo", "h.example", JULIET), true)
  check.equal(roster.set_contact_pending_in("romeo", "h.example", JULIET), false)
  check.equal(roster.subscribed("romeo", "h.example", JULIET), true)
  check.equal(roster.is_contact_subscribed("romeo", "h.example", JULIET), true)
  check.equal(roster.is_user_subscribed("romeo", "h.example", JULIET), false)
  roster.set_contact_pending_out("romeo", "h.example", JULIET)
  check.equal(roster.is_contact_pending_out("romeo", "h.example", JULIET), true)
  roster.process_inbound_subscription_approval("romeo", "h.example", JULIET)
  check.equal(roster.is_user_subscribed("romeo", "h.example", JULIET), true)
  check.equal(read(JULIET), "B")
  roster.process_inbound_subscription_cancellation("romeo", "h.example", JULIET)
  roster.process_inbound_unsubscribe("romeo", "h.example", JULIET)
  check.equal(read(JULIET), "N")
  roster.subscribed("romeo", "h.example", JULIET)
  check.equal(roster.is_contact_preapproved("romeo", "h.example", JULIET), true)
end)

check.test("requests of strangers: kept whole if small, and not without end", function()
  put("N", JULIET)
  local list = roster.load_roster("romeo", "h.example")
  local request = st.presence { type = "subscribe", from = JULIET, to = "romeo@h.example" }:text_tag("status", "It is me")
  roster.transition("romeo", "h.example", JULIET, "inbound", "subscribe", request)
  roster.transition("romeo", "h.example", "big@far.example", "inbound", "subscribe",
    st.presence { type = "subscribe", from = "big@far.example" }:text_tag("status", ("x"):rep(10000)))
  for contact, stanza in roster.pending_requests(list) do
    check.equal(stanza.attr.from, contact)
    check.equal(stanza.attr.type, "subscribe")
    check.equal(stanza:get_child_text "status", contact == JULIET and "It is me" or nil)
  end
  for i = 1, 300 do roster.transition("romeo", "h.example", ("s%d@spam.example"):format(i), "inbound", "subscribe") end
  local n = 0
  for _ in roster.pending_requests(list) do n = n + 1 end
  check.equal(n, 200)
end)

check.test("many at once lose nothing", function()
  put("N", JULIET)
  roster.forget "romeo@h.example"
  for i = 1, 50 do
    task.spawn(function() roster.transition("romeo", "h.example", ("c%d@far.example"):format(i), "inbound", "subscribe") end)
  end
  local stored = fixture.stored("roster", "romeo", "h.example")
  local n = 0
  for _ in pairs(stored[false].pending) do n = n + 1 end
  check.equal(n, 50)
end)

check.done()
