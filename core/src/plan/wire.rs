//! The wire form of everything in a plan: little-endian 32-bit words.
//!
//! A field is read and written by one [`Wire`] implementation, and a record lists its fields once,
//! in [`record!`], so that encoding and decoding cannot drift apart.
//!
//! A record is decoded each time its op runs, and hardly ever wrong. So reading never stops: it remembers the first word that
//! is no such value, and goes on with any other. Which field that word belongs to is asked afterwards, if at all.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::shape::{Along, ConvShape, Requantize, Resized, Window};

use super::error::{Fault, FieldFault};

/// A value that occupies a fixed number of words in a plan.
pub trait Wire: Sized {
    /// Words on the wire.
    const WORDS: usize;

    /// Takes the value from the front of `words`, which are told if it is none.
    fn read(words: &mut Words<'_>) -> Self;

    /// Hands the value's words to `out`, in order.
    #[cfg_attr(not(feature = "alloc"), allow(dead_code))]
    fn write(&self, out: &mut impl FnMut(u32));

    /// The innermost field that this word of the value belongs to; empty where the value has no fields.
    fn field(_word: usize) -> &'static str {
        ""
    }
}

/// The value at the beginning of `bytes`.
pub fn decode<T: Wire>(bytes: &[u8]) -> Result<T, FieldFault> {
    let mut words = Words::new(bytes);
    let value = T::read(&mut words);
    match words.fault() {
        None => Ok(value),
        Some((word, fault)) => Err(FieldFault { field: T::field(word), fault }),
    }
}

/// A cursor over little-endian words.
pub struct Words<'a> {
    words: &'a [[u8; 4]],
    /// How many have been read.
    read: usize,
    /// The first word that was no such value, and what is wrong with it.
    fault: Option<(usize, Fault)>,
}

impl<'a> Words<'a> {
    /// Starts at the first of `bytes`.
    #[inline(always)]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { words: bytes.as_chunks().0, read: 0, fault: None }
    }

    #[inline(always)]
    fn next(&mut self) -> u32 {
        let word = self.words.get(self.read);
        self.read += 1;
        match word {
            Some(word) => u32::from_le_bytes(*word),
            None => {
                self.refuse(Fault::Truncated);
                0
            }
        }
    }

    /// What is wrong with the word that was read last.
    #[inline(always)]
    pub fn refuse(&mut self, fault: Fault) {
        if self.fault.is_none() {
            self.fault = Some((self.read - 1, fault));
        }
    }

    /// The first word that was no such value, and what is wrong with it.
    #[inline(always)]
    pub fn fault(&self) -> Option<(usize, Fault)> {
        self.fault
    }
}

impl Wire for u32 {
    const WORDS: usize = 1;

    #[inline(always)]
    fn read(words: &mut Words<'_>) -> Self {
        words.next()
    }

    fn write(&self, out: &mut impl FnMut(u32)) {
        out(*self);
    }
}

/// Sizes are 32 bits on the wire, whatever the target.
impl Wire for usize {
    const WORDS: usize = 1;

    #[inline(always)]
    fn read(words: &mut Words<'_>) -> Self {
        const { assert!(usize::BITS >= u32::BITS) };
        words.next() as usize
    }

    /// A size above `u32::MAX` is written as `u32::MAX`, which no verified plan contains.
    fn write(&self, out: &mut impl FnMut(u32)) {
        out(u32::try_from(*self).unwrap_or(u32::MAX));
    }
}

impl Wire for u64 {
    const WORDS: usize = 2;

    #[inline(always)]
    fn read(words: &mut Words<'_>) -> Self {
        let low = words.next();
        u64::from(words.next()) << 32 | u64::from(low)
    }

    fn write(&self, out: &mut impl FnMut(u32)) {
        out(*self as u32);
        out((*self >> 32) as u32);
    }
}

/// Sign-extended to a word.
impl Wire for i8 {
    const WORDS: usize = 1;

