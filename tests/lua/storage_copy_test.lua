-- SPDX-License-Identifier: MIT
-- coupletctl storage copy: SQLite to PostgreSQL and back, and Prosody's files to both. Every value, id and order arrives; what is
-- interrupted goes on; what is not empty is refused.

local check = require "check"
local database = require "couplet.storage.database"
local st = require "couplet.stanza"
local system = require "couplet.core".system
local task = require "couplet.task"
local temp = require "temp"

local equal, ok = check.equal, check.ok

local dir = temp.dir()
local pg = require "postgres".new()
local build = os.getenv "COUPLET_BUILD"
local in_pg = pg.options()
local in_sqlite = { file = dir .. "/data/couplet.sqlite", synchronous = "off" }
local in_other = { file = dir .. "/other.sqlite", synchronous = "off" }

temp.write(dir, "config.lua", ([[
data_path = %q
run_as_root = true
sql = { driver = "PostgreSQL", database = "couplet", username = "couplet", password = %q, host = %q, port = %d }
VirtualHost "a.example"
]]):format(dir .. "/data", pg.password, pg.dir, pg.port))
require "couplet.core".system.mkdir(dir .. "/data", 448)

local function ctl(...)
  database.close()
  local p = io.popen(("%s/bin/coupletctl --config %s/config.lua %s 2>&1"):format(build, dir, table.concat({ ... }, " ")))
  local text = p:read "a"
  return p:close() == true, text
end

