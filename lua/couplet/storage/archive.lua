-- SPDX-License-Identifier: MIT
-- storage.archive: archive stores over a database.
--
-- A row's number is milliseconds << 20 | counter: order, time and paging key at once. An item's id is the key it was
-- appended with or, without one, its number as 16 hexadecimal digits. Items are in order of their time, those of one
-- millisecond in order of insertion. Pages are found by key, never by counting.
--
-- Beyond PLUGIN-API §7 (callers look whether the methods are there):
--   store:new_id(when?) -> id, number          of an item that is to be written; nobody else gets it
--   store:append_all({ { user =, id =, number =, xml =, with = }, … }, done)     stanzas as text, under ids of new_id, all or
--                                              none in one transaction; done(true) | done(nil, message, code). The same again
--                                              changes nothing
--   store:has(user) -> boolean                 false: there is nothing. Never waits (couplet.storage.holders)
--   store:measure(user) -> items, bytes | nil, message     of the stanzas as text
--   find's query: raw = true                   stanzas as text

local core = require "couplet.core"
local holders = require "couplet.storage.holders"
local settle = require "couplet.storage.settle"
local task = require "couplet.task"

local time, mono = core.loop.wall, core.loop.mono

local archive = {}

local COLLECTION = "(SELECT id FROM collection WHERE host = ?1 AND kind = 'archive' AND store = ?2)"
local OWNER = "(SELECT id FROM owner WHERE collection = " .. COLLECTION .. " AND \"user\" = ?3)"
local EVERYONE = "(SELECT id FROM owner WHERE collection = " .. COLLECTION .. ")"

local ENSURE = "INSERT INTO collection (host, kind, store) VALUES (?1, 'archive', ?2) ON CONFLICT DO NOTHING"
local ENSURE_OWNER = "INSERT INTO owner (collection, \"user\") VALUES (" .. COLLECTION .. ", ?3) ON CONFLICT DO NOTHING"
local ENSURE_JID = "INSERT INTO jid (jid) VALUES (?1) ON CONFLICT DO NOTHING"
local DROP_KEY = "DELETE FROM archive WHERE owner = " .. OWNER .. " AND key = ?4"
local INTO = "INSERT INTO archive (id, owner, key, type, value, peer) "
local CUT = "SELECT id FROM TIMES WHERE owner = " .. OWNER .. " ORDER BY id DESC LIMIT 1 OFFSET ?4"
local SLICE = "SELECT max(id) FROM (SELECT id FROM archive WHERE AGE > ?2 AND AGE <= ?1 ORDER BY AGE LIMIT ?3) s"
local DROP_SLICE = "DELETE FROM archive WHERE AGE > ?3 AND AGE <= ?4 AND EXISTS"
  .. " (SELECT 1 FROM owner o WHERE o.id = archive.owner AND o.collection = " .. COLLECTION .. ")"
local ITEM = " FROM archive a LEFT JOIN jid ON jid.id = a.peer WHERE a.owner = "
local COLUMNS = "SELECT a.id, a.key, a.type, a.value, jid.jid"
-- The row an id means: ?4 as key, or ?5 as number of one without key
local ROW = " = (SELECT id FROM archive WHERE owner = " .. OWNER .. " AND key = ?4 UNION ALL"
  .. " SELECT id FROM archive WHERE id = ?5 AND owner = " .. OWNER .. " AND key IS NULL LIMIT 1)"
local RESOLVE = "SELECT id FROM archive WHERE owner = " .. OWNER .. " AND id" .. ROW
local GET = COLUMNS .. ITEM .. OWNER .. " AND a.id" .. ROW
local USERS = "SELECT \"user\" FROM owner WHERE collection = " .. COLLECTION
  .. " AND EXISTS (SELECT 1 FROM TIMES t WHERE t.owner = owner.id) LIMIT ?3"

