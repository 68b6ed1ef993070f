//! The ops of a plan, one file a family: their parameters with their exact meaning, what must hold of
//! them, what they cost, and which kernel runs them.
//!
//! Images are NHWC; an op on an image does as many, one after the other, as its operands are images long. Quantized
//! values are `i8`; `real = (q - zero_point) * scale`. `round` is round half to even, `clamp` is to the op's
//! `min..=max`. Quantized ops are defined in single f32 operations, in the order written here, without fused
//! multiply-add, so that every instruction set gives the same bits.
//!
//! An op is a record ([`record!`](crate::plan::wire::record)) with an [`Operation`], and a line in the list
//! of codes, `plan/op.rs`. Nothing else knows ops apart.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod binary;
mod compare;
mod conv;
mod convert;
mod copy;
mod cumulate;
mod dynamic;
mod edges;
mod gather;
mod integers;
mod less;
mod lines;
mod matmul;
mod norm;
mod one_hot;
mod order;
mod pool;
mod recurrent;
mod reduce;
mod resize;
mod select;
mod softmax;
mod unary;

pub use binary::{AddS8, Binary, BinaryF32, MulS8};
pub use compare::{CompareF32, Comparison, Logic, LogicBool};
pub use conv::{ConvF32, ConvS8};
pub use convert::Convert;
pub use copy::{COPY_DIMS, Fill, Shift, StridedCopy};
pub use cumulate::CumulateF32;
pub use dynamic::{ConvS32, DynamicQuantize, DynamicRange, DynamicScale, DynamicZeroPoint, ScaleS32};
pub use edges::{Dequantize, Quantize};
pub use gather::Gather;
pub use integers::{BinaryInt, CompareInt, Whole};
pub use less::LessS32;
pub(crate) use lines::{Lines, cut};
pub use matmul::{MatMulF32, MatMulS8};
pub use norm::NormalizeF32;
pub use one_hot::OneHotF32;
pub use order::{ExtremeF32, TopF32};
pub use pool::{AveragePoolF32, AveragePoolS8, MaxPoolF32, MaxPoolS8};
pub use recurrent::{Activation, Cell, RecurrentF32};
pub use reduce::{ReduceF32, Reduction};
pub use resize::{ResizeCubicF32, ResizeF32, ResizeS8};
pub use select::Select;
pub use softmax::{SoftmaxF32, SoftmaxS8};
pub use unary::{LutS8, Unary, UnaryF32};

use core::ops::Range;

use crate::exec::memory::{Input, Memory, Output};
use crate::isa::Isa;
use crate::plan::{ArenaSpan, DType, DataSpan, FieldFault, Operand, Verifier};

/// The most tensors that an op reads.
pub const MAX_INPUTS: usize = 4;

/// What an op states of itself.
pub(crate) trait Operation {
    /// What is read, empty operands behind it. [`operands!`] writes this and what follows, to
    /// [`Operation::each_operand`].
    fn inputs(&self) -> [Operand; MAX_INPUTS];