    #[inline(always)]
    fn read(words: &mut Words<'_>) -> Self {
        let word = words.next().cast_signed();
        if i32::from(word as i8) != word {
            words.refuse(Fault::OutOfRange);
        }
        word as i8
    }

    fn write(&self, out: &mut impl FnMut(u32)) {
        out(i32::from(*self).cast_unsigned());
    }
}

impl Wire for bool {
    const WORDS: usize = 1;

    #[inline(always)]
    fn read(words: &mut Words<'_>) -> Self {
        let word = words.next();
        if word > 1 {
            words.refuse(Fault::UnknownCode);
        }
        word == 1
    }

    fn write(&self, out: &mut impl FnMut(u32)) {
        out(u32::from(*self));
    }
}

/// Its bits. A NaN is refused; an infinity is a legal clamp bound, and fields that must be finite
/// are checked by the verifier.
impl Wire for f32 {
    const WORDS: usize = 1;

    #[inline(always)]
    fn read(words: &mut Words<'_>) -> Self {
        let value = f32::from_bits(words.next());
        if value.is_nan() {
            words.refuse(Fault::NotFinite);
        }
        value
    }

    fn write(&self, out: &mut impl FnMut(u32)) {
        out(self.to_bits());
    }
}

impl<T: Wire + Copy + Default, const N: usize> Wire for [T; N] {
    const WORDS: usize = N * T::WORDS;

    #[inline(always)]
    fn read(words: &mut Words<'_>) -> Self {
        let mut values = [T::default(); N];
        for value in &mut values {
            *value = T::read(words);
        }
        values
    }

    fn field(word: usize) -> &'static str {
        T::field(word % T::WORDS)
    }

    fn write(&self, out: &mut impl FnMut(u32)) {
        self.iter().for_each(|value| value.write(out));
    }
}

/// Implements [`Wire`] for a struct from the list of its fields.
macro_rules! wire {
    ($name:ident { $($field:ident: $type:ty),* $(,)? }) => {
        impl $crate::plan::wire::Wire for $name {
            const WORDS: usize = 0 $(+ <$type as $crate::plan::wire::Wire>::WORDS)*;

            #[inline(always)]
            fn read(words: &mut $crate::plan::wire::Words<'_>) -> Self {
                Self { $($field: <$type as $crate::plan::wire::Wire>::read(words)),* }
            }

            fn field(word: usize) -> &'static str {
                let mut first = 0;
                $(
                    let words = <$type as $crate::plan::wire::Wire>::WORDS;
                    if (first..first + words).contains(&word) {
                        let inner = <$type as $crate::plan::wire::Wire>::field(word - first);
                        return if inner.is_empty() { stringify!($field) } else { inner };
                    }
                    first += words;
                )*
                let _ = first;
                ""
            }

            fn write(&self, out: &mut impl FnMut(u32)) {
                $(self.$field.write(out);)*
            }
        }
    };
}

