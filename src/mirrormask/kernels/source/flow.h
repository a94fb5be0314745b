/* What each instruction-set variant of flow_loops.c offers to flow.c. */
#ifndef MM_FLOW_H
#define MM_FLOW_H

#include "mirrormask.h"

struct mm_flow {
    int (*small)(const float *gain, int64_t n, float bound);
    void (*advance)(float *restrict x, const float *restrict gain, int64_t n, float square,
                    float ratio);
    void (*shrink)(float *x, int64_t n, float square, float tanh, float cosh);
};

extern const struct mm_flow mm_flow_portable;
#ifdef MM_X86
extern const struct mm_flow mm_flow_avx2;
extern const struct mm_flow mm_flow_avx512;
#endif

#endif
