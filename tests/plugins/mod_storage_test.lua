-- SPDX-License-Identifier: MIT
-- Which driver keeps which store, and what couplet.store adds to a driver that lacks something.

local check = require "check"
local fake = require "fakehost"
local store = require "couplet.store"

local equal, ok = check.equal, check.ok

local dir = require "temp".dir()

local simple = [[
  local data = {}
  local methods = {}
  function methods:get(user) return data[user or ""] end
  function methods:set(user, t) data[user or ""] = t return true end
  function methods:users() return pairs(data) end
  module:provides("storage", {
    open = function(_, name, kind)
      if kind ~= "keyval" then return nil, "unsupported-store" end
      return setmetatable({ plain = true }, { __index = methods })
    end,
    stores = function() return function() end end,
    purge = function() return true end,
  })
]]

check.test("storage and default_storage choose", function()
  local host = fake.new { plugins = {}, global = { data_path = dir, default_storage = "memory",
    storage = { a = "simple", b = "none", c = "null" } } }
  host:load("storage_simple", simple)
  local a, b = host:store("a"), host:store("b")
  equal(a:set("romeo", { 1 }), true)
  equal(a:get("romeo"), { 1 })
  equal(b:get("romeo"), nil)
  equal(b:set("romeo", { 1 }), nil)
  equal(host:store("c"):get("romeo"), nil)
  host:store("d"):set("romeo", { 2 })
  equal(host:store("d"):get("romeo"), { 2 })
  equal({ host:run(function() return store.open("example.org", "a", "archive") end) }, { nil, "unsupported-store" })
  equal({ host:run(function() return store.open("example.org", "a", "nonsense") end) }, { nil, "unsupported-store" })
  equal({ host:run(function() return store.open("nowhere.example", "a") end) }, { nil, "unknown-host" })
  host:close()
end)

check.test("a driver with keyval only has map and keyval+ too", function()
  local host = fake.new { plugins = {}, global = { data_path = dir, default_storage = "memory", storage = { a = "simple" } } }
  host:load("storage_simple", simple)
  local map, both = host:store("a", "map"), host:store("a", "keyval+")
  host:run(function()
    map, both = ok(store.open("example.org", "a", "map")), ok(store.open("example.org", "a", "keyval+"))
    ok(map:set("romeo", "k", 1))
    ok(map:set_keys("romeo", { l = 2, k = map.remove }))
    equal(both:get("romeo"), { l = 2 })
    ok(both:set_key("juliet", "l", 3))
    equal(map:get_all("l"), { romeo = 2, juliet = 3 })
    equal(both:get_key_from_all("l"), { romeo = 2, juliet = 3 })
    ok(both:delete_key_from_all("l"))
    equal(map:get_all("l"), {})
    ok(map:set("romeo", "k", nil))
  end)
  host:close()
end)

check.test("a missing driver is an error that names it", function()
  local host = fake.new { plugins = {}, global = { data_path = dir, storage = "nonesuch" } }
  local opened, err = host:run(function() return store.open("example.org", "a") end)
  equal(opened, nil)
  ok(err:find "nonesuch")
  host:close()
end)

check.test("store-opened may replace the store", function()
  local host = fake.new { plugins = {}, global = { data_path = dir, default_storage = "memory" } }
  local mine = {}
  host.events.add_handler("store-opened", function(event)
    if event.store_name == "special" then event.store = mine end
  end)
  equal(host:run(function() return store.open("example.org", "special") == mine end), true)
  host:close()
end)

