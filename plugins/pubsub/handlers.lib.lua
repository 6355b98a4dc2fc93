-- SPDX-License-Identifier: MIT
-- pubsub/handlers: what clients ask a service of publish-subscribe (XEP-0060 §5.6 to §8), turned into calls of its object.
-- Each handler: (event, service, action element, <pubsub/>) -> reply | nil, condition[, text]

local dataforms = require "util.dataforms"
local id = require "util.id"
local jid = require "util.jid"
local rsm = require "util.rsm"
local st = require "util.stanza"

local forms = module:require "pubsub/forms"

return function(lib)
  local NS, OWNER = lib.NS, lib.OWNER
  local handlers, owner = {}, {}

  local LIST_MAX = 5000                  -- of one's own affiliations in one answer

  local function actor_of(event) return event.stanza.attr.from end

  local function reply_with(event, child)
    local reply = st.reply(event.stanza)
    if child then reply:tag("pubsub", { xmlns = child.attr.xmlns == OWNER and OWNER or NS }):add_child(child) end
    return reply
  end

  local function element(name, attr, xmlns)
    attr = attr or {}
    attr.xmlns = xmlns or NS
    return st.stanza(name, attr)
  end

  local function node_of(action) local node = action.attr.node return node and node ~= "" and node or nil end

  -- A domain's service lists everybody's; §5.6, §5.7 want those of the one who asks.
  function handlers.get_subscriptions(event, service, action)
    local actor = actor_of(event)
    if not node_of(action) and not lib.may_walk(service, actor) then return nil, "asked-too-often" end
    local ok, list = service:get_subscriptions(node_of(action), actor, actor)
    if not ok then return nil, list end
    local out = element("subscriptions", { node = action.attr.node })
    for _, sub in ipairs(list) do
      out:tag("subscription", { node = not node_of(action) and sub.node or nil, jid = sub.jid, subscription = sub.state }):up()
    end
    return reply_with(event, out)
  end

  function handlers.get_affiliations(event, service, action)
    local actor, only = actor_of(event), node_of(action)
    local out, n = element("affiliations", { node = action.attr.node }), 0
    if only then
      local affiliation = service:get_affiliation(actor, only)
      if service.nodes[only] and affiliation ~= "none" then out:tag("affiliation", { affiliation = affiliation }) end
      return reply_with(event, out:reset())
    end
    if not lib.may_walk(service, actor) then return nil, "asked-too-often" end
    for name, affiliation in service:each_affiliation(actor) do
      out:tag("affiliation", { node = name, affiliation = affiliation }):up()
      n = n + 1
      if n >= LIST_MAX then break end
    end
    return reply_with(event, out)
  end

  -- Items ------------------------------------------------------------------------------------------------------------------

  local URI_BYTES = 1024
  local RUNS = { javascript = true, vbscript = true, data = true }       -- no place anybody could have moved to
  local PAGE_MAX = 1000                  -- items, and the bytes of an answer, so that nobody's client is drowned
  local PAGE_BYTES = 2 * 1024 * 1024

  local function page_of(action, pubsub)
    local set = pubsub:get_child("set", rsm.xmlns)
    local most = action.attr.max_items and math.tointeger(tonumber(action.attr.max_items, 10))
    if action.attr.max_items and (not most or most < 1) then return nil, "bad-request" end
    if not set then return { max = math.min(most or PAGE_MAX, PAGE_MAX), reverse = true, bytes = PAGE_BYTES } end
    local page = rsm.parse(set)
    if page.index then return nil, "feature-not-implemented" end
    return { max = math.min(page.max or PAGE_MAX, PAGE_MAX), after = page.after ~= "" and page.after or nil,
      before = page.before, forward = page.before == nil, count = true, rsm = true, bytes = PAGE_BYTES }
  end

  function handlers.get_items(event, service, action, pubsub)
    local node, wanted = node_of(action), nil
    if not node then return nil, "nodeid-required" end
    for item in action:childtags "item" do
      if not item.attr.id then return nil, "bad-request" end
      wanted = wanted or {}
      if not wanted[item.attr.id] then wanted[#wanted + 1], wanted[item.attr.id] = item.attr.id, true end        -- read once
      if #wanted > PAGE_MAX then return nil, "policy-violation" end
    end
    local page, condition = page_of(action, pubsub)
    if not page then return nil, condition end
    local ok, items = service:get_items(node, actor_of(event), wanted, page)
    if not ok then return nil, items end
    local out, bytes, n = element("items", { node = node }), 0, #items
    local first, last = 1, n
    if page.reverse and not wanted then                    -- the newest that fit
      first = n + 1
      while first > 1 and bytes < PAGE_BYTES do first, bytes = first - 1, bytes + items[items[first - 1]]:size() end
    else
      last = 0
      while last < n and bytes < PAGE_BYTES do last, bytes = last + 1, bytes + items[items[last + 1]]:size() end
    end
    for i = first, last do out:add_child(items[items[i]]) end
    local reply = reply_with(event, out)
    local cut = items.more or last - first + 1 < n or not wanted and not action.attr.max_items and n >= PAGE_MAX      -- §6.5.4
    if page.rsm and not wanted or cut then
      local all = math.tointeger(items.count)
      reply.tags[1]:add_direct_child(rsm.generate { first = items[first], last = items[last], count = all })
    end
    return reply
  end

  function handlers.set_publish(event, service, action, pubsub)
    local node = node_of(action)
    if not node then return nil, "nodeid-required" end
    local item, options = action:get_child "item", nil
    if #action.tags > 1 then return nil, "bad-request", "One item at a time, please" end
    if action.tags[1] and not item then return nil, "invalid-item" end
    local actor, object = actor_of(event), service.nodes[node]
    local refused = object and service:why_not(node, actor, "publish")   -- before anything is said of how the node is configured
    if refused then return nil, refused end
    local publish_options = pubsub:get_child "publish-options"
    if publish_options then
      local condition, text
      options, condition, text = forms.read_config(publish_options:get_child("x", "jabber:x:data"), "publish-options", true)
      if not options then return nil, condition, text end
    end
    local config = object and object.config or options and setmetatable(options, { __index = service.node_defaults })
      or service.node_defaults
    if not item and config.persist_items then return nil, "item-required" end
    if not item and config.deliver_payloads then return nil, "payload-required" end
    if item and not config.persist_items and not config.deliver_payloads then return nil, "item-forbidden" end
    if item and #item.tags > 1 then return nil, "invalid-payload" end
    if item and #item.tags == 0 and config.deliver_payloads then return nil, "payload-required" end
    item = item and st.clone(item)
    if item then
      item.attr.publisher = nil                            -- §7.1.2.3: nobody says himself who he is
      item.attr.id = item.attr.id ~= "" and item.attr.id or id.medium()
    end
    if module:fire_event(service.publish_event or "pubsub-publish-item", { actor = actor, node = node, item = item,
      id = item and item.attr.id, service = service, user = service.user, session = event.origin,
      publish_options = options }) == false then return nil, "forbidden" end
    if options then setmetatable(options, nil) end
    local ok, item_id = service:publish(node, actor, item and item.attr.id, item, options)
    if not ok then return nil, item_id end
    return reply_with(event, element("publish", { node = node }):tag("item", { id = item_id }):up())
  end

  local function yes(text) return text == "1" or text == "true" end

  function handlers.set_retract(event, service, action)
    local node, item = node_of(action), action:get_child "item"
    if not node then return nil, "nodeid-required" end
    if not item or not item.attr.id then return nil, "item-required" end
    if #action.tags > 1 then return nil, "bad-request", "One item at a time, please" end
    local object = service.nodes[node]
    local notify = action.attr.notify and yes(action.attr.notify) or object and object.config.notify_retract
    local ok, condition = service:retract(node, actor_of(event), item.attr.id, notify)
    if not ok then return nil, condition end
    return reply_with(event)
  end

  -- Subscribers ------------------------------------------------------------------------------------------------------------

  function handlers.set_subscribe(event, service, action, pubsub)
    local node, who = node_of(action), jid.prep(action.attr.jid)
    if not node then return nil, "nodeid-required" end
    if not action.attr.jid then return nil, "jid-required" end
    if not who then return nil, "invalid-jid" end
    local options, options_tag = nil, pubsub:get_child "options"
    if options_tag then
      if options_tag.attr.node or options_tag.attr.jid then return nil, "bad-request" end          -- §6.3.7
      options = forms.read_options(options_tag:get_child("x", "jabber:x:data"))
      if not options then return nil, "invalid-options" end
    end
    local ok, state = service:add_subscription(node, actor_of(event), who, options)
    if not ok then return nil, state end
    local reply = reply_with(event, element("subscription", { node = node, jid = who, subscription = state }))
    if options_tag then
      reply.tags[1]:add_direct_child(element "options":add_child(forms.options(options, lib.has_text(service, node), "result")))
    end
    return reply
  end

  function handlers.set_unsubscribe(event, service, action)
    local node, who = node_of(action), jid.prep(action.attr.jid)
    if not node then return nil, "nodeid-required" end
    if not who then return nil, action.attr.jid and "invalid-jid" or "jid-required" end
    local ok, condition = service:remove_subscription(node, actor_of(event), who)
    if not ok then return nil, condition == "not-subscribed" and "not-subscribed-yet" or condition end
    return reply_with(event)
  end

  local function options_request(event, service, action)
    local node, who = node_of(action), jid.prep(action.attr.jid)
    if not node then return nil, "nodeid-required" end
    if not who then return nil, action.attr.jid and "invalid-jid" or "jid-required" end
    local ok, options, state = service:get_subscription(node, actor_of(event), who)
    if not ok then return nil, options end
    if not options then return nil, "not-subscribed-yet" end
    return node, who, options, state
  end

  function handlers.get_options(event, service, action)
    local node, who, options = options_request(event, service, action)
    if not node then return nil, who, options end
    return reply_with(event, element("options", { node = node, jid = who })
      :add_child(forms.options(options, lib.has_text(service, node))))
  end

  function handlers.set_options(event, service, action)
    local node, who, text = options_request(event, service, action)
    if not node then return nil, who, text end
    local options = forms.read_options(action:get_child("x", "jabber:x:data"))
    if not options then return nil, "invalid-options" end
    local ok, condition = service:add_subscription(node, actor_of(event), who, options)
    if not ok then return nil, condition end
    return reply_with(event)
  end

  function handlers.get_default(event, service, action)
    local node = node_of(action)
    local condition = node and service:why_not(node, actor_of(event), "subscribe")
    if condition then return nil, condition end
    local form = forms.options(nil, not node or lib.has_text(service, node))
    return reply_with(event, element("default", { node = node }):add_child(form))
  end

  -- Owners -----------------------------------------------------------------------------------------------------------------

  function handlers.set_create(event, service, action, pubsub)
    local node, configure = node_of(action) or id.medium(), pubsub:get_child "configure"
    local config = {}
    local x = configure and configure:get_child("x", "jabber:x:data")
    if configure and configure.attr.node then return nil, "bad-request" end
    if x then
      local condition, text
      config, condition, text = forms.read_config(x, "node_config")
      if not config then return nil, condition, text end
    end
    local ok, condition = service:create(node, actor_of(event), config)
    if not ok then return nil, condition end
    return reply_with(event, element("create", { node = node }))
  end

  local layout
  local function config_form(service, config)
    layout = layout or forms.of_service(service.access_models)
    return layout:form(config, "form")
  end

  function owner.get_configure(event, service, action)
    local node = node_of(action)
    if not node then return nil, "nodeid-required" end
    local ok, config = service:get_node_config(node, actor_of(event))
    if not ok then return nil, config end
    return reply_with(event, element("configure", { node = node }, OWNER):add_child(config_form(service, config)))
  end

  function owner.set_configure(event, service, action)
    local node, x = node_of(action), action:get_child("x", "jabber:x:data")
    if not node then return nil, "nodeid-required" end
    local ok, config = service:get_node_config(node, actor_of(event))
    if not ok then return nil, config end
    if x and x.attr.type == "cancel" then return reply_with(event) end
    local new, condition, text = forms.read_config(x, "node_config")
    if not new then return nil, condition, text end
    ok, condition = service:set_node_config(node, actor_of(event), new)
    if not ok then return nil, condition end
    return reply_with(event)
  end

  function owner.get_default(event, service, action)
    if (action.attr.type or "leaf") ~= "leaf" then return nil, "collections-unsupported" end
    return reply_with(event, element("default", nil, OWNER):add_child(config_form(service, service.node_defaults)))
  end

  function owner.set_delete(event, service, action)
    local node, redirect = node_of(action), action:get_child "redirect"
    if not node then return nil, "nodeid-required" end
    local condition = service:why_not(node, actor_of(event), "delete")
    if condition then return nil, condition end
    local uri = redirect and redirect.attr.uri
    if redirect and not (uri and #uri <= URI_BYTES and uri:find "^%a[%w+.-]*:[^%c%s]+$"
      and not RUNS[uri:match "^[^:]*":lower()]) then
      return nil, "bad-request", "A URI of no more than a thousand bytes, please"
    end
    service.nodes[node].redirect = uri
    local ok
    ok, condition = service:delete(node, actor_of(event))
    if not ok then return nil, condition end
    return reply_with(event)
  end

  function owner.set_purge(event, service, action)
    local node = node_of(action)
    if not node then return nil, "nodeid-required" end
    local ok, condition = service:purge(node, actor_of(event), true)
    if not ok then return nil, condition end
    return reply_with(event)
  end

  function owner.get_subscriptions(event, service, action)
    local node = node_of(action)
    if not node then return nil, "nodeid-required" end
    local ok, list = service:get_subscriptions(node, actor_of(event))
    if not ok then return nil, list end
    local out = element("subscriptions", { node = node }, OWNER)
    for _, sub in ipairs(list) do
      if sub.state == "subscribed" then out:tag("subscription", { jid = sub.jid, subscription = sub.state }):up() end
    end
    return reply_with(event, out)
  end

  -- Each element changes on its own; those that could not are returned with what holds for them (§8.8.2.4, §8.9.2.4). Nobody
  -- may be named twice; an element that says nothing new changes nothing (§8.8.2.1).
  local function change_each(event, service, action, name, apply, current)
    local node = node_of(action)
    if not node then return nil, "nodeid-required" end
    local what = name == "subscription" and "subscribe_other" or "set_affiliation"
    local condition = service:why_not(node, actor_of(event), what)
    if condition then return nil, condition end
    local failed, named = element(name .. "s", { node = node }, OWNER), {}
    for tag in action:childtags(name) do
      local who = jid.prep(tag.attr.jid) or ""
      if named[who] then return nil, "bad-request", "Each address once, please" end
      named[who] = true
    end
    for tag in action:childtags(name) do
      local who, want = jid.prep(tag.attr.jid), tag.attr[name]
      if not who or want and not apply(node, who, want) then
        failed:tag(name, { jid = tag.attr.jid, [name] = who and current(node, who) or nil }):up()
      end
    end
    if #failed.tags == 0 then return reply_with(event) end
    return st.error_reply(event.stanza, "modify", "not-acceptable"):reset()
      :tag("pubsub", { xmlns = OWNER }):add_child(failed)
  end

  function owner.set_subscriptions(event, service, action)
    local actor = actor_of(event)
    return change_each(event, service, action, "subscription", function(node, who, want)
      if want == "none" then return (service:remove_subscription(node, actor, who)) end
      if want ~= "subscribed" then return false end
      if service:approve_subscription(node, actor, who, true) then return true end
      local _, _, state = service:get_subscription(node, true, who)
      if state == "subscribed" then return true end
      if service.may_enlist and not service:may_enlist(who) then return false end
      return (service:add_subscription(node, true, who))
    end, function(node, who)
      local _, _, state = service:get_subscription(node, true, who)
      return state or "none"
    end)
  end

  function owner.get_affiliations(event, service, action)
    local node = node_of(action)
    if not node then return nil, "nodeid-required" end
    local ok, all = service:get_affiliations(node, actor_of(event))
    if not ok then return nil, all end
    local out = element("affiliations", { node = node }, OWNER)
    for who, affiliation in pairs(all) do out:tag("affiliation", { jid = who, affiliation = affiliation }):up() end
    return reply_with(event, out)
  end

  function owner.set_affiliations(event, service, action)
    local actor = actor_of(event)
    return change_each(event, service, action, "affiliation", function(node, who, want)
      return (service:set_affiliation(node, actor, who, want))
    end, function(node, who) return service:get_affiliation(who, node) end)
  end

  -- A submitted form by which an owner allows or refuses a subscription (§8.6). -> true: it was one
  function lib.on_authorization(event, service)
    local x = event.stanza:get_child("x", "jabber:x:data")
    if not x or dataforms.get_type(x) ~= NS .. "#subscribe_authorization" or x.attr.type == "form" then return nil end
    local node, who, allow = forms.read_authorization(x)
    if node then service:approve_subscription(node, actor_of(event), who, allow) end
    return true
  end

  -- What may come along with an action, and after it (§6.3.7, §7.1.5, §8.1.3).
  local COMPANIONS = { create = "configure", subscribe = "options", publish = "publish-options" }

  -- -> the one action of a request; nil: there is none, or another one besides. What is no action is overlooked: old clients
  -- configure what they publish.
  local function action_of(pubsub, list, kind)
    local action, found = nil, {}
    for tag in pubsub:childtags(nil, pubsub.attr.xmlns) do
      if not action then
        action = tag
      elseif found[tag.name] or tag.name ~= COMPANIONS[action.name]
        and (list["get_" .. tag.name] or list["set_" .. tag.name]) then
        return nil
      end
      found[tag.name] = true
    end
    return action, action and list[kind .. "_" .. action.name]
  end

  return function(event, service)
    local origin, stanza = event.origin, event.stanza
    local pubsub = stanza.tags[1]
    local action, handler = action_of(pubsub, pubsub.attr.xmlns == OWNER and owner or handlers, stanza.attr.type)
    if not handler then
      origin.send(action and st.error_reply(stanza, "cancel", "feature-not-implemented")
        or st.error_reply(stanza, "modify", "bad-request"))
      return true
    end
    local reply, condition, text = nil, lib.hidden(event, service, action, pubsub.attr.xmlns == OWNER), nil
    if not condition then reply, condition, text = handler(event, service, action, pubsub) end
    origin.send(reply or lib.error_reply(stanza, condition, text))
    return true
  end
end
