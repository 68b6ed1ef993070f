//! Questions about floats, logic on their answers, choices by them, and conversions.

use tractlet_core::plan::{
    CompareF32, Comparison, Convert, DType as PlanDType, Fill, Logic, LogicBool, Operand, Select, Unary,
};

use super::binary::{broadcast_dims, stands_for};
use super::functions::Function;
use super::value::{Act, Layout, QParams, Value};
use super::{Lowering, Why, int};
use crate::model::{DType, Node};

pub(super) fn asks(op: &str) -> bool {
    comparison(op).is_some()
        || matches!(op, "And" | "Or" | "Xor" | "Not" | "IsNaN" | "IsInf" | "Where" | "Cast" | "CastLike" | "Trilu")
}

pub(super) fn comparison(op: &str) -> Option<Comparison> {
    Some(match op {
        "Equal" => Comparison::Equal,
        "Less" => Comparison::Less,
        "LessOrEqual" => Comparison::LessOrEqual,
        "Greater" => Comparison::Greater,
        "GreaterOrEqual" => Comparison::GreaterOrEqual,
        _ => return None,
    })
}

impl<'m> Lowering<'m> {
    pub(super) fn ask(&mut self, node: &Node) -> Result<(), Why> {
        let value = match node.op.as_str() {
            "And" | "Or" | "Xor" => self.logic(node)?,
            "Not" => {
                let act = self.raw(node, 0, DType::Bool)?;
                Value::Raw(self.table(&node.name, &act, |x| i8::from(x == 0)), DType::Bool)
            }
            "IsNaN" => {
                let x = self.real(&node.name, &self.value(node, 0)?)?;
                let itself = self.program.span(&x);
                self.compared(&node.name, &x, itself, Comparison::NotEqual)
            }
            "IsInf" => self.is_infinite(node)?,
            "Where" => self.chosen(node)?,
            "Cast" | "CastLike" => self.cast(node)?,
            "Trilu" => self.triangle(node)?,
            _ => self.compare(node)?,
        };
        self.set(node, value);
        Ok(())
    }

