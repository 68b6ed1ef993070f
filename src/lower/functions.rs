//! Functions of one value: on floats an op, on integers a table.

use tractlet_core::isa::Isa;
use tractlet_core::kernels::unary::unary_f32;
use tractlet_core::plan::Unary;

use super::{Lowering, Why, number};
use crate::model::{AttributeValue, Node};

/// A function of one value.
#[derive(Clone, Copy)]
pub(super) struct Function {
    pub unary: Unary,
    pub alpha: f32,
    pub beta: f32,
}

impl Function {
    /// As the plan's own kernel computes it.
    pub fn of(&self, x: f32) -> f32 {
        let mut y = [x];
        unary_f32(Isa::Generic, &mut y, self.unary, self.alpha, self.beta);
        y[0]
    }
}

/// The node as a function of its first input alone, if it is one.
pub(super) fn unary(lowering: &Lowering<'_>, node: &Node) -> Result<Option<Function>, Why> {
    let function = |unary, alpha, beta| Function { unary, alpha, beta };
    let plain = |unary| function(unary, 0.0, 0.0);
    Ok(Some(match node.op.as_str() {
        "Relu" => function(Unary::Clamp, 0.0, f32::INFINITY),
        // One whose bounds are computed is a function of three tensors.
        "Clip" => match lowering.clamp(node) {
            Some((min, max)) => function(Unary::Clamp, min, max),
            None => return Ok(None),
        },
        "LeakyRelu" => function(Unary::LeakyRelu, number(node, "alpha", 0.01), 0.0),
        "ThresholdedRelu" => function(Unary::ThresholdedRelu, number(node, "alpha", 1.0), 0.0),
        "Elu" => function(Unary::Elu, number(node, "alpha", 1.0), 0.0),
        "Celu" => function(Unary::Celu, number(node, "alpha", 1.0), 0.0),
        "Selu" => function(Unary::Selu, number(node, "alpha", 1.673_263_2), number(node, "gamma", 1.050_701)),
        "HardSigmoid" => function(Unary::HardSigmoid, number(node, "alpha", 0.2), number(node, "beta", 0.5)),
        "HardSwish" => function(Unary::HardSwish, 1.0 / 6.0, 0.5),
        "Shrink" => function(Unary::Shrink, number(node, "lambd", 0.5), number(node, "bias", 0.0)),
        "Swish" => function(Unary::Swish, number(node, "alpha", 1.0), 0.0),
        "Gelu" => match node.attribute("approximate") {
            None => plain(Unary::Gelu),
            Some(AttributeValue::Text(how)) if how == "none" => plain(Unary::Gelu),
            Some(AttributeValue::Text(how)) if how == "tanh" => plain(Unary::GeluTanh),
            _ => return Err("its approximation is neither `none` nor `tanh`".into()),
        },
        "Mish" => plain(Unary::Mish),
        "Softplus" => plain(Unary::Softplus),
        "Softsign" => plain(Unary::Softsign),
        "Sigmoid" => plain(Unary::Sigmoid),
        "Tanh" => plain(Unary::Tanh),
        "Exp" => plain(Unary::Exp),
        "Log" => plain(Unary::Log),
        "Sqrt" => plain(Unary::Sqrt),
        "Abs" => plain(Unary::Abs),
        "Neg" => plain(Unary::Neg),
        "Sign" => plain(Unary::Sign),
        "Reciprocal" => plain(Unary::Reciprocal),
        "Floor" => plain(Unary::Floor),
        "Ceil" => plain(Unary::Ceil),
        "Round" => plain(Unary::Round),
        "Erf" => plain(Unary::Erf),
        "Sin" => plain(Unary::Sin),
        "Cos" => plain(Unary::Cos),
        "Tan" => plain(Unary::Tan),
        "Asin" => plain(Unary::Asin),
        "Acos" => plain(Unary::Acos),
        "Atan" => plain(Unary::Atan),
        "Sinh" => plain(Unary::Sinh),
        "Cosh" => plain(Unary::Cosh),
        "Asinh" => plain(Unary::Asinh),
        "Acosh" => plain(Unary::Acosh),
        "Atanh" => plain(Unary::Atanh),
        op @ ("Add" | "Sub" | "Mul" | "Min" | "Max" | "Pow" | "PRelu") if node.inputs.len() == 2 => {
            let Some((c, first)) = lowering.scalar_operand(node) else { return Ok(None) };
            match (op, first) {
                ("Add", _) => function(Unary::Affine, 1.0, c),
                ("Sub", false) => function(Unary::Affine, 1.0, -c),
                ("Sub", true) => function(Unary::Affine, -1.0, c),
                ("Mul", _) => function(Unary::Affine, c, 0.0),
                ("Min", _) if !c.is_nan() => function(Unary::Clamp, f32::NEG_INFINITY, c),
                ("Max", _) if !c.is_nan() => function(Unary::Clamp, c, f32::INFINITY),
                ("Pow", false) => function(Unary::Power, c, 0.0),
                ("PRelu", false) => function(Unary::LeakyRelu, c, 0.0),
                _ => return Ok(None),
            }
        }
        _ => return Ok(None),
    }))
}
