//! One source, compiled once for each instruction set.
//!
//! The light kernels are plain loops that the compiler turns into vector code. Since the language
//! neither reorders nor fuses floating-point operations, every compilation gives the same bits.

/// Declares a kernel whose first argument picks the instruction set to run it with.
///
/// An instruction set that this CPU lacks runs the plain compilation.
macro_rules! per_isa {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block)*) => {$(
        $(#[$meta])*
        $vis fn $name(isa: $crate::isa::Isa, $($arg: $type),*) {
            #[inline(always)]
            fn plain($($arg: $type),*) $body

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
}

pub(super) use per_isa;
