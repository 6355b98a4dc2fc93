-- SPDX-License-Identifier: MIT
-- storage.memory: storage drivers that keep everything in memory, for tests and for data that may be lost.
--
--   memory.driver(host) -> storage driver of that host (PLUGIN-API §7). Data live as long as the process.
--   memory.forget()        all data of all hosts; drivers made before keep theirs (for tests)

local native = require "couplet.core".store
local time = require "couplet.core".loop.wall

local encode, decode = native.encode, native.decode

local memory = {}

-- What goes in and comes out is a copy.
local function freeze(v)
  if type(v) == "table" then return { encode(v) } end
  encode(v)                                 -- raises for what no driver stores
  return v
end

local function thaw(f)
  if type(f) == "table" then return (decode(f[1])) end
  return f
end

local remove = {}
local none = {}

--- keyval, map

local function check_key(key)
  local kind = type(key)
  if kind ~= "string" and kind ~= "number" and kind ~= "boolean" or key ~= key then
    error("a map store has no keys of type " .. kind, 4)
  end
end

local function get(self, user)
  local rows = self.data[user or ""]
  if not rows then return nil end
  local t = {}
  for k, f in pairs(rows) do t[k] = thaw(f) end
  return t
end

local function set(self, user, data)
  if data ~= nil and type(data) ~= "table" then error("a keyval store takes a table, not a " .. type(data), 2) end
  local rows
  if data then
    encode(data)
    for k, v in pairs(data) do
      rows = rows or {}
      rows[k] = freeze(v)
    end
  end
  self.data[user or ""] = rows            -- an empty table is nothing
  return true
end

local function users(self)
  local names = {}
  for user in pairs(self.data) do
    if user ~= "" then names[user] = true end
  end
  local user
  return function()
    user = next(names, user)
    return user
  end
end

local function get_key(self, user, key)
  return thaw((self.data[user or ""] or none)[key])
end

local function set_keys(self, user, changes)
  user = user or ""
  local frozen = {}
  for k, v in pairs(changes) do
    check_key(k)
    if v == remove then frozen[k] = remove else frozen[k] = freeze(v) end
  end
  local rows = self.data[user] or {}
  for k, f in pairs(frozen) do
    if f == remove then rows[k] = nil else rows[k] = f end
  end
  self.data[user] = next(rows) ~= nil and rows or nil
  return true
end

local function set_key(self, user, key, value)
  check_key(key)
  if value == nil then value = remove end
  return set_keys(self, user, { [key] = value })
end

local function get_all(self, key)
  check_key(key)
  local out = {}
  for user, rows in pairs(self.data) do
    if user ~= "" and rows[key] ~= nil then out[user] = thaw(rows[key]) end
  end
  return out
end

local function delete_all(self, key)
  check_key(key)
  for user in users(self) do set_key(self, user, key, nil) end
  return true
end

--- archive

local function position(items, id)
  for i = 1, #items do
    if items[i].id == id then return i end
  end
end

local function pack(value)
  if value == nil then error("an archive takes no nil", 3) end
  if type(value) == "userdata" or type(value) == "table" and getmetatable(value) then
    local stanza = require "couplet.stanza"
    if stanza.is_stanza(value) then return { stanza = stanza.clone(value) } end
  end
  return { frozen = freeze(value) }
end

local function unpack(packed)
  if packed.stanza then return require "couplet.stanza".clone(packed.stanza) end
  return thaw(packed.frozen)
end

local counter = 0

local function append(self, user, key, value, when, with)
  local packed = pack(value)
  user = user or ""
  local items = self.data[user]
  if not items then
    items = {}
    self.data[user] = items
  end
  when = math.floor((when or time()) * 1000 + 0.0005) / 1000
  if when % 1 == 0 then when = math.floor(when) end
  if key then
    local i = position(items, key)
    if i then table.remove(items, i) end
  end
  counter = counter + 1
  local item = { id = key or ("%016x"):format(counter), value = packed, when = when, with = with }
  local at = #items + 1
  while at > 1 and items[at - 1].when > when do at = at - 1 end
  table.insert(items, at, item)
  return item.id
end

local function matches(item, query)
  if query.start and item.when < query.start or query["end"] and item.when > query["end"] then return false end
  if query.with and item.with ~= query.with or query.key and item.id ~= query.key then return false end
  if query.ids then
    for _, id in ipairs(query.ids) do
      if id == item.id then return true end
    end
    return false
  end
  return true
end

-- -> items in the order wanted, total | nil, message
local function select(self, user, query)
  local items = self.data[user or ""] or none
  local first, last = 1, #items
  if type(query.after) == "string" and query.after ~= "" then
    first = position(items, query.after)
    if not first then return nil, "item-not-found" end
    first = first + 1
  end
  if type(query.before) == "string" and query.before ~= "" then
    last = position(items, query.before)
    if not last then return nil, "item-not-found" end
    last = last - 1
  end
  local out, total = {}, 0
  local from, to, step = 1, #items, 1
  if query.reverse then from, to, step = #items, 1, -1 end
  for i = from, to, step do
    if matches(items[i], query) then
      total = total + 1
      if i >= first and i <= last and #out < (query.limit or math.huge) then out[#out + 1] = items[i] end
    end
  end
  return out, total
