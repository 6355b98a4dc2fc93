/* SPDX-License-Identifier: MIT */
/* mech_ht.c - hashed tokens. */
#include "sasl/mech_ht.h"

#include <stdlib.h>

#include "base/digest.h"
#include "base/mem.h"
#include "sasl/cyrus.h"

static const struct { const char *mech, *binding; } variants[] = {
	{ "HT-SHA-256-NONE", "" },
	{ "HT-SHA-256-EXPR", "tls-exporter" },
	{ "HT-SHA-256-ENDP", "tls-server-end-point" },
	{ "HT-SHA-256-UNIQ", "tls-unique" },
};

const char *ht_binding(struct str mech)
{
	for (int i = 0; i < COUNT(variants); i++)
		if (str_is(mech, variants[i].mech))
			return variants[i].binding;
	return NULL;
}

enum status ht_read(struct str message, struct str *name, struct str *proof)
{
	const char *end = message.n ? memchr(message.p, 0, message.n) : NULL;
	if (!end || end == message.p || message.n - (size_t)(end + 1 - message.p) != HT_PROOF)
		return ST_INVALID;
	*name = (struct str){ message.p, (size_t)(end - message.p) };
	*proof = (struct str){ end + 1, HT_PROOF };
	return ST_OK;
}

static const struct digest *sha256(void)
{
	return digest_find(STR("sha256"));
}

/* HMAC(token, who || binding) */
static void hmac(struct str token, const char *who, struct str binding, unsigned char out[HT_PROOF])
{
	struct buf data = { 0 };
	buf_add_text(&data, who);
	buf_add_str(&data, binding);
	digest_hmac(sha256(), token, buf_str(&data), out);
	buf_wipe(&data);
}

void ht_hash(struct str token, unsigned char initiator[HT_PROOF], unsigned char responder[HT_PROOF])
{
	unsigned char proof[HT_PROOF];
	hmac(token, "Initiator", STR(""), proof);
	digest_sum(sha256(), (struct str){ (char *)proof, sizeof proof }, initiator);
	hmac(token, "Responder", STR(""), responder);
	mem_wipe(proof, sizeof proof);
}

int ht_check(const struct ht_token tokens[HT_TOKENS], struct str binding, struct str proof, unsigned char responder[HT_PROOF])
{
	unsigned char hash[HT_PROOF], want[HT_PROOF];
	int found = -1;
	if (proof.n != HT_PROOF)
		return -1;
	digest_sum(sha256(), proof, hash);
	for (int i = 0; i < HT_TOKENS; i++) {
		const struct ht_token *t = &tokens[i];
		bool equal;
		if (binding.p) {
			hmac((struct str){ (const char *)t->text, t->len }, "Initiator", binding, want);
			equal = mem_equal(want, proof.p, HT_PROOF) && t->len;
		} else {
			equal = mem_equal(t->initiator, hash, HT_PROOF);
		}
		if (equal && t->kept && found < 0)
			found = i;
	}
	mem_wipe(want, sizeof want);
	if (found < 0)
		return -1;
	if (binding.p)
		hmac((struct str){ (const char *)tokens[found].text, tokens[found].len }, "Responder", binding, responder);
	else
		memcpy(responder, tokens[found].responder, HT_PROOF);
	return found;
}

/* --- inside Cyrus --- */

static int mech_new(void *glob, sasl_server_params_t *params, const char *challenge, unsigned n, void **context)
{
	*context = mem_zero(HT_PROOF);          /* the answer; Cyrus reads it after the step */
	return SASL_OK;
}

static int mech_step(void *context, sasl_server_params_t *params, const char *in, unsigned n, const char **out, unsigned *out_n,
	sasl_out_params_t *result)
{
	struct cyrus_context *ctx = cyrus_context(params->utils);
	struct str name, proof;
	if (!ctx || !ctx->credentials)
		return SASL_FAIL;
	if (ht_read((struct str){ in, n }, &name, &proof))
		return SASL_BADPROT;
	int code = params->canon_user(params->utils->conn, name.p, (unsigned)name.n, SASL_CU_AUTHID | SASL_CU_AUTHZID, result);
	if (code != SASL_OK)
		return code;
	ctx->token = ht_check(ctx->credentials->tokens, ctx->binding, proof, context);
	if (ctx->token < 0)
		return SASL_BADAUTH;
	result->doneflag = 1;
	*out = context;
	*out_n = HT_PROOF;
	return SASL_OK;
}

static void mech_dispose(void *context, const sasl_utils_t *utils)
{
	if (!context)
		return;
	mem_wipe(context, HT_PROOF);
	free(context);
}

int ht_plugin(const sasl_utils_t *utils, int max, int *version, sasl_server_plug_t **out, int *count)
{
	static sasl_server_plug_t plugs[COUNT(variants)];
	if (max < SASL_SERVER_PLUG_VERSION)
		return SASL_BADVERS;
	for (int i = 0; i < COUNT(variants); i++)
		plugs[i] = (sasl_server_plug_t){
			.mech_name = variants[i].mech,
			.security_flags = SASL_SEC_NOPLAINTEXT | SASL_SEC_NOANONYMOUS | SASL_SEC_MUTUAL_AUTH,
			.features = SASL_FEAT_WANT_CLIENT_FIRST,
			.mech_new = mech_new, .mech_step = mech_step, .mech_dispose = mech_dispose,
		};
	*version = SASL_SERVER_PLUG_VERSION;
	*out = plugs;
	*count = COUNT(variants);
	return SASL_OK;
}
