/* Direct sparse convolution over packed, padded images; see conv_plan.c for the idea. */
#include "dispatch.h"
#include "pool.h"
#include "vectors.h"

#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

struct conv_job {
    const struct mm_conv *c;
    const struct mm_rows *w;
    const struct mm_variant *variant;
    const float *x; /* all images; then the block's first */
    float *y;
    int64_t images; /* in this block */
    float *packed;
    struct mm_gaps inputs, outputs; /* where the variant uses them */
    atomic_int *failed;
};

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Short rows are over before memcpy has begun. */
static void copy(float *to, const float *from, int64_t count)
{
    typedef float loose __attribute__((vector_size(16), aligned(4)));
    int64_t i = 0;
    if (count > 32) {
        memcpy(to, from, (size_t)count * sizeof(float));
        return;
    }
    for (; i + 4 <= count; i += 4)
        *(loose *)(to + i) = *(const loose *)(from + i);
    for (; i < count; i++)
        to[i] = from[i];
}

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
            for (int64_t k = 0; k < count; k += 16)
                __builtin_prefetch(row + at + k + MM_AHEAD);
            copy(to + i, row + at, count);
            i += count;
        }
    } else {
        for (; i < c->plane_width && at < c->width; i++, at += stride)
            to[i] = row[at];
    }
    for (; i < c->plane_width; i++)
        to[i] = 0.0f;
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
        if (j->inputs.pixels) {
            j->variant->spread(&j->inputs, c->plane / j->variant->gap, j->x + channel * c->height * c->width,
                               j->packed + channel * c->plane);
            continue;
        }
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
    if (j->outputs.pixels) {
        j->variant->closed(w, from, to, x, &j->outputs, positions, j->y + from * out, out);
        return;
    }
    struct stretch found[MOST_STRETCHES];
    float *panel = mm_scratch(MM_SCRATCH_PANEL, MM_PANEL_ROWS * mm_widths[MM_WIDTHS - 1]);
    if (!panel) {
        *j->failed = 1;
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
        if (c->in_place) {
            j->variant->panels[index](w, from, to, x + at, 1, j->y + from * out + at, out);
            at += width;
            continue;
        }
        int count = stretches(j, at, width, found);
        for (int64_t r = from; r < to; r += MM_PANEL_ROWS) {
            int64_t end = least(r + MM_PANEL_ROWS, to);
            j->variant->panels[index](w, r, end, x + at, 1, panel, width);
            for (int64_t i = r; i < end; i++)
                for (int s = 0; s < count; s++)
                    copy(j->y + i * out + found[s].to, panel + (i - r) * width + found[s].from,
                         found[s].count);
        }
        at += width;
    }
}

/* Pixels of a dense image in a plane: pixel (i, j) stands at position first + i * step + j. */
static struct mm_gaps gaps(int64_t first, int64_t step, int64_t height, int64_t width, int64_t gap,
                           int64_t count, void *room)
{
    int32_t *places = room;
    uint16_t *pixels = (uint16_t *)(places + count);
    memset(pixels, 0, (size_t)count * sizeof *pixels);
    for (int64_t i = 0; i < height; i++)
        for (int64_t at = 0; at < width;) {
            int64_t position = first + i * step + at, bit = position % gap;
            int64_t length = least(width - at, gap - bit);
            if (!pixels[position / gap])
                places[position / gap] = (int32_t)(i * width + at);
            pixels[position / gap] |= (uint16_t)(((1u << length) - 1) << bit);
            at += length;
        }
    for (int64_t k = 0; k < count; k++)
        places[k] = pixels[k] ? places[k] : 0;
    return (struct mm_gaps){pixels, places};
}

/* Where single images can be packed and their results be written in registers; 0: no memory. */
static int find_gaps(struct conv_job *j)
{
    const struct mm_conv *c = j->c;
    int64_t step = c->plane_width, gap = j->variant->gap;
    if (!gap || c->in_place || c->block > 1)
        return 1;
    int64_t count = c->plane / gap;
    float *room = mm_scratch(MM_SCRATCH_GAPS, 4 * count);
    if (!room)
        return 0;
    j->outputs = gaps(0, step, c->out_height, c->out_width, gap, count, room);
    if (c->stride[0] == 1 && c->stride[1] == 1)
        j->inputs = gaps(c->pad[2] * step + c->pad[0], step, c->height, c->width, gap,
                         count, room + 2 * count);
    return 1;
}

/* The images from `image` on that are worked on together. */
static void one_block(const struct conv_job *all, int64_t image, int threads)
{
    const struct mm_conv *c = all->c;
    struct conv_job j = *all;
    int64_t end = c->plane * c->channels * c->phases[0] * c->phases[1];
    j.images = least(c->block, c->images - image);
    j.x += image * c->channels * c->height * c->width;
    j.y += image * j.w->rows * c->out_height * c->out_width;
    if (!c->in_place) {
        j.packed = mm_scratch(MM_SCRATCH_INPUT, c->floats);
        if (!j.packed) {
            *j.failed = 1;
            return;
        }
        mm_parallel(threads, pack_part, &j);
        memset(j.packed + end, 0, (size_t)(c->floats - end) * sizeof(float));
    }
    mm_parallel(threads, rows_part, &j);
}

/* Every part takes each parts-th block, whole. */
static void blocks_part(void *context, int part, int parts)
{
    const struct conv_job *j = context;
    for (int64_t image = part * j->c->block; image < j->c->images; image += parts * j->c->block)
        one_block(j, image, 1);
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
    atomic_int failed = 0;
    struct conv_job j = {.c = c, .w = w, .variant = mm_variant(w->variant), .x = x, .y = y,
                         .failed = &failed};
    if (!find_gaps(&j))
        return MM_NO_MEMORY;
    int64_t work = w->starts[w->rows] * c->out_height * c->out_width;
    int64_t blocks = (c->images + c->block - 1) / c->block;
    int all = mm_threads_for(threads, work * c->images);
    /* Whole blocks need no waiting for each other, but may leave threads idle at the end. */
    if (blocks % all == 0 || blocks > 2 * all) {
        mm_parallel(all, blocks_part, &j);
    } else {
        threads = mm_threads_for(threads, work * least(c->block, c->images));
        for (int64_t image = 0; image < c->images; image += c->block)
            one_block(&j, image, threads);
    }
    return failed ? MM_NO_MEMORY : MM_OK;
}
