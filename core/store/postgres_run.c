/* SPDX-License-Identifier: MIT */
/* postgres_run.c - requests' statements through a pipeline, singly or many as one batch. */
#include "store/postgres_db.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "store/postgres_value.h"

enum { RUN_MAX = 1000 };                /* rows of a batch */

static enum postgres_fault prepare(struct postgres_place *p, struct postgres_db *c, uint64_t id, bool batch)
{
	assert(id < STORE_STATEMENTS_MAX && p->sql[id]);
	struct postgres_statement *s = &c->statements[id][batch];
	if (s->prepared)
		return FAULT_NONE;
	char name[32];
	snprintf(name, sizeof name, "%c%u", batch ? 'b' : 's', (unsigned)id);
	if (!pq.sendPrepare(c->conn, name, batch ? p->batch[id] : p->sql[id], 0, NULL))
		return postgres_db_lost(c);
	PGresult *res = postgres_db_result(p, c, p->patience_ms);
	enum postgres_fault f = postgres_db_judge(c, res);
	pq.clear(res);
	if (f)
		return f;
	if (!pq.sendDescribePrepared(c->conn, name))
		return postgres_db_lost(c);
	res = postgres_db_result(p, c, p->patience_ms);
	if (!(f = postgres_db_judge(c, res))) {
		s->n = pq.nparams(res);
		s->types = mem_zero(sizeof *s->types * (size_t)(s->n + 1));
		for (int i = 0; i < s->n; i++)
			s->types[i] = pq.paramtype(res, i);
		s->prepared = true;
	}
	pq.clear(res);
	return f;
}

/* One statement of a request, found in its bytes. */
struct step {
	struct store_request *request;
	uint64_t id, params;
	struct value_reader values;
	int run;                        /* statements sent as one; 0: it went with the one before */
};

struct work {
	struct step *steps;
	int n, cap;
	struct buf bytes;               /* of one statement's parameters */
	size_t *at;                     /* where each begins in them */
	const char **values;
	int *lengths, *formats, wide;
};

static void work_free(struct work *w)
{
	free(w->steps);
	free(w->at);
	free(w->values);
	free(w->lengths);
	free(w->formats);
	buf_free(&w->bytes);
}

static enum postgres_fault add_steps(struct postgres_db *c, struct work *w, struct store_request *r)
{
	struct value_reader in = value_reader(buf_str(&r->in));
	while (in.p < in.end) {
		struct step s = { .request = r, .run = 1 };
		if (value_read_count(&in, &s.id) || value_read_count(&in, &s.params))
			return postgres_db_fault(c, TROUBLE_OTHER, "damaged request");
		s.values = in;
		for (uint64_t i = 0; i < s.params; i++)
			if (value_skip(&in, NULL))
				return postgres_db_fault(c, TROUBLE_OTHER, "damaged request");
		if (w->n == w->cap) {
			w->cap = w->cap ? w->cap * 2 : 64;
			w->steps = mem_resize(w->steps, sizeof *w->steps * (size_t)w->cap);
		}
		w->steps[w->n++] = s;
	}
	return FAULT_NONE;
}

static enum postgres_fault add_parameters(struct postgres_db *c, struct work *w, struct step *s,
	const struct postgres_statement *stmt)
{
	if (stmt->n > w->wide) {
		w->wide = stmt->n;
		w->at = mem_resize(w->at, sizeof *w->at * (size_t)w->wide);
		w->values = mem_resize(w->values, sizeof *w->values * (size_t)w->wide);
		w->lengths = mem_resize(w->lengths, sizeof *w->lengths * (size_t)w->wide);
		w->formats = mem_resize(w->formats, sizeof *w->formats * (size_t)w->wide);
	}
	w->bytes.len = w->bytes.head = 0;
	struct value_reader one = s->values;
	for (int i = 0; i < stmt->n; i++) {
		bool null = false;
		enum status st = ST_OK;
		w->at[i] = w->bytes.len;
		if (s->run > 1) {
			unsigned element = postgres_element_of(stmt->types[i]);
			struct postgres_array a;
			postgres_array_begin(&a, element, &w->bytes);
			for (int k = 0; k < s->run && !st; k++)
				st = postgres_array_add(&a, &s[k].values, element, &w->bytes);
			postgres_array_end(&a, &w->bytes);
		} else {
			st = postgres_param(&one, stmt->types[i], &w->bytes, &null);
		}
		if (st)
			return postgres_db_fault(c, TROUBLE_OTHER, "a parameter does not fit its type");
		w->lengths[i] = null ? -1 : (int)(w->bytes.len - w->at[i]);
		w->formats[i] = 1;
	}
	static const char nothing[1] = "";
	for (int i = 0; i < stmt->n; i++)
		w->values[i] = w->lengths[i] < 0 ? NULL : w->lengths[i] == 0 ? nothing : buf_data(&w->bytes) + w->at[i];
	return FAULT_NONE;
}

