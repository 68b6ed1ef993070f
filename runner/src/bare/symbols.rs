//! Symbols that the parts of Rust's own library are linked against, and that nothing here calls.

use super::start::exit;

/// What unwinding would go through: a panic ends the process instead.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// As above.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    exit(1)
}

/// As above, of 32-bit ARM.
#[cfg(target_arch = "arm")]
#[unsafe(no_mangle)]
extern "C" fn __aeabi_unwind_cpp_pr0() {}

/// As above.
#[cfg(target_arch = "arm")]
#[unsafe(no_mangle)]
extern "C" fn __aeabi_unwind_cpp_pr1() {}

/// The compiler's run-time parts ask it for atomic instructions beyond the base: there are none.
#[unsafe(no_mangle)]
extern "C" fn getauxval(_: usize) -> usize {
    0
}

/// Debian builds those parts with stack protection.
#[unsafe(no_mangle)]
static __stack_chk_guard: usize = 0;

/// As above.
#[unsafe(no_mangle)]
extern "C" fn __stack_chk_fail() -> ! {
    exit(1)
}
