//! Functions of one tensor, element by element.

use core::ops::Range;

use super::lines::{cut_runs, runs};
use super::{Lines, Operation, operands};
use crate::exec::memory::{Input, Memory, Output, cast, cast_mut};
use crate::isa::Isa;
use crate::kernels::{lut, unary};
use crate::plan::rules::{check_tensor, exact, require};
use crate::plan::wire::{codes, record};
use crate::plan::{DType, DataSpan, Fault, FieldFault, Operand, Verifier};

record! {
    /// `table[x + 128]` of every byte: any unary function of a quantized value, requantization, or
    /// u8 to i8. May work in place.
    pub struct LutS8 {
        /// i8.
        input: Operand,
        /// i8, as long as the input.
        output: Operand,
        /// i8 `[256]`.
        table: DataSpan,
    }
}

impl Operation for LutS8 {
    operands!(input => output);

    fn in_place(&self) -> bool {
        true
    }

    fn constants(&self) -> [DataSpan; 3] {
        [self.table, DataSpan::default(), DataSpan::default()]
    }

    fn lines(&self, _: Isa) -> Lines {
        runs(self.input, self.output)
    }

    fn cut(&mut self, lines: Range<usize>) {
        cut_runs([&mut self.input, &mut self.output], &lines);
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        exact("output", self.output.len, self.input.len)?;
        plan.block::<i8>("table", self.table, 256).map(|_| ())
    }

    fn run<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output) = memory.in_place(self.input, self.output)?;
        let table: &[i8] = cast(rest.data(self.table)?)?;
        lut::lut_s8(isa, cast_mut(output)?, table.try_into().ok()?);
        Some(())
    }
}

record! {
    /// `function(x)` of every element. May work in place.
    pub struct UnaryF32 {
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
}

impl Operation for UnaryF32 {
    operands!(input => output);

    fn in_place(&self) -> bool {
        true
    }

    fn dtype(&self) -> DType {
        DType::F32
    }

    fn lines(&self, _: Isa) -> Lines {
        runs(self.input, self.output)
    }

    fn cut(&mut self, lines: Range<usize>) {
        cut_runs([&mut self.input, &mut self.output], &lines);
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        check_tensor(plan, "input", self.input, &[self.input.len / 4], 4)?;
        check_tensor(plan, "output", self.output, &[self.input.len / 4], 4)?;
        let ordered = self.function != Unary::Clamp || self.alpha <= self.beta;
        require(ordered, "alpha", Fault::OutOfRange)
    }

    fn run<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (_, output) = memory.in_place(self.input, self.output)?;
        unary::unary_f32(isa, cast_mut(output)?, self.function, self.alpha, self.beta);
        Some(())
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
        /// `1 / x`
        Reciprocal = 14,
        /// The next whole number down.
        Floor = 15,
        /// The next whole number up.
        Ceil = 16,
        /// The nearest whole number, of two the even one.
        Round = 17,
        /// -1, 0 or 1.
        Sign = 18,
        /// `log(1 + exp(x))`
        Softplus = 19,
        /// `x / (1 + |x|)`
        Softsign = 20,
        /// `beta * (x >= 0 ? x : alpha * (exp(x) - 1))`
        Selu = 21,
        /// `x >= 0 ? x : alpha * (exp(x / alpha) - 1)`
        Celu = 22,
        /// `x > alpha ? x : 0`
        ThresholdedRelu = 23,
        /// `x < -alpha ? x + beta : x > alpha ? x - beta : 0`
        Shrink = 24,
        /// `x * tanh(log(1 + exp(x)))`
        Mish = 25,
        /// `x / 2 * (1 + erf(x / sqrt(2)))`
        Gelu = 26,
        /// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))`
        GeluTanh = 27,
        /// `x / (1 + exp(-alpha * x))`
        Swish = 28,
        /// Sine.
        Sin = 29,
        /// Cosine.
        Cos = 30,
        /// Tangent.
        Tan = 31,
        /// Inverse of the sine.
        Asin = 32,
        /// Inverse of the cosine.
        Acos = 33,
        /// Inverse of the tangent.
        Atan = 34,
        /// Hyperbolic sine.
        Sinh = 35,
        /// Hyperbolic cosine.
        Cosh = 36,
        /// Inverse of the hyperbolic sine.
        Asinh = 37,
        /// Inverse of the hyperbolic cosine.
        Acosh = 38,
        /// Inverse of the hyperbolic tangent.
        Atanh = 39,
        /// `x` to the power of `alpha`.
        Power = 40,
        /// `x` as an integer of 16 bits has it, of a scale of `alpha` and at least `beta`:
        /// `alpha * clamp(round(x / alpha), beta, beta + 65535)`; NaN as the least.
        Snap = 41,
    }
}
