/* Preloaded, it has the FAIL_REQUESTth request for heap fail, from FAIL_FROM on: "start", or "thread", behind the start of the first
   thread. Unlike a global allocator it also has what the standard library and the C library ask for themselves. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static void *(*next_malloc)(size_t);
static void *(*next_realloc)(void *, size_t);
static int (*next_create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
static int counts;
static long left;

__attribute__((constructor)) static void find(void)
{
    if (next_malloc)
        return;
    const char *from = getenv("FAIL_FROM"), *nth = getenv("FAIL_REQUEST");
    next_realloc = dlsym(RTLD_NEXT, "realloc");
    next_create = dlsym(RTLD_NEXT, "pthread_create");
    next_malloc = dlsym(RTLD_NEXT, "malloc");
    left = nth ? atol(nth) : 0;
    counts = from && strcmp(from, "start") == 0;
}

static int fails(void)
{
    find();
    if (!__atomic_load_n(&counts, __ATOMIC_SEQ_CST) || __atomic_sub_fetch(&left, 1, __ATOMIC_SEQ_CST) != 0)
        return 0;
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t size)
{
    return fails() ? NULL : next_malloc(size);
}

void *realloc(void *block, size_t size)
{
    return fails() ? NULL : next_realloc(block, size);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*begin)(void *), void *with)
{
    find();
    int result = next_create(thread, attributes, begin, with);
    const char *from = getenv("FAIL_FROM");
    if (from && strcmp(from, "thread") == 0)
        __atomic_store_n(&counts, 1, __ATOMIC_SEQ_CST);
    return result;
}
