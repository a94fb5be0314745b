/* Run one step of a checked program; see steps.h. */
#include "dispatch.h"
#include "pool.h"
#include "steps.h"

#include <stddef.h>
#include <string.h>

static const struct mm_images *const images[MM_VARIANTS] = {
    &mm_images_portable,
#ifdef MM_X86
    &mm_images_avx2, &mm_images_avx512,
#endif
};
static const struct mm_points *const points[MM_VARIANTS] = {
    &mm_points_portable,
#ifdef MM_X86
    &mm_points_avx2, &mm_points_avx512,
#endif
};
static const struct mm_lanes *const lanes[MM_VARIANTS] = {
    &mm_lanes_portable,
#ifdef MM_X86
    &mm_lanes_avx2, &mm_lanes_avx512,
#endif
};

static float *at(const struct mm_turn *t, struct mm_place place)
{
    return place.space < 0 ? NULL : t->spaces[place.space] + place.offset;
}

struct mm_rows mm_rows_of(const struct mm_program *p, const struct mm_matrix *m)
{
    return (struct mm_rows){.rows = m->rows,
                            .starts = p->indices + m->starts,
                            .columns = p->indices + m->columns,
                            .values = p->constants + m->values,
                            .bias = m->bias < 0 ? NULL : p->constants + m->bias,
                            .relu = (int32_t)m->relu,
                            .variant = p->variant};
}

struct planes_job {
    struct mm_planes planes;
    const struct mm_planes_step *step;
    mm_planes_rows run;
};

/* What of each plane was not computed is zero: the gap behind its last pixel is read as padding. */
static void planes_part(void *context, int part, int parts)
{
    struct planes_job *j = context;
    const struct mm_planes *p = &j->planes;
    int64_t from = mm_first_row(p->w, part, parts), to = mm_first_row(p->w, part + 1, parts);
    int64_t done = p->units * MM_UNIT, count = j->step->count;
    j->run(p, from, to);
    for (int64_t r = from; r < to && done < count; r++)
        memset(p->y + r * p->y_step + done, 0, (size_t)(count - done) * sizeof(float));
}

static void run_planes(const struct mm_turn *t, const struct mm_planes_step *s)
{
    struct mm_rows w = mm_rows_of(t->p, &s->matrix);
    struct planes_job j = {{&w, at(t, s->in), at(t, s->out), s->out_step, at(t, s->add), s->add_step,
                            s->mask < 0 ? NULL : t->p->indices + s->mask,
                            (s->used + MM_UNIT - 1) / MM_UNIT},
                           s,
                           mm_planes_for(t->p->variant)};
    memset(j.planes.y - s->front, 0, (size_t)s->front * sizeof(float));
    mm_parallel(mm_threads_for(t->threads, s->matrix.nonzeros * s->used), planes_part, &j);
}

struct vector_job {
    const struct mm_rows *w;
    const struct mm_windows *windows; /* or NULL */
    const float *x, *add;
    float *y;
    int relu;
};

/* Groups are shared out by turns, as rows are by weights. */
static int64_t first_group(const struct mm_windows *w, int part, int parts)
{
    int64_t group = part < parts ? 0 : w->groups, wanted = (int64_t)w->first[w->groups] * part / parts;
    while (group < w->groups && w->first[group] < wanted)
        group++;
    return group;
}

static void vector_part(void *context, int part, int parts)
{
    struct vector_job *j = context;
    if (j->windows) {
        const struct mm_windows *windows = j->windows;
        mm_windows_for(j->w->variant)(windows, first_group(windows, part, parts),
                                      first_group(windows, part + 1, parts), j->x, j->add, j->relu, j->y);
        return;
    }
    int64_t from = mm_first_row(j->w, part, parts), to = mm_first_row(j->w, part + 1, parts);
    mm_variant(j->w->variant)->vector(j->w, from, to, j->x, j->y);
    for (int64_t r = from; j->add && r < to; r++) {
        float sum = j->y[r] + j->add[r];
        j->y[r] = j->relu && sum < 0.0f ? 0.0f : sum;
    }
}