check.test("internal and sql keep data in SQLite and PostgreSQL, stanzas included", function()
  local pg = require "postgres".new()
  local in_postgres = { driver = "PostgreSQL", database = "couplet", username = "couplet", password = pg.password,
    host = pg.dir, port = pg.port }
  for _, case in ipairs {
    { { storage = {} }, "couplet.sqlite" }, { { storage = "internal" }, "couplet.sqlite" },
    { { storage = "sql", sql = { driver = "SQLite3", database = "other.sqlite" } }, "other.sqlite" },
    { { storage = "sql" }, "couplet.sqlite" }, { { storage = "sql", sql = in_postgres } },
  } do
    os.execute("rm -f " .. dir .. "/*")
    case[1].data_path = dir
    local host = fake.new { plugins = {}, global = case[1] }
    local st = require "couplet.stanza"
    host:run(function()
      local s = ok(store.open("example.org", "vcard", "keyval"))
      ok(s:set("romeo", { name = "vCard" }))
      equal(s:get("romeo"), { name = "vCard" })
      local a = ok(store.open("example.org", "log", "archive"))
      local message = st.message({ to = "a@b", type = "chat" }, "x < y & \"z\"")
        :tag("delay", { xmlns = "urn:xmpp:delay", stamp = "1" }):text("é"):up():tag("x", { xmlns = "jabber:x" }):tag("y")
      local id = ok(a:append("romeo", nil, message, 5, "a@b"))
      local back, when, with = a:get("romeo", id)
      ok(st.is_stanza(back))
      equal(tostring(back), tostring(message))
      equal({ when, with }, { 5, "a@b" })
      equal(a:summary("romeo").body, { ["a@b"] = "x < y & \"z\"" })
      for _, item in a:find("romeo") do equal(item:get_child_text("delay", "urn:xmpp:delay"), "é") end
      local names = {}
      for name in store.stores("romeo", "example.org") do names[#names + 1] = name end
      table.sort(names)
      equal(names, { "log", "vcard" })
      ok(store.purge("romeo", "example.org"))
      equal(s:get("romeo"), nil)
      equal(a:find("romeo")(), nil)
    end)
    if case[2] then ok(io.open(dir .. "/" .. case[2])) else equal(pg.query "SELECT count(*) FROM couplet.collection", "2") end
    store.close()
    host:close()
  end
  pg.close()
end)

check.test("a wrong option sql is refused by name", function()
  local rows = {
    { { driver = "MySQL" }, "no driver for MySQL" },
    { { driver = "Oracle" }, "no driver Oracle; SQLite3 and PostgreSQL" },
    { { driver = "PostgreSQL" }, "the database has no name" },
    { { driver = "PostgreSQL", database = "x", hots = "y" }, "no connection parameter hots" },
    { { driver = "PostgreSQL", database = "x", host = {} }, "host is a table" },
  }
  for _, row in ipairs(rows) do
    local host = fake.new { plugins = {}, global = { data_path = dir, storage = "sql", sql = row[1] } }
    local opened, err = host:run(function() return store.open("example.org", "a") end)
    equal(opened, nil)
    ok(err:find(row[2]), err)
    host:close()
  end
end)

check.test("sql as libpq takes it: Prosody's names, quoted, and without secrets for people", function()
  local option = require "couplet.storage.option"
  local conninfo, name = option.postgres { driver = "PostgreSQL", database = "d", username = "u", password = [[a'b \ c]],
    port = 5432.0, host = "db.example", sslmode = "verify-full" }
  equal(conninfo, [[application_name=couplet dbname='d' host='db.example' ]] .. [[password='a\'b \\ c' port='5432' ]]
    .. [[sslmode='verify-full' user='u']])
  equal(name, "PostgreSQL database d on db.example")
end)

check.test("datamanager stands on the stores", function()
  local host = fake.new { plugins = {}, global = { data_path = dir, storage = "internal" } }
  local dm = require "couplet.alias".require "util.datamanager"
  equal(store.olddm, dm)
  host:run(function()
    ok(dm.store("romeo", "example.org", "notes", { text = "x" }))
    equal(dm.load("romeo", "example.org", "notes"), { text = "x" })
    local names = {}
    for name in dm.users("example.org", "notes") do names[#names + 1] = name end
    equal(names, { "romeo" })
    ok(dm.list_append("romeo", "example.org", "list", { 1 }))
    ok(dm.list_append("romeo", "example.org", "list", "two"))
    equal(dm.list_load("romeo", "example.org", "list"), { { 1 }, "two" })
    ok(dm.list_store("romeo", "example.org", "list", { "three" }))
    equal(dm.list_load("romeo", "example.org", "list"), { "three" })
    ok(dm.purge("romeo", "example.org"))
    equal(dm.load("romeo", "example.org", "notes"), nil)
    equal(dm.list_load("romeo", "example.org", "list"), nil)
  end)
  equal(dm.path_decode(dm.path_encode("a.b/c@d")), "a.b/c@d")
  equal(dm.getpath("ro/meo", "example.org", "x"), dir .. "/example%2eorg/x/ro%2fmeo.dat")
  equal(dm.getpath("romeo", "example.org", "x", "list", true), dir .. "/example%2eorg/x/romeo.list")
  ok(dm.append_raw("romeo", "example.org", "x", "log", "one\n"))
  ok(dm.append_raw("romeo", "example.org", "x", "log", "two\n"))
  equal(io.open(dm.getpath("romeo", "example.org", "x", "log")):read "a", "one\ntwo\n")
  ok(dm.store_raw(dir .. "/raw", "text"))
  equal(io.open(dir .. "/raw"):read "a", "text")
  equal(dm.store_raw(dir .. "/no/such/raw", "text"), nil)
  store.close()
  host:close()
end)

require "temp".remove(dir)
check.done()
