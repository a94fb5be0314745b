/* Registers of which some lanes are left alone, and sums that move by a lane; for tiles.c. */
#ifndef MM_TILES_LANES_H
#define MM_TILES_LANES_H

#include "vectors.h"

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
/* Lanes that are wanted follow each other. Some processors take a dozen cycles for a masked store. */
INLINE void put_some(address to, floats value, uint16_t inside)
{
    static const int32_t number[16] = {0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7};
    if (inside == 0xff) {
        _mm256_storeu_ps((void *)to, (__m256)value);
        return;
    }
    if (!inside)
        return;
    int first = __builtin_ctz(inside), count = __builtin_ctz(~(inside >> first));
    const int32_t *lanes = number + first;
    to = PLUS(to, first);
    __m256 from = _mm256_permutevar8x32_ps((__m256)value, _mm256_loadu_si256((const void *)lanes));
    __m128 low = _mm256_castps256_ps128(from);
    if (count >= 4) {
        __m256i end = _mm256_loadu_si256((const void *)(lanes + count - 4));
        _mm_storeu_ps((void *)to, low);
        _mm_storeu_ps((void *)PLUS(to, count - 4),
                      _mm256_castps256_ps128(_mm256_permutevar8x32_ps((__m256)value, end)));
        return;
    }
    if (count & 2)
        _mm_storel_pi((void *)to, low), low = _mm_movehl_ps(low, low);
    if (count & 1)
        _mm_store_ss((void *)PLUS(to, count & 2), low);
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

#endif
