//! Moving elements without looking at them.

use super::{MAX_INPUTS, Operation, of_size, operands};
use crate::exec::memory::{Input, Memory, Output, cast, cast_mut};
use crate::isa::Isa;
use crate::kernels::copy;
use crate::plan::rules::{check_element, check_tensor, product, require};
use crate::plan::wire::record;
use crate::plan::{DType, Fault, FieldFault, Operand, Verifier};

/// Dimensions of a strided copy.
pub const COPY_DIMS: usize = 6;

record! {
    /// Copies `dims` elements from one strided view to another: transpose, slice, one part of a
    /// concat, the inside of a pad, nearest resize and expand (input stride 0).
    pub struct StridedCopy {
        /// The whole tensor that is read from.
        input: Operand,
        /// The whole tensor that is written to.
        output: Operand,
        /// Bytes of an element: 1, 4 or 8.
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
}

impl Operation for StridedCopy {
    operands!(input => output);

    fn dtype(&self) -> DType {
        of_size(self.element_bytes)
    }

    /// The part of either tensor that moves.
    fn moved_bytes(&self) -> (u64, u64) {
        let bytes = self.dims.iter().map(|&dim| dim as u64).product::<u64>() * self.element_bytes as u64;
        (bytes, bytes)
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        check_element("element_bytes", self.element_bytes)?;
        // No more elements than the output has, so that a run takes no longer than its tensors say.
        let elements = product("dims", &self.dims)?;
        let fits = elements > 0 && elements <= self.output.len / self.element_bytes;
        require(fits, "dims", Fault::OutOfRange)?;
        let views = [
            ("input_strides", self.input, self.input_start, &self.input_strides),
            ("output_strides", self.output, self.output_start, &self.output_strides),
        ];
        for (field, span, start, strides) in views {
            check_tensor(plan, field, span, &[span.len / self.element_bytes], self.element_bytes)?;
            let mut last = Some(start);
            for (&dim, &stride) in self.dims.iter().zip(strides) {
                let reach = (dim - 1).checked_mul(stride);
                last = last.zip(reach).and_then(|(last, reach)| last.checked_add(reach));
            }
            let last = last.ok_or(FieldFault::new(field, Fault::Overflow))?;
            require(last < span.len / self.element_bytes, field, Fault::OutOfBounds)?;
        }
        Ok(())
    }

    fn run<I: Input, O: Output>(&self, _: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output) = memory.split(self.output)?;
        let input = rest.operand(self.input)?;
        match self.element_bytes {
            8 => copy::strided_copy(cast::<u64>(input)?, cast_mut(output)?, self)?,
            4 => copy::strided_copy(cast::<u32>(input)?, cast_mut(output)?, self)?,
            _ => copy::strided_copy(input, output, self)?,
        }
        Some(())
    }
}

record! {
    /// Sets every element: the border of a pad.
    pub struct Fill {
        /// Elements of any type.
        output: Operand,
        /// Bytes of an element: 1, 4 or 8.
        element_bytes: usize,
        /// The element's bits, in the low bytes.
        bits: u64,
    }
}

impl Operation for Fill {
    operands!( => output);

    fn dtype(&self) -> DType {
        of_size(self.element_bytes)
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        check_element("element_bytes", self.element_bytes)?;
        let count = self.output.len / self.element_bytes;
        check_tensor(plan, "output", self.output, &[count], self.element_bytes)
    }

    fn run<I: Input, O: Output>(&self, _: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (_, output) = memory.split(self.output)?;
        match self.element_bytes {
            8 => cast_mut::<u64>(output)?.fill(self.bits),
            4 => cast_mut::<u32>(output)?.fill(self.bits as u32),
            _ => output.fill(self.bits as u8),
        }
        Some(())
    }
}

record! {
    /// Moves every element but the first `by` ahead by that many, in place; the last `by` stay as they are. So time
    /// passes in the state of a plan that runs hop by hop.
    pub struct Shift {
        /// i8 or f32, read and written.
        output: Operand,
        /// Bytes of an element: 1 or 4.
        element_bytes: usize,
        /// Elements, fewer than there are.
        by: usize,
    }
}

impl Operation for Shift {
    fn inputs(&self) -> [Operand; MAX_INPUTS] {
        core::array::from_fn(|index| if index == 0 { self.output } else { Operand::default() })
    }

    fn input_names(&self) -> &'static [&'static str] {
        &["output"]
    }

    fn output(&self) -> Operand {
        self.output
    }

    #[cfg(feature = "alloc")]
    fn each_operand(&mut self, visit: &mut dyn FnMut(&mut Operand)) {
        visit(&mut self.output);
    }

    fn in_place(&self) -> bool {
        true
    }

    fn dtype(&self) -> DType {
        of_size(self.element_bytes)
    }

    fn moved_bytes(&self) -> (u64, u64) {
        let bytes = self.output.len.saturating_sub(self.by * self.element_bytes) as u64;
        (bytes, bytes)
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        check_element("element_bytes", self.element_bytes)?;
        let count = self.output.len / self.element_bytes;
        check_tensor(plan, "output", self.output, &[count], self.element_bytes)?;
        require((1..count).contains(&self.by), "by", Fault::OutOfRange)
    }

    fn run<I: Input, O: Output>(&self, _: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (_, output) = memory.split(self.output)?;
        let by = self.by * self.element_bytes;
        output.get(by..)?;
        output.copy_within(by.., 0);
        Some(())
    }
}
