/* SPDX-License-Identifier: MIT */
/* scram.c - SCRAM keys. */
#include "sasl/scram.h"

#include <assert.h>
#include <stdio.h>

#include "base/base64.h"
#include "base/mem.h"

static const struct { const char *name, *digest; } hashes[] = {
	{ "SHA-1", "sha1" }, { "SHA-224", "sha224" }, { "SHA-256", "sha256" }, { "SHA-384", "sha384" }, { "SHA-512", "sha512" },
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
	static const char labels[] = { 'a', 'b', 'c' };         /* salt, stored key, server key */
	unsigned char *to[] = { out->salt, out->stored, out->server };
	char text[1 + 16 + 1024];
	size_t used = name.n < 1024 ? name.n : 1024;
	int head = snprintf(text, sizeof text, "?%s ", digest_name(d));
	memcpy(text + head, name.p, used);
	for (int i = 0; i < 3; i++) {
		unsigned char sum[DIGEST_MAX];
		text[0] = labels[i];
		digest_hmac(digest_find(STR("sha512")), secret, (struct str){ text, (size_t)head + used }, sum);
		memcpy(to[i], sum, DIGEST_MAX);
	}
	out->digest = d;
	out->iterations = iterations;
	out->salt_len = 16;                                     /* as our own accounts have it */
}

bool scram_matches(const struct scram_key *key, struct str password)
{
	struct scram_key made;
	if (scram_derive(key->digest, password, (struct str){ (char *)key->salt, key->salt_len }, key->iterations, &made))
		return false;
	bool same = mem_equal(made.stored, key->stored, digest_size(key->digest));
	mem_wipe(&made, sizeof made);
	return same;
}

void scram_write(const struct scram_key *key, struct buf *out)
{
	const char *name = NULL;
	char count[16];
	for (int i = 0; i < COUNT(hashes); i++)
		if (!strcmp(hashes[i].digest, digest_name(key->digest)))
			name = hashes[i].name;
	assert(name);
	snprintf(count, sizeof count, "%d", key->iterations);
	buf_add_text(out, "SCRAM-");
	buf_add_text(out, name);
	buf_add_char(out, '$');
	buf_add_text(out, count);
	buf_add_char(out, ':');
	base64_encode((struct str){ (char *)key->salt, key->salt_len }, out);
	buf_add_char(out, '$');
	base64_encode((struct str){ (char *)key->stored, digest_size(key->digest) }, out);
	buf_add_char(out, ':');
	base64_encode((struct str){ (char *)key->server, digest_size(key->digest) }, out);
	*buf_room(out, 1) = 0;
}
