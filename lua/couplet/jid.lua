-- SPDX-License-Identifier: MIT
-- jid: addresses; plugins know it as util.jid. Documented in core/bind/bind_jid.c.

local native = require "couplet.core".jid

return {
  split = native.split,
  prepped_split = native.prepped_split,
  bare = native.bare,
  node = native.node,
  host = native.host,
  resource = native.resource,
  join = native.join,
  prep = native.prep,
  compare = native.compare,
  escape = native.escape,
  unescape = native.unescape,
}
