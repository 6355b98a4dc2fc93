/* SPDX-License-Identifier: MIT */
/* bind_crypto.h - the parts of couplet.core.crypto. Each adds its functions to the table on top of the stack. */
#ifndef COUPLET_BIND_CRYPTO_H
#define COUPLET_BIND_CRYPTO_H

#include <lauxlib.h>
#include <openssl/bio.h>

#include "base/digest.h"

void bind_crypto_cipher(lua_State *L);
void bind_crypto_key(lua_State *L);
void bind_crypto_x509(lua_State *L);

/* The hash named at arg; raises if there is none. */
const struct digest *bind_check_digest(lua_State *L, int arg);

/* Pushes nil, what OpenSSL says (or text if it says nothing), "crypto"; empties its error queue. Returns 3. */
int bind_crypto_error(lua_State *L, const char *text);

/* Ends the buffer, which has room bytes, with what was written to out, a memory BIO, and frees that. ok: was it? Returns the
 * number of results. So nothing is held while Lua may raise. */
int bind_crypto_written(lua_State *L, luaL_Buffer *b, char *room, size_t size, BIO *out, int ok);

#endif
