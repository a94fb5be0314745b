/* The inner loops of convolutions in tiles, compiled once for each instruction set.
 *
 * The sums of a patch stay in registers while the weights of a row pass: each is one index, one number
 * spread over a register, and as many multiply-adds with aligned inputs as the patch has registers.
 */
#include "tiles.h"
#include "vectors.h"

#if LANES >= 8
#include "tiles_lanes.h"
#include "strip_rows.h"

/* Sums of N registers; SETS of them where they are few, because a chain of additions waits four cycles
 * at every link. */
#define DEFINE(N, SETS)                                                                            \
    INLINE void add_##N(const struct mm_patch_rows *w, const int32_t *group, const float *x,       \
                        floats sums[N])                                                            \
    {                                                                                              \
        floats s[SETS][N];                                                                         \
        int32_t k = group[0], end = group[1];                                                      \
        _Pragma("GCC unroll 4") for (int u = 0; u < SETS; u++)                                     \
            _Pragma("GCC unroll 16") for (int j = 0; j < N; j++) s[u][j] = u ? all(0.0f) : sums[j]; \
        for (; k + SETS <= end; k += SETS)                                                         \
            _Pragma("GCC unroll 4") for (int u = 0; u < SETS; u++)                                 \
            {                                                                                      \
                const float *place = x + w->columns[k + u];                                        \
                float value = w->values[k + u];                                                    \
                _Pragma("GCC unroll 16") for (int j = 0; j < N; j++) s[u][j] +=                    \
                    value * load(place + j * LANES);                                               \
            }                                                                                      \
        for (; SETS > 1 && k < end; k++) {                                                         \
            const float *place = x + w->columns[k];                                                \
            float value = w->values[k];                                                            \
            _Pragma("GCC unroll 16") for (int j = 0; j < N; j++) s[0][j] +=                        \
                value * load(place + j * LANES);                                                   \
        }                                                                                          \
        _Pragma("GCC unroll 16") for (int j = 0; j < N; j++)                                       \
        {                                                                                          \
            _Pragma("GCC unroll 4") for (int u = 1; u < SETS; u++) s[0][j] += s[u][j];             \
            sums[j] = s[0][j];                                                                     \
        }                                                                                          \
    }                                                                                              \
    static void patch_##N(const struct mm_patch_rows *w, const struct mm_patch_places *places,     \
                          const float *x, float *sums, float *y)                                   \
    {                                                                                              \
        const int32_t *group = w->starts;                                                          \
        const float *add = w->add;                                                                 \
        for (int64_t r = 0; r < w->rows; r++, sums += N * LANES, y += places->channel) {           \
            floats s[N], first = all(w->bias ? w->bias[r] : 0.0f);                                 \
            int begins = w->begins;                                                                \
            _Pragma("GCC unroll 16") for (int j = 0; j < N; j++) s[j] = all(0.0f);                 \
            for (int64_t g = 0; g < w->right; g++) {                                               \
                add_##N(w, group++, x, s);                                                         \
                _Pragma("GCC unroll 16") for (int j = N - 1; j >= 0; j--) s[j] =                   \
                    from_left(s[j], j > 0 ? s[j - 1] : all(0.0f), places->right[j]);               \
            }                                                                                      \
            if (w->right && w->left) {                                                             \
                _Pragma("GCC unroll 16") for (int j = 0; j < N; j++)                               \
                {                                                                                  \
                    store(sums + j * LANES, s[j] + (begins ? first : load(sums + j * LANES)));     \
                    s[j] = all(0.0f);                                                              \
                }                                                                                  \
                begins = 0;                                                                        \
            }                                                                                      \
            for (int64_t g = 0; g < w->left; g++) {                                                \
                add_##N(w, group++, x, s);                                                         \
                _Pragma("GCC unroll 16") for (int j = 0; j < N; j++) s[j] =                        \
                    from_right(s[j], j + 1 < N ? s[j + 1] : all(0.0f), places->left[j]);           \
            }                                                                                      \
            add_##N(w, group++, x, s);                                                             \
            for (int64_t l = 0; add && l < places->tiles; l++)                                     \
                _Pragma("GCC unroll 16") for (int j = 0; j < N; j++) s[j] +=                       \
                    take_some(all(0.0f), PLUS(add, places->add[l][j]), 1, places->inside[l][j]);   \
            add = add ? add + places->add_channel : NULL;                                          \
            _Pragma("GCC unroll 16") for (int j = 0; j < N; j++)                                   \
            {                                                                                      \
                s[j] += begins ? first : load(sums + j * LANES);                                   \
                if (w->relu)                                                                       \
                    s[j] = (floats)((ints)s[j] & ~(ints)(s[j] < 0.0f));                            \
                if (!w->ends)                                                                      \
                    store(sums + j * LANES, s[j]);                                                 \
            }                                                                                      \
            if (w->ends && places->whole) {                                                        \
                _Pragma("GCC unroll 16") for (int j = 0; j < N; j++)                               \
                    store(y + places->to[0][j], s[j]);                                             \
            } else if (w->ends) {                                                                  \
                for (int64_t l = 0; l < places->tiles; l++)                                        \
                    _Pragma("GCC unroll 16") for (int j = 0; j < N; j++)                           \
                        put_some(PLUS(y, places->to[l][j]), s[j], places->inside[l][j]);           \
            }                                                                                      \
            for (int64_t j = 0; w->ends && j < places->ahead; j += LANES)                          \
                __builtin_prefetch((const void *)PLUS(y, places->to[0][0] + places->ahead + j), 1); \
        }                                                                                          \
    }
