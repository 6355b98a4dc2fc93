-- SPDX-License-Identifier: MIT
-- mod_mam/retention: the archive does not grow for ever. By age for all accounts together, by number and size for each.
--
--   retention.start(store, owns)          begins; stops with the plugin
--   retention.added(username, bytes)      something was archived
--
-- Only ever the oldest go (XEP-0313 §3.2). All of it happens in the background: the store deletes in portions and rests in
-- between. Bounds by number and size are kept to within a tenth.

local clock = require "couplet.clock"

local retention = {}

local store
local grown, waiting, running = {}, {}, false  -- username -> { n, bytes } since it was last measured

local function expire(now)
  local age = module.config.archive_expires_after
  if age == math.huge then return end
  local began = clock.mono()
  local n, err = store:delete(true, { ["end"] = now - age })
  if not n then
    module:log("error", "old messages cannot be deleted: %s", err)
  elseif n > 0 then
    module:log("debug", "%d old messages deleted in %.1f s", n, clock.mono() - began)
  end
end

-- How many of an account's messages may stay; nil: all.
local function keep_of(username, most, most_bytes)
  local n, bytes
  if store.measure then
    n, bytes = store:measure(username)
  else
    local iterate, total = store:find(username, { limit = 0, total = true })
    n, bytes = iterate and total, 0
  end
  if not n then return nil, bytes end
  local keep = most > 0 and n > most and most or n
  if most_bytes > 0 and bytes > most_bytes then keep = math.min(keep, math.floor(n * most_bytes / bytes)) end
  return keep < n and keep or nil
end

local function trim(username)
  local most, most_bytes = module.config.storage_archive_item_limit, module.config.archive_bytes_max
  local keep, err = keep_of(username, most, most_bytes)
  local ok
  if keep then
    ok, err = store:delete(username, { truncate = keep })
    if ok then err = nil end
  end
  if err then module:log("error", "the archive of %s cannot be shortened: %s", username, err) end
end

local function work()
  while waiting[1] do trim(table.remove(waiting, 1)) end
  running = false
end

local most, most_bytes

local function read()
  most, most_bytes = module.config.storage_archive_item_limit, module.config.archive_bytes_max
end

function retention.added(username, bytes)
  if most == 0 and most_bytes == 0 then return end
  local entry = grown[username]
  if not entry then                            -- how much there was before is not known yet
    entry = { n = most, bytes = most_bytes }
    grown[username] = entry
  end
  entry.n, entry.bytes = entry.n + 1, entry.bytes + bytes
  if (most > 0 and entry.n >= math.max(1, most // 10)) or (most_bytes > 0 and entry.bytes >= most_bytes // 10) then
    entry.n, entry.bytes = 0, 0
    waiting[#waiting + 1] = username
    if not running then
      running = true
      module:add_timer(0, work)
    end
  end
end

function retention.forget(username) grown[username] = nil end

function retention.start(archive)
  store = archive
  read()
  module:on_config_change(read)
  module:add_timer(module.config.archive_cleanup_interval, function(now)
    expire(now)
    grown = {}                                 -- all are measured again when they grow, and the table does not
    return module.config.archive_cleanup_interval
  end)
end

return retention
