/* The C interface of the sparse kernels: plain structures, no Python and no torch.
 *
 * All functions that compute return 0, or one of the MM_ codes below. Index arrays are trusted:
 * mm_check_rows tells whether they may be.
 */
#ifndef MIRRORMASK_H
#define MIRRORMASK_H

#include <stdint.h>

#define MM_ABI 1

enum { MM_OK = 0, MM_NO_MEMORY = 1, MM_BAD_ARGUMENT = 2 };
enum { MM_PORTABLE = 0, MM_AVX2 = 1, MM_AVX512 = 2, MM_VARIANTS = 3 };

/* A sparse matrix by rows. `columns` counts input features, or floats for a convolution, where it
 * is the distance of each weight's input from the output's own place (mm_conv_offsets). */
struct mm_rows {
    int64_t rows;
    const int32_t *starts;  /* rows + 1 */
    const int32_t *columns; /* starts[rows] */
    const float *values;    /* starts[rows] */
    const float *bias;      /* rows, or NULL */
    int32_t relu;           /* 1: negative results become zero; NaN stays */
    int32_t variant;        /* MM_PORTABLE .. MM_AVX512, must be supported */
};

/* A convolution for images of one size. The first part is given, the second filled in. */
struct mm_conv {
    int64_t channels, height, width; /* of the input */
    int64_t images;                  /* in a batch */
    int64_t kernel[2], stride[2], dilation[2];
    int64_t pad[4]; /* left, right, top, bottom; zeros */

    int64_t out_height, out_width;
    int64_t plane_height, plane_width; /* of one phase of one padded image */
    int64_t phases[2];                 /* phases of the stride that the kernel meets */
    int64_t block;                     /* images that are worked on together */
    int64_t plane;                     /* floats of one channel and phase of a block */
    int64_t floats;                    /* of the packed input of a block */
    int32_t in_place;                  /* 1: the input is read where it lies */
    int32_t reserved;
};

int mm_abi(void);
int mm_supported(int variant);
/* Release what the calling thread's scratch memory holds, and end idle worker threads. */
void mm_release(void);

/* MM_OK if starts and columns are a matrix of rows x width whose reads stay inside. */
int mm_check_rows(const int32_t *starts, const int32_t *columns, int64_t rows, int64_t nonzeros,
                  int64_t width);

/* y = x W^T + b. x: [n, width], or [width, n] if by_columns[0]; y: [n, rows], or [rows, n] if
 * by_columns[1]. */
int mm_linear(const struct mm_rows *w, int64_t width, const float *x, int64_t n, float *y,
              const int32_t by_columns[2], int threads);

/* Fill in the second part; refuses sizes that cannot be. */
int mm_conv_plan(struct mm_conv *c);
/* Columns (channel * kernel_h + y) * kernel_w + x become offsets into the packed input. */
int mm_conv_offsets(const struct mm_conv *c, const int32_t *columns, int64_t nonzeros,
                    int32_t *offsets);
/* y [images, rows, out_height, out_width] = convolution of x [images, channels, height, width]. */
int mm_conv2d(const struct mm_conv *c, const struct mm_rows *w, const float *x, float *y,
              int threads);

/* Fused multiply-adds in registers only, for the roofline: returns operations (2 per lane). */
double mm_peak(int variant, int64_t rounds);

#endif
