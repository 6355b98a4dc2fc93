-- SPDX-License-Identifier: MIT
-- blocking.lua: whom accounts have blocked. mod_blocklist knows it; who hands stanzas over without an event asks here.
--
--   blocking.blocks(username, host, jid) -> boolean      may wait, where the account has a list that is not in memory
--   blocking.provide(host, fn | nil)                     fn(username, jid) answers for that host

local blocking = {}

local answers = {}

function blocking.provide(host, fn) answers[host] = fn end

function blocking.blocks(username, host, jid)
  local ask = answers[host]
  return ask ~= nil and ask(username, jid)
end

return blocking
