//! Images of another size.

use super::{Operation, bytes_of, operands};
use crate::exec::memory::{Input, Memory, Output, cast, cast_mut};
use crate::isa::Isa;
use crate::kernels::resize::{self, Blend, Taps, WHOLE};
use crate::plan::rules::{check_tensor, require};
use crate::plan::wire::record;
use crate::plan::{DType, DataSpan, Fault, FieldFault, Operand, Verifier};
use crate::shape::Resized;

record! {
    /// `round((sum of four pixels' shares) / 2^22)`, each pixel of the output between two rows and two columns of the
    /// input; exact in i32. Input and output have the same quantization.
    pub struct ResizeS8 {
        /// i8 `[in_h, in_w, channels]`.
        input: Operand,
        /// i8 `[out_h, out_w, channels]`.
        output: Operand,
        /// Sizes of both.
        shape: Resized,
        /// `out_h` [`Blend`](resize::Blend)s: two rows of the input, and how many parts of 2^11 the second has.
        rows: DataSpan,
        /// `out_w` [`Blend`]s: two columns.
        cols: DataSpan,
    }
}

record! {
    /// Like [`ResizeS8`], in f32; shares are the bits of floats from 0 to 1.
    pub struct ResizeF32 {
        /// f32 `[in_h, in_w, channels]`.
        input: Operand,
        /// f32 `[out_h, out_w, channels]`.
        output: Operand,
        /// Sizes of both.
        shape: Resized,
        /// `out_h` [`Blend`]s.
        rows: DataSpan,
        /// `out_w` [`Blend`]s.
        cols: DataSpan,
    }
}

record! {
    /// Each pixel of the output the sum of sixteen of the input, four rows and four columns with a weight each.
    pub struct ResizeCubicF32 {
        /// f32 `[in_h, in_w, channels]`.
        input: Operand,
        /// f32 `[out_h, out_w, channels]`.
        output: Operand,
        /// Sizes of both.
        shape: Resized,
        /// `out_h` [`Taps`](resize::Taps).
        rows: DataSpan,
        /// `out_w` [`Taps`](resize::Taps).
        cols: DataSpan,
    }
}

impl Operation for ResizeS8 {
    operands!(input => output);

    fn constants(&self) -> [DataSpan; 3] {
        [self.rows, self.cols, DataSpan::default()]
    }

    fn image_bytes(&self) -> Option<[usize; 2]> {
        Some(bytes_of(self.shape.lens(), [1, 1]))
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        let sound =
            |[first, second, share]: &Blend, input| [first, second].into_iter().all(inside(input)) && *share <= WHOLE;
        check(plan, &self.shape, (self.input, self.output), (self.rows, self.cols), 1, sound)
    }

    fn run<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output) = memory.split(self.output)?;
        let (rows, cols) = (cast(rest.data(self.rows)?)?, cast(rest.data(self.cols)?)?);
        let Resized { in_w, channels, .. } = self.shape;
        resize::resize_s8(isa, cast(rest.operand(self.input)?)?, cast_mut(output)?, in_w, channels, rows, cols);
        Some(())
    }
}

impl Operation for ResizeF32 {
    operands!(input => output);

    fn dtype(&self) -> DType {
        DType::F32
    }

    fn constants(&self) -> [DataSpan; 3] {
        [self.rows, self.cols, DataSpan::default()]
    }

    fn image_bytes(&self) -> Option<[usize; 2]> {
        Some(bytes_of(self.shape.lens(), [4, 4]))
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        let legal = |share: &u32| (0.0..=1.0).contains(&f32::from_bits(*share));
        let sound =
            |[first, second, share]: &Blend, input| [first, second].into_iter().all(inside(input)) && legal(share);
        check(plan, &self.shape, (self.input, self.output), (self.rows, self.cols), 4, sound)
    }

    fn run<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output) = memory.split(self.output)?;
        let (rows, cols) = (cast(rest.data(self.rows)?)?, cast(rest.data(self.cols)?)?);
        let Resized { in_w, channels, .. } = self.shape;
        resize::resize_f32(isa, cast(rest.operand(self.input)?)?, cast_mut(output)?, in_w, channels, rows, cols);
        Some(())
    }
}

impl Operation for ResizeCubicF32 {
    operands!(input => output);

    fn dtype(&self) -> DType {
        DType::F32
    }

    fn constants(&self) -> [DataSpan; 3] {
        [self.rows, self.cols, DataSpan::default()]
    }

    fn image_bytes(&self) -> Option<[usize; 2]> {
        Some(bytes_of(self.shape.lens(), [4, 4]))
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        let finite = |weight: &u32| f32::from_bits(*weight).is_finite();
        let sound = |[places, weights]: &Taps, input| places.iter().all(inside(input)) && weights.iter().all(finite);
        check(plan, &self.shape, (self.input, self.output), (self.rows, self.cols), 4, sound)
    }

    fn run<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output) = memory.split(self.output)?;
        let (rows, cols) = (cast(rest.data(self.rows)?)?, cast(rest.data(self.cols)?)?);
        let Resized { in_w, channels, .. } = self.shape;
        resize::resize_cubic_f32(isa, cast(rest.operand(self.input)?)?, cast_mut(output)?, in_w, channels, rows, cols);
        Some(())
    }
}

/// Holds sizes, and what each row and column of the output is made of, against the rules of an op.
fn check<T: bytemuck::AnyBitPattern>(
    plan: &Verifier<'_>,
    shape: &Resized,
    (input, output): (Operand, Operand),
    (rows, cols): (DataSpan, DataSpan),
    element_bytes: usize,
    sound: impl Fn(&T, usize) -> bool,
) -> Result<(), FieldFault> {
    let Resized { in_h, in_w, out_h, out_w, channels } = *shape;
    let sizes = [("in_h", in_h), ("in_w", in_w), ("out_h", out_h), ("out_w", out_w), ("channels", channels)];
    sizes.iter().try_for_each(|(field, size)| require(*size > 0, field, Fault::OutOfRange))?;
    check_tensor(plan, "input", input, &[in_h, in_w, channels], element_bytes)?;
    check_tensor(plan, "output", output, &[out_h, out_w, channels], element_bytes)?;
    for (field, span, count, input) in [("rows", rows, out_h, in_h), ("cols", cols, out_w, in_w)] {
        let made = plan.block::<T>(field, span, count)?;
        require(made.iter().all(|part| sound(part, input)), field, Fault::OutOfRange)?;
    }
    Ok(())
}

/// Whether there is such a row or column, of so many.
fn inside(count: usize) -> impl Fn(&u32) -> bool {
    move |at| usize::try_from(*at).is_ok_and(|at| at < count)
}
