-- SPDX-License-Identifier: MIT
-- XEP-0474: the hash of what was advertised, with both ways to log in; and who comes between.

local check = require "check"
local client = require "sasl_client"
local base64 = require "couplet.util.base64"
local fake = require "fakehost"
local st = require "couplet.stanza"
local users = require "couplet.users"
require "couplet.store"

local SASL, SASL2, BINDINGS = "urn:ietf:params:xml:ns:xmpp-sasl", "urn:xmpp:sasl:2", "urn:xmpp:sasl-cb:0"

local last
local function new(options, plugins)
  if last then pcall(last.close, last) end
  options = options or {}
  options.default_iteration_count = 4096
  local host = fake.new { options = options, global = { storage = "memory" } }
  last = host
  host:load "saslauth"
  host:load "sasl2"
  for name, code in pairs(plugins or {}) do host:load(name, code) end
  check.ok(host:run(users.create_user, "juliet", "O Romeo", host.name))
  return host
end

local function values(element, name, attr)
  if not element then return nil end
  local list = {}
  for tag in element:childtags(name) do list[#list + 1] = attr and tag.attr[attr] or tag:get_text() end
  return list
end

-- A stream, and what its features told: { sasl = seen, sasl2 = seen } as the client of tests takes it.
local function connect(host, bindings)
  local c = host:client(host.name, { conn = client.channel(bindings), reset_stream = function() end })
  local features = st.stanza "features"
  host:fire("stream-features", { origin = c.session, features = features })
  features:reset()
  local types = values(features:get_child("sasl-channel-binding", BINDINGS), "channel-binding", "type")
  local seen = { sasl = { mechanisms = values(features:get_child("mechanisms", SASL), "mechanism"), bindings = types },
    sasl2 = { mechanisms = values(features:get_child("authentication", SASL2), "mechanism"), bindings = types } }
  return c, seen
end

local ways = {
  sasl = {
    first = function(mech, data) return st.stanza("auth", { xmlns = SASL, mechanism = mech }):text(data) end,
    response = function(data) return st.stanza("response", { xmlns = SASL }):text(data) end,
  },
  sasl2 = {
    first = function(mech, data)
      return st.stanza("authenticate", { xmlns = SASL2, mechanism = mech }):text_tag("initial-response", data)
    end,
    response = function(data) return st.stanza("response", { xmlns = SASL2 }):text(data) end,
  },
}

-- -> "success" | condition, does the hash fit what the client has seen?; between: what somebody makes of the challenge
local function login(c, way, mech, seen, more, between)
  local o = { mech = mech, username = "juliet", password = "O Romeo", seen = seen }
  for k, v in pairs(more or {}) do o[k] = v end
  local next, w = client.scram(o), ways[way]
  c:send(w.first(mech, base64.encode(next(nil))))
  local answer = c:received()[1]
  if answer.name ~= "challenge" then return answer.tags[1].name end
  local data = base64.decode(answer:get_text())
  if between then data = between(data) end
  c:send(w.response(base64.encode(next(data))))
  answer = c:received()[1]
  return answer.name == "success" and "success" or answer.tags[1].name, client.agrees
end

check.test("each way to log in, each hash, with and without channel bindings", function()
  local host = new { password_hashes = { "SHA-1", "SHA-256", "SHA-512" } }
  local channel = { ["tls-exporter"] = "0123", ["tls-server-end-point"] = "abcd" }
  for way in pairs(ways) do
    for _, bindings in ipairs { {}, channel } do
      for _, mech in ipairs { "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512" } do
        local c, seen = connect(host, bindings)
        check.equal(seen[way].bindings ~= nil, next(bindings) ~= nil)
        check.equal({ login(c, way, mech, seen[way]) }, { "success", true }, way .. " " .. mech)
        if next(bindings) then
          c, seen = connect(host, bindings)
          check.equal({ login(c, way, mech .. "-PLUS", seen[way], { binding = { "tls-exporter", "0123" } }) },
            { "success", true }, way .. " " .. mech .. "-PLUS")
        end
      end
    end
  end
end)

check.test("§5.1: the example's string", function()
  local host = new { disable_sasl_mechanisms = { "DIGEST-MD5", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS" } }
  local c = connect(host, { ["tls-server-end-point"] = "x", ["tls-exporter"] = "y" })
  local want = "SCRAM-SHA-1\x1eSCRAM-SHA-1-PLUS\x1ftls-exporter\x1etls-server-end-point"
  check.equal(c.session.sasl_advertised, want)
  c = connect(host)
  check.equal(c.session.sasl_advertised, "SCRAM-SHA-1")
end)

check.test("§5.2: whoever takes something out is found out, and cannot hide it", function()
  local host = new()
  for way in pairs(ways) do
    for _, row in ipairs {
      { "a mechanism", function(s) table.remove(s.mechanisms, 1) end },
      { "all that bind", function(s) s.mechanisms, s.bindings = { "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN" }, nil end },
      { "a type", function(s) table.remove(s.bindings, 1) end },
      { "the types", function(s) s.bindings = nil end },
      { "other types instead", function(s) s.bindings = { "tls-carrier-pigeon" } end },
      { "a mechanism more", function(s) table.insert(s.mechanisms, "SCRAM-SHA-512") end },
    } do
      local c, seen = connect(host, { ["tls-exporter"] = "0123", ["tls-server-end-point"] = "x" })
      row[2](seen[way])
      local _, agrees = login(c, way, "SCRAM-SHA-1", seen[way])
      check.equal(agrees, false, way .. ": " .. row[1])
    end
    -- a hash of what the client was shown, put in by whoever showed it, or the hash taken out: the proof is for another challenge
    for what, between in pairs {
      forged = function(data) return (data:gsub(",h=[^,]+", ",h=" .. base64.encode(("x"):rep(20)))) end,
      removed = function(data) return (data:gsub(",h=[^,]+", "")) end,
    } do
      local c, seen = connect(host, { ["tls-exporter"] = "0123" })
      check.equal((login(c, way, "SCRAM-SHA-1", seen[way], nil, between)), "not-authorized", way .. ": " .. what)
    end
  end
end)

check.test("what counts is what was advertised on this stream", function()
  local host = new(nil, { more = [[
    local sasl = require "util.sasl"
    sasl.registerMechanism("X-OWN", { "plain_test" }, function() return "failure", "not-authorized" end)
  ]] })
  local c, seen = connect(host)
  check.ok(table.concat(seen.sasl.mechanisms, " "):find("X-OWN", 1, true))     -- a plugin's
  check.equal({ login(c, "sasl", "SCRAM-SHA-1", seen.sasl) }, { "success", true })
  check.equal(c.session.sasl_advertised, nil)                                 -- it has served
  c, seen = connect(host)                                                     -- a second try on the same stream
  check.equal((login(c, "sasl", "SCRAM-SHA-1", seen.sasl, { password = "wrong" })), "not-authorized")
  check.equal({ login(c, "sasl", "SCRAM-SHA-256", seen.sasl) }, { "success", true })
  c, seen = connect(host)                                                     -- one that was given up
  c:send(ways.sasl.first("SCRAM-SHA-1", base64.encode "n,,n=juliet,r=abc"))
  c:send(st.stanza("abort", { xmlns = SASL }))
  c:received()
  check.equal({ login(c, "sasl", "SCRAM-SHA-1", seen.sasl) }, { "success", true })
end)

check.test("an unknown account is told the same", function()
  local host = new()
  local c, seen = connect(host, { ["tls-exporter"] = "0123" })
  check.equal({ login(c, "sasl", "SCRAM-SHA-1", seen.sasl, { username = "nobody" }) }, { "not-authorized", true })
end)

check.test("plugins from elsewhere put attributes of their own behind it", function()
  local host = new(nil, { seal = [[
    local function add(event)
      event.message = event.message .. ",z=sealed"
      event.session.sasl_handler.state.server_first_message = event.message
    end
    module:hook("sasl/c2s/challenge", add, 1)
    module:hook("sasl2/c2s/challenge", add, 1)
  ]] })
  for way in pairs(ways) do
    local c, seen = connect(host)
    local got
    local function listen(data) got = data return data end
    check.equal({ login(c, way, "SCRAM-SHA-256", seen[way], nil, listen) }, { "success", true })
    check.ok(got:find ",h=[^,]+,z=sealed$")
  end
end)

check.done()
