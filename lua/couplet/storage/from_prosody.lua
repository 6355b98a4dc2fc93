-- SPDX-License-Identifier: MIT
-- storage.from_prosody: what Prosody has stored, as sources of storage.copy (its shape is told there): read only.
--
--   from_prosody.files(name, directory) -> source
--   from_prosody.tables(name, db, driver) -> source      db: of couplet.storage.database; driver: sqlite or postgres
--     source:accounts_of(host) -> boolean                are there any?

local must = require "couplet.storage.must"

local PAGE = 500

local function by_name(a, b)
  if a.host ~= b.host then return a.host < b.host end
  if a.store ~= b.store then return a.store < b.store end
  return a.kind < b.kind
end

--- Prosody's files: DIRECTORY/HOST/STORE/USER.dat and .list, DIRECTORY/HOST/STORE.dat for the host itself

local files = {}
files.__index = files

local function decode(text)
  return (text:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

-- A file of data is read as data: nothing in it runs.
local function load_file(path, list)
  local system, serialization = require "couplet.core".system, require "couplet.util.serialization"
  local text = must(system.read_file(path, 1 << 30))
  if not list then
    local value, err = serialization.deserialize(text)
    if type(value) ~= "table" then error(path .. ": " .. tostring(err or "no table"), 0) end
    return value
  end
  -- "item({ … });" line after line. Within a string a line ends with a backslash.
  local out, at = {}, text:match "^item%(()"
  while at do
    local stop, behind = text:match("()%);\nitem%(()", at)
    local last = stop or text:match("()%);%s*$", at) or #text + 1
    local value, err = serialization.deserialize("return " .. text:sub(at, last - 1))
    if type(value) ~= "table" then error(("%s: item %d: %s"):format(path, #out + 1, err or "no table"), 0) end
    out[#out + 1], at = value, behind
  end
  return out
end

function files:collections()
  local system = require "couplet.core".system
  local found, out = {}, {}
  local function add(host, store, kind, user, path)
    local name = table.concat({ host, kind, store }, "\0")
    local c = found[name]
    if not c then
      c = { host = host, kind = kind, store = store, files = {}, count = 0 }
      found[name] = c
      out[#out + 1] = c
    end
    c.files[#c.files + 1] = { user = user, path = path }
    if kind == "keyval" then
      for _ in pairs(load_file(path)) do c.count = c.count + 1 end
    else
      c.count = c.count + #load_file(path, true)
    end
  end
  local function each(dir, fn)
    for _, name in ipairs(must(system.list(dir))) do
      local stat = system.stat(dir .. "/" .. name)
      if stat then fn(name, dir .. "/" .. name, stat.type == "directory") end
    end
  end
  local function file(host, store, user, name, path)
    local base, ending = name:match "^(.*)%.(%l+)$"
    if ending == "dat" then add(host, store or decode(base), "keyval", user or decode(base), path)
    elseif ending == "list" then add(host, store or decode(base), "archive", user or decode(base), path) end
  end
  each(self.dir, function(host, host_path, is_dir)
    if not is_dir or not decode(host):find "^[^/%.][^/]*$" then return end
    each(host_path, function(store, store_path, deeper)
      if not deeper then return file(decode(host), nil, "", store, store_path) end
      each(store_path, function(name, path, deep)
        if not deep then file(decode(host), decode(store), nil, name, path) end
      end)
    end)
  end)
  table.sort(out, by_name)
  return out
end

function files:keyval(c)
  local i = 0
  return function()
    i = i + 1
    local file = c.files[i]
    if not file then return nil end
    local page = {}
    for key, value in pairs(load_file(file.path)) do page[#page + 1] = { file.user, key, value } end
    return page
  end
end

local PUBSUB = "http://jabber.org/protocol/pubsub"

-- Of a node's items Prosody keeps the payload alone; our plugins keep the item around it.
local function of_node(store) return store:find "^pep_" or store:find "^pubsub_" end

local function item_around(payload, id)
  return require "couplet.stanza".stanza("item", { xmlns = PUBSUB, id = id }):add_child(payload)
end

local function stanza_of(item, wrapped)
  local st = require "couplet.stanza"
  local when, with, key = item.when, item.with, item.key
  item.when, item.with, item.key = nil, nil, nil
  if item.attr then
    if not when and item.attr.stamp then when = require "couplet.util.datetime".parse(item.attr.stamp) end
    item.attr.stamp, item.attr.stamp_legacy = nil, nil
  end
  if not item.name then return when, with, key, nil, item end       -- a plain list of util.datamanager's
  local stanza = st.deserialize(item)
  if wrapped then stanza = item_around(stanza, key) end
  return when, with, key, "xml", tostring(stanza)
end

function files:archive(c)
  local i = 0
  local wrapped = of_node(c.store)
  return function()
    i = i + 1
    local file = c.files[i]
    if not file then return nil end
    local list = load_file(file.path, true)
    local at, number = 0, 0
    return file.user, #list, function()
      if at >= #list then return nil end
      local page = {}
      while at < #list and #page < PAGE do
        at = at + 1
        local when, with, key, kind, value = stanza_of(list[at], wrapped)
        -- The order is the file's, even if times are not.
        number = math.max(number + 1, math.floor((when or 0) * 1000) << 20)
        page[#page + 1] = { number, key, kind, value, with }
      end
      return page
    end
  end
end

--- Prosody's tables, in the database that the option sql names: prosody (values), prosodyarchive

local tables = {}
tables.__index = tables

local ORDER = (' ORDER BY "user", "key" LIMIT %d'):format(PAGE)

function tables:read(sql, ...)
  return must(self.db:read{ { (sql:gsub("TABLE", self.prefix .. "prosody")), ... } })
end

-- Keys that are no text, beside others, are below __array and __hash in Prosody's JSON.
local function mixed(t)
  for k, v in pairs(t) do if type(v) == "table" then t[k] = mixed(v) end end
  local list, map = rawget(t, "__array"), rawget(t, "__hash")
  t.__array, t.__hash = nil, nil
  for i, v in ipairs(list or {}) do t[i] = v end
  for i = 1, #(map or {}), 2 do t[map[i]] = map[i + 1] end
  return t
end

local function value_of(kind, value)
  if kind == "string" then return value end
  if kind == "number" then return tonumber(value) end
  if kind == "boolean" then return value == "true" end
  if kind == "json" then
    value = must(require "couplet.util.json".decode(value))
    return type(value) == "table" and mixed(value) or value
  end
  error("a value of an unknown type: " .. tostring(kind), 0)
end

-- A row is a key and its value; one without a key, a table of those whose keys are no text.
local function each_value(key, kind, value, fn)
  value = value_of(kind, value)
  if key ~= "" then return fn(key, value) end
  for k, v in pairs(type(value) == "table" and value or {}) do fn(k, v) end
end

local SCHEMA = {                       -- where these tables are
  sqlite = "SELECT 'main' FROM sqlite_master WHERE name = 'prosodyarchive'",
  postgres = "SELECT CAST(schemaname AS TEXT) FROM pg_tables WHERE tablename = 'prosodyarchive' ORDER BY schemaname <> 'public'",
}

function tables:there()
  local schema = must(self.db:read{ { SCHEMA[self.driver] } })[1]
  self.prefix = schema and '"' .. schema:gsub('"', '""') .. '".'
  return schema ~= nil
end

function tables:accounts_of(host)
  if not self:there() then return false end
  local _, n = self:read("SELECT 1 FROM TABLE WHERE host = ?1 AND store = 'accounts' LIMIT 1", host)
  return n > 0
end

function tables:collections()
  if not self:there() then
    error("the database of the option sql has no tables of Prosody's (prosody and prosodyarchive)", 0)
  end
  local out, found = {}, {}
  local function add(host, store, kind, n)
    local name = table.concat({ host, kind, store }, "\0")
    if not found[name] then
      found[name] = { host = host, kind = kind, store = store, count = 0 }
      out[#out + 1] = found[name]
    end
    found[name].count = found[name].count + n
  end
  local rows, n = self:read [[SELECT host, store, count(*) FROM TABLE WHERE "key" <> '' GROUP BY host, store]]
  for i = 1, n, 3 do add(rows[i], rows[i + 1], "keyval", rows[i + 2]) end
  rows, n = self:read [[SELECT host, store, "type", value FROM TABLE WHERE "key" = '']]
  for i = 1, n, 4 do
    each_value("", rows[i + 2], rows[i + 3], function() add(rows[i], rows[i + 1], "keyval", 1) end)
  end
  rows, n = self:read "SELECT host, store, count(*) FROM TABLEarchive GROUP BY host, store"
  for i = 1, n, 3 do add(rows[i], rows[i + 1], "archive", rows[i + 2]) end
  table.sort(out, by_name)
  return out
end

function tables:keyval(c)
  local user, key
  return function()
    local rows, n
    local sql = 'SELECT "user", "key", "type", value FROM TABLE WHERE host = ?1 AND store = ?2'
    if user then
      rows, n = self:read(sql .. ' AND ("user", "key") > (?3, ?4)' .. ORDER, c.host, c.store, user, key)
    else
      rows, n = self:read(sql .. ORDER, c.host, c.store)
    end
    if n == 0 then return nil end
    local page = {}
    for i = 1, n, 4 do
      each_value(rows[i + 1], rows[i + 2], rows[i + 3], function(k, v) page[#page + 1] = { rows[i], k, v } end)
    end
    user, key = rows[n - 3], rows[n - 2]
    return page
  end
end

function tables:archive(c)
  local users, n = self:read('SELECT "user", count(*) FROM TABLEarchive WHERE host = ?1 AND store = ?2 GROUP BY "user"',
    c.host, c.store)
  local wrapped, at = of_node(c.store), 1
  return function()
    if at > n then return nil end
    local user, count = users[at], users[at + 1]
    at = at + 2
    local after, number = -1, 0
    return user, count, function()
      local rows, last = self:read('SELECT CAST(sort_id AS BIGINT), "key", CAST("when" AS BIGINT), "with", "type", value'
        .. ' FROM TABLEarchive WHERE host = ?1 AND store = ?2 AND "user" = ?3 AND sort_id > CAST(?4 AS BIGINT)'
        .. " ORDER BY sort_id LIMIT " .. PAGE, c.host, c.store, user, after)
      if last == 0 then return nil end
      local page = {}
      for i = 1, last, 6 do
        local key, kind, value = rows[i + 1], rows[i + 4], rows[i + 5]
        if kind ~= "xml" then kind, value = nil, value_of(kind, value)
        elseif wrapped then value = tostring(item_around(must(require "couplet.util.xml".parse(value)), key)) end
        number = math.max(number + 1, math.floor((tonumber(rows[i + 2]) or 0) * 1000) << 20)
        page[#page + 1] = { number, key, kind, value, rows[i + 3] ~= "" and rows[i + 3] or nil }
      end
      after = rows[last - 5]
      return page
    end
  end
end

--- Sources

local from_prosody = {}

function from_prosody.files(name, directory) return setmetatable({ name = name, dir = directory }, files) end

function from_prosody.tables(name, db, driver) return setmetatable({ name = name, db = db, driver = driver }, tables) end

return from_prosody
