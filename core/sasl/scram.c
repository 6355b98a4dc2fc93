/* SPDX-License-Identifier: MIT */
/* scram.c - SCRAM keys. */
#include "sasl/scram.h"

#include <stdio.h>

#include "base/mem.h"

static const struct { const char *name, *digest; } hashes[] = {
	{ "SHA-1", "sha1" }, { "SHA-256", "sha256" }, { "SHA-512", "sha512" },
};

const struct digest *scram_digest(struct str mech)
{
	struct str plus = STR("-PLUS"), scram = STR("SCRAM-");
	if (mech.n < scram.n || memcmp(mech.p, scram.p, scram.n) != 0)
		return NULL;
	mech = (struct str){ mech.p + scram.n, mech.n - scram.n };
	if (mech.n > plus.n && memcmp(mech.p + mech.n - plus.n, plus.p, plus.n) == 0)
		mech.n -= plus.n;
	for (int i = 0; i < COUNT(hashes); i++)
		if (str_is(mech, hashes[i].name))
			return digest_find(str_of(hashes[i].digest));
	return NULL;
}

enum status scram_derive(const struct digest *d, struct str password, struct str salt, int iterations, struct scram_key *out)
{
	unsigned char salted[DIGEST_MAX], client[DIGEST_MAX];
	size_t n = digest_size(d);
	if (salt.n < 1 || salt.n > SCRAM_SALT_MAX || iterations < 1 || iterations > SCRAM_ITERATIONS_MAX)
		return ST_LIMIT;
	enum status st = digest_pbkdf2(d, password, salt, iterations, salted, n);
	if (st)
		return st;
	struct str key = { (char *)salted, n };
	out->digest = d;
	out->iterations = iterations;
	out->salt_len = salt.n;
	memcpy(out->salt, salt.p, salt.n);
	digest_hmac(d, key, STR("Client Key"), client);
	digest_sum(d, (struct str){ (char *)client, n }, out->stored);
	digest_hmac(d, key, STR("Server Key"), out->server);
	mem_wipe(salted, sizeof salted);
	mem_wipe(client, sizeof client);
	return ST_OK;
}

void scram_fake(const struct digest *d, struct str secret, struct str name, int iterations, struct scram_key *out)
{
	unsigned char uuid[DIGEST_MAX], *to[] = { uuid, out->stored, out->server };
	char text[1 + 16 + 1024];
	size_t used = name.n < 1024 ? name.n : 1024;
	int head = snprintf(text, sizeof text, "?%s ", digest_name(d));
	memcpy(text + head, name.p, used);
	for (int i = 0; i < 3; i++) {
		text[0] = (char)('a' + i);
		digest_hmac(digest_find(STR("sha512")), secret, (struct str){ text, (size_t)head + used }, to[i]);
	}
	uuid[6] = (uuid[6] & 0x0f) | 0x40;
	uuid[8] = (uuid[8] & 0x3f) | 0x80;
	char *o = (char *)out->salt;
	for (int i = 0; i < 16; i++)
		o += sprintf(o, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", uuid[i]);
	out->digest = d;
	out->iterations = iterations;
	out->salt_len = (size_t)(o - (char *)out->salt);
}