-- The statements in which databases differ.
local function sql_of(db)
  local sql = db.archive_sql
  if sql then return sql end
  local dialect = db.dialect
  local function of(text) return (text:gsub("OWNER", function() return OWNER end)) end
  sql = {
    append = INTO .. "VALUES (?4, " .. OWNER .. ", ?5, ?6, ?7, (SELECT id FROM jid WHERE jid = ?8))",
    append_with = INTO .. "SELECT ?4, " .. OWNER .. ", ?5, ?6, ?7, id FROM jid WHERE jid = ?8",
    -- ?4 is the first number of a millisecond here; the item takes the one after the last that is used of it.
    find_number = INTO .. "VALUES (" .. of(dialect.free) .. ", " .. OWNER
      .. ", ?5, ?6, ?7, (SELECT id FROM jid WHERE jid = ?8)) RETURNING id",
    enter = INTO .. of(dialect.enter), enter_known = dialect.enter_known and INTO .. dialect.enter_known,
    slice = SLICE:gsub("AGE", dialect.age), drop_slice = DROP_SLICE:gsub("AGE", dialect.age),
    measure = "SELECT count(*), coalesce(sum(" .. dialect.size .. "), 0) FROM " .. of(dialect.items),
    dates = "SELECT DISTINCT " .. dialect.day .. " FROM (SELECT id FROM " .. dialect.by_time .. " WHERE owner = " .. OWNER
      .. ") i ORDER BY 1",
    delete = "DELETE FROM archive WHERE " .. dialect.row .. " IN (SELECT " .. dialect.rows,
    cut = CUT:gsub("TIMES", dialect.by_time), users = USERS:gsub("TIMES", dialect.by_time),
  }
  if dialect.append_batch then              -- many are sent as one, so one statement serves both
    sql.append = INTO .. of(dialect.append)
    sql.append_with = sql.append
    db.batches[sql.append], db.batches[sql.enter] = dialect.append_batch, dialect.enter_batch
  end
  db.archive_sql = sql
  return sql
end

local PAGE = 200             -- rows fetched at a time
local PORTION = 250          -- rows deleted at a time, so that others' writes come between

--- Numbers, ids, values

-- Counters start anywhere in the first half of a millisecond's and go on in uneven steps: nobody guesses a neighbour's id.
local START, STEP = (1 << 19) - 1, 16
local random = math.random

local newest = 0                             -- the last number given to an item of about now

-- -> first number of that millisecond, and the number to use, if it can be told without looking
local function number_at(when)
  local now = math.floor(time() * 1000)
  local ms = now
  if when then
    ms = math.floor(when * 1000 + 0.0005)
  elseif ms < newest >> 20 then
    ms = newest >> 20                        -- a clock set back does not turn the order round
  end
  local first = ms << 20
  if ms > now + 1000 or first < newest & ~0xfffff then return first end
  newest = newest < first and first + random(0, START) or newest + random(1, STEP)
  return first, newest
end

local function when_of(id)
  local ms = id >> 20
  if ms % 1000 == 0 then return ms // 1000 end
  return ms / 1000
end

local function id_of(number, key)
  return key or ("%016x"):format(number)
end

local function number_of(id)
  if #id == 16 and id:find("^[0-9a-f]+$") then return tonumber(id, 16) end
end

local stanza, parse                          -- loaded late: a program may use archives without stanzas

local function pack(value)
  if value == nil then error("an archive takes no nil", 3) end
  if type(value) == "userdata" or type(value) == "table" and getmetatable(value) then
    stanza = stanza or require "couplet.stanza"
    if stanza.is_stanza(value) then return "xml", tostring(value) end
  end
  return nil, value
end

local function unpack(kind, value, raw)
  if kind ~= "xml" or raw then return value end
  parse = parse or require "couplet.util.xml".parse
  return parse(value)
end

--- Writes under way: who looks into an archive first waits for what was appended before.

-- again: doing it twice is doing it once.
local function post(self, user, statements, again)
  statements.again = again
  local last, ticket = self.shared.last, {}
  return task.await(function(done)
    self.db:post(statements, function(...)
      if last[user] == ticket then last[user] = nil end
      for i = 1, #ticket do ticket[i]() end
      done(...)
    end)
    last[user] = ticket
  end)
end

