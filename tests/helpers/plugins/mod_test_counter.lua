-- SPDX-License-Identifier: MIT
-- mod_test_counter: answers <count/> with how often it was asked, its host's option and its generation. What it knows outlives a
-- reload.

local st = require "util.stanza"

local NS = "urn:example:counter"
local asked, generation = 0, 1

module:add_feature(NS)

function module.save() return { asked = asked, generation = generation } end
function module.restore(state) asked, generation = state.asked, state.generation + 1 end

module:hook("iq-get/host/" .. NS .. ":count", function(event)
  asked = asked + 1
  event.origin.send(st.reply(event.stanza):tag("count", {
    xmlns = NS, asked = tostring(asked), generation = tostring(generation),
    greeting = module:get_option_string("counter_greeting", "none"),
  }))
  return true
end)
