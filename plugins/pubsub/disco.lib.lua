-- SPDX-License-Identifier: MIT
-- pubsub/disco: what a service says of its nodes, each of them and their items (XEP-0060 §5.2 to §5.5): for events of mod_disco.
-- Lists have pages (XEP-0059), and an end where an answer would be too large for whoever asked so little.
--
--   lib.disco_nodes(event, service, address)      adds to event.reply
--   lib.disco_node(event, service)                … of event.node, and says that it exists, if the asker may know
--   lib.disco_items(event, service, address)

local rsm = require "util.rsm"

local LIST_BYTES, LIST_MAX, ITEMS_BYTES = 512 * 1024, 1000, 2 * 1024 * 1024
local COUNTED = 1000                   -- nodes of a service up to which each page says how many there are

return function(lib)
  -- -> position of the first name that is larger (or not smaller: including)
  local function position(names, name, including)
    local low, high = 1, #names + 1
    while low < high do
      local middle = (low + high) // 2
      if names[middle] < name or names[middle] == name and not including then low = middle + 1 else high = middle end
    end
    return low
  end

  -- A page costs what is on it, however many nodes there are.
  function lib.disco_nodes(event, service, address)
    local from, names = event.stanza.attr.from, service:node_names()
    local page, sees = rsm.get(event.stanza.tags[1]), service:viewer(from)
    local function visible(at) local object = service.nodes[names[at]] return object and sees(object) and object end
    local first = page and page.after and position(names, page.after) or 1
    local last = page and type(page.before) == "string" and position(names, page.before, true) - 1 or #names
    local step = page and page.before and -1 or 1
    local at, most = step == 1 and first or last, math.min(page and page.max or LIST_MAX, LIST_MAX)
    local list, bytes = {}, 0
    while at >= first and at <= last and #list < most and bytes < LIST_BYTES do
      local object = visible(at)
      if object then
        local title = object.config.title
        table.insert(list, step == 1 and #list + 1 or 1, { node = names[at], title = title ~= "" and title or nil, at = at })
        bytes = bytes + #names[at] + #title + 64
      end
      at = at + step
    end
    for _, item in ipairs(list) do event.reply:tag("item", { jid = address, node = item.node, name = item.title }):up() end
    while not page and at <= last and not visible(at) do at = at + 1 end
    if not page and at > last then return end              -- that was all
    local count, index
    if #names <= COUNTED or page and page.max == 0 and lib.may_walk(service, from) then
      count, index = 0, 0
      for i = 1, #names do
        local n = visible(i) and 1 or 0
        count, index = count + n, index + (list[1] and i < list[1].at and n or 0)
      end
    end
    event.reply:add_child(rsm.generate { first = list[1] and { index = index, list[1].node } or nil,
      last = list[1] and list[#list].node or nil, count = count })
  end

  function lib.disco_node(event, service)
    local ok, metadata = service:get_node_metadata(event.node, event.stanza.attr.from)
    if not ok then return end
    event.exists = true
    event.reply:tag("identity", { category = "pubsub", type = "leaf" }):up():tag("feature", { var = lib.NS }):up()
      :add_child(lib.forms.metadata(metadata))
  end

  -- In the order of their time, the newest that fit.
  function lib.disco_items(event, service, address)
    local ok, items = service:get_items(event.node, event.stanza.attr.from, nil, { bytes = ITEMS_BYTES })
    if not ok then return end
    event.exists = true
    for _, id in ipairs(items) do event.reply:tag("item", { jid = address, name = id }):up() end
  end
end
