/* The selective scan and its gradients, for float and double and for three instruction sets.
 *
 *     h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t,    y_t = C_t^T h_t        (every channel by itself)
 *
 * Source: Gu and Dao, arXiv 2312.00752. One vector holds neighbouring channels, so that nothing is added across its
 * lanes in time. Tiles of TILE steps stay in a core's cache; the state before every `every` steps is kept, and the
 * backward pass runs a tile again before it walks back through it. Tensors come with their strides, in elements.
 *
 * This file includes itself: with LEVEL once for each instruction set, and from there with REAL once for each element.
 * LEVELS says which sets: 4 for AVX-512, 2 for AVX2, 1 for what every processor has; the machine's best one is used.
 */
#ifndef LEVEL

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define TILE 64 /* steps; `every` is a multiple of it */
#define MOST_THREADS 64

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

#ifndef SOURCE
#define SOURCE "unknown"
#endif
#ifndef LEVELS
#define LEVELS 7
#endif

typedef struct { /* `tensor[0]` lies at data; a stride an axis */
    char *data;
    int64_t stride[3];
} array;

typedef struct {
    int64_t batch, time, channels, state, every, parts, threads;
    array x, dt, A, B, C, initial;         /* (b,t,c) (b,t,c) (c,n) (b,t,n) (b,t,n) (b,c,n) */
    array y, last, kept;                   /* (b,t,c) (b,c,n) and what the forward pass keeps, as it likes */
    array gy, glast;                       /* what comes from outside: (b,t,c) (b,c,n) */
    array gx, gdt, gA, gB, gC, ginitial;   /* (b,t,c) (b,t,c) double (b,c,n) (part,b,t,n) twice (b,c,n) */
    int64_t part_stride;                   /* of gB and gC */
} scan;

/* One piece of a scan: some channels of one sequence. */
typedef struct {
    const scan *s;
    int64_t sequence, low, high, part;
} unit;

typedef int (*worker)(const unit *);

typedef struct {
    const scan *s;
    worker work;
    int64_t block, next, count;
    int failed;
    pthread_mutex_t lock;
} queue;

static unit unit_of(const queue *q, int64_t number) {
    const scan *s = q->s;
    int64_t blocks = (s->channels + q->block - 1) / q->block;
    int64_t part = number % blocks, low = part * q->block, high = low + q->block;
    unit u = {s, number / blocks, low, high < s->channels ? high : s->channels, part};
    return u;
}

static void *serve(void *argument) {
    queue *q = argument;
    for (;;) {
        pthread_mutex_lock(&q->lock);
        int64_t number = q->next++;
        int stop = number >= q->count || q->failed;
        pthread_mutex_unlock(&q->lock);
        if (stop) return NULL;
        unit u = unit_of(q, number);
        if (q->work(&u)) {
            pthread_mutex_lock(&q->lock);
            q->failed = 1;
            pthread_mutex_unlock(&q->lock);
        }
    }
}

/* All sequences, each cut in `parts` ranges of channels, over so many threads; not 0 where memory ran out. */
static int run(const scan *s, worker work, int64_t lanes) {
    int64_t parts = s->parts < 1 ? 1 : s->parts;
    int64_t block = ((s->channels + parts - 1) / parts + lanes - 1) / lanes * lanes;
    if (block == 0 || s->batch == 0) return 0;
    queue q = {s, work, block, 0, s->batch * ((s->channels + block - 1) / block), 0, PTHREAD_MUTEX_INITIALIZER};
    int64_t threads = s->threads < q.count ? s->threads : q.count;
    if (threads > MOST_THREADS) threads = MOST_THREADS;
    pthread_t others[MOST_THREADS];
    int started = 0;
    while (started + 1 < threads && pthread_create(&others[started], NULL, serve, &q) == 0) started++;
    serve(&q); /* where no thread could be started, this one does all */
    for (int i = 0; i < started; i++) pthread_join(others[i], NULL);
    return q.failed;
}

/* Memory for vectors of 64 bytes; what free() takes comes back in `base`. */
static void *aligned(size_t bytes, void **base) {
    *base = malloc(bytes + 64);
    return *base ? (void *)(((uintptr_t)*base + 63) & ~(uintptr_t)63) : NULL;
}

#define JOIN_(a, b, c) a##_##b##_##c
#define JOIN(a, b, c) JOIN_(a, b, c)
#define NAME(f) JOIN(f, REAL, LEVEL)
#define INLINE static inline __attribute__((always_inline)) TARGET