end

local function find(self, user, query)
  query = query or {}
  local found, total = select(self, user, query)
  if not found then return nil, total end
  local i = 0
  return function()
    i = i + 1
    local item = found[i]
    if item then return item.id, unpack(item.value), item.when, item.with end
  end, query.total and total or nil
end

local function archive_get(self, user, id)
  local items = self.data[user or ""] or none
  local item = items[position(items, id)]
  if not item then return nil, "item-not-found" end
  return unpack(item.value), item.when, item.with
end

local function archive_set(self, user, id, value, when, with)
  local items = self.data[user or ""] or none
  local item = items[position(items, id)]
  if not item then return nil, "item-not-found" end
  item.value = pack(value)
  if with then item.with = with end
  if when and when ~= item.when then return append(self, user, id, value, when, item.with) and true end
  return true
end

local function delete(self, user, query)
  query = query or {}
  if user == true then
    if query.truncate then return nil, "unsupported-datatype" end
    local count = 0
    for name in pairs(self.data) do count = count + delete(self, name, query) end
    return count
  end
  user = user or ""
  local found, message = select(self, user, { start = query.start, ["end"] = query["end"], with = query.with, key = query.key,
    ids = query.ids, after = query.after, before = query.before, reverse = true })
  if not found then return nil, message end
  local gone, count = {}, 0
  local items = self.data[user] or none
  local keep = {}
  for i = math.max(1, #items - (query.truncate or 0) + 1), #items do keep[items[i]] = true end
  for _, item in ipairs(found) do
    if not (query.truncate and keep[item]) then gone[item] = true end
  end
  local rest = {}
  for _, item in ipairs(items) do
    if gone[item] then count = count + 1 else rest[#rest + 1] = item end
  end
  self.data[user] = #rest > 0 and rest or nil
  return count
end

local function summary(self, user, query)
  local out = { counts = {}, earliest = {}, latest = {}, body = {} }
  local iterate, message = find(self, user, query)
  if not iterate then return nil, message end
  for _, value, when, with in iterate do
    with = with or ""
    out.counts[with] = (out.counts[with] or 0) + 1
    out.earliest[with] = out.earliest[with] or when
    out.latest[with] = when
    if type(value) == "userdata" then out.body[with] = value:get_child_text("body") end
  end
  return out
end

local function measure(self, user)
  local items, bytes = self.data[user or ""] or none, 0
  for _, item in ipairs(items) do
    local stanza = item.value.stanza
    bytes = bytes + (stanza and stanza:size() or 0)
  end
  return #items, bytes
end

local function dates(self, user)
  local out = {}
  for _, _, when in find(self, user) do
    local day = os.date("!%Y-%m-%d", math.floor(when))
    if out[#out] ~= day then out[#out + 1] = day end
  end
  return out
end

--- the driver

local types = {
  keyval = { get = get, set = set, users = users },
  map = {
    get = get_key, set = set_key, set_keys = set_keys, get_all = get_all, delete_all = delete_all, users = users,
    remove = remove,
  },
  ["keyval+"] = {
    get = get, set = set, items = users, users = users, get_key = get_key, set_key = set_key, set_keys = set_keys,
    get_key_from_all = get_all, delete_key_from_all = delete_all, remove = remove,
  },
  archive = {
    append = append, find = find, get = archive_get, set = archive_set, delete = delete, summary = summary, dates = dates,
    measure = measure, users = users,
    caps = { total = true, truncate = true, full_id_range = true, ids = true, wildcard_delete = true },
  },
}
for _, t in pairs(types) do t.__index = t end

local hosts = {}           -- [host] = { [kind .. store] = { data } }

local driver_methods = {}
driver_methods.__index = driver_methods

function driver_methods:open(store, kind)
  kind = kind or "keyval"
  if not types[kind] then return nil, "unsupported-store" end
  local key = (kind == "archive" and "archive:" or "keyval:") .. store
  local shared = self.stores_[key]
  if not shared then
    shared = { data = {}, name = store }
    self.stores_[key] = shared
  end
  return setmetatable({ data = shared.data }, types[kind])
end

function driver_methods:stores(username)
  local names = {}
  for _, shared in pairs(self.stores_) do
    if username == true and next(shared.data) ~= nil or username ~= true and shared.data[username or ""] then
      names[shared.name] = true
    end
  end
  local name
  return function()
    name = next(names, name)
    return name
  end
end

function driver_methods:purge(username)
  for _, shared in pairs(self.stores_) do shared.data[username] = nil end
  return true
end

function memory.driver(host)
  hosts[host] = hosts[host] or {}
  return setmetatable({ stores_ = hosts[host] }, driver_methods)
end

function memory.forget() hosts = {} end

return memory
