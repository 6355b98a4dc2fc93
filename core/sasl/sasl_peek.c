/* SPDX-License-Identifier: MIT */
/* sasl_peek.c - whose account is it about? */
#include "sasl/sasl_peek.h"

#include <strings.h>

#include "sasl/mech_ht.h"
#include "sasl/scram.h"
#include "sasl/scram_message.h"
#include "xmpp/prep.h"

static bool copy_name(struct str s, char *out, size_t *len)
{
	if (s.n > SASL_NAME_MAX || !prep_is_text(s))
		return false;
	memcpy(out, s.p, s.n);
	out[s.n] = 0;
	*len = s.n;
	return true;
}

/* Takes the text up to the next NUL (or all of it) off the front of s. */
static struct str take(struct str *s)
{
	const char *p = s->n ? memchr(s->p, 0, s->n) : NULL;
	struct str part = { s->p, p ? (size_t)(p - s->p) : s->n };
	size_t gone = part.n + (p ? 1 : 0);
	s->p += gone;
	s->n -= gone;
	return part;
}

static bool saslname(struct str s, char *out, size_t *len)
{
	if (scram_name(s, out, SASL_NAME_MAX, len))
		return false;
	out[*len] = 0;
	return true;
}

static enum status peek_scram(struct str message, struct sasl_peek *out)
{
	struct scram_first first;
	if (scram_read_first(message, &first))
		return ST_INVALID;
	if (first.authzid.p && !saslname(first.authzid, out->authzid, &out->authzid_len))
		return ST_INVALID;
	if (!saslname(first.name, out->name, &out->name_len))
		return ST_INVALID;
	out->flag = first.flag;
	out->binding = first.binding;
	return ST_OK;
}

static enum status peek_plain(struct str message, struct sasl_peek *out)
{
	struct str rest = message;
	struct str authzid = take(&rest), name = take(&rest);
	if ((size_t)(rest.p - message.p) != authzid.n + name.n + 2 || !rest.n || memchr(rest.p, 0, rest.n))
		return ST_INVALID;
	if (!name.n || !copy_name(authzid, out->authzid, &out->authzid_len) || !copy_name(name, out->name, &out->name_len))
		return ST_INVALID;
	if (rest.n > SASL_NAME_MAX || !prep_is_text(rest))
		return ST_INVALID;
	out->password = rest;
	return ST_OK;
}

static enum status peek_ht(struct str message, struct sasl_peek *out)
{
	struct str name, proof;
	if (ht_read(message, &name, &proof) || !copy_name(name, out->name, &out->name_len))
		return ST_INVALID;
	return ST_OK;
}

/* --- DIGEST-MD5: name=value pairs, values may be quoted --- */

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* RFC 2831 §7.1. Only these outside of quotes: at others Cyrus ends a name or a value, and would see pairs that we do not. */
static bool is_token(char c)
{
	return c > ' ' && c < 127 && !strchr("()<>@,;:\\\"/[]?={}", c);
}

static void skip(struct str *s)
{
	while (s->n && (is_space(*s->p) || *s->p == ',')) {
		s->p++;
		s->n--;
	}
}

/* Takes one pair off the front; the value's quotes and backslashes are undone into value (SASL_NAME_MAX bytes at most, the
 * rest is dropped: names that long are refused by whoever looks). */
static bool pair(struct str *s, struct str *name, char *value, size_t *n)
{
	skip(s);
	const char *start = s->p;
	while (s->n && is_token(*s->p)) {
		s->p++;
		s->n--;
	}
	*name = (struct str){ start, (size_t)(s->p - start) };
	while (s->n && is_space(*s->p)) {
		s->p++;
		s->n--;
	}
	if (!name->n || !s->n || *s->p != '=')
		return false;
	s->p++;
	s->n--;
	while (s->n && is_space(*s->p)) {
		s->p++;
		s->n--;
	}
	bool quoted = s->n && *s->p == '"', closed = !quoted;
	if (quoted) {
		s->p++;
		s->n--;
	}
	for (*n = 0; s->n; s->p++, s->n--) {
		char c = *s->p;
		if (quoted && c == '"') {
			closed = true;
			s->p++;
			s->n--;
			break;
		}
		if (!quoted && (c == ',' || is_space(c)))
			break;
		if (!quoted && !is_token(c))
			return false;
		if (quoted && c == '\\') {
			if (s->n < 2)
				return false;
			s->p++;
			s->n--;
			c = *s->p;
		}
		if (*n <= SASL_NAME_MAX)
			value[(*n)++] = c;
	}
	return closed && (!s->n || *s->p == ',' || is_space(*s->p));
}

/* A client that does not say charset=utf-8 speaks ISO 8859-1 (RFC 2831 §2.1.1). */
static bool copy_latin(struct str s, char *out, size_t *len)
{
	size_t n = 0;
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if (!c || n + 2 > SASL_NAME_MAX)
			return false;
		if (c < 0x80) {
			out[n++] = (char)c;
		} else {
			out[n++] = (char)(0xc0 | c >> 6);
			out[n++] = (char)(0x80 | (c & 0x3f));
		}
	}
	out[n] = 0;
	*len = n;
	return true;
}

static bool same_name(struct str a, struct str b)
{
	return a.n == b.n && !strncasecmp(a.p, b.p, a.n);
}

static enum status peek_digest_md5(struct str message, struct sasl_peek *out)
{
	enum { PAIRS_MAX = 24 };
	char value[SASL_NAME_MAX + 1], user[SASL_NAME_MAX + 1];
	size_t n, user_len = 0;
	bool utf8 = false;
	struct str rest = message, names[PAIRS_MAX];
	int pairs = 0;
	for (skip(&rest); rest.n; skip(&rest)) {
		if (pairs == PAIRS_MAX || !pair(&rest, &names[pairs], value, &n))
			return ST_INVALID;
		struct str name = names[pairs];
		for (int i = 0; i < pairs; i++)         /* nothing may be there twice; Cyrus would lose the memory of the first */
			if (same_name(names[i], name))
				return ST_INVALID;
		pairs++;
		if (same_name(name, STR("username"))) {
			memcpy(user, value, n);
			user_len = n;
		} else if (same_name(name, STR("authzid"))) {
			if (!copy_name((struct str){ value, n }, out->authzid, &out->authzid_len))
				return ST_INVALID;
		} else if (same_name(name, STR("charset"))) {
			utf8 = n == 5 && !strncasecmp(value, "utf-8", 5);
		}
	}
	struct str u = { user, user_len };
	if (!user_len || !(utf8 ? copy_name(u, out->name, &out->name_len) : copy_latin(u, out->name, &out->name_len)))
		return ST_INVALID;
	return ST_OK;
}

enum status sasl_peek(struct str mech, struct str message, struct sasl_peek *out)
{
	*out = (struct sasl_peek){ 0 };
	if (message.n > SASL_MESSAGE_MAX)
		return ST_INVALID;
	if (scram_digest(mech))
		return peek_scram(message, out);
	if (str_is(mech, "PLAIN"))
		return peek_plain(message, out);
	if (ht_binding(mech))
		return peek_ht(message, out);
	if (str_is(mech, "DIGEST-MD5"))
		return peek_digest_md5(message, out);
	return ST_MISSING;
}