#if defined(__clang__)
#pragma clang diagnostic ignored "-Wpsabi"
#else
#pragma GCC diagnostic ignored "-Wpsabi" /* vectors pass between inlined functions only */
#endif

#if defined(__x86_64__) && LEVELS & 4
#define LEVEL avx512
#define BYTES 64
#define TARGET __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma")))
#include __FILE__
#undef LEVEL
#undef BYTES
#undef TARGET
#endif

#if defined(__x86_64__) && LEVELS & 2
#define LEVEL avx2
#define BYTES 32
#define TARGET __attribute__((target("avx2,fma")))
#include __FILE__
#undef LEVEL
#undef BYTES
#undef TARGET
#endif

#if !defined(__x86_64__) || LEVELS & 1
#define LEVEL any
#define BYTES 16
#define TARGET
#include __FILE__
#endif

typedef struct {
    const char *name;
    int bytes;
    worker forward[2], backward[2]; /* float, double */
    void (*exp2[2])(const void *, void *, int64_t);
} level;

#define ROW(l, bytes)                                                                                                  \
    {#l,                                                                                                               \
     bytes,                                                                                                            \
     {forward_float_##l, forward_double_##l},                                                                          \
     {backward_float_##l, backward_double_##l},                                                                        \
     {exp2_float_##l, exp2_double_##l}}

static const level levels[] = {
#if defined(__x86_64__) && LEVELS & 4
    ROW(avx512, 64),
#endif
#if defined(__x86_64__) && LEVELS & 2
    ROW(avx2, 32),
#endif
#if !defined(__x86_64__) || LEVELS & 1
    ROW(any, 16),
#endif
};

static int supported(const level *l) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (l->bytes > 16 && !(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))) return 0;
    if (l->bytes > 32)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
#endif
    return l->bytes > 0;
}

EXPORT const char *mixerlens_source(void) { return SOURCE; }

/* The name of an instruction set that this machine has, else NULL; the fastest comes first. */
EXPORT const char *mixerlens_level(int number) { return supported(levels + number) ? levels[number].name : NULL; }

EXPORT int mixerlens_levels(void) { return sizeof levels / sizeof *levels; }

EXPORT int mixerlens_lanes(int number, int wide) { return levels[number].bytes / (wide ? 8 : 4); }

EXPORT void mixerlens_exp2(int number, int wide, const void *x, void *y, int64_t count) {
    levels[number].exp2[wide](x, y, count);
}

EXPORT int mixerlens_scan_forward(int number, int wide, const scan *s) {
    return run(s, levels[number].forward[wide], mixerlens_lanes(number, wide));
}

EXPORT int mixerlens_scan_backward(int number, int wide, const scan *s) {
    return run(s, levels[number].backward[wide], mixerlens_lanes(number, wide));
}

#elif !defined(REAL) /* for one instruction set */

#define REAL float
#define UNSIGNED uint32_t
#define WIDE 0
#define SUFFIX "s"
#include __FILE__
#undef REAL
#undef UNSIGNED
#undef WIDE
#undef SUFFIX

#define REAL double
#define UNSIGNED uint64_t
#define WIDE 1
#define SUFFIX "d"
#include __FILE__
#undef REAL
#undef UNSIGNED
#undef WIDE
#undef SUFFIX

#else /* for one instruction set and element */

#define LANES ((int64_t)(BYTES / sizeof(REAL)))
#define V NAME(vector)
#define U NAME(bits)

typedef REAL V __attribute__((vector_size(BYTES)));
typedef REAL NAME(loose) __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));
typedef UNSIGNED U __attribute__((vector_size(BYTES)));

INLINE V NAME(load)(const REAL *p) { return *(const NAME(loose) *)p; }
INLINE void NAME(store)(REAL *p, V v) { *(NAME(loose) *)p = v; }
INLINE V NAME(all)(REAL x) { return x - (V){0}; }
INLINE V NAME(chosen)(U where, V yes, V no) { return (V)(((U)yes & where) | ((U)no & ~where)); }

