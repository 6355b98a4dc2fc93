-- SPDX-License-Identifier: MIT
-- The Lua half of fuzz_federation. The first byte chooses:
--   0  the rest are operations with mod_dialback on streams that are no connections: each element, from whom, with which key and
--      address is chosen by a byte, or taken as it is from the input. A domain must not be proved unless the server that was
--      asked said `valid` about this very question; what one stream may ask is bounded; each element has one answer at most.
--   1  a certificate, PEM or DER: what util.x509 reads must have no NUL and fit what verify_identity says
--   2  names, in lines "d", "s", "x" or "c" (DNS, SRV, XMPP address, common name): as 1
--   3  DNS answers: each byte count and so many bytes are rdata; what couplet.dial makes of them is bounded, and addresses

local fake = require "fakehost"
local dial = require "couplet.dial"
local dns = require "couplet.util.dns"
local adns = require "couplet.net.adns"
local jid = require "couplet.jid"
local count = require "couplet.util.iterators".count
local pton = require "couplet.util.net".pton
local s2s = require "couplet.s2s"
local st = require "couplet.stanza"
local to_ascii = require "couplet.util.encodings".idna.to_ascii
local x509 = require "couplet.util.x509"

local HERE = "verona.lab"
local host = fake.new { name = HERE, plugins = {}, options = { dialback_secret = "fuzz", s2s_require_encryption = false,
  dialback_max_domains = 5, dialback_max_questions = 3 } }
host:add_host("arden.lab", { modules_enabled = { "dialback" }, dialback_secret = "fuzz" })
host:load "dialback"
function s2s.talks(name) return name == HERE or name == "arden.lab" end

local function wanted(cond, what, ...)
  if not cond then error(what:format(...), 2) end
end

-- 0: dialback ---------------------------------------------------------------------------------------------------------------

local NS = "jabber:server:dialback"
local domains = { HERE, "arden.lab", "a.lab", "b.lab", "c.lab", "d.lab", "e.lab", "f.lab", "VERONA.lab", "a b", "", "x@a.lab" }
local kinds = { "valid", "invalid", "error", "", "other" }
local ids = { "stream-in", "stream-out", "", "x" }

