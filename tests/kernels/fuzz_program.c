/* Random programs, sound and damaged, meant to run under sanitizers.
 *
 * Every array, the arena too, is allocated to its exact size. A sound step must be accepted, and its
 * product be right; a damaged one must be refused, or be harmless all the same.
 * Usage: fuzz_program CASES SEED. Prints the first case that is wrong and returns 1.
 */
#include "conv_steps.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The input lies in port 1, the output in port 2, what is added in the arena. */
static void make_planes(struct subject *s)
{
    int64_t rows = between(1, 6), count = MM_UNIT * between(1, 18), lead = between(0, 9);
    int64_t used = between(1, count), front = between(0, 9), trail = between(0, 9);
    int64_t out_step = more(count), add_step = more(count), mask = INTEGERS - count;
    struct mm_planes_step *p = &s->step.planes;
    *p = (struct mm_planes_step){MM_STEP_PLANES, somewhere(1, lead), somewhere(2, front),
                                 somewhere(draw() % 2 ? 0 : -1, 0), matrix(s, rows, -lead, trail + 1),
                                 count, used, out_step, add_step, front,
                                 draw() % 2 && count <= 80 ? mask : -1};
    for (int64_t i = 0; i < count && p->mask >= 0; i++)
        s->indices[mask + i] = draw() % 4 ? -1 : 0;
    s->arena = add_step * rows, s->ports[0] = lead + count + trail;
    s->ports[1] = front + (rows - 1) * out_step + count;
}

static void make_vector(struct subject *s)
{
    /* Windows need many columns, and pay where a window meets several weights of each row. */
    int64_t wide = draw() % 2, rows = between(1, 30), width = wide ? between(60, 150) : between(1, 12);
    s->step.vector = (struct mm_vector_step){MM_STEP_VECTOR, somewhere(1, 0), somewhere(2, 0),
                                             somewhere(draw() % 2 ? 0 : -1, 0), matrix(s, rows, 0, width)};
    s->arena = rows, s->ports[0] = width, s->ports[1] = rows;
}

static void make_tile(struct subject *s)
{
    static const int64_t counts[] = {8, 16, 3, 1};
    int64_t rows = between(1, 9), width = between(1, 9), count = counts[draw() % 4];
    s->step.tile = (struct mm_tile_step){MM_STEP_TILE, somewhere(1, 0), somewhere(2, 0),
                                         somewhere(draw() % 2 ? 0 : -1, 0), matrix(s, rows, 0, width),
                                         width, count};
    s->arena = rows * count, s->ports[0] = width * count, s->ports[1] = rows * count;
}

static void make_copy(struct subject *s)
{
    struct mm_copy_step *c = &s->step.copy;
    *c = (struct mm_copy_step){.kind = MM_STEP_COPY, .in = {1, 0}, .out = {2, between(0, 4)}};
    int64_t in = 1, out = 1;
    for (int i = MM_DIMENSIONS - 1; i >= 0; i--) {
        int64_t size = i == 1 ? 1 : between(1, i < 3 ? 2 : 5);
        c->sizes[i] = size, c->from[i] = in, c->to[i] = out;
        in *= size, out *= size;
    }
    if (draw() % 2) { /* a transposition of the two inner dimensions */
        c->from[4] = c->sizes[3], c->from[3] = 1;
    }
    s->ports[0] = in, s->ports[1] = c->out.offset + out, s->arena = between(0, 3);
    c->zeros = between(0, s->ports[1]);
}

static void make_pool(struct subject *s)
{
    struct mm_pool_step *p = &s->step.pool;
    *p = (struct mm_pool_step){.kind = MM_STEP_POOL, .in = {1, 0}, .what = between(0, 2),
                               .channels = between(1, 2), .images = between(1, 2), .front = between(0, 3)};
    for (int i = 0; i < 2; i++) {
        p->kernel[i] = between(1, 3), p->stride[i] = between(1, 3), p->dilation[i] = between(1, 2);
        p->pad[i] = between(0, p->kernel[i] - 1);
        int64_t wide = p->dilation[i] * (p->kernel[i] - 1) + 1;
        p->size[i] = between(wide, wide + 5);
        p->out_size[i] = (p->size[i] + 2 * p->pad[i] - wide) / p->stride[i] + 1;
        if ((p->out_size[i] - 1) * p->stride[i] >= p->size[i] + p->pad[i])
            p->out_size[i] = (p->size[i] + p->pad[i] - 1) / p->stride[i] + 1;
    }
    p->in_row = p->size[1], p->in_image = p->size[0] * p->in_row, p->in_plane = p->images * p->in_image;
    p->out_row = p->out_size[1], p->out_image = p->out_size[0] * p->out_row;
    p->out_plane = p->images * p->out_image, p->out = somewhere(2, p->front);
    s->ports[0] = p->channels * p->in_plane + MM_OVERREAD, s->arena = 0;
    s->ports[1] = p->front + p->channels * p->out_plane;
}

