/* SPDX-License-Identifier: MIT */
/* reader.c - bytes to element blocks. */
#include "xml/reader.h"

#include <assert.h>
#include <expat.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/nest.h"
#include "base/rand.h"
#include "xml/writer.h"
#include "xmpp/stream.h"

/* Expat joins namespace, local name and prefix with this byte, which can be in none of them. */
#define SEPARATOR '\1'
#define XML_NS "http://www.w3.org/XML/1998/namespace"

/* A block may outgrow its source (names are repeated for every use of a prefix); more than this is an attack. */
enum { GROWTH = 16, GROWTH_BASE = 64 * 1024 };

struct reader {
	XML_Parser parser;
	struct nest *nest;              /* the parser's memory */
	const struct stream_limits *limits;
	const struct reader_events *events;
	void *arg;
	enum status st;
	enum stream_condition condition;
	const char *text;
	size_t memory;                  /* held by the parser */
	size_t block_max;               /* of the element being built */
	uint32_t depth;                 /* open elements, the root included */
	uint32_t foreign;               /* of these, how many are in or below an element of another namespace */
	uint32_t elements;              /* in the element being built */
	struct buf default_ns;          /* of the root, unless given */
	bool default_given;
	struct buf root_name;           /* with its prefix, as the end tag will have it */
	struct buf names, uris;         /* what the root declares: NUL-ended prefixes and URIs, in the same order */
	uint32_t n_declared;
	struct element_builder build;
};

/* Expat's allocator knows no context, so the reader at work is known to its thread. */
static _Thread_local struct reader *at_work;

static bool may_grow(size_t by)
{
	if (!at_work->parser)
		return true;
	size_t max = at_work->limits->parser_bytes;
	return at_work->memory < max && by <= max - at_work->memory;
}

static void *counted_malloc(size_t size)
{
	if (!may_grow(size))
		return NULL;
	void *p = nest_alloc(at_work->nest, size);
	at_work->memory += nest_size(p);
	return p;
}

static void counted_free(void *p)
{
	at_work->memory -= nest_size(p);
	nest_free(at_work->nest, p);
}

static void *counted_realloc(void *p, size_t size)
{
	size_t had = nest_size(p);
	if (size > had && !may_grow(size - had))
		return NULL;
	void *q = nest_resize(at_work->nest, p, size);
	if (q)
		at_work->memory += nest_size(q) - had;
	return q;
}

/* Carried by libraries whose header may not know it yet, and the other way round. Where it is on, expat keeps complete tags back
 * that came in pieces. */
extern XML_Bool XML_SetReparseDeferralEnabled(XML_Parser, XML_Bool) __attribute__((weak));

void reader_fail(struct reader *r, enum status st, enum stream_condition condition, const char *text)
{
	if (r->st)
		return;
	r->st = st;
	r->condition = condition;
	r->text = text;
	XML_StopParser(r->parser, XML_FALSE);
}

static void invalid(struct reader *r, enum stream_condition condition, const char *text)
{
	reader_fail(r, ST_INVALID, condition, text);
}

static void too_much(struct reader *r, const char *text)
{
	reader_fail(r, ST_LIMIT, SE_POLICY_VIOLATION, text);
}

/* --- names --- */

/* "NS\1local\1prefix", "NS\1local" or "local". ns.p is NULL if there is none. */
struct name {
	struct str ns, local, prefix;
};

static struct name split(const char *text)
{
	struct name name = { .local = { text, 0 } };
	const char *a = strchrnul(text, SEPARATOR);
	if (!*a) {
		name.local.n = (size_t)(a - text);
		return name;
	}
	const char *b = strchrnul(a + 1, SEPARATOR);
	name.ns = (struct str){ text, (size_t)(a - text) };
	name.local = (struct str){ a + 1, (size_t)(b - a - 1) };
	if (*b)
		name.prefix = str_of(b + 1);
	return name;
}

/* The name of an attribute as blocks have it. Borrows text, or lies in scratch for the xml namespace. */
static struct str attr_name(const char *text, struct buf *scratch)
{
	struct name name = split(text);
	if (!name.ns.p)
		return name.local;
	if (str_eq(name.ns, STR(XML_NS))) {
		buf_eat(scratch, scratch->len);
		buf_add_text(scratch, "xml:");
		buf_add_str(scratch, name.local);
		return buf_str(scratch);
	}
	return (struct str){ text, (size_t)(name.local.p + name.local.n - text) };
}

/* --- building --- */

