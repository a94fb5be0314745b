/* As gaps.h, where registers have eight lanes and no instructions for it: tables say where lanes go. */
#ifndef MM_GAPS_EIGHT_H
#define MM_GAPS_EIGHT_H

#define MM_GAP 8

INLINE __m256i order(const uint64_t *table, uint16_t pixels)
{
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)(table + pixels)));
}

static void spread(const struct mm_gaps *gaps, int64_t count, const float *from, float *to)
{
    for (int64_t i = 0; i < count; i++) {
        const float *pixels = from + gaps->places[i];
        __builtin_prefetch(pixels + MM_AHEAD);
        /* Lanes that nothing belongs in are negative; those that are not are wanted. */
        __m256i wanted = _mm256_xor_si256(order(mm_together, gaps->pixels[i]), _mm256_set1_epi32(-1));
        __m256 dense = _mm256_maskload_ps(pixels, wanted);
        /* Where a position is no pixel, the last lane is taken, which is zero then. */
        __m256i apart = order(mm_apart, gaps->pixels[i]);
        _mm256_storeu_ps(to + i * MM_GAP, _mm256_permutevar8x32_ps(dense, apart));
    }
}

/* What a vector holds of pixels goes to its place. Unless this has to be exact, whole vectors are written:
 * what comes behind the pixels is overwritten by those that follow. */
INLINE void close(const struct mm_gaps *gaps, int64_t at, floats sums, int exact, float *out)
{
    uint16_t pixels = gaps->pixels[at];
    floats value = (floats)_mm256_permutevar8x32_ps((__m256)sums, order(mm_together, pixels));
    if (exact)
        store_some(out + gaps->places[at], value, __builtin_popcount(pixels));
    else
        store(out + gaps->places[at], value);
}

/* VECTORS of eight floats; SETS of sums, because a chain of additions waits four cycles at every link. */
#define DEFINE_CLOSED(VECTORS, SETS)                                                               \
    INLINE void closed_##VECTORS##_by(const struct mm_rows *w, int64_t from, int64_t to,           \
                                      const float *x, const struct mm_gaps *gaps, int64_t at,      \
                                      float *out, int64_t out_step, int exact)                     \
    {                                                                                              \
        x += at * MM_GAP;                                                                          \
        for (int64_t r = from; r < to; r++, out += out_step) {                                     \
            floats sums[SETS][VECTORS];                                                            \
            float bias = w->bias ? w->bias[r] : 0.0f;                                              \
            _Pragma("GCC unroll 4") for (int u = 0; u < SETS; u++)                                 \
                _Pragma("GCC unroll 12") for (int v = 0; v < VECTORS; v++) sums[u][v] =            \
                    all(u ? 0.0f : bias);                                                          \
            int64_t i = w->starts[r], end = w->starts[r + 1];                                      \
            for (; i + SETS <= end; i += SETS)                                                     \
                _Pragma("GCC unroll 4") for (int u = 0; u < SETS; u++)                             \
                    ADD_PRODUCTS(VECTORS, i + u, sums[u])                                          \
            for (; SETS > 1 && i < end; i++)                                                       \
                ADD_PRODUCTS(VECTORS, i, sums[0])                                                  \
            _Pragma("GCC unroll 12") for (int v = 0; v < VECTORS; v++)                             \
            {                                                                                      \
                _Pragma("GCC unroll 4") for (int u = 1; u < SETS; u++) sums[0][v] += sums[u][v];   \
                if (w->relu) /* NaN stays */                                                       \
                    sums[0][v] = (floats)((ints)sums[0][v] & ~(ints)(sums[0][v] < all(0.0f)));     \
                close(gaps, at + v, sums[0][v], exact, out);                                       \
            }                                                                                      \
        }                                                                                          \
    }                                                                                              \
    static void closed_##VECTORS(const struct mm_rows *w, int64_t from, int64_t to, const float *x, \
                                 const struct mm_gaps *gaps, int64_t at, float *out,               \
                                 int64_t out_step, int exact)                                      \
    {                                                                                              \
        if (exact)                                                                                 \
            closed_##VECTORS##_by(w, from, to, x, gaps, at, out, out_step, 1);                     \
        else                                                                                       \
            closed_##VECTORS##_by(w, from, to, x, gaps, at, out, out_step, 0);                     \
    }
#define ADD_PRODUCTS(VECTORS, I, SUMS)                                                             \
    {                                                                                              \
        const float *place = x + w->columns[I];                                                    \
        float value = w->values[I];                                                                \
        _Pragma("GCC unroll 12") for (int v = 0; v < VECTORS; v++) SUMS[v] +=                      \
            value * load(place + v * LANES);                                                       \
    }
DEFINE_CLOSED(1, 4)
DEFINE_CLOSED(2, 4)
DEFINE_CLOSED(3, 2)
DEFINE_CLOSED(4, 2)
DEFINE_CLOSED(5, 2)
DEFINE_CLOSED(6, 2)
DEFINE_CLOSED(7, 1)
DEFINE_CLOSED(8, 1)
DEFINE_CLOSED(9, 1)
DEFINE_CLOSED(10, 1)
DEFINE_CLOSED(11, 1)
DEFINE_CLOSED(12, 1)
enum { MOST_CLOSED = 12 };

/* Whether some of these vectors hold no pixel, or would be written beyond the image. */
static int must_be_exact(const struct mm_gaps *gaps, int64_t at, int64_t count, int64_t pixels)
{
    for (int64_t v = at; v < at + count; v++)
        if (!gaps->pixels[v] || gaps->places[v] + MM_GAP > pixels)
            return 1;
    return 0;
}

/* Rows [from, to) for so many positions, in pieces of about equal width. */
static void closed(const struct mm_rows *w, int64_t from, int64_t to, const float *x,
                   const struct mm_gaps *gaps, int64_t positions, float *out, int64_t out_step)
{
    static void (*const pieces[])(const struct mm_rows *, int64_t, int64_t, const float *,
                                  const struct mm_gaps *, int64_t, float *, int64_t, int) = {
        NULL,     closed_1, closed_2, closed_3,  closed_4,  closed_5, closed_6,
        closed_7, closed_8, closed_9, closed_10, closed_11, closed_12};
    for (int64_t at = 0, left = (positions + MM_GAP - 1) / MM_GAP; left > 0;) {
        int64_t parts = (left + MOST_CLOSED - 1) / MOST_CLOSED, units = (left + parts - 1) / parts;
        int exact = must_be_exact(gaps, at, units, out_step);
        pieces[units](w, from, to, x, gaps, at, out, out_step, exact);
        at += units, left -= units;
    }
}

#endif
