/* What both fuzzing programs draw their cases with. */
#ifndef MM_DRAW_H
#define MM_DRAW_H

#include <stdint.h>

static uint64_t state;

static uint64_t draw(void)
{
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
}

static int64_t between(int64_t low, int64_t high)
{
    return low + (int64_t)(draw() % (uint64_t)(high - low + 1));
}

#endif
