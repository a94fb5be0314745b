/* Sizes of a convolution in training, and where each weight finds its pixel in the bands. */
#include "live.h"

#include <stddef.h>

/* Floats of a packed band that stay in the second-level cache beside another one. */
enum { BAND_FLOATS = 64 << 10 };

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/* As many images side by side as waste at most a quarter of the lanes of all. */
static int64_t lanes_for(int64_t images)
{
    int64_t lanes = MM_MOST_LANES;
    while (lanes > 1 && (images + lanes - 1) / lanes * lanes * 3 > images * 4)
        lanes /= 2;
    return lanes;
}

int mm_live_plan(struct mm_live *l)
{
    if (!l || mm_conv_plan(&l->conv) != MM_OK || l->outputs < 1 || l->outputs > INT32_MAX)
        return MM_BAD_ARGUMENT;
    struct mm_conv *c = &l->conv;
    /* Both gradients shift rows to either side: here no two of them share a gap. */
    c->plane_width = (c->width + c->pad[0] + c->pad[1] + c->stride[1] - 1) / c->stride[1];
    for (int axis = 0; axis < 2; axis++)
        l->reach[axis] = c->dilation[axis] * (c->kernel[axis] - 1) / c->stride[axis];
    l->lanes = lanes_for(c->images);
    int64_t planes = larger(c->channels * c->phases[0] * c->phases[1], l->outputs);
    int64_t row = c->plane_width * l->lanes;
    /* Each factor is far below 2^31: the quotient is where the product might not fit. */
    int64_t most = BAND_FLOATS / row / planes - l->reach[0];
    most = larger(most, 1);
    int64_t bands = (c->plane_height + most - 1) / most;
    l->band = (c->plane_height + bands - 1) / bands;
    if (row > INT32_MAX / (l->band + l->reach[0]))
        return MM_BAD_ARGUMENT;
    l->plane = (l->band + l->reach[0]) * row;
    l->plane = (l->plane + 15) / 16 * 16;
    /* Planes a multiple of 1 KB apart would fight for the same lines of the cache. */
    if (l->plane % 256 == 0)
        l->plane += 16;
    l->front = (l->reach[1] * l->lanes + 15) / 16 * 16;
    if (l->plane > (INT32_MAX - l->front - MM_WIDEST) / planes)
        return MM_BAD_ARGUMENT;
    l->in_floats = c->channels * c->phases[0] * c->phases[1] * l->plane + MM_WIDEST;
    l->out_floats = l->front + l->outputs * l->plane + MM_WIDEST;
    return MM_OK;
}

int mm_live_offsets(const struct mm_live *l, const int32_t *columns, int64_t nonzeros,
                    int32_t *offsets)
{
    if (!l || nonzeros < 0 || (nonzeros > 0 && (!columns || !offsets)))
        return MM_BAD_ARGUMENT;
    for (int64_t i = 0; i < nonzeros; i++) {
        struct mm_tap tap;
        if (!mm_tap_of(&l->conv, columns[i], &tap))
            return MM_BAD_ARGUMENT;
        offsets[i] = (int32_t)(tap.plane * l->plane +
                               (tap.down * l->conv.plane_width + tap.across) * l->lanes);
    }
    return MM_OK;
}

int mm_live_turned_offsets(const struct mm_live *l, const int32_t *columns, int64_t nonzeros,
                           int32_t *offsets)
{
    if (!l || nonzeros < 0 || (nonzeros > 0 && (!columns || !offsets)))
        return MM_BAD_ARGUMENT;
    const struct mm_conv *c = &l->conv;
    int64_t taps = c->kernel[0] * c->kernel[1];
    for (int64_t i = 0; i < nonzeros; i++) {
        int64_t output = columns[i] / taps, tap = columns[i] % taps;
        if (columns[i] < 0 || output >= l->outputs)
            return MM_BAD_ARGUMENT;
        int64_t y = tap / c->kernel[1] * c->dilation[0], x = tap % c->kernel[1] * c->dilation[1];
        int64_t place = (l->reach[0] - y / c->stride[0]) * c->plane_width - x / c->stride[1];
        offsets[i] = (int32_t)(l->front + output * l->plane + place * l->lanes);
    }
    return MM_OK;
}
