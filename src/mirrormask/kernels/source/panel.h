/* What each instruction-set variant of panel.c offers to the rest. */
#ifndef MM_PANEL_H
#define MM_PANEL_H

#include "mirrormask.h"

/* Widths of a panel in floats. Reads touch exactly this many floats at each place. */
enum { MM_WIDTHS = 5, MM_BANDS = 4 }; /* the first four widths have bands */
static const int64_t mm_widths[MM_WIDTHS] = {8, 16, 32, 64, 128};

/* Rows [from, to): out[(r - from) * out_step + 0..width) = bias + sum of value * x[column * step ..]. */
typedef void (*mm_panel)(const struct mm_rows *w, int64_t from, int64_t to, const float *x,
                         int64_t step, float *out, int64_t out_step);
/* Rows [from, to) of one row of blocks: out[row][0..width) = bias + sum of value * x[column][0..width),
 * where out is the place of the first row of these blocks. */
typedef void (*mm_band)(const struct mm_rows *w, int64_t down, int64_t from, int64_t to, const float *x,
                        float *out);
/* Rows [from, to) times one vector; y is indexed by row. */
typedef void (*mm_vector)(const struct mm_rows *w, int64_t from, int64_t to, const float *x,
                          float *y);
/* So many lines of n floats, `step` floats apart. */
struct mm_lines {
    int64_t count, step, n;
};
/* Rows [from, to): out[i] += a[row * a_step ..] . b[columns[i] * b_step ..] over these lines of both,
 * for each of their weights. */
typedef void (*mm_dots)(const struct mm_rows *w, int64_t from, int64_t to, const float *a,
                        int64_t a_step, const float *b, int64_t b_step, struct mm_lines lines,
                        float *out);
/* to[c * to_step + r] = from[r * from_step + c]. */
typedef void (*mm_turn)(const float *from, int64_t rows, int64_t columns, int64_t from_step,
                        float *to, int64_t to_step);

/* Where the pixels of a dense image stand among others, for every `gap` positions of the variant: one bit
 * for each of them that is a pixel, and the place of the first such pixel in the dense image. */
struct mm_gaps {
    const uint16_t *pixels;
    const int32_t *places;
};
/* to[position] = the pixel that stands there, or 0, for so many times `gap` positions. */
typedef void (*mm_spread)(const struct mm_gaps *gaps, int64_t count, const float *from, float *to);
/* Rows [from, to) for so many positions, whose pixels are written, without gaps, to
 * out[(r - from) * out_step ..]. Reads 8 floats at a time. */
typedef void (*mm_closed)(const struct mm_rows *w, int64_t from, int64_t to, const float *x,
                          const struct mm_gaps *gaps, int64_t positions, float *out,
                          int64_t out_step);

struct mm_variant {
    mm_panel panels[MM_WIDTHS];
    mm_band bands[MM_BANDS]; /* where columns are bytes */
    mm_band wide_band;       /* for tiles of 64 where they are not */
    mm_vector vector;
    mm_dots dots;
    mm_turn turn;
    double (*peak)(int64_t rounds);
    mm_spread spread; /* NULL where there are no instructions for it, like the next */
    mm_closed closed;
    int64_t gap; /* 0 then */
};

extern const struct mm_variant mm_variant_portable;
#ifdef MM_X86
extern const struct mm_variant mm_variant_avx2;
extern const struct mm_variant mm_variant_avx512;
/* For each mask of eight lanes, a byte for each lane: the lanes that are in it, side by side, and how many
 * of them come before a lane that is; -1 where there is none. */
extern uint64_t mm_together[256], mm_apart[256];
#endif
const struct mm_variant *mm_variant(int which);

#endif
