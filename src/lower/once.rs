//! What follows from constants by any op that a plan has: the node is lowered by itself, run once, and its outputs are constants from
//! there on, as weights and shapes have to be. What is known of simple ones without that is in [`fold`](super::fold).

use std::collections::HashMap;

use tractlet_core::isa::Isa;
use tractlet_core::plan::{AlignedBytes, PlanBuilder};

use super::program::{Port, Program};
use super::value::{Constant, QParams, StoredQuant, Value};
use super::{Expanded, Lowering, moves};
use crate::model::{DType, Node};

/// Runs a program without inputs, and gives the bytes of its outputs.
pub(crate) type Once = fn(Program, PlanBuilder) -> Result<Vec<AlignedBytes>, String>;

/// The most multiplications that the nodes of a model may take here together: a third of a second.
const MOST_MACS: u64 = 1 << 28;

/// What an output will be a constant of.
enum Kind {
    Floats,
    Whole(DType),
    Bytes(DType),
    Quantized(QParams),
}

impl<'m> Lowering<'m> {
    /// The node's outputs, if all that it works on is constant. `None` where it is left to where it stands: it has no op, or
    /// takes too much.
    pub(super) fn computed(&mut self, expanded: &Expanded<'m>) -> Option<Vec<(String, Value<'m>)>> {
        let (Expanded::Own(node), Some(_)) = (expanded, self.once) else { return None };
        // Their integers are weights.
        let keeps = matches!(node.op.as_str(), "Identity" | "QuantizeLinear" | "DequantizeLinear");
        let is_read = |name: &String| self.readers.contains_key(name.as_str());
        if keeps || !node.outputs.iter().any(is_read) {
            return None;
        }
        let mut alone = self.alone(node)?;
        alone.node(expanded).ok()?;
        let named = node.outputs.iter().filter(|name| !name.is_empty());
        let made: Vec<(String, Result<Kind, Value<'m>>)> =
            named.map(|name| Some((name.clone(), alone.kind(name)?))).collect::<Option<_>>()?;
        let bytes = alone.program.tensors.iter().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes as u64));
        let macs = alone.program.steps.iter().fold(0, |sum: u64, step| sum.saturating_add(step.op.macs()));
        self.spend(bytes, macs)?;
        self.tables = alone.tables;
        let dims: Vec<Vec<usize>> = alone.program.outputs.iter().map(|port| port.dims.clone()).collect();
        let mut computed = (self.once?)(alone.program, alone.builder).ok()?.into_iter().zip(dims);
        let value = |(name, kind): (String, Result<Kind, Value<'m>>)| match kind {
            Ok(kind) => computed.next().map(|(bytes, dims)| (name.clone(), kind.value(&name, &bytes, dims))),
            Err(constant) => Some((name, constant)),
        };
        made.into_iter().map(value).collect()
    }

    /// Whether a node's first input is stored as an activation is held.
    pub(super) fn is_of_bytes(&self, node: &Node) -> bool {
        let one =
            |stored: &StoredQuant<'m>| stored.scales.len() == 1 && matches!(stored.tensor.dtype, DType::I8 | DType::U8);
        matches!(self.value(node, 0), Ok(Value::DequantizedStored(stored)) if one(&stored))
    }

    /// The lowering of a node alone, if all of its inputs are constant.
    fn alone(&mut self, node: &Node) -> Option<Lowering<'m>> {
        let mut values = HashMap::new();
        let mut bytes = 0;
        for name in node.inputs.iter().filter(|name| !name.is_empty()) {
            let value = self.values.get(name)?;
            let elements = match value {
                Value::Stored(tensor) => tensor.elements(),
                Value::DequantizedStored(stored) => stored.tensor.elements(),
                Value::Quantized(tensor) => tensor.elements(),
                Value::Numbers(values, _) => values.len(),
                Value::Known(values) => values.len(),
                _ => return None,
            };
            bytes += 4 * elements as u64;
            values.insert(name.clone(), value.clone());
        }
        (!values.is_empty()).then_some(())?;
        self.spend(bytes, 0)?;
        let nothing = Lowering::of_nothing(self.model, self.shapes, self.nodes, Isa::Generic);
        let mut alone = Lowering { values, tables: self.tables, ..nothing };
        // What is only moved stays quantized.
        if let Some(Value::DequantizedStored(stored)) = node.input(0).and_then(|name| self.values.get(name))
            && moves(&node.op)
            && let Some((integers, q)) = self.integers_of(stored).ok()?
        {
            let data = alone.builder.data(&integers);
            let act = alone.stored_copy(&node.name, data, stored.tensor.dims.clone(), 1);
            alone.values.insert(node.inputs[0].clone(), Value::Dequantized(act, q));
        }
        Some(alone)
    }

    /// Makes a tensor an output of the program, and says what it will be, or gives it where it is constant already.
    fn kind(&mut self, name: &str) -> Option<Result<Kind, Value<'m>>> {
        let value = self.values.get(name)?.clone();
        let kind = match &value {
            Value::Real(_) => Kind::Floats,
            Value::Raw(_, dtype) => Kind::Whole(*dtype),
            Value::Integers(_, dtype) => Kind::Bytes(*dtype),
            Value::Dequantized(_, q) => Kind::Quantized(*q),
            Value::Snapped(..) => return None,
            _ => return Some(Err(value)),
        };
        let act = self.plain(name, value.act()?.clone()).ok()?;
        let act = self.separate(name, act);
        let dtype = match kind {
            Kind::Floats => DType::F32,
            Kind::Whole(dtype) => dtype,
            Kind::Bytes(_) | Kind::Quantized(_) => DType::I8,
        };
        self.program.outputs.push(Port { name: name.to_owned(), dtype, dims: act.dims, tensor: act.tensor });
        Some(Ok(kind))
    }

    /// Counts what is computed here: a few nodes may ask for any work.
    fn spend(&mut self, bytes: u64, macs: u64) -> Option<()> {
        let [all_bytes, all_macs] = &mut self.spent;
        (*all_bytes, *all_macs) = (all_bytes.saturating_add(bytes), all_macs.saturating_add(macs));
        (*all_bytes <= self.model.limits().tensor_bytes && *all_macs <= MOST_MACS).then_some(())
    }
}

