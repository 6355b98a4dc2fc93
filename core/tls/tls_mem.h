/* SPDX-License-Identifier: MIT */
/* tls_mem.h - where OpenSSL's memory comes from: malloc, but the buffer of a record is handed from session to session.
 *
 * Sessions give their buffers back after each record (SSL_MODE_RELEASE_BUFFERS), so a record to one that has been silent would
 * cost a malloc and a free of 16 KiB. A thread that lives by writing records keeps one such buffer instead.
 */
#ifndef COUPLET_TLS_MEM_H
#define COUPLET_TLS_MEM_H

#include <stdbool.h>

void tls_mem_setup(void);               /* before OpenSSL allocates anything; later it does nothing */
void tls_mem_keep(bool on);             /* this thread keeps a buffer; false: gives it back, before the thread ends */

#endif
