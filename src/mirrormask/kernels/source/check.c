/* Proof that a program stays within its memory: every operand's first and last float, every index. */
#include "check.h"

#include <stddef.h>

enum { MOST_STEPS = 1 << 20, MOST_PORTS = 64 };

void mm_check_matrix(struct check *c, const struct mm_matrix *m, int64_t *low, int64_t *high)
{
    *low = *high = 0;
    demand(c, size(m->rows) && within(m->nonzeros, 0, INT32_MAX) && within(m->relu, 0, 1));
    if (c->wrong || !indices(c, m->starts, m->rows + 1) || !indices(c, m->columns, m->nonzeros))
        return;
    constants(c, m->values, m->nonzeros, 0);
    constants(c, m->bias, m->rows, 1);
    const int32_t *starts = c->d->indices + m->starts, *columns = c->d->indices + m->columns;
    demand(c, starts[0] == 0 && starts[m->rows] == m->nonzeros);
    for (int64_t r = 0; r < m->rows; r++)
        demand(c, starts[r] <= starts[r + 1]);
    for (int64_t i = 0; i < m->nonzeros; i++) {
        *low = i == 0 || columns[i] < *low ? columns[i] : *low;
        *high = i == 0 || columns[i] > *high ? columns[i] : *high;
    }
}

void mm_check_order(struct check *c, const struct mm_matrix *m)
{
    if (c->wrong)
        return;
    const int32_t *starts = c->d->indices + m->starts, *columns = c->d->indices + m->columns;
    for (int64_t r = 0; r < m->rows; r++)
        for (int32_t i = starts[r] + 1; i < starts[r + 1]; i++)
            demand(c, columns[i - 1] < columns[i]);
}

static void check_copy(struct check *c, const struct mm_copy_step *s)
{
    int64_t in = 0, out = 0, moved = 1;
    for (int i = 0; i < MM_DIMENSIONS; i++) {
        demand(c, size(s->sizes[i]) && within(s->from[i], 0, LARGEST) && within(s->to[i], 0, LARGEST));
        if (c->wrong)
            return;
        in += last(s->sizes[i], s->from[i]), out += last(s->sizes[i], s->to[i]);
        moved = moved > LARGEST ? BEYOND : moved * s->sizes[i];
    }
    covers(c, s->in, 0, in, 0);
    covers(c, s->out, 0, out, 1);
    /* Each float is written once at most: a small plan cannot ask for endless work. */
    demand(c, moved <= floats_of(c, s->out.space));
    demand(c, within(s->zero_at, 0, LARGEST) && within(s->zeros, 0, LARGEST));
    if (!c->wrong && s->zeros > 0)
        covers(c, (struct mm_place){s->out.space, s->zero_at}, 0, s->zeros - 1, 1);
}

static void check_planes(struct check *c, const struct mm_planes_step *s)
{
    int64_t low, high;
    mm_check_matrix(c, &s->matrix, &low, &high);
    demand(c, size(s->count) && within(s->used, 1, s->count) && s->count % MM_UNIT == 0 &&
                  within(s->out_step, s->count, LARGEST) && within(s->front, 0, LARGEST));
    if (c->wrong)
        return;
    int64_t reach = (s->used + MM_UNIT - 1) / MM_UNIT * MM_UNIT - 1;
    covers(c, s->in, low < 0 ? low : 0, (high > 0 ? high : 0) + reach, 0);
    covers(c, s->out, -s->front, last(s->matrix.rows, s->out_step) + s->count - 1, 1);
    if (s->add.space != -1) {
        demand(c, within(s->add_step, 0, LARGEST));
        if (!c->wrong)
            covers(c, s->add, 0, last(s->matrix.rows, s->add_step) + reach, 0);
    }
    if (s->mask != -1)
        indices(c, s->mask, s->count);
}

static void check_vector(struct check *c, const struct mm_vector_step *s)
{
    int64_t low, high;
    mm_check_matrix(c, &s->matrix, &low, &high);
    if (c->wrong)
        return;
    demand(c, low >= 0);
    covers(c, s->in, 0, high, 0);
    covers(c, s->out, 0, s->matrix.rows - 1, 1);
    if (s->add.space != -1)
        covers(c, s->add, 0, s->matrix.rows - 1, 0);
}

