//! Which ops there are, the code of each, and what is asked of any.

use core::ops::Range;

use super::error::{Fault, FieldFault};
#[cfg(feature = "alloc")]
use super::operand::Section;
use super::operand::{ArenaSpan, Operand};
use super::rules::{exact, product};
use super::verify::Verifier;
use super::wire::{DType, NameSpan, Wire, Words};
use crate::exec::memory::{Input, Memory, Output};
use crate::isa::Isa;
use crate::ops::*;

/// Words of an op's record, with room for fields to come.
const OP_WORDS: usize = 40;
/// Bytes of an op's record.
pub(super) const OP_BYTES: usize = 4 * OP_WORDS;
/// Words before an op's own fields: its name and its code.
const HEAD_WORDS: usize = NameSpan::WORDS + 1;

/// Declares the enum over all ops from their codes.
macro_rules! ops {
    ($($code:literal => $name:ident),* $(,)?) => {
        /// One op, decoded.
        #[derive(Clone, Copy, Debug, PartialEq)]
        #[expect(missing_docs, reason = "each is its record, and documented there")]
        pub enum Op {
            $($name($name)),*
        }

        $(impl From<$name> for Op {
            fn from(op: $name) -> Self {
                Self::$name(op)
            }
        }

        const _: () = assert!(HEAD_WORDS + $name::WORDS <= OP_WORDS);)*

        impl Op {
            /// The op's name in this crate, such as `ConvS8`.
            pub const fn kind(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => stringify!($name)),*
                }
            }

            pub(super) fn operation(&self) -> &dyn Operation {
                match self {
                    $(Self::$name(op) => op),*
                }
            }

            pub(super) fn operation_mut(&mut self) -> &mut dyn Operation {
                match self {
                    $(Self::$name(op) => op),*
                }
            }

            #[inline]
            fn run_one<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
                match self {
                    $(Self::$name(op) => op.run(isa, memory)),*
                }
            }

            /// The op of a record, and the first of its words that is no such value, if there is one: then it is any op.
            // Not to be compiled anew in each crate that runs plans: it is as large as all ops together. Each arm makes the whole
            // answer, which so is written where it is wanted and nowhere before.
            #[inline(never)]
            pub(crate) fn decode(record: &[u8; OP_BYTES]) -> (Self, Option<(usize, Fault)>) {
                let words = &mut Words::new(record);
                NameSpan::read(words);
                match u32::read(words) {
                    $($code => (Self::$name($name::read(words)), words.fault()),)*
                    _ => {
                        words.refuse(Fault::UnknownCode);
                        (Self::Fill(Fill::read(words)), words.fault())
                    }
                }
            }

            /// The field of the op that this word of it belongs to.
            fn field(&self, word: usize) -> &'static str {
                match self {
                    $(Self::$name(_) => $name::field(word)),*
                }
            }

            #[cfg(feature = "alloc")]
            fn write(&self, out: &mut impl FnMut(u32)) {
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
    1 => ConvS8,
    2 => AddS8,
    3 => MulS8,
    4 => MaxPoolS8,
    5 => AveragePoolS8,
    6 => LutS8,
    7 => SoftmaxS8,
    8 => Quantize,
    9 => Dequantize,
    10 => StridedCopy,
    11 => Fill,
    12 => Shift,
    16 => ConvF32,
    17 => BinaryF32,
    18 => UnaryF32,
    19 => MaxPoolF32,
    20 => AveragePoolF32,
    21 => SoftmaxF32,
    24 => DynamicScale,
    25 => DynamicZeroPoint,
    26 => DynamicQuantize,
    27 => ConvS32,
    28 => ScaleS32,
    29 => DynamicRange,
    30 => LessS32,
    32 => CompareF32,
    33 => LogicBool,
    34 => Select,
    35 => ReduceF32,
    36 => ExtremeF32,
    37 => TopF32,
    38 => Gather,
    39 => OneHotF32,
    40 => CumulateF32,
    41 => Convert,
    42 => BinaryInt,
    43 => CompareInt,
    48 => MatMulF32,
    49 => NormalizeF32,
    50 => RecurrentF32,
    51 => ResizeS8,
    52 => ResizeF32,
    53 => ResizeCubicF32,
    54 => MatMulS8,
}

