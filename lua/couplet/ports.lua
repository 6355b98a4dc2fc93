-- SPDX-License-Identifier: MIT
-- ports: which services listen where (known to plugins as core.portmanager).
--
-- A plugin offers a service with module:provides("net", {...}); the configuration says on which ports and addresses:
--   name                 "c2s": options c2s_ports, c2s_interfaces (or c2s_interface), c2s_ssl
--   class                [+] connections are native ones of this class of couplet.core.net (handlers: net.on(class, …))
--   listener             else: a table of functions as net.server knows it (lua_listener.lua)
--   default_port(s)      used when the option is not set; default_interface(s) likewise
--   encryption           "ssl": TLS from the first byte
--   private              only on local_interfaces, unless configured otherwise
--   limits               [+] table, or function(service) -> table, for net.listen
--   config_prefix        another word before _ports
--
--   ports.register_service(name, service)  ports.unregister_service(name, service?)
--   ports.activate(name) -> true | nil, message     ports.deactivate(name)
--   ports.reconcile()    opens and closes what differs from the configuration; connections stay
--   ports.get_service(name)  ports.get_service_at(interface, port)  ports.open_doors() -> list
--   ports.get_active_services() -> the same as plugins know it: a util.multitable of service, interface, port
--   ports.hold()         nothing is opened before ports.open() (start: first plugins, then doors)

local core = require "couplet.core"
local certs = require "couplet.certs"
local config = require "couplet.config"
local ip = require "couplet.util.ip"
local log = require "couplet.log".new "ports"
local prosody = require "couplet.prosody"

local ports = {}

local services = {}                     -- name -> list of services, the newest last
local doors = {}                        -- "interface port" -> { listener =, service =, name =, interface =, port =, tls = }
local held = true

-- --- what the configuration wants ---

local function list_of(value)
  if value == nil then return nil end
  if type(value) ~= "table" then return { value } end
  return value
end

local function option(service, word)
  local prefix = service.config_prefix or service.name
  local key = (prefix == "" and "" or prefix .. "_") .. word
  local value = config.get("*", key)
  -- older spellings of the direct TLS ports
  if value == nil and service.name == "c2s_direct_tls" and word ~= "ssl" then
    value = config.get("*", "legacy_ssl_" .. word)
    if value ~= nil then key = "legacy_ssl_" .. word end
  end
  return value, key
end

