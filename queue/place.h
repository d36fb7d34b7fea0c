/*
 * place: may a queue live here? What the store asks before LMDB maps anything: the directory, the
 * file system below it, and the data file as it lies there. Each refusal is a sentence that says
 * what to do.
 */
#ifndef TRAM_QUEUE_PLACE_H
#define TRAM_QUEUE_PLACE_H

#include "mta/base/span.h"

enum { PLACE_ERROR_MAX = 512 };

/*
 * Opens the directory and, unless it is only to be read, locks it: the lock stands as long as the
 * descriptor, and a directory that is not safe is refused. -EBUSY: another tramd has it.
 */
int place_open(const char *path, bool only_read, int *ret_directory, char error[PLACE_ERROR_MAX]);
/*
 * 1: a data file to be opened; 0: none yet (never if it is only to be read); negative: refused,
 * and error says why.
 */
int place_check_file(int directory, const char *path, bool only_read, char error[PLACE_ERROR_MAX]);
/* The pages of the files that LMDB makes on this machine. */
uint32_t place_page_size(void);

#endif
