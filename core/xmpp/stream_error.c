/* SPDX-License-Identifier: MIT */
/* stream_error.c - the stream error conditions of RFC 6120 §4.9.3. */
#include "xmpp/stream_error.h"

#include <assert.h>

const char *stream_error_name(enum stream_condition condition)
{
	static const char *const names[SE_CONDITIONS] = {
		[SE_NONE] = "",
		[SE_BAD_FORMAT] = "bad-format",
		[SE_BAD_NAMESPACE_PREFIX] = "bad-namespace-prefix",
		[SE_CONFLICT] = "conflict",
		[SE_CONNECTION_TIMEOUT] = "connection-timeout",
		[SE_HOST_GONE] = "host-gone",
		[SE_HOST_UNKNOWN] = "host-unknown",
		[SE_IMPROPER_ADDRESSING] = "improper-addressing",
		[SE_INTERNAL_SERVER_ERROR] = "internal-server-error",
		[SE_INVALID_FROM] = "invalid-from",
		[SE_INVALID_NAMESPACE] = "invalid-namespace",
		[SE_INVALID_XML] = "invalid-xml",
		[SE_NOT_AUTHORIZED] = "not-authorized",
		[SE_NOT_WELL_FORMED] = "not-well-formed",
		[SE_POLICY_VIOLATION] = "policy-violation",
		[SE_REMOTE_CONNECTION_FAILED] = "remote-connection-failed",
		[SE_RESET] = "reset",
		[SE_RESOURCE_CONSTRAINT] = "resource-constraint",
		[SE_RESTRICTED_XML] = "restricted-xml",
		[SE_SEE_OTHER_HOST] = "see-other-host",
		[SE_SYSTEM_SHUTDOWN] = "system-shutdown",
		[SE_UNDEFINED_CONDITION] = "undefined-condition",
		[SE_UNSUPPORTED_ENCODING] = "unsupported-encoding",
		[SE_UNSUPPORTED_FEATURE] = "unsupported-feature",
		[SE_UNSUPPORTED_STANZA_TYPE] = "unsupported-stanza-type",
		[SE_UNSUPPORTED_VERSION] = "unsupported-version",
	};
	assert((int)condition >= 0 && condition < SE_CONDITIONS);
	return names[condition];
}
