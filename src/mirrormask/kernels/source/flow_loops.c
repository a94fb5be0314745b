/* The loops of the mirror step, compiled once for each instruction set and without multiply-adds:
 * every operation is rounded by itself, so that the bits are the same on every processor.
 */
#include "flow.h"

#include <math.h>

/* Whether no gain is beyond the bound; NaN is. */
static int small(const float *gain, int64_t n, float bound)
{
    int wrong = 0;
    for (int64_t i = 0; i < n; i++)
        wrong |= !(fabsf(gain[i]) <= bound);
    return !wrong;
}

static void advance(float *restrict x, const float *restrict gain, int64_t n, float square,
                    float ratio)
{
    for (int64_t i = 0; i < n; i++) {
        float u = gain[i], at = x[i];
        float sinh = (2.0f + (float)(4.0 / 3.0) * u * u) * u;
        float root = sqrtf(square + at * at) + at * u;
        x[i] = (at + root * sinh) * ratio;
    }
}

static void shrink(float *x, int64_t n, float square, float tanh, float cosh)
{
    for (int64_t i = 0; i < n; i++) {
        float at = x[i], bound = sqrtf(square + at * at) * tanh;
        float held = at < -bound ? -bound : at;
        held = held > bound ? bound : held;
        x[i] = (at - held) * cosh;
    }
}

const struct mm_flow MM_NAME = {small, advance, shrink};
