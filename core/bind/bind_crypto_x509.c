/* SPDX-License-Identifier: MIT */
/* bind_crypto_x509.c - couplet.core.crypto: what a certificate says. It checks nothing: trust is TLS's business (tls/).
 *
 *   x509_parse(pem or der) -> { subject = { { oid=, name=, value= } … }, issuer = …, common_names = {}, dns_names = {},
 *     xmpp_addrs = {}, srv_names = {}, emails = {}, uris = {}, ips = {} (4 or 16 bytes), notbefore=, notafter= (seconds),
 *     serial = hex, der=, pem=, pubkey = PEM, sha1=, sha256= (of the DER, hex), signature_hash = "sha256"… , key_type=,
 *     key_bits=, ca = boolean, self_issued = boolean, server_use = boolean (fit for TLS servers) } | nil, message
 *   pem2der(text, kind = "CERTIFICATE") -> der | nil     der2pem(der, kind = "CERTIFICATE") -> text
 * Names with a NUL inside are left out: nobody needs them but a forger.
 */
#include <lauxlib.h>
#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <time.h>

#include "bind/bind.h"
#include "bind/bind_crypto.h"

#define OID_XMPP_ADDR "1.3.6.1.5.5.7.8.5"      /* RFC 6120 §13.7.1.4 */
#define OID_SRV_NAME "1.3.6.1.5.5.7.8.7"       /* RFC 4985 */

static void append(lua_State *L, const char *list, const void *p, int n)
{
	if (n <= 0)
		return;
	lua_getfield(L, -1, list);
	lua_pushlstring(L, p, (size_t)n);
	lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
	lua_pop(L, 1);
}

static void append_text(lua_State *L, const char *list, const ASN1_STRING *s)
{
	const unsigned char *p = ASN1_STRING_get0_data(s);
	int n = ASN1_STRING_length(s);
	if (n > 0 && !memchr(p, 0, (size_t)n))
		append(L, list, p, n);
}

/* Pushes the string as UTF-8; pushes nothing and says no if it cannot be. */
static bool push_utf8(lua_State *L, const ASN1_STRING *s)
{
	luaL_Buffer b;
	size_t room = 4 * (size_t)ASN1_STRING_length(s) + 1;
	char *to = luaL_buffinitsize(L, &b, room);
	unsigned char *utf8;
	int n = ASN1_STRING_to_UTF8(&utf8, s);
	bool ok = n >= 0 && (size_t)n <= room;
	if (ok)
		memcpy(to, utf8, (size_t)n);
	if (n >= 0)
		OPENSSL_free(utf8);
	luaL_pushresultsize(&b, ok ? (size_t)n : 0);
	if (!ok)
		lua_pop(L, 1);
	return ok;
}

static void set_name(lua_State *L, const char *field, const X509_NAME *name)
{
	lua_newtable(L);
	for (int i = 0; i < X509_NAME_entry_count(name); i++) {
		X509_NAME_ENTRY *entry = X509_NAME_get_entry(name, i);
		ASN1_OBJECT *object = X509_NAME_ENTRY_get_object(entry);
		char oid[80];
		OBJ_obj2txt(oid, sizeof oid, object, 1);
		int nid = OBJ_obj2nid(object);
		lua_createtable(L, 0, 3);
		if (!push_utf8(L, X509_NAME_ENTRY_get_data(entry))) {
			lua_pop(L, 1);
			continue;
		}
		lua_setfield(L, -2, "value");
		lua_pushstring(L, oid);
		lua_setfield(L, -2, "oid");
		lua_pushstring(L, nid == NID_undef ? oid : OBJ_nid2ln(nid));
		lua_setfield(L, -2, "name");
		lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
	}
	lua_setfield(L, -2, field);
}

static void common_names(lua_State *L, X509_NAME *name)
{
	lua_newtable(L);
	for (int at = -1; (at = X509_NAME_get_index_by_NID(name, NID_commonName, at)) >= 0;) {
		if (!push_utf8(L, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at))))
			continue;
		if (lua_rawlen(L, -1) && strlen(lua_tostring(L, -1)) == lua_rawlen(L, -1))
			lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
		else
			lua_pop(L, 1);
	}
	lua_setfield(L, -2, "common_names");
}

