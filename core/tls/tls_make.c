/* SPDX-License-Identifier: MIT */
/* tls_make.c - a self-made certificate. */
#include "tls/tls_make.h"

#include <arpa/inet.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "base/rand.h"

static int add_name(GENERAL_NAMES *names, struct str host)
{
	unsigned char ip[16];
	char text[64];
	int length = 0;
	if (host.n < sizeof text) {
		memcpy(text, host.p, host.n);
		text[host.n] = 0;
		length = inet_pton(AF_INET, text, ip) == 1 ? 4 : inet_pton(AF_INET6, text, ip) == 1 ? 16 : 0;
	}
	GENERAL_NAME *name = GENERAL_NAME_new();
	ASN1_STRING *value = length ? ASN1_OCTET_STRING_new() : ASN1_IA5STRING_new();
	if (!name || !value || !ASN1_STRING_set(value, length ? (const void *)ip : host.p, length ? length : (int)host.n)) {
		GENERAL_NAME_free(name);
		ASN1_STRING_free(value);
		return 0;
	}
	GENERAL_NAME_set0_value(name, length ? GEN_IPADD : GEN_DNS, value);
	if (!sk_GENERAL_NAME_push(names, name)) {
		GENERAL_NAME_free(name);
		return 0;
	}
	return 1;
}

static int add_names(X509 *x, const struct str *names, int count)
{
	GENERAL_NAMES *list = sk_GENERAL_NAME_new_null();
	int ok = list != NULL;
	for (int i = 0; ok && i < count; i++)
		ok = add_name(list, names[i]);
	ok = ok && X509_add1_ext_i2d(x, NID_subject_alt_name, list, 0, X509V3_ADD_DEFAULT);
	GENERAL_NAMES_free(list);
	return ok;
}

static int add_extension(X509 *x, int nid, const char *value)
{
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
	int ok = e && X509_add_ext(x, e, -1);
	X509_EXTENSION_free(e);
	return ok;
}

static int set_serial(X509 *x)
{
	unsigned char bytes[16];
	rand_bytes(bytes, sizeof bytes);
	bytes[0] = (bytes[0] & 0x7f) | 0x40;
	BIGNUM *n = BN_bin2bn(bytes, sizeof bytes, NULL);
	int ok = n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x));
	BN_free(n);
	return ok;
}

static int fill(X509 *x, EVP_PKEY *key, const struct str *names, int count, int days)
{
	X509_NAME *subject = X509_get_subject_name(x);
	size_t common = names[0].n <= 64 ? names[0].n : 64;      /* X.520 allows no more */
	return X509_set_version(x, X509_VERSION_3) && set_serial(x)
		&& X509_time_adj_ex(X509_getm_notBefore(x), -1, 0, NULL) && X509_time_adj_ex(X509_getm_notAfter(x), days, 0, NULL)
		&& X509_set_pubkey(x, key)
		&& X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)names[0].p, (int)common, -1, 0)
		&& X509_set_issuer_name(x, subject) && add_names(x, names, count)
		&& add_extension(x, NID_basic_constraints, "critical,CA:FALSE")
		&& add_extension(x, NID_key_usage, "critical,digitalSignature")
		&& add_extension(x, NID_ext_key_usage, "serverAuth,clientAuth")
		&& X509_sign(x, key, EVP_sha256()) > 0;
}

static void take(BIO *bio, struct buf *out)
{
	char *p;
	long n = BIO_get_mem_data(bio, &p);
	buf_add(out, p, (size_t)n);
}

enum status tls_make(const struct str *names, int count, int days, struct buf *certificate, struct buf *key_out)
{
	for (int i = 0; i < count; i++)
		if (!names[i].n || names[i].n > 253 || memchr(names[i].p, 0, names[i].n))
			return ST_INVALID;
	enum status st = ST_SYSTEM;
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = X509_new();
	BIO *cert_pem = BIO_new(BIO_s_mem()), *key_pem = BIO_new(BIO_s_secmem());
	if (key && x && cert_pem && key_pem && fill(x, key, names, count, days) && PEM_write_bio_X509(cert_pem, x)
	    && PEM_write_bio_PrivateKey(key_pem, key, NULL, NULL, 0, NULL, NULL)) {
		take(cert_pem, certificate);
		take(key_pem, key_out);
		st = ST_OK;
	}
	ERR_clear_error();
	EVP_PKEY_free(key);
	X509_free(x);
	BIO_free(cert_pem);
	BIO_free(key_pem);
	return st;
}
