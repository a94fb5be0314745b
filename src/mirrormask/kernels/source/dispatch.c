/* Which variant runs here, how rows are shared out, and the check that index arrays are sound. */
#include "dispatch.h"

#include "pool.h"
#include "steps.h"

#include <stddef.h>

int mm_abi(void) { return MM_ABI; }

void mm_sizes(int64_t sizes[6])
{
    sizes[0] = sizeof(struct mm_rows), sizes[1] = sizeof(struct mm_blocks);
    sizes[2] = sizeof(struct mm_conv), sizes[3] = sizeof(struct mm_program_data);
    sizes[4] = sizeof(struct mm_live), sizes[5] = sizeof(struct mm_tiles);
}

int mm_supported(int variant)
{
    if (variant == MM_PORTABLE)
        return 1;
#ifdef MM_X86
    __builtin_cpu_init();
    if (variant == MM_AVX2)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (variant == MM_AVX512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512dq");
#endif
    return 0;
}

const struct mm_variant *mm_variant(int which)
{
#ifdef MM_X86
    if (which == MM_AVX2)
        return &mm_variant_avx2;
    if (which == MM_AVX512)
        return &mm_variant_avx512;
#endif
    return which == MM_PORTABLE ? &mm_variant_portable : NULL;
}

#ifdef MM_X86
uint64_t mm_together[256], mm_apart[256];

__attribute__((constructor)) static void fill_tables(void)
{
    for (int mask = 0; mask < 256; mask++) {
        mm_together[mask] = mm_apart[mask] = UINT64_MAX;
        for (uint64_t lane = 0, before = 0; lane < 8; lane++) {
            if (!(mask >> lane & 1))
                continue;
            mm_together[mask] ^= (lane ^ 0xff) << 8 * before;
            mm_apart[mask] ^= (before ^ 0xff) << 8 * lane;
            before++;
        }
    }
}
#endif

mm_planes_rows mm_planes_for(int variant)
{
#ifdef MM_X86
    if (variant == MM_AVX2)
        return mm_planes_avx2;
    if (variant == MM_AVX512)
        return mm_planes_avx512;
#endif
    return variant == MM_PORTABLE ? mm_planes_portable : NULL;
}

int mm_bad_rows(const struct mm_rows *w)
{
    return !w || w->rows < 0 || !w->starts || w->variant < 0 || w->variant >= MM_VARIANTS ||
           !mm_supported(w->variant);
}

int mm_check_rows(const int32_t *starts, const int32_t *columns, int64_t rows, int64_t nonzeros,
                  int64_t width)
{
    if (!starts || rows < 0 || nonzeros < 0 || width < 0 || (nonzeros > 0 && !columns))
        return MM_BAD_ARGUMENT;
    if (starts[0] != 0 || starts[rows] != nonzeros)
        return MM_BAD_ARGUMENT;
    int wrong = 0;
    for (int64_t r = 0; r < rows; r++)
        wrong |= starts[r + 1] < starts[r];
    if (wrong)
        return MM_BAD_ARGUMENT;
    for (int64_t r = 0; r < rows; r++) {
        if (starts[r] == starts[r + 1])
            continue;
        /* Increasing columns are inside if the first and the last are. */
        wrong |= columns[starts[r]] < 0 || columns[starts[r + 1] - 1] >= width;
        for (int64_t i = starts[r] + 1; i < starts[r + 1]; i++)
            wrong |= columns[i] <= columns[i - 1];
    }
    return wrong ? MM_BAD_ARGUMENT : MM_OK;
}

/* Multiply-adds, about 30 microseconds of them, for which waking a thread pays. Tests set it to 1. */
#ifndef MM_LEAST_WORK
#define MM_LEAST_WORK (1 << 19)
#endif

int mm_threads_for(int threads, int64_t work)
{
    int64_t most = 1 + work / MM_LEAST_WORK;
    most = most < MM_MAX_THREADS ? most : MM_MAX_THREADS;
    return threads < most ? threads : (int)most;
}

/* A row costs about as much as this many weights, even when it is empty. */
enum { ROW_COST = 6 };

int64_t mm_first_row(const struct mm_rows *w, int part, int parts)
{
    if (part <= 0)
        return 0;
    if (part >= parts)
        return w->rows;
    int64_t total = w->starts[w->rows] + w->rows * ROW_COST;
    int64_t wanted = total / parts * part, low = 0, high = w->rows;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (w->starts[middle] + middle * ROW_COST < wanted)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int mm_width_for(int64_t left)
{
    for (int i = 0; i < MM_WIDTHS; i++) {
        if (mm_widths[i] < left)
            continue;
        /* One panel that is nearly full costs less than several narrow ones. */
        if (i == 0 || 4 * left >= 3 * mm_widths[i])
            return i;
        return i - 1;
    }
    return MM_WIDTHS - 1;
}

double mm_peak(int variant, int64_t rounds)
{
    return mm_supported(variant) ? mm_variant(variant)->peak(rounds) : 0.0;
}