    /// Names of the fields that are read, in that order.
    fn input_names(&self) -> &'static [&'static str];

    /// Where the result goes.
    fn output(&self) -> Operand;

    /// The first of what is read, if there is any, and where the result goes.
    fn ends(&mut self) -> Option<(&mut Operand, &mut Operand)> {
        None
    }

    /// Every tensor that is named, constants among them.
    #[cfg(feature = "alloc")]
    fn each_operand(&mut self, visit: &mut dyn FnMut(&mut Operand));

    /// Whether the output may lie exactly where the first input does.
    fn in_place(&self) -> bool {
        false
    }

    /// Type of the output's elements; of ops that move elements without looking, one of that size.
    fn dtype(&self) -> DType {
        DType::I8
    }

    /// Weights, biases, multipliers and tables, beyond what [`Operation::inputs`] names.
    fn constants(&self) -> [DataSpan; 3] {
        [DataSpan::default(); 3]
    }

    /// Bytes of an image of the first input and of the output, of an op that does as many as there are, one after the
    /// other. All else is said of one image.
    fn image_bytes(&self) -> Option<[usize; 2]> {
        None
    }

    /// Multiply-accumulates, taps that fall on padding included.
    fn macs(&self) -> u64 {
        0
    }

    /// Bytes that are read of [`Operation::inputs`], and bytes that are written.
    fn moved_bytes(&self) -> (u64, u64) {
        (self.inputs().iter().map(|input| input.len as u64).sum(), self.output().len as u64)
    }

    /// About how long it takes, in multiply-accumulates of a dense convolution, of which four take as long as a byte
    /// that is read or written.
    fn work(&self) -> u64 {
        let (read, written) = self.moved_bytes();
        self.macs().max(4 * (read + written))
    }

    /// Along what it can be cut; whole where that is not said.
    fn lines(&self, _: Isa) -> Lines {
        Lines::WHOLE
    }

    /// Leaves the op that writes these lines of the output and nothing else.
    fn cut(&mut self, _: Range<usize>) {}

    /// Where the scratch lies that the kernel works in.
    fn scratch(&self) -> ArenaSpan {
        ArenaSpan::default()
    }

    /// Says where the scratch is to lie, of an op that takes some.
    #[cfg(feature = "alloc")]
    fn place_scratch(&mut self, _: ArenaSpan) {}

    /// Bytes of scratch that the kernel takes on `isa`.
    fn scratch_bytes(&self, _: Isa) -> usize {
        0
    }

    /// Whether it looks up elements by indices that are only known when it runs.
    fn looks_up(&self) -> bool {
        false
    }

    /// What must hold beyond what all ops share: that operands lie within their sections, are apart and were
    /// written.
    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault>;

    /// Runs it; `None` if it names memory that is not there, be it by an index that it looks up.
    fn run<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()>
    where
        Self: Sized;
}

/// Says which fields of a record an op reads, and where it writes: `operands!(a, b => output);`, and of one with a field
/// for scratch `operands!(a, b => output, scratch);`.
macro_rules! operands {
    ($($input:ident),* => $output:ident, $scratch:ident) => {
        $crate::ops::operands!($($input),* => $output);

        fn scratch(&self) -> $crate::plan::ArenaSpan {
            self.$scratch
        }

        #[cfg(feature = "alloc")]
        fn place_scratch(&mut self, at: $crate::plan::ArenaSpan) {
            self.$scratch = at;
        }
    };
    ($($input:ident),* => $output:ident) => {
        fn inputs(&self) -> [$crate::plan::Operand; $crate::ops::MAX_INPUTS] {
            let named = [$(self.$input),*];
            core::array::from_fn(|index| named.get(index).copied().unwrap_or_default())
        }

        fn input_names(&self) -> &'static [&'static str] {
            &[$(stringify!($input)),*]
        }

        fn output(&self) -> $crate::plan::Operand {
            self.$output
        }

        fn ends(&mut self) -> Option<(&mut $crate::plan::Operand, &mut $crate::plan::Operand)> {
            let first: Option<&mut $crate::plan::Operand> = [$(&mut self.$input),*].into_iter().next();
            Some((first?, &mut self.$output))
        }

        #[cfg(feature = "alloc")]
        fn each_operand(&mut self, visit: &mut dyn FnMut(&mut $crate::plan::Operand)) {
            $(visit(&mut self.$input);)*
            visit(&mut self.$output);
        }
    };
}

use operands;

/// Bytes of an image and of what becomes of it, of so many elements, each of so many bytes.
fn bytes_of(lens: [usize; 2], element_bytes: [usize; 2]) -> [usize; 2] {
    let [[from, to], [from_bytes, to_bytes]] = [lens, element_bytes];
    [from.saturating_mul(from_bytes), to.saturating_mul(to_bytes)]
}

/// The type that stands for all of its size where elements are moved and not looked at.
fn of_size(element_bytes: usize) -> DType {
    match element_bytes {
        8 => DType::I64,
        4 => DType::F32,
        _ => DType::I8,
    }
}
