/* SPDX-License-Identifier: MIT */
/* bind_crypto_key.c - couplet.core.crypto: asymmetric keys and signatures.
 *
 *   generate_ed25519_keypair()  generate_p256_keypair()  generate_rsa_keypair(bits = 2048) -> key
 *     the last takes a second on a bad day: for tools, not for the running server
 *   import_private_pem(text)  import_public_pem(text)  import_raw("ed25519", private|nil, public|nil) -> key | nil, message
 *   key:type() = key:get_type() -> "ED25519" | "id-ecPublicKey" | "rsaEncryption"     key:private() -> has it a private half?
 *   key:private_pem()  key:public_pem()  key:public_raw()  key:private_raw()  key:bits() -> value | nil, message
 *   ed25519_sign(key, data), ed25519_verify(key, data, signature) -> boolean     and so for
 *     ecdsa_sha256 _sha384 _sha512, rsassa_pkcs1_sha256 …, rsassa_pss_sha256 …
 *   ECDSA signatures are DER; parse_ecdsa_signature(der) -> r, s (32 bytes each, or size), build_ecdsa_signature(r, s)
 */
#include <lauxlib.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "bind/bind.h"
#include "bind/bind_crypto.h"

#define KEY "couplet.key"

struct box {
	EVP_PKEY *key;
	int private;
};

static struct box *box_new(lua_State *L)
{
	struct box *box = lua_newuserdatauv(L, sizeof *box, 0);
	*box = (struct box){ NULL, 0 };
	luaL_setmetatable(L, KEY);
	return box;
}

static EVP_PKEY *check_key(lua_State *L, int arg, int private)
{
	struct box *box = luaL_checkudata(L, arg, KEY);
	luaL_argcheck(L, box->key, arg, "key is closed");
	luaL_argcheck(L, !private || box->private, arg, "a private key is needed");
	return box->key;
}

static int key_gc(lua_State *L)
{
	struct box *box = luaL_checkudata(L, 1, KEY);
	EVP_PKEY_free(box->key);
	box->key = NULL;
	return 0;
}

/* --- making and reading --- */

static int generated(lua_State *L, EVP_PKEY *key)      /* the box is on top of the stack */
{
	struct box *box = lua_touserdata(L, -1);
	box->key = key;
	box->private = 1;
	return key ? 1 : bind_crypto_error(L, "key generation failed");
}

static int crypto_generate_ed25519(lua_State *L)
{
	box_new(L);
	return generated(L, EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"));
}

static int crypto_generate_p256(lua_State *L)
{
	box_new(L);
	return generated(L, EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256"));
}

static int crypto_generate_rsa(lua_State *L)
{
	lua_Integer bits = luaL_optinteger(L, 1, 2048);
	luaL_argcheck(L, bits >= 2048 && bits <= 8192, 1, "bits out of range");
	box_new(L);
	return generated(L, EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)bits));
}

static int no_password(char *buf, int size, int rwflag, void *arg)
{
	return -1;                              /* never ask on the terminal */
}

static int import_pem(lua_State *L, int private)
{
	struct str text = bind_check_str(L, 1);
	struct box *box = box_new(L);
	BIO *in = BIO_new_mem_buf(text.p, (int)text.n);
	box->key = private ? PEM_read_bio_PrivateKey(in, NULL, no_password, NULL) : PEM_read_bio_PUBKEY(in, NULL, no_password, NULL);
	box->private = private;
	BIO_free(in);
	return box->key ? 1 : bind_crypto_error(L, "not a PEM key");
}

static int crypto_import_private_pem(lua_State *L)
{
	return import_pem(L, 1);
}

static int crypto_import_public_pem(lua_State *L)
{
	return import_pem(L, 0);
}

static int crypto_import_raw(lua_State *L)
{
	luaL_argcheck(L, str_is(bind_check_str(L, 1), "ed25519"), 1, "only ed25519 has raw keys");
	int private = !lua_isnoneornil(L, 2);
	struct str raw = bind_check_str(L, private ? 2 : 3);
	struct box *box = box_new(L);
	box->private = private;
	box->key = private ? EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, (const unsigned char *)raw.p, raw.n)
		: EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, (const unsigned char *)raw.p, raw.n);
	return box->key ? 1 : bind_crypto_error(L, "wrong length");
}

/* --- methods --- */

static int key_type(lua_State *L)
{
	lua_pushstring(L, OBJ_nid2sn(EVP_PKEY_get_base_id(check_key(L, 1, 0))));
	return 1;
}

static int key_private(lua_State *L)
{
	check_key(L, 1, 0);
	lua_pushboolean(L, ((struct box *)lua_touserdata(L, 1))->private);
	return 1;
}

