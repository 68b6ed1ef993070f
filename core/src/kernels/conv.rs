//! Dense int8 convolution, in groups or not, 1x1 and fully connected included: a fully connected
//! layer is a 1x1 convolution of a 1x1 image.
//!
//! Like [`depthwise`](super::depthwise) it has six functions:
//! how much memory packed weights take at most, packing, whether weights are packed for a shape, which
//! parts of it they serve, how much scratch a run takes, and the run. Its weights have two forms, of which
//! [`ConvArgs::weights`] is one: the fastest, and where that is larger a [compact](Form) one.
//!
//! ```
//! use tractlet_core::isa::Isa;
//! use tractlet_core::kernels::conv::{self, ConvArgs, Form, Results};
//! use tractlet_core::shape::{ConvShape, Requantize, Window};
//!
//! // Two inputs, one output: 10 * 3 + 20 * -4 + 7, times 0.5.
//! let window = Window {
//!     in_h: 1, in_w: 1, in_c: 2, out_h: 1, out_w: 1, kernel_h: 1, kernel_w: 1,
//!     stride_h: 1, stride_w: 1, dilation_h: 1, dilation_w: 1, pad_top: 0, pad_left: 0,
//! };
//! let shape = ConvShape { window, out_c: 1, groups: 1 };
//! let (isa, form) = (Isa::detect(), Form::Fast);
//! let mut weights = vec![0; conv::max_packed_len(isa, &shape, form)];
//! let len = conv::pack(isa, &shape, form, &[3, -4], &mut weights);
//! weights.truncate(len);
//! let args = ConvArgs {
//!     input: &[10, 20],
//!     weights: &weights,
//!     bias: &[7],
//!     multiplier: &[0.5],
//!     input_zp: 0,
//!     out: Requantize { zero_point: 0, min: -128, max: 127 },
//! };
//! let mut output = [0];
//! let mut scratch = vec![0; conv::scratch_len(isa, &shape, form)];
//! conv::run(isa, &shape, form, &args, Results::Bytes(&mut output), &mut scratch);
//! assert_eq!(output, [-22]); // -21.5, to even
//! ```

use crate::isa::Isa;
use crate::shape::{ConvShape, Requantize};

use super::reference;
use super::simd::winograd::{self, Winograd};
use super::simd::{self, Gemm, Layout, row};

/// No dimension, stride, dilation or padding is larger, so that positions do not overflow.
pub const MAX_SIZE: usize = 1 << 20;

/// How weights are packed, where there is a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For speed, whatever it takes: up to four bytes a weight. One group alone has this form.
    Fast,
    /// A byte a weight, but for what fills up vectors.
    Compact,
}

/// What a convolution reads beside its shape.
#[derive(Clone, Copy, Debug)]
pub struct ConvArgs<'a> {
    /// NHWC, `in_h * in_w * in_c`.
    pub input: &'a [i8],
    /// What `pack` wrote for the same shape and instruction set, best 64-byte aligned.
    pub weights: &'a [u8],
    /// Per output channel, the input's zero point folded in: `bias - input_zp * sum(weights)`.
    pub bias: &'a [i32],
    /// Per output channel; see [`Requantize`]. None where results are sums.
    pub multiplier: &'a [f32],
    /// What padding reads.
    pub input_zp: i8,
    /// How accumulators become output values, where they do.
    pub out: Requantize,
}

/// What becomes of accumulators, and where it goes: NHWC, `out_h * out_w * out_c`.
#[derive(Debug)]
pub enum Results<'a> {
    /// They are requantized.
    Bytes(&'a mut [i8]),
    /// The same with a number for each pixel added to them first, by products of matrices: of [compact](Form::Compact) weights alone.
    Shifted(&'a mut [i8], &'a [i32]),
    /// They stay as they are, which they do of [compact](Form::Compact) weights alone.
    Sums(&'a mut [i32]),
}

impl Results<'_> {
    /// How many there are.
    fn len(&self) -> usize {
        match self {
            Results::Bytes(bytes) | Results::Shifted(bytes, _) => bytes.len(),
            Results::Sums(sums) => sums.len(),
        }
    }

    /// How many multipliers they take.
    fn multipliers(&self, out_c: usize) -> usize {
        match self {
            Results::Bytes(_) | Results::Shifted(..) => out_c,
            Results::Sums(_) => 0,
        }
    }

    /// Whether what is added to pixels is a number for each of them.
    fn shifts_fit(&self, pixels: u64) -> bool {
        !matches!(self, Results::Shifted(_, shifts) if shifts.len() as u64 != pixels)
    }
}

