-- SPDX-License-Identifier: MIT
-- core.system and the libraries over it: files, local sockets, process.

local check = require "check"
local temp = require "temp"
local core = require "couplet.core"
local system = core.system
local base = temp.dir()

check.test("whole files or none", function()
  local path = base .. "/f"
  check.ok(system.write_file(path, "one", 384))
  check.equal(system.read_file(path), "one")
  check.equal(system.stat(path).mode, 384)
  check.ok(system.write_file(path, ("x"):rep(300000)))
  check.equal(#system.read_file(path), 300000)
  for _, size in ipairs { 0, 1, 65534, 65535, 65536, 65537, 131072 } do      -- around the portions it is read in
    local text = ("%08d"):rep(size // 8 + 1):sub(1, size)
    check.ok(system.write_file(path, text))
    check.ok(system.read_file(path) == text, size)
  end
  check.ok(system.read_file("/proc/self/status"):find "^Name:", "a file that says its size is 0")
  local ok, err = system.read_file(path, 1000)
  check.equal(ok, nil)
  check.ok(err:find("larger than"))
  check.equal(select(2, system.write_file(base .. "/no/f", "x")):match("[^:]+$"), " No such file or directory")
  check.equal(#system.list(base), 1, "no temporary files stay")
  check.raises("NUL", system.stat, "a\0b")
  check.equal(system.read_file(base .. "/none"), nil)
  check.equal(select(3, system.read_file(base .. "/none")), 2)
end)

check.test("directories", function()
  check.ok(system.mkdir(base .. "/d", 448))
  check.equal(system.mkdir(base .. "/d"), nil)
  temp.write(base, "d/b.lua", "")
  temp.write(base, "d/a.lua", "")
  temp.write(base, "d/.hidden.lua", "")
  check.equal(system.glob(base .. "/d/*.lua"), { base .. "/d/a.lua", base .. "/d/b.lua" })
  check.equal(system.glob(base .. "/d/*.none"), {})
  check.equal(#system.list(base .. "/d"), 3)
  check.equal(system.stat(base .. "/d").type, "directory")
  check.ok(system.symlink("a.lua", base .. "/d/l"))
  check.equal(system.stat(base .. "/d/l", "link").type, "link")
  check.equal(system.realpath(base .. "/d/../d/l"), system.realpath(base) .. "/d/a.lua")
end)

check.test("a pid file is held by one", function()
  local fd = check.ok(system.pidfile(base .. "/pid"))
  check.equal(tonumber(system.read_file(base .. "/pid")), system.pid())
  local second, err = system.pidfile(base .. "/pid")
  check.equal(second, nil)
  check.ok(err:find("held by process " .. system.pid()), err)
  system.close(fd)
  system.close(check.ok(system.pidfile(base .. "/pid")))
end)

check.test("local sockets", function()
  local path = base .. "/s"
  local fd = check.ok(system.listen(path))
  check.equal(system.stat(path).mode, 384)
  check.equal(select(2, system.accept(fd)), "again")
  check.equal(system.listen(path), nil, "a living one is not taken over")
  system.close(check.ok(system.accept(fd)), "the look at it")
  local c = check.ok(system.connect(path))
  local s, uid = system.accept(fd)
  check.equal(uid, system.uid())
  check.equal(system.send(c, "hello", 2), 4)
  check.equal(system.recv(s), "ello")
  check.equal(select(2, system.recv(s)), "again")
  system.close(c)
  check.equal(system.recv(s), "")
  system.close(s)
  system.close(fd)
  local again = check.ok(system.listen(path), "a dead one is replaced")
  system.close(again)
  check.equal(system.connect(base .. "/none"), nil)
  check.equal(system.listen(base .. "/" .. ("x"):rep(200)), nil)
end)

check.test("process", function()
  check.equal(system.user(0).name, "root")
  check.equal(system.user("no such user here"), nil)
  check.equal(system.become("no such user here"), nil)
  check.ok(system.usage().rss > 1000000)
  check.ok(system.usage().fds >= 3)
  local old = system.umask(23)
  check.equal(system.umask(old), 23)
  local soft, hard = system.rlimit("NOFILE")
  check.equal({ system.rlimit("NOFILE", soft, hard) }, { soft, hard })
  check.ok(system.kill(system.pid(), 0))
  check.equal(system.kill(2 ^ 30 // 1 | 0, 0), nil)
  check.equal(system.notify("X=1"), false)
end)

check.test("the service manager's socket", function()
  -- a stream socket refuses datagrams: notify must not raise, and say that nobody listens
  local fd = system.listen(base .. "/n")
  system.environment("NOTIFY_SOCKET", base .. "/n")
  check.equal(system.notify("READY=1"), false)
  system.environment("NOTIFY_SOCKET", nil)
  system.close(fd)
end)

check.test("lfs", function()
  local lfs = require "couplet.util.lfs"
  check.equal(lfs.attributes(base, "mode"), "directory")
  check.equal(lfs.attributes(base .. "/f").permissions, "rw-r-----")
  check.equal(lfs.attributes(base .. "/none"), nil)
  check.equal(lfs.symlinkattributes(base .. "/d/l", "mode"), "link")
  local names = {}
  for name in lfs.dir(base .. "/d") do names[#names + 1] = name end
  table.sort(names)
  check.equal(names, { ".", "..", ".hidden.lua", "a.lua", "b.lua", "l" })
  check.ok(lfs.mkdir(base .. "/made"))
  check.ok(lfs.rmdir(base .. "/made"))
  check.ok(lfs.touch(base .. "/f", 1000, 2000))
  check.equal(lfs.attributes(base .. "/f", "modification"), 2000)
  check.equal(lfs.currentdir(), system.cwd())
end)

check.test("paths, pposix, time", function()
  local paths, pposix, time = require "couplet.util.paths", require "couplet.util.pposix", require "couplet.util.time"
  local rows = { { "/a", "b", "/a/b" }, { "/a/", "./b", "/a/b" }, { "/a", "/b", "/b" }, { "/a", ".", "/a" } }
  for i, row in ipairs(rows) do check.equal(paths.resolve_relative_path(row[1], row[2]), row[3], "row " .. i) end
  check.equal(paths.join("a", "b", "c"), "a/b/c")
  check.ok(("x-1.cfg.lua"):find(paths.glob_to_pattern("x-?.cfg.*")))
  check.ok(not ("xx1acfgalua"):find(paths.glob_to_pattern("x-?.cfg.*")))
  local old = pposix.umask("027")
  check.equal(pposix.umask(old), "027")
  check.equal(select(1, pposix.getrlimit("NOFILE")), true)
  check.ok(pposix.meminfo().allocated >= 0)
  check.ok(math.abs(time.now() - os.time()) < 3)
  check.ok(time.monotonic() <= time.monotonic())
end)

temp.remove(base)
check.done()
