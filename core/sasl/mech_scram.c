/* SPDX-License-Identifier: MIT */
/* mech_scram.c - SCRAM. Nothing here depends on whether the account exists: for one that does not, the key is an invented one, and
 * the proof is wrong. */
#include "sasl/mech_scram.h"

#include <stdio.h>

#include "base/base64.h"
#include "base/mem.h"
#include "base/rand.h"
#include "sasl/cyrus.h"
#include "sasl/scram_message.h"

static void add_base64(struct buf *out, const void *p, size_t n)
{
	base64_encode((struct str){ p, n }, out);
}

static int refuse(struct scram *s, int code, const char *text)
{
	s->text = str_of(text);
	return code;
}

/* RFC 5802 §6: flag, mechanism and channel must agree, and a client that could bind must not have been told that we cannot. */
static const char *disagreement(const struct scram_first *m, const struct scram_channel *channel)
{
	if ((m->flag == 'p') != channel->plus)
		return channel->plus ? "this mechanism needs channel binding" : "channel binding needs a -PLUS mechanism";
	if (channel->plus && (!channel->data.n || !str_eq(m->binding, channel->type)))
		return "channel binding of this type is not available";
	if (m->flag == 'y' && channel->offered)             /* no proof was wrong: it counts as no guess */
		return "channel binding was offered; somebody may have taken it out";
	return NULL;
}

static void expect_cbind(struct scram *s, struct str gs2, struct str data)
{
	struct buf raw = { 0 };
	buf_add_str(&raw, gs2);
	buf_add_str(&raw, data);
	base64_encode(buf_str(&raw), &s->cbind);
	buf_wipe(&raw);
}

static void write_first(struct scram *s, const struct scram_channel *channel, const struct scram_key *key)
{
	struct buf *out = &s->server_first;
	unsigned char hash[DIGEST_MAX];
	char count[16];
	snprintf(count, sizeof count, "%d", key->iterations);
	buf_add_text(out, "r=");
	buf_add_str(out, buf_str(&s->nonce));
	buf_add_text(out, ",s=");
	add_base64(out, key->salt, key->salt_len);
	buf_add_text(out, ",i=");
	buf_add_text(out, count);
	if (!channel->advertised.n)
		return;
	digest_sum(key->digest, channel->advertised, hash);
	buf_add_text(out, ",h=");
	add_base64(out, hash, digest_size(key->digest));
}

int scram_challenge(struct scram *s, struct str message, const struct scram_channel *channel, const struct scram_key *key,
	struct str nonce)
{
	struct scram_first m;
	if (scram_read_first(message, &m))
		return SASL_BADPROT;
	const char *text = disagreement(&m, channel);
	if (text)
		return refuse(s, SASL_BADPROT, text);
	expect_cbind(s, m.gs2, channel->plus ? channel->data : STR(""));
	buf_add_str(&s->client_first, m.bare);
	buf_add_str(&s->nonce, m.nonce);
	buf_add_str(&s->nonce, nonce);
	write_first(s, channel, key);
	buf_add_str(&s->answer, buf_str(&s->server_first));
	return SASL_CONTINUE;
}

static bool same(struct str a, struct str b)
{
	return a.n == b.n && mem_equal(a.p, b.p, a.n);
}

/* RFC 5802 §3: the client has shown that it knows the ClientKey if its proof, taken off ClientSignature, hashes to StoredKey. */
static bool is_proof(const struct scram_key *key, struct str auth, const unsigned char *proof)
{
	unsigned char client[DIGEST_MAX], stored[DIGEST_MAX];
	size_t n = digest_size(key->digest);
	digest_hmac(key->digest, (struct str){ (const char *)key->stored, n }, auth, client);
	for (size_t i = 0; i < n; i++)
		client[i] ^= proof[i];
	digest_sum(key->digest, (struct str){ (char *)client, n }, stored);
	bool right = mem_equal(stored, key->stored, n);
	mem_wipe(client, sizeof client);
	mem_wipe(stored, sizeof stored);
	return right;
}

static int check_proof(struct scram *s, const struct scram_key *key, struct str without_proof, struct str proof)
{
	struct buf auth = { 0 };
	unsigned char signature[DIGEST_MAX];
	size_t n = digest_size(key->digest);
	if (proof.n != n)
		return SASL_BADPROT;
	buf_add_str(&auth, buf_str(&s->client_first));
	buf_add_char(&auth, ',');
	buf_add_str(&auth, buf_str(&s->server_first));
	buf_add_char(&auth, ',');
	buf_add_str(&auth, without_proof);
	bool right = is_proof(key, buf_str(&auth), (const unsigned char *)proof.p);
	if (right) {
		digest_hmac(key->digest, (struct str){ (const char *)key->server, n }, buf_str(&auth), signature);
		buf_add_text(&s->answer, "v=");
		add_base64(&s->answer, signature, n);
		mem_wipe(signature, sizeof signature);
	}
	buf_wipe(&auth);
	return right ? SASL_OK : SASL_BADAUTH;
}

