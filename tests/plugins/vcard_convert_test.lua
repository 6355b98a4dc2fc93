-- SPDX-License-Identifier: MIT
-- One card in two formats (XEP-0292 §8): each property there and back.

local check = require "check"
local fake = require "fakehost"
local xml = require "couplet.util.xml"

local TEMP, FOUR = "vcard-temp", "urn:ietf:params:xml:ns:vcard-4.0"
local convert
do
  local host = fake.new { plugins = {} }
  convert = host:load("t", [[convert = module:require "vcard/convert"]]).convert
end

local function temp(inner) return assert(xml.parse(("<vCard xmlns='%s'>%s</vCard>"):format(TEMP, inner))) end
local function four(inner) return assert(xml.parse(("<vcard xmlns='%s'>%s</vcard>"):format(FOUR, inner))) end
local function inner(card) return (tostring(card):gsub("^<[^>]*>", ""):gsub("</v[cC]ard>$", "")) end

local function typed(words, pref)
  local out = words ~= "" and "<type>" .. words:gsub("%S+", "<text>%0</text>"):gsub(" ", "") .. "</type>" or ""
  return "<parameters>" .. out .. (pref and "<pref><integer>1</integer></pref>" or "") .. "</parameters>"
end

check.test("there and back, nothing lost", function()
  local rows = {
    -- vcard-temp, vCard4
    { "<FN>Juliet Capulet</FN>", "<fn><text>Juliet Capulet</text></fn>" },
    { "<N><FAMILY>Capulet</FAMILY><GIVEN>Juliet</GIVEN><MIDDLE>B.</MIDDLE><PREFIX>Lady</PREFIX><SUFFIX>II</SUFFIX></N>",
      "<n><surname>Capulet</surname><given>Juliet</given><additional>B.</additional><prefix>Lady</prefix>"
      .. "<suffix>II</suffix></n>" },
    { "<N><FAMILY>van Dyck</FAMILY></N><SORT-STRING>Dyck</SORT-STRING>",
      "<n><parameters><sort-as><text>Dyck</text></sort-as></parameters><surname>van Dyck</surname></n>" },
    { "<NICKNAME>Jule</NICKNAME>", "<nickname><text>Jule</text></nickname>" },
    { "<NICKNAME>Jule</NICKNAME><NICKNAME>J.</NICKNAME>",
      "<nickname><text>Jule</text></nickname><nickname><text>J.</text></nickname>" },
    { "<BDAY>1597-07-31</BDAY>", "<bday><date>1597-07-31</date></bday>" },
    { "<JABBERID>juliet@example.org</JABBERID>", "<impp><uri>xmpp:juliet@example.org</uri></impp>" },
    { "<TZ>-03:00</TZ>", "<tz><text>-03:00</text></tz>" },
    { "<GEO><LAT>45.44</LAT><LON>10.99</LON></GEO>", "<geo><uri>geo:45.44,10.99</uri></geo>" },
    { "<TITLE>Heiress</TITLE>", "<title><text>Heiress</text></title>" },
    { "<ROLE>Lover</ROLE>", "<role><text>Lover</text></role>" },
    { "<DESC>a &amp; b</DESC>", "<note><text>a &amp; b</text></note>" },
    { "<REV>2026-01-01T00:00:00Z</REV>", "<rev><timestamp>2026-01-01T00:00:00Z</timestamp></rev>" },
    { "<UID>urn:uuid:1</UID>", "<uid><uri>urn:uuid:1</uri></uid>" },
    { "<URL>https://example.org/</URL>", "<url><uri>https://example.org/</uri></url>" },
    { "<PRODID>Client 1.0</PRODID>", "<prodid><text>Client 1.0</text></prodid>" },
    { "<ORG><ORGNAME>House</ORGNAME><ORGUNIT>Kitchen</ORGUNIT></ORG>", "<org><text>House</text><text>Kitchen</text></org>" },
    { "<CATEGORIES><KEYWORD>a</KEYWORD><KEYWORD>b</KEYWORD></CATEGORIES>",
      "<categories><text>a</text><text>b</text></categories>" },
    { "<TEL><HOME/><VOICE/><NUMBER>1</NUMBER></TEL>", "<tel>" .. typed "home voice" .. "<text>1</text></tel>" },
    { "<TEL><PREF/><NUMBER>1</NUMBER></TEL>", "<tel>" .. typed("", true) .. "<text>1</text></tel>" },
    { "<EMAIL><PREF/><INTERNET/><USERID>j@example.org</USERID></EMAIL>",
      "<email>" .. typed("internet", true) .. "<text>j@example.org</text></email>" },
    { "<ADR><WORK/><POBOX>1</POBOX><EXTADD>2</EXTADD><STREET>3</STREET><LOCALITY>4</LOCALITY><REGION>5</REGION><PCODE>6</PCODE>"
      .. "<CTRY>7</CTRY></ADR>", "<adr>" .. typed "work" .. "<pobox>1</pobox><ext>2</ext><street>3</street><locality>4</locality>"
      .. "<region>5</region><code>6</code><country>7</country></adr>" },
    { "<LOGO><TYPE>image/png</TYPE><BINVAL>AAAA</BINVAL></LOGO>", "<logo><uri>data:image/png;base64,AAAA</uri></logo>" },
    { "<LOGO><BINVAL>AAAA</BINVAL></LOGO>", "<logo><uri>data:application/octet-stream;base64,AAAA</uri></logo>" },
    { "<LOGO><EXTVAL>https://example.org/l</EXTVAL></LOGO>", "<logo><uri>https://example.org/l</uri></logo>" },
    { "<SOUND><BINVAL>AAAA</BINVAL></SOUND>", "<sound><uri>data:application/octet-stream;base64,AAAA</uri></sound>" },
    { "<SOUND><EXTVAL>https://example.org/s</EXTVAL></SOUND>", "<sound><uri>https://example.org/s</uri></sound>" },
    { "<PHOTO><EXTVAL>https://example.org/p</EXTVAL></PHOTO>", "<photo><uri>https://example.org/p</uri></photo>" },
    { "<KEY><CRED>-----BEGIN</CRED></KEY>", "<key><text>-----BEGIN</text></key>" },
    { "<KEY><TYPE>application/pgp-keys</TYPE><CRED>mQEN</CRED></KEY>",
      "<key><parameters><mediatype><text>application/pgp-keys</text></mediatype></parameters><text>mQEN</text></key>" },
    { "<AGENT><EXTVAL>https://example.org/a</EXTVAL></AGENT>",
      "<related>" .. typed "agent" .. "<uri>https://example.org/a</uri></related>" },
  }
  for i, row in ipairs(rows) do
    local out = convert.to4(temp(row[1]))
    check.equal(i .. inner(out), i .. row[2])
    check.equal(i .. inner(convert.to_temp(out)), i .. row[1])
    check.equal(i .. inner(convert.to_temp(four(row[2]))), i .. row[1])
    check.equal(i .. inner(convert.to4(convert.to_temp(four(row[2])))), i .. row[2])
  end
end)

