/* SPDX-License-Identifier: MIT */
/* fuzz_jid.c - addresses: preparing twice is preparing once; escaping can be undone; IDNA goes there and back. */
#include <stdio.h>
#include <stdlib.h>

#include "base/status.h"
#include "xml/chars.h"
#include "xmpp/jid.h"
#include "xmpp/prep.h"

static void must(int truth, const char *what)
{
	if (!truth) {
		fprintf(stderr, "broken: %s\n", what);
		abort();
	}
}

static void addresses(struct str text, bool strict)
{
	struct buf once = { 0 }, twice = { 0 };
	struct jid raw, jid, again;
	bool valid = jid_split(text, &raw) == ST_OK;
	bool clean = valid && jid_is_clean(&raw);
	if (jid_prep(text, strict, &once, &jid) == ST_OK) {
		must(valid, "only what can be split can be prepared");
		must(!clean || str_eq(buf_str(&once), text), "clean is what preparing does not change");
		must(jid.local.n <= PREP_MAX && jid.domain.n <= PREP_MAX && jid.resource.n <= PREP_MAX, "parts are bounded");
		must(chars_text(buf_str(&once)), "an address can stand in XML");
		must(jid_split(buf_str(&once), &again) == ST_OK, "a prepared address can be split");
		must(str_eq(jid.local, again.local) && str_eq(jid.domain, again.domain) && str_eq(jid.resource, again.resource), "into the same parts");
		must(jid_prep(buf_str(&once), strict, &twice, NULL) == ST_OK, "a prepared address can be prepared");
		must(str_eq(buf_str(&once), buf_str(&twice)), "preparing twice changes nothing");
		if (strict) {
			buf_free(&twice);
			must(jid_prep(text, false, &twice, NULL) == ST_OK, "strict is stricter");
		}
	} else {
		must(!clean, "what is clean is an address");
		must(once.len == 0, "failure leaves out alone");
	}
	buf_free(&once);
	buf_free(&twice);
}

static void parts(struct str text, bool strict)
{
	for (int p = 0; p < PREP_PROFILES; p++) {
		struct buf once = { 0 }, twice = { 0 };
		if (prep_text(p, text, strict, &once) == ST_OK) {
			must(prep_utf8_length(text) >= 0, "only UTF-8 can be prepared");
			must(!prep_is_clean(p, text) || str_eq(buf_str(&once), text), "clean is what preparing does not change");
			must(prep_text(p, buf_str(&once), strict, &twice) == ST_OK, "a prepared text can be prepared");
			must(str_eq(buf_str(&once), buf_str(&twice)), "preparing twice changes nothing");
		} else {
			must(!prep_is_clean(p, text), "what is clean can be prepared");
		}
		buf_free(&once);
		buf_free(&twice);
	}
}

static void domains(struct str text)
{
	struct buf domain = { 0 }, ascii = { 0 }, back = { 0 };
	if (prep_domain(text, false, &domain) == ST_OK) {
		must(prep_to_ascii(buf_str(&domain), &ascii) == ST_OK, "a domain has an ASCII form");
		must((size_t)prep_utf8_length(buf_str(&ascii)) == ascii.len, "which is ASCII");
		must(prep_to_unicode(buf_str(&ascii), &back) == ST_OK, "and the way back");
		must(str_eq(buf_str(&domain), buf_str(&back)), "leads to it");
	}
	buf_free(&domain);
	buf_free(&ascii);
	buf_free(&back);
}

static void escaping(struct str text)
{
	struct buf escaped = { 0 }, back = { 0 };
	jid_escape(text, &escaped);
	jid_unescape(buf_str(&escaped), &back);
	must(str_eq(buf_str(&back), text), "escaping can be undone");
	for (size_t i = 0; i < escaped.len; i++)
		must(!buf_data(&escaped)[i] || !strchr(" \"&'/:<>@", buf_data(&escaped)[i]), "nothing forbidden is left");
	buf_free(&escaped);
	buf_free(&back);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	if (size < 1)
		return 0;
	struct str text = { (const char *)data + 1, size - 1 };
	addresses(text, data[0] & 1);
	parts(text, data[0] & 1);
	domains(text);
	escaping(text);
	return 0;
}
