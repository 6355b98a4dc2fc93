-- SPDX-License-Identifier: MIT
-- mod_mam/tombstone: what was retracted is replaced by a note that it was there (XEP-0424 §5).
--
--   tombstone.retract(store, owner, stanza, with, before)        in the background; before: the id of the retraction
--   tombstone.finish(owner)          does, or waits for, what was begun for that archive
--
-- Only a message of the retraction's own sender: the same account, or the same occupant where an account is a room. The original
-- is looked for among the newest LOOK messages with that address: message ids have no index, which would cost every message.

local datetime = require "couplet.util.datetime"
local jid = require "couplet.jid"
local st = require "couplet.stanza"
local task = require "couplet.task"
local parse_xml = require "couplet.util.xml".parse

local XMLNS = "urn:xmpp:message-retract:1"
local LOOK, PORTION, WAITING_MAX = 5000, 200, 1000

local tombstone = {}

local MUC_USER = "http://jabber.org/protocol/muc#user"

local function same_author(original, from)
  local author = original.attr.from or ""
  if original:get_child("x", MUC_USER) then return author == from end
  return jid.bare(author) == jid.bare(from)
end

local function find(job)
  local needle = " id='" .. st.xml_escape(job.target) .. "'"
  local range, seen = { with = job.with, before = job.before, reverse = true, limit = PORTION, raw = true }, 0
  repeat
    local iterate = job.store:find(job.owner, range)
    if not iterate then return nil end
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
  until n < PORTION or seen >= LOOK
end

local function bury(job)
  local id, original = find(job)
  if not id then return end
  if original:get_child("retracted", XMLNS) then return end
  local stone = st.stanza("message", { from = original.attr.from, to = original.attr.to, type = original.attr.type,
    id = original.attr.id }):tag("retracted", { xmlns = XMLNS, id = job.retraction, stamp = datetime.datetime(job.stamp) }):up()
  local ok, err = job.store:set(job.owner, id, stone)
  if not ok then module:log("error", "a retracted message of %s cannot be replaced: %s", job.owner, err) end
end

local jobs, first, last, running = {}, 1, 0, false

local function run(job)
  if job.begun then return end
  job.begun = true
  bury(job)
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