/* 2^x to one unit in the last place: 2^n 2^f with x = n + f, |f| <= 1/2, by a polynomial that is 1 at f = 0. */
INLINE V NAME(power)(V x) {
    V n, f, p;
#if BYTES == 64
    __asm__("vreducep" SUFFIX " $8, %1, %0" : "=v"(f) : "v"(x)); /* x less the nearest integer; 0 for an infinity */
    n = x - f;
#else
    const REAL magic = WIDE ? (REAL)0x1.8p52 : (REAL)0x1.8p23; /* its last place is one */
    const REAL low = WIDE ? -1076 : -151, high = WIDE ? 1025 : 129;
#if BYTES == 32
    __asm__("vmaxp" SUFFIX " %1, %2, %0" : "=x"(x) : "x"(x), "x"(NAME(all)(low))); /* NaN stays */
    __asm__("vminp" SUFFIX " %1, %2, %0" : "=x"(x) : "x"(x), "x"(NAME(all)(high)));
#else
    x = NAME(chosen)((U)(x < NAME(all)(low)), NAME(all)(low), x); /* NaN is neither */
    x = NAME(chosen)((U)(x > NAME(all)(high)), NAME(all)(high), x);
#endif
    n = (x + magic) - magic;
    f = x - n;
#endif
    if (WIDE) {
        p = f * (REAL)0x1.c063841f3a21dp-32 + (REAL)0x1.e605f964b639dp-28;
        p = p * f + (REAL)0x1.b54167a1b0034p-24;
        p = p * f + (REAL)0x1.62bfd49ededd3p-20;
        p = p * f + (REAL)0x1.ffcbee3b0a61cp-17;
        p = p * f + (REAL)0x1.43091309610fcp-13;
        p = p * f + (REAL)0x1.5d87fe7bbbe09p-10;
        p = p * f + (REAL)0x1.3b2ab6fba1e1cp-7;
        p = p * f + (REAL)0x1.c6b08d7048f31p-5;
        p = p * f + (REAL)0x1.ebfbdff82c598p-3;
        p = p * f + (REAL)0x1.62e42fefa39f3p-1;
    } else {
        p = f * (REAL)0x1.470b48p-13 + (REAL)0x1.5f7276p-10;
        p = p * f + (REAL)0x1.3b270ep-7;
        p = p * f + (REAL)0x1.c6ae72p-5;
        p = p * f + (REAL)0x1.ebfbe2p-3;
        p = p * f + (REAL)0x1.62e432p-1;
    }
    p = p * f + (REAL)1;
#if BYTES == 64
    __asm__("vscalefp" SUFFIX " %2, %1, %0" : "=v"(p) : "v"(p), "v"(n));
    return p;
#else
    const int mantissa = WIDE ? 52 : 23, bias = WIDE ? 1023 : 127;
    V half = n * (REAL)0.5 + magic, rest = (n - (half - magic)) + magic; /* 2^n itself may be no normal number */
    return p * (V)(((U)half + (UNSIGNED)bias) << mantissa) * (V)(((U)rest + (UNSIGNED)bias) << mantissa);
#endif
}

TARGET static void NAME(exp2)(const void *from, void *to, int64_t count) {
    const REAL *x = from;
    REAL *y = to, row[LANES];
    for (int64_t i = 0; i < count; i += LANES) {
        int64_t some = count - i < LANES ? count - i : LANES;
        memset(row, 0, sizeof row);
        memcpy(row, x + i, some * sizeof(REAL));
        NAME(store)(row, NAME(power)(NAME(load)(row)));
        memcpy(y + i, row, some * sizeof(REAL));
    }
}

INLINE REAL *NAME(at)(array a, int64_t i, int64_t j, int64_t k) {
    return (REAL *)a.data + i * a.stride[0] + j * a.stride[1] + k * a.stride[2];
}

/* `steps` rows of a vector each from [sequence, time, channel] on: where they lie, or in `copy` with zeros beside. */
TARGET static const REAL *NAME(rows)(array a, int64_t i, int64_t j, int64_t k, int64_t steps, int64_t lanes, REAL *copy,
                                     int64_t *stride) {
    const REAL *from = NAME(at)(a, i, j, k);
    *stride = a.stride[1];
    if (a.stride[2] == 1 && lanes == LANES) return from;
    *stride = LANES;
    memset(copy, 0, steps * LANES * sizeof(REAL));
    for (int64_t t = 0; t < steps; t++)
        for (int64_t c = 0; c < lanes; c++) copy[t * LANES + c] = from[t * a.stride[1] + c * a.stride[2]];
    return copy;
}

/* Where such rows are to be written: there, or into `copy` for `put` to take on. */
INLINE REAL *NAME(target)(array a, int64_t i, int64_t j, int64_t k, int64_t lanes, REAL *copy, int64_t *stride) {
    *stride = lanes == LANES ? a.stride[1] : LANES;
    return lanes == LANES ? NAME(at)(a, i, j, k) : copy;
}

