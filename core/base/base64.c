/* SPDX-License-Identifier: MIT */
/* base64.c - RFC 4648 §4, strict. */
#include "base/base64.h"

#include <stdint.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(struct str in, struct buf *out)
{
	const unsigned char *p = (const unsigned char *)in.p;
	size_t need = (in.n + 2) / 3 * 4;
	if (!need)
		return;
	char *o = buf_room(out, need);
	for (size_t i = 0; i < in.n; i += 3) {
		size_t left = in.n - i;
		uint32_t v = (uint32_t)p[i] << 16 | (uint32_t)(left > 1 ? p[i + 1] : 0) << 8 | (left > 2 ? p[i + 2] : 0);
		*o++ = alphabet[v >> 18];
		*o++ = alphabet[v >> 12 & 63];
		*o++ = left > 1 ? alphabet[v >> 6 & 63] : '=';
		*o++ = left > 2 ? alphabet[v & 63] : '=';
	}
	buf_added(out, need);
}

static int value_of(unsigned char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

enum status base64_decode(struct str in, struct buf *out)
{
	if (in.n % 4)
		return ST_INVALID;
	if (!in.n)
		return ST_OK;
	size_t pad = in.p[in.n - 1] != '=' ? 0 : in.p[in.n - 2] != '=' ? 1 : 2;
	char *o = buf_room(out, in.n / 4 * 3);
	size_t made = 0;
	for (size_t i = 0; i < in.n; i += 4) {
		size_t here = i + 4 == in.n ? 4 - pad : 4;
		uint32_t v = 0;
		for (size_t k = 0; k < 4; k++) {
			int d = k < here ? value_of((unsigned char)in.p[i + k]) : 0;
			if (d < 0)
				return ST_INVALID;
			v = v << 6 | (uint32_t)d;
		}
		if ((here == 3 && (v & 0xff)) || (here == 2 && (v & 0xffff)))
			return ST_INVALID;      /* bits behind the last byte must be 0 */
		o[made++] = (char)(v >> 16);
		if (here > 2)
			o[made++] = (char)(v >> 8);
		if (here > 3)
			o[made++] = (char)v;
	}
	buf_added(out, made);
	return ST_OK;
}
