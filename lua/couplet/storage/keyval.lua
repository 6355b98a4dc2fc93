-- SPDX-License-Identifier: MIT
-- storage.keyval: keyval, map and keyval+ stores over a database, a row per key.
--
-- A write is visible to every get that returns after set was called, although the database answers later: writes under way
-- lie over what is read until they are committed, and vanish if they fail. One that was committed while a read was
-- under way stays until that read is back, because the read may have seen the database as it was before.

local holders = require "couplet.storage.holders"
local native = require "couplet.core".store
local task = require "couplet.task"

local encode, decode = native.encode, native.decode

local keyval = {}

local COLLECTION = "(SELECT id FROM collection WHERE host = ?1 AND kind = 'keyval' AND store = ?2)"
local ENSURE = "INSERT INTO collection (host, kind, store) VALUES (?1, 'keyval', ?2) ON CONFLICT DO NOTHING"
-- What is stored already is left alone: most of a large table that is set again has not changed.
local PUT = "INSERT INTO keyval (collection, \"user\", key, value) VALUES (" .. COLLECTION .. ", ?3, ?4, ?5)"
  .. " ON CONFLICT (collection, \"user\", key) DO UPDATE SET value = excluded.value "
local OF_USER = " FROM keyval WHERE collection = " .. COLLECTION .. " AND \"user\" = ?3"
local CLEAR = "DELETE" .. OF_USER
local REMOVE = CLEAR .. " AND key = ?4"
local GET = "SELECT key, value" .. OF_USER
local GET_KEY = "SELECT value" .. OF_USER .. " AND key = ?4"
local GET_ALL = "SELECT \"user\", value FROM keyval WHERE collection = " .. COLLECTION .. " AND key = ?3"
local USERS = "SELECT DISTINCT \"user\" FROM keyval WHERE collection = " .. COLLECTION

local remove = {}          -- marker: this key shall go

local KEEP_MAX = 1024      -- a table of more keys is cleared and written whole
local keep = {}            -- by number of keys: the statement that removes all others

local function keep_statement(n)
  if not keep[n] then
    local params = {}
    for i = 1, n do params[i] = "?" .. i + 3 end
    if n <= 16 then                         -- NOT IN would build a temporary table
      keep[n] = CLEAR .. " AND key <> " .. table.concat(params, " AND key <> ")
    else
      keep[n] = CLEAR .. " AND key NOT IN (" .. table.concat(params, ",") .. ")"
    end
  end
  return keep[n]
end

--- Layers: what writes under way put over the database, per user.
-- layer = { replace = true if it says everything, blob = that table encoded, rows = { key = frozen value or remove } }

local function freeze(v)
  if type(v) == "table" then return { encode(v) } end
  return v
end

local function thaw(f)
  if type(f) == "table" then return (decode(f[1])) end
  return f
end

local function lay(layer, t)
  if layer.replace then t = layer.blob and decode(layer.blob) or {} end
  if layer.rows then
    for k, f in pairs(layer.rows) do
      if f == remove then t[k] = nil else t[k] = thaw(f) end
    end
  end
  return t
end

local function merge(under, over)
  if not under or over.replace then return over end
  if not under.rows then
    under.rows = over.rows
  else
    for k, f in pairs(over.rows) do under.rows[k] = f end
  end
  return under
end

-- A store's users with writes or reads under way: { first =, last = (numbers of layers), reads = n, done = layer? }
local function entry_of(shared, user)
  local e = shared.entries[user]
  if not e then
    e = { first = 1, last = 0, reads = 0 }
    shared.entries[user] = e
  end
  return e
end

local function tidy(shared, user, e)
  if e.reads > 0 or shared.reads > 0 then return end
  e.done = nil
  if e.first > e.last and shared.entries[user] == e then shared.entries[user] = nil end
end

local function settle(shared, user, e, layer, ok)
  if ok and (e.reads > 0 or shared.reads > 0) then e.done = merge(e.done, layer) end
  for i = e.first, e.last do                -- the first one, unless it failed before others
    if e[i] == layer then
      if i == e.first then
        e[i] = nil
        e.first = i + 1
      else
        table.move(e, i + 1, e.last + 1, i)
        e.last = e.last - 1
      end
      break
    end
  end
  tidy(shared, user, e)
end

local reading = {}         -- counts a read for as long as a variable lives, even if its task is cancelled
reading.__close = function(r)
  local owner = r.entry or r.shared
  owner.reads = owner.reads - 1
  if r.entry then
    tidy(r.shared, r.user, r.entry)
  elseif owner.reads == 0 then
    for user, e in pairs(r.shared.entries) do tidy(r.shared, user, e) end
  end
end

