/* A sparse convolution and both of its gradients, block by block and band by band; see live.h. */
#include "live.h"

#include "pool.h"

#include <stddef.h>
#include <string.h>

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static int64_t bands_of(const struct mm_live_job *j) { return (j->rows + j->l->band - 1) / j->l->band; }

static int64_t units_of(const struct mm_live_job *j)
{
    return (j->l->conv.images + j->l->lanes - 1) / j->l->lanes * bands_of(j);
}

/* Move the rows that the next band meets as well to its beginning. */
static void carry(const struct mm_live *l, float *planes, int64_t count)
{
    int64_t row = l->conv.plane_width * l->lanes;
    for (int64_t p = 0; p < count; p++, planes += l->plane)
        memmove(planes, planes + l->band * row, (size_t)(l->reach[0] * row) * sizeof(float));
}

/* Rows of the packed input from `known` on, for some channels; its first one is row `top` of the
 * planes. */
static void read_channels(const struct mm_live_job *j, const struct mm_band *b, int64_t known,
                          int64_t from, int64_t to)
{
    const struct mm_conv *c = &j->l->conv;
    int64_t row = c->plane_width * j->l->lanes, step = j->l->plane * c->phases[0] * c->phases[1];
    float *planes = b->x;
    for (int64_t s = 0; s < c->stride[0]; s++)
        for (int64_t t = 0; mm_meets(c, 0, s) && t < c->stride[1]; t++) {
            if (!mm_meets(c, 1, t))
                continue;
            struct mm_view view = mm_input_view(j->l, s, t);
            mm_read_rows(&view, j->variant->turn, j->x + b->in_at, b->images, b->top + known,
                         b->end - b->top + j->l->reach[0] - known, from, to, planes + known * row,
                         step);
            planes += j->l->plane;
        }
}

/* All phases of what lies together in the tensor are read while it is in the cache. */
static void read_input(const struct mm_live_job *j, const struct mm_band *b, int64_t known)
{
    int64_t channels = j->l->conv.channels, together = j->l->channels_last ? channels : 1;
    for (int64_t c = 0; c < channels; c += together)
        read_channels(j, b, known, c, c + together);
}

/* Rows of the packed output gradient from `known` on; its first one lies `reach` before `top`. */
static void read_gradient(const struct mm_live_job *j, const struct mm_band *b, int64_t known)
{
    int64_t row = j->l->conv.plane_width * j->l->lanes, reach = j->l->reach[0];
    struct mm_view view = mm_output_view(j->l);
    mm_read_rows(&view, j->variant->turn, j->dy + b->out_at, b->images, b->top + known - reach,
                 b->end - b->top + reach - known, 0, view.channels,
                 b->dy + j->l->front + known * row, j->l->plane);
}

static void units_part(void *context, int part, int parts)
{
    struct mm_live_job *j = context;
    const struct mm_live *l = j->l;
    const struct mm_conv *c = &l->conv;
    int64_t bands = bands_of(j), units = units_of(j), known = 0;
    int64_t count = j->w->starts[j->w->rows], in = c->channels * c->height * c->width;
    int64_t out = l->outputs * c->out_height * c->out_width;
    int needs_x = j->y || j->values;
    float *sums = j->values && part ? j->sums + (part - 1) * count : j->values;
    struct mm_band b = {.x = needs_x ? mm_scratch(MM_SCRATCH_INPUT, l->in_floats) : NULL,
                     .dy = j->dy ? mm_scratch(MM_SCRATCH_GRADIENT, l->out_floats) : NULL,
                     .panel = mm_scratch(MM_SCRATCH_PANEL, MM_PANEL_ROWS * MM_WIDEST)};
    if ((needs_x && !b.x) || (j->dy && !b.dy) || !b.panel) {
        j->failed = 1;
        return;
    }
    if (j->values)
        memset(sums, 0, (size_t)count * sizeof(float));
    for (int64_t u = units * part / parts; u < units * (part + 1) / parts; u++) {
        int64_t block = u / bands, first = block * l->lanes, images = least(l->lanes, c->images - first);
        b.top = u % bands * l->band, b.end = least(b.top + l->band, j->rows);
        b.in_at = first * in, b.out_at = first * out;
        if (b.top == 0)
            known = 0;
        if (images != b.images) { /* what surrounds the pixels stays zero from here on */
            if (b.x)
                memset(b.x, 0, (size_t)l->in_floats * sizeof(float));
            if (b.dy)
                memset(b.dy, 0, (size_t)l->out_floats * sizeof(float));
            b.images = images;
        }
        if (b.x) {
            if (known)
                carry(l, b.x, c->channels * c->phases[0] * c->phases[1]);
            read_input(j, &b, known);
        }
        if (b.dy) {
            if (known)
                carry(l, b.dy + l->front, l->outputs);
            read_gradient(j, &b, known);
        }
        known = l->reach[0];
        if (j->y)
            mm_live_outputs(j, &b);
        if (j->values)
            mm_live_products(j, &b, sums);
        if (j->dx)
            mm_live_inputs(j, &b);
    }
}

