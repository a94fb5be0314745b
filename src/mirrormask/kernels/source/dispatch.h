/* What linear.c and conv.c share. */
#ifndef MM_DISPATCH_H
#define MM_DISPATCH_H

#include "panel.h"

/* Rows that are computed into scratch memory before they are laid out: a panel of 32 x 128 floats
 * stays in the first-level cache. */
enum { MM_PANEL_ROWS = 32 };

/* How many of the threads at hand to use for so many multiply-adds. */
int mm_threads_for(int threads, int64_t work);
int mm_bad_rows(const struct mm_rows *w);
/* Rows are shared out by weights: part p gets rows from first(p) up to first(p + 1). */
int64_t mm_first_row(const struct mm_rows *w, int part, int parts);
/* Whether blocks are faster for tiles so wide. They save cache misses and loads, but hold the weights a
 * second time; the narrower a tile, the less it misses. */
int mm_blocks_pay(const struct mm_rows *w, int64_t width, int64_t wide);
/* Index of the panel width to use where `left` floats are left. */
int mm_width_for(int64_t left);
/* Whether the kernel meets a phase of the stride along one axis. */
int mm_meets(const struct mm_conv *c, int axis, int64_t phase);
/* Where a column of the kernel reads: a plane of a channel and phase, and steps down and across. */
struct mm_tap {
    int64_t plane, down, across;
};
/* Returns whether there is such a column. */
int mm_tap_of(const struct mm_conv *c, int32_t column, struct mm_tap *tap);

#endif
