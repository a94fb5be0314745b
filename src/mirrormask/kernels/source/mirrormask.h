/* The C interface of the kernels: plain structures, no Python and no torch.
 *
 * All functions that compute return 0, or one of the MM_ codes below. Index arrays are trusted:
 * mm_check_rows tells whether they may be.
 */
#ifndef MIRRORMASK_H
#define MIRRORMASK_H

#include <stdint.h>

#define MM_ABI 10

enum { MM_OK = 0, MM_NO_MEMORY = 1, MM_BAD_ARGUMENT = 2 };
enum { MM_PORTABLE = 0, MM_AVX2 = 1, MM_AVX512 = 2, MM_VARIANTS = 3 };

/* The same weights once more, cut into blocks of `width` columns by MM_BLOCK_ROWS rows, for wide
 * batches: the inputs that a block meets stay in a cache while all its rows pass. Within a block, rows
 * with equally many weights stand together, so that the loop over a row's weights is always as long as
 * it was for the row before and its end is foreseen. Columns are bytes in blocks of up to
 * MM_BYTE_COLUMNS, else 16 bits. */
enum { MM_BLOCK_ROWS = 1024, MM_BYTE_COLUMNS = 256 };

struct mm_group {
    int32_t weights, rows;          /* weights of each of so many rows, in increasing order */
    int32_t first_weight, first_row; /* places in the arrays below */
};

struct mm_blocks {
    int64_t across, down, width; /* blocks in a row of blocks; rows of blocks; columns of a block */
    int32_t *starts;             /* across * down + 1: the first group of each block */
    struct mm_group *groups;
    uint16_t *rows; /* within the block */
    void *columns;  /* within the block */
    float *values;
};

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
    const struct mm_blocks *blocks; /* or NULL */
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
    int64_t in_place;                  /* 1: the input is read where it lies */
};

/* Where the pixels of images are: floats between images, channels and rows. */
struct mm_layout {
    int64_t image, channel, row;
};

/* Ways of doing a convolution in tiles of its output: see tiles_plan.c and strips_plan.c. */
enum { MM_EITHER_WAY = 0, MM_PACKED_TILES = 1, MM_STRIPS = 2 };

/* The same in tiles of the output. The first part is given, with that of `conv`, the second filled in. */
struct mm_tiles {
    struct mm_conv conv;
    int64_t outputs, nonzeros;
    int64_t variant;
    int64_t packing; /* the part that mm_conv2d has to do of its packing, in percent */
    int64_t way;     /* the way that it must be, or MM_EITHER_WAY for that which seems faster */
    struct mm_layout in, out, add; /* all zeros: [images, channels, rows, columns] without gaps */

    int64_t fits;         /* 0: it cannot be done in tiles, and the others mean nothing */
    int64_t pays;         /* 1: it seems faster than mm_conv2d */
    int64_t strips;       /* 1: in strips, where tiles are images and rows are one, of `width` registers */
    int64_t flat;         /* 1: all pixels of an image are one row */
    int64_t far;          /* 1: images are so large that they are in no cache */
    int64_t size[2];      /* rows and columns of the output */
    int64_t direct;       /* 1: the input is read where it lies */
    int64_t side_by_side; /* tiles in a register */
    int64_t tile, width;  /* rows of a tile; registers in each */
    int64_t patch;        /* at most so many registers are worked on together: whole rows */
    int64_t count;        /* tiles of an image */
    int64_t reach;        /* rows that the kernel looks ahead */
    int64_t first;        /* column of the padded image at the first lane */
    int64_t right, left;  /* pixels by which sums move to the right, and to the left */
    int64_t late;         /* by which finished sums stand to the right of their own place */
    int64_t plane;        /* floats between planes */
    int64_t floats;       /* of the packed input of the tiles in a register */
    int64_t blocks, chunk; /* blocks of channels; rows of the matrix that pass a block together */
};

int mm_abi(void);
/* Sizes of mm_rows, mm_blocks, mm_conv, mm_program_data, mm_live and mm_tiles, for those who lay them
 * out in another language. */
void mm_sizes(int64_t sizes[6]);
int mm_supported(int variant);
/* Release what the calling thread's scratch memory holds, and end idle worker threads. */
void mm_release(void);

/* MM_OK if starts and columns are a matrix of rows x width: reads stay inside, and the columns of a
 * row increase, which mm_blocks_fill relies on. */
int mm_check_rows(const int32_t *starts, const int32_t *columns, int64_t rows, int64_t nonzeros,
                  int64_t width);

/* From how many rows of x on blocks make products faster; INT64_MAX: never. */
int64_t mm_least_for_blocks(const struct mm_rows *w, int64_t width);
/* How checked rows would be cut into blocks: fills in the first three fields, and how many bytes each
 * of the five arrays takes at most. */
int mm_blocks_plan(const struct mm_rows *w, int64_t width, struct mm_blocks *b, int64_t bytes[5]);
/* Fill the arrays; used: the bytes of groups and rows that were needed. */
int mm_blocks_fill(const struct mm_rows *w, const struct mm_blocks *b, int64_t used[2]);

/* y = x W^T + b. x: [n, width], or [width, n] if by_columns[0]; y: [n, rows], or [rows, n] if
 * by_columns[1]. */
int mm_linear(const struct mm_rows *w, int64_t width, const float *x, int64_t n, float *y,
              const int32_t by_columns[2], int threads);

/* out[i] = dy[row] . x[columns[i]] for each weight: the gradient of the values of y = x W^T + b.
 * dy: [rows, n], x: [width, n]. The values of w are not read. */
