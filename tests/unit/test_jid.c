/* SPDX-License-Identifier: MIT */
/* test_jid.c - addresses: cutting, preparing, escaping. */
#include "xmpp/jid.h"

#include <stdio.h>

#include "check.h"
#include "xmpp/prep.h"

#define E_ACUTE "\xc3\xa9"

static bool is_or_absent(struct str part, const char *want)
{
	return want ? part.p && str_is(part, want) : !part.p;
}

static void split(void)
{
	static const struct { const char *text, *local, *domain, *resource; enum status want; } rows[] = {
		{ "juliet@capulet.example", "juliet", "capulet.example", NULL,    ST_OK },
		{ "capulet.example",        NULL,     "capulet.example", NULL,    ST_OK },
		{ "a@b/c@d/e",              "a",      "b",               "c@d/e", ST_OK },  /* RFC 7622 §3.2 */
		{ "b/c@d",                  NULL,     "b",               "c@d",   ST_OK },
		{ "b//",                    NULL,     "b",               "/",     ST_OK },
		{ "@capulet.example",       NULL,     NULL,              NULL,    ST_INVALID },
		{ "a@",                     NULL,     NULL,              NULL,    ST_INVALID },
		{ "a@/c",                   NULL,     NULL,              NULL,    ST_INVALID },
		{ "b/",                     NULL,     NULL,              NULL,    ST_INVALID },
		{ "a@b/",                   NULL,     NULL,              NULL,    ST_INVALID },
		{ "/c",                     NULL,     NULL,              NULL,    ST_INVALID },
		{ "@",                      NULL,     NULL,              NULL,    ST_INVALID },
		{ "a@b@c",                  NULL,     NULL,              NULL,    ST_INVALID },
		{ "",                       NULL,     NULL,              NULL,    ST_INVALID },
	};
	for (int i = 0; i < COUNT(rows); i++) {
		struct jid jid = { 0 };
		CHECK_ROW(i, jid_split(str_of(rows[i].text), &jid) == rows[i].want);
		CHECK_ROW(i, is_or_absent(jid.local, rows[i].local));
		CHECK_ROW(i, is_or_absent(jid.domain, rows[i].domain));
		CHECK_ROW(i, is_or_absent(jid.resource, rows[i].resource));
	}
}

/* want NULL: refused */
static void check_text(int row, enum prep_profile profile, const char *text, bool strict, const char *want)
{
	struct buf out = { 0 };
	buf_add_text(&out, "had");
	enum status st = prep_text(profile, str_of(text), strict, &out);
	CHECK_ROW(row, (st == ST_OK) == (want != NULL));
	CHECK_ROW(row, !memcmp(buf_data(&out), "had", 3));
	buf_eat(&out, 3);
	CHECK_ROW(row, str_eq(buf_str(&out), str_of(want)));
	if (want) {
		CHECK_ROW(row, !prep_is_clean(profile, str_of(text)) || str_is(buf_str(&out), text));
		struct buf again = { 0 };
		CHECK_ROW(row, prep_text(profile, buf_str(&out), strict, &again) == ST_OK);
		CHECK_ROW(row, str_eq(buf_str(&out), buf_str(&again)));
		buf_free(&again);
	}
	buf_free(&out);
}

