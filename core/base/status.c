/* SPDX-License-Identifier: MIT */
/* status.c - words for statuses. */
#include "base/status.h"

const char *status_text(enum status st)
{
	switch (st) {
	case ST_OK:      return "ok";
	case ST_AGAIN:   return "again";
	case ST_CLOSED:  return "closed";
	case ST_INVALID: return "invalid";
	case ST_LIMIT:   return "limit reached";
	case ST_DENIED:  return "denied";
	case ST_MISSING: return "missing";
	case ST_TIMEOUT: return "timed out";
	case ST_SYSTEM:  return "system error";
	}
	return "unknown";
}
