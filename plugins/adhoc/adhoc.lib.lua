-- SPDX-License-Identifier: MIT
-- adhoc: what plugins that offer commands use (`module:require "adhoc"`): new(name, node, handler, permission), and how
-- mod_adhoc runs one step of a command (XEP-0050 §3).

local st = require "util.stanza"
local uuid = require "util.uuid".generate
local XMLNS = "http://jabber.org/protocol/commands"

local lib = {}

-- Sessions of commands with several steps, by id; bounded and forgotten after a while, so that nobody can fill them.
local LIMIT, AGE = 1000, 30 * 60
local states, count = {}, 0

local function forget_old(now)
  for id, kept in pairs(states) do
    if now - kept.time > AGE then states[id] = nil count = count - 1 end
  end
end

local function keep(id, command, jid, state)
  local now = os.time()
  if not states[id] then
    if count >= LIMIT then forget_old(now) end
    if count >= LIMIT then return false end
    count = count + 1
  end
  states[id] = { node = command.node, jid = jid, state = state, time = now }
  return true
end

local function drop(id)
  if states[id] then states[id] = nil count = count - 1 end
end

function lib.new(name, node, handler, permission)
  if not permission then error("adhoc.new() wants a permission: any, local_user, admin, global_admin or check", 2) end
  if permission == "user" then permission = "any" end
  return { name = name, node = node, handler = handler, cmdtag = lib.cmdtag, permission = permission }
end

function lib.cmdtag(command, status, sessionid, action)
  return st.stanza("command", { xmlns = XMLNS, node = command.node, status = status, sessionid = sessionid, action = action })
end

local ACTIONS = { prev = true, next = true, complete = true }

local function answer_to(command, answer, sessionid)
  local tag = command:cmdtag(answer.status or "completed", sessionid)
  for name, kind in pairs{ info = "info", warn = "warn", error = "error" } do
    local text = answer[name]
    if text then
      tag:text_tag("note", type(text) == "table" and (text.message or tostring(text)) or tostring(text), { type = kind })
    end
  end
  if answer.form then
    local form = answer.form
    tag:add_child(form.layout and form.layout:form(form.values) or form:form())
  end
  if answer.result then
    local result = answer.result
    if st.is_stanza(result) then tag:add_child(result)
    else tag:add_child(result.layout and result.layout:form(result.values, "result") or result:form(nil, "result")) end
  end
  if answer.other then tag:add_child(answer.other) end
  if answer.actions and tag.attr.status == "executing" then
    local actions = st.stanza("actions", { execute = answer.actions.default })
    for _, action in ipairs(answer.actions) do
      if ACTIONS[action] then actions:tag(action):up() end
    end
    tag:add_child(actions)
  end
  return tag
end

-- One step. -> the reply to send
function lib.handle_cmd(command, origin, stanza)
  local cmdtag = stanza.tags[1]
  local sessionid = cmdtag.attr.sessionid
  local kept
  if sessionid then
    kept = states[sessionid]
    if not kept or kept.node ~= command.node or kept.jid ~= stanza.attr.from then
      return st.error_reply(stanza, "modify", "bad-request"):tag("bad-sessionid", { xmlns = XMLNS }):up()
    end
  else
    sessionid = uuid()
  end
  local action = cmdtag.attr.action
  if action == nil or action == "execute" then action = "execute" end
  local known = action == "execute" or action == "cancel" or ACTIONS[action]
  if not known or action ~= "execute" and not kept then
    return st.error_reply(stanza, "modify", "bad-request"):tag(known and "bad-action" or "malformed-action",
      { xmlns = XMLNS }):up()
  end
  local data = { origin = origin, stanza = stanza, to = stanza.attr.to, from = stanza.attr.from, action = action,
    form = cmdtag:get_child("x", "jabber:x:data") }
  if action == "cancel" then
    drop(sessionid)
    return st.reply(stanza):add_child(command:cmdtag("canceled", sessionid))
  end
  local answer, state = command:handler(data, kept and kept.state)
  if not answer then answer = { status = "completed", error = { message = "The command failed" } } end
  local err = answer.error
  if type(err) == "table" and err.condition then                  -- not only a note: XEP-0133 §5 asks for error stanzas
    drop(sessionid)
    return st.error_reply(stanza, err.type or "cancel", err.condition, err.message)
  end
  if answer.status == "executing" and state ~= nil then
    if not keep(sessionid, command, stanza.attr.from, state) then
      return st.error_reply(stanza, "wait", "resource-constraint", "Too many commands are under way")
    end
  else
    drop(sessionid)
  end
  return st.reply(stanza):add_child(answer_to(command, answer, sessionid))
end

return lib
