/* SPDX-License-Identifier: MIT */
/* fuzz_scram.c - a SCRAM client's two messages: whatever is taken apart can be put together again, and nobody gets in without
 * the password. The first byte says what the channel is like, the second where the rest is cut. */
#include <stdint.h>
#include <stdlib.h>

#include "base/mem.h"
#include "sasl/mech_scram.h"
#include "sasl/scram_message.h"

static void must(bool holds)
{
	if (!holds)
		abort();
}

static void first_holds(struct str message, const struct scram_first *m)
{
	struct buf again = { 0 };
	char name[64];
	size_t n;
	buf_add_char(&again, m->flag);
	must((m->flag == 'p') == (m->binding.p != NULL));
	if (m->binding.p) {
		buf_add_char(&again, '=');
		buf_add_str(&again, m->binding);
	}
	buf_add_char(&again, ',');
	if (m->authzid.p) {
		buf_add_text(&again, "a=");
		buf_add_str(&again, m->authzid);
	}
	buf_add_char(&again, ',');
	must(str_eq(buf_str(&again), m->gs2));
	buf_add_text(&again, "n=");
	buf_add_str(&again, m->name);
	buf_add_text(&again, ",r=");
	buf_add_str(&again, m->nonce);
	must(m->name.n && m->nonce.n && m->nonce.n <= SCRAM_NONCE_MAX && m->gs2.n + m->bare.n == message.n);
	must(message.n >= again.len && !memcmp(message.p, buf_data(&again), again.len));
	must(message.n == again.len || message.p[again.len] == ',');
	must(!memchr(message.p, 0, message.n));
	if (!scram_name(m->name, name, sizeof name, &n))
		must(n >= 1 && n <= m->name.n);
	buf_free(&again);
}

static void final_holds(struct str message, const struct scram_final *m)
{
	struct buf again = { 0 };
	buf_add_str(&again, m->without_proof);
	buf_add_text(&again, ",p=");
	buf_add_str(&again, m->proof);
	must(str_eq(buf_str(&again), message) && m->cbind.n && m->nonce.n && m->proof.n && !memchr(m->proof.p, ',', m->proof.n));
	buf_free(&again);
}

/* Exactly as long as the message: reading one byte too many shows. */
static struct str exact(const uint8_t *p, size_t n)
{
	char *copy = mem_alloc(n ? n : 1);
	memcpy(copy, p, n);
	return (struct str){ copy, n };
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const char *const digests[] = { "sha1", "sha256", "sha512", "sha1" };
	if (n < 2)
		return 0;
	size_t cut = data[1] < n - 2 ? data[1] : n - 2;
	struct str first = exact(data + 2, cut), final = exact(data + 2 + cut, n - 2 - cut);
	struct scram_channel channel = { .plus = data[0] & 1, .offered = data[0] & 2, .type = STR("tls-exporter"),
		.data = data[0] & 4 ? STR("") : STR("0123456789abcdef"), .advertised = data[0] & 8 ? STR("SCRAM-SHA-1") : STR("") };
	struct scram_first a;
	struct scram_final b;
	struct scram_key key = { 0 };
	struct scram s = { 0 };
	scram_fake(digest_find(str_of(digests[data[0] >> 4 & 3])), STR("secret"), STR("juliet"), 4096, &key);
	bool reads = !scram_read_first(first, &a);
	if (reads)
		first_holds(first, &a);
	if (!scram_read_final(final, &b))
		final_holds(final, &b);
	if (scram_challenge(&s, first, &channel, &key, STR("xyz")) == SASL_CONTINUE) {
		must(reads && s.answer.len && (a.flag == 'p') == channel.plus && !(a.flag == 'y' && channel.offered));
		must(scram_verify(&s, final, &key) != SASL_OK && !s.answer.len);
	}
	scram_wipe(&s);
	free((char *)first.p);
	free((char *)final.p);
	return 0;
}