int mm_value_gradient(const struct mm_rows *w, const float *dy, const float *x, int64_t n, float *out,
                      int threads);

/* to [columns, rows] = the transposed of from [rows, columns]. */
int mm_transpose(const float *from, int64_t rows, int64_t columns, float *to, int variant, int threads);

/* Fill in the second part; refuses sizes that cannot be. */
int mm_conv_plan(struct mm_conv *c);
/* Columns (channel * kernel_h + y) * kernel_w + x become offsets into the packed input. */
int mm_conv_offsets(const struct mm_conv *c, const int32_t *columns, int64_t nonzeros,
                    int32_t *offsets);
/* y [images, rows, out_height, out_width] = convolution of x [images, channels, height, width]. */
int mm_conv2d(const struct mm_conv *c, const struct mm_rows *w, const float *x, float *y,
              int threads);

int mm_tiles_plan(struct mm_tiles *t);
/* Lay the weights out as a plan that fits wants them: starts [outputs * blocks + 1], offsets and values
 * [nonzeros]. Those of w are checked, with columns as above. */
int mm_tiles_fill(const struct mm_tiles *t, const struct mm_rows *w, int32_t *starts, int32_t *offsets,
                  float *values);
/* As mm_conv2d, with w as laid out. */
int mm_tiles_conv2d(const struct mm_tiles *t, const struct mm_rows *w, const float *x, float *y,
                    int threads);

/* A convolution in training, for images of one size; `conv` is as above. The first three are given,
 * the others filled in. */
struct mm_live {
    struct mm_conv conv;
    int64_t outputs;       /* channels of the output */
    int64_t channels_last; /* 1: tensors are [images, height, width, channels] */

    int64_t lanes;                 /* images side by side */
    int64_t reach[2];              /* rows and columns of a plane that the kernel looks ahead */
    int64_t band;                  /* rows of a plane that are worked on together */
    int64_t plane;                 /* floats of a band of one channel and phase */
    int64_t front;                 /* zeros before a packed output gradient */
    int64_t in_floats, out_floats; /* of a packed input and output gradient */
};

int mm_live_plan(struct mm_live *l);
/* Columns (channel * kernel_h + y) * kernel_w + x become offsets into the packed input. */
int mm_live_offsets(const struct mm_live *l, const int32_t *columns, int64_t nonzeros,
                    int32_t *offsets);
/* Columns (output * kernel_h + y) * kernel_w + x become offsets into the packed gradient. */
int mm_live_turned_offsets(const struct mm_live *l, const int32_t *columns, int64_t nonzeros,
                           int32_t *offsets);
/* As mm_conv2d, for x and y in either layout. */
int mm_live_forward(const struct mm_live *l, const struct mm_rows *w, const float *x, float *y,
                    int threads);
/* From the gradient dy of y: dx, that of x, and values, that of each weight; either may be NULL, for
 * one that is not wanted. The values of w are not read. `turned` has a row for each channel of each
 * phase of the stride that the kernel meets, all channels of the first phase first, with the weights
 * that meet it and their turned offsets; it is read for dx alone. */
int mm_live_backward(const struct mm_live *l, const struct mm_rows *w, const struct mm_rows *turned,
                     const float *x, const float *dy, float *dx, float *values, int threads);

/* A whole network as steps over an arena; see steps.h. All arrays must outlive the program. */
struct mm_program_data {
    int64_t step_count, constant_count, index_count;
    int64_t arena; /* floats */
    int64_t input_count, output_count;
    const int64_t *steps;        /* step_count * 40 */
    const float *constants;      /* constant_count: values, biases, weights of norms */
    const int32_t *indices;      /* index_count: row starts, columns in floats, masks */
    const int64_t *port_floats;  /* of each input, then of each output, for one part of a batch */
    int32_t variant, reserved;
};
struct mm_program;

/* Check every step, and make a program that can be run; refuses whatever would leave its memory. */
int mm_program_open(const struct mm_program_data *data, struct mm_program **program);
/* Bytes of what opening made of the weights, besides the arrays that it was given. */
int64_t mm_program_bytes(const struct mm_program *program);
void mm_program_close(struct mm_program *program);
/* All that a run is given, in one piece: other languages take their time over each argument. */
struct mm_call {
    const struct mm_program *program;
    int64_t parts, threads;
    double *seconds; /* or NULL */
    float *ports[];  /* the addresses of the inputs, then of the outputs */
};
/* Run `parts` parts of a batch, which follow each other in every input and output. May be called from
 * several threads at once. With `seconds`, an array of step_count, each step's time is added to it, on
 * one thread. */
int mm_program_run(const struct mm_call *call);

/* One step of the mirror flow of scale a, in place of x, for gains u of the dual that are small: up to
 * their third power, x = (x + sqrt(x*x + a*a) sinh(2u) + x (cosh(2u) - 1)) * ratio. Blocks with a gain
 * beyond the bound stay as they were and are marked in left, one byte a block, which the caller has
 * cleared. Returns how many those are, or -MM_BAD_ARGUMENT. square: a * a. */
int64_t mm_advance(float *x, const float *gain, int64_t n, int64_t block, float square, float ratio,
                   float bound, uint8_t *left, int variant, int threads);
/* Soft-threshold the dual arcsinh(x / a) by a small t, in place of x, given tanh(t) and cosh(t). */
int mm_shrink(float *x, int64_t n, float square, float tanh, float cosh, int variant, int threads);

/* Fused multiply-adds in registers only, for the roofline: returns operations (2 per lane). */
double mm_peak(int variant, int64_t rounds);

#endif