static void make_pointwise(struct subject *s)
{
    int64_t planes = between(1, 3), count = between(1, 40), step = more(count), front = between(0, 3);
    int64_t what = between(0, MM_POINTWISE_KINDS - 1), two = what >= MM_ADD && what <= MM_SUBTRACT;
    s->step.pointwise = (struct mm_pointwise_step){
        MM_STEP_POINTWISE, somewhere(1, 0), somewhere(two ? 0 : -1, 0), somewhere(2, front),
        what, planes, count, count, count, step, front, what >= MM_CLAMP || draw() % 2 ? 5 : -1,
        draw() % 2 ? INTEGERS - count : -1};
    s->arena = s->ports[0] = planes * count, s->ports[1] = front + planes * step;
}

static void make_gate(struct subject *s)
{
    int64_t planes = between(1, 3), images = between(1, 3), used = between(1, 20), image = more(used);
    int64_t plane = (images - 1) * image + used, step = more(plane), front = between(0, 3);
    s->step.gate = (struct mm_gate_step){MM_STEP_GATE, somewhere(1, 0), somewhere(0, 0),
                                         somewhere(2, front), planes, images, image, used, plane,
                                         images, 1, step, front};
    s->arena = planes * images, s->ports[0] = planes * plane, s->ports[1] = front + planes * step;
}

static void make_norm(struct subject *s)
{
    int64_t planes = between(1, 5), count = between(1, 80), step = more(count), front = between(0, 3);
    s->step.norm = (struct mm_norm_step){MM_STEP_NORM, somewhere(1, 0), somewhere(2, front), planes, count,
                                         count, step, draw() % 2 ? 0 : -1, draw() % 2 ? 9 : -1, 20, front,
                                         draw() % 2 ? INTEGERS - count : -1};
    s->ports[0] = planes * count, s->ports[1] = front + planes * step, s->arena = 0;
}

static void make_attention(struct subject *s)
{
    int64_t images = between(1, 2), heads = between(1, 2), depth = between(1, 5), values = between(1, 5);
    int64_t queries = between(1, 20), keys = between(1, 9), k = images * keys, q = images * queries;
    s->step.attention = (struct mm_attention_step){
        MM_STEP_ATTENTION, somewhere(1, 0), somewhere(0, 0), somewhere(0, 0), somewhere(2, 0), images,
        heads, depth, values, queries, keys, q, k, k, q, 3, (int64_t)(draw() % 2)};
    s->ports[0] = heads * depth * q, s->ports[1] = heads * values * q;
    s->arena = heads * (depth > values ? depth : values) * k;
}

static float *exactly(int64_t count)
{
    float *made = malloc((size_t)count * sizeof(float) + (count == 0));
    for (int64_t i = 0; i < count; i++)
        made[i] = (float)between(-40, 40) / 8.0f;
    return made;
}

/* Accepted or not; if accepted, it is run once. */
static int attempt(const struct subject *s, float *const *ports)
{
    static const int widest = MM_VARIANTS;
    int variant = (int)(draw() % (uint64_t)widest);
    while (!mm_supported(variant))
        variant--;
    float *constants = malloc(sizeof s->constants);
    int32_t *indices = malloc(sizeof s->indices);
    memcpy(constants, s->constants, sizeof s->constants);
    memcpy(indices, s->indices, sizeof s->indices);
    struct mm_program_data data = {1, FLOATS, INTEGERS, s->arena, 1, 1, s->step.fields, constants, indices,
                                   s->ports, variant, 0};
    struct mm_program *program;
    int accepted = mm_program_open(&data, &program) == MM_OK;
    if (accepted) {
        mm_release(); /* so that the arena is allocated anew, to its size */
        struct mm_call *call = malloc(sizeof *call + 2 * sizeof *ports);
        *call = (struct mm_call){program, 1, between(1, 2), NULL};
        call->ports[0] = ports[0], call->ports[1] = ports[1];
        accepted = mm_program_run(call) == MM_OK;
        free(call);
        mm_program_close(program);
    }
    free(constants), free(indices);
    return accepted;
}

