/* What convolutions and their gradients share. */
#ifndef MM_CONV_H
#define MM_CONV_H

#include "dispatch.h"
#include "views.h"

/* Floats that a panel may read behind what it needs. */
enum { MM_WIDEST = 128 };

/* Write channels [from, to) of so many images to a packed input, phase by phase. */
void mm_pack(const struct mm_conv *c, const struct mm_variant *variant, const float *x,
             int64_t images, int64_t from, int64_t to, float *packed);
/* Rows [from, to) times what lies at x, for places [begin, end) of a plane, to a tensor; `panel`
 * has room for MM_PANEL_ROWS * MM_WIDEST floats. Row `from` is channel 0 of the tensor + shift. */
struct mm_product {
    const struct mm_rows *w;
    const struct mm_variant *variant;
    const float *x;
    struct mm_view view;
    int64_t images, first_row; /* the row that is the view's channel 0 */
    int exact;                 /* 1: nothing may be read past the last place */
    float *panel, *tensor;
};
void mm_multiply_places(const struct mm_product *p, int64_t begin, int64_t end, int64_t from,
                        int64_t to);
/* Images of block `index` of a batch. */
int64_t mm_block_images(const struct mm_conv *c, int64_t index);
int64_t mm_block_count(const struct mm_conv *c);
/* Zeros before the first plane of a packed output gradient. */
int64_t mm_conv_front(const struct mm_conv *c);

#endif
