/* Direct sparse convolution in tiles; see tiles_plan.c for the idea. */
#include "pool.h"
#include "strips.h"
#include "tiles_job.h"

#include <stddef.h>

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t up(int64_t a, int64_t b) { return (a + b - 1) / b; }

const struct mm_tile_variant *mm_tiles_for(int variant)
{
#ifdef MM_X86
    if (variant == MM_AVX2)
        return &mm_tiles_avx2;
    if (variant == MM_AVX512)
        return &mm_tiles_avx512;
#endif
    return NULL;
}

static void pack_part(void *context, int part, int parts)
{
    struct tiles_job *j = context;
    const struct mm_tiles *t = j->t;
    const struct mm_conv *c = &t->conv;
    int64_t share = up(c->channels, parts), from = share * part, end = least(from + share, c->channels);
    int64_t planes = c->phases[0] * c->phases[1] * t->plane;
    for (int64_t channel = from; channel < end; channel++)
        j->variant->pack(&j->sources, j->x + channel * t->in.channel, j->packed + channel * planes);
}

/* A chunk of rows for one patch. */
static void multiply(const struct tiles_job *j, int64_t chunk, const struct patch *patch, float *sums)
{
    const struct mm_tiles *t = j->t;
    int64_t from = chunk * t->chunk, rows = least(t->chunk, t->outputs - from);
    int64_t groups = t->right + t->left + 1;
    struct mm_patch_rows w = {.columns = j->w->columns, .values = j->w->values, .rows = rows,
                              .right = t->right, .left = t->left,
                              .bias = j->w->bias ? j->w->bias + from : NULL};
    for (int64_t b = 0; b < t->blocks; b++) {
        w.starts = j->w->starts + (from * t->blocks + b * rows) * groups;
        w.begins = b == 0, w.ends = b == t->blocks - 1, w.relu = w.ends && j->w->relu;
        w.add = w.ends && j->add ? j->add + from * t->add.channel : NULL;
        j->variant->patches[patch->count - 1](&w, &patch->places, j->in + patch->at * j->variant->lanes,
                                              sums, j->y + from * patch->places.channel);
    }
}

/* All patches for one chunk, then for the next: what is written follows what was written before. */
static void rows_part(void *context, int part, int parts)
{
    struct tiles_job *j = context;
    const struct mm_tiles *t = j->t;
    int64_t items = up(t->outputs, t->chunk) * j->count;
    float *sums = mm_scratch(MM_SCRATCH_PANEL, t->chunk * j->variant->most * j->variant->lanes);
    if (!sums) {
        *j->failed = 1;
        return;
    }
    for (int64_t item = items * part / parts; item < items * (part + 1) / parts; item++)
        multiply(j, item / j->count, j->patches + item % j->count, sums);
}

/* Where the planes of a group are, or will be; 0: there is no memory. */
static int find_input(struct tiles_job *j)
{
    const struct mm_tiles *t = j->t;
    if (t->direct) {
        j->in = j->x + j->group * t->in.image;
        return 1;
    }
    j->in = j->packed = mm_scratch(MM_SCRATCH_INPUT, t->floats);
    return j->packed && mm_find_sources(j);
}

static void one_group(const struct tiles_job *all, int64_t group, int threads)
{
    struct tiles_job j = *all;
    if (j.t->strips) {
        if (!mm_strips_image(&j, group, threads))
            *j.failed = 1;
        return;
    }
    j.group = group;
    if (!mm_find_patches(&j) || !find_input(&j)) {
        *j.failed = 1;
        return;
    }
    if (!j.t->direct)
        mm_parallel(threads, pack_part, &j);
    mm_parallel(threads, rows_part, &j);
}

static int64_t groups_of(const struct mm_tiles *t)
{
    return up(t->conv.images * t->count, t->side_by_side);
}

/* Every part takes each parts-th group, whole. */
static void groups_part(void *context, int part, int parts)
{
    const struct tiles_job *j = context;
    for (int64_t group = part; group < groups_of(j->t); group += parts)
        one_group(j, group, 1);
}

int mm_tiles_run(const struct mm_tiles *t, const struct mm_rows *w, const float *x, const float *add,
                 float *y, int threads)
{
    if (!t || !t->fits || mm_bad_rows(w) || w->rows != t->outputs || w->variant != t->variant ||
        threads < 1 || !x || !y)
        return MM_BAD_ARGUMENT;
    atomic_int failed = 0;
    struct tiles_job j = {.t = t, .w = w, .variant = mm_tiles_for((int)t->variant), .x = x, .add = add,
                          .y = y, .failed = &failed};
    int64_t groups = groups_of(t), work = t->nonzeros * t->tile * t->width * j.variant->lanes;
    int all = mm_threads_for(threads, work * groups);
    /* Whole groups need no waiting for each other, but may leave threads idle at the end. */
    if (groups % all == 0 || groups > 2 * all) {
        mm_parallel(all, groups_part, &j);
    } else {
        threads = mm_threads_for(threads, work);
        for (int64_t group = 0; group < groups; group++)
            one_group(&j, group, threads);
    }
    return failed ? MM_NO_MEMORY : MM_OK;
}

int mm_tiles_conv2d(const struct mm_tiles *t, const struct mm_rows *w, const float *x, float *y,
                    int threads)
{
    return mm_tiles_run(t, w, x, NULL, y, threads);
}
