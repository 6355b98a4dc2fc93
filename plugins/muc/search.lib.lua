-- SPDX-License-Identifier: MIT
-- muc/search: finding rooms by words, in pages (XEP-0433). Goes through the listed rooms a slice at a time, and no further than
-- the page reaches.

local dataforms = require "util.dataforms"
local jid = require "util.jid"
local rsm = require "util.rsm"
local st = require "util.stanza"
local task = require "couplet.task"
local util = module:require "muc/util"

local NS = "urn:xmpp:channel-search:0"
local SEARCH, PARAMS, ORDER, ERROR = NS .. ":search", NS .. ":search-params", "{" .. NS .. ":order}", NS .. ":error"
local USERS, ADDRESS = ORDER .. "nusers", ORDER .. "address"
local PAGE, SLICE, AT_ONCE, OF_ONE = 100, 500, 4, 2
local SORTED = 5                               -- seconds
local QUERY_BYTES, WORDS = 256, 8

local form = dataforms.new {
  { name = "FORM_TYPE", type = "hidden", value = PARAMS },
  { name = "q", type = "text-single", label = "Search for" },
  { name = "all", type = "boolean", label = "All rooms, whatever the words" },
  { name = "sinname", type = "boolean", label = "Search in names", value = true },
  { name = "sindescription", type = "boolean", label = "Search in descriptions", value = true },
  { name = "sinaddress", type = "boolean", label = "Search in addresses", value = true },
  { name = "min_users", type = "text-single", datatype = "xs:integer", range_min = 0, label = "Occupants at least", value = 0 },
  { name = "types", type = "list-multi", label = "Kinds of service", value = { { value = "xep-0045", default = true } },
    options = { { value = "xep-0045", label = "Rooms (XEP-0045)", default = true } } },
  { name = "key", type = "list-single", label = "In the order of", value = USERS,
    options = { { value = USERS, label = "Number of occupants" }, { value = ADDRESS, label = "Address" } } },
}

