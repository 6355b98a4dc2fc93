-- SPDX-License-Identifier: MIT
-- blocking.lua: whom accounts have blocked. mod_blocklist knows it; who hands stanzas over without an event asks here.
--
--   blocking.blocks(username, host, jid) -> boolean      may wait, where the account has a list that is not in memory
--   blocking.has_list(username, host) -> boolean         false: it blocks nobody, nothing needs to be asked. Never waits
--   blocking.listed() -> set | nil                       bare addresses of all hosts' accounts that have a list, not to be
--                                                        changed; nil: nobody knows them all. Never waits
--   blocking.provide(host, fn | nil, lists | nil)        fn(username, jid) answers for that host; lists: of couplet.sparse

local blocking = {}

local answers, lists_of = {}, {}
local listed, untold = {}, {}                    -- untold: hosts of which it is not known who has a list

function blocking.provide(host, fn, lists)
  local before = lists_of[host]
  if before then before.tell(nil) end
  answers[host], lists_of[host] = fn, lists
  untold[host] = fn and not (lists and lists.tell(listed, "@" .. host)) or nil
end

function blocking.blocks(username, host, jid)
  local ask = answers[host]
  return ask ~= nil and ask(username, jid)
end

function blocking.has_list(username, host)
  local lists = lists_of[host]
  if lists then return lists.has(username) end
  return answers[host] ~= nil
end

function blocking.listed()
  return next(untold) == nil and listed or nil
end

return blocking
