//! What ops work on and which function they compute.

use super::wire::{ArenaSpan, DataSpan, codes, record};

codes! {
    /// Where an operand lies.
    #[derive(Default)]
    Section {
        /// In the arena: computed by an earlier op.
        #[default]
        Arena = 0,
        /// In the plan's data section: a constant.
        Data = 1,
    }
}

record! {
    /// A tensor that is either computed or constant.
    #[derive(Default, Eq)]
    pub struct Operand {
        /// Which section it lies in.
        section: Section,
        /// Bytes from the start of the section.
        offset: usize,
        /// Length in bytes.
        len: usize,
    }
}

impl From<ArenaSpan> for Operand {
    fn from(span: ArenaSpan) -> Self {
        Self { section: Section::Arena, offset: span.offset, len: span.len }
    }
}

impl From<DataSpan> for Operand {
    fn from(span: DataSpan) -> Self {
        Self { section: Section::Data, offset: span.offset, len: span.len }
    }
}

codes! {
    /// A function of two f32 values.
    Binary {
        /// `a + b`
        Add = 0,
        /// `a - b`
        Sub = 1,
        /// `b - a`
        ReverseSub = 2,
        /// `a * b`
        Mul = 3,
        /// `a / b`
        Div = 4,
        /// `b / a`
        ReverseDiv = 5,
        /// The smaller one.
        Min = 6,
        /// The larger one.
        Max = 7,
    }
}

codes! {
    /// A function of one f32 value and up to two parameters.
    Unary {
        /// `x` limited to `alpha..=beta`: Relu, Relu6, Clip.
        Clamp = 0,
        /// `x >= 0 ? x : alpha * x`
        LeakyRelu = 1,
        /// `1 / (1 + exp(-x))`
        Sigmoid = 2,
        /// Hyperbolic tangent.
        Tanh = 3,
        /// `exp(x)`
        Exp = 4,
        /// Natural logarithm.
        Log = 5,
        /// Square root.
        Sqrt = 6,
        /// `|x|`
        Abs = 7,
        /// `-x`
        Neg = 8,
        /// Error function.
        Erf = 9,
        /// `clamp(alpha * x + beta, 0, 1)`
        HardSigmoid = 10,
        /// `x * clamp(alpha * x + beta, 0, 1)`, with ONNX's `alpha = 1/6`, `beta = 0.5`.
        HardSwish = 11,
        /// `x >= 0 ? x : alpha * (exp(x) - 1)`
        Elu = 12,
        /// `alpha * x + beta`
        Affine = 13,
    }
}
