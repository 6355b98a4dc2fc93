-- SPDX-License-Identifier: MIT
-- net.http.server: handlers of requests by events named "GET example.org/path". A name that ends in "/*" takes everything below.
--
--   add_handler(event, fn, priority?)  remove_handler(event, fn)  fire_event(event, { request, response }) -> first result
--   add_host remove_host set_default_host (host)  set_option(name, value)  get_request_from_conn(conn)
--   prepare_header(response) -> text   send_response(response, body)  send_head_response(response)  send_file(response, file)
--   _events     the bus, for hook_object_event
--
-- Who listens and reads requests calls fire_event; nothing here touches a socket.

local codes = require "couplet.net.http.codes"
local events_of = require "couplet.events"
local wire = require "couplet.net.http.headers".wire

local server = {}
local bus = events_of.new()
server._events = bus

local hosts, default_host = {}, nil
server.options = {}

function server.add_handler(event, fn, priority) return bus.add_handler(event, fn, priority) end
function server.remove_handler(event, fn) return bus.remove_handler(event, fn) end

-- The name itself, then ".../*" from the longest path to the shortest.
function server.fire_event(event, payload)
  local result = bus.fire_event(event, payload)
  local before, path = event:match "^(%u+ [^/]*)(/.*)$"
  while result == nil and path and path ~= "" do
    path = path:match "^(.*)/[^/]*$"
    result = bus.fire_event(before .. path .. "/*", payload)
  end
  return result
end

function server.add_host(host) hosts[host] = true end
function server.remove_host(host) hosts[host] = nil end
function server.set_default_host(host) default_host = host end
function server.get_default_host() return default_host end
function server.has_host(host) return hosts[host] == true end
function server.set_option(name, value) server.options[name] = value end
function server.get_request_from_conn(conn) return conn._http_open_request and conn._http_open_request.request or nil end

function server.prepare_header(response)
  local code = response.status_code or 200
  local out, names = { ("HTTP/%s %d %s"):format(response.request and response.request.httpversion or "1.1", code, codes[code]) },
    {}
  for name in pairs(response.headers or {}) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local values = response.headers[name]
    for _, value in ipairs(type(values) == "table" and values or { values }) do
      out[#out + 1] = wire(name) .. ": " .. tostring(value):gsub("[%z\r\n]", " ")
    end
  end
  return table.concat(out, "\r\n") .. "\r\n\r\n"
end

local function finish(response)
  response.finished = true
  if response.on_destroy then
    response:on_destroy()
    response.on_destroy = nil
  end
  if response.done then response:done() end
end

function server.send_head_response(response)
  if response.finished then return end
  response.conn:write(server.prepare_header(response))
  finish(response)
end

function server.send_response(response, body)
  if response.finished then return end
  body = body or response.body or ""
  response.headers.content_length = ("%d"):format(#body)
  response.conn:write(server.prepare_header(response))
  response.conn:write(body)
  finish(response)
end

function server.send_file(response, file)
  if response.finished then return end
  local text = type(file) == "string" and file or file:read "a"
  if type(file) ~= "string" then file:close() end
  return server.send_response(response, text)
end

return server