static void alternative_names(lua_State *L, const GENERAL_NAMES *names)
{
	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
		switch (name->type) {
		case GEN_DNS: append_text(L, "dns_names", name->d.dNSName); break;
		case GEN_EMAIL: append_text(L, "emails", name->d.rfc822Name); break;
		case GEN_URI: append_text(L, "uris", name->d.uniformResourceIdentifier); break;
		case GEN_IPADD:
			append(L, "ips", ASN1_STRING_get0_data(name->d.iPAddress), ASN1_STRING_length(name->d.iPAddress));
			break;
		case GEN_OTHERNAME: {
			char oid[80];
			const ASN1_TYPE *value = name->d.otherName->value;
			OBJ_obj2txt(oid, sizeof oid, name->d.otherName->type_id, 1);
			if (!strcmp(oid, OID_XMPP_ADDR) && value->type == V_ASN1_UTF8STRING)
				append_text(L, "xmpp_addrs", value->value.utf8string);
			else if (!strcmp(oid, OID_SRV_NAME) && value->type == V_ASN1_IA5STRING)
				append_text(L, "srv_names", value->value.ia5string);
			break;
		}
		default: break;
		}
	}
}

static void set_time(lua_State *L, const char *field, const ASN1_TIME *t)
{
	struct tm tm = { 0 };
	if (ASN1_TIME_to_tm(t, &tm) != 1)
		return;
	lua_pushinteger(L, (lua_Integer)timegm(&tm));
	lua_setfield(L, -2, field);
}

static void set_text(lua_State *L, const char *field, const char *text)
{
	lua_pushstring(L, text);
	lua_setfield(L, -2, field);
}

static void set_digest(lua_State *L, const char *name, struct str der)
{
	unsigned char out[DIGEST_MAX];
	char hex[2 * DIGEST_MAX + 1];
	const struct digest *d = digest_find(str_of(name));
	digest_sum(d, der, out);
	for (size_t i = 0; i < digest_size(d); i++)
		snprintf(hex + 2 * i, 3, "%02x", out[i]);
	set_text(L, name, hex);
}

#define CERT "couplet.x509"

struct box {
	X509 *cert;
	GENERAL_NAMES *names;
};

static int cert_gc(lua_State *L)
{
	struct box *box = luaL_checkudata(L, 1, CERT);
	X509_free(box->cert);
	GENERAL_NAMES_free(box->names);
	*box = (struct box){ NULL, NULL };
	return 0;
}

/* The certificate has size bytes in DER, so no PEM of it or its key has more than this. */
static size_t pem_room(size_t size)
{
	return 2 * size + 200;
}

static void set_pem(lua_State *L, const char *field, X509 *cert, EVP_PKEY *key, size_t size)
{
	luaL_Buffer b;
	int top = lua_gettop(L);
	char *room = luaL_buffinitsize(L, &b, pem_room(size));
	BIO *out = BIO_new(BIO_s_mem());
	int ok = out && (key ? PEM_write_bio_PUBKEY(out, key) : PEM_write_bio_X509(out, cert));
	if (bind_crypto_written(L, &b, room, pem_room(size), out, ok) == 1)
		lua_setfield(L, top, field);
	lua_settop(L, top);
}

static void set_serial(lua_State *L, const ASN1_INTEGER *serial)
{
	char hex[2 * 64 + 1] = "";
	const unsigned char *p = ASN1_STRING_get0_data(serial);
	for (int i = 0; i < ASN1_STRING_length(serial) && i < 64; i++)
		snprintf(hex + 2 * i, 3, "%02X", p[i]);
	set_text(L, "serial", hex);
}

/* Pushes the certificate in DER. */
static struct str push_der(lua_State *L, X509 *cert)
{
	int n = i2d_X509(cert, NULL);
	if (n <= 0)
		luaL_error(L, "a certificate that cannot be written");
	luaL_Buffer b;
	unsigned char *to = (unsigned char *)luaL_buffinitsize(L, &b, (size_t)n);
	i2d_X509(cert, &to);
	luaL_pushresultsize(&b, (size_t)n);
	return bind_check_str(L, -1);
}

static int no_password(char *buf, int size, int rwflag, void *arg)
{
	return -1;                              /* never ask on the terminal */
}

static X509 *read_cert(struct str text)
{
	const unsigned char *p = (const unsigned char *)text.p;
	if (text.n && text.p[0] == '0')                 /* a DER sequence */
		return d2i_X509(NULL, &p, (long)text.n);
	BIO *in = BIO_new_mem_buf(text.p, (int)text.n);
	X509 *cert = PEM_read_bio_X509(in, NULL, no_password, NULL);
	BIO_free(in);
	return cert;
}

