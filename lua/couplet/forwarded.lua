-- SPDX-License-Identifier: MIT
-- forwarded.lua: stanzas inside stanzas (XEP-0297).
--
--   forwarded.put(parent, stanza) -> parent     adds <forwarded/> with a copy of the stanza
--   forwarded.take(parent, name) -> stanza | nil     the one stanza of that name inside parent's <forwarded/>, as if it had
--     just come in: a copy without jabber:client
--   forwarded.plain(stanza)     what is of jabber:client says so no more; stanzas inside it are left alone

local st = require "couplet.stanza"

local forwarded = {}

local NS, CLIENT = "urn:xmpp:forward:0", "jabber:client"

function forwarded.plain(stanza)
  local xmlns = stanza.attr.xmlns
  if xmlns and xmlns ~= CLIENT then return end
  if xmlns then stanza.attr.xmlns = nil end
  for _, child in ipairs(stanza.tags) do forwarded.plain(child) end
end

function forwarded.put(parent, stanza)
  local copy = st.clone(stanza)
  copy.attr.xmlns = CLIENT
  return parent:tag("forwarded", { xmlns = NS }):add_child(copy):up()
end

function forwarded.take(parent, name)
  local envelope = parent:get_child("forwarded", NS)
  local stanza = envelope and #envelope.tags == 1 and envelope:get_child(name, CLIENT)
  if not stanza then return nil end
  stanza = st.clone(stanza)
  forwarded.plain(stanza)
  return stanza
end

return forwarded
