//! A transposed convolution as one that existing ops can do.
//!
//! With a stride of `s` each output position is `s * q + phase`, and reads the input around `q` with every s-th tap of
//! the kernel alone: so it is a convolution of stride 1 that makes all phases of a position at once, as channels, which
//! are then laid out in space. Along an axis without a stride the kernel is turned round and that is all.

use std::rc::Rc;

use tractlet_core::plan::StridedCopy;
use tractlet_core::shape::{ConvShape, Requantize, Window};

use super::edges::padded;
use super::geometry::{self, Same};
use super::product::{Stored8, Weights, spread};
use super::quantized::Input;
use super::value::{Act, Layout, QParams, Value};
use super::{Lowering, Why, int, ints};
use crate::model::Node;

/// The most phases, as a stride of 32 either way has: each may be copied by an op of its own, and strides alone can ask
/// for 2^32.
const MOST_PHASES: usize = 1 << 10;

/// One spatial axis.
#[derive(Clone, Copy)]
struct Axis {
    input: usize,
    output: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    /// What is cut off in front of the output.
    pad: usize,
}

/// A transposed convolution of two spatial axes.
struct Transposed {
    axes: [Axis; 2],
    groups: usize,
    /// Channels of a group, in and out.
    group_in: usize,
    group_out: usize,
    /// As the model states it.
    output_dims: Vec<usize>,
}

impl Axis {
    /// Taps of the convolution: those of the kernel that fall on one phase.
    fn taps(&self) -> usize {
        if self.stride == 1 { self.kernel } else { ((self.kernel - 1) * self.dilation + 1).div_ceil(self.stride) }
    }

    /// Which element of the kernel the convolution multiplies with at `tap`, if there is one.
    fn element(&self, phase: usize, tap: usize) -> Option<usize> {
        if self.stride == 1 {
            return Some(self.kernel - 1 - tap);
        }
        let reach = phase + self.stride * (self.taps() - 1 - tap);
        (reach.is_multiple_of(self.dilation)).then_some(reach / self.dilation).filter(|&element| element < self.kernel)
    }

    /// Padding of the convolution, and how many positions it makes.
    fn window(&self) -> Result<(usize, usize), Why> {
        let (before, positions) = if self.stride == 1 {
            let reach = (self.kernel - 1) * self.dilation;
            (reach.checked_sub(self.pad).ok_or("padding beyond its kernel is not taken")?, self.output)
        } else {
            (self.taps() - 1, (self.output + self.pad - 1) / self.stride + 1)
        };
        let reached = positions <= self.input + before;
        reached.then_some((before, positions)).ok_or_else(|| "outputs that no input reaches are not taken".into())
    }

    /// The positions whose `phase` lies in the output: the first, how many, and where the first goes.
    fn visible(&self, phase: usize) -> (usize, usize, usize) {
        if self.stride == 1 {
            return (0, self.output, 0);
        }
        let first = self.pad.saturating_sub(phase).div_ceil(self.stride);
        let start = self.stride * first + phase - self.pad;
        (first, self.output.saturating_sub(start).div_ceil(self.stride), start)
    }
}

impl Transposed {
    fn of(node: &Node, act: &Act, weights: &[usize], output_dims: Vec<usize>) -> Result<Transposed, Why> {
        let spatial = act.dims.len().saturating_sub(2);
        if !(1..=2).contains(&spatial) || weights.len() != spatial + 2 || output_dims.len() != spatial + 2 {
            return Err(format!("{spatial} spatial dimensions are not taken, 1 and 2 are"));
        }
        let list = |name: &str, i: usize, default: usize| ints(node, name).map_or(default, |values| values[i] as usize);
        // What is told its size has padding as if it were told to come out even.
        let same = Same::of(node).or(ints(node, "output_shape").map(|_| Same::Lower));
        let axis = |i: usize| -> Result<Axis, Why> {
            let (input, output, kernel) = (act.dims[2 + i], output_dims[2 + i], weights[2 + i]);
            let (stride, dilation) = (list("strides", i, 1), list("dilations", i, 1));
            let mut pad = node.explicit_pads().map_or(0, |pads| pads[i] as usize);
            if let Some(same) = same {
                let full = (input - 1) * stride + list("output_padding", i, 0) + (kernel - 1) * dilation + 1;
                let total = full.checked_sub(output).ok_or("an output beyond what its input reaches is not taken")?;
                pad = same.before(total);
            }
            Ok(Axis { input, output, kernel, stride, dilation, pad })
        };
        let row = Axis { input: 1, output: 1, kernel: 1, stride: 1, dilation: 1, pad: 0 };
        let axes = if spatial == 2 { [axis(0)?, axis(1)?] } else { [row, axis(0)?] };
        let groups = int(node, "group", 1) as usize;
        Ok(Transposed { axes, groups, group_in: weights[0] / groups, group_out: weights[1], output_dims })
    }

    fn phases(&self) -> usize {
        self.axes[0].stride.saturating_mul(self.axes[1].stride)
    }

