-- SPDX-License-Identifier: MIT
-- pubsub/watch: what a service tells people besides of items: news of their subscriptions, requests that owners shall judge; and
-- what it hears of those who cannot be reached (XEP-0060 §8.6, §12.4, §12.14).
--
--   lib.watch(service, from, post)                from now on, as service.from; post(message, to) sends, service.post
--   lib.request_to_judge(service, node, who)      the message by which an owner allows a subscription or does not
--   lib.last_item(event, object, from, when)      a notification of what was published before (§6.1.7)
--   lib.note_sent(message, service, node)         a notification goes to subscribers: its errors will be known
--   lib.on_bounce(event, service) -> true | nil   an error came back

local budget = require "couplet.budget"
local datetime = require "util.datetime".datetime
local recent = require "couplet.recent"
local st = require "util.stanza"
local task = require "couplet.task"
local uuid = require "util.id".medium

local REMEMBERED = 10000                         -- notifications whose errors are known
local sent, note_sent = recent.new(REMEMBERED)   -- id -> { service's owner, node }

-- Whoever asks again and again is heard by owners now and then; what waits is there when they look (pubsub/pending).
local of_one, of_all = budget.new(5000, 5, 600), budget.new(5000, 60, 600)

local function may_ask(service, who)
  return of_one(service.from .. "\0" .. who) and of_all(service.from)
end

return function(lib)
  function lib.last_item(event, object, from, when)
    return lib.notification(event, object.config, from)
      :tag("delay", { xmlns = "urn:xmpp:delay", stamp = datetime(when), from = from }):up()
  end

  function lib.note_sent(message, service, node)
    if next(service.nodes[node] and service.nodes[node].subscribers or {}) then
      note_sent(message.attr.id, { service.user or true, node })
    end
  end

  -- Who is gone for good is no subscriber any more. Another server that cannot be reached now may be there tomorrow.
  function lib.on_bounce(event, service)
    local stanza = event.stanza
    local what = sent(stanza.attr.id)
    if not what or what[1] ~= (service.user or true) then return nil end
    local kind, condition = stanza:get_error()
    if condition == "gone" or kind == "cancel" and condition ~= "remote-server-not-found" then
      service:remove_subscription(what[2], true, stanza.attr.from)
    end
    return true
  end

  function lib.request_to_judge(service, node, who)
    return st.message { from = service.from, id = uuid() }
      :add_child(lib.forms.authorization:form { node = node, subscriber_jid = who })
  end

  function lib.watch(service, from, post)
    service.from, service.post = from, post
    local on = service.events.add_handler

    local function tell_owners(event, message)
      local told = {}
      for who, affiliation in pairs(event.object.affiliations) do
        if affiliation == "owner" then told[who] = true end
      end
      if service.owner then told[service.owner] = true end
      for who in pairs(told) do post(st.clone(message), who) end
    end

    local function changed(event, state)
      local message = st.message { from = from, id = uuid() }:tag("event", { xmlns = lib.EVENT })
        :tag("subscription", { node = event.node, jid = event.jid, subscription = state }):up():up()
      if event.object.config.notify_sub then tell_owners(event, message) end
      if event.actor == true or not service:jids_equal(event.actor, event.jid) then post(message, event.jid) end
    end

    on("subscription-added", function(event)
      changed(event, "subscribed")
      local object = event.object
      if object.config.send_last_published_item == "never" then return end
      task.spawn(function()
        local _, id, item, when = service:get_last_item(event.node, true)
        if not item or not lib.hears_now(service, object, event.jid) then return end
        post(lib.last_item(lib.event("items", event.node, item, id, object.config), object, from, when), event.jid)
      end)
    end)
    on("subscription-removed", function(event) changed(event, "none") end)
    on("subscription-requested", function(event)
      if may_ask(service, event.jid) then tell_owners(event, lib.request_to_judge(service, event.node, event.jid)) end
    end)

    -- Those who wait to be allowed hear of the end, too (§8.4.2).
    on("node-deleted", function(event)
      local object = event.object
      if not object.config.notify_delete then return end
      local gone, waiting = lib.event("delete", event.node, nil, nil, object.config, object.redirect), {}
      for who in pairs(object.pending) do waiting[#waiting + 1] = who end
      for _, who in ipairs(waiting) do post(lib.notification(st.clone(gone), object.config, from), who) end
    end)
  end
end
