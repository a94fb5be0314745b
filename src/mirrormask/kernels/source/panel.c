/* The inner loops, compiled once for each instruction set (MM_NAME, and -m flags by the build).
 *
 * One sparse row times a panel of 8 to 128 neighbouring floats: a weight is broadcast and
 * multiplied with the floats at its column.
 */
#include "panel.h"
#include "vectors.h"

#include <string.h>

#ifdef __AVX__
#include <immintrin.h>
#endif
#if defined(__x86_64__)
#define MM_REGISTER(value) "+x"(value)
#elif defined(__aarch64__)
#define MM_REGISTER(value) "+w"(value)
#else
#define MM_REGISTER(value) "+m"(value)
#endif
#include "turn.h"
#include "dots.h"
#include "gaps.h"
#include "row.h"
#include "band.h"

/* A panel of WIDTH floats as PARTS rows by ROW. A tile's step is its width: known beforehand, it
 * costs a shift; a convolution's step is one. */
#define DEFINE_PANEL(WIDTH, ROW, PARTS)                                                            \
    INLINE void panel_##WIDTH##_by(const struct mm_rows *w, int64_t from, int64_t to,              \
                                   const float *x, int64_t step, float *out, int64_t out_step)     \
    {                                                                                              \
        for (int64_t r = from; r < to; r++, out += out_step) {                                     \
            int64_t begin = w->starts[r], count = w->starts[r + 1] - begin;                        \
            float bias = w->bias ? w->bias[r] : 0.0f;                                              \
            for (int part = 0; part < PARTS; part++)                                               \
                ROW(w->columns + begin, w->values + begin, count, x + part * (WIDTH / PARTS),      \
                    step, bias, w->relu, out + part * (WIDTH / PARTS));                            \
        }                                                                                          \
    }                                                                                              \
    static void panel_##WIDTH(const struct mm_rows *w, int64_t from, int64_t to, const float *x,   \
                              int64_t step, float *out, int64_t out_step)                          \
    {                                                                                              \
        if (step == WIDTH)                                                                         \
            panel_##WIDTH##_by(w, from, to, x, WIDTH, out, out_step);                              \
        else                                                                                       \
            panel_##WIDTH##_by(w, from, to, x, step, out, out_step);                               \
    }

#if LANES == 16
DEFINE_ROW(row_8, 8, 1, 4)
DEFINE_ROW(row_16, 16, 1, 4)
DEFINE_ROW(row_32, 16, 2, 4)
DEFINE_ROW(row_64, 16, 4, 2)
DEFINE_ROW(row_128, 16, 8, 1)
DEFINE_PANEL(8, row_8, 1)
DEFINE_PANEL(16, row_16, 1)
DEFINE_PANEL(32, row_32, 1)
DEFINE_PANEL(64, row_64, 1)
DEFINE_PANEL(128, row_128, 1)
DEFINE_BAND(band_8, uint8_t, 8, 8, 1, 4, 1)
DEFINE_BAND(band_16, uint8_t, 16, 16, 1, 4, 1)
DEFINE_BAND(band_32, uint8_t, 32, 16, 2, 2, 1)
DEFINE_BAND(band_64, uint8_t, 64, 16, 4, 2, 1)
DEFINE_BAND(wide_band, uint16_t, 64, 16, 4, 2, 1)
#elif LANES == 8
DEFINE_ROW(row_8, 8, 1, 4)
DEFINE_ROW(row_16, 8, 2, 4)
DEFINE_ROW(row_32, 8, 4, 2)
DEFINE_ROW(row_64, 8, 8, 1)
DEFINE_PANEL(8, row_8, 1)
DEFINE_PANEL(16, row_16, 1)
DEFINE_PANEL(32, row_32, 1)
DEFINE_PANEL(64, row_64, 1)
DEFINE_PANEL(128, row_64, 2)
DEFINE_BAND(band_8, uint8_t, 8, 8, 1, 4, 1)
DEFINE_BAND(band_16, uint8_t, 16, 8, 2, 2, 1)
DEFINE_BAND(band_32, uint8_t, 32, 8, 4, 2, 1)
DEFINE_BAND(band_64, uint8_t, 64, 8, 8, 1, 1)
DEFINE_BAND(wide_band, uint16_t, 64, 8, 8, 1, 1)
#else
DEFINE_ROW(row_8, 4, 2, 4)
DEFINE_ROW(row_16, 4, 4, 2)
DEFINE_ROW(row_32, 4, 8, 1)
DEFINE_PANEL(8, row_8, 1)
DEFINE_PANEL(16, row_16, 1)
DEFINE_PANEL(32, row_32, 1)
DEFINE_PANEL(64, row_32, 2)
DEFINE_PANEL(128, row_32, 4)
DEFINE_BAND(band_8, uint8_t, 8, 4, 2, 2, 1)
DEFINE_BAND(band_16, uint8_t, 16, 4, 4, 1, 1)
DEFINE_BAND(band_32, uint8_t, 32, 4, 8, 1, 1)
DEFINE_BAND(band_64, uint8_t, 64, 4, 8, 1, 2)
DEFINE_BAND(wide_band, uint16_t, 64, 4, 8, 1, 2)
#endif

