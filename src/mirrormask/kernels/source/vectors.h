/* Vectors of floats as the present instruction set has them; for files compiled once for each. */
#ifndef MM_VECTORS_H
#define MM_VECTORS_H

#include <stdint.h>
#include <string.h>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

/* Images beyond the second-level cache are asked for this many floats ahead: measured, that made packing
 * three times as fast where the processor was left to guess. */
enum { MM_AHEAD = 2048 };

#define INLINE static inline __attribute__((always_inline))

#ifdef __AVX512F__
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
typedef float floats4 __attribute__((vector_size(16)));
typedef float floats8 __attribute__((vector_size(32)));
typedef float floats16 __attribute__((vector_size(64)));
typedef int32_t ints4 __attribute__((vector_size(16)));
typedef int32_t ints8 __attribute__((vector_size(32)));
typedef int32_t ints16 __attribute__((vector_size(64)));
/* As wide as the instruction set has them. */
typedef float floats __attribute__((vector_size(LANES * 4)));
typedef int32_t ints __attribute__((vector_size(LANES * 4)));
typedef float loose_floats __attribute__((vector_size(LANES * 4), aligned(4)));

INLINE floats load(const float *from) { return *(const loose_floats *)from; }
INLINE void store(float *to, floats value) { *(loose_floats *)to = value; }
INLINE floats all(float value) { return (floats){0} + value; }
INLINE floats choose(ints condition, floats yes, floats no)
{
    return (floats)((condition & (ints)yes) | (~condition & (ints)no));
}

/* The last floats of a row, of which there are fewer than a vector's. */
INLINE floats load_some(const float *from, int64_t count)
{
    floats value = {0};
    memcpy(&value, from, (size_t)count * sizeof(float));
    return value;
}
INLINE void store_some(float *to, floats value, int64_t count)
{
#ifdef __AVX512F__
    _mm512_mask_storeu_ps(to, (__mmask16)((1u << count) - 1), (__m512)value);
    return;
#endif
    memcpy(to, &value, (size_t)count * sizeof(float));
}

/* What lies between the images of a plane is padding, and stays zero whatever becomes of zeros. */
INLINE void clear_gaps(const int32_t *mask, float *plane, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        plane[i] = mask[i] ? plane[i] : 0.0f;
}

#endif
