//! The ops of a plan: their parameters and their exact meaning.
//!
//! Images are NHWC without the batch. Quantized values are `i8`; `real = (q - zero_point) * scale`.
//! `round` is round half to even, `clamp` is to the op's `min..=max`. Quantized ops are defined in
//! single f32 operations, in the order written here, without fused multiply-add, so that every
//! instruction set gives the same bits.

use crate::shape::{ConvShape, Requantize, Window};

use super::error::{Fault, FieldFault};
use super::operand::{ArenaSpan, Binary, Operand, Unary};
use super::wire::{DataSpan, NameSpan, Wire, Words, record};

/// Words of an op's record, with room for fields to come.
pub(super) const OP_WORDS: usize = 40;
/// Bytes of an op's record.
pub(super) const OP_BYTES: usize = 4 * OP_WORDS;

/// Dimensions of a strided copy.
pub const COPY_DIMS: usize = 6;

/// Declares the records of all ops and the enum over them.
macro_rules! ops {
    ($($(#[$meta:meta])* $code:literal => $name:ident {
        $($(#[$field_meta:meta])* $field:ident: $type:ty),* $(,)?
    })*) => {
        $(record! { $(#[$meta])* pub struct $name { $($(#[$field_meta])* $field: $type),* } }

        impl From<$name> for Op {
            fn from(op: $name) -> Self {
                Self::$name(op)
            }
        }

        const _: () = assert!(HEAD_WORDS + $name::WORDS <= OP_WORDS);)*

        /// One op, decoded.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum Op {
            $($(#[$meta])* $name($name)),*
        }

        impl Op {
            /// The op's name in this crate, such as `ConvS8`.
            pub const fn kind(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => stringify!($name)),*
                }
            }

            /// Where the result goes.
            pub const fn output(&self) -> Operand {
                match self {
                    $(Self::$name(op) => op.output),*
                }
            }

            #[inline]
            pub(super) fn read(code: u32, words: &mut Words<'_>) -> Result<Self, (&'static str, FieldFault)> {
                match code {
                    $($code => $name::read(words)
                        .map(Self::$name)
                        .map_err(|fault| (stringify!($name), fault)),)*
                    _ => Err(("", FieldFault::new("kind", Fault::UnknownCode))),
                }
            }

            #[cfg(feature = "alloc")]
            pub(super) fn write(&self, out: &mut impl FnMut(u32)) {
                match self {
                    $(Self::$name(op) => {
                        out($code);
                        op.write(out);
                    })*
                }
            }
        }
    };
}

ops! {
    /// Convolution and, as a 1x1 window over a 1x1 image, the fully connected layer:
    /// `acc = bias[c] + sum x * w` in wrapping i32, then [`Requantize`] with `multipliers[c]`.
    /// Padding reads `input_zero_point`.
    1 => ConvS8 {
        /// i8 `[in_h, in_w, in_c]`.
        input: Operand,
        /// i8 `[out_h, out_w, out_c]`.
        output: Operand,
        /// Window, output channels, groups.
        shape: ConvShape,
        /// Zero point of the input.
        input_zero_point: i8,
        /// From the accumulator to the output.
        requantize: Requantize,
        /// Packed by [`ConvKernel::pack`](crate::kernels::ConvKernel::pack) for the plan's ISA.
        weights: DataSpan,
        /// i32 `[out_c]`, the zero point folded in: `bias[c] - input_zero_point * sum w[c]`.
        bias: DataSpan,
        /// f32 `[out_c]`: `input_scale * weight_scale[c] / output_scale`.
        multipliers: DataSpan,
        /// What the kernel works in; [`Op::with_scratch_at`] places it.
        scratch: ArenaSpan,
    }

    /// `clamp(round((a - a_zero_point) * a_multiplier + (b - b_zero_point) * b_multiplier) + zero_point)`.
    /// `b` is repeated along `a`. May work in place on `a`.
    2 => AddS8 {
        /// i8, as long as the output.
        a: Operand,
        /// i8, of a length that divides that of `a`.
        b: Operand,
        /// i8.
        output: Operand,
        /// `a_scale / output_scale`.
        a_multiplier: f32,
        /// `b_scale / output_scale`; negative to subtract.
        b_multiplier: f32,
        /// Zero point of `a`.
        a_zero_point: i8,
        /// Zero point of `b`.
        b_zero_point: i8,
        /// Zero point and range of the output.
        requantize: Requantize,
    }

    /// `clamp(round(((a - a_zero_point) * (b - b_zero_point)) * multiplier) + zero_point)`, the
    /// first product in i32. `b` is repeated along `a`. May work in place on `a`.
    3 => MulS8 {
        /// i8, as long as the output.
        a: Operand,
        /// i8, of a length that divides that of `a`.
        b: Operand,
        /// i8.
        output: Operand,
        /// `a_scale * b_scale / output_scale`.
        multiplier: f32,
        /// Zero point of `a`.
        a_zero_point: i8,
        /// Zero point of `b`.
        b_zero_point: i8,
        /// Zero point and range of the output.
        requantize: Requantize,
    }

    /// Maximum over the window; padding does not take part, and a window that holds nothing but
    /// padding gives -128. Input and output have the same quantization.
    4 => MaxPoolS8 {
        /// i8 `[in_h, in_w, in_c]`.
        input: Operand,
        /// i8 `[out_h, out_w, in_c]`.
        output: Operand,
        /// The window.
        window: Window,
    }

    /// `clamp(round((sum (x - input_zero_point)) * (multiplier / count)) + zero_point)`, the sum
    /// in wrapping i32. A window over the whole image is the global average pool.
    5 => AveragePoolS8 {
        /// i8 `[in_h, in_w, in_c]`.
        input: Operand,
        /// i8 `[out_h, out_w, in_c]`.
        output: Operand,
        /// The window; not dilated.
        window: Window,
        /// Whether `count` is the size of the window, or of its part inside the image.
        count_include_pad: bool,
        /// `input_scale / output_scale`.
        multiplier: f32,
        /// Zero point of the input.
        input_zero_point: i8,
        /// Zero point and range of the output.
        requantize: Requantize,
    }

    /// `table[x + 128]` of every byte: any unary function of a quantized value, requantization, or
    /// u8 to i8. May work in place.
    6 => LutS8 {
        /// i8.
        input: Operand,
        /// i8, as long as the input.
        output: Operand,
        /// i8 `[256]`.
        table: DataSpan,
    }

    /// Softmax over rows: `e[i] = exp_table[row_max - x[i]]`, `s = sum e` in eight lanes
    /// (`lane = i % 8`, then `((0+4)+(2+6))+((1+5)+(3+7))`), and
    /// `clamp(round((e[i] / s) / output_scale) + zero_point)`. May work in place.
    7 => SoftmaxS8 {
        /// i8 `[rows, cols]`.
        input: Operand,
        /// i8 `[rows, cols]`.
        output: Operand,
        /// Independent rows.
        rows: usize,
        /// Values in a row.
        cols: usize,
        /// f32 `[256]`: `exp(-d * input_scale)` at `d`.
        exp_table: DataSpan,
        /// Scale of the output.
        output_scale: f32,
        /// Zero point and range of the output.
        requantize: Requantize,
    }

    /// `clamp(round(x / scale) + zero_point)` to -128..=127, with `[channels, pixels]` of the
    /// input transposed to `[pixels, channels]`; with one channel nothing is transposed. NaN
    /// becomes -128.
    8 => Quantize {
        /// f32 `[channels, pixels]`.
        input: Operand,
        /// i8 `[pixels, channels]`.
        output: Operand,
        /// Channels.
        channels: usize,
        /// Height times width.
        pixels: usize,
        /// Scale of the output.
        scale: f32,
        /// Zero point of the output.
        zero_point: i8,
    }

    /// `(x - zero_point) * scale`, with `[pixels, channels]` of the input transposed to
    /// `[channels, pixels]`; with one channel nothing is transposed.
    9 => Dequantize {
        /// i8 `[pixels, channels]`.
        input: Operand,
        /// f32 `[channels, pixels]`.
        output: Operand,
        /// Channels.
        channels: usize,
        /// Height times width.
        pixels: usize,
        /// Scale of the input.
        scale: f32,
        /// Zero point of the input.
        zero_point: i8,
    }

    /// Copies `dims` elements from one strided view to another: transpose, slice, one part of a
    /// concat, the inside of a pad, nearest resize and expand (input stride 0).
    10 => StridedCopy {
        /// The whole tensor that is read from.
        input: Operand,
        /// The whole tensor that is written to.
        output: Operand,
        /// Bytes of an element: 1 or 4.
        element_bytes: usize,
        /// Elements along each dimension, outermost first; 1 where unused.
        dims: [usize; COPY_DIMS],
        /// First element read.
        input_start: usize,
        /// Elements from one to the next along each dimension of the input.
        input_strides: [usize; COPY_DIMS],
        /// First element written.
        output_start: usize,
        /// Elements from one to the next along each dimension of the output.
        output_strides: [usize; COPY_DIMS],
    }

    /// Sets every element: the border of a pad.
    11 => Fill {
        /// i8 or f32.
        output: Operand,
        /// Bytes of an element: 1 or 4.
        element_bytes: usize,
        /// The element's bits, in the low bytes.
        bits: u32,
    }

    /// Convolution in f32, then `clamp`. Sums are in an order that differs between instruction sets.
    16 => ConvF32 {
        /// f32 `[in_h, in_w, in_c]`.
        input: Operand,
        /// f32 `[out_h, out_w, out_c]`.
        output: Operand,
        /// Window, output channels, groups.
        shape: ConvShape,
        /// f32 `[kernel_h, kernel_w, in_c / groups, out_c]`.
        weights: DataSpan,
        /// f32 `[out_c]`.
        bias: DataSpan,
        /// Lower bound of the output; may be infinite.
        min: f32,
        /// Upper bound of the output; may be infinite.
        max: f32,
        /// What the kernel works in; [`Op::with_scratch_at`] places it.
        scratch: ArenaSpan,
    }

    /// `function(a, b)`, `b` repeated along `a`. May work in place on `a`.
    17 => BinaryF32 {
        /// f32, as long as the output.
        a: Operand,
        /// f32, of a length that divides that of `a`.
        b: Operand,
        /// f32.
        output: Operand,
        /// What is computed.
        function: Binary,
        /// Lower bound of the output; may be infinite.
        min: f32,
        /// Upper bound of the output; may be infinite.
        max: f32,
    }

    /// `function(x)` of every element. May work in place.
    18 => UnaryF32 {
        /// f32.
        input: Operand,
        /// f32, as long as the input.
        output: Operand,
        /// What is computed.
        function: Unary,
        /// First parameter, 0 where the function has none.
        alpha: f32,
        /// Second parameter, 0 where the function has none.
        beta: f32,
    }

    /// Maximum over the window; a window that holds nothing but padding gives negative infinity.
    19 => MaxPoolF32 {
        /// f32 `[in_h, in_w, in_c]`.
        input: Operand,
        /// f32 `[out_h, out_w, in_c]`.
        output: Operand,
        /// The window.
        window: Window,
    }

    /// `(sum x) / count`.
    20 => AveragePoolF32 {
        /// f32 `[in_h, in_w, in_c]`.
        input: Operand,
        /// f32 `[out_h, out_w, in_c]`.
        output: Operand,
        /// The window; not dilated.
        window: Window,
        /// Whether `count` is the size of the window, or of its part inside the image.
        count_include_pad: bool,
    }

    /// Softmax over rows. May work in place.
    21 => SoftmaxF32 {
        /// f32 `[rows, cols]`.
        input: Operand,
        /// f32 `[rows, cols]`.
        output: Operand,
        /// Independent rows.
        rows: usize,
        /// Values in a row.
        cols: usize,
    }
}

/// Words before an op's own fields: its name and its code.
const HEAD_WORDS: usize = NameSpan::WORDS + 1;