static enum postgres_fault send_step(struct postgres_db *c, struct work *w, struct step *s)
{
	bool batch = s->run > 1;
	const struct postgres_statement *stmt = &c->statements[s->id][batch];
	enum postgres_fault f = add_parameters(c, w, s, stmt);
	if (f)
		return f;
	char name[32];
	snprintf(name, sizeof name, "%c%u", batch ? 'b' : 's', (unsigned)s->id);
	return pq.sendQueryPrepared(c->conn, name, stmt->n, w->values, w->lengths, w->formats, 1) ? FAULT_NONE : postgres_db_lost(c);
}

static enum postgres_fault take_rows(struct postgres_db *c, struct step *s, const PGresult *res, bool keep_all)
{
	struct store_request *r = s->request;
	r->changes = atoll(pq.cmdTuples((PGresult *)res));
	int rows = pq.ntuples(res), columns = pq.nfields(res);
	if (!columns && !keep_all)
		return FAULT_NONE;
	uint64_t cells = (uint64_t)rows * (uint64_t)columns;
	if (!keep_all)
		r->out.len = 0;
	buf_add(&r->out, &cells, sizeof cells);
	for (int i = 0; i < rows; i++)
		for (int k = 0; k < columns; k++)
			if (postgres_cell(pq.ftype(res, k), pq.getisnull(res, i, k) ? NULL : pq.getvalue(res, i, k),
				(size_t)pq.getlength(res, i, k), &r->out))
				return postgres_db_fault(c, TROUBLE_DAMAGED, "a value that is none of ours");
	return FAULT_NONE;
}

/* Reads one step's results. The fault is the step's; FAULT_LOST also says that nothing more will come. */
static enum postgres_fault take_step(struct postgres_place *p, struct postgres_db *c, struct step *s, bool keep_all,
	uint64_t deadline)
{
	enum postgres_fault f = FAULT_NONE;
	PGresult *res;
	for (;;) {
		if (!postgres_db_wait(p, c, deadline))
			return FAULT_LOST;
		if (!(res = pq.getResult(c->conn)))
			return f;
		switch (pq.resultStatus(res)) {
		case PGRES_COMMAND_OK:
		case PGRES_TUPLES_OK:
			if (s->run > 1)
				for (int k = 0; k < s->run; k++)
					s[k].request->changes = 1;
			else if (!f)
				f = take_rows(c, s, res, keep_all);
			break;
		case PGRES_PIPELINE_ABORTED:            /* the reason has been read before */
			f = f ? f : FAULT_AGAIN;
			break;
		default:
			f = postgres_db_failed(c, res);
		}
		pq.clear(res);
		if (pq.status(c->conn) == CONNECTION_BAD)
			return FAULT_LOST;
	}
}

/* Reads the end of a transaction. An error there is one of its commit. */
static enum postgres_fault take_sync(struct postgres_place *p, struct postgres_db *c, uint64_t deadline)
{
	enum postgres_fault f = FAULT_NONE;
	for (;;) {
		if (!postgres_db_wait(p, c, deadline))
			return FAULT_LOST;
		PGresult *res = pq.getResult(c->conn);
		if (!res) {
			if (pq.status(c->conn) == CONNECTION_BAD)
				return postgres_db_lost(c);
			continue;
		}
		ExecStatusType status = pq.resultStatus(res);
		if (status == PGRES_FATAL_ERROR)
			f = postgres_db_failed(c, res);
		pq.clear(res);
		if (status == PGRES_PIPELINE_SYNC)
			return f;
		if (pq.status(c->conn) == CONNECTION_BAD)
			return FAULT_LOST;
	}
}