static int key_bits(lua_State *L)
{
	lua_pushinteger(L, EVP_PKEY_get_bits(check_key(L, 1, 0)));
	return 1;
}

static int key_pem(lua_State *L, int private)
{
	enum { PEM_MAX = 16384 };               /* RSA of 8192 bits has 6.5 KB */
	EVP_PKEY *key = check_key(L, 1, private);
	luaL_Buffer b;
	char *room = luaL_buffinitsize(L, &b, PEM_MAX);
	BIO *out = BIO_new(BIO_s_secmem());
	int ok = out && (private ? PEM_write_bio_PKCS8PrivateKey(out, key, NULL, NULL, 0, NULL, NULL) : PEM_write_bio_PUBKEY(out, key));
	return bind_crypto_written(L, &b, room, PEM_MAX, out, ok);
}

static int key_private_pem(lua_State *L)
{
	return key_pem(L, 1);
}

static int key_public_pem(lua_State *L)
{
	return key_pem(L, 0);
}

static int key_public_raw(lua_State *L)
{
	unsigned char out[256];
	size_t n = sizeof out;
	EVP_PKEY *key = check_key(L, 1, 0);
	if (EVP_PKEY_get_base_id(key) == EVP_PKEY_EC ? !EVP_PKEY_get_octet_string_param(key, "pub", out, sizeof out, &n)
			: EVP_PKEY_get_raw_public_key(key, out, &n) <= 0)
		return bind_crypto_error(L, "this kind of key has no raw form");
	lua_pushlstring(L, (char *)out, n);
	return 1;
}

static int key_private_raw(lua_State *L)
{
	unsigned char out[256];
	size_t n = sizeof out;
	if (EVP_PKEY_get_raw_private_key(check_key(L, 1, 1), out, &n) <= 0)
		return bind_crypto_error(L, "this kind of key has no raw form");
	lua_pushlstring(L, (char *)out, n);
	OPENSSL_cleanse(out, sizeof out);
	return 1;
}

/* --- signatures --- */

struct scheme {
	const char *name;
	int type;
	const char *digest;             /* NULL: the scheme has its own */
	int pss;
};

static const struct scheme schemes[] = {
	{ "ed25519", EVP_PKEY_ED25519, NULL, 0 },
	{ "ecdsa_sha256", EVP_PKEY_EC, "sha256", 0 }, { "ecdsa_sha384", EVP_PKEY_EC, "sha384", 0 },
	{ "ecdsa_sha512", EVP_PKEY_EC, "sha512", 0 },
	{ "rsassa_pkcs1_sha256", EVP_PKEY_RSA, "sha256", 0 }, { "rsassa_pkcs1_sha384", EVP_PKEY_RSA, "sha384", 0 },
	{ "rsassa_pkcs1_sha512", EVP_PKEY_RSA, "sha512", 0 },
	{ "rsassa_pss_sha256", EVP_PKEY_RSA, "sha256", 1 }, { "rsassa_pss_sha384", EVP_PKEY_RSA, "sha384", 1 },
	{ "rsassa_pss_sha512", EVP_PKEY_RSA, "sha512", 1 },
};

static EVP_MD_CTX *signing(const struct scheme *s, EVP_PKEY *key, int sign)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	EVP_PKEY_CTX *pctx;
	const EVP_MD *md = s->digest ? digest_md(digest_find(str_of(s->digest))) : NULL;
	if (ctx && (sign ? EVP_DigestSignInit(ctx, &pctx, md, NULL, key) : EVP_DigestVerifyInit(ctx, &pctx, md, NULL, key)) == 1 &&
			(!s->pss || (EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING) > 0 &&
				EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_DIGEST) > 0)))
		return ctx;
	EVP_MD_CTX_free(ctx);
	return NULL;
}

static const struct scheme *scheme_of(lua_State *L, int private)
{
	const struct scheme *s = lua_touserdata(L, lua_upvalueindex(1));
	luaL_argcheck(L, EVP_PKEY_get_base_id(check_key(L, 1, private)) == s->type, 1, "wrong kind of key");
	return s;
}

static int crypto_sign(lua_State *L)
{
	const struct scheme *s = scheme_of(L, 1);
	struct str data = bind_check_str(L, 2);
	unsigned char out[1024];                /* RSA of 8192 bits */
	size_t n = sizeof out;
	EVP_MD_CTX *ctx = signing(s, check_key(L, 1, 1), 1);
	int ok = ctx && EVP_DigestSign(ctx, out, &n, (const unsigned char *)data.p, data.n) == 1;
	EVP_MD_CTX_free(ctx);
	if (!ok)
		return bind_crypto_error(L, "cannot sign");
	lua_pushlstring(L, (char *)out, n);
	return 1;
}

