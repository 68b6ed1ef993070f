//! From the scanned ONNX graph to the ops of a plan, in integers wherever the model is quantized.
//!
//! QOperator nodes are spelled out as QDQ chains first, so one form of quantization is left. Then
//! one pass in graph order keeps, for every ONNX tensor, how it exists here ([`value`]): stored,
//! as integers, as integers seen through their scale, or as floats. A float operator on integers
//! whose result is quantized again becomes one integer op with the clamps between them folded in
//! ([`quantized`]); whatever else can be computed is computed in f32 ([`float`]); operators that
//! only move data work on either ([`views`]). A node that fits nowhere is refused by name.
//!
//! Images are kept channels-last. Where a tensor lies in the arena is decided afterwards, by
//! [`crate::plan`].

mod along;
mod attention;
mod binary;
mod concat;
mod constant;
mod dynamic;
mod edges;
mod einsum;
mod float;
mod fold;
mod functions;
mod gated;
mod geometry;
mod held;
mod inline;
mod matmul;
mod norm;
mod once;
mod pad;
mod parts;
mod pool;
mod product;
mod program;
mod quantized;
mod recurrent;
mod report;
mod resize;
mod rotary;
mod scale;
mod scatter;
mod snap;
mod transposed;
mod truth;
mod turned;
mod unread;
mod value;
mod views;
mod whole;

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use tractlet_core::isa::Isa;
use tractlet_core::plan::{ALIGN, DType as PlanDType, PlanBuilder};

use crate::model::{AttributeValue, DType, Model, Node, Shapes};

use inline::{Expanded, Inlined};
pub(crate) use once::Once;
pub(crate) use program::{Hop, Port, Program, Step, TensorId, reads};
use value::{Act, Layout, Levels, Value};
pub(crate) use views::moves;

/// A node that no op of a plan can stand for.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub node: String,
    pub op: String,
    pub why: String,
}

/// The whole model as ops, with the type that each node of the model computes in.
pub(crate) struct Lowered {
    pub program: Program,
    /// What the ops name as data.
    pub constants: PlanBuilder,
    /// By the name of the node's first output that has one.
    pub computed_in: HashMap<String, &'static str>,
    /// By the same, why a node whose input or weights are quantized computes in float.
    pub why_float: HashMap<String, String>,
    /// The same of nodes of which a run has nothing left: what they make follows from what is stored.
    pub constant: HashSet<String>,
}

/// Why a node cannot be lowered; the caller adds its name.
type Why = String;

/// Lowers every node, or names those that cannot be. What follows from constants is run by `once`.
pub(crate) fn lower(model: &Model, shapes: &Shapes, isa: Isa, once: Once) -> Result<Lowered, Vec<Refusal>> {
    let inlined = Inlined::new(model.graph(), shapes).map_err(|refusal| vec![refusal])?;
    let mut lowering = Lowering::new(model, shapes, &inlined, isa, once);
    if let Err(why) = lowering.inputs() {
        return Err(vec![Refusal { node: "input".into(), op: String::new(), why }]);
    }
    let mut refusals = vec![];
    // Constants first: a QuantizeLinear's scale may be one that stands right before it. Then what is stored, by which it
    // is known what later nodes read.
    let (constants, others): (Vec<_>, Vec<_>) =
        inlined.nodes.iter().enumerate().partition(|(_, n)| n.get().op == "Constant");
    lowering.each(constants, &mut refusals);
    let (stored, others): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|(_, n)| lowering.dequantizes_stored(n.get()));
    lowering.each(stored, &mut refusals);
    lowering.find_unread();
    lowering.each(others, &mut refusals);
    if refusals.is_empty()
        && let Err(why) = lowering.outputs()
    {
        refusals.push(Refusal { node: "output".into(), op: String::new(), why });
    }
    if refusals.is_empty() { Ok(lowering.finish()) } else { Err(refusals) }
}

/// A golden model, lowered for plain code.
#[cfg(test)]
pub(crate) fn golden(name: &str) -> Lowered {
    let path = format!("{}/tests/golden/ops/{name}/model.onnx", env!("CARGO_MANIFEST_DIR"));
    let model = Model::open(path).unwrap();
    lower(&model, &model.shapes(&[]).unwrap(), Isa::Generic, crate::plan::once).unwrap()
}

