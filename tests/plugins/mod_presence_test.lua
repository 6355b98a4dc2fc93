-- SPDX-License-Identifier: MIT
-- RFC 6121 §3 and §4: subscriptions and presence, as clients and other servers see them.
local check = require "check"
local fixture = require "client_fixture"
local st = require "couplet.stanza"
local states = require "data.subscription_states"
local roster = require "couplet.roster"
local router = require "couplet.router"
local host = fixture.host "h.example"

local ROMEO, FAR = "romeo@h.example", "juliet@far.example"

-- What leaves for other servers.
local outside = {}
host.events.add_handler("route/remote", function(event)
  outside[#outside + 1] = st.clone(event.stanza)
  return true
end)

local function left(attr)
  for i, s in ipairs(outside) do
    local same = true
    for k, v in pairs(attr) do
      if v == false then v = nil end
      if s.attr[k] ~= v then same = false end
    end
    if same then return table.remove(outside, i) end
  end
end

local function expect_left(attr)
  local s = left(attr)
  if not s then
    local all = {}
    for _, x in ipairs(outside) do all[#all + 1] = tostring(x) end
    error("nothing left like that: " .. table.concat(all, "\n"), 2)
  end
  return s
end

local function from_far(stanza)
  stanza.attr.to = stanza.attr.to or ROMEO
  router.core_process_stanza({ type = "s2sin", host = "h.example", send = function(s) outside[#outside + 1] = s end }, stanza)
end

local names = { N = "none", T = "to", F = "from", B = "both" }

local function set_state(client, contact, state)
  local list = client.session.roster
  local letter = state:sub(1, 1)
  list[contact], list[false].pending[contact] = nil, nil
  if state ~= "N" and state ~= "N+in" then
    list[contact] = { subscription = names[letter], groups = {}, ask = state:find "+out" and "subscribe" or nil,
      approved = state:find "+ok" and true or nil }
  end
  if state:find "+in" then list[false].pending[contact] = true end
end

local function get_state(client, contact)
  local list = client.session.roster
  local item = list[contact]
  local s = ({ none = "N", to = "T", from = "F", both = "B" })[item and item.subscription or "none"]
  if item and item.ask then s = s .. "+out" end
  if list[false].pending[contact] then s = s .. "+in" end
  if item and item.approved then s = s .. "+ok" end
  return s
end

local function fresh(priority)
  fixture.reset()
  local romeo = fixture.login(ROMEO .. "/orchard", priority)
  outside = {}
  return romeo
end

-- Subscriptions -------------------------------------------------------------------------------------------------------------

for kind, rows in pairs(states.outbound) do
  check.test("outbound " .. kind .. ", every state of appendix A.2", function()
    for _, row in ipairs(rows) do
      local romeo = fresh()
      set_state(romeo, FAR, row[1])
      local before = row[1]
      romeo:send(st.presence { type = kind, to = FAR .. "/some-resource", id = "s" })
      local what = kind .. " from " .. before
      check.equal(get_state(romeo, FAR), row[3], what)
      local sent = left { type = kind, to = FAR, from = ROMEO }
      check.equal(sent ~= nil, row[2], what .. ": routed, between bare addresses")
      -- a push whenever the item looks different (a request from them is no part of it)
      local visible = before:gsub("%+in", "") ~= row[3]:gsub("%+in", "")
      if visible then
        local item = romeo:expect("iq", { type = "set" }).tags[1].tags[1]
        check.equal(item.attr.jid, FAR)
        check.equal(item.attr.ask, row[3]:find "+out" and "subscribe" or nil)
        check.equal(item.attr.approved, row[3]:find "+ok" and "true" or nil)
      end
      local had, has = before:find "^[FB]", row[3]:find "^[FB]"
      if has and not had then expect_left { to = FAR, from = romeo.jid, type = false } end       -- §3.1.5
      if had and not has then expect_left { to = FAR, from = romeo.jid, type = "unavailable" } end    -- §3.2.2
      romeo:nothing()
      check.equal(#outside, 0, what .. ": nothing else leaves")
    end
  end)
end

for kind, rows in pairs(states.inbound) do
  check.test("inbound " .. kind .. ", every state of appendix A.3", function()
    for _, row in ipairs(rows) do
      local romeo = fresh()
      set_state(romeo, FAR, row[1])
      from_far(st.presence { type = kind, from = FAR .. "/balcony" })
      local what = kind .. " from " .. row[1]
      check.equal(get_state(romeo, FAR), row[3], what)
      if row[2] then romeo:expect("presence", { type = kind, from = FAR, to = ROMEO }) end
      if row.reply then
        expect_left { type = row.reply, from = ROMEO, to = FAR }
        expect_left { from = romeo.jid, to = FAR, type = false }
      end
      if row[1]:gsub("%+in", "") ~= row[3]:gsub("%+in", "") then romeo:expect("iq", { type = "set" }) end
      if kind == "unsubscribe" and row[1]:find "^[FB]" then
        expect_left { from = romeo.jid, to = FAR, type = "unavailable" }                        -- §3.3.3
      end
      romeo:nothing()
      check.equal(#outside, 0, what .. ": nothing else leaves")
    end
  end)
end

check.test("a request is shown again at every login until it is answered (§3.1.3)", function()
  fixture.reset()
  fixture.account(ROMEO)
  from_far(st.presence { type = "subscribe", from = FAR }:text_tag("status", "It is me"))
  for _ = 1, 2 do
    local romeo = fixture.connect(ROMEO .. "/orchard")
    romeo:send(st.presence())
    local request = romeo:expect("presence", { type = "subscribe", from = FAR, to = ROMEO })
    check.equal(request:get_child_text "status", "It is me")
    romeo:lose()
  end
  local romeo = fixture.connect(ROMEO .. "/orchard")
  romeo:send(st.presence { type = "unsubscribed", to = FAR })
  romeo:send(st.presence())
  romeo:nothing("presence", { type = "subscribe" })
  fixture.reset()
  from_far(st.presence { type = "subscribe", from = FAR, to = "nobody@h.example" })
  fixture.account "nobody@h.example"
  local later = fixture.connect "nobody@h.example/now"
  later:send(st.presence())
  later:nothing("presence", { type = "subscribe" })
end)

check.test("a subscription between two who are here", function()
  fixture.reset()
  local romeo, juliet = fixture.login(ROMEO .. "/orchard"), fixture.login "juliet@h.example/balcony"
  romeo:send(st.presence { type = "subscribe", to = "juliet@h.example" })
  check.equal(romeo:expect("iq", { type = "set" }).tags[1].tags[1].attr.ask, "subscribe")
  juliet:expect("presence", { type = "subscribe", from = ROMEO, to = "juliet@h.example" })
  juliet:send(st.presence { type = "subscribed", to = ROMEO })
  check.equal(juliet:expect("iq", { type = "set" }).tags[1].tags[1].attr.subscription, "from")
  romeo:expect("presence", { type = "subscribed", from = "juliet@h.example" })
  check.equal(romeo:expect("iq", { type = "set" }).tags[1].tags[1].attr.subscription, "to")
  romeo:expect("presence", { type = false, from = juliet.jid })
  romeo:nothing() juliet:nothing()
  juliet:send(st.presence():text_tag("show", "dnd"))
  romeo:expect("presence", { from = juliet.jid, to = ROMEO })
end)

check.test("nobody subscribes to himself, and a broken store says so", function()
  local romeo = fresh()
  romeo:send(st.presence { type = "subscribe", to = ROMEO })
  romeo:nothing()
  fixture.fail "roster"
  romeo:send(st.presence { type = "subscribe", to = FAR, id = "x" })
  check.equal({ romeo:expect("presence", { type = "error" }):get_error() }, { "wait", "resource-constraint", "the disk is full" })
  check.equal(#outside, 0)
  fixture.fail(nil)
end)

-- Presence --------------------------------------------------------------------------------------------------------------------

local function everybody()
  local romeo = fresh "none"
  for contact, subscription in pairs { ["from@far.example"] = "from", ["to@far.example"] = "to", ["both@far.example"] = "both",
    ["none@far.example"] = "none" } do
    romeo.session.roster[contact] = { subscription = subscription, groups = {} }
  end
  romeo.session.roster["asked@far.example"] = { subscription = "none", ask = "subscribe", groups = {} }
  return romeo
end

check.test("initial presence goes to those who see us, probes to those we see (§4.2.2)", function()
  local romeo = everybody()
  romeo:send(st.presence():text_tag("show", "away"))
  romeo:expect("presence", { from = romeo.jid, to = ROMEO })
  expect_left { to = "from@far.example", from = romeo.jid, type = false }
  expect_left { to = "both@far.example", from = romeo.jid, type = false }
  expect_left { to = "to@far.example", from = romeo.jid, type = "probe" }
  expect_left { to = "both@far.example", from = romeo.jid, type = "probe" }
  expect_left { to = "asked@far.example", from = ROMEO, type = "subscribe" }          -- §3.1.2: lost ones are sent again
  check.equal(#outside, 0)
  romeo:send(st.presence():text_tag("show", "dnd"))                                   -- a change: no probes
  expect_left { to = "from@far.example", type = false }
  expect_left { to = "both@far.example", type = false }
  check.equal(#outside, 0)
end)

check.test("unavailable, sent or by loss, goes to the same people (§4.5)", function()
  for _, how in ipairs { "sent", "lost" } do
    local romeo = everybody()
    romeo:send(st.presence())
    outside = {}
    romeo:got()
    if how == "sent" then
      romeo:send(st.presence { type = "unavailable" }:text_tag("status", "bye"))
      romeo:expect("presence", { type = "unavailable", from = romeo.jid })
      check.equal(romeo.session.presence, nil)
    else
      romeo:lose "connection reset"
    end
    expect_left { to = "from@far.example", from = romeo.jid, type = "unavailable" }
    expect_left { to = "both@far.example", from = romeo.jid, type = "unavailable" }
    check.equal(#outside, 0)
    if how == "sent" then romeo:lose() end
    check.equal(#outside, 0, "once is enough")
  end
end)

check.test("a user's own resources see each other", function()
  fixture.reset()
  local one = fixture.login(ROMEO .. "/one", 3)
  local two = fixture.login(ROMEO .. "/two", "none")
  two:nothing()
  two:send(st.presence())
  two:expect("presence", { from = one.jid })
  two:expect("presence", { from = two.jid })
  one:expect("presence", { from = two.jid, to = ROMEO })
  two:lose()
  one:expect("presence", { from = two.jid, type = "unavailable" })
end)

check.test("priorities from -128 to 127, or a bad request", function()
  local rows = { { "0", 0 }, { "-128", -128 }, { "127", 127 }, { "+5", 5 }, { " 7 ", 7 }, { "128" }, { "-129" }, { "1.5" },
    { "high" }, { "0x10" }, { "1e1" }, { "9999999999999999999" }, { "" } }
  for i, row in ipairs(rows) do
    local romeo = fresh "none"
    romeo:send(st.presence { id = "p" }:text_tag("priority", row[1]))
    if row[2] then
      check.equal(romeo.session.priority, row[2], "row " .. i)
    else
      check.equal({ romeo:expect("presence", { type = "error", id = "p" }):get_error() },
        { "modify", "bad-request", "A priority is a number from -128 to 127" }, "row " .. i)
      check.equal(romeo.session.presence, nil)
    end
  end
  local romeo = fresh "none"
  romeo:send(st.presence { type = "sleeping", id = "t" })
  check.equal(select(2, romeo:expect("presence", { type = "error", id = "t" }):get_error()), "bad-request")
end)

check.test("the best resources are known to plugins", function()
  fixture.reset()
  local directory = require "couplet.directory"
  local function top()
    local list = {}
    for _, s in ipairs((directory.user(ROMEO) or {}).top_resources or {}) do list[#list + 1] = s.resource end
    table.sort(list)
    return table.concat(list, " ")
  end
  local a = fixture.login(ROMEO .. "/a", 1)
  check.equal(top(), "a")
  local b = fixture.login(ROMEO .. "/b", 5)
  check.equal(top(), "b")
  a:send(st.presence():text_tag("priority", "5"))
  check.equal(top(), "a b")
  b:send(st.presence():text_tag("priority", "-1"))
  check.equal(top(), "a")
  a:send(st.presence { type = "unavailable" })
  check.equal(top(), "")
  b:send(st.presence())
  b:lose()
  check.equal(top(), "")
end)

check.test("probes (§4.3.2)", function()
  local romeo = fresh()
  local rows = {
    { "F", { type = false, from = romeo.jid } }, { "B", { type = false, from = romeo.jid } },
    { "N", { type = "unsubscribed", from = ROMEO } }, { "T", { type = "unsubscribed", from = ROMEO } },
    { "N+in", { type = "unsubscribed", from = ROMEO } },
  }
  for _, row in ipairs(rows) do
    set_state(romeo, FAR, row[1])
    from_far(st.presence { type = "probe", from = FAR .. "/balcony" })
    expect_left(row[2])
    check.equal(#outside, 0)
    romeo:nothing()
  end
  set_state(romeo, FAR, "F")
  romeo:send(st.presence { type = "unavailable" })
  outside = {}
  from_far(st.presence { type = "probe", from = FAR })
  expect_left { type = "unavailable", from = ROMEO, to = FAR }
  from_far(st.presence { type = "probe", from = FAR, to = "nobody@h.example" })
  expect_left { type = "unsubscribed", from = "nobody@h.example" }
end)

check.test("directed presence, and its end (§4.6)", function()
  local romeo = fresh()
  set_state(romeo, "friend@far.example", "F")
  romeo:send(st.presence { to = "room@conference.far.example/romeo" })
  expect_left { to = "room@conference.far.example/romeo", from = romeo.jid }
  check.ok(romeo.session.directed["room@conference.far.example/romeo"])
  romeo:send(st.presence { to = "friend@far.example" })
  outside = {}
  romeo:send(st.presence():text_tag("show", "away"))
  check.equal(left { to = "room@conference.far.example/romeo" }, nil)
  outside = {}
  -- whoever got it may ask for it
  from_far(st.presence { type = "probe", from = "room@conference.far.example/romeo" })
  expect_left { to = "room@conference.far.example/romeo", from = romeo.jid, type = false }
  romeo:send(st.presence { to = "other@far.example" })
  romeo:send(st.presence { to = "other@far.example", type = "unavailable" })
  outside = {}
  romeo:lose()
  expect_left { to = "room@conference.far.example/romeo", type = "unavailable", from = romeo.jid }
  expect_left { to = "friend@far.example", type = "unavailable" }
  check.equal(#outside, 0)

  local invisible = fresh "none"                                    -- never sent initial presence
  invisible:send(st.presence { to = FAR })
  outside = {}
  invisible:lose()
  expect_left { to = FAR, type = "unavailable", from = invisible.jid }
  check.equal(#outside, 0)

  local busy = fresh()
  for i = 1, 2001 do busy:send(st.presence { to = ("r%d@far.example"):format(i), id = tostring(i) }) end
  check.equal(select(2, busy:expect("presence", { type = "error", id = "2001" }):get_error()), "resource-constraint")
  -- who answers with an error is not told of the end
  from_far(st.presence { type = "error", from = "r7@far.example", to = busy.jid })
  outside = {}
  busy:lose()
  check.equal(left { to = "r7@far.example" }, nil)
  expect_left { to = "r8@far.example", type = "unavailable" }
end)

check.test("presence to a bare address reaches available resources, to a full one that one (§8.5)", function()
  fixture.reset()
  local a, b = fixture.login(ROMEO .. "/a", -1), fixture.login(ROMEO .. "/b", "none")
  from_far(st.presence { from = FAR .. "/x" })
  a:expect("presence", { from = FAR .. "/x", to = ROMEO })
  b:nothing()
  from_far(st.presence { from = FAR .. "/x", to = ROMEO .. "/b" })
  b:expect("presence", { from = FAR .. "/x" })
  from_far(st.presence { from = FAR .. "/x", to = ROMEO .. "/nowhere" })
  from_far(st.presence { from = FAR .. "/x", type = "error" })
  from_far(st.presence { from = FAR .. "/x", to = "nobody@h.example" })
  a:nothing() b:nothing()
end)

check.test("a broadcast between accounts of ours is serialised once, unless a plugin looks", function()
  fixture.reset()
  local romeo, n = fixture.login(ROMEO .. "/orchard"), 20
  local friends = {}
  for i = 1, n do
    friends[i] = fixture.login(("f%d@h.example"):format(i) .. "/r")
    set_state(romeo, friends[i].bare, "F")
  end
  local before = fixture.multicasts
  romeo:send(st.presence():text_tag("show", "away"))
  for _, f in ipairs(friends) do f:expect("presence", { from = romeo.jid, to = f.bare }) f:nothing() end
  check.equal(fixture.multicasts - before, 1)
  local seen = 0
  local function look(event) if event.stanza.attr.to then seen = seen + 1 end end
  host.events.add_handler("presence/bare", look, 100)
  romeo:send(st.presence())
  host.events.remove_handler("presence/bare", look)
  for _, f in ipairs(friends) do f:expect("presence", { from = romeo.jid, to = f.bare }) end
  check.equal(seen, n)
end)

check.test("a new resource hears of its contacts at once", function()
  fixture.reset()
  local juliet = fixture.login "juliet@h.example/balcony"
  set_state(juliet, ROMEO, "B")
  local romeo = fixture.connect(ROMEO .. "/orchard")
  set_state(romeo, "juliet@h.example", "B")
  romeo:send(st.presence())
  romeo:expect("presence", { from = juliet.jid, to = ROMEO })
  juliet:expect("presence", { from = romeo.jid, to = "juliet@h.example" })
end)

check.test("presence/initial is fired once", function()
  fixture.reset()
  local n = 0
  local function count() n = n + 1 end
  host.events.add_handler("presence/initial", count)
  local romeo = fixture.login(ROMEO .. "/orchard")
  romeo:send(st.presence():text_tag("show", "away"))
  check.equal(n, 1)
  romeo:send(st.presence { type = "unavailable" })
  romeo:send(st.presence())
  check.equal(n, 2)
  host.events.remove_handler("presence/initial", count)
end)

check.test("an account that is deleted tells its contacts", function()
  local romeo = fresh()
  set_state(romeo, FAR, "B")
  roster.save_roster("romeo", "h.example", romeo.session.roster)
  romeo:lose()
  outside = {}
  require "couplet.prosody".events.fire_event("user-deleted", { username = "romeo", host = "h.example" })
  expect_left { to = FAR, from = ROMEO, type = "unsubscribe" }
  expect_left { to = FAR, from = ROMEO, type = "unsubscribed" }
  check.equal(next((fixture.stored("roster", "romeo", "h.example"))), nil)
end)

check.done()
