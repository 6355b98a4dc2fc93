-- SPDX-License-Identifier: MIT
-- mod_register: everything of XEP-0077, under the name administrators know: new accounts (register_ibr, with register_limits) and
-- the care of one's own (user_account_management).

module:depends "register_ibr"
module:depends "register_limits"
module:depends "user_account_management"
