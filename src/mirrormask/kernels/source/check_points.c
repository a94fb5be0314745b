/* Proof that steps over positions stay within their memory: activations, gates, norms, attention. */
#include "check.h"

#include <stddef.h>

void mm_check_pointwise(struct check *c, const struct mm_pointwise_step *s)
{
    int two = s->what >= MM_ADD && s->what <= MM_SUBTRACT;
    demand(c, within(s->what, 0, MM_POINTWISE_KINDS - 1) && size(s->planes) && size(s->count) &&
                  within(s->a_step, 0, LARGEST) && within(s->b_step, 0, LARGEST) &&
                  within(s->out_step, s->count, LARGEST) && within(s->front, 0, LARGEST) &&
                  two == (s->b.space != -1));
    if (c->wrong)
        return;
    covers(c, s->a, 0, last(s->planes, s->a_step) + s->count - 1, 0);
    if (two)
        covers(c, s->b, 0, last(s->planes, s->b_step) + s->count - 1, 0);
    covers(c, s->out, -s->front, last(s->planes, s->out_step) + s->out_step - 1, 1);
    constants(c, s->parameters, 2, s->what < MM_CLAMP);
    if (s->mask != -1)
        indices(c, s->mask, s->count);
}

void mm_check_gate(struct check *c, const struct mm_gate_step *s)
{
    demand(c, size(s->planes) && size(s->images) && size(s->used) && within(s->image, s->used, LARGEST) &&
                  within(s->in_step, 0, LARGEST) && within(s->gate_step, 0, LARGEST) &&
                  within(s->gate_image, 0, LARGEST) && size(s->out_step) && within(s->front, 0, LARGEST));
    if (c->wrong)
        return;
    int64_t plane = last(s->images, s->image) + s->used;
    demand(c, plane <= s->out_step);
    covers(c, s->in, 0, last(s->planes, s->in_step) + plane - 1, 0);
    covers(c, s->gate, 0, last(s->planes, s->gate_step) + last(s->images, s->gate_image), 0);
    covers(c, s->out, -s->front, last(s->planes, s->out_step) + s->out_step - 1, 1);
}

void mm_check_norm(struct check *c, const struct mm_norm_step *s)
{
    demand(c, size(s->planes) && size(s->count) && within(s->in_step, 0, LARGEST) &&
                  within(s->out_step, s->count, LARGEST) && within(s->front, 0, LARGEST));
    if (c->wrong)
        return;
    covers(c, s->in, 0, last(s->planes, s->in_step) + s->count - 1, 0);
    covers(c, s->out, -s->front, last(s->planes, s->out_step) + s->out_step - 1, 1);
    if (s->mask != -1)
        indices(c, s->mask, s->count);
    constants(c, s->weight, s->planes, 1);
    constants(c, s->bias, s->planes, 1);
    constants(c, s->epsilon, 1, 0);
}

void mm_check_attention(struct check *c, const struct mm_attention_step *s)
{
    const int64_t sizes[] = {s->images, s->heads,  s->depth,  s->value_depth, s->queries,
                             s->keys,   s->q_step, s->k_step, s->v_step,      s->out_step};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        demand(c, within(sizes[i], 1, LARGEST / MM_QUERIES));
    demand(c, within(s->causal, 0, 1));
    if (c->wrong)
        return;
    constants(c, s->scale, 1, 0);
    int64_t depth = s->heads * s->depth, value_depth = s->heads * s->value_depth;
    int64_t queries = s->images * s->queries - 1, keys = s->images * s->keys - 1;
    demand(c, depth <= LARGEST && value_depth <= LARGEST);
    if (c->wrong)
        return;
    covers(c, s->q, 0, last(depth, s->q_step) + queries, 0);
    covers(c, s->k, 0, last(depth, s->k_step) + keys, 0);
    covers(c, s->v, 0, last(value_depth, s->v_step) + keys, 0);
    covers(c, s->out, 0, last(value_depth, s->out_step) + queries, 1);
}
