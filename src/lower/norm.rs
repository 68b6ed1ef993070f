//! Layer, instance and group norms, and those by the root mean square.

use tractlet_core::plan::{Binary, NormalizeF32, Reduction, Unary};
use tractlet_core::shape::Along;

use super::binary::UNBOUNDED;
use super::functions::Function;
use super::value::{Act, Layout, Value};
use super::{Lowering, Why, axis_of, int, number};
use crate::model::Node;

impl<'m> Lowering<'m> {
    pub(super) fn norm_f32(&mut self, node: &Node) -> Result<(), Why> {
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
                let scale = self.spread(&scale, &scale_dims, dims)?;
                let bias = self.spread(&bias, &bias_dims, dims)?;
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
        if node.op == "LayerNormalization" && (self.is_read(node, 1) || self.is_read(node, 2)) {
            self.moments(node, &act, cols)?;
        }
        Ok(())
    }

    /// The mean of each row of a layer norm, and what its deviation is multiplied by.
    fn moments(&mut self, node: &Node, act: &Act, cols: usize) -> Result<(), Why> {
        let name = &node.name;
        let along = Along { outer: act.elements() / cols, len: cols, inner: 1 };
        let means = self.reduce(name, act, along, Reduction::Mean, vec![along.outer]);
        let operand = (self.program.span(&means), cols);
        let deviations = self.push_binary(name, act, operand, Binary::Sub, UNBOUNDED);
        let root = self.root_mean_square(node, &deviations, cols);
        let inverse = self.function_f32(name, &root, Function { unary: Unary::Reciprocal, alpha: 0.0, beta: 0.0 });
        let mut dims = act.dims.clone();
        dims[axis_of(int(node, "axis", -1), act.dims.len())?..].fill(1);
        let named = node.outputs.iter().skip(1).zip([means, inverse]).filter(|(output, _)| !output.is_empty());
        for (output, act) in named {
            self.values.insert(output.clone(), Value::Real(act.viewed(dims.clone(), Layout::Plain)));
        }
        Ok(())
    }

    pub(super) fn rms_norm_f32(&mut self, node: &Node) -> Result<(), Why> {
        let real = self.real(&node.name, &self.value(node, 0)?)?;
        let act = self.plain(&node.name, real)?;
        let dims = &act.dims[axis_of(int(node, "axis", -1), act.dims.len())?..];
        let (scale, own) = self.floats_of(&self.value(node, 1)?)?;
        let scale = self.spread(&scale, &own, dims)?;
        let root = self.root_mean_square(node, &act, scale.len());
        let root = (self.program.span(&root), scale.len());
        let normed = self.push_binary(&node.name, &act, root, Binary::Div, UNBOUNDED);
        let scale = (self.builder.data(&scale).into(), 1);
        let output = self.push_binary(&node.name, &normed, scale, Binary::Mul, UNBOUNDED);
        self.set(node, Value::Real(output));
        Ok(())
    }

    /// `sqrt(mean(x^2) + epsilon)` of each row.
    fn root_mean_square(&mut self, node: &Node, act: &Act, cols: usize) -> Act {
        let along = Along { outer: act.elements() / cols, len: cols, inner: 1 };
        let squares = self.reduce(&node.name, act, along, Reduction::SumSquare, vec![along.outer]);
        let (alpha, beta) = (1.0 / cols as f32, number(node, "epsilon", 1e-5));
        let means = self.function_f32(&node.name, &squares, Function { unary: Unary::Affine, alpha, beta });
        self.function_f32(&node.name, &means, Function { unary: Unary::Sqrt, alpha: 0.0, beta: 0.0 })
    }
}
