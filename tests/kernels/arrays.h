/* Arrays of exactly the size that a kernel may touch, and the judgement of what it wrote. */
#ifndef MM_ARRAYS_H
#define MM_ARRAYS_H

#include "draw.h"
#include "mirrormask.h"

#include <math.h>
#include <stdlib.h>

static float number(int special)
{
    if (special && draw() % 64 == 0)
        return draw() % 2 ? NAN : INFINITY;
    return (float)((double)draw() / (double)UINT64_MAX * 4.0 - 2.0);
}

static float *numbers(int64_t count, int special)
{
    float *made = malloc((size_t)count * sizeof(float) + (count == 0));
    for (int64_t i = 0; i < count; i++)
        made[i] = number(special);
    return made;
}

static struct mm_rows matrix(int64_t rows, int64_t width)
{
    static const int shares[] = {0, 1, 3, 10, 30, 100};
    int share = shares[draw() % 6];
    int32_t *starts = malloc((size_t)(rows + 1) * sizeof *starts);
    int32_t *columns = malloc((size_t)(rows * width + 1) * sizeof *columns);
    int32_t count = 0;
    for (int64_t r = 0; r < rows; r++) {
        starts[r] = count;
        for (int64_t c = 0; c < width; c++)
            if ((int)(draw() % 100) < share)
                columns[count++] = (int32_t)c;
    }
    starts[rows] = count;
    columns = realloc(columns, (size_t)count * sizeof *columns + (count == 0));
    int variant = (int)(draw() % MM_VARIANTS);
    while (!mm_supported(variant))
        variant--;
    return (struct mm_rows){rows,   starts, columns, numbers(count, 0), draw() % 2 ? numbers(rows, 0) : NULL,
                            (int32_t)(draw() % 2), variant, NULL};
}

static void forget(struct mm_rows *w)
{
    free((void *)w->starts), free((void *)w->columns), free((void *)w->values), free((void *)w->bias);
}

static int differs(float found, double sum, double size, int relu)
{
    double expected = relu && sum < 0 ? 0.0 : sum;
    if (isnan(sum) || isinf(sum))
        return isnan(sum) ? !isnan(found) : found != (float)expected;
    return !(fabs(found - expected) <= 2e-5 * size + 1e-6);
}

/* A convolution of any sizes; whether sizes that can be were refused. */
static struct mm_conv any_conv(int64_t images, int *refused)
{
    struct mm_conv c = {.channels = between(1, 5), .height = between(1, 14), .width = between(1, 20),
                        .images = images};
    int plain = draw() % 4 == 0;
    for (int axis = 0; axis < 2; axis++) {
        c.kernel[axis] = plain ? 1 : between(1, 4);
        c.stride[axis] = plain ? 1 : between(1, 3);
        c.dilation[axis] = between(1, 3);
    }
    for (int side = 0; side < 4; side++)
        c.pad[side] = plain ? 0 : between(0, 3);
    int common = draw() % 2; /* kernels that everybody has, and sizes */
    if (!plain && draw() % 2) { /* images that keep their size, and may be large enough for strips */
        for (int axis = 0; axis < 2; axis++) {
            int64_t *pad = c.pad + (axis ? 0 : 2);
            if (common)
                c.kernel[axis] = 3, c.dilation[axis] = 1;
            int64_t span = c.dilation[axis] * (c.kernel[axis] - 1);
            c.stride[axis] = 1, pad[0] = common ? 1 : between(0, span), pad[1] = span - pad[0];
        }
        c.height = between(1, common ? 12 : 30);
        c.width = common ? (draw() % 2 ? 28 : 32) * between(1, 2) : c.width;
        c.images = common && images > 2 ? 2 : images; /* plain loops are slow */
    }
    *refused = mm_conv_plan(&c) && c.height + c.pad[2] + c.pad[3] > c.dilation[0] * (c.kernel[0] - 1) &&
               c.width + c.pad[0] + c.pad[1] > c.dilation[1] * (c.kernel[1] - 1);
    return c;
}

#endif
