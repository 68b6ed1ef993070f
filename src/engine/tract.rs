//! The reference engine: tract on the whole model. Quantized models are computed in float, with
//! the rounding of every QuantizeLinear in its place.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use tract_core::internal::*;
use tract_core::plan::SimpleState;

use super::{Description, Engine, EngineFault, EngineName, NodeReport, StepTime, TensorSpec, computes};
use crate::import::{guarded, to_tract};
use crate::model::{AttributeValue, Binding, DType, Fault, Model, ModelError, Node, Shapes};
use crate::tensor::{TensorMut, TensorRef};

pub(crate) struct TractEngine {
    plan: Arc<TypedSimplePlan>,
    /// Renewed after a panic, which may leave it half done.
    state: TypedSimpleState,
    /// Whether some op keeps something from one run for the next, as tract's recurrent layers do: a run starts anew.
    remembers: bool,
    description: Description,
}

type TypedSimpleState = SimpleState<TypedFact, Box<dyn TypedOp>>;

impl TractEngine {
    pub fn new(model: &Model, bindings: &[Binding], shapes: &Shapes) -> Result<TractEngine, ModelError> {
        let refused =
            |what: String| model.error(Fault::unsupported(format!("the tract engine cannot take it: {what}")));
        let passed_over = |node| passed_over(node).or_else(|| crops(node, shapes));
        if let Some((node, what)) = model.graph().nodes.iter().find_map(|node| Some((node, passed_over(node)?))) {
            return Err(refused(format!("node `{}` ({}): {what}", node.name, node.op)));
        }
        let typed = to_tract(model, bindings)?;
        let plan = guarded(|| TypedSimplePlan::new(typed)).map_err(refused)?;
        let state = guarded(|| plan.spawn()).map_err(refused)?;
        let names = |outlets: &[OutletId], infos: Vec<&str>| {
            let spec = |(outlet, name): (&OutletId, &str)| spec(plan.model().outlet_fact(*outlet)?, name);
            outlets.iter().zip(infos).map(spec).collect::<TractResult<Vec<_>>>()
        };
        let (graph, typed) = (model.graph(), plan.model());
        let inputs = guarded(|| names(&typed.inputs, graph.inputs.iter().map(|i| i.name.as_str()).collect()))
            .map_err(refused)?;
        let outputs = guarded(|| names(&typed.outputs, graph.outputs.iter().map(|o| o.name.as_str()).collect()))
            .map_err(refused)?;
        for output in &outputs {
            if let Some((stated, _)) = shapes.get(&output.name).filter(|(stated, _)| *stated != output.dtype) {
                return Err(refused(format!(
                    "output `{}` is {stated} by the model, and {} here",
                    output.name, output.dtype
                )));
            }
        }
        let remembers = state.op_states.iter().any(Option::is_some);
        let nodes = node_reports(model, shapes);
        let quantized = model.inputs().iter().map(|input| model.quantizes(&input.name)).collect();
        Ok(TractEngine {
            plan,
            state,
            remembers,
            description: Description {
                inputs,
                outputs,
                quantized,
                nodes,
                steps: vec![],
                blocks: vec![],
                provider: None,
            },
        })
    }

    /// Runs the plan node by node; `each` sees every node with the time that it took.
    fn execute(
        &mut self,
        inputs: &[TensorRef<'_>],
        mut each: impl FnMut(&TypedNode, u64),
    ) -> Result<TVec<TValue>, EngineFault> {
        let mut running = String::new();
        let (state, specs) = (&mut self.state, &self.description.inputs);
        let result = guarded(|| {
            if self.remembers {
                *state = self.plan.spawn()?;
            }
            let inputs = inputs
                .iter()
                .zip(specs)
                .map(|(input, spec)| to_tensor(input, spec))
                .collect::<TractResult<TVec<_>>>()?;
            state.run_plan_with_eval(inputs, |context, op_state, node, inputs| {
                running.clear();
                running.push_str(&node.name);
                let start = Instant::now();
                let outputs = tract_core::plan::eval(context, op_state, node, inputs);
                each(node, start.elapsed().as_nanos() as u64);
                outputs
            })
        });
        result.map_err(|what| {
            if let Ok(fresh) = self.plan.spawn() {
                self.state = fresh;
            }
            EngineFault::Failed { node: running, what }
        })
    }
}

impl Engine for TractEngine {
    fn name(&self) -> EngineName {
        EngineName::Tract
    }

    fn description(&self) -> &Description {
        &self.description
    }

    fn run(&mut self, inputs: &[TensorRef<'_>], outputs: &mut [TensorMut<'_>]) -> Result<(), EngineFault> {
        let results = self.execute(inputs, |_, _| {})?;
        copy_out(&results, outputs)
    }

