/* SPDX-License-Identifier: MIT */
/* test_bind_crypto.c - crypto and SASL in Lua when memory runs out: no leak, no crash, and the same result at last. */
#include "base/status.h"
#include "bind/bind.h"
#include "check.h"
#include "starve.h"

/* Of juliet@capulet.example, until 2125. */
static const char certificate[] =
	"-----BEGIN CERTIFICATE-----\n"
	"MIIB4DCCAYegAwIBAgIUPGoaAoHe+05ptgXvLv/bRBkLQpIwCgYIKoZIzj0EAwIw\n"
	"IzEPMA0GA1UEAwwGanVsaWV0MRAwDgYDVQQKDAdDYXB1bGV0MCAXDTI2MTEyMjEw\n"
	"MjUyMloYDzIxMjYxMDI5MTAyNTIyWjAjMQ8wDQYDVQQDDAZqdWxpZXQxEDAOBgNV\n"
	"BAoMB0NhcHVsZXQwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQglxlJcOK0GmKE\n"
	"2YdBcApjGuvBE5INOjk69om9/LNxHeMJETIBbmIP8vg7gmScrLFQdZ2fKE+WVq1f\n"
	"tFQpn8yAo4GWMIGTMB0GA1UdDgQWBBSDwvt6MmjyFxhejmPkCFsfdkntLzAfBgNV\n"
	"HSMEGDAWgBSDwvt6MmjyFxhejmPkCFsfdkntLzAPBgNVHRMBAf8EBTADAQH/MEAG\n"
	"A1UdEQQ5MDeCD2NhcHVsZXQuZXhhbXBsZaAkBggrBgEFBQcIBaAYDBZqdWxpZXRA\n"
	"Y2FwdWxldC5leGFtcGxlMAoGCCqGSM49BAMCA0cAMEQCIHa7nj/t6sAzmLeSeDye\n"
	"6wWqhPXmwlYpR5yeaP1qFnJ0AiAVDi0WwraNlkvbQx3BD560xmWhJVEqwNIR7LSU\n"
	"xb6w9g==\n"
	"-----END CERTIFICATE-----\n";

static const char setup[] =
	"big = ('x'):rep(5000)\n"
	"key = crypto.generate_p256_keypair()\n"
	"keys = { crypto.sha1 'stored', crypto.sha1 'server' }\n";

static lua_State *new_state(void)
{
	lua_State *L = starve_new();
	bind_crypto_open(L);
	lua_setglobal(L, "crypto");
	bind_sasl_open(L);
	lua_setglobal(L, "sasl");
	if (luaL_dostring(L, setup))
		printf("%s\n", lua_tostring(L, -1));
	lua_pushstring(L, certificate);
	lua_setglobal(L, "pem");
	lua_settop(L, 0);
	return L;
}

static void memory_runs_out(void)
{
	static const struct { const char *code, *want; } rows[] = {
		{ "return crypto.sha256(crypto.random_bytes(7000)) and crypto.md5('abc', true)", "900150983cd24fb0d6963f7d28e17f72" },
		{ "return crypto.base64_decode(crypto.base64_encode(big)) == big and crypto.base64url_decode(crypto.base64url_encode 'a>?')", "a>?" },
		{ "return crypto.hex_decode(crypto.hex_encode(big)) == big and crypto.base64_decode_lenient ' YQ '", "a" },
		{ "local k, iv = ('k'):rep(32), ('i'):rep(12) return crypto.aes_256_gcm_decrypt(k, iv, crypto.aes_256_gcm_encrypt(k, iv, big)) == big"
		  " and crypto.hex_encode(crypto.hkdf('sha256', 'a', 4))", "25d34460" },
		{ "local s = crypto.ecdsa_sha256_sign(crypto.import_private_pem(key:private_pem()), big)"
		  " s = crypto.build_ecdsa_signature(crypto.parse_ecdsa_signature(s))"
		  " return tostring(crypto.ecdsa_sha256_verify(crypto.import_public_pem(key:public_pem()), big, s))", "true" },
		{ "local c = crypto.x509_parse(pem) return c.subject[1].value .. c.dns_names[1] .. c.xmpp_addrs[1] .. #c.serial"
		  " .. tostring(c.pem == pem)", "julietcapulet.examplejuliet@capulet.example40true" },
		{ "return tostring(crypto.der2pem(crypto.pem2der(pem)) == pem)", "true" },
		{ "return (select(2, crypto.x509_parse 'x'))", NULL },
		{ "return sasl.peek('SCRAM-SHA-1', 'p=tls-unique,a=x,n=juliet,r=abc').binding", "tls-unique" },
		{ "local x <close> = sasl.new('SCRAM-SHA-1', 'h') x:bind('tls-unique', 'd', true)"
		  " local _, d = x:step('n,,n=juliet,r=abc', { username = 'juliet', state = 'enabled', hash = 'sha1', stored_key = keys[1],"
		  " server_key = keys[2], salt = 's', iterations = 4, secret = 'x' })"
		  " return d:sub(1, 5) .. x:step('c=biws')", "r=abcfailure" },
		{ "local x = sasl.new('PLAIN', 'h') local s, d, n = x:step('\\0juliet\\0x', { username = 'juliet', state = 'enabled', right = true })"
		  " x:close() return s .. n", "successjuliet" },
	};
	for (int i = 0; i < COUNT(rows); i++) {
		lua_State *L = new_state();
		int status = starve_run(L, rows[i].code);
		const char *got = lua_tostring(L, -1);
		CHECK_ROW(i, status == LUA_OK);
		CHECK_ROW(i, got && (!rows[i].want || !strcmp(got, rows[i].want)));
		if (!got || (rows[i].want && strcmp(got, rows[i].want) != 0))
			printf("row %d: got %s\n", i, got ? got : "nothing");
		lua_close(L);
	}
}

int main(void)
{
	RUN(memory_runs_out);
	return check_done();
}
