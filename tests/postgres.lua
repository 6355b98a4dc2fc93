-- SPDX-License-Identifier: MIT
-- postgres.lua: a PostgreSQL server of a test's own (tests/postgres.py).
--
--   local pg = require "postgres".new{ fsync = "on" }       settings of the server
--   pg.options { … } -> options of storage.database        pg.pid(), pg.start(), pg.stop(mode?), pg.query(sql) -> text
--   It ends with the test, or with pg.close().

require "couplet.core".system.environment("LD_PRELOAD", nil)       -- a sanitizer's runtime is for us, not for what we start

local postgres = {}

local here = debug.getinfo(1, "S").source:match "^@(.*)/[^/]*$"
local program = "/usr/bin/python3 " .. here .. "/postgres.py "
local PASSWORD = [[o'Neill \ 1]]

local function quoted(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

local function output(command)
  local p = assert(io.popen(command .. " 2>&1"))
  local text = p:read "a"
  local fine = p:close()
  assert(fine, text)
  return (text:gsub("\n$", ""))
end

function postgres.new(settings)
  local words = {}
  for name, value in pairs(settings or {}) do words[#words + 1] = quoted(name .. "=" .. value) end
  local p = assert(io.popen("exec " .. program .. "run " .. table.concat(words, " ")))
  local line = assert(p:read "l", "PostgreSQL did not start")
  local dir, port = line:match "^(%S+) (%d+)$"
  local pg = { dir = dir, port = tonumber(port), password = PASSWORD }

  function pg.conninfo(more)
    local sql = { driver = "PostgreSQL", database = "couplet", username = "couplet", password = PASSWORD, host = dir,
      port = pg.port }
    for k, v in pairs(more or {}) do sql[k] = v end
    return require "couplet.storage.option".postgres(sql)
  end
  function pg.options(more)
    local conninfo, name = pg.conninfo()
    local o = { driver = "postgres", conninfo = conninfo, name = name, timeout = 10 }
    for k, v in pairs(more or {}) do o[k] = v end
    return o
  end
  function pg.pid()
    local f = assert(io.open(dir .. "/data/postmaster.pid"))
    local pid = f:read "n"
    f:close()
    return pid
  end
  -- CPU seconds of the server and of its processes, those that ended included
  function pg.cpu()
    local ticks = 0
    for pid in output(("echo %d; pgrep -P %d"):format(pg.pid(), pg.pid())):gmatch "%d+" do
      local f = io.open("/proc/" .. pid .. "/stat")
      if f then
        local field = 2
        for n in f:read "a":match "%) . (.*)":gmatch "%S+" do
          field = field + 1
          if field == 13 or field == 14 or pid == tostring(pg.pid()) and (field == 15 or field == 16) then ticks = ticks + n end
        end
        f:close()
      end
    end
    return ticks / 100
  end
  function pg.signal(name) assert(os.execute("kill -" .. name .. " " .. pg.pid())) end
  function pg.stop(mode) output("" .. program .. "stop " .. dir .. " " .. (mode or "fast")) end
  function pg.start() output("" .. program .. "start " .. dir) end
  function pg.query(sql, database)
    return output(("PGPASSWORD=%s psql -XAtq -v ON_ERROR_STOP=1 -h %s -p %d -U couplet -d %s -c %s"):format(
      quoted(PASSWORD), dir, pg.port, database or "couplet", quoted(sql)))
  end
  function pg.close()
    if not p then return end
    output("" .. program .. "close " .. dir)
    p:close()                               -- it sees that the directory is gone
    p = nil
  end
  return pg
end

return postgres
