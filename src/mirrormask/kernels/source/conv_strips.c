/* Direct sparse convolution in strips; see strips_plan.c for the idea. */
#include "pool.h"
#include "strips.h"
#include "tiles_job.h"

#include <stddef.h>
#include <string.h>

enum { EDGES_AHEAD = 4 }; /* channels, of images in no cache */

struct strips_job {
    const struct tiles_job *j;
    struct mm_strip_edges e;
    struct mm_strip strip; /* what all have in common */
    const int32_t *keep;
    const float *x, *add; /* the image, and what is added to it */
    float *packed, *y;
};

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t up(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* For each group of weights, whether its sums belong to their row: -1 or 0 for as many pixels as a
 * strip may have from any place in a row on. */
static int find_kept(struct strips_job *s)
{
    const struct mm_tiles *t = s->j->t;
    int64_t wide = t->conv.width, step = wide + t->patch * s->j->variant->lanes;
    int32_t *keep = (int32_t *)mm_scratch(MM_SCRATCH_GAPS, (t->right + 1) * step);
    if (!keep)
        return 0;
    s->keep = keep, s->strip.keep_step = step;
    for (int64_t g = 0; g <= t->right; g++, keep += step) {
        for (int64_t i = 0; i < wide; i++)
            keep[i] = -(int32_t)(i + g >= t->first && i + g < t->first + wide);
        for (int64_t i = wide; i < step; i++)
            keep[i] = keep[i - wide];
    }
    return 1;
}

static void ask(const float *from, int64_t floats)
{
    for (int64_t i = 0; i < floats; i += 16)
        __builtin_prefetch(from + i);
}

/* The first and the last strips' pixels, with zeros for the rows that the image does not have. */
static void pack_part(void *context, int part, int parts)
{
    const struct strips_job *s = context;
    const struct mm_tiles *t = s->j->t;
    const struct mm_strip_edges *e = &s->e;
    int64_t share = up(t->conv.channels, parts), pixels = t->size[1], real = pixels - e->bottom_at;
    for (int64_t k = share * part; k < least(share * (part + 1), t->conv.channels); k++) {
        const float *from = s->x + k * t->in.channel;
        float *top = s->packed + k * t->in.channel, *bottom = top + (e->apart + e->bottom_at);
        if (t->far && k + EDGES_AHEAD < t->conv.channels) {
            ask(from + EDGES_AHEAD * t->in.channel, e->top_end);
            ask(from + EDGES_AHEAD * t->in.channel + e->bottom_at, real);
        }
        memset(top - e->back, 0, (size_t)e->back * sizeof(float));
        memcpy(top, from, (size_t)e->top_end * sizeof(float));
        memcpy(bottom, from + e->bottom_at, (size_t)real * sizeof(float));
        memset(bottom + real, 0, (size_t)(e->end - pixels) * sizeof(float));
    }
}

/* Some rows for one strip. */
static void multiply(const struct strips_job *s, int64_t number, int64_t from, float *sums)
{
    const struct tiles_job *j = s->j;
    const struct mm_tiles *t = j->t;
    const struct mm_strip_edges *e = &s->e;
    int64_t rows = least(t->chunk, t->outputs - from), lanes = j->variant->lanes, groups = t->right + 1;
    int64_t at = mm_strip_at(t, number), count = mm_strip_at(t, number + 1) - at, pixel = at * lanes;
    int64_t left = t->size[1] - pixel - (count - 1) * lanes;
    const float *x = number < e->top      ? s->packed + pixel
                     : number < e->bottom ? s->x + pixel
                                          : s->packed + (e->apart + pixel);
    struct mm_strip strip = s->strip;
    strip.wide = t->conv.width, strip.from = pixel % strip.wide, strip.keep = s->keep + strip.from;
    strip.inside = (uint16_t)((1u << least(left, lanes)) - 1);
    if (t->far && number + MM_STRIPS_AHEAD < e->bottom && from < t->conv.channels) {
        int64_t later = mm_strip_at(t, number + MM_STRIPS_AHEAD) * lanes + e->ahead;
        strip.later = s->x + from * t->in.channel + later;
        strip.later_step = t->in.channel, strip.later_count = t->conv.channels - from;
    }
    struct mm_patch_rows w = {.columns = j->w->columns, .values = j->w->values, .rows = rows,
                              .right = t->right, .bias = j->w->bias ? j->w->bias + from : NULL};
    for (int64_t b = 0; b < t->blocks; b++, strip.later_count = strip.far = 0) {
        w.starts = j->w->starts + (from * t->blocks + b * rows) * groups;
        w.begins = b == 0, w.ends = b == t->blocks - 1, w.relu = w.ends && j->w->relu;
        w.add = w.ends && s->add ? s->add + from * t->add.channel + pixel : NULL;
        j->variant->strips[count - 1](&w, &strip, x, sums, s->y + from * t->out.channel + pixel);
    }
}

/* All rows for one strip, then for the next. */
static void rows_part(void *context, int part, int parts)
{
    const struct strips_job *s = context;
    const struct mm_tiles *t = s->j->t;
    int64_t chunks = up(t->outputs, t->chunk), items = chunks * s->e.count;
    float *sums = mm_scratch(MM_SCRATCH_PANEL, t->chunk * t->patch * s->j->variant->lanes);
    if (!sums) {
        *s->j->failed = 1;
        return;
    }
    for (int64_t item = items * part / parts; item < items * (part + 1) / parts; item++)
        multiply(s, item / chunks, item % chunks * t->chunk, sums);
}

int mm_strips_image(const struct tiles_job *j, int64_t image, int threads)
{
    const struct mm_tiles *t = j->t;
    struct strips_job s = {.j = j, .x = j->x + image * t->in.image, .y = j->y + image * t->out.image,
                           .add = j->add ? j->add + image * t->add.image : NULL,
                           .strip = {.channel = t->out.channel, .add_channel = t->add.channel,
                                     .centre = t->first, .far = t->far}};
    if (!mm_strip_edges(t, j->variant->lanes, &s.e) || s.e.floats > t->floats || !find_kept(&s))
        return 0;
    s.packed = mm_scratch(MM_SCRATCH_INPUT, t->floats);
    if (!s.packed)
        return 0;
    s.packed += up(s.e.back, j->variant->lanes) * j->variant->lanes;
    mm_parallel(threads, pack_part, &s);
    mm_parallel(threads, rows_part, &s);
    return 1;
}
