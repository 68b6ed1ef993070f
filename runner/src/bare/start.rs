//! From the kernel's entry to `main`, and back to the kernel.

use core::arch::{asm, global_asm};
use core::ffi::c_char;

// The kernel enters with the stack pointer at the number of arguments, their pointers behind it. The entry hands
// that over, on a stack that is aligned as calls want it, to a function that does not return.
#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl _start",
    ".type _start, %function",
    "_start:",
    "mov x29, xzr",
    "mov x30, xzr",
    "mov x0, sp",
    "bl {enter}",
    enter = sym enter,
);
#[cfg(target_arch = "arm")]
global_asm!(
    ".globl _start",
    ".type _start, %function",
    ".arm",
    "_start:",
    "mov fp, #0",
    "mov lr, #0",
    "mov r0, sp",
    "bic sp, sp, #7",
    "bl {enter}",
    enter = sym enter,
);
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl _start",
    ".type _start, @function",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "call {enter}",
    enter = sym enter,
);
#[cfg(not(any(target_arch = "aarch64", target_arch = "arm", target_arch = "x86_64")))]
compile_error!("the program has no start for this architecture: add one here");

/// # Safety
/// `stack` is where the kernel put the number of arguments and, behind it, their pointers.
unsafe extern "C" fn enter(stack: *const usize) -> ! {
    ignore_broken_pipes();
    // SAFETY: as above.
    let (count, arguments) = unsafe { (*stack, stack.add(1).cast::<*const c_char>()) };
    // SAFETY: as above.
    exit(unsafe { super::main(arguments, count) })
}

/// The kernel's numbers of the calls that are made here.
#[cfg(target_arch = "aarch64")]
const CALLS: (usize, usize) = (134, 94);
#[cfg(target_arch = "arm")]
const CALLS: (usize, usize) = (174, 248);
#[cfg(target_arch = "x86_64")]
const CALLS: (usize, usize) = (13, 231);
const RT_SIGACTION: usize = CALLS.0;
const EXIT_GROUP: usize = CALLS.1;

/// A reader of stdout that goes away is an error of a write, and not the end: files are still to be put in place.
fn ignore_broken_pipes() {
    const SIGPIPE: usize = 13;
    const SIG_IGN: usize = 1;
    // Handler, flags, restorer, and a mask of 64 bits.
    let action = [SIG_IGN, 0, 0, 0, 0];
    // SAFETY: the call reads the action, and nothing else.
    unsafe { call(RT_SIGACTION, [SIGPIPE, action.as_ptr().expose_provenance(), 0, 8]) };
}

/// Ends the process.
pub fn exit(code: i32) -> ! {
    // SAFETY: the call takes a number and does not return.
    unsafe { call(EXIT_GROUP, [code as usize, 0, 0, 0]) };
    loop {
        core::hint::spin_loop();
    }
}

/// # Safety
/// As the call that is made.
unsafe fn call(number: usize, [a, b, c, d]: [usize; 4]) {
    // SAFETY: as the caller promised; what the kernel changes is stated.
    unsafe {
        #[cfg(target_arch = "aarch64")]
        asm!("svc #0", in("x8") number, inout("x0") a => _, in("x1") b, in("x2") c, in("x3") d, options(nostack));
        // r7 may be the frame pointer, which the compiler does not let go of.
        #[cfg(target_arch = "arm")]
        asm!(
            "mov {kept}, r7",
            "mov r7, {number}",
            "svc #0",
            "mov r7, {kept}",
            number = in(reg) number,
            kept = out(reg) _,
            inout("r0") a => _,
            in("r1") b,
            in("r2") c,
            in("r3") d,
            options(nostack),
        );
        #[cfg(target_arch = "x86_64")]
        asm!(
            "syscall",
            inout("rax") number => _,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
}
