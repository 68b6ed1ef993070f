//! Operators of two tensors, or more: which of their broadcasts an op can do, on integers and floats.
//!
//! An op repeats its second operand along the first as the elements lie: a scalar, one value for
//! each channel of an image, or a tensor of the same shape. On floats each value may stand for several
//! elements in a row. What is left of ONNX's broadcasts is a copy with repeated elements.

use tractlet_core::plan::{AddS8, Binary, BinaryF32, COPY_DIMS, MulS8, Operand, Unary};
use tractlet_core::shape::Requantize;

use super::constant::normal;
use super::fold::repeating;
use super::functions::Function;
use super::quantized::Input;
use super::value::{Act, Layout, QParams, Value};
use super::{Lowering, Why};
use crate::model::Node;

pub(super) const UNALIGNED: &str = "its operands broadcast in a way that is not taken";

/// What bounds nothing.
pub(super) const UNBOUNDED: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);

impl<'m> Lowering<'m> {
    /// Two tensors of integers, one of them stored perhaps; `None` leaves it to floats.
    pub(super) fn binary_s8(
        &mut self,
        node: &Node,
        x: Input,
        to: QParams,
        requantize: Requantize,
    ) -> Result<Option<Act>, Why> {
        let index = self.operand(node);
        let (a, b_q, b_span, swapped) = match self.value(node, 1 - index)? {
            Value::Dequantized(act, q) => {
                let swapped = act.elements() > x.act.elements();
                let (a, b) = if swapped { (Input { act, q }, x) } else { (x, Input { act, q }) };
                let (a_act, b_act) = match self.aligned(&node.name, a.act.clone(), b.act.clone()) {
                    Ok(aligned) => aligned,
                    Err(_) => {
                        let dims = broadcast_dims(&a.act.dims, &b.act.dims)?;
                        let a = self.expanded(&node.name, a.act, &dims)?;
                        (a, self.expanded(&node.name, b.act, &dims)?)
                    }
                };
                (Input { act: a_act, q: a.q }, b.q, self.program.span(&b_act), swapped)
            }
            Value::DequantizedStored(stored) => {
                let Some((values, q)) = self.integers_of(&stored)? else { return Ok(None) };
                let own = &stored.tensor.dims;
                let (act, b) = match self.constant_along(&node.name, x.act.clone(), values.clone(), own) {
                    Ok(along) => along,
                    Err(_) => {
                        let dims = broadcast_dims(&x.act.dims, own)?;
                        let values = self.spread(&values, own, &dims)?;
                        let act = if x.act.dims == dims { x.act } else { self.expanded(&node.name, x.act, &dims)? };
                        self.constant_along(&node.name, act, values, &dims)?
                    }
                };
                (Input { act, q: x.q }, q, b, index == 1)
            }
            _ => return Ok(None),
        };
        let output = self.program.bytes(a.act.dims.clone(), a.act.layout);
        let (a_span, out) = (self.program.span(&a.act), self.program.span(&output));
        let (a_zero_point, b_zero_point) = (a.q.zero_point, b_q.zero_point);
        let ratio = |scale: f32| (f64::from(scale) / f64::from(to.scale)) as f32;
        if node.op == "Mul" {
            let multiplier = (f64::from(a.q.scale) * f64::from(b_q.scale) / f64::from(to.scale)) as f32;
            self.program.push(
                &node.name,
                MulS8 { a: a_span, b: b_span, output: out, multiplier, a_zero_point, b_zero_point, requantize },
            );
        } else {
            let (mut a_multiplier, mut b_multiplier) = (ratio(a.q.scale), ratio(b_q.scale));
            if node.op == "Sub" {
                *(if swapped { &mut a_multiplier } else { &mut b_multiplier }) *= -1.0;
            }
            let op = AddS8 {
                a: a_span,
                b: b_span,
                output: out,
                a_multiplier,
                b_multiplier,
                a_zero_point,
                b_zero_point,
                requantize,
            };
            self.program.push(&node.name, op);
        }
        Ok(Some(output))
    }

