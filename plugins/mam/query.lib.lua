-- SPDX-License-Identifier: MIT
-- mod_mam/query: what may be asked of an archive, and the answer (XEP-0313 §4, §5; XEP-0059). For accounts, and for rooms.
--
--   query.form() -> <query/> with the form
--   query.parse(element, most) -> q | nil, type, condition, text
--   query.run(store, owner, q, self) -> page | nil, type, condition, text      self: bare address of the archive
--   query.answer(event, page, q, from)          sends the results and the final iq
--   query.metadata(store, owner) -> <metadata/> | nil, err
--
-- A page is found by key, with one item more than wanted, which tells whether it is the last: the ten thousandth costs what the
-- first costs. Items are counted only if asked for (max = 0, mam_include_total), or when all of them are on the page anyway.
-- Resources have no index: a query that names one ends after SCAN_MAX items with what was found, be it nothing, and its
-- <first/> or <last/> is the item it ended with, from which the next one goes on. So long an archive's are not counted.

local client_session = require "couplet.client_session"
local dataforms = require "couplet.util.dataforms"
local datetime = require "couplet.util.datetime"
local jid = require "couplet.jid"
local rsm = require "couplet.util.rsm"
local st = require "couplet.stanza"
local parse_xml = require "couplet.util.xml".parse

local XMLNS = "urn:xmpp:mam:2"
local IDS_MAX = 200                            -- in one query
local QUERYID_BYTES = 1024                     -- it comes back with each result
local SCAN, SCAN_MAX = 200, 5000               -- items read at a time when looking for one resource, and in one query
local PIECE = 65536                            -- bytes sent between two looks at the connection

local query = { xmlns = XMLNS }

local form = dataforms.new {
  { name = "FORM_TYPE", type = "hidden", value = XMLNS },
  { name = "with", type = "jid-single" },
  { name = "start", type = "text-single" },
  { name = "end", type = "text-single" },
  { name = "before-id", type = "text-single" },
  { name = "after-id", type = "text-single" },
  { name = "ids", type = "list-multi" },
  { name = "include-groupchat", type = "boolean" },
}
local FIELDS = {}
for _, field in ipairs(form) do FIELDS[field.name] = true end

function query.form()
  local x = form:form()
  for field in x:childtags "field" do
    if field.attr.var == "ids" then            -- any id, not one of a list (XEP-0122)
      field:add_direct_child(st.stanza("validate",
        { xmlns = "http://jabber.org/protocol/xdata-validate", datatype = "xs:string" }):tag("open"):up())
    end
  end
  return st.stanza("query", { xmlns = XMLNS }):add_child(x)
end

--- The question

local function bad(text) return nil, "modify", "bad-request", text end