DEFINE(1, 4)
DEFINE(2, 4)
DEFINE(3, 2)
DEFINE(4, 2)
DEFINE(5, 1)
DEFINE(6, 1)
DEFINE(7, 1)
DEFINE(8, 1)
DEFINE(9, 1)
DEFINE(10, 1)
DEFINE(11, 1)
DEFINE(12, 1)
DEFINE_STRIP(1, 2, 0x1, 0x1)
DEFINE_STRIP(2, 4, 0x1, 0x2)
DEFINE_STRIP(3, 6, 0x1, 0x4)
DEFINE_STRIP(4, 8, 0x1, 0x8)
DEFINE_STRIP(5, 10, 0x1, 0x10)
DEFINE_STRIP(6, 12, 0x1, 0x20)
DEFINE_STRIP(7, 7, 0x9, 0x48)
#if LANES == 16
DEFINE(13, 1)
DEFINE(14, 1)
DEFINE(15, 1)
DEFINE(16, 1)
DEFINE_STRIP(8, 4, 0x55, 0xaa)
DEFINE_STRIP(9, 18, 0x1, 0x100)
DEFINE_STRIP(10, 20, 0x1, 0x200)
DEFINE_STRIP(11, 22, 0x1, 0x400)
DEFINE_STRIP(12, 24, 0x1, 0x800)
DEFINE_STRIP(13, 26, 0x1, 0x1000)
DEFINE_STRIP(14, 7, 0x489, 0x2448)
#define PATCHES                                                                                    \
    patch_1, patch_2, patch_3, patch_4, patch_5, patch_6, patch_7, patch_8, patch_9, patch_10,     \
        patch_11, patch_12, patch_13, patch_14, patch_15, patch_16
#define STRIPS                                                                                     \
    strip_1, strip_2, strip_3, strip_4, strip_5, strip_6, strip_7, strip_8, strip_9, strip_10,     \
        strip_11, strip_12, strip_13, strip_14
enum { MOST = 16, MOST_OF_STRIP = 14 };
#else
#define PATCHES                                                                                    \
    patch_1, patch_2, patch_3, patch_4, patch_5, patch_6, patch_7, patch_8, patch_9, patch_10,     \
        patch_11, patch_12
#define STRIPS strip_1, strip_2, strip_3, strip_4, strip_5, strip_6, strip_7
enum { MOST = 12, MOST_OF_STRIP = 7 };
#endif

INLINE floats take(floats others, address from, int64_t step, uint16_t inside, uint32_t bits)
{
    return step == 2 ? take_others(others, from, inside, bits) : take_some(others, from, step, inside);
}

