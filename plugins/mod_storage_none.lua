-- SPDX-License-Identifier: MIT
-- mod_storage_none: stores that are always empty and refuse to be filled. Also answers to the name "null".

local function nothing() end
local function refuse() return nil, "storage is disabled by the configuration" end
local function none() return nothing end
local function empty() return {} end

local methods = {
  keyval = { get = nothing, set = refuse, users = none },
  map = { get = nothing, set = refuse, set_keys = refuse, get_all = empty, delete_all = refuse, users = none, remove = {} },
  ["keyval+"] = {
    get = nothing, set = refuse, items = none, users = none, get_key = nothing, set_key = refuse, set_keys = refuse,
    get_key_from_all = empty, delete_key_from_all = refuse, remove = {},
  },
  archive = {
    append = refuse, find = function() return nothing, 0 end, get = function() return nil, "item-not-found" end,
    set = refuse, delete = function() return 0 end, dates = empty, users = none, caps = {},
    summary = function() return { counts = {}, earliest = {}, latest = {}, body = {} } end,
  },
}

module:provides("storage", {
  open = function(_, _, kind)
    local store = methods[kind or "keyval"]
    if not store then return nil, "unsupported-store" end
    return setmetatable({}, { __index = store })
  end,
  stores = none,
  purge = function() return true end,
})