local function parse_form(q, x)
  if dataforms.get_type(x) ~= XMLNS then return bad "The form is not one of urn:xmpp:mam:2" end
  for field in x:childtags "field" do
    if field.attr.var and not FIELDS[field.attr.var] then
      return nil, "cancel", "feature-not-implemented", "No such field: " .. field.attr.var:sub(1, 64)
    end
  end
  local clear, which = form:unambiguous(x)
  if not clear then return bad(which .. " says more than one thing") end
  local data, errors = form:data(x)
  if errors then return bad(select(2, next(errors))) end
  for _, name in ipairs { "start", "end" } do
    if data[name] then
      q[name] = datetime.parse(data[name])
      if not q[name] then return bad("Not a timestamp: " .. name) end
    end
  end
  q.with, q.before_id, q.after_id = data.with, data["before-id"], data["after-id"]
  if data.ids then
    local seen = {}
    q.ids = {}
    for _, id in ipairs(data.ids) do
      if not seen[id] then q.ids[#q.ids + 1] = id end
      seen[id] = true
    end
    if #q.ids > IDS_MAX then return nil, "modify", "resource-constraint", ("At most %d ids at once"):format(IDS_MAX) end
  end
  return true
end

local function parse_set(q, set, most)
  for name in pairs { max = true, index = true } do
    local text = set:get_child_text(name)
    if text and not (text:find "^%d+$" and #text < 16) then return bad(name .. " is no number") end
  end
  local page = rsm.parse(set)
  if page.index then return nil, "cancel", "feature-not-implemented", "Pages are found by id, not by number" end
  q.limit = math.min(page.max or most, most)
  q.reverse = page.before ~= nil
  if page.before and page.before ~= true then q.before = page.before end
  if page.after and page.after ~= "" then q.after = page.after end
  return true
end

function query.parse(element, most)
  if #(element.attr.queryid or "") > QUERYID_BYTES then
    return nil, "modify", "policy-violation", ("A queryid has at most %d bytes"):format(QUERYID_BYTES)
  end
  local q = { limit = most, id = element.attr.queryid, flip = element:get_child "flip-page" ~= nil }
  local x, set = element:get_child("x", "jabber:x:data"), element:get_child("set", rsm.xmlns)
  for _, part in ipairs { { parse_form, x }, { parse_set, set } } do
    if part[2] then
      local ok, kind, condition, text = part[1](q, part[2], most)
      if not ok then return nil, kind, condition, text end
    end
  end
  return q
end

--- The page

local NOT_FOUND = { nil, "cancel", "item-not-found", "There is no such message in the archive" }
local function not_found() return table.unpack(NOT_FOUND, 1, 4) end

local function failed(err)
  if err == "item-not-found" then return not_found() end
  return nil, "wait", "internal-server-error", "The archive cannot be read"
end

-- All of them must be there (XEP-0313 §4.1.3). -> true | nil, error
local function all_there(store, owner, ids)
  local iterate, err = store:find(owner, { ids = ids, raw = true })
  if not iterate then return failed(err) end
  local n = 0
  for _ in iterate do n = n + 1 end
  if n < #ids then return not_found() end
  return true
end

-- The tighter of the form's bound and the page's, both of which must be there. Ids of one length are in order.
local function bound(store, owner, paged, given, later)
  if not (paged and given) or paged == given then return true, paged or given end
  local tighter, other = paged, given
  if #paged == #given and later ~= (paged > given) then tighter, other = given, paged end
  local found, err = store:get(owner, other)
  if found == nil then return failed(err or "item-not-found") end
  return true, tighter
end

local function top_of(value)
  if type(value) == "string" then
    local top = value:match "^<[^>]*>"
    return top:match " from='([^']*)'", top:match " to='([^']*)'"
  end
  return value.attr.from, value.attr.to
end

-- Does the item belong to a conversation with exactly this resource? `escaped`: the address as it stands in XML.
local function is_with(value, address, escaped)
  local from, to = top_of(value)
  local wanted = type(value) == "string" and escaped or address
  return from == wanted or to == wanted
end

-- Items of a range until there are `limit`; with a resource in `with`, those of the account are gone through in portions.
-- only_count: they are not kept; -> how many. -> items, nil, the id it ended with if it was not to look at more
local function collect(store, owner, range, limit, resource, only_count)
  local items, count, looked = {}, 0, 0
  local escaped = resource and st.xml_escape(resource)
  range.limit = resource and SCAN or limit
  repeat
    local iterate, err = store:find(owner, range)
    if not iterate then return nil, err end
    local n, last = 0, nil
    for id, value, when in iterate do
      if #items >= limit then break end
      n, last = n + 1, id
      if not resource or is_with(value, resource, escaped) then
        count = count + 1
        if not only_count then items[#items + 1] = { id = id, value = value, when = when } end
      end
    end
    if not resource or n < SCAN then return only_count and count or items end
    if range.reverse then range.before = last else range.after = last end
    looked = looked + n
    if looked >= SCAN_MAX and #items < limit then return not only_count and items or nil, nil, last end
  until #items >= limit
  return items
end

local function total_of(store, owner, range, resource)
  if resource then
    return collect(store, owner, { with = range.with, start = range.start, ["end"] = range["end"],
      after = range.after, before = range.before, raw = true }, math.maxinteger, resource, true)
  end
  local iterate, total = store:find(owner, { with = range.with, start = range.start, ["end"] = range["end"], ids = range.ids,
    after = range.after, before = range.before, limit = 0, total = true })
  if not iterate then return nil, total end
  return total
end

function query.run(store, owner, q, include_total)
  local ok, kind, condition, text, after, before
  if q.ids then
    ok, kind, condition, text = all_there(store, owner, q.ids)
    if not ok then return nil, kind, condition, text end
  end
  ok, kind, condition, text = bound(store, owner, q.after, q.after_id, true)
  if not ok then return nil, kind, condition, text end
  after = kind
  ok, kind, condition, text = bound(store, owner, q.before, q.before_id, false)
  if not ok then return nil, kind, condition, text end
  before = kind

  local bare = q.with and jid.bare(q.with)
  local resource = bare ~= q.with and q.with or nil
  local range = { with = bare, start = q.start, ["end"] = q["end"], ids = q.ids, after = after, before = before,
    reverse = q.reverse, raw = true }
  local page, err = {}
  if include_total or q.limit == 0 then
    -- of what the form asks for, wherever the page is
    page.total, err = total_of(store, owner, { with = bare, start = q.start, ["end"] = q["end"], ids = q.ids, after = q.after_id,
      before = q.before_id }, resource)
    if err then return failed(err) end
  end
  page.items, err, page.ended = collect(store, owner, range, q.limit + 1, resource)
  if not page.items then return failed(err) end
  local items = page.items
  page.complete = #items <= q.limit and not page.ended
  if #items > q.limit then items[#items] = nil end
  if q.reverse then
    for i = 1, #items // 2 do items[i], items[#items + 1 - i] = items[#items + 1 - i], items[i] end
  end
  if page.complete and not (q.after or q.before) then page.total = #items end
  if page.total and #items > 0 then
    if not q.reverse and not q.after then page.index = 0
    elseif q.reverse and not q.before then page.index = page.total - #items end
  end
  return page
end

--- The answer

-- A stanza's text as it stands inside <forwarded/>: in the namespace of clients, whatever it had.
local function forwarded(value)
  local text = value
  if type(value) ~= "string" then text = tostring(st.is_stanza(value) and value or st.deserialize(value)) end
  local name, top = text:match "^<(%l+)([^>]*)"                -- message, or presence of a room
  local rest = text:sub(#name + #top + 2)
  if top:find(" xmlns='", 1, true) then top = top:gsub(" xmlns='[^']*'", "") end
  return "<" .. name .. " xmlns='jabber:client'" .. top .. rest
end

-- One result as text: much cheaper than a tree made piece by piece.
local function result(item, head)
  return head .. st.xml_escape(item.id) .. "'><forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='"
    .. datetime.datetime(item.when) .. "'/>" .. forwarded(item.value) .. "</forwarded></result></message>"
end

-- Sends results, parsed all at once. What cannot be parsed was damaged in the store, and is left out.
local function send_results(origin, texts)
  local all = parse_xml("<results>" .. table.concat(texts) .. "</results>")
  for i = 1, #texts do
    local message = all and all.tags[i] or not all and parse_xml(texts[i])
    if message and not origin.send(message) then return false end
  end
  return true
end

function query.answer(event, page, q, from)
  local origin, stanza = event.origin, event.stanza
  local to = stanza.attr.from
  local head = ("<message to='%s' from='%s'><result xmlns='%s'%s id='"):format(st.xml_escape(to), st.xml_escape(from), XMLNS,
    q.id and (" queryid='%s'"):format(st.xml_escape(q.id)) or "")
  local items, texts, bytes = page.items, {}, 0
  local first, last, step = 1, #items, 1
  if q.flip then first, last, step = #items, 1, -1 end
  for i = first, last, step do
    local text = result(items[i], head)
    texts[#texts + 1], bytes = text, bytes + #text
    if bytes >= PIECE then
      if not send_results(origin, texts) then return true end
      if origin.net and origin.base_type == "c2s" and not client_session.drain(origin) then return true end
      texts, bytes = {}, 0
    end
  end
  if texts[1] and not send_results(origin, texts) then return true end
  local top, bottom = items[1] and items[1].id or page.ended, items[1] and items[#items].id or page.ended
  if page.ended and q.reverse then top = page.ended elseif page.ended then bottom = page.ended end
  local set = rsm.generate { first = top and { index = page.index, top }, last = bottom, count = page.total }
  local reply = st.reply(stanza):tag("fin", { xmlns = XMLNS, complete = page.complete and "true" or nil }):add_child(set)
  reply.attr.from = from
  origin.send(reply)
  return true
end

function query.metadata(store, owner)
  local out = st.stanza("metadata", { xmlns = XMLNS })
  for _, name in ipairs { "start", "end" } do
    local iterate, err = store:find(owner, { limit = 1, reverse = name == "end", raw = true })
    if not iterate then return nil, err end
    local id, _, when = iterate()
    if id then out:tag(name, { id = id, timestamp = datetime.datetime(when) }):up() end
  end
  return out
end

return query
