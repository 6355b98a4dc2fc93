-- SPDX-License-Identifier: MIT
-- util.random: unpredictable bytes.

return { bytes = require "couplet.core".crypto.random_bytes }
