-- SPDX-License-Identifier: MIT
-- util.xml: parse(text) -> stanza | nil, message. A whole document without DTD, processing instructions and comments.

local core = require "couplet.core".stream

return {
  parse = function(text)
    if type(text) ~= "string" then return nil, "not a string" end
    return core.parse(text)
  end,
}
