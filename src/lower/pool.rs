//! Pools on integers, and the window of any pool.

use tractlet_core::plan::{AveragePoolS8, MaxPoolS8};
use tractlet_core::shape::{Requantize, Window};

use super::pad::Border;
use super::quantized::Input;
use super::value::{Act, Layout, QParams};
use super::{Lowering, Why, geometry, int, ints};
use crate::model::Node;

impl<'m> Lowering<'m> {
    pub(super) fn max_pool(&mut self, node: &Node, act: &Act) -> Result<Act, Why> {
        if node.outputs.len() > 1 {
            return Err("the indices of a MaxPool are not taken".into());
        }
        let act = self.channels_last(&node.name, act.clone())?;
        let Pooled { act, window, dims, .. } = self.pooled(node, act, 0)?;
        let output = self.program.bytes(dims, Layout::ChannelsLast);
        let (input, span) = (self.program.span(&act), self.program.span(&output));
        self.program.push(&node.name, MaxPoolS8 { input, output: span, window });
        Ok(output)
    }

    pub(super) fn average_pool_s8(
        &mut self,
        node: &Node,
        x: Input,
        to: QParams,
        requantize: Requantize,
    ) -> Result<Act, Why> {
        let act = self.channels_last(&node.name, x.act)?;
        let zero = u64::from(x.q.zero_point as u8);
        let Pooled { act, window, dims, count_include_pad } = self.pooled(node, act, zero)?;
        let output = self.program.bytes(dims, Layout::ChannelsLast);
        let op = AveragePoolS8 {
            input: self.program.span(&act),
            output: self.program.span(&output),
            window,
            count_include_pad,
            multiplier: (f64::from(x.q.scale) / f64::from(to.scale)) as f32,
            input_zero_point: x.q.zero_point,
            requantize,
        };
        self.program.push(&node.name, op);
        Ok(output)
    }

    /// What a pool slides over, by attributes or over the whole image. `zero` are the bits of 0.
    pub(super) fn pooled(&mut self, node: &Node, act: Act, zero: u64) -> Result<Pooled, Why> {
        let dims = self.output_dims(node)?;
        let count_include_pad = int(node, "count_include_pad", 0) != 0;
        if !matches!(node.op.as_str(), "MaxPool" | "AveragePool" | "LpPool") {
            let window = geometry::whole(&act);
            return Ok(Pooled { act, window, dims, count_include_pad: false });
        }
        let kernel: Vec<usize> = ints(node, "kernel_shape").unwrap_or_default().iter().map(|&k| k as usize).collect();
        let window = geometry::window(node, &act, &dims, &kernel)?;
        if !count_include_pad || !geometry::overhangs(node, &window) {
            return Ok(Pooled { act, window, dims, count_include_pad });
        }
        // Padding counts, what ceil_mode reaches for beyond it does not: so padding becomes part of the image.
        let pads: Vec<usize> = node.explicit_pads().unwrap_or_default().iter().map(|&p| p as usize).collect();
        if pads.is_empty() {
            return Ok(Pooled { act, window, dims, count_include_pad: false });
        }
        let spatial = kernel.len();
        let before: Vec<usize> = [0, 0].into_iter().chain(pads[..spatial].iter().copied()).collect();
        let mut whole = act.dims.clone();
        for (dim, (before, after)) in whole.iter_mut().skip(2).zip(pads.iter().zip(&pads[spatial..])) {
            *dim += before + after;
        }
        let (in_h, in_w) = if spatial == 2 { (whole[2], whole[3]) } else { (1, whole[2]) };
        let act = self.bordered(&node.name, act, Border::Bits(zero), &before, whole)?;
        let window = Window { in_h, in_w, pad_top: 0, pad_left: 0, ..window };
        Ok(Pooled { act, window, dims, count_include_pad: false })
    }
}

/// What a pool slides over.
pub(super) struct Pooled {
    pub act: Act,
    pub window: Window,
    /// Of the output.
    pub dims: Vec<usize>,
    /// Whether an average divides by the size of the whole window wherever it lies.
    pub count_include_pad: bool,
}