/* Two columns in one load, where bytes lie in that order: loads are what such a sum waits for. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define TWO_COLUMNS(at, first, second)                                                             \
    uint64_t first, second;                                                                        \
    memcpy(&first, at, sizeof first);                                                              \
    second = first >> 32, first = (uint32_t)first
#else
#define TWO_COLUMNS(at, first, second) uint64_t first = (uint32_t)(at)[0], second = (uint32_t)(at)[1]
#endif

/* Eight inputs are loaded one by one and put together: on the machine measured that was 1.5 times as
 * fast as a gather, with AVX-512 too. Short rows are sums of their own. */
static void vector(const struct mm_rows *w, int64_t from, int64_t to, const float *x, float *y)
{
    typedef float loose __attribute__((vector_size(32), aligned(4)));
    for (int64_t r = from; r < to; r++) {
        int64_t i = w->starts[r], end = w->starts[r + 1];
        float sum = w->bias ? w->bias[r] : 0.0f;
        if (end - i >= 8) {
            floats8 sums = {0};
            for (; i + 8 <= end; i += 8) {
                const int32_t *at = w->columns + i;
                TWO_COLUMNS(at, a, b);
                TWO_COLUMNS(at + 2, c, d);
                TWO_COLUMNS(at + 4, e, f);
                TWO_COLUMNS(at + 6, g, h);
                floats8 found = {x[a], x[b], x[c], x[d], x[e], x[f], x[g], x[h]};
                sums += found * *(const loose *)(w->values + i);
            }
            float parts[8];
            memcpy(parts, &sums, sizeof parts);
            for (int u = 0; u < 4; u++)
                parts[u] += parts[u + 4];
            sum += (parts[0] + parts[1]) + (parts[2] + parts[3]);
        }
        float rest = 0.0f;
        for (; i < end; i++)
            rest += w->values[i] * x[w->columns[i]];
        sum += rest;
        y[r] = w->relu && sum < 0.0f ? 0.0f : sum;
    }
}

static double peak(int64_t rounds)
{
    floats sums[10];
    _Pragma("GCC unroll 10") for (int i = 0; i < 10; i++) sums[i] = (floats){0} + (float)i;
    for (int64_t k = 0; k < rounds; k++) {
        _Pragma("GCC unroll 10") for (int i = 0; i < 10; i++)
        {
            sums[i] = sums[i] * 0.999f + 0.001f;
            /* Keeps the compiler from doing the sum in closed form. */
            __asm__ volatile("" : MM_REGISTER(sums[i]));
        }
    }
    _Pragma("GCC unroll 10") for (int i = 1; i < 10; i++) sums[0] += sums[i];
    /* The sum takes part so that it must be computed; it is far too small to change the count. */
    return 2.0 * LANES * 10.0 * (double)rounds + (double)sums[0][0] * 1e-30;
}

const struct mm_variant MM_NAME = {
    {panel_8, panel_16, panel_32, panel_64, panel_128},
    {band_8, band_16, band_32, band_64},
    wide_band,
    vector,
    dots,
    turn,
    peak,
    MM_SPREAD,
    MM_CLOSED,
    MM_GAP};