static bool room(struct reader *r, size_t bytes)
{
	size_t size = r->build.e ? r->build.e->size : 0;
	if (bytes < r->block_max && size <= r->block_max - bytes)
		return true;
	too_much(r, "The element is too large");
	return false;
}

static void element_begins(struct reader *r)
{
	size_t max = (size_t)r->limits->stanza_bytes * GROWTH + GROWTH_BASE;
	r->block_max = max < ELEMENT_MAX ? max : ELEMENT_MAX;
	r->elements = 0;
}

/* extra: attributes that follow those of expat. */
static bool start_tag(struct reader *r, struct str local, struct str ns, const char **attrs, uint32_t extra)
{
	uint32_t n = 0;
	size_t bytes = sizeof(struct el_node) + 16 + local.n + ns.n;
	for (; attrs[2 * n]; n++) {
		if (n >= r->limits->attributes) {
			too_much(r, "Too many attributes");
			return false;
		}
		bytes += sizeof(struct el_attr) + strlen(attrs[2 * n]) + strlen(attrs[2 * n + 1]);
	}
	if (!room(r, bytes))
		return false;
	struct buf scratch = { 0 };
	element_builder_start(&r->build, local, ns, n + extra);
	for (uint32_t i = 0; i < n; i++)
		element_builder_attr(&r->build, i, attr_name(attrs[2 * i], &scratch), str_of(attrs[2 * i + 1]));
	buf_free(&scratch);
	return true;
}

static struct str declaration(struct buf *scratch, const char *prefix)
{
	buf_eat(scratch, scratch->len);
	buf_add_text(scratch, *prefix ? "xmlns:" : "xmlns");
	buf_add_text(scratch, prefix);
	return buf_str(scratch);
}

static void root_opens(struct reader *r, struct name name, const char **attrs)
{
	if (name.prefix.n) {
		buf_add_str(&r->root_name, name.prefix);
		buf_add_char(&r->root_name, ':');
	}
	buf_add_str(&r->root_name, name.local);
	if (r->n_declared > r->limits->attributes) {
		too_much(r, "Too many attributes");
		return;
	}
	if (!room(r, r->names.len + r->uris.len + r->n_declared * (sizeof(struct el_attr) + 8)))
		return;
	if (!start_tag(r, name.local, name.ns, attrs, r->n_declared))
		return;
	uint32_t at = 0;
	while (attrs[2 * at])
		at++;
	const char *prefix = buf_data(&r->names), *uri = buf_data(&r->uris);
	struct buf scratch = { 0 };
	for (uint32_t i = 0; i < r->n_declared; i++) {
		element_builder_attr(&r->build, at + i, declaration(&scratch, prefix), str_of(uri));
		if (!*prefix && !r->default_given)
			buf_add_text(&r->default_ns, uri);
		prefix += strlen(prefix) + 1;
		uri += strlen(uri) + 1;
	}
	buf_free(&scratch);
	element_builder_end(&r->build);
	XML_SetNamespaceDeclHandler(r->parser, NULL, NULL);
	struct element *root = element_builder_take(&r->build);
	r->events->open(r->arg, &root);
	element_free(&root);
}

static void on_namespace(void *arg, const char *prefix, const char *uri)
{
	struct reader *r = arg;
	if (r->depth || r->st)
		return;
	buf_add_text(&r->names, prefix ? prefix : "");
	buf_add_char(&r->names, '\0');
	buf_add_text(&r->uris, uri ? uri : "");
	buf_add_char(&r->uris, '\0');
	r->n_declared++;
}

static void on_start(void *arg, const char *text, const char **attrs)
{
	struct reader *r = arg;
	if (r->st)
		return;
	struct name name = split(text);
	bool framed = r->events->open;
	uint32_t below = r->depth++;
	if (framed && below == 0) {
		root_opens(r, name, attrs);
		return;
	}
	if (framed && below == 1 && str_is(name.local, "stream") && str_is(name.ns, "http://etherx.jabber.org/streams")) {
		reader_fail(r, ST_INVALID, SE_BAD_FORMAT, "A stream inside a stream");
		return;
	}
	if (below - framed >= r->limits->depth || below - framed >= ELEMENT_DEPTH_MAX) {
		too_much(r, "Elements are nested too deep");
		return;
	}
	if (below == framed)
		element_begins(r);                       /* the limits may have changed since the one before */
	if (++r->elements > r->limits->children + 1) {
		too_much(r, "Too many elements");
		return;
	}
	if (r->foreign || !str_eq(name.ns, buf_str(&r->default_ns))) {
		r->foreign++;
		if (!name.ns.p)
			name.ns = STR("");
	} else {
		name.ns = (struct str){ NULL, 0 };
	}
	start_tag(r, name.local, name.ns, attrs, 0);
}

