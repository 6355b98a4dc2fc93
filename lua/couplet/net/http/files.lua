-- SPDX-License-Identifier: MIT
-- net.http.files: files of a directory as answers.
--
--   serve{ path = directory, mime_map = { ext = type }, directory_index = bool, index_files = { "index.html" } } or
--   serve(directory)
--     -> handler(event, path)      for a route "GET /*" of the http provider
--
-- Nothing above the directory is reached, nothing whose name starts with a dot is shown. ETag by size and time; HEAD works.

local normalize = require "couplet.util.http".normalize_path
local system = require "couplet.core".system
local urldecode = require "couplet.util.http".urldecode

local files = {}

local MAX = 64 * 1024 * 1024            -- what is read in one piece

local types = {
  html = "text/html", htm = "text/html", xml = "text/xml", txt = "text/plain; charset=utf-8", js = "text/javascript",
  css = "text/css",
  json = "application/json", svg = "image/svg+xml", png = "image/png", jpg = "image/jpeg", jpeg = "image/jpeg", gif = "image/gif",
  webp = "image/webp", ico = "image/x-icon", woff2 = "font/woff2", woff = "font/woff", wasm = "application/wasm",
  pdf = "application/pdf",
}
files.types = types

local function type_of(path, map)
  local ext = path:match "%.([^./]+)$"
  ext = ext and ext:lower()
  return ext and (map and map[ext] or types[ext]) or "application/octet-stream"
end

function files.serve(options)
  if type(options) ~= "table" then options = { path = options } end
  local base = options.path:gsub("/+$", "")
  local indices = options.index_files or { "index.html", "index.htm" }
  return function(event, path)
    local request, response = event.request, event.response
    if type(path) ~= "string" then path = request.path end
    path = normalize(urldecode(path) or "")
    if path:find "%z" or path:find "/%." then return 404 end
    local full = base .. path
    local stat = system.stat(full, "follow")
    if stat and stat.type == "directory" then
      local found
      for _, name in ipairs(indices) do
        local s = system.stat(full .. "/" .. name, "follow")
        if s and s.type == "file" then full, stat, found = full .. "/" .. name, s, true break end
      end
      if not found then return 403 end
    end
    if not stat or stat.type ~= "file" then return 404 end
    if stat.size > MAX then return 403 end
    local etag = ('"%x-%x"'):format(math.floor(stat.mtime), stat.size)
    response.headers.etag = etag
    response.headers.last_modified = os.date("!%a, %d %b %Y %H:%M:%S GMT", math.floor(stat.mtime))
    if request.headers.if_none_match == etag then return 304 end
    local text = system.read_file(full)
    if not text then return 403 end
    response.headers.content_type = type_of(full, options.mime_map)
    return text
  end
end

return files
