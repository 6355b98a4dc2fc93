-- SPDX-License-Identifier: MIT
-- jid_test.lua: addresses taken apart, prepared, compared and escaped (RFC 7622, XEP-0106).
local check = require "check"
local jid = require "couplet.jid"
local encodings = require "couplet.util.encodings"

local function list(...) return table.pack(...) end

check.test("split", function()
  for _, row in ipairs {
    { "node@server", "node", "server" }, { "node@server/resource", "node", "server", "resource" }, { "server", nil, "server" },
    { "server/resource", nil, "server", "resource" }, { "server/resource@foo", nil, "server", "resource@foo" },
    { "node@server/a/b@c", "node", "server", "a/b@c" },
  } do
    check.equal(list(jid.split(row[1])), { row[2], row[3], row[4], n = 3 }, row[1])
    check.equal(jid.node(row[1]), row[2])
    check.equal(jid.host(row[1]), row[3])
    check.equal(jid.resource(row[1]), row[4])
    check.equal(jid.bare(row[1]), jid.join(row[2], row[3]))
    check.equal(jid.join(row[2], row[3], row[4]), row[1])
  end
end)

check.test("what is no address gives nil", function()
  for _, bad in ipairs { "", "@", "@server", "node@", "node@/r", "server/", "node@server/", "/r", "a@b@c", 5, true, {}, print } do
    for _, fn in ipairs { "split", "prepped_split", "bare", "node", "host", "resource", "prep" } do
      check.equal(jid[fn](bad), nil, fn .. " " .. tostring(bad))
    end
  end
  check.equal(jid.split(nil), nil)
  check.equal(jid.split(), nil)
  check.equal(jid.join("a", nil, "c"), nil)
end)

check.test("prep", function()
  check.equal(jid.prep("Juliet@Capulet.Example./Balcony"), "juliet@capulet.example/Balcony")
  check.equal(jid.prep("juliet@capulet.example/x"), "juliet@capulet.example/x")
  check.equal(list(jid.prepped_split("É@É.example/É")), { "é", "é.example", "É", n = 3 })
  check.equal(list(jid.prepped_split("A.example")), { nil, "a.example", nil, n = 3 })
  check.equal(jid.prep("a b@c"), nil)
  check.equal(jid.prep("😀@a"), "😀@a")
  check.equal(jid.prep("😀@a", true), nil)
  check.equal(jid.prep(("a"):rep(1023) .. "@b/" .. ("c"):rep(1023)), ("a"):rep(1023) .. "@b/" .. ("c"):rep(1023))
  check.equal(jid.prep(("A"):rep(1024) .. "@b"), nil)
  check.equal(jid.prep("a@b/" .. ("c"):rep(1024)), nil)
end)

check.test("compare", function()
  for _, row in ipairs {
    { "host", "host", true }, { "host", "other", false }, { "user@host/resource", "host", true },
    { "user@host", "user@host/resource", false },
    { "user@host/resource", "user@host/resource", true }, { "user@host/resource", "user@host", true },
    { "other@host", "user@host", false },
    { "user@host/a", "host/a", true }, { "user@host/b", "host/a", false }, { "host", "user@host", false }, { "host", "@", false },
  } do
    check.equal(jid.compare(row[1], row[2]), row[3], row[1] .. " " .. row[2])
  end
end)

check.test("escape", function()
  check.equal(jid.escape([[d'artagnan & co]]), [[d\27artagnan\20\26\20co]])
  check.equal(jid.unescape([[d\27artagnan\20\26\20co]]), [[d'artagnan & co]])
  check.equal(jid.unescape(jid.escape([[\20\5c\\2f]])), [[\20\5c\\2f]])
  check.equal(jid.escape(nil), nil)
  check.equal(jid.escape(""), "")
end)

check.test("encodings", function()
  local prep, idna, utf8 = encodings.stringprep, encodings.idna, encodings.utf8
  check.equal(prep.nodeprep("A"), "a")
  check.equal(prep.nodeprep("a@"), nil)
  check.equal(prep.nameprep("EXAMPLE"), "example")
  check.equal(prep.resourceprep("A b"), "A b")
  check.equal(prep.resourceprep("\n"), nil)
  check.equal(prep.saslprep("a\u{a0}b"), "a b")
  check.equal(prep.saslprep(nil), nil)
  check.equal(prep.nodeprep("😀"), "😀")
  check.equal(prep.nodeprep("😀", true), nil)
  check.equal(idna.to_ascii("bébé.example"), "xn--bb-bjab.example")
  check.equal(idna.to_unicode("xn--bb-bjab.example"), "bébé.example")
  check.equal(idna.to_ascii("a..b"), nil)
  check.equal(utf8.valid("é"), true)
  check.equal(utf8.valid("\xe9"), false)
  check.equal(utf8.length("é😀"), 2)
  check.equal(utf8.length("\xff"), nil)
  check.equal(encodings.base64.decode(encodings.base64.encode("couplet")), "couplet")
end)

check.done()