static void on_end(void *arg, const char *text)
{
	struct reader *r = arg;
	(void)text;
	if (r->st)
		return;
	bool framed = r->events->open;
	r->depth--;
	if (framed && r->depth == 0) {
		if (r->events->close)
			r->events->close(r->arg);
		return;
	}
	if (r->foreign)
		r->foreign--;
	element_builder_end(&r->build);
	if (r->build.depth)
		return;
	struct element *el = element_builder_take(&r->build);
	r->events->element(r->arg, &el);
	element_free(&el);
}

static void on_text(void *arg, const char *p, int n)
{
	struct reader *r = arg;
	if (!r->st && r->build.depth && room(r, (size_t)n + sizeof(struct el_node) + 16))
		element_builder_text(&r->build, (struct str){ p, (size_t)n });
}

/* --- what XMPP does not allow --- */

static void on_declaration(void *arg, const char *version, const char *encoding, int standalone)
{
	(void)standalone;
	if (encoding && strcasecmp(encoding, "UTF-8"))
		invalid(arg, SE_UNSUPPORTED_ENCODING, "The encoding must be UTF-8");
	else if (version && strcmp(version, "1.0"))
		invalid(arg, SE_NOT_WELL_FORMED, "The XML version must be 1.0");
}

static void on_doctype(void *arg, const char *name, const char *system_id, const char *public_id, int internal)
{
	(void)name, (void)system_id, (void)public_id, (void)internal;
	invalid(arg, SE_RESTRICTED_XML, "Document type declarations are not allowed");
}

static void on_comment(void *arg, const char *text)
{
	(void)text;
	invalid(arg, SE_RESTRICTED_XML, "Comments are not allowed");
}

static void on_instruction(void *arg, const char *target, const char *data)
{
	(void)target, (void)data;
	invalid(arg, SE_RESTRICTED_XML, "Processing instructions are not allowed");
}

/* Whether a character stands at p that is no UTF-8 (as opposed to one that XML does not allow). */
static bool bad_utf8(const unsigned char *p, size_t n)
{
	if (!n || p[0] < 0x80)
		return false;
	size_t len = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
	if (p[0] < 0xc2 || p[0] > 0xf4)
		return true;
	for (size_t i = 1; i < len; i++)
		if (i >= n || (p[i] & 0xc0) != 0x80)
			return true;
	return (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90)
		|| (p[0] == 0xf4 && p[1] > 0x8f);
}

static void parser_failed(struct reader *r)
{
	enum XML_Error code = XML_GetErrorCode(r->parser);
	int at = 0, size = 0;
	const char *context;
	switch (code) {
	case XML_ERROR_NO_MEMORY:
	case XML_ERROR_AMPLIFICATION_LIMIT_BREACH:
		too_much(r, "The XML parser needs too much memory");
		return;
	case XML_ERROR_UNKNOWN_ENCODING:
	case XML_ERROR_INCORRECT_ENCODING:
	case XML_ERROR_PARTIAL_CHAR:
		invalid(r, SE_UNSUPPORTED_ENCODING, "The encoding must be UTF-8");
		return;
	case XML_ERROR_INVALID_TOKEN:
		context = XML_GetInputContext(r->parser, &at, &size);
		if (context && at < size && bad_utf8((const unsigned char *)context + at, (size_t)(size - at))) {
			invalid(r, SE_UNSUPPORTED_ENCODING, "This is not UTF-8");
			return;
		}
		break;
	case XML_ERROR_UNDEFINED_ENTITY:
	case XML_ERROR_PARAM_ENTITY_REF:
	case XML_ERROR_RECURSIVE_ENTITY_REF:
		invalid(r, SE_RESTRICTED_XML, "Entities are not allowed");
		return;
	case XML_ERROR_MISPLACED_XML_PI:
		invalid(r, SE_RESTRICTED_XML, "Processing instructions are not allowed");
		return;
	case XML_ERROR_UNBOUND_PREFIX:
		if (r->depth == 0 && r->events->open) {
			invalid(r, SE_BAD_NAMESPACE_PREFIX, "A namespace prefix is not declared");
			return;
		}
		break;
	default:
		break;
	}
	invalid(r, SE_NOT_WELL_FORMED, XML_ErrorString(code));
}

/* --- life --- */