TARGET static void NAME(put)(array a, int64_t i, int64_t j, int64_t k, int64_t steps, int64_t lanes, const REAL *copy) {
    if (lanes == LANES) return;
    for (int64_t t = 0; t < steps; t++) memcpy(NAME(at)(a, i, j + t, k), copy + t * LANES, lanes * sizeof(REAL));
}

/* B or C of some steps, (steps, state). */
TARGET static void NAME(small)(array a, int64_t i, int64_t j, int64_t steps, int64_t state, REAL *to) {
    for (int64_t t = 0; t < steps; t++)
        for (int64_t n = 0; n < state; n++) to[t * state + n] = *NAME(at)(a, i, j + t, n);
}

/* A (channels, state) tensor's piece of a unit as (groups, state, lanes), times a factor, and back. */
TARGET static void NAME(turn)(array a, int64_t i, const unit *u, double factor, REAL *to) {
    int64_t state = u->s->state, groups = (u->high - u->low + LANES - 1) / LANES;
    memset(to, 0, groups * state * LANES * sizeof(REAL));
    for (int64_t c = u->low; c < u->high; c++)
        for (int64_t n = 0; n < state; n++) {
            int64_t g = (c - u->low) / LANES, lane = (c - u->low) % LANES;
            to[(g * state + n) * LANES + lane] = (REAL)(factor * *NAME(at)(a, i, c, n));
        }
}

TARGET static void NAME(turn_back)(array a, int64_t i, const unit *u, const REAL *from) {
    int64_t state = u->s->state;
    for (int64_t c = u->low; c < u->high; c++)
        for (int64_t n = 0; n < state; n++) {
            int64_t g = (c - u->low) / LANES, lane = (c - u->low) % LANES;
            *NAME(at)(a, i, c, n) = from[(g * state + n) * LANES + lane];
        }
}

/* Runs one group of channels over some steps, with y, or with every state before a step and every decay, or with
 * neither. */
INLINE void NAME(walk)(int64_t steps, int64_t state, const REAL *x, int64_t x_row, const REAL *dt, int64_t dt_row,
                       const REAL *B, const REAL *C, const V *rates, V *h, REAL *y, int64_t y_row, V *olds, V *decays) {
    for (int64_t t = 0; t < steps; t++) {
        __builtin_prefetch(x + t * x_row + LANES); /* the next group's */
        __builtin_prefetch(dt + t * dt_row + LANES);
        V step = NAME(load)(dt + t * dt_row), written = step * NAME(load)(x + t * x_row), sum = {0};
        for (int64_t n = 0; n < state; n++) {
            V decay = NAME(power)(step * rates[n]);
            if (olds) olds[t * state + n] = h[n], decays[t * state + n] = decay;
            h[n] = decay * h[n] + written * B[t * state + n];
            if (y) sum += h[n] * C[t * state + n];
        }
        if (y) {
            __builtin_prefetch(y + t * y_row + LANES, 1);
            NAME(store)(y + t * y_row, sum);
        }
    }
}

INLINE REAL *NAME(kept)(const unit *u, int64_t number) {
    const scan *s = u->s;
    int64_t groups = (s->channels + LANES - 1) / LANES;
    return (REAL *)s->kept.data + ((number * s->batch + u->sequence) * groups + u->low / LANES) * s->state * LANES;
}

