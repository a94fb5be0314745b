/* Sparse rows over planes of floats, written where the next layer reads them; compiled once for each
 * instruction set.
 *
 * Every plane holds the same positions. A weight's input lies at the output's own place plus the
 * weight's column, so that a row is a sum of shifted planes. Bias, a second plane to be added, ReLU
 * and the mask that keeps the gaps between images at zero are applied before a float is stored.
 */
#include "steps.h"
#include "vectors.h"

#include <stddef.h>

#define MOST_UNITS LANES /* as many sums as there are registers for */

/* VECTORS of N lanes from position `at`; UNROLL weights are in flight, because a chain of additions
 * waits four cycles at every link. */
#define DEFINE(NAME, N, VECTORS, UNROLL)                                                           \
    static void NAME(const struct mm_planes *p, int64_t from, int64_t to, int64_t at)              \
    {                                                                                              \
        typedef float loose __attribute__((vector_size(N * 4), aligned(4)));                       \
        typedef int32_t loose_ints __attribute__((vector_size(N * 4), aligned(4)));                \
        const struct mm_rows *w = p->w;                                                            \
        const float *x = p->x + at;                                                                \
        for (int64_t r = from; r < to; r++) {                                                      \
            floats##N sums[UNROLL][VECTORS];                                                       \
            float bias = w->bias ? w->bias[r] : 0.0f;                                              \
            _Pragma("GCC unroll 4") for (int u = 0; u < UNROLL; u++)                               \
                _Pragma("GCC unroll 8") for (int v = 0; v < VECTORS; v++) sums[u][v] =             \
                    u ? (floats##N){0} : (floats##N){0} + bias;                                    \
            int32_t i = w->starts[r], end = w->starts[r + 1];                                      \
            for (; i + UNROLL <= end; i += UNROLL) {                                               \
                _Pragma("GCC unroll 4") for (int u = 0; u < UNROLL; u++)                           \
                {                                                                                  \
                    const float *place = x + w->columns[i + u];                                    \
                    float value = w->values[i + u];                                                \
                    _Pragma("GCC unroll 8") for (int v = 0; v < VECTORS; v++) sums[u][v] +=        \
                        value * *(const loose *)(place + v * N);                                   \
                }                                                                                  \
            }                                                                                      \
            for (; i < end; i++) {                                                                 \
                const float *place = x + w->columns[i];                                            \
                float value = w->values[i];                                                        \
                _Pragma("GCC unroll 8") for (int v = 0; v < VECTORS; v++) sums[0][v] +=            \
                    value * *(const loose *)(place + v * N);                                       \
            }                                                                                      \
            float *y = p->y + r * p->y_step + at;                                                  \
            const float *add = p->add ? p->add + r * p->add_step + at : NULL;                      \
            _Pragma("GCC unroll 8") for (int v = 0; v < VECTORS; v++)                              \
            {                                                                                      \
                _Pragma("GCC unroll 4") for (int u = 1; u < UNROLL; u++) sums[0][v] += sums[u][v]; \
                if (add)                                                                           \
                    sums[0][v] += *(const loose *)(add + v * N);                                   \
                if (w->relu) {                                                                     \
                    ints##N keep = ~(ints##N)(sums[0][v] < (floats##N){0});                        \
                    sums[0][v] = (floats##N)((ints##N)sums[0][v] & keep);                          \
                }                                                                                  \
                if (p->mask)                                                                       \
                    sums[0][v] = (floats##N)((ints##N)sums[0][v] &                                 \
                                             *(const loose_ints *)(p->mask + at + v * N));         \
                *(loose *)(y + v * N) = sums[0][v];                                                \
            }                                                                                      \
        }                                                                                          \
    }

#ifdef __AVX512F__
DEFINE(units_1, 8, 1, 4)
DEFINE(units_2, 16, 1, 4)
DEFINE(units_3, 8, 3, 2)
DEFINE(units_4, 16, 2, 4)
DEFINE(units_5, 8, 5, 2)
DEFINE(units_6, 16, 3, 2)
DEFINE(units_7, 8, 7, 1)
DEFINE(units_8, 16, 4, 2)
DEFINE(units_10, 16, 5, 1)
DEFINE(units_12, 16, 6, 1)
DEFINE(units_14, 16, 7, 1)
DEFINE(units_16, 16, 8, 1)
#elif defined(__AVX__)
DEFINE(units_1, 8, 1, 4)
DEFINE(units_2, 8, 2, 4)
DEFINE(units_3, 8, 3, 2)
DEFINE(units_4, 8, 4, 2)
DEFINE(units_5, 8, 5, 1)
DEFINE(units_6, 8, 6, 1)
DEFINE(units_7, 8, 7, 1)
DEFINE(units_8, 8, 8, 1)
#else
DEFINE(units_1, 4, 2, 4)
DEFINE(units_2, 4, 4, 2)
DEFINE(units_3, 4, 6, 1)
DEFINE(units_4, 4, 8, 1)
#endif

typedef void (*piece)(const struct mm_planes *p, int64_t from, int64_t to, int64_t at);
static const piece pieces[MOST_UNITS + 1] = {
    0,       units_1, units_2, units_3, units_4,
#if MOST_UNITS >= 8
    units_5, units_6, units_7, units_8,
#endif
#if MOST_UNITS >= 16
    0,       units_10, 0,      units_12, 0, units_14, 0, units_16,
#endif
};

/* Rows [from, to), in pieces of about equal width, so that none is left nearly empty. */
void MM_NAME(const struct mm_planes *p, int64_t from, int64_t to)
{
    int64_t left = p->units, at = 0;
    while (left > 0) {
        int64_t parts = (left + MOST_UNITS - 1) / MOST_UNITS, units = (left + parts - 1) / parts;
        if (!pieces[units])
            units = units < left ? units + 1 : (units + 1) / 2;
        pieces[units](p, from, to, at * MM_UNIT);
        at += units, left -= units;
    }
}
