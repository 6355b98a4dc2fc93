-- SPDX-License-Identifier: MIT
-- util.table: pack(...) -> { n = }, create(array, hash) -> table, move(a, from, to, at, b?)

return { pack = table.pack, create = function() return {} end, move = table.move }
