-- SPDX-License-Identifier: MIT
-- Libraries about text: interpolation, templates, HTTP words, human units and tables, JSON schemas, vCards.
local check = require "check"
local st = require "couplet.stanza"
local json = require "couplet.util.json"
local xml = require "couplet.util.xml"

check.test("interpolation", function()
  local render = require "couplet.util.interpolation".new("%b{}", function(s) return "<" .. s .. ">" end,
    { up = string.upper, cut = function(s, n) return s:sub(1, tonumber(n)) end, len = function(s) return #s end })
  local values = { name = "juliet", none = nil, no = false, zero = 0, list = { "a", "b" }, map = { k = "v" },
    deep = { a = { b = "x" } }, cards = { { n = "1" }, { n = "2" } } }
  local rows = {
    { "hello {name}!", "hello <juliet>!" }, { "{name!}", "juliet" }, { "[{none}]", "[]" }, { "{zero}", "<0>" },
    { "{none?nobody}", "nobody" }, { "{name?nobody}", "<juliet>" }, { "{none?{name}}", "<juliet>" },
    { "{name&yes {name!}}", "yes juliet" }, { "{no&yes}", "" }, { "{no~not {name!}}", "not juliet" }, { "{name~not}", "" },
    { "{list#{idx!}={item!};}", "1=a;2=b;" }, { "{list#{item!}{name!} }", "ajuliet bjuliet " },
    { "{map%{idx}:{item!}}", "<k>:v" },
    { "{cards#{item.n!}}", "12" }, { "{deep.a.b!}", "x" }, { "[{deep.a.c.d}]", "[]" }, { "{name|up}", "<JULIET>" },
    { "{name|up!}", "JULIET" },
    { "{name|cut{3}!}", "jul" }, { "{name|cut{3}|up!}", "JUL" }, { "{name|len}", "<6>" }, { "{none|up?x}", "x" },
    { "{ not a block }", "{ not a block }" }, { "{list!none}", nil }, { "{name|nosuch!}", "juliet" },
  }
  for i, row in ipairs(rows) do if row[2] then check.equal(render(row[1], values), row[2], "row " .. i) end end
  local other = require "couplet.util.interpolation".new("%b()")
  check.equal(other("a (name) {name}", { name = "x" }), "a x {name}")
end)

check.test("templates", function()
  local t = require "couplet.util.template" [[ <message to="{to}" type='chat'><body>Hi {name}, {what}</body
    ><x xmlns="urn:x">{x}</x></message> ]]
  local a = t.apply { to = "a@b", name = "<R>", what = 5, x = st.stanza("y") }
  check.equal(a.attr.to, "a@b")
  check.equal(a:get_child_text "body", "Hi <R>, 5")
  check.ok(a:get_child("x", "urn:x"):get_child("y"))
  check.equal(t { to = "c" }:get_child_text "body", "Hi , ")
  check.equal(t.apply { to = "other" }.attr.to, "other")           -- the first is not changed by the second
  check.equal(a.attr.to, "a@b")
  check.raises("template", require "couplet.util.template", "<a>")
end)

check.test("templates of stanzas", function()
  local render = require "couplet.util.xtemplate".render
  local s = xml.parse [[<message from="a&amp;b"><body>x&lt;y</body
    ><list xmlns="l"><i n="1">one</i><i n="2">two</i></list></message>]]
  local rows = {
    { "{@from}: {body#}", "a&amp;b: x&lt;y" }, { "{@to|default{nobody}}", "nobody" }, { "{@to}", "" },
    { "{body#|upper}", "X&lt;Y" },
    { "{body#|sub(1,1)}", "x" }, { "{{l}list|each({l}i){{@n}={#};}}", "1=one;2=two;" }, { "{@from|shout}", "A&amp;B!" },
  }
  local filters = { shout = function(v) return v:upper() .. "!" end }
  for i, row in ipairs(rows) do check.equal(render(row[1], s, nil, filters), row[2], "row " .. i) end
  check.equal(render("{@from}", s, function(x) return x end), "a&b")
end)

check.test("words of HTTP", function()
  local http = require "couplet.util.http"
  check.equal(http.urlencode "a b/ü~.-_", "a%20b%2f%c3%bc~.-_")
  check.equal(http.urldecode "a%20b%2F%zz", "a b/%zz")
  check.equal(http.urlencode(nil), nil)
  check.equal(http.formencode { { name = "a", value = "1 2" }, { name = "b&", value = "=" } }, "a=1+2&b%26=%3d")
  check.equal(http.formencode { z = "1", y = 2 }, "y=2&z=1")
  local form = http.formdecode "a=1+2&b%26=%3d&a=3"
  check.equal({ form[1].name, form[1].value, form[2].name, form["b&"], form.a }, { "a", "1 2", "b&", "=", "3" })
  check.equal(http.formdecode "just+text", "just text")
  for _, row in ipairs { { "close, Upgrade", "upgrade", true }, { "upgraded", "upgrade", false }, { "", "x", false } } do
    check.equal(http.contains_token(row[1], row[2]), row[3])
  end
  for path, want in pairs { [""] = "/", ["a//b/"] = "/a/b", ["/a/../../b"] = "/b", ["/./a"] = "/a" } do
    check.equal(http.normalize_path(path), want)
  end
  check.equal(http.normalize_path("/a", true), "/a/")
  check.equal(http.parse_forwarded 'for=192.0.2.60;proto=http;by=203.0.113.43, For="[2001:db8::1]:47"', {
    { ["for"] = "192.0.2.60", proto = "http", by = "203.0.113.43" }, { ["for"] = "[2001:db8::1]:47" } })
  for _, bad in ipairs { "for", 'for="x', ";;", "for=a b" } do check.equal(http.parse_forwarded(bad), nil, bad) end
  check.equal({ http.parse_params 'text/html; charset="utf\\"8"; q=1' }, { "text/html", { charset = 'utf"8', q = "1" } })
end)

check.test("human units and tables", function()
  local units = require "couplet.util.human.units"
  for _, row in ipairs { { 0, "0" }, { 999, "999" }, { 1000, "1k" }, { 1234567, "1.235M" }, { 0.001, "1m" },
    { -2500, "-2.5k" } } do
    check.equal(units.format(row[1]), row[2])
  end
  check.equal(units.format(1536, "B", "b"), "1.5KiB")
  check.equal(units.format(1024 ^ 2, "B", "b"), "1MiB")
  local human = require "couplet.util.human.io"
  local row, width = human.table({ { title = "Name", key = "name", width = 6 },
    { title = "N", key = "n", width = 3, align = "right" },
    { title = "Rest", key = "rest", mapper = function(v) return v and "<" .. v .. ">" end } }, 20)
  check.equal(width, 20)
  check.equal(row(), "Name     N Rest")
  check.equal(row { name = "Julietta", n = 7, rest = "x\ny" }, "Julie…   7 <x y>")
  check.equal(human.ellipsis("ääää", 3), "ää…")
  check.equal(human.pad_left("ä", 3), "  ä")
end)

check.test("command lines", function()
  local parse = require "couplet.util.argparse".parse
  local options = { value_params = { host = true }, short_params = { v = "verbose", h = "host" } }
  local args = { "-v", "--host", "a", "--no-colour", "--level=3", "file", "--x" }
  check.equal(parse(args, options), { verbose = true, host = "a", colour = false, level = "3", "file", "--x" })
  check.equal(args, { "file", "--x" })
  check.equal({ parse({ "--host" }, options) }, { nil, "missing-value", "--host" })
  check.equal({ parse({ "-q" }, { strict = true }) }, { nil, "param-not-found", "-q" })
  check.equal(parse({ "a", "--b", "--", "--c" }, { stop_on_positional = false }), { b = true, "a", "--c" })
  check.equal(parse({ "--t=1", "--t=2" }, { array_params = { t = true } }).t, { "1", "2" })
end)

check.test("JSON pointers", function()
  local resolve = require "couplet.util.jsonpointer".resolve
  local doc = json.decode [[{ "foo": ["bar", "baz"], "": 0, "a/b": 1, "m~n": 8, "k": { "l": null } }]]
  for pointer, want in pairs { ["/foo/0"] = "bar", ["/"] = 0, ["/a~1b"] = 1, ["/m~0n"] = 8 } do
    check.equal(resolve(doc, pointer), want, pointer)
  end
  check.equal(resolve(doc, ""), doc)
  for _, pointer in ipairs { "/foo/2", "/foo/01", "/x/y", "foo", "/foo/0/1" } do
    check.equal(resolve(doc, pointer), nil, pointer)
  end
end)

check.test("JSON schemas", function()
  local validate = require "couplet.util.jsonschema".validate
  local function schema(text) return json.decode(text) end
  local rows = {
    { '{"type":"string","minLength":2}', "ab", "a" }, { '{"type":"integer","minimum":3}', 3, 2 },
    { '{"type":"integer"}', 3.0, 3.5 },
    { '{"enum":["a",1]}', 1, "b" }, { '{"const":{"a":[1]}}', { a = { 1 } }, { a = { 2 } } },
    { '{"type":["string","null"]}', json.null, 5 },
    { '{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}', { a = "x" },
      { a = "x", b = 1 } },
    { '{"required":["a"]}', { a = 1 }, { b = 1 } },
    { '{"type":"array","items":{"type":"number"},"uniqueItems":true}', { 1, 2 }, { 1, 1 } },
    { '{"prefixItems":[{"type":"string"}],"items":{"type":"number"}}', { "a", 1 }, { "a", "b" } },
    { '{"contains":{"const":1}}', { 2, 1 }, { 2 } },
    { '{"anyOf":[{"type":"string"},{"minimum":5}]}', 6, 4 }, { '{"oneOf":[{"multipleOf":2},{"multipleOf":3}]}', 4, 6 },
    { '{"not":{"type":"string"}}', 1, "x" }, { '{"if":{"type":"string"},"then":{"maxLength":1},"else":{"minimum":1}}', "a",
      "ab" },
    { '{"if":{"type":"string"},"else":{"minimum":1}}', 1, 0 }, { '{"$ref":"#/$defs/n","$defs":{"n":{"type":"number"}}}', 1, "1" },
    { '{"dependentRequired":{"a":["b"]}}', { a = 1, b = 1 }, { a = 1 } },
    { '{"propertyNames":{"maxLength":1}}', { a = 1 }, { ab = 1 } },
    { '{"allOf":[{"minimum":1},{"maximum":3}]}', 2, 4 }, { '{"exclusiveMaximum":3}', 2.9, 3 },
  }
  for i, row in ipairs(rows) do
    check.equal(validate(schema(row[1]), row[2]), true, "row " .. i)
    local ok, errs = validate(schema(row[1]), row[3])
    check.equal(ok, false, "row " .. i)
    check.ok(errs[1].error and errs[1].schemaLocation and errs[1].instanceLocation)
  end
  local _, errs = validate(schema '{"properties":{"a":{"items":{"type":"string"}}}}', { a = { "x", 1 } })
  check.equal(errs[1].instanceLocation, "/a/1")
  local loop = schema '{"$ref":"#"}'
  check.equal(validate(loop, 1), false)                                -- ends
  check.equal(validate(schema '{"$ref":"http://elsewhere/"}', 1), false)
end)

check.test("stanzas as tables by a schema, and back", function()
  local map = require "couplet.util.datamapper"
  local schema = json.decode [[{
    "type": "object", "xml": { "name": "message", "namespace": "jabber:client" },
    "properties": {
      "to": { "type": "string", "xml": { "attribute": true } },
      "lang": { "type": "string", "xml": { "attribute": true, "prefix": "xml" } },
      "body": "string",
      "priority": { "type": "integer" },
      "state": { "type": "string", "enum": ["active", "gone"], "xml": { "x_name_is_value": true, "namespace": "urn:states" } },
      "store": { "type": "boolean", "xml": { "x_name_is_value": true, "namespace": "urn:hints" } },
      "id": { "type": "string", "xml": { "x_single_attribute": "id", "name": "stanza-id", "namespace": "urn:sid" } },
      "delay": { "type": "object", "xml": { "namespace": "urn:delay" }, "properties": {
        "stamp": { "type": "string", "xml": { "attribute": true } }, "reason": { "type": "string", "xml": { "text": true } } } },
      "refs": { "type": "array", "items": { "$ref": "#/$defs/ref" } },
      "groups": { "type": "array", "xml": { "wrapped": true, "name": "groups" },
        "items": { "type": "string", "xml": { "name": "group" } } }
    },
    "$defs": { "ref": { "type": "string", "xml": { "name": "ref", "namespace": "urn:ref", "x_single_attribute": "uri" } } }
  }]]
  local s = assert(xml.parse [[<message xmlns="jabber:client" to="a@b" xml:lang="de"><body>hi</body>
    <priority>-3</priority><gone xmlns="urn:states"/>
    <store xmlns="urn:hints"/><stanza-id xmlns="urn:sid" id="7"/><delay xmlns="urn:delay" stamp="now">late</delay>
    <ref xmlns="urn:ref" uri="x"/><ref xmlns="urn:ref" uri="y"/><groups><group>A</group><group>B</group></groups></message>]])
  local want = { to = "a@b", lang = "de", body = "hi", priority = -3, state = "gone", store = true, id = "7",
    delay = { stamp = "now", reason = "late" }, refs = { "x", "y" }, groups = { "A", "B" } }
  local got = map.parse(schema, s)
  check.equal(got, want)
  local back = map.unparse(schema, got)
  check.equal(back.name, "message")
  check.equal(back.attr.xmlns, "jabber:client")
  check.equal(map.parse(schema, assert(xml.parse(tostring(back)))), want)
  check.equal(map.parse(schema, assert(xml.parse "<message xmlns='jabber:client'/>")), {})
end)

check.test("vCards", function()
  local vcard = require "couplet.util.vcard"
  local text = "BEGIN:VCARD\r\nVERSION:3.0\r\nFN:Juliet\\, C.\r\nN:Capulet;Juliet;;;\r\nTEL;TYPE=home,voice:+39 "
    .. "1\r\nNOTE:a\\nb\r\n  c\r\nEND:VCARD"
  local cards = vcard.from_text(text)
  check.equal(#cards, 1)
  check.equal(cards[1][1], { name = "FN", "Juliet, C." })
  check.equal(cards[1][3], { name = "TEL", TYPE = { "home", "voice" }, "+39 1" })
  check.equal(cards[1][4][1], "a\nb c")
  local x = vcard.to_xep54(cards[1])
  check.equal(x:get_child_text "FN", "Juliet, C.")
  check.equal(x:find "N/GIVEN#", "Juliet")
  check.ok(x:get_child "TEL":get_child "HOME")
  check.equal(x:find "TEL/NUMBER#", "+39 1")
  local again = vcard.from_xep54(x)
  check.equal(again[3], { name = "TEL", TYPE = { "home", "voice" }, "+39 1" })
  check.equal(again[2], { name = "N", "Capulet", "Juliet", "", "", "" })
  check.equal(vcard.from_text(vcard.to_text(cards[1])), cards)
  local four = vcard.to_vcard4(cards[1])
  check.equal(four:find "n/given#", "Juliet")
  check.equal(four:find "tel/text#", "+39 1")
end)

check.test("terminal colours", function()
  local colours = require "couplet.util.termcolours"
  check.equal(colours.getstring(colours.getstyle("bold", "red"), "x"), "\27[1;31mx\27[0m")
  check.equal(colours.getstring(nil, "x"), "x")
end)

check.done()
