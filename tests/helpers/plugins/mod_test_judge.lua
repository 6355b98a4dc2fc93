-- SPDX-License-Identifier: MIT
-- mod_test_judge: a slow judge of certificates, who has another opinion of victim.lab; and what the stream's own says meanwhile.

local task = require "couplet.task"

local stream

local function said(session)
  return ("%s %s"):format(session.cert_chain_status, session.cert_identity_status)
end

module:hook("s2s-check-certificate", function(event)
  local session = event.session
  if event.host ~= "victim.lab" or session.direction == "outgoing" then
    stream = session
    return
  end
  session.cert_chain_status, session.cert_identity_status = "invalid", "invalid"
  task.sleep(0.05)
  module:log("info", "of the stream: %s; of the claim: %s", said(stream), said(session))
  session.cert_chain_status, session.cert_identity_status = "valid", "valid"
  return true
end, 20)