    /// A function of two tensors or more, folded from the first to the last.
    pub(super) fn binary_f32(&mut self, node: &Node) -> Result<(), Why> {
        let op = node.op.as_str();
        if op == "Mod" && super::int(node, "fmod", 0) == 0 {
            return Err("on floats it is taken with `fmod`, as ONNX has it".into());
        }
        let mut result = self.value(node, 0)?;
        for index in 1..node.inputs.len() {
            let next = self.value(node, index)?;
            let clamped = index + 1 == node.inputs.len() && op != "Mean";
            let (name, min, max) =
                if clamped { self.clamped(node)? } else { (String::new(), f32::NEG_INFINITY, f32::INFINITY) };
            result = Value::Real(self.pair_f32(node, &result, &next, (min, max))?);
            if clamped {
                self.values.insert(name, result);
                return Ok(());
            }
        }
        let mut sum = self.real(&node.name, &result)?;
        if op == "Mean" && node.inputs.len() > 1 {
            let alpha = 1.0 / node.inputs.len() as f32;
            sum = self.function_f32(&node.name, &sum, Function { unary: Unary::Affine, alpha, beta: 0.0 });
        }
        self.set(node, Value::Real(sum));
        Ok(())
    }

    /// `min(max(x, lower), upper)` by bounds that are computed.
    pub(super) fn clip_f32(&mut self, node: &Node) -> Result<(), Why> {
        let mut result = self.real(&node.name, &self.value(node, 0)?)?;
        for (index, function) in [(1, Binary::Max), (2, Binary::Min)] {
            if node.input(index).is_some() {
                let bound = self.value(node, index)?;
                let a = self.plain(&node.name, result)?;
                let (b, inner) = self.repeated(&node.name, &bound, &a.dims)?;
                result = self.push_binary(&node.name, &a, (b, inner), function, UNBOUNDED);
            }
        }
        self.set(node, Value::Real(result));
        Ok(())
    }

    fn pair_f32(&mut self, node: &Node, first: &Value<'m>, second: &Value<'m>, limits: (f32, f32)) -> Result<Act, Why> {
        let name = &node.name;
        let reverses = !matches!(node.op.as_str(), "Pow" | "Mod" | "PRelu");
        let mut swapped = reverses && first.is_constant() && !second.is_constant();
        let (a, b) = if swapped { (second, first) } else { (first, second) };
        let mut a = self.real(name, a)?;
        let operand;
        if b.is_constant() {
            let (mut values, dims) = self.numbers_of(b)?;
            if matches!(node.op.as_str(), "Add" | "Sum" | "Sub") {
                values.iter_mut().for_each(|value| *value = normal(*value));
            }
            match self.constant_along(name, a.clone(), values, &dims) {
                Ok((aligned, b)) => (a, operand) = (aligned, (b, 1)),
                Err(_) => (a, operand) = self.broadcast(name, a, b, &dims)?,
            }
        } else {
            let mut b = self.real(name, b)?;
            if reverses && broadcast_dims(&a.dims, &b.dims)? == b.dims && a.dims != b.dims {
                std::mem::swap(&mut a, &mut b);
                swapped = !swapped;
            }
            match self.aligned(name, a.clone(), b.clone()) {
                Ok((aligned, b)) => (a, operand) = (aligned, (self.program.span(&b), 1)),
                Err(_) => {
                    let dims = b.dims.clone();
                    (a, operand) = self.broadcast(name, a, &Value::Real(b), &dims)?;
                }
            }
        }
        let function = match (node.op.as_str(), swapped) {
            ("Add" | "Sum" | "Mean", _) => Binary::Add,
            ("Sub", false) => Binary::Sub,
            ("Sub", true) => Binary::ReverseSub,
            ("Mul", _) => Binary::Mul,
            ("Div", false) => Binary::Div,
            ("Div", true) => Binary::ReverseDiv,
            ("Min", _) => Binary::Min,
            ("Max", _) => Binary::Max,
            ("Pow", _) => Binary::Power,
            ("Mod", _) => Binary::Remainder,
            ("PRelu", _) => Binary::LeakyRelu,
            (op, _) => return Err(format!("operator {op} is no function of two tensors")),
        };
        Ok(self.push_binary(name, &a, operand, function, limits))
    }

