-- SPDX-License-Identifier: MIT
-- pubsub/forms: the forms of a node's configuration, of its metadata and of subscription options (XEP-0060 §16.4).
--
--   forms.config         dataform; names of fields are keys of a node's configuration
--   forms.of_service(models) -> dataform without the access models that service has not; models { name = true, … }
--   forms.read_config(x, form_type, defaults?) -> config | nil, condition, text      what a submitted form sets, checked
--   forms.told(config) -> <x/> for subscribers        forms.metadata(values) -> <x/>
--   forms.options(options, has_text, type?) -> <x/> of a subscription;  forms.read_options(x) -> table | nil
--   forms.authorization  dataform by which owners allow subscriptions (§8.6);  forms.read_authorization(x) -> node, who, allow

local dataforms = require "util.dataforms"

local NS = "http://jabber.org/protocol/pubsub"

local forms = {}

local function field(kind, name, label, more)
  local f = { type = kind, name = name, var = "pubsub#" .. (more and more.var or name), label = label }
  for k, v in pairs(more or {}) do if k ~= "var" then f[k] = v end end
  return f
end

local function form_type(name) return { name = "FORM_TYPE", type = "hidden", value = NS .. "#" .. name } end

local MODELS = {
  { label = "Anybody", value = "open" },
  { label = "Those who see the owner's presence", value = "presence" },
  { label = "Those in some groups of the owner's contact list", value = "roster" },
  { label = "Those an owner has allowed", value = "authorize" },
  { label = "Those an owner has named", value = "whitelist" },
}

forms.config = dataforms.new {
  title = "Node configuration",
  form_type "node_config",
  field("list-single", "node_type", "Kind of node", { options = { { label = "Of items", value = "leaf" } } }),
  field("text-single", "title", "Title"),
  field("text-single", "description", "Description"),
  field("text-single", "payload_type", "Namespace of the payload", { var = "type" }),
  field("text-single", "language", "Language"),
  field("jid-multi", "contact", "Whom to ask about the node"),
  field("list-single", "access_model", "Who may subscribe and retrieve items", { options = MODELS }),
  field("list-multi", "roster_groups_allowed", "Groups of contacts who may"),
  field("list-single", "publish_model", "Who may publish", { options = {
    { label = "Publishers", value = "publishers" }, { label = "Subscribers", value = "subscribers" },
    { label = "Anybody", value = "open" } } }),
  field("text-single", "max_items", "Items kept at most", { datatype = "pubsub:integer-or-max" }),
  field("text-single", "item_expire", "Seconds after which items go", { datatype = "pubsub:integer-or-max" }),
  field("text-single", "max_payload_size", "Bytes a payload may have", { datatype = "xs:positiveInteger" }),
  field("boolean", "persist_items", "Keep items"),
  field("list-single", "publish_node_full", "When there is no room for one more item", { options = {
    { label = "The oldest goes", value = "retract-oldest" }, { label = "The oldest goes in silence", value = "discard-oldest" },
    { label = "It is refused", value = "reject" } } }),
  field("boolean", "subscribe", "Let people subscribe"),
  field("boolean", "deliver_notifications", "Send notifications"),
  field("boolean", "deliver_payloads", "Send payloads with them"),
  field("boolean", "notify_config", "Tell subscribers when the configuration changes"),
  field("boolean", "notify_delete", "Tell subscribers when the node is deleted"),
  field("boolean", "notify_retract", "Tell subscribers when items are removed"),
  field("boolean", "notify_sub", "Tell owners of new subscribers"),
  field("list-single", "notification_type", "Type of the messages", { options = { "normal", "headline" } }),
  field("list-single", "send_last_published_item", "When to send the last item", { options = {
    { label = "Never", value = "never" }, { label = "To new subscribers", value = "on_sub" },
    { label = "To new subscribers, and when they come online", value = "on_sub_and_presence" } } }),
  field("boolean", "presence_based_delivery", "Notify only those who are online"),
  field("boolean", "tempsub", "Subscriptions end when the subscriber goes offline"),
  field("boolean", "purge_offline", "Items go when who has published them goes offline"),
  field("text-single", "body_xslt", "URL of an XSL transformation that makes a text of a payload"),
  field("text-single", "dataform_xslt", "URL of an XSL transformation that makes a form of a payload"),
  field("list-single", "itemreply", "Whom replies go to", { options = {
    { label = "The owner", value = "owner" }, { label = "The publisher, who is named with the item", value = "publisher" },
    { label = "Nobody", value = "none" } } }),
}

