-- SPDX-License-Identifier: MIT
-- stream_error.lua: the element that ends a stream (RFC 6120 §4.9), made of what a session's close(reason) may be given.

local st = require "couplet.stanza"

local STREAMS = "urn:ietf:params:xml:ns:xmpp-streams"

-- reason: a condition, a table { condition, text?, extra? } or a stanza -> XML, text or nil, condition or nil (a stanza)
return function(reason)
  if type(reason) == "string" then
    reason = { condition = reason }
  elseif st.is_stanza(reason) then
    return ("<stream:error>%s</stream:error>"):format(tostring(reason)), reason:get_text() or reason.name, nil
  end
  local condition = reason.condition or "undefined-condition"
  local parts = { "<stream:error>", ("<%s xmlns='%s'/>"):format(condition, STREAMS) }
  if reason.text then
    parts[#parts + 1] = ("<text xmlns='%s' xml:lang='en'>%s</text>"):format(STREAMS, st.xml_escape(tostring(reason.text)))
  end
  if reason.extra then parts[#parts + 1] = tostring(reason.extra) end
  parts[#parts + 1] = "</stream:error>"
  return table.concat(parts), reason.text, condition
end
