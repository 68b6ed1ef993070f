//! Running a plan on slices that the caller gives.
//!
//! Inputs are read and outputs written where the caller has them. The memory is the arena, where
//! all other activations lie, and among them the scratch of kernels. One loop decodes a record,
//! borrows the slices it names and calls a kernel: no allocation, no state between runs, no unsafe
//! code.

#[cfg(all(test, feature = "alloc"))]
pub(crate) mod fixtures;
mod memory;
#[cfg(all(test, feature = "alloc"))]
mod tests;

use core::fmt;

use crate::isa::Isa;
use crate::kernels::conv::ConvArgs;
use crate::kernels::conv_f32::{self, ConvF32Args};
use crate::kernels::{ConvKernel, binary, copy, lut, pool, quantize, softmax, unary};
use crate::plan::{ALIGN, Op, Plan, Port};
use memory::{Memory, cast, cast_mut};

/// Called around every op of a run: profiling, and looking at activations.
pub trait Hook {
    /// Op number `index` is about to run.
    fn before(&mut self, index: usize);

    /// Op number `index` has run and left `output`.
    fn after(&mut self, index: usize, output: &[u8]);
}

/// Observes nothing and costs nothing.
impl Hook for () {
    #[inline]
    fn before(&mut self, _: usize) {}

    #[inline]
    fn after(&mut self, _: usize, _: &[u8]) {}
}

/// What the caller hands to a run for the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Inputs, which are read.
    Input,
    /// Outputs, which are written.
    Output,
}

/// Why a run did not take place or stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunError {
    /// The plan is packed for an instruction set that this CPU does not have.
    Isa(Isa),
    /// The memory is smaller than [`Plan::arena_bytes`].
    TooSmall {
        /// Bytes that the plan needs.
        needed: usize,
        /// Bytes that were given.
        given: usize,
    },
    /// The memory does not start at a multiple of [`ALIGN`].
    Unaligned,
    /// The network has another number of inputs or outputs.
    Count {
        /// Of which there are too many or too few.
        role: Role,
        /// How many the network has.
        needed: usize,
        /// How many were given.
        given: usize,
    },
    /// An input or output has another length than its shape implies.
    Length {
        /// Whether it is an input or an output.
        role: Role,
        /// Which one.
        index: usize,
        /// Bytes of its elements.
        needed: usize,
        /// Bytes that were given.
        given: usize,
    },
    /// An input or output does not start at a multiple of the size of its elements.
    Misaligned {
        /// Whether it is an input or an output.
        role: Role,
        /// Which one.
        index: usize,
    },
    /// This op's record is not what was verified: the plan's bytes have changed since.
    Damaged {
        /// Which op, in execution order.
        index: usize,
    },
}

impl<B: AsRef<[u8]>> Plan<B> {
    /// Runs the network once, on as many `inputs` and `outputs` as it has, in its order, each as long
    /// as [`Port::byte_len`] says and at a multiple of the size of its elements. `memory` has at least
    /// [`Plan::arena_bytes`] bytes and starts at a multiple of [`ALIGN`]; what it holds does not
    /// matter.
    ///
    /// # Errors
    /// Slices that do not fit, of which nothing has been written then. [`RunError::Damaged`] only if
    /// the plan's bytes have changed.
    pub fn run<I: AsRef<[u8]>, O: AsRef<[u8]> + AsMut<[u8]>>(
        &self,
        memory: &mut [u8],
        inputs: &[I],
        outputs: &mut [O],
    ) -> Result<(), RunError> {
        self.run_with(memory, inputs, outputs, &mut ())
    }

