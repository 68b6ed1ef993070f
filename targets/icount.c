/* Counts the guest's executed instructions: `qemu-aarch64 -plugin libicount.so PROGRAM` writes `insns N` to stderr
   when the program ends, and each time that it calls sched_yield.

   Built with `cc -O2 -shared -fPIC`. The part of QEMU's plugin interface, version 1, that it needs is declared here,
   since Debian does not package the header. */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
/* Of what QEMU tells, the beginning. */
typedef struct { const char *target_name; } qemu_info_t;
struct qemu_plugin_tb;

extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned int, void *), int, void *);
extern void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t,
    void (*)(qemu_plugin_id_t, unsigned int, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void *), void *);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);

#define EXPORT __attribute__((visibility("default")))

EXPORT int qemu_plugin_version = 1;

/* A block that a second thread runs may be lost: count programs of one thread. */
static uint64_t executed;
/* 64-bit ARM has other numbers than 32-bit. */
static int64_t sched_yield_number;

static void on_exec(unsigned int cpu, void *instructions) {
    (void)cpu;
    executed += (uintptr_t)instructions;
}

/* A block's length is known when it is translated, and handed on as the argument of its every execution. */
static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_cb(block, on_exec, 0, (void *)(uintptr_t)qemu_plugin_tb_n_insns(block));
}

static void on_exit(qemu_plugin_id_t id, void *none) {
    (void)id;
    (void)none;
    fprintf(stderr, "insns %" PRIu64 "\n", executed);
}

/* So that a program says which of its parts to count, and starts once for all of them. */
static void on_syscall(qemu_plugin_id_t id, unsigned int cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                       uint64_t e, uint64_t f, uint64_t g, uint64_t h) {
    (void)cpu, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
    if (number == sched_yield_number) on_exit(id, NULL);
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv) {
    (void)argc;
    (void)argv;
    sched_yield_number = strcmp(info->target_name, "aarch64") == 0 ? 124 : 158;
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
    qemu_plugin_register_atexit_cb(id, on_exit, NULL);
    return 0;
}
