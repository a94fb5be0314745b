/* Powers of e in vectors; part of what is compiled once for each instruction set. */
#ifndef MM_POWERS_H
#define MM_POWERS_H

#include "vectors.h"

/* exp(x) within 2 units in the last place (Cephes' polynomial on [-log 2 / 2, log 2 / 2]). */
INLINE floats power_of_e(floats x)
{
    x = choose(x < -87.0f, all(-87.0f), choose(x > 88.0f, all(88.0f), x));
    floats half = choose(x < 0.0f, all(-0.5f), all(0.5f)), p = all(1.9875691500e-4f);
    ints whole = __builtin_convertvector(x * 1.44269504f + half, ints);
    floats n = __builtin_convertvector(whole, floats);
    floats r = x - n * 0.693359375f + n * 2.12194440e-4f;
    p = p * r + 1.3981999507e-3f, p = p * r + 8.3334519073e-3f, p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f, p = p * r + 5.0000001201e-1f;
    return (p * r * r + r + 1.0f) * (floats)((whole + 127) << 23);
}

INLINE floats sigmoid(floats x) { return 1.0f / (1.0f + power_of_e(-x)); }

#endif
