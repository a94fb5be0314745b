/* Convolutions that move their sums, in tiles of the output; see tiles_plan.c. */
#ifndef MM_TILES_H
#define MM_TILES_H

#include "dispatch.h"

enum { MM_MOST_TILES = 16, MM_MOST_VECTORS = 16 };

/* Where one register of every line comes from: tile l has the lanes from l * lanes / tiles on, and its
 * first one holds the float at[l] of a channel, if the line is its first. Lanes without a bit in `inside`
 * become zero. */
struct mm_source {
    int64_t to;   /* floats from the first line of the channel's planes */
    int64_t asks; /* 1: for the lines of the next channel, which no source before does */
    int64_t at[MM_MOST_TILES];
    int64_t first[MM_MOST_TILES], end[MM_MOST_TILES]; /* the lines that are inside the image */
    uint16_t inside[MM_MOST_TILES];
    uint32_t others[MM_MOST_TILES]; /* the bits of `inside`, each with a zero behind it: for a step of 2 */
};
struct mm_sources {
    const struct mm_source *all;
    int64_t count, tiles, lines;
    int64_t step, line, channel; /* floats between pixels, lines, channels */
    int64_t to_line;             /* floats between the places of lines */
    int64_t far;                 /* 1: images are in no cache */
};
/* Fill the planes of one channel. */
typedef void (*mm_pack)(const struct mm_sources *sources, const float *from, float *to);

/* A patch: some registers with whole rows of all tiles. */
struct mm_patch_places {
    int64_t tiles;
    int64_t channel, add_channel; /* floats between channels of the output, and of what is added */
    int64_t whole;   /* 1: all that each register holds belongs side by side */
    int64_t ahead;   /* floats that the next patch writes behind them, if they must be asked for; or 0 */
    /* Tile l of register j goes to the float to[l][j] of a channel; add[l][j] is added to it. */
    int64_t to[MM_MOST_TILES][MM_MOST_VECTORS], add[MM_MOST_TILES][MM_MOST_VECTORS];
    uint16_t inside[MM_MOST_TILES][MM_MOST_VECTORS];
    /* The lanes that keep what comes from their right or left neighbour: it is of the same row. */
    uint16_t left[MM_MOST_VECTORS], right[MM_MOST_VECTORS];
};

/* Some rows of a matrix, whose weights meet a patch at x + column. Those of one row stand in groups:
 * first `right` groups, after each of which the sums move one pixel to the right, then `left` groups,
 * of sums of their own, after each of which these move to the left, then one more. */
struct mm_patch_rows {
    const int32_t *starts; /* rows * (right + left + 1) + 1 */
    const int32_t *columns;
    const float *values;
    int64_t rows, right, left;
    const float *bias; /* of the first row, or NULL */
    const float *add;  /* for finished sums of the first row, or NULL */
    int32_t begins;    /* 1: sums begin with the bias, or zero; 0: with what they hold */
    int32_t ends;      /* 1: sums are finished, and go where they belong; 0: they wait in `sums` */
    int32_t relu;      /* of finished sums */
};
typedef void (*mm_patch)(const struct mm_patch_rows *w, const struct mm_patch_places *places,
                         const float *x, float *sums, float *y);

/* A strip: some registers of an image's pixels. */
struct mm_strip {
    int64_t channel, add_channel; /* floats between channels of the output, and of what is added */
    int64_t from, wide;  /* which pixel of a row is the first; pixels of a row */
    int64_t centre;      /* the group of weights whose sums cross no edge */
    const int32_t *keep; /* for each group, -1 for every pixel whose sums did not, from the strip's first on */
    int64_t keep_step;   /* from a group's to the next one's */
    uint16_t inside;     /* lanes of the last register */
    int64_t far;          /* 1: images are in no cache */
    const float *later;   /* where a strip MM_STRIPS_AHEAD further on begins to read, if there is one */
    int64_t later_step, later_count; /* floats between its channels, and how many there are; or 0 */
};
enum { MM_STRIPS_AHEAD = 2 };
/* `right` of the rows is how many groups there are beside one, `left` is 0. */
typedef void (*mm_strip_rows)(const struct mm_patch_rows *w, const struct mm_strip *strip, const float *x,
                              float *sums, float *y);

struct mm_tile_variant {
    int64_t lanes, most; /* registers of a patch */
    int64_t most_of_strip;
    mm_patch patches[MM_MOST_VECTORS]; /* by registers - 1 */
    mm_strip_rows strips[MM_MOST_VECTORS];
    mm_pack pack;
};
/* As mm_tiles_conv2d, for images as the plan says that they lie; add may be NULL. */
int mm_tiles_run(const struct mm_tiles *t, const struct mm_rows *w, const float *x, const float *add,
                 float *y, int threads);
/* Cycles that a load waits for, roughly, where so many floats are read over and over again. */
double mm_misses(double floats);
/* NULL where registers are too short to gain anything. */
const struct mm_tile_variant *mm_tiles_for(int variant);
#ifdef MM_X86
extern const struct mm_tile_variant mm_tiles_avx2, mm_tiles_avx512;
#endif

#endif
