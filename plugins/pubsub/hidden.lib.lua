-- SPDX-License-Identifier: MIT
-- pubsub/hidden: what a stranger hears of an account's nodes. Whether there is such a node, and such an account, is nobody's
-- business who neither sees the owner's presence nor may read the node: he hears the same of nodes that are there and of those
-- that are not, and it is what the nodes of most accounts would say to him (XEP-0060 §6.1.3.1, §6.5.9.5).
--
--   lib.hidden(event, service, action, owner) -> condition | nil         owner: a request of the namespace for owners
-- service.knows(service, who) -> bool: does he see the owner's presence? Services without it have nothing to hide.

local FORBIDDEN = { set_publish = true, set_retract = true }
local READS = { get_items = true, get_default = true, set_subscribe = true }
local NOT_SUBSCRIBED = { get_options = true, set_options = true, set_unsubscribe = true }

return function(lib)
  -- May he know of it? A node that must be asked for is there for those who ask (§6.1.3.7).
  local function shown(service, object, who)
    local affiliation = service:get_affiliation(who, object.name)
    return affiliation ~= "none" and affiliation ~= "outcast" or object.config.access_model == "authorize"
      or service:may_hear(object, who) or service:subscribes(object, service:normalize(who))
  end

  function lib.hidden(event, service, action, owner)
    local node, who = action.attr.node, event.stanza.attr.from
    if not service.knows or not node or action.name == "create" or service:knows(who) then return nil end
    local object, what = service.nodes[node], event.stanza.attr.type .. "_" .. action.name
    if object and (shown(service, object, who) or what == "set_publish" and service:may(node, who, "publish")) then return nil end
    if owner or FORBIDDEN[what] then return "forbidden" end
    if READS[what] then return "presence-subscription-required" end
    if NOT_SUBSCRIBED[what] then return "not-subscribed-yet" end
    return what == "get_subscriptions" and "item-not-found" or nil
  end
end