static int run(struct mm_live_job *j, int64_t products, int threads)
{
    const struct mm_conv *c = &j->l->conv;
    int64_t count = j->w->starts[j->w->rows], units = units_of(j);
    threads = mm_threads_for(threads, products * count * c->images * c->out_height * c->out_width);
    threads = threads < units ? threads : (int)units;
    if (j->values && threads > 1) {
        j->sums = mm_scratch(MM_SCRATCH_SUMS, (threads - 1) * count);
        if (!j->sums)
            return MM_NO_MEMORY;
    }
    mm_parallel(threads, units_part, j);
    for (int64_t part = 1; j->values && part < threads; part++)
        for (int64_t i = 0; i < count; i++)
            j->values[i] += j->sums[(part - 1) * count + i];
    return j->failed ? MM_NO_MEMORY : MM_OK;
}

/* Whether a plan was made by mm_live_plan for these rows. */
static int bad_plan(const struct mm_live *l, const struct mm_rows *w)
{
    return mm_bad_rows(w) || !l || l->band < 1 || l->lanes < 1 || l->plane < 1 ||
           l->in_floats < 1 || l->out_floats < 1 || w->rows != l->outputs;
}

int mm_live_forward(const struct mm_live *l, const struct mm_rows *w, const float *x, float *y,
                    int threads)
{
    if (bad_plan(l, w) || threads < 1)
        return MM_BAD_ARGUMENT;
    if (l->conv.images == 0)
        return MM_OK;
    if (!x || !y)
        return MM_BAD_ARGUMENT;
    struct mm_live_job j = {.l = l, .w = w, .variant = mm_variant(w->variant), .x = x, .y = y,
                         .rows = l->conv.out_height};
    return run(&j, 1, threads);
}

int mm_live_backward(const struct mm_live *l, const struct mm_rows *w, const struct mm_rows *turned,
                     const float *x, const float *dy, float *dx, float *values, int threads)
{
    if (bad_plan(l, w) || threads < 1)
        return MM_BAD_ARGUMENT;
    const struct mm_conv *c = &l->conv;
    if (dx && (mm_bad_rows(turned) || turned->rows != c->channels * c->phases[0] * c->phases[1] ||
               turned->bias || turned->relu))
        return MM_BAD_ARGUMENT;
    int64_t count = w->starts[w->rows];
    if (count == 0)
        values = NULL;
    if (c->images == 0) {
        if (values)
            memset(values, 0, (size_t)count * sizeof(float));
        return MM_OK;
    }
    if ((values && !x) || !dy)
        return MM_BAD_ARGUMENT;
    if (dx && c->phases[0] * c->phases[1] < c->stride[0] * c->stride[1])
        memset(dx, 0, (size_t)(c->images * c->channels * c->height * c->width) * sizeof(float));
    struct mm_live_job j = {.l = l, .w = w, .turned = turned, .variant = mm_variant(w->variant),
                         .x = x, .dy = dy, .dx = dx, .values = values, .rows = c->plane_height};
    return run(&j, 2, threads);
}
