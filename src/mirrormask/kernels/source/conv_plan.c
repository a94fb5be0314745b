/* Sizes of a convolution, and where in the packed input each weight finds its pixel.
 *
 * A block of padded images lies in memory channel by channel; within a channel the images follow
 * each other without gaps. Seen from the place of an output pixel, the input of a weight is then
 * always the same number of floats away, for every pixel of every image: one offset per weight is
 * all that the inner loop needs. Between two rows it computes some pixels that nobody wants, and
 * throws them away. A stride is served by splitting the image into its phases first.
 */
#include "dispatch.h"

#include <stddef.h>

enum {
    WIDEST = 128,
    FEW_POSITIONS = 128,
    LARGEST = 1 << 30 /* of one size, so that products of two stay within 64 bits */
};

static int small(int64_t value, int64_t least) { return value >= least && value <= LARGEST; }

int mm_meets(const struct mm_conv *c, int axis, int64_t phase)
{
    for (int64_t k = 0; k < c->kernel[axis]; k++)
        if (k * c->dilation[axis] % c->stride[axis] == phase)
            return 1;
    return 0;
}

static int64_t place_of(const struct mm_conv *c, int axis, int64_t phase)
{
    int64_t place = 0;
    for (int64_t i = 0; i < phase; i++)
        place += mm_meets(c, axis, i);
    return place;
}

int mm_conv_plan(struct mm_conv *c)
{
    if (!c || !small(c->channels, 1) || !small(c->height, 1) || !small(c->width, 1) ||
        !small(c->images, 0))
        return MM_BAD_ARGUMENT;
    for (int i = 0; i < 4; i++)
        if (!small(c->pad[i], 0))
            return MM_BAD_ARGUMENT;
    int64_t padded[2] = {c->height + c->pad[2] + c->pad[3], c->width + c->pad[0] + c->pad[1]};
    int64_t out[2], plane[2];
    for (int axis = 0; axis < 2; axis++) {
        if (!small(c->kernel[axis], 1) || !small(c->stride[axis], 1) ||
            !small(c->dilation[axis], 1) || c->stride[axis] > 4096 || c->kernel[axis] > 4096)
            return MM_BAD_ARGUMENT;
        if (!small(padded[axis], 1)) /* two sums of three sizes: their product must fit as well */
            return MM_BAD_ARGUMENT;
        int64_t room = padded[axis] - c->dilation[axis] * (c->kernel[axis] - 1) - 1;
        if (room < 0)
            return MM_BAD_ARGUMENT;
        out[axis] = room / c->stride[axis] + 1;
        plane[axis] = (padded[axis] + c->stride[axis] - 1) / c->stride[axis];
        c->phases[axis] = 0;
        for (int64_t i = 0; i < c->stride[axis]; i++)
            c->phases[axis] += mm_meets(c, axis, i);
    }
    c->out_height = out[0], c->out_width = out[1];
    int64_t shared = 0;
    if (c->stride[1] == 1) {
        /* The gap behind a row's pixels stands before those of the next row as well. */
        int64_t narrow = c->width + (c->pad[0] > c->pad[1] ? c->pad[0] : c->pad[1]);
        narrow = narrow > out[1] ? narrow : out[1];
        shared = plane[1] - narrow;
        plane[1] = narrow;
    }
    c->plane_height = plane[0], c->plane_width = plane[1];
    int64_t image = plane[0] * plane[1], planes = c->channels * c->phases[0] * c->phases[1];
    int64_t limit = INT32_MAX / (planes + 1) - WIDEST - 32; /* floats of a plane */
    if (image > limit)
        return MM_BAD_ARGUMENT;
    int unpadded = !c->pad[0] && !c->pad[1] && !c->pad[2] && !c->pad[3];
    int unstrided = c->stride[0] == 1 && c->stride[1] == 1;
    c->in_place = unpadded && unstrided && c->kernel[0] == 1 && c->kernel[1] == 1 && image >= 32;
    c->block = 1;
    if (!c->in_place) {
        /* One image at a time stays in the second-level cache; small ones fill a panel together. */
        c->block = FEW_POSITIONS / image;
        c->block = c->block > limit / image ? limit / image : c->block;
        c->block = c->block < 1 ? 1 : c->block;
        if (c->images > 0 && c->block > c->images)
            c->block = c->images;
    }
    c->plane = c->block * image;
    if (!c->in_place) {
        c->plane = (c->plane + 15) / 16 * 16;
        /* Planes a multiple of 1 KB apart would fight for the same lines of the cache. */
        if (c->plane % 256 == 0)
            c->plane += 16;
    }
    /* The last row has none behind it. */
    c->floats = c->plane * planes + shared * c->block + WIDEST;
    return MM_OK;
}

int mm_tap_of(const struct mm_conv *c, int32_t column, struct mm_tap *tap)
{
    int64_t taps = c->kernel[0] * c->kernel[1], channel = column / taps, place = column % taps;
    if (column < 0 || channel >= c->channels)
        return 0;
    int64_t y = place / c->kernel[1] * c->dilation[0], x = place % c->kernel[1] * c->dilation[1];
    int64_t phase = place_of(c, 0, y % c->stride[0]) * c->phases[1] + place_of(c, 1, x % c->stride[1]);
    tap->plane = channel * c->phases[0] * c->phases[1] + phase;
    tap->down = y / c->stride[0], tap->across = x / c->stride[1];
    return 1;
}

int mm_conv_offsets(const struct mm_conv *c, const int32_t *columns, int64_t nonzeros,
                    int32_t *offsets)
{
    if (!c || nonzeros < 0 || (nonzeros > 0 && (!columns || !offsets)))
        return MM_BAD_ARGUMENT;
    for (int64_t i = 0; i < nonzeros; i++) {
        struct mm_tap tap;
        if (!mm_tap_of(c, columns[i], &tap))
            return MM_BAD_ARGUMENT;
        offsets[i] = (int32_t)(tap.plane * c->plane + tap.down * c->plane_width + tap.across);
    }
    return MM_OK;
}
