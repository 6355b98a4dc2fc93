-- SPDX-License-Identifier: MIT
-- RFC 6121 appendix A.2 and A.3, row by row: state, does the stanza go on, new state. §3.4 adds what pre-approval does.
--
-- States: N none, T to, F from, B both; +out: we have asked, +in: we have been asked; +ok: approved beforehand.
-- Outbound: on = routed to the contact. Inbound: on = delivered to the user; reply = answered by the server itself.

return {
  outbound = {
    subscribe = {                        -- A.2.1
      { "N", true, "N+out" }, { "N+out", true, "N+out" }, { "N+in", true, "N+out+in" }, { "N+out+in", true, "N+out+in" },
      { "T", true, "T" }, { "T+in", true, "T+in" }, { "F", true, "F+out" }, { "F+out", true, "F+out" }, { "B", true, "B" },
    },
    unsubscribe = {                      -- A.2.2
      { "N", true, "N" }, { "N+out", true, "N" }, { "N+in", true, "N+in" }, { "N+out+in", true, "N+in" },
      { "T", true, "N" }, { "T+in", true, "N+in" }, { "F", true, "F" }, { "F+out", true, "F" }, { "B", true, "F" },
    },
    subscribed = {                       -- A.2.3; without a request it is an approval beforehand (§3.4.2)
      { "N", false, "N+ok" }, { "N+out", false, "N+out+ok" }, { "N+in", true, "F" }, { "N+out+in", true, "F+out" },
      { "T", false, "T+ok" }, { "T+in", true, "B" }, { "F", false, "F" }, { "F+out", false, "F+out" }, { "B", false, "B" },
      { "N+ok", false, "N+ok" },
    },
    unsubscribed = {                     -- A.2.4
      { "N", false, "N" }, { "N+out", false, "N+out" }, { "N+in", true, "N" }, { "N+out+in", true, "N+out" },
      { "T", false, "T" }, { "T+in", true, "T" }, { "F", true, "N" }, { "F+out", true, "N+out" }, { "B", true, "T" },
      { "N+ok", false, "N" }, { "N+out+ok", false, "N+out" }, { "T+ok", false, "T" },
    },
  },
  inbound = {
    subscribe = {                        -- A.3.1
      { "N", true, "N+in" }, { "N+out", true, "N+out+in" }, { "N+in", false, "N+in" }, { "N+out+in", false, "N+out+in" },
      { "T", true, "T+in" }, { "T+in", false, "T+in" },
      { "F", false, "F", reply = "subscribed" }, { "F+out", false, "F+out", reply = "subscribed" },
      { "B", false, "B", reply = "subscribed" },
      { "N+ok", false, "F+ok", reply = "subscribed" }, { "N+out+ok", false, "F+out+ok", reply = "subscribed" },
      { "T+ok", false, "B+ok", reply = "subscribed" },
    },
    unsubscribe = {                      -- A.3.2
      { "N", false, "N" }, { "N+out", false, "N+out" }, { "N+in", true, "N" }, { "N+out+in", true, "N+out" },
      { "T", false, "T" }, { "T+in", true, "T" }, { "F", true, "N" }, { "F+out", true, "N+out" }, { "B", true, "T" },
    },
    subscribed = {                       -- A.3.3
      { "N", false, "N" }, { "N+out", true, "T" }, { "N+in", false, "N+in" }, { "N+out+in", true, "T+in" },
      { "T", false, "T" }, { "T+in", false, "T+in" }, { "F", false, "F" }, { "F+out", true, "B" }, { "B", false, "B" },
    },
    unsubscribed = {                     -- A.3.4
      { "N", false, "N" }, { "N+out", true, "N" }, { "N+in", false, "N+in" }, { "N+out+in", true, "N+in" },
      { "T", true, "N" }, { "T+in", true, "N+in" }, { "F", false, "F" }, { "F+out", true, "F" }, { "B", true, "F" },
    },
  },
}