-- To be said before each try to append.
local function adding(self, user)
  local known = self.shared.holders
  if known then known:added(user) end
end

local function catch_up(self, user)
  for _, who in ipairs{ user, true } do
    local ticket = self.shared.last[who]
    if ticket then
      task.await(function(done) ticket[#ticket + 1] = done end)
    end
  end
end

--- Queries

-- The last number of a time
local function bound_of(when) return (math.floor(when * 1000 + 0.0005) << 20) | 0xfffff end

-- Collects conditions and their parameters; ?1 and ?2 are host and store, ?3 is the user unless it is everyone.
local function conditions(self, user, query)
  local params = { self.host, self.store, user ~= true and user or nil, n = user == true and 2 or 3 }
  local sql = {}
  local function param(v)
    params.n = params.n + 1
    params[params.n] = v
    return "?" .. params.n
  end
  local function where(text, v) sql[#sql + 1] = (text:gsub("%?", function() return param(v) end)) end
  local low, high
  if query.start then low = math.ceil(query.start * 1000 - 0.0005) << 20 end
  if query["end"] then high = bound_of(query["end"]) end
  if low then where("a.id >= ?", low) end
  if high then where("a.id <= ?", high) end
  if query.with then where("a.peer = (SELECT id FROM jid WHERE jid = ?)", query.with) end
  if query.key then where("a.key = ?", query.key) end
  if query.ids then
    -- Padded to a power of two, so that few different statements arise. Each half finds its rows by an index.
    local size, keys, numbers = 1, {}, {}
    while size < #query.ids do size = size * 2 end
    local keep = params.n
    for i = 1, size do keys[i] = param(tostring(query.ids[i] or query.ids[#query.ids] or "")) end
    for i = 1, size do numbers[i] = param(number_of(params[keep + i])) end
    sql[#sql + 1] = ("a.id IN (SELECT id FROM archive WHERE owner = %s AND key IN (%s)"
      .. " UNION ALL SELECT id FROM archive WHERE owner = %s AND key IS NULL AND id IN (%s))")
      :format(OWNER, table.concat(keys, ","), OWNER, table.concat(numbers, ","))
  end
  local owner = user == true and "a.owner IN " .. EVERYONE or "a.owner = " .. OWNER
  return owner, sql, params, param
end

-- Where the numbers of a query's items are found
local function place_of(self, query)
  if query.key or query.ids then return "archive a WHERE " end
  local dialect = self.db.dialect
  return (query.with and dialect.by_peer or dialect.by_time) .. " a WHERE "
end

local function statement(sql, params)
  return { sql, table.unpack(params, 1, params.n) }
end

-- Rows of one page after (in the wanted order) the number `from`, if given. -> rows, n | nil, message, code
local function page(self, user, query, after, before, limit, total)
  local _, sql, params, param = conditions(self, user, query)
  local wheres = #sql > 0 and " AND " .. table.concat(sql, " AND ") or ""
  local place, dialect = place_of(self, query), self.db.dialect
  local count = total
    and statement("SELECT count(*) FROM (SELECT a.id FROM " .. place .. "a.owner = " .. OWNER .. wheres .. ") c", params)
  if after then wheres = wheres .. " AND a.id > " .. param(after) end
  if before then wheres = wheres .. " AND a.id < " .. param(before) end
  local way = query.reverse and "DESC" or "ASC"
  local order = " ORDER BY a.id " .. way .. " LIMIT "
  local text = COLUMNS .. ITEM .. OWNER .. wheres .. order
  if dialect.by_time ~= "archive" then
    text = COLUMNS .. " FROM (SELECT a.id FROM " .. place .. "a.owner = " .. OWNER .. wheres .. order .. param(limit)
      .. ") n JOIN archive a ON a.id = n.id LEFT JOIN jid ON jid.id = a.peer" .. order
  elseif dialect.plans_ahead and not query.ids then
    text = "SELECT * FROM (" .. text .. (limit > 64 and PAGE or 64) .. ") p ORDER BY id " .. way .. " LIMIT "
  end
  local find = statement(text .. param(limit), params)
  return self.db:read{ find, count or nil }
end

local methods = {}
methods.__index = methods
methods.caps = { total = true, truncate = true, full_id_range = true, ids = true, wildcard_delete = true }

-- The numbers the query's after and before stand for. -> true, after, before | nil, message
local function bounds(self, user, query)
  local reads, after, before = {}, nil, nil
  for _, name in ipairs{ "after", "before" } do
    local id = query[name]
    if type(id) == "string" and id ~= "" then
      reads[#reads + 1] = { RESOLVE, self.host, self.store, user, id, number_of(id) }
      reads[name] = #reads
    end
  end
  if #reads == 0 then return true end
  local rows1, n1, rows2, n2 = self.db:read(reads)
  if not rows1 then return nil, n1, rows2 end
  if n1 == 0 or n2 == 0 then return nil, "item-not-found" end
  if reads.after then after = rows1[1] end
  if reads.before then before = reads.before == 2 and rows2[1] or rows1[1] end
  return true, after, before
end

-- Names of which this process has made the rows already, so that it need not try again, with their numbers where those are
-- known; forgotten when there are many.
local KNOWN_MAX = 20000

local function names() return { count = 0, set = {} } end

local function remember(known, name)
  if known.set[name] then return end
  if known.count >= KNOWN_MAX then known.count, known.set = 0, {} end
  known.count = known.count + 1
  known.set[name] = true
end

function methods:append(user, key, value, when, with)
  user = user or ""
  local kind, cell = pack(value)
  local host, store = self.host, self.store
  local owners, peers = self.shared.owners, self.db.peers
  local first, number = number_at(when)
  local sql = self.shared.sql

  local function insert(sure)
    local list = {}
    adding(self, user)
    if sure or not owners.set[user] then
      list[1], list[2] = { ENSURE, host, store }, { ENSURE_OWNER, host, store, user }
    end
    if with and (sure or not peers.set[with]) then list[#list + 1] = { ENSURE_JID, with } end
    if key then list[#list + 1] = { DROP_KEY, host, store, user, key } end
    if number and not sure then
      list[#list + 1] = { with and sql.append_with or sql.append, host, store, user, number, key, kind, cell, with }
    else
      list[#list + 1] = { sql.find_number, host, store, user, first, key, kind, cell, with }
    end
    return post(self, user, list, key or number and not sure)
  end

  local changes, rows, code = insert()
  -- The number was taken by another process, or what we know was purged or replaced with the whole file.
  if changes == 0 or code == "conflict" then changes, rows, code = insert(true) end
  if not changes then return nil, rows, code end
  remember(owners, user)
  if with then remember(peers, with) end
  settle.added(self.db, 1)
  return id_of(rows and rows[1] or number, key)
end

function methods:new_id(when)
  local first, number = number_at(when)
  number = number or first + random(0, START)
  return id_of(number), number
end

local NUMBER_OF_OWNER = "SELECT id, collection FROM owner WHERE id = " .. OWNER
local NUMBER_OF_JID = "SELECT id FROM jid WHERE jid = ?1"

-- Asks for the numbers of names, so that they need not be looked up for each item.
local function learn(self, user, with)
  if not self.shared.sql.enter_known then return end
  task.spawn(function()
    local owner, _, peer = self.db:read{ { NUMBER_OF_OWNER, self.host, self.store, user }, { NUMBER_OF_JID, with } }
    if not owner or not owner[1] or not peer[1] then return end
    local owners, peers = self.shared.owners.set, self.db.peers.set
    self.shared.collection = owner[2]
    if owners[user] then owners[user] = owner[1] end
    if peers[with] then peers[with] = peer[1] end
  end)
end

local function forget(known, name)
  if known.set[name] then known.set[name], known.count = nil, known.count - 1 end
end

-- One item whose names were not there after all, or whose number another process has taken.
local function append_surely(self, item, done)
  adding(self, item.user)
  task.spawn(function()
    forget(self.shared.owners, item.user)
    forget(self.db.peers, item.with)
    local number = item.number or number_of(item.id)
    local fine, message, code = post(self, item.user, {
      { ENSURE, self.host, self.store }, { ENSURE_OWNER, self.host, self.store, item.user }, { ENSURE_JID, item.with },
      { self.shared.sql.enter, self.host, self.store, item.user, number, item.xml, item.with },
    }, true)
    if not fine and code == "conflict" then
      adding(self, item.user)
      fine, message, code = post(self, item.user, {
        { DROP_KEY, self.host, self.store, item.user, item.id },
        { self.shared.sql.find_number, self.host, self.store, item.user, number & ~0xfffff, item.id, "xml", item.xml,
          item.with } }, true)
    end
    done(fine and true or nil, message, code)
  end)
end

function methods:append_all(items, done)
  local host, store, last = self.host, self.store, self.shared.last
  local owners, peers = self.shared.owners.set, self.db.peers.set
  local statements, ticket, n, fresh = { again = true }, {}, 0, nil
  local enter, enter_known, collection = self.shared.sql.enter, self.shared.sql.enter_known, self.shared.collection
  for i = 1, #items do
    local item = items[i]
    local user, with = item.user, item.with
    adding(self, user)
    local owner, peer = owners[user], peers[with]
    if not owner or not peer then
      fresh = fresh or {}
      if not fresh[user .. "\0" .. with] then
        fresh[user .. "\0" .. with] = item
        statements[n + 1], statements[n + 2] = { ENSURE, host, store }, { ENSURE_OWNER, host, store, user }
        statements[n + 3] = { ENSURE_JID, with }
        n = n + 3
      end
    end
    n = n + 1
    local number = item.number or number_of(item.id)
    if collection and owner and owner ~= true and peer and peer ~= true then
      statements[n] = { enter_known, number, owner, item.xml, peer, user, collection, with }
    else
      statements[n] = { enter, host, store, user, number, item.xml, with }
    end
    last[user] = ticket
  end
  self.db:post(statements, function(changes, message, code)
    for i = 1, #items do
      local user = items[i].user
      if last[user] == ticket then last[user] = nil end
    end
    for i = 1, #ticket do ticket[i]() end
    if changes then
      for _, item in pairs(fresh or {}) do
        remember(self.shared.owners, item.user)
        remember(self.db.peers, item.with)
        learn(self, item.user, item.with)
      end
      settle.added(self.db, #items)
      return done(true)
    elseif code ~= "conflict" then
      return done(nil, message, code)
    end
    local left, failure = #items, nil
    for i = 1, #items do
      append_surely(self, items[i], function(fine, text, why)
        if not fine then failure = { text, why } end
        left = left - 1
        if left == 0 then
          if failure then done(nil, failure[1], failure[2]) else done(true) end
        end
      end)
    end
  end)
end

local function everything(query)
  return not (query.key or query.ids or query.start or query["end"] or query.with or query.after or query.before)
end

function methods:has(user)
  return holders.has(self.shared, self.shared.last, user, self.users, self)
end

function methods:find(user, query)
  user, query = user or "", query or {}
  local known = self.shared.holders
  local mark = known and known:mark(user)
  catch_up(self, user)
  local ok, after, before = bounds(self, user, query)
  if not ok then return nil, after, before end
  local left = query.limit or math.huge
  local rows, n, counted = page(self, user, query, after, before, math.min(left, PAGE), query.total)
  if not rows then return nil, n, counted end
  if n == 0 and mark and left > 0 and everything(query) then known:none(user, mark) end
  local i, had = 0, math.min(left, PAGE)
  local function iterate()
    if i >= n then
      left = left - had
      if n < had * 5 or left <= 0 then return nil end
      local lastseen = rows[n - 4]
      if query.reverse then before = lastseen else after = lastseen end
      had = math.min(left, PAGE)
      local more, m = page(self, user, query, after, before, had)
      if not more then error("archive " .. self.store .. ": " .. tostring(m)) end
      rows, n, i = more, m, 0
      if n == 0 then left = 0 return nil end
    end
    local number, key, kind, value, with = rows[i + 1], rows[i + 2], rows[i + 3], rows[i + 4], rows[i + 5]
    i = i + 5
    return id_of(number, key), unpack(kind, value, query.raw), when_of(number), with
  end
  return iterate, counted and counted[1]
end

function methods:get(user, id)
  user = user or ""
  catch_up(self, user)
  local rows, n, code = self.db:read{ { GET, self.host, self.store, user, id, number_of(id) } }
  if not rows then return nil, n, code end
  if n == 0 then return nil, "item-not-found" end
  return unpack(rows[3], rows[4]), when_of(rows[1]), rows[5]
end

local UPDATE = "UPDATE archive SET type = ?6, value = ?7 WHERE owner = " .. OWNER .. " AND id" .. ROW
local UPDATE_PEER = "UPDATE archive SET peer = (SELECT id FROM jid WHERE jid = ?6) WHERE owner = " .. OWNER .. " AND id" .. ROW

-- The time of an item with a key can be changed; without one it is part of the id, and stays.
function methods:set(user, id, value, when, with)
  user = user or ""
  local kind, cell = pack(value)
  local host, store, number = self.host, self.store, number_of(id)
  local old, old_when, old_with = self:get(user, id)
  if old == nil then return nil, old_when, old_with end
  if when and math.floor(when * 1000) ~= math.floor(old_when * 1000) then
    local rows, n = self.db:read{ { RESOLVE, host, store, user, id, nil } }
    if rows and n == 1 then
      local ok, message, code = self:append(user, id, value, when, with or old_with)
      if not ok then return nil, message, code end
      return true
    end
  end
  local statements = { { UPDATE, host, store, user, id, number, kind, cell } }
  if with then
    table.insert(statements, 1, { ENSURE_JID, with })
    statements[3] = { UPDATE_PEER, host, store, user, id, number, with }
  end
  local changes, message, code = post(self, user, statements, true)
  if not changes then return nil, message, code end
  return true
end

-- Runs a deletion in portions and rests in between as long as each took, so that others' writes do not wait for it.
local function delete_gently(self, user, place, wheres, params)
  local all = statement(self.shared.sql.delete .. " FROM " .. place .. wheres .. " LIMIT " .. PORTION .. ")", params)
  local text, count = all[1], 0
  while true do
    all[1] = text
    local began = mono()
    local changes, message, code = post(self, user, { all })
    if not changes then return nil, message, code end
    count = count + changes
    if changes < PORTION then return count end
    task.sleep(math.min(mono() - began, 1))
  end
end

-- The number up to which items go if only so many are to stay; nil: all may stay.
local function cut(self, user, keep)
  local rows, n, code = self.db:read{ { self.shared.sql.cut, self.host, self.store, user, keep } }
  if not rows then return nil, n, code end
  return rows[1] or false
end

-- Of everybody up to a time, oldest first: found by number, and each row asked whose it is, so that neither the number of
-- accounts nor other stores' rows are gone through again for each portion.
local function delete_old(self, high)
  local count, from = 0, -1
  while true do
    local rows, message, code = self.db:read{ { self.shared.sql.slice, high, from, PORTION } }
    if not rows then return nil, message, code end
    local upto = rows[1]
    if not upto then return count end
    local moved
    local began = mono()
    moved, message, code = post(self, true, { { self.shared.sql.drop_slice, self.host, self.store, from, upto } })
    if not moved then return nil, message, code end
    count, from = count + moved, upto
    task.sleep(math.min(mono() - began, 1))
  end
end

-- -> number of items deleted
function methods:delete(user, query)
  if user ~= true then user = user or "" end
  query = query or {}
  local owner, sql, params, param = conditions(self, user, query)
  if user ~= true then
    catch_up(self, user)
    local ok, after, before = bounds(self, user, query)
    if not ok then return nil, after, before end
    if after then sql[#sql + 1] = "a.id > " .. param(after) end
    if before then sql[#sql + 1] = "a.id < " .. param(before) end
    if query.truncate then
      local last, message, code = cut(self, user, query.truncate)
      if last == nil then return nil, message, code end
      if not last then return 0 end
      sql[#sql + 1] = "a.id <= " .. param(last)
    end
  elseif query.truncate then
    return nil, "unsupported-datatype"
  elseif query["end"] and next(query) == "end" and not next(query, "end") then
    return delete_old(self, bound_of(query["end"]))
  end
  local wheres = #sql > 0 and " AND " .. table.concat(sql, " AND ") or ""
  return delete_gently(self, user, place_of(self, query), owner .. wheres, params)
end

function methods:measure(user)
  user = user or ""
  catch_up(self, user)
  local rows, n, code = self.db:read{ { self.shared.sql.measure, self.host, self.store, user } }
  if not rows then return nil, n, code end
  return rows[1], rows[2]
end

function methods:summary(user, query)
  user, query = user or "", query or {}
  catch_up(self, user)
  local _, sql, params = conditions(self, user, query)
  local place = (query.key or query.ids) and "archive" or self.db.dialect.by_peer
  local groups = "SELECT peer, count(*) AS n, min(id) AS first, max(id) AS last FROM (SELECT a.peer, a.id FROM " .. place
    .. " a WHERE a.owner = " .. OWNER .. (#sql > 0 and " AND " .. table.concat(sql, " AND ") or "") .. ") s GROUP BY peer"
  local rows, n, code = self.db:read{ statement("SELECT jid, n, first, last, type, value FROM (" .. groups
    .. ") g JOIN archive l ON l.id = g.last AND l.owner = " .. OWNER .. " LEFT JOIN jid ON jid.id = g.peer", params) }
  if not rows then return nil, n, code end
  local out = { counts = {}, earliest = {}, latest = {}, body = {} }
  for i = 0, n - 1, 6 do
    local with = rows[i + 1] or ""
    out.counts[with] = rows[i + 2]
    out.earliest[with] = when_of(rows[i + 3])
    out.latest[with] = when_of(rows[i + 4])
    local item = unpack(rows[i + 5], rows[i + 6])
    if rows[i + 5] == "xml" and item then out.body[with] = item:get_child_text("body") end
  end
  return out
end

-- -> list of days, "2025-01-31", on which something was archived
function methods:dates(user)
  user = user or ""
  catch_up(self, user)
  local rows, n, code = self.db:read{ { self.shared.sql.dates, self.host, self.store, user } }
  if not rows then return nil, n, code end
  return rows
end

-- Of at most so many
function methods:users(most)
  local rows, n, code = self.db:read{ { self.shared.sql.users, self.host, self.store, most or 1 << 53 } }
  if not rows then return nil, n, code end
  local i = 0
  return function()
    i = i + 1
    if i <= n then return rows[i] end
  end
end

-- Statements that store a user's { { number, key, type, value, peer }, … } under their numbers, or (move) under free ones of
-- their milliseconds with their ids as keys. For storage.copy.
function archive.rows(db, host, store, user, rows, move)
  local sql = sql_of(db)
  local list, seen = { { ENSURE, host, store }, { ENSURE_OWNER, host, store, user }, again = not move }, {}
  for _, row in ipairs(rows) do
    local peer = row[5]
    if peer and not seen[peer] then
      seen[peer] = true
      list[#list + 1] = { ENSURE_JID, peer }
    end
  end
  for _, row in ipairs(rows) do
    local number, key, kind, value, peer = row[1], row[2], row[3], row[4], row[5]
    if move then
      list[#list + 1] = { sql.find_number, host, store, user, number & ~0xfffff, id_of(number, key), kind, value, peer }
    else
      list[#list + 1] = { peer and sql.append_with or sql.append, host, store, user, number, key, kind, value, peer }
    end
  end
  return list
end

-- Stores of one name share what is under way.
function archive.open(db, host, store)
  db.archives = db.archives or {}
  db.peers = db.peers or names()
  local key = host .. "\0" .. store
  local shared = db.archives[key]
  if not shared then
    shared = { last = {}, owners = names(), sql = sql_of(db) }
    db.archives[key] = shared
  end
  return setmetatable({ db = db, host = host, store = store, shared = shared }, methods)
end

return archive
