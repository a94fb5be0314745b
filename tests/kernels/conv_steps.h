/* Convolutions of a program on images in any layout, and the judgement of what they wrote. */
#ifndef MM_CONV_STEPS_H
#define MM_CONV_STEPS_H

#include "subject.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Images lie in any layout, rows without gaps if `dense`, and what is added behind the input. Returns the
 * floats that they take. */
static int64_t lay_out(struct mm_layout *l, int64_t images, int64_t channels, int64_t height, int64_t width,
                       int dense)
{
    l->row = dense ? width : more(width);
    int64_t image = (height - 1) * l->row + width, planes = draw() % 2; /* of a channel of all images */
    l->image = planes ? more(image) : channels * more(image) + between(0, 3);
    l->channel = planes ? more((images - 1) * l->image + image) : l->image / channels;
    return (images - 1) * l->image + (channels - 1) * l->channel + image;
}

static void make_conv(struct subject *s)
{
    int64_t lead = between(0, 3), front = between(0, 9), plain = draw() % 4 == 0, same = draw() % 3 == 0;
    struct mm_conv_step *p = &s->step.conv;
    *p = (struct mm_conv_step){.kind = MM_STEP_CONV, .in = {1, lead}, .out = {2, front}, .add = {-1, 0},
                               .channels = between(1, 5), .height = between(1, 9),
                               .width = draw() % 4 ? between(1, 20) : 16, .images = between(1, 3),
                               .front = front};
    for (int axis = 0; axis < 2; axis++) {
        p->kernel[axis] = plain ? 1 : between(1, 4), p->stride[axis] = plain ? 1 : between(1, 3);
        p->dilation[axis] = between(1, 2);
        int64_t span = p->dilation[axis] * (p->kernel[axis] - 1), room = axis ? p->width : p->height;
        for (int side = 0; side < 2; side++)
            p->pad[(axis ? 0 : 2) + side] = between(0, span < 3 ? span : 3);
        if (room + p->pad[axis ? 0 : 2] + p->pad[axis ? 1 : 3] <= span) /* the kernel is too large */
            p->kernel[axis] = 1, p->pad[axis ? 0 : 2] = p->pad[axis ? 1 : 3] = 0;
        if (!plain && same) { /* images that keep their size, and may be large enough for strips */
            int64_t *pad = p->pad + (axis ? 0 : 2);
            span = p->dilation[axis] * (p->kernel[axis] - 1);
            p->stride[axis] = 1, pad[0] = between(0, span), pad[1] = span - pad[0];
            p->height = between(1, 24);
        }
    }
    struct mm_conv c = mm_conv_of(p);
    mm_conv_plan(&c);
    p->matrix = matrix(s, between(1, 6), 0, p->channels * p->kernel[0] * p->kernel[1]);
    int64_t rows = p->matrix.rows;
    s->arena = between(0, 3);
    s->ports[0] = lead + lay_out(&p->in_layout, p->images, p->channels, p->height, p->width, same);
    s->ports[1] =
        front + lay_out(&p->out_layout, p->images, rows, c.out_height, c.out_width, same);
    if (draw() % 2) {
        p->add = somewhere(1, s->ports[0]);
        s->ports[0] +=
            lay_out(&p->add_layout, p->images, rows, c.out_height, c.out_width, same);
    }
    if (p->out_layout.image < p->out_layout.channel || p->images == 1) {
        p->plane = more((p->images - 1) * p->out_layout.image + (c.out_height - 1) * p->out_layout.row + c.out_width);
        p->plane = p->plane < p->out_layout.channel ? p->plane : p->out_layout.channel;
        s->ports[1] = front + (rows - 1) * p->out_layout.channel + p->plane;
    }
}

static double pixel(const struct mm_conv_step *p, const float *x, int64_t n, int64_t k, int64_t i, int64_t j)
{
    i -= p->pad[2], j -= p->pad[0];
    if (i < 0 || j < 0 || i >= p->height || j >= p->width)
        return 0.0;
    struct mm_layout l = p->in_layout;
    return x[p->in.offset + n * l.image + k * l.channel + i * l.row + j];
}

static double pixel_sum(const struct subject *s, const float *x, int64_t n, int64_t r, int64_t i, int64_t j)
{
    const struct mm_conv_step *p = &s->step.conv;
    const struct mm_matrix *m = &p->matrix;
    int64_t taps = p->kernel[0] * p->kernel[1];
    double sum = m->bias < 0 ? 0.0 : s->constants[m->bias + r];
    for (int32_t k = s->indices[r]; k < s->indices[r + 1]; k++) {
        int64_t column = s->indices[m->columns + k], tap = column % taps;
        sum += s->constants[k] * pixel(p, x, n, column / taps,
                                       i * p->stride[0] + tap / p->kernel[1] * p->dilation[0],
                                       j * p->stride[1] + tap % p->kernel[1] * p->dilation[1]);
    }
    struct mm_layout l = p->add_layout;
    sum += p->add.space < 0 ? 0.0 : x[p->add.offset + n * l.image + r * l.channel + i * l.row + j];
    return m->relu && sum < 0.0 ? 0.0 : sum;
}

/* Convolutions are compared pixel by pixel; all that is to become zero must have. */
static int64_t wrong_pixels(const struct subject *s, const float *x, const float *y)
{
    const struct mm_conv_step *p = &s->step.conv;
    struct mm_conv c = mm_conv_of(p);
    struct mm_layout l = p->out_layout;
    mm_conv_plan(&c);
    int64_t wrong = 0;
    float *rest = malloc((size_t)s->ports[1] * sizeof *rest);
    memcpy(rest, y, (size_t)s->ports[1] * sizeof *rest);
    for (int64_t n = 0; n < p->images; n++)
        for (int64_t r = 0; r < p->matrix.rows; r++)
            for (int64_t i = 0; i < c.out_height; i++)
                for (int64_t j = 0; j < c.out_width; j++) {
                    int64_t at = p->out.offset + n * l.image + r * l.channel + i * l.row + j;
                    double sum = pixel_sum(s, x, n, r, i, j);
                    wrong += fabs(sum - y[at]) > 1e-5 * (1.0 + fabs(sum)), rest[at] = 0.0f;
                }
    for (int64_t i = 0; i < p->front; i++)
        wrong += y[i] != 0.0f;
    for (int64_t r = 0; r < p->matrix.rows; r++)
        for (int64_t i = 0; i < p->plane; i++)
            wrong += rest[p->out.offset + r * l.channel + i] != 0.0f;
    free(rest);
    return wrong;
}

#endif
