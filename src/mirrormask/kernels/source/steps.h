/* A program: a whole network as a flat list of steps over one arena of floats.
 *
 * Activations are planes: one for each channel or feature, all in one buffer, each holding the same
 * positions (images, rows, columns; or rows of a batch). Between the pixels of neighbouring rows and
 * images lie zeros, which are the padding of the convolution that reads them.
 *
 * A step is MM_FIELDS numbers of 64 bits, read through the structures below. They come from a file:
 * check.c proves that no read or write leaves its memory before a step is run for the first time.
 */
#ifndef MM_STEPS_H
#define MM_STEPS_H

#include "mirrormask.h"
#include "windows.h"

/* MM_OVERREAD: floats behind an image that pooling may read, and throws away. */
enum { MM_FIELDS = 40, MM_UNIT = 8, MM_DIMENSIONS = 5, MM_OVERREAD = 16 };

enum mm_kind {
    MM_STEP_COPY = 1,
    MM_STEP_PLANES = 2,
    MM_STEP_VECTOR = 3,
    MM_STEP_TILE = 4,
    MM_STEP_POOL = 5,
    MM_STEP_POINTWISE = 6,
    MM_STEP_NORM = 7,
    MM_STEP_ATTENTION = 8,
    MM_STEP_GATE = 9,
    MM_STEP_CONV = 10,
    MM_STEP_KINDS
};

/* Where an operand begins: space 0 is the arena, then come the inputs, then the outputs. */
struct mm_place {
    int64_t space, offset;
};

/* A sparse matrix in the program's arrays; bias is -1 where there is none. */
struct mm_matrix {
    int64_t rows, starts, columns, nonzeros, values, bias, relu;
};

/* Copy between any two layouts; first `zeros` floats from `zero_at` of the target become zero. */
struct mm_copy_step {
    int64_t kind;
    struct mm_place in, out;
    int64_t sizes[MM_DIMENSIONS], from[MM_DIMENSIONS], to[MM_DIMENSIONS];
    int64_t zero_at, zeros;
};

/* Sparse rows over planes of `count` positions, of which `used` are computed. `front` floats before
 * the first plane and all others of a plane become zero. */
struct mm_planes_step {
    int64_t kind;
    struct mm_place in, out, add; /* add.space is -1 where nothing is added */
    struct mm_matrix matrix;
    int64_t count, used, out_step, add_step, front;
    int64_t mask; /* count integers, 0 or -1; or -1: every position is wanted */
};

/* The same for one position: out[row] = bias + sum of value * in[column]. */
struct mm_vector_step {
    int64_t kind;
    struct mm_place in, out, add;
    struct mm_matrix matrix;
};

/* out [rows][count] = matrix of `width` columns times in [width][count], through mm_linear. */
struct mm_tile_step {
    int64_t kind;
    struct mm_place in, out, add;
    struct mm_matrix matrix;
    int64_t width, count;
};

/* A convolution of images that lie anywhere, in tiles where they fit. Columns of the matrix are
 * (channel * kernel_h + y) * kernel_w + x. `front` floats before the output become zero, and so do the
 * gaps between pixels in its planes of `plane` floats; if that is 0, there are no gaps. */
struct mm_conv_step {
    int64_t kind;
    struct mm_place in, out, add;
    struct mm_matrix matrix;
    int64_t channels, height, width, images, kernel[2], stride[2], dilation[2], pad[4]; /* of mm_conv */
    struct mm_layout in_layout, out_layout, add_layout;
    int64_t front, plane;
};

enum { MM_POOL_MAX = 0, MM_POOL_MEAN = 1, MM_POOL_MEAN_INSIDE = 2 };

/* Windows over images; MEAN divides by the whole window, MEAN_INSIDE by what of it is no padding. */
struct mm_pool_step {
    int64_t kind;
    struct mm_place in, out;
    int64_t what, channels, images;
    int64_t size[2], out_size[2], kernel[2], stride[2], pad[2], dilation[2];
    int64_t in_plane, in_image, in_row, out_plane, out_image, out_row;
    int64_t front; /* floats before the output that become zero; planes are cleared whole */
};

enum { MM_RELU = 0, MM_GELU = 1, MM_GELU_TANH = 2, MM_SILU = 3, MM_ADD = 4, MM_MULTIPLY = 5,
       MM_ADD_RELU = 6, MM_SUBTRACT = 7, MM_SIGMOID = 8, MM_HARDSIGMOID = 9, MM_HARDSWISH = 10,
       MM_TANH = 11, MM_CLAMP = 12, MM_LEAKY_RELU = 13, MM_ELU = 14, MM_POINTWISE_KINDS };

/* One or two planes in, one out, position by position; gaps between images stay zero. */
struct mm_pointwise_step {
    int64_t kind;
    struct mm_place a, b, out; /* b.space is -1 where there is one operand */
    int64_t what, planes, count, a_step, b_step, out_step, front;
    int64_t parameters; /* two constants for kinds from MM_CLAMP on: bounds, or a factor; or -1 */
    int64_t mask;       /* count integers, 0 or -1; or -1: nothing but images, or zeros stay zeros */
};