    /// An op on `a` and what is repeated along it.
    pub(super) fn push_binary(
        &mut self,
        name: &str,
        a: &Act,
        (b, inner): (Operand, usize),
        function: Binary,
        (min, max): (f32, f32),
    ) -> Act {
        let output = self.program.floats(a.dims.clone(), a.layout);
        let (a, span) = (self.program.span(a), self.program.span(&output));
        self.program.push(name, BinaryF32 { a, b, output: span, function, inner, min, max });
        output
    }

    /// `a` with the dimensions of the result, and `b` as it is repeated along it.
    fn broadcast(
        &mut self,
        name: &str,
        a: Act,
        b: &Value<'m>,
        b_dims: &[usize],
    ) -> Result<(Act, (Operand, usize)), Why> {
        let dims = broadcast_dims(&a.dims, b_dims)?;
        let a = self.expanded(name, a, &dims)?;
        let operand = self.repeated(name, b, &dims)?;
        Ok((a, operand))
    }

    /// A tensor of floats as it is repeated along one of dimensions `dims`, and for how many elements in a row each of its
    /// values stands.
    pub(super) fn repeated(&mut self, name: &str, value: &Value<'m>, dims: &[usize]) -> Result<(Operand, usize), Why> {
        if value.is_constant() {
            let (values, own) = self.numbers_of(value)?;
            if let Some(inner) = stands_for(&own, dims) {
                return Ok((self.builder.data(&values).into(), inner));
            }
        }
        let act = self.real(name, value)?;
        let act = self.plain(name, act)?;
        if let Some(inner) = stands_for(&act.dims, dims) {
            return Ok((self.program.span(&act), inner));
        }
        let act = self.expanded(name, act, dims)?;
        Ok((self.program.span(&act), 1))
    }

    /// A plain tensor whose elements are repeated to `dims`, which its own broadcast to.
    pub(super) fn expanded(&mut self, name: &str, act: Act, dims: &[usize]) -> Result<Act, Why> {
        let act = self.plain(name, act)?;
        if act.elements() == dims.iter().product::<usize>() {
            return Ok(act.viewed(dims.to_vec(), Layout::Plain));
        }
        let (counts, strides) = merged(dims, &repeating(&act.dims, dims));
        if counts.len() > COPY_DIMS {
            return Err(format!("a broadcast from {:?} to {dims:?} is not taken", act.dims));
        }
        Ok(self.copied(name, &act, &counts, &strides, dims.to_vec(), Layout::Plain))
    }

    /// Both operands in layouts in which an op can repeat the second along the first.
    pub(super) fn aligned(&mut self, name: &str, a: Act, b: Act) -> Result<(Act, Act), Why> {
        if a.dims == b.dims {
            let b = self.laid(name, b, a.layout)?;
            return Ok((a, b));
        }
        let a = self.along(name, a, &b.dims)?.ok_or(UNALIGNED)?;
        Ok((a, b))
    }

    /// `a` in a layout along which a tensor of dimensions `b` repeats, if there is one.
    pub(super) fn along(&mut self, name: &str, a: Act, b: &[usize]) -> Result<Option<Act>, Why> {
        let image = matches!(a.dims.len(), 3 | 4) && a.dims[0] == 1;
        let layouts = [a.layout, if image && a.layout == Layout::Plain { Layout::ChannelsLast } else { Layout::Plain }];
        match layouts.into_iter().find(|&layout| repeats(&a.dims, layout, b)) {
            Some(layout) => self.laid(name, a, layout).map(Some),
            None => Ok(None),
        }
    }

    /// The constant operand of a binary operator with a scalar, and whether it comes first.
    pub(super) fn scalar_operand(&self, node: &Node) -> Option<(f32, bool)> {
        let scalar = |index: usize, other: usize| {
            let (values, dims) = self.numbers_of(&self.value(node, index).ok()?).ok()?;
            let other = self.value(node, other).ok()?;
            // A scalar of more dimensions would give its own to the result.
            (values.len() == 1 && dims.len() <= other.act()?.dims.len()).then(|| values[0])
        };
        scalar(1, 0).map(|value| (value, false)).or_else(|| scalar(0, 1).map(|value| (value, true)))
    }

