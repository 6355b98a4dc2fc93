/* SPDX-License-Identifier: MIT */
/* scan.c - where the bytes of a stream come apart. */
#include "xml/scan.h"

enum { TEXT = 0, OPENED, TAG, DOUBLE, SINGLE, BANG, DECLARATION, CDATA };

enum {
	FAR = 4096,             /* the parser's own buffer grows with the largest run it is fed */
	REFERENCE_MAX = 32,     /* longer ones are no use to anybody */
};

static const char cdata[] = "[CDATA[";

/* Where text that goes on behind `end` may be cut: not inside a reference such as &#233; */
static const char *whole_references(const char *from, const char *end)
{
	const char *tail = end - from > REFERENCE_MAX ? end - REFERENCE_MAX : from;
	const char *amp = memrchr(tail, '&', (size_t)(end - tail));
	return amp && !memchr(amp, ';', (size_t)(end - amp)) ? amp : end;
}

/* One tag is complete. Whether an element that matters ends here. */
static bool tag_done(struct scan *sc)
{
	bool empty = sc->prev == '/';
	sc->state = TEXT;
	if (sc->closing) {
		if (sc->depth)
			sc->depth--;
		return sc->depth <= 1;
	}
	if (!empty)
		sc->depth++;
	return sc->depth <= 1;
}

enum scan_result scan_next(struct scan *sc, struct str data, size_t *at, size_t *safe)
{
	const char *p = data.p + *at, *end = data.p + data.n, *from = data.p + *safe, *hit;
	size_t room;
	enum scan_result result = SCAN_MORE;
	while (p < end && result == SCAN_MORE) {
		switch (sc->state) {
		case TEXT:
			if (*p == '<') {
				if (sc->depth == 1 && p > from) {
					result = SCAN_CUT;      /* white space before a child is not part of it */
					break;
				}
				*safe = (size_t)(p - data.p);   /* a reference kept back is no longer */
				sc->state = OPENED;
				p++;
				break;
			}
			if (sc->depth <= 1) {
				if (!memchr(" \t\r\n", *p, 4))
					return SCAN_STRAY;
				p++;
				*safe = (size_t)(p - data.p);
				break;
			}
			room = end - p > FAR ? FAR : (size_t)(end - p);
			hit = memchr(p, '<', room);
			p = hit ? hit : p + room;
			*safe = (size_t)(hit ? p - data.p : whole_references(data.p + *safe, p) - data.p);
			if (p - from > FAR)
				result = SCAN_CUT;
			break;
		case OPENED:
			sc->closing = *p == '/';
			sc->prev = 0;
			sc->matched = 0;
			sc->state = TAG;
			if (*p == '!') {
				sc->state = BANG;
				p++;
			} else if (*p == '?') {
				if (sc->begun)
					return SCAN_RESTRICTED;
				sc->state = DECLARATION;
				p++;
			}
			sc->begun = true;
			break;
		case TAG:
			while (p < end && *p != '>' && *p != '"' && *p != '\'')
				p++;
			if (p == end) {
				sc->prev = p[-1];
				break;
			}
			if (*p != '>') {
				sc->state = *p == '"' ? DOUBLE : SINGLE;
				p++;
				break;
			}
			if (p > data.p + *at)
				sc->prev = p[-1];
			p++;
			*safe = (size_t)(p - data.p);
			if (tag_done(sc) || p - from > FAR)
				result = SCAN_CUT;
			break;
		case DOUBLE:
		case SINGLE:
			hit = memchr(p, sc->state == DOUBLE ? '"' : '\'', (size_t)(end - p));
			if (hit) {
				sc->state = TAG;
				sc->prev = *hit;
			}
			p = hit ? hit + 1 : end;
			break;
		case BANG:
			if (sc->depth == 1 && *p == '[')
				return SCAN_STRAY;
			if (*p != cdata[sc->matched]) {
				if (sc->matched == 0 && (*p == '-' || *p == 'D'))
					return SCAN_RESTRICTED;
				sc->state = TAG;                /* the parser will refuse it */
				break;
			}
			p++;
			if (++sc->matched == sizeof cdata - 1) {
				sc->matched = 0;
				sc->state = CDATA;
				*safe = (size_t)(p - data.p);
			}
			break;
		case DECLARATION:
			if (*p == '>' && sc->matched) {
				sc->state = TEXT;
				*safe = (size_t)(p + 1 - data.p);
			}
			sc->matched = *p++ == '?';
			break;
		case CDATA:
			if (*p == ']') {
				sc->matched += sc->matched < 2;
			} else {
				if (*p == '>' && sc->matched == 2)
					sc->state = TEXT;
				sc->matched = 0;
			}
			p++;
			*safe = (size_t)(p - data.p);
			if (p - from > FAR)
				result = SCAN_CUT;
			break;
		}
	}
	*at = (size_t)(p - data.p);
	return result;
}