/* Says what one statement after the other will be sent as: runs of one that has a batch form go together. Prepares it. */
static enum postgres_fault plan(struct postgres_place *p, struct postgres_db *c, struct work *w, int from, bool each)
{
	for (int i = from; i < w->n;) {
		struct step *s = &w->steps[i];
		int run = 1;
		if (!each && p->batch[s->id])
			while (i + run < w->n && run < RUN_MAX && w->steps[i + run].id == s->id)
				w->steps[i + run++].run = 0;
		s->run = run;
		enum postgres_fault f = prepare(p, c, s->id, run > 1);
		if (f)
			return f;
		i += run;
	}
	return FAULT_NONE;
}

/* Adds a request that is run for itself. One that cannot even be sent fails here, alone. */
static enum postgres_fault add_alone(struct postgres_place *p, struct postgres_db *c, struct work *w, struct store_request *r)
{
	int before = w->n;
	enum postgres_fault f = add_steps(c, w, r);
	if (!f)
		f = plan(p, c, w, before, true);
	for (int i = before; i < w->n && !f; i++)
		f = add_parameters(c, w, &w->steps[i], &c->statements[w->steps[i].id][0]);
	if (f == FAULT_OWN) {
		w->n = before;
		r->result = f;
		postgres_db_fail(p, c, r);
		f = FAULT_NONE;
	}
	return f;
}

static enum postgres_fault send_all(struct postgres_db *c, struct work *w, bool each)
{
	for (int i = 0; i < w->n; i++) {
		struct step *s = &w->steps[i];
		enum postgres_fault f = s->run ? send_step(c, w, s) : FAULT_NONE;
		if (f)
			return f;
		if ((i + 1 == w->n || (each && s[1].request != s->request)) && !pq.pipelineSync(c->conn))
			return postgres_db_lost(c);
	}
	return FAULT_NONE;
}

static enum postgres_fault take_all(struct postgres_place *p, struct postgres_db *c, struct work *w, bool each, bool keep_all)
{
	enum postgres_fault first = FAULT_NONE;
	struct words why = { 0 };           /* of the first fault; those after it are its consequences */
	for (int i = 0; i < w->n; i++) {
		struct step *s = &w->steps[i];
		uint64_t deadline = clock_mono_ms() + (uint64_t)p->patience_ms + 1000;
		enum postgres_fault f = s->run ? take_step(p, c, s, keep_all, deadline) : FAULT_NONE;
		if (f == FAULT_LOST)
			return f;
		bool ends = i + 1 == w->n || (each && s[1].request != s->request);
		enum postgres_fault end = ends ? take_sync(p, c, deadline) : FAULT_NONE;
		if (end == FAULT_LOST)
			return end;
		f = f ? f : end;
		if (f && !first) {
			first = f;
			why = c->words;
		}
		if (!ends || !each)
			continue;
		s->request->result = first;
		s->request->code = NULL;
		c->words = why;
		if (first && first != FAULT_AGAIN)
			postgres_db_fail(p, c, s->request);
		first = FAULT_NONE;
	}
	if (first)
		c->words = why;
	return first;
}

enum postgres_fault postgres_db_run(struct postgres_place *p, struct postgres_db *c, struct store_request **all, int n, bool each,
	bool keep_all)
{
	struct work w = { 0 };
	enum postgres_fault f = FAULT_NONE;
	for (int i = 0; i < n && !f; i++) {
		all[i]->out.len = 0;
		f = each ? add_alone(p, c, &w, all[i]) : add_steps(c, &w, all[i]);
	}
	if (!f && !each)
		f = plan(p, c, &w, 0, false);
	if (!f && w.n) {
		if (!pq.enterPipelineMode(c->conn))
			f = postgres_db_lost(c);
		if (!f && (f = send_all(c, &w, each)))
			postgres_db_close(c);       /* the end of the transaction was not sent, so nothing was done */
		else if (!f && (f = take_all(p, c, &w, each, keep_all)) != FAULT_LOST)
			pq.exitPipelineMode(c->conn);
	}
	work_free(&w);
	return f;
}
