/* Convolutions on images where they lie, in strips of their pixels; see strips_plan.c. */
#ifndef MM_STRIPS_H
#define MM_STRIPS_H

#include "tiles.h"

/* How far a strip's kernel looks, in floats, and which strips look beyond the image. */
struct mm_strip_edges {
    int64_t back, ahead;
    int64_t count;          /* strips of an image */
    int64_t top, bottom;    /* strips [0, top) look back beyond it, [bottom, count) ahead */
    int64_t top_end;        /* floats of a channel that the first ones read */
    int64_t bottom_at, end; /* and the last ones, from and to */
    int64_t apart;          /* floats from the packed pixels of the first to those of the last ones */
    int64_t floats;         /* of both, with what strips read around them */
};
/* The first register of a strip. */
int64_t mm_strip_at(const struct mm_tiles *t, int64_t strip);
/* 0: strips of this size cannot be. */
int mm_strip_edges(const struct mm_tiles *t, int64_t lanes, struct mm_strip_edges *e);

/* Plan a convolution in strips, as its layouts are, and return roughly how many cycles it takes; where
 * it cannot be, 1e300. */
double mm_strips_plan(struct mm_tiles *t, const struct mm_tile_variant *variant);
struct tiles_job;
/* Image number `image` of a job; 0: there is no memory. */
int mm_strips_image(const struct tiles_job *job, int64_t image, int threads);

#endif
