-- SPDX-License-Identifier: MIT
-- util.statistics: a set of metrics of one's own. new() -> { metric_registry = … }; the server's is couplet.metrics.

local openmetrics = require "couplet.util.openmetrics"

return {
  new = function()
    return { metric_registry = openmetrics.new_metric_registry() }
  end,
}