check.test("what newer clients write otherwise, and what has no place on the other side", function()
  local rows = {
    -- vCard4 -> vcard-temp
    { "<tel>" .. typed "cell" .. "<uri>tel:+1-2</uri></tel>", "<TEL><CELL/><NUMBER>+1-2</NUMBER></TEL>" },
    { "<bday><text>circa 1800</text></bday>", "<BDAY>circa 1800</BDAY>" },
    { "<uid><text>x</text></uid>", "<UID>x</UID>" },
    { "<impp><uri>sip:juliet@example.org</uri></impp>", "" },
    { "<key><uri>data:application/pgp-keys;base64,mQEN</uri></key>",
      "<KEY><TYPE>application/pgp-keys</TYPE><CRED>mQEN</CRED></KEY>" },
    { "<key><uri>https://example.org/k</uri></key>", "<KEY><CRED>https://example.org/k</CRED></KEY>" },
    { "<key/>", "" }, { "<logo/>", "" }, { "<logo><uri/></logo>", "" }, { "<fn/>", "" }, { "<geo><uri>here</uri></geo>", "" },
    { "<photo><uri>data:image/png;base64,AAAA</uri></photo>", "" },
    { "<related>" .. typed "friend" .. "<uri>xmpp:romeo@example.org</uri></related>", "" },
    { "<gender><sex>F</sex></gender>", "" },
  }
  for i, row in ipairs(rows) do check.equal(i .. inner(convert.to_temp(four(row[1]))), i .. row[2]) end
  for i, row in ipairs {
    -- vcard-temp -> vCard4
    { "<NOTE>n</NOTE>", "<note><text>n</text></note>" },
    { "<PHOTO><TYPE>image/png</TYPE><BINVAL>AAAA</BINVAL></PHOTO>", "" },
    { "<LOGO><TYPE>image/png;x=\"</TYPE><BINVAL> AA\n AA </BINVAL></LOGO>",
      "<logo><uri>data:application/octet-stream;base64,AAAA</uri></logo>" },
    { "<SOUND><PHONETIC>x</PHONETIC></SOUND>", "" }, { "<MAILER>m</MAILER>", "" }, { "<CLASS><PUBLIC/></CLASS>", "" },
    { "<KEY/>", "" }, { "<LOGO/>", "" }, { "<FN/>", "" }, { "<GEO><LAT>1</LAT></GEO>", "" }, { "<STRANGE/>", "" },
  } do check.equal(i .. inner(convert.to4(temp(row[1]))), i .. row[2]) end
end)

check.done()
