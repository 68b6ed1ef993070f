//! How deep the stack went: what lies below it is painted, and what has kept its paint was never used.

use core::arch::asm;
use core::ptr;

const PAINT: u32 = 0xdead_beef;
/// What `paint` itself may use, which it must not write over.
const MARGIN: usize = 256;

unsafe extern "C" {
    /// The end of the statics, from cortex-m-rt's linker script.
    static __sheap: u32;
    /// Where the stack begins.
    static _stack_start: u32;
}

fn pointer() -> usize {
    let sp: usize;
    // SAFETY: it reads a register.
    unsafe { asm!("mov {}, sp", out(reg) sp, options(nomem, nostack, preserves_flags)) };
    sp
}

fn lowest() -> usize {
    (&raw const __sheap).addr()
}

/// Paints from the end of the statics to just below the stack.
#[inline(never)]
pub fn paint() {
    for at in (lowest()..pointer() - MARGIN).step_by(4) {
        // SAFETY: RAM that holds no static and is below the stack.
        unsafe { ptr::with_exposed_provenance_mut::<u32>(at).write_volatile(PAINT) };
    }
}

/// The most bytes that the stack took since.
#[inline(never)]
pub fn deepest() -> usize {
    let mut at = lowest();
    // SAFETY: as in `paint`.
    while at < pointer() && unsafe { ptr::with_exposed_provenance::<u32>(at).read_volatile() } == PAINT {
        at += 4;
    }
    (&raw const _stack_start).addr() - at
}
