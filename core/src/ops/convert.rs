//! From one type of elements to another.

use super::{Operation, operands};
use crate::exec::memory::{Input, Memory, Output, cast, cast_mut};
use crate::isa::Isa;
use crate::plan::rules::{check_tensor, require};
use crate::plan::wire::record;
use crate::plan::{DType, Fault, FieldFault, Operand, Verifier};

record! {
    /// The same number in another type: towards 0 from f32 to an integer, to the nearest end where it does not
    /// fit, and 0 for NaN. True is 1, and all but 0 is true.
    pub struct Convert {
        /// f32, bool, i32 or i64.
        input: Operand,
        /// One of the others, as many as the input has.
        output: Operand,
        /// Type of the input.
        from: DType,
        /// Type of the output.
        to: DType,
    }
}

impl Operation for Convert {
    operands!(input => output);

    fn dtype(&self) -> DType {
        self.to
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        let known = |dtype| matches!(dtype, DType::F32 | DType::Bool | DType::I32 | DType::I64);
        require(known(self.from), "from", Fault::Unsupported)?;
        require(known(self.to) && self.to != self.from, "to", Fault::Unsupported)?;
        let count = self.input.len / self.from.size_bytes();
        check_tensor(plan, "input", self.input, &[count], self.from.size_bytes())?;
        check_tensor(plan, "output", self.output, &[count], self.to.size_bytes())
    }

    fn run<I: Input, O: Output>(&self, _: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output) = memory.split(self.output)?;
        let input = rest.operand(self.input)?;
        match (self.from, self.to) {
            (DType::F32, DType::Bool) => each::<f32, u8>(input, output, |x| u8::from(x != 0.0)),
            (DType::F32, DType::I32) => each::<f32, i32>(input, output, |x| x as i32),
            (DType::F32, DType::I64) => each::<f32, i64>(input, output, |x| x as i64),
            (DType::I32, DType::Bool) => each::<i32, u8>(input, output, |x| u8::from(x != 0)),
            (DType::I32, DType::F32) => each::<i32, f32>(input, output, |x| x as f32),
            (DType::I32, DType::I64) => each::<i32, i64>(input, output, i64::from),
            (DType::I64, DType::Bool) => each::<i64, u8>(input, output, |x| u8::from(x != 0)),
            (DType::I64, DType::F32) => each::<i64, f32>(input, output, |x| x as f32),
            // Wraps, as C and ONNX Runtime do.
            (DType::I64, DType::I32) => each::<i64, i32>(input, output, |x| x as i32),
            (DType::Bool, DType::F32) => each::<u8, f32>(input, output, |x| f32::from(u8::from(x != 0))),
            (DType::Bool, DType::I32) => each::<u8, i32>(input, output, |x| i32::from(x != 0)),
            (DType::Bool, DType::I64) => each::<u8, i64>(input, output, |x| i64::from(x != 0)),
            _ => None,
        }
    }
}

fn each<A: bytemuck::Pod, B: bytemuck::Pod>(input: &[u8], output: &mut [u8], convert: impl Fn(A) -> B) -> Option<()> {
    let (input, output): (&[A], &mut [B]) = (cast(input)?, cast_mut(output)?);
    output.iter_mut().zip(input).for_each(|(y, x)| *y = convert(*x));
    Some(())
}