    fn compare(&mut self, node: &Node) -> Result<Value<'m>, Why> {
        let comparison = comparison(&node.op).ok_or("it is no comparison")?;
        let (first, second) = (self.value(node, 0)?, self.value(node, 1)?);
        let a = self.real(&node.name, &first)?;
        let b_dims = match second.act() {
            Some(act) => act.dims.clone(),
            None => self.floats_of(&second)?.1,
        };
        let dims = broadcast_dims(&a.dims, &b_dims)?;
        let a = self.expanded(&node.name, a, &dims)?;
        let b = self.along_all(&node.name, &second, &dims)?;
        Ok(self.compared(&node.name, &a, b, comparison))
    }

    pub(super) fn compared(&mut self, name: &str, a: &Act, b: Operand, comparison: Comparison) -> Value<'m> {
        let result = self.program.bytes(a.dims.clone(), a.layout);
        let (a, output) = (self.program.span(a), self.program.span(&result));
        self.program.push(name, CompareF32 { a, b, output, comparison });
        Value::Raw(result, DType::Bool)
    }

    /// Floats as they are repeated along a plain tensor of dimensions `dims`, one value for each element in turn.
    fn along_all(&mut self, name: &str, value: &Value<'m>, dims: &[usize]) -> Result<Operand, Why> {
        let (operand, inner) = self.repeated(name, value, dims)?;
        if inner == 1 || operand.len == 4 {
            return Ok(operand);
        }
        let act = self.real(name, value)?;
        let act = self.expanded(name, act, dims)?;
        Ok(self.program.span(&act))
    }

    fn is_infinite(&mut self, node: &Node) -> Result<Value<'m>, Why> {
        let mut x = self.real(&node.name, &self.value(node, 0)?)?;
        let sides = (int(node, "detect_negative", 1) != 0, int(node, "detect_positive", 1) != 0);
        let bound = match sides {
            (true, false) => f32::NEG_INFINITY,
            (_, true) => f32::INFINITY,
            (false, false) => {
                let result = self.program.bytes(x.dims.clone(), x.layout);
                let output = self.program.span(&result);
                self.program.push(&node.name, Fill { output, element_bytes: 1, bits: 0 });
                return Ok(Value::Raw(result, DType::Bool));
            }
        };
        if sides == (true, true) {
            x = self.function_f32(&node.name, &x, Function { unary: Unary::Abs, alpha: 0.0, beta: 0.0 });
        }
        let bound = self.builder.data(&[bound]).into();
        Ok(self.compared(&node.name, &x, bound, Comparison::Equal))
    }

    fn logic(&mut self, node: &Node) -> Result<Value<'m>, Why> {
        let function = match node.op.as_str() {
            "And" => Logic::And,
            "Or" => Logic::Or,
            _ => Logic::Xor,
        };
        let (a, b) = (self.raw(node, 0, DType::Bool)?, self.raw(node, 1, DType::Bool)?);
        let dims = broadcast_dims(&a.dims, &b.dims)?;
        let (a, b) = (self.expanded(&node.name, a, &dims)?, self.repeating(&node.name, b, &dims)?);
        let result = self.program.bytes(dims, Layout::Plain);
        let (a, output) = (self.program.span(&a), self.program.span(&result));
        self.program.push(&node.name, LogicBool { a, b, output, function });
        Ok(Value::Raw(result, DType::Bool))
    }

    /// A tensor of elements that only move, of the type that is asked for.
    fn raw(&mut self, node: &Node, index: usize, dtype: DType) -> Result<Act, Why> {
        match self.movable(node, index)? {
            Value::Raw(act, found) if found == dtype => Ok(act),
            _ => Err(format!("input {index} must be {dtype}")),
        }
    }

    /// A tensor as it is repeated along a plain one of dimensions `dims`.
    pub(super) fn repeating(&mut self, name: &str, act: Act, dims: &[usize]) -> Result<Operand, Why> {
        let act = self.plain(name, act)?;
        let act = match stands_for(&act.dims, dims) {
            _ if act.elements() == 1 => act,
            Some(1) => act,
            _ => self.expanded(name, act, dims)?,
        };
        Ok(self.program.span(&act))
    }

    fn chosen(&mut self, node: &Node) -> Result<Value<'m>, Why> {
        let condition = self.raw(node, 0, DType::Bool)?;
        let (a, b) = (self.movable(node, 1)?, self.movable(node, 2)?);
        let (a, b, like) = match (&a, &b) {
            (Value::Raw(x, dtype), Value::Raw(y, other)) if dtype == other => (x.clone(), y.clone(), a.clone()),
            (Value::Integers(x, dtype), Value::Integers(y, other)) if dtype == other => {
                (x.clone(), y.clone(), a.clone())
            }
            _ => {
                let (x, y) = (self.real(&node.name, &a)?, self.real(&node.name, &b)?);
                (x.clone(), y, Value::Real(x))
            }
        };
        let element_bytes = self.element_bytes(&a);
        let dims = broadcast_dims(&broadcast_dims(&condition.dims, &a.dims)?, &b.dims)?;
        let name = &node.name;
        let condition = self.repeating(name, condition, &dims)?;
        let (a, b) = (self.repeating(name, a, &dims)?, self.repeating(name, b, &dims)?);
        let result = self.program.tensor(dims, Layout::Plain, element_bytes);
        let output = self.program.span(&result);
        self.program.push(name, Select { condition, a, b, output, element_bytes });
        Ok(like.with(result))
    }

    /// Zeros above or below a diagonal.
    fn triangle(&mut self, node: &Node) -> Result<Value<'m>, Why> {
        let value = self.movable(node, 0)?;
        if matches!(value, Value::Dequantized(..) | Value::Integers(..)) {
            return Err("of quantized values it is not taken".into());
        }
        let diagonal = match node.input(1) {
            None => 0,
            Some(_) => match self.stored_longs(node, 1)?.as_deref() {
                Some(&[k]) => k,
                _ => return Err("its diagonal is computed".into()),
            },
        };
        let act = self.plain(&node.name, value.act().ok_or("it has no input")?.clone())?;
        let &[.., rows, cols] = act.dims.as_slice() else { return Err("it needs a matrix".into()) };
        let upper = int(node, "upper", 1) != 0;
        let kept = |row: usize, col: usize| {
            let above = (col as i64).saturating_sub(row as i64);
            u8::from(if upper { above >= diagonal } else { above <= diagonal })
        };
        let mask: Vec<u8> = (0..rows).flat_map(|row| (0..cols).map(move |col| kept(row, col))).collect();
        let element_bytes = self.element_bytes(&act);
        let (condition, zero) = (self.builder.data(&mask).into(), self.builder.data(&vec![0u8; element_bytes]).into());
        let result = self.program.tensor(act.dims.clone(), Layout::Plain, element_bytes);
        let (a, output) = (self.program.span(&act), self.program.span(&result));
        self.program.push(&node.name, Select { condition, a, b: zero, output, element_bytes });
        Ok(value.with(result))
    }

    fn cast(&mut self, node: &Node) -> Result<Value<'m>, Why> {
        let to = match node.op.as_str() {
            "CastLike" => node.input(1).and_then(|name| self.shapes.get(name)).map(|(dtype, _)| dtype),
            _ => DType::from_onnx(int(node, "to", 0)),
        };
        let to = to.ok_or("the type that it casts to is not known")?;
        let value = self.movable(node, 0)?;
        let (act, from) = match value {
            Value::Integers(act, dtype) if to == DType::F32 => {
                // What is stored less 128 has its zero there.
                let zero_point = if dtype == DType::U8 { -128 } else { 0 };
                return Ok(Value::Dequantized(act, QParams { scale: 1.0, zero_point }));
            }
            Value::Integers(_, dtype) | Value::Raw(_, dtype) if dtype == to => return Ok(value),
            Value::Raw(act, dtype) => (act, dtype),
            Value::Integers(act, dtype) => {
                let zero_point = if dtype == DType::U8 { -128 } else { 0 };
                (self.real(&node.name, &Value::Dequantized(act, QParams { scale: 1.0, zero_point }))?, DType::F32)
            }
            value if to == DType::F32 => return Ok(value),
            value => (self.real(&node.name, &value)?, DType::F32),
        };
        let (plan_from, plan_to) = (plan_type(from)?, plan_type(to)?);
        let result = self.program.tensor(act.dims.clone(), act.layout, to.size());
        let (input, output) = (self.program.span(&act), self.program.span(&result));
        self.program.push(&node.name, Convert { input, output, from: plan_from, to: plan_to });
        Ok(if to == DType::F32 { Value::Real(result) } else { Value::Raw(result, to) })
    }

    /// Indices as an op takes them.
    pub(super) fn indices(&mut self, node: &Node, index: usize) -> Result<Act, Why> {
        let value = self.movable(node, index)?;
        let (act, from) = match value {
            Value::Raw(act, DType::I64) => return self.plain(&node.name, act),
            Value::Raw(act, from) => (act, from),
            value => (self.real(&node.name, &value)?, DType::F32),
        };
        let act = self.plain(&node.name, act)?;
        let result = self.program.tensor(act.dims.clone(), Layout::Plain, 8);
        let (input, output) = (self.program.span(&act), self.program.span(&result));
        self.program.push(&node.name, Convert { input, output, from: plan_type(from)?, to: PlanDType::I64 });
        Ok(result)
    }
}

fn plan_type(dtype: DType) -> Result<PlanDType, Why> {
    match dtype {
        DType::F32 => Ok(PlanDType::F32),
        DType::Bool => Ok(PlanDType::Bool),
        DType::I32 => Ok(PlanDType::I32),
        DType::I64 => Ok(PlanDType::I64),
        other => Err(format!("a cast to or from {other} is not taken")),
    }
}
