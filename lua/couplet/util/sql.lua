-- SPDX-License-Identifier: MIT
-- util.sql: SQL databases for plugins that bring their own statements, through LuaDBI (lua-dbi) where that is installed.
-- Its calls block the server; Couplet's own storage does not work this way (couplet.store).
--
--   create_engine({ driver = "SQLite3" | "MySQL" | "PostgreSQL", database =, username =, password =, host =, port = },
--   onconnect?) -> engine
--   engine:connect() -> true | nil, message     onconnect(engine) runs after the first
--   engine:transaction(fn, ...) -> true, results… | false, message          fn may raise; an error rolls back
--   engine:select(sql, …) iterates over rows (arrays)   engine:insert update delete (sql, …) -> { affected =, rowcount() }
--   engine:execute(sql, …) -> true | nil, message       Table Column Index(definition); table:create(engine)
--   db2uri(params) -> text
--
-- A connection that is lost is made anew once for the transaction that found it so.

local log = require "couplet.logger".init "sql"
local http = require "couplet.util.http"

local sql = {}

local Engine = {}
Engine.__index = Engine

local RETRIES = 1

function sql.db2uri(params)
  local function part(v) return http.urlencode(tostring(v)) end
  local user = params.username and part(params.username) .. (params.password and ":" .. part(params.password) or "") .. "@" or ""
  return ("%s://%s%s%s/%s"):format(params.driver:lower(), user, params.host or "", params.port and ":" .. params.port or "",
    params.database or "")
end

function sql.create_engine(self, params, onconnect)
  if self ~= sql then params, onconnect = self, params end
  return setmetatable({ params = params, onconnect = onconnect, statements = {} }, Engine)
end

-- --- the connection ---

local warned = false

local function open(params)
  local ok, DBI = pcall(require, "DBI")
  if not ok then return nil, "no SQL for plugins: LuaDBI is not installed (package lua-dbi-sqlite3, -mysql or -postgresql)" end
  if not warned then
    warned = true
    log("warn", "a plugin uses an SQL database of its own; each of its queries keeps the server waiting")
  end
  return DBI.Connect(params.driver, params.database, params.username, params.password, params.host, params.port)
end

function Engine:connect()
  if self.conn then return true end
  local conn, err = open(self.params)
  if not conn then return nil, err end
  conn:autocommit(false)
  self.conn, self.statements = conn, {}
  if self.params.driver == "SQLite3" then self:execute "PRAGMA foreign_keys = ON" end
  if self.onconnect and not self.introduced then
    self.introduced = true
    local ok, problem = pcall(self.onconnect, self)
    if not ok then
      self:close()
      return nil, tostring(problem)
    end
  end
  return true
end

function Engine:close()
  if self.conn then self.conn:close() end
  self.conn, self.statements = nil, {}
end

function Engine:prepquery(text)
  if self.params.driver == "PostgreSQL" then return (text:gsub("`", '"')) end
  return text
end

-- --- statements ---

local function run(self, text, ...)
  if not self.conn then
    local ok, err = self:connect()
    if not ok then return nil, err end
  end
  text = self:prepquery(text)
  local statement, err = self.statements[text]
  if not statement then
    statement, err = self.conn:prepare(text)
    if not statement then return nil, err end
    self.statements[text] = statement
  end
  local ok
  ok, err = statement:execute(...)
  if not ok then return nil, err end
  return statement
end

function Engine:execute(text, ...)
  local statement, err = run(self, text, ...)
  if not statement then return nil, err end
  return true
end
Engine.execute_query = Engine.execute

function Engine:select(text, ...)
  local statement, err = run(self, text, ...)
  if not statement then error(err, 2) end
  return statement:rows()
end

local function change(self, text, ...)
  local statement, err = run(self, text, ...)
  if not statement then error(err, 2) end
  local n = statement:affected()
  return { affected = n, __affected = n, rowcount = function() return n end }
end
Engine.insert, Engine.update, Engine.delete, Engine.execute_update = change, change, change, change

-- --- transactions ---

local function attempt(self, fn, ...)
  local ok, err = self:connect()
  if not ok then return false, err end
  if self.in_transaction then return true, fn(...) end      -- part of the one under way
  self.in_transaction = true
  local results = table.pack(xpcall(fn, function(e) return type(e) == "string" and e:gsub("^[^\n]-:%d+: ", "", 1) or e end, ...))
  self.in_transaction = false
  if not self.conn then return false, "connection lost" end
  if not results[1] then
    self.conn:rollback()
    return false, results[2]
  end
  local committed, problem = self.conn:commit()
  if not committed then
    self.conn:rollback()
    return false, problem
  end
  return table.unpack(results, 1, results.n)
end

function Engine:transaction(fn, ...)
  local results
  for _ = 0, RETRIES do
    results = table.pack(attempt(self, fn, ...))
    if results[1] or not self.conn or self.conn:ping() then break end
    log("warn", "the database has gone; connecting anew")
    self:close()
  end
  return table.unpack(results, 1, results.n)
end

-- --- definitions ---

local quote = "`"
local function name(s) return quote .. s .. quote end

local Definition = {}
Definition.__index = Definition

function sql.Column(d) return setmetatable(d, { kind = "column" }) end
function sql.Index(d) return setmetatable(d, { kind = "index" }) end

function sql.Table(d)
  d.c = {}
  for _, part in ipairs(d) do
    if getmetatable(part).kind == "column" then d.c[#d.c + 1], d.c[part.name] = part, part end
  end
  return setmetatable(d, Definition)
end

local function column(c, driver)
  local kind = c.type
  if driver == "MySQL" and kind == "TEXT" and c.length then kind = ("VARCHAR(%d)"):format(c.length) end
  if driver ~= "MySQL" and kind == "MEDIUMTEXT" then kind = "TEXT" end
  if c.auto_increment then
    if driver == "PostgreSQL" then kind = "BIGSERIAL" end
    if driver == "SQLite3" then kind = "INTEGER" end
  end
  local out = name(c.name) .. " " .. kind
  if c.nullable == false then out = out .. " NOT NULL" end
  if c.primary_key then out = out .. " PRIMARY KEY" end
  if c.unique then out = out .. " UNIQUE" end
  if c.auto_increment and driver == "MySQL" then out = out .. " AUTO_INCREMENT" end
  if c.auto_increment and driver == "SQLite3" then out = out .. " AUTOINCREMENT" end
  return out
end

function Definition:create(engine)
  local columns = {}
  for i, c in ipairs(self.c) do columns[i] = column(c, engine.params.driver) end
  assert(engine:execute(("CREATE TABLE %s (%s)"):format(name(self.name), table.concat(columns, ", "))))
  for _, part in ipairs(self) do
    if getmetatable(part).kind == "index" then
      local names = {}
      for i, c in ipairs(part) do names[i] = name(c) end
      assert(engine:execute(("CREATE %sINDEX %s ON %s (%s)"):format(part.unique and "UNIQUE " or "", name(part.name),
        name(self.name), table.concat(names, ", "))))
    end
  end
  return true
end

function Engine:_create_table(definition) return definition:create(self) end

return sql
