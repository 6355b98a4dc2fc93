-- SPDX-License-Identifier: MIT
-- storage.database: storage drivers over a native database (core/store). One database per place, shared by all hosts.
--
--   database.driver(host, { driver = "sqlite", file = path, … }) -> storage driver of that host (PLUGIN-API §7)
--   database.driver(host, { driver = "postgres", conninfo = text, name = text, timeout = seconds }), the name for people
--   database.close()              waits for all writes; the next use opens the databases anew
--   database.numbers() -> { [file or name] = counters }
--
-- keyval and map stores are rows of one table, a row per key; archives are rows of another. What a table of the Lua side
-- says in SQL types stays what it is: text, integers, floats; tables and booleans are encoded (core/store/value.h). Where the
-- databases differ: couplet.storage.dialect.

local dialect = require "couplet.storage.dialect"
local native = require "couplet.core".store
local task = require "couplet.task"

local database = {}

-- A database as the stores use it: read and write wait for the answer.
local methods = {}
methods.__index = methods

-- Opens if it is not, and puts numbers in place of the SQL texts. statements: { { sql, parameter… }, … }
local function ready(self, statements)
  if not self.db then
    local o = self.options
    self.db = assert(native.open{
      driver = o.driver or "sqlite", place = o.conninfo or o.file, schema = self.dialect.schema, synchronous = o.synchronous,
      busy_timeout = o.timeout or o.busy_timeout, max_pages = o.max_pages,
    })
    self.known = {}
  end
  local known = self.known
  for i = 1, #statements do
    local s = statements[i]
    local sql = s[1]
    if type(sql) == "string" then           -- else it has been here before
      local n = known[sql]
      if not n then
        n = self.db:statement(sql, self.batches[sql])
        known[sql] = n
      end
      s[1] = n
    end
  end
  return self.db, statements
end

-- Several reads as one. answered(): all who asked have had their answer.
local function read_all(db, reads, answered)
  local statements = {}
  for _, read in ipairs(reads) do table.move(read.statements, 1, #read.statements, #statements + 1, statements) end
  db:read(statements, function(...)
    local cells, at = table.pack(...), 1
    for _, read in ipairs(reads) do
      local stop = at + 2 * #read.statements
      if cells[1] then read.done(table.unpack(cells, at, stop - 1)) else read.done(...) end
      at = stop
    end
    answered()
  end)
end

-- -> rows, n, rows2, n2, … | nil, message, code
function methods:read(statements)
  local db = ready(self, statements)
  local gathering = task.gathering
  if not gathering or not task.ready() then      -- whoever waits in place is answered first
    return task.await(function(done) db:read(statements, done) end)
  end
  local reads = gathering[self]
  if not reads then
    reads = {}
    gathering[self] = reads
    gathering[#gathering + 1] = function(answered) read_all(db, reads, answered) end
  end
  return task.await(function(done) reads[#reads + 1] = { statements = statements, done = done } end)
end

-- Hands the write over now. done(changes, rows, n) | done(nil, message, code)
function methods:post(statements, done)
  local db = ready(self, statements)
  db:write(statements, done)
end

-- -> changes, rows, n | nil, message, code
function methods:write(statements)
  local db = ready(self, statements)
  return task.await(function(done) db:write(statements, done) end)
end

local by_place = {}

function database.get(options)
  local place = options.conninfo or options.file
  local d = by_place[place]
  if not d then
    d = setmetatable({ options = options, dialect = dialect[options.driver or "sqlite"], batches = {} }, methods)
    by_place[place] = d
  elseif not d.db then
    d.options = options                     -- it opens as whoever came last wants it
  end
  return d
end

function database.close()
  for _, d in pairs(by_place) do
    local db = d.db
    d.db = nil
    if db then db:close() end
  end
end

function database.numbers()
  local out = {}
  for place, d in pairs(by_place) do
    if d.db then out[d.options.name or place] = d.db:numbers() end
  end
  return out
end

--- a host's driver

local driver_methods = {}
driver_methods.__index = driver_methods

local kinds = {
  keyval = "couplet.storage.keyval", map = "couplet.storage.keyval", ["keyval+"] = "couplet.storage.keyval",
  archive = "couplet.storage.archive",
}

function driver_methods:open(store, kind)
  kind = kind or "keyval"
  local library = kinds[kind]
  if not library then return nil, "unsupported-store" end
  local d = database.get(self.options)
  return require(library).open(d, self.host, store, kind)
end

local STORES = [[
  SELECT DISTINCT store FROM collection c WHERE host = ?1 AND (
    EXISTS (SELECT 1 FROM keyval k WHERE k.collection = c.id AND (CAST(?2 AS TEXT) IS NULL OR k."user" = ?2))
    OR EXISTS (SELECT 1 FROM owner o WHERE o.collection = c.id AND (CAST(?2 AS TEXT) IS NULL OR o."user" = ?2)
               AND EXISTS (SELECT 1 FROM ARCHIVE a WHERE a.owner = o.id)))]]

-- Names of the stores that hold something: of a user, of the host itself (nil), of anybody (true).
function driver_methods:stores(username)
  local d = database.get(self.options)
  local user
  if username ~= true then user = username or "" end
  local rows, n, code = d:read{ { STORES:gsub("ARCHIVE", d.dialect.by_time), self.host, user } }
  if not rows then return nil, n, code end
  local i = 0
  return function()
    i = i + 1
    if i <= n then return rows[i] end
  end
end

local OWNED = "(SELECT o.id FROM owner o JOIN collection c ON c.id = o.collection WHERE c.host = ?1 AND o.\"user\" = ?2)"
local PURGE_ARCHIVE = "DELETE FROM archive WHERE %s IN (SELECT %s FROM %s a WHERE a.owner IN " .. OWNED .. "%s)"
local PURGE_KEYVAL = "DELETE FROM keyval WHERE \"user\" = ?2 AND collection IN (SELECT id FROM collection WHERE host = ?1)"
local PURGE_OWNER = "DELETE FROM owner WHERE id IN " .. OWNED

-- Removes everything of a user. Large archives go in portions, so that others' writes come between.
function driver_methods:purge(username)
  local d = database.get(self.options)
  local ok, message, code = require "couplet.storage.keyval".purge(d, self.host, username,
    { { PURGE_KEYVAL, self.host, username } })
  if not ok then return nil, message, code end
  local own = d.dialect
  local some = PURGE_ARCHIVE:format(own.row, own.rows, own.by_time, " LIMIT 1000")
  local all = PURGE_ARCHIVE:format(own.row, own.rows, own.by_time, "")
  repeat
    ok, message, code = d:write{ { some, self.host, username } }
    if not ok then return nil, message, code end
  until ok < 1000
  ok, message, code = d:write{ { all, self.host, username }, { PURGE_OWNER, self.host, username } }
  if not ok then return nil, message, code end
  return true
end

function database.driver(host, options)
  return setmetatable({ host = host, options = options }, driver_methods)
end

return database