/// Declares a struct together with its [`Wire`] form: the fields in the order they are written.
macro_rules! record {
    ($(#[$meta:meta])* $vis:vis struct $name:ident {
        $($(#[$field_meta:meta])* $field:ident: $type:ty),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        $vis struct $name {
            $($(#[$field_meta])* pub $field: $type),*
        }
        $crate::plan::wire::wire!($name { $($field: $type),* });
    };
}

/// Declares a field-less enum and its [`Wire`] form: one word, the code of the variant.
macro_rules! codes {
    ($(#[$meta:meta])* $name:ident {
        $($(#[$variant_meta:meta])* $variant:ident = $code:literal),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_meta])* $variant = $code),*
        }

        impl $crate::plan::wire::Wire for $name {
            const WORDS: usize = 1;

            #[inline(always)]
            fn read(words: &mut $crate::plan::wire::Words<'_>) -> Self {
                match <u32 as $crate::plan::wire::Wire>::read(words) {
                    $($code => Self::$variant,)*
                    _ => {
                        words.refuse($crate::plan::error::Fault::UnknownCode);
                        [$(Self::$variant),*][0]
                    }
                }
            }

            fn write(&self, out: &mut impl FnMut(u32)) {
                out(*self as u32);
            }
        }
    };
}

pub(crate) use {codes, record, wire};

wire!(Window {
    in_h: usize,
    in_w: usize,
    in_c: usize,
    out_h: usize,
    out_w: usize,
    kernel_h: usize,
    kernel_w: usize,
    stride_h: usize,
    stride_w: usize,
    dilation_h: usize,
    dilation_w: usize,
    pad_top: usize,
    pad_left: usize,
});
wire!(ConvShape { window: Window, out_c: usize, groups: usize });
wire!(Resized { in_h: usize, in_w: usize, out_h: usize, out_w: usize, channels: usize });
wire!(Along { outer: usize, len: usize, inner: usize });
wire!(Requantize { zero_point: i8, min: i8, max: i8 });

record! {
    /// Bytes of the plan's data section: weights, biases, multipliers, tables.
    #[derive(Default, Eq)]
    pub struct DataSpan {
        /// Bytes from the start of the data section.
        offset: usize,
        /// Length in bytes.
        len: usize,
    }
}

record! {
    /// Bytes of the plan's string table: a name in UTF-8.
    #[derive(Default, Eq)]
    pub struct NameSpan {
        /// Bytes from the start of the string table.
        offset: usize,
        /// Length in bytes.
        len: usize,
    }
}

codes! {
    /// The element type of a tensor. Layers are in `F32` and `I8`, some of their sums in `I32`; in the others is what is
    /// compared, chosen and looked up, and the arithmetic for that.
    DType {
        /// 32-bit float.
        F32 = 1,
        /// Signed byte.
        I8 = 2,
        /// Unsigned byte; the op that reads or writes it turns it from or into a signed one.
        U8 = 3,
        /// One byte: 0 is false, anything else true; ops write 1.
        Bool = 4,
        /// 32-bit signed integer.
        I32 = 5,
        /// 64-bit signed integer.
        I64 = 6,
    }
}

impl DType {
    /// Its name, as numpy has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::I8 => "int8",
            Self::U8 => "uint8",
            Self::Bool => "bool",
            Self::I32 => "int32",
            Self::I64 => "int64",
        }
    }

    /// Bytes of one element.
    pub const fn size_bytes(self) -> usize {
        match self {
            Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let window = Window {
            in_h: 1,
            in_w: 2,
            in_c: 3,
            out_h: 4,
            out_w: 5,
            kernel_h: 6,
            kernel_w: 7,
            stride_h: 8,
            stride_w: 9,
            dilation_h: 10,
            dilation_w: 11,
            pad_top: 12,
            pad_left: 13,
        };
        let mut bytes = Vec::new();
        let mut out = |word: u32| bytes.extend(word.to_le_bytes());
        window.write(&mut out);
        (-128i8).write(&mut out);
        f32::NEG_INFINITY.write(&mut out);
        0x0123_4567_89ab_cdefu64.write(&mut out);
        assert_eq!(bytes.len(), 4 * (Window::WORDS + 1 + 1 + 2));

        let words = &mut Words::new(&bytes);
        assert_eq!(Window::read(words), window);
        assert_eq!(i8::read(words), -128);
        assert_eq!(f32::read(words), f32::NEG_INFINITY);
        assert_eq!(u64::read(words), 0x0123_4567_89ab_cdef);
        assert_eq!(words.fault(), None);
        u32::read(words);
        assert_eq!(words.fault(), Some((Window::WORDS + 4, Fault::Truncated)));
    }

    #[test]
    fn the_first_fault_is_the_one_that_is_told() {
        let fields = [128u32, 200, 300].map(u32::to_le_bytes);
        let fault = decode::<Requantize>(fields.as_flattened()).unwrap_err();
        assert_eq!(fault, FieldFault { field: "zero_point", fault: Fault::OutOfRange });
    }

    #[test]
    fn a_fault_names_the_innermost_field() {
        let fault = decode::<ConvShape>(&[0; 20]).unwrap_err();
        assert_eq!(fault, FieldFault { field: "kernel_h", fault: Fault::Truncated });
    }
}
