/* Direct sparse convolution over packed, padded images; see conv_plan.c for the idea. */
#include "conv.h"
#include "pool.h"

#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

struct conv_job {
    const struct mm_conv *c;
    const struct mm_rows *w;
    const struct mm_variant *variant;
    const float *x;
    float *y;
    int64_t block; /* the one that all parts work on together */
    float *packed;
    atomic_int failed;
};

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

int64_t mm_block_count(const struct mm_conv *c) { return (c->images + c->block - 1) / c->block; }

int64_t mm_block_images(const struct mm_conv *c, int64_t index)
{
    return least(c->block, c->images - index * c->block);
}

void mm_pack(const struct mm_conv *c, const struct mm_variant *variant, const float *x,
             int64_t images, int64_t from, int64_t to, float *packed)
{
    int64_t step = c->plane * c->phases[0] * c->phases[1];
    for (int64_t a = 0; a < c->stride[0]; a++) {
        if (!mm_meets(c, 0, a))
            continue;
        for (int64_t b = 0; b < c->stride[1]; b++) {
            if (!mm_meets(c, 1, b))
                continue;
            struct mm_view view = mm_input_view(c, a, b);
            mm_read_view(&view, variant->turn, x, images, from, to, packed, step);
            packed += c->plane;
        }
    }
}

void mm_multiply_places(const struct mm_product *p, int64_t begin, int64_t end, int64_t from,
                        int64_t to)
{
    struct mm_stretch found[MM_MOST_STRETCHES];
    for (int64_t at = begin; at < end;) {
        int index = mm_width_for(end - at);
        if (p->exact) {
            /* Nothing may be read past the caller's tensor: the last panel overlaps the one before,
             * and is one that fits. */
            while (index > 0 && mm_widths[index] > end - at)
                index--;
            at = least(at, end - mm_widths[index]);
        }
        int64_t width = mm_widths[index];
        int count = mm_stretches(&p->view, p->images, at, width, found);
        for (int64_t r = from; r < to; r += MM_PANEL_ROWS) {
            int64_t last = least(r + MM_PANEL_ROWS, to);
            p->variant->panels[index](p->w, r, last, p->x + at, 1, p->panel);
            mm_write_view(&p->view, p->variant->turn, p->panel, width, r - p->first_row,
                          last - p->first_row, found, count, p->tensor);
        }
        at += width;
    }
}

/* The first images of a block in the input. */
static const float *input_of(const struct conv_job *j, int64_t block)
{
    const struct mm_conv *c = j->c;
    return j->x + block * c->block * c->channels * c->height * c->width;
}

static void multiply(struct conv_job *j, int64_t block, const float *packed, int64_t from,
                     int64_t to)
{
    const struct mm_conv *c = j->c;
    int64_t images = mm_block_images(c, block), rows = j->w->rows;
    float *panel = mm_scratch(MM_SCRATCH_PANEL, MM_PANEL_ROWS * MM_WIDEST);
    if (!panel) {
        j->failed = 1;
        return;
    }
    struct mm_product p = {j->w, j->variant, packed, mm_output_view(c, rows), images, 0, c->in_place,
                           panel, j->y + block * c->block * rows * c->out_height * c->out_width};
    mm_multiply_places(&p, 0,
                       (images - 1) * c->plane_height * c->plane_width +
                           (c->out_height - 1) * c->plane_width + c->out_width,
                       from, to);
}

static void pack_part(void *context, int part, int parts)
{
    struct conv_job *j = context;
    int64_t channels = j->c->channels;
    mm_pack(j->c, j->variant, input_of(j, j->block), mm_block_images(j->c, j->block),
            channels * part / parts, channels * (part + 1) / parts, j->packed);
}

static void rows_part(void *context, int part, int parts)
{
    struct conv_job *j = context;
    multiply(j, j->block, j->c->in_place ? input_of(j, j->block) : j->packed,
             mm_first_row(j->w, part, parts), mm_first_row(j->w, part + 1, parts));
}

/* Every part takes its share of the blocks, whole. */
static void blocks_part(void *context, int part, int parts)
{
    struct conv_job *j = context;
    const struct mm_conv *c = j->c;
    int64_t blocks = mm_block_count(c), images = 0;
    float *packed = c->in_place ? NULL : mm_scratch(MM_SCRATCH_INPUT, c->floats);
    if (!c->in_place && !packed) {
        j->failed = 1;
        return;
    }
    for (int64_t b = blocks * part / parts; b < blocks * (part + 1) / parts; b++) {
        if (!c->in_place) {
            /* What surrounds the pixels stays zero from block to block. */
            if (images != mm_block_images(c, b))
                memset(packed, 0, (size_t)c->floats * sizeof(float));
            images = mm_block_images(c, b);
            mm_pack(c, j->variant, input_of(j, b), images, 0, c->channels, packed);
        }
        multiply(j, b, c->in_place ? input_of(j, b) : packed, 0, j->w->rows);
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
    int64_t blocks = mm_block_count(c);
    int64_t pixels = c->out_height * c->out_width * (c->block < c->images ? c->block : c->images);
    int threads_together = mm_threads_for(threads, w->starts[w->rows] * pixels);
    threads = mm_threads_for(threads, w->starts[w->rows] * pixels * blocks);
    if (threads == 1 || blocks >= 2 * threads) {
        mm_parallel(threads, blocks_part, &j);
        return j.failed ? MM_NO_MEMORY : MM_OK;
    }
    if (!c->in_place) {
        j.packed = mm_scratch(MM_SCRATCH_INPUT, c->floats);
        if (!j.packed)
            return MM_NO_MEMORY;
        memset(j.packed, 0, (size_t)c->floats * sizeof(float));
    }
    for (; j.block < blocks; j.block++) {
        /* Nothing of the block before may stay where the last one has fewer images. */
        if (!c->in_place && mm_block_images(c, j.block) != c->block)
            memset(j.packed, 0, (size_t)c->floats * sizeof(float));
        if (!c->in_place)
            mm_parallel(threads_together, pack_part, &j);
        mm_parallel(threads_together, rows_part, &j);
    }
    return j.failed ? MM_NO_MEMORY : MM_OK;
}