/* The next channel is asked for while a channel is packed, in the order in which it lies: images may be
 * in no cache. */
INLINE void ask(address place, const struct mm_sources *sources, int64_t step)
{
    __builtin_prefetch((const void *)PLUS(place, sources->channel));
    if (step == 2)
        __builtin_prefetch((const void *)PLUS(place, sources->channel + LANES));
}

/* One register of all lines of a single tile. */
INLINE void pack_register(const struct mm_sources *sources, const struct mm_source *source, address from,
                          float *to, int64_t step)
{
    int64_t lines = sources->lines, first = source->first[0], end = source->end[0], i = 0;
    address line = (address)sources->line * sizeof(float);
    uint16_t inside = source->inside[0];
    uint32_t others = source->others[0];
    int asks = (int)source->asks;
    from += (address)first * line, end = end < lines ? end : lines;
    for (; i < first && i < lines; i++, to += sources->to_line)
        store(to, all(0.0f));
    for (; i < end; i++, to += sources->to_line, from += line) {
        store(to, take(all(0.0f), from, step, inside, others));
        if (asks)
            ask(from, sources, step);
    }
    for (; i < lines; i++, to += sources->to_line)
        store(to, all(0.0f));
}

/* Line by line, all registers of one tile whose sources follow each other: they have one phase. It asks
 * for more at a time than far images come in. */
INLINE void pack_rows(const struct mm_sources *sources, address from, float *to)
{
    const struct mm_source *all_of = sources->all;
    address line = (address)sources->line * sizeof(float);
    for (int64_t i = 0; i < sources->lines; i++, to += sources->to_line, from += line) {
        int within = i >= all_of->first[0] && i < all_of->end[0];
        for (int64_t v = 0; v < sources->count; v++) {
            address place = PLUS(from, v * LANES);
            store(to + v * LANES, take_some(all(0.0f), place, 1, within ? all_of[v].inside[0] : 0));
            if (within)
                ask(place, sources, 1);
        }
    }
}

/* Line by line, all registers of a line from so many tiles. */
INLINE void pack_lines(const struct mm_sources *sources, const float *from, float *to, int64_t tiles,
                       int64_t step)
{
    for (int64_t i = 0; i < sources->lines; i++, to += sources->to_line, from += sources->line)
        for (int64_t n = 0; n < sources->count; n++) {
            const struct mm_source *source = sources->all + n;
            floats value = all(0.0f);
            for (int64_t l = 0; l < tiles; l++) {
                address place = PLUS(from, source->at[l]);
                if (i < source->first[l] || i >= source->end[l])
                    continue;
                value = take(value, place, step, source->inside[l], source->others[l]);
                if (source->asks)
                    ask(place, sources, step);
            }
            store(to + source->to, value);
        }
}

INLINE void pack_by(const struct mm_sources *sources, const float *from, float *to, int64_t step)
{
    if (sources->tiles > 1)
        pack_lines(sources, from, to, sources->tiles, step);
    else if (step == 1 && sources->count > 1 && sources->count * LANES == sources->to_line &&
             sources->all->inside[0] && !sources->far)
        pack_rows(sources, PLUS(from, sources->all->at[0]), to);
    else if (step == 1 && sources->count > 1)
        pack_lines(sources, from, to, 1, 1);
    else
        for (const struct mm_source *source = sources->all; source < sources->all + sources->count; source++)
            pack_register(sources, source, PLUS(from, source->at[0]), to + source->to, step);
}

static void pack(const struct mm_sources *sources, const float *from, float *to)
{
    if (sources->step == 1)
        pack_by(sources, from, to, 1);
    else if (sources->step == 2)
        pack_by(sources, from, to, 2);
    else
        pack_by(sources, from, to, sources->step);
}

const struct mm_tile_variant MM_NAME = {LANES, MOST, MOST_OF_STRIP, {PATCHES}, {STRIPS}, pack};
#else
const struct mm_tile_variant MM_NAME = {0};
#endif