static int crypto_x509_parse(lua_State *L)
{
	static const char *const lists[] = { "common_names", "dns_names", "xmpp_addrs", "srv_names", "emails", "uris", "ips" };
	struct str text = bind_check_str(L, 1);
	struct box *box = lua_newuserdatauv(L, sizeof *box, 0);      /* so that an error below does not leak it */
	*box = (struct box){ NULL, NULL };
	luaL_setmetatable(L, CERT);
	X509 *cert = box->cert = read_cert(text);
	if (!cert)
		return bind_crypto_error(L, "not a certificate");
	box->names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	lua_newtable(L);
	for (int i = 0; i < COUNT(lists); i++) {
		lua_newtable(L);
		lua_setfield(L, -2, lists[i]);
	}
	set_name(L, "subject", X509_get_subject_name(cert));
	set_name(L, "issuer", X509_get_issuer_name(cert));
	common_names(L, X509_get_subject_name(cert));
	alternative_names(L, box->names);
	set_time(L, "notbefore", X509_get0_notBefore(cert));
	set_time(L, "notafter", X509_get0_notAfter(cert));
	set_serial(L, X509_get0_serialNumber(cert));
	struct str der = push_der(L, cert);
	lua_setfield(L, -2, "der");                     /* kept there */
	set_digest(L, "sha1", der);
	set_digest(L, "sha256", der);
	set_pem(L, "pem", cert, NULL, der.n);
	EVP_PKEY *key = X509_get0_pubkey(cert);
	if (key) {
		set_pem(L, "pubkey", NULL, key, der.n);
		set_text(L, "key_type", OBJ_nid2sn(EVP_PKEY_get_base_id(key)));
		lua_pushinteger(L, EVP_PKEY_get_bits(key));
		lua_setfield(L, -2, "key_bits");
	}
	int md;
	if (X509_get_signature_info(cert, &md, NULL, NULL, NULL) && md != NID_undef) {
		char name[40];
		snprintf(name, sizeof name, "%s", OBJ_nid2sn(md));
		for (char *c = name; *c; c++)
			*c = (char)(*c >= 'A' && *c <= 'Z' ? *c + 32 : *c);
		set_text(L, "signature_hash", name);
	}
	lua_pushboolean(L, X509_check_ca(cert) > 0);
	lua_setfield(L, -2, "ca");
	lua_pushboolean(L, X509_NAME_cmp(X509_get_subject_name(cert), X509_get_issuer_name(cert)) == 0);
	lua_setfield(L, -2, "self_issued");
	lua_pushboolean(L, X509_check_purpose(cert, X509_PURPOSE_SSL_SERVER, 0) == 1);
	lua_setfield(L, -2, "server_use");
	return 1;
}

static int crypto_pem2der(lua_State *L)
{
	struct str text = bind_check_str(L, 1);
	const char *kind = luaL_optstring(L, 2, "CERTIFICATE");
	luaL_Buffer b;
	char *room = luaL_buffinitsize(L, &b, text.n + 1);      /* DER is the shorter form */
	BIO *in = BIO_new_mem_buf(text.p, (int)text.n);
	char *name, *header;
	unsigned char *data;
	long n, found = 0;
	while (!found && PEM_read_bio(in, &name, &header, &data, &n)) {
		if (!strcmp(name, kind) && n > 0 && (size_t)n <= text.n) {
			memcpy(room, data, (size_t)n);
			found = n;
		}
		OPENSSL_free(name);
		OPENSSL_free(header);
		OPENSSL_clear_free(data, (size_t)n);
	}
	BIO_free(in);
	if (!found)
		return bind_crypto_error(L, "no such PEM block");
	ERR_clear_error();
	luaL_pushresultsize(&b, (size_t)found);
	return 1;
}

static int crypto_der2pem(lua_State *L)
{
	struct str der = bind_check_str(L, 1);
	const char *kind = luaL_optstring(L, 2, "CERTIFICATE");
	size_t size = pem_room(der.n) + 2 * strlen(kind);
	luaL_Buffer b;
	char *room = luaL_buffinitsize(L, &b, size);
	BIO *out = BIO_new(BIO_s_mem());
	int ok = out && PEM_write_bio(out, kind, "", (const unsigned char *)der.p, (long)der.n);
	return bind_crypto_written(L, &b, room, size, out, ok);
}

void bind_crypto_x509(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{ "x509_parse", crypto_x509_parse }, { "pem2der", crypto_pem2der }, { "der2pem", crypto_der2pem }, { NULL, NULL },
	};
	luaL_newmetatable(L, CERT);
	lua_pushcfunction(L, cert_gc);
	lua_setfield(L, -2, "__gc");
	lua_pop(L, 1);
	luaL_setfuncs(L, functions, 0);
}
