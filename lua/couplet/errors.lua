-- SPDX-License-Identifier: MIT
-- errors.lua: errors as objects that know their stanza condition (util.error).
--
--   errors.new(e, context?, registry?, source?) -> error       e: a table { type, condition, text, code, extra }, a name in
--                                  the registry, a condition, an error object (returned as it is), or any text
--   errors.init(source, namespace?, registry) -> { new, coerce, wrap, registry }
--   errors.coerce(ok, err, ...) -> ok, ... | nil, error      errors.wrap(fn) -> fn with coerced results
--   errors.is_error(x) (is_err)
--   errors.from_stanza(stanza, context?, source?) -> error
--   errors.set_traceback(bool)
--
-- Fields: type condition text code extra context instance_id source. tostring: "error<type:condition:text>"... is the text.

local errors = {}

local error_mt = { __name = "error" }
error_mt.__index = {}

function error_mt.__tostring(self)
  return self.text or (self.condition and self.condition:gsub("%-", " ")) or "error"
end

-- type by RFC 6120 §8.3.3
local types = {
  ["bad-request"] = "modify", ["conflict"] = "cancel", ["feature-not-implemented"] = "cancel", ["forbidden"] = "auth",
  ["gone"] = "cancel", ["internal-server-error"] = "cancel", ["item-not-found"] = "cancel", ["jid-malformed"] = "modify",
  ["not-acceptable"] = "modify", ["not-allowed"] = "cancel", ["not-authorized"] = "auth", ["policy-violation"] = "modify",
  ["recipient-unavailable"] = "wait", ["redirect"] = "modify", ["registration-required"] = "auth",
  ["remote-server-not-found"] = "cancel", ["remote-server-timeout"] = "wait", ["resource-constraint"] = "wait",
  ["service-unavailable"] = "cancel", ["subscription-required"] = "auth", ["undefined-condition"] = "cancel",
  ["unexpected-request"] = "wait",
}
errors.types = types

local traced = false

function errors.set_traceback(on)
  traced = on
end
errors.configure = function(opt)
  if opt.auto_inject_traceback ~= nil then traced = opt.auto_inject_traceback end
end

local count = 0
local prefix

local function instance_id()
  prefix = prefix or ("%08x"):format(math.random(0, 0xffffffff))
  count = count + 1
  return prefix .. count
end

local function is_error(x)
  return getmetatable(x) == error_mt
end
errors.is_error, errors.is_err = is_error, is_error

local function new(e, context, registry, source)
  if is_error(e) then return e end
  local template
  if registry and e ~= nil then template = registry[e] end
  if template == nil then
    if type(e) == "table" then
      template = e
    elseif type(e) == "string" and types[e] then
      template = { condition = e }
    else
      template = { text = e ~= nil and tostring(e) or nil }
    end
  end
  context = context or {}
  if traced then
    local with = {}
    for k, v in pairs(context) do with[k] = v end
    with.traceback = with.traceback or debug.traceback("error stack", 2)
    context = with
  end
  local condition = template.condition or "undefined-condition"
  return setmetatable({
    type = template.type or types[condition] or "cancel",
    condition = condition,
    text = template.text,
    code = template.code,
    extra = template.extra,
    context = context,
    instance_id = context.error_instance_id or context.id or instance_id(),
    source = source or template.source,
  }, error_mt)
end

function errors.new(e, context, registry, source)
  return new(e, context, registry, source)
end

-- A registry in the short form: { name = { type, condition, text, extra } } with positions.
local function expand(namespace, registry)
  local out = {}
  for name, t in pairs(registry) do
    if t[1] ~= nil then
      t = { type = t[1], condition = t[2], text = t[3],
        extra = t[4] or (namespace and { namespace = namespace, condition = name }) or nil }
      if namespace and t.extra and not t.extra.namespace then t.extra.namespace = namespace end
      if namespace and t.extra and not t.extra.condition then t.extra.condition = name end
    end
    out[name] = t
  end
  return out
end

function errors.init(source, namespace, registry)
  if type(namespace) == "table" then namespace, registry = nil, namespace end
  registry = expand(namespace, registry or {})
  local function make(e, context) return new(e, context, registry, source) end
  local function coerce(ok, err, ...)
    if ok then return ok, err, ... end
    if is_error(err) then return ok, err, ... end
    return nil, make(err)
  end
  return {
    source = source,
    registry = registry,
    new = make,
    coerce = coerce,
    wrap = function(fn, ...)
      if type(fn) == "function" then return function(...) return coerce(fn(...)) end end
      return coerce(fn, ...)
    end,
    is_error = is_error,
  }
end

function errors.coerce(ok, err, ...)
  if ok or is_error(err) then return ok, err, ... end
  return nil, new({ type = "cancel", condition = types[err] and err or "undefined-condition",
    text = err ~= nil and tostring(err) or nil, extra = err ~= nil and { native = err } or nil }), ...
end

function errors.wrap(fn)
  return function(...) return errors.coerce(fn(...)) end
end

function errors.from_stanza(stanza, context, source)
  local kind, condition, text, extra_tag = stanza:get_error()
  local err = stanza:get_child "error"
  local fields = { type = kind or "cancel", condition = condition or "undefined-condition", text = text }
  if err then
    local uri
    if condition == "gone" or condition == "redirect" then
      uri = err:get_child_text(condition, "urn:ietf:params:xml:ns:xmpp-stanzas")
    end
    if extra_tag or uri then
      fields.extra = { tag = extra_tag, uri = uri }
      if extra_tag then fields.extra.namespace, fields.extra.condition = extra_tag.attr.xmlns, extra_tag.name end
    end
    source = source or err.attr.by
  end
  local with = { stanza = stanza }
  for k, v in pairs(context or {}) do with[k] = v end
  with.by = err and err.attr.by or stanza.attr.from
  return new(fields, with, nil, source or stanza.attr.from)
end

errors.new_error = errors.new

return errors
