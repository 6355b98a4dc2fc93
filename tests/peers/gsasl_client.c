/* SPDX-License-Identifier: MIT */
/* gsasl_client.c - logs in to an XMPP server with GNU SASL, over direct TLS. The gsasl command itself speaks no XMPP.
 *
 *   gsasl_client PORT HOST MECHANISM USER PASSWORD [1.2|1.3] [exporter|unique|none|wrong]
 * The last: what it knows about the channel; "wrong": data that is not this channel's. Prints what the server offered
 * ("offer …"), then "success", "success, server not proved", or the condition of the failure. */
#include <arpa/inet.h>
#include <gsasl.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static SSL *tls;
static char in[65536];

static void die(const char *what)
{
	printf("error: %s\n", what);
	exit(1);
}

static void say(const char *text)
{
	if (SSL_write(tls, text, (int)strlen(text)) <= 0)
		die("cannot write");
}

/* Reads until one of the two texts is there; what was read is in `in`. */
static void hear(const char *one, const char *other)
{
	size_t n = 0;
	in[0] = 0;
	while (!strstr(in, one) && !(other && strstr(in, other))) {
		int got = SSL_read(tls, in + n, (int)(sizeof in - 1 - n));
		if (got <= 0)
			die(n ? in : "the server has closed the connection");
		in[n += (size_t)got] = 0;
	}
}

static void hear_answer(void)
{
	size_t n = 0;
	in[0] = 0;
	for (;;) {
		int got = SSL_read(tls, in + n, (int)(sizeof in - 1 - n));
		if (got <= 0)
			die(n ? in : "the server has closed the connection");
		in[n += (size_t)got] = 0;
		static const char *const ends[] = { "</failure>", "</success>", "</challenge>", "/>" };
		for (int i = 0; i < 4; i++)
			if (strstr(in, ends[i]) && (i < 3 || !strstr(in, "<failure")))
				return;
	}
}

static void connect_to(int port, const char *host, const char *version)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
		die("cannot connect");
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	int v = strcmp(version, "1.2") ? TLS1_3_VERSION : TLS1_2_VERSION;
	SSL_CTX_set_min_proto_version(ctx, v);
	SSL_CTX_set_max_proto_version(ctx, v);
	tls = SSL_new(ctx);
	SSL_set_alpn_protos(tls, (const unsigned char *)"\013xmpp-client", 12);
	SSL_set_tlsext_host_name(tls, host);
	SSL_set_fd(tls, fd);
	if (SSL_connect(tls) != 1)
		die("no TLS");
}

static void bind_channel(Gsasl_session *s, const char *how)
{
	unsigned char data[64];
	char *coded;
	size_t n = 32;
	if (!strcmp(how, "none"))
		return;
	memset(data, 'x', sizeof data);
	if (!strcmp(how, "exporter"))
		SSL_export_keying_material(tls, data, n, "EXPORTER-Channel-Binding", 24, NULL, 0, 0);
	if (!strcmp(how, "unique"))
		n = SSL_get_finished(tls, data, sizeof data);
	if (gsasl_base64_to((char *)data, n, &coded, NULL) != GSASL_OK)
		die("base64");
	gsasl_property_set(s, strcmp(how, "unique") ? GSASL_CB_TLS_EXPORTER : GSASL_CB_TLS_UNIQUE, coded);
	free(coded);
}

/* The text of the first such element in `in`, NULL if there is none. */
static char *content(const char *name)
{
	char *p = strstr(in, name), *start = p ? strchr(p, '>') : NULL;
	if (!start || start[-1] == '/')
		return p ? strdup("") : NULL;
	size_t n = strcspn(start + 1, "<");
	return strndup(start + 1, n);
}

int main(int argc, char **argv)
{
	if (argc < 6)
		return 2;
	const char *host = argv[2], *mech = argv[3];
	char text[8192], *out = NULL;
	connect_to(atoi(argv[1]), host, argc > 6 ? argv[6] : "1.3");
	snprintf(text, sizeof text, "<stream:stream to='%s' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>", host);
	say(text);
	hear("</stream:features>", "stream:error");
	printf("offer");
	for (char *p = in; (p = strstr(p, "<mechanism>")); p++)
		printf(" %.*s", (int)strcspn(p + 11, "<"), p + 11);
	for (char *p = in; (p = strstr(p, "type='tls-")); p++)
		printf(" %.*s", (int)strcspn(p + 6, "'"), p + 6);
	printf("\n");

	Gsasl *ctx;
	Gsasl_session *session;
	if (gsasl_init(&ctx) != GSASL_OK || gsasl_client_start(ctx, mech, &session) != GSASL_OK)
		die("GNU SASL does not know this mechanism");
	gsasl_property_set(session, GSASL_AUTHID, argv[4]);
	gsasl_property_set(session, GSASL_PASSWORD, argv[5]);
	gsasl_property_set(session, GSASL_SERVICE, "xmpp");
	gsasl_property_set(session, GSASL_HOSTNAME, host);
	gsasl_property_set(session, GSASL_ANONYMOUS_TOKEN, "somebody");
	bind_channel(session, argc > 7 ? argv[7] : "none");

	int code = GSASL_NEEDS_MORE;
	const char *format = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='%s'>%s</auth>";
	if (!strcmp(mech, "DIGEST-MD5")) {
		snprintf(text, sizeof text, "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='%s'/>", mech);
	} else {
		code = gsasl_step64(session, NULL, &out);
		if (code != GSASL_OK && code != GSASL_NEEDS_MORE)
			die(gsasl_strerror(code));
		snprintf(text, sizeof text, format, mech, *out ? out : "=");
	}
	for (;;) {
		say(text);
		hear_answer();
		if (strstr(in, "<failure")) {
			char *p = strstr(in, "xmpp-sasl'>");
			printf("%.*s\n", p ? (int)strcspn(p + 12, " />") : 0, p ? p + 12 : "");
			return 0;
		}
		char *data = content(strstr(in, "<success") ? "<success" : "<challenge");
		if (!data)
			die(in);
		if (strstr(in, "<success")) {
			if (code == GSASL_NEEDS_MORE)
				code = gsasl_step64(session, data, &out);
			printf("%s\n", code == GSASL_OK ? "success" : "success, server not proved");
			return 0;
		}
		code = gsasl_step64(session, data, &out);
		if (code != GSASL_OK && code != GSASL_NEEDS_MORE)
			die(gsasl_strerror(code));
		snprintf(text, sizeof text, "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>%s</response>", out);
	}
}
