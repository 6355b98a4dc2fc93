-- SPDX-License-Identifier: MIT
-- ctl/storage: moving all data from one storage to another. The server must not run, or it would write into what is copied.

local commands = require "couplet.commands"

commands.declare { name = "storage copy", args = "FROM TO", min = 2, where = "any",
  help = "copy everything; FROM and TO: internal, sql, sqlite:FILE, or FROM prosody:DIRECTORY, prosody:sql",
  run = function(ctx, from, to)
    if require "couplet.prosody".process_type ~= "prosodyctl" then
      return nil, "the server is running and would write into what is copied: stop it (coupletctl stop), copy, change the option "
        .. "storage, start it"
    end
    local copy = require "couplet.storage.copy"
    local source, problem = copy.source(from)
    if not source then return nil, problem end
    local target
    target, problem = copy.target(to)
    if not target then return nil, problem end
    local ok, rows, stores = copy.run(source, target, function(line) ctx:print("%s", line) end)
    require "couplet.storage.database".close()
    if not ok then return nil, rows end
    local file = target.options.file                -- a relative name is one below data_path
    if file then to = to .. " (" .. file .. ")" end
    return true, ("%d rows of %d stores are in %s now"):format(rows, stores, to),
      { rows = rows, stores = stores }
  end }
