-- SPDX-License-Identifier: MIT
-- mod_vcard_legacy: vcard-temp (XEP-0054) for clients that know nothing newer, out of what the account publishes (mod_pep): its
-- vCard4, its nickname, its avatar (XEP-0084). Both ways, so that all clients show the same picture (XEP-0398); and the picture's
-- hash goes into presence (XEP-0153).
--
-- What mod_vcard has kept is read while there is nothing newer, and published when its owner logs in (upgrade_legacy_vcards).
-- Exports get_avatar_hash(username). Fires vcard-updated { origin, stanza } when a client has set its card.

local base64 = require "util.encodings".base64
local convert = module:require "vcard/convert"
local directory = require "couplet.directory"
local jid = require "util.jid"
local priority = require "couplet.priority"
local recent = require "couplet.recent"
local sha1 = require "util.hashes".sha1
local st = require "util.stanza"
local task = require "couplet.task"

local TEMP, UPDATE, PUBSUB = "vcard-temp", "vcard-temp:x:update", "http://jabber.org/protocol/pubsub"
local VCARD4, NICK = "urn:xmpp:vcard4", "http://jabber.org/protocol/nick"
local METADATA, DATA = "urn:xmpp:avatar:metadata", "urn:xmpp:avatar:data"
local OPEN = { _defaults_only = true, access_model = "open" }        -- as vcard-temp was; nodes that exist stay as they are

module:config {
  upgrade_legacy_vcards = { type = "boolean", default = true, doc = "publish what mod_vcard has kept when its owner logs in" },
  vcard_max_size = { type = "integer", default = 262144, min = 1024, doc = "bytes a card may have, photo included" },
}
local config = module.config
local pep, presence = module:depends "pep", module:depends "presence"
local vcards = module:open_store("vcard")
local host = module.host

module:add_feature(TEMP)
module:hook("account-disco-info", function(event)
  event.reply:tag("feature", { var = TEMP }):up():tag("feature", { var = "urn:xmpp:pep-vcard-conversion:0" }):up()
end)

local function payload_of(service, node, actor, name, ns)
  local ok, _, item = service:get_last_item(node, actor)
  return ok and item and item:get_child(name, ns) or nil
end

-- The picture itself, not one elsewhere. -> id, type | nil. The id is a SHA-1 (XEP-0084 §4.1) and nothing else: it goes into
-- every presence.
local function picture(metadata)
  for info in metadata and metadata:childtags "info" or function() end do
    local id = not info.attr.url and info.attr.id
    if id and #id == 40 and not id:find "%X" then return id, info.attr.type end
  end
end

-- The card -----------------------------------------------------------------------------------------------------------------

local function add_photo(card, service, actor)
  local id, kind = picture(payload_of(service, METADATA, actor, "metadata", METADATA))
  if not id then return end
  local ok, items = service:get_items(DATA, actor, { id })
  local data = ok and items[id] and items[id]:get_child_text("data", DATA)
  if not data then return end
  card:remove_children "PHOTO"
  card:tag("PHOTO"):text_tag("TYPE", kind or "image/png"):text_tag("BINVAL", data):up()
end

-- -> <vCard/> | nil if there is nothing; nil, error
local function card_of(service, username, actor)
  local four, card = payload_of(service, VCARD4, actor, "vcard", "urn:ietf:params:xml:ns:vcard-4.0"), nil
  if four then
    card = convert.to_temp(four)
  elseif not service.nodes[VCARD4] then
    local kept, err = vcards:get(username)
    if err then return nil, err end
    card = kept and st.deserialize(kept)
  end
  card = card or st.stanza("vCard", { xmlns = TEMP })
  if not card:get_child "NICKNAME" then
    local nick = payload_of(service, NICK, actor, "nick", NICK)
    if nick then card:text_tag("NICKNAME", nick:get_text()) end
  end
  add_photo(card, service, actor)
  return #card.tags > 0 and card or nil
end

local function get(event)
  local origin, stanza = event.origin, event.stanza
  local username = jid.node(stanza.attr.to) or origin.username
  local service, card, err = pep.get_pep_service(username), nil, nil
  if service then card, err = card_of(service, username, stanza.attr.from) end
  if not service or err then
    origin.send(st.error_reply(stanza, "wait", "internal-server-error"))
  elseif card then
    origin.send(st.reply(stanza):add_child(card))
  elseif event.to_self then
    origin.send(st.reply(stanza):tag("vCard", { xmlns = TEMP }))
  else
    origin.send(st.error_reply(stanza, "cancel", "item-not-found"))   -- whether there is such a user or not
  end
  return true
end

-- Setting ------------------------------------------------------------------------------------------------------------------

local function item_of(payload) return st.stanza("item", { xmlns = PUBSUB }):add_child(payload) end