/* Images of planes, each times one number: `used` floats of every image, `image` floats apart. */
struct mm_gate_step {
    int64_t kind;
    struct mm_place in, gate, out;
    int64_t planes, images, image, used, in_step, gate_step, gate_image, out_step, front;
};

/* LayerNorm over the planes, at each position. */
struct mm_norm_step {
    int64_t kind;
    struct mm_place in, out;
    int64_t planes, count, in_step, out_step;
    int64_t weight, bias, epsilon; /* in the constants; weight and bias may be -1 */
    int64_t front, mask;           /* as in pointwise steps */
};

/* Scaled dot-product attention; a plane holds the tokens of each image in turn. */
struct mm_attention_step {
    int64_t kind;
    struct mm_place q, k, v, out;
    int64_t images, heads, depth, value_depth, queries, keys;
    int64_t q_step, k_step, v_step, out_step;
    int64_t scale; /* in the constants */
    int64_t causal;
};

union mm_step {
    int64_t fields[MM_FIELDS];
    struct mm_copy_step copy;
    struct mm_planes_step planes;
    struct mm_vector_step vector;
    struct mm_tile_step tile;
    struct mm_pool_step pool;
    struct mm_pointwise_step pointwise;
    struct mm_norm_step norm;
    struct mm_attention_step attention;
    struct mm_gate_step gate;
    struct mm_conv_step conv;
};

/* What opening a program makes of a step's weights, for its kernel; NULL where nothing was made. */
struct mm_made {
    struct mm_blocks *blocks;   /* of tile steps */
    struct mm_windows *windows; /* of vector steps */
    struct mm_made_conv *conv;  /* of convolutions, which all have one */
    int64_t bytes;              /* of any */
};

struct mm_program {
    int64_t step_count, input_count, output_count;
    union mm_step *steps;
    struct mm_made *made; /* of each step */
    int64_t *sizes;       /* floats of each space, per part of the batch */
    const float *constants;
    const int32_t *indices;
    int32_t variant;
};

/* MM_OK if every step of the description stays within its memory. */
int mm_program_check(const struct mm_program_data *data);

/* One part of a batch on its way; spaces are the addresses of arena, inputs and outputs. */
struct mm_turn {
    const struct mm_program *p;
    float *const *spaces;
    int threads;
};
int mm_run_step(const struct mm_turn *t, const union mm_step *s, const struct mm_made *made);
struct mm_conv mm_conv_of(const struct mm_conv_step *s);
/* Lay the weights of a checked convolution out; NULL: there is no memory. To be freed. */
struct mm_made_conv *mm_conv_made(const struct mm_program *p, const struct mm_conv_step *s);
int64_t mm_conv_bytes(const struct mm_made_conv *made);
int mm_conv_run(const struct mm_conv_step *s, const struct mm_made_conv *made, const float *x,
                const float *add, float *y, int threads);
struct mm_rows mm_rows_of(const struct mm_program *p, const struct mm_matrix *m);

/* Operands of planes.c, as addresses. */
struct mm_planes {
    const struct mm_rows *w;
    const float *x;
    float *y;
    int64_t y_step;
    const float *add; /* or NULL */
    int64_t add_step;
    const int32_t *mask; /* or NULL */
    int64_t units;       /* of MM_UNIT positions */
};
typedef void (*mm_planes_rows)(const struct mm_planes *p, int64_t from, int64_t to);
mm_planes_rows mm_planes_for(int variant);

/* What the instruction-set variants of images.c, points.c and lanes.c offer. */
struct mm_images {
    void (*copy)(const struct mm_copy_step *s, const float *in, float *out);
    void (*pool)(const struct mm_pool_step *s, const float *in, float *out);
};
struct mm_points {
    void (*pointwise)(const struct mm_pointwise_step *s, const float *a, const float *b,
                      const float *parameters, const int32_t *mask, float *out);
    void (*gate)(const struct mm_gate_step *s, const float *in, const float *factors, float *out);
};
struct mm_lanes {
    void (*norm)(const struct mm_norm_step *s, const float *in, const float *weight,
                 const float *bias, float epsilon, const int32_t *mask, float *out);
    /* `room` holds keys * MM_QUERIES floats. */
    void (*attention)(const struct mm_attention_step *s, const float *q, const float *k,
                      const float *v, float scale, float *room, float *out);
};
enum { MM_QUERIES = 16 }; /* that attention works on together */

#define MM_DECLARE(variant)                                                                        \
    void mm_planes_##variant(const struct mm_planes *p, int64_t from, int64_t to);                 \
    extern const struct mm_images mm_images_##variant;                                             \
    extern const struct mm_points mm_points_##variant;                                             \
    extern const struct mm_lanes mm_lanes_##variant;
MM_DECLARE(portable)
#ifdef MM_X86
MM_DECLARE(avx2)
MM_DECLARE(avx512)
#endif

#endif
