/* classify_private: what the files of classify share. */
#ifndef TRAM_POLICY_CLASSIFY_PRIVATE_H
#define TRAM_POLICY_CLASSIFY_PRIVATE_H

#include "policy/classify.h"

enum reply_class classify_codes(const struct classify_reply *reply);

#endif
