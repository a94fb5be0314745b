/* Run a checked program: all steps of a network in one call. See steps.h and check.c. */
#include "dispatch.h"
#include "pool.h"
#include "steps.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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
    struct mm_turn t = {p, spaces, threads};
    for (int64_t i = 0; i < p->step_count; i++) {
        double begin = seconds ? now() : 0.0;
        int code = mm_run_step(&t, p->steps + i, p->made + i);
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

int mm_program_run(const struct mm_call *call)
{
    if (!call || !call->program || call->parts < 0 || call->threads < 1)
        return MM_BAD_ARGUMENT;
    const struct mm_program *program = call->program;
    float *const *ports = call->ports;
    int64_t parts = call->parts;
    double *seconds = call->seconds;
    int threads = call->threads < MM_MAX_THREADS ? (int)call->threads : MM_MAX_THREADS;
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
    mm_parallel(threads, some_parts, &b);
    return b.code;
}

/* Blocks of a tile step, in one piece of memory; NULL if they do not pay or there is no memory. */
static struct mm_blocks *blocks_of(const struct mm_program *p, const struct mm_tile_step *s,
                                   int64_t *held)
{
    struct mm_rows w = mm_rows_of(p, &s->matrix);
    if (s->count < mm_least_for_blocks(&w, s->width))
        return NULL;
    struct mm_blocks planned;
    int64_t bytes[5], used[2];
    if (mm_blocks_plan(&w, s->width, &planned, bytes) != MM_OK)
        return NULL;
    enum { LINE = 64 }; /* every array begins on a line of the cache */
    size_t total = sizeof planned + LINE;
    for (int i = 0; i < 5; i++)
        total += (size_t)bytes[i] + LINE;
    struct mm_blocks *b = malloc(total);
    if (!b)
        return NULL;
    char *places[5], *next = (char *)(b + 1);
    for (int i = 0; i < 5; i++) {
        places[i] = next + (LINE - (uintptr_t)next % LINE) % LINE;
        next = places[i] + bytes[i];
    }
    *b = planned;
    b->starts = (int32_t *)places[0], b->groups = (struct mm_group *)places[1];
    b->rows = (uint16_t *)places[2], b->columns = places[3], b->values = (float *)places[4];
    if (mm_blocks_fill(&w, b, used) != MM_OK) {
        free(b);
        return NULL;
    }
    *held = (int64_t)total;
    return b;
}

static struct mm_made made_of(const struct mm_program *p, const union mm_step *s)
{
    struct mm_made made = {NULL, NULL, NULL, 0};
    if (s->fields[0] == MM_STEP_TILE)
        made.blocks = blocks_of(p, &s->tile, &made.bytes);
    if (s->fields[0] == MM_STEP_VECTOR) {
        struct mm_rows w = mm_rows_of(p, &s->vector.matrix);
        made.windows = mm_windows_of(&w);
        made.bytes = made.windows ? mm_windows_bytes(made.windows) : 0;
    }
    if (s->fields[0] == MM_STEP_CONV) {
        made.conv = mm_conv_made(p, &s->conv);
        made.bytes = made.conv ? mm_conv_bytes(made.conv) : 0;
    }
    return made;
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
                             .made = calloc(steps + 1, sizeof *p->made),
                             .sizes = malloc((ports + 1) * sizeof *p->sizes),
                             .constants = data->constants,
                             .indices = data->indices,
                             .variant = data->variant};
    if (!p->steps || !p->made || !p->sizes) {
        mm_program_close(p);
        return MM_NO_MEMORY;
    }
    memcpy(p->steps, data->steps, steps * sizeof *p->steps);
    p->sizes[0] = data->arena;
    memcpy(p->sizes + 1, data->port_floats, ports * sizeof *p->sizes);
    for (size_t i = 0; i < steps; i++) {
        p->made[i] = made_of(p, p->steps + i);
        if (p->steps[i].fields[0] == MM_STEP_CONV && !p->made[i].conv) {
            mm_program_close(p);
            return MM_NO_MEMORY;
        }
    }
    *program = p;
    return MM_OK;
}

int64_t mm_program_bytes(const struct mm_program *program)
{
    int64_t bytes = 0;
    for (int64_t i = 0; i < program->step_count; i++)
        bytes += program->made[i].bytes;
    return bytes;
}

void mm_program_close(struct mm_program *program)
{
    if (!program)
        return;
    for (int64_t i = 0; program->made && i < program->step_count; i++) {
        free(program->made[i].blocks);
        mm_windows_free(program->made[i].windows);
        free(program->made[i].conv);
    }
    free(program->steps);
    free(program->made);
    free(program->sizes);
    free(program);
}
