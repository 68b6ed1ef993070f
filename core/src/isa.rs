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
    /// aarch64 with NEON, which all of them have: i8 products summed in pairs.
    Neon,
    /// aarch64 with the dot product instructions of Armv8.2: i8 x i8 in quads.
    NeonDotprod,
}

impl Isa {
    /// Every instruction set, the plainest first.
    pub const ALL: [Isa; 6] = [Isa::Generic, Isa::Avx2, Isa::AvxVnni, Isa::Avx512Vnni, Isa::Neon, Isa::NeonDotprod];

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
    /// `hwcap` what Linux tells of an aarch64.
    pub fn is_available(self) -> bool {
        match self {
            Isa::Generic => true,
            Isa::Avx2 => x86::avx2(),
            Isa::AvxVnni => x86::avx2() && x86::avxvnni(),
            Isa::Avx512Vnni => x86::avx2() && x86::avx512vnni(),
            Isa::Neon => arm::neon(),
            Isa::NeonDotprod => arm::neon() && arm::dotprod(),
        }
    }

    /// The name that [`FromStr`] reads and plans record.
    pub const fn name(self) -> &'static str {
        match self {
            Isa::Generic => "generic",
            Isa::Avx2 => "avx2",
            Isa::AvxVnni => "avxvnni",
            Isa::Avx512Vnni => "avx512vnni",
            Isa::Neon => "neon",
            Isa::NeonDotprod => "neondotprod",
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

    pub fn avx2() -> bool {
        x86_feature!("avx2" && "fma")
    }
    pub fn avxvnni() -> bool {
        x86_feature!("avxvnni")
    }
    pub fn avx512vnni() -> bool {
        x86_feature!("avx512f" && "avx512bw" && "avx512vl" && "avx512vnni")
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
    /// As the kernel told the process, where std is not there to read it.
    #[cfg(all(feature = "hwcap", not(feature = "std"), target_arch = "aarch64", target_os = "linux"))]
    pub fn dotprod() -> bool {
        const HWCAP_ASIMDDP: usize = 1 << 20;
        rustix::param::linux_hwcap().0 & HWCAP_ASIMDDP != 0
    }

    #[cfg(not(all(feature = "hwcap", not(feature = "std"), target_arch = "aarch64", target_os = "linux")))]
    pub fn dotprod() -> bool {
        arm_feature!("dotprod")
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