    /// The model's channel of each channel that the convolution makes.
    fn channels(&self) -> Vec<usize> {
        let group =
            |g: usize| (0..self.phases()).flat_map(move |_| (0..self.group_out).map(move |o| g * self.group_out + o));
        (0..self.groups).flat_map(group).collect()
    }

    /// The convolution that makes all phases, and how many weights it has.
    fn shape(&self) -> Result<(ConvShape, usize), Why> {
        let [h, w] = &self.axes;
        let ((pad_top, out_h), (pad_left, out_w)) = (h.window()?, w.window()?);
        let factors = [self.groups, self.phases(), self.group_out, self.group_in, h.taps(), w.taps()];
        let weights = factors.iter().try_fold(1usize, |product, factor| product.checked_mul(*factor));
        let weights = weights.filter(|_| self.phases() <= MOST_PHASES).ok_or_else(|| {
            format!("strides of {} by {} are not taken with a kernel of this size", h.stride, w.stride)
        })?;
        let dilation = |axis: &Axis| if axis.stride == 1 { axis.dilation } else { 1 };
        let window = Window {
            in_h: h.input,
            in_w: w.input,
            in_c: self.groups * self.group_in,
            out_h,
            out_w,
            kernel_h: h.taps(),
            kernel_w: w.taps(),
            stride_h: 1,
            stride_w: 1,
            dilation_h: dilation(h),
            dilation_w: dilation(w),
            pad_top,
            pad_left,
        };
        let out_c = self.groups * self.phases() * self.group_out;
        Ok((ConvShape { window, out_c, groups: self.groups }, weights))
    }

    /// The convolution's weights, OIHW, of those of the model, IOHW.
    fn weights<T: Copy + Default>(&self, stored: &[T]) -> Vec<T> {
        let [h, w] = &self.axes;
        let at = |input: usize, output: usize, y: usize, x: usize| {
            stored[((input * self.group_out + output) * h.kernel + y) * w.kernel + x]
        };
        let mut weights = vec![];
        for group in 0..self.groups {
            for phase in 0..self.phases() {
                for output in 0..self.group_out {
                    for input in group * self.group_in..(group + 1) * self.group_in {
                        for tap in 0..h.taps() * w.taps() {
                            let y = h.element(phase / w.stride, tap / w.taps());
                            let x = w.element(phase % w.stride, tap % w.taps());
                            weights.push(y.zip(x).map_or(T::default(), |(y, x)| at(input, output, y, x)));
                        }
                    }
                }
            }
        }
        weights
    }
}

impl<'m> Lowering<'m> {
    pub(super) fn conv_transpose_f32(&mut self, node: &Node) -> Result<(), Why> {
        let input = self.real(&node.name, &self.value(node, 0)?)?;
        let act = self.channels_last(&node.name, input)?;
        let (values, dims) = self.floats_of(&self.value(node, 1)?)?;
        let t = Transposed::of(node, &act, &dims, self.output_dims(node)?)?;
        let shape = self.phased(&t, values.len(), size_of::<f32>())?;
        let ConvShape { window, out_c, .. } = shape;
        let taps = window.kernel_h * window.kernel_w;
        let weights = t.weights(&values);
        drop(values);
        let weight = |[tap, input, output]: [usize; 3]| weights[(output * t.group_in + input) * taps + tap];
        let bias = self.bias_of(node, t.groups * t.group_out)?;
        let bias: Vec<f32> = t.channels().into_iter().map(|channel| bias[channel]).collect();
        let made = (vec![act.dims[0], out_c, window.out_h, window.out_w], Layout::ChannelsLast);
        let (name, phases) = self.conv_op_f32(node, &act, shape, weight, &bias, made)?;
        let output = self.in_space(&node.name, &t, phases);
        self.values.insert(name, Value::Real(output));
        Ok(())
    }

    pub(super) fn conv_transpose_s8(
        &mut self,
        node: &Node,
        x: Input,
        (stored, values): Stored8<'m>,
        to: QParams,
        requantize: Requantize,
    ) -> Result<Act, Why> {
        let act = self.channels_last(&node.name, x.act)?;
        let t = Transposed::of(node, &act, &stored.tensor.dims, self.output_dims(node)?)?;
        if t.groups > 1 && stored.scales.len() > 1 {
            return Err("weights in groups with a scale for each channel are not taken".into());
        }
        let shape = self.phased(&t, values.len(), size_of::<i8>())?;
        let ConvShape { window, out_c, .. } = shape;
        let weights = Weights {
            values: geometry::ohwi(&t.weights(&values), t.group_in, window.kernel_h * window.kernel_w),
            scales: spread(&stored, 1, t.groups * t.group_out)?,
            outputs: Some(Rc::from(t.channels())),
        };
        let made = vec![act.dims[0], out_c, window.out_h, window.out_w];
        let phases = self.program.bytes(made, Layout::ChannelsLast);
        self.conv_op(node, &Input { act, q: x.q }, shape, weights, (to, requantize), &phases)?;
        Ok(self.in_space(&node.name, &t, phases))
    }

