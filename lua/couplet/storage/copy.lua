-- SPDX-License-Identifier: MIT
-- storage.copy: everything of one storage into another, ids and order of archives kept: `coupletctl storage copy`.
--
--   copy.source(spec) -> source | nil, message      internal, sql, sqlite:FILE; read only: prosody:DIRECTORY, prosody:sql
--   copy.target(spec) -> target | nil, message      the first three
--   copy.of_prosody(host) -> "FROM TO" | nil        where Prosody's accounts of the host wait to be copied
--   copy.run(source, target, print) -> true, number of rows, stores | nil, message
--
-- A source has a name, collections() -> { { host =, kind =, store =, count = rows }, … }, keyval(c), an iterator over pages
-- { { user, key, value }, … }, and archive(c), one over owners: user, number of items, iterator over pages
-- { { number, key, type, value, peer }, … }. All of them may wait and raise.
--
-- Each page is a transaction. A copy that was interrupted is begun again with the same command: what is set is set again, an
-- archive that is whole is left alone, one that is not is copied anew. A mark in the target tells such a copy from others' data.

local config = require "couplet.config"
local database = require "couplet.storage.database"
local from_prosody = require "couplet.storage.from_prosody"
local must = require "couplet.storage.must"
local option = require "couplet.storage.option"

local copy = {}

local PAGE = 500
local TELL = 20000           -- rows after which a line says how far it is

--- A database

local COLLECTIONS = "SELECT id, host, kind, store FROM collection ORDER BY host, kind, store"
local COUNT = { keyval = "SELECT count(*) FROM keyval WHERE collection = ?1",
  archive = "SELECT count(*) FROM archive WHERE EXISTS (SELECT 1 FROM owner WHERE owner.id = archive.owner AND collection = ?1)" }
local ROWS = 'SELECT "user", key, value FROM keyval WHERE collection = ?1'
local ORDER = (' ORDER BY "user", key LIMIT %d'):format(PAGE)
local OWNERS = 'SELECT id, "user" FROM owner WHERE collection = ?1 AND id > ?2 ORDER BY id LIMIT ' .. PAGE
local ITEMS = "SELECT a.id, a.key, a.type, a.value, jid.jid FROM archive a LEFT JOIN jid ON jid.id = a.peer"
  .. " WHERE a.owner = ?1 AND a.id > ?2 ORDER BY a.id LIMIT " .. PAGE

local stored = {}
stored.__index = stored

function stored:read(...) return must(self.db:read{ { ... } }) end

