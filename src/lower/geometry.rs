//! The window of a convolution or a pool, from its attributes and the shapes at its ends.

use tractlet_core::shape::Window;

use super::pad::Border;
use super::value::Act;
use super::{Lowering, Why, int, ints};
use crate::model::{AttributeValue, Node};

impl Lowering<'_> {
    /// The window of a convolution, and its input: with a border, where windows would lie in padding alone, which kernels do
    /// not have.
    pub(super) fn conv_window(
        &mut self,
        node: &Node,
        act: Act,
        output: &[usize],
        kernel: &[usize],
        zero: Border,
    ) -> Result<(Act, Window), Why> {
        let window = unheld(node, &act, output, kernel)?;
        let [rows, cols] = axes(&window).map(|axis| axis.missing());
        if [rows, cols] == [(0, 0); 2] {
            return Ok((act, window));
        }
        let (mut before, mut dims) = (vec![0; act.dims.len()], act.dims.clone());
        for (at, (more_before, more_after)) in (2..dims.len()).rev().zip([cols, rows]) {
            before[at] = more_before;
            dims[at] = dims[at].saturating_add(more_before).saturating_add(more_after);
        }
        let element_bytes = self.element_bytes(&act) as u64;
        let bytes = dims.iter().try_fold(element_bytes, |bytes, &dim| bytes.checked_mul(dim as u64));
        let most = self.model.limits().tensor_bytes;
        if bytes.is_none_or(|bytes| bytes > most) {
            return Err(format!("its input with padding is too large; a tensor may take {most} bytes"));
        }
        let in_h = window.in_h + rows.0 + rows.1;
        let (in_w, pad_left) = (window.in_w + cols.0 + cols.1, window.pad_left - cols.0);
        let act = self.bordered(&node.name, act, zero, &before, dims)?;
        Ok((act, Window { in_h, in_w, pad_top: window.pad_top - rows.0, pad_left, ..window }))
    }
}

/// `kernel` are the spatial dimensions of the weights, or of `kernel_shape`. 1-D has height 1.
pub(super) fn window(node: &Node, input: &Act, output: &[usize], kernel: &[usize]) -> Result<Window, Why> {
    let window = unheld(node, input, output, kernel)?;
    if axes(&window).iter().any(|axis| axis.missing() != (0, 0)) {
        return Err("windows that hold nothing but padding are not taken".into());
    }
    Ok(window)
}

/// One axis of a window.
struct Axis {
    input: usize,
    output: usize,
    extent: usize,
    stride: usize,
    pad: usize,
}

impl Axis {
    /// By how much the image is too small, before and after, for the first window to reach into it, and for the last to
    /// begin in it.
    fn missing(&self) -> (usize, usize) {
        let last_start = (self.output - 1) * self.stride;
        (self.pad.saturating_sub(self.extent), (last_start + 1).saturating_sub(self.input + self.pad))
    }
}

fn axes(w: &Window) -> [Axis; 2] {
    let (extent_h, extent_w) = ((w.kernel_h - 1) * w.dilation_h, (w.kernel_w - 1) * w.dilation_w);
    [
        Axis { input: w.in_h, output: w.out_h, extent: extent_h, stride: w.stride_h, pad: w.pad_top },
        Axis { input: w.in_w, output: w.out_w, extent: extent_w, stride: w.stride_w, pad: w.pad_left },
    ]
}

