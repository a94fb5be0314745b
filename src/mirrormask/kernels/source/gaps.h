/* Images with gaps between their rows to dense ones and back, in registers, where the instruction set
 * can do that; part of panel.c, whose sums it uses. */
#ifndef MM_GAPS_H
#define MM_GAPS_H

#ifdef __AVX512F__

INLINE __mmask16 first(uint16_t pixels)
{
    return (__mmask16)((1u << __builtin_popcount(pixels)) - 1);
}

static void spread(const struct mm_gaps *gaps, int64_t count, const float *from, float *to)
{
    for (int64_t i = 0; i < count; i++) {
        uint16_t pixels = gaps->pixels[i];
        __builtin_prefetch(from + gaps->places[i] + MM_AHEAD);
        __m512 dense = _mm512_maskz_loadu_ps(first(pixels), from + gaps->places[i]);
        _mm512_storeu_ps(to + i * MM_GAP, _mm512_maskz_expand_ps(pixels, dense));
    }
}

#define DEFINE_CLOSED(WIDTH, VECTORS, UNROLL)                                                      \
    INLINE void closed_row_##WIDTH(const int32_t *columns, const float *values, int64_t count,     \
                                   const float *x, float bias, int relu,                           \
                                   const struct mm_gaps *gaps, float *out)                         \
    {                                                                                              \
        enum { step = 1 };                                                                         \
        SUM(16, VECTORS, UNROLL, 0)                                                                \
        _Pragma("GCC unroll 8") for (int v = 0; v < VECTORS; v++)                                  \
        {                                                                                          \
            uint16_t pixels = gaps->pixels[v];                                                     \
            __m512 dense = _mm512_maskz_compress_ps(pixels, (__m512)sums[0][v]);                   \
            float *to = out + gaps->places[v];                                                     \
            _mm512_mask_storeu_ps(to, first(pixels), dense);                                       \
            __builtin_prefetch(to + WIDTH, 1);                                                     \
        }                                                                                          \
    }                                                                                              \
    static void closed_##WIDTH(const struct mm_rows *w, int64_t from, int64_t to, const float *x,  \
                               const struct mm_gaps *gaps, int64_t at, float *out,                 \
                               int64_t out_step)                                                   \
    {                                                                                              \
        struct mm_gaps own = {gaps->pixels + at / MM_GAP, gaps->places + at / MM_GAP};             \
        x += at;                                                                                   \
        for (int64_t r = from; r < to; r++, out += out_step) {                                     \
            int64_t begin = w->starts[r], count = w->starts[r + 1] - begin;                        \
            closed_row_##WIDTH(w->columns + begin, w->values + begin, count, x,                    \
                               w->bias ? w->bias[r] : 0.0f, w->relu, &own, out);                   \
        }                                                                                          \
    }
DEFINE_CLOSED(16, 1, 4)
DEFINE_CLOSED(32, 2, 4)
DEFINE_CLOSED(64, 4, 2)
DEFINE_CLOSED(128, 8, 1)
#define MM_SPREAD spread
#define MM_CLOSED NULL, closed_16, closed_32, closed_64, closed_128

#else

#define MM_SPREAD NULL
#define MM_CLOSED NULL

#endif
#endif
