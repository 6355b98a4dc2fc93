-- SPDX-License-Identifier: MIT
-- mod_http_files: a directory of files for the web; other plugins use its serve().

local files = require "net.http.files"

module:depends "http"

module:config {
  http_files_dir = { type = "path", parent = "config", doc = "the directory; relative to the configuration file" },
  http_index_files = { type = "array", default = { "index.html", "index.htm" }, doc = "what is shown of a directory" },
}

local directory = module.config.http_files_dir

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
    index_files = module.config.http_index_files } } })
end