/* Products are compared where nothing is added: the arena's contents are not ours to know. */
static int64_t wrong_sums(const struct subject *s, const float *x, const float *y)
{
    const struct mm_planes_step *p = &s->step.planes;
    int planes = p->kind == MM_STEP_PLANES, tile = p->kind == MM_STEP_TILE;
    const struct mm_matrix *m = &p->matrix;
    int64_t wrong = 0, count = planes ? p->used : tile ? s->step.tile.count : 1;
    int64_t out_step = planes ? p->out_step : count;
    for (int64_t r = 0; r < m->rows && p->add.space < 0; r++)
        for (int64_t i = 0; i < count; i++) {
            double sum = m->bias < 0 ? 0.0 : s->constants[m->bias + r], size = fabs(sum);
            for (int32_t k = s->indices[r]; k < s->indices[r + 1]; k++) {
                int64_t at = s->indices[m->columns + k];
                double part = (double)s->constants[k] * x[p->in.offset + (tile ? at * count : at) + i];
                sum += part, size += fabs(part);
            }
            sum = m->relu && sum < 0.0 ? 0.0 : sum;
            sum = planes && p->mask >= 0 && !s->indices[p->mask + i] ? 0.0 : sum;
            wrong += fabs(sum - y[p->out.offset + r * out_step + i]) > 1e-4 * size + 1e-6;
        }
    return wrong;
}

static void damage(struct subject *s)
{
    static const int64_t bad[] = {-1, 0, 1, 2, 7, INT32_MAX, INT64_C(1) << 31, INT64_C(1) << 40, INT64_MAX,
                                  INT64_MIN};
    for (int64_t times = between(1, 2); times > 0; times--) {
        int64_t *field = &s->step.fields[draw() % MM_FIELDS];
        switch (draw() % 4) {
        case 0: *field = bad[draw() % 10]; break;
        case 1: *field = (int64_t)((uint64_t)*field + (uint64_t)between(-3, 9)); break;
        case 2: s->indices[draw() % INTEGERS] = (int32_t)between(-9, 1 << 20); break;
        default: s->ports[draw() % 2] -= between(1, 9);
        }
    }
}

static int one_case(void)
{
    static void (*const makers[])(struct subject *) = {make_planes, make_vector,    make_tile, make_copy,
                                                       make_pool,   make_pointwise, make_norm, make_attention,
                                                       make_gate,   make_conv};
    struct subject s;
    memset(&s, 0, sizeof s);
    for (int i = 0; i < FLOATS; i++)
        s.constants[i] = (float)between(-16, 16) / 8.0f;
    s.constants[20] = 1e-5f;
    int kind = (int)(draw() % 10), damaged = (int)(draw() % 2);
    makers[kind](&s);
    if (damaged)
        damage(&s);
    for (int i = 0; i < 2; i++)
        if (s.ports[i] < 0)
            s.ports[i] = 0;
    float *ports[2] = {exactly(s.ports[0]), exactly(s.ports[1])};
    int accepted = attempt(&s, ports), failed = 0;
    if (!damaged)
        failed = !accepted || (kind < 3 && wrong_sums(&s, ports[0], ports[1]) > 0) ||
                 (kind == 9 && wrong_pixels(&s, ports[0], ports[1]) > 0);
    if (failed)
        printf("step %d: accepted %d\n", kind + 1, accepted);
    free(ports[0]), free(ports[1]);
    return failed;
}

int main(int count, char **arguments)
{
    int64_t cases = count > 1 ? atoll(arguments[1]) : 1000;
    state = 88172645463325252u ^ (uint64_t)(count > 2 ? atoll(arguments[2]) : 0) * 2654435761u;
    for (int64_t i = 0; i < cases; i++) {
        uint64_t before = state;
        if (one_case()) {
            printf("case %ld, state %llu\n", (long)i, (unsigned long long)before);
            return 1;
        }
    }
    mm_release();
    printf("%ld cases\n", (long)cases);
    return 0;
}
