-- SPDX-License-Identifier: MIT
-- stanza (util.stanza): build, read and change stanzas and elements. What is hot is C (core/bind/bind_stanza*.c); the rest is
-- here.

local core = require "couplet.core".stanza

local methods = core.stanza_mt
local new, is_stanza, clone = core.stanza, core.is_stanza, core.clone
local type_of = core.type

local XMLNS_STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"

-- Deeper is taken for an element inside itself.
local DEPTH_MAX = 512

local function check(s, depth)
  if not is_stanza(s) then error("bad argument: stanza expected, got " .. type(s), 3) end
  if depth and depth > DEPTH_MAX then error("element too deep, or inside itself", 3) end
  return s
end

-- --- kinds of stanzas -------------------------------------------------------------------------------------------------

local function message(attr, body)
  local s = new("message", attr)
  if body ~= nil then s:text_tag("body", body) end
  return s
end

local function iq(attr)
  if not (attr and attr.id and attr.type) then error("iq stanzas require id and type attributes", 2) end
  return new("iq", attr)
end

local function presence(attr)
  return new("presence", attr)
end

function methods.body(s, text, attr)
  return s:text_tag("body", text, attr)
end

function methods.query(s, ns)
  return s:tag("query", { xmlns = ns })
end

-- --- children -----------------------------------------------------------------------------------------------------------

function methods.get_child_with_attr(s, name, ns, attr, value, normalize)
  for child in s:childtags(name, ns) do
    local has = core.attr(child, attr)
    if has and normalize then has = normalize(has) end
    if has == value then return child end
  end
end

function methods.maptags(s, fn)
  local children, changed = {}, false
  for child in check(s):children() do
    local result = child
    if is_stanza(child) then
      result = fn(child)
      if result ~= child then changed = true end
    end
    if result ~= nil then children[#children + 1] = result end
  end
  if changed then core.replace(s, children) end
  return s
end

function methods.remove_children(s, name, ns)
  local doomed
  for child in check(s):childtags(name, ns) do
    doomed = doomed or {}
    doomed[child] = true
  end
  if not doomed then return s end
  return s:maptags(function(child)
    if not doomed[child] then return child end
  end)
end

-- --- errors -------------------------------------------------------------------------------------------------------------

function methods.get_error(s)
  local err = check(s):get_child("error")
  if not err then return nil end
  local condition, text, extra
  for child in err:children() do
    local xmlns = is_stanza(child) and (core.attr(child, "xmlns") or "")
    if xmlns == XMLNS_STANZAS and child.name == "text" then
      text = text or child:get_text()
    elseif xmlns == XMLNS_STANZAS then
      condition = condition or child.name
    elseif xmlns then
      extra = extra or child
    end
  end
  return core.attr(err, "type"), condition or "undefined-condition", text, extra
end

-- kind: the error's type, or an error object { type =, condition =, text =, extra =, context = { by = } }
function methods.add_error(s, kind, condition, text, by)
  check(s)
  local extra, tag
  if type_of(kind) == "table" then
    local err = kind
    kind, condition, text, extra = err.type, err.condition, err.text, err.extra
    if by == nil then by = err.by or type(err.context) == "table" and err.context.by or nil end
  end
  if is_stanza(by) then tag, by = by, nil end
  if by == core.attr(s, "from") then by = nil end
  extra = type(extra) == "table" and extra or {}
  s:tag("error", { type = kind or "cancel", by = by })
  condition = condition or "undefined-condition"
  local uri = (condition == "gone" or condition == "redirect") and extra.uri or nil
  s:text_tag(condition, uri, { xmlns = XMLNS_STANZAS })
  if text then s:text_tag("text", text, { xmlns = XMLNS_STANZAS }) end
  if is_stanza(extra.tag) then
    s:add_child(extra.tag)
  elseif extra.namespace and extra.condition then
    s:text_tag(extra.condition, nil, { xmlns = extra.namespace })
  end
  if tag then s:add_child(tag) end
  return s
end

local function reply(s)
  return core.reply(check(s))
end

local function error_reply(s, kind, condition, text, by)
  if core.attr(check(s), "type") == "error" then
    error("bad argument #1 to error_reply: a stanza of type error must not be answered", 2)
  end
  local answer = core.reply(s)
  core.set_attr(answer, "type", "error")
  return answer:add_error(kind, condition, text, by)
end

-- --- plain tables -------------------------------------------------------------------------------------------------------

local function preserialize(s, depth)
  depth = depth or 0
  local out, attr = { name = check(s, depth).name, attr = {} }, s.attr
  for name, value in pairs(attr) do out.attr[name] = value end
  for child in s:children() do
    out[#out + 1] = type(child) == "string" and child or preserialize(child, depth + 1)
  end
  return out
end

local function deserialize(t, depth)
  if t == nil or is_stanza(t) then return t end
  depth = depth or 0
  if depth > DEPTH_MAX then error("element too deep, or inside itself", 2) end
  local attr = {}
  for name, value in pairs(t.attr or attr) do
    if type(name) == "string" then
      local ns, own = name:match("^([^\1]*)|([^\1|]*)$")
      attr[ns and ns .. "\1" .. own or name] = value
    end
  end
  local s = new(t.name, attr)
  for _, child in ipairs(t) do
    s:add_direct_child(type(child) == "table" and deserialize(child, depth + 1) or child)
  end
  return s
end

-- --- for people ---------------------------------------------------------------------------------------------------------

-- A copy with line breaks and indentation between elements; text next to text stays as it is.
function methods.indent(s, level, unit, depth)
  level, unit, depth = level or 1, unit or "\t", depth or 0
  if #check(s, depth) == 0 or s:get_text() then return s end
  local out, inner = clone(s, true), "\n" .. unit:rep(level)
  for child in s:children() do
    if is_stanza(child) then
      out:add_direct_child(inner)
      out:add_direct_child(child:indent(level + 1, unit, depth + 1))
    elseif child:find("%S") then
      out:add_direct_child(inner)
      out:add_direct_child(child)
    end
  end
  out:add_direct_child("\n" .. unit:rep(level - 1))
  return out
end

function methods.pretty_print(s)
  return tostring(s:indent(1, "  "))
end

function methods.pretty_top_tag(s)
  return s:top_tag()
end

return {
  stanza = new, message = message, iq = iq, presence = presence,
  reply = reply, error_reply = error_reply,
  is_stanza = is_stanza, clone = clone, preserialize = preserialize, deserialize = deserialize,
  stanza_mt = methods, xml_escape = core.xml_escape, pretty_print = methods.pretty_print,
  xmlns_stanzas = XMLNS_STANZAS,
  -- For our own hot paths: no attribute view, no child handles.
  attr = core.attr, set_attr = core.set_attr, route = core.route, payload = core.payload, type = core.type,
}
