/* SPDX-License-Identifier: MIT */
/* nest.h - memory for a thing of many small pieces that comes and goes as a whole, such as a parser.
 *
 * A nest is one run of pages of its own; its pieces never mix with what lives longer, so that dropping it gives the pages back to the
 * system, where malloc would keep them for their neighbours' sake. What does not fit comes from malloc.
 *
 * Any thread, one at a time.
 */
#ifndef COUPLET_NEST_H
#define COUPLET_NEST_H

#include <stddef.h>

struct nest;

struct nest *nest_new(void);
void nest_drop(struct nest **n);                     /* sets *n to NULL; every piece must have been freed */

void *nest_alloc(struct nest *n, size_t size);       /* 16-byte aligned; NULL if the system has no memory left */
void *nest_resize(struct nest *n, void *p, size_t size);
void nest_free(struct nest *n, void *p);             /* NULL is fine */
size_t nest_size(const void *p);                     /* what a piece holds; NULL: 0 */

#endif
