/* Pixels of several images side by side, from a tensor and back to it. */
#include "live.h"

#include <string.h>

static struct mm_view with_ends(struct mm_view v, const int64_t plane[2])
{
    for (int axis = 0; axis < 2; axis++) {
        int64_t step = v.step[axis], before = -v.shift[axis], behind = v.size[axis] - v.shift[axis];
        v.first[axis] = before <= 0 ? 0 : (before + step - 1) / step;
        v.end[axis] = behind <= 0 ? 0 : (behind + step - 1) / step;
        if (v.end[axis] > plane[axis])
            v.end[axis] = plane[axis];
    }
    return v;
}

struct mm_view mm_input_view(const struct mm_live *l, int64_t row_phase, int64_t column_phase)
{
    const struct mm_conv *c = &l->conv;
    struct mm_view v = {.channels = c->channels,
                        .size = {c->height, c->width},
                        .width = c->plane_width,
                        .lanes = l->lanes,
                        .step = {c->stride[0], c->stride[1]},
                        .shift = {row_phase - c->pad[2], column_phase - c->pad[0]},
                        .channels_last = l->channels_last};
    return with_ends(v, (int64_t[2]){c->plane_height, c->plane_width});
}

struct mm_view mm_output_view(const struct mm_live *l)
{
    const struct mm_conv *c = &l->conv;
    struct mm_view v = {.channels = l->outputs,
                        .size = {c->out_height, c->out_width},
                        .width = c->plane_width,
                        .lanes = l->lanes,
                        .step = {1, 1},
                        .channels_last = l->channels_last};
    return with_ends(v, (int64_t[2]){c->plane_height, c->plane_width});
}

static int64_t pixel_of(const struct mm_view *v, int64_t i, int64_t j)
{
    return (i * v->step[0] + v->shift[0]) * v->size[1] + j * v->step[1] + v->shift[1];
}

static void read_row(const struct mm_view *v, mm_turn turn, const float *tensor, int64_t images,
                     int64_t i, float *row)
{
    int64_t count = v->end[1] - v->first[1], image = v->size[0] * v->size[1] * v->channels;
    if (v->step[1] == 1) {
        turn(tensor + pixel_of(v, i, v->first[1]), images, count, image, row, v->lanes);
        return;
    }
    /* All neighbours are turned, as many at once as there is room for, and some of them kept. */
    enum { ROOM = 32 };
    float room[ROOM * MM_MOST_LANES] = {0};
    int64_t step = v->step[1], left = v->first[1] * step + v->shift[1];
    tensor += pixel_of(v, i, v->first[1]) - left;
    for (int64_t at = 0, j = 0; j < count; at += ROOM) {
        int64_t some = v->size[1] - at < ROOM ? v->size[1] - at : ROOM;
        if (left + j * step >= at + some)
            continue;
        turn(tensor + at, images, some, image, room, v->lanes);
        for (; j < count && left + j * step < at + some; j++)
            memcpy(row + j * v->lanes, room + (left + j * step - at) * v->lanes,
                   (size_t)v->lanes * sizeof(float));
    }
}

static void read_pixels(const struct mm_view *v, mm_turn turn, const float *tensor, int64_t images,
                        int64_t i, int64_t channels, float *row, int64_t plane)
{
    int64_t count = v->end[1] - v->first[1], image = v->size[0] * v->size[1] * v->channels;
    tensor += pixel_of(v, i, v->first[1]) * v->channels;
    for (int64_t j = 0; j < count; j++)
        turn(tensor + j * v->step[1] * v->channels, images, channels, image, row + j * v->lanes,
             plane);
}

static void clear_row(const struct mm_view *v, float *row)
{
    memset(row, 0, (size_t)((v->end[1] - v->first[1]) * v->lanes) * sizeof(float));
}

static int is_inside(const struct mm_view *v, int64_t i) { return i >= v->first[0] && i < v->end[0]; }

/* The loop over what lies together in the tensor is the inner one. */
void mm_read_rows(const struct mm_view *v, mm_turn turn, const float *tensor, int64_t images,
                  int64_t i, int64_t rows, int64_t from, int64_t to, float *planes, int64_t plane)
{
    int64_t row = v->width * v->lanes, pixels = v->size[0] * v->size[1];
    if (v->end[1] <= v->first[1])
        return;
    planes += v->first[1] * v->lanes;
    if (!v->channels_last) {
        for (int64_t c = from; c < to; c++)
            for (int64_t r = 0; r < rows; r++)
                if (is_inside(v, i + r))
                    read_row(v, turn, tensor + c * pixels, images, i + r, planes + c * plane + r * row);
                else
                    clear_row(v, planes + c * plane + r * row);
        return;
    }
    for (int64_t r = 0; r < rows; r++)
        if (is_inside(v, i + r))
            read_pixels(v, turn, tensor + from, images, i + r, to - from,
                        planes + from * plane + r * row, plane);
        else
            for (int64_t c = from; c < to; c++)
                clear_row(v, planes + c * plane + r * row);
}

/* One channel, a few images at a time: where images are a power of two apart, their lines compete
 * for the same few places of the cache, and each should be full before it goes. */
static void write_channel(const struct mm_view *v, mm_turn turn, const struct mm_piece *pieces,
                          int count, int64_t row, int64_t images, int64_t i, float *tensor)
{
    enum { TOGETHER = 8 };
    int64_t image = v->size[0] * v->size[1] * v->channels, step = v->step[1];
    for (int64_t n = 0; n < images; n += TOGETHER) {
        int64_t some = images - n < TOGETHER ? images - n : TOGETHER;
        for (int p = 0; p < count; p++) {
            const float *from = pieces[p].floats + row * pieces[p].width + n;
            float *to = tensor + n * image + pixel_of(v, i, pieces[p].j);
            if (step == 1) {
                turn(from, pieces[p].count, some, v->lanes, to, image);
                continue;
            }
            for (int64_t m = 0; m < some; m++)
                for (int64_t k = 0; k < pieces[p].count; k++)
                    to[m * image + k * step] = from[k * v->lanes + m];
        }
    }
}

void mm_write_pieces(const struct mm_view *v, mm_turn turn, const struct mm_piece *pieces, int count,
                     int64_t channel, int64_t channels, int64_t images, int64_t i, float *tensor)
{
    int64_t pixels = v->size[0] * v->size[1], image = pixels * v->channels;
    if (!v->channels_last) {
        for (int64_t r = 0; r < channels; r++)
            write_channel(v, turn, pieces, count, r, images, i, tensor + (channel + r) * pixels);
        return;
    }
    for (int p = 0; p < count; p++)
        for (int64_t k = 0; k < pieces[p].count; k++)
            turn(pieces[p].floats + k * v->lanes, channels, images, pieces[p].width,
                 tensor + pixel_of(v, i, pieces[p].j + k) * v->channels + channel, image);
}
