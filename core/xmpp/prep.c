/* SPDX-License-Identifier: MIT */
/* prep.c - stringprep and IDNA, with a table for ASCII in front of ICU. */
#include "xmpp/prep.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdlib.h>
#include <unicode/uidna.h>
#include <unicode/usprep.h>
#include <unicode/ustring.h>

#include "base/log.h"

enum { LABEL_MAX = 63, ROUNDS = 4 };

/* --- ASCII --- */

enum { REFUSED, CLEAN, UPPER, UNKNOWN };

/* By profile: what a byte means. Bytes from 0x80 on are ICU's. */
static unsigned char classes[PREP_PROFILES][256];

static void fill_classes(void)
{
	for (int c = 0; c < 256; c++) {
		bool control = c < 0x20 || c == 0x7f, upper = c >= 'A' && c <= 'Z';
		bool node = !control && c != ' ' && !strchr("\"&'/:<>@", c);
		classes[PREP_NODE][c] = c >= 0x80 ? UNKNOWN : !node ? REFUSED : upper ? UPPER : CLEAN;
		classes[PREP_NAME][c] = c >= 0x80 ? UNKNOWN : upper ? UPPER : CLEAN;
		classes[PREP_RESOURCE][c] = c >= 0x80 ? UNKNOWN : control ? REFUSED : CLEAN;
		classes[PREP_SASL][c] = classes[PREP_RESOURCE][c];
	}
}

/* --- ICU --- */

static UStringPrepProfile *profiles[PREP_PROFILES];
static UIDNA *idna;
static pthread_once_t tables_once = PTHREAD_ONCE_INIT, icu_once = PTHREAD_ONCE_INIT;

static void open_icu(void)
{
	static const UStringPrepProfileType types[PREP_PROFILES] = {
		[PREP_NODE] = USPREP_RFC3920_NODEPREP, [PREP_NAME] = USPREP_RFC3491_NAMEPREP,
		[PREP_RESOURCE] = USPREP_RFC3920_RESOURCEPREP, [PREP_SASL] = USPREP_RFC4013_SASLPREP,
	};
	UErrorCode error = U_ZERO_ERROR;
	for (int i = 0; i < PREP_PROFILES; i++)
		profiles[i] = usprep_openByType(types[i], &error);
	idna = uidna_openUTS46(UIDNA_CHECK_BIDI | UIDNA_CHECK_CONTEXTJ | UIDNA_NONTRANSITIONAL_TO_ASCII
		| UIDNA_NONTRANSITIONAL_TO_UNICODE, &error);
	if (U_FAILURE(error)) {
		log_error("prep", "ICU cannot be used: %s", u_errorName(error));
		abort();
	}
}

static enum status status_of(UErrorCode error)
{
	return error == U_BUFFER_OVERFLOW_ERROR ? ST_LIMIT : ST_INVALID;
}

struct wide {                   /* UTF-16 */
	UChar text[PREP_MAX + 1];
	int32_t n;
};

static enum status widen(struct str text, struct wide *out)
{
	UErrorCode error = U_ZERO_ERROR;
	u_strFromUTF8(out->text, PREP_MAX, &out->n, text.p, (int32_t)text.n, &error);
	return U_FAILURE(error) ? status_of(error) : ST_OK;
}

static enum status narrow(const struct wide *w, struct buf *out)
{
	UErrorCode error = U_ZERO_ERROR;
	int32_t n = 0;
	u_strToUTF8(buf_room(out, PREP_MAX), PREP_MAX, &n, w->text, w->n, &error);
	if (U_FAILURE(error))
		return status_of(error);
	buf_added(out, (size_t)n);
	return ST_OK;
}

/* Applies one step again until it changes nothing: a few characters need it, and an address must not depend on how often it was
 * prepared (RFC 8264 §7 does the same). */
static enum status settle(enum status (*step)(const struct wide *, int, struct wide *), struct str text, int how, struct buf *out)
{
	struct wide w[2];
	pthread_once(&icu_once, open_icu);
	enum status st = widen(text, &w[0]);
	for (int round = 0; !st && round < ROUNDS; round++) {
		struct wide *from = &w[round % 2], *to = &w[(round + 1) % 2];
		st = step(from, how, to);
		if (!st && to->n == from->n && !memcmp(to->text, from->text, (size_t)to->n * sizeof(UChar)))
			return narrow(to, out);
	}
	return st ? st : ST_INVALID;
}

