//! One source, compiled once for each instruction set.
//!
//! The light kernels are plain loops that the compiler turns into vector code. Since the language
//! neither reorders nor fuses floating-point operations, every compilation gives the same bits.

/// Declares a kernel whose first argument picks the instruction set to run it with.
///
/// An instruction set that this CPU lacks runs the plain compilation. `#![avx512]` in front has them compiled for AVX-512 as
/// well: what computes much for each value gains by it, while the rest waits for memory.
macro_rules! per_isa {
    (#![avx512] $($kernels:tt)*) => { $crate::kernels::per_isa::per_isa! { @ [avx512] $($kernels)* } };
    (@ $wide:tt $($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block)*) => {$(
        $(#[$meta])*
        $vis fn $name(isa: $crate::isa::Isa, $($arg: $type),*) {
            #[inline(always)]
            fn plain($($arg: $type),*) $body

            $crate::kernels::per_isa::avx512! { $wide isa, plain($($arg: $type),*) }
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $type),*) {
                    plain($($arg),*);
                }

                if isa != $crate::isa::Isa::Generic && isa.is_available() {
                    // SAFETY: every other instruction set of x86-64 includes AVX2, and this CPU
                    // has it.
                    return unsafe { avx2($($arg),*) };
                }
            }
            let _ = isa;
            plain($($arg),*);
        }
    )*};
    ($($kernels:tt)*) => { $crate::kernels::per_isa::per_isa! { @ [] $($kernels)* } };
}

/// Runs the compilation for AVX-512, where there is one and the CPU has it.
macro_rules! avx512 {
    ([] $($kernel:tt)*) => {};
    ([avx512] $isa:ident, $plain:ident($($arg:ident: $type:ty),*)) => {
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
            fn avx512($($arg: $type),*) {
                $plain($($arg),*);
            }

            if $isa == $crate::isa::Isa::Avx512Vnni && $isa.is_available() {
                // SAFETY: this instruction set includes these three, and this CPU has it.
                return unsafe { avx512($($arg),*) };
            }
        }
    };
}

pub(super) use {avx512, per_isa};
