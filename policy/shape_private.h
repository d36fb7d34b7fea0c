/* shape_private: what shape.c and shape_record.c share. */
#ifndef TRAM_POLICY_SHAPE_PRIVATE_H
#define TRAM_POLICY_SHAPE_PRIVATE_H

#include "policy/shape.h"

extern const int64_t shape_step_ms[4];		/* of each window */

#endif
