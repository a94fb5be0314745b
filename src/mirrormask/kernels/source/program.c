/* Run a checked program: all steps of a network in one call. See steps.h and check.c. */
#include "dispatch.h"
#include "pool.h"
#include "steps.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct mm_images *const images[MM_VARIANTS] = {
    &mm_images_portable,
#ifdef MM_X86
    &mm_images_avx2, &mm_images_avx512,
#endif
};
static const struct mm_lanes *const lanes[MM_VARIANTS] = {
    &mm_lanes_portable,
#ifdef MM_X86
    &mm_lanes_avx2, &mm_lanes_avx512,
#endif
};
static const mm_planes_rows planes[MM_VARIANTS] = {
    mm_planes_portable,
#ifdef MM_X86
    mm_planes_avx2, mm_planes_avx512,
#endif
};

/* One step of one part of a batch. */
struct turn {
    const struct mm_program *p;
    float *const *spaces;
    int threads;
    int failed;
};

static float *at(const struct turn *t, struct mm_place place)
{
    return place.space < 0 ? NULL : t->spaces[place.space] + place.offset;
}

static struct mm_rows rows_of(const struct mm_program *p, const struct mm_matrix *m)
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

static void run_planes(const struct turn *t, const struct mm_planes_step *s)
{
    struct mm_rows w = rows_of(t->p, &s->matrix);
    struct planes_job j = {{&w, at(t, s->in), at(t, s->out), s->out_step, at(t, s->add), s->add_step,
                            s->mask < 0 ? NULL : t->p->indices + s->mask,
                            (s->used + MM_UNIT - 1) / MM_UNIT},
                           s,
                           planes[t->p->variant]};
    memset(j.planes.y - s->front, 0, (size_t)s->front * sizeof(float));
    mm_parallel(mm_threads_for(t->threads, s->matrix.nonzeros * s->used), planes_part, &j);
}

struct vector_job {
    const struct mm_rows *w;
    const float *x, *add;
    float *y;
    int relu;
};

static void vector_part(void *context, int part, int parts)
{
    struct vector_job *j = context;
    int64_t from = mm_first_row(j->w, part, parts), to = mm_first_row(j->w, part + 1, parts);
    mm_variant(j->w->variant)->vector(j->w, from, to, j->x, j->y);
    for (int64_t r = from; j->add && r < to; r++) {
        float sum = j->y[r] + j->add[r];
        j->y[r] = j->relu && sum < 0.0f ? 0.0f : sum;
    }
}

static void run_vector(const struct turn *t, const struct mm_vector_step *s)
{
    struct mm_rows w = rows_of(t->p, &s->matrix);
    struct vector_job j = {&w, at(t, s->in), at(t, s->add), at(t, s->out), w.relu};
    w.relu = w.relu && !j.add;
    mm_parallel(mm_threads_for(t->threads, s->matrix.nonzeros), vector_part, &j);
}

static int run_tile(const struct turn *t, const struct mm_tile_step *s,
                    const struct mm_blocks *blocks)
{
    static const int32_t by_columns[2] = {1, 1};
    struct mm_rows w = rows_of(t->p, &s->matrix);
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
        lanes[t->p->variant]->pointwise(&sum, out, add, out);
    }
    return code;
}

static int run_attention(const struct turn *t, const struct mm_attention_step *s)
{
    float *room = mm_scratch(MM_SCRATCH_PANEL, s->keys * MM_QUERIES);
    if (!room)
        return MM_NO_MEMORY;
    lanes[t->p->variant]->attention(s, at(t, s->q), at(t, s->k), at(t, s->v),
                                    t->p->constants[s->scale], room, at(t, s->out));
    return MM_OK;
}

static int run_step(const struct turn *t, const union mm_step *s, const struct mm_blocks *blocks)
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
    case MM_STEP_VECTOR: run_vector(t, &s->vector); return MM_OK;
    case MM_STEP_TILE: return run_tile(t, &s->tile, blocks);
    case MM_STEP_POOL:
        images[variant]->pool(&s->pool, at(t, s->pool.in), at(t, s->pool.out));
        return MM_OK;
    case MM_STEP_POINTWISE:
        lanes[variant]->pointwise(&s->pointwise, at(t, s->pointwise.a), at(t, s->pointwise.b),
                                  at(t, s->pointwise.out));
        return MM_OK;
    case MM_STEP_NORM:
        lanes[variant]->norm(&s->norm, at(t, s->norm.in),
                             s->norm.weight < 0 ? NULL : constants + s->norm.weight,
                             s->norm.bias < 0 ? NULL : constants + s->norm.bias,
                             constants[s->norm.epsilon], at(t, s->norm.out));
        return MM_OK;
    case MM_STEP_ATTENTION: return run_attention(t, &s->attention);
    }
    return MM_BAD_ARGUMENT;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

enum { MOST_SPACES = 129 };

static int run_part(const struct mm_program *p, float *const *ports, int64_t part, int threads,
                    double *seconds)
{
    float *spaces[MOST_SPACES];
    int64_t count = p->input_count + p->output_count;
    spaces[0] = mm_scratch(MM_SCRATCH_ARENA, p->sizes[0]);
    if (!spaces[0])
        return MM_NO_MEMORY;
    for (int64_t i = 0; i < count; i++)
        spaces[i + 1] = ports[i] + part * p->sizes[i + 1];
    struct turn t = {p, spaces, threads, 0};
    for (int64_t i = 0; i < p->step_count; i++) {
        double begin = seconds ? now() : 0.0;
        int code = run_step(&t, p->steps + i, p->blocks[i]);
        if (code != MM_OK)
            return code;
        if (seconds)
            seconds[i] += now() - begin;
    }
    return MM_OK;
}

