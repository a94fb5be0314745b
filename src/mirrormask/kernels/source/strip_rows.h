/* Rows of weights times a strip of pixels; part of tiles.c, whose sums it uses.
 *
 * Sums of the weights right above and below a pixel cross no edge. Those of every other column of the
 * kernel are made apart in registers where rows end, and what came from beyond the end of a row is
 * dropped before they are added.
 */
#ifndef MM_STRIP_ROWS_H
#define MM_STRIP_ROWS_H

#include "tiles_lanes.h"

typedef int32_t loose_ints __attribute__((vector_size(LANES * 4), aligned(4)));
INLINE ints load_ints(const int32_t *from) { return *(const loose_ints *)from; }

/* The row's turn to ask for what a later strip reads of a channel, and writes, for the second-level cache:
 * measured, to ask for it nearer cost more than it gained. */
INLINE void ask_later(const struct mm_strip *strip, int64_t row, int64_t registers, const float *y)
{
    for (int64_t j = 0; row < strip->later_count && j < registers; j++)
        __builtin_prefetch((const void *)PLUS(strip->later, row * strip->later_step + j * LANES), 0, 2);
    for (int64_t j = 0; strip->far && j < registers; j++)
        __builtin_prefetch((const void *)PLUS(y, (MM_STRIPS_AHEAD * registers + j) * LANES), 0, 2);
}

/* The sums of a group of weights: of registers in `apart` without what crossed an edge. */
#define ADD_GROUP(N, apart)                                                                        \
    {                                                                                              \
        floats sums_of[N];                                                                         \
        _Pragma("GCC unroll 16") for (int j = 0; j < N; j++) sums_of[j] =                          \
            (apart) >> j & 1 ? all(0.0f) : s[j];                                                   \
        add_##N(w, group, x, sums_of);                                                             \
        _Pragma("GCC unroll 16") for (int j = 0; j < N; j++) s[j] =                                \
            (apart) >> j & 1 ? s[j] + (floats)((ints)sums_of[j] & load_ints(keep + j * LANES))     \
                             : sums_of[j];                                                         \
    }

/* RIGHT + 1 groups, of which CENTRE crosses no edge. Those before it cross edges in registers `left`
 * alone, those behind it in registers `after`. */
#define DEFINE_ROWS(N)                                                                             \
    INLINE void rows_##N(const struct mm_patch_rows *w, const struct mm_strip *strip, const float *x, \
                         float *sums, float *y, int64_t right, int64_t centre, int left, int after) \
    {                                                                                              \
        const int32_t *group = w->starts;                                                          \
        const float *add = w->add;                                                                 \
        for (int64_t r = 0; r < w->rows; r++, sums += N * LANES, y += strip->channel) {            \
            floats s[N], first = all(w->bias ? w->bias[r] : 0.0f);                                 \
            const int32_t *keep = strip->keep;                                                     \
            ask_later(strip, r, N, y);                                                             \
            _Pragma("GCC unroll 16") for (int j = 0; j < N; j++) s[j] =                            \
                w->begins ? first : load(sums + j * LANES);                                        \
            _Pragma("GCC unroll 3") for (int64_t g = 0; g <= right;                                \
                                         g++, group++, keep += strip->keep_step)                   \
            {                                                                                      \
                if (group[0] == group[1])                                                          \
                    continue;                                                                      \
                if (g < centre)                                                                    \
                    ADD_GROUP(N, left)                                                             \
                else if (g > centre)                                                               \
                    ADD_GROUP(N, after)                                                            \
                else                                                                               \
                    add_##N(w, group, x, s);                                                       \
            }                                                                                      \
            if (add) {                                                                             \
                _Pragma("GCC unroll 16") for (int j = 0; j < N - 1; j++) s[j] +=                   \
                    load(add + j * LANES);                                                         \
                s[N - 1] += take_some(all(0.0f), PLUS(add, (N - 1) * LANES), 1, strip->inside);    \
                add += strip->add_channel;                                                         \
            }                                                                                      \
            _Pragma("GCC unroll 16") for (int j = 0; w->relu && j < N; j++) s[j] =                 \
                (floats)((ints)s[j] & ~(ints)(s[j] < 0.0f));                                       \
            _Pragma("GCC unroll 16") for (int j = 0; j < N - 1; j++)                               \
                store((w->ends ? y : sums) + j * LANES, s[j]);                                     \
            if (w->ends)                                                                           \
                put_some(PLUS(y, (N - 1) * LANES), s[N - 1], strip->inside);                       \
            else                                                                                   \
                store(sums + (N - 1) * LANES, s[N - 1]);                                           \
        }                                                                                          \
    }

/* Kernels three pixels wide, which everybody has, know where they may cross an edge if strips begin, and
 * rows end, after a multiple of so many HALVES of registers: in few registers. */
#define DEFINE_STRIP(N, HALVES, LEFT, AFTER)                                                       \
    DEFINE_ROWS(N)                                                                                 \
    static void strip_##N(const struct mm_patch_rows *w, const struct mm_strip *strip,             \
                          const float *x, float *sums, float *y)                                   \
    {                                                                                              \
        int three = w->right == 2 && strip->centre == 1;                                           \
        if (three && strip->from % (HALVES * LANES / 2) == 0 && strip->wide % (HALVES * LANES / 2) == 0) \
            rows_##N(w, strip, x, sums, y, 2, 1, LEFT, AFTER);                                     \
        else if (three)                                                                            \
            rows_##N(w, strip, x, sums, y, 2, 1, ~0, ~0);                                          \
        else                                                                                       \
            rows_##N(w, strip, x, sums, y, w->right, strip->centre, ~0, ~0);                       \
    }

#endif
