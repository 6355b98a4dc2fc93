-- SPDX-License-Identifier: MIT
-- mod_mam/tombstone: what was retracted is replaced by a note that it was there (XEP-0424 §5).
--
--   tombstone.retract(store, owner, stanza, with, before)        in the background; before: the id of the retraction
--   tombstone.finish(owner)          does, or waits for, what was begun for that archive
--
-- Only a message of the retraction's own sender: the same account, or the same occupant where an account is a room. Message ids
-- have no index, which would cost every message: the original is looked for among the newest LOOK messages with that address, and
-- then, when nothing else is to be done and with rests, among the older ones, for which no reader waits.

local clock = require "couplet.clock"
local datetime = require "couplet.util.datetime"
local jid = require "couplet.jid"
local st = require "couplet.stanza"
local task = require "couplet.task"
local parse_xml = require "couplet.util.xml".parse

local XMLNS = "urn:xmpp:message-retract:1"
local LOOK, PORTION, WAITING_MAX, LONG_MAX = 5000, 200, 1000, 100

local tombstone = {}

local MUC_USER = "http://jabber.org/protocol/muc#user"

local function same_author(original, from)
  local author = original.attr.from or ""
  if original:get_child("x", MUC_USER) then return author == from end
  return jid.bare(author) == jid.bare(from)
end

-- -> id, stanza | nil; job.before is then where to go on, or nil: there is no more
local function find(job, look, rest)
  local needle = " id='" .. st.xml_escape(job.target) .. "'"
  local range, seen = { with = job.with, before = job.before, reverse = true, limit = PORTION, raw = true }, 0
  repeat
    local began = clock.mono()
    local iterate = job.store:find(job.owner, range)
    if not iterate then break end
    local n, last = 0, nil
    for id, value in iterate do
      n, last = n + 1, id
      local text = type(value) == "string" and value or tostring(value)
      if text:match "^<[^>]*>":find(needle, 1, true) then
        local original = parse_xml(text)
        if original and original.attr.id == job.target and same_author(original, job.from) then return id, original end
      end
    end
    range.before, seen = last, seen + n
    if n < PORTION then break end
    if rest then task.sleep(clock.mono() - began) end
    job.before = last
  until seen >= look
  if seen < look then job.before = nil end
end

local function bury(job, id, original)
  if original:get_child("retracted", XMLNS) then return end
  local stone = st.stanza("message", { from = original.attr.from, to = original.attr.to, type = original.attr.type,
    id = original.attr.id }):tag("retracted", { xmlns = XMLNS, id = job.retraction, stamp = datetime.datetime(job.stamp) }):up()
  local ok, err = job.store:set(job.owner, id, stone)
  if not ok then module:log("error", "a retracted message of %s cannot be replaced: %s", job.owner, err) end
end

local long, searching = {}, false              -- those whose original is older

local function search()
  while long[1] do
    local job = table.remove(long, 1)
    local id, original = find(job, math.huge, true)
    if id then bury(job, id, original) end
  end
  searching = false
end

local jobs, first, last, running = {}, 1, 0, false

local function run(job)
  if job.begun then return end
  job.begun = true
  local id, original = find(job, LOOK)
  if id then
    bury(job, id, original)
  elseif job.before and #long < LONG_MAX then
    long[#long + 1] = job
    if not searching then
      searching = true
      module:add_timer(0, search)
    end
  end
  job.over = true
  for _, done in ipairs(job.waiters or {}) do done() end
end

local function work()
  while first <= last do
    run(jobs[first])
    jobs[first], first = nil, first + 1
  end
  running = false
end

-- Who reads sees what has been asked for.
function tombstone.finish(owner)
  for i = first, last do
    local job = jobs[i]
    if job and job.owner == owner then
      run(job)
      if not job.over then
        task.await(function(done)
          job.waiters = job.waiters or {}
          table.insert(job.waiters, done)
        end)
      end
    end
  end
end

function tombstone.retract(store, owner, stanza, with, before)
  local retract = stanza:get_child("retract", XMLNS)
  local target = retract and retract.attr.id
  if not target or not stanza.attr.id or last - first >= WAITING_MAX then return end
  last = last + 1
  jobs[last] = { store = store, owner = owner, with = with, before = before, target = target, retraction = stanza.attr.id,
    from = stanza.attr.from, stamp = os.time() }
  if not running then
    running = true
    module:add_timer(0, work)
  end
end

return tombstone
