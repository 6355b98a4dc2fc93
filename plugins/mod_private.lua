-- SPDX-License-Identifier: MIT
-- mod_private: a drawer for clients' own XML (XEP-0049). One element per name and namespace and user.

local recent = require "couplet.recent"
local st = require "util.stanza"

module:config{
  private_max_element_size = { type = "integer", default = 65536, min = 1024, doc = "bytes one element may have" },
  private_max_elements = { type = "integer", default = 200, min = 1, doc = "elements one user may keep" },
}
local max_size = module:get_option_integer("private_max_element_size", 65536, 1024)
local max_elements = module:get_option_integer("private_max_elements", 200, 1)

local private = module:open_store("private", "map")
local whole = module:open_store("private", "keyval")

module:add_feature("jabber:iq:private")

local count_of, note = recent.new(1000)                  -- elements of an account: the drawer is not emptied to count them

local function count(username)
  local n = count_of(username)
  if n then return n end
  local all, err = whole:get(username)
  if err then return nil, err end
  n = 0
  for _ in pairs(all or {}) do n = n + 1 end
  note(username, n)
  return n
end

-- -> the reply to send
local function handle(username, stanza)
  local query = stanza.tags[1]
  local tag = query.tags[1]
  if not tag then return st.error_reply(stanza, "modify", "bad-request") end
  if query.tags[2] or not tag.attr.xmlns or tag.attr.xmlns == "jabber:iq:private" then
    return st.error_reply(stanza, "modify", "not-acceptable", "One element with a namespace of its own, please")
  end
  local key = tag.name .. ":" .. tag.attr.xmlns
  if stanza.attr.type == "get" then
    local kept, err = private:get(username, key)
    if err then return st.error_reply(stanza, "wait", "internal-server-error") end
    return st.reply(stanza):query("jabber:iq:private"):add_child(kept and st.deserialize(kept) or st.clone(tag, true))
  end
  if #tostring(tag) > max_size then return st.error_reply(stanza, "modify", "not-acceptable", "The element is too large") end
  local value = #tag > 0 and st.preserialize(tag) or nil -- an empty element removes what was kept
  local n, err = count(username)
  local kept
  if n then kept, err = private:get(username, key) end
  if err then return st.error_reply(stanza, "wait", "internal-server-error") end
  if value and not kept then
    if (count_of(username) or n) >= max_elements then
      return st.error_reply(stanza, "wait", "resource-constraint", "Too many elements are kept already")
    end
    note(username, (count_of(username) or n) + 1)
  end
  local ok
  ok, err = private:set(username, key, value)
  if not ok or kept and not value then note(username, nil) end          -- counted anew
  if not ok then
    module:log("error", "cannot keep private XML of %s: %s", username, err)
    return st.error_reply(stanza, "wait", "internal-server-error")
  end
  return st.reply(stanza)
end

module:hook("iq/self/jabber:iq:private:query", function(event)
  event.origin.send(handle(event.origin.username, event.stanza))
  return true
end)

module:hook_global("user-deleted", function(event)
  if event.host == module.host then note(event.username, nil) end
end)
