-- SPDX-License-Identifier: MIT
-- muc/hats: what people are in a room besides roles and affiliations (XEP-0317): owners and admins make hats and put them on
-- accounts, by commands of the room (XEP-0050); presence shows them. Adds methods to room_mt.
--
-- Data: _data.hats { [uri] = { title =, hue =? } }, the hats there are; affiliation data "hats" of each who has some:
-- { [uri] = { active = true, title =? } }: a plugin may put on others too, with a title of their own.

local count = require "util.iterators".count
local dataforms = require "util.dataforms"
local jid = require "util.jid"
local sha1 = require "util.hashes".sha1
local st = require "util.stanza"

local adhoc = module:require "adhoc"
local util = module:require "muc/util"

local NS, FORM, COMMANDS = "urn:xmpp:hats:0", "urn:xmpp:hats:commands", "http://jabber.org/protocol/commands"
local OLD = "xmpp:prosody.im/protocol/hats:1"              -- before there was a XEP
local HATS_MAX, WORN_MAX, URI_BYTES, TITLE_BYTES = 100, 16, 512, 128
local ranks = util.valid_affiliations

local namespaces = module.config.muc_hats_compat and { NS, OLD } or { NS }
for _, xmlns in ipairs { NS, OLD } do util.add_filtered_namespace(xmlns) end       -- nobody puts one on himself