local function both(four, six)
  local list = {}
  if config.get("*", "use_ipv4") ~= false then list[1] = four end
  if config.get("*", "use_ipv6") ~= false then list[#list + 1] = six end
  return list
end

local function interfaces_of(service)
  local value, key = option(service, "interfaces")
  if value == nil then value, key = option(service, "interface") end
  if value == nil then key = nil end
  if value == nil then value = service.default_interfaces or service.default_interface end
  if value == nil and service.private then value = config.get("*", "local_interfaces") or both("127.0.0.1", "::1") end
  if value == nil then value, key = config.get("*", "interfaces") or config.get("*", "interface"), "interfaces" end
  if value == nil then value = both("*", "::") end
  local out = {}
  for _, v in ipairs(list_of(value)) do
    local address = v == "*" and "0.0.0.0" or tostring(v)
    if ip.new_ip(address) then
      out[#out + 1] = address
    else
      local place = key and config.place("*", key)
      log("error", "%s: %q is no address: a numeric one, \"*\" or \"::\" is expected%s", key or service.name, address,
        place and " (" .. place .. ")" or "")
    end
  end
  return out
end

local function ports_of(service)
  local value, key = option(service, "ports")
  if value == nil then
    value = option(service, "port")
    if value == nil then value = service.default_ports or service.default_port end
    key = nil
  end
  return list_of(value) or {}, key
end

-- --- opening and closing ---

local function bracket(address)
  return address:find(":", 1, true) and "[" .. address .. "]" or address
end

-- Port 0 is any: each service has its own.
local function id_of(service, interface, port)
  return interface .. " " .. (port == 0 and service.name or port)
end

local function open(service, interface, port)
  local id = id_of(service, interface, port)
  local settings = { address = interface, port = port, class = service.class }
  for k, v in pairs(type(service.listen) == "table" and service.listen or {}) do settings[k] = v end
  local limits = service.limits
  if type(limits) == "function" then limits = limits(service) end
  settings.limits = limits
  if service.encryption == "ssl" then
    local context, err = certs.direct(service.name, port)
    if not context then return nil, tostring(err) end
    settings.tls = context
    settings.alpn = service.alpn or service.name:match("^c2s") and "xmpp-client" or service.name:match("^s2s") and "xmpp-server"
      or nil
  end
  if not service.class then
    if type(service.listener) ~= "table" then return nil, "the service has neither class nor listener" end
    settings.class = require "couplet.lua_listener".class(service.name, service.listener)
    settings.mode = "raw"
  end
  local listener, err = core.net.listen(settings)
  if not listener then return nil, err end
  local actual = listener.port and listener:port() or port
  doors[id] = { listener = listener, service = service, name = service.name, interface = interface, port = actual, wanted = port,
    tls = settings.tls }
  log("info", "%s listens on %s port %d%s", service.name, bracket(interface), actual, settings.tls and " (TLS)" or "")
  return true
end

local hints = {
  { "denied", "ports below 1024 need root or CAP_NET_BIND_SERVICE" },
  { "in use", "something else listens there: stop it, or choose another port" },
  { "assign", "this machine has no such address" },
}

local function failed(service, interface, port, key, err)
  local hint = ""
  for _, h in ipairs(hints) do if tostring(err):find(h[1]) then hint = " (" .. h[2] .. ")" end end
  -- the IPv6 default is a wish, not an order
  if interface == "::" and tostring(err):find("Address family not supported") then return end
  local place = key and config.place("*", key)
  log("error", "%s cannot listen on %s port %s: %s%s; the option is %s%s", service.name, bracket(interface), port, err, hint,
    key or (service.config_prefix or service.name) .. "_ports", place and " at " .. place or "")
end

local function shut(id)
  local door = doors[id]
  doors[id] = nil
  door.listener:close()
  log("info", "%s no longer listens on %s port %d", door.name, bracket(door.interface), door.port)
end

-- What should be open for a service: id -> { interface, port, key }; and whether something there is no port, which is logged.
local function wanted(service, quiet)
  local set, good, wrong = {}, {}, false
  local numbers, key = ports_of(service)
  for _, port in ipairs(numbers) do
    local number = math.tointeger(tonumber(port))
    if number and number >= 0 and number <= 65535 then
      good[#good + 1] = number
    else
      wrong = true
      if not quiet then
        log("error", "%s: %q is no port number%s", key or service.name, tostring(port),
          key and config.place("*", key) and " (" .. config.place("*", key) .. ")" or "")
      end
    end
  end
  for _, interface in ipairs(interfaces_of(service)) do
    for _, number in ipairs(good) do
      set[id_of(service, interface, number)] = { interface = interface, port = number, key = key }
    end
  end
  return set, wrong
end

function ports.activate(name)
  local list = services[name]
  local service = list and list[#list]
  if not service then return nil, "No such service: " .. tostring(name) end
  if held then return true end
  local all = true
  for id, w in pairs(wanted(service)) do
    local door = doors[id]
    if door and door.name ~= name and w.port ~= 0 then
      log("error", "%s and %s both want %s port %d; %s has it", name, door.name, bracket(w.interface), w.port, door.name)
      all = false
    elseif not door then
      local ok, err = open(service, w.interface, w.port)
      if not ok then
        failed(service, w.interface, w.port, w.key, err)
        all = false
      end
    end
  end
  if not all then return nil, "not every port could be opened" end
  return true
end

function ports.deactivate(name)
  for id, door in pairs(doors) do if door.name == name then shut(id) end end
  return true
end

function ports.reconcile()
  if held then return end
  local keep, wrong = {}, {}                     -- wrong: services whose ports stay as they are until somebody mends the file
  for name, list in pairs(services) do
    local set
    set, wrong[name] = wanted(list[#list], true)           -- activate() says what is wrong
    for id in pairs(set) do keep[id] = keep[id] or name end
  end
  for id, door in pairs(doors) do
    if keep[id] ~= door.name and not wrong[door.name] then shut(id) end
  end
  for name in pairs(services) do ports.activate(name) end
end

-- New certificates: listeners take the new contexts, connections keep theirs.
prosody.events.add_handler("certificates-reloaded", function()
  for _, door in pairs(doors) do
    if door.tls then
      local context, err = certs.direct(door.name, door.port)
      if context then
        door.tls = context
        door.listener:tls(context)
      else
        log("error", "%s port %d keeps its old certificate: %s", door.name, door.port, err)
      end
    end
  end
end)

function ports.hold() held = true end

-- -> how many ports the configuration asks for; open_doors() has those that are open
function ports.open()
  held = false
  for name in pairs(services) do ports.activate(name) end
  local n = 0
  for _, list in pairs(services) do n = n + #list_of(ports_of(list[#list])) end
  return n
end

function ports.close()
  held = true
  for id, door in pairs(doors) do
    doors[id] = nil
    door.listener:close()
  end
end

-- --- services ---

function ports.register_service(name, service)
  services[name] = services[name] or {}
  service.name = service.name or name
  table.insert(services[name], service)
  if #services[name] == 1 then
    ports.activate(name)
  else                                  -- the newest has the ports
    ports.deactivate(name)
    ports.activate(name)
  end
  prosody.events.fire_event("service-added", { name = name, service = service })
  return true
end

function ports.unregister_service(name, service)
  local list = services[name] or {}
  for i = #list, 1, -1 do
    if not service or list[i] == service then
      table.remove(list, i)
      break
    end
  end
  ports.deactivate(name)
  if #list == 0 then services[name] = nil else ports.activate(name) end
  prosody.events.fire_event("service-removed", { name = name, service = service })
  return true
end

function ports.get_service(name)
  local list = services[name]
  return list and list[#list]
end

function ports.get_registered_services() return services end

function ports.get_service_at(interface, port)
  for _, door in pairs(doors) do
    if door.port == tonumber(port) and (door.interface == interface or interface == "*") then
      return door.service, door.listener
    end
  end
end

function ports.open_doors()
  local list = {}
  for _, door in pairs(doors) do
    list[#list + 1] = { service = door.name, interface = door.interface, port = door.port, tls = door.tls ~= nil }
  end
  table.sort(list, function(a, b)
    if a.service ~= b.service then return a.service < b.service end
    if a.port ~= b.port then return a.port < b.port end
    return a.interface < b.interface
  end)
  return list
end

function ports.get_active_services()
  local all = require "couplet.util.multitable".new()
  for _, door in ipairs(ports.open_doors()) do all:add(door.service, door.interface, door.port, door) end
  return all
end

prosody.events.add_handler("item-added/net-provider", function(event)
  ports.register_service(event.item.name, event.item)
end)
prosody.events.add_handler("item-removed/net-provider", function(event)
  ports.unregister_service(event.item.name, event.item)
end)

return ports
