/* Both gradients of a sparse convolution, block by block of packed images.
 *
 * The gradient of the output is laid out in planes of the input's size, with zeros where the output
 * has no pixel. A weight's gradient is then the product of one such plane with the plane of the
 * input that the weight meets, as a whole; and since the zeros between two rows are as many as the
 * kernel reaches, the gradient of the input is a sparse sum of shifted planes, one row for each
 * channel and phase of the stride.
 */
#include "conv.h"
#include "pool.h"

#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

/* Places whose products are summed before the next ones are read, so that what a row meets of the
 * input is still in the first-level cache for the row after it. */
enum { STRIP = 512 };

struct gradient_job {
    const struct mm_conv *c;
    const struct mm_rows *w, *turned;
    const struct mm_variant *variant;
    const float *x, *dy;
    float *dx, *values, *sums; /* sums: of the values, for each part but the first */
    atomic_int failed;
};

/* How far behind its own place an input pixel finds the last output pixel that it met. */
static int64_t reach(const struct mm_conv *c)
{
    return c->dilation[0] * (c->kernel[0] - 1) / c->stride[0] * c->plane_width +
           c->dilation[1] * (c->kernel[1] - 1) / c->stride[1];
}

int64_t mm_conv_front(const struct mm_conv *c) { return (reach(c) + 15) / 16 * 16; }

int mm_conv_turned_offsets(const struct mm_conv *c, int64_t rows, const int32_t *columns,
                           int64_t nonzeros, int32_t *offsets)
{
    if (!c || c->in_place || c->plane < 1 || rows < 0 || nonzeros < 0 ||
        (nonzeros > 0 && (!columns || !offsets)))
        return MM_BAD_ARGUMENT;
    int64_t taps = c->kernel[0] * c->kernel[1], front = mm_conv_front(c);
    if (rows > (INT32_MAX - front - MM_WIDEST) / c->plane)
        return MM_BAD_ARGUMENT;
    for (int64_t i = 0; i < nonzeros; i++) {
        int64_t row = columns[i] / taps, tap = columns[i] % taps;
        if (columns[i] < 0 || row >= rows)
            return MM_BAD_ARGUMENT;
        int64_t y = tap / c->kernel[1] * c->dilation[0], x = tap % c->kernel[1] * c->dilation[1];
        offsets[i] = (int32_t)(front + row * c->plane - y / c->stride[0] * c->plane_width -
                               x / c->stride[1]);
    }
    return MM_OK;
}

static void value_sums(const struct gradient_job *j, const float *dy, const float *packed,
                       int64_t images, float *sums)
{
    const struct mm_conv *c = j->c;
    /* Zeros follow on the last place, up to a whole vector. */
    int64_t places = (images - 1) * c->plane_height * c->plane_width +
                     (c->out_height - 1) * c->plane_width + c->out_width;
    places = (places + 15) / 16 * 16;
    for (int64_t at = 0; at < places; at += STRIP) {
        int64_t count = places - at < STRIP ? places - at : STRIP;
        j->variant->dots(j->w, 0, j->w->rows, dy + at, c->plane, packed + at, 1, count, sums);
    }
}

/* The gradient of a block's input from that of its output, phase by phase. */
static void turn_back(const struct gradient_job *j, const float *dy, int64_t images, float *panel,
                      float *dx)
{
    const struct mm_conv *c = j->c;
    if (c->phases[0] * c->phases[1] < c->stride[0] * c->stride[1])
        memset(dx, 0, (size_t)(images * c->channels * c->height * c->width) * sizeof(float));
    struct mm_product p = {j->turned, j->variant, dy, {0}, images, 0, 0, panel, dx};
    for (int64_t a = 0; a < c->stride[0]; a++) {
        if (!mm_meets(c, 0, a))
            continue;
        for (int64_t b = 0; b < c->stride[1]; b++) {
            if (!mm_meets(c, 1, b))
                continue;
            p.view = mm_input_view(c, a, b);
            int64_t top = mm_first_place(&p.view, 0), bottom = mm_end_place(&p.view, 0);
            int64_t left = mm_first_place(&p.view, 1), right = mm_end_place(&p.view, 1);
            if (top < bottom && left < right)
                mm_multiply_places(&p, top * c->plane_width + left,
                                   (images - 1) * c->plane_height * c->plane_width +
                                       (bottom - 1) * c->plane_width + right,
                                   p.first_row, p.first_row + c->channels);
            p.first_row += c->channels;
        }
    }
}

