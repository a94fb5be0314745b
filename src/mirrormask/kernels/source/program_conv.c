/* Convolutions of a program on images that lie anywhere; see mm_conv_step. */
#include "dispatch.h"
#include "pool.h"
#include "steps.h"
#include "tiles.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

struct mm_made_conv {
    struct mm_tiles tiles; /* where they are not used, only layouts and `conv` mean something */
    int tiled;
    struct mm_rows rows;   /* as the way that it is done wants them */
    int64_t bytes;
};

struct mm_conv mm_conv_of(const struct mm_conv_step *s)
{
    return (struct mm_conv){.channels = s->channels, .height = s->height, .width = s->width,
                            .images = s->images,
                            .kernel = {s->kernel[0], s->kernel[1]},
                            .stride = {s->stride[0], s->stride[1]},
                            .dilation = {s->dilation[0], s->dilation[1]},
                            .pad = {s->pad[0], s->pad[1], s->pad[2], s->pad[3]}};
}

static int lies_so(struct mm_layout l, int64_t images, int64_t channels, int64_t height, int64_t width)
{
    return l.row == width && l.channel == height * width && (images == 1 || l.image == channels * l.channel);
}

/* Whether mm_conv2d can do it on the images as they lie. */
static int is_plain(const struct mm_conv_step *s, const struct mm_conv *c)
{
    return s->add.space < 0 && lies_so(s->in_layout, c->images, c->channels, c->height, c->width) &&
           lies_so(s->out_layout, c->images, s->matrix.rows, c->out_height, c->out_width);
}

struct mm_made_conv *mm_conv_made(const struct mm_program *p, const struct mm_conv_step *s)
{
    struct mm_rows w = mm_rows_of(p, &s->matrix);
    struct mm_tiles t = {.conv = mm_conv_of(s), .outputs = w.rows, .nonzeros = s->matrix.nonzeros,
                         .variant = w.variant, .packing = 100, .in = s->in_layout, .out = s->out_layout,
                         .add = s->add.space < 0 ? s->out_layout : s->add_layout};
    if (mm_tiles_plan(&t) != MM_OK)
        return NULL;
    /* Tiles cost no copies, which other layouts than mm_conv2d's would. */
    int tiled = t.pays || (t.fits && !is_plain(s, &t.conv));
    int64_t starts = tiled ? t.outputs * t.blocks * (t.right + t.left + 1) + 1 : 0;
    int64_t numbers = starts + t.nonzeros * (tiled ? 2 : 1);
    int64_t bytes = (int64_t)sizeof(struct mm_made_conv) + numbers * 4;
    struct mm_made_conv *made = malloc((size_t)bytes);
    if (!made)
        return NULL;
    *made = (struct mm_made_conv){t, tiled, w, bytes};
    int32_t *room = (int32_t *)(made + 1), *offsets = room + starts;
    float *values = (float *)(offsets + t.nonzeros);
    made->rows.columns = offsets;
    int code;
    if (tiled) {
        made->rows.starts = room, made->rows.values = values;
        code = mm_tiles_fill(&t, &w, room, offsets, values);
    } else {
        code = mm_conv_offsets(&t.conv, w.columns, t.nonzeros, offsets);
    }
    if (code == MM_OK)
        return made;
    free(made);
    return NULL;
}

int64_t mm_conv_bytes(const struct mm_made_conv *made) { return made->bytes; }

static const float *pixels_of(const float *x, struct mm_layout l, int64_t image, int64_t channel, int64_t row)
{
    return x + image * l.image + channel * l.channel + row * l.row;
}

/* Otherwise the images are copied to where mm_conv2d wants them, and back. */
static int run_copied(const struct mm_made_conv *made, const float *x, const float *add, float *y, int threads)
{
    const struct mm_tiles *t = &made->tiles;
    const struct mm_conv *c = &t->conv;
    struct mm_rows w = made->rows;
    float *in = mm_scratch(MM_SCRATCH_COPIED, c->images * c->channels * c->height * c->width), *next = in;
    float *out = mm_scratch(MM_SCRATCH_RESULT, c->images * w.rows * c->out_height * c->out_width);
    if (!in || !out)
        return MM_NO_MEMORY;
    for (int64_t n = 0; n < c->images; n++)
        for (int64_t k = 0; k < c->channels; k++)
            for (int64_t i = 0; i < c->height; i++, next += c->width)
                memcpy(next, pixels_of(x, t->in, n, k, i), (size_t)c->width * sizeof(float));
    w.relu = w.relu && !add;
    int code = mm_conv2d(c, &w, in, out, threads);
    for (int64_t n = 0; n < c->images && code == MM_OK; n++)
        for (int64_t k = 0; k < w.rows; k++)
            for (int64_t i = 0; i < c->out_height; i++, out += c->out_width) {
                float *to = (float *)pixels_of(y, t->out, n, k, i);
                const float *more = add ? pixels_of(add, t->add, n, k, i) : NULL;
                for (int64_t j = 0; j < c->out_width; j++) {
                    float sum = more ? out[j] + more[j] : out[j];
                    to[j] = made->rows.relu && sum < 0.0f ? 0.0f : sum;
                }
            }
    return code;
}

/* Most gaps are one float, which is written before memset has begun. */
static void clear(float *from, const float *to)
{
    if (to - from == 1)
        *from = 0.0f;
    else
        memset(from, 0, (size_t)(to - from) * sizeof(float));
}

/* What lies between the pixels of the output, which later steps read as padding. */
static void clear_gaps_of(const struct mm_conv_step *s, const struct mm_conv *c, float *y)
{
    struct mm_layout l = s->out_layout;
    int64_t wide = c->out_width;
    for (int64_t k = 0; k < s->matrix.rows; k++)
        for (int64_t n = 0; n < c->images; n++) {
            float *image = y + k * l.channel + n * l.image, *last = image + (c->out_height - 1) * l.row;
            for (float *row = image; row != last && l.row > wide; row += l.row)
                clear(row + wide, row + l.row);
            clear(last + wide, n + 1 < c->images ? image + l.image : y + k * l.channel + s->plane);
        }
}

int mm_conv_run(const struct mm_conv_step *s, const struct mm_made_conv *made, const float *x,
                const float *add, float *y, int threads)
{
    memset(y - s->front, 0, (size_t)s->front * sizeof(float));
    if (s->plane > 0)
        clear_gaps_of(s, &made->tiles.conv, y);
    if (made->tiled)
        return mm_tiles_run(&made->tiles, &made->rows, x, add, y, threads);
    if (is_plain(s, &made->tiles.conv))
        return mm_conv2d(&made->tiles.conv, &made->rows, x, y, threads);
    return run_copied(made, x, add, y, threads);
}