local function begin_read(shared, user)
  local e
  if user then
    e = entry_of(shared, user)
    e.reads = e.reads + 1
  else
    shared.reads = shared.reads + 1
  end
  return setmetatable({ shared = shared, user = user, entry = e }, reading)
end

-- What the layers say of a user over t, which may be nil if a layer replaces everything. nil, false: they need it.
local function view(e, t)
  local known = t ~= nil
  if e.done and (known or e.done.replace) then
    t, known = lay(e.done, t), true
  end
  for i = e.first, e.last do
    if known or e[i].replace then
      t, known = lay(e[i], t), true
    end
  end
  return t, known
end

local function complete(e)
  if e.done and e.done.replace then return true end
  for i = e.last, e.first, -1 do
    if e[i].replace then return true end
  end
end

-- The frozen value of one key, or nil if no layer tells; `remove` if it is gone.
local function top(e, key)
  for i = e.last, e.first - 1, -1 do
    local layer = e[i]
    if i < e.first then layer = e.done end
    if layer then
      local f = layer.rows and layer.rows[key]
      if f ~= nil then return f end
      if layer.replace then
        local t = layer.blob and decode(layer.blob)
        local v = t and t[key]
        if v == nil then return remove end
        return freeze(v)
      end
    end
  end
end

--- Reading and writing

local function filled(t)
  if t and next(t) ~= nil then return t end
end

local function get(shared, user)
  user = user or ""
  local e = shared.entries[user]
  if e and complete(e) then return filled((view(e))) end
  local r <close> = begin_read(shared, user)
  local rows, n, code = shared.db:read{ { GET, shared.host, shared.store, user } }
  if not rows then return nil, n, code end
  local t = {}
  for i = 1, n, 2 do t[rows[i]] = rows[i + 1] end
  return filled((view(r.entry, t)))
end

local function get_key(shared, user, key)
  user = user or ""
  local e = shared.entries[user]
  if e then
    local f = top(e, key)
    if f == remove then return nil end
    if f ~= nil then return thaw(f) end
  end
  local r <close> = begin_read(shared, user)
  local rows, n, code = shared.db:read{ { GET_KEY, shared.host, shared.store, user, key } }
  if not rows then return nil, n, code end
  local f = top(r.entry, key)
  if f == remove then return nil end
  if f ~= nil then return thaw(f) end
  return rows[1]
end

-- Hands statements to the database, puts the layers they mean over it, waits. layers: list of { shared, user, layer }.
-- The row of the collection is made with the first write of a process. Should it vanish, because another file was put
-- in the place of ours, then all writes fail up to the first that is tried again here, so their order stays.
local function write(db, layers, statements, shared)
  local changes, message, code = task.await(function(done)
    local made
    local function answer(changes, message, code)
      if not changes and code == "conflict" and shared and not made then
        made = true
        shared.known = false
        table.insert(statements, 1, { ENSURE, shared.host, shared.store })
        return db:post(statements, answer)
      end
      if shared and changes then shared.known = true end
      for _, l in ipairs(layers) do settle(l[1], l[2], l[1].entries[l[2]], l[3], changes ~= nil) end
      done(changes, message, code)
    end
    if shared and not shared.known then
      made = true
      table.insert(statements, 1, { ENSURE, shared.host, shared.store })
    end
    statements.again = true                 -- what is set twice is set
    db:post(statements, answer)
    for _, l in ipairs(layers) do
      if l[1].holders then l[1].holders:added(l[2]) end
      local e = entry_of(l[1], l[2])
      e.last = e.last + 1
      e[e.last] = l[3]
    end
  end)
  if not changes then return nil, message, code end
  return true
end

local function set(shared, user, data)
  user = user or ""
  if data ~= nil and type(data) ~= "table" then
    error("a keyval store takes a table, not a " .. type(data), 3)
  end
  local host, store = shared.host, shared.store
  local layer, statements = { replace = true }, { { CLEAR, host, store, user } }
  if data and next(data) ~= nil then
    layer.blob = encode(data)               -- raises for what cannot be stored, before anything has changed
    local keys, n = statements[1], 0
    for k, v in pairs(data) do
      n = n + 1
      if n <= KEEP_MAX then keys[n + 4] = k end
      statements[n + 1] = { shared.put, host, store, user, k, v }
    end
    if n <= KEEP_MAX then
      local size = 1
      while size < n do size = size * 2 end
      for i = n + 1, size do keys[i + 4] = keys[5] end
      keys[1] = keep_statement(size)
    end
  end
  return write(shared.db, { { shared, user, layer } }, statements, shared)
end

