/* SPDX-License-Identifier: MIT */
/* digest.h - hashes, HMAC and key derivation by name, over OpenSSL. Any thread.
 *
 * Algorithms are looked up in OpenSSL once per process: its own look-up by name costs more than hashing a short text.
 */
#ifndef COUPLET_DIGEST_H
#define COUPLET_DIGEST_H

#include <openssl/types.h>

#include "base/status.h"
#include "base/str.h"

enum { DIGEST_MAX = 64 };       /* bytes of the longest result */

struct digest;

/* md5 sha1 sha224 sha256 sha384 sha512 sha3_256 sha3_512 blake2s256 blake2b512; NULL: no such. Valid for ever. */
const struct digest *digest_find(struct str name);
const struct digest *digest_at(int index);             /* all of them, from 0; NULL behind the last */
const char *digest_name(const struct digest *d);
size_t digest_size(const struct digest *d);
const EVP_MD *digest_md(const struct digest *d);

/* out has digest_size() bytes. */
void digest_sum(const struct digest *d, struct str data, unsigned char *out);
void digest_hmac(const struct digest *d, struct str key, struct str data, unsigned char *out);

/* RFC 8018 and RFC 5869; n bytes to out. ST_LIMIT: iterations below 1, or more bytes than HKDF can make. */
MUST_CHECK enum status digest_pbkdf2(const struct digest *d, struct str password, struct str salt, int iterations,
	unsigned char *out, size_t n);
MUST_CHECK enum status digest_hkdf(const struct digest *d, struct str key, struct str salt, struct str info,
	unsigned char *out, size_t n);

#endif