function stored:collections()
  local rows, n = self:read(COLLECTIONS)
  local out = {}
  for i = 1, n, 4 do
    local c = { id = rows[i], host = rows[i + 1], kind = rows[i + 2], store = rows[i + 3] }
    c.count = self:read(COUNT[c.kind], c.id)[1]
    if c.count > 0 and c.host ~= "" then out[#out + 1] = c end
  end
  return out
end

function stored:keyval(c)
  local user, key
  return function()
    local rows, n
    if user then
      rows, n = self:read(ROWS .. ' AND ("user", key) > (?2, ?3)' .. ORDER, c.id, user, key)
    else
      rows, n = self:read(ROWS .. ORDER, c.id)
    end
    if n == 0 then return nil end
    local page = {}
    for i = 1, n, 3 do page[#page + 1] = { rows[i], rows[i + 1], rows[i + 2] } end
    user, key = rows[n - 2], rows[n - 1]
    return page
  end
end

function stored:items(owner)
  local after = -1
  return function()
    local rows, n = self:read(ITEMS, owner, after)
    if n == 0 then return nil end
    local page = {}
    for i = 1, n, 5 do page[#page + 1] = { rows[i], rows[i + 1], rows[i + 2], rows[i + 3], rows[i + 4] } end
    after = rows[n - 4]
    return page
  end
end

-- -> iterator: user, count, iterator over pages
function stored:archive(c)
  local owners, n, i = {}, 0, 1
  local last = -1
  return function()
    if i > n then
      owners, n = self:read(OWNERS, c.id, last)
      if n == 0 then return nil end
      last, i = owners[n - 1], 1
    end
    local id, user = owners[i], owners[i + 1]
    i = i + 2
    return user, self:read("SELECT count(*) FROM archive WHERE owner = ?1", id)[1], self:items(id)
  end
end

--- Writing into one

local function count_of(self, c, user)
  local owner = [[SELECT o.id FROM owner o JOIN collection c ON c.id = o.collection WHERE c.host = ?1 AND c.store = ?2
    AND c.kind = 'archive']]
  return self:read("SELECT count(*) FROM archive WHERE owner IN (" .. owner .. ' AND o."user" = ?3)', c.host, c.store, user)[1]
end

local function put_keyval(self, c, page)
  local keyval = require "couplet.storage.keyval"
  must(self.db:write(keyval.rows(self.db, c.host, c.store, page)))
end

-- Numbers are unique for the whole of an SQLite file, but only per owner in PostgreSQL. An item whose number is taken gets
-- another of its millisecond, as do those of its owner that follow in it; its id stays, as its key.
local function put_archive(self, c, user, page, state)
  local archive = require "couplet.storage.archive"
  local fine, message, code = self.db:write(archive.rows(self.db, c.host, c.store, user, page))
  if fine then return end
  if code ~= "conflict" then error(tostring(message), 0) end
  for _, item in ipairs(page) do
    local ms = item[1] >> 20
    local ok
    if state.moved ~= ms then
      ok, message, code = self.db:write(archive.rows(self.db, c.host, c.store, user, { item }))
      if not ok and code ~= "conflict" then error(tostring(message), 0) end
    end
    if not ok then
      state.moved = ms
      must(self.db:write(archive.rows(self.db, c.host, c.store, user, { item }, true)))
    end
  end
end

local MARK = "copy in progress"

function stored:mark() return self.driver:open(MARK, "map") end

--- Names

local function open(spec)
  local kind, where = spec:match "^(%l+):(.+)$"
  local defaults = { data_path = config.data_path(), synchronous = "full", busy_timeout = 5, timeout = 60 }
  local options, problem
  local of_prosody = spec == "prosody:sql"
  if of_prosody then spec = "sql" end
  if kind == "prosody" and not of_prosody then
    local stat = require "couplet.core".system.stat(where)
    if not stat or stat.type ~= "directory" then return nil, "there is no directory " .. where end
    return from_prosody.files(spec, (where:gsub("(.)/+$", "%1")))
  elseif kind == "sqlite" then
    options = option.read({ driver = "SQLite3", database = where }, defaults)
  elseif spec == "internal" then
    options = option.read({ driver = "SQLite3" }, defaults)
  elseif spec == "sql" then
    local sql = config.get("*", "sql")
    for _, host in ipairs(config.hosts()) do sql = sql or config.get(host, "sql") end
    if not sql then return nil, "the configuration has no option sql" end
    options, problem = option.read(sql, defaults)
    if not options then return nil, problem end
  else
    return nil, ("%s is no storage: internal, sql, sqlite:FILE, prosody:DIRECTORY or prosody:sql"):format(spec)
  end
  if of_prosody then
    if options.driver == "sqlite" and not require "couplet.core".system.stat(options.file) then
      return nil, "there is no file " .. options.file
    end
    return from_prosody.tables("prosody:sql", database.get(options), options.driver)
  end
  return setmetatable({ name = spec, options = options, db = database.get(options),
    driver = database.driver("", options) }, stored)
end

function copy.source(spec)
  local s, problem = open(spec)
  if s and s.options and s.options.driver == "sqlite" and not require "couplet.core".system.stat(s.options.file) then
    return nil, "there is no file " .. s.options.file
  end
  return s, problem
end

function copy.target(spec)
  local t, problem = open(spec)
  if t and not t.options then return nil, spec .. " can be read only" end
  return t, problem
end

-- Who takes over Prosody's configuration finds its data where ours are kept.
function copy.of_prosody(host)
  local storage = config.get(host, "storage")
  if storage == "sql" then
    local source = open "prosody:sql"
    local ok, there = pcall(function() return source and source:accounts_of(host) end)
    return ok and there and "prosody:sql sql" or nil
  elseif storage == nil or storage == "internal" then
    local dir = config.data_path()
    local name = host:gsub("%W", function(c) return ("%%%02x"):format(c:byte()) end)
    local stat = require "couplet.core".system.stat(("%s/%s/accounts"):format(dir, name))
    return stat and stat.type == "directory" and ("prosody:%s internal"):format(dir) or nil
  end
end

--- The copy

-- What a server writes that has only been started is no data of anybody's: who sees that nobody can log in, and copies then,
-- need not find out where it is.
local OF_A_START = { saslauth = true, occupant_id = true, cron = true }

local function clear_start(target, there)
  for _, c in ipairs(there) do if c.kind ~= "keyval" or not OF_A_START[c.store] then return there end end
  for _, c in ipairs(there) do must(target.db:write{ { "DELETE FROM keyval WHERE collection = ?1", c.id } }) end
  return {}
end

local function begin(source, target)
  local mark = target:mark()
  local from, message = mark:get(nil, "from")
  if from == nil and message then error(message, 0) end
  if from == source.name then return mark, true end
  if from then error(("%s holds half a copy of %s; copy that again, or empty it"):format(target.name, from), 0) end
  local there = clear_start(target, target:collections())
  if there[1] then
    local file = target.options.file
    error(("%s is not empty: it holds %d rows of %s on %s%s. %s first"):format(target.name, there[1].count, there[1].store,
      there[1].host, #there > 1 and (" and %d more stores"):format(#there - 1) or "",
      file and "Move " .. file .. "* away" or "DROP SCHEMA couplet CASCADE"), 0)
  end
  must(mark:set(nil, "from", source.name))
  return mark, false
end

local function check(source, target, print)
  local have, wrong, total = {}, 0, 0
  local function name(c) return ("%s %s (%s)"):format(c.host, c.store, c.kind) end
  for _, c in ipairs(target:collections()) do have[name(c)] = c.count end
  for _, c in ipairs(source) do
    local n = have[name(c)] or 0
    total = total + n
    print(("%-50s %9d of %9d rows%s"):format(name(c), n, c.count, n == c.count and "" or "  WRONG"))
    if n ~= c.count then wrong = wrong + 1 end
  end
  return wrong, total
end

function copy.run(source, target, print)
  if source.options and source.db == target.db then return nil, "source and target are the same" end
  local begun
  local ok, result, stores = pcall(function()
    local collections = source:collections()
    local mark, resumed = begin(source, target)
    begun = true
    if resumed then print "going on with a copy that was interrupted" end
    local all, done, told = 0, 0, 0
    for _, c in ipairs(collections) do all = all + c.count end
    local function progress(c, n)
      done = done + n
      if done - told >= TELL then
        told = done
        print(("%s %s: %d of %d rows, %d %%"):format(c.host, c.store, done, all, done * 100 // all))
      end
    end
    for _, c in ipairs(collections) do
      if c.kind == "keyval" then
        for page in source:keyval(c) do
          put_keyval(target, c, page)
          progress(c, #page)
        end
      else
        for user, count, pages in source:archive(c) do
          local had = resumed and count_of(target, c, user) or 0
          if had == count then
            progress(c, count)
          else
            if had > 0 then must(database.driver(c.host, target.options):open(c.store, "archive"):delete(user)) end
            local state = {}
            for page in pages do
              put_archive(target, c, user, page, state)
              progress(c, #page)
            end
          end
        end
      end
    end
    local wrong, total = check(collections, target, print)
    if wrong > 0 then error(wrong .. " stores have not the same number of rows; did something write meanwhile?", 0) end
    must(mark:set(nil, "from", nil))
    return total, #collections
  end)
  if not ok then return nil, tostring(result) .. (begun and ". The same command goes on where this one stopped" or "") end
  return true, result, stores
end

return copy
