/* A sparse convolution and both of its gradients, band by band; see live.h.
 *
 * The gradient of the output is laid out in planes of the input's size, with zeros where the output
 * has no pixel. A weight's gradient is then the product of a band of one such plane with the band of
 * the input that the weight meets; and since the zeros between two rows are as many as the kernel
 * reaches, the gradient of the input is a sparse sum of shifted planes, too, with a row for each
 * channel and phase of the stride.
 */
#include "live.h"

#include "pool.h"

#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

struct live_job {
    const struct mm_live *l;
    const struct mm_rows *w, *turned;
    const struct mm_variant *variant;
    const float *x, *dy;
    float *y, *dx, *values, *sums; /* sums: of the values, for each part but the first */
    int64_t rows;                  /* of a plane, that are cut into bands */
    atomic_int failed;
};

/* A band of one block of images, and the part's own memory. */
struct band {
    int64_t images, top, end; /* rows [top, end) of the planes */
    int64_t in_at, out_at;    /* floats before the block in the tensors */
    float *x, *dy, *panel;
};

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static int64_t bands_of(const struct live_job *j) { return (j->rows + j->l->band - 1) / j->l->band; }

static int64_t units_of(const struct live_job *j)
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
static void read_channels(const struct live_job *j, const struct band *b, int64_t known,
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
static void read_input(const struct live_job *j, const struct band *b, int64_t known)
{
    int64_t channels = j->l->conv.channels, together = j->l->channels_last ? channels : 1;
    for (int64_t c = 0; c < channels; c += together)
        read_channels(j, b, known, c, c + together);
}

/* Rows of the packed output gradient from `known` on; its first one lies `reach` before `top`. */
static void read_gradient(const struct live_job *j, const struct band *b, int64_t known)
{
    int64_t row = j->l->conv.plane_width * j->l->lanes, reach = j->l->reach[0];
    struct mm_view view = mm_output_view(j->l);
    mm_read_rows(&view, j->variant->turn, j->dy + b->out_at, b->images, b->top + known - reach,
                 b->end - b->top + reach - known, 0, view.channels,
                 b->dy + j->l->front + known * row, j->l->plane);
}

/* Rows [from, from + channels of the view) of w times what lies at x, to the view's tensor. */
static void multiply(const struct live_job *j, const struct band *b, const struct mm_rows *w,
                     int64_t from, const struct mm_view *view, const float *x, float *tensor)
{
    /* As many floats either way; a tensor's own neighbours should be written together. */
    enum { MOST_PIECES = 4 };
    int most = view->channels_last ? 1 : MOST_PIECES, rows = MM_PANEL_ROWS / most;
    int64_t lanes = view->lanes, to = from + view->channels, end = view->end[1] * lanes;
    int64_t top = b->top > view->first[0] ? b->top : view->first[0];
    for (int64_t i = top; i < least(b->end, view->end[0]); i++)
        for (int64_t at = view->first[1] * lanes; at < end;) {
            struct mm_piece pieces[MOST_PIECES];
            const float *place = x + (i - b->top) * view->width * lanes;
            int count = 0;
            for (; count < most && at < end; count++) {
                int64_t width = mm_widths[mm_width_for(end - at)];
                pieces[count] = (struct mm_piece){at / lanes, least(width, end - at) / lanes, width,
                                                  b->panel + count * rows * MM_WIDEST};
                at += width;
            }
            for (int64_t r = from; r < to; r += rows) {
                int64_t last = least(r + rows, to);
                for (int p = 0; p < count; p++)
                    j->variant->panels[mm_width_for(pieces[p].width)](
                        w, r, last, place + pieces[p].j * lanes, 1, b->panel + p * rows * MM_WIDEST);
                mm_write_pieces(view, j->variant->turn, pieces, count, r - from, last - r, b->images,
                                i, tensor);
            }
        }
}

static void forward(const struct live_job *j, const struct band *b)
{
    struct mm_view view = mm_output_view(j->l);
    multiply(j, b, j->w, 0, &view, b->x, j->y + b->out_at);
}

/* The gradient of the input from that of the output, phase by phase. */
static void turn_back(const struct live_job *j, const struct band *b)
{
    const struct mm_conv *c = &j->l->conv;
    int64_t from = 0;
    for (int64_t s = 0; s < c->stride[0]; s++)
        for (int64_t t = 0; mm_meets(c, 0, s) && t < c->stride[1]; t++) {
            if (!mm_meets(c, 1, t))
                continue;
            struct mm_view view = mm_input_view(j->l, s, t);
            multiply(j, b, j->turned, from, &view, b->dy, j->dx + b->in_at);
            from += c->channels;
        }
}

static void add_products(const struct live_job *j, const struct band *b, float *sums)
{
    const struct mm_conv *c = &j->l->conv;
    int64_t row = c->plane_width * j->l->lanes, lines = least(b->end, c->out_height) - b->top;
    if (lines > 0)
        j->variant->dots(j->w, 0, j->w->rows, b->dy + j->l->front + j->l->reach[0] * row, j->l->plane,
                         b->x, 1, (struct mm_lines){lines, row, c->out_width * j->l->lanes}, sums);
}

static void units_part(void *context, int part, int parts)
{
    struct live_job *j = context;
    const struct mm_live *l = j->l;
    const struct mm_conv *c = &l->conv;
    int64_t bands = bands_of(j), units = units_of(j), known = 0;
    int64_t count = j->w->starts[j->w->rows], in = c->channels * c->height * c->width;
    int64_t out = l->outputs * c->out_height * c->out_width;
    int needs_x = j->y || j->values;
    float *sums = part ? j->sums + (part - 1) * count : j->values;
    struct band b = {.x = needs_x ? mm_scratch(MM_SCRATCH_INPUT, l->in_floats) : NULL,
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
            forward(j, &b);
        if (j->values)
            add_products(j, &b, sums);
        if (j->dx)
            turn_back(j, &b);
    }
}

static int run(struct live_job *j, int64_t products, int threads)
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
    struct live_job j = {.l = l, .w = w, .variant = mm_variant(w->variant), .x = x, .y = y,
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
    struct live_job j = {.l = l, .w = w, .turned = turned, .variant = mm_variant(w->variant),
                         .x = x, .dy = dy, .dx = dx, .values = values, .rows = c->plane_height};
    return run(&j, 2, threads);
}
