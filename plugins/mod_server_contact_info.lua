-- SPDX-License-Identifier: MIT
-- mod_server_contact_info: the name older configurations know mod_server_info by.

module:depends "server_info"
