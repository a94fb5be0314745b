/* A convolution in tiles on its way: shared by conv_tiles.c and tiles_places.c. */
#ifndef MM_TILES_JOB_H
#define MM_TILES_JOB_H

#include "tiles.h"

#include <stdatomic.h>

/* Registers [at, at + count) of a plane. */
struct patch {
    int64_t at, count;
    struct mm_patch_places places;
};

struct tiles_job {
    const struct mm_tiles *t;
    const struct mm_rows *w; /* as mm_tiles_fill laid them out */
    const struct mm_tile_variant *variant;
    const float *x, *add; /* add may be NULL */
    float *y;
    int64_t group;
    const float *in; /* planes */
    float *packed;   /* the same, unless the input is read where it lies */
    struct mm_sources sources;
    const struct patch *patches;
    int64_t count; /* of patches */
    atomic_int *failed;
};

/* Where the planes of every channel come from; 0: there is no memory. */
int mm_find_sources(struct tiles_job *j);
/* Cut the tiles of a group into patches; 0: there is no memory. */
int mm_find_patches(struct tiles_job *j);

#endif
