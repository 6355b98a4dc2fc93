/* SPDX-License-Identifier: MIT */
/* chars.c - what may stand in an XML document. */
#include "xml/chars.h"

#include <stdint.h>

/* The character at p and its length in *n; 0 if there is none that XML allows. */
static uint32_t decode(const unsigned char *p, size_t left, size_t *n)
{
	static const struct { unsigned char mask, lead; uint32_t least; } forms[] = {
		{ 0x80, 0x00, 0 }, { 0xe0, 0xc0, 0x80 }, { 0xf0, 0xe0, 0x800 }, { 0xf8, 0xf0, 0x10000 },
	};
	for (size_t len = 1; len <= 4 && len <= left; len++) {
		if ((*p & forms[len - 1].mask) != forms[len - 1].lead)
			continue;
		uint32_t c = *p & (unsigned char)~forms[len - 1].mask;
		for (size_t i = 1; i < len; i++) {
			if ((p[i] & 0xc0) != 0x80)
				return 0;
			c = c << 6 | (p[i] & 0x3f);
		}
		if (c < forms[len - 1].least || (c >= 0xd800 && c < 0xe000) || c == 0xfffe || c == 0xffff || c > 0x10ffff)
			return 0;
		if (c < 0x20 && c != '\t' && c != '\n' && c != '\r')
			return 0;
		*n = len;
		return c;
	}
	return 0;
}

bool chars_text(struct str s)
{
	const unsigned char *p = (const unsigned char *)s.p, *end = p + s.n;
	while (p < end) {
		/* Eight at once while they are printable ASCII, as nearly all are. */
		while (end - p >= 8) {
			uint64_t w;
			memcpy(&w, p, 8);
			if ((w | (w - 0x2020202020202020u)) & 0x8080808080808080u)
				break;
			p += 8;
		}
		size_t n;
		if (p == end)
			return true;
		if (!decode(p, (size_t)(end - p), &n))
			return false;
		p += n;
	}
	return true;
}

struct range { uint32_t from, to; };

static bool within(const struct range *r, size_t count, uint32_t c)
{
	for (size_t i = 0; i < count; i++)
		if (c >= r[i].from && c <= r[i].to)
			return true;
	return false;
}

static bool starts_name(uint32_t c)
{
	static const struct range r[] = {
		{ 'a', 'z' }, { 'A', 'Z' }, { '_', '_' }, { 0xc0, 0xd6 }, { 0xd8, 0xf6 }, { 0xf8, 0x2ff }, { 0x370, 0x37d },
		{ 0x37f, 0x1fff }, { 0x200c, 0x200d }, { 0x2070, 0x218f }, { 0x2c00, 0x2fef }, { 0x3001, 0xd7ff },
		{ 0xf900, 0xfdcf }, { 0xfdf0, 0xfffd }, { 0x10000, 0xeffff },
	};
	return within(r, sizeof r / sizeof *r, c);
}

static bool continues_name(uint32_t c)
{
	static const struct range r[] = {
		{ '-', '.' }, { '0', '9' }, { 0xb7, 0xb7 }, { 0x300, 0x36f }, { 0x203f, 0x2040 },
	};
	return starts_name(c) || within(r, sizeof r / sizeof *r, c);
}

bool chars_name(struct str s)
{
	/* 1: anywhere in a name, 2: not first. Nearly all names are of these. */
	static const unsigned char plain[256] = {
		['-'] = 2, ['.'] = 2, ['0'] = 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, ['_'] = 1,
		['a'] = 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
		['A'] = 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
	};
	const unsigned char *p = (const unsigned char *)s.p, *end = p + s.n;
	bool first = true, colon = false;
	while (p < end) {
		size_t n;
		if (plain[*p] == 1 || (plain[*p] && !first)) {
			first = false;
			p++;
			continue;
		}
		uint32_t c = decode(p, (size_t)(end - p), &n);
		if (c == ':' && !colon && !first)
			colon = first = true;
		else if (c && (first ? starts_name(c) : continues_name(c)))
			first = false;
		else
			return false;
		p += n;
	}
	return !first;
}
