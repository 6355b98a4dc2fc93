-- SPDX-License-Identifier: MIT
-- ctl/tool: commands that never need the server: checking configuration, DNS and other servers, making certificates. And
-- `commands`, by which coupletctl asks a running server what its plugins have brought.

local commands = require "couplet.commands"
local counted = commands.counted

commands.declare { name = "check config", help = "names and types of all options, plugins, hosts, certificates", where = "tool",
  broken_ok = true,
  run = function(ctx)
    if ctx.tool and ctx.tool.problem then return nil, ctx.tool.problem end
    local check = require "couplet.ctl.check"
    local findings = check.run()
    local count = { error = 0, warning = 0, note = 0 }
    for _, f in ipairs(findings) do
      ctx:print("%s: %s", f.level, f.text)
      count[f.level] = count[f.level] + 1
    end
    local file = require "couplet.config".file()
    if count.error > 0 then
      return nil, ("%s: %s, %s"):format(file, counted(count.error, "error"), counted(count.warning, "warning"))
    end
    if count.warning > 0 then return true, ("%s: no errors, %s"):format(file, counted(count.warning, "warning")), findings end
    return true, file .. ": all is well", findings
  end }

commands.declare { name = "check", help = "the same as check config", where = "tool", broken_ok = true,
  run = function(ctx) return commands.get("check config").run(ctx) end }

commands.declare { name = "check dns", args = "[DOMAIN]", max = 1, where = "tool", waits = true,
  help = "are our domains found (which records to add), or another's: SRV, addresses, DNSSEC, TLSA",
  run = function(ctx, domain) return require "couplet.ctl.check_dns".run(ctx, domain) end }

commands.declare { name = "check certs", args = "[HOST]", max = 1, where = "tool",
  help = "certificates of our hosts: file, days left, names, chain, what they are made for",
  run = function(ctx, host) return require "couplet.ctl.check_certs".run(ctx, host) end }

commands.declare { name = "check connectivity", args = "DOMAIN [HOST]", min = 1, max = 2, where = "tool", waits = true,
  help = "call another server as HOST would: addresses, TLS, its certificate, what it offers",
  run = function(ctx, domain, host) return require "couplet.ctl.check_connectivity".run(ctx, domain, host) end }

commands.declare { name = "cert generate", args = "HOST [DAYS]", min = 1, max = 2, where = "tool",
  help = "make a certificate of our own for a host (clients will ask whether to trust it)",
  run = function(_, host, days)
    local config, certs = require "couplet.config", require "couplet.certs"
    host = require "couplet.jid".prep(host) or host
    if not config.kind(host) then return nil, ("the configuration has no host %s"):format(host) end
    local n = days and math.tointeger(tonumber(days))
    if days and (not n or n < 1 or n > 36500) then return nil, "DAYS is a number from 1 to 36500" end
    for _, ending in ipairs { ".crt", ".key" } do
      local path = certs.directory() .. "/" .. host .. ending
      if require "couplet.core".system.stat(path) then return nil, path .. " exists; move it away first" end
    end
    local made, err = certs.generate(host, n)
    if not made then return nil, err end
    return true, ("%s\n%s\nA running server takes it with `coupletctl reload`."):format(made.certificate, made.key)
  end }

commands.declare { name = "commands", help = "what can be asked of the running server", where = "server",
  run = function(ctx)
    local list = {}
    for i, c in ipairs(commands.list()) do
      list[i] = { name = c.name, args = c.args, help = c.help, where = c.where }
      ctx:print("%-40s %s", commands.usage(c), c.help or "")
    end
    return true, nil, list
  end }
