-- SPDX-License-Identifier: MIT
-- util.argparse: arguments of a command.
--
--   parse(args, { value_params = { name = true }, array_params =, short_params = { v = "verbose" }, kv_params =, strict =,
--     stop_on_positional = true }) -> options | nil, "missing-value" | "param-not-found", argument
--
-- "--name", "--name=value", "--name value" (value_params), "-n", "--no-name" (false); "--" ends options. Taken from args, which
-- keeps the rest; with stop_on_positional = false words may stand between, and are left in order. Dashes in names become
-- underscores.

local function parse(args, config)
  config = config or {}
  local short, values, arrays = config.short_params or {}, config.value_params or {}, config.array_params or {}
  local stop = config.stop_on_positional ~= false
  local out, rest, i = {}, {}, 1

  local function put(name, value)
    if arrays[name] then
      out[name] = out[name] or {}
      table.insert(out[name], value)
    else
      out[name] = value
    end
  end

  while i <= #args do
    local word = args[i]
    if word == "--" then
      i = i + 1
      break
    elseif not word:find "^%-." then
      if stop then break end
      rest[#rest + 1] = word
      i = i + 1
    else
      local dashes, name, value = word:match "^(%-%-?)([^=]+)=(.*)$"
      if not name then dashes, name = word:match "^(%-%-?)(.+)$" end
      if not name then return nil, "param-not-found", word end
      if dashes == "-" then
        if not short[name] and config.strict then return nil, "param-not-found", word end
        name = short[name] or name
      end
      name = name:gsub("%-", "_")
      local wants = values[name] or arrays[name]
      if config.strict and not wants and not (config.kv_params or {})[name] then
        local known = false
        for _, long in pairs(short) do known = known or long == name end
        if not known then return nil, "param-not-found", word end
      end
      i = i + 1
      if value == nil and wants then
        value = args[i]
        if value == nil then return nil, "missing-value", word end
        i = i + 1
      end
      if value ~= nil then
        put(name, value)
      elseif name:find "^no_" and #name > 3 then
        out[name:sub(4)] = false
      else
        out[name] = true
      end
    end
  end
  for n = i, #args do rest[#rest + 1] = args[n] end
  for n = 1, math.max(#args, #rest) do args[n] = rest[n] end
  for n, word in ipairs(rest) do out[n] = word end
  return out
end

return { parse = parse }