enum { STRICT = PREP_PROFILES };        /* joined with the profile */

static enum status stringprep(const struct wide *in, int how, struct wide *out)
{
	UErrorCode error = U_ZERO_ERROR;
	int32_t options = how & STRICT ? USPREP_DEFAULT : USPREP_ALLOW_UNASSIGNED;
	out->n = usprep_prepare(profiles[how & ~STRICT], in->text, in->n, out->text, PREP_MAX, options, NULL, &error);
	return U_FAILURE(error) ? status_of(error) : ST_OK;
}

/* Hyphens and lengths are checked by us, so that names without international labels meet the same rules. */
enum { OURS = UIDNA_ERROR_LEADING_HYPHEN | UIDNA_ERROR_TRAILING_HYPHEN | UIDNA_ERROR_HYPHEN_3_4 | UIDNA_ERROR_EMPTY_LABEL
	| UIDNA_ERROR_LABEL_TOO_LONG | UIDNA_ERROR_DOMAIN_NAME_TOO_LONG };

enum { TO_UNICODE, TO_ASCII };

static enum status international(const struct wide *in, int how, struct wide *out)
{
	UErrorCode error = U_ZERO_ERROR;
	UIDNAInfo info = UIDNA_INFO_INITIALIZER;
	out->n = (how == TO_ASCII ? uidna_nameToASCII : uidna_nameToUnicode)(idna, in->text, in->n, out->text, PREP_MAX, &info, &error);
	if (U_FAILURE(error))
		return status_of(error);
	return info.errors & ~(uint32_t)OURS ? ST_INVALID : ST_OK;
}

/* --- texts --- */

enum status prep_text(enum prep_profile profile, struct str text, bool strict, struct buf *out)
{
	if (text.n > PREP_MAX)
		return ST_LIMIT;
	pthread_once(&tables_once, fill_classes);
	const unsigned char *class = classes[profile];
	char *to = buf_room(out, PREP_MAX);
	for (size_t i = 0; i < text.n; i++) {
		unsigned char c = (unsigned char)text.p[i];
		switch (class[c]) {
		case CLEAN: to[i] = (char)c; break;
		case UPPER: to[i] = (char)(c | 0x20); break;
		case REFUSED: return ST_INVALID;
		default: return settle(stringprep, text, (int)profile | (strict ? STRICT : 0), out);
		}
	}
	buf_added(out, text.n);
	return ST_OK;
}

bool prep_is_clean(enum prep_profile profile, struct str text)
{
	pthread_once(&tables_once, fill_classes);
	const unsigned char *class = classes[profile];
	if (text.n > PREP_MAX)
		return false;
	for (size_t i = 0; i < text.n; i++)
		if (class[(unsigned char)text.p[i]] != CLEAN)
			return false;
	return true;
}

/* --- domains --- */

static bool name_byte(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c >= 0x80;
}

static bool ace(struct str label)
{
	return label.n >= 4 && (label.p[0] | 0x20) == 'x' && (label.p[1] | 0x20) == 'n' && label.p[2] == '-' && label.p[3] == '-';
}

/* Labels of lower-case names. An international label's length is that of its ASCII form, which was measured then. */
static bool labels_good(struct str name)
{
	const char *p = name.p, *end = name.p + name.n;
	for (;;) {
		const char *dot = memchr(p, '.', (size_t)(end - p));
		size_t n = (size_t)((dot ? dot : end) - p);
		bool ascii = true;
		for (size_t i = 0; i < n; i++) {
			if (!name_byte((unsigned char)p[i]))
				return false;
			ascii &= (unsigned char)p[i] < 0x80;
		}
		if (n == 0 || (ascii && n > LABEL_MAX) || p[0] == '-' || p[n - 1] == '-')
			return false;
		if (!dot)
			return true;
		p = dot + 1;
	}
}

