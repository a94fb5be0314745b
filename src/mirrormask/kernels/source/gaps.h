/* Images with gaps between their rows to dense ones and back, in registers, where the instruction set
 * can do that; part of panel.c, whose types it uses. */
#ifndef MM_GAPS_H
#define MM_GAPS_H

#ifdef __AVX512F__

#define MM_GAP 16

INLINE __mmask16 first(uint32_t pixels) { return (__mmask16)((1u << __builtin_popcount(pixels)) - 1); }

static void spread(const struct mm_gaps *gaps, int64_t count, const float *from, float *to)
{
    for (int64_t i = 0; i < count; i++) {
        uint16_t pixels = gaps->pixels[i];
        __builtin_prefetch(from + gaps->places[i] + MM_AHEAD);
        __m512 dense = _mm512_maskz_loadu_ps(first(pixels), from + gaps->places[i]);
        _mm512_storeu_ps(to + i * MM_GAP, _mm512_maskz_expand_ps(pixels, dense));
    }
}

/* What a vector holds of pixels goes to its place; the line that the next panel of the row will write
 * is asked for. */
INLINE void close(const struct mm_gaps *gaps, int64_t at, __m512 sums, uint16_t within, float *out)
{
    uint16_t pixels = gaps->pixels[at] & within;
    float *to = out + gaps->places[at];
    _mm512_mask_storeu_ps(to, first(pixels), _mm512_maskz_compress_ps(pixels, sums));
    __builtin_prefetch(to + 8 * MM_GAP, 1);
}

INLINE __m512 kept(__m512 sum, int relu)
{
    /* NaN stays. */
    return relu ? _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(sum, _mm512_setzero_ps(), _CMP_NLT_UQ), sum)
                : sum;
}

/* WIDE vectors of 16 floats and, if HALF, one of 8: an unaligned read that ends early touches fewer
 * lines. UNROLL weights are in flight. */
#define DEFINE_CLOSED(NAME, WIDE, HALF, UNROLL)                                                    \
    static void NAME(const struct mm_rows *w, int64_t from, int64_t to, const float *x,            \
                     const struct mm_gaps *gaps, int64_t at, float *out, int64_t out_step)         \
    {                                                                                              \
        x += at, at /= MM_GAP;                                                                     \
        for (int64_t r = from; r < to; r++, out += out_step) {                                     \
            __m512 sums[UNROLL][WIDE + 1];                                                         \
            __m256 half[UNROLL];                                                                   \
            float bias = w->bias ? w->bias[r] : 0.0f;                                              \
            _Pragma("GCC unroll 4") for (int u = 0; u < UNROLL; u++)                               \
            {                                                                                      \
                half[u] = _mm256_set1_ps(u ? 0.0f : bias);                                         \
                _Pragma("GCC unroll 8") for (int v = 0; v < WIDE; v++) sums[u][v] =                \
                    _mm512_set1_ps(u ? 0.0f : bias);                                               \
            }                                                                                      \
            int64_t i = w->starts[r], end = w->starts[r + 1];                                      \
            for (; i + UNROLL <= end; i += UNROLL)                                                 \
                _Pragma("GCC unroll 4") for (int u = 0; u < UNROLL; u++)                           \
                    ADD_PRODUCTS(WIDE, HALF, i + u, sums[u], half[u])                              \
            for (; i < end; i++)                                                                   \
                ADD_PRODUCTS(WIDE, HALF, i, sums[0], half[0])                                      \
            _Pragma("GCC unroll 8") for (int v = 0; v < WIDE; v++)                                 \
            {                                                                                      \
                _Pragma("GCC unroll 4") for (int u = 1; u < UNROLL; u++) sums[0][v] += sums[u][v]; \
                close(gaps, at + v, kept(sums[0][v], w->relu), 0xffff, out);                       \
            }                                                                                      \
            if (HALF) {                                                                            \
                _Pragma("GCC unroll 4") for (int u = 1; u < UNROLL; u++) half[0] += half[u];       \
                close(gaps, at + WIDE, kept(_mm512_castps256_ps512(half[0]), w->relu), 0xff, out); \
            }                                                                                      \
        }                                                                                          \
    }
#define ADD_PRODUCTS(WIDE, HALF, I, SUMS, LAST)                                                    \
    {                                                                                              \
        const float *place = x + w->columns[I];                                                    \
        float value = w->values[I];                                                                \
        _Pragma("GCC unroll 8") for (int v = 0; v < WIDE; v++) SUMS[v] =                           \
            _mm512_fmadd_ps(_mm512_set1_ps(value), _mm512_loadu_ps(place + v * 16), SUMS[v]);      \
        if (HALF)                                                                                  \
            LAST = _mm256_fmadd_ps(_mm256_set1_ps(value), _mm256_loadu_ps(place + WIDE * 16), LAST); \
    }
DEFINE_CLOSED(closed_1, 0, 1, 4)
DEFINE_CLOSED(closed_2, 1, 0, 4)
DEFINE_CLOSED(closed_3, 1, 1, 4)
DEFINE_CLOSED(closed_4, 2, 0, 4)
DEFINE_CLOSED(closed_5, 2, 1, 2)
DEFINE_CLOSED(closed_6, 3, 0, 2)
DEFINE_CLOSED(closed_7, 3, 1, 2)
DEFINE_CLOSED(closed_8, 4, 0, 2)
DEFINE_CLOSED(closed_9, 4, 1, 1)
DEFINE_CLOSED(closed_10, 5, 0, 1)
DEFINE_CLOSED(closed_11, 5, 1, 1)
DEFINE_CLOSED(closed_12, 6, 0, 1)
DEFINE_CLOSED(closed_13, 6, 1, 1)
DEFINE_CLOSED(closed_14, 7, 0, 1)
DEFINE_CLOSED(closed_15, 7, 1, 1)
DEFINE_CLOSED(closed_16, 8, 0, 1)

/* Rows [from, to) for so many positions, in pieces of about equal width. */
static void closed(const struct mm_rows *w, int64_t from, int64_t to, const float *x,
                   const struct mm_gaps *gaps, int64_t positions, float *out, int64_t out_step)
{
    static void (*const pieces[])(const struct mm_rows *, int64_t, int64_t, const float *,
                                  const struct mm_gaps *, int64_t, float *, int64_t) = {
        NULL,     closed_1, closed_2,  closed_3,  closed_4,  closed_5,  closed_6,  closed_7, closed_8,
        closed_9, closed_10, closed_11, closed_12, closed_13, closed_14, closed_15, closed_16};
    for (int64_t at = 0, left = (positions + 7) / 8; left > 0;) {
        int64_t parts = (left + 15) / 16, units = (left + parts - 1) / parts;
        if (units < left) /* only the last one may end amid MM_GAP positions */
            units += units % 2;
        pieces[units](w, from, to, x, gaps, at, out, out_step);
        at += units * 8, left -= units;
    }
}

#define MM_SPREAD spread
#define MM_CLOSED closed
#elif LANES == 8
#include "gaps_eight.h"
#define MM_SPREAD spread
#define MM_CLOSED closed
#else
#define MM_GAP 0
#define MM_SPREAD NULL
#define MM_CLOSED NULL
#endif
#endif