impl Op {
    /// Runs it, on one image after the other; `None` if it names memory that is not there.
    #[inline]
    pub(crate) fn run<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let images = self.images();
        let mut one;
        for image in 0..images {
            let mut op = self;
            if images > 1 {
                one = self.some_images(image..image + 1);
                op = &one;
            }
            op.run_one(isa, memory)?;
        }
        Some(())
    }

    /// How many images it does: as many as there is room for in its output.
    #[inline(never)]
    pub(super) fn images(&self) -> usize {
        let op = self.operation();
        match op.image_bytes() {
            Some([_, result]) => op.output().len.checked_div(result).unwrap_or(1).max(1),
            None => 1,
        }
    }

    /// Holds the op against its rules: of several images the first, and all of them against its size.
    pub(super) fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        let (images, op) = (self.images(), self.operation());
        let Some([image, result]) = op.image_bytes().filter(|_| images > 1) else { return op.check(plan) };
        let [input, ..] = op.inputs();
        exact("input", input.len, product("input", &[images, image])?)?;
        exact("output", op.output().len, product("output", &[images, result])?)?;
        self.some_images(0..1).operation().check(plan)
    }

    /// The op on some of its images.
    pub(super) fn some_images(&self, images: Range<usize>) -> Op {
        let mut op = *self;
        if let Some([image, result]) = self.operation().image_bytes()
            && let Some((input, output)) = op.operation_mut().ends()
        {
            cut(input, &images, image);
            cut(output, &images, result);
        }
        op
    }

    /// What the op reads, empty operands behind it. The first may be the output itself where
    /// [`Op::in_place`] says so.
    pub fn inputs(&self) -> [Operand; MAX_INPUTS] {
        self.operation().inputs()
    }

    /// Where the result goes.
    pub fn output(&self) -> Operand {
        self.operation().output()
    }

    /// Moves every tensor that the op names, constants aside, to where `place` says it lies.
    #[cfg(feature = "alloc")]
    pub fn relocate(&mut self, place: impl Fn(Operand) -> Operand) {
        self.operation_mut().each_operand(&mut |operand| {
            if operand.section != Section::Data {
                *operand = place(*operand);
            }
        });
    }

    /// Whether the output may lie exactly where the first input does.
    pub fn in_place(&self) -> bool {
        self.operation().in_place()
    }

    /// Where the scratch lies that the op works in.
    pub fn scratch(&self) -> ArenaSpan {
        self.operation().scratch()
    }

    /// The op with as much scratch as it takes on `isa`, at `offset` in the arena.
    #[cfg(feature = "alloc")]
    #[must_use]
    pub fn with_scratch_at(mut self, isa: Isa, offset: usize) -> Self {
        let len = self.scratch_bytes(isa);
        if len > 0 {
            self.operation_mut().place_scratch(ArenaSpan { offset, len });
        }
        self
    }

    /// Bytes of scratch that the op takes on `isa`.
    pub fn scratch_bytes(&self, isa: Isa) -> usize {
        self.operation().scratch_bytes(isa)
    }

    /// Type of the output's elements; of an op that moves elements without looking, one of that size.
    pub fn dtype(&self) -> DType {
        self.operation().dtype()
    }

    /// Whether the op looks up elements by indices that are only known when it runs.
    pub fn looks_up(&self) -> bool {
        self.operation().looks_up()
    }

    /// Multiply-accumulates of a convolution, taps that fall on padding included; 0 for every other op.
    pub fn macs(&self) -> u64 {
        self.operation().macs().saturating_mul(self.images() as u64)
    }

    /// Bytes that the op reads: each tensor and each constant once.
    pub fn read_bytes(&self) -> u64 {
        let constants = self.operation().constants();
        self.operation().moved_bytes().0 + constants.iter().map(|span| span.len as u64).sum::<u64>()
    }

    /// Bytes that the op writes.
    pub fn written_bytes(&self) -> u64 {
        self.operation().moved_bytes().1
    }
}

/// An op and where its name lies in the string table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct OpRecord {
    pub(super) name: NameSpan,
    pub(super) op: Op,
}

impl OpRecord {
    /// The record, or which field of which kind of op is wrong.
    pub(super) fn decode(bytes: &[u8; OP_BYTES]) -> Result<Self, (&'static str, FieldFault)> {
        let (op, fault) = Op::decode(bytes);
        match fault {
            // Any words will do for a name.
            None => Ok(Self { name: NameSpan::read(&mut Words::new(bytes)), op }),
            Some((word, fault)) => Err(match word.checked_sub(HEAD_WORDS) {
                Some(own) => (op.kind(), FieldFault::new(op.field(own), fault)),
                None => ("", FieldFault::new("kind", fault)),
            }),
        }
    }

    /// Hands out exactly [`OP_WORDS`] words.
    #[cfg(feature = "alloc")]
    pub(super) fn encode(&self, out: &mut impl FnMut(u32)) {
        let mut written = 0;
        let mut count = |word| {
            written += 1;
            out(word);
        };
        self.name.write(&mut count);
        self.op.write(&mut count);
        (written..OP_WORDS).for_each(|_| out(0));
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use std::vec::Vec;

    use crate::exec::fixtures::network;
    use crate::isa::Isa;

    #[test]
    fn costs_follow_from_the_shapes() {
        let plan = network(Isa::Generic);
        let costs: Vec<(&str, u64, u64, u64)> =
            plan.ops().map(|(name, op)| (name, op.macs(), op.read_bytes(), op.written_bytes())).collect();
        let of = |name: &str| costs.iter().find(|cost| cost.0 == name).map(|cost| (cost.1, cost.2, cost.3)).unwrap();
        // 3 channels of 6 x 5 floats become bytes.
        assert_eq!(of("quantize"), (0, 360, 90));
        // 30 pixels, 8 channels, 3x3 taps of 3 channels; depthwise of 1.
        let (macs, read, written) = of("conv");
        assert_eq!((macs, written), (30 * 8 * 9 * 3, 240));
        // At least the image, the weights, and bias and multiplier of each channel.
        assert!(read >= 90 + 8 * 9 * 3 + 8 * 8, "{read}");
        assert_eq!(of("depthwise").0, 30 * 8 * 9);
        // Both operands.
        assert_eq!(of("add"), (0, 480, 240));
        assert_eq!(of("softmax"), (0, 4 + 4 * 256, 4));
        // Four floats into a frame of six.
        assert_eq!(of("inside"), (0, 16, 16));
    }
}