-- listing: see there; occupied: { address = room with occupants }
return function(listing, occupied)
  local under_way, of = 0, {}                  -- searches at once: all, and { [other server] = how many }

  local function users(address)
    local room = occupied[address]
    return room and room:occupant_count() or 0
  end

  -- An order: at(i) -> address, or false: not here, nil: beyond the end; place(cursor) -> i of the first behind it; n places.
  local function by_address()
    return { at = function(i) return listing.rooms[i] end, cursor = function(address) return address end,
      place = listing.after, n = #listing.rooms }
  end

  local crowded, known, sorted_at = {}, {}, 0

  local function sort_crowded()
    crowded, known, sorted_at = {}, {}, os.time()
    for address in pairs(occupied) do
      if listing.about(address) and users(address) > 0 then crowded[#crowded + 1] = { users(address), address } end
    end
    table.sort(crowded, function(a, b) return a[1] > b[1] or a[1] == b[1] and a[2] < b[2] end)
    for i, one in ipairs(crowded) do known[one[2]] = i end
  end

  -- Those with people in them first, the most crowded before the others; that may be some seconds old.
  local function by_users()
    if math.abs(os.time() - sorted_at) > SORTED then sort_crowded() end
    local crowded, known = crowded, known      -- luacheck: ignore 431
    local function cursor(address)
      local i = known[address]
      return ("%d %s"):format(i and crowded[i][1] or 0, address)
    end
    return { cursor = cursor, n = #crowded + #listing.rooms,
      at = function(i)
        if crowded[i] then return crowded[i][2] end
        local address = listing.rooms[i - #crowded]
        return address and not known[address] and address or address and false
      end,
      place = function(text)
        local n, address = text:match "^(%d+) (.*)$"
        n = math.tointeger(tonumber(n or 0))
        if not n or n == 0 then return #crowded + listing.after(address or "") end
        for i, one in ipairs(crowded) do
          if one[1] < n or one[1] == n and one[2] > address then return i end
        end
        return #crowded + 1
      end }
  end

  local function matches(address, want)
    if users(address) < want.min_users then return false end
    if not want.words then return true end
    local about, text = listing.about(address), {}
    if want.sinname then text[#text + 1] = about.name or jid.node(address) end
    if want.sindescription then text[#text + 1] = about.description end
    if want.sinaddress then text[#text + 1] = jid.node(address) end          -- what is behind it all rooms share
    text = table.concat(text, "\n"):lower()
    for _, word in ipairs(want.words) do
      if not text:find(word, 1, true) and not (want.sinaddress and word == address) then return false end
    end
    return true
  end

  -- -> { address } in order, more: does it go on that way?
  local function find(order, want, set)
    local back = set.before ~= nil
    local max, found, looked = math.min(set.max or PAGE, PAGE), {}, 0
    local cursor = set.after or set.before
    local i = back and order.n or 1
    if cursor and cursor ~= true then
      i = order.place(cursor)
      if back then
        i = i - 1
        if order.at(i) and order.cursor(order.at(i)) == cursor then i = i - 1 end
      end
    end
    while #found <= max do
      local address = i > 0 and order.at(i)
      if address == nil or i <= 0 then return found, false end
      if address and listing.about(address) and matches(address, want) then
        if #found == max then return found, true end
        table.insert(found, back and 1 or #found + 1, address)
      end
      looked, i = looked + 1, i + (back and -1 or 1)
      if looked % SLICE == 0 then
        task.sleep(0)
        local last = address and order.cursor(address)             -- rooms may have come and gone
        if last then
          i = order.place(last)
          if back then
            i = i - 1
            if order.at(i) == address then i = i - 1 end
          end
        end
      end
    end
  end

  local function item(reply, address)
    local about = listing.about(address)
    reply:tag("item", { address = address })
      :text_tag("name", about.name or jid.node(address))
    if about.description then reply:text_tag("description", about.description) end
    if about.language then reply:text_tag("language", about.language) end
    reply:text_tag("nusers", ("%d"):format(users(address))):text_tag("service-type", "xep-0045")
      :text_tag("is-open", about.open and "true" or "false")
      :text_tag("anonymity-mode", about.anonymous and "muc_semianonymous" or "{" .. NS .. ":anonymity}none"):up()
  end

  local function words(text)
    local out = {}
    for word in text:lower():gmatch "%S+" do out[#out + 1] = #out < WORDS and word or nil end
    return out[1] and out
  end

  -- -> want, order | nil, type, condition, element, text
  local function read(x)
    local values, problems = form:data(x)
    local function no(condition, element, text) return nil, "modify", condition, element, text end
    local function given(name, default) if values[name] == nil then return default end return values[name] end
    if problems and problems.key then return no("feature-not-implemented", "invalid-sort-key") end
    local unclear = util.unclear(x, form, PARAMS)
    if unclear or problems then return no("bad-request", nil, unclear) end
    local q = values.q
    if values.all and q and q ~= "" then return no("bad-request", "conflicting-fields", "All rooms, or those with the words?") end
    if not values.all and not q then return no("bad-request", "no-search-conditions") end
    local want = { min_users = given("min_users", 0), sinname = given("sinname", true),
      sindescription = given("sindescription", true), sinaddress = given("sinaddress", true) }
    if not values.all then
      want.words = #q <= QUERY_BYTES and words(q)
      if not want.words or not (want.sinname or want.sindescription or want.sinaddress) then
        return no("bad-request", "invalid-search-terms", "One to eight words, and somewhere to look for them")
      end
    end
    for _, kind in ipairs(values.types or {}) do want.rooms = want.rooms or kind == "xep-0045" end
    want.none = values.types and values.types[1] and not want.rooms
    local key = given("key", USERS)
    if key ~= USERS and key ~= ADDRESS then return no("feature-not-implemented", "invalid-sort-key") end
    return want, key == USERS and by_users() or by_address()
  end

  module:hook("iq-get/host/" .. SEARCH .. ":search", function(event)
    local origin, stanza = event.origin, event.stanza
    local function refuse(kind, condition, element, text)
      local reply = st.error_reply(stanza, kind, condition, text)
      if element then reply:tag(element, { xmlns = ERROR, ["retry-after"] = element == "rate-limit" and "5" or nil }):up() end
      origin.send(reply)
      return true
    end
    local search = stanza.tags[1]
    local x = search:get_child("x", "jabber:x:data")
    if not x then
      origin.send(st.reply(stanza):tag("search", { xmlns = SEARCH }):add_child(form:form()))
      return true
    end
    local want, order, condition, element, text = read(x)
    if not want then return refuse(order, condition, element, text) end
    local domain = util.elsewhere(stanza.attr.from)
    if under_way >= AT_ONCE or domain and (of[domain] or 0) >= OF_ONE then
      return refuse("wait", "resource-constraint", "rate-limit")
    end
    local function count(change)
      under_way = under_way + change
      if domain then util.count(of, domain, change) end
    end
    count(1)
    local set = rsm.get(search) or {}
    local ok, found, more = pcall(function()
      if want.none then return {}, false end
      return find(order, want, set)
    end)
    count(-1)
    if not ok then error(found, 0) end
    local reply = st.reply(stanza):tag("result", { xmlns = SEARCH })
    for _, address in ipairs(found) do
      if listing.about(address) then item(reply, address) end
    end
    if rsm.get(search) or more then
      reply:add_child(rsm.generate { first = found[1] and order.cursor(found[1]), last = found[1] and order.cursor(found[#found]),
        max = math.min(set.max or PAGE, PAGE), count = not want.words and want.min_users == 0 and #listing.rooms or nil })
    end
    origin.send(reply)
    return true
  end)

  module:add_feature(SEARCH)
end
