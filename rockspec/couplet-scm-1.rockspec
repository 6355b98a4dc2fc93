-- SPDX-License-Identifier: MIT
rockspec_format = "3.0"
package = "couplet"
version = "scm-1"
source = { url = "git+file://." } -- not looked at by `luarocks make`
description = {
  summary = "An XMPP server: a C core, and Lua plugins on top",
  detailed = "Config file and plugin API follow the conventions known from Prosody.",
  license = "MIT",
}
supported_platforms = { "linux" }
dependencies = { "lua >= 5.4, < 5.5" }
external_dependencies = {
  EXPAT = { header = "expat.h", library = "expat" },
  OPENSSL = { header = "openssl/ssl.h", library = "ssl" },
  LIBEV = { header = "ev.h", library = "ev" },
  SASL = { header = "sasl/sasl.h", library = "sasl2" },
  SQLITE = { header = "sqlite3.h", library = "sqlite3" },
  PQ = { header = "postgresql/libpq-fe.h" },
  ICU = { header = "unicode/usprep.h", library = "icuuc" },
  ZLIB = { header = "zlib.h", library = "z" },
  UNBOUND = { header = "unbound.h", library = "unbound" },
}
build = {
  type = "cmake",
  install = { conf = { ["config.lua"] = "config.lua" } },
  copy_directories = { "docs", "dist" },
  variables = {
    CMAKE_BUILD_TYPE = "RelWithDebInfo",
    CMAKE_INSTALL_PREFIX = "$(PREFIX)",
    COUPLET_TESTS = "OFF",
    LUA_INCDIR = "$(LUA_INCDIR)",
    ROCK_LIBDIR = "$(LIBDIR)",
    ROCK_LUADIR = "$(LUADIR)",
    ROCK_BINDIR = "$(BINDIR)",
  },
}
