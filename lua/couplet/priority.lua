-- SPDX-License-Identifier: MIT
-- priority.lua: names for the few priorities our own plugins use, so that the order of a chain can be read.

return {
  first = 1000,               -- limits and filters that may end the chain for everybody
  early = 100,                -- looks at the stanza before features do
  before = 10,                -- just before the usual
  usual = 0,
  after = -10,                -- just after the usual
  late = -100,                -- fallbacks
  last = -1000,               -- answers what nobody wanted
}
