/* Direct sparse convolution of many images, which lie side by side; see conv_plan.c for the idea.
 *
 * The product is that of planes.c. A few pixels of an output row at a time, for all images of a group,
 * stay in registers; they are put in their places while the rows computed with them are still in the
 * first-level cache.
 */
#include "dispatch.h"
#include "pool.h"
#include "steps.h"

#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

enum { PIXELS = 8 }; /* of an output row at a time; fewer where registers are short */

struct batch_job {
    const struct mm_conv *c;
    const struct mm_rows *w;
    const float *x; /* the group's first image */
    float *y;
    int64_t images; /* in this group */
    float *packed;
    atomic_int failed;
};

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/* One row of one phase, from pixels that already lie side by side. */
static void place_row(const struct mm_conv *c, const float *row, int64_t phase, float *to)
{
    int64_t lanes = c->lanes, stride = c->stride[1], i = 0, at = phase - c->pad[0];
    for (; i < c->plane_width && at < 0; i++, at += stride)
        memset(to + i * lanes, 0, (size_t)lanes * sizeof(float));
    if (stride == 1) {
        int64_t count = most(0, least(c->plane_width - i, c->width - at));
        memcpy(to + i * lanes, row + at * lanes, (size_t)(count * lanes) * sizeof(float));
        i += count;
    } else {
        for (; i < c->plane_width && at < c->width; i++, at += stride)
            memcpy(to + i * lanes, row + at * lanes, (size_t)lanes * sizeof(float));
    }
    memset(to + i * lanes, 0, (size_t)((c->plane_width - i) * lanes) * sizeof(float));
}

static void pack_phase(const struct mm_conv *c, const float *turned, int64_t row_phase,
                       int64_t column_phase, float *to)
{
    int64_t row = c->plane_width * c->lanes;
    for (int64_t i = 0; i < c->plane_height; i++, to += row) {
        int64_t y = i * c->stride[0] + row_phase - c->pad[2];
        if (y >= 0 && y < c->height)
            place_row(c, turned + y * c->width * c->lanes, column_phase, to);
        else
            memset(to, 0, (size_t)row * sizeof(float));
    }
}

static void pack_part(void *context, int part, int parts)
{
    struct batch_job *j = context;
    const struct mm_conv *c = j->c;
    int64_t share = (c->channels + parts - 1) / parts, end = least(share * (part + 1), c->channels);
    int64_t pixels = c->height * c->width, used = c->plane_height * c->plane_width * c->lanes;
    float *turned = mm_scratch(MM_SCRATCH_PANEL, pixels * c->lanes);
    if (!turned) {
        j->failed = 1;
        return;
    }
    if (j->images < c->lanes) /* the empty lanes are computed too */
        memset(turned, 0, (size_t)(pixels * c->lanes) * sizeof(float));
    for (int64_t channel = share * part; channel < end; channel++) {
        float *to = j->packed + channel * c->phases[0] * c->phases[1] * c->plane;
        mm_variant(j->w->variant)
            ->turn(j->x + channel * pixels, j->images, pixels, c->channels * pixels, turned, c->lanes);
        for (int64_t a = 0; a < c->stride[0]; a++) {
            if (!mm_meets(c, 0, a))
                continue;
            for (int64_t b = 0; b < c->stride[1]; b++) {
                if (!mm_meets(c, 1, b))
                    continue;
                pack_phase(c, turned, a, b, to);
                memset(to + used, 0, (size_t)(c->plane - used) * sizeof(float));
                to += c->plane;
            }
        }
    }
}

/* Rows [from, to) of the result, at most MM_PANEL_ROWS, for some pixels of output row `line`. */
static void product(const struct batch_job *j, int64_t from, int64_t to, int64_t line, int64_t left,
                    int64_t pixels, float *panel)
{
    const struct mm_conv *c = j->c;
    const struct mm_variant *variant = mm_variant(j->w->variant);
    struct mm_rows rows = *j->w;
    rows.starts += from;
    rows.bias = rows.bias ? rows.bias + from : NULL;
    int64_t step = pixels * c->lanes, out = c->out_height * c->out_width;
    struct mm_planes planes = {.w = &rows,
                               .x = j->packed + (line * c->plane_width + left) * c->lanes,
                               .y = panel,
                               .y_step = step,
                               .units = step / MM_UNIT};
    mm_planes_for(rows.variant)(&planes, 0, to - from);
    float *y = j->y + from * out + line * c->out_width + left;
    for (int64_t r = from; r < to; r++, panel += step, y += out)
        variant->turn(panel, pixels, j->images, c->lanes, y, j->w->rows * out);
}

static void rows_part(void *context, int part, int parts)
{
    struct batch_job *j = context;
    const struct mm_conv *c = j->c;
    int64_t from = mm_first_row(j->w, part, parts), to = mm_first_row(j->w, part + 1, parts);
    int64_t pieces = (c->out_width + PIXELS - 1) / PIXELS;
    float *panel = mm_scratch(MM_SCRATCH_PANEL, MM_PANEL_ROWS * PIXELS * c->lanes);
    if (!panel) {
        j->failed = 1;
        return;
    }
    for (int64_t line = 0; line < c->out_height; line++)
        for (int64_t piece = 0; piece < pieces; piece++) {
            int64_t left = c->out_width * piece / pieces;
            int64_t pixels = c->out_width * (piece + 1) / pieces - left;
            for (int64_t r = from; r < to; r += MM_PANEL_ROWS)
                product(j, r, least(r + MM_PANEL_ROWS, to), line, left, pixels, panel);
        }
}

int mm_conv_side_by_side(const struct mm_conv *c, const struct mm_rows *w, const float *x, float *y,
                         int threads)
{
    struct batch_job j = {.c = c, .w = w};
    int64_t in = c->channels * c->height * c->width, out = w->rows * c->out_height * c->out_width;
    int64_t end = c->plane * c->channels * c->phases[0] * c->phases[1];
    threads = mm_threads_for(threads, w->starts[w->rows] * c->out_height * c->out_width * c->lanes);
    for (int64_t image = 0; image < c->images; image += c->lanes) {
        j.images = least(c->lanes, c->images - image);
        j.x = x + image * in;
        j.y = y + image * out;
        j.packed = mm_scratch(MM_SCRATCH_INPUT, c->floats);
        if (!j.packed)
            return MM_NO_MEMORY;
        memset(j.packed + end, 0, (size_t)(c->floats - end) * sizeof(float));
        mm_parallel(threads, pack_part, &j);
        if (j.failed)
            return MM_NO_MEMORY;
        mm_parallel(threads, rows_part, &j);
    }
    return j.failed ? MM_NO_MEMORY : MM_OK;
}
