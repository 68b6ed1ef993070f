/* Counts the guest's executed instructions: `qemu-aarch64 -plugin libicount.so PROGRAM` writes `insns N` to stderr
   when the program ends.

   Built with `cc -O2 -shared -fPIC`. The part of QEMU's plugin interface, version 1, that it needs is declared here,
   since Debian does not package the header. */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef uint64_t qemu_plugin_id_t;
typedef struct qemu_info_t qemu_info_t;
struct qemu_plugin_tb;

extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned int, void *), int, void *);
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void *), void *);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);

#define EXPORT __attribute__((visibility("default")))

EXPORT int qemu_plugin_version = 1;

/* A block that a second thread runs may be lost: count programs of one thread. */
static uint64_t executed;

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

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv) {
    (void)info;
    (void)argc;
    (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_atexit_cb(id, on_exit, NULL);
    return 0;
}