static void run_vector(const struct mm_turn *t, const struct mm_vector_step *s,
                       const struct mm_windows *windows)
{
    struct mm_rows w = mm_rows_of(t->p, &s->matrix);
    struct vector_job j = {&w, windows, at(t, s->in), at(t, s->add), at(t, s->out), w.relu};
    w.relu = w.relu && !j.add;
    mm_parallel(mm_threads_for(t->threads, s->matrix.nonzeros), vector_part, &j);
}

static int run_tile(const struct mm_turn *t, const struct mm_tile_step *s,
                    const struct mm_blocks *blocks)
{
    static const int32_t by_columns[2] = {1, 1};
    struct mm_rows w = mm_rows_of(t->p, &s->matrix);
    const float *add = at(t, s->add);
    float *out = at(t, s->out);
    w.relu = w.relu && !add;
    w.blocks = blocks;
    int code = mm_linear(&w, s->width, at(t, s->in), s->count, out, by_columns, t->threads);
    if (code == MM_OK && add) {
        struct mm_pointwise_step sum = {.what = s->matrix.relu ? MM_ADD_RELU : MM_ADD,
                                        .planes = s->matrix.rows, .count = s->count,
                                        .a_step = s->count, .b_step = s->count,
                                        .out_step = s->count};
        points[t->p->variant]->pointwise(&sum, out, add, NULL, NULL, out);
    }
    return code;
}

static int run_attention(const struct mm_turn *t, const struct mm_attention_step *s)
{
    float *room = mm_scratch(MM_SCRATCH_PANEL, s->keys * MM_QUERIES);
    if (!room)
        return MM_NO_MEMORY;
    lanes[t->p->variant]->attention(s, at(t, s->q), at(t, s->k), at(t, s->v),
                                    t->p->constants[s->scale], room, at(t, s->out));
    return MM_OK;
}

int mm_run_step(const struct mm_turn *t, const union mm_step *s, const struct mm_made *made)
{
    const float *constants = t->p->constants;
    int variant = t->p->variant;
    switch (s->fields[0]) {
    case MM_STEP_COPY:
        memset(t->spaces[s->copy.out.space] + s->copy.zero_at, 0,
               (size_t)s->copy.zeros * sizeof(float));
        images[variant]->copy(&s->copy, at(t, s->copy.in), at(t, s->copy.out));
        return MM_OK;
    case MM_STEP_PLANES: run_planes(t, &s->planes); return MM_OK;
    case MM_STEP_CONV:
        return mm_conv_run(&s->conv, made->conv, at(t, s->conv.in), at(t, s->conv.add), at(t, s->conv.out),
                           t->threads);
    case MM_STEP_VECTOR: run_vector(t, &s->vector, made->windows); return MM_OK;
    case MM_STEP_TILE: return run_tile(t, &s->tile, made->blocks);
    case MM_STEP_POOL:
        images[variant]->pool(&s->pool, at(t, s->pool.in), at(t, s->pool.out));
        return MM_OK;
    case MM_STEP_POINTWISE:
        points[variant]->pointwise(&s->pointwise, at(t, s->pointwise.a), at(t, s->pointwise.b),
                                   s->pointwise.parameters < 0 ? NULL : constants + s->pointwise.parameters,
                                   s->pointwise.mask < 0 ? NULL : t->p->indices + s->pointwise.mask,
                                   at(t, s->pointwise.out));
        return MM_OK;
    case MM_STEP_GATE:
        points[variant]->gate(&s->gate, at(t, s->gate.in), at(t, s->gate.gate), at(t, s->gate.out));
        return MM_OK;
    case MM_STEP_NORM:
        lanes[variant]->norm(&s->norm, at(t, s->norm.in),
                             s->norm.weight < 0 ? NULL : constants + s->norm.weight,
                             s->norm.bias < 0 ? NULL : constants + s->norm.bias,
                             constants[s->norm.epsilon],
                             s->norm.mask < 0 ? NULL : t->p->indices + s->norm.mask,
                             at(t, s->norm.out));
        return MM_OK;
    case MM_STEP_ATTENTION: return run_attention(t, &s->attention);
    }
    return MM_BAD_ARGUMENT;
}
