/* How much of its multiply-add peak a core reaches when every multiply-add loads an input of its own.
 *
 * Compiled and run by kernel_limits.py. Each weight is one index, one broadcast and some vectors of 16
 * floats at a random place; prints bytes of inputs, whether they are aligned, vectors a weight, and the
 * share of the peak, which is measured in turns.
 */
#define _POSIX_C_SOURCE 200809L
#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WEIGHTS = 20000, ROW = 100, WIDEST = 16, ROUNDS = 15 };
static int32_t columns[WEIGHTS];
static float values[WEIGHTS], out[WIDEST * 16];

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#define DEFINE(VECTORS)                                                                            \
    __attribute__((noinline)) static void run_##VECTORS(const float *x, int from)                  \
    {                                                                                              \
        __m512 sums[VECTORS];                                                                      \
        for (int v = 0; v < VECTORS; v++)                                                          \
            sums[v] = _mm512_setzero_ps();                                                         \
        for (int i = from; i < from + ROW; i++)                                                    \
            _Pragma("GCC unroll 16") for (int v = 0; v < VECTORS; v++)                             \
                sums[v] = _mm512_fmadd_ps(_mm512_set1_ps(values[i]),                               \
                                          _mm512_loadu_ps(x + columns[i] + v * 16), sums[v]);      \
        for (int v = 0; v < VECTORS; v++)                                                          \
            _mm512_storeu_ps(out + v * 16, sums[v]);                                               \
    }
DEFINE(4)
DEFINE(8)
DEFINE(16)

/* The same number of multiply-adds in registers. */
__attribute__((noinline)) static void peak(long rounds)
{
    __m512 sums[10];
    _Pragma("GCC unroll 10") for (int v = 0; v < 10; v++) sums[v] = _mm512_set1_ps((float)v);
    for (long k = 0; k < rounds; k++)
        _Pragma("GCC unroll 10") for (int v = 0; v < 10; v++) {
            sums[v] = _mm512_fmadd_ps(sums[v], _mm512_set1_ps(0.999f), _mm512_set1_ps(0.001f));
            __asm__ volatile("" : "+v"(sums[v]));
        }
    _Pragma("GCC unroll 10") for (int v = 0; v < 10; v++) _mm512_storeu_ps(out + v * 16, sums[v]);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(void)
{
    static const int kilobytes[] = {32, 200, 900, 3000};
    static void (*const runs[])(const float *, int) = {run_4, run_8, run_16};
    static const int vectors[] = {4, 8, 16};
    for (int s = 0; s < 4; s++) {
        size_t floats = (size_t)kilobytes[s] * 256;
        float *x = aligned_alloc(64, floats * sizeof *x);
        memset(x, 0, floats * sizeof *x);
        for (int aligned = 0; aligned < 2; aligned++)
            for (int k = 0; k < 3; k++) {
                double shares[ROUNDS];
                for (int i = 0; i < WEIGHTS; i++) {
                    columns[i] = (int32_t)((size_t)rand() % (floats - WIDEST * 16));
                    columns[i] &= aligned ? ~15 : ~0;
                    values[i] = 1.0f;
                }
                for (int round = 0; round < ROUNDS; round++) {
                    double begin = now();
                    for (int i = 0; i < WEIGHTS; i += ROW)
                        runs[k](x, i);
                    double loaded = now() - begin;
                    begin = now();
                    peak((long)WEIGHTS * vectors[k] / 10);
                    shares[round] = (now() - begin) / loaded;
                }
                qsort(shares, ROUNDS, sizeof *shares, ascending);
                printf("%d;%d;%d;%.4f\n", kilobytes[s], aligned, vectors[k], shares[ROUNDS / 2]);
            }
        free(x);
    }
    return 0;
}
