/* A small pool of worker threads.
 *
 * OpenMP would bring a second runtime into a process in which torch already runs one, whose idle
 * threads spin against ours. Here idle workers sleep, after a short wait for the next job: jobs of
 * one network follow each other within microseconds. One caller uses the pool at a time; another
 * one that comes meanwhile does its parts itself.
 */
#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { SPINS = 4000 };

static pthread_mutex_t owner = PTHREAD_MUTEX_INITIALIZER; /* held for a whole parallel job */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;  /* guards all below but the atomics */
static pthread_cond_t start = PTHREAD_COND_INITIALIZER;
static pthread_t workers[MM_MAX_THREADS];
static int worker_count = 0, stopping = 0;
static atomic_uint generation = 0; /* grows with every job */
static atomic_int pending = 0;     /* parts that workers have not finished */
static mm_job current_job;
static void *current_context;
static int current_parts;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

struct birth {
    int index;
    unsigned seen;
};

static void *work(void *argument)
{
    struct birth birth = *(struct birth *)argument;
    free(argument);
    unsigned seen = birth.seen;
    for (;;) {
        for (int i = 0; i < SPINS && atomic_load(&generation) == seen; i++)
            relax();
        pthread_mutex_lock(&lock);
        while (atomic_load(&generation) == seen && !stopping)
            pthread_cond_wait(&start, &lock);
        if (stopping) {
            pthread_mutex_unlock(&lock);
            return NULL;
        }
        seen = atomic_load(&generation);
        mm_job job = current_job;
        void *context = current_context;
        int parts = current_parts;
        pthread_mutex_unlock(&lock);
        if (birth.index + 1 < parts) {
            job(context, birth.index + 1, parts);
            atomic_fetch_sub(&pending, 1);
        }
    }
}

/* In a forked child no worker lives, and locks may have been held by threads that are gone. */
static void after_fork(void)
{
    pthread_mutex_init(&owner, NULL);
    pthread_mutex_init(&lock, NULL);
    pthread_cond_init(&start, NULL);
    worker_count = 0;
    stopping = 0;
    atomic_store(&pending, 0);
}

static void watch_forks(void) { pthread_atfork(NULL, NULL, after_fork); }

/* Called with `owner` and `lock` held. */
static void hire(int wanted)
{
    while (worker_count < wanted) {
        struct birth *birth = malloc(sizeof *birth);
        if (!birth)
            return;
        birth->index = worker_count;
        birth->seen = atomic_load(&generation);
        if (pthread_create(&workers[worker_count], NULL, work, birth) != 0) {
            free(birth);
            return;
        }
        worker_count++;
    }
}

void mm_parallel(int parts, mm_job job, void *context)
{
    if (parts > 1 && parts <= MM_MAX_THREADS && pthread_mutex_trylock(&owner) == 0) {
        pthread_once(&fork_once, watch_forks);
        pthread_mutex_lock(&lock);
        hire(parts - 1);
        int helpers = worker_count < parts - 1 ? worker_count : parts - 1;
        current_job = job;
        current_context = context;
        current_parts = parts;
        atomic_store(&pending, helpers);
        atomic_fetch_add(&generation, 1);
        pthread_cond_broadcast(&start);
        pthread_mutex_unlock(&lock);
        job(context, 0, parts);
        for (int part = helpers + 1; part < parts; part++) /* where threads could not be had */
            job(context, part, parts);
        for (int spins = 0; atomic_load(&pending) > 0; spins++)
            if (spins < SPINS)
                relax();
            else
                sched_yield();
        pthread_mutex_unlock(&owner);
        return;
    }
    for (int part = 0; part < parts; part++)
        job(context, part, parts);
}

static void end_workers(void)
{
    pthread_mutex_lock(&owner);
    pthread_mutex_lock(&lock);
    stopping = 1;
    pthread_cond_broadcast(&start);
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < worker_count; i++)
        pthread_join(workers[i], NULL);
    worker_count = 0;
    stopping = 0;
    pthread_mutex_unlock(&owner);
}

struct scratch {
    float *memory[MM_SCRATCH_SLOTS];
    int64_t floats[MM_SCRATCH_SLOTS];
};

static pthread_key_t scratch_key;
static pthread_once_t scratch_once = PTHREAD_ONCE_INIT;

static void free_scratch(void *pointer)
{
    struct scratch *own = pointer;
    for (int slot = 0; slot < MM_SCRATCH_SLOTS; slot++)
        free(own->memory[slot]);
    free(own);
}

static void make_key(void) { pthread_key_create(&scratch_key, free_scratch); }

float *mm_scratch(int slot, int64_t floats)
{
    pthread_once(&scratch_once, make_key);
    struct scratch *own = pthread_getspecific(scratch_key);
    if (!own) {
        own = calloc(1, sizeof *own);
        if (!own || pthread_setspecific(scratch_key, own) != 0) {
            free(own);
            return NULL;
        }
    }
    floats = floats > 0 ? floats : 1;
    if (own->floats[slot] < floats) {
        void *memory = NULL;
        free(own->memory[slot]);
        own->memory[slot] = NULL;
        own->floats[slot] = 0;
        if (posix_memalign(&memory, 64, (size_t)floats * sizeof(float)) != 0)
            return NULL;
        own->memory[slot] = memory;
        own->floats[slot] = floats;
    }
    return own->memory[slot];
}

void mm_release(void)
{
    end_workers();
    pthread_once(&scratch_once, make_key);
    struct scratch *own = pthread_getspecific(scratch_key);
    if (own) {
        pthread_setspecific(scratch_key, NULL);
        free_scratch(own);
    }
}
