/* Sparse products with values and indices of several widths: what would smaller ones be worth?
 *
 * Compiled and run by kernel_limits.py. Prints one line for each product: name, batch, microseconds.
 * The matrix is random; x is in the first-level cache or close to it, the weights come from wherever
 * they fit, so that bytes a weight is what differs. Every sum is compared with that of float values.
 */
#define _POSIX_C_SOURCE 200809L
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef float floats8 __attribute__((vector_size(32)));

static int rows, width;
static int32_t *starts, *columns32;
static uint16_t *columns16, *values16;
static int8_t *values8;
static float *values32, *scales;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static float sum(__m256 v)
{
    float parts[8];
    _mm256_storeu_ps(parts, v);
    return ((parts[0] + parts[4]) + (parts[2] + parts[6])) + ((parts[1] + parts[5]) + (parts[3] + parts[7]));
}

/* Eight inputs, loaded one by one; two columns of 32 bits or four of 16 in one load. */
#define PICK_32(at)                                                                                \
    uint64_t p[4];                                                                                 \
    memcpy(p, at, 32);                                                                             \
    floats8 in = {x[(uint32_t)p[0]], x[p[0] >> 32], x[(uint32_t)p[1]], x[p[1] >> 32],              \
                  x[(uint32_t)p[2]], x[p[2] >> 32], x[(uint32_t)p[3]], x[p[3] >> 32]}
#define PICK_16(at)                                                                                \
    uint64_t p[2];                                                                                 \
    memcpy(p, at, 16);                                                                             \
    floats8 in = {x[p[0] & 65535], x[p[0] >> 16 & 65535], x[p[0] >> 32 & 65535], x[p[0] >> 48],    \
                  x[p[1] & 65535], x[p[1] >> 16 & 65535], x[p[1] >> 32 & 65535], x[p[1] >> 48]}
#define EIGHT_32(at) _mm256_loadu_ps(at)
#define EIGHT_16(at) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(at)))
#define EIGHT_8(at) _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(at))))

/* Rows end in zeros up to a multiple of eight, for all alike. */
#define DEFINE_VECTOR(NAME, COLUMNS, PICK, VALUES, EIGHT, SCALE)                                   \
    static void NAME(const float *x, float *y)                                                     \
    {                                                                                              \
        for (int r = 0; r < rows; r++) {                                                           \
            __m256 sums = _mm256_setzero_ps();                                                     \
            for (int i = starts[r]; i < starts[r + 1]; i += 8) {                                   \
                PICK(COLUMNS + i);                                                                 \
                sums = _mm256_fmadd_ps(EIGHT(VALUES + i), (__m256)in, sums);                       \
            }                                                                                      \
            y[r] = sum(sums) * (SCALE);                                                            \
        }                                                                                          \
    }
DEFINE_VECTOR(vector_32_32, columns32, PICK_32, values32, EIGHT_32, 1.0f)
DEFINE_VECTOR(vector_16_32, columns16, PICK_16, values32, EIGHT_32, 1.0f)
DEFINE_VECTOR(vector_16_16, columns16, PICK_16, values16, EIGHT_16, 1.0f)
DEFINE_VECTOR(vector_16_8, columns16, PICK_16, values8, EIGHT_8, scales[r])

/* A tile of 8 or 64 inputs for each column; eight values are converted at once and spread one by one. */
#define ONE_8(u)                                                                                   \
    {                                                                                              \
        __m256 value = _mm256_permutevar8x32_ps(eight, _mm256_set1_epi32(u));                      \
        const float *place = x + (size_t)(p[u / 4] >> u % 4 * 16 & 65535) * 8;                     \
        sums[u % 4] = _mm256_fmadd_ps(value, _mm256_loadu_ps(place), sums[u % 4]);                 \
    }
#define DEFINE_TILE_8(NAME, VALUES, EIGHT, SCALE)                                                  \
    static void NAME(const float *x, float *y)                                                     \
    {                                                                                              \
        for (int r = 0; r < rows; r++) {                                                           \
            __m256 sums[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(),       \
                              _mm256_setzero_ps()};                                                \
            for (int i = starts[r]; i < starts[r + 1]; i += 8) {                                   \
                uint64_t p[2];                                                                     \
                memcpy(p, columns16 + i, 16);                                                      \
                __m256 eight = EIGHT(VALUES + i);                                                  \
                ONE_8(0) ONE_8(1) ONE_8(2) ONE_8(3) ONE_8(4) ONE_8(5) ONE_8(6) ONE_8(7)            \
            }                                                                                      \
            sums[0] = _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3])); \
            _mm256_storeu_ps(y + (size_t)r * 8, _mm256_mul_ps(sums[0], _mm256_set1_ps(SCALE)));    \
        }                                                                                          \
    }
DEFINE_TILE_8(tile8_16_32, values32, EIGHT_32, 1.0f)
DEFINE_TILE_8(tile8_16_16, values16, EIGHT_16, 1.0f)
DEFINE_TILE_8(tile8_16_8, values8, EIGHT_8, scales[r])

#ifdef __AVX512F__
#define ONE_64(u)                                                                                  \
    {                                                                                              \
        __m512 value = _mm512_permutexvar_ps(_mm512_set1_epi32(u), _mm512_castps256_ps512(eight)); \
        const float *place = x + (size_t)(p[u / 4] >> u % 4 * 16 & 65535) * 64;                    \
        for (int v = 0; v < 4; v++)                                                                \
            sums[u % 2][v] = _mm512_fmadd_ps(value, _mm512_loadu_ps(place + v * 16), sums[u % 2][v]); \
    }
