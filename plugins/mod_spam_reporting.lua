-- SPDX-License-Identifier: MIT
-- mod_spam_reporting: who blocks somebody may say that it is because of spam or abuse (XEP-0377). Reports are kept in the
-- archive "spam_reports" of the host, and shown to administrators.
--
-- Fires spam_reporting/spam-report, /abuse-report, /unknown-report { origin, stanza, jid, item, report, reason = text }.

local jid = require "couplet.jid"
local recent = require "couplet.recent"
local st = require "couplet.stanza"
local throttle = require "couplet.util.throttle"

module:depends "blocklist"

local REPORTING, OLD, SID = "urn:xmpp:reporting:1", "urn:xmpp:reporting:0", "urn:xmpp:sid:0"
local TEXT_BYTES, MESSAGES_MAX = 1000, 20      -- of one report

module:config {
  spam_reports_max = { type = "integer", default = 1000, min = 1, doc = "reports kept for one host; older ones go" },
  spam_reports_per_hour = { type = "integer", default = 20, min = 1, doc = "reports taken from one account" },
  spam_report_watchers = { type = "set", doc = "who is told of reports. Default: admins" },
}
module:add_feature(REPORTING)
module:add_feature(OLD)

local store = module:open_store("spam_reports", "archive")
local rate_of, set_rate = recent.new(1024)
local count = module:metric("counter", "reports", nil, "Reports of spam and abuse", { "type" })

local types = { ["urn:xmpp:reporting:spam"] = "spam", ["urn:xmpp:reporting:abuse"] = "abuse" }

-- -> the element, type; nil: there is none that can be understood
local function read(item)
  local report = item:get_child("report", REPORTING)
  if report then
    if not report.attr.reason then return nil end                     -- §3: it must be there
    return report, types[report.attr.reason] or "unknown"
  end
  report = item:get_child("report", OLD)
  if not report then return nil end
  return report, report:get_child "spam" and "spam" or report:get_child "abuse" and "abuse" or "unknown"
end

local function cut(text)
  if not text or #text <= TEXT_BYTES then return text end
  local last = TEXT_BYTES
  while last > 0 and text:byte(last + 1) & 0xC0 == 0x80 do last = last - 1 end
  return text:sub(1, last)
end

local function watchers()
  local out = {}
  for address in (module.config.spam_report_watchers or module:get_option_inherited_set("admins", {})):items() do
    local to = jid.prep(address)
    if to then out[#out + 1] = to end
  end
  return out
end

-- What is kept of it: who, about whom, why, and which messages.
local function record(reporter, about, report, text)
  local kept = st.stanza("report", { xmlns = REPORTING, reason = report.attr.reason, jid = about, by = reporter })
  if text then kept:text_tag("text", text) end
  local n = 0
  for id in report:childtags("stanza-id", SID) do
    n = n + 1
    if n > MESSAGES_MAX then break end
    kept:tag("stanza-id", { xmlns = SID, by = cut(id.attr.by), id = cut(id.attr.id) }):up()
  end
  return kept
end

local function keep(kept, about)
  local ok, err = store:append(nil, nil, kept, os.time(), jid.bare(about))
  if ok then ok, err = store:delete(nil, { truncate = module.config.spam_reports_max }) end
  if not ok then module:log("error", "a report cannot be kept: %s", err) end
end

local function take(event, item)
  local report, type = read(item)
  if not report then return end
  local origin, about = event.origin, jid.prep(item.attr.jid)
  local reporter = jid.bare(origin.full_jid)
  local rate = rate_of(reporter)
  if not rate then
    rate = throttle.create(module.config.spam_reports_per_hour, 3600)
    set_rate(reporter, rate)
  end
  if not rate:poll(1) then
    module:log("info", "%s reports too much; not taken", reporter)
    return
  end
  local text = cut(report:get_child_text "text")
  module:log("warn", "%s reports %s: %s", reporter, about, type)
  count:with_labels(type):add(1)
  keep(record(reporter, about, report, text), about)
  module:fire_event("spam_reporting/" .. type .. "-report", { origin = origin, stanza = event.stanza, jid = about, item = item,
    report = report, reason = text })
  module:broadcast(watchers(), st.message({ type = "chat", from = module.host },
    ("%s reports %s (%s)%s"):format(reporter, about, type, text and ": " .. text or "")))
end

-- After it has been blocked: a request that fails is no report.
module:hook("blocklist/blocked", function(event)
  for item in event.stanza.tags[1]:childtags "item" do take(event, item) end
end)
