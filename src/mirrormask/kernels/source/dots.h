/* Products of neighbouring floats, one for each weight; part of panel.c, whose types it uses. */
#ifndef MM_DOTS_H
#define MM_DOTS_H

/* The sums of the lanes of eight vectors, added to out. */
INLINE void add_eight(const floats *sums, float *out)
{
#if LANES >= 8
    typedef float loose __attribute__((vector_size(32), aligned(4)));
    floats8 a[8];
    _Pragma("GCC unroll 8") for (int u = 0; u < 8; u++)
    {
#if LANES == 16
        union {
            floats16 all;
            floats8 half[2];
        } both = {sums[u]};
        a[u] = both.half[0] + both.half[1];
#else
        a[u] = sums[u];
#endif
    }
    /* Pairs are folded into one vector each, until one holds all eight. */
    _Pragma("GCC unroll 4") for (int u = 0; u < 4; u++) a[u] =
        PAIR(a[u], a[u + 4], 0, 1, 2, 3, 8, 9, 10, 11) + PAIR(a[u], a[u + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    _Pragma("GCC unroll 2") for (int u = 0; u < 2; u++) a[u] =
        PAIR(a[u], a[u + 2], 0, 1, 8, 9, 4, 5, 12, 13) + PAIR(a[u], a[u + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    a[0] = PAIR(a[0], a[1], 0, 8, 2, 10, 4, 12, 6, 14) + PAIR(a[0], a[1], 1, 9, 3, 11, 5, 13, 7, 15);
    *(loose *)out += a[0];
#else
    for (int u = 0; u < 8; u++)
        out[u] += (sums[u][0] + sums[u][2]) + (sums[u][1] + sums[u][3]);
#endif
}

/* COUNT weights of one row at once: the row's own floats are loaded once for all of them. Each has
 * CHAINS sums, because a chain of additions waits four cycles at every link. */
#define DEFINE_DOTS(NAME, COUNT, CHAINS)                                                           \
    INLINE void NAME(const int32_t *columns, const float *a, const float *b, int64_t step,         \
                     struct mm_lines lines, float *out)                                            \
    {                                                                                              \
        const float *places[COUNT];                                                                \
        floats sums[8] = {0}, more[CHAINS][COUNT] = {0};                                           \
        float rest[COUNT] = {0};                                                                   \
        _Pragma("GCC unroll 8") for (int u = 0; u < COUNT; u++) places[u] = b + columns[u] * step; \
        for (int64_t line = 0; line < lines.count; line++) {                                       \
            int64_t k = line * lines.step, n = k + lines.n;                                        \
            for (; k + CHAINS * LANES <= n; k += CHAINS * LANES) {                                 \
                _Pragma("GCC unroll 8") for (int v = 0; v < CHAINS; v++)                           \
                {                                                                                  \
                    floats own = load(a + k + v * LANES);                                          \
                    _Pragma("GCC unroll 8") for (int u = 0; u < COUNT; u++) more[v][u] +=          \
                        own * load(places[u] + k + v * LANES);                                     \
                }                                                                                  \
            }                                                                                      \
            for (; k + LANES <= n; k += LANES) {                                                   \
                floats own = load(a + k);                                                          \
                _Pragma("GCC unroll 8") for (int u = 0; u < COUNT; u++) more[0][u] +=              \
                    own * load(places[u] + k);                                                     \
            }                                                                                      \
            for (; k < n; k++)                                                                     \
                _Pragma("GCC unroll 8") for (int u = 0; u < COUNT; u++) rest[u] +=                 \
                    a[k] * places[u][k];                                                           \
        }                                                                                          \
        _Pragma("GCC unroll 8") for (int v = 0; v < CHAINS; v++)                                   \
            _Pragma("GCC unroll 8") for (int u = 0; u < COUNT; u++) sums[u] += more[v][u];         \
        float found[8] = {0};                                                                      \
        add_eight(sums, found);                                                                    \
        _Pragma("GCC unroll 8") for (int u = 0; u < COUNT; u++) out[u] += found[u] + rest[u];      \
    }
DEFINE_DOTS(dots_8, 8, 1)
DEFINE_DOTS(dots_4, 4, 2)
DEFINE_DOTS(dots_1, 1, 4)

/* out[i] += a[row] . b[columns[i]], over some lines of both, for the weights of rows [from, to). */
static void dots(const struct mm_rows *w, int64_t from, int64_t to, const float *a, int64_t a_step,
                 const float *b, int64_t b_step, struct mm_lines lines, float *out)
{
    for (int64_t r = from; r < to; r++) {
        const float *own = a + r * a_step;
        int64_t i = w->starts[r], end = w->starts[r + 1];
        for (; i + 8 <= end; i += 8)
            dots_8(w->columns + i, own, b, b_step, lines, out + i);
        for (; i + 4 <= end; i += 4)
            dots_4(w->columns + i, own, b, b_step, lines, out + i);
        for (; i < end; i++)
            dots_1(w->columns + i, own, b, b_step, lines, out + i);
    }
}

#endif
