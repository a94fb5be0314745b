/* Transposition in blocks of 8 x 8 floats; for files compiled once for each instruction set. */
#ifndef MM_TURN_H
#define MM_TURN_H

#include "vectors.h"

#ifdef __AVX512VL__
#include <immintrin.h>
#endif

#if defined(__clang__) || __GNUC__ >= 12
#define PAIR(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else /* older GCC has its own word for it */
typedef int places8 __attribute__((vector_size(32)));
#define PAIR(a, b, ...) __builtin_shuffle(a, b, (places8){__VA_ARGS__})
#endif

typedef float loose8 __attribute__((vector_size(32), aligned(4)));

/* The first `count` floats, 8 at most. */
#ifdef __AVX512VL__
INLINE floats8 take(const float *from, int64_t count)
{
    return (floats8)_mm256_maskz_loadu_ps((__mmask8)((1 << count) - 1), from);
}
INLINE void put(float *to, floats8 value, int64_t count)
{
    _mm256_mask_storeu_ps(to, (__mmask8)((1 << count) - 1), (__m256)value);
}
#else
INLINE floats8 take(const float *from, int64_t count)
{
    floats8 value = {0};
    float *to = (float *)&value;
    if (count & 8)
        return *(const loose8 *)from;
    if (count & 4)
        memcpy(to, from, 16), to += 4, from += 4;
    if (count & 2)
        memcpy(to, from, 8), to += 2, from += 2;
    if (count & 1)
        *to = *from;
    return value;
}
INLINE void put(float *to, floats8 value, int64_t count)
{
    const float *from = (const float *)&value;
    if (count & 8)
        *(loose8 *)to = value;
    if (count & 4)
        memcpy(to, from, 16), to += 4, from += 4;
    if (count & 2)
        memcpy(to, from, 8), to += 2, from += 2;
    if (count & 1)
        *to = *from;
}
#endif

/* Up to 8 x 8 floats, as two rounds of pairs within 128 bits and one across. */
INLINE void turn_8x8(const float *from, int64_t rows, int64_t columns, int64_t from_step, float *to,
                     int64_t to_step)
{
    floats8 a[8], b[8];
    _Pragma("GCC unroll 8") for (int i = 0; i < 8; i++) a[i] =
        i < rows ? take(from + i * from_step, columns) : (floats8){0};
    _Pragma("GCC unroll 4") for (int i = 0; i < 8; i += 2)
    {
        b[i] = PAIR(a[i], a[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        b[i + 1] = PAIR(a[i], a[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    _Pragma("GCC unroll 2") for (int i = 0; i < 8; i += 4)
    {
        a[i] = PAIR(b[i], b[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
        a[i + 1] = PAIR(b[i], b[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        a[i + 2] = PAIR(b[i + 1], b[i + 3], 0, 1, 8, 9, 4, 5, 12, 13);
        a[i + 3] = PAIR(b[i + 1], b[i + 3], 2, 3, 10, 11, 6, 7, 14, 15);
    }
    _Pragma("GCC unroll 4") for (int i = 0; i < 4; i++)
    {
        if (i < columns)
            put(to + i * to_step, PAIR(a[i], a[i + 4], 0, 1, 2, 3, 8, 9, 10, 11), rows);
        if (i + 4 < columns)
            put(to + (i + 4) * to_step, PAIR(a[i], a[i + 4], 4, 5, 6, 7, 12, 13, 14, 15), rows);
    }
}

/* A square; whole ones, which are most, are compiled for their size. */
INLINE void turn_square(const float *from, int64_t rows, int64_t columns, int64_t from_step, float *to,
                        int64_t to_step)
{
    if (rows >= 8 && columns >= 8)
        turn_8x8(from, 8, 8, from_step, to, to_step);
    else if (columns >= 8)
        turn_8x8(from, rows, 8, from_step, to, to_step);
    else
        turn_8x8(from, rows < 8 ? rows : 8, columns, from_step, to, to_step);
}

static void turn(const float *from, int64_t rows, int64_t columns, int64_t from_step, float *to,
                 int64_t to_step)
{
    /* Along the side whose lines lie far apart, so that each is finished before it leaves the cache:
     * steps are often powers of two, and such lines all compete for the same few places. */
    if (from_step < to_step) {
        for (int64_t c = 0; c < columns; c += 8)
            for (int64_t r = 0; r < rows; r += 8)
                turn_square(from + r * from_step + c, rows - r, columns - c, from_step,
                            to + c * to_step + r, to_step);
    } else {
        for (int64_t r = 0; r < rows; r += 8)
            for (int64_t c = 0; c < columns; c += 8)
                turn_square(from + r * from_step + c, rows - r, columns - c, from_step,
                            to + c * to_step + r, to_step);
    }
}

#endif
