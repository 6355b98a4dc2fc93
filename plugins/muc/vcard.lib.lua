-- SPDX-License-Identifier: MIT
-- muc/vcard: a room's card and picture (XEP-0054, 0153, 0486). Adds methods to room_mt.
--
-- Data: store "vcard_muc" (keyval: name -> the card); _data.vcard = true says that there is one, _data.avatar_hash that it has a
-- picture. So what a room that is gone may have left in the store belongs to nobody.

local base64 = require "util.encodings".base64
local jid = require "util.jid"
local sha1 = require "util.hashes".sha1
local st = require "util.stanza"

local util = module:require "muc/util"

local NS, UPDATE = "vcard-temp", "vcard-temp:x:update"
local BYTES_MAX = 98304

return function(room_mt)
  local store = module:open_store("vcard_muc", "keyval")

  local function refuse(origin, stanza, ...)
    origin.send(st.error_reply(stanza, ...))
    return true
  end

  local told = module.config.muc_avatar_advertise_hashes
  local by_presence = told == nil or told == "presence"

  -- XEP-0153: one hash, an empty element when there is no picture
  local function picture_of(room)
    local hash = room:get_avatar_hash()
    return st.presence { from = room.jid }:tag("x", { xmlns = UPDATE }):text_tag("photo", hash and hash:match "^%x+"):reset()
  end

  function room_mt:get_avatar_hash() return self._data.avatar_hash end

  function room_mt:handle_vcard_get(origin, stanza)
    if self:affiliation_of(stanza.attr.from) == "outcast" then return refuse(origin, stanza, "auth", "forbidden") end
    local card, err
    if self._data.vcard then
      card, err = store:get(jid.node(self.jid))
      if err then return refuse(origin, stanza, "wait", "internal-server-error") end
    end
    origin.send(st.reply(stanza):add_child(card and st.deserialize(card) or st.stanza("vCard", { xmlns = NS })))
    return true
  end

  function room_mt:handle_vcard_set(origin, stanza)
    if self:affiliation_of(stanza.attr.from) ~= "owner" then
      return refuse(origin, stanza, "auth", "forbidden", "Only owners may set the picture of a room")
    end
    local card = stanza.tags[1]
    local bytes = #tostring(card)
    if bytes > BYTES_MAX then return refuse(origin, stanza, "modify", "policy-violation", "The card is too large") end
    if not util.may_change(self, jid.bare(stanza.attr.from), bytes // 10000) then
      return refuse(origin, stanza, "wait", "policy-violation", "Enough changes for now")
    end
    local hashes = {}                          -- of one picture in several formats (XEP-0486 §6.1)
    for photo in card:childtags("PHOTO", NS) do
      local text = photo:get_child_text "BINVAL"
      local picture = text and base64.decode((text:gsub("%s", "")))
      if text and not picture then return refuse(origin, stanza, "modify", "bad-request", "The picture is no base64") end
      hashes[#hashes + 1] = picture and sha1(picture, true)
    end
    local empty = #card.tags == 0
    local before_card, before_hash = self._data.vcard, self._data.avatar_hash
    self._data.vcard = not empty or before_card          -- at once: if the room goes meanwhile, the card goes after it
    local ok = store:set(jid.node(self.jid), not empty and st.preserialize(card) or nil)
    if self.destroying then return refuse(origin, stanza, "cancel", "item-not-found") end
    if not ok then
      self._data.vcard = before_card
    else
      self._data.vcard, self._data.avatar_hash = not empty or nil, hashes[1] and table.concat(hashes, "\n") or nil
      ok = self:save()
      if not ok then self._data.vcard, self._data.avatar_hash = before_card, before_hash end
    end
    if not ok then return refuse(origin, stanza, "wait", "internal-server-error") end
    origin.send(st.reply(stanza))
    if told ~= "none" and told ~= "presence" then
      self:broadcast(st.message { type = "groupchat", from = self.jid }:add_child(util.x(nil, { 104 })))
    end
    if by_presence and self._data.avatar_hash ~= before_hash then self:broadcast(picture_of(self)) end
    return true
  end

  -- Who comes hears of the picture, if there is one.
  module:hook("muc-occupant-session-new", function(event)
    local room = event.room
    if not by_presence or not room:get_avatar_hash() then return end
    local presence = picture_of(room)
    presence.attr.to = event.stanza.attr.from
    room:route_stanza(presence)
  end, -11)                                    -- after the subject (-10)

  module:hook("muc-room-destroyed", function(event)
    if event.room._data.vcard then store:set(jid.node(event.room.jid), nil) end
  end)

  module:hook("muc-disco#info", function(event)
    event.reply:tag("feature", { var = NS }):up()
    local hash = event.room:get_avatar_hash()
    if hash then
      table.insert(event.form, { name = "muc#roominfo_avatarhash", type = "text-multi", label = "Avatar hash" })
      event.formdata["muc#roominfo_avatarhash"] = hash
    end
  end)

  module:add_feature(NS)
end
