-- SPDX-License-Identifier: MIT
-- ctl/report: what coupletctl's checks say, line by line, and what comes of it.
--
--   report.new(ctx) -> r      r:title(fmt, …)  r:ok(fmt, …)  r:note(fmt, …)  r:problem(fmt, …)  r:add(record)
--     add: a line to be put into a zone
--   r:finish(subject) -> ok, text, data       what the command returns: refused if there were problems

local json_array = require "couplet.util.json".array
local line = require "couplet.plain".line

local report = {}

local Report = {}
Report.__index = Report

local function clean(text) return line(tostring(text)) end

local function say(r, kind, fmt, ...)
  local text = clean(select("#", ...) > 0 and fmt:format(...) or fmt)
  r.list[#r.list + 1] = { level = kind, text = text }
  r.ctx:print("  %-8s %s", kind, text)
end

function Report:title(fmt, ...) self.ctx:print("%s", clean(fmt:format(...))) end
function Report:ok(...) say(self, "ok", ...) end
function Report:note(...) say(self, "note", ...) end
function Report:add(record) say(self, "", "  %s", record) end
function Report:problem(...)
  self.problems = self.problems + 1
  say(self, "PROBLEM", ...)
end

function Report:finish(subject)
  if self.problems > 0 then
    return nil, ("%s: %d problem%s"):format(subject, self.problems, self.problems > 1 and "s" or "")
  end
  return true, subject .. ": all is well", self.list
end

function report.new(ctx) return setmetatable({ ctx = ctx, list = json_array(), problems = 0 }, Report) end

return report
