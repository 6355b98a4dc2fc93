-- SPDX-License-Identifier: MIT
-- pubsub/disco: what a service says of its nodes, each of them and their items (XEP-0060 §5.2 to §5.5): for events of mod_disco.
-- Lists have pages (XEP-0059), and an end where an answer would be too large for whoever asked so little.
--
--   lib.disco_nodes(event, service, address)      adds to event.reply
--   lib.disco_node(event, service)                … of event.node, and says that it exists, if the asker may know
--   lib.disco_items(event, service, address)

local rsm = require "util.rsm"

local LIST_BYTES, ITEMS_BYTES = 512 * 1024, 2 * 1024 * 1024

return function(lib)
  -- -> the first and last position of a page of the sorted names, and whether it was asked for
  local function bounds(names, query)
    local page, first, last = rsm.get(query), 1, #names
    if not page then return first, last, false end
    if page.after then
      while names[first] and names[first] <= page.after do first = first + 1 end
    end
    if type(page.before) == "string" then
      while last >= first and names[last] >= page.before do last = last - 1 end
    end
    local most = page.max or #names
    if page.before then first = math.max(first, last - most + 1) else last = math.min(last, first + most - 1) end
    return first, last, true
  end

  -- add(name) puts one into the reply
  local function write(event, names, add)
    table.sort(names)
    local first, last, asked = bounds(names, event.stanza.tags[1])
    local bytes, at = 0, first
    while at <= last and bytes < LIST_BYTES do
      bytes = bytes + add(names[at])
      at = at + 1
    end
    if asked or at <= last then
      event.reply:add_child(rsm.generate { first = at > first and { index = first - 1, names[first] } or nil,
        last = at > first and names[at - 1] or nil, count = #names })
    end
  end

  function lib.disco_nodes(event, service, address)
    local _, visible = service:get_nodes(event.stanza.attr.from)
    local names = {}
    for name in pairs(visible) do names[#names + 1] = name end
    write(event, names, function(name)
      local title = visible[name].config.title
      event.reply:tag("item", { jid = address, node = name, name = title ~= "" and title or nil }):up()
      return #name + #title + 64
    end)
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
