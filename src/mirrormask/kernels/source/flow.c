/* The mirror step over whole tensors, in blocks that threads take in turn. */
#include "flow.h"

#include "dispatch.h"
#include "pool.h"

#include <stdatomic.h>
#include <stddef.h>

/* An element costs about as much as so many multiply-adds; so much is shrunk at a time. */
enum { ELEMENT_COST = 8, SHRINK_BLOCK = 1 << 14 };

struct flow_job {
    const struct mm_flow *loops;
    float *x;
    const float *gain; /* NULL: to be shrunk */
    int64_t n, block;
    float square, first, second; /* ratio and bound, or tanh and cosh */
    uint8_t *left;
    atomic_int lefts;
};

static const struct mm_flow *loops_of(int variant)
{
    if (variant < 0 || variant >= MM_VARIANTS || !mm_supported(variant))
        return NULL;
#ifdef MM_X86
    if (variant == MM_AVX2)
        return &mm_flow_avx2;
    if (variant == MM_AVX512)
        return &mm_flow_avx512;
#endif
    return &mm_flow_portable;
}

static void flow_part(void *context, int part, int parts)
{
    struct flow_job *j = context;
    for (int64_t b = part; b * j->block < j->n; b += parts) {
        int64_t from = b * j->block, left = j->n - from;
        int64_t size = left < j->block ? left : j->block;
        if (!j->gain) {
            j->loops->shrink(j->x + from, size, j->square, j->first, j->second);
        } else if (j->loops->small(j->gain + from, size, j->second)) {
            j->loops->advance(j->x + from, j->gain + from, size, j->square, j->first);
        } else {
            j->left[b] = 1;
            atomic_fetch_add(&j->lefts, 1);
        }
    }
}

static int bad(const struct flow_job *j, int threads)
{
    return !j->loops || j->n < 0 || j->block < 1 || threads < 1 || (j->n > 0 && !j->x);
}

int64_t mm_advance(float *x, const float *gain, int64_t n, int64_t block, float square, float ratio,
                   float bound, uint8_t *left, int variant, int threads)
{
    struct flow_job j = {loops_of(variant), x, gain, n, block, square, ratio, bound, left, 0};
    if (bad(&j, threads) || !gain || !left)
        return -MM_BAD_ARGUMENT;
    mm_parallel(mm_threads_for(threads, n * ELEMENT_COST), flow_part, &j);
    return j.lefts;
}

int mm_shrink(float *x, int64_t n, float square, float tanh, float cosh, int variant, int threads)
{
    struct flow_job j = {loops_of(variant), x, NULL, n, SHRINK_BLOCK, square, tanh, cosh, NULL, 0};
    if (bad(&j, threads))
        return MM_BAD_ARGUMENT;
    mm_parallel(mm_threads_for(threads, n * ELEMENT_COST), flow_part, &j);
    return MM_OK;
}
