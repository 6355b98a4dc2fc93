-- SPDX-License-Identifier: MIT
-- import.lua: require "util.import" makes import(lib, "f1", "f2") available; plugins have it anyway.

return require "couplet.plugin_env".import
