-- SPDX-License-Identifier: MIT
-- envload.lua: load with an environment.
--
--   envload(code, source?, env) -> chunk | nil, err       envloadfile(path, env)

return {
  envload = function(code, source, env) return load(code, source, nil, env) end,
  envloadfile = function(path, env) return loadfile(path, nil, env) end,
}
