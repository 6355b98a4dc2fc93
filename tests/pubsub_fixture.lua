-- SPDX-License-Identifier: MIT
-- pubsub_fixture.lua: requests to a service of publish-subscribe and what comes back in short, for tests with rows.
--
--   local pubsub = require "pubsub_fixture"             NS, SERVICE: the namespace, the address of the service
--   pubsub.ask(client, type, inside, owner?, to?) -> iq      inside: of <pubsub/>, or a whole <query/> or <command/>
--   pubsub.result(iq) -> "ok" | "type condition", and the condition of XEP-0060 and the feature that is missing
--   pubsub.field(name, value…) -> text of a field of a form

local pubsub = { NS = "http://jabber.org/protocol/pubsub", SERVICE = "pubsub.example.org" }

local serial = 0
function pubsub.ask(client, kind, inner, owner, to)
  serial = serial + 1
  local id = "q" .. serial
  if not inner:find("^<query") and not inner:find("^<command") then
    inner = ("<pubsub xmlns='%s%s'>%s</pubsub>"):format(pubsub.NS, owner and "#owner" or "", inner)
  end
  client:send(("<iq type='%s' id='%s' to='%s'>%s</iq>"):format(kind, id, to or pubsub.SERVICE, inner))
  return client:expect { name = "iq", id = id }
end

function pubsub.result(reply)
  if reply.attr.type == "result" then return "ok" end
  local kind, condition, _, extra = reply:get_error()
  local feature = extra and extra.attr.feature
  return ("%s %s%s%s"):format(kind, condition, extra and " " .. extra.name or "", feature and " " .. feature or "")
end

function pubsub.field(name, ...)
  local out = {}
  for i, value in ipairs { ... } do out[i] = "<value>" .. value .. "</value>" end
  return ("<field var='pubsub#%s'>%s</field>"):format(name, table.concat(out))
end

return pubsub
