/* malloc that ends each block at a page nobody may touch: reading or writing one byte beyond it ends the process.
 *
 * Preloaded by `python -m tests.fuzz --guard`, which calls guard_arm() in the child: from then on blocks of at least
 * LEAST bytes are guarded, and no address is given out twice, so that what was freed cannot be touched either. The bytes
 * between a block's end and the page, at most 15 since blocks begin at multiples of 16, are checked when it is freed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096UL
#define ROOM (1UL << 43) /* address space, of which next to nothing is ever there */
#define LEAST 256UL
#define FILL 0xA5

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

struct head { size_t size, mapped; unsigned char *block; };

static unsigned char *room;
static size_t used;
static int armed;

void guard_arm(void) {
    room = mmap(NULL, ROOM, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    armed = room != MAP_FAILED;
    if (!armed) abort();
}

static int ours(const void *block) { return armed && (unsigned char *)block >= room && (unsigned char *)block < room + ROOM; }

static struct head *head_of(void *block) {
    uintptr_t page = (uintptr_t)block & ~(PAGE - 1);
    for (;; page -= PAGE) { /* the head lies on the page before the first of the block's */
        struct head *head = (struct head *)(page - PAGE);
        if (head->block == block) return head;
    }
}

static void *guarded(size_t size, size_t alignment) {
    size_t pages = (size + alignment + PAGE - 1) / PAGE * PAGE, mapped = PAGE + pages;
    size_t at = __atomic_fetch_add(&used, mapped + PAGE, __ATOMIC_RELAXED);
    if (at + mapped + PAGE > ROOM || mprotect(room + at, mapped, PROT_READ | PROT_WRITE)) { errno = ENOMEM; return NULL; }
    unsigned char *end = room + at + mapped, *block = (unsigned char *)(((uintptr_t)end - size) & ~(alignment - 1));
    struct head *head = (struct head *)(((uintptr_t)block & ~(PAGE - 1)) - PAGE);
    head->size = size, head->mapped = mapped, head->block = block;
    memset(block + size, FILL, end - block - size);
    return block;
}

void *malloc(size_t size) { return armed && size >= LEAST ? guarded(size, 16) : __libc_malloc(size); }

void *calloc(size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) { errno = ENOMEM; return NULL; }
    return armed && bytes >= LEAST ? guarded(bytes, 16) : __libc_calloc(count, size);
}

void free(void *block) {
    if (!ours(block)) { __libc_free(block); return; }
    struct head *head = head_of(block);
    unsigned char *end = (unsigned char *)(((uintptr_t)block + head->size + PAGE - 1) & ~(PAGE - 1));
    for (unsigned char *at = (unsigned char *)block + head->size; at < end; at++)
        if (*at != FILL) abort();
    size_t mapped = head->mapped;
    unsigned char *start = end - mapped;
    madvise(start, mapped, MADV_DONTNEED);
    mprotect(start, mapped, PROT_NONE);
}

void *realloc(void *block, size_t size) {
    if (!block) return malloc(size);
    if (!ours(block)) return __libc_realloc(block, size);
    void *other = malloc(size);
    if (!other) return NULL;
    size_t before = head_of(block)->size;
    memcpy(other, block, before < size ? before : size);
    free(block);
    return other;
}

void *memalign(size_t alignment, size_t size) {
    if (!armed || size < LEAST || alignment > PAGE) return __libc_memalign(alignment, size);
    return guarded(size, alignment < 16 ? 16 : alignment);
}

void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void **block, size_t alignment, size_t size) {
    return (*block = memalign(alignment, size)) ? 0 : ENOMEM;
}

size_t malloc_usable_size(void *block) {
    static size_t (*usable)(void *);
    if (!block) return 0;
    if (ours(block)) return head_of(block)->size;
    extern void *dlsym(void *, const char *);
    if (!usable) usable = dlsym((void *)-1L, "malloc_usable_size");
    return usable(block);
}