struct reader *reader_new(const struct stream_limits *limits, const struct reader_events *events, void *arg)
{
	static const XML_Memory_Handling_Suite counted = { counted_malloc, counted_realloc, counted_free };
	struct nest *nest = nest_new();
	struct reader *r = nest_alloc(nest, sizeof *r);
	if (!r)
		abort();
	memset(r, 0, offsetof(struct reader, build));
	r->nest = nest;
	r->build.e = NULL;
	r->build.depth = 0;
	r->limits = limits;
	r->events = events;
	r->arg = arg;
	unsigned long salt;
	struct reader *before = at_work;
	at_work = r;
	r->parser = XML_ParserCreate_MM("UTF-8", &counted, (const char[]){ SEPARATOR, '\0' });
	at_work = before;
	if (!r->parser)
		abort();                        /* out of memory: no limit holds while there is no parser */
	rand_bytes(&salt, sizeof salt);         /* expat would ask the kernel for each parser */
	XML_SetHashSalt(r->parser, salt | 1);
	XML_SetUserData(r->parser, r);
	XML_SetReturnNSTriplet(r->parser, 1);
	XML_SetElementHandler(r->parser, on_start, on_end);
	XML_SetCharacterDataHandler(r->parser, on_text);
	XML_SetXmlDeclHandler(r->parser, on_declaration);
	XML_SetStartDoctypeDeclHandler(r->parser, on_doctype);
	XML_SetCommentHandler(r->parser, on_comment);
	XML_SetProcessingInstructionHandler(r->parser, on_instruction);
	if (events->open)
		XML_SetNamespaceDeclHandler(r->parser, on_namespace, NULL);
	if (XML_SetReparseDeferralEnabled)
		XML_SetReparseDeferralEnabled(r->parser, XML_FALSE);
	element_begins(r);
	return r;
}

void reader_free(struct reader **rp)
{
	struct reader *r = *rp;
	if (!r)
		return;
	struct reader *before = at_work;
	at_work = r;
	XML_ParserFree(r->parser);
	at_work = before;
	element_builder_drop(&r->build);
	buf_free(&r->default_ns);
	buf_free(&r->root_name);
	buf_free(&r->names);
	buf_free(&r->uris);
	struct nest *nest = r->nest;
	nest_free(nest, r);
	nest_drop(&nest);
	*rp = NULL;
}

void reader_set_default_ns(struct reader *r, struct str ns)
{
	buf_free(&r->default_ns);
	buf_add_str(&r->default_ns, ns);
	r->default_given = true;
}

enum status reader_feed(struct reader *r, struct str bytes, bool last)
{
	if (r->st)
		return r->st;
	struct reader *before = at_work;
	at_work = r;
	enum XML_Status result;
	do {
		size_t n = bytes.n < INT_MAX / 4 ? bytes.n : INT_MAX / 4;
		result = XML_Parse(r->parser, bytes.p, (int)n, last && n == bytes.n);
		bytes.p += n;
		bytes.n -= n;
	} while (result == XML_STATUS_OK && bytes.n);
	if (result != XML_STATUS_OK && !r->st)
		parser_failed(r);
	at_work = before;
	return r->st;
}

enum stream_condition reader_error(const struct reader *r, const char **text)
{
	if (text)
		*text = r->text;
	return r->condition;
}

size_t reader_memory(const struct reader *r)
{
	return r->memory;
}

void reader_root(const struct reader *r, struct buf *out)
{
	assert(r->root_name.len);
	buf_add_char(out, '<');
	buf_add_str(out, buf_str(&r->root_name));
	const char *prefix = buf_data(&r->names), *uri = buf_data(&r->uris);
	struct buf name = { 0 };
	for (uint32_t i = 0; i < r->n_declared; i++) {
		writer_attr(out, declaration(&name, prefix), str_of(uri), NULL);
		prefix += strlen(prefix) + 1;
		uri += strlen(uri) + 1;
	}
	buf_free(&name);
	buf_add_char(out, '>');
}

/* --- whole documents --- */

static void keep(void *arg, struct element **el)
{
	struct element **out = arg;
	*out = *el;
	*el = NULL;
}

enum status reader_parse(struct str text, const struct stream_limits *limits, struct element **out, const char **message)
{
	static const struct reader_events events = { .element = keep };
	if (text.n > limits->stanza_bytes) {
		*message = "The document is too large";
		return ST_LIMIT;
	}
	struct element *el = NULL;
	struct reader *r = reader_new(limits, &events, &el);
	enum status st = reader_feed(r, text, true);
	if (st) {
		*message = r->text;
		element_free(&el);
	} else {
		*out = el;
	}
	reader_free(&r);
	return st;
}