/// What does the work.
#[derive(PartialEq, Eq)]
enum Way {
    /// Plain code.
    Plain,
    /// A matrix product.
    Gemm(Layout),
    /// Minimal filtering.
    Winograd(Layout),
    /// A vector times a matrix.
    Row,
}

impl Way {
    fn of(isa: Isa, shape: &ConvShape, form: Form) -> Way {
        let fast = form == Form::Fast;
        match (winograd::layout(isa, shape), Layout::gemm(isa, &shape.group())) {
            _ if fast && row::takes(isa, shape) => Way::Row,
            (Some(layout), _) if fast => Way::Winograd(layout),
            (_, Some(layout)) => Way::Gemm(layout),
            (_, None) => Way::Plain,
        }
    }
}

/// Bytes that packed weights take at most; more than there can be if `shape` is beyond reason.
pub fn max_packed_len(isa: Isa, shape: &ConvShape, form: Form) -> usize {
    match Way::of(isa, shape, form) {
        _ if !reasonable(shape) => usize::MAX,
        Way::Gemm(layout) => Gemm::new(layout, shape).packed_len(layout),
        Way::Winograd(layout) => Winograd::new(layout, shape).packed_len(),
        Way::Row => row::max_packed_len(shape),
        Way::Plain => reference::packed_len(shape),
    }
}

/// Bytes that these OHWI `weights` take once they are packed, which for some is worked out like packing itself.
///
/// # Panics
/// If `weights` are not those of `shape`.
pub fn packed_len(isa: Isa, shape: &ConvShape, form: Form, weights: &[i8]) -> usize {
    match Way::of(isa, shape, form) {
        Way::Row => row::packed_len(shape, weights),
        _ => max_packed_len(isa, shape, form),
    }
}

/// Lays OHWI `weights` out for `isa` at the beginning of `dst`; returns how many bytes they take.
///
/// # Panics
/// If `dst` has fewer than [`packed_len`] or more than [`max_packed_len`] bytes, or `weights` are not those of `shape`.
pub fn pack(isa: Isa, shape: &ConvShape, form: Form, weights: &[i8], dst: &mut [u8]) -> usize {
    let way = Way::of(isa, shape, form);
    assert!(way == Way::Row || dst.len() == max_packed_len(isa, shape, form));
    match way {
        Way::Gemm(layout) => simd::gemm::pack(layout, shape, weights, dst),
        Way::Winograd(layout) => winograd::pack(layout, shape, weights, dst),
        Way::Row => return row::pack(shape, weights, dst),
        Way::Plain => reference::pack(shape, weights, dst),
    }
    dst.len()
}

/// Bytes of the packed [compact](Form::Compact) weights of a layer of pixels, and of the scratch of a run: as
/// [`max_packed_len`] and [`scratch_len`] have them, asked for at each run.
pub(super) fn matrix_lens(isa: Isa, shape: &ConvShape) -> [usize; 2] {
    match Layout::gemm(isa, &shape.group()) {
        _ if !reasonable(shape) => [usize::MAX; 2],
        Some(layout) => {
            let gemm = Gemm::new(layout, shape);
            [gemm.packed_len(layout), gemm.scratch_len(layout)]
        }
        None => [reference::packed_len(shape), 0],
    }
}

/// Lays out a matrix `[in_c, out_c]`, or one `[out_c, in_c]` that is `turned`, as [`pack`] does the [compact](Form::Compact)
/// weights of a layer of pixels, quickly enough to do so at each run; and says what its columns add up to.
///
/// # Panics
/// If slices are not as long as `shape` says.
pub(super) fn pack_matrix(isa: Isa, shape: &ConvShape, values: &[i8], turned: bool, dst: &mut [u8], sums: &mut [i32]) {
    match Layout::gemm(isa, &shape.group()) {
        Some(layout) => simd::gemm::matrix::pack(layout, shape, values, turned, dst, sums),
        None => reference::pack_matrix(shape.out_c, values, turned, dst, sums),
    }
}

/// Whether `packed` is laid out as [`pack`] does it for `shape`.
pub fn holds(isa: Isa, shape: &ConvShape, form: Form, packed: &[u8]) -> bool {
    match Way::of(isa, shape, form) {
        Way::Row => reasonable(shape) && row::holds(shape, packed),
        _ => packed.len() == max_packed_len(isa, shape, form),
    }
}

