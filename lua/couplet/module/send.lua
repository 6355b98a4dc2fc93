-- SPDX-License-Identifier: MIT
-- module/send.lua: stanzas from a plugin. PLUGIN-API §3.5.

local api = {}

local function host_session(self)
  return require "couplet.prosody".hosts[self.host]
end

function api:send(stanza, origin)
  return require "couplet.router".core_post_stanza(origin or host_session(self), stanza)
end

-- Events that tell of the answer to an iq to `to` with this id, by who hears it.
local function answers(self, stanza, origin)
  local jid = require "couplet.jid"
  local from = stanza.attr.from or (origin and origin.full_jid) or self.host
  local node, _, resource = jid.split(from)
  local target = resource and "full" or node and "bare" or "host"
  return target
end

function api:send_iq(stanza, origin, timeout)
  local errors, promise, jid = require "couplet.errors", require "couplet.promise", require "couplet.jid"
  local attr = stanza.attr
  if stanza.name ~= "iq" then error("send_iq wants an iq", 2) end
  if attr.type ~= "get" and attr.type ~= "set" then error("send_iq wants type get or set", 2) end
  if not attr.id then attr.id = require "couplet.util.id".short() end
  if not attr.from then attr.from = origin and origin.full_jid or self.host end
  local id, to = attr.id, attr.to
  local target = answers(self, stanza, origin)
  local result_event, error_event = "iq-result/" .. target .. "/" .. id, "iq-error/" .. target .. "/" .. id
  local own_bare = jid.bare(attr.from)
  return promise.new(function(resolve, reject)
    local timer, on_result, on_error
    local function over()
      timer:stop()
      self:unhook(result_event, on_result)
      self:unhook(error_event, on_error)
      self._disown(self, "iq", on_result)
    end
    local function ours(reply)
      local from = reply.attr.from
      return from == to or to == nil and (from == nil or from == own_bare) or from == nil and to == own_bare
    end
    function on_result(event)
      if not ours(event.stanza) then return end
      over()
      resolve { origin = event.origin, stanza = event.stanza }
      return true
    end
    function on_error(event)
      if not ours(event.stanza) then return end
      over()
      reject(errors.from_stanza(event.stanza, event))
      return true
    end
    self:hook(result_event, on_result, 1)
    self:hook(error_event, on_error, 1)
    timer = self:add_timer(timeout or 120, function()
      over()
      reject(errors.new({ type = "wait", condition = "remote-server-timeout", text = "IQ stanza timed out" },
        { stanza = stanza }))
    end)
    self._own(self, "iq", on_result, function()
      reject(errors.new { type = "cancel", condition = "undefined-condition", text = "the plugin was unloaded" })
    end)
    self:send(stanza, origin)
  end)
end

function api:broadcast(jids, stanza, iter)
  local st = require "couplet.stanza"
  for a, b in (iter or ipairs)(jids) do
    local to = iter and a or b
    if type(to) ~= "string" then to = b end
    local copy = st.clone(stanza)
    copy.attr.to = to
    self:send(copy)
  end
end

return api