static enum status address(struct str text, struct buf *out)
{
	char copy[INET6_ADDRSTRLEN + 1];
	struct in6_addr in6;
	if (text.n < 4 || text.p[text.n - 1] != ']' || text.n - 2 >= sizeof copy)
		return ST_INVALID;
	memcpy(copy, text.p + 1, text.n - 2);
	copy[text.n - 2] = '\0';
	if (memchr(copy, '\0', text.n - 2) || inet_pton(AF_INET6, copy, &in6) != 1)
		return ST_INVALID;
	inet_ntop(AF_INET6, &in6, copy, sizeof copy);
	buf_add_char(out, '[');
	buf_add_text(out, copy);
	buf_add_char(out, ']');
	return ST_OK;
}

/* Lower case into out (at least text.n bytes); false if ICU must look: non-ASCII, or a label in ASCII-compatible encoding. */
static bool lower_ascii(struct str text, char *out)
{
	bool label = true;
	for (size_t i = 0; i < text.n; i++) {
		unsigned char c = (unsigned char)text.p[i];
		if (c >= 0x80 || (label && ace((struct str){ text.p + i, text.n - i })))
			return false;
		out[i] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
		label = c == '.';
	}
	return true;
}

static struct str without_dot(struct str name)
{
	if (name.n > 1 && name.p[name.n - 1] == '.')
		name.n--;
	return name;
}

static enum status domain(struct str text, int how, struct buf *out)
{
	size_t had = out->len;
	if (text.n > PREP_MAX)
		return ST_LIMIT;
	if (text.n && text.p[0] == '[')
		return address(text, out);
	enum status st = ST_OK;
	if (lower_ascii(text, buf_room(out, PREP_MAX))) {
		buf_added(out, text.n);
	} else if ((st = settle(international, text, how, out))) {
		return st;
	} else if (how == TO_UNICODE) {
		/* lengths count in the other form */
		struct buf ascii = { 0 };
		struct str made = { buf_data(out) + had, out->len - had };
		st = settle(international, made, TO_ASCII, &ascii);
		if (!st && !labels_good(without_dot(buf_str(&ascii))))
			st = ST_INVALID;
		buf_free(&ascii);
	}
	struct str made = { buf_data(out) + had, out->len - had };
	made = without_dot(made);
	if (!st && !labels_good(made))
		st = ST_INVALID;
	out->len = st ? had : had + made.n;
	return st;
}

enum status prep_domain(struct str text, bool strict, struct buf *out)
{
	size_t had = out->len;
	enum status st = domain(text, TO_UNICODE, out);
	/* UTS #46 knows today's Unicode; strict also asks the older rules. */
	if (!st && strict && !prep_is_clean(PREP_NAME, (struct str){ buf_data(out) + had, out->len - had })) {
		struct buf old = { 0 };
		st = prep_text(PREP_NAME, (struct str){ buf_data(out) + had, out->len - had }, true, &old);
		buf_free(&old);
		if (st)
			out->len = had;
	}
	return st;
}

enum status prep_to_ascii(struct str name, struct buf *out)
{
	return domain(name, TO_ASCII, out);
}

enum status prep_to_unicode(struct str name, struct buf *out)
{
	return domain(name, TO_UNICODE, out);
}

/* --- UTF-8 --- */

long prep_utf8_length(struct str text)
{
	const unsigned char *p = (const unsigned char *)text.p, *end = text.n ? p + text.n : p;
	long count = 0;
	for (; p < end; count++) {
		if (*p < 0x80) {
			p++;
			continue;
		}
		size_t n = *p >= 0xf0 ? 4 : *p >= 0xe0 ? 3 : 2;
		if (*p < 0xc2 || *p > 0xf4 || (size_t)(end - p) < n)
			return -1;
		if ((*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f) || (*p == 0xf0 && p[1] < 0x90) || (*p == 0xf4 && p[1] > 0x8f))
			return -1;
		for (size_t i = 1; i < n; i++)
			if ((p[i] & 0xc0) != 0x80)
				return -1;
		p += n;
	}
	return count;
}

bool prep_is_text(struct str text)
{
	return (!text.n || !memchr(text.p, 0, text.n)) && prep_utf8_length(text) >= 0;
}
