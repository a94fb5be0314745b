/* A step of a program with everything that it points at. */
#ifndef MM_SUBJECT_H
#define MM_SUBJECT_H

#include "draw.h"
#include "steps.h"

enum { FLOATS = 2000, INTEGERS = 2000 };

/* One step with everything that it points at. */
struct subject {
    union mm_step step;
    float constants[FLOATS];
    int32_t indices[INTEGERS];
    int64_t arena, ports[2];
};

static struct mm_place somewhere(int64_t space, int64_t offset)
{
    return (struct mm_place){space, offset};
}

/* A matrix with columns in [low, high), in order; the mask follows it. */
static struct mm_matrix matrix(struct subject *s, int64_t rows, int64_t low, int64_t high)
{
    int32_t count = 0, share = (int32_t)between(0, 100), begin = (int32_t)rows + 1;
    for (int64_t r = 0; r < rows; r++) {
        s->indices[r] = count;
        for (int64_t c = low; c < high && begin + count < INTEGERS - 100; c++)
            if ((int)(draw() % 100) < share)
                s->indices[begin + count++] = (int32_t)c;
    }
    s->indices[rows] = count;
    return (struct mm_matrix){rows, 0, begin, count, 0, draw() % 2 ? FLOATS - rows : -1,
                              (int64_t)(draw() % 2)};
}

static int64_t more(int64_t least) { return least + between(0, 3); }

#endif
