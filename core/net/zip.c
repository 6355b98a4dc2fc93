/* SPDX-License-Identifier: MIT */
/* zip.c - stream compression. Small windows: 16 + 16 KiB to deflate, 32 KiB to inflate (the peer chooses). */
#include "net/zip.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <zlib.h>

#include "base/mem.h"

struct zip {
	z_stream in, out;
};

static voidpf get(voidpf unused, uInt n, uInt size)
{
	(void)unused;
	return mem_zero((size_t)n * size);
}

static void give(voidpf unused, voidpf p)
{
	(void)unused;
	free(p);
}

struct zip *zip_new(void)
{
	struct zip *z = mem_zero(sizeof *z);
	z->in.zalloc = z->out.zalloc = get;
	z->in.zfree = z->out.zfree = give;
	int ok = inflateInit(&z->in);
	assert(ok == Z_OK);
	ok = deflateInit2(&z->out, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 12, 5, Z_DEFAULT_STRATEGY);
	assert(ok == Z_OK);
	return z;
}

void zip_free(struct zip **z)
{
	if (!*z)
		return;
	inflateEnd(&(*z)->in);
	deflateEnd(&(*z)->out);
	free(*z);
	*z = NULL;
}

enum status zip_inflate(struct zip *z, struct str *in, char *to, size_t room, size_t *got)
{
	z->in.next_in = (Bytef *)(uintptr_t)in->p;
	z->in.avail_in = (uInt)in->n;
	z->in.next_out = (Bytef *)to;
	z->in.avail_out = (uInt)room;
	int result = inflate(&z->in, Z_SYNC_FLUSH);
	in->p += in->n - z->in.avail_in;
	in->n = z->in.avail_in;
	if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)
		return ST_INVALID;
	*got = room - z->in.avail_out;
	return result == Z_STREAM_END && !*got ? ST_CLOSED : ST_OK;
}

void zip_deflate(struct zip *z, struct str in, struct buf *out)
{
	z->out.next_in = (Bytef *)(uintptr_t)in.p;
	z->out.avail_in = (uInt)in.n;
	do {
		char *to = buf_room(out, 1024);
		size_t room = out->cap - out->head - out->len;
		z->out.next_out = (Bytef *)to;
		z->out.avail_out = (uInt)room;
		deflate(&z->out, Z_SYNC_FLUSH);
		buf_added(out, room - z->out.avail_out);
	} while (!z->out.avail_out);
}
