/* SPDX-License-Identifier: MIT */
/* chars.h - what may stand in an XML document (XML 1.0 §2.2, §2.3), for text that did not come through the parser. Any thread. */
#ifndef COUPLET_CHARS_H
#define COUPLET_CHARS_H

#include "base/str.h"

/* Valid UTF-8 of characters XML allows: no control characters but tab, line feed and carriage return, no surrogates. */
bool chars_text(struct str s);

/* A name as an element or attribute may have it, at most one colon, and that not at an end. */
bool chars_name(struct str s);

#endif