struct Lowering<'m> {
    model: &'m Model,
    shapes: &'m Shapes,
    nodes: &'m [Expanded<'m>],
    /// Nodes that read each tensor, by index.
    readers: HashMap<&'m str, Vec<usize>>,
    /// The model's tensor that each tensor of a chain leads to.
    origins: HashMap<&'m str, &'m str>,
    graph_outputs: HashSet<&'m str>,
    values: HashMap<String, Value<'m>>,
    /// The channels that tensors have here, by the names of their integers and of what these stand for, where some of the
    /// model's are not read.
    read: HashMap<String, Rc<[usize]>>,
    /// Nodes that went into the op of an earlier one.
    consumed: HashSet<usize>,
    computed_in: HashMap<String, &'static str>,
    /// Why what is quantized is in float, by the model's tensor.
    why_float: HashMap<String, String>,
    constant: HashSet<String>,
    program: Program,
    builder: PlanBuilder,
    /// Bytes of the tables that are made here, by which elements are moved.
    tables: u64,
    /// Runs what follows from constants, but for a node that is lowered for that.
    once: Option<Once>,
    /// Bytes and multiplications that took.
    spent: [u64; 2],
}

impl<'m> Lowering<'m> {
    /// Counts a table before it is made: a few bytes of a model may ask for any size.
    fn tabulate(&mut self, entries: usize, entry_bytes: usize) -> Result<(), Why> {
        self.tables = self.tables.saturating_add((entries as u64).saturating_mul(entry_bytes as u64));
        match self.model.limits().folded_bytes {
            most if self.tables > most => Err(format!(
                "a table of {entries} elements is too large; those of a model may take {most} bytes together"
            )),
            _ => Ok(()),
        }
    }

    /// Lowers those that were not taken by another, and adds why what cannot be is not.
    fn each(&mut self, nodes: Vec<(usize, &'m Expanded<'m>)>, refusals: &mut Vec<Refusal>) {
        for (index, node) in nodes {
            if self.consumed.contains(&index) || self.is_lost(node.get()) {
                continue;
            }
            if let Err(why) = self.node(node) {
                let node = node.get();
                refusals.push(Refusal { node: node.name.clone(), op: node.op.clone(), why });
            }
        }
    }