static void check_tile(struct check *c, const struct mm_tile_step *s)
{
    int64_t low, high;
    mm_check_matrix(c, &s->matrix, &low, &high);
    demand(c, size(s->width) && size(s->count) && low >= 0 && high < s->width);
    if (c->wrong)
        return;
    covers(c, s->in, 0, last(s->width, s->count) + s->count - 1, 0);
    covers(c, s->out, 0, last(s->matrix.rows, s->count) + s->count - 1, 1);
    if (s->add.space != -1)
        covers(c, s->add, 0, last(s->matrix.rows, s->count) + s->count - 1, 0);
    /* The kernel cuts a matrix into blocks row by row and takes its columns to be in order. */
    mm_check_order(c, &s->matrix);
}

static void check_pool(struct check *c, const struct mm_pool_step *s)
{
    demand(c, within(s->what, 0, MM_POOL_MEAN_INSIDE) && size(s->channels) && size(s->images) &&
                  within(s->in_plane, 0, LARGEST) && within(s->in_image, 0, LARGEST) &&
                  within(s->in_row, 0, LARGEST) && size(s->out_plane) &&
                  within(s->out_image, 0, LARGEST) && within(s->out_row, 0, LARGEST) &&
                  within(s->front, 0, LARGEST));
    int64_t pixels = 1;
    for (int i = 0; i < 2; i++) {
        demand(c, size(s->size[i]) && size(s->out_size[i]) && within(s->kernel[i], 1, 4096) &&
                      within(s->stride[i], 1, 4096) && within(s->dilation[i], 1, 4096) &&
                      within(s->pad[i], 0, s->kernel[i] - 1));
        if (c->wrong)
            return;
        /* Each window meets the image, so that a mean never divides by nothing. */
        demand(c, (s->out_size[i] - 1) * s->stride[i] < s->size[i] + s->pad[i] &&
                      s->size[i] + 2 * s->pad[i] >= s->dilation[i] * (s->kernel[i] - 1) + 1);
        pixels = pixels > LARGEST ? BEYOND : pixels * s->out_size[i];
    }
    int64_t in = last(s->channels, s->in_plane), image = last(s->images, s->out_image);
    in += last(s->images, s->in_image) + last(s->size[0], s->in_row) + s->size[1] - 1;
    covers(c, s->in, 0, in + MM_OVERREAD, 0);
    image += last(s->out_size[0], s->out_row) + s->out_size[1] - 1;
    demand(c, image < s->out_plane && pixels <= s->out_plane && s->images <= s->out_plane);
    if (!c->wrong)
        covers(c, s->out, -s->front, last(s->channels, s->out_plane) + s->out_plane - 1, 1);
}

static int check_data(const struct mm_program_data *d)
{
    if (!d || !within(d->step_count, 0, MOST_STEPS) || !within(d->constant_count, 0, LARGEST) ||
        !within(d->index_count, 0, LARGEST) || !within(d->arena, 0, LARGEST) ||
        !within(d->input_count, 1, MOST_PORTS) || !within(d->output_count, 1, MOST_PORTS) ||
        !d->steps || !d->constants || !d->indices || !d->port_floats || !within(d->variant, 0, MM_VARIANTS - 1) ||
        !mm_supported(d->variant))
        return 0;
    for (int64_t i = 0; i < d->input_count + d->output_count; i++)
        if (!within(d->port_floats[i], 0, LARGEST))
            return 0;
    return 1;
}

int mm_program_check(const struct mm_program_data *data)
{
    if (!check_data(data))
        return MM_BAD_ARGUMENT;
    struct check c = {data, 0};
    for (int64_t i = 0; i < data->step_count && !c.wrong; i++) {
        const union mm_step *s = (const union mm_step *)(data->steps + i * MM_FIELDS);
        switch (s->fields[0]) {
        case MM_STEP_COPY: check_copy(&c, &s->copy); break;
        case MM_STEP_PLANES: check_planes(&c, &s->planes); break;
        case MM_STEP_CONV: mm_check_conv(&c, &s->conv); break;
        case MM_STEP_VECTOR: check_vector(&c, &s->vector); break;
        case MM_STEP_TILE: check_tile(&c, &s->tile); break;
        case MM_STEP_POOL: check_pool(&c, &s->pool); break;
        case MM_STEP_POINTWISE: mm_check_pointwise(&c, &s->pointwise); break;
        case MM_STEP_GATE: mm_check_gate(&c, &s->gate); break;
        case MM_STEP_NORM: mm_check_norm(&c, &s->norm); break;
        case MM_STEP_ATTENTION: mm_check_attention(&c, &s->attention); break;
        default: c.wrong = 1;
        }
    }
    return c.wrong ? MM_BAD_ARGUMENT : MM_OK;
}
