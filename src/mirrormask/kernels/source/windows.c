/* Products with one vector through windows; compiled once for each instruction set. See windows.h. */
#include "windows.h"

#include "vectors.h"

#ifdef __AVX512F__
#include <immintrin.h>
#include <stdint.h>

/* How many bytes ahead values are asked for: with more of them than fit into the second-level cache that
 * was measured to be 1.7 times as fast as what the processor does by itself. */
enum { AHEAD = 64 * MM_ABREAST * sizeof(float) };

/* Idle lanes keep their sums: a product with an input that is not theirs may be no number. */
INLINE __m512 after_turn(__m512 sums, const struct mm_windows *w, int64_t turn, const float *x)
{
    const float *window = x + w->begins[turn];
    const float *values = w->values + MM_ABREAST * turn;
    _mm_prefetch((const char *)((uintptr_t)values + AHEAD), _MM_HINT_T0);
    __m128i bytes = _mm_loadu_si128((const __m128i *)(w->places + MM_ABREAST * turn));
    __m512i places = _mm512_cvtepu8_epi32(bytes);
    __mmask16 busy = _mm512_testn_epi32_mask(places, _mm512_set1_epi32(MM_IDLE));
    __mmask16 upper = _mm512_test_epi32_mask(places, _mm512_set1_epi32(MM_WINDOW / 2));
    __m512 low = _mm512_permutex2var_ps(_mm512_loadu_ps(window), places, _mm512_loadu_ps(window + 16));
    __m512 high = _mm512_permutex2var_ps(_mm512_loadu_ps(window + 32), places,
                                         _mm512_loadu_ps(window + 48));
    return _mm512_mask3_fmadd_ps(_mm512_mask_blend_ps(upper, low, high),
                                 _mm512_loadu_ps(values), sums, busy);
}

static void run(const struct mm_windows *w, int64_t from, int64_t to, const float *x, const float *add,
                int32_t relu, float *y)
{
    for (int64_t g = from; g < to; g++) {
        const int32_t *order = w->order + MM_ABREAST * g;
        int64_t left = w->rows - MM_ABREAST * g, lanes = left < MM_ABREAST ? left : MM_ABREAST;
        int64_t turn = w->first[g], end = w->first[g + 1];
        float found[MM_ABREAST] __attribute__((aligned(64))) = {0};
        __m512 sums = _mm512_loadu_ps(w->bias + MM_ABREAST * g), others = _mm512_setzero_ps();
        for (; turn + 2 <= end; turn += 2) {
            sums = after_turn(sums, w, turn, x);
            others = after_turn(others, w, turn + 1, x);
        }
        if (turn < end)
            sums = after_turn(sums, w, turn, x);
        sums = _mm512_add_ps(sums, others);
        if (add) {
            for (int64_t lane = 0; lane < lanes; lane++)
                found[lane] = add[order[lane]];
            sums = _mm512_add_ps(sums, _mm512_load_ps(found));
        }
        if (relu) /* NaN stays */
            sums = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(sums, _mm512_setzero_ps(), _CMP_NLT_UQ), sums);
        _mm512_store_ps(found, sums);
        if (lanes == MM_ABREAST)
            _Pragma("GCC unroll 16") for (int lane = 0; lane < MM_ABREAST; lane++) y[order[lane]] =
                found[lane];
        else
            for (int64_t lane = 0; lane < lanes; lane++)
                y[order[lane]] = found[lane];
    }
}
const struct mm_windowed MM_NAME = {run};
#else
const struct mm_windowed MM_NAME = {NULL};
#endif