int scram_verify(struct scram *s, struct str message, const struct scram_key *key)
{
	struct scram_final m;
	struct buf proof = { 0 };
	buf_wipe(&s->answer);
	if (scram_read_final(message, &m))
		return SASL_BADPROT;
	if (!same(m.cbind, buf_str(&s->cbind)))
		return refuse(s, SASL_BADBINDING, "channel binding does not match");
	int code = SASL_BADPROT;
	if (same(m.nonce, buf_str(&s->nonce)) && !base64_decode(m.proof, &proof))
		code = check_proof(s, key, m.without_proof, buf_str(&proof));
	buf_wipe(&proof);                       /* it may have grown even if that was no base64 */
	return code;
}

enum status scram_amend(struct scram *s, struct str text)
{
	struct str before = buf_str(&s->server_first);
	struct buf amended = { 0 };
	if (!before.n || text.n <= before.n || memcmp(text.p, before.p, before.n) != 0 || text.p[before.n] != ',')
		return ST_INVALID;
	buf_add_str(&amended, text);
	buf_free(&s->server_first);
	s->server_first = amended;
	return ST_OK;
}

void scram_wipe(struct scram *s)
{
	struct buf *all[] = { &s->client_first, &s->server_first, &s->cbind, &s->nonce, &s->answer };
	for (int i = 0; i < COUNT(all); i++)
		buf_wipe(all[i]);
}

/* --- inside Cyrus --- */

static int mech_new(void *glob, sasl_server_params_t *params, const char *challenge, unsigned n, void **context)
{
	*context = NULL;                        /* all there is belongs to the exchange */
	return SASL_OK;
}

static int first_step(struct cyrus_context *ctx, sasl_server_params_t *params, struct str message, sasl_out_params_t *result)
{
	unsigned char random[18];
	struct buf nonce = { 0 };
	const char *name = ctx->credentials->name;
	rand_bytes(random, sizeof random);
	add_base64(&nonce, random, sizeof random);
	int code = scram_challenge(&ctx->scram, message, &ctx->channel, ctx->key, buf_str(&nonce));
	buf_free(&nonce);
	if (code != SASL_CONTINUE)
		return code;
	/* for whom it acts has been looked at: there is one name */
	int known = params->canon_user(params->utils->conn, name, (unsigned)strlen(name), SASL_CU_AUTHID | SASL_CU_AUTHZID, result);
	return known == SASL_OK ? code : known;
}

static int mech_step(void *context, sasl_server_params_t *params, const char *in, unsigned n, const char **out, unsigned *out_n,
	sasl_out_params_t *result)
{
	struct cyrus_context *ctx = cyrus_context(params->utils);
	struct str message = { in, n };
	if (!ctx || !ctx->credentials || !ctx->key->digest)
		return SASL_FAIL;
	int code = ctx->scram.nonce.len ? scram_verify(&ctx->scram, message, ctx->key) : first_step(ctx, params, message, result);
	if (code != SASL_CONTINUE && code != SASL_OK)
		return code;
	result->doneflag = code == SASL_OK;
	*out = buf_data(&ctx->scram.answer);
	*out_n = (unsigned)ctx->scram.answer.len;
	return code;
}

int scram_plugin(const sasl_utils_t *utils, int max, int *version, sasl_server_plug_t **out, int *count)
{
	static const char *const names[] = { "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512" };
	static sasl_server_plug_t plugs[COUNT(names)];
	if (max < SASL_SERVER_PLUG_VERSION)
		return SASL_BADVERS;
	for (int i = 0; i < COUNT(names); i++)
		plugs[i] = (sasl_server_plug_t){
			.mech_name = names[i],
			.security_flags = SASL_SEC_NOPLAINTEXT | SASL_SEC_NOACTIVE | SASL_SEC_NOANONYMOUS | SASL_SEC_MUTUAL_AUTH,
			.features = SASL_FEAT_WANT_CLIENT_FIRST | SASL_FEAT_CHANNEL_BINDING,      /* Cyrus then knows -PLUS too */
			.mech_new = mech_new, .mech_step = mech_step,
		};
	*version = SASL_SERVER_PLUG_VERSION;
	*out = plugs;
	*count = COUNT(names);
	return SASL_OK;
}
