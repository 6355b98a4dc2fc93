-- SPDX-License-Identifier: MIT
-- muc/occupant_id: a name for each account in each room that stays and tells nothing (XEP-0421).

local hashes = require "util.hashes"
local base64 = require "util.encodings".base64
local jid = require "util.jid"
local random = require "util.random"
local util = module:require "muc/util"

local NS = "urn:xmpp:occupant-id:0"

util.add_filtered_namespace(NS)                            -- nobody says his own

-- The key of all of them: made once, kept with the service.
local store = module:open_store "occupant_id"
local secret

local function key()
  if secret then return secret end
  local kept, err = store:get(nil)
  if secret then return secret end
  if kept and kept.secret then
    secret = base64.decode(kept.secret)
  else
    secret = random.bytes(32)
    if err or not store:set(nil, { secret = base64.encode(secret) }) then
      module:log("error", "the key of occupant ids cannot be kept, so they change with the next start: %s", err or "write failed")
    end
  end
  return secret
end
key()

local function id_of(room, who)
  local salt = room._data.occupant_id_salt                 -- a room that Prosody kept goes on with the ids it had there
  if salt then return base64.encode(hashes.hmac_sha256(jid.bare(who), salt)) end
  return base64.encode(hashes.hmac_sha256(key(), room.jid .. "\0" .. jid.bare(who)))
end

-- nil: this service tells none.
local shown = module:get_option_boolean("muc_occupant_id", true)
function module.environment.room_mt:get_occupant_id(occupant) return shown and id_of(self, occupant.bare_jid) or nil end
if not shown then return end

module:hook("muc-build-occupant-presence", function(event)
  event.stanza:tag("occupant-id", { xmlns = NS, id = id_of(event.room, event.occupant.bare_jid) }):up()
end)

module:hook("muc-broadcast-message", function(event)
  local occupant = event.occupant
  if not occupant then return end
  event.stanza:tag("occupant-id", { xmlns = NS, id = id_of(event.room, occupant.bare_jid) }):up()
end, 100)

module:hook("muc-private-message", function(event)
  local occupant = event.room:get_occupant_by_nick(event.stanza.attr.from)
  if occupant then event.stanza:tag("occupant-id", { xmlns = NS, id = id_of(event.room, occupant.bare_jid) }):up() end
end, 100)

module:hook("muc-disco#info", function(event) event.reply:tag("feature", { var = NS }):up() end)
module:add_feature(NS)
