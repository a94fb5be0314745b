/* One sparse row times a panel; part of panel.c, whose types it uses.
 *
 * Each multiply-add loads its inputs, so the load ports are what these loops wait for. Weights are
 * therefore taken by fours: their columns come in two loads, their values in one, from which
 * each is spread within the register.
 */
#ifndef MM_ROW_H
#define MM_ROW_H

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
INLINE void four_columns(const int32_t *from, int64_t to[4])
{
    uint64_t low, high; /* columns and offsets are never negative */
    memcpy(&low, from, sizeof low);
    memcpy(&high, from + 2, sizeof high);
    to[0] = (uint32_t)low, to[1] = (int64_t)(low >> 32);
    to[2] = (uint32_t)high, to[3] = (int64_t)(high >> 32);
}
#else
INLINE void four_columns(const int32_t *from, int64_t to[4])
{
    for (int u = 0; u < 4; u++)
        to[u] = from[u];
}
#endif

/* VALUES_N(from): four values; SPREAD_N(four, u): the u-th of them in all lanes. */
#ifdef __AVX512F__
#define VALUES_16(from) _mm512_broadcast_f32x4(_mm_loadu_ps(from))
#define SPREAD_16(four, u) (floats16) _mm512_permute_ps(four, 0x55 * (u))
#endif
#ifdef __AVX__
#define VALUES_8(from) _mm256_broadcast_ps((const __m128 *)(from))
#define SPREAD_8(four, u) (floats8) _mm256_permute_ps(four, 0x55 * (u))
#endif
#define VALUES_4(from) from
#define SPREAD_4(four, u) ((floats4){0} + four[u])

#define ADD_PRODUCT(N, VECTORS, SETS, u)                                                           \
    {                                                                                              \
        const float *place = x + at[u] * step;                                                     \
        floats##N value = SPREAD_##N(four, u);                                                     \
        _Pragma("GCC unroll 8") for (int v = 0; v < VECTORS; v++) sums[u % SETS][v] +=             \
            value * *(const loose *)(place + v * N);                                               \
    }

/* VECTORS of N lanes make the panel. There are SETS of sums, because a chain of additions waits four
 * cycles at every link. */
#define DEFINE_ROW(NAME, N, VECTORS, SETS)                                                         \
    INLINE void NAME(const int32_t *columns, const float *values, int64_t count, const float *x,   \
                     int64_t step, float bias, int relu, float *out)                               \
    {                                                                                              \
        typedef float loose __attribute__((vector_size(N * 4), aligned(4)));                       \
        floats##N sums[SETS][VECTORS];                                                             \
        _Pragma("GCC unroll 4") for (int u = 0; u < SETS; u++)                                     \
            _Pragma("GCC unroll 8") for (int v = 0; v < VECTORS; v++) sums[u][v] =                 \
                (floats##N){0} + (u ? 0.0f : bias);                                                \
        int64_t i = 0;                                                                             \
        for (; i + 4 <= count; i += 4) {                                                           \
            int64_t at[4];                                                                         \
            four_columns(columns + i, at);                                                         \
            __auto_type four = VALUES_##N(values + i);                                             \
            ADD_PRODUCT(N, VECTORS, SETS, 0)                                                       \
            ADD_PRODUCT(N, VECTORS, SETS, 1)                                                       \
            ADD_PRODUCT(N, VECTORS, SETS, 2)                                                       \
            ADD_PRODUCT(N, VECTORS, SETS, 3)                                                       \
        }                                                                                          \
        for (; i < count; i++) {                                                                   \
            const float *place = x + columns[i] * step;                                            \
            float value = values[i];                                                               \
            _Pragma("GCC unroll 8") for (int v = 0; v < VECTORS; v++) sums[0][v] +=                \
                value * *(const loose *)(place + v * N);                                           \
        }                                                                                          \
        _Pragma("GCC unroll 8") for (int v = 0; v < VECTORS; v++)                                  \
        {                                                                                          \
            _Pragma("GCC unroll 4") for (int u = 1; u < SETS; u++) sums[0][v] += sums[u][v];       \
            if (relu) {                                                                            \
                ints##N keep = ~(ints##N)(sums[0][v] < (floats##N){0});                            \
                sums[0][v] = (floats##N)((ints##N)sums[0][v] & keep);                              \
            }                                                                                      \
            *(loose *)(out + v * N) = sums[0][v];                                                  \
        }                                                                                          \
    }

#endif
