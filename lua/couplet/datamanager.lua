-- SPDX-License-Identifier: MIT
-- datamanager.lua: storage as old plugins address it (util.datamanager), on top of the configured driver. PLUGIN-API §8.1.
--
--   load(user, host, store) -> table | nil, message;  store(user, host, store, data) -> true | nil, message
--   users(host, store) -> iterator;  stores(user, host, type?) -> iterator;  purge(user, host)
--   list_load(user, host, store) -> array | nil;  list_append(user, host, store, item);  list_store(user, host, store, array)
--   getpath(user, host, store, extension?, create?) -> a file below the data directory
--   path_encode(text), path_decode(text);  store_raw(path, text), append_raw(user, host, store, extension, text)

local config = require "couplet.config"
local storage = require "couplet.store"
local system = require "couplet.core".system

local datamanager = {}

local open = storage.open

function datamanager.load(user, host, store)
  local s, err = open(host, store)
  if not s then return nil, err end
  return s:get(user)
end

function datamanager.store(user, host, store, data)
  local s, err = open(host, store)
  if not s then return nil, err end
  return s:set(user, data)
end

local function nothing() end

function datamanager.users(host, store, kind)
  local s = open(host, store, kind == "list" and "archive" or "keyval")
  if not s then return nothing end
  return s:users()
end

function datamanager.stores(user, host)
  return storage.stores(user, host)
end

function datamanager.purge(user, host)
  return storage.purge(user, host)
end

--- Lists are archives without ids

function datamanager.list_load(user, host, store)
  local s, err = open(host, store, "archive")
  if not s then return nil, err end
  local iterate
  iterate, err = s:find(user)
  if not iterate then return nil, err end
  local out = {}
  for _, item in iterate do out[#out + 1] = item end
  return #out > 0 and out or nil
end

function datamanager.list_append(user, host, store, item)
  local s, err = open(host, store, "archive")
  if not s then return nil, err end
  local id
  id, err = s:append(user, nil, item)
  if not id then return nil, err end
  return true
end

function datamanager.list_store(user, host, store, list)
  local s, err = open(host, store, "archive")
  if not s then return nil, err end
  local ok
  ok, err = s:delete(user)
  if not ok then return nil, err end
  for _, item in ipairs(list or {}) do
    ok, err = s:append(user, nil, item)
    if not ok then return nil, err end
  end
  return true
end

--- Files

function datamanager.path_encode(text)
  return text and (text:gsub("[^%w]", function(c) return ("%%%02x"):format(c:byte()) end))
end

function datamanager.path_decode(text)
  return text and (text:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

function datamanager.getpath(user, host, store, extension, create)
  local encode = datamanager.path_encode
  local parts = { config.data_path(), encode(host or "*"), encode(store) }
  if not user then
    parts = { config.data_path(), encode(host or "*") }
    user = store
  end
  if create then
    for i = 2, #parts do system.mkdir(table.concat(parts, "/", 1, i), 0x1e8) end
  end
  return table.concat(parts, "/") .. "/" .. encode(user) .. "." .. (extension or "dat")
end

-- Whole or not at all: written beside, then renamed.
function datamanager.store_raw(path, text)
  local beside = path .. "~"
  local f, err = io.open(beside, "wb")
  if not f then return nil, err end
  local ok
  ok, err = f:write(text)
  local closed, close_err = f:close()
  if not ok or not closed then
    os.remove(beside)
    return nil, err or close_err
  end
  ok, err = os.rename(beside, path)
  if not ok then return nil, err end
  return true
end

function datamanager.append_raw(user, host, store, extension, text)
  local f, err = io.open(datamanager.getpath(user, host, store, extension, true), "ab")
  if not f then return nil, err end
  local ok
  ok, err = f:write(text)
  local closed, close_err = f:close()
  if not ok or not closed then return nil, err or close_err end
  return true
end

return datamanager