/// A number of lines of which parts of `shape` have to be multiples, what is left over going to one of them, so
/// that weights packed for all of it serve them. `None` if it goes whole.
pub fn line_unit(isa: Isa, shape: &ConvShape, form: Form) -> Option<usize> {
    let way = Way::of(isa, shape, form);
    let window = shape.window.flattened();
    // A single pixel, and what is one line high, may go another way than more of them. Where lines have several
    // pixels only a kernel of one line can, under which all lines are alike.
    let alone = || ConvShape { window: window.part(0..1).window, ..*shape };
    match way {
        Way::Row => None,
        Way::Gemm(_) if window.line_pixels()[1] == 1 => Some(2),
        Way::Winograd(_) => Some(2),
        Way::Plain | Way::Gemm(_) => Some(if Way::of(isa, &alone(), form) == way { 1 } else { 2 }),
    }
}

/// Bytes of scratch that [`run`] works in, best 64-byte aligned; more than there can be if `shape`
/// is beyond reason.
pub fn scratch_len(isa: Isa, shape: &ConvShape, form: Form) -> usize {
    match Way::of(isa, shape, form) {
        _ if !reasonable(shape) => usize::MAX,
        Way::Gemm(layout) => Gemm::new(layout, shape).scratch_len(layout),
        Way::Winograd(layout) => Winograd::new(layout, shape).scratch_len(),
        Way::Row => row::scratch_len(shape),
        Way::Plain => 0,
    }
}

/// Convolves, and returns whether it did: slices that do not fit `shape`, or an `isa` that this CPU lacks, leave
/// `output` as it was.
pub fn run(
    isa: Isa,
    shape: &ConvShape,
    form: Form,
    args: &ConvArgs<'_>,
    output: Results<'_>,
    scratch: &mut [u8],
) -> bool {
    let stays = form == Form::Compact || matches!(output, Results::Bytes(_));
    let fits = (shape.groups == 1 || form == Form::Compact) && stays && isa.is_available() && args.fit(shape, &output);
    // SAFETY: the CPU has `isa`; what is not checked yet, is there.
    fits && unsafe { simd::conv(isa, shape, form, args, output, scratch) }
}

/// Whether everything that is counted in `shape` is there and small enough for positions not to
/// overflow, and groups divide channels.
pub(super) fn reasonable(shape: &ConvShape) -> bool {
    const { assert!(MAX_SIZE.is_power_of_two()) };
    let w = &shape.window;
    let sizes = [w.in_h, w.in_w, w.in_c, w.out_h, w.out_w, w.kernel_h, w.kernel_w, shape.out_c, shape.groups];
    let steps = [w.stride_h, w.stride_w, w.dilation_h, w.dilation_w];
    // One comparison for all of them: each less 1 is below the limit if none has a bit that is not.
    let bits = sizes.iter().chain(&steps).fold(0, |bits, size| bits | size.wrapping_sub(1));
    // Beyond the image by less than an image.
    let reaches = |count: usize, stride: usize, kernel: usize, dilation: usize| {
        let last = |count: usize, step: usize| (count - 1) as u64 * step as u64;
        last(count, stride) + last(kernel, dilation) < 4 * MAX_SIZE as u64
    };
    bits < MAX_SIZE
        && w.pad_top.max(w.pad_left) <= MAX_SIZE
        && reaches(w.out_h, w.stride_h, w.kernel_h, w.dilation_h)
        && reaches(w.out_w, w.stride_w, w.kernel_w, w.dilation_w)
        && (shape.groups == 1 || w.in_c.is_multiple_of(shape.groups) && shape.out_c.is_multiple_of(shape.groups))
}

impl ConvArgs<'_> {
    /// Whether `shape` is reasonable and the slices are as long as it says. Weights and scratch
    /// depend on the instruction set and are left to the caller.
    pub(super) fn fit(&self, shape: &ConvShape, output: &Results<'_>) -> bool {
        let w = &shape.window;
        // Three reasonable sizes do not overflow.
        let product = |sizes: [usize; 3]| sizes.iter().fold(1, |all, &size| all * size as u64);
        reasonable(shape)
            && product([w.in_h, w.in_w, w.in_c]) == self.input.len() as u64
            && product([w.out_h, w.out_w, shape.out_c]) == output.len() as u64
            && self.bias.len() == shape.out_c
            && self.multiplier.len() == output.multipliers(shape.out_c)
            && output.shifts_fit(w.out_h as u64 * w.out_w as u64)
    }
}
