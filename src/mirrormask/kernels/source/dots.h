/* Products of neighbouring floats, one for each weight; part of panel.c, whose types it uses. */
#ifndef MM_DOTS_H
#define MM_DOTS_H

INLINE float sum_of(floats lanes)
{
    union {
        floats all;
        floats4 parts[LANES / 4];
        float one[LANES];
    } u = {lanes};
    for (int i = 1; i < LANES / 4; i++)
        u.parts[0] += u.parts[i];
    return (u.one[0] + u.one[2]) + (u.one[1] + u.one[3]);
}

/* COUNT columns of one row at once: its own floats are loaded once for all of them. */
#define DEFINE_DOTS(NAME, COUNT)                                                                   \
    INLINE void NAME(const int32_t *columns, const float *a, const float *b, int64_t n, float *out) \
    {                                                                                              \
        const float *places[COUNT];                                                                \
        floats sums[COUNT];                                                                          \
        _Pragma("GCC unroll 8") for (int u = 0; u < COUNT; u++)                                    \
        {                                                                                          \
            places[u] = b + columns[u] * n;                                                        \
            sums[u] = (floats){0};                                                                   \
        }                                                                                          \
        int64_t k = 0;                                                                             \
        for (; k + LANES <= n; k += LANES) {                                                       \
            floats own = load(a + k);                                               \
            _Pragma("GCC unroll 8") for (int u = 0; u < COUNT; u++) sums[u] +=                     \
                own * load(places[u] + k);                                        \
        }                                                                                          \
        _Pragma("GCC unroll 8") for (int u = 0; u < COUNT; u++)                                    \
        {                                                                                          \
            float sum = sum_of(sums[u]);                                                           \
            for (int64_t rest = k; rest < n; rest++)                                               \
                sum += a[rest] * places[u][rest];                                                  \
            out[u] = sum;                                                                          \
        }                                                                                          \
    }
DEFINE_DOTS(dots_8, 8)
DEFINE_DOTS(dots_1, 1)

/* out[i] = a[row] . b[columns[i]], n floats each, for the weights of rows [from, to). */
static void dots(const struct mm_rows *w, int64_t from, int64_t to, const float *a, const float *b,
                 int64_t n, float *out)
{
    for (int64_t r = from; r < to; r++) {
        int64_t i = w->starts[r], end = w->starts[r + 1];
        for (; i + 8 <= end; i += 8)
            dots_8(w->columns + i, a + r * n, b, n, out + i);
        for (; i < end; i++)
            dots_1(w->columns + i, a + r * n, b, n, out + i);
    }
}

#endif
