-- SPDX-License-Identifier: MIT
-- Cards and pictures of all ages are one: vcard-temp (XEP-0054), vCard4 (XEP-0292), avatars (XEP-0084, 0153, 0398).

local base64 = require "couplet.util.encodings".base64
local check = require "check"
local fake = require "fakehost"
local roster = require "couplet.roster"
local sha1 = require "couplet.util.hashes".sha1
local st = require "couplet.stanza"
local xml = require "couplet.util.xml"

local NS = "http://jabber.org/protocol/pubsub"
local PICTURE = "\137PNG romeo"
local HASH, DATA = sha1(PICTURE, true), base64.encode(PICTURE)
local FOUR = "urn:ietf:params:xml:ns:vcard-4.0"

local serial = 0
local function ask(client, kind, inner, to)
  serial = serial + 1
  client:send(("<iq type='%s' id='q%d'%s>%s</iq>"):format(kind, serial, to and (" to='%s'"):format(to) or "", inner))
  return client:expect { name = "iq", id = "q" .. serial }
end

local function publish(client, node, id, payload)
  check.equal(ask(client, "set", ("<pubsub xmlns='%s'><publish node='%s'><item id='%s'>%s</item></publish></pubsub>"):format(NS,
    node, id, payload)).attr.type, "result")
end

