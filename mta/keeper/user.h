/*
 * user: root becomes the account of the configuration. The main thread, before there are others.
 */
#ifndef TRAM_KEEPER_USER_H
#define TRAM_KEEPER_USER_H

#include <stdbool.h>

/*
 * The queue's files belong to the user that will run; the doors need root: so the user is taken
 * on in two steps, the second one for good. name NULL, or not root: nothing to do. 0 or -errno.
 */
int keeper_become(const char *name, bool for_good);

#endif
