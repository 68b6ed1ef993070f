//! Functions and comparisons of tensors of whole numbers: indices, lengths and masks that a model computes on.

use tractlet_core::plan::{BinaryInt, CompareInt, DType as PlanDType, Whole};

use super::binary::broadcast_dims;
use super::truth::comparison;
use super::value::{Act, Layout, Value};
use super::{Lowering, Why, int};
use crate::model::{DType, Node};

fn function(node: &Node) -> Option<Whole> {
    Some(match node.op.as_str() {
        "Add" | "Sum" => Whole::Add,
        "Sub" => Whole::Sub,
        "Mul" => Whole::Mul,
        "Div" => Whole::Div,
        "Mod" if int(node, "fmod", 0) != 0 => Whole::Remainder,
        "Mod" => Whole::Modulo,
        "Pow" => Whole::Power,
        "Min" => Whole::Min,
        "Max" => Whole::Max,
        "BitwiseAnd" => Whole::And,
        "BitwiseOr" => Whole::Or,
        "BitwiseXor" => Whole::Xor,
        _ => return None,
    })
}

impl<'m> Lowering<'m> {
    /// Lowers a node if all that it works on is whole numbers.
    pub(super) fn whole(&mut self, node: &Node) -> Result<bool, Why> {
        let (function, comparison) = (function(node), comparison(&node.op));
        if function.is_none() && comparison.is_none() && node.op != "Clip" || !self.is_whole(node) {
            return Ok(false);
        }
        let (mut act, dtype) = self.whole_numbers(node, 0, None)?;
        for index in (1..node.inputs.len()).filter(|&index| node.input(index).is_some()) {
            let (b, _) = self.whole_numbers(node, index, Some(dtype))?;
            // A Clip is the larger of the lower bound, and of that the smaller.
            let of_clip = if index == 1 { Whole::Max } else { Whole::Min };
            let dims = broadcast_dims(&act.dims, &b.dims)?;
            let (a, b) = (self.expanded(&node.name, act, &dims)?, self.repeating(&node.name, b, &dims)?);
            let bytes = if comparison.is_some() { 1 } else { dtype.size() };
            act = self.program.tensor(dims, Layout::Plain, bytes);
            let (a, output, dtype) = (self.program.span(&a), self.program.span(&act), plan_type(dtype)?);
            match comparison {
                Some(comparison) => self.program.push(&node.name, CompareInt { a, b, output, dtype, comparison }),
                None => {
                    let function = function.unwrap_or(of_clip);
                    self.program.push(&node.name, BinaryInt { a, b, output, dtype, function });
                }
            }
        }
        let value = match dtype {
            _ if comparison.is_some() => Value::Raw(act, DType::Bool),
            DType::I8 | DType::U8 => Value::Integers(act, dtype),
            _ => Value::Raw(act, dtype),
        };
        self.set(node, value);
        Ok(true)
    }

    pub(super) fn is_whole(&self, node: &Node) -> bool {
        let whole = |dtype: DType| matches!(dtype, DType::I8 | DType::U8 | DType::I32 | DType::I64);
        node.inputs.iter().enumerate().filter(|(_, name)| !name.is_empty()).all(|(index, _)| {
            self.value(node, index).is_ok_and(|value| match value {
                Value::Integers(..) | Value::Known(_) => true,
                Value::Raw(_, dtype) => whole(dtype),
                Value::Stored(tensor) => whole(tensor.dtype),
                _ => false,
            })
        })
    }

    /// A tensor of whole numbers, of a type if one is asked for.
    fn whole_numbers(&mut self, node: &Node, index: usize, asked: Option<DType>) -> Result<(Act, DType), Why> {
        match self.movable(node, index)? {
            Value::Integers(act, dtype) | Value::Raw(act, dtype) if asked.is_none_or(|asked| asked == dtype) => {
                Ok((act, dtype))
            }
            _ => Err("its operands are of different types".into()),
        }
    }
}

fn plan_type(dtype: DType) -> Result<PlanDType, Why> {
    match dtype {
        DType::I8 => Ok(PlanDType::I8),
        DType::U8 => Ok(PlanDType::U8),
        DType::I32 => Ok(PlanDType::I32),
        DType::I64 => Ok(PlanDType::I64),
        other => Err(format!("it computes in {other}; plans compute in float32, int8, uint8, int32 and int64")),
    }
}
