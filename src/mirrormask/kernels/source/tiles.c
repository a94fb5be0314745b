/* The inner loops of convolutions in tiles, compiled once for each instruction set.
 *
 * The sums of a patch stay in registers while the weights of a row pass: each is one index, one number
 * spread over a register, and as many multiply-adds with aligned inputs as the patch has registers.
 */
#include "tiles.h"
#include "vectors.h"

#if LANES >= 8
#include <immintrin.h>

/* Floats at addresses of which some may lie outside every array: those are neither read nor written.
 * Addresses are numbers here, because such pointers must not be formed. Sanitizers do not see through
 * masked instructions, so they get loops. */
typedef uintptr_t address;
#define PLUS(pointer, floats) ((address)(pointer) + (address)(floats) * sizeof(float))

#if LANES == 8
INLINE __m256i mask_of(uint16_t inside)
{
    __m256i bits = _mm256_set_epi32(128, 64, 32, 16, 8, 4, 2, 1);
    return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(inside), bits), bits);
}
#endif

#ifdef __SANITIZE_ADDRESS__
INLINE floats take_some(floats others, address from, int64_t step, uint16_t inside)
{
    for (int i = 0; i < LANES; i++)
        if (inside >> i & 1)
            others[i] = *(const float *)(from + (address)(i * step) * sizeof(float));
    return others;
}
INLINE floats take_others(floats others, address from, uint16_t inside, uint32_t bits)
{
    (void)bits;
    return take_some(others, from, 2, inside);
}
INLINE void put_some(address to, floats value, uint16_t inside)
{
    for (int i = 0; i < LANES; i++)
        if (inside >> i & 1)
            *(float *)(to + (address)i * sizeof(float)) = value[i];
}
#elif LANES == 16
INLINE floats take_some(floats others, address from, int64_t step, uint16_t inside)
{
    if (step == 1)
        return (floats)_mm512_mask_loadu_ps((__m512)others, inside, (const void *)from);
    ints number = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, at = number * (int32_t)step;
    return (floats)_mm512_mask_i32gather_ps((__m512)others, inside, (__m512i)at, (const void *)from, 4);
}
/* The same for a step of 2, where two loads are faster. */
INLINE floats take_others(floats others, address from, uint16_t inside, uint32_t bits)
{
    __m512 low = _mm512_maskz_loadu_ps((__mmask16)bits, (const void *)from);
    __m512 high = _mm512_maskz_loadu_ps((__mmask16)(bits >> 16), (const void *)PLUS(from, LANES));
    ints even = {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30};
    __m512 value = _mm512_permutex2var_ps(low, (__m512i)even, high);
    return (floats)_mm512_mask_mov_ps((__m512)others, inside, value);
}
INLINE void put_some(address to, floats value, uint16_t inside)
{
    _mm512_mask_storeu_ps((void *)to, inside, (__m512)value);
}
#else
INLINE floats take_some(floats others, address from, int64_t step, uint16_t inside)
{
    __m256 mask = _mm256_castsi256_ps(mask_of(inside));
    if (step == 1)
        return (floats)_mm256_blendv_ps(
            (__m256)others, _mm256_maskload_ps((const void *)from, _mm256_castps_si256(mask)), mask);
    ints number = {0, 1, 2, 3, 4, 5, 6, 7}, at = number * (int32_t)step;
    return (floats)_mm256_mask_i32gather_ps((__m256)others, (const void *)from, (__m256i)at, mask, 4);
}
INLINE floats take_others(floats others, address from, uint16_t inside, uint32_t bits)
{
    __m256 low = _mm256_maskload_ps((const void *)from, mask_of((uint16_t)(bits & 0xff)));
    __m256 high = _mm256_maskload_ps((const void *)PLUS(from, LANES), mask_of((uint16_t)(bits >> 8)));
    __m256d pairs = _mm256_castps_pd(_mm256_shuffle_ps(low, high, 0x88));
    __m256 value = _mm256_castpd_ps(_mm256_permute4x64_pd(pairs, 0xd8));
    return (floats)_mm256_blendv_ps((__m256)others, value, _mm256_castsi256_ps(mask_of(inside)));
}
INLINE void put_some(address to, floats value, uint16_t inside)
{
    _mm256_maskstore_ps((void *)to, mask_of(inside), (__m256)value);
}
#endif

/* What lies one lane further: of this register, and at its end of the next one; 0 where not kept. */
#ifdef __AVX512F__
INLINE floats from_right(floats value, floats next, uint16_t keep)
{
    return (floats)_mm512_maskz_alignr_epi32(keep, (__m512i)next, (__m512i)value, 1);
}
INLINE floats from_left(floats value, floats before, uint16_t keep)
{
    return (floats)_mm512_maskz_alignr_epi32(keep, (__m512i)value, (__m512i)before, 15);
}
#else
INLINE floats from_right(floats value, floats next, uint16_t keep)
{
    ints one = {1, 2, 3, 4, 5, 6, 7, 0};
    __m256 a = _mm256_permutevar8x32_ps((__m256)value, (__m256i)one);
    __m256 b = _mm256_permutevar8x32_ps((__m256)next, (__m256i)one);
    return (floats)_mm256_and_ps(_mm256_blend_ps(a, b, 0x80), _mm256_castsi256_ps(mask_of(keep)));
}
INLINE floats from_left(floats value, floats before, uint16_t keep)
{
    ints one = {7, 0, 1, 2, 3, 4, 5, 6};
    __m256 a = _mm256_permutevar8x32_ps((__m256)value, (__m256i)one);
    __m256 b = _mm256_permutevar8x32_ps((__m256)before, (__m256i)one);
    return (floats)_mm256_and_ps(_mm256_blend_ps(a, b, 0x01), _mm256_castsi256_ps(mask_of(keep)));
}
#endif

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
#if LANES == 16
DEFINE(13, 1)
DEFINE(14, 1)
DEFINE(15, 1)
DEFINE(16, 1)
#define PATCHES                                                                                    \
    patch_1, patch_2, patch_3, patch_4, patch_5, patch_6, patch_7, patch_8, patch_9, patch_10,     \
        patch_11, patch_12, patch_13, patch_14, patch_15, patch_16
enum { MOST = 16 };
#else
#define PATCHES                                                                                    \
    patch_1, patch_2, patch_3, patch_4, patch_5, patch_6, patch_7, patch_8, patch_9, patch_10,     \
        patch_11, patch_12
enum { MOST = 12 };
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

const struct mm_tile_variant MM_NAME = {LANES, MOST, {PATCHES}, pack};
#else
const struct mm_tile_variant MM_NAME = {0};
#endif