impl Kind {
    fn value<'m>(self, name: &str, bytes: &[u8], dims: Vec<usize>) -> Value<'m> {
        let held = || bytes.iter().map(|byte| i32::from(*byte as i8));
        match self {
            Kind::Floats => Value::Numbers(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(), dims),
            Kind::Whole(DType::I64) => {
                Value::Known(bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect())
            }
            Kind::Whole(DType::I32) => {
                Value::Known(bytes.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b).into()).collect())
            }
            Kind::Whole(_) => Value::Known(bytes.iter().map(|byte| i64::from(*byte)).collect()),
            // A model's uint8 is held less 128.
            Kind::Bytes(DType::U8) => {
                Value::Quantized(Constant::made(name, DType::U8, dims, held().map(|value| value + 128)))
            }
            Kind::Bytes(dtype) => Value::Quantized(Constant::made(name, dtype, dims, held())),
            Kind::Quantized(QParams { scale, zero_point }) => Value::DequantizedStored(StoredQuant {
                tensor: Constant::Made(Constant::made(name, DType::I8, dims, held())),
                scales: vec![scale],
                zero_points: vec![zero_point.into()],
                axis: 0,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use tractlet_core::isa::Isa;

    use crate::lower::{golden, lower};
    use crate::model::Model;

    #[test]
    fn what_follows_from_constants_takes_no_step_of_a_run() {
        for name in ["weights_multiplied_f32", "weights_gathered_f32", "weights_chosen_f32"] {
            let kinds: Vec<&str> = golden(name).program.steps.iter().map(|step| step.op.kind()).collect();
            let computing = kinds.iter().filter(|kind| **kind != "StridedCopy");
            assert_eq!(computing.collect::<Vec<_>>(), [&"ConvF32"], "{name}");
        }
    }

    #[test]
    fn what_cannot_be_run_once_is_left_where_it_stands() {
        let path = format!("{}/tests/golden/ops/weights_gathered_f32/model.onnx", env!("CARGO_MANIFEST_DIR"));
        let model = Model::open(path).unwrap();
        let shapes = model.shapes(&[]).unwrap();
        let refusals = lower(&model, &shapes, Isa::Generic, |_, _| Err("no".into())).err().unwrap();
        assert_eq!(refusals.iter().map(|refusal| refusal.op.as_str()).collect::<Vec<_>>(), ["Conv"]);
        assert!(refusals[0].why.contains("is computed"), "{}", refusals[0].why);
    }
}
