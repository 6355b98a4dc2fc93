-- SPDX-License-Identifier: MIT
-- storage.option: the option `sql` as a database's options (couplet.storage.database).
--
--   option.read(sql, { data_path =, synchronous =, busy_timeout =, timeout = }) -> options | nil, message
--   option.postgres(sql) -> connection string of libpq, name for people | nil, message

local option = {}

local names = { database = "dbname", username = "user" }        -- Prosody's, as libpq calls them

-- Parameters of libpq that may stand in the option under their own names; what they mean: PostgreSQL's manual, 34.1.2.
local passed = {}
for word in ([[
  host hostaddr port dbname user password passfile service connect_timeout client_encoding options application_name
  keepalives keepalives_idle keepalives_interval keepalives_count tcp_user_timeout sslmode sslcompression sslcert sslkey
  sslpassword sslrootcert sslcrl sslcrldir sslsni ssl_min_protocol_version ssl_max_protocol_version channel_binding
  requirepeer gssencmode krbsrvname gsslib target_session_attrs]]):gmatch "%S+" do passed[word] = true end

local ours = { driver = true, database = true, username = true }

function option.postgres(sql)
  local parts = { "application_name=couplet" }
  local keys = {}
  for key, value in pairs(sql) do
    local name = names[key] or key
    if not passed[name] and not ours[key] then
      return nil, ("sql: PostgreSQL has no connection parameter %s"):format(tostring(key))
    end
    if type(value) ~= "string" and type(value) ~= "number" then
      return nil, ("sql: %s is a %s, but a text or a number is expected"):format(key, type(value))
    end
    if tostring(value):find "\0" then return nil, ("sql: %s holds a NUL character"):format(key) end
    if key ~= "driver" then keys[#keys + 1] = key end
  end
  table.sort(keys)
  for _, key in ipairs(keys) do
    local value = sql[key]
    if math.type(value) == "float" then value = math.tointeger(value) or value end
    parts[#parts + 1] = ("%s='%s'"):format(names[key] or key, (tostring(value):gsub("[\\']", "\\%0")))
  end
  if not sql.database and not sql.dbname and not sql.service then return nil, "sql: the database has no name (database = …)" end
  local where = sql.host and tostring(sql.host) ~= "" and " on " .. sql.host or ""
  return table.concat(parts, " "), ("PostgreSQL database %s%s"):format(sql.database or sql.dbname or sql.service, where)
end

function option.read(sql, defaults)
  sql = sql or { driver = "SQLite3" }
  local driver = tostring(sql.driver or "SQLite3")
  if driver == "SQLite3" then
    local file = sql.database or "couplet.sqlite"
    if not file:find "^/" then file = defaults.data_path .. "/" .. file end
    return { driver = "sqlite", file = file, synchronous = defaults.synchronous, busy_timeout = defaults.busy_timeout }
  elseif driver == "PostgreSQL" then
    local conninfo, name = option.postgres(sql)
    if not conninfo then return nil, name end
    return { driver = "postgres", conninfo = conninfo, name = name, timeout = defaults.timeout }
  elseif driver == "MySQL" then
    return nil, "sql: Couplet has no driver for MySQL; SQLite3 and PostgreSQL are there"
  end
  return nil, ("sql: there is no driver %s; SQLite3 and PostgreSQL are there"):format(driver)
end

return option
