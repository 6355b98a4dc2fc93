-- SPDX-License-Identifier: MIT
-- util.stanza: each sentence of its contract is a row, and each row runs on the same stanza in every state it can be in.

local check = require "check"
local core = require "couplet.core".stanza
local st = require "couplet.stanza"
local xml = require "couplet.util.xml"

local SAMPLE = "<message to='juliet@capulet.example/balcony' from='romeo@montague.example' id='m1' type='chat' xml:lang='en' "
  .. "xmlns:k='urn:key' k:sign='s&amp;s'>"
  .. "<body>Wherefore &lt;art&gt; thou?</body>"
  .. "<active xmlns='http://jabber.org/protocol/chatstates'/>"
  .. "before<x xmlns='urn:x' a='1'><item id='i1'>one</item><item id='i2'>two</item><other xmlns='urn:o'>three</other></x>"
  .. "<body xml:lang='it'>Perché?</body>"
  .. "<x xmlns='urn:y' a='2'/>after</message>"

local function parse(text) return check.ok(xml.parse(text)) end

-- A live element made of the tables' calls, with the same content.
local function build(s)
  local attr = {}
  for k, v in pairs(s.attr) do attr[k] = v end
  local out = st.stanza(s.name, attr)
  for child in s:children() do out:add_direct_child(type(child) == "string" and child or build(child)) end
  return out
end

