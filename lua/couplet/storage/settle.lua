-- SPDX-License-Identifier: MIT
-- storage.settle: moves what was archived lately into the indexes of the archive, where a database has that (dialect.settle).
--
--   settle.added(db, n)          n items were written; begins in the background when there are enough
--   settle.enough                what is enough; less than that costs little to look through
--
-- Found they are all the time, before and after. Many at a time cost a fraction of the pages, and the accounts whose turn it is
-- have theirs touched once; portions are small, so that others' writes come between.
--
-- dialect.settle: count: how many there are; upto: the owner with which a portion of ?2 items after owner ?1 ends; and the
-- statements that move those of the owners after ?1 up to ?2.

local task = require "couplet.task"

local settle = { enough = 8192 }

local PORTION = 1000

-- Returns quietly when the database fails: others' requests tell of that, and the next items bring it here again.
local function work(db)
  local sql, handle, owner = db.dialect.settle, db.db, -1
  while db.db == handle do                    -- else it was closed, which this should not undo
    local rows = db:read{ { sql.upto, owner, PORTION } }
    local upto = rows and rows[1]
    if not upto or db.db ~= handle then return end
    local moves = {}
    for i = 1, #sql do moves[i] = { sql[i], owner, upto } end
    if not db:write(moves) then return end
    owner = upto
  end
end

function settle.added(db, n)
  if not db.dialect.settle then return end
  local fresh = db.fresh
  if not fresh then
    fresh = { count = settle.enough }         -- what an earlier process has left is not known: looked at once
    db.fresh = fresh
  end
  fresh.count = fresh.count + n
  if fresh.count < settle.enough or fresh.busy then return end
  fresh.busy, fresh.count = true, 0
  task.spawn(function()
    local rows = db:read{ { db.dialect.settle.count } }
    fresh.count = fresh.count + (rows and rows[1] or 0)
    if fresh.count >= settle.enough then
      fresh.count = 0
      work(db)
    end
    fresh.busy = false
  end)
end

return settle
