-- SPDX-License-Identifier: MIT
-- storage.must: must(result, message, …) gives back what it got, or raises message if there is no result. What is raised is a
-- table with that text, so that nobody adds a place in the code to it.

local Failure = { __tostring = function(e) return e.text end }

return function(result, message, ...)
  if result == nil then error(setmetatable({ text = message or "failed" }, Failure), 0) end
  return result, message, ...
end