    /// Like [`Plan::run`], with `hook` called around every op.
    ///
    /// # Errors
    /// Those of [`Plan::run`].
    pub fn run_with<I: AsRef<[u8]>, O: AsRef<[u8]> + AsMut<[u8]>>(
        &self,
        memory: &mut [u8],
        inputs: &[I],
        outputs: &mut [O],
        hook: &mut impl Hook,
    ) -> Result<(), RunError> {
        if !self.runs_here() {
            return Err(RunError::Isa(self.isa()));
        }
        if !memory.as_ptr().addr().is_multiple_of(ALIGN) {
            return Err(RunError::Unaligned);
        }
        let (needed, given) = (self.arena_bytes(), memory.len());
        let arena = memory.get_mut(..needed).ok_or(RunError::TooSmall { needed, given })?;
        fit(Role::Input, self.inputs(), inputs.iter().map(AsRef::as_ref))?;
        fit(Role::Output, self.outputs(), outputs.iter().map(AsRef::as_ref))?;
        let mut memory = Memory { arena, data: self.data(), inputs, outputs };
        for (index, op) in self.decoded().enumerate() {
            hook.before(index);
            let output = op.and_then(|op| {
                step(&op, self.isa(), &mut memory)?;
                memory.split(op.output())
            });
            let (_, output) = output.ok_or(RunError::Damaged { index })?;
            hook.after(index, output);
        }
        Ok(())
    }
}

/// Holds what the caller gives against what the plan states.
fn fit<'a>(
    role: Role,
    ports: impl ExactSizeIterator<Item = Port<'a>>,
    slices: impl ExactSizeIterator<Item = &'a [u8]>,
) -> Result<(), RunError> {
    let (needed, given) = (ports.len(), slices.len());
    if needed != given {
        return Err(RunError::Count { role, needed, given });
    }
    for (index, (port, slice)) in ports.zip(slices).enumerate() {
        let (needed, given) = (port.byte_len(), slice.len());
        if needed != given {
            return Err(RunError::Length { role, index, needed, given });
        }
        if !slice.as_ptr().addr().is_multiple_of(port.dtype.size_bytes()) {
            return Err(RunError::Misaligned { role, index });
        }
    }
    Ok(())
}