#define DEFINE_TILE_64(NAME, VALUES, EIGHT, SCALE)                                                 \
    static void NAME(const float *x, float *y)                                                     \
    {                                                                                              \
        for (int r = 0; r < rows; r++) {                                                           \
            __m512 sums[2][4];                                                                     \
            for (int v = 0; v < 4; v++)                                                            \
                sums[0][v] = sums[1][v] = _mm512_setzero_ps();                                     \
            for (int i = starts[r]; i < starts[r + 1]; i += 8) {                                   \
                uint64_t p[2];                                                                     \
                memcpy(p, columns16 + i, 16);                                                      \
                __m256 eight = EIGHT(VALUES + i);                                                  \
                ONE_64(0) ONE_64(1) ONE_64(2) ONE_64(3) ONE_64(4) ONE_64(5) ONE_64(6) ONE_64(7)    \
            }                                                                                      \
            for (int v = 0; v < 4; v++)                                                            \
                _mm512_storeu_ps(y + (size_t)r * 64 + v * 16,                                      \
                                 _mm512_mul_ps(_mm512_add_ps(sums[0][v], sums[1][v]),              \
                                               _mm512_set1_ps(SCALE)));                            \
        }                                                                                          \
    }
DEFINE_TILE_64(tile64_16_32, values32, EIGHT_32, 1.0f)
DEFINE_TILE_64(tile64_16_16, values16, EIGHT_16, 1.0f)
DEFINE_TILE_64(tile64_16_8, values8, EIGHT_8, scales[r])
#endif

struct product {
    const char *name;
    int batch, reference; /* place of the product whose sums these must be */
    double tolerance;
    void (*run)(const float *x, float *y);
};
static const struct product products[] = {
    {"index32 float32", 1, 0, 0.0, vector_32_32},    {"index16 float32", 1, 0, 1e-5, vector_16_32},
    {"index16 float16", 1, 0, 2e-3, vector_16_16},   {"index16 int8", 1, 0, 3e-2, vector_16_8},
    {"index16 float32", 8, 4, 0.0, tile8_16_32},     {"index16 float16", 8, 4, 2e-3, tile8_16_16},
    {"index16 int8", 8, 4, 3e-2, tile8_16_8},
#ifdef __AVX512F__
    {"index16 float32", 64, 7, 0.0, tile64_16_32},   {"index16 float16", 64, 7, 2e-3, tile64_16_16},
    {"index16 int8", 64, 7, 3e-2, tile64_16_8},
#endif
};
enum { COUNT = sizeof products / sizeof *products, MOST_ROUNDS = 201 };

static float random_float(void) { return (float)rand() / (float)RAND_MAX * 2.0f - 1.0f; }

static void fill(double density)
{
    size_t room = (size_t)((double)rows * width * density * 1.2) + (size_t)rows * 16 + 1024;
    starts = malloc(((size_t)rows + 1) * sizeof *starts);
    columns32 = malloc(room * sizeof *columns32), columns16 = malloc(room * sizeof *columns16);
    values32 = malloc(room * sizeof *values32), values16 = malloc(room * sizeof *values16);
    values8 = malloc(room), scales = malloc((size_t)rows * sizeof *scales);
    int count = 0;
    for (int r = 0; r < rows; r++) {
        starts[r] = count;
        for (int c = 0; c < width; c++)
            if (rand() < density * RAND_MAX)
                columns32[count] = c, values32[count++] = random_float();
        for (; count % 8; count++)
            columns32[count] = 0, values32[count] = 0.0f;
        scales[r] = 1.0f / 127.0f;
        for (int i = starts[r]; i < count; i++) {
            columns16[i] = (uint16_t)columns32[i];
            values16[i] = (uint16_t)_cvtss_sh(values32[i], 0);
            values8[i] = (int8_t)lrintf(values32[i] * 127.0f);
        }
    }
    starts[rows] = count;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int count, char **arguments)
{
    static double seconds[COUNT][MOST_ROUNDS];
    if (count != 5)
        return 2;
    width = atoi(arguments[1]), rows = atoi(arguments[2]);
    int rounds = atoi(arguments[4]);
    if (width < 1 || width > 65536 || rows < 1 || rounds < 1 || rounds > MOST_ROUNDS)
        return 2;
    fill(1.0 - atof(arguments[3]));
    float *x = aligned_alloc(64, (size_t)width * 64 * sizeof(float));
    float *y = aligned_alloc(64, (size_t)rows * 64 * sizeof(float));
    float *expected = aligned_alloc(64, (size_t)rows * 64 * sizeof(float));
    for (int i = 0; i < width * 64; i++)
        x[i] = random_float();
    for (int k = 0; k < COUNT; k++) { /* sizes of sums grow with the root of the row's weights */
        const struct product *p = &products[k];
        products[p->reference].run(x, expected);
        p->run(x, y);
        double error = 0.0, size = 0.0;
        for (int i = 0; i < rows * p->batch; i++)
            error = fmax(error, fabs(y[i] - expected[i])), size = fmax(size, fabs(expected[i]));
        if (!(error <= p->tolerance * size)) {
            printf("%s at batch %d is wrong by %g\n", p->name, p->batch, error / size);
            return 1;
        }
    }
    for (int r = 0; r < rounds; r++)
        for (int k = 0; k < COUNT; k++) {
            double begin = now();
            products[(k + r) % COUNT].run(x, y);
            seconds[(k + r) % COUNT][r] = now() - begin;
        }
    for (int k = 0; k < COUNT; k++) {
        qsort(seconds[k], (size_t)rounds, sizeof(double), ascending);
        printf("%s;%d;%d;%.3f;%.3f;%.3f\n", products[k].name, products[k].batch, starts[rows],
               seconds[k][rounds / 2] * 1e6, seconds[k][rounds / 4] * 1e6, seconds[k][rounds - 1 - rounds / 4] * 1e6);
    }
    return 0;
}
