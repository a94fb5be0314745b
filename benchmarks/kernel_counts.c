/* One product of a kernel, to be counted by callgrind; compiled and run by kernel_counts.py.
 *
 * Usage: kernel_counts linear|conv ZEROS VARIANT REPEATS. Prints the multiply-adds of one product.
 */
#include "mirrormask.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INPUTS = 1024, OUTPUTS = 4096, BATCH = 64, CHANNELS = 256, SIDE = 14 };

static void *room(size_t bytes)
{
    void *made = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    if (!made)
        exit(2);
    return memset(made, 0, bytes);
}

static struct mm_rows matrix(int64_t rows, int64_t width, double zeros, int variant)
{
    int32_t *starts = room((size_t)(rows + 1) * sizeof *starts), count = 0;
    int32_t *columns = room((size_t)(rows * width) * sizeof *columns);
    float *values = room((size_t)(rows * width) * sizeof *values);
    for (int64_t r = 0; r < rows; r++) {
        starts[r] = count;
        for (int64_t c = 0; c < width; c++)
            if (rand() > zeros * RAND_MAX)
                columns[count] = (int32_t)c, values[count++] = 1.0f;
    }
    starts[rows] = count;
    return (struct mm_rows){rows, starts, columns, values, NULL, 0, variant, NULL};
}

static double linear(double zeros, int variant, int repeats)
{
    struct mm_rows w = matrix(OUTPUTS, INPUTS, zeros, variant);
    int64_t across = INPUTS / MM_BLOCK_COLUMNS, down = OUTPUTS / MM_BLOCK_ROWS, sizes[2];
    size_t weights = (size_t)w.starts[OUTPUTS];
    struct mm_blocks b = {.across = across, .down = down};
    int32_t *starts = room((size_t)(across * down + 1) * sizeof *starts);
    struct mm_group *groups = room((size_t)(across * down * MM_BLOCK_COLUMNS) * sizeof *groups);
    uint8_t *rows = room((size_t)(across * OUTPUTS)), *columns = room(weights);
    float *values = room(weights * sizeof *values);
    if (mm_blocks_fill(&w, INPUTS, starts, groups, rows, columns, values, sizes))
        exit(2);
    b.starts = starts, b.groups = groups, b.rows = rows, b.columns = columns, b.values = values;
    w.blocks = BATCH >= mm_least_for_blocks(&w, INPUTS) ? &b : NULL;
    float *x = room(INPUTS * BATCH * sizeof *x), *y = room(OUTPUTS * BATCH * sizeof *y);
    int32_t by_columns[2] = {1, 1};
    for (int i = 0; i < repeats; i++)
        if (mm_linear(&w, INPUTS, x, BATCH, y, by_columns, 1))
            exit(2);
    return (double)weights * BATCH;
}

static double conv(double zeros, int variant, int repeats)
{
    struct mm_rows w = matrix(CHANNELS, CHANNELS * 9, zeros, variant), laid_out = w;
    size_t weights = (size_t)w.starts[CHANNELS];
    struct mm_tiles t = {.conv = {.channels = CHANNELS, .height = SIDE, .width = SIDE, .images = 1,
                                  .kernel = {3, 3}, .stride = {1, 1}, .dilation = {1, 1},
                                  .pad = {1, 1, 1, 1}},
                         .outputs = CHANNELS, .nonzeros = (int64_t)weights, .variant = variant, .always = 1};
    if (mm_tiles_plan(&t))
        exit(2);
    int64_t groups = t.outputs * t.blocks * (t.right + t.left + 1);
    int32_t *starts = room((size_t)(groups + 1) * sizeof *starts);
    int32_t *offsets = room(weights * sizeof *offsets);
    float *values = room(weights * sizeof *values);
    if (mm_tiles_fill(&t, &w, starts, offsets, values))
        exit(2);
    laid_out.starts = starts, laid_out.columns = offsets, laid_out.values = values;
    float *x = room(CHANNELS * SIDE * SIDE * sizeof *x), *y = room(CHANNELS * SIDE * SIDE * sizeof *y);
    for (int i = 0; i < repeats; i++)
        if (mm_tiles_conv2d(&t, &laid_out, x, y, 1))
            exit(2);
    return (double)weights * SIDE * SIDE;
}

int main(int count, char **arguments)
{
    if (count != 5)
        return 2;
    double zeros = atof(arguments[2]);
    int variant = atoi(arguments[3]), repeats = atoi(arguments[4]);
    srand(1);
    printf("%.0f\n", (strcmp(arguments[1], "conv") ? linear : conv)(zeros, variant, repeats));
    mm_release();
    return 0;
}
