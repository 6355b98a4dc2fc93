/* SPDX-License-Identifier: MIT */
/* cyrus.c - Cyrus SASL as a library and nothing else: its options, plugins, locks and questions are answered here.
 *
 * Order matters: locks, then sasl_server_init, then our auxprop plugin and our mechanisms; the plugin lists are globals without
 * a lock, so all of it happens before an exchange runs. VERIFYFILE keeps every plugin we don't want from being loaded at all. */
#include "sasl/cyrus.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "sasl/mech_ht.h"
#include "sasl/mech_scram.h"

static enum { NEW, OPEN, BROKEN } state;

/* --- locks --- */

static void *lock_new(void)
{
	pthread_mutex_t *lock = mem_alloc(sizeof *lock);
	pthread_mutex_init(lock, NULL);
	return lock;
}

static int lock_take(void *lock)
{
	return pthread_mutex_lock(lock);
}

static int lock_leave(void *lock)
{
	return pthread_mutex_unlock(lock);
}

static void lock_free(void *lock)
{
	pthread_mutex_destroy(lock);
	free(lock);
}

/* --- options and files --- */

static const char *const mechanisms[] = {
	"SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", "DIGEST-MD5", "PLAIN", "EXTERNAL", "ANONYMOUS",
	"HT-SHA-256-NONE", "HT-SHA-256-EXPR", "HT-SHA-256-ENDP", "HT-SHA-256-UNIQ",
};

static int get_option(void *context, const char *plugin, const char *option, const char **result, unsigned *len)
{
	static const struct { const char *option, *value; } options[] = {
		{ "auxprop_plugin", "couplet" },
		{ "mech_list", "SCRAM-SHA-512 SCRAM-SHA-256 SCRAM-SHA-1 DIGEST-MD5 PLAIN EXTERNAL ANONYMOUS "
			"HT-SHA-256-NONE HT-SHA-256-EXPR HT-SHA-256-ENDP HT-SHA-256-UNIQ" },
		{ "pwcheck_method", "couplet" },        /* no such: whom our own check refuses, nobody else is asked about */
		{ "reauth_timeout", "0" },
		{ "log_level", "2" },
	};
	for (int i = 0; i < COUNT(options); i++) {
		if (strcmp(option, options[i].option) != 0)
			continue;
		*result = options[i].value;
		if (len)
			*len = (unsigned)strlen(*result);
		return SASL_OK;
	}
	return SASL_FAIL;
}

/* Called once. Versions of Cyrus disagree on who owns the path: it is memory that may be freed, and no leak if it is not. */
static int config_path(void *context, char **path)
{
	static char *volatile kept;
	*path = kept = strdup("/nonexistent");
	return *path ? SASL_OK : SASL_NOMEM;
}

static int verify_file(void *context, const char *file, sasl_verify_type_t type)
{
	static const char *const wanted[] = { "libplain.", "libdigestmd5.", "libanonymous." };
	const char *base = strrchr(file, '/');
	base = base ? base + 1 : file;
	if (type == SASL_VRFY_PLUGIN)
		for (int i = 0; i < COUNT(wanted); i++)
			if (!strncmp(base, wanted[i], strlen(wanted[i])))
				return SASL_OK;
	return SASL_CONTINUE;                   /* leave this file alone, go on */
}

static int write_log(void *context, int level, const char *text)
{
	if (level == SASL_LOG_ERR && state != OPEN)
		log_warn("sasl", "%s", text);           /* later ones are about what clients send */
	else if (level != SASL_LOG_PASS && level != SASL_LOG_TRACE)
		log_debug("sasl", "%s", text);
	return SASL_OK;
}

/* --- an account's properties, for the mechanisms --- */

struct cyrus_context *cyrus_context(const sasl_utils_t *utils)
{
	sasl_callback_ft fn;
	void *context;
	return utils->getcallback(utils->conn, CYRUS_SELF, &fn, &context) == SASL_OK ? context : NULL;
}

static int lookup(void *glob, sasl_server_params_t *params, unsigned flags, const char *user, unsigned len)
{
	const sasl_utils_t *utils = params->utils;
	const struct cyrus_context *ctx = cyrus_context(utils);
	if (!ctx || !ctx->credentials || flags & SASL_AUXPROP_AUTHZID)
		return SASL_OK;
	for (const struct propval *p = utils->prop_get(params->propctx); p && p->name; p++) {
		if (p->values)
			continue;
		if (!strcmp(p->name, "*cmusaslsecretDIGEST-MD5") && ctx->credentials->has_ha1)
			utils->prop_set(params->propctx, p->name, (const char *)ctx->credentials->ha1, sizeof ctx->credentials->ha1);
	}
	return SASL_OK;
}