    fn profile(
        &mut self,
        inputs: &[TensorRef<'_>],
        outputs: &mut [TensorMut<'_>],
        runs: usize,
        each: &mut dyn FnMut(&[StepTime]),
    ) -> Result<(), EngineFault> {
        for _ in 0..runs {
            let mut steps = Vec::new();
            let results = self.execute(inputs, |node, nanos| steps.push(step(node, nanos)))?;
            copy_out(&results, outputs)?;
            each(&steps);
        }
        Ok(())
    }
}

/// What tract's importer passes over in recurrent layers, so that it would give another answer.
fn passed_over(node: &Node) -> Option<&'static str> {
    let defaults: &[&str] = match node.op.as_str() {
        "RNN" => &["tanh"],
        "GRU" => &["sigmoid", "tanh"],
        "LSTM" => &["sigmoid", "tanh", "tanh"],
        _ => return None,
    };
    node.attributes.iter().find_map(|attribute| match (attribute.name.as_str(), &attribute.value) {
        ("direction", AttributeValue::Text(text)) if text == "reverse" => Some("tract runs no layer backwards alone"),
        ("clip", _) => Some("tract clips no gates"),
        ("input_forget", AttributeValue::Int(1..)) => Some("tract couples no gates"),
        ("activations", AttributeValue::Texts(names))
            if !names.iter().zip(defaults.iter().cycle()).all(|(name, default)| name.eq_ignore_ascii_case(default)) =>
        {
            Some("tract has the default activations alone")
        }
        _ => None,
    })
}

/// Pads that cut off, which tract takes for large ones.
fn crops(node: &Node, shapes: &Shapes) -> Option<&'static str> {
    let stated = match node.attribute("pads") {
        Some(AttributeValue::Ints(pads)) => Some(pads.as_slice()),
        _ => node.input(1).and_then(|name| shapes.integers(name)),
    };
    let crops = node.op == "Pad" && stated.is_some_and(|pads| pads.iter().any(|pad| *pad < 0));
    crops.then_some("tract cuts nothing off by negative pads")
}

fn step(node: &TypedNode, nanos: u64) -> StepTime {
    let outlet = node.outputs.first();
    let dtype = outlet.map(|outlet| format!("{:?}", outlet.fact.datum_type).to_lowercase()).unwrap_or_default();
    StepTime { name: node.name.clone(), kind: node.op.name().into_owned(), dtype, macs: None, nanos }
}

fn spec(fact: &TypedFact, name: &str) -> TractResult<TensorSpec> {
    let shape = fact.shape.as_concrete().ok_or_else(|| format_err!("the shape of `{name}` depends on data"))?;
    let dtype = from_tract(fact.datum_type).ok_or_else(|| format_err!("`{name}` is of type {:?}", fact.datum_type))?;
    Ok(TensorSpec { name: name.to_owned(), dtype, shape: shape.to_vec() })
}

fn to_tensor(input: &TensorRef<'_>, spec: &TensorSpec) -> TractResult<TValue> {
    let mut tensor = Tensor::zero_dt(to_tract_type(spec.dtype), &spec.shape)?;
    tensor.try_as_plain_ram_mut()?.as_bytes_mut().copy_from_slice(input.bytes());
    Ok(tensor.into_tvalue())
}

fn copy_out(results: &[TValue], outputs: &mut [TensorMut<'_>]) -> Result<(), EngineFault> {
    for (result, output) in results.iter().zip(outputs) {
        let plain =
            result.try_as_plain_ram().map_err(|e| EngineFault::Failed { node: String::new(), what: e.to_string() })?;
        if plain.as_bytes().len() != output.byte_len() {
            return Err(EngineFault::Failed {
                node: String::new(),
                what: format!("an output has {} bytes, {} were stated", plain.as_bytes().len(), output.byte_len()),
            });
        }
        output.bytes_mut().copy_from_slice(plain.as_bytes());
    }
    Ok(())
}

fn from_tract(datum: DatumType) -> Option<DType> {
    Some(match datum {
        DatumType::F32 => DType::F32,
        DatumType::F64 => DType::F64,
        DatumType::F16 => DType::F16,
        DatumType::I8 => DType::I8,
        DatumType::U8 => DType::U8,
        DatumType::I16 => DType::I16,
        DatumType::U16 => DType::U16,
        DatumType::I32 => DType::I32,
        DatumType::U32 => DType::U32,
        DatumType::I64 => DType::I64,
        DatumType::U64 => DType::U64,
        DatumType::Bool => DType::Bool,
        _ => return None,
    })
}

fn to_tract_type(dtype: DType) -> DatumType {
    match dtype {
        DType::F32 => DatumType::F32,
        DType::F64 => DatumType::F64,
        DType::F16 => DatumType::F16,
        DType::I8 => DatumType::I8,
        DType::U8 => DatumType::U8,
        DType::I16 => DatumType::I16,
        DType::U16 => DatumType::U16,
        DType::I32 => DatumType::I32,
        DType::U32 => DatumType::U32,
        DType::I64 => DatumType::I64,
        DType::U64 => DatumType::U64,
        DType::Bool => DatumType::Bool,
    }
}

/// QDQ and QOperator arithmetic is float here; what stays in integers says so.
fn node_reports(model: &Model, shapes: &Shapes) -> Vec<NodeReport> {
    let stored: HashMap<&str, DType> = model.graph().initializers.iter().map(|t| (t.name.as_str(), t.dtype)).collect();
    let report = |node: &Node| {
        let input = node
            .input(0)
            .and_then(|name| shapes.get(name).map(|(dtype, _)| dtype).or_else(|| stored.get(name).copied()));
        let dtype = match node.op.as_str() {
            "Constant" => match node.attribute("value") {
                Some(AttributeValue::Tensor(tensor)) => tensor.dtype.name(),
                _ => "unknown",
            },
            op if op.starts_with("QLinear") || matches!(op, "QGemm" | "QuantizeLinear" | "DequantizeLinear") => {
                DType::F32.name()
            }
            _ => input.map_or("unknown", DType::name),
        };
        NodeReport {
            name: node.name.clone(),
            op: node.op.clone(),
            dtype,
            engine: EngineName::Tract,
            provider: None,
            why_float: None,
            computes: computes(&node.op),
        }
    };
    model.graph().nodes.iter().map(report).collect()
}