struct batch {
    const struct mm_program *p;
    float *const *ports;
    int64_t parts;
    atomic_int code;
};

static void some_parts(void *context, int part, int parts)
{
    struct batch *b = context;
    for (int64_t i = part; i < b->parts; i += parts) {
        int code = run_part(b->p, b->ports, i, 1, NULL);
        if (code != MM_OK)
            b->code = code;
    }
}

int mm_program_run(const struct mm_program *program, float *const *ports, int64_t parts, int threads,
                   double *seconds)
{
    if (!program || !ports || parts < 0 || threads < 1)
        return MM_BAD_ARGUMENT;
    for (int64_t i = 0; i < program->input_count + program->output_count; i++)
        if (!ports[i] && program->sizes[i + 1] > 0 && parts > 0)
            return MM_BAD_ARGUMENT;
    if (seconds || parts < threads) {
        for (int64_t i = 0; i < parts; i++) {
            int code = run_part(program, ports, i, seconds ? 1 : threads, seconds);
            if (code != MM_OK)
                return code;
        }
        return MM_OK;
    }
    struct batch b = {program, ports, parts, MM_OK};
    mm_parallel(threads < MM_MAX_THREADS ? threads : MM_MAX_THREADS, some_parts, &b);
    return b.code;
}

/* Blocks of a tile step, in one piece of memory; NULL if they do not pay or there is no memory. */
static struct mm_blocks *blocks_of(const struct mm_program *p, const struct mm_tile_step *s)
{
    struct mm_rows w = rows_of(p, &s->matrix);
    if (s->count < mm_least_for_blocks(&w, s->width))
        return NULL;
    size_t across = (size_t)(s->width + MM_BLOCK_COLUMNS - 1) / MM_BLOCK_COLUMNS;
    size_t down = (size_t)(w.rows + MM_BLOCK_ROWS - 1) / MM_BLOCK_ROWS;
    size_t nonzeros = (size_t)s->matrix.nonzeros, cells = across * down;
    size_t groups = cells * MM_BLOCK_COLUMNS * sizeof(struct mm_group);
    size_t values = nonzeros * sizeof(float), starts = (cells + 1) * sizeof(int32_t);
    char *memory = malloc(sizeof(struct mm_blocks) + groups + values + starts + across * (size_t)w.rows +
                          nonzeros);
    if (!memory)
        return NULL;
    struct mm_blocks *b = (struct mm_blocks *)memory;
    char *next = memory + sizeof *b;
    b->across = (int64_t)across, b->down = (int64_t)down;
    b->groups = (struct mm_group *)next, next += groups;
    b->values = (float *)next, next += values;
    b->starts = (int32_t *)next, next += starts;
    b->rows = (uint8_t *)next, next += across * (size_t)w.rows;
    b->columns = (uint8_t *)next;
    int64_t sizes[2];
    if (mm_blocks_fill(&w, s->width, (int32_t *)b->starts, (struct mm_group *)b->groups,
                       (uint8_t *)b->rows, (uint8_t *)b->columns, (float *)b->values, sizes) != MM_OK) {
        free(memory);
        return NULL;
    }
    return b;
}

int mm_program_open(const struct mm_program_data *data, struct mm_program **program)
{
    if (!program)
        return MM_BAD_ARGUMENT;
    *program = NULL;
    if (mm_program_check(data) != MM_OK)
        return MM_BAD_ARGUMENT;
    struct mm_program *p = calloc(1, sizeof *p);
    if (!p)
        return MM_NO_MEMORY;
    size_t steps = (size_t)data->step_count, ports = (size_t)(data->input_count + data->output_count);
    *p = (struct mm_program){.step_count = data->step_count,
                             .input_count = data->input_count,
                             .output_count = data->output_count,
                             .steps = malloc(steps * sizeof *p->steps + 1),
                             .blocks = calloc(steps + 1, sizeof *p->blocks),
                             .sizes = malloc((ports + 1) * sizeof *p->sizes),
                             .constants = data->constants,
                             .indices = data->indices,
                             .variant = data->variant};
    if (!p->steps || !p->blocks || !p->sizes) {
        mm_program_close(p);
        return MM_NO_MEMORY;
    }
    memcpy(p->steps, data->steps, steps * sizeof *p->steps);
    p->sizes[0] = data->arena;
    memcpy(p->sizes + 1, data->port_floats, ports * sizeof *p->sizes);
    for (size_t i = 0; i < steps; i++)
        if (p->steps[i].fields[0] == MM_STEP_TILE)
            p->blocks[i] = blocks_of(p, &p->steps[i].tile);
    *program = p;
    return MM_OK;
}

void mm_program_close(struct mm_program *program)
{
    if (!program)
        return;
    for (int64_t i = 0; program->blocks && i < program->step_count; i++)
        free(program->blocks[i]);
    free(program->steps);
    free(program->blocks);
    free(program->sizes);
    free(program);
}