-- Publishes the photo of a card as an avatar; no photo: no avatar. -> true | nil, condition
local function publish_photo(service, card)
  local actor = service.owner
  local photo = card:get_child "PHOTO"
  local text = photo and (photo:get_child_text "BINVAL" or ""):gsub("%s+", "")
  local metadata = st.stanza("metadata", { xmlns = METADATA })
  if text and text ~= "" then
    local bytes = base64.decode(text)
    if not bytes or #bytes == 0 then return nil, "bad-request" end
    local id = sha1(bytes, true)
    if picture(payload_of(service, METADATA, actor, "metadata", METADATA)) == id then return true end
    local ok, err = service:publish(DATA, actor, id, item_of(st.stanza("data", { xmlns = DATA }):text(text)), OPEN)
    if not ok then return nil, err end
    metadata:tag("info", { id = id, bytes = tostring(#bytes), type = photo:get_child_text "TYPE" or "image/png" }):up()
    ok, err = service:publish(METADATA, actor, id, item_of(metadata), OPEN)
    return ok or nil, err
  end
  if not picture(payload_of(service, METADATA, actor, "metadata", METADATA)) then return true end
  local ok, err = service:publish(METADATA, actor, "current", item_of(metadata))
  return ok or nil, err
end

local function publish(service, card)
  local ok, err = publish_photo(service, card)
  if not ok then return nil, err end
  ok, err = service:publish(VCARD4, service.owner, "current", item_of(convert.to4(card)), OPEN)
  return ok or nil, err
end

local function set(event)
  local origin, stanza = event.origin, event.stanza
  local card = stanza.tags[1]
  if #tostring(card) > config.vcard_max_size then
    origin.send(st.error_reply(stanza, "modify", "not-acceptable", "The card is too large"))
    return true
  end
  local service, ok, err = pep.get_pep_service(origin.username), nil, "internal-server-error"
  if service then ok, err = publish(service, card) end
  if not ok then
    origin.send(pep.error_reply(stanza, err))
    return true
  end
  vcards:set(origin.username, nil)
  origin.send(st.reply(stanza))
  module:fire_event("vcard-updated", event)
  return true
end

-- Before mod_vcard, should that be loaded too: it would answer from what it has kept alone.
module:hook("iq/bare/vcard-temp:vCard", function(event)
  if event.stanza.attr.type == "get" then return get(event) end
  if event.to_self then return set(event) end
  event.origin.send(st.error_reply(event.stanza, "auth", "forbidden"))
  return true
end, priority.before)

-- The host's own card, as an administrator may have put it there.
module:hook("iq-get/host/vcard-temp:vCard", function(event)
  local card, err = vcards:get(nil)
  event.origin.send(err and st.error_reply(event.stanza, "wait", "internal-server-error")
    or card and st.reply(event.stanza):add_child(st.deserialize(card))
    or st.error_reply(event.stanza, "cancel", "item-not-found"))
  return true
end)

-- What mod_vcard has kept: published where nothing newer is, then forgotten.
local upgraded, note_upgraded = recent.new(20000)

local function upgrade(username)
  note_upgraded(username, true)
  local kept, err = vcards:get(username)
  if not kept then return err and note_upgraded(username, nil) end
  local service, ok = pep.get_pep_service(username), true
  if not service then return note_upgraded(username, nil) end
  local card = st.deserialize(kept)
  if not service.nodes[METADATA] and card:get_child "PHOTO" then ok, err = publish_photo(service, card) end
  if ok or err == "bad-request" then                       -- a picture nobody could have shown
    if not service.nodes[VCARD4] then
      ok, err = service:publish(VCARD4, service.owner, "current", item_of(convert.to4(card)), OPEN)
    else
      ok = true
    end
  end
  if ok then ok, err = vcards:set(username, nil) end
  if not ok then module:log("warn", "the vCard of %s cannot be published: %s", username, tostring(err)) end
end

module:hook("resource-bind", function(event)
  local username = event.session.username
  if config.upgrade_legacy_vcards and not upgraded(username) then task.spawn(upgrade, username) end
end)

-- The hash in presence -----------------------------------------------------------------------------------------------------

local hashes, note_hash = recent.new(20000)                -- username -> id of the picture | false

function get_avatar_hash(username)                         -- luacheck: ignore 131
  local hash = hashes(username)
  if hash ~= nil then return hash or nil end
  local service = pep.get_pep_service(username)
  if not service then return nil end
  hash = picture(payload_of(service, METADATA, true, "metadata", METADATA)) or false
  if hashes(username) == nil then note_hash(username, hash) end
  return hashes(username) or nil
end

-- XEP-0398 §4: an empty photo says on purpose that there is none; everything else is ours to say.
local function inject(event)
  local origin, stanza = event.origin, event.stanza
  if origin.type ~= "c2s" or stanza.attr.type then return end
  local x = stanza:get_child("x", UPDATE)
  local photo = x and x:get_child "photo"
  if photo and (photo:get_text() or "") == "" then return end
  local hash = get_avatar_hash(origin.username)
  if not hash and photo then return end
  if x then stanza:remove_children("x", UPDATE) end
  stanza:reset():tag("x", { xmlns = UPDATE })
  if hash then stanza:text_tag("photo", hash) end
  stanza:reset()
end
for _, target in ipairs { "full", "bare", "host" } do module:hook("pre-presence/" .. target, inject, priority.before) end

-- Another picture: whoever sees the account's presence hears of it.
local function changed(event)
  local service = event.service
  if event.node ~= METADATA then return end
  local username = service.user
  note_hash(username, nil)
  task.spawn(function()
    local hash = get_avatar_hash(username)
    local user, sessions = directory.user(username .. "@" .. host), {}
    for _, session in pairs(user and user.sessions or {}) do
      if session.presence then sessions[#sessions + 1] = session end
    end
    for _, session in ipairs(sessions) do
      local x = session.presence and session.presence:get_child("x", UPDATE)
      local shown = x and x:get_child_text "photo"
      if x and shown ~= "" and shown ~= hash then
        local copy = st.clone(session.presence)
        copy:remove_children("x", UPDATE)
        inject { origin = session, stanza = copy }
        presence.handle_normal_presence(session, copy)
      end
    end
  end)
end
for _, name in ipairs { "item-published", "item-retracted", "node-purged", "node-deleted" } do
  module:hook("pep-" .. name, changed)
end

module:hook_global("user-deleted", function(event)
  if event.host ~= host then return end
  note_hash(event.username, nil)
  note_upgraded(event.username, nil)
end)
