-- SPDX-License-Identifier: MIT
-- The words of the option limits.

local bandwidth = require "couplet.bandwidth"
local check = require "check"

check.test("rates", function()
  for _, row in ipairs {
    { 3000, 3000 }, { 0, 0 }, { "10kb/s", 10000 },
    { "5 KB / s", 5000 }, { "1mbps", 1000000 }, { "2MiB", 2097152 }, { "1.5k", 1500 }, { "7", 7 },
    { "7b/s", 7 }, { "10 kbs" }, { "kb/s" }, { "" }, { "-1" }, { -1 }, { 0 / 0 }, { math.huge }, { {} }, { true }, {},
  } do
    check.equal(bandwidth.rate(row[1]), row[2], tostring(row[1]))
  end
end)

check.test("bursts", function()
  for _, row in ipairs {
    { "2s", 2000 }, { 2, 2000 }, { "0.5 s", 500 }, { "64kb", 64000 }, { "100", 100 }, { "soon" }, { -2 }, { {} }, { 1e306 * 10 },
  } do
    check.equal(bandwidth.burst(row[1], 1000), row[2], tostring(row[1]))
  end
end)

check.done()