local function check_key(key)
  local kind = type(key)
  if kind ~= "string" and kind ~= "number" and kind ~= "boolean" or key ~= key then
    error("a map store has no keys of type " .. kind, 4)
  end
end

local function set_keys(shared, user, changes)
  user = user or ""
  local host, store = shared.host, shared.store
  local statements, rows = {}, {}
  for k, v in pairs(changes) do
    check_key(k)
    if v == remove then
      rows[k] = remove
      statements[#statements + 1] = { REMOVE, host, store, user, k }
    else
      rows[k] = freeze(v)
      statements[#statements + 1] = { shared.put, host, store, user, k, v }
    end
  end
  if next(rows) == nil then return true end
  return write(shared.db, { { shared, user, { rows = rows } } }, statements, shared)
end

local function set_key(shared, user, key, value)
  check_key(key)
  if value == nil then value = remove end
  return set_keys(shared, user, { [key] = value })
end

local function get_all(shared, key)
  check_key(key)
  local _ <close> = begin_read(shared)
  local rows, n, code = shared.db:read{ { GET_ALL, shared.host, shared.store, key } }
  if not rows then return nil, n, code end
  local out = {}
  for i = 1, n, 2 do out[rows[i]] = rows[i + 1] end
  for user, e in pairs(shared.entries) do
    local f = top(e, key)
    if f == remove then out[user] = nil elseif f ~= nil then out[user] = thaw(f) end
  end
  out[""] = nil                             -- the host's own data belong to no user
  return out
end

local function delete_all(shared, key)
  local all, message, code = get_all(shared, key)
  if not all then return nil, message, code end
  local layers, statements = {}, {}
  for user in pairs(all) do
    layers[#layers + 1] = { shared, user, { rows = { [key] = remove } } }
    statements[#statements + 1] = { REMOVE, shared.host, shared.store, user, key }
  end
  if #layers == 0 then return true end
  return write(shared.db, layers, statements)
end

-- most: only so many names are read
local function users(shared, most)
  local _ <close> = begin_read(shared)
  local rows, n, code = shared.db:read{ { most and USERS .. " LIMIT " .. most or USERS, shared.host, shared.store } }
  if not rows then return nil, n, code end
  local seen = {}
  for i = 1, n do seen[rows[i]] = true end
  for user, e in pairs(shared.entries) do
    local t, known = view(e)
    if known then
      seen[user] = next(t) ~= nil or nil
    elseif not seen[user] then              -- only keys were set; any that stays makes a user
      if next((view(e, {}))) ~= nil then seen[user] = true end
    end
  end
  seen[""] = nil
  local user
  return function()
    user = next(seen, user)
    return user
  end
end

-- false: there is nothing of this user. Never waits.
local function has(shared, user) return holders.has(shared, shared.entries, user, users, shared) end

-- Everything of a user is gone from all stores of the host, for those who look before the database has done it, too.
function keyval.purge(db, host, user, statements)
  local opened = db.keyvals and db.keyvals[host] or {}
  local layers = {}
  for _, shared in pairs(opened) do layers[#layers + 1] = { shared, user, { replace = true } } end
  return write(db, layers, statements)
end

-- Statements that store { { user, key, value }, … } as they are. For storage.copy: nobody may be using the store.
function keyval.rows(db, host, store, rows)
  local put = PUT .. db.dialect.put
  local statements = { { ENSURE, host, store }, again = true }
  for i, row in ipairs(rows) do statements[i + 1] = { put, host, store, row[1], row[2], row[3] } end
  return statements
end

--- Store objects

local function method(fn)
  return function(self, ...) return fn(self.shared, ...) end
end

local types = {
  keyval = { get = method(get), set = method(set), users = method(users), has = method(has) },
  map = {
    get = method(get_key), set = method(set_key), set_keys = method(set_keys), get_all = method(get_all),
    delete_all = method(delete_all), users = method(users), has = method(has), remove = remove,
  },
  ["keyval+"] = {
    get = method(get), set = method(set), items = method(users), users = method(users), has = method(has),
    get_key = method(get_key), set_key = method(set_key), set_keys = method(set_keys),
    get_key_from_all = method(get_all), delete_key_from_all = method(delete_all), remove = remove,
  },
}
for _, t in pairs(types) do t.__index = t end

function keyval.open(db, host, store, kind)
  db.keyvals = db.keyvals or {}
  local of_host = db.keyvals[host]
  if not of_host then
    of_host = {}
    db.keyvals[host] = of_host
  end
  local shared = of_host[store]
  if not shared then
    shared = { db = db, host = host, store = store, entries = {}, reads = 0, put = PUT .. db.dialect.put }
    of_host[store] = shared
  end
  return setmetatable({ shared = shared }, types[kind])
end

return keyval
