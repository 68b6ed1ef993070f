//! Memory functions that the compiler takes to be there.
//!
//! Each loop has an empty piece of assembly in it, lest the compiler sees what the loop does and puts a call of the
//! very function in its place. For the same reason bytes move in words, each of which one register holds: wider
//! ones would be copies themselves.

use core::arch::asm;

/// Opaque to the compiler, and no instruction.
#[inline(always)]
fn opaque() {
    // SAFETY: it does nothing.
    unsafe { asm!("", options(nostack, preserves_flags)) }
}

const WORD: usize = size_of::<usize>();
/// As much as one step moves: four words.
const STEP: usize = 4 * WORD;

/// # Safety
/// A word can be read there.
#[inline(always)]
unsafe fn read(from: *const u8, at: usize) -> usize {
    // SAFETY: as above.
    unsafe { from.add(at).cast::<usize>().read_unaligned() }
}

/// # Safety
/// A word can be written there.
#[inline(always)]
unsafe fn write(to: *mut u8, at: usize, word: usize) {
    // SAFETY: as above.
    unsafe { to.add(at).cast::<usize>().write_unaligned(word) }
}

/// # Safety
/// `len` bytes can be read and written, and no byte is written before it is read.
#[inline(always)]
unsafe fn forward(to: *mut u8, from: *const u8, len: usize) {
    let mut at = 0;
    while at + STEP <= len {
        // SAFETY: within `len`.
        unsafe {
            let (a, b) = (read(from, at), read(from, at + WORD));
            let (c, d) = (read(from, at + 2 * WORD), read(from, at + 3 * WORD));
            write(to, at, a);
            write(to, at + WORD, b);
            write(to, at + 2 * WORD, c);
            write(to, at + 3 * WORD, d);
        }
        at += STEP;
        opaque();
    }
    while at < len {
        // SAFETY: within `len`.
        unsafe { *to.add(at) = *from.add(at) };
        at += 1;
        opaque();
    }
}

/// # Safety
/// C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the areas lie apart.
    unsafe { forward(to, from, len) };
    to
}

/// # Safety
/// C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if to.addr().wrapping_sub(from.addr()) >= len {
        // A step reads all of its bytes before it writes one.
        // SAFETY: what is written lies before what is still to be read, or apart from it.
        unsafe { forward(to, from, len) };
        return to;
    }
    let mut at = len;
    while at >= WORD {
        at -= WORD;
        // SAFETY: within `len`, from the end: what is written lies behind what is still to be read.
        unsafe { write(to, at, read(from, at)) };
        opaque();
    }
    while at > 0 {
        at -= 1;
        // SAFETY: as above.
        unsafe { *to.add(at) = *from.add(at) };
        opaque();
    }
    to
}

/// # Safety
/// C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    let word = usize::from_ne_bytes([byte as u8; WORD]);
    let mut at = 0;
    while at + WORD <= len {
        // SAFETY: within `len`.
        unsafe { write(to, at, word) };
        at += WORD;
        opaque();
    }
    while at < len {
        // SAFETY: within `len`.
        unsafe { *to.add(at) = byte as u8 };
        at += 1;
        opaque();
    }
    to
}

/// # Safety
/// C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    for at in 0..len {
        // SAFETY: within `len`.
        let (a, b) = unsafe { (*a.add(at), *b.add(at)) };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
        opaque();
    }
    0
}

/// # Safety
/// C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    // SAFETY: the same promise.
    unsafe { memcmp(a, b, len) }
}

/// # Safety
/// C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut len = 0;
    // SAFETY: a zero byte ends it.
    while unsafe { *text.add(len) } != 0 {
        len += 1;
        opaque();
    }
    len
}