local bytes = {}
for i = 0, 255 do bytes[#bytes + 1] = string.char(i) end
bytes = table.concat(bytes)

local tables = {
  { "a.example", "roster", "romeo", { ["juliet@b.example"] = { subscription = "both", groups = { Friends = true } },
    [false] = { version = 7, pending = {} } } },
  { "a.example", "roster", "ju\0liet\\", { [bytes] = bytes, [1] = 1, ["1"] = "1", [true] = 0.5, [-0.5] = false } },
  { "a.example", "accounts", "romeo", { salt = "s", iteration_count = 10000, stored_key = "\xff\x00" } },
  { "a.example", "motd", nil, { text = "of the host" } },
  { "b.example", "roster", "romeo", { other = { 1, 2, 3 } } },
}
local many = {}
for i = 1, 1700 do many["key" .. i] = { i } end
tables[#tables + 1] = { "b.example", "many", "romeo", many }

local function fill(options)
  for _, t in ipairs(tables) do ok(database.driver(t[1], options):open(t[2]):set(t[3], t[4])) end
  local function log(host, user, n)
    local a = database.driver(host, options):open("archive", "archive")
    local left, finished = n, nil
    for i = 1, n do
      task.spawn(function()
        local key = i % 7 == 0 and "key" .. i or nil
        ok(a:append(user, key, i % 2 == 0 and { i, bytes } or "text" .. i, 1e9 + i // 3 + 0.25,
          i % 3 == 0 and "peer" .. i % 5 .. "@x" or nil))
        left = left - 1
        if left == 0 and finished then finished() end
      end)
    end
    if left > 0 then task.await(function(done) finished = done end) end
  end
  log("a.example", "romeo", 1234)
  log("a.example", "juliet", 10)
  log("b.example", nil, 3)
end

local function everything(options)
  local out = {}
  for _, t in ipairs(tables) do out[#out + 1] = database.driver(t[1], options):open(t[2]):get(t[3]) end
  for _, who in ipairs { { "a.example", "romeo" }, { "a.example", "juliet" }, { "b.example" } } do
    local list = {}
    for id, value, when, with in database.driver(who[1], options):open("archive", "archive"):find(who[2]) do
      list[#list + 1] = { id, value, when, with }
    end
    out[#out + 1] = list
  end
  return out
end

local want

check.test("SQLite to PostgreSQL: every value, id, time, peer, in order, counted", function()
  fill(in_sqlite)
  want = everything(in_sqlite)
  equal(#want[7], 1234)
  local fine, text = ctl("storage copy internal sql")
  ok(fine, text)
  ok(text:find "a.example archive %(archive%) +1244 of +1244 rows\n", text)
  ok(text:find "stores are in sql now", text)
  ok(not text:find "WRONG" and not text:find(pg.password, 1, true))
  equal(everything(in_pg), want)
  equal(pg.query "SELECT count(*) FROM couplet.archive", "1247")
end)

check.test("a target that is not empty is refused, and stays", function()
  local fine, text = ctl("storage copy internal sql")
  ok(not fine)
  ok(text:find "sql is not empty: it holds .* rows of .*%. DROP SCHEMA couplet CASCADE", text)
  ok(not text:find "goes on where", text)      -- it has not begun
  fine, text = ctl("storage copy sql internal")
  ok(not fine and text:find("Move " .. in_sqlite.file .. "* away first", 1, true), text)
  equal(everything(in_pg), want)
end)

check.test("PostgreSQL to SQLite", function()
  local fine, text = ctl("storage copy sql sqlite:" .. in_other.file)
  ok(fine, text)
  equal(everything(in_other), want)
end)

check.test("numbers two owners share in PostgreSQL: ids and order stay", function()
  pg.query [[INSERT INTO couplet.archive (owner, id, value) SELECT o.id, (5000::bigint << 20) + n, 't'::bytea
    FROM couplet.owner o, generate_series(0, 2) n]]
  local function ids(options)
    local out = {}
    for _, user in ipairs { "romeo", "juliet" } do
      for id, value in database.driver("a.example", options):open("archive", "archive"):find(user, { ["end"] = 6 }) do
        out[#out + 1] = { user, id, value }
      end
    end
    return out
  end
  local have = ids(in_pg)
  equal(#have, 6)
  local file = dir .. "/shared.sqlite"
  local fine, text = ctl("storage copy sql sqlite:" .. file)
  ok(fine, text)
  equal(ids { file = file }, have)
  local s = database.driver("a.example", { file = file }):open("archive", "archive")
  equal(s:get("juliet", have[4][2]), true, "found by its id")
end)

check.test("an interrupted copy goes on; another source is refused meanwhile", function()
  database.close()
  os.remove(in_other.file)
  pg.query [[DELETE FROM couplet.archive WHERE owner = (SELECT max(id) FROM couplet.owner) OR id < (6000::bigint << 20)
    OR id % 2 = 0 AND owner = (SELECT id FROM couplet.owner WHERE "user" = 'romeo');
    DELETE FROM couplet.keyval WHERE "user" = 'romeo']]
  database.driver("", in_pg):open("copy in progress", "map"):set(nil, "from", "internal")
  temp.write(dir, "empty/x", "")
  local fine, text = ctl("storage copy prosody:" .. dir .. "/empty sql")
  ok(not fine and text:find "half a copy of internal", text)
  fine, text = ctl("storage copy internal sql")
  ok(fine, text)
  ok(text:find "going on", text)
  equal(everything(in_pg), want)
end)

check.test("what is no storage is said", function()
  local rows = {
    { "internal nowhere", "nowhere is no storage: internal, sql" }, { "sqlite:/nowhere/x sql", "there is no file /nowhere/x" },
    { "internal internal", "the same" }, { "internal prosody:/tmp", "can be read only" },
    { "prosody:/nowhere sql", "no directory" },
  }
  for _, row in ipairs(rows) do
    local fine, text = ctl("storage copy " .. row[1])
    ok(not fine and text:find(row[2]), text)
  end
end)

check.test("Prosody's files, written by Prosody", function()
  local script = temp.write(dir, "write.lua", ([[
    package.path, package.cpath = "/usr/lib/prosody/?.lua;" .. package.path, "/usr/lib/prosody/?.so;" .. package.cpath
    prosody = { platform = "posix" }
    local dm = require "util.datamanager"
    local st = require "util.stanza"
    local dt = require "util.datetime"
    dm.set_data_path(%q)
    dm.store("romeo", "a.example", "accounts", { password = "x\0\"\n\\y" })
    dm.store("ro.meo+1", "a.example", "roster", { ["juliet@b.example"] = { subscription = "both" },
      [false] = { version = 3 } })
    dm.store(nil, "a.example", "motd", { text = "host" })
    for i = 1, 5 do
      local m = st.preserialize(st.message({ to = "romeo@a.example" }, "hello ); item(" .. i))
      m.when, m.with, m.key, m.attr.stamp = 1000 + i + 0.5, "juliet@b.example", "id" .. i, dt.datetime(1000 + i)
      dm.list_append("romeo", "a.example", "archive", m)
    end
    dm.list_append("romeo", "a.example", "plain", { 1, two = "2" })
    for _, at in ipairs { { "romeo", "pep_urn:xmpp:bookmarks:1" }, { nil, "pubsub_news" } } do
      local payload = st.preserialize(st.stanza("conference", { xmlns = "urn:xmpp:bookmarks:1", name = "R" }):tag("nick"))
      payload.when, payload.with, payload.key = 1000, "romeo@a.example", "room@b.example"
      dm.list_append(at[1], "a.example", at[2], payload)
    end
  ]]):format(dir .. "/prosody"))
  os.execute("mkdir " .. dir .. "/prosody && lua5.4 " .. script)
  pg.query "DROP SCHEMA couplet CASCADE"
  for _, target in ipairs { { "sql", in_pg }, { "sqlite:" .. dir .. "/from.sqlite", { file = dir .. "/from.sqlite" } } } do
    local fine, text = ctl("storage copy prosody:" .. dir .. "/prosody " .. target[1])
    ok(fine, text)
    local driver = database.driver("a.example", target[2])
    equal(driver:open "accounts":get "romeo", { password = "x\0\"\n\\y" })
    equal(driver:open "roster":get "ro.meo+1", { ["juliet@b.example"] = { subscription = "both" },
      [false] = { version = 3 } })
    equal(driver:open "motd":get(nil), { text = "host" })
    local n = 0
    for id, stanza, when, with in driver:open("archive", "archive"):find "romeo" do
      n = n + 1
      equal({ id, stanza:get_child_text "body", stanza.attr.stamp, when, with },
        { "id" .. n, "hello ); item(" .. n, nil, 1000 + n + 0.5, "juliet@b.example" })
    end
    equal(n, 5)
    local _, plain = driver:open("plain", "archive"):find "romeo"()
    equal(plain, { 1, two = "2" })
    -- Prosody keeps payloads, our plugins items: without the item a bookmark got the id and the publisher on its payload.
    for _, at in ipairs { { "romeo", "pep_urn:xmpp:bookmarks:1" }, { nil, "pubsub_news" } } do
      local id, item, when, with = driver:open(at[2], "archive"):find(at[1])()
      equal({ id, tostring(item), when, with }, { "room@b.example", tostring(st.stanza("item",
        { xmlns = "http://jabber.org/protocol/pubsub", id = "room@b.example" }):tag("conference",
        { xmlns = "urn:xmpp:bookmarks:1", name = "R" }):tag "nick"), 1000, "romeo@a.example" })
    end
  end
end)

-- As mod_storage_sql of Prosody 0.12 writes them: keys that are no text below __hash, lists beside them below __array.
local OF_PROSODY = [[
  CREATE TABLE prosody ("host" TEXT NOT NULL, "user" TEXT NOT NULL, "store" TEXT NOT NULL, "key" TEXT NOT NULL,
    "type" TEXT NOT NULL, "value" TEXT NOT NULL);
  CREATE TABLE prosodyarchive ("sort_id" INTEGER PRIMARY KEY, "host" TEXT NOT NULL, "user" TEXT NOT NULL,
    "store" TEXT NOT NULL, "key" TEXT NOT NULL, "when" INTEGER NOT NULL, "with" TEXT NOT NULL, "type" TEXT NOT NULL,
    "value" TEXT NOT NULL);
  INSERT INTO prosody VALUES ('a.example', 'romeo', 'accounts', 'salt', 'string', 'x;y'),
    ('a.example', 'romeo', 'accounts', 'iteration_count', 'number', '10000'),
    ('a.example', 'romeo', 'roster', 'juliet@b.example', 'json', '{"groups":{},"subscription":"both"}'),
    ('a.example', 'romeo', 'roster', '', 'json', '{"__hash":[false,{"version":3,"pending":{}}]}'),
    ('a.example', 'romeo', 'private', 'x:urn:n', 'json',
      '{"name":"x","attr":{"xmlns":"urn:n"},"__array":[{"name":"n","attr":{},"__array":["note"]}]}'),
    ('a.example', '', 'motd', 'on', 'boolean', 'true');
  INSERT INTO prosodyarchive VALUES
    (3, 'a.example', 'romeo', 'archive', 'id1', 1000, 'juliet@b.example', 'xml', '<message><body>hello 1</body></message>'),
    (2, 'a.example', 'juliet', 'archive', 'id1', 1000, 'romeo@a.example', 'xml', '<message><body>other</body></message>'),
    (7, 'a.example', 'romeo', 'archive', 'id2', 1000, 'juliet@b.example', 'xml', '<message><body>hello 2</body></message>'),
    (8, 'a.example', '', 'pubsub_news', 'n1', 1002, '', 'xml', '<e xmlns="urn:e"/>');
  WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1100)
    INSERT INTO prosodyarchive SELECT 100 + i, 'a.example', 'nurse', 'archive', 'k' || i, 2000, '', 'xml', '<m/>' FROM n;
  WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1100)
    INSERT INTO prosody SELECT 'a.example', 'u' || (i / 3), 'many', 'k' || i, 'number', i FROM n;
]]

check.test("Prosody's tables, into another database and beside them; what a first start left is no obstacle", function()
  pg.query "DROP SCHEMA couplet CASCADE"
  local conf = system.read_file(dir .. "/config.lua")
  local function copied(sql, to, target)
    local fine, text = ctl("storage copy prosody:sql sql")
    ok(not fine and text:find "has no tables of Prosody's %(prosody and prosodyarchive%)\n$", text)
    sql(OF_PROSODY)
    ok(database.driver("a.example", target):open "saslauth":set(nil, { secret = "of a start" }))
    fine, text = ctl("storage copy prosody:sql " .. to)
    ok(fine, text)
    local driver = database.driver("a.example", target)
    equal({ driver:open "accounts":get "romeo", driver:open "roster":get "romeo", driver:open "private":get "romeo",
      driver:open "motd":get(nil) },
      { { salt = "x;y", iteration_count = 10000 },
        { ["juliet@b.example"] = { groups = {}, subscription = "both" }, [false] = { version = 3, pending = {} } },
        { ["x:urn:n"] = { name = "x", attr = { xmlns = "urn:n" }, { name = "n", attr = {}, "note" } } }, { on = true } })
    local list = {}
    for id, stanza, when, with in driver:open("archive", "archive"):find "romeo" do
      list[#list + 1] = { id, stanza:get_child_text "body", when, with }
    end
    equal(list, { { "id1", "hello 1", 1000, "juliet@b.example" }, { "id2", "hello 2", 1000, "juliet@b.example" } })
    list = {}
    for key in driver:open("archive", "archive"):find "nurse" do list[#list + 1] = key end
    equal({ #list, list[1], list[501], list[1100], driver:open "many":get "u166" },
      { 1100, "k1", "k501", "k1100", { k498 = 498, k499 = 499, k500 = 500 } })
    local id, item, _, with = driver:open("pubsub_news", "archive"):find(nil)()
    equal({ id, item.name, item.attr.id, item.tags[1].attr.xmlns, with }, { "n1", "item", "n1", "urn:e" })
    equal({ driver:open "saslauth":get(nil) }, {})
  end
  copied(pg.query, "sql", in_pg)
  pg.query "DROP SCHEMA couplet CASCADE"
  temp.write(dir, "config.lua", (conf:gsub("sql = %b{}", 'sql = { driver = "SQLite3", database = "prosody.sqlite" }')))
  local file = dir .. "/data/prosody.sqlite"
  equal(select(2, ctl("storage copy prosody:sql internal")), "coupletctl: there is no file " .. file .. "\n")
  assert(os.execute("sqlite3 " .. file .. " 'CREATE TABLE other (x)'"))
  copied(function(text)
    temp.write(dir, "prosody.sql", text)
    assert(os.execute(("sqlite3 %s < %s/prosody.sql"):format(file, dir)))
  end, "sql", { file = file, synchronous = "off" })
  temp.write(dir, "config.lua", conf)
end)

database.close()
pg.close()
temp.remove(dir)
check.done()
