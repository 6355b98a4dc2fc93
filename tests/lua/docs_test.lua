-- SPDX-License-Identifier: MIT
-- The plugins of docs/plugins.md do what the page says; docs/lua-api.md names what is there, and says of the rest that it is not.

local check = require "check"
local fake = require "fakehost"
local st = require "couplet.stanza"

local SOURCE = os.getenv "COUPLET_SOURCE" or "."

local function read(path)
  local f <close> = assert(io.open(SOURCE .. "/" .. path))
  return f:read "a"
end

-- ```lua WORDS … ``` -> array of { words, text }
local function blocks(text)
  local out = {}
  for words, body in text:gmatch "\n```lua([^\n]*)\n(.-)\n```" do out[#out + 1] = { words, body } end
  return out
end

local plugins, tests = {}, {}
for _, block in ipairs(blocks(read "docs/plugins.md")) do
  local words, body = block[1], block[2]
  if words:find "plugin" then
    plugins[check.ok(body:match "^%-%- mod_([%w_]+):", "a plugin's first line names it")] = body
  elseif words:find "test" then
    tests[words:match "test (%S+)"] = body
  end
end

local function host_with(name, options)
  local host = fake.new { plugins = { "iq", "disco", "presence", "roster", "message" }, options = options }
  host:load(name, plugins[name])
  return host, host:client "romeo@example.org/orchard", host:client "juliet@example.org/balcony"
end

local function iq(client, kind, to, child)
  client:send(st.iq { type = kind, id = "q", to = to }:add_child(child))
  return client:expect { name = "iq", id = "q" }
end

local exercises = {}

function exercises.quiet()
  local host, romeo, juliet = host_with "quiet"
  local function say(text) romeo:send(st.message({ to = "juliet@example.org/balcony", type = "chat" }, text)) end
  say "GOOD NIGHT, GOOD NIGHT"
  check.equal(select(2, romeo:expect { type = "error" }:get_error()), "not-acceptable")
  juliet:nothing()
  say "OK"
  juliet:expect { name = "message" }
  return host
end

function exercises.dice()
  local host, romeo = host_with "dice"
  local function roll(sides) return iq(romeo, "get", "example.org",
    st.stanza("roll", { xmlns = "urn:example:dice", sides = sides })) end
  for _ = 1, 20 do
    local n = tonumber(roll():get_child_text("roll", "urn:example:dice"))
    check.ok(n >= 1 and n <= 6)
  end
  for _, sides in ipairs { "1", "1001", "x", "2.5" } do check.equal(select(2, roll(sides):get_error()), "bad-request") end
  local info = iq(romeo, "get", "example.org", st.stanza("query", { xmlns = "http://jabber.org/protocol/disco#info" }))
  check.ok(tostring(info):find("urn:example:dice", 1, true))
  return host
end

function exercises.notes()
  local host, romeo, juliet = host_with "notes"
  local NS = "urn:example:notes"
  local function note(client, kind, name, text) return iq(client, kind, nil,
    st.stanza("note", { xmlns = NS, name = name }):text(text)) end
  check.equal(note(romeo, "set", "shopping", "milk").attr.type, "result")
  check.equal(note(romeo, "get", "shopping"):get_child_text("note", NS), "milk")
  check.equal(select(2, note(juliet, "get", "shopping"):get_error()), "item-not-found")
  check.equal(select(2, note(romeo, "set", nil, "x"):get_error()), "bad-request")
  check.equal(select(2, note(romeo, "set", "long", ("x"):rep(1000)):get_error()), "not-acceptable")
  for i = 2, 50 do check.equal(note(romeo, "set", "n" .. i, "x").attr.type, "result") end
  check.equal(select(2, note(romeo, "set", "one more", "x"):get_error()), "resource-constraint")
  check.equal(note(romeo, "set", "shopping", "eggs").attr.type, "result")
  check.equal(note(romeo, "set", "shopping").attr.type, "result")
  check.equal(select(2, note(romeo, "get", "shopping"):get_error()), "item-not-found")
  return host
end

function exercises.greet()
  local host, romeo, juliet = host_with("greet", { admins = { "romeo@example.org" } })
  local NS = "http://jabber.org/protocol/commands"
  local function command(client, session, fields)
    local c = st.stanza("command", { xmlns = NS, node = "urn:example:greet", sessionid = session })
    if fields then
      c:tag("x", { xmlns = "jabber:x:data", type = "submit" })
      for name, value in pairs(fields) do c:tag("field", { var = name }):text_tag("value", value):up() end
    end
    local reply = iq(client, "set", "example.org", c:reset())
    return reply:get_child("command", NS), reply
  end
  check.equal(select(2, select(2, command(juliet)):get_error()), "forbidden")
  local session = command(romeo).attr.sessionid
  check.equal(command(romeo, session, { who = "juliet@example.org/balcony", times = "2" }):get_child_text "note",
    "Said hello to juliet@example.org/balcony")
  for _ = 1, 2 do check.equal(juliet:expect { name = "message" }:get_child_text "body", "Hello!") end
  juliet:nothing()
  session = command(romeo).attr.sessionid
  check.equal(command(romeo, session, { who = "juliet@example.org", times = "9" }):get_child("note").attr.type, "error")
  return host
end

function exercises.pulse()
  local host, romeo = host_with "pulse"
  for _ = 1, 3 do romeo:send(st.message({ to = "juliet@example.org/balcony", type = "chat" }, "hi")) end
  local env = check.ok(host:reload "pulse")
  check.equal(env.per_minute(), 3)
  host:advance(60)
  romeo:send(st.message({ to = "juliet@example.org/balcony", type = "chat" }, "hi"))
  check.equal(env.per_minute(), 3)
  host:advance(60)
  check.equal(env.per_minute(), 1)
  return host
end

for name in pairs(plugins) do
  check.test("docs/plugins.md: mod_" .. name, function()
    local host = check.ok(exercises[name], "an exercise for it")()
    check.ok(host:reload(name))
    check.equal(fake.lines "error", {})
    check.equal(host:close(), {})
  end)
end
for name in pairs(exercises) do
  if not plugins[name] then check.test("docs/plugins.md: mod_" .. name, function() error "is not on the page" end) end
end

-- The tests on the page, with this file's check and the page's plugin.
for name, text in pairs(tests) do
  local quiet = setmetatable({ done = function() end }, { __index = check })
  local page_fake = setmetatable({ new = function(o)
    local names = o.plugins
    o.plugins = {}
    local host = fake.new(o)
    for _, p in ipairs(names) do host:load(p, plugins[p]) end
    return host
  end }, { __index = fake })
  local env = setmetatable({ require = function(lib)
    return lib == "check" and quiet or lib == "fakehost" and page_fake or require(lib)
  end }, { __index = _G })
  assert(load(text, "docs/plugins.md: test " .. name, "t", env))()
end

-- docs/lua-api.md -------------------------------------------------------------------------------------------------------------

local api = read "docs/lua-api.md"

local function listed(mark)
  local body = check.ok(api:match("<!%-%- " .. mark .. " %-%->\n(.-)\n<!%-%- end %-%->"), mark)
  local out = {}
  for name in body:gmatch "`([^`]+)`" do out[#out + 1] = name end
  return out
end

check.test("docs/lua-api.md: libraries that are there, and those that are not yet", function()
  require "couplet.alias".install()
  for _, name in ipairs(listed "libraries") do
    local ok, err = pcall(require, name)
    check.ok(ok, name .. ": " .. tostring(err))
  end
  for _, name in ipairs(listed "missing libraries") do
    check.ok(not pcall(require, name), name .. " is there: say so on the page")
  end
end)

check.test("docs/lua-api.md: every method of the module object is on the page, and what begins a row is one", function()
  local methods = require "couplet.module"
  local section = check.ok(api:match "\n## 3%..-\n## 4%.")
  local named = {}
  for name in section:gmatch "[%a_]+" do named[name] = true end
  for name, fn in pairs(methods) do
    if type(fn) == "function" and not name:find "^_" then check.ok(named[name], "module:" .. name .. " is not in section 3") end
  end
  for name in section:gmatch "\n| `([%a_]+)%(" do check.ok(methods[name], "module:" .. name .. " is not there") end
end)

-- All Lua of the server, without the list of names itself.
local function sources()
  local out = {}
  local find = "find '%s/lua' '%s/plugins' -name '*.lua' ! -name event_names.lua"
  local p <close> = check.ok(io.popen(find:format(SOURCE, SOURCE)))
  for path in p:lines() do
    local f <close> = assert(io.open(path))
    out[#out + 1] = f:read "a"
  end
  return table.concat(out, "\n")
end

check.test("docs/lua-api.md: every event of the catalogue is fired, and those that nothing fires are named", function()
  local text = sources()
  local function quoted(words) return text:find('"' .. words .. '"', 1, true) ~= nil end
  -- by its name, or by one put together of two parts; capitals stand for what comes behind
  local function fired(event)
    if quoted(event) then return true end
    event = event:gsub("^s2s%a+%-", "s2s-")                        -- each of these is fired three times
    local open, login = event:match "^(.-)%u+$", event:match "^sasl2?/c2s/(.*)$"
    if login then return quoted(login) or open ~= nil end           -- of couplet.login, which is one for both
    for at in (open or event):gmatch "()[-/]" do
      if quoted(event:sub(1, at)) and (open or quoted(event:sub(at + 1))) then return true end
    end
    return false
  end
  local named = require "couplet.event_names".known
  local section = check.ok(api:match "\n### 4%.2.-\n## 5%.")
  local count = 0
  for cell in section:gmatch "\n| ([^|]*)" do
    for event in cell:gsub("`[^`]*`", ""):gsub("%b()", ""):gmatch "%f[%w][%a_][%w_]*[-/][%w_/-]*%a%f[%A]" do
      count = count + 1
      check.ok(fired(event), event .. " is fired by nothing: say so in section 0")
      check.ok(named(event), event .. " is unknown to couplet.event_names")
    end
  end
  check.ok(count > 90, count)
  for _, event in ipairs(listed "missing events") do
    check.ok(not quoted(event), event .. " is there: say so on the page")
    check.ok(event:find "^sasl/" or not named(event), event .. " is no event to couplet.event_names")
  end
end)

check.test("docs/lua-api.md: methods of stores and stanzas that are on the page are there", function()
  local host = fake.new { global = { storage = "memory" }, plugins = {} }
  local module = host:load("stores", "").module
  local section = check.ok(api:match "\n## 7%..-\n## 8%.")
  local count = 0
  for line in section:gmatch "[^\n]+" do
    local kind, methods = line:match "^| `([%l+]+)`[^|]*|(.*)|$"
    local store = kind and check.ok(module:open_store("x", kind))
    for span in (methods or ""):gmatch "`([^`]+)`" do          -- `method(…)`, or `one another third`
      for method in (span:match "^([%a_]+)%(" or span:match "^[%a_ ]+$" or ""):gmatch "[%a_]+" do
        count = count + 1
        check.ok(store[method] ~= nil, kind .. ": " .. method)
      end
    end
  end
  check.ok(count > 25, count)
  local function added(text, object, what)
    for line in text:gmatch "\n(%*%*%[%+%]%*%*[^\n]*)" do
      for method in line:gmatch(what .. ":([%a_]+)%(") do check.ok(object[method], what .. ":" .. method) end
    end
  end
  added(section, { has = true }, "store")                 -- of SQL databases: tests/lua/store_conformance.lua
  added(api:match "\n## 6%..-\n## 7%.", st.stanza "a", "s")
  check.equal(host:close(), {})
end)

check.done()
