-- SPDX-License-Identifier: MIT
-- net.http: an HTTP/1.1 client.
--
--   http.request(url, options?, cb?) -> request, or without cb a promise of the response
--     options: { method =, headers = {…}, body =, insecure = (any certificate), sslctx = TLS context, timeout = 60,
--     connect_timeout = 10,
--                max_body = 10 MiB, streaming_handler = f(response): may set response.body_sink, an object with :write(bytes) }
--     cb(body, code, response, request); code 0: it failed, body says why. response: { code, body, headers, httpversion, request
--     }
--     A promise resolves with any answer, whatever its code, and is rejected with an error of net.http.errors.
--   http.new{ … } -> client     options for all its requests         http.destroy_request(request) cb never comes
--   http.events   "request" { http, request, url }: what a handler returns is the response; "response" { http, url, request,
--   response }
--   http.urlencode urldecode formencode formdecode
--
-- Redirects are not followed.

local clock = require "couplet.clock"
local connect = require "couplet.net.connect".connect
local core = require "couplet.core"
local events = require "couplet.events"
local headers = require "couplet.net.http.headers"
local http_errors = require "couplet.net.http.errors"
local id = require "couplet.util.id"
local logger = require "couplet.logger"
local new_parser = require "couplet.net.http.response".new
local new_resolver = require "couplet.net.resolvers.basic".new
local promise = require "couplet.promise"
local prosody = require "couplet.prosody"
local task = require "couplet.task"
local util = require "couplet.util.http"
local x509 = require "couplet.util.x509"

local TIMEOUT, CONNECT_TIMEOUT, ACTIVE_MAX = 60, 10, 1000
local CA_FILES = { "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem" }

local Client = {}
Client.__index = Client
local active = 0

-- --- the request ---

local function parse_url(text)
  if type(text) ~= "string" or text:find "[%c ]" then return nil end
  local scheme, authority, rest = text:match "^(%a[%w+.-]*)://([^/?#]*)([^#]*)"
  scheme = scheme and scheme:lower()
  if scheme ~= "http" and scheme ~= "https" then return nil end
  local userinfo, address = authority:match "^(.*)@(.-)$"
  address = address or authority
  local host, port = address:match "^%[([%x:.]+)%]:?(%d*)$"
  if not host then host, port = address:match "^([^:]+):?(%d*)$" end
  if not host then return nil end
  local path, query = rest:match "^([^?]*)%??(.*)$"
  if path == "" then path = "/" end
  port = port ~= "" and math.tointeger(tonumber(port)) or scheme == "https" and 443 or 80
  if port < 1 or port > 65535 then return nil end
  return { scheme = scheme, host = host, port = port, path = path, query = rest:find("?", 1, true) and query or nil,
    userinfo = userinfo }
end

local function clean(text)
  return not text:find "[%z\r\n]"
end

local function host_header(r)
  local host = r.host:find(":", 1, true) and "[" .. r.host .. "]" or r.host
  if r.port == (r.scheme == "https" and 443 or 80) then return host end
  return host .. ":" .. r.port
end