local function publish_avatar(client, picture)
  local id = sha1(picture, true)
  publish(client, "urn:xmpp:avatar:data", id, ("<data xmlns='urn:xmpp:avatar:data'>%s</data>"):format(base64.encode(picture)))
  publish(client, "urn:xmpp:avatar:metadata", id, ("<metadata xmlns='urn:xmpp:avatar:metadata'><info id='00' bytes='1'"
    .. " type='image/png' url='http://h/x'/><info id='%s' bytes='%d' type='image/png'/></metadata>"):format(id, #picture))
end

local function items(client, node, to)
  return ask(client, "get", ("<pubsub xmlns='%s'><items node='%s'/></pubsub>"):format(NS, node), to)
    :find("{" .. NS .. "}pubsub/items/item")
end

local function card(client, to)
  local reply = ask(client, "get", "<vCard xmlns='vcard-temp'/>", to)
  return reply:get_child("vCard", "vcard-temp"), reply
end

local function new(plugins, more)
  local list = { "iq", "presence", "message", "roster", "disco", table.unpack(plugins or { "pep", "vcard4", "vcard_legacy" }) }
  local host = fake.new { plugins = list, options = more }
  local romeo, juliet = host:client "romeo@example.org/orchard", host:client "juliet@example.org/balcony"
  for _, pair in ipairs { { "romeo", "juliet@example.org" }, { "juliet", "romeo@example.org" } } do
    host:run(function()
      local all = roster.load_roster(pair[1], "example.org")
      all[pair[2]] = { subscription = "both", groups = {} }
      assert(roster.save_roster(pair[1], "example.org", all, pair[2]))
    end)
  end
  return host, romeo, juliet, host:client "nurse@example.org/hall"
end

check.test("a card goes from vcard-temp to vCard4 and back, and loses nothing", function()
  local host, romeo, _, nurse = new()
  local text = "<vCard xmlns='vcard-temp'><FN>Romeo</FN><N><FAMILY>Montague</FAMILY><GIVEN>Romeo</GIVEN></N>"
    .. "<NICKNAME>R</NICKNAME><BDAY>1476-01-29</BDAY><JABBERID>romeo@example.org</JABBERID><ADR><HOME/>"
    .. "<STREET>Via Cappello</STREET><LOCALITY>Verona</LOCALITY><CTRY>Italy</CTRY></ADR><TEL><CELL/><NUMBER>+39 1</NUMBER></TEL>"
    .. "<EMAIL><USERID>romeo@montague.example</USERID></EMAIL><ORG><ORGNAME>Montague</ORGNAME><ORGUNIT>Sons</ORGUNIT></ORG>"
    .. "<CATEGORIES><KEYWORD>love</KEYWORD><KEYWORD>swords</KEYWORD></CATEGORIES><URL>http://romeo.example</URL>"
    .. "<DESC>In love</DESC><GEO><LAT>45.4</LAT><LON>10.9</LON></GEO></vCard>"
  check.equal(ask(romeo, "set", text).attr.type, "result")
  check.equal(tostring(card(nurse, "romeo@example.org")), tostring(xml.parse(text)))
  local four = ask(nurse, "get", "<vcard xmlns='" .. FOUR .. "'/>", "romeo@example.org"):get_child("vcard", FOUR)
  check.equal(four:find "fn/text#", "Romeo")
  check.equal(four:find "tel/parameters/type/text#", "cell")
  check.equal(four:find "impp/uri#", "xmpp:romeo@example.org")
  check.equal(four:find "n/surname#", "Montague")
  -- And the other way.
  check.equal(ask(romeo, "set", ("<vcard xmlns='%s'><fn><text>A</text></fn><tel><uri>tel:+3</uri></tel></vcard>"):format(FOUR))
    .attr.type, "result")
  local temp = card(nurse, "romeo@example.org")
  check.equal(temp:get_child_text "FN", "A")
  check.equal(temp:find "TEL/NUMBER#", "+3")
  check.equal(ask(nurse, "set", text, "romeo@example.org"):get_error(), "auth")
  check.equal(select(2, ask(nurse, "get", "<vcard xmlns='" .. FOUR .. "'/>", "juliet@example.org"):get_error()), "item-not-found")
  check.equal(select(2, select(2, card(nurse, "juliet@example.org")):get_error()), "item-not-found")
  check.equal(#card(nurse), 0)
  host:close()
end)

local INFO, IMAGE = "{urn:xmpp:avatar:metadata}metadata/info@id", "{urn:xmpp:avatar:data}data#"

check.test("0398 §3: an avatar is the card's photo, and a photo is an avatar; who may not see one sees neither", function()
  local host, romeo, juliet, nurse = new()
  publish_avatar(romeo, PICTURE)
  local photo = card(juliet, "romeo@example.org"):get_child "PHOTO"
  check.equal({ photo:get_child_text "TYPE", photo:get_child_text "BINVAL" }, { "image/png", DATA })
  check.equal(card(nurse, "romeo@example.org"), nil)      -- the nodes are for contacts
  local function set(client, text) return ask(client, "set", "<vCard xmlns='vcard-temp'><FN>J</FN>" .. text .. "</vCard>") end
  check.equal(set(juliet, ("<PHOTO><TYPE>image/jpeg</TYPE><BINVAL>\n%s\n</BINVAL></PHOTO>"):format(DATA)).attr.type, "result")
  check.equal(items(nurse, "urn:xmpp:avatar:metadata", "juliet@example.org"):find(INFO), HASH)
  check.equal(items(nurse, "urn:xmpp:avatar:data", "juliet@example.org"):find(IMAGE), DATA)
  check.equal(card(nurse, "juliet@example.org"):find "PHOTO/BINVAL#", DATA)
  check.equal(set(juliet, "").attr.type, "result")         -- no picture any more
  check.equal(card(nurse, "juliet@example.org"):get_child "PHOTO", nil)
  check.equal(items(nurse, "urn:xmpp:avatar:metadata", "juliet@example.org"):find(INFO), nil)
  check.equal(select(2, set(juliet, "<PHOTO><BINVAL>***</BINVAL></PHOTO>"):get_error()), "bad-request")
  local huge = ("A"):rep(300000)
  check.equal(select(2, set(juliet, "<PHOTO><BINVAL>" .. huge .. "</BINVAL></PHOTO>"):get_error()), "not-acceptable")
  check.ok(tostring(ask(nurse, "get", "<query xmlns='http://jabber.org/protocol/disco#info'/>", "nurse@example.org"))
    :find("urn:xmpp:pep-vcard-conversion:0", 1, true))
  host:close()
end)

check.test("0398 §4: the picture's hash goes into presence, broadcast and directed", function()
  local host, romeo, juliet, nurse = new()
  local function hash(client)
    local out = nil
    for _, s in ipairs(client:received()) do
      local x = s.name == "presence" and s.attr.from == romeo.jid and s:get_child("x", "vcard-temp:x:update")
      if x then out = x:get_child_text "photo" or (x:get_child "photo" and "" or "-") end
    end
    return out
  end
  juliet:send "<presence/>"
  romeo:send "<presence/>"
  check.equal(hash(juliet), "-")                           -- nothing known: not ready to say
  publish_avatar(romeo, PICTURE)
  check.equal(hash(juliet), HASH)                          -- contacts are told
  local x = "<x xmlns='vcard-temp:x:update'>%s</x>"
  local rows = {
    { "", HASH }, { x:format "", HASH }, { x:format "<photo>abc</photo>", HASH }, { x:format "<photo/>", "" },
  }
  for i, row in ipairs(rows) do
    romeo:send("<presence>" .. row[1] .. "</presence>")
    check.equal(i .. " " .. hash(juliet), i .. " " .. row[2])
    romeo:send("<presence to='nurse@example.org/hall'>" .. row[1] .. "</presence>")
    check.equal(i .. " " .. hash(nurse), i .. " " .. row[2])
  end
  romeo:send "<presence/>"
  hash(juliet)
  publish_avatar(romeo, "another")
  check.equal(hash(juliet), sha1("another", true))
  publish(romeo, "urn:xmpp:avatar:metadata", "current", "<metadata xmlns='urn:xmpp:avatar:metadata'/>")
  check.equal(hash(juliet), "-")
  host:close()
end)

check.test("0153: what is no hash of a picture goes into nobody's presence", function()
  local host, romeo, juliet = new()
  romeo:send "<presence/>"
  juliet:send "<presence/>"
  for _, id in ipairs { ("z"):rep(10000), ("z"):rep(40), HASH .. "0", "", HASH:sub(2) } do
    publish(romeo, "urn:xmpp:avatar:metadata", "1", ("<metadata xmlns='urn:xmpp:avatar:metadata'><info id='%s' bytes='1'"
      .. " type='image/png'/></metadata>"):format(id))
    juliet:received()
    romeo:send "<presence><show>away</show></presence>"
    local x = juliet:expect { name = "presence", from = "romeo@example.org/orchard" }:get_child("x", "vcard-temp:x:update")
    check.equal(x and #x.tags, 0, id)
  end
  host:close()
end)

check.test("what mod_vcard has kept is read, and published when its owner comes", function()
  local host = new { "pep" }
  local kept = xml.parse(("<vCard xmlns='vcard-temp'><FN>Old</FN><PHOTO><TYPE>a/b</TYPE><BINVAL>%s</BINVAL></PHOTO></vCard>")
    :format(DATA))
  host:run(function() assert(host:store("vcard"):set("tybalt", st.preserialize(kept))) end)
  host:load "vcard_legacy"
  local nurse = host:client "paris@example.org/hall"
  check.equal(card(nurse, "tybalt@example.org"):get_child_text "FN", "Old")
  check.equal(card(nurse, "tybalt@example.org"):find "PHOTO/BINVAL#", DATA)
  host:client "tybalt@example.org/street"
  host:advance(0)
  check.equal(host:run(function() return (host:store("vcard"):get "tybalt") end), nil)
  check.equal(card(nurse, "tybalt@example.org"):get_child_text "FN", "Old")
  check.equal(items(nurse, "urn:xmpp:avatar:metadata", "tybalt@example.org"):find(INFO), HASH)
  host:close()
end)

check.test("loaded beside mod_vcard, in any order, it is this one that answers", function()
  for _, order in ipairs { { "vcard", "pep", "vcard_legacy" }, { "pep", "vcard_legacy", "vcard" } } do
    local host, romeo, _, nurse = new(order)
    check.equal(ask(romeo, "set", "<vCard xmlns='vcard-temp'><FN>Romeo</FN></vCard>").attr.type, "result")
    check.ok(items(nurse, "urn:xmpp:vcard4", "romeo@example.org"))
    check.equal(card(nurse, "romeo@example.org"):get_child_text "FN", "Romeo")
    host:close()
  end
end)

check.done()