-- What a service shows of it: no access model that it does not have.
function forms.of_service(models)
  local out = { title = forms.config.title }
  for _, f in ipairs(forms.config) do
    if f.name == "access_model" then
      local options = {}
      for _, model in ipairs(MODELS) do if models[model.value] then options[#options + 1] = model end end
      out[#out + 1] = field(f.type, f.name, f.label, { options = options })
    elseif f.name ~= "roster_groups_allowed" or models.roster then
      out[#out + 1] = f
    end
  end
  return dataforms.new(out)
end

-- What subscribers are told when it changes (§8.2.5): the names of an owner's groups of contacts are his own business.
function forms.told(values)
  return forms.config:form(setmetatable({ roster_groups_allowed = {} }, { __index = values }), "result")
end

local by_name = {}
for _, f in ipairs(forms.config) do by_name[f.name] = f end

local function one_of(f, value)
  for _, option in ipairs(f.options) do
    if (type(option) == "table" and option.value or option) == value then return true end
  end
  return false
end

-- A number, or "max": as much as the server allows.
local function integer_or_max(text)
  if text == "max" then return text end
  local n = math.tointeger(tonumber(text, 10))
  return n and n >= 0 and n or nil
end

local UNSUPPORTED = { access_model = "unsupported-access-model", node_type = "collections-unsupported" }
local TEXT_BYTES = 2048                  -- of one field, all its values together

-- complete: unknown fields are an error (publish options are preconditions, and each must be understood, §7.1.5).
function forms.read_config(x, kind, complete)
  if not x or x.attr.type ~= "submit" then return nil, "bad-request", "A form that is submitted, please" end
  local form = dataforms.get_type(x)
  if form and form ~= NS .. "#" .. kind then return nil, "bad-request", "This is another form" end
  local clear, which = forms.config:unambiguous(x)
  if not clear then return nil, "bad-request", which .. " says more than one thing" end
  if complete then
    if not form then return nil, "bad-request", "The form has no FORM_TYPE" end
    for tag in x:childtags "field" do
      local known = tag.attr.var == "FORM_TYPE"
      for _, f in ipairs(forms.config) do known = known or f.var ~= nil and f.var == tag.attr.var end
      if not known then return nil, "precondition-not-met" end
    end
  end
  local values, problems = forms.config:data(x)
  if problems then
    local name, text = next(problems)
    return nil, "not-acceptable", name .. ": " .. text
  end
  values.FORM_TYPE = nil
  for name, value in pairs(values) do
    local f = by_name[name]
    if f.datatype == "pubsub:integer-or-max" then
      values[name] = integer_or_max(value)
      if values[name] == nil then return nil, "not-acceptable", name .. " is a number or max" end
    elseif f.options and not one_of(f, value) then
      return nil, UNSUPPORTED[name] or "not-acceptable", name .. ": not one of those offered"
    elseif #(type(value) == "table" and table.concat(value, "\n") or type(value) == "string" and value or "") > TEXT_BYTES then
      return nil, "not-acceptable", name .. " is too long"
    end
  end
  return values
end

local metadata = dataforms.new {
  form_type "meta-data",
  field("text-single", "title"), field("text-single", "description"), field("text-single", "payload_type", nil, { var = "type" }),
  field("text-single", "language"), field("jid-multi", "contact"), field("text-single", "access_model"),
  field("text-single", "publish_model"), field("text-single", "max_items"), field("jid-multi", "owner"),
  field("jid-multi", "publisher"), field("text-single", "num_subscribers"), field("text-single", "creation_date"),
  field("jid-single", "creator"),
}

function forms.metadata(values)
  local shown = {}
  for k, v in pairs(values) do
    if v ~= "" and not (type(v) == "table" and not v[1]) then shown[k] = v end
  end
  return metadata:form(shown, "result")
end

local deliver = field("boolean", "deliver", "Send notifications", { value = true })
local include_body = field("boolean", "include_body", "With a text for people who have no client for the payload",
  { value = false })
local head = form_type "subscribe_options"
local every_option = dataforms.new { title = "Subscription options", head, deliver, include_body }
local without_text = dataforms.new { title = "Subscription options", head, deliver }

-- A text is offered only where there is one (§12.8).
function forms.options(options, has_text, kind)
  options = type(options) == "table" and options or {}
  return (has_text and every_option or without_text):form({ deliver = options["pubsub#deliver"],
    include_body = options["pubsub#include_body"] }, kind)
end

function forms.read_options(x)
  if not x or x.attr.type ~= "submit" then return nil end
  local form = dataforms.get_type(x)
  if form and form ~= head.value or not every_option:unambiguous(x) then return nil end
  local values, problems = every_option:data(x)
  if problems then return nil end
  return { ["pubsub#deliver"] = values.deliver, ["pubsub#include_body"] = values.include_body }
end

forms.authorization = dataforms.new {
  title = "Subscription request",
  form_type "subscribe_authorization",
  field("text-single", "node", "Node"),
  field("jid-single", "subscriber_jid", "Who asks"),
  field("boolean", "allow", "Allow it?", { value = false }),
}

-- -> node, who, allow | nil: nothing that an owner could have meant
function forms.read_authorization(x)
  if x.attr.type ~= "submit" or not forms.authorization:unambiguous(x) then return nil end
  local values, problems = forms.authorization:data(x)
  if problems or not values.node or not values.subscriber_jid or values.allow == nil then return nil end
  return values.node, values.subscriber_jid, values.allow
end

return forms