-- What goes over the wire, or nil if somebody tries to smuggle lines in.
local function serialise(r)
  if not r.method:find "^[%w!#$%%&'*+.^_`|~-]+$" then return nil end
  local all = headers.new { host = host_header(r), user_agent = "Couplet/" .. tostring(prosody.version), accept = "*/*",
    connection = "close" }
  if r.userinfo then
    all.authorization = "Basic " .. require "couplet.util.base64".encode(util.urldecode(r.userinfo))
  end
  if r.body or r.method == "POST" or r.method == "PUT" then all.content_length = tostring(#(r.body or "")) end
  if r.body then all.content_type = "application/x-www-form-urlencoded" end
  for name, value in pairs(r.headers) do all[name] = value end
  r.headers = all
  local names = {}
  for name, value in pairs(all) do
    if value ~= false then names[#names + 1] = name end
  end
  table.sort(names)
  local out = { r.method .. " " .. r.path .. (r.query and "?" .. r.query or "") .. " HTTP/1.1" }
  for _, name in ipairs(names) do
    local value = tostring(all[name])
    if not name:find "^[%w!#$%%&'*+.^_`|~-]+$" or not clean(value) then return nil end
    out[#out + 1] = headers.wire(name) .. ": " .. value
  end
  return table.concat(out, "\r\n") .. "\r\n\r\n" .. (r.body or "")
end

-- --- TLS ---

local default_context

local function context()
  if not default_context then
    local settings = { verify = "require", min_version = "TLSv1.2", ca_path = "/etc/ssl/certs" }
    for _, path in ipairs(CA_FILES) do
      if core.system.stat(path) then settings.ca_file = path break end
    end
    default_context = assert(core.net.tls_context(settings))
  end
  return default_context
end

local function check_certificate(r, conn)
  if r.options.insecure then return true end
  local tls = conn:tls()
  if not tls or not tls.peer_cert then return nil, "certificate-chain-invalid" end
  if tls.verify_errors and tls.verify_errors[1] then
    r.log("debug", "certificate of %s: %s", r.host, tostring(tls.verify_errors[1]))
    return nil, "certificate-chain-invalid"
  end
  if not x509.verify_identity(r.host, "_https", x509.load(tls.peer_cert)) then return nil, "certificate-verify-failed" end
  return true
end

-- --- its life ---

local function finish(r, body, code, response)
  if r.over then return end
  r.over = true
  active = active - 1
  if r.timer then r.timer:stop() end
  if r.conn then r.conn:close() end
  if code == 0 then r.log("debug", "%s %s: %s", r.method, r.url, body) end
  r.client.events.fire_event("response", { http = r.client, url = r.url, request = r, response = response })
  if r.callback then task.spawn(r.callback, body, code, response, r) end
end

local function fail(r, reason)
  reason = tostring(reason)
  if reason == "deadline" then reason = "connection-timeout" end
  finish(r, reason, 0, { code = 0, body = reason, headers = headers.new(), request = r })
end

local function parser_of(r)
  local response
  return new_parser {
    head = r.method == "HEAD", max_body = r.options.max_body,
    on_head = function(p)
      response = { code = p.code, headers = p.headers, responseheaders = p.headers, httpversion = p.version, reason = p.reason,
        request = r, conn = r.conn }
      r.response = response
      local stream = r.options.streaming_handler
      if stream then
        response.partial = true
        stream(response)
        response.partial = nil
        if response.body_sink then p.on_body = function(_, bytes) response.body_sink:write(bytes) end end
      end
    end,
  }
end

local function answered(r)
  local p = r.parser
  r.response.body = not r.response.body_sink and p.body or nil
  finish(r, r.response.body or "", p.code, r.response)
end

local listeners = {}

function listeners.onattach(conn, r)
  conn.request = r
  r.conn = conn
end

function listeners.onconnect(conn)
  local r = conn.request
  if r.over then return conn:close() end
  if r.scheme == "https" then
    local ok, err = check_certificate(r, conn)
    if not ok then return fail(r, err) end
  end
  conn:write(r.wire)
  r.wire = nil
end

function listeners.onincoming(conn, bytes)
  local r = conn.request
  if r.over then return end
  local ok, err = r.parser:feed(bytes)
  if not ok then return fail(r, err) end
  if r.parser.done then answered(r) end
end

function listeners.ondisconnect(conn, reason)
  local r = conn.request
  if r.over then return end
  local ok, err = r.parser:finish()
  if ok then return answered(r) end
  fail(r, reason == "deadline" and reason or err)
end

function listeners.onfail(r, reason)
  fail(r, reason)
end

local function start(r)
  local tls
  if r.scheme == "https" then tls = r.options.sslctx or context() end
  connect(new_resolver(r.host, r.port, "tcp"), listeners,
    { sslctx = tls, connect_timeout = r.options.connect_timeout or CONNECT_TIMEOUT }, r)
end

local function send(client, url, options, callback)
  local o = setmetatable({}, { __index = client.options })
  for k, v in pairs(options or {}) do o[k] = v end
  local r = parse_url(url) or { host = "", scheme = "", path = "" }
  r.url, r.options, r.client, r.callback, r.id = url, o, client, callback, o.id or id.short()
  r.log = logger.init("http" .. r.id)
  r.body = o.body and tostring(o.body) or nil
  r.method = o.method or (o.body and "POST" or "GET")
  r.headers = o.headers or {}
  active = active + 1
  local given = client.events.fire_event("request", { http = client, request = r, url = url })
  if given ~= nil then
    finish(r, given.body or "", given.code or 200, given)
    return r
  end
  r.wire = r.scheme ~= "" and serialise(r)
  if not r.wire then
    fail(r, r.scheme == "" and "invalid-url" or "invalid-request")
  elseif active > ACTIVE_MAX then
    fail(r, "too many requests at once")
  else
    r.parser = parser_of(r)
    r.timer = clock.timer(o.timeout or TIMEOUT, function() fail(r, "connection-timeout") end)
    task.spawn(start, r)
  end
  return r
end

local function request(client, url, options, callback)
  if type(options) == "function" then options, callback = nil, options end
  if callback then return send(client, url, options, callback) end
  return promise.new(function(resolve, reject)
    send(client, url, options, function(body, code, response, r)
      if code == 0 then
        reject(http_errors.new(body, { url = url, request = r }))
      else
        resolve(response)
      end
    end)
  end)
end

local function destroy(r)
  r.callback = nil
  if not r.over then finish(r, "cancelled", 0, nil) end
end

local function new(options)
  local client = setmetatable({ options = options or {}, events = events.new() }, Client)
  client.request = function(first, ...)
    if first == client then return request(client, ...) end
    return request(client, first, ...)
  end
  client.destroy_request = function(first, r) return destroy(first == client and r or first) end
  for name, fn in pairs(util) do client[name] = fn end
  client.new = new
  return client
end

local http = new {}
http.default = http
http.parse_url = parse_url

return http
