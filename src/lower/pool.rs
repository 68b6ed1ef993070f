//! Pools on integers, and the window of any pool.

use tractlet_core::plan::{AveragePoolS8, MaxPoolS8};
use tractlet_core::shape::{Requantize, Window};

use super::quantized::Input;
use super::value::{Act, Layout, QParams};
use super::{Lowering, Why, axis_of, geometry, int, ints};
use crate::model::Node;

impl<'m> Lowering<'m> {
    pub(super) fn max_pool(&mut self, node: &Node, act: &Act) -> Result<Act, Why> {
        if node.outputs.len() > 1 {
            return Err("the indices of a MaxPool are not taken".into());
        }
        let act = self.channels_last(&node.name, act.clone())?;
        let (window, dims) = self.pool_window(node, &act)?;
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
        let (window, dims) = self.pool_window(node, &act)?;
        let output = self.program.bytes(dims, Layout::ChannelsLast);
        let op = AveragePoolS8 {
            input: self.program.span(&act),
            output: self.program.span(&output),
            window,
            count_include_pad: int(node, "count_include_pad", 0) != 0,
            multiplier: (f64::from(x.q.scale) / f64::from(to.scale)) as f32,
            input_zero_point: x.q.zero_point,
            requantize,
        };
        self.program.push(&node.name, op);
        Ok(output)
    }

    /// Window and output dimensions of a pool, be it by attributes or over the whole image.
    pub(super) fn pool_window(&self, node: &Node, act: &Act) -> Result<(Window, Vec<usize>), Why> {
        let dims = self.output_dims(node)?;
        match node.op.as_str() {
            "GlobalAveragePool" | "GlobalMaxPool" => Ok((geometry::whole(act), dims)),
            "ReduceMean" => {
                let rank = act.dims.len();
                let stored = match ints(node, "axes") {
                    Some(axes) => axes.to_vec(),
                    None => self.stored_longs(node, 1)?.ok_or("the axes of its mean are not stored")?,
                };
                let axes: Vec<usize> = stored.iter().map(|&a| axis_of(a, rank)).collect();
                let spatial = (2..rank).all(|axis| axes.contains(&axis)) && axes.len() == rank - 2;
                if !spatial {
                    return Err(format!("a mean over dimensions {axes:?} is not taken, over all spatial ones it is"));
                }
                Ok((geometry::whole(act), dims))
            }
            _ => {
                let kernel: Vec<usize> =
                    ints(node, "kernel_shape").unwrap_or_default().iter().map(|&k| k as usize).collect();
                let window = geometry::window(node, act, &dims, &kernel)?;
                if node.op == "AveragePool" && (window.dilation_h, window.dilation_w) != (1, 1) {
                    return Err("a dilated average is not taken".into());
                }
                // Padding counts, what ceil_mode reaches for beyond it does not.
                if int(node, "count_include_pad", 0) != 0 && geometry::overhangs(node, &window) {
                    return Err("an average that counts padding, of windows beyond it, is not taken".into());
                }
                Ok((window, dims))
            }
        }
    }
}
