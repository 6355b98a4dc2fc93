-- SPDX-License-Identifier: MIT
-- net.http.errors: HTTP's outcomes as errors with a stanza condition.
--
--   new(code or name, context?) -> error     registry[code or name]      from what the client meets: "connection-timeout", …

local codes = require "couplet.net.http.codes"
local errors = require "couplet.errors"

local conditions = {
  [400] = { "modify", "bad-request" }, [401] = { "auth", "not-authorized" }, [402] = { "auth", "payment-required" },
  [403] = { "auth", "forbidden" }, [404] = { "cancel", "item-not-found" }, [405] = { "cancel", "not-allowed" },
  [406] = { "modify", "not-acceptable" }, [408] = { "wait", "remote-server-timeout" }, [409] = { "cancel", "conflict" },
  [410] = { "cancel", "gone" }, [412] = { "cancel", "conflict" }, [413] = { "modify", "resource-constraint" },
  [414] = { "modify", "resource-constraint" }, [415] = { "cancel", "feature-not-implemented" },
  [429] = { "wait", "resource-constraint" },
  [431] = { "modify", "resource-constraint" }, [451] = { "cancel", "policy-violation" },
  [500] = { "cancel", "internal-server-error" },
  [501] = { "cancel", "feature-not-implemented" }, [502] = { "wait", "remote-server-not-found" },
  [503] = { "wait", "service-unavailable" },
  [504] = { "wait", "remote-server-timeout" }, [507] = { "wait", "resource-constraint" },
}

local registry = {
  ["invalid-url"] = { type = "modify", condition = "bad-request", text = "Not a valid HTTP URL" },
  ["invalid-request"] = { type = "modify", condition = "bad-request",
    text = "A header or the method has characters it must not have" },
  ["connection-failed"] = { type = "wait", condition = "remote-server-not-found", text = "Connection failed" },
  ["connection-timeout"] = { type = "wait", condition = "remote-server-timeout", text = "No answer in time" },
  ["connection-closed"] = { type = "wait", condition = "remote-server-timeout",
    text = "Connection closed before the answer was complete" },
  ["unable to resolve service"] = { type = "wait", condition = "remote-server-not-found", text = "No address" },
  ["certificate-chain-invalid"] = { type = "cancel", condition = "remote-server-not-found",
    text = "The server's certificate is not trusted" },
  ["certificate-verify-failed"] = { type = "cancel", condition = "remote-server-not-found",
    text = "The certificate is another server's" },
  ["invalid-response"] = { type = "cancel", condition = "undefined-condition", text = "The answer is not HTTP" },
  ["response-too-large"] = { type = "cancel", condition = "resource-constraint", text = "The answer is too large" },
  ["too-many-redirects"] = { type = "cancel", condition = "undefined-condition", text = "Too many redirects" },
}
for code = 300, 599 do
  local c = conditions[code] or code >= 500 and { "wait", "internal-server-error" } or { "cancel", "undefined-condition" }
  registry[code] = { type = c[1], condition = c[2], text = codes[code], code = code }
end

local http_errors = errors.init("http", registry)
http_errors.registry = registry

return http_errors