static sasl_auxprop_plug_t auxprop = { .auxprop_lookup = lookup, .name = "couplet" };

static int auxprop_init(const sasl_utils_t *utils, int max, int *version, sasl_auxprop_plug_t **plug, const char *name)
{
	if (max < SASL_AUXPROP_PLUG_VERSION)
		return SASL_BADVERS;
	*version = SASL_AUXPROP_PLUG_VERSION;
	*plug = &auxprop;
	return SASL_OK;
}

/* --- questions about one exchange --- */

/* Whatever the client calls itself, the account is the one whose credentials were fetched (sasl_peek.h says why that is
 * enough). */
static int canon_user(sasl_conn_t *conn, void *context, const char *in, unsigned n, unsigned flags, const char *realm,
	char *out, unsigned max, unsigned *len)
{
	const struct cyrus_context *ctx = context;
	const char *name = ctx->anonymous ? "anonymous" : ctx->credentials ? ctx->credentials->name : "";
	size_t size = strlen(name);
	if (!size || size >= max)
		return SASL_BADPROT;
	memcpy(out, name, size + 1);
	*len = (unsigned)size;
	return SASL_OK;
}

static int check_password(sasl_conn_t *conn, void *context, const char *user, const char *password, unsigned n,
	struct propctx *props)
{
	const struct credentials *c = ((const struct cyrus_context *)context)->credentials;
	return c && c->right && c->account != ACCOUNT_UNKNOWN ? SASL_OK : SASL_BADAUTH;
}

static int self(void)
{
	return SASL_FAIL;                       /* nobody calls it; Cyrus wants a function with every id */
}

typedef void (*any)(void);                 /* C has no other way to say: any function */
typedef int (*callback)(void);

void cyrus_callbacks(struct cyrus_context *context, sasl_callback_t out[CYRUS_CALLBACKS])
{
	out[0] = (sasl_callback_t){ CYRUS_SELF, self, context };
	out[1] = (sasl_callback_t){ SASL_CB_CANON_USER, (callback)(any)canon_user, context };
	out[2] = (sasl_callback_t){ SASL_CB_SERVER_USERDB_CHECKPASS, (callback)(any)check_password, context };
	out[3] = (sasl_callback_t){ SASL_CB_LIST_END, NULL, NULL };
}

/* --- start --- */

static const char *present[COUNT(mechanisms) + 1];

/* What Cyrus lists for a connection that could use everything. */
static void list_mechanisms(void)
{
	sasl_conn_t *conn;
	const char *list = NULL;
	int n = 0;
	if (sasl_server_new("xmpp", "localhost", NULL, NULL, NULL, NULL, 0, &conn) != SASL_OK)
		return;
	sasl_setprop(conn, SASL_AUTH_EXTERNAL, "x");
	if (sasl_listmech(conn, NULL, " ", " ", " ", &list, NULL, NULL) == SASL_OK && list)
		for (int i = 0; i < COUNT(mechanisms); i++) {
			char name[32];
			snprintf(name, sizeof name, " %s ", mechanisms[i]);
			if (strstr(list, name))
				present[n++] = mechanisms[i];
		}
	present[n] = NULL;
	sasl_dispose(&conn);
}

enum status cyrus_open(void)
{
	static const sasl_callback_t callbacks[] = {
		{ SASL_CB_GETOPT, (callback)(any)get_option, NULL }, { SASL_CB_GETCONFPATH, (callback)(any)config_path, NULL },
		{ SASL_CB_VERIFYFILE, (callback)(any)verify_file, NULL }, { SASL_CB_LOG, (callback)(any)write_log, NULL },
		{ SASL_CB_LIST_END, NULL, NULL },
	};
	if (state != NEW)
		return state == OPEN ? ST_OK : ST_SYSTEM;
	state = BROKEN;
	sasl_set_mutex(lock_new, lock_take, lock_leave, lock_free);
	int code = sasl_server_init(callbacks, "couplet");
	if (code == SASL_OK)
		code = sasl_auxprop_add_plugin("couplet", auxprop_init);
	if (code == SASL_OK)
		code = sasl_server_add_plugin("couplet-ht", ht_plugin);
	if (code == SASL_OK)
		code = sasl_server_add_plugin("couplet-scram", scram_plugin);
	if (code != SASL_OK) {
		log_error("sasl", "Cyrus SASL does not start: %s", sasl_errstring(code, NULL, NULL));
		return ST_SYSTEM;
	}
	state = OPEN;
	list_mechanisms();
	return ST_OK;
}

const char *cyrus_mechanism(int index)
{
	return state == OPEN && index < COUNT(mechanisms) ? present[index] : NULL;
}
