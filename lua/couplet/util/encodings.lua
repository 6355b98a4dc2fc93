-- SPDX-License-Identifier: MIT
-- util.encodings: base64, the stringprep profiles, IDNA and UTF-8.

local jid = require "couplet.core".jid
local base64 = require "couplet.util.base64"

return {
  base64 = { encode = base64.encode, decode = base64.decode },
  stringprep = {
    nodeprep = jid.nodeprep,
    nameprep = jid.nameprep,
    resourceprep = jid.resourceprep,
    saslprep = jid.saslprep,
  },
  idna = { to_ascii = jid.to_ascii, to_unicode = jid.to_unicode },
  utf8 = { valid = jid.utf8_valid, length = jid.utf8_length },
}