static int crypto_verify(lua_State *L)
{
	const struct scheme *s = scheme_of(L, 0);
	struct str data = bind_check_str(L, 2), signature = bind_check_str(L, 3);
	EVP_MD_CTX *ctx = signing(s, check_key(L, 1, 0), 0);
	int ok = ctx && EVP_DigestVerify(ctx, (const unsigned char *)signature.p, signature.n, (const unsigned char *)data.p, data.n) == 1;
	EVP_MD_CTX_free(ctx);
	ERR_clear_error();
	lua_pushboolean(L, ok);
	return 1;
}

static int crypto_parse_ecdsa_signature(lua_State *L)
{
	struct str der = bind_check_str(L, 1);
	lua_Integer size = luaL_optinteger(L, 2, 32);
	luaL_argcheck(L, size >= 1 && size <= 66, 2, "size out of range");
	const unsigned char *p = (const unsigned char *)der.p;
	unsigned char r[66], s[66];
	ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &p, (long)der.n);
	int ok = sig && BN_bn2binpad(ECDSA_SIG_get0_r(sig), r, (int)size) >= 0 && BN_bn2binpad(ECDSA_SIG_get0_s(sig), s, (int)size) >= 0;
	ECDSA_SIG_free(sig);
	if (!ok)
		return bind_crypto_error(L, "not an ECDSA signature");
	lua_pushlstring(L, (char *)r, (size_t)size);
	lua_pushlstring(L, (char *)s, (size_t)size);
	return 2;
}

static int crypto_build_ecdsa_signature(lua_State *L)
{
	struct str r = bind_check_str(L, 1), s = bind_check_str(L, 2);
	luaL_argcheck(L, r.n <= 66, 1, "too long");
	luaL_argcheck(L, s.n <= 66, 2, "too long");
	unsigned char der[2 * (66 + 4) + 8], *end = der;
	ECDSA_SIG *sig = ECDSA_SIG_new();
	BIGNUM *br = BN_bin2bn((const unsigned char *)r.p, (int)r.n, NULL), *bs = BN_bin2bn((const unsigned char *)s.p, (int)s.n, NULL);
	int n = -1;
	if (sig && br && bs && ECDSA_SIG_set0(sig, br, bs)) {
		br = bs = NULL;                 /* now the signature's */
		n = i2d_ECDSA_SIG(sig, NULL);
		n = n > 0 && (size_t)n <= sizeof der ? i2d_ECDSA_SIG(sig, &end) : -1;
	}
	BN_free(br);
	BN_free(bs);
	ECDSA_SIG_free(sig);
	if (n < 0)
		return bind_crypto_error(L, "cannot build the signature");
	lua_pushlstring(L, (char *)der, (size_t)n);
	return 1;
}

void bind_crypto_key(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{ "type", key_type },               { "get_type", key_type },       { "private", key_private },
		{ "bits", key_bits },               { "private_pem", key_private_pem }, { "public_pem", key_public_pem },
		{ "private_raw", key_private_raw }, { "public_raw", key_public_raw }, { NULL, NULL },
	};
	static const luaL_Reg functions[] = {
		{ "generate_ed25519_keypair", crypto_generate_ed25519 },
		{ "generate_p256_keypair", crypto_generate_p256 },
		{ "generate_rsa_keypair", crypto_generate_rsa },
		{ "import_private_pem", crypto_import_private_pem },
		{ "import_public_pem", crypto_import_public_pem },
		{ "import_raw", crypto_import_raw },
		{ "parse_ecdsa_signature", crypto_parse_ecdsa_signature },
		{ "build_ecdsa_signature", crypto_build_ecdsa_signature },
		{ NULL, NULL },
	};
	luaL_newmetatable(L, KEY);
	lua_pushcfunction(L, key_gc);
	lua_setfield(L, -2, "__gc");
	lua_newtable(L);
	luaL_setfuncs(L, methods, 0);
	lua_setfield(L, -2, "__index");
	lua_pop(L, 1);
	luaL_setfuncs(L, functions, 0);
	for (int i = 0; i < COUNT(schemes); i++) {
		lua_pushfstring(L, "%s_sign", schemes[i].name);
		lua_pushlightuserdata(L, (void *)&schemes[i]);
		lua_pushcclosure(L, crypto_sign, 1);
		lua_rawset(L, -3);
		lua_pushfstring(L, "%s_verify", schemes[i].name);
		lua_pushlightuserdata(L, (void *)&schemes[i]);
		lua_pushcclosure(L, crypto_verify, 1);
		lua_rawset(L, -3);
	}
}
