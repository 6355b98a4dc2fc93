-- SPDX-License-Identifier: MIT
-- plain.lua: strangers' text in lines that people read: logs, a terminal.
--
--   plain.line(text) -> text         on one line, control characters shown as pictures, what nobody sees by its number
--   plain.unseen(text) -> text       the second part alone: C1 controls, which terminals obey; marks that turn the direction of
--                                    writing round, and line separators (U+061C, 200E, 200F, 2028 to 202E, 2066 to 2069)

local plain = {}

local picture = { ["\127"] = "\u{2421}" }
for i = 0, 31 do picture[string.char(i)] = i ~= 9 and utf8.char(0x2400 + i) or nil end       -- a tab does no harm

local function number(c) return ("<U+%04X>"):format(utf8.codepoint(c)) end

function plain.unseen(text)
  if not text:find "[\xc2\xd8\xe2]" then return text end
  return (text:gsub("\xc2[\x80-\x9f]", number):gsub("\xd8\x9c", number):gsub("\xe2\x80[\x8e\x8f\xa8-\xae]", number)
    :gsub("\xe2\x81[\xa6-\xa9]", number))
end

function plain.line(text)
  if text:find "[%c\127]" then text = text:gsub("[%c\127]", picture) end
  return plain.unseen(text)
end

return plain
