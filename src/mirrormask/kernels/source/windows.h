/* The weights of a matrix once more, for products with one vector: sixteen rows at a time.
 *
 * Rows with about as many weights stand abreast, one in each lane. A turn takes the next weight of each
 * lane whose input lies in the turn's window of 64 neighbouring inputs: those fit into four registers,
 * in which the lanes find theirs by permutations. A lane whose next input lies further on sits a turn
 * out, so that a window moves on only when the lane furthest behind does.
 */
#ifndef MM_WINDOWS_H
#define MM_WINDOWS_H

#include "mirrormask.h"

enum { MM_WINDOW = 64, MM_ABREAST = 16, MM_IDLE = 128 };

struct mm_windows {
    int64_t rows, groups;  /* of MM_ABREAST rows; the last one may lack some */
    const int32_t *first;  /* groups + 1: the first turn of each group */
    const int32_t *order;  /* groups * MM_ABREAST: which row each lane is */
    const int32_t *begins; /* of each turn: the first input of its window */
    const float *bias;     /* groups * MM_ABREAST */
    const float *values;   /* MM_ABREAST of each turn */
    const uint8_t *places; /* MM_ABREAST of each turn: within the window, or MM_IDLE */
};

/* Lay checked rows out in windows; NULL if their variant has none, if that does not pay, if the columns
 * of a row do not increase, or if there is no memory. */
struct mm_windows *mm_windows_of(const struct mm_rows *w);
/* Bytes of its memory. */
int64_t mm_windows_bytes(const struct mm_windows *windows);
void mm_windows_free(struct mm_windows *windows);

/* Groups [from, to): y[row] = bias + sum of value * x[column] + add[row]; add may be NULL. */
typedef void (*mm_windows_run)(const struct mm_windows *w, int64_t from, int64_t to, const float *x,
                               const float *add, int32_t relu, float *y);
struct mm_windowed {
    mm_windows_run run; /* NULL where there are no instructions for it */
};
extern const struct mm_windowed mm_windowed_portable;
#ifdef MM_X86
extern const struct mm_windowed mm_windowed_avx2;
extern const struct mm_windowed mm_windowed_avx512;
#endif
mm_windows_run mm_windows_for(int variant);

#endif
