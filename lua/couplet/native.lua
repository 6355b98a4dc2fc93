-- SPDX-License-Identifier: MIT
-- native.lua: what the programs ask for first: the library in C. Where it is missing they say what to do, without a traceback.
--
--   require "couplet.native"(program, prefix)      program: its name; prefix: the directory above its own, with "/"

return function(program, prefix)
  local there, why = pcall(require, "couplet.core")
  if there then return end
  local found, places = package.searchpath("couplet.core", package.cpath)
  if not found then
    why = io.open(prefix .. "core/couplet.c") and "not built: run ./dev build, then build/bin/" .. program
      or "the library couplet/core.so is missing; it was looked for here:\n\t" .. places
  end
  io.stderr:write(program, ": ", why, "\n")
  os.exit(1)
end