static void blocks_part(void *context, int part, int parts)
{
    struct gradient_job *j = context;
    const struct mm_conv *c = j->c;
    int64_t rows = j->w->rows, count = j->w->starts[rows], front = mm_conv_front(c);
    int64_t blocks = mm_block_count(c), held = 0, out = rows * c->out_height * c->out_width;
    int64_t in = c->channels * c->height * c->width, floats = front + rows * c->plane + MM_WIDEST;
    float *packed = j->values ? mm_scratch(MM_SCRATCH_INPUT, c->floats) : NULL;
    float *dy = mm_scratch(MM_SCRATCH_GRADIENT, floats);
    float *panel = mm_scratch(MM_SCRATCH_PANEL, MM_PANEL_ROWS * MM_WIDEST);
    float *sums = part ? j->sums + (part - 1) * count : j->values;
    if (!dy || !panel || (j->values && !packed)) {
        j->failed = 1;
        return;
    }
    if (j->values)
        memset(sums, 0, (size_t)count * sizeof(float));
    struct mm_view view = mm_output_view(c, rows);
    for (int64_t b = blocks * part / parts; b < blocks * (part + 1) / parts; b++) {
        int64_t images = mm_block_images(c, b), first = b * c->block;
        if (images != held) {
            memset(dy, 0, (size_t)floats * sizeof(float));
            if (j->values)
                memset(packed, 0, (size_t)c->floats * sizeof(float));
            held = images;
        }
        mm_read_view(&view, j->variant->turn, j->dy + first * out, images, 0, rows, dy + front,
                     c->plane);
        if (j->values) {
            mm_pack(c, j->variant, j->x + first * in, images, 0, c->channels, packed);
            value_sums(j, dy + front, packed, images, sums);
        }
        if (j->dx)
            turn_back(j, dy, images, panel, j->dx + first * in);
    }
}

int mm_conv_gradients(const struct mm_conv *c, const struct mm_rows *w, const struct mm_rows *turned,
                      const float *x, const float *dy, float *dx, float *values, int threads)
{
    if (mm_bad_rows(w) || !c || c->in_place || c->block < 1 || c->plane < 1 || threads < 1 ||
        w->rows > (INT32_MAX - mm_conv_front(c) - MM_WIDEST) / c->plane)
        return MM_BAD_ARGUMENT;
    if (dx && (mm_bad_rows(turned) || turned->rows != c->channels * c->phases[0] * c->phases[1] ||
               turned->variant != w->variant || turned->relu || turned->bias))
        return MM_BAD_ARGUMENT;
    int64_t count = w->starts[w->rows], blocks = mm_block_count(c);
    if (count == 0)
        values = NULL;
    if (c->images == 0) {
        if (values)
            memset(values, 0, (size_t)count * sizeof(float));
        return MM_OK;
    }
    if ((values && !x) || (!dy && w->rows > 0))
        return MM_BAD_ARGUMENT;
    int64_t pixels = c->out_height * c->out_width * c->images;
    threads = mm_threads_for(threads, 2 * count * pixels);
    threads = threads < blocks ? threads : (int)blocks;
    struct gradient_job j = {c, w, turned, mm_variant(w->variant), x, dy, dx, values, NULL, 0};
    if (values && threads > 1) {
        j.sums = mm_scratch(MM_SCRATCH_SUMS, (threads - 1) * count);
        if (!j.sums)
            return MM_NO_MEMORY;
    }
    mm_parallel(threads, blocks_part, &j);
    for (int64_t part = 1; values && part < threads; part++)
        for (int64_t i = 0; i < count; i++)
            values[i] += j.sums[(part - 1) * count + i];
    return j.failed ? MM_NO_MEMORY : MM_OK;
}