TARGET static int NAME(forward)(const unit *u) {
    const scan *s = u->s;
    int64_t state = s->state, groups = (u->high - u->low + LANES - 1) / LANES, one = state * LANES;
    void *base;
    REAL *memory = aligned((2 * groups * one + 3 * TILE * LANES + 2 * TILE * state) * sizeof(REAL), &base);
    if (!memory) return 1;
    REAL *rates = memory, *states = rates + groups * one, *copies = states + groups * one;
    REAL *B = copies + 3 * TILE * LANES, *C = B + TILE * state;
    NAME(turn)(s->A, 0, u, 1.4426950408889634, rates);
    NAME(turn)(s->initial, u->sequence, u, 1, states);
    for (int64_t at = 0; at < s->time; at += TILE) {
        int64_t steps = s->time - at < TILE ? s->time - at : TILE;
        if (s->every && at % s->every == 0)
            memcpy(NAME(kept)(u, at / s->every), states, groups * one * sizeof(REAL));
        NAME(small)(s->B, u->sequence, at, steps, state, B);
        NAME(small)(s->C, u->sequence, at, steps, state, C);
        for (int64_t g = 0; g < groups; g++) {
            int64_t first = u->low + g * LANES, lanes = u->high - first < LANES ? u->high - first : LANES;
            int64_t x_row, dt_row, y_row;
            const REAL *x = NAME(rows)(s->x, u->sequence, at, first, steps, lanes, copies, &x_row);
            const REAL *dt = NAME(rows)(s->dt, u->sequence, at, first, steps, lanes, copies + TILE * LANES, &dt_row);
            REAL *copy = copies + 2 * TILE * LANES;
            REAL *y = NAME(target)(s->y, u->sequence, at, first, lanes, copy, &y_row);
            NAME(walk)(steps, state, x, x_row, dt, dt_row, B, C, (V *)(rates + g * one), (V *)(states + g * one), y,
                       y_row, NULL, NULL);
            NAME(put)(s->y, u->sequence, at, first, steps, lanes, copy);
        }
    }
    NAME(turn_back)(s->last, u->sequence, u, states);
    free(base);
    return 0;
}

/* One group of channels back over some steps, of which `walk` has told the states before and the decays. What B's and
 * C's gradients get from each lane is added to `by_B` and `by_C`, (steps, state). */
INLINE void NAME(walk_back)(int64_t steps, int64_t state, const REAL *x, int64_t x_row, const REAL *dt, int64_t dt_row,
                            const REAL *gy, int64_t gy_row, const REAL *B, const REAL *C, const V *rates, const V *olds,
                            const V *decays, V *adjoint, V *by_A, V *by_B, V *by_C, REAL *gx, int64_t gx_row, REAL *gdt,
                            int64_t gdt_row) {
    for (int64_t t = steps; t-- > 0;) {
        __builtin_prefetch(gy + t * gy_row + LANES);
        __builtin_prefetch(gx + t * gx_row + LANES, 1);
        __builtin_prefetch(gdt + t * gdt_row + LANES, 1);
        V outer = NAME(load)(gy + t * gy_row), step = NAME(load)(dt + t * dt_row), in = NAME(load)(x + t * x_row);
        V written = step * in, by_written = {0}, by_exponent = {0};
        for (int64_t n = 0, i = t * state; n < state; n++, i++) {
            V l = adjoint[n] + outer * C[i]; /* dL/dh_t */
            by_C[i] += outer * olds[i + state];
            by_B[i] += l * written;
            by_written += l * B[i];
            l *= decays[i];
            adjoint[n] = l;
            l *= olds[i]; /* dL/d(dt_t A) */
            by_A[n] += l * step;
            by_exponent += l * rates[n];
        }
        NAME(store)(gx + t * gx_row, by_written * step);
        NAME(store)(gdt + t * gdt_row, by_written * in + by_exponent * (REAL)0.6931471805599453);
    }
}

/* Adds the first lanes of (steps, state) vectors to B's or C's gradient, and clears them. */
TARGET static void NAME(across)(array a, const unit *u, int64_t at, int64_t steps, int64_t lanes, V *from) {
    for (int64_t t = 0; t < steps; t++)
        for (int64_t n = 0; n < u->s->state; n++) {
            V *one = from + t * u->s->state + n;
            REAL total[4] = {0};
            for (int64_t c = 0; c < lanes; c++) total[c % 4] += (*one)[c];
            NAME(at)(a, u->sequence, at + t, n)[u->part * u->s->part_stride] += total[0] + total[1] + (total[2] + total[3]);
            *one = (V){0};
        }
}

