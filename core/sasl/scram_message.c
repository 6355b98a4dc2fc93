/* SPDX-License-Identifier: MIT */
/* scram_message.c - SCRAM's grammar. */
#include "sasl/scram_message.h"

#include "xmpp/prep.h"

/* Takes the text up to the next comma off the front of rest; rest->p is NULL behind the last one. */
static struct str take(struct str *rest)
{
	const char *comma = rest->n ? memchr(rest->p, ',', rest->n) : NULL;
	struct str part = { rest->p, comma ? (size_t)(comma - rest->p) : rest->n };
	*rest = comma ? (struct str){ comma + 1, rest->n - part.n - 1 } : (struct str){ NULL, 0 };
	return part;
}

/* The value of "x=value": one byte at least, in every attribute there is. */
static bool is_attribute(struct str part, char name, struct str *value)
{
	if (part.n < 3 || part.p[0] != name || part.p[1] != '=')
		return false;
	*value = (struct str){ part.p + 2, part.n - 2 };
	return true;
}

static bool attribute(struct str *rest, char name, struct str *value)
{
	return rest->p && is_attribute(take(rest), name, value);
}

/* An extension that may be passed over: any letter but those that mean something. */
static bool is_extension(struct str part)
{
	char c = part.n ? part.p[0] : 0;
	bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
	return letter && !strchr("anmrcsipve", c) && part.n > 2 && part.p[1] == '=';
}

static bool is_cb_name(struct str s)
{
	if (!s.n || s.n > SCRAM_BINDING_MAX)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-'))
			return false;
	}
	return true;
}

static bool is_printable(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] < 0x21 || s.p[i] > 0x7e)
			return false;
	return true;
}

enum status scram_name(struct str saslname, char *out, size_t size, size_t *len)
{
	size_t n = 0;
	for (size_t i = 0; i < saslname.n; i++) {
		char c = saslname.p[i];
		if (c == '=') {
			struct str escape = { saslname.p + i, saslname.n - i < 3 ? saslname.n - i : 3 };
			if (!str_is(escape, "=2C") && !str_is(escape, "=3D"))
				return ST_INVALID;
			c = escape.p[1] == '2' ? ',' : '=';
			i += 2;
		}
		if (n == size)
			return ST_INVALID;
		out[n++] = c;
	}
	if (!n)
		return ST_INVALID;
	*len = n;
	return ST_OK;
}

enum status scram_read_first(struct str message, struct scram_first *out)
{
	struct scram_first m = { 0 };
	struct str rest = message;
	if (!prep_is_text(message))
		return ST_INVALID;
	struct str flag = take(&rest);
	if (is_attribute(flag, 'p', &m.binding)) {
		if (!is_cb_name(m.binding))
			return ST_INVALID;
	} else if (!str_is(flag, "n") && !str_is(flag, "y")) {
		return ST_INVALID;
	}
	m.flag = flag.p[0];
	if (!rest.p)
		return ST_INVALID;
	struct str authzid = take(&rest);
	if (!rest.p || (authzid.n && !is_attribute(authzid, 'a', &m.authzid)))
		return ST_INVALID;
	m.gs2 = (struct str){ message.p, (size_t)(rest.p - message.p) };
	m.bare = rest;
	if (!attribute(&rest, 'n', &m.name) || !attribute(&rest, 'r', &m.nonce))
		return ST_INVALID;
	if (m.nonce.n > SCRAM_NONCE_MAX || !is_printable(m.nonce))
		return ST_INVALID;
	while (rest.p)
		if (!is_extension(take(&rest)))
			return ST_INVALID;
	*out = m;
	return ST_OK;
}

enum status scram_read_final(struct str message, struct scram_final *out)
{
	struct scram_final m = { 0 };
	struct str rest = message;
	if (!prep_is_text(message) || !attribute(&rest, 'c', &m.cbind) || !attribute(&rest, 'r', &m.nonce) || !is_printable(m.nonce))
		return ST_INVALID;
	while (rest.p) {
		struct str part = take(&rest);
		if (!rest.p) {                          /* the last one */
			if (!is_attribute(part, 'p', &m.proof))
				return ST_INVALID;
			m.without_proof = (struct str){ message.p, (size_t)(part.p - 1 - message.p) };
		} else if (!is_extension(part)) {
			return ST_INVALID;
		}
	}
	if (!m.proof.p)
		return ST_INVALID;
	*out = m;
	return ST_OK;
}