/// The window as the model states it, wherever it lies.
fn unheld(node: &Node, input: &Act, output: &[usize], kernel: &[usize]) -> Result<Window, Why> {
    let spatial = input.dims.get(2..).unwrap_or_default();
    if !(1..=2).contains(&spatial.len()) || kernel.len() != spatial.len() || output.len() != input.dims.len() {
        return Err(format!("windows over {} spatial dimensions are not taken, 1 and 2 are", spatial.len()));
    }
    let count = spatial.len();
    let list = |name: &str, default: usize| -> Vec<usize> {
        ints(node, name).map_or(vec![default; count], |values| values.iter().map(|&v| v as usize).collect())
    };
    let (strides, dilations) = (list("strides", 1), list("dilations", 1));
    let mut before: Vec<usize> =
        node.explicit_pads().map_or(vec![0; count], |pads| pads[..count].iter().map(|&p| p as usize).collect());
    if let Some(same) = Same::of(node) {
        for axis in 0..count {
            let reach = (kernel[axis] - 1) * dilations[axis] + 1;
            let total = ((output[2 + axis] - 1) * strides[axis] + reach).saturating_sub(spatial[axis]);
            before[axis] = same.before(total);
        }
    }
    // The last axis is the width; a missing height is 1 everywhere and has no padding.
    let height = |values: &[usize], default: usize| if count == 2 { values[0] } else { default };
    let width = count - 1;
    Ok(Window {
        in_h: height(spatial, 1),
        in_w: spatial[width],
        in_c: input.channels(),
        out_h: height(&output[2..], 1),
        out_w: output[2 + width],
        kernel_h: height(kernel, 1),
        kernel_w: kernel[width],
        stride_h: height(&strides, 1),
        stride_w: strides[width],
        dilation_h: height(&dilations, 1),
        dilation_w: dilations[width],
        pad_top: height(&before, 0),
        pad_left: before[width],
    })
}

/// Padding that gives an output for every stride of the input.
#[derive(Clone, Copy)]
pub(super) enum Same {
    Upper,
    Lower,
}

impl Same {
    pub fn of(node: &Node) -> Option<Same> {
        match node.attribute("auto_pad") {
            Some(AttributeValue::Text(text)) if text == "SAME_UPPER" => Some(Same::Upper),
            Some(AttributeValue::Text(text)) if text == "SAME_LOWER" => Some(Same::Lower),
            _ => None,
        }
    }

    /// Of an axis' whole padding what comes first: the one more of an odd one is where the name says.
    pub fn before(self, total: usize) -> usize {
        match self {
            Same::Upper => total / 2,
            Same::Lower => total.div_ceil(2),
        }
    }
}

/// Whether the last windows reach beyond the padding, as `ceil_mode` lets them.
pub(super) fn overhangs(node: &Node, window: &Window) -> bool {
    // There is as much padding as they need.
    if Same::of(node).is_some() {
        return false;
    }
    let after: Vec<usize> = node.explicit_pads().map_or(vec![], |pads| pads.iter().map(|&p| p as usize).collect());
    let (height, width) = match *after.as_slice() {
        [.., height, width] if after.len() == 4 => (height, width),
        [.., width] => (0, width),
        [] => (0, 0),
    };
    let w = window;
    let end = |output: usize, stride: usize, kernel: usize, dilation: usize| {
        (output - 1) * stride + (kernel - 1) * dilation + 1
    };
    int(node, "ceil_mode", 0) != 0
        && (end(w.out_h, w.stride_h, w.kernel_h, w.dilation_h) > w.pad_top + w.in_h + height
            || end(w.out_w, w.stride_w, w.kernel_w, w.dilation_w) > w.pad_left + w.in_w + width)
}

/// A window over the whole of an image.
pub(super) fn whole(input: &Act) -> Window {
    let pixels = input.pixels();
    Window { out_w: 1, kernel_w: pixels, in_w: pixels, ..Window::pixels(1, input.channels()) }
}

/// OIHW to OHWI, of as many outputs as there are weights for.
pub(super) fn ohwi<T: Copy>(weights: &[T], in_c: usize, taps: usize) -> Vec<T> {
    let mut moved = weights.to_vec();
    let filter = (in_c * taps).max(1);
    for (from, to) in weights.chunks_exact(filter).zip(moved.chunks_exact_mut(filter)) {
        for (tap, to) in to.chunks_exact_mut(in_c).enumerate() {
            to.iter_mut().zip(from[tap..].iter().step_by(taps)).for_each(|(to, from)| *to = *from);
        }
    }
    moved
}

/// What an iterator gives that does not say how much that is: weights may be most of what there is, and a vector that
/// grows takes up to three times as much on the way.
pub(super) fn sized<T>(len: usize, values: impl Iterator<Item = T>) -> Vec<T> {
    let mut all = Vec::with_capacity(len);
    all.extend(values);
    all
}
