/* A system clock that stands still until somebody sleeps, and random bytes that are the same in every run.
   Loaded before the C library, so that peers which read the system's clock run on simulated time. */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#define NANOS 1000000000LL

static _Atomic int64_t now = 1000000 * NANOS;
static _Atomic uint64_t state = 1;

int clock_gettime(clockid_t clock, struct timespec *time) {
    int64_t nanos = now;
    (void)clock;
    time->tv_sec = nanos / NANOS;
    time->tv_nsec = nanos % NANOS;
    return 0;
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *time, struct timespec *left) {
    int64_t nanos = time->tv_sec * NANOS + time->tv_nsec;
    (void)clock;
    (void)left;
    if (!(flags & TIMER_ABSTIME)) {
        now += nanos;
    } else if (now < nanos) {
        now = nanos;
    }
    return 0;
}

int nanosleep(const struct timespec *time, struct timespec *left) {
    return clock_nanosleep(CLOCK_MONOTONIC, 0, time, left);
}

/* SplitMix64. */
ssize_t getrandom(void *bytes, size_t length, unsigned flags) {
    (void)flags;
    for (size_t n = 0; n < length; n++) {
        uint64_t z = (state += 0x9e3779b97f4a7c15ULL);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
        ((unsigned char *)bytes)[n] = (unsigned char)(z >> 56);
    }
    return (ssize_t)length;
}
