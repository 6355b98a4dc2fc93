/* SPDX-License-Identifier: MIT */
/* bind_crypto_cipher.c - couplet.core.crypto: AES for plugins.
 *
 *   aes_128_gcm_encrypt(key, iv, text, aad?) -> sealed (16 bytes of tag at its end)     aes_256_gcm_encrypt
 *   aes_128_gcm_decrypt(key, iv, sealed, aad?) -> text | nil, message                   aes_256_gcm_decrypt
 *   aes_256_ctr_encrypt(key, iv, text), aes_256_ctr_decrypt                             aes_128_ctr_…
 * Key, iv (12 bytes, CTR 16) of a wrong length raise.
 */
#include <lauxlib.h>
#include <limits.h>
#include <openssl/evp.h>

#include "bind/bind.h"
#include "bind/bind_crypto.h"

enum { TAG = 16 };

struct cipher {
	const char *name;
	const EVP_CIPHER *(*evp)(void);
	size_t key, iv;
	int sealed, encrypt;
};

static const struct cipher ciphers[] = {
	{ "aes_128_gcm_encrypt", EVP_aes_128_gcm, 16, 12, 1, 1 }, { "aes_128_gcm_decrypt", EVP_aes_128_gcm, 16, 12, 1, 0 },
	{ "aes_256_gcm_encrypt", EVP_aes_256_gcm, 32, 12, 1, 1 }, { "aes_256_gcm_decrypt", EVP_aes_256_gcm, 32, 12, 1, 0 },
	{ "aes_128_ctr_encrypt", EVP_aes_128_ctr, 16, 16, 0, 1 }, { "aes_128_ctr_decrypt", EVP_aes_128_ctr, 16, 16, 0, 0 },
	{ "aes_256_ctr_encrypt", EVP_aes_256_ctr, 32, 16, 0, 1 }, { "aes_256_ctr_decrypt", EVP_aes_256_ctr, 32, 16, 0, 0 },
};

static int crypto_cipher(lua_State *L)
{
	const struct cipher *c = lua_touserdata(L, lua_upvalueindex(1));
	struct str key = bind_check_str(L, 1), iv = bind_check_str(L, 2), in = bind_check_str(L, 3), aad = { NULL, 0 };
	aad.p = luaL_optlstring(L, 4, "", &aad.n);
	luaL_argcheck(L, key.n == c->key, 1, "wrong key length");
	luaL_argcheck(L, iv.n == c->iv, 2, "wrong iv length");
	luaL_argcheck(L, in.n < INT_MAX - TAG && aad.n < INT_MAX, 3, "too long");
	luaL_argcheck(L, c->sealed || !aad.n, 4, "this cipher authenticates nothing");
	size_t tag = c->sealed ? TAG : 0;
	if (!c->encrypt && in.n < tag)
		return bind_crypto_error(L, "too short");
	size_t n = c->encrypt ? in.n : in.n - tag;
	luaL_Buffer b;
	unsigned char *out = (unsigned char *)luaL_buffinitsize(L, &b, n + TAG);
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int len, ok = ctx && EVP_CipherInit_ex(ctx, c->evp(), NULL, (const unsigned char *)key.p, (const unsigned char *)iv.p, c->encrypt);
	if (ok && aad.n)
		ok = EVP_CipherUpdate(ctx, NULL, &len, (const unsigned char *)aad.p, (int)aad.n);
	ok = ok && EVP_CipherUpdate(ctx, out, &len, (const unsigned char *)in.p, (int)n);
	if (ok && tag && !c->encrypt)
		ok = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, TAG, (void *)(in.p + n));
	ok = ok && EVP_CipherFinal_ex(ctx, out + n, &len);
	if (ok && tag && c->encrypt)
		ok = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, TAG, out + n);
	EVP_CIPHER_CTX_free(ctx);
	if (!ok)
		return bind_crypto_error(L, c->encrypt ? "encryption failed" : "not authentic");
	luaL_pushresultsize(&b, n + (c->encrypt ? tag : 0));
	return 1;
}

void bind_crypto_cipher(lua_State *L)
{
	for (int i = 0; i < COUNT(ciphers); i++) {
		lua_pushlightuserdata(L, (void *)&ciphers[i]);
		lua_pushcclosure(L, crypto_cipher, 1);
		lua_setfield(L, -2, ciphers[i].name);
	}
}