local states = {
  parsed = parse,
  built = function(text) return build(parse(text)) end,
  clone = function(text) return st.clone(parse(text)) end,
  ["clone of built"] = function(text) return st.clone(build(parse(text))) end,
  ["tags seen"] = function(text) local s = parse(text) local _, _ = s.tags, s[1] return s end,
  thawed = function(text)
    local s = parse(text)
    s[#s + 1] = "x"
    s[#s] = nil
    return s
  end,
  ["child thawed"] = function(text)
    local s = parse(text)
    for child in s:children() do
      if st.is_stanza(child) then
        child[#child + 1] = "x"
        child[#child] = nil
      end
    end
    return s
  end,
  stamped = function(text)        -- attributes changed in the block until it had to move
    local s = parse(text)
    for i = 1, 20 do s.attr["stamp" .. i] = ("x"):rep(i) end
    for i = 1, 20 do s.attr["stamp" .. i] = nil end
    return s
  end,
  deserialized = function(text) return st.deserialize(st.preserialize(parse(text))) end,
  inside = function(text) return parse("<wrap>" .. text .. "</wrap>").tags[1] end,
}

local function each(name, text, fn)
  for state, make in pairs(states) do
    check.test(name .. " (" .. state .. ")", function() fn(make(text), make) end)
  end
end

local function rows(name, list)
  each(name, SAMPLE, function(_, make)
    for _, row in ipairs(list) do
      check.equal(row[2](make(SAMPLE)), row[3], row[1])
    end
  end)
end

local function name_of(x) return x and x.name end

rows("reading", {
  { "name", function(s) return s.name end, "message" },
  { "attr.to", function(s) return s.attr.to end, "juliet@capulet.example/balcony" },
  { "attr.type", function(s) return s.attr.type end, "chat" },
  { "absent attribute", function(s) return s.attr.nothing end, nil },
  { "no namespace", function(s) return s.attr.xmlns end, nil },
  { "xml:lang", function(s) return s.attr["xml:lang"] end, "en" },
  { "attribute in a namespace", function(s) return s.attr["urn:key\1sign"] end, "s&s" },
  { "children are elements and text", function(s) return #s end, 7 },
  { "tags are elements", function(s) return #s.tags end, 5 },
  { "a child by number", function(s) return s[1].name end, "body" },
  { "text by number", function(s) return s[3] end, "before" },
  { "the last", function(s) return s[7] end, "after" },
  { "none there", function(s) return s[8] end, nil },
  { "none at 0", function(s) return s[0] end, nil },
  { "none at -1", function(s) return s[-1] end, nil },
  { "unknown key", function(s) return s.nothing end, nil },
  { "tags[1] is s[1]", function(s) return s.tags[1] == s[1] end, true },
  { "tags[3] is s[4]", function(s) return s.tags[3] == s[4] end, true },
  { "always the same", function(s) return rawequal(s[4], s[4]) and rawequal(s[4], s:get_child("x", "urn:x")) end, true },
  { "tags always the same", function(s) return rawequal(s.tags, s.tags) end, true },
  { "key of a table", function(s) return ({ [s[1]] = "yes" })[s:get_child("body")] end, "yes" },
  { "namespace of a child", function(s) return s[2].attr.xmlns end, "http://jabber.org/protocol/chatstates" },
  { "namespace of a grandchild", function(s) return s[4][1].attr.xmlns end, "urn:x" },
  { "ipairs(s)", function(s)
    local out = {}
    for i, child in ipairs(s) do out[i] = type(child) == "string" and child or child.name end
    return out
  end, { "body", "active", "before", "x", "body", "x", "after" } },
  { "ipairs(s.tags)", function(s)
    local out = {}
    for i, child in ipairs(s.tags) do out[i] = child.name end
    return out
  end, { "body", "active", "x", "body", "x" } },
  { "pairs(s.tags)", function(s)
    local n = 0
    for _, child in pairs(s.tags) do n = n + #child.name end
    return n
  end, 16 },
  { "pairs(s.attr)", function(s)
    local out = {}
    for k, v in pairs(s.attr) do out[k] = v end
    return out
  end, { to = "juliet@capulet.example/balcony", from = "romeo@montague.example", id = "m1", type = "chat", ["xml:lang"] = "en",
    ["urn:key\1sign"] = "s&s" } },
  { "pairs(s)", function(s)
    local out = {}
    for k, v in pairs(s) do out[k] = type(k) == "number" and (type(v) == "string" and v or v.name) or true end
    return out
  end, { "body", "active", "before", "x", "body", "x", "after", name = true, attr = true, tags = true } },
  { "pairs(s) twice", function(s)
    local n = 0
    for _ in pairs(s) do n = n + 1 end
    for _ in pairs(s) do n = n + 1 end
    return n
  end, 20 },
  { "table.unpack", function(s) return select("#", table.unpack(s)) end, 7 },
  { "table.unpack(tags)", function(s) return name_of(select(2, table.unpack(s.tags))) end, "active" },
  { "table.concat", function(s) return table.concat(s:get_child("body")) end, "Wherefore <art> thou?" },
  { "metatable", function(s) return getmetatable(s) == st.stanza_mt end, true },
  { "is_stanza", function(s) return st.is_stanza(s) and st.is_stanza(s[1]) end, true },
  { "type of it", function(s) return core.type(s) .. core.type(s.attr) .. core.type(s.tags) end, "tabletabletable" },
  { "extra keys", function(s) s.handled = 5 s[true] = 6 return { s.handled, s[true] } end, { 5, 6 } },
  { "extra keys go", function(s) s.handled = 5 s.handled = nil return s.handled end, nil },
  { "an own key before a method", function(s) s.up = 1 return s.up end, 1 },
  { "extra keys of a child", function(s) s:get_child("x", "urn:x").seen = true return s.tags[3].seen end, true },
  { "format", function(s) return ("%s"):format(s) == tostring(s) end, true },
})

rows("children by name and namespace", {
  { "get_child(name)", function(s) return s:get_child("body"):get_text() end, "Wherefore <art> thou?" },
  { "get_child(name, ns)", function(s) return s:get_child("x", "urn:y").attr.a end, "2" },
  { "other namespace", function(s) return s:get_child("x") end, nil },
  { "get_child()", function(s) return s:get_child().name end, "body" },
  { "get_child(nil, ns)", function(s) return s:get_child(nil, "urn:x").name end, "x" },
  { "in the parent's namespace", function(s) return s:get_child("x", "urn:x"):get_child("item"):get_text() end, "one" },
  { "not in the parent's namespace", function(s) return s:get_child("x", "urn:x"):get_child("other") end, nil },
  { "get_child_text", function(s) return s:get_child_text("body") end, "Wherefore <art> thou?" },
  { "get_child_text, ns", function(s) return s:get_child_text("active", "http://jabber.org/protocol/chatstates") end, "" },
  { "get_child_text of none", function(s) return s:get_child_text("subject") end, nil },
  { "get_child_text of one with elements", function(s) return s:get_child_text("x", "urn:x") end, nil },
  { "get_child_attr", function(s) return s:get_child_attr("x", "urn:y", "a") end, "2" },
  { "get_child_attr absent", function(s) return s:get_child_attr("x", "urn:y", "b") end, nil },
  { "get_child_attr of none", function(s) return s:get_child_attr("y", "urn:y", "a") end, nil },
  { "child_with_name", function(s) return s:child_with_name("x").attr.xmlns end, "urn:x" },
  { "child_with_name none", function(s) return s:child_with_name("y") end, nil },
  { "child_with_ns", function(s) return s:child_with_ns("urn:y").attr.a end, "2" },
  { "child_with_ns none", function(s) return s:child_with_ns("urn:z") end, nil },
  { "get_child_with_attr", function(s)
    return s:get_child("x", "urn:x"):get_child_with_attr("item", nil, "id", "i2"):get_text()
  end, "two" },
  { "get_child_with_attr, normalized", function(s)
    return s:get_child("x", "urn:x"):get_child_with_attr("item", "urn:x", "id", "I2", string.upper):get_text()
  end, "two" },
  { "get_child_with_attr none", function(s)
    return s:get_child("x", "urn:x"):get_child_with_attr("item", nil, "id", "i3")
  end, nil },
  { "children", function(s)
    local out = {}
    for child in s:children() do out[#out + 1] = type(child) == "string" and child or child.name end
    return out
  end, { "body", "active", "before", "x", "body", "x", "after" } },
  { "childtags()", function(s)
    local out = {}
    for child in s:childtags() do out[#out + 1] = child:get_text() end
    return out
  end, { "Wherefore <art> thou?", "Perché?" } },
  { "childtags(name, ns)", function(s)
    local out = {}
    for child in s:childtags("x", "urn:x") do out[#out + 1] = child.attr.a end
    return out
  end, { "1" } },
  { "childtags gives the same", function(s)
    local first, of, at = s:childtags("x", "urn:y")
    return first(of, at) == s.tags[5]
  end, true },
  { "childtags while the element changes", function(s)
    local out = {}
    for child in s:childtags("body") do
      out[#out + 1] = child:get_text()
      s:text_tag("note", child:get_text())
      child.attr.seen = "1"
    end
    return { out, s:get_child_attr("body", nil, "seen"), s:get_child_text("note") }
  end, { { "Wherefore <art> thou?", "Perché?" }, "1", "Wherefore <art> thou?" } },
  { "nested loops", function(s)
    local n = 0
    for a in s:childtags(nil, "urn:x") do for _ in a:childtags("item") do n = n + 1 end end
    return n
  end, 2 },
  { "get_text with elements", function(s) return s:get_text() end, nil },
  { "get_text of an empty one", function(s) return s[2]:get_text() end, "" },
  { "has", function(s) return { s:has("body"), s:has("{urn:x}x"), s:has("{urn:z}x"), s:has("x"), s:has("{urn:y}") } end,
    { true, true, false, false, true } },
  { "has a path", function(s) return { s:has("{urn:x}x/item"), s:has("{urn:x}x/nothing"), s:has("@to"), s:has("@no") } end,
    { true, false, true, false } },
  { "size is bytes", function(s) return s:size() == #tostring(s) end, true },
})

rows("find", {
  { "name", function(s) return s:find("body"):get_text() end, "Wherefore <art> thou?" },
  { "text", function(s) return s:find("body#") end, "Wherefore <art> thou?" },
  { "{ns}name", function(s) return s:find("{urn:y}x").attr.a end, "2" },
  { "a step further", function(s) return s:find("{urn:x}x/item").attr.id end, "i1" },
  { "ns in the middle", function(s) return s:find("{urn:x}x/{urn:o}other#") end, "three" },
  { "attribute", function(s) return s:find("{urn:x}x/item@id") end, "i1" },
  { "own attribute", function(s) return s:find("@type") end, "chat" },
  { "xml:lang", function(s) return s:find("@xml:lang") end, "en" },
  { "attribute in a namespace", function(s) return s:find("@{urn:key}sign") end, "s&s" },
  { "no such child", function(s) return s:find("subject#") end, nil },
  { "no such step", function(s) return s:find("{urn:q}x/item@id") end, nil },
  { "no such attribute", function(s) return s:find("{urn:x}x@b") end, nil },
  { "slash before the attribute", function(s) return s:find("{urn:x}x/@a") end, "1" },
  { "any name", function(s) return s:find("{urn:y}@a") end, "2" },
  { "only text", function(s) return s:find("#") end, "Wherefore <art> thou?" },
  { "trailing slash", function(s) return name_of(s:find("body/")) end, "body" },
})

check.test("find: prefix of an element built with namespaces", function()
  local s = st.stanza("a", { ["urn:p\1k"] = "v" }, { p = "urn:p" })
  check.equal(s:find("@p:k"), "v")
  check.equal(st.clone(s):find("@p:k"), "v")
  check.equal(s:find("@q:k"), nil)
  check.raises("without '}'", s.find, s, "{urn:p")
end)

-- Each change is seen in the text, in the parsed text, and by whoever holds the parts.
local function changes(name, list)
  each(name, SAMPLE, function(_, make)
    for _, row in ipairs(list) do
      local s = make(SAMPLE)
      local before = tostring(s)
      local other = st.clone(s)
      row[2](s)
      local text = tostring(s)
      if row[3] then check.ok(text:find(row[3], 1, true), row[1] .. ": " .. text .. " lacks " .. row[3]) end
      if row[4] then check.ok(not text:find(row[4], 1, true), row[1] .. ": " .. text .. " has " .. row[4]) end
      check.equal(tostring(other), before, row[1] .. ": a clone saw it")
      parse(text)
    end
  end)
end

changes("changing", {
  { "attr.to", function(s) s.attr.to = "nurse@capulet.example" end, "to='nurse@capulet.example'", "juliet" },
  { "attr.to to nil", function(s) s.attr.to = nil end, nil, " to=" },
  { "a new attribute", function(s) s.attr.new = "<n>" end, "new='&lt;n&gt;'" },
  { "an attribute in a namespace", function(s) s.attr["urn:n\1a"] = "v" end, ":a='v'" },
  { "xmlns", function(s) s.attr.xmlns = "jabber:client" end, "<message xmlns='jabber:client'" },
  { "xmlns of a child", function(s) s.tags[2].attr.xmlns = "urn:new" end, "<active xmlns='urn:new'", "chatstates" },
  { "attr of a child", function(s) s:get_child("x", "urn:x").attr.a = "9" end, "a='9'", "a='1'" },
  { "attr of a grandchild", function(s) s[4][2].attr.id = "i9" end, "<item id='i9'>two", "i2" },
  { "attr held before", function(s) local a = s.attr s:text("x") a.to = "late@example" end, "to='late@example'" },
  { "attr through a view of a child that became live", function(s)
    local x = s[4] local a = x.attr x:text("y") a.a = "8" a.b = "7"
  end, "a='8' b='7'", "a='1'" },
  { "a very long attribute", function(s) s.attr.to = ("l"):rep(5000) end, ("l"):rep(5000), "juliet" },
  { "many attributes", function(s) for i = 1, 50 do s.attr["n" .. i] = "v" .. i end end, "n50='v50'" },
  { "many changes of one", function(s) for i = 1, 200 do s.attr.id = "id" .. i end end, "id='id200'", "id199" },
  { "s.attr = {}", function(s) s.attr = { only = "this" } end, "<message only='this'>", "juliet" },
  { "s.attr = another's", function(s) s.attr = s[4].attr s.attr.a = "3" end, "<message xmlns='urn:x' a='3'>" },
  { "clearing while walking", function(s) for k in pairs(s.attr) do s.attr[k] = nil end end, "<message>", "juliet" },
  { "s.name", function(s) s.name = "presence" end, "<presence ", "message" },
  { "name of a child", function(s) s.tags[3].name = "y" end, "<y xmlns='urn:x'", "<x xmlns='urn:x'" },
  { "set_attr", function(s) core.set_attr(s, "to", "a@b") core.set_attr(s, "type", nil) end, "to='a@b'", "'chat'" },
  { "s[i] = element", function(s) s[1] = st.stanza("subject"):text("new") end, "<subject>new</subject>", "Wherefore" },
  { "s[#s+1] = element", function(s) s[#s + 1] = st.stanza("end") end, "after<end/></message>" },
  { "s[#s+1] = text", function(s) s[#s + 1] = "more" end, "aftermore</message>" },
  { "s[#s] = nil", function(s) s[#s] = nil end, "a='2'/></message>", "after" },
  { "s[i] = number", function(s) s[1] = 5 end, ">5<active" },
  { "table.insert", function(s) table.insert(s, 1, st.stanza("first")) end, "><first/><body>" },
  { "table.remove", function(s) table.remove(s, 1) end, "><active", "Wherefore" },
  { "tags alone change nothing", function(s) table.insert(s.tags, st.stanza("ghost")) end, nil, "ghost" },
  { "body", function(s) s:body("B&B", { ["xml:lang"] = "de" }) end, "<body xml:lang='de'>B&amp;B</body>" },
  { "query", function(s) s:query("urn:q"):tag("item"):up():up() end, "<query xmlns='urn:q'><item/></query></message>" },
  { "tag, up", function(s) s:tag("a"):tag("b"):text("c"):up():tag("d"):up():up():tag("e") end,
    "<a><b>c</b><d/></a><e/></message>" },
  { "text_tag", function(s) s:text_tag("t", "x", { k = "v" }):text_tag("u"):text_tag("v", "") end,
    "<t k='v'>x</t><u/><v/></message>" },
  { "text", function(s) s:text("x"):text(nil):text(""):text("y"):text(5) end, "afterxy5</message>" },
  { "up at the top", function(s) s:up():up():text("x") end, "afterx</message>" },
  { "reset", function(s) s:tag("a"):tag("b"):reset():tag("c") end, "<a><b/></a><c/></message>" },
  { "add_child at the cursor", function(s) s:tag("a"):add_child(st.stanza("b")):add_child("t"):up():add_child(st.stanza("c")) end,
    "<a><b/>t</a><c/></message>" },
  { "add_direct_child", function(s)
    s:tag("a")
    check.equal(select("#", s:add_direct_child(st.stanza("b"))), 0)
    s:add_direct_child("t")
  end, "<a/><b/>t</message>" },
  { "into a child", function(s) s:get_child("x", "urn:x"):text_tag("item", "four") end, "<item>four</item></x>" },
  { "into a grandchild", function(s) s:get_child("x", "urn:x"):get_child("item"):text("!") end, ">one!</item>" },
  { "a child added, then changed", function(s)
    local a = st.stanza("a")
    s:add_child(a)
    a.attr.k = "v"
    a:text("t")
  end, "<a k='v'>t</a></message>" },
  { "a parsed child added, then changed", function(s)
    local a = parse("<a xmlns='urn:a'><b/></a>")
    s:add_child(a)
    a.attr.k = "v"
    a.tags[1]:text("t")
  end, "<a xmlns='urn:a' k='v'><b>t</b></a></message>" },
  { "a child of another parsed one", function(s)
    local b = parse("<a xmlns='urn:a'><b i='1'/></a>").tags[1]
    s:add_child(b)
    b:text("t").attr.i = "2"
  end, "<b xmlns='urn:a' i='2'>t</b></message>" },
  { "maptags", function(s)
    s:maptags(function(tag)
      if tag.name == "x" then return nil end
      if tag.name == "active" then return st.stanza("paused", { xmlns = tag.attr.xmlns }) end
      return tag
    end)
    check.equal(#s.tags, 3)
    check.equal(s.tags[2].name, "paused")
  end, "<paused xmlns='http://jabber.org/protocol/chatstates'/>before<body", "<x" },
  { "maptags that changes nothing", function(s) check.equal(s:maptags(function(t) return t end), s) end, "Wherefore" },
  { "remove_children(name)", function(s) check.equal(s:remove_children("body"), s) end, "<active", "<body" },
  { "remove_children(name, ns)", function(s) s:remove_children("x", "urn:y") end, "urn:x", "urn:y" },
  { "remove_children(nil, ns)", function(s) s:remove_children(nil, "urn:x") end, "urn:y", "urn:x" },
  { "remove_children of none", function(s) s:remove_children("nothing") end, "after" },
  { "add_error", function(s) s:add_error("wait", "resource-constraint", "later", "example.net") end,
    "<error by='example.net' type='wait'><resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
    .. "<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>later</text></error></message>" },
})

rows("tags keep step with the library's own calls", {
  { "tag", function(s) local t = s.tags s:tag("a") return { #t, name_of(t[6]) } end, { 6, "a" } },
  { "add_child", function(s) local t = s.tags s:add_child(st.stanza("a")):add_child("text") return #t end, 6 },
  { "remove_children", function(s) local t = s.tags s:remove_children("body") return { #t, #s.tags, t == s.tags } end,
    { 3, 3, true } },
  { "maptags", function(s) local t = s.tags s:maptags(function() end) return #t end, 0 },
  { "get_child reads tags", function(s) table.insert(s.tags, st.stanza("ghost")) return name_of(s:get_child("ghost")) end,
    "ghost" },
  { "both inserts", function(s)
    local x = st.stanza("both")
    table.insert(s, x)
    table.insert(s.tags, x)
    return { #s, #s.tags, s:get_child("both") == x }
  end, { 8, 6, true } },
  { "both inserts, the other way round", function(s)
    local x = st.stanza("both")
    table.insert(s.tags, x)
    table.insert(s, x)
    return { #s, #s.tags, s[8] == s.tags[6] }
  end, { 8, 6, true } },
  { "both removes", function(s)
    table.remove(s, 1)
    table.remove(s.tags, 1)
    return { #s, #s.tags, s[1] == s.tags[1], s:get_child_text("body") }
  end, { 6, 4, true, "Perché?" } },
  { "s.tags = {}", function(s) s.tags = {} return { #s.tags, name_of(s:get_child("body")) } end, { 0 } },
  { "a clone has tags of its children", function(s) s.tags = {} return #st.clone(s).tags end, 5 },
})

rows("cursor", {
  { "at_top", function(s) return { s:at_top(), s:tag("a"):at_top(), s:up():at_top() } end, { true, false, true } },
  { "last_add", function(s) s:tag("a"):tag("b") return { #s.last_add, s.last_add[2].name, s.last_add[1] == s[8] } end,
    { 2, "b", true } },
  { "last_add at the top", function(s) return s.last_add end, nil },
  { "reset forgets it", function(s) return s:tag("a"):reset().last_add end, nil },
  { "a clone begins at its top", function(s) return st.clone(s:tag("a")):at_top() end, true },
})

rows("copies", {
  { "clone says the same", function(s) return tostring(st.clone(s)) == tostring(s) end, true },
  { "clone is another", function(s) return st.clone(s) == s end, false },
  { "its children are others", function(s) return st.clone(s)[1] == s[1] end, false },
  { "clone of a child", function(s)
    local c = st.clone(s[4])
    c:text("new")
    c.attr.a = "5"
    return { s[4].attr.a, c.attr.a, #s[4], #c }
  end, { "1", "5", 3, 4 } },
  { "changing the original", function(s)
    local c = st.clone(s)
    s.attr.to, s[4][1].attr.id = "new", "new"
    s:get_child("body"):text("new")
    return { c.attr.to, c[4][1].attr.id, c:get_child_text("body") }
  end, { "juliet@capulet.example/balcony", "i1", "Wherefore <art> thou?" } },
  { "changing the clone's child", function(s)
    local c = st.clone(s)
    local x = c:get_child("x", "urn:x")
    x.attr.a = "7"
    return { s:get_child("x", "urn:x").attr.a, c:get_child("x", "urn:x").attr.a, c:find("{urn:x}x@a") }
  end, { "1", "7", "7" } },
  { "only the top", function(s) local c = st.clone(s, true) return { #c, #c.tags, c.attr.to, c.name } end,
    { 0, 0, "juliet@capulet.example/balcony", "message" } },
  { "extra keys stay behind", function(s) s.mine = 1 return st.clone(s).mine end, nil },
  { "preserialize", function(s)
    return st.preserialize(s[4])
  end, { name = "x", attr = { xmlns = "urn:x", a = "1" },
    { name = "item", attr = { xmlns = "urn:x", id = "i1" }, "one" },
    { name = "item", attr = { xmlns = "urn:x", id = "i2" }, "two" }, { name = "other", attr = { xmlns = "urn:o" }, "three" } } },
  { "preserialize, deserialize", function(s)
    local t = st.deserialize(st.preserialize(s))
    return { tostring(st.clone(build(s))) == tostring(t), t.attr["urn:key\1sign"] }
  end, { true, "s&s" } },
})

rows("reply", {
  { "to and from", function(s) local r = st.reply(s) return { r.name, r.attr.to, r.attr.from, r.attr.id, r.attr.type, #r } end,
    { "message", "romeo@montague.example", "juliet@capulet.example/balcony", "m1", "chat", 0 } },
  { "error_reply", function(s) return tostring(st.error_reply(s, "cancel", "service-unavailable", "no")) end,
    "<message from='juliet@capulet.example/balcony' id='m1' to='romeo@montague.example' type='error'><error type='cancel'>"
    .. "<service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
    .. "<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>no</text></error></message>" },
  { "its cursor is in the error", function(s)
    return st.error_reply(s, "modify", "bad-request"):tag("why", { xmlns = "urn:w" }):up():find("error/{urn:w}why").name
  end, "why" },
  { "route", function(s) return { core.route(s) } end,
    { "message", "juliet@capulet.example/balcony", "romeo@montague.example", "chat", "m1" } },
  { "route, namespace", function(s) s.attr.xmlns = "urn:r" return (select(6, core.route(s))) end, "urn:r" },
  { "payload", function(s) return { core.payload(s) } end, { "body" } },
  { "payload in a namespace", function(s) return { core.payload(st.clone(s):remove_children("body")) } end,
    { "active", "http://jabber.org/protocol/chatstates" } },
  { "no payload", function(s) return { core.payload(s[1]) } end, {} },
  { "attr()", function(s) return { core.attr(s, "to"), core.attr(s, "no") } end, { "juliet@capulet.example/balcony" } },
})

check.test("error objects", function()
  local s = st.iq { id = "1", type = "get", from = "a@b", to = "c@d" }
  local r = st.error_reply(s, { type = "cancel", condition = "gone", text = "moved", extra = { uri = "xmpp:e@f" } })
  check.equal(r:find("error/{urn:ietf:params:xml:ns:xmpp-stanzas}gone#"), "xmpp:e@f")
  check.equal({ r:get_error() }, { "cancel", "gone", "moved" })
  local kind, condition, text, extra = st.error_reply(s, { type = "auth", condition = "forbidden",
    extra = { namespace = "urn:x", condition = "because" }, context = { by = "g@h" } }):get_error()
  check.equal({ kind, condition, text, extra.name, extra.attr.xmlns }, { "auth", "forbidden", nil, "because", "urn:x" })
  r = st.error_reply(s, { type = "auth", condition = "forbidden", by = "g@h",
    extra = { tag = st.stanza("t", { xmlns = "urn:t" }) } })
  check.equal({ r:find("error@by"), select(4, r:get_error()).name }, { "g@h", "t" })
  check.equal(st.error_reply(s, "cancel", "conflict", nil, "c@d"):find("error@by"), nil,
    "by whom is said if it is not the sender")
  check.equal(st.error_reply(s, "cancel", "conflict", nil, st.stanza("e", { xmlns = "urn:e" })):find("error/{urn:e}e").name, "e")
  check.equal({ st.error_reply(s, "cancel"):get_error() }, { "cancel", "undefined-condition" })
  check.equal({ s:get_error() }, {})
  check.raises("must not be answered", st.error_reply, r, "cancel", "conflict")
  local back = { xml.parse(tostring(r)):get_error() }
  check.equal({ back[1], back[2], back[4].name }, { "auth", "forbidden", "t" })
end)

check.test("kinds of stanzas", function()
  check.equal(tostring(st.message({ to = "a@b" }, "hi")), "<message to='a@b'><body>hi</body></message>")
  check.equal(tostring(st.message()), "<message/>")
  check.equal(tostring(st.presence()), "<presence/>")
  check.equal(tostring(st.presence { type = "unavailable" }), "<presence type='unavailable'/>")
  check.equal(tostring(st.iq { type = "get", id = "1" }:query("q")), "<iq id='1' type='get'><query xmlns='q'/></iq>")
  check.equal(st.reply(st.iq { type = "get", id = "1", from = "a@b" }).attr.type, "result")
  check.raises("id and type", st.iq)
  check.raises("id and type", st.iq, { id = "1" })
  check.raises("id and type", st.iq, { type = "get" })
  check.equal(tostring(st.stanza("stream:features")), "<stream:features/>")
  check.equal(tostring(st.stanza("a", { xmlns = "u" }):tag("b", { xmlns = "u" }):up():tag("c", { xmlns = "v" })),
    "<a xmlns='u'><b/><c xmlns='v'/></a>")
  local attr = { k = "v" }
  check.equal(st.stanza("a", attr).attr == attr, true, "the table is taken, not copied")
  check.equal(st.stanza("a", parse("<x a='1' b='2'/>").attr).attr, { a = "1", b = "2" })
end)

check.test("a built child without xmlns is in its parent's namespace", function()
  local q = st.stanza("query", { xmlns = "urn:q" }):tag("item", { k = "v" }):up()
  check.equal(q:get_child("item") == q[1], true)
  check.equal(q:get_child("item", "urn:q") == q[1], true)
  check.equal(q:get_child("item", "urn:z"), nil)
  check.equal(xml.parse(tostring(q)):get_child_attr("item", nil, "k"), "v")
end)

check.test("xmlns='' is no namespace, and not the parent's", function()
  for _, q in ipairs { parse("<q xmlns='urn:q'><a xmlns=''/><b/></q>"),
    build(parse("<q xmlns='urn:q'><a xmlns=''/><b/></q>")) } do
    check.equal(tostring(q), "<q xmlns='urn:q'><a xmlns=''/><b/></q>")
    check.equal({ name_of(q:get_child("a")), name_of(q:get_child("b")), name_of(q:get_child("a", "")) }, { nil, "b", "a" })
    q.tags[2].attr.xmlns = ""
    check.equal(tostring(q), "<q xmlns='urn:q'><a xmlns=''/><b xmlns=''/></q>")
  end
end)

check.test("what raises when it is built", function()
  local s = st.stanza("a")
  local rows_ = {
    { "tag name", st.stanza, "a b" }, { "tag name", st.stanza, "" }, { "tag name", st.stanza, "<a>" },
    { "tag name", st.stanza, "a\1" },
    { "tag name", st.stanza, "1a" }, { "tag name", st.stanza, "a\xff" }, { "tag name", st.stanza, "a:" },
    { "tag name", st.stanza, ":a" },
    { "tag name", st.stanza, "a:b:c" }, { "string expected", st.stanza }, { "string expected", st.stanza, {} },
    { "table expected", st.stanza, "a", "b" }, { "attribute name", st.stanza, "a", { [1] = "x" } },
    { "attribute name", st.stanza, "a", { ["b c"] = "x" } }, { "attribute name", st.stanza, "a", { ["\1"] = "x" } },
    { "namespace value", st.stanza, "a", { ["\2\1a"] = "x" } },
    { "value of attribute 'b'", st.stanza, "a", { b = 5 } }, { "value of attribute", st.stanza, "a", { b = true } },
    { "attribute value", st.stanza, "a", { b = "\0" } }, { "attribute value", st.stanza, "a", { b = "\xc0\x80" } },
    { "text value", s.text, s, "\7" }, { "text value", s.text, s, "\xed\xa0\x80" }, { "text value", s.text, s, "\xef\xbf\xbe" },
    { "string expected", s.text, s, {} }, { "string expected", s.text, s, true }, { "text value", st.message, {}, "\8" },
    { "text value", s.text_tag, s, "b", "\x1b" }, { "tag name", s.text_tag, s, "b c", "x" }, { "tag name", s.tag, s, "b c" },
    { "element or a string", s.add_child, s, {} }, { "value expected", s.add_child, s },
    { "element or a string", s.add_direct_child, s, true }, { "text value", s.add_child, s, "\0" },
    { "stanza expected", st.reply, "x" }, { "stanza expected", st.clone, {} }, { "stanza expected", st.error_reply, nil },
    { "stanza expected", s.tag, {}, "a" }, { "stanza expected", s.get_child, "x", "a" },
    { "stanza expected", core.attr, nil, "x" },
    { "stanza expected", s.get_error, {} }, { "stanza expected", st.preserialize, "x" },
    { "stanza expected", core.route, io.stdout },
  }
  for _, row in ipairs(rows_) do check.raises(row[1], table.unpack(row, 2)) end
  check.equal(tostring(s), "<a/>", "and nothing of it stays")
  for _, x in ipairs { "a", "stream:features", "a-b.c_9", "é", "x\u{10000}" } do check.equal(st.stanza(x).name, x) end
  check.equal(st.stanza("a", { k = "\t\n\r\u{10ffff}" }).attr.k, "\t\n\r\u{10ffff}")
end)

each("what raises when it is written", SAMPLE, function(s)
  check.raises("text value", function() s[1] = "\0" end)
  check.raises("element or a string", function() s[1] = {} end)
  check.raises("tag name", function() s.name = "a b" end)
  check.raises("expected", function() s.attr = nil end)
  check.raises("expected", function() s.tags = 5 end)
  check.equal(s[1].name, "body")
  s:text("live")
  local attr = s.attr
  if type(attr) == "table" then
    for _, bad in ipairs { true, {}, print } do
      attr.bad = bad
      check.raises("attribute 'bad'", tostring, s)
    end
    attr.bad = "\0"
    check.raises("attribute value", tostring, s)
    attr.bad, attr["b ad"] = nil, "x"
    check.raises("attribute name", tostring, s)
    attr["b ad"], attr[1] = nil, "x"
    check.raises("attribute name", tostring, s)
    attr[1], attr.n = nil, 5
    check.ok(tostring(s):find("n='5'", 1, true))
  end
  tostring(s)
end)

check.test("a cycle raises", function()
  for _, fn in ipairs { tostring, st.clone, st.preserialize, function(s) return s:size() end,
    function(s) return s:indent() end } do
    local s = st.stanza("a")
    s:tag("b"):tag("c"):add_child(s)
    check.raises("inside itself", fn, s)
    s:freeze()
  end
  local s = parse("<a><b><c/></b></a>")
  s.tags[1].tags[1]:add_child(s)
  check.raises("inside itself", tostring, s)
  -- Deep, but within bounds.
  s = st.stanza("a")
  for _ = 1, 500 do s:tag("a") end
  check.equal(tostring(s), ("<a>"):rep(500) .. "<a/>" .. ("</a>"):rep(500))
  check.equal(tostring(st.clone(s)) == tostring(s), true)
end)

check.test("a deep parsed one", function()
  local s = parse(("<a>"):rep(120) .. ("</a>"):rep(120))
  local at = s
  for _ = 1, 119 do at = at[1] end
  at:text("x")
  check.equal(tostring(s), ("<a>"):rep(120) .. "x" .. ("</a>"):rep(120))
end)

check.test("a parsed one with many children", function()
  local text = { "<q xmlns='urn:q'>" }
  for i = 1, 20000 do text[#text + 1] = "<item i='" .. i .. "'/>" end
  local s = parse(table.concat(text) .. "</q>")
  local n, sum = 0, 0
  for item in s:childtags("item") do n, sum = n + 1, sum + item.attr.i end
  check.equal({ n, sum }, { 20000, 200010000 })
  for i, item in ipairs(s) do check.ok(item.attr.i == tostring(i)) end
  check.equal(s[20000] == s.tags[20000], true)
  s:remove_children("item")
  check.equal(tostring(s), "<q xmlns='urn:q'/>")
end)

each("freeze", SAMPLE, function(s)
  local child, attr = s[4], s.attr
  local before = tostring(s)
  check.equal(s:freeze(), s)
  local rows_ = {
    function() s.attr.to = "x" end, function() s.attr = {} end, function() s.name = "x" end, function() s[1] = nil end,
    function() s:tag("x") end, function() s:text("x") end, function() s:add_child("x") end,
    function() s:add_direct_child("x") end,
    function() s:text_tag("x", "y") end, function() core.set_attr(s, "to", "x") end, function() child.attr.a = "x" end,
    function() child:text("x") end, function() s[4][1]:text("x") end, function() s[4][1].attr.id = "x" end,
    function() s.tags = {} end,
    function() s:remove_children("body") end, function() s:maptags(function() end) end, function() s:add_error("cancel") end,
    function() s.extra = 1 end,
  }
  for i, fn in ipairs(rows_) do
    local ok, err = pcall(fn)
    check.ok(not ok and tostring(err):find("frozen"), "row " .. i)
  end
  if core.type(attr) == "table" and type(attr) ~= "table" then check.raises("frozen", function() attr.to = "x" end) end
  table.remove(s.tags, 1)
  check.equal(tostring(s), before)
  check.equal(s:get_child_text("body"), "Wherefore <art> thou?")
  local copy = st.clone(s)
  copy.attr.to = "x"
  copy[4]:text("x")
  check.equal(tostring(s), before)
  check.equal(tostring(st.reply(s)), "<message from='juliet@capulet.example/balcony' id='m1' to='romeo@montague.example' "
    .. "type='chat'/>")
  local seen = 0
  for _ in pairs(s) do seen = seen + 1 end
  check.equal(seen, 10)
end)

check.test("deserialize", function()
  check.equal(st.deserialize(nil), nil)
  local s = st.deserialize { name = "a", attr = { ["urn:x|k"] = "v", plain = "p" }, "text", { name = "b", attr = {} } }
  check.equal({ s.attr["urn:x\1k"], s.attr.plain, s[1], s[2].name, #s.tags }, { "v", "p", "text", "b", 1 })
  check.equal(st.deserialize(s), s)
  check.raises("expected", st.deserialize, { attr = {} })
  local cycle = { name = "a", attr = {} }
  cycle[1] = cycle
  check.raises("inside itself", st.deserialize, cycle)
end)

check.test("for people", function()
  check.equal(st.xml_escape("<&>'\""), "&lt;&amp;&gt;&apos;&quot;")
  check.equal(st.xml_escape(""), "")
  local s = parse("<a k='v'><b>text</b><c><d/></c></a>")
  check.equal(s:top_tag(), "<a k='v'>")
  check.equal(s:pretty_top_tag(), "<a k='v'>")
  check.equal(tostring(s:indent(1, "  ")), "<a k='v'>\n  <b>text</b>\n  <c>\n    <d/>\n  </c>\n</a>")
  check.equal(s:pretty_print(), tostring(s:indent(1, "  ")))
  check.equal(st.pretty_print(s), s:pretty_print())
  check.equal(tostring(s), "<a k='v'><b>text</b><c><d/></c></a>")
  check.equal(s.tags[1]:indent() == s.tags[1], true, "text alone stays as it is")
end)

check.test("methods added by plugins", function()
  st.stanza_mt.__index.shout = function(s) return s.name:upper() end
  check.equal({ parse("<a/>"):shout(), st.stanza("b"):shout() }, { "A", "B" })
  st.stanza_mt.shout = nil
  check.equal(parse("<a/>").shout, nil)
end)

check.test("order of attributes", function()
  check.equal(tostring(st.stanza("a", { b = "1", c = "2", xmlns = "u", a = "3", aa = "4" })),
    "<a xmlns='u' a='3' aa='4' b='1' c='2'/>")
  local many = {}
  for i = 1, 40 do many["k" .. i] = "v" end
  local text = tostring(st.stanza("a", many))
  for _ = 1, 5 do check.equal(tostring(st.clone(st.stanza("a", many))), text) end
  check.equal(select(2, text:gsub("='v'", "")), 40)
  local s = parse("<a z='1' y='2' xmlns='u' x='3'/>")
  s.attr.y = "4"
  check.equal(tostring(s), "<a xmlns='u' z='1' y='4' x='3'/>", "as received, changed in place")
end)

check.test("text as it came", function()
  for _, text in ipairs { "a&b", "<>'\"", "\t\n", "\r", "é€\u{1f600}", ("x"):rep(100000) } do
    local s = st.stanza("a", { k = text }):text(text)
    local back = parse(tostring(s))
    check.equal({ back.attr.k, back:get_text() }, { text, text })
    check.equal(tostring(back), tostring(s))
  end
  check.equal(st.stanza("a"):text("x"):text("y"):get_text(), "xy")
end)

check.test("xml.parse refuses", function()
  for _, bad in ipairs { "", "x", "<a>", "<a/><b/>", "<a><!-- c --></a>", "<!DOCTYPE a><a/>", "<?pi x?><a/>", "<a>&nbsp;</a>",
    "<a b='1' b='2'/>", "<x:a/>" } do
    local s, err = xml.parse(bad)
    check.ok(s == nil and type(err) == "string", bad)
  end
end)

check.test("nothing of a stanza's memory stays", function()
  local text = tostring(parse(SAMPLE))
  local function work()
    local s = parse(text)
    s.attr.from = "x@y"
    local c = st.clone(s)
    c:tag("a"):text("b"):up()
    local _ = { s.tags, c.tags, tostring(c), tostring(s), st.reply(s), c[1], s.attr }
  end
  for _ = 1, 50 do work() end
  collectgarbage() collectgarbage()
  local before = collectgarbage("count")
  for _ = 1, 2000 do work() end
  collectgarbage() collectgarbage()
  check.ok(collectgarbage("count") - before < 20, "grew by " .. collectgarbage("count") - before .. " KB")
end)

check.test("flags of the children, whatever state they are in", function()
  local native = require "couplet.core".stanza
  local rules = { [""] = { body = 1, ["*"] = 8 }, ["urn:a"] = { x = 2 }, ["urn:b"] = { ["*"] = 4 } }
  local cases = {
    { "<message/>", 0 }, { "<message>text</message>", 0 }, { "<message><body>x</body></message>", 1 },
    { "<message><subject/></message>", 8 }, { "<message><x xmlns='urn:a'/></message>", 2 },
    { "<message><y xmlns='urn:a'/></message>", 0 }, { "<message><body/>t<x xmlns='urn:a'/><y xmlns='urn:b'/></message>", 7 },
    { "<message><a xmlns='urn:c'><body/></a></message>", 0 },
  }
  for i, row in ipairs(cases) do
    local s = require "couplet.util.xml".parse(row[1])
    check.equal(native.flags(s, rules), row[2], "row " .. i)
    for _ in ipairs(s.tags) do end
    check.equal(native.flags(s, rules), row[2], "row " .. i .. ", its tags seen")
    s:tag("body"):up()
    check.equal(native.flags(s, rules), row[2] | 1, "row " .. i .. ", changed")
  end
  check.equal(native.flags(st.message({}, "x"), rules), 1)
end)

check.test("a copy with one more child", function()
  local native, long = require "couplet.core".stanza, ("i"):rep(300)
  for _, text in ipairs { "<message to='a'/>", "<message to='a'><body>x</body>t</message>",
    "<message xmlns='jabber:client'><x xmlns='u'/></message>" } do
    local s = parse(text)
    local before = tostring(s)
    local marked = native.with_leaf(s, "stanza-id", "urn:xmpp:sid:0", "by", "a&b@c", "id", long)
    check.equal(tostring(s), before, "itself unchanged")
    check.equal(tostring(marked), tostring(st.clone(s):tag("stanza-id", { xmlns = "urn:xmpp:sid:0", by = "a&b@c", id = long })))
    check.equal(#marked.tags, #s.tags + 1)
    marked.attr.to = ("b"):rep(1000)
    marked:tag("more"):up()
    check.equal(marked.tags[#marked.tags].name, "more")
    check.equal(marked:get_child("stanza-id", "urn:xmpp:sid:0").attr.by, "a&b@c")
    check.equal(tostring(s), before)
    check.equal(native.with_leaf(st.clone(parse(text)), "a", "b"):get_child("a", "b").name, "a", "of a clone")
  end
  local changed = parse "<message/>"
  changed:tag("x"):up()
  check.equal(native.with_leaf(changed, "a", "b"), nil)
  check.raises("invalid", native.with_leaf, parse "<message/>", "a", "b", "c", "\1")
end)

check.done()
