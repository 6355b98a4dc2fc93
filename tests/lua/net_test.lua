-- SPDX-License-Identifier: MIT
-- tests/helpers/net_cases.lua with connections in the logic thread's loop.
assert(loadfile "tests/helpers/net_cases.lua")(0)
