-- SPDX-License-Identifier: MIT
-- tests/helpers/net_cases.lua with two I/O threads.
assert(loadfile "tests/helpers/net_cases.lua")(2)
