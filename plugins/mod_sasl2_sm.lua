-- SPDX-License-Identifier: MIT
-- mod_sasl2_sm: a stream is resumed along with authentication, or stream management switched on along with binding (XEP-0198 §10,
-- "SASL2 and BIND2 interaction").

local SM = "urn:xmpp:sm:3"

local smacks = module:depends "smacks"

module:hook("advertise-sasl-features", function(event) event.features:tag("sm", { xmlns = SM }):up() end)
module:hook("advertise-bind-features", function(event) event.features:tag("feature", { var = SM }):up() end)

-- Before a resource is bound: a resumed session has one. If it cannot be resumed, binding goes on.
module:hook("sasl2/c2s/success", function(event)
  local session = event.session
  local request = event.stanza:get_child("resume", SM)
  if not request then return end
  local result, err = smacks.do_resume(session, request)
  if not result then
    if session.destroyed then return true end
    event.success:add_child(smacks.failed(err, SM))
    return
  end
  local resumed = result.session
  resumed.client_id, resumed.client_software, resumed.client_device =
    session.client_id, session.client_software, session.client_device
  event.session, event.resumed, event.complete = resumed, true, result.finish
  event.success:add_child(result.element)
end, 110)

module:hook("enable-bind-features", function(event)
  local request = event.request:get_child("enable", SM)
  if not request then return end
  local result, err = smacks.do_enable(event.session, request)
  event.result:add_child(result and result.element or smacks.failed(err, SM))
end)