static void profiles(void)
{
	static const struct { enum prep_profile profile; const char *text; bool strict; const char *want; } rows[] = {
		{ PREP_NODE, "Juliet", false, "juliet" },
		{ PREP_NODE, "juliet", true, "juliet" },
		{ PREP_NODE, "", false, "" },
		{ PREP_NODE, "a b", false, NULL },
		{ PREP_NODE, "a\"b", false, NULL },
		{ PREP_NODE, "a&b", false, NULL },
		{ PREP_NODE, "a'b", false, NULL },
		{ PREP_NODE, "a/b", false, NULL },
		{ PREP_NODE, "a:b", false, NULL },
		{ PREP_NODE, "a<b", false, NULL },
		{ PREP_NODE, "a>b", false, NULL },
		{ PREP_NODE, "a@b", false, NULL },
		{ PREP_NODE, "a\x01", false, NULL },
		{ PREP_NODE, "a\x7f", false, NULL },
		{ PREP_NODE, "!#$%()*+,-.;=?[\\]^_`{|}~", false, "!#$%()*+,-.;=?[\\]^_`{|}~" },
		{ PREP_NODE, "\xc3\x89T" E_ACUTE, false, E_ACUTE "t" E_ACUTE },
		{ PREP_NODE, "e\xcc\x81", false, E_ACUTE },                              /* composed */
		{ PREP_NODE, "stra\xc3\x9f" "e", false, "strasse" },                     /* folded */
		{ PREP_NODE, "\xef\xbc\xa1", false, "a" },                               /* full width A */
		{ PREP_NODE, "\xef\xbc\xa0", false, NULL },                              /* full width @ */
		{ PREP_NODE, "a\xc2\xad" "b", false, "ab" },                             /* soft hyphen vanishes */
		{ PREP_NODE, "a\xc2\xa0" "b", false, NULL },                             /* no-break space */
		{ PREP_NODE, "\xf0\x9f\x98\x80", false, "\xf0\x9f\x98\x80" },            /* not in Unicode 3.2 */
		{ PREP_NODE, "\xf0\x9f\x98\x80", true, NULL },
		{ PREP_NODE, "\xff", false, NULL },
		{ PREP_NODE, "\xed\xa0\x80", false, NULL },
		{ PREP_NODE, "\xc0\xaf", false, NULL },
		{ PREP_NODE, "\xe2\x82", false, NULL },
		{ PREP_NODE, "\xef\xbf\xbe", false, NULL },                              /* noncharacter */
		{ PREP_NODE, "\xd7\x90" "a", false, NULL },                              /* mixed directions */
		{ PREP_NAME, "Capulet.EXAMPLE", false, "capulet.example" },
		{ PREP_NAME, "\xc3\x89", false, E_ACUTE },
		{ PREP_RESOURCE, "Balcony / 2", false, "Balcony / 2" },
		{ PREP_RESOURCE, "\xc3\x89", false, "\xc3\x89" },
		{ PREP_RESOURCE, "a\nb", false, NULL },
		{ PREP_RESOURCE, "a\xe2\x80\xa8", false, NULL },                         /* line separator */
		{ PREP_RESOURCE, "\xe2\x85\xa3", false, "IV" },                          /* roman four */
		{ PREP_SASL, "I\xc2\xadX", true, "IX" },                                 /* RFC 4013 §3 */
		{ PREP_SASL, "user", true, "user" },
		{ PREP_SASL, "USER", true, "USER" },
		{ PREP_SASL, "\xc2\xaa", true, "a" },
		{ PREP_SASL, "\xe2\x85\xa8", true, "IX" },
		{ PREP_SASL, "\x07", true, NULL },
		{ PREP_SASL, "\xd8\xa7\x31", true, NULL },
		{ PREP_SASL, "a\xc2\xa0" "b", true, "a b" },
	};
	for (int i = 0; i < COUNT(rows); i++)
		check_text(i, rows[i].profile, rows[i].text, rows[i].strict, rows[i].want);
	struct buf long_text = { 0 }, out = { 0 };
	for (int i = 0; i < PREP_MAX; i++)
		buf_add_char(&long_text, 'A');
	CHECK(prep_text(PREP_NODE, buf_str(&long_text), true, &out) == ST_OK && out.len == PREP_MAX);
	buf_add_char(&long_text, 'A');
	CHECK(prep_text(PREP_NODE, buf_str(&long_text), true, &out) == ST_LIMIT && out.len == PREP_MAX);
	buf_free(&long_text);
	buf_free(&out);
	for (int i = 0; i < 400; i++)                   /* 800 bytes become 3200: one letter each of 18 */
		buf_add_text(&long_text, "\xc7\xb0");       /* j with caron: decomposes when folded */
	for (int i = 0; i < 70; i++)
		buf_add_text(&long_text, "\xef\xb7\xba");   /* U+FDFA: 18 letters */
	CHECK(prep_text(PREP_RESOURCE, buf_str(&long_text), false, &out) != ST_OK && out.len == 0);
	buf_free(&long_text);
	buf_free(&out);
	/* a NUL inside is a character like any other forbidden one */
	CHECK(prep_text(PREP_NODE, (struct str){ "a\0b", 3 }, false, &out) == ST_INVALID);
	CHECK(prep_text(PREP_RESOURCE, (struct str){ "\xc3\xa9\0b", 4 }, false, &out) == ST_INVALID);
	buf_free(&out);
}