local function sorted(map)
  local out = {}
  for key in pairs(map or {}) do out[#out + 1] = key end
  table.sort(out)
  return out
end

return function(room_mt)
  function room_mt:get_hats() return self._data.hats or {} end

  -- The hats of an account, in order: { { uri =, title =, hue = } }
  local function worn(self, bare)
    local known, out = self:get_hats(), {}
    local has = self:get_affiliation_data(bare, "hats")
    for _, uri in ipairs(sorted(has)) do
      local title = known[uri] and known[uri].title or has[uri].title
      if has[uri].active and title then out[#out + 1] = { uri = uri, title = title, hue = known[uri] and known[uri].hue } end
    end
    return out
  end

  module:hook("muc-build-occupant-presence", function(event)
    local list = event.stanza.attr.type == nil and worn(event.room, event.occupant.bare_jid)
    if not list or not list[1] then return end
    for _, xmlns in ipairs(namespaces) do
      event.stanza:tag("hats", { xmlns = xmlns })
      for _, hat in ipairs(list) do event.stanza:tag("hat", hat):up() end
      event.stanza:up()
    end
  end)

  module:hook("muc-disco#info", function(event)
    event.reply:tag("feature", { var = NS }):up():tag("feature", { var = COMMANDS }):up()
    local hats, text = event.room:get_hats(), {}
    for i, uri in ipairs(sorted(hats)) do text[i] = ("%s\0%s\0%s"):format(uri, hats[uri].title, hats[uri].hue or "") end
    if not text[1] then return end
    table.insert(event.form, { name = "hats#hash", type = "text-single", label = "Hats hash" })
    event.formdata["hats#hash"] = sha1(table.concat(text, "\0"), true)
  end)

  -- Keeps both lists, in one write; those whose hats have changed are shown anew. changed { [bare] = hats | false }.
  -- -> true | nil, type, condition
  local function keep(self, hats, changed)
    local before, before_worn = self._data.hats, {}
    self._data.hats = next(hats) and hats or nil
    for who, list in pairs(changed) do
      local data = self._affiliation_data[who]
      before_worn[who] = data or false
      local copy = {}
      for k, v in pairs(data or {}) do copy[k] = v end
      copy.hats = list and next(list) and list or nil
      self._affiliation_data[who] = next(copy) ~= nil and copy or nil
    end
    self:_recount_lists()
    if not self:save() then
      self._data.hats = before
      for who, data in pairs(before_worn) do self._affiliation_data[who] = data or nil end
      self:_recount_lists()
      return nil, "wait", "internal-server-error"
    end
    local seen = {}
    for _, occupant in self:each_occupant() do
      if changed[occupant.bare_jid] ~= nil then seen[#seen + 1] = occupant end
    end
    for _, occupant in ipairs(seen) do
      if self._occupants[occupant.nick] == occupant then self:publicise_occupant_status(occupant, util.x()) end
    end
    return true
  end

  local function wearing(self, uri)
    local out = {}
    for who, data in pairs(self._affiliation_data) do
      if data.hats and data.hats[uri] then out[who] = data.hats end
    end
    return out
  end

  local function without(map, key)
    local out = {}
    for k, v in pairs(map or {}) do out[k] = v end
    out[key] = nil
    return out
  end

  local function with(map, key, value)
    local out = without(map, key)
    out[key] = value
    return out
  end

  local function no(kind, condition, message) return { error = { type = kind, condition = condition, message = message } } end

  local function done(ok, kind, condition)
    if not ok then return no(kind, condition) end
    return { status = "completed" }
  end

  local function tell_configuration(self)
    self:broadcast(st.message { type = "groupchat", from = self.jid }:add_child(util.x(nil, { 104 })))
  end

  local steps = {}                             -- node -> fn(room, values) -> what adhoc wants

  function steps.create(self, values)
    local uri, title, hue = values["hats#uri"], values["hats#title"], values["hats#hue"]
    if hue == "" then hue = nil end
    local angle = tonumber(hue or 0)
    if not uri:find "^%a[%w+.-]*:%S+$" or #uri > URI_BYTES or #title > TITLE_BYTES or not title:find "%S" or not angle
      or not (angle >= 0 and angle <= 360) then
      return no("modify", "not-acceptable", "A title, an address (URI), and perhaps an angle of 0 to 360")
    end
    local hats = self:get_hats()
    if not hats[uri] and count(pairs(hats)) >= HATS_MAX then
      return no("wait", "resource-constraint", "There are too many hats")
    end
    local answer = done(keep(self, with(hats, uri, { title = title, hue = hue }), wearing(self, uri)))
    if not answer.error then tell_configuration(self) end
    return answer
  end

  function steps.destroy(self, values)
    local uri, changed = values["hats#uri"], {}
    if not self:get_hats()[uri] then return no("cancel", "item-not-found", "There is no such hat") end
    for who, hats in pairs(wearing(self, uri)) do changed[who] = without(hats, uri) end
    local answer = done(keep(self, without(self:get_hats(), uri), changed))
    if not answer.error then tell_configuration(self) end
    return answer
  end

  local function account(values)
    local who = jid.prep(values["hats#jid"] or "")
    return who and jid.node(who) and jid.bare(who)
  end

  function steps.assign(self, values)
    local uri, who = values["hats#uri"], account(values)
    if not who then return no("modify", "jid-malformed") end
    if not self:get_hats()[uri] then return no("cancel", "item-not-found", "There is no such hat") end
    local hats = self:get_affiliation_data(who, "hats")
    if count(pairs(hats or {})) >= WORN_MAX or self:list_bytes() >= self:max_list_bytes() or not self._affiliation_data[who]
      and count(pairs(self._affiliation_data)) >= 2 * self:max_affiliations() then
      return no("wait", "resource-constraint", "Too many hats")
    end
    return done(keep(self, self:get_hats(), { [who] = with(hats, uri, { active = true }) }))
  end

  function steps.unassign(self, values)
    local uri, who = values["hats#uri"], account(values)
    local hats = who and self:get_affiliation_data(who, "hats")
    if not hats or not hats[uri] then return no("cancel", "item-not-found", "Nobody of that address wears it") end
    return done(keep(self, self:get_hats(), { [who] = without(hats, uri) }))
  end

  local function table_of(title, vars, items)
    local x = st.stanza("x", { xmlns = "jabber:x:data", type = "result" }):text_tag("title", title):tag("reported")
    for _, var in ipairs(vars) do x:tag("field", { var = var }):up() end
    x:up()
    for _, item in ipairs(items) do
      x:tag("item")
      for _, var in ipairs(vars) do
        x:tag("field", { var = var })
        if item[var] then x:text_tag("value", item[var]) end
        x:up()
      end
      x:up()
    end
    return x
  end

  function steps.list(self)
    local items, hats = {}, self:get_hats()
    for i, uri in ipairs(sorted(hats)) do
      items[i] = { ["hats#title"] = hats[uri].title, ["hats#uri"] = uri, ["hats#hue"] = hats[uri].hue }
    end
    return { status = "completed", result = table_of("Hats List", { "hats#title", "hats#uri", "hats#hue" }, items) }
  end

  local ITEMS_MAX = 1000

  steps["list-assigned"] = function(self)
    local items = {}
    for _, who in ipairs(sorted(self._affiliation_data)) do
      for _, hat in ipairs(#items < ITEMS_MAX and worn(self, who) or {}) do
        items[#items + 1] = { ["hats#jid"] = who, ["hats#uri"] = hat.uri, ["hats#title"] = hat.title, ["hats#hue"] = hat.hue }
      end
    end
    return { status = "completed", result = table_of("Assigned Hats List", { "hats#jid", "hats#uri", "hats#title", "hats#hue" },
      items) }
  end

  -- The forms; which hat is a list where there are some to choose from, a text when it is read.
  local function layout(self, title, fields, show)
    local form = { title = title, { name = "FORM_TYPE", type = "hidden", value = FORM } }
    for _, name in ipairs(fields) do
      local field = { name = "hats#" .. name, type = name == "jid" and "jid-single" or "text-single", required = name ~= "hue",
        label = ({ jid = "User Address", uri = "Hat URI", title = "Hat Title", hue = "Hat Hue" })[name] }
      if show and name == "uri" and fields[1] ~= "title" then
        local hats = self:get_hats()
        field.type, field.label, field.options = "list-single", "The hat", {}
        for _, uri in ipairs(sorted(hats)) do
          table.insert(field.options, { value = uri, label = hats[uri].title })
        end
      end
      form[#form + 1] = field
    end
    return dataforms.new(form)
  end

  -- Commands -------------------------------------------------------------------------------------------------------------------

  local nodes, commands = {}, {}               -- in order; node -> command

  local function command(short, name, fields)
    local function handler(_, data)
      local self = module.environment.get_room_from_jid(jid.bare(data.to))
      if not fields then return steps[short](self) end
      if not data.form or data.form.attr.type ~= "submit" then
        return { status = "executing", form = { layout = layout(self, name, fields, true) },
          actions = { "complete", default = "complete" } }, true
      end
      local form = layout(self, name, fields)
      local unclear = util.unclear(data.form, form, FORM)
      if unclear then return no("modify", "bad-request", unclear) end
      local values, problems = form:data(data.form)
      if problems then return no("modify", "not-acceptable", select(2, next(problems))) end
      return steps[short](self, values)
    end
    local node = FORM .. ":" .. short
    nodes[#nodes + 1], commands[node] = node, { name = name, node = node, cmdtag = adhoc.cmdtag, handler = handler }
  end

  command("create", "Create or change a hat", { "title", "uri", "hue" })
  command("destroy", "Destroy a hat", { "uri" })
  command("list", "List hats")
  command("assign", "Assign a hat", { "jid", "uri" })
  command("unassign", "Remove a hat", { "jid", "uri" })
  command("list-assigned", "List assigned hats")

  -- The list of hats is for those inside, the rest for owners and admins.
  local function may(self, who, node)
    local affiliation = self:affiliation_of(who)
    return ranks[affiliation] >= ranks.admin or node == FORM .. ":list" and self:get_occupant_by_real_jid(who) ~= nil
  end

  function room_mt:handle_command(origin, stanza)
    local node = stanza.tags[1].attr.node
    if not commands[node] then
      origin.send(st.error_reply(stanza, "cancel", "item-not-found"))
    elseif not may(self, stanza.attr.from, node) then
      origin.send(st.error_reply(stanza, "auth", "forbidden"))
    elseif stanza.tags[1]:get_child("x", "jabber:x:data") and not util.may_change(self, jid.bare(stanza.attr.from)) then
      origin.send(st.error_reply(stanza, "wait", "policy-violation", "Enough changes for now"))
    else
      origin.send(adhoc.handle_cmd(commands[node], origin, stanza))
    end
    return true
  end

  function room_mt:list_commands(reply, who)
    for _, node in ipairs(nodes) do
      if may(self, who, node) then reply:tag("item", { jid = self.jid, node = node, name = commands[node].name }):up() end
    end
  end

  module:hook("muc-disco#info/" .. COMMANDS, function(event)
    event.reply:tag("identity", { category = "automation", type = "command-list", name = "Commands" }):up()
    event.exists = true
  end)
  for _, node in ipairs(nodes) do
    module:hook("muc-disco#info/" .. node, function(event)
      if not may(event.room, event.reply.attr.to, node) then return end
      event.reply:tag("identity", { category = "automation", type = "command-node", name = commands[node].name }):up()
        :tag("feature", { var = COMMANDS }):up():tag("feature", { var = "jabber:x:data" }):up()
      event.exists = true
    end)
  end
end
