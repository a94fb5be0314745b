/* Convolutions in training: images in the lanes of vectors, worked on in bands of rows.
 *
 * A place of a plane holds the same pixel of up to 16 images side by side, so that the input of a
 * weight lies whole vectors away from its output, however the kernel is shifted. A band of a plane
 * is a few rows, and the rows after or before them that the kernel reaches; what two bands share is
 * carried over. Strides are served by phases, as in conv_plan.c.
 */
#ifndef MM_LIVE_H
#define MM_LIVE_H

#include "dispatch.h"

#include <stdatomic.h>

/* MM_WIDEST: floats that a panel may read behind what it needs. */
enum { MM_WIDEST = 128, MM_MOST_LANES = 16 };

/* Place (i, j) of a plane is the pixel i * step[0] + shift[0], j * step[1] + shift[1] of its image,
 * if that lies inside. */
struct mm_view {
    int64_t channels, size[2]; /* of an image in the tensor */
    int64_t width, lanes;      /* places in a row of a plane; images in a place */
    int64_t step[2], shift[2];
    int64_t first[2], end[2]; /* the places that are pixels */
    int channels_last;
};

/* The pixels that a phase of the stride holds of the input, if the kernel meets it. */
struct mm_view mm_input_view(const struct mm_live *l, int64_t row_phase, int64_t column_phase);
struct mm_view mm_output_view(const struct mm_live *l);

/* Write so many rows from row i on of the planes of channels [from, to), which lie `plane` floats
 * apart: pixels of so many images, or zeros. What lies between the pixels of two rows stays as it
 * is. */
void mm_read_rows(const struct mm_view *v, mm_turn turn, const float *tensor, int64_t images,
                  int64_t i, int64_t rows, int64_t from, int64_t to, float *planes, int64_t plane);

/* Neighbouring places of one row, computed for some channels: floats [count * lanes] of each channel,
 * `width` floats apart. */
struct mm_piece {
    int64_t j, count, width;
    const float *floats;
};
/* Write pieces of row i to the tensor, for so many channels from `channel` on. */
void mm_write_pieces(const struct mm_view *v, mm_turn turn, const struct mm_piece *pieces, int count,
                     int64_t channel, int64_t channels, int64_t images, int64_t i, float *tensor);

struct mm_live_job {
    const struct mm_live *l;
    const struct mm_rows *w, *turned;
    const struct mm_variant *variant;
    const float *x, *dy;
    float *y, *dx, *values, *sums; /* sums: of the values, for each part but the first */
    int64_t rows;                  /* of a plane, that are cut into bands */
    atomic_int failed;
};

/* A band of one block of images, and the part's own memory. */
struct mm_band {
    int64_t images, top, end; /* rows [top, end) of the planes */
    int64_t in_at, out_at;    /* floats before the block in the tensors */
    float *x, *dy, *panel;
};

void mm_live_outputs(const struct mm_live_job *j, const struct mm_band *b);
void mm_live_inputs(const struct mm_live_job *j, const struct mm_band *b);
/* Adds to sums, one for each weight. */
void mm_live_products(const struct mm_live_job *j, const struct mm_band *b, float *sums);

#endif
