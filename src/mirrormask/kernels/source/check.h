/* What the proofs of check.c and check_points.c are made of.
 *
 * Numbers are first held to LARGEST, so that sums and products of two cannot overflow; what is
 * multiplied further is saturated.
 */
#ifndef MM_CHECK_H
#define MM_CHECK_H

#include "steps.h"

#define LARGEST (INT64_C(1) << 31)
#define BEYOND (INT64_C(1) << 60)

struct check {
    const struct mm_program_data *d;
    int wrong;
};

static inline void demand(struct check *c, int holds) { c->wrong |= !holds; }

static inline int within(int64_t value, int64_t least, int64_t most) { return value >= least && value <= most; }

static inline int size(int64_t value) { return within(value, 1, LARGEST); }

/* The last float of so many at such a step, or BEYOND. Both are at most LARGEST. */
static inline int64_t last(int64_t count, int64_t step)
{
    int64_t far = (count - 1) * step;
    return far > BEYOND ? BEYOND : far;
}

static inline int64_t floats_of(const struct check *c, int64_t space)
{
    if (space == 0)
        return c->d->arena;
    if (space < 0 || space > c->d->input_count + c->d->output_count)
        return -1;
    return c->d->port_floats[space - 1];
}

/* Floats [low, high] around a place exist, and may be written if asked. */
static inline void covers(struct check *c, struct mm_place place, int64_t low, int64_t high, int written)
{
    int64_t floats = floats_of(c, place.space);
    demand(c, floats >= 0 && within(place.offset, 0, LARGEST) && low >= -LARGEST && high <= BEYOND &&
                  place.offset + low >= 0 && place.offset + high < floats);
    demand(c, !written || place.space == 0 || place.space > c->d->input_count);
}

static inline void constants(struct check *c, int64_t at, int64_t count, int optional)
{
    if (optional && at == -1)
        return;
    demand(c, within(at, 0, c->d->constant_count) && within(count, 0, LARGEST) &&
                  count <= c->d->constant_count - at);
}

static inline int indices(struct check *c, int64_t at, int64_t count)
{
    int holds = within(at, 0, c->d->index_count) && within(count, 0, LARGEST) &&
                count <= c->d->index_count - at;
    demand(c, holds);
    return holds;
}

/* A matrix whose columns are within [*low, *high]; both are 0 if it is empty. */
void mm_check_matrix(struct check *c, const struct mm_matrix *m, int64_t *low, int64_t *high);
/* The columns of each row of a sound matrix increase. */
void mm_check_order(struct check *c, const struct mm_matrix *m);

void mm_check_conv(struct check *c, const struct mm_conv_step *s);
void mm_check_pointwise(struct check *c, const struct mm_pointwise_step *s);
void mm_check_gate(struct check *c, const struct mm_gate_step *s);
void mm_check_norm(struct check *c, const struct mm_norm_step *s);
void mm_check_attention(struct check *c, const struct mm_attention_step *s);

#endif
