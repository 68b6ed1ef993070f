//! Layer, instance and group norms.

use tractlet_core::plan::NormalizeF32;

use super::fold::{repeating, strided};
use super::value::Value;
use super::{Lowering, Why, axis_of, int, number};
use crate::model::Node;

impl<'m> Lowering<'m> {
    pub(super) fn norm_f32(&mut self, node: &Node) -> Result<(), Why> {
        if node.outputs.iter().skip(1).any(|name| !name.is_empty()) {
            return Err("the mean and deviation of a norm are not taken as outputs".into());
        }
        let real = self.real(&node.name, &self.value(node, 0)?)?;
        let act = self.plain(&node.name, real)?;
        let (channels, pixels) = (act.channels(), act.pixels());
        let parameter = |index| self.floats_of(&self.value(node, index)?);
        let (scale, scale_dims) = parameter(1)?;
        let (bias, bias_dims) = match node.input(2) {
            Some(_) => parameter(2)?,
            None => (vec![0.0], vec![]),
        };
        // Columns, how many neighbours share a scale, and how many scales that makes.
        let (cols, run, expected, scale, bias) = match node.op.as_str() {
            "LayerNormalization" => {
                let dims = &act.dims[axis_of(int(node, "axis", -1), act.dims.len())?..];
                let spread = |values: &[f32], from: &[usize]| strided(values, dims, &repeating(from, dims));
                let (scale, bias) = (spread(&scale, &scale_dims), spread(&bias, &bias_dims));
                (scale.len(), 1, scale.len(), scale, bias)
            }
            "GroupNormalization" => {
                let groups = int(node, "num_groups", 1) as usize;
                if !channels.is_multiple_of(groups) {
                    return Err(format!("{groups} groups do not divide {channels} channels"));
                }
                let cols = channels / groups * pixels;
                let run = if scale.len() == channels { pixels } else { cols };
                (cols, run, channels * pixels / run, scale, bias)
            }
            _ => (pixels, pixels, channels, scale, bias),
        };
        if scale.len() != expected || bias.len() != expected {
            return Err(format!("its scale and bias are not {expected} values each"));
        }
        let output = self.program.floats(act.dims.clone(), act.layout);
        let op = NormalizeF32 {
            input: self.program.span(&act),
            output: self.program.span(&output),
            rows: act.elements() / cols,
            cols,
            run,
            channels: scale.len(),
            scale: self.builder.data(&scale),
            bias: self.builder.data(&bias),
            epsilon: number(node, "epsilon", 1e-5),
        };
        self.program.push(&node.name, op);
        self.set(node, Value::Real(output));
        Ok(())
    }
}
