//! Instruction sets the heavy kernels are written for, and the one place that picks among them.
//!
//! A plan is packed for one [`Isa`] and runs with that one. Packing is plain code and works for
//! any instruction set on any machine; running asks [`Isa::is_available`].

use core::fmt;
use core::str::FromStr;

/// An instruction set that convolution kernels exist for, from the least to the most capable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// Plain Rust, any CPU: the reference that every other one equals bit for bit.
    Generic,
    /// x86-64 with AVX2 and FMA: i16 products through `vpmaddwd`.
    Avx2,
    /// x86-64 with AVX-VNNI: u8 x i8 dot products in 256-bit registers.
    AvxVnni,
    /// x86-64 with AVX512-VNNI: u8 x i8 dot products in 512-bit registers.
    Avx512Vnni,
    /// armv7 with NEON, which most of them have: i16 products.
    Neon32,
    /// aarch64 with NEON, which all of them have: i8 products summed in pairs.
    Neon,
    /// aarch64 with the dot product instructions of Armv8.2: i8 x i8 in quads.
    NeonDotprod,
    /// aarch64 with the matrix products of Armv8.6 too: 2 x 8 times 8 x 2 of i8.
    NeonI8mm,
}

impl Isa {
    /// Every instruction set, the plainest first.
    pub const ALL: [Isa; 8] = [
        Isa::Generic,
        Isa::Avx2,
        Isa::AvxVnni,
        Isa::Avx512Vnni,
        Isa::Neon32,
        Isa::Neon,
        Isa::NeonDotprod,
        Isa::NeonI8mm,
    ];

    /// The most capable instruction set of this CPU.
    ///
    /// ```
    /// assert!(tractlet_core::isa::Isa::detect().is_available());
    /// ```
    pub fn detect() -> Isa {
        let mut best = Isa::Generic;
        for isa in Isa::ALL {
            if isa.is_available() {
                best = isa;
            }
        }
        best
    }

    /// Whether this CPU can run it. Without the feature `std` only what the build targets counts, and with
    /// `hwcap` what Linux tells of an aarch64, and AVX2, too; of 32-bit ARM it always does.
    pub fn is_available(self) -> bool {
        match self {
            Isa::Generic => true,
            Isa::Avx2 => x86::avx2(),
            Isa::AvxVnni => x86::avx2() && x86::avxvnni(),
            Isa::Avx512Vnni => x86::avx2() && x86::avx512vnni(),
            Isa::Neon32 => arm::neon32(),
            Isa::Neon => arm::neon(),
            Isa::NeonDotprod => arm::neon() && arm::dotprod(),
            Isa::NeonI8mm => arm::neon() && arm::dotprod() && arm::i8mm(),
        }
    }

