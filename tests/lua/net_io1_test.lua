-- SPDX-License-Identifier: MIT
-- tests/helpers/net_cases.lua with one I/O thread.
assert(loadfile "tests/helpers/net_cases.lua")(1)
