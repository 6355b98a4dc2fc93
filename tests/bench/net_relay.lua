-- SPDX-License-Identifier: MIT
-- The core without a server around it: every PLAIN login succeeds, stanzas go to the full address in `to`, nothing else.
-- What this costs per message is the floor under everything the Lua half adds.
--
--   build/bin/lua tests/bench/net_relay.lua PORT [IO_THREADS [CERT KEY]]      then drive it with a load generator

local core = require "couplet.core"
local st = require "couplet.stanza"
local base64 = core.crypto.base64_decode
local net, loop = core.net, core.loop

local port, threads, cert, key = arg[1], arg[2], arg[3], arg[4]
net.setup { io_threads = tonumber(threads or 0) }
local tls = cert and assert(net.tls_context { certificate = cert, key = key })

local HEADER = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' "
  .. "id='%d' from='localhost' version='1.0'><stream:features>%s</stream:features>"
local STARTTLS = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>"
local SASL = "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms>"
local BIND = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>"
local sessions, streams = {}, 0

local function first(c, session, stanza)
  if stanza.name == "starttls" then
    c:send "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
    c:starttls(tls)
  elseif stanza.name == "auth" then
    session.user = base64(stanza:get_text()):match "%z([^%z]*)%z"
    c:send "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"
    c:window(32, 65536)
    c:restart()
  elseif stanza.name == "iq" and stanza:get_child("bind", "urn:ietf:params:xml:ns:xmpp-bind") then
    local resource = stanza:get_child("bind", "urn:ietf:params:xml:ns:xmpp-bind"):get_child_text "resource" or tostring(c:id())
    session.jid = ("%s@localhost/%s"):format(session.user, resource)
    sessions[session.jid] = c
    c:send(st.reply(stanza):tag("bind", { xmlns = "urn:ietf:params:xml:ns:xmpp-bind" }):text_tag("jid", session.jid))
  elseif stanza.name == "iq" then
    c:send(st.reply(stanza))
  end
end

net.on("c2s", {
  opened = function(c) c:session {} end,
  stream = function(c)
    streams = streams + 1
    local session = c:session()
    c:send(HEADER:format(streams, session.user and BIND or tls and not c:tls() and STARTTLS or SASL))
    c:done()
  end,
  element = function(c, stanza)
    local session = c:session()
    local attr = stanza.attr
    local to = attr.to
    local other = to and sessions[to]
    if other and session.jid then
      attr.from = session.jid
      other:send(stanza)
    else
      first(c, session, stanza)
    end
    c:done()
  end,
  ended = function(c) c:send "</stream:stream>" c:done() c:close() end,
  error = function(c) c:close() end,
  closed = function(c)
    local session = c:session()
    if session.jid and sessions[session.jid] == c then sessions[session.jid] = nil end
  end,
})

local l = assert(net.listen { address = "127.0.0.1", port = tonumber(port), class = "c2s" })
print("listening", l:port())
loop.signal("SIGTERM", loop.stop)
loop.run()
net.stop()
