-- SPDX-License-Identifier: MIT
-- mod_welcome, mod_motd, mod_watchregistrations: messages at certain moments; mod_presence: its options.

local check = require "check"
local fake = require "fakehost"

check.test("a new account is greeted, and administrators are told", function()
  local host = fake.new { plugins = { "iq", "message", "presence", "roster", "welcome", "watchregistrations" },
    options = { admins = { "bard@example.org" }, welcome_message = "Welcome to $host, $username! $nothing" } }
  local bard, romeo = host:client "bard@example.org/globe", host:client "romeo@example.org/orchard"
  for _, client in ipairs { bard, romeo } do
    client:send "<presence xmlns='jabber:client'/>"
    client:received()
  end
  host:fire("user-registered", { username = "romeo", host = "example.org", source = "test", ip = "192.0.2.1" })
  check.equal(romeo:expect { name = "message", from = "example.org" }:get_child_text "body",
    "Welcome to example.org, romeo! $nothing")
  check.equal(bard:expect { name = "message" }:get_child_text "body", "User romeo just registered on example.org from 192.0.2.1")
  host:close()
end)

check.test("registration_notification_type: administrators are told in a message of that type", function()
  local host = fake.new { plugins = { "iq", "message", "presence", "roster", "watchregistrations" },
    options = { admins = { "bard@example.org" }, registration_notification_type = "headline" } }
  local bard = host:client "bard@example.org/globe"
  bard:send "<presence xmlns='jabber:client'/>"
  host:fire("user-registered", { username = "romeo", host = "example.org", source = "test", ip = "192.0.2.1" })
  bard:expect { name = "message", type = "headline" }
  host:close()
end)

check.test("the message of the day comes once, at the first presence", function()
  local host = fake.new { plugins = { "message", "presence", "roster", "motd" }, options = { motd_text = [[
    Be excellent
    to each other.
  ]] } }
  local romeo = host:client "romeo@example.org/orchard"
  for _ = 1, 2 do romeo:send "<presence xmlns='jabber:client'/>" end
  check.equal(romeo:expect { name = "message", type = "headline" }:get_child_text "body", "Be excellent\nto each other.")
  check.ok(not pcall(romeo.expect, romeo, { name = "message" }))
  host:close()
end)

check.test("ignore_presence_priority: all resources are equal, and contacts see none", function()
  local host = fake.new { plugins = { "roster", "presence" }, options = { ignore_presence_priority = true } }
  for _, priority in ipairs { "-1", "7" } do
    local romeo = host:client("romeo@example.org/" .. priority)
    romeo:send("<presence xmlns='jabber:client'><priority>" .. priority .. "</priority><show>away</show></presence>")
    local presence = romeo.session.presence
    check.equal(romeo.session.priority, 0)
    check.equal({ presence:get_child_text "priority", presence:get_child_text "show" }, { nil, "away" })
  end
  host:close()
end)

check.done()
