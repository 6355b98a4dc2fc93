/* SPDX-License-Identifier: MIT */
/* fuzz_sasl.c - what clients send during authentication. The first byte chooses the mechanism and what the server knows, the
 * second where the rest is cut into messages. Whatever comes, nobody may get in: no account has a key anybody knows. */
#include <stdint.h>
#include <stdlib.h>

#include "base/mem.h"
#include "sasl/cyrus.h"
#include "sasl/exchange.h"

static const char *const mechanisms[] = {
	"SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS", "PLAIN", "DIGEST-MD5", "EXTERNAL",
	"HT-SHA-256-NONE", "HT-SHA-256-EXPR", "HT-SHA-256-ENDP", "HT-SHA-256-UNIQ",
};

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	if (cyrus_open())
		abort();
	return 0;
}

static void account(struct str name, enum account state, struct credentials *c)
{
	*c = (struct credentials){ .account = state, .secret = STR("secret"), .iterations = 1 };
	c->tokens[1] = (struct ht_token){ .kept = true, .len = 9, .text = "some text", .initiator = "no hash of a proof anybody has" };
	memcpy(c->name, name.p, name.n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (n < 2)
		return 0;
	struct str mech = str_of(mechanisms[data[0] & 64 ? 8 + (data[0] & 3) : data[0] & 7]);
	bool offered = data[0] & 8, wait = data[0] & 16, known = data[0] & 32;
	size_t first = data[1] < n - 2 ? data[1] : n - 2;
	struct str messages[2] = { { (const char *)data + 2, first }, { (const char *)data + 2 + first, n - 2 - first } };
	struct exchange *x;
	struct exchange_answer answer;
	enum exchange_result r = EXCHANGE_CHALLENGE;
	if (exchange_new(mech, STR("capulet.example"), &x))
		abort();
	exchange_bind(x, STR("tls-exporter"), STR("0123456789abcdef"));
	exchange_offer(x, offered, wait ? STR("") : STR("SCRAM-SHA-1"));
	if (wait || str_is(mech, "DIGEST-MD5")) {
		r = exchange_step(x, (struct str){ NULL, 0 }, NULL, &answer);
		buf_free(&answer.data);
	}
	for (int i = 0; i < 2 && r == EXCHANGE_CHALLENGE; i++) {
		struct sasl_peek peek;
		struct credentials c;
		char *exact = mem_alloc(messages[i].n ? messages[i].n : 1);
		memcpy(exact, messages[i].p, messages[i].n);
		struct str message = { exact, messages[i].n };
		bool named = sasl_peek(mech, message, &peek) == ST_OK;
		if (named)
			account((struct str){ peek.name, peek.name_len }, known ? ACCOUNT_ENABLED : ACCOUNT_UNKNOWN, &c);
		r = exchange_step(x, message, named ? &c : NULL, &answer);
		if (r == EXCHANGE_SUCCESS)
			abort();
		buf_free(&answer.data);
		free(exact);
	}
	exchange_free(&x);
	return 0;
}
