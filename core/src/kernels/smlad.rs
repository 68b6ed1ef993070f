//! Products of bytes on 32-bit ARM without NEON: `smlad` of ARMv6 adds two products of i16 at once. `make test-arm` holds plain
//! convolution, which has them, to its definition (`tests/convolutions.rs`).

use core::arch::asm;

/// Adds to each of four sums the products of values and weights, for as many of them as are whole words: so many, which is
/// returned.
pub fn products(values: &[i8], weights: [&[u8]; 4], sums: &mut [i32; 4]) -> usize {
    let words = values.len() / 4;
    if words > 0 {
        let [a, b, c, d] = weights.map(|weights| weights[..words * 4].as_ptr());
        let [sum_a, sum_b, sum_c, sum_d] = sums;
        // SAFETY: there are as many words of values, and of each weights as the slices above.
        unsafe {
            pair(values.as_ptr(), [a, b], [sum_a, sum_b], words);
            pair(values.as_ptr(), [c, d], [sum_c, sum_d], words);
        }
    }
    words * 4
}

/// The same for two sums: all that registers hold.
///
/// # Safety
/// There are `words` words of four values, one at least, and of each weights. They need not be aligned.
unsafe fn pair(values: *const i8, [a, b]: [*const u8; 2], [sum_a, sum_b]: [&mut i32; 2], words: usize) {
    // SAFETY: the caller's; every CPU that this is compiled for has the instructions.
    unsafe {
        asm!(
            "2:",
            "ldr {odd}, [{values}], #4",
            "ldr {x}, [{a}], #4",
            "sxtb16 {even}, {odd}",
            "sxtb16 {odd}, {odd}, ror #8",
            "sxtb16 {y}, {x}",
            "sxtb16 {x}, {x}, ror #8",
            "smlad {sum_a}, {even}, {y}, {sum_a}",
            "ldr {y}, [{b}], #4",
            "smlad {sum_a}, {odd}, {x}, {sum_a}",
            "sxtb16 {x}, {y}",
            "sxtb16 {y}, {y}, ror #8",
            "subs {words}, {words}, #1",
            "smlad {sum_b}, {even}, {x}, {sum_b}",
            "smlad {sum_b}, {odd}, {y}, {sum_b}",
            "bne 2b",
            values = inout(reg) values => _,
            a = inout(reg) a => _,
            b = inout(reg) b => _,
            sum_a = inout(reg) *sum_a,
            sum_b = inout(reg) *sum_b,
            words = inout(reg) words => _,
            even = out(reg) _,
            odd = out(reg) _,
            x = out(reg) _,
            y = out(reg) _,
            options(nostack, readonly),
        );
    }
}