    /// The convolution that makes all phases. Where strides are wider than the kernel, most of its weights are zeros that
    /// the model has nowhere: what goes beyond twice its own is counted.
    fn phased(&mut self, t: &Transposed, stored: usize, element_bytes: usize) -> Result<ConvShape, Why> {
        let (shape, weights) = t.shape()?;
        self.tabulate(weights.saturating_sub(stored.saturating_mul(2)), element_bytes)?;
        Ok(shape)
    }

    /// Phases, which are channels, beside each other in space.
    fn in_space(&mut self, name: &str, t: &Transposed, phases: Act) -> Act {
        if t.phases() == 1 {
            return phases.viewed(t.output_dims.clone(), Layout::ChannelsLast);
        }
        let [h, w] = &t.axes;
        let element_bytes = self.element_bytes(&phases);
        let output = self.program.tensor(t.output_dims.clone(), Layout::ChannelsLast, element_bytes);
        let (from_w, from_c) = (phases.dims[3], phases.channels());
        let channels = t.groups * t.group_out;
        let [images, image_in, image_out] = [phases.dims[0], phases.pixels() * from_c, output.pixels() * channels];
        let mut copy = |dims: &[usize], from: (usize, &[usize]), to: (usize, &[usize])| {
            let each = |images: usize, values: &[usize]| [&[images], values].concat();
            let op = StridedCopy {
                input: self.program.span(&phases),
                output: self.program.span(&output),
                element_bytes,
                dims: padded(&each(images, dims), 1),
                input_start: from.0,
                input_strides: padded(&each(image_in, from.1), 0),
                output_start: to.0,
                output_strides: padded(&each(image_out, to.1), 0),
            };
            self.program.push(name, op);
        };
        let whole = |axis: &Axis, positions: usize| axis.pad == 0 && axis.output == positions * axis.stride;
        if t.groups == 1 && whole(h, phases.dims[2]) && whole(w, from_w) {
            // Nothing is cut off: the phases of a row of a position are a row of the output.
            let run = w.stride * channels;
            copy(
                &[phases.dims[2], h.stride, from_w, run],
                (0, &[from_w * from_c, run, from_c, 1]),
                (0, &[h.stride * w.output * channels, w.output * channels, run, 1]),
            );
            return output;
        }
        for phase in 0..t.phases() {
            let (row, rows, top) = h.visible(phase / w.stride);
            let (col, cols, left) = w.visible(phase % w.stride);
            if rows > 0 && cols > 0 {
                copy(
                    &[rows, cols, t.groups, t.group_out],
                    (
                        (row * from_w + col) * from_c + phase * t.group_out,
                        &[from_w * from_c, from_c, t.phases() * t.group_out, 1],
                    ),
                    (
                        (top * w.output + left) * channels,
                        &[h.stride * w.output * channels, w.stride * channels, t.group_out, 1],
                    ),
                );
            }
        }
        output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an axis adds up, by the definition: `output[stride * i + dilation * k - pad] += input[i] * kernel[k]`.
    fn defined(axis: &Axis, input: &[i64], kernel: &[i64]) -> Vec<i64> {
        let mut output = vec![0; axis.output];
        for (i, x) in input.iter().enumerate() {
            for (k, w) in kernel.iter().enumerate() {
                let at = (axis.stride * i + axis.dilation * k).checked_sub(axis.pad);
                if let Some(y) = at.and_then(|at| output.get_mut(at)) {
                    *y += x * w;
                }
            }
        }
        output
    }

    #[test]
    fn phases_add_up_to_the_definition() {
        let (mut taken, input, kernel) = (0, [3, 1, 4, 1, 5], [2, 7, 1, 8, 2]);
        for (stride, dilation, size, pad, extra) in
            (0..4 * 3 * 5 * 4 * 2).map(|n| (n % 4 + 1, n / 4 % 3 + 1, n / 12 % 5 + 1, n / 60 % 4, n / 240))
        {
            let full = (input.len() - 1) * stride + (size - 1) * dilation + 1 + extra;
            let Some(output) = full.checked_sub(2 * pad).filter(|output| *output > 0) else { continue };
            let axis = Axis { input: input.len(), output, kernel: size, stride, dilation, pad };
            let Ok((before, positions)) = axis.window() else { continue };
            let spread = if stride == 1 { dilation } else { 1 };
            let mut got = vec![i64::MIN; output];
            for phase in 0..stride {
                let (first, count, start) = axis.visible(phase);
                for q in 0..count {
                    assert!(first + q < positions);
                    let tap = |tap: usize| {
                        let x = (first + q + tap * spread).checked_sub(before).and_then(|at| input.get(at));
                        axis.element(phase, tap).zip(x).map_or(0, |(k, x)| kernel[k] * x)
                    };
                    got[start + q * stride] = (0..axis.taps()).map(tap).sum();
                }
            }
            assert_eq!(got, defined(&axis, &input, &kernel[..size]), "{stride} {dilation} {size} {pad} {extra}");
            taken += 1;
        }
        assert!(taken > 300, "{taken}");
    }
}
