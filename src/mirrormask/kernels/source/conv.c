/* Direct sparse convolution over packed, padded images; see conv_plan.c for the idea. */
#include "dispatch.h"
#include "pool.h"

#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

struct conv_job {
    const struct mm_conv *c;
    const struct mm_rows *w;
    const struct mm_variant *variant;
    const float *x; /* the block's first image */
    float *y;
    int64_t images; /* in this block */
    float *packed;
    atomic_int failed;
};

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* One row of one phase: pixels first, first + stride, .. of a padded row; NULL is a row of zeros. */
static void pack_row(const struct mm_conv *c, const float *row, int64_t phase, float *to)
{
    int64_t stride = c->stride[1], i = 0, at = phase - c->pad[0];
    if (!row) {
        memset(to, 0, (size_t)c->plane_width * sizeof(float));
        return;
    }
    for (; i < c->plane_width && at < 0; i++, at += stride)
        to[i] = 0.0f;
    if (stride == 1) {
        int64_t count = least(c->plane_width - i, c->width - at);
        if (count > 0) {
            memcpy(to + i, row + at, (size_t)count * sizeof(float));
            i += count;
        }
    } else {
        for (; i < c->plane_width && at < c->width; i++, at += stride)
            to[i] = row[at];
    }
    if (i < c->plane_width)
        memset(to + i, 0, (size_t)(c->plane_width - i) * sizeof(float));
}

static void pack_phase(const struct conv_job *j, int64_t channel, int64_t row_phase,
                       int64_t column_phase, float *to)
{
    const struct mm_conv *c = j->c;
    int64_t pixels = c->height * c->width;
    for (int64_t image = 0; image < j->images; image++) {
        const float *from = j->x + (image * c->channels + channel) * pixels;
        for (int64_t i = 0; i < c->plane_height; i++, to += c->plane_width) {
            int64_t y = i * c->stride[0] + row_phase - c->pad[2];
            int inside = y >= 0 && y < c->height;
            pack_row(c, inside ? from + y * c->width : NULL, column_phase, to);
        }
    }
}

static void pack_part(void *context, int part, int parts)
{
    struct conv_job *j = context;
    const struct mm_conv *c = j->c;
    int64_t share = (c->channels + parts - 1) / parts, end = least(share * (part + 1), c->channels);
    int64_t used = j->images * c->plane_height * c->plane_width;
    for (int64_t channel = share * part; channel < end; channel++) {
        float *to = j->packed + channel * c->phases[0] * c->phases[1] * c->plane;
        for (int64_t a = 0; a < c->stride[0]; a++) {
            if (!mm_meets(c, 0, a))
                continue;
            for (int64_t b = 0; b < c->stride[1]; b++) {
                if (!mm_meets(c, 1, b))
                    continue;
                pack_phase(j, channel, a, b, to);
                memset(to + used, 0, (size_t)(c->plane - used) * sizeof(float));
                to += c->plane;
            }
        }
    }
}

/* A stretch of a panel that belongs to one row of one output image. */
struct stretch {
    int64_t from, to, count;
};

enum { MOST_STRETCHES = 128 };

/* What of positions [at, at + width) is wanted; rows that touch become one stretch. */
static int stretches(const struct conv_job *j, int64_t at, int64_t width, struct stretch *found)
{
    const struct mm_conv *c = j->c;
    int64_t image_size = c->plane_height * c->plane_width, out = c->out_height * c->out_width;
    int count = 0;
    for (int64_t p = at; p < at + width;) {
        int64_t image = p / image_size, in_image = p % image_size;
        int64_t y = in_image / c->plane_width, x = in_image % c->plane_width;
        if (image >= j->images)
            break;
        if (y >= c->out_height) {
            p = (image + 1) * image_size;
            continue;
        }
        if (x >= c->out_width) {
            p += c->plane_width - x;
            continue;
        }
        int64_t length = least(c->out_width - x, at + width - p);
        int64_t to = image * j->w->rows * out + y * c->out_width + x;
        struct stretch *last = found + count - 1;
        if (count > 0 && last->from + last->count == p - at && last->to + last->count == to)
            last->count += length;
        else
            found[count++] = (struct stretch){p - at, to, length};
        p += length;
    }
    return count;
}

static void copy(float *to, const float *from, int64_t count)
{
    typedef float loose __attribute__((vector_size(16), aligned(4)));
    int64_t i = 0;
    for (; i + 4 <= count; i += 4)
        *(loose *)(to + i) = *(const loose *)(from + i);
    for (; i < count; i++)
        to[i] = from[i];
}

static void rows_part(void *context, int part, int parts)
{
    struct conv_job *j = context;
    const struct mm_conv *c = j->c;
    const struct mm_rows *w = j->w;
    int64_t from = mm_first_row(w, part, parts), to = mm_first_row(w, part + 1, parts);
    int64_t out = c->out_height * c->out_width;
    int64_t positions = (j->images - 1) * c->plane_height * c->plane_width +
                        (c->out_height - 1) * c->plane_width + c->out_width;
    const float *x = c->in_place ? j->x : j->packed;
    struct stretch found[MOST_STRETCHES];
    float *panel = mm_scratch(MM_SCRATCH_PANEL, MM_PANEL_ROWS * mm_widths[MM_WIDTHS - 1]);
    if (!panel) {
        j->failed = 1;
        return;
    }
    for (int64_t at = 0; at < positions;) {
        int index = mm_width_for(positions - at);
        if (c->in_place) {
            /* Nothing may be read past the caller's tensor: the last panel overlaps the one before,
             * and is one that fits. */
            while (index > 0 && mm_widths[index] > positions - at)
                index--;
            at = least(at, positions - mm_widths[index]);
        }
        int64_t width = mm_widths[index];
        int count = stretches(j, at, width, found);
        for (int64_t r = from; r < to; r += MM_PANEL_ROWS) {
            int64_t end = least(r + MM_PANEL_ROWS, to);
            j->variant->panels[index](w, r, end, x + at, 1, panel);
            for (int64_t i = r; i < end; i++)
                for (int s = 0; s < count; s++)
                    copy(j->y + i * out + found[s].to, panel + (i - r) * width + found[s].from,
                         found[s].count);
        }
        at += width;
    }
}

int mm_conv2d(const struct mm_conv *c, const struct mm_rows *w, const float *x, float *y,
              int threads)
{
    if (mm_bad_rows(w) || !c || c->block < 1 || threads < 1)
        return MM_BAD_ARGUMENT;
    if (c->images == 0 || w->rows == 0)
        return MM_OK;
    if (!x || !y)
        return MM_BAD_ARGUMENT;
    struct conv_job j = {c, w, mm_variant(w->variant), x, y, 0, NULL, 0};
    int64_t in = c->channels * c->height * c->width;
    int64_t out = w->rows * c->out_height * c->out_width;
    int64_t pixels = c->out_height * c->out_width * (c->block < c->images ? c->block : c->images);
    threads = mm_threads_for(threads, w->starts[w->rows] * pixels);
    for (int64_t image = 0; image < c->images; image += c->block) {
        j.images = least(c->block, c->images - image);
        j.x = x + image * in;
        j.y = y + image * out;
        if (!c->in_place) {
            j.packed = mm_scratch(MM_SCRATCH_INPUT, c->floats);
            if (!j.packed)
                return MM_NO_MEMORY;
            mm_parallel(threads, pack_part, &j);
            memset(j.packed + c->floats - 128, 0, 128 * sizeof(float));
        }
        mm_parallel(threads, rows_part, &j);
    }
    return j.failed ? MM_NO_MEMORY : MM_OK;
}