    fn new(model: &'m Model, shapes: &'m Shapes, inlined: &'m Inlined<'m>, isa: Isa, once: Once) -> Lowering<'m> {
        let (graph, nodes, initializers) = (model.graph(), &inlined.nodes, &inlined.initializers);
        let mut readers: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut origins = HashMap::new();
        for (index, node) in nodes.iter().enumerate() {
            // What only asks for a shape does not read.
            let read = node.get().inputs.iter().filter(|name| !name.is_empty() && known(shapes, node.get()).is_none());
            for input in read {
                readers.entry(input.as_str()).or_default().push(index);
            }
            if let Expanded::Made { node, from } = node {
                let origin = from.outputs.first().map_or("", String::as_str);
                origins.extend(node.outputs.iter().map(|output| (output.as_str(), origin)));
            }
        }
        let mut builder = PlanBuilder::new(isa);
        // What is stored in floats and read becomes float32, maybe beside a bias that is not stored; integer weights are packed
        // later, when their sizes are known.
        let floats = initializers.iter().filter(|tensor| matches!(tensor.dtype, DType::F32 | DType::F16));
        let read = floats.filter(|tensor| readers.contains_key(tensor.name.as_str()));
        let bias = |dims: &[usize]| dims.iter().max().copied().unwrap_or(0);
        let values = read.map(|tensor| tensor.dims.iter().product::<usize>() + bias(&tensor.dims));
        let bytes = values.map(|values| values * size_of::<f32>() + 2 * ALIGN).sum();
        builder.reserve(bytes, 2 * nodes.len());
        Lowering {
            readers,
            origins,
            graph_outputs: graph.outputs.iter().map(|output| output.name.as_str()).collect(),
            values: initializers.iter().map(|tensor| (tensor.name.clone(), Value::Stored(tensor))).collect(),
            builder,
            once: Some(once),
            ..Lowering::of_nothing(model, shapes, nodes, isa)
        }
    }

    /// Of nodes none of which is lowered yet, nor read by another.
    fn of_nothing(model: &'m Model, shapes: &'m Shapes, nodes: &'m [Expanded<'m>], isa: Isa) -> Lowering<'m> {
        Lowering {
            model,
            shapes,
            nodes,
            readers: HashMap::new(),
            origins: HashMap::new(),
            graph_outputs: HashSet::new(),
            values: HashMap::new(),
            read: HashMap::new(),
            consumed: HashSet::new(),
            computed_in: HashMap::new(),
            why_float: HashMap::new(),
            constant: HashSet::new(),
            program: Program::default(),
            builder: PlanBuilder::new(isa),
            tables: 0,
            once: None,
            spent: [0; 2],
        }
    }

    fn inputs(&mut self) -> Result<(), Why> {
        for input in &self.model.graph().inputs {
            let (dtype, dims) = self.shapes.get(&input.name).ok_or("an input's shape is not known")?;
            let elements: usize = dims.iter().product();
            if elements == 0 {
                return Err(format!("input `{}` is empty", input.name));
            }
            let (value, port) = match dtype {
                DType::F32 => {
                    let act = self.program.floats(dims.clone(), Layout::Plain);
                    (Value::Real(act.clone()), act)
                }
                DType::I8 | DType::U8 => {
                    let act = self.program.bytes(dims.clone(), Layout::Plain);
                    let inner = if dtype == DType::U8 { self.flip_sign(&input.name, &act) } else { act.clone() };
                    (Value::Integers(inner, dtype), act)
                }
                DType::Bool | DType::I32 | DType::I64 => {
                    let act = self.program.tensor(dims.clone(), Layout::Plain, dtype.size());
                    (Value::Raw(act.clone(), dtype), act)
                }
                other => {
                    let name = &input.name;
                    let taken = "plans take float32, int8, uint8, bool, int32 and int64";
                    return Err(format!("input `{name}` is {other}; {taken}"));
                }
            };
            self.program.inputs.push(Port { name: input.name.clone(), dtype, dims, tensor: port.tensor });
            self.values.insert(input.name.clone(), value);
        }
        Ok(())
    }

    fn node(&mut self, expanded: &Expanded<'m>) -> Result<(), Why> {
        let node = expanded.get();
        if node.subgraphs().next().is_some() {
            return Err("plans have no control flow".into());
        }
        if !node.is_onnx() {
            return Err(format!("operator {} of com.microsoft has no op in a plan", node.op));
        }
        let before = self.program.steps.len();
        if node.op != "Constant" {
            if let Some(values) = known(self.shapes, node) {
                let named = node.outputs.iter().cloned().zip(values.into_iter().map(Value::Known));
                self.values.extend(named);
                self.report_value(expanded);
                return Ok(());
            }
            // What is only moved stays quantized if it is computed; what is folded becomes floats.
            let is_quantized = moves(&node.op) && node.op != "Transpose" && self.is_of_bytes(node);
            let first = if is_quantized { self.computed(expanded) } else { None };
            let made = match first {
                Some(made) => Some(made),
                None => match self.folded(node)? {
                    Some(value) => node.outputs.first().map(|name| vec![(name.clone(), value)]),
                    None if is_quantized => None,
                    None => self.computed(expanded),
                },
            };
            if let Some(made) = made {
                self.values.extend(made);
                self.report_value(expanded);
                return Ok(());
            }
        }
        let (mut of_value, mut integers) = (moves(&node.op), false);
        match node.op.as_str() {
            "Constant" => self.constant(expanded)?,
            "QuantizeLinear" => self.quantize(node)?,
            "DequantizeLinear" => self.dequantize(node)?,
            "DynamicQuantizeLinear" => self.dynamic_quantize(node)?,
            "MatMulInteger" | "ConvInteger" => self.integer_sums(node)?,
            op if moves(op) => self.view(node)?,
            _ => {
                integers = self.quantized(node)?;
                of_value = !integers && self.whole(node)?;
                if !integers && !of_value {
                    self.float(node)?;
                }
            }
        }
        let steps = &self.program.steps[before..];
        // What has no step, as what follows from constants alone, has no type of its own but what it hands on.
        if of_value || steps.is_empty() {
            self.report_value(expanded);
            return Ok(());
        }
        if is_edge(&node.op) {
            integers = steps.iter().all(|step| step.op.dtype() != PlanDType::F32);
        }
        self.report(expanded.origin(), if integers { DType::I8 } else { DType::F32 });
        Ok(())
    }

    /// Whether the node reads what comes from a node that was refused. What only asks for a shape reads nothing: of an
    /// output that nobody else wants there is no more than that.
    fn is_lost(&self, node: &Node) -> bool {
        known(self.shapes, node).is_none()
            && node.inputs.iter().any(|name| !name.is_empty() && !self.values.contains_key(name))
    }

    fn outputs(&mut self) -> Result<(), Why> {
        for output in &self.model.graph().outputs {
            let value = self
                .values
                .get(&output.name)
                .cloned()
                .ok_or_else(|| format!("output `{}` is not computed", output.name))?;
            // What is constant is copied at each run, for want of anything else to run.
            let value = self.placed(&output.name, &output.name, value)?;
            let (act, dtype) = match value {
                Value::Real(act) => (self.plain(&output.name, act)?, DType::F32),
                Value::Dequantized(act, q) => (self.dequantized_plain(&output.name, &act, q), DType::F32),
                Value::Integers(act, dtype) => {
                    let act = self.plain(&output.name, act)?;
                    (if dtype == DType::U8 { self.flip_sign(&output.name, &act) } else { act }, dtype)
                }
                Value::Raw(act, dtype) => (self.plain(&output.name, act)?, dtype),
                Value::Snapped(_, Levels { dtype, .. }) => {
                    return Err(format!(
                        "output `{}` is {dtype}; plans give that through a DequantizeLinear alone",
                        output.name
                    ));
                }
                _ => return Err(format!("output `{}` is a constant", output.name)),
            };
            if let Some(stated) = self.shapes.get(&output.name).map(|fact| fact.0).filter(|stated| *stated != dtype) {
                return Err(format!("output `{}` is {stated} by the model; plans give it as {dtype}", output.name));
            }
            let act = self.separate(&output.name, act);
            self.program.outputs.push(Port { name: output.name.clone(), dtype, dims: act.dims, tensor: act.tensor });
        }
        Ok(())
    }

    /// The tensor of an output, which is written where the caller wants it: one that is an input, or
    /// another output already, is copied.
    fn separate(&mut self, name: &str, act: Act) -> Act {
        let mut ports = self.program.inputs.iter().chain(&self.program.outputs);
        if ports.all(|port| port.tensor != act.tensor) {
            return act;
        }
        self.copied(name, &act, &[act.elements()], &[1], act.dims.clone(), act.layout)
    }

    fn finish(mut self) -> Lowered {
        self.program.scale_sums();
        self.program.turn_matrices();
        let mut computed_in = self.computed_in;
        // A clamp or a quantization that went into another op is computed where that op is.
        for &index in &self.consumed {
            if let Some(output) = self.nodes[index].origin().outputs.first() {
                computed_in.entry(output.clone()).or_insert(DType::I8.name());
            }
        }
        let Lowering { program, builder: constants, why_float, constant, .. } = self;
        Lowered { program, constants, computed_in, why_float, constant }
    }

    fn value(&self, node: &Node, index: usize) -> Result<Value<'m>, Why> {
        let name = node.input(index).ok_or_else(|| format!("input {index} is missing"))?;
        self.values.get(name).cloned().ok_or_else(|| format!("`{name}` is not computed"))
    }

    /// Dimensions of a node's first output.
    fn output_dims(&self, node: &Node) -> Result<Vec<usize>, Why> {
        let name = node.outputs.first().ok_or("it has no output")?;
        let made = || self.origins.get(name.as_str()).and_then(|origin| self.shapes.get(origin));
        let dims = self.shapes.get(name).or_else(made).map(|(_, dims)| dims);
        dims.filter(|dims| dims.iter().all(|&d| d > 0))
            .ok_or_else(|| "its output's shape is not known, or empty".to_owned())
    }

    fn set(&mut self, node: &Node, value: Value<'m>) {
        if let Some(name) = node.outputs.first() {
            self.values.insert(name.clone(), value);
        }
    }

    /// The only node that reads a tensor, where there is one and the caller does not see the tensor.
    fn sole_reader(&self, name: &str) -> Option<(usize, &'m Node)> {
        match self.readers.get(name).map(Vec::as_slice) {
            Some(&[index]) if !self.graph_outputs.contains(name) => Some((index, self.nodes[index].get())),
            _ => None,
        }
    }
}