/// Runs one op; `None` if it names memory that is not there.
fn step<I: AsRef<[u8]>, O: AsRef<[u8]> + AsMut<[u8]>>(op: &Op, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
    match op {
        Op::ConvS8(op) => {
            let (rest, output, scratch) = memory.split_scratch(op.output, op.scratch)?;
            let args = ConvArgs {
                input: cast(rest.operand(op.input)?)?,
                weights: rest.data(op.weights)?,
                bias: cast(rest.data(op.bias)?)?,
                multiplier: cast(rest.data(op.multipliers)?)?,
                input_zp: op.input_zero_point,
                out: op.requantize,
            };
            ConvKernel::of(&op.shape).run(isa, &op.shape, &args, cast_mut(output)?, scratch);
        }
        Op::AddS8(op) => {
            let (rest, a) = memory.in_place(op.a, op.output)?;
            binary::add_s8(isa, cast_mut(a)?, cast(rest.operand(op.b)?)?, op);
        }
        Op::MulS8(op) => {
            let (rest, a) = memory.in_place(op.a, op.output)?;
            binary::mul_s8(isa, cast_mut(a)?, cast(rest.operand(op.b)?)?, op);
        }
        Op::MaxPoolS8(op) => {
            let (rest, output) = memory.split(op.output)?;
            let input = cast(rest.operand(op.input)?)?;
            pool::max_s8(isa, input, cast_mut(output)?, &op.window);
        }
        Op::AveragePoolS8(op) => {
            let (rest, output) = memory.split(op.output)?;
            pool::average_s8(isa, cast(rest.operand(op.input)?)?, cast_mut(output)?, op);
        }
        Op::LutS8(op) => {
            let (rest, output) = memory.in_place(op.input, op.output)?;
            let table: &[i8] = cast(rest.data(op.table)?)?;
            lut::lut_s8(isa, cast_mut(output)?, table.try_into().ok()?);
        }
        Op::SoftmaxS8(op) => {
            let (rest, output) = memory.in_place(op.input, op.output)?;
            let table: &[f32] = cast(rest.data(op.exp_table)?)?;
            let table = table.try_into().ok()?;
            let output = cast_mut(output)?;
            softmax::softmax_s8(isa, output, op.cols, table, op.output_scale, &op.requantize);
        }
        Op::Quantize(op) => {
            let (rest, output) = memory.split(op.output)?;
            let input = cast(rest.operand(op.input)?)?;
            let output = cast_mut(output)?;
            quantize::quantize(isa, input, output, op.channels, op.scale, op.zero_point);
        }
        Op::Dequantize(op) => {
            let (rest, output) = memory.split(op.output)?;
            let input = cast(rest.operand(op.input)?)?;
            let output = cast_mut(output)?;
            quantize::dequantize(isa, input, output, op.channels, op.scale, op.zero_point);
        }
        Op::StridedCopy(op) => {
            let (rest, output) = memory.split(op.output)?;
            let input = rest.operand(op.input)?;
            match op.element_bytes {
                4 => copy::strided_copy(cast::<u32>(input)?, cast_mut(output)?, op)?,
                _ => copy::strided_copy(input, output, op)?,
            }
        }
        Op::Fill(op) => {
            let (_, output) = memory.split(op.output)?;
            match op.element_bytes {
                4 => cast_mut::<u32>(output)?.fill(op.bits),
                _ => output.fill(op.bits as u8),
            }
        }
        Op::ConvF32(op) => {
            let (rest, output, scratch) = memory.split_scratch(op.output, op.scratch)?;
            let args = ConvF32Args {
                input: cast(rest.operand(op.input)?)?,
                weights: cast(rest.data(op.weights)?)?,
                bias: cast(rest.data(op.bias)?)?,
                min: op.min,
                max: op.max,
            };
            let scratch = cast_mut(scratch)?;
            conv_f32::run(isa, &op.shape, &args, cast_mut(output)?, scratch);
        }
        Op::BinaryF32(op) => {
            let (rest, a) = memory.in_place(op.a, op.output)?;
            let b = cast(rest.operand(op.b)?)?;
            binary::binary_f32(isa, cast_mut(a)?, b, op.function, op.min, op.max);
        }
        Op::UnaryF32(op) => {
            let (_, output) = memory.in_place(op.input, op.output)?;
            unary::unary_f32(isa, cast_mut(output)?, op.function, op.alpha, op.beta);
        }
        Op::MaxPoolF32(op) => {
            let (rest, output) = memory.split(op.output)?;
            let input = cast(rest.operand(op.input)?)?;
            pool::max_f32(isa, input, cast_mut(output)?, &op.window);
        }
        Op::AveragePoolF32(op) => {
            let (rest, output) = memory.split(op.output)?;
            let input = cast(rest.operand(op.input)?)?;
            let output = cast_mut(output)?;
            pool::average_f32(isa, input, output, &op.window, op.count_include_pad);
        }
        Op::SoftmaxF32(op) => {
            let (_, output) = memory.in_place(op.input, op.output)?;
            softmax::softmax_f32(isa, cast_mut(output)?, op.cols);
        }
    }
    Some(())
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Input => "input",
            Self::Output => "output",
        })
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Isa(isa) => write!(f, "the plan is for instruction set {isa}, which this CPU does not have"),
            Self::TooSmall { needed, given } => {
                write!(f, "the plan needs {needed} bytes of memory, {given} were given")
            }
            Self::Unaligned => write!(f, "memory is not {ALIGN}-byte aligned"),
            Self::Count { role, needed, given } => write!(f, "the plan has {needed} {role}s, {given} were given"),
            Self::Length { role, index, needed, given } => {
                write!(f, "{role} {index} takes {needed} bytes, {given} were given")
            }
            Self::Misaligned { role, index } => write!(f, "{role} {index} is not aligned to its elements"),
            Self::Damaged { index } => {
                write!(f, "op {index} has changed since the plan was verified")
            }
        }
    }
}

impl core::error::Error for RunError {}
