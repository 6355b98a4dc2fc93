-- SPDX-License-Identifier: MIT
-- util.xmppstream: reads a stream from strings, for plugins that bring their own connections.
--
--   local stream = new(session, callbacks, size_limit)
--   stream:feed(data)          -> true | nil, message ("stanza-too-large" above size_limit)
--   stream:reset()             a new stream begins; what is left of the data being fed is dropped
--   stream:set_session(session)
--
-- callbacks: streamopened(session, attr), streamclosed(session), handlestanza(session, stanza), handleprogress(session, bytes)
-- after a feed that left a stanza half-read, error(session, kind, data, text): "no-stream" name of the root, "parse-error"
-- condition, "stream-error" stanza; and the strings stream_ns, stream_tag, error_tag, default_ns where they differ from those of
-- XMPP.

local core = require "couplet.core".stream

local STREAMS = "http://etherx.jabber.org/streams"

local xmppstream = { ns_separator = "\1", ns_pattern = "^([^\1]*)\1?(.*)$" }

local function ignore() end

function xmppstream.new(session, callbacks, size_limit)
  local stream_ns = callbacks.stream_ns or STREAMS
  local stream_tag = callbacks.stream_tag or "stream"
  local error_tag = callbacks.error_tag or "error"
  local opened = callbacks.streamopened or ignore
  local closed = callbacks.streamclosed or ignore
  local failed = callbacks.error or function(_, kind, data) error("xml stream: " .. kind .. ": " .. tostring(data), 0) end
  local handle = callbacks.handlestanza or ignore
  local progress = callbacks.handleprogress

  local stream
  local function reset()
    stream = core.new { stanza_bytes = size_limit, any_root = true, default_ns = callbacks.default_ns }
  end
  reset()

  local function header(el)
    local attr = {}
    for name, value in pairs(el.attr) do
      if name ~= "xmlns" and name:sub(1, 6) ~= "xmlns:" then attr[name] = value end
    end
    if el.name == stream_tag and (el.attr.xmlns or "") == stream_ns then
      opened(session, attr)
      return true
    end
    failed(session, "no-stream", (el.attr.xmlns or "") .. "\1" .. el.name)
  end

  local object = {}

  function object.reset()
    reset()
    return true
  end

  function object.set_session(_, new_session)
    session = new_session
  end

  function object.feed(_, data)
    local current = stream
    current:feed(data)
    while current == stream do
      local kind, el, text = current:next()
      if kind == "header" then
        if not header(el) then return nil, "no-stream" end
      elseif kind == "element" then
        if el.name == error_tag and el.attr.xmlns == stream_ns then
          failed(session, "stream-error", el)
        else
          handle(session, el)
        end
      elseif kind == "end" then
        closed(session)
      elseif kind == "more" then
        if progress and current:held() > 0 then progress(session, current:held()) end
        break
      elseif el == "policy-violation" then
        return nil, "stanza-too-large"
      else
        if el == "restricted-xml" then failed(session, "parse-error", el, text) end
        return nil, text
      end
    end
    return true
  end

  return object
end

return xmppstream
