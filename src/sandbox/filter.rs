//! A seccomp filter that allows some system calls and fails all others with EPERM.
//!
//! The compiler of seccompiler knows no 32-bit ARM, and a list of numbers needs none.

use seccompiler::sock_filter;

/// `AUDIT_ARCH_*` of linux/audit.h: calls of another architecture have other numbers.
const ARCHITECTURE: u32 = if cfg!(target_arch = "x86_64") {
    0xc000_003e
} else if cfg!(target_arch = "aarch64") {
    0xc000_00b7
} else {
    0x4000_0028
};

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
/// A filter that is asked about the calls of another architecture ends the process.
const KILL: u32 = 0x8000_0000;

/// Of linux/bpf_common.h.
const LOAD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
/// Of `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
/// Both halves of the fifth argument, a destination's address in `sendto`: all six are of 64 bits.
const ADDRESS: [u32; 2] = [16 + 8 * 4, 16 + 8 * 4 + 4];

/// Allows the calls of `numbers`, and of `unaddressed` those whose fifth argument is null.
pub fn allowing(numbers: &[u32], unaddressed: &[u32]) -> Vec<sock_filter> {
    let step = |code, k, jt, jf| sock_filter { code, jt, jf, k };
    let mut filter = vec![
        step(LOAD, ARCH, 0, 0),
        step(JUMP_IF_EQUAL, ARCHITECTURE, 1, 0),
        step(RETURN, KILL, 0, 0),
        step(LOAD, NUMBER, 0, 0),
    ];
    // Each has an answer of its own, so that no jump is too far.
    for number in numbers {
        filter.extend([step(JUMP_IF_EQUAL, *number, 0, 1), step(RETURN, ALLOW, 0, 0)]);
    }
    for number in unaddressed {
        filter.extend([
            step(JUMP_IF_EQUAL, *number, 0, 6),
            step(LOAD, ADDRESS[0], 0, 0),
            step(JUMP_IF_EQUAL, 0, 0, 3),
            step(LOAD, ADDRESS[1], 0, 0),
            step(JUMP_IF_EQUAL, 0, 0, 1),
            step(RETURN, ALLOW, 0, 0),
            step(RETURN, EPERM, 0, 0),
        ]);
    }
    filter.push(step(RETURN, EPERM, 0, 0));
    filter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do.
    fn verdict(filter: &[sock_filter], arch: u32, number: u32, address: u64) -> u32 {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let step = &filter[at];
            at += 1;
            match step.code {
                LOAD => {
                    loaded = match step.k {
                        ARCH => arch,
                        NUMBER => number,
                        half if half == ADDRESS[0] => address as u32,
                        half => {
                            assert_eq!(half, ADDRESS[1]);
                            (address >> 32) as u32
                        }
                    }
                }
                JUMP_IF_EQUAL => at += usize::from(if loaded == step.k { step.jt } else { step.jf }),
                _ => return step.k,
            }
        }
    }

    #[test]
    fn what_is_listed_is_allowed_and_nothing_else() {
        let filter = allowing(&[0, 3, 400], &[44, 290]);
        for number in 0..1000 {
            for address in [0, 1, 1 << 32, u64::MAX] {
                let allowed = [0, 3, 400].contains(&number) || address == 0 && [44, 290].contains(&number);
                let expected = if allowed { ALLOW } else { EPERM };
                assert_eq!(verdict(&filter, ARCHITECTURE, number, address), expected, "{number}, {address}");
            }
        }
        // x32's numbers are x86-64's with a bit on top.
        assert_eq!(verdict(&filter, ARCHITECTURE, 0x4000_0000, 0), EPERM);
        assert_eq!(verdict(&filter, 0x4000_0003, 3, 0), KILL);
    }
}
