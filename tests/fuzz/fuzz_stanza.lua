-- SPDX-License-Identifier: MIT
-- The Lua half of fuzz_stanza: each byte string is a list of operations, done to stanzas and to a model of plain tables. A model
-- is
-- { name =, attr =, children, handle = the element it stands for, stepped = false once plugins' own writes left `tags` behind }.

local st = require "couplet.stanza"
local core = require "couplet.core".stanza
local fresh = require "couplet.core".fresh
local xml = require "couplet.util.xml"

local seeds = {
  "<message to='a@b/c' from='d@e' id='1' type='chat'><body>hi</body>text<x xmlns='urn:x' k='v'><i n='1'/><i n='2'>two</i></x>"
    .. "</message>",
  "<iq xmlns='jabber:client' type='get' id='2'><q xmlns='urn:q'><a/><b>t</b><c xmlns='urn:c'><d/>x</c></q></iq>",
  "<presence/>",
  "<a>" .. ("<b i='1'/>"):rep(12) .. "</a>",
}
local names = { "a", "b", "body", "x", "item", "long-name-of-an-element" }
local spaces = { "urn:x", "urn:y", "jabber:client" }
local attrs = { "to", "from", "id", "k", "xml:lang", "urn:n\1k", "long-name-of-an-attribute" }
local values = { "", "v", "<&>'\"", "juliet@capulet.example/balcony", ("l"):rep(300), "\t\n\r", "é€" }

local function wanted(cond, what, ...)
  if not cond then error(what:format(...), 2) end
end

local function mirror(t)
  local m = { name = t.name, attr = t.attr, stepped = true }
  for i, child in ipairs(t) do m[i] = type(child) == "table" and mirror(child) or child end
  return m
end

local function copy(m, top)
  local out = { name = m.name, attr = {}, stepped = true }
  for k, v in pairs(m.attr) do out.attr[k] = v end
  if not top then for i, child in ipairs(m) do out[i] = type(child) == "table" and copy(child) or child end end
  return out
end

local function count(m)
  local n = 1
  for _, child in ipairs(m) do n = n + (type(child) == "table" and count(child) or 1) end
  return n
end

local function contains(m, other)
  if m == other then return true end
  for _, child in ipairs(m) do if type(child) == "table" and contains(child, other) then return true end end
  return false
end

-- The handle must be the one seen before, and say what the model says.
local function same(s, m)
  wanted(st.is_stanza(s), "no stanza")
  wanted(m.handle == nil or rawequal(m.handle, s), "another handle for the same element")
  m.handle = s
  return s
end

local function compare(s, m)
  same(s, m)
  wanted(s.name == m.name, "name %s, want %s", s.name, m.name)
  wanted(#s == #m, "%d children, want %d", #s, #m)
  for k, v in pairs(m.attr) do wanted(s.attr[k] == v, "attribute %s", k) end
  for k, v in pairs(s.attr) do wanted(m.attr[k] == v, "attribute %s too many", k) end
  local elements, text = 0, {}
  for i, child in ipairs(m) do
    if type(child) == "table" then
      elements = elements + 1
      compare(s[i], child)
      if m.stepped then wanted(rawequal(s.tags[elements], s[i]), "tags[%d] is another", elements) end
    else
      text[#text + 1] = child
      wanted(s[i] == child, "text")
    end
  end
  wanted(s[#m + 1] == nil, "one more")
  if m.stepped then wanted(#s.tags == elements, "%d tags, want %d", #s.tags, elements) end
  wanted(s:get_text() == (elements == 0 and table.concat(text) or nil), "get_text")
end

-- What a parser makes of it: adjacent text is one, namespaces are inherited.
local function flat(m, ns, out)
  local own = m.attr.xmlns
  if own == "" then own = nil end
  ns = own or ns
  out[#out + 1] = "<" .. m.name .. " " .. (ns or "")
  local keys = {}
  for k in pairs(m.attr) do if k ~= "xmlns" then keys[#keys + 1] = k end end
  table.sort(keys)
  for _, k in ipairs(keys) do out[#out + 1] = k .. "=" .. m.attr[k] end
  local text = ""
  for i = 1, #m + 1 do
    local child = m[i]
    if type(child) == "string" then
      text = text .. child
    else
      if text ~= "" then out[#out + 1] = "'" .. text end
      text = ""
      if child then flat(child, ns, out) end
    end
  end
  out[#out + 1] = ">"
  return out
end

local function check(s, m)
  local text = tostring(s)
  local back = xml.parse(text)
  wanted(back, "cannot be parsed: %s", text)
  wanted(table.concat(flat(st.preserialize(back), nil, {}), "\0") == table.concat(flat(m, nil, {}), "\0"), "written wrong: %s",
    text)
  compare(s, m)
  wanted(tostring(s) == text, "reading changed it: %s, was %s", tostring(s), text)
end

return function(bytes)
  local at = 0
  local function byte(n)
    at = at + 1
    return (bytes:byte(at) or 0) % n
  end
  local function one(list) return list[1 + byte(#list)] end

  local tops, models, views = {}, {}, {}
  for i = 1, 3 do
    local seed = one(seeds)
    tops[i] = fresh(seed)
    models[i] = mirror(st.preserialize(fresh(seed)))
    same(tops[i], models[i])
  end

  -- An element somewhere, reached in one of several ways.
  local function pick()
    local r = 1 + byte(3)
    local s, m = tops[r], models[r]
    for _ = 1, byte(4) do
      local index, elements = nil, 0
      local want = byte(8)
      for i, child in ipairs(m) do
        if type(child) == "table" then
          elements = elements + 1
          if index == nil or elements - 1 <= want then index = i end
        end
      end
      if not index then break end
      local child
      local way = byte(4)
      if way == 0 then
        child = s[index]
      elseif way == 1 then
        local n = 0
        for i, c in ipairs(s) do if i == index then child = c end n = n + 1 end
        wanted(n == #m, "ipairs")
      elseif way == 2 then
        local i = 0
        for c in s:children() do
          i = i + 1
          if i == index then child = c end
        end
      elseif m.stepped then
        local n = 0
        for i = 1, index do if type(m[i]) == "table" then n = n + 1 end end
        child = s.tags[n]
      else
        child = s[index]
      end
      m = m[index]
      s = same(child, m)
    end
    return s, m, r
  end

  local function room(m)
    local n = count(m)
    for i = 1, 3 do n = n + count(models[i]) end
    return n < 400
  end

  local operations = {
    function() local s, m = pick() local k, v = one(attrs), one(values) s.attr[k] = v m.attr[k] = v end,
    function() local s, m = pick() local k = one(attrs) s.attr[k] = nil m.attr[k] = nil end,
    function() local s, m = pick() local k, v = one(attrs), one(values) core.set_attr(s, k, v) m.attr[k] = v end,
    function() local s, m = pick() local ns = one(spaces) s.attr.xmlns = ns m.attr.xmlns = ns end,
    function()
      local s, m = pick()
      local text = one(values)
      if text == "" then return end
      s:add_direct_child(text)
      m[#m + 1] = text
    end,
    function()
      local s, m = pick()
      local name, ns = one(names), one(spaces)
      if not room(m) then return end
      local child = st.stanza(name, { xmlns = ns })
      s:add_direct_child(child)
      m[#m + 1] = { name = name, attr = { xmlns = ns }, stepped = true, handle = child }
    end,
    function()                                                  -- an element gets a second parent
      local s, m = pick()
      local child, cm = pick()
      if contains(cm, m) or not room(cm) then return end
      s:add_direct_child(child)
      m[#m + 1] = cm
    end,
    function()
      local s, m = pick()
      local r, top = 1 + byte(3), byte(2) == 1
      tops[r], models[r] = st.clone(s, top), copy(m, top)
    end,
    function()
      local s, m = pick()
      local i, text = 1 + byte(#m + 1), one(values)
      s[i] = text
      m[i], m.stepped = text, false
    end,
    function()
      local s, m = pick()
      local i, name = 1 + byte(#m + 1), one(names)
      local child = st.stanza(name)
      s[i] = child
      m[i], m.stepped = { name = name, attr = {}, stepped = true, handle = child }, false
    end,
    function()
      local s, m = pick()
      if #m == 0 then return end
      s[#s] = nil
      m[#m], m.stepped = nil, false
    end,
    function()
      local s, m = pick()
      if #m == 0 then return end
      local i = 1 + byte(#m)
      table.remove(s, i)
      table.remove(m, i)
      m.stepped = false
    end,
    function()
      local s, m = pick()
      local i, text = 1 + byte(#m + 1), one(values)
      table.insert(s, i, text)
      table.insert(m, i, text)
      m.stepped = false
    end,
    function() local s, m = pick() local name = one(names) s.name = name m.name = name end,
    function()
      local s, m = pick()
      if not m.stepped then return end
      local name = one(names)
      s:maptags(function(tag) if tag.name ~= name then return tag end end)
      for i = #m, 1, -1 do if type(m[i]) == "table" and m[i].name == name then table.remove(m, i) end end
    end,
    function()
      local s, m = pick()
      if not m.stepped then return end
      local name, ns = one(names), one(spaces)
      local first = s:get_child(name, ns)
      s:remove_children(name, ns)
      local found
      for i = #m, 1, -1 do
        local c = m[i]
        local own = type(c) == "table" and c.attr.xmlns
        if type(c) == "table" and c.name == name and (own == ns or (own == nil and m.attr.xmlns == ns)) then
          found = c
          table.remove(m, i)
        end
      end
      wanted((found == nil) == (first == nil), "get_child")
      if found then same(first, found) end
      wanted(s:get_child(name, ns) == nil, "still there")
    end,
    function()                                                  -- the cursor
      local s, m = pick()
      if not room(m) then return end
      local name, text = one(names), one(values)
      s:reset():tag(name, { k = "v" }):text(text):text_tag("t", text):up()
      wanted(s:at_top(), "not at the top")
      local child = { name = name, attr = { k = "v" }, stepped = true }
      if text ~= "" then child[1] = text end
      child[#child + 1] = { name = "t", attr = {}, stepped = true, text ~= "" and text or nil }
      m[#m + 1] = child
    end,
    function() collectgarbage("step", 100) end,
    function() local s = pick() local _ = s.tags for _ in pairs(s) do end for _ in pairs(s.attr) do end end,
    function()
      local s, m = pick()
      if type(s.attr) == "userdata" then views[#views + 1] = { s.attr, m } end
    end,
    function()
      local view = views[#views]
      if not view then return end
      local k, v = one(attrs), one(values)
      view[1][k] = v
      view[2].attr[k] = v
      wanted(view[1][k] == v, "the view")
    end,
    function()
      local s, m = pick()
      local attr = { k = "new" }
      s.attr = attr
      m.attr = { k = "new" }
      attr.id = "late"
      m.attr.id = "late"
    end,
    function()
      local s = pick()
      local c = st.clone(s):freeze()
      local text = tostring(c)
      wanted(not pcall(function() c.attr.k = "x" end) and not pcall(c.text, c, "x"), "frozen")
      if c[1] and type(c[1]) ~= "string" then wanted(not pcall(c[1].text, c[1], "x"), "frozen child") end
      wanted(tostring(c) == text, "frozen text")
    end,
    function() local _, _, r = pick() if r then check(tops[r], models[r]) end end,
    function()
      local s = pick()
      if s.attr.type ~= "error" then
        local e = st.error_reply(s, "cancel", "gone", "text")
        wanted(xml.parse(tostring(e)):get_child("error"), "error_reply")
      end
    end,
    function()
      local s, m = pick()
      if not contains(m, m) then return end
      local t = st.deserialize(st.preserialize(s))
      wanted(table.concat(flat(st.preserialize(t), nil, {})) == table.concat(flat(m, nil, {})), "preserialize")
    end,
  }

  while at < #bytes and at < 400 do one(operations)() end
  for i = 1, 3 do check(tops[i], models[i]) end
end
