-- SPDX-License-Identifier: MIT
-- blocking.lua: whom accounts have blocked. mod_blocklist knows it; who hands stanzas over without an event asks here.
--
--   blocking.blocks(username, host, jid) -> boolean      may wait, where the account has a list that is not in memory
--   blocking.has_list(username, host) -> boolean         false: it blocks nobody, nothing needs to be asked. Never waits
--   blocking.provide(host, fn | nil, has | nil)          fn(username, jid) and has(username) answer for that host

local blocking = {}

local answers, lists = {}, {}

function blocking.provide(host, fn, has) answers[host], lists[host] = fn, has end

function blocking.blocks(username, host, jid)
  local ask = answers[host]
  return ask ~= nil and ask(username, jid)
end

function blocking.has_list(username, host)
  local has = lists[host]
  if has then return has(username) end
  return answers[host] ~= nil
end

return blocking