local function session(direction, fields)
  local s = { type = direction == "incoming" and "s2sin_unauthed" or "s2sout_unauthed", direction = direction, hosts = {},
    base_type = direction == "incoming" and "s2sin" or "s2sout", streamid = "stream-" .. direction:match "^%a[nu]t?", sent = {},
    ip = "192.0.2.1", log = function() end }
  function s.sends2s(x)
    s.sent[#s.sent + 1] = tostring(x)
    return true
  end
  function s:close(reason) self.closing, self.reason = true, reason return true end
  for k, v in pairs(fields or {}) do s[k] = v end
  return s
end

local function dialback(bytes)
  local at = 1
  local function byte(n)
    at = at + 1
    return (bytes:byte(at) or 0) % n
  end
  local function word(list)
    local i = byte(#list + 2)
    if i < #list then return list[i + 1] end
    if i == #list then return nil end
    local n = byte(24)
    local text = bytes:sub(at + 1, at + n)
    at = at + n
    if not utf8.len(text) then text = text:gsub("[\128-\255]", "") end          -- what XML cannot say does not come this far
    return (text:gsub("[%c]", ""))
  end

  local flags = byte(4)
  local asked, answered = {}, {}                         -- outgoing streams by pair; questions that got `valid`
  s2s.check_certificate = function() return flags & 1 == 0 end
  s2s.outgoing = function(here, remote)
    if flags & 2 ~= 0 and remote == "b.lab" then return nil, "remote-server-not-found" end
    local key = here .. " " .. remote
    asked[key] = asked[key] or session("outgoing", { from_host = here, to_host = remote, type = "s2sout" })
    return asked[key]
  end
  local incoming = session("incoming")
  local ours = session("outgoing", { from_host = HERE, to_host = "a.lab", host = HERE, streamid = "out" })
  ours.hosts["a.lab"], ours.claimed = { authed = false }, { [HERE .. " a.lab"] = true }
  local events = host.events

  local function element(name, attr, text)
    attr.xmlns = NS
    local e = st.stanza(name, attr)
    if text and text ~= "" then e:text(text) end
    return e
  end
  local function feed(to, e)
    local before = #to.sent
    fake.run(events.fire_event, "stanza/" .. NS .. ":" .. e.name, { origin = to, stanza = e })
    wanted(#to.sent - before <= 2, "%d answers to one element", #to.sent - before)
  end

  local operations = {
    function()                                           -- a claim, or a question
      local name = byte(2) == 0 and "result" or "verify"
      feed(incoming, element(name, { from = word(domains), to = word(domains), id = word(ids), type = word(kinds) }, word(ids)))
    end,
    function()                                           -- an answer on one of our streams
      local list = {}
      for key in pairs(asked) do list[#list + 1] = key end
      table.sort(list)
      local key = list[1 + byte(#list > 0 and #list or 1)]
      if not key then return end
      local here, remote = key:match "^(%S+) (%S+)$"
      local attr = { from = byte(3) == 0 and word(domains) or remote, to = byte(3) == 0 and word(domains) or here,
        id = byte(3) == 0 and word(ids) or incoming.streamid, type = word(kinds) }
      if attr.type == "valid" and attr.from and attr.to and jid.prep(attr.from) == remote and jid.prep(attr.to) == here
        and attr.id == incoming.streamid then answered[key] = true end
      feed(asked[key], element("verify", attr))
    end,
    function()                                           -- a verdict about us
      local attr = { from = word(domains), to = word(domains), type = word(kinds) }
      local was = ours.type
      feed(ours, element("result", attr, word(ids)))
      wanted(was ~= "s2sout_unauthed" or ours.type ~= "s2sout" or attr.type == "valid" and jid.prep(attr.from or "") == "a.lab"
        and jid.prep(attr.to or "") == HERE, "proved by a verdict about somebody else")
    end,
    function()                                           -- one of our streams ends
      local key, s = next(asked)
      if not key then return end
      asked[key] = nil
      fake.run(events.fire_event, "s2sout-destroyed", { session = s })
    end,
    function() ours.claimed[HERE .. " a.lab"] = true ours.type = "s2sout_unauthed" ours.closing = nil end,
    function() incoming.closing = nil end,               -- what it says in the moment before it is gone
  }
  for _ = 1, 60 do
    if at >= #bytes then break end
    operations[1 + byte(#operations)]()
  end

  local n = 0
  for remote, known in pairs(incoming.hosts) do
    n = n + 1
    for here in pairs(known.authed and known.locals or {}) do
      wanted(answered[here .. " " .. remote], "%s is proved for %s, but nobody said so", remote, here)
    end
    wanted(not known.authed or known.locals, "proved for nobody")
  end
  wanted(n <= 5, "%d domains on one stream", n)
  local claims = count(pairs(incoming.claims or {}))
  wanted(claims <= 3, "%d questions under way", claims)
  fake.run(events.fire_event, "s2sin-destroyed", { session = incoming })
  fake.run(events.fire_event, "s2sout-destroyed", { session = ours })
  for _, s in pairs(asked) do wanted(not (s.questions and s.questions[1]), "a question nobody waits for") end
end

-- 1, 2: certificates ------------------------------------------------------------------------------------------------------------

local hosts = { "verona.lab", "xn--bcher-kva.example", "bücher.example", "a.verona.lab", "lab", "", "*.lab", "192.0.2.1" }

local function judge(names, cert)
  for _, name in ipairs(hosts) do
    for _, service in ipairs { "_xmpp-server", "_xmpp-client" } do
      if x509.verify_identity(name, service, cert) then
        local ascii = (to_ascii(name) or ""):lower()
        local parent = ascii:match "^[^.]+(%..+)$"
        local found = false
        for _, ip in ipairs(cert.ips or {}) do found = found or ip == pton(name) end
        for _, list in pairs(names) do
          for _, text in ipairs(list) do
            text = text:lower():gsub("^" .. service:gsub("%W", "%%%0") .. "%.", "")
            local plain = to_ascii(text)
            found = found or text == ascii or plain and plain:lower() == ascii or parent and text == "*" .. parent
          end
        end
        wanted(found, "%s is none of the names", name)
      end
    end
  end
  for name in pairs(x509.get_identities(cert)) do wanted(type(name) == "string", "a name that is none") end
end

local function certificate(bytes)
  local cert, err = x509.load(bytes:sub(2))
  if not cert then return wanted(type(err) == "string", "no message") end
  local names = { cert.dns_names, cert.srv_names, cert.xmpp_addrs, cert.common_names }
  for _, list in ipairs(names) do
    for _, name in ipairs(list) do wanted(not name:find "%z", "a NUL in a name") end
  end
  judge(names, cert)
  wanted(x509.load(cert:pem()) == cert, "it is not what it was")
  cert:subject() cert:issuer() cert:serial() cert:digest "sha256" cert:pubkey() cert:extensions() tostring(cert)
  wanted(type(cert:validat(0)) == "boolean" and (cert:notbefore() or true) and (cert:notafter() or true), "its time")
end

local function some_names(bytes)
  local lists = { d = {}, s = {}, x = {}, c = {} }
  for kind, name in bytes:sub(2):gmatch "([dsxc])([^\n]*)\n?" do
    if #lists[kind] < 20 then table.insert(lists[kind], name) end
  end
  local subject = {}
  for _, name in ipairs(lists.c) do subject[#subject + 1] = { oid = "2.5.4.3", value = name } end
  judge({ lists.d, lists.s, lists.x, lists.c }, { subject = function() return subject end, extensions = function()
    return { ["2.5.29.17"] = { dNSName = lists.d, ["1.3.6.1.5.5.7.8.7"] = lists.s, ["1.3.6.1.5.5.7.8.5"] = lists.x } }
  end })
end

-- 3: DNS --------------------------------------------------------------------------------------------------------------------

local function answers(bytes)
  local at = 2
  local function rdata()
    local n = bytes:byte(at)
    if not n then return nil end
    local data = bytes:sub(at + 1, at + n)
    at = at + 1 + n
    return data
  end
  local flags = bytes:byte(at) or 0
  at = at + 1
  local asked = 0
  function adns.lookup(cb, name, kind)                   -- each question takes its share of what is left
    asked = asked + 1
    wanted(type(name) == "string" and #name <= 512, "a question without a name")
    local result = { name = name, canonical = flags & 1 ~= 0 and "other." .. name or nil, type = dns.types[kind], ttl = 1,
      rcode = flags & 2 ~= 0 and (bytes:byte(at) or 0) % 12 or 0, secure = flags & 4 ~= 0,
      bogus = flags & 8 ~= 0 and asked % 3 == 0 }
    for _ = 1, flags >> 4 do
      local data = rdata()
      if not data then break end
      result[#result + 1] = data
    end
    local answer = dns.answer(result)
    tostring(answer)
    cb(answer)
    return {}
  end
  function adns.cancel() end
  fake.run(function()
    local next_candidate = dial.candidates("a.lab", { timeout = 5, dane = flags & 4 ~= 0 })
    for i = 1, 24 * 8 + 1 do
      local candidate, condition, text = next_candidate()
      if not candidate then
        wanted(type(condition) == "string" and type(text) == "string", "neither a candidate nor a reason")
        break
      end
      wanted(i <= 24 * 8, "no end of candidates")
      wanted(pton(candidate.address), "%s is no address", tostring(candidate.address))
      wanted(math.type(candidate.port) == "integer" and candidate.port >= 0 and candidate.port <= 65535, "no port")
      wanted(not candidate.tlsa or #candidate.tlsa <= 16, "too many TLSA records")
    end
  end)
  wanted(asked <= 2 + 24 * 4, "%d questions", asked)
  for kind in pairs(dns.parsers) do                      -- and each piece as any type
    at = 3
    for data in rdata do dns.parse(kind, data) end
  end
end

local targets = { dialback, certificate, some_names, answers }

return function(bytes)
  if #bytes < 2 then return end
  targets[1 + bytes:byte(1) % #targets](bytes)
end
