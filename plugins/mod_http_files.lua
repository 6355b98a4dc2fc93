-- SPDX-License-Identifier: MIT
-- mod_http_files: a directory of files for the web; other plugins use its serve().

local files = require "net.http.files"

module:depends "http"

local directory = module:get_option_path("http_files_dir", nil, "config")

-- serve(directory | options) -> handler for a route "GET /*"
function serve(options)
  return files.serve(options)
end

-- The same for a route that is a whole set of files
function wrap_route(routes)
  for key, options in pairs(routes) do
    if type(options) ~= "function" then routes[key] = files.serve(options) end
  end
  return routes
end

if directory then
  module:provides("http", { route = { ["GET /*"] = files.serve { path = directory,
    index_files = module:get_option_array("http_index_files", { "index.html", "index.htm" }) } } })
end
