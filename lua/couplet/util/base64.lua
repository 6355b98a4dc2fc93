-- SPDX-License-Identifier: MIT
-- util.base64: RFC 4648. decode skips white space, decode_strict takes only what RFC 6120 §13.9.1 allows.

local crypto = require "couplet.core".crypto

return {
  encode = crypto.base64_encode,
  decode = crypto.base64_decode_lenient,
  decode_strict = crypto.base64_decode,
  url_encode = crypto.base64url_encode,
  url_decode = crypto.base64url_decode,
}
