/* Proof that a convolution of images anywhere stays within its memory. */
#include "check.h"

enum { WIDEST_KERNEL = 4096 }; /* from its first pixel to its last */

static int64_t product(int64_t a, int64_t b) { return a > LARGEST || b > LARGEST ? BEYOND : a * b; }

/* Images of so many channels, rows and columns. */
static void check_images(struct check *c, struct mm_place place, struct mm_layout l, int64_t images,
                         int64_t channels, int64_t height, int64_t width, int written)
{
    demand(c, size(l.image) && size(l.channel) && within(l.row, width, LARGEST));
    if (c->wrong)
        return;
    /* There are as many floats as pixels: a small plan cannot ask for endless work. */
    demand(c, product(product(images, channels), product(height, width)) <= floats_of(c, place.space));
    covers(c, place, 0, last(images, l.image) + last(channels, l.channel) + last(height, l.row) + width - 1,
           written);
}

void mm_check_conv(struct check *c, const struct mm_conv_step *s)
{
    const struct mm_matrix *m = &s->matrix;
    int64_t low, high;
    mm_check_matrix(c, m, &low, &high);
    mm_check_order(c, m);
    struct mm_conv conv = mm_conv_of(s);
    demand(c, size(s->images) && mm_conv_plan(&conv) == MM_OK);
    if (c->wrong)
        return;
    for (int axis = 0; axis < 2; axis++) {
        int64_t span = s->dilation[axis] * (s->kernel[axis] - 1), *pad = conv.pad + (axis ? 0 : 2);
        demand(c, span < WIDEST_KERNEL && pad[0] <= span && pad[1] <= span);
    }
    demand(c, low >= 0 && high < s->channels * s->kernel[0] * s->kernel[1]);
    check_images(c, s->in, s->in_layout, s->images, s->channels, s->height, s->width, 0);
    check_images(c, s->out, s->out_layout, s->images, m->rows, conv.out_height, conv.out_width, 1);
    if (s->add.space != -1)
        check_images(c, s->add, s->add_layout, s->images, m->rows, conv.out_height, conv.out_width, 0);
    demand(c, within(s->front, 0, LARGEST) && within(s->plane, 0, LARGEST));
    if (c->wrong)
        return;
    covers(c, s->out, -s->front, 0, 1);
    if (s->plane == 0)
        return;
    struct mm_layout l = s->out_layout;
    int64_t image = last(conv.out_height, l.row) + conv.out_width;
    demand(c, (s->images == 1 || image <= l.image) && last(s->images, l.image) + image <= s->plane);
    covers(c, s->out, 0, last(m->rows, l.channel) + s->plane - 1, 1);
}