    /// The first input of a node that is not constant, of the two that can be. The others of a Clip are its bounds.
    pub(super) fn operand(&self, node: &Node) -> usize {
        let two = node.inputs.len() > 1 && node.op != "Clip";
        usize::from(two && self.value(node, 0).is_ok_and(|value| value.is_constant()))
    }
}

/// Whether a tensor of dimensions `b` repeats along one of dimensions `a` as its elements lie: a
/// scalar, or one value for each channel, innermost.
pub(super) fn repeats(a: &[usize], layout: Layout, b: &[usize]) -> bool {
    // Dimensions of b count from the last of a's.
    let Some(missing) = a.len().checked_sub(b.len()) else { return false };
    let channel = match layout {
        Layout::ChannelsLast => 1,
        Layout::Plain => a.len().saturating_sub(1),
    };
    match b.iter().product() {
        1 => true,
        elements => a.get(channel) == Some(&elements) && b.get(channel.wrapping_sub(missing)) == Some(&elements),
    }
}

/// Dimensions of the result of an operator on two tensors.
pub(super) fn broadcast_dims(a: &[usize], b: &[usize]) -> Result<Vec<usize>, Why> {
    let rank = a.len().max(b.len());
    let dim = |dims: &[usize], i: usize| (i + dims.len()).checked_sub(rank).map_or(1, |i| dims[i]);
    (0..rank)
        .map(|i| match (dim(a, i), dim(b, i)) {
            (1, other) | (other, 1) => Ok(other),
            (x, y) if x == y => Ok(x),
            _ => Err(format!("its operands {a:?} and {b:?} do not broadcast")),
        })
        .collect()
}

/// For how many elements in a row each value of a tensor of dimensions `own` stands where it is repeated along one of
/// dimensions `dims`; `None` if its values are not in the order of those.
pub(super) fn stands_for(own: &[usize], dims: &[usize]) -> Option<usize> {
    let missing = dims.len().checked_sub(own.len())?;
    let own: Vec<usize> = std::iter::repeat_n(1, missing).chain(own.iter().copied()).collect();
    let Some(first) = own.iter().position(|&d| d != 1) else { return Some(1) };
    let last = own.iter().rposition(|&d| d != 1)?;
    (own[first..=last] == dims[first..=last]).then(|| dims[last + 1..].iter().product())
}

/// The same walk over elements in fewer dimensions: those of 1 left out, those that follow each other joined.
pub(super) fn merged(dims: &[usize], strides: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let mut walk: Vec<(usize, usize)> = vec![];
    for (&dim, &stride) in dims.iter().zip(strides).filter(|(dim, _)| **dim != 1) {
        match walk.last_mut() {
            Some((count, step)) if *step == stride * dim => (*count, *step) = (*count * dim, stride),
            _ => walk.push((dim, stride)),
        }
    }
    if walk.is_empty() {
        walk.push((1, 1));
    }
    walk.into_iter().unzip()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_for_runs_where_their_order_is_kept() {
        assert_eq!(stands_for(&[4], &[2, 3, 4]), Some(1));
        assert_eq!(stands_for(&[3, 1], &[2, 3, 4]), Some(4));
        assert_eq!(stands_for(&[2, 1, 1], &[2, 3, 4]), Some(12));
        assert_eq!(stands_for(&[2, 1, 4], &[2, 3, 4]), None);
        assert_eq!(stands_for(&[1, 1], &[2, 3, 4]), Some(1));
        assert_eq!(stands_for(&[2, 3, 4, 1], &[2, 3, 4]), None);
    }

    #[test]
    fn a_walk_is_joined_where_elements_follow_each_other() {
        assert_eq!(merged(&[2, 1, 3, 4], &[12, 9, 4, 1]), (vec![24], vec![1]));
        assert_eq!(merged(&[2, 3, 4], &[0, 4, 1]), (vec![2, 12], vec![0, 1]));
        assert_eq!(merged(&[2, 3], &[0, 0]), (vec![6], vec![0]));
        assert_eq!(merged(&[1, 1], &[5, 7]), (vec![1], vec![1]));
    }
}
