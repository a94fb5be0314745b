/* Images of a tensor as planes of floats with room between their rows, and back. */
#ifndef MM_VIEWS_H
#define MM_VIEWS_H

#include "panel.h"

/* Place (i, j) of a plane is the pixel i * step[0] + shift[0], j * step[1] + shift[1] of its image,
 * if that lies inside. */
struct mm_view {
    int64_t channels, size[2]; /* of an image in the tensor */
    int64_t plane[2];          /* rows and columns that an image has in a plane */
    int64_t step[2], shift[2];
    int32_t channels_last; /* the channels of a pixel lie side by side, else the pixels of a channel */
};

/* A piece of a panel that belongs to one row of one image, or to rows that touch. */
struct mm_stretch {
    int64_t from, count, image, pixel;
};
enum { MM_MOST_STRETCHES = 128 };

/* The pixels that a phase of the stride holds of the input. */
struct mm_view mm_input_view(const struct mm_conv *c, int64_t row_phase, int64_t column_phase);
struct mm_view mm_output_view(const struct mm_conv *c, int64_t channels);

/* First place of a plane that holds a pixel, and one behind the last, along one axis. */
int64_t mm_first_place(const struct mm_view *v, int axis);
int64_t mm_end_place(const struct mm_view *v, int axis);

/* Write the pixels of channels [from, to) to planes, which lie `step` floats apart; what lies
 * between stays as it is. */
void mm_read_view(const struct mm_view *v, mm_turn turn, const float *tensor, int64_t images,
                  int64_t from, int64_t to, float *planes, int64_t step);
/* What of places [at, at + width) of a plane are pixels: at most `width` stretches. */
int mm_stretches(const struct mm_view *v, int64_t images, int64_t at, int64_t width,
                 struct mm_stretch *found);
/* Write those of rows of `width` floats, one for each of the channels [from, to), to the tensor. */
void mm_write_view(const struct mm_view *v, mm_turn turn, const float *rows, int64_t width,
                   int64_t from, int64_t to, const struct mm_stretch *found, int count,
                   float *tensor);

#endif
