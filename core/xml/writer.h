/* SPDX-License-Identifier: MIT */
/* writer.h - element blocks to bytes. Any thread. */
#ifndef COUPLET_WRITER_H
#define COUPLET_WRITER_H

#include "base/buf.h"
#include "xml/element.h"

/* Appends text with & < > ' " escaped. */
void writer_escape(struct buf *out, struct str text);

/* Appends one attribute, with a blank before it. A name "NS\1local" declares a prefix nsN for it, N from *prefixes on. */
void writer_attr(struct buf *out, struct str name, struct str value, int *prefixes);

/* Appends node and all below it. parent_ns: the namespace in force where it will stand; xmlns is written only where it
 * changes, and an element with an empty ns inherits. */
void writer_element(struct buf *out, const struct element *e, const struct el_node *node, struct str parent_ns);

#endif
