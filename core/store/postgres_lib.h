/* SPDX-License-Identifier: MIT */
/* postgres_lib.h - libpq, loaded when the first database in PostgreSQL is opened: with what it brings along (Kerberos, LDAP) it
 * would cost every server 3 MB and 25 ms of its start.
 *
 * Calls: pq.getResult(…) is PQgetResult(…). Thread: loaded by the logic thread before any other calls.
 */
#ifndef COUPLET_POSTGRES_LIB_H
#define COUPLET_POSTGRES_LIB_H

#include <libpq-fe.h>
#include <stdbool.h>

#define POSTGRES_LIB(X) \
	X(backendPID) X(clear) X(cmdTuples) X(connectPoll) X(connectStart) X(connectionNeedsPassword) X(conninfoFree) X(conninfoParse) \
	X(consumeInput) X(enterPipelineMode) X(errorMessage) X(exitPipelineMode) X(finish) X(flush) X(ftype) X(getResult) \
	X(getisnull) X(getlength) X(getvalue) X(isBusy) X(nfields) X(nparams) X(ntuples) X(parameterStatus) X(paramtype) \
	X(pipelineSync) X(resultErrorField) X(resultErrorMessage) X(resultStatus) X(sendDescribePrepared) X(sendPrepare) \
	X(sendQuery) X(sendQueryPrepared) X(setNoticeReceiver) X(setnonblocking) X(socket) X(status)

struct postgres_lib {
#define FIELD(name) __typeof__(PQ##name) *name;
	POSTGRES_LIB(FIELD)
#undef FIELD
};

extern struct postgres_lib pq;

bool postgres_lib_load(void);           /* false: it is not there, or too old; call nothing of it */

#endif