TARGET static int NAME(backward)(const unit *u) {
    const scan *s = u->s;
    int64_t state = s->state, groups = (u->high - u->low + LANES - 1) / LANES, one = state * LANES, all = groups * one;
    int64_t tiles = s->every / TILE, block = TILE * LANES, walked = (TILE + 1) * one;
    void *base, *sums = calloc(all ? all : 1, sizeof(double));
    REAL *memory = aligned(((4 + tiles) * all + 6 * block + 2 * TILE * state + 4 * walked) * sizeof(REAL), &base);
    if (!memory || !sums) {
        free(base);
        free(sums);
        return 1;
    }
    double *total = sums;
    REAL *rates = memory, *adjoints = rates + all, *h = adjoints + all, *by_A = h + all, *starts = by_A + all;
    REAL *copies = starts + tiles * all, *olds = copies + 6 * block, *decays = olds + walked;
    REAL *by_B = decays + walked, *by_C = by_B + walked, *B = by_C + walked, *C = B + TILE * state;
    memset(by_B, 0, 2 * walked * sizeof(REAL));
    NAME(turn)(s->A, 0, u, 1.4426950408889634, rates);
    NAME(turn)(s->glast, u->sequence, u, 1, adjoints);
    for (int64_t number = (s->time - 1) / s->every; number >= 0; number--) {
        int64_t first = number * s->every, end = s->time - first < s->every ? s->time : first + s->every;
        int64_t count = (end - first + TILE - 1) / TILE;
        memcpy(h, NAME(kept)(u, number), all * sizeof(REAL));
        for (int64_t tile = 0; tile < 2 * count - 1; tile++) {
            /* on to the last tile, which keeps the state before each, and then back through all of them */
            int64_t back = tile >= count - 1, i = back ? 2 * count - 2 - tile : tile, at = first + i * TILE;
            int64_t steps = end - at < TILE ? end - at : TILE;
            if (tile < count) memcpy(starts + i * all, h, all * sizeof(REAL));
            NAME(small)(s->B, u->sequence, at, steps, state, B);
            if (back) NAME(small)(s->C, u->sequence, at, steps, state, C);
            for (int64_t g = 0; g < groups; g++) {
                int64_t c = u->low + g * LANES, lanes = u->high - c < LANES ? u->high - c : LANES;
                int64_t x_row, dt_row, gy_row, gx_row, gdt_row, q = u->sequence;
                const REAL *x = NAME(rows)(s->x, q, at, c, steps, lanes, copies, &x_row);
                const REAL *dt = NAME(rows)(s->dt, q, at, c, steps, lanes, copies + block, &dt_row);
                const V *rate = (V *)(rates + g * one);
                if (!back) {
                    NAME(walk)(steps, state, x, x_row, dt, dt_row, B, C, rate, (V *)(h + g * one), NULL, 0, NULL, NULL);
                    continue;
                }
                V *start = (V *)(starts + i * all + g * one), *old = (V *)olds, *decay = (V *)decays;
                NAME(walk)(steps, state, x, x_row, dt, dt_row, B, C, rate, start, NULL, 0, old, decay);
                memcpy(old + steps * state, start, one * sizeof(REAL));
                const REAL *gy = NAME(rows)(s->gy, q, at, c, steps, lanes, copies + 2 * block, &gy_row);
                REAL *gx = NAME(target)(s->gx, q, at, c, lanes, copies + 3 * block, &gx_row);
                REAL *gdt = NAME(target)(s->gdt, q, at, c, lanes, copies + 4 * block, &gdt_row);
                REAL *sum = by_A + g * one;
                memset(sum, 0, one * sizeof(REAL));
                if (lanes < LANES) { /* what lies beside the last channel counts for nothing, even if it is no number */
                    NAME(across)(s->gB, u, at, steps, LANES, (V *)by_B);
                    NAME(across)(s->gC, u, at, steps, LANES, (V *)by_C);
                }
                NAME(walk_back)(steps, state, x, x_row, dt, dt_row, gy, gy_row, B, C, rate, old, decay,
                                (V *)(adjoints + g * one), (V *)sum, (V *)by_B, (V *)by_C, gx, gx_row, gdt, gdt_row);
                NAME(put)(s->gx, q, at, c, steps, lanes, copies + 3 * block);
                NAME(put)(s->gdt, q, at, c, steps, lanes, copies + 4 * block);
                if (g == groups - 1) {
                    NAME(across)(s->gB, u, at, steps, lanes, (V *)by_B);
                    NAME(across)(s->gC, u, at, steps, lanes, (V *)by_C);
                }
                for (int64_t k = 0; k < one; k++) total[g * one + k] += sum[k];
            }
        }
    }
    NAME(turn_back)(s->ginitial, u->sequence, u, adjoints);
    for (int64_t c = u->low; c < u->high; c++)
        for (int64_t n = 0; n < state; n++) {
            int64_t g = (c - u->low) / LANES, lane = (c - u->low) % LANES;
            ((double *)s->gA.data)[u->sequence * s->gA.stride[0] + c * s->gA.stride[1] + n * s->gA.stride[2]] =
                total[(g * state + n) * LANES + lane];
        }
    free(base);
    free(sums);
    return 0;
}

#undef LANES
#undef V
#undef U
#endif
