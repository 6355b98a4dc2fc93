-- SPDX-License-Identifier: MIT
-- An HTTP/1.1 response out of bytes (RFC 9112), as they come.
--
--   new{ head = bool (of a HEAD request), max_head = 65536, max_body = 10 MiB, on_head = f(p), on_body = f(p, bytes) } -> p
--   p:feed(bytes) -> true | nil, "invalid-response" | "response-too-large"       p.done when it is complete
--   p:finish() -> true | nil, "connection-closed"                               the connection has ended
--   p.code p.reason p.version p.headers p.body (nothing if on_body takes it)
--
-- Interim answers (1xx) are skipped. A body with both lengths is refused, as are folded header lines.

local headers = require "couplet.net.http.headers"

local Parser = {}
Parser.__index = Parser

local HEAD, BODY = 65536, 10 * 1024 * 1024

local function new(o)
  o = o or {}
  return setmetatable({ buffer = "", state = "head", parts = {}, size = 0, head = o.head, max_head = o.max_head or HEAD,
    max_body = o.max_body or BODY, on_head = o.on_head, on_body = o.on_body }, Parser)
end

local function take(p, bytes)
  if bytes == "" then return true end
  p.size = p.size + #bytes
  if p.size > p.max_body then return nil, "response-too-large" end
  if p.on_body then p:on_body(bytes) else p.parts[#p.parts + 1] = bytes end
  return true
end

local function complete(p)
  p.done, p.state = true, "done"
  p.body = table.concat(p.parts)
  p.parts = nil
  return true
end

local function body_kind(p)
  if p.head or p.code == 204 or p.code == 304 then return "none" end
  local coding, length = p.headers.transfer_encoding, p.headers.content_length
  if coding then
    if length or coding:lower() ~= "chunked" then return nil end
    return "chunk"
  end
  if not length then return "rest" end
  local first
  for one in length:gmatch "[^,%s]+" do                -- "5, 5" is 5
    if not one:find "^%d+$" or first and first ~= one then return nil end
    first = one
  end
  if not first or #first > 15 then return nil end
  p.left = tonumber(first)
  return "length"
end

local function parse_head(p, text)
  local line, rest = text:match "^([^\r\n]*)\r?\n(.*)$"
  local version, code, reason = (line or ""):match "^HTTP/(%d%.%d) (%d%d%d) ?(.*)$"
  if not version or version:sub(1, 1) ~= "1" then return nil end
  p.version, p.code, p.reason, p.headers = version, math.tointeger(tonumber(code)), reason, headers.new()
  for field in rest:gmatch "([^\n]*)\n" do
    field = field:gsub("\r$", "")
    if field ~= "" then
      local name, value = field:match "^([%w!#$%%&'*+.^_`|~-]+):[ \t]*(.-)[ \t]*$"
      if not name or value:find "[%z\r]" then return nil end
      headers.add(p.headers, name, value)
    end
  end
  return true
end

local states = {}

-- Each: true if it got on, false if it wants more; nil and a reason.
function states.head(p)
  local from, to = p.buffer:find "\r?\n\r?\n"
  if (to or #p.buffer) > p.max_head then return nil, "response-too-large" end
  if not from then return false end
  local text = p.buffer:sub(1, to)
  p.buffer = p.buffer:sub(to + 1)
  if not parse_head(p, text) or p.code == 101 then return nil, "invalid-response" end
  if p.code < 200 then return true end
  local kind = body_kind(p)
  if not kind then return nil, "invalid-response" end
  if kind == "length" and p.left > p.max_body then return nil, "response-too-large" end
  p.state = kind
  if p.on_head then p:on_head() end
  if kind == "none" or kind == "length" and p.left == 0 then return complete(p) end
  return true
end

function states.length(p)
  if p.buffer == "" then return false end
  local bytes = p.buffer:sub(1, p.left)
  p.buffer, p.left = p.buffer:sub(#bytes + 1), p.left - #bytes
  local ok, err = take(p, bytes)
  if not ok then return nil, err end
  if p.left == 0 then return complete(p) end
  return false
end

function states.rest(p)
  local bytes = p.buffer
  p.buffer = ""
  local ok, err = take(p, bytes)
  if not ok then return nil, err end
  return false
end

function states.chunk(p)
  local line, at = p.buffer:match "^([^\r\n]*)\r?\n()"
  if not line then
    if #p.buffer > 1024 then return nil, "invalid-response" end
    return false
  end
  local size = line:match "^(%x+)[ \t]*$" or line:match "^(%x+)[ \t]*;"
  if not size or #size > 8 then return nil, "invalid-response" end
  p.buffer, p.left = p.buffer:sub(at), tonumber(size, 16)
  if p.size + p.left > p.max_body then return nil, "response-too-large" end
  p.state = p.left == 0 and "trailer" or "chunk_data"
  return true
end

function states.chunk_data(p)
  if p.left > 0 then
    if p.buffer == "" then return false end
    local bytes = p.buffer:sub(1, p.left)
    p.buffer, p.left = p.buffer:sub(#bytes + 1), p.left - #bytes
    local ok, err = take(p, bytes)
    if not ok then return nil, err end
    if p.left > 0 then return false end
  end
  if #p.buffer < 2 and p.buffer ~= "\n" then return false end
  local at = p.buffer:match "^\r?\n()"
  if not at then return nil, "invalid-response" end
  p.buffer, p.state = p.buffer:sub(at), "chunk"
  return true
end

function states.trailer(p)
  local line, at = p.buffer:match "^([^\n]*)\n()"
  if not line then
    if #p.buffer > p.max_head then return nil, "response-too-large" end
    return false
  end
  p.buffer = p.buffer:sub(at)
  if line == "" or line == "\r" then return complete(p) end
  p.trailers = (p.trailers or 0) + #line
  if p.trailers > p.max_head then return nil, "response-too-large" end
  return true
end

function Parser:feed(bytes)
  if self.done then return true end
  self.buffer = self.buffer .. bytes
  while not self.done do
    local ok, err = states[self.state](self)
    if ok == nil then
      self.state = "done"
      return nil, err
    end
    if not ok then break end
  end
  return true
end

function Parser:finish()
  if self.done then return true end
  if self.state == "rest" then return complete(self) end
  return nil, "connection-closed"
end

return { new = new }
