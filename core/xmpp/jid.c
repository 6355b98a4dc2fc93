/* SPDX-License-Identifier: MIT */
/* jid.c - addresses. */
#include "xmpp/jid.h"

#include "xmpp/prep.h"

enum status jid_split(struct str text, struct jid *out)
{
	struct jid jid = { .domain = text };
	const char *slash = text.n ? memchr(text.p, '/', text.n) : NULL;
	if (slash) {
		jid.domain.n = (size_t)(slash - text.p);
		jid.resource = (struct str){ slash + 1, text.n - jid.domain.n - 1 };
		if (!jid.resource.n)
			return ST_INVALID;
	}
	const char *at = jid.domain.n ? memchr(text.p, '@', jid.domain.n) : NULL;
	if (at) {
		jid.local = (struct str){ text.p, (size_t)(at - text.p) };
		jid.domain = (struct str){ at + 1, jid.domain.n - jid.local.n - 1 };
		if (!jid.local.n)
			return ST_INVALID;
	}
	if (!jid.domain.n || memchr(jid.domain.p, '@', jid.domain.n))
		return ST_INVALID;
	*out = jid;
	return ST_OK;
}

bool jid_is_clean(const struct jid *jid)
{
	/* Letters, digits, hyphens inside and single dots; "xn--" and the like are left to prep_domain(). */
	struct str d = jid->domain;
	size_t label = 0;
	for (size_t i = 0; i < d.n; i++) {
		char c = d.p[i];
		if (c == '.') {
			if (!label || label > 63)
				return false;
			label = 0;
			continue;
		}
		bool word = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
		if (!word && (c != '-' || !label || i + 1 == d.n || d.p[i + 1] == '.' || d.p[i + 1] == '-'))
			return false;
		label++;
	}
	return label && label <= 63 && d.n <= PREP_MAX && prep_is_clean(PREP_NODE, jid->local)
		&& prep_is_clean(PREP_RESOURCE, jid->resource);
}

enum status jid_prep(struct str text, bool strict, struct buf *out, struct jid *parts)
{
	struct jid jid;
	enum status st = jid_split(text, &jid);
	if (st)
		return ST_INVALID;
	size_t had = out->len, local, domain, start;
	if (jid.local.p) {
		st = prep_text(PREP_NODE, jid.local, strict, out);
		if (st || out->len == had)
			goto fail;
		local = out->len - had;
		buf_add_char(out, '@');
	} else {
		local = 0;
	}
	start = out->len;
	st = prep_domain(jid.domain, strict, out);
	if (st)
		goto fail;
	domain = out->len - start;
	if (jid.resource.p) {
		buf_add_char(out, '/');
		size_t before = out->len;
		st = prep_text(PREP_RESOURCE, jid.resource, strict, out);
		if (st || out->len == before)
			goto fail;
	}
	if (parts) {
		const char *p = buf_data(out) + had;
		*parts = (struct jid){ .domain = { p + (start - had), domain } };
		if (local)
			parts->local = (struct str){ p, local };
		if (jid.resource.p)
			parts->resource = (struct str){ p + (start - had) + domain + 1, out->len - start - domain - 1 };
	}
	return ST_OK;

fail:
	out->len = had;
	return ST_INVALID;
}

/* --- XEP-0106 --- */

static const char hidden[] = " \"&'/:<>@\\";
static const char hex[] = "0123456789abcdef";

/* The character that a sequence such as \20 at p stands for, or 0. */
static char sequence(const char *p, const char *end)
{
	if (end - p < 3 || *p != '\\')
		return 0;
	const char *high = memchr(hex, p[1], 16), *low = memchr(hex, p[2], 16);
	if (!high || !low)
		return 0;
	char c = (char)((high - hex) << 4 | (low - hex));
	return c && strchr(hidden, c) ? c : 0;
}

void jid_escape(struct str text, struct buf *out)
{
	const char *end = text.n ? text.p + text.n : text.p;
	for (const char *p = text.p; p < end; p++) {
		/* a backslash only where it would look like an escape */
		if (*p && strchr(hidden, *p) && (*p != '\\' || sequence(p, end))) {
			buf_add_char(out, '\\');
			buf_add_char(out, hex[(unsigned char)*p >> 4]);
			buf_add_char(out, hex[*p & 15]);
		} else {
			buf_add_char(out, *p);
		}
	}
}

void jid_unescape(struct str text, struct buf *out)
{
	const char *end = text.n ? text.p + text.n : text.p;
	for (const char *p = text.p; p < end; p++) {
		char c = sequence(p, end);
		buf_add_char(out, c ? c : *p);
		p += c ? 2 : 0;
	}
}