/// The outputs of a node that makes whole numbers alone, if all of them follow from shapes and constants.
fn known(shapes: &Shapes, node: &Node) -> Option<Vec<Rc<[i64]>>> {
    node.outputs.iter().map(|name| shapes.integers(name).map(Rc::from)).collect()
}

/// Whether it is one of those between integers and what they stand for, or sums integers that others scale.
fn is_edge(op: &str) -> bool {
    matches!(op, "QuantizeLinear" | "DequantizeLinear" | "DynamicQuantizeLinear" | "MatMulInteger" | "ConvInteger")
}

fn int(node: &Node, name: &str, default: i64) -> i64 {
    match node.attribute(name) {
        Some(AttributeValue::Int(value)) => *value,
        _ => default,
    }
}

/// An axis as an index; negative ones count from the end.
fn axis_of(asked: i64, rank: usize) -> Result<usize, Why> {
    let axis = if asked < 0 { asked.saturating_add(rank as i64) } else { asked };
    let axis = usize::try_from(axis).ok().filter(|axis| *axis < rank);
    axis.ok_or_else(|| format!("its axis {asked} is out of range for {rank} dimensions"))
}

fn number(node: &Node, name: &str, default: f32) -> f32 {
    match node.attribute(name) {
        Some(AttributeValue::Float(value)) => *value,
        _ => default,
    }
}

fn ints<'n>(node: &'n Node, name: &str) -> Option<&'n [i64]> {
    match node.attribute(name) {
        Some(AttributeValue::Ints(values)) => Some(values),
        _ => None,
    }
}

/// Nodes that a message lists, the rest counted.
pub(crate) fn list(refusals: &[Refusal]) -> String {
    let shown: Vec<String> =
        refusals.iter().take(5).map(|r| format!("node `{}` ({}): {}", r.node, r.op, r.why)).collect();
    match refusals.len().saturating_sub(shown.len()) {
        0 => shown.join("; "),
        more => format!("{}; and {more} more", shown.join("; ")),
    }
}
