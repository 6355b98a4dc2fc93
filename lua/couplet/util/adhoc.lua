-- SPDX-License-Identifier: MIT
-- util.adhoc: the two handlers most ad-hoc commands are (XEP-0050): show a form, then do it.
--
--   new_simple_form(form, handler)                   handler(fields, err, data) -> the command's answer
--   new_initial_data_form(form, initial, handler)    initial(data, state) -> values to fill in, or nil, message

local adhoc = {}

local function asked(data) return data.action == "cancel" end

function adhoc.new_initial_data_form(form, initial, handler)
  return function(_, data, state)
    if asked(data) then return { status = "canceled" } end
    if state or data.form then
      local fields, err = form:data(data.form)
      return handler(fields, err, data, state)
    end
    local values, problem = nil, nil
    if initial then values, problem = initial(data, state) end
    if problem then return { status = "completed", error = { message = tostring(problem) } } end
    return { status = "executing", actions = { "next", "complete", default = "complete" },
      form = { layout = form, values = values or {} } }, "executing"
  end
end

function adhoc.new_simple_form(form, handler)
  return adhoc.new_initial_data_form(form, nil, handler)
end

return adhoc
