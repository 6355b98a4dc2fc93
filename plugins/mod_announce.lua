-- SPDX-License-Identifier: MIT
-- mod_announce: a message from the host to many of its users (XEP-0133 §4.23): as an ad-hoc command, as a message to
-- HOST/announce/online (or /all), from coupletctl, and for other plugins:
--
--   send_to_online(message, host?) -> count      one to each connected resource
--   send_to_all(message, host?) -> count          every account: those who are away find it later
--   send_to_role(message, role, host?) -> count

local adhoc = require "util.adhoc"
local dataforms = require "util.dataforms"
local jid = require "util.jid"
local st = require "util.stanza"
local usermanager = require "core.usermanager"
local adhoc_new = module:require "adhoc".new

module:depends "adhoc"
module:default_permission("prosody:admin", ":announce")

local function addressed(message, host)
  message = st.clone(message)
  message.attr.from = host
  message.attr.id = message.attr.id or require "util.id".medium()
  return message
end

function send_to_online(message, host)
  host = host or module.host
  local targets = {}
  for full, session in pairs(prosody.full_sessions) do
    if session.host == host and session.presence then targets[#targets + 1] = full end
  end
  module:context(host):broadcast(targets, addressed(message, host))
  return #targets
end

local function send_to(names, message, host)
  local n = 0
  message = addressed(message, host)
  for name in names do
    local copy = st.clone(message)
    copy.attr.to = name .. "@" .. host
    module:context(host):send(copy)
    n = n + 1
  end
  return n
end

function send_to_all(message, host)
  host = host or module.host
  return send_to(usermanager.users(host), message, host)
end

function send_to_role(message, role, host)
  host = host or module.host
  local names, err = usermanager.get_users_with_role(role, host)
  if not names then return nil, err end
  local i = 0
  return send_to(function()
    i = i + 1
    return names[i]
  end, message, host)
end

local function headline(text, subject)
  return st.message({ type = "headline" }, text):text_tag("subject", subject or "Announcement")
end

-- A message to HOST/announce/… --------------------------------------------------------------------------------------------------

local ways = { ["announce/online"] = send_to_online, ["announce/all"] = send_to_all }

module:hook("message/host", function(event)
  local origin, stanza = event.origin, event.stanza
  local send = ways[jid.resource(stanza.attr.to) or ""]
  if not send then return nil end
  if not module:may(":announce", event) then
    origin.send(st.error_reply(stanza, "auth", "forbidden", "Only administrators may make announcements"))
    return true
  end
  local message = st.message { type = "headline" }
  for _, name in ipairs { "subject", "body" } do
    local text = stanza:get_child_text(name)
    if text then message:text_tag(name, text) end
  end
  module:log("info", "%s made an announcement to %d", stanza.attr.from, send(message))
  return true
end)

-- The command, and coupletctl ---------------------------------------------------------------------------------------------------

local form = dataforms.new { title = "Making an Announcement",
  instructions = "Fill out this form to make an announcement to all active users of this service.",
  { name = "FORM_TYPE", type = "hidden", value = "http://jabber.org/protocol/admin" },
  { name = "subject", type = "text-single", label = "Subject" },
  { name = "announcement", type = "text-multi", label = "Announcement", required = true } }

module:provides("adhoc", adhoc_new("Send Announcement to Online Users", "http://jabber.org/protocol/admin#announce",
  adhoc.new_simple_form(form, function(fields, errors)
    if errors then
      local name, text = next(errors)
      return { status = "completed", error = { message = name .. ": " .. text } }
    end
    local n = send_to_online(headline(fields.announcement, fields.subject))
    return { status = "completed", info = ("Announcement sent to %d users"):format(n) }
  end), "admin"))

for name, send in pairs { online = send_to_online, all = send_to_all } do
  module:add_item("shell-command", { section = "announce", section_desc = "Messages to many users", name = name,
    desc = "send a message to " .. (name == "all" and "all users" or "all users online") .. " of a host", host_selector = "host",
    args = { { name = "host", type = "string" }, { name = "text", type = "string" } },
    handler = function(_, host, ...)
      if not prosody.hosts[host] then return false, "this server has no host " .. tostring(host) end
      local words = {}
      for i = 1, select("#", ...) do words[#words + 1] = tostring((select(i, ...))) end
      return true, ("sent to %d"):format(send(headline(table.concat(words, " ")), host))
    end })
end
