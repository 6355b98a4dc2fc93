-- SPDX-License-Identifier: MIT
-- check.lua: the whole harness for Lua: name the rule, list the rows, loop.
--
--   local check = require "check"
--   check.test("splits addresses", function()
--     check.equal(jid.split("a@b/c"), "a")
--   end)
--   check.done()
--
-- check.done() prints "N passed, N failed" and ends the process. A test passes when its function returns.

local check = {}
local passed, failed = 0, 0

local function show(v)
  if type(v) == "string" then return ("%q"):format(v) end
  if type(v) == "table" and not (getmetatable(v) or {}).__tostring then
    local out, n = {}, 0
    for k, x in pairs(v) do
      n = n + 1
      if n > 20 then out[#out + 1] = "..." break end
      out[#out + 1] = tostring(k) .. " = " .. (type(x) == "table" and "{...}" or show(x))
    end
    return "{" .. table.concat(out, ", ") .. "}"
  end
  return tostring(v)
end
check.show = show

local function same(a, b)
  if a == b then return true end
  if type(a) ~= "table" or type(b) ~= "table" then return false end
  for k, v in pairs(a) do if not same(v, b[k]) then return false end end
  for k in pairs(b) do if a[k] == nil then return false end end
  return true
end
check.same = same

function check.test(name, fn)
  local ok, err = xpcall(fn, debug.traceback)
  if ok then passed = passed + 1 else failed = failed + 1 end
  print((ok and "ok " or "not ok ") .. name)
  if not ok then print((tostring(err):gsub("^", "    "):gsub("\n", "\n    "))) end
  io.stdout:flush()
end

function check.ok(value, what)
  if not value then error((what or "not true") .. ": " .. show(value), 2) end
  return value
end

-- deep for tables
function check.equal(got, want, what)
  if not same(got, want) then
    error((what and what .. ": " or "") .. "got " .. show(got) .. ", want " .. show(want), 2)
  end
end

-- fn must raise, with `pattern` in the message
function check.raises(pattern, fn, ...)
  local ok, err = pcall(fn, ...)
  if ok then error("did not raise", 2) end
  if not tostring(err):find(pattern) then error("raised " .. show(tostring(err)) .. ", want " .. pattern, 2) end
end

function check.done()
  print(passed .. " passed, " .. failed .. " failed")
  os.exit(failed == 0, true)
end

return check