static void domains(void)
{
	static const char label63[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
	static const struct { const char *text, *unicode, *ascii; } rows[] = {
		{ "capulet.example", "capulet.example", "capulet.example" },
		{ "Capulet.Example.", "capulet.example", "capulet.example" },
		{ "localhost", "localhost", "localhost" },
		{ "_xmpp.a-b.example", "_xmpp.a-b.example", "_xmpp.a-b.example" },
		{ "r3---sn-x.example", "r3---sn-x.example", "r3---sn-x.example" },
		{ "127.0.0.1", "127.0.0.1", "127.0.0.1" },
		{ "[::1]", "[::1]", "[::1]" },
		{ "[2001:DB8:0:0::1]", "[2001:db8::1]", "[2001:db8::1]" },
		{ "[::1", NULL, NULL },
		{ "[127.0.0.1]", NULL, NULL },
		{ "::1", NULL, NULL },
		{ "", NULL, NULL },
		{ ".", NULL, NULL },
		{ "..", NULL, NULL },
		{ "a..b", NULL, NULL },
		{ ".a", NULL, NULL },
		{ "a..", NULL, NULL },
		{ "a b", NULL, NULL },
		{ "a/b", NULL, NULL },
		{ "a@b", NULL, NULL },
		{ "-a", NULL, NULL },
		{ "a-.b", NULL, NULL },
		{ "a\x01", NULL, NULL },
		{ "b" E_ACUTE "b" E_ACUTE ".example", "b" E_ACUTE "b" E_ACUTE ".example", "xn--bb-bjab.example" },
		{ "B\xc3\x89" "B" E_ACUTE ".Example", "b" E_ACUTE "b" E_ACUTE ".example", "xn--bb-bjab.example" },
		{ "xn--bb-bjab.example", "b" E_ACUTE "b" E_ACUTE ".example", "xn--bb-bjab.example" },
		{ "XN--BB-BJAB.example.", "b" E_ACUTE "b" E_ACUTE ".example", "xn--bb-bjab.example" },
		{ "stra\xc3\x9f" "e.example", "stra\xc3\x9f" "e.example", "xn--strae-oqa.example" },    /* not transitional */
		{ "a\xe3\x80\x82" "b", "a.b", "a.b" },                                          /* ideographic full stop */
		{ "a\xef\xbc\x8f" "b", NULL, NULL },                                            /* full width / */
		{ "a\xef\xbc\xa0" "b", NULL, NULL },                                            /* full width @ */
		{ E_ACUTE "..b", NULL, NULL },
		{ "xn--", NULL, NULL },
		{ "xn--a", NULL, NULL },
		{ "xn--zzzzzzzzzzzz", NULL, NULL },
		{ "\xff.example", NULL, NULL },
		{ label63, label63, label63 },
		{ "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL, NULL },
		{ E_ACUTE "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL, NULL },
	};
	for (int i = 0; i < COUNT(rows); i++) {
		struct buf out = { 0 };
		CHECK_ROW(i, (prep_domain(str_of(rows[i].text), false, &out) == ST_OK) == (rows[i].unicode != NULL));
		CHECK_ROW(i, str_eq(buf_str(&out), str_of(rows[i].unicode)));
		buf_free(&out);
		CHECK_ROW(i, (prep_to_unicode(str_of(rows[i].text), &out) == ST_OK) == (rows[i].unicode != NULL));
		CHECK_ROW(i, str_eq(buf_str(&out), str_of(rows[i].unicode)));
		buf_free(&out);
		CHECK_ROW(i, (prep_to_ascii(str_of(rows[i].text), &out) == ST_OK) == (rows[i].ascii != NULL));
		CHECK_ROW(i, str_eq(buf_str(&out), str_of(rows[i].ascii)));
		buf_free(&out);
	}
	struct buf out = { 0 };
	CHECK(prep_domain(STR("\xea\x9d\xaf.example"), false, &out) == ST_OK);      /* U+A76F, newer than Unicode 3.2 */
	buf_free(&out);
	CHECK(prep_domain(STR("\xea\x9d\xaf.example"), true, &out) == ST_INVALID);
	buf_free(&out);
}

static void prep(void)
{
	static const struct { const char *text, *want, *local, *domain, *resource; } rows[] = {
		{ "Juliet@Capulet.example/Balcony", "juliet@capulet.example/Balcony", "juliet", "capulet.example", "Balcony" },
		{ "juliet@capulet.example", "juliet@capulet.example", "juliet", "capulet.example", NULL },
		{ "Capulet.example./x", "capulet.example/x", NULL, "capulet.example", "x" },
		{ "\xc3\x89@\xc3\x89.example/\xc3\x89", E_ACUTE "@" E_ACUTE ".example/\xc3\x89", E_ACUTE, E_ACUTE ".example", "\xc3\x89" },
		{ "a@[::1]/x", "a@[::1]/x", "a", "[::1]", "x" },
		{ "\xc2\xad@b", NULL, NULL, NULL, NULL },           /* nothing is left of the local part */
		{ "a@b/\xc2\xad", NULL, NULL, NULL, NULL },
		{ "a b@c", NULL, NULL, NULL, NULL },
		{ "a@b c", NULL, NULL, NULL, NULL },
		{ "a@b/\x01", NULL, NULL, NULL, NULL },
		{ "a@b/", NULL, NULL, NULL, NULL },
		{ "@b", NULL, NULL, NULL, NULL },
	};
	for (int i = 0; i < COUNT(rows); i++) {
		struct buf out = { 0 };
		struct jid jid = { 0 };
		buf_add_text(&out, "had");
		CHECK_ROW(i, (jid_prep(str_of(rows[i].text), false, &out, &jid) == ST_OK) == (rows[i].want != NULL));
		buf_eat(&out, 3);
		CHECK_ROW(i, str_eq(buf_str(&out), str_of(rows[i].want)));
		CHECK_ROW(i, is_or_absent(jid.local, rows[i].local));
		CHECK_ROW(i, is_or_absent(jid.domain, rows[i].domain));
		CHECK_ROW(i, is_or_absent(jid.resource, rows[i].resource));
		struct jid raw;
		if (jid_split(str_of(rows[i].text), &raw) == ST_OK && jid_is_clean(&raw))
			CHECK_ROW(i, str_eq(buf_str(&out), str_of(rows[i].text)));
		buf_free(&out);
	}
	static const struct { const char *text; bool clean; } clean[] = {
		{ "a@b/c", true }, { "a@b.c-d.e", true }, { "a@127.0.0.1", true }, { "A@b", false }, { "a@B", false }, { "a@b.", false },
		{ "a@-b", false }, { "a@b-", false }, { "a@b-.c", false }, { "a@xn--b", false }, { "a@b..c", false }, { "a@.b", false },
		{ "a@b/\xc3\xa9", false }, { "a@[::1]", false }, { "a@b/x y", true },
	};
	for (int i = 0; i < COUNT(clean); i++) {
		struct jid raw;
		CHECK_ROW(i, jid_split(str_of(clean[i].text), &raw) == ST_OK && jid_is_clean(&raw) == clean[i].clean);
	}
}

static void escaping(void)
{
	static const struct { const char *plain, *escaped; } rows[] = {         /* XEP-0106 §5 */
		{ "space cadet", "space\\20cadet" }, { "call me \"ishmael\"", "call\\20me\\20\\22ishmael\\22" },
		{ "at&t guy", "at\\26t\\20guy" }, { "d'artagnan", "d\\27artagnan" }, { "/.fanboy", "\\2f.fanboy" },
		{ "::foo::", "\\3a\\3afoo\\3a\\3a" }, { "<foo>", "\\3cfoo\\3e" }, { "user@host", "user\\40host" },
		{ "c:\\net", "c\\3a\\net" }, { "c:\\\\net", "c\\3a\\\\net" }, { "c:\\cool stuff", "c\\3a\\cool\\20stuff" },
		{ "c:\\5commas", "c\\3a\\5c5commas" }, { "treeville", "treeville" }, { "\\", "\\" }, { "\\2", "\\2" },
		{ "\\20", "\\5c20" }, { "\\00", "\\00" }, { "", "" },
	};
	for (int i = 0; i < COUNT(rows); i++) {
		struct buf out = { 0 };
		jid_escape(str_of(rows[i].plain), &out);
		CHECK_ROW(i, str_is(buf_str(&out), rows[i].escaped));
		buf_free(&out);
		jid_unescape(str_of(rows[i].escaped), &out);
		CHECK_ROW(i, str_is(buf_str(&out), rows[i].plain));
		buf_free(&out);
	}
}

static void utf8(void)
{
	static const struct { const char *text; long want; } rows[] = {
		{ "", 0 }, { "abc", 3 }, { E_ACUTE, 1 }, { "\xe2\x82\xac", 1 }, { "\xf0\x9f\x98\x80x", 2 }, { "\xf4\x8f\xbf\xbf", 1 },
		{ "\xf4\x90\x80\x80", -1 }, { "\xc0\x80", -1 }, { "\xc1\xbf", -1 }, { "\xe0\x9f\xbf", -1 }, { "\xed\xa0\x80", -1 },
		{ "\xf0\x8f\xbf\xbf", -1 }, { "\xc3", -1 }, { "\xe2\x82", -1 }, { "\x80", -1 }, { "\xff", -1 }, { "\xc3(", -1 },
	};
	for (int i = 0; i < COUNT(rows); i++)
		CHECK_ROW(i, prep_utf8_length(str_of(rows[i].text)) == rows[i].want);
}

int main(void)
{
	RUN(split);
	RUN(profiles);
	RUN(domains);
	RUN(prep);
	RUN(escaping);
	RUN(utf8);
	return check_done();
}
