//! Activations that exporters write out: `x` times a function of `x` is one op, and its middle no tensor.

use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};

use tractlet_core::plan::Unary;

use super::functions::Function;
use super::value::Value;
use super::{Lowering, Why, number};
use crate::model::{DType, Node};

/// The nodes from one on that are a function of its input, by index, and the tensor at their end.
struct Gate<'m> {
    nodes: Vec<usize>,
    output: &'m str,
    function: Function,
}

impl<'m> Lowering<'m> {
    /// Computes the function that begins with a node, if one does.
    pub(super) fn gated(&mut self, node: &Node) -> Result<bool, Why> {
        let operand = self.operand(node);
        let gate = match node.op.as_str() {
            "Sigmoid" | "HardSigmoid" => self.swish(node),
            "Div" | "Mul" => self.gelu(node, operand),
            _ => None,
        };
        let Some(Gate { nodes, output, function }) = gate else { return Ok(false) };
        let input = self.real(&node.name, &self.value(node, operand)?)?;
        let act = self.function_f32(&node.name, &input, function);
        for &index in &nodes {
            self.report(self.nodes[index].origin(), DType::F32);
        }
        self.consumed.extend(nodes);
        self.values.insert(output.to_owned(), Value::Real(act));
        Ok(true)
    }

    /// `x * Sigmoid(x)`, and the same of a HardSigmoid.
    fn swish(&self, node: &Node) -> Option<Gate<'m>> {
        let (index, product) = self.sole_reader(node.outputs.first()?)?;
        let function = match node.op.as_str() {
            "Sigmoid" => Function { unary: Unary::Swish, alpha: 1.0, beta: 0.0 },
            _ => {
                Function { unary: Unary::HardSwish, alpha: number(node, "alpha", 0.2), beta: number(node, "beta", 0.5) }
            }
        };
        let gates = product.op == "Mul" && beside(product, node.outputs.first()?) == node.input(0);
        gates.then(|| Gate { nodes: vec![index], output: &product.outputs[0], function })
    }

    /// `x * 0.5 * (1 + Erf(x / sqrt(2)))`, the first two factors in either order behind the third.
    fn gelu(&self, node: &Node, operand: usize) -> Option<Gate<'m>> {
        let x = node.input(operand)?;
        let rank = self.value(node, operand).ok()?.act()?.dims.len();
        let near = |a: f32, b: f32| (a - b).abs() <= 1e-6;
        let scaled = match (node.op.as_str(), operand) {
            ("Div", 0) => near(self.scalar_beside(node, x, rank)?, SQRT_2),
            ("Mul", _) => near(self.scalar_beside(node, x, rank)?, FRAC_1_SQRT_2),
            _ => false,
        };
        let (erf_at, erf) = self.sole_reader(node.outputs.first().filter(|_| scaled)?)?;
        let (sum_at, sum) = self.sole_reader(erf.outputs.first().filter(|_| erf.op == "Erf")?)?;
        let is_sum = sum.op == "Add" && self.scalar_beside(sum, &erf.outputs[0], rank)? == 1.0;
        let (mut nodes, mut last) = (vec![erf_at, sum_at], sum);
        let (mut halves, mut gates) = (false, false);
        for _ in 0..2 {
            let (index, product) = self.sole_reader(last.outputs.first().filter(|_| is_sum)?)?;
            let factor = beside(product, &last.outputs[0]).filter(|_| product.op == "Mul")?;
            if factor == x && !gates {
                gates = true;
            } else if !halves && self.scalar_beside(product, &last.outputs[0], rank)? == 0.5 {
                halves = true;
            } else {
                return None;
            }
            nodes.push(index);
            last = product;
        }
        let function = Function { unary: Unary::Gelu, alpha: 0.0, beta: 0.0 };
        Some(Gate { nodes, output: &last.outputs[0], function })
    }

    /// The stored number that a node of two operands takes beside one of them, if it has no more dimensions than that.
    fn scalar_beside(&self, node: &Node, tensor: &str, rank: usize) -> Option<f32> {
        let index = usize::from(node.input(0) == Some(tensor));
        let (values, dims) = self.floats_of(&self.value(node, index).ok()?).ok()?;
        (values.len() == 1 && dims.len() <= rank).then(|| values[0])
    }
}

/// The other operand of a node that has two, if one of them is `tensor` and the other is not.
fn beside<'n>(node: &'n Node, tensor: &str) -> Option<&'n str> {
    let [a, b] = [node.input(0)?, node.input(1)?];
    match (a == tensor, b == tensor) {
        (true, false) => Some(b),
        (false, true) => Some(a),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tractlet_core::plan::{Op, Unary};

    use crate::lower::golden;

    fn functions(name: &str) -> Vec<Unary> {
        let steps = golden(name).program.steps;
        let functions = steps.iter().filter_map(|step| match step.op {
            Op::UnaryF32(op) => Some(op.function),
            Op::BinaryF32(op) => panic!("{:?} is left", op.function),
            _ => None,
        });
        functions.collect()
    }

    #[test]
    fn what_exporters_write_out_is_one_function() {
        assert_eq!(functions("silu_written_out"), [Unary::Swish]);
        assert_eq!(functions("hard_swish_written_out"), [Unary::HardSwish]);
        assert_eq!(functions("gelu_written_out"), [Unary::Gelu]);
        assert_eq!(functions("gelu_written_out_halved_first"), [Unary::Gelu]);
    }
}