    /// Whether this CPU can run it and picks bytes out of 512-bit registers by their index, which most that have AVX512-VNNI do.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn picks_bytes(self) -> bool {
        self == Isa::Avx512Vnni && self.is_available() && x86::avx512vbmi()
    }

    /// The name that [`FromStr`] reads and plans record.
    pub const fn name(self) -> &'static str {
        match self {
            Isa::Generic => "generic",
            Isa::Avx2 => "avx2",
            Isa::AvxVnni => "avxvnni",
            Isa::Avx512Vnni => "avx512vnni",
            Isa::Neon32 => "neon32",
            Isa::Neon => "neon",
            Isa::NeonDotprod => "neondotprod",
            Isa::NeonI8mm => "neoni8mm",
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The name is none of [`Isa::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownIsa;

impl fmt::Display for UnknownIsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown instruction set; one of")?;
        Isa::ALL.iter().try_for_each(|isa| write!(f, " {isa}"))
    }
}

impl core::error::Error for UnknownIsa {}

impl FromStr for Isa {
    type Err = UnknownIsa;

    /// ```
    /// use tractlet_core::isa::Isa;
    /// assert_eq!("avx2".parse(), Ok(Isa::Avx2));
    /// assert!("sse9".parse::<Isa>().is_err());
    /// ```
    fn from_str(name: &str) -> Result<Isa, UnknownIsa> {
        Isa::ALL.into_iter().find(|isa| isa.name() == name).ok_or(UnknownIsa)
    }
}

/// Detection at run time where std is there, else what the build was told.
macro_rules! feature {
    ($arch:literal, $detected:path, $($feature:tt)&&+) => {{
        #[cfg(all(feature = "std", target_arch = $arch))]
        { use $detected as detected; $(detected!($feature))&&+ }
        #[cfg(not(all(feature = "std", target_arch = $arch)))]
        { $(cfg!(all(target_arch = $arch, target_feature = $feature)))&&+ }
    }};
}

mod x86 {
    macro_rules! x86_feature {
        ($($feature:tt)&&+) => { feature!("x86_64", std::is_x86_feature_detected, $($feature)&&+) };
    }

    /// Without std the CPU itself is asked; of VNNI nobody knows how.
    #[cfg(all(target_arch = "x86_64", feature = "hwcap", not(feature = "std")))]
    pub fn avx2() -> bool {
        cpufeatures::new!(both, "avx2", "fma");
        both::get()
    }
    #[cfg(not(all(target_arch = "x86_64", feature = "hwcap", not(feature = "std"))))]
    pub fn avx2() -> bool {
        x86_feature!("avx2" && "fma")
    }
    pub fn avxvnni() -> bool {
        x86_feature!("avxvnni")
    }
    pub fn avx512vnni() -> bool {
        x86_feature!("avx512f" && "avx512bw" && "avx512vl" && "avx512vnni")
    }
    #[cfg(target_arch = "x86_64")]
    pub fn avx512vbmi() -> bool {
        x86_feature!("avx512vbmi")
    }
}

mod arm {
    macro_rules! arm_feature {
        ($feature:tt) => {
            feature!("aarch64", std::arch::is_aarch64_feature_detected, $feature)
        };
    }

    pub fn neon() -> bool {
        arm_feature!("neon")
    }
    pub fn dotprod() -> bool {
        const ASIMDDP: u64 = 1 << 20;
        arm_feature!("dotprod") || cfg!(target_arch = "aarch64") && hwcap([ASIMDDP, 0])
    }
    pub fn i8mm() -> bool {
        const I8MM: u64 = 1 << 13;
        arm_feature!("i8mm") || cfg!(target_arch = "aarch64") && hwcap([0, I8MM])
    }
    /// What the build targets does not count: vectors are in assembly alone.
    pub fn neon32() -> bool {
        const NEON: u64 = 1 << 12;
        cfg!(target_arch = "arm") && hwcap([NEON, 0])
    }

    /// Whether Linux told the process of these bits, in AT_HWCAP and AT_HWCAP2.
    #[cfg(all(target_os = "linux", any(target_arch = "arm", all(target_arch = "aarch64", feature = "hwcap"))))]
    fn hwcap([first, second]: [u64; 2]) -> bool {
        use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

        static KNOWN: AtomicBool = AtomicBool::new(false);
        static FOUND: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

        // Kept here: rustix reads them anew from the kernel while one of them is 0, as the second is on many cores, and
        // every convolution asks.
        if !KNOWN.load(Ordering::Acquire) {
            let (found, found_second) = rustix::param::linux_hwcap();
            FOUND[0].store(found, Ordering::Relaxed);
            FOUND[1].store(found_second, Ordering::Relaxed);
            KNOWN.store(true, Ordering::Release);
        }
        let has = |index: usize, bits: u64| FOUND[index].load(Ordering::Relaxed) as u64 & bits == bits;
        has(0, first) && has(1, second)
    }

    #[cfg(not(all(target_os = "linux", any(target_arch = "arm", all(target_arch = "aarch64", feature = "hwcap")))))]
    fn hwcap(_: [u64; 2]) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn names_are_read_back() {
        for isa in Isa::ALL {
            assert_eq!(isa.to_string().parse(), Ok(isa));
        }
        assert_eq!("AVX2".parse::<Isa>(), Err(UnknownIsa));
    }
}
