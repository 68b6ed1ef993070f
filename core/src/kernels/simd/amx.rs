//! AMX: what AVX512-VNNI multiplies quad by quad, in tiles of 16 pixels by 16 channels, `tdpbusd` (Intel's Architecture
//! Instruction Set Extensions reference, chapter 3). Values lie in the panel and weights in their packed form as they do for
//! AVX512-VNNI: 16 quads of a window are a row of one operand, and 16 channels of a quad one of the other.
//!
//! The unit's registers are named here alone, and keep what they hold from one function to the next.

use core::arch::asm;
use core::marker::PhantomData;

use super::gemm::Filter;
use super::panel::Panel;

/// Pixels of a tile, its channels, and quads of a product at most.
pub const SIDE: usize = 16;
/// Bytes of a row of a register.
const ROW: usize = 64;
/// What pays: pixels of a tile, of fewer of which its weights take longer to read than vectors to multiply; quads of a product; and
/// products of a convolution, which is over before the unit is ready if it has fewer. Tests take small ones, too.
const LEAST_PIXELS: usize = 12;
const LEAST_QUADS: usize = 8;
const LEAST_WORK: usize = if cfg!(test) { 1 } else { 1 << 19 };

/// The registers of this thread, shaped for a convolution until it is dropped: 0 to 3 are sums of blocks of channels, 4 is values and
/// 5 to 7 are weights, of which the next are read while some are multiplied.
pub struct Tiles {
    /// Pixels of a tile, of a row if it has no more.
    pub pixels: usize,
    /// How many products a segment is, and quads of each.
    products: usize,
    quads: usize,
    /// They are a thread's own.
    here: PhantomData<*mut ()>,
}

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    reserved: [u8; 15],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Tiles {
    /// `None` where the CPU has no such unit, or vectors would not take longer.
    pub fn new(panel: &Panel, filter: &Filter) -> Option<Tiles> {
        let (window, all) = (&panel.window, filter.outer * filter.inner * filter.quads);
        let work = (all * 4).saturating_mul(window.out_h * window.out_w).saturating_mul(filter.out_c);
        let pixels = panel.cols.min(SIDE);
        // Divisions last: most layers do not come that far.
        if pixels < LEAST_PIXELS || all < SIDE || work < LEAST_WORK || !permission::granted() {
            return None;
        }
        let quads = (LEAST_QUADS..=SIDE.min(filter.quads)).rfind(|&quads| filter.quads.is_multiple_of(quads))?;
        let mut shapes = Shapes { palette: 1, reserved: [0; 15], row_bytes: [0; 16], rows: [0; 16] };
        for register in 0..8 {
            let (rows, row_bytes) = match register {
                0..4 => (pixels, ROW),
                4 => (pixels, quads * 4),
                _ => (quads, ROW),
            };
            (shapes.rows[register], shapes.row_bytes[register]) = (rows as u8, row_bytes as u16);
        }
        // SAFETY: the CPU has the unit and the kernel lets it be used; there are 1 to 16 rows of at most 64 bytes.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &shapes, options(nostack, readonly)) };
        Some(Tiles { pixels, products: filter.quads / quads, quads, here: PhantomData })
    }

    /// Lets the sums of `BLOCKS <= 4` blocks of channels begin as those of `first` do, for all pixels alike.
    ///
    /// # Safety
    /// There are as many blocks of [`SIDE`] sums.
    #[inline(always)]
    pub unsafe fn begin<const BLOCKS: usize>(&self, first: *const i32) {
        macro_rules! sums {
            ($($block:tt $register:tt)+) => {$(
                if $block < BLOCKS {
                    // SAFETY: as the caller's; each row is read a step of 0 behind the one before.
                    unsafe {
                        asm!(
                            concat!("tileloadd ", $register, ", [{from} + {step}]"),
                            from = in(reg) first.add($block * SIDE), step = in(reg) 0usize,
                            out($register) _, options(nostack, readonly),
                        );
                    }
                }
            )+};
        }
        sums!(0 "tmm0" 1 "tmm1" 2 "tmm2" 3 "tmm3");
    }

    /// Adds the products of a segment of each pixel's window, which begin `step` bytes from each other, and the weights
    /// of `BLOCKS` blocks of channels.
    ///
    /// # Safety
    /// There are as many quads of both.
    #[inline(always)]
    pub unsafe fn add<const BLOCKS: usize>(&self, mut values: *const u8, step: usize, mut weights: *const u8) {
        macro_rules! products {
            ($($block:tt $sums:tt $weights:tt)+) => {$(
                if $block < BLOCKS {
                    asm!(
                        concat!("tileloadd ", $weights, ", [{from} + {step}]"),
                        concat!("tdpbusd ", $sums, ", tmm4, ", $weights),
                        from = in(reg) weights.add($block * ROW), step = in(reg) BLOCKS * ROW,
                        out($weights) _, out($sums) _, options(nostack, readonly),
                    );
                }
            )+};
        }
        for _ in 0..self.products {
            // SAFETY: as the caller's: rows of values are `step` bytes from each other, those of weights all blocks of a quad.
            unsafe {
                asm!(
                    "tileloadd tmm4, [{from} + {step}]",
                    from = in(reg) values, step = in(reg) step, out("tmm4") _, options(nostack, readonly),
                );
                products!(0 "tmm0" "tmm5" 1 "tmm1" "tmm6" 2 "tmm2" "tmm7" 3 "tmm3" "tmm5");
            }
            // The next ones, or their end.
            values = values.wrapping_add(self.quads * 4);
            weights = weights.wrapping_add(self.quads * BLOCKS * ROW);
        }
    }

    /// Writes the sums of `BLOCKS` blocks: pixel by pixel, and of each block by block.
    ///
    /// # Safety
    /// There is room for them.
    #[inline(always)]
    pub unsafe fn end<const BLOCKS: usize>(&self, sums: *mut i32) {
        macro_rules! sums {
            ($($block:tt $register:tt)+) => {$(
                if $block < BLOCKS {
                    // SAFETY: as the caller's.
                    unsafe {
                        asm!(
                            concat!("tilestored [{to} + {step}], ", $register),
                            to = in(reg) sums.add($block * SIDE), step = in(reg) BLOCKS * ROW, options(nostack),
                        );
                    }
                }
            )+};
        }
        sums!(0 "tmm0" 1 "tmm1" 2 "tmm2" 3 "tmm3");
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: the CPU has the unit. What the registers hold is of no more use, and a switch of threads need not keep it.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

#[cfg(all(feature = "std", target_os = "linux", not(miri)))]
mod permission {
    use core::arch::asm;
    use core::arch::x86_64::{__cpuid, __cpuid_count};
    use core::sync::atomic::{AtomicU8, Ordering};

    const UNKNOWN: u8 = 0;
    const GRANTED: u8 = 1;
    const DENIED: u8 = 2;
    static PERMISSION: AtomicU8 = AtomicU8::new(UNKNOWN);

    /// Whether the CPU has the unit and the kernel lets this process use it, which has to be asked for.
    pub fn granted() -> bool {
        let mut known = PERMISSION.load(Ordering::Relaxed);
        if known == UNKNOWN {
            known = if ask() { GRANTED } else { DENIED };
            PERMISSION.store(known, Ordering::Relaxed);
        }
        known == GRANTED
    }

    /// As Documentation/arch/x86/xstate.rst of Linux says.
    fn ask() -> bool {
        const TILE_AND_INT8: u32 = 0b11 << 24;
        const ARCH_PRCTL: i64 = 158;
        const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
        const XTILEDATA: u64 = 18;
        // SAFETY: every x86-64 has the instruction; newer compilers know that.
        #[allow(unused_unsafe)]
        let features = unsafe { if __cpuid(0).eax < 7 { 0 } else { __cpuid_count(7, 0).edx } };
        if features & TILE_AND_INT8 != TILE_AND_INT8 {
            return false;
        }
        let answer: i64;
        // SAFETY: the call reads and writes no memory of the program's. A kernel that does not know it answers with an error.
        unsafe {
            asm!(
                "syscall", inlateout("rax") ARCH_PRCTL => answer, in("rdi") ARCH_REQ_XCOMP_PERM, in("rsi") XTILEDATA,
                out("rcx") _, out("r11") _, options(nostack, nomem),
            );
        }
        answer == 0
    }
}

#[cfg(not(all(feature = "std", target_os = "linux", not(miri))))]
mod permission {
    /// Nobody to ask; and Miri runs no assembly.
    pub fn granted() -> bool {
        false
    }
}
