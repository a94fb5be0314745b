/* Threads and scratch memory. */
#ifndef MM_POOL_H
#define MM_POOL_H

#include <stdint.h>

/* Part `part` of `parts` of a job. */
typedef void (*mm_job)(void *context, int part, int parts);

enum { MM_MAX_THREADS = 64 };

/* Run all parts and return when they are done; fewer threads may do them. */
void mm_parallel(int parts, mm_job job, void *context);
/* Memory of the calling thread, 64-byte aligned, valid until its next call with the same slot; NULL
 * if there is none. */
float *mm_scratch(int slot, int64_t floats);
void mm_release(void);

enum {
    MM_SCRATCH_INPUT = 0,
    MM_SCRATCH_PANEL = 1,
    MM_SCRATCH_ARENA = 2,
    MM_SCRATCH_GAPS = 3,
    MM_SCRATCH_GRADIENT = 4,
    MM_SCRATCH_SUMS = 5,
    MM_SCRATCH_COPIED = 6,
    MM_SCRATCH_RESULT = 7,
    MM_SCRATCH_SLOTS = 8
};

#endif
