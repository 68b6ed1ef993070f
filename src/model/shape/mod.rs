//! Shapes of every tensor, before an engine computes one.
//!
//! One pass in graph order derives type, dimensions and, for the small integer tensors that steer
//! Reshape, Slice and their kin, values. It serves three ends: inputs that do not fit an operator
//! are found and named here; no operator makes a tensor above [`Limits::tensor_bytes`], be it
//! Tile, Expand or a chain of doublings; and engines know every size before they allocate.
//! What it cannot know stays unknown, except where a size would come from constants alone: that
//! is refused, since an engine would compute it unchecked.

// Places in dimensions are held against their number where they come in, by `axis` above all.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod attention;
mod context;
mod einsum;
mod fact;
mod parts;
mod quantized;
mod recurrent;
mod rules;
mod values;
mod views;
mod window;

use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use super::check::{self, Bytes};
use super::error::Fault;
use super::graph::{DType, Dim, Graph, Node, Tensor, ValueInfo};
use super::limits::Limits;

use context::Context;
pub(crate) use einsum::{Equation, Label};
pub(crate) use fact::Fact;
use fact::VALUES_LIMIT;

/// A size for a dimension that the model leaves open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Binding {
    pub symbol: String,
    pub size: usize,
}

/// What is known of every tensor of the top-level graph, by name.
#[derive(Debug)]
pub(crate) struct Shapes {
    facts: HashMap<String, Fact>,
}

impl Shapes {
    /// Infers with the given sizes in place of the model's open dimensions.
    pub fn infer(
        graph: &Graph,
        opset: i64,
        bindings: &[Binding],
        limits: &Limits,
        bytes: Bytes<'_>,
    ) -> Result<Shapes, Fault> {
        let folded = Cell::new(0);
        let facts = Inference { opset, bindings, limits, bytes, folded }.graph(graph, None)?;
        Ok(Shapes { facts })
    }

    /// A tensor as it would be declared: dimensions that depend on open ones are open and have no name.
    pub fn info(&self, name: &str) -> Option<ValueInfo> {
        let fact = self.facts.get(name)?;
        let dim = |dim: &Option<usize>| dim.map_or_else(|| Dim::Symbol(String::new()), Dim::Fixed);
        Some(ValueInfo {
            name: name.to_owned(),
            dtype: fact.dtype?,
            dims: fact.dims.as_ref()?.iter().map(dim).collect(),
        })
    }

    /// Elements of an integer tensor, where they follow from shapes and constants.
    pub fn integers(&self, name: &str) -> Option<&[i64]> {
        let fact = self.facts.get(name)?;
        matches!(fact.dtype?, DType::I64 | DType::I32 | DType::Bool).then_some(fact.values.as_deref()).flatten()
    }

    /// Dimensions and type of a tensor, where they are known.
    pub fn get(&self, name: &str) -> Option<(DType, Vec<usize>)> {
        let fact = self.facts.get(name)?;
        Some((fact.dtype?, fact.dims.as_ref()?.iter().copied().collect::<Option<Vec<_>>>()?))
    }
}

/// Why a rule cannot go on.
pub(super) enum Misfit {
    /// The node's inputs do not fit together.
    Shape(String),
    /// An attribute does not fit the node's inputs.
    Attribute(String),
    /// A size that only an engine would find out.
    Unsupported(String),
}

pub(super) type Ruled<T> = Result<T, Misfit>;

/// What is known of a graph's tensors, and of those around it.
struct Facts<'p> {
    own: HashMap<String, Fact>,
    outer: Option<&'p Facts<'p>>,
}

impl Facts<'_> {
    fn get(&self, name: &str) -> Option<&Fact> {
        self.own.get(name).or_else(|| self.outer.and_then(|outer| outer.get(name)))
    }
}

struct Inference<'a> {
    opset: i64,
    bindings: &'a [Binding],
    limits: &'a Limits,
    bytes: Bytes<'a>,
    /// Bytes of the constants met so far that an engine computes, less eight times those that are stored.
    folded: Cell<i64>,
}

impl Inference<'_> {
    /// The facts of a graph's own tensors; `outer` are those of the graphs around it.
    fn graph(&self, graph: &Graph, outer: Option<&Facts<'_>>) -> Result<HashMap<String, Fact>, Fault> {
        let mut facts = Facts { own: HashMap::new(), outer };
        for tensor in &graph.initializers {
            facts.own.insert(tensor.name.clone(), self.stored(tensor)?);
            self.folded.set(self.folded.get().saturating_sub(8 * tensor.byte_len() as i64));
        }
        for input in &graph.inputs {
            let fact = Fact::new(Some(input.dtype), Some(self.bound(input)));
            if fact.dims.iter().flatten().any(|dim| *dim == Some(0)) {
                return Err(Fault::unsupported(format!(
                    "input `{}` has a dimension of 0: there is nothing to run",
                    input.name
                )));
            }
            self.hold(&fact, || format!("`{}`: size in bytes", input.name))?;
            facts.own.insert(input.name.clone(), fact);
        }
        for node in &graph.nodes {
            self.node(node, &mut facts)?;
        }
        let inputs: HashSet<&str> = graph.inputs.iter().map(|input| input.name.as_str()).collect();
        for (name, declared) in graph.declared.iter().filter(|(name, _)| !inputs.contains(name.as_str())) {
            if let Some(made) = facts.own.get(name).and_then(|fact| fact.dtype).filter(|made| made != declared) {
                return Err(Fault::graph(format!(
                    "tensor `{name}` is declared {declared} in value_info and is {made}"
                )));
            }
        }
        for output in &graph.outputs {
            let made = facts.get(&output.name).and_then(|fact| fact.dtype);
            let declared = output.info.as_ref().map(|info| info.dtype);
            if let (Some(made), Some(declared)) = (made, declared)
                && made != declared
            {
                return Err(Fault::graph(format!(
                    "output `{}` is declared {declared}, the graph makes {made}",
                    output.name
                )));
            }
        }
        Ok(facts.own)
    }

    fn node(&self, node: &Node, facts: &mut Facts<'_>) -> Result<(), Fault> {
        let condition = node.input(0).and_then(|name| facts.get(name)?.values.as_deref());
        if let Some(branch) = condition.and_then(|condition| node.branch(condition)) {
            return self.taken(node, branch, facts);
        }
        for subgraph in node.subgraphs() {
            self.graph(subgraph, Some(facts))?;
        }
        let inputs: Vec<Option<Fact>> =
            (0..node.inputs.len()).map(|i| node.input(i).and_then(|name| facts.get(name)).cloned()).collect();
        let attribute_tensor = |tensor: &Tensor| self.stored(tensor);
        let context = Context { node, opset: self.opset, inputs: &inputs, stored: &attribute_tensor };
        let mut outputs = rules::apply(&context).map_err(|misfit| explain(node, misfit))?;
        let known: Vec<Option<DType>> = inputs.iter().map(|fact| fact.as_ref().and_then(|fact| fact.dtype)).collect();
        check::types(node, self.opset, &known)?;
        // What nobody names may be computed all the same: of an Attention its scores.
        let is_named = |index: usize| node.outputs.get(index).is_some_and(|name| !name.is_empty());
        for fact in
            outputs.iter().enumerate().filter(|(index, _)| !is_named(*index)).filter_map(|(_, fact)| fact.as_ref())
        {
            self.hold(fact, || format!("node `{}` ({}): size of what it computes in bytes", node.name, node.op))?;
        }
        outputs.resize_with(node.outputs.len(), || Some(Fact::unknown()));
        // An operator without inputs or of constants alone is folded by engines before anything runs.
        let constant = inputs.iter().flatten().all(|fact| fact.constant) && node.subgraphs().next().is_none();
        for (name, fact) in node.outputs.iter().zip(outputs).filter(|(name, _)| !name.is_empty()) {
            let fact = Fact { constant, ..fact.unwrap_or_else(Fact::unknown) };
            let subject = |what: &str| format!("node `{}` ({}): size of {what} in bytes", node.name, node.op);
            let bytes = self.hold(&fact, || subject("its output"))?;
            if constant {
                self.folded.set(self.folded.get().saturating_add(bytes as i64));
                if self.folded.get() > self.limits.folded_bytes as i64 {
                    return Err(Fault::limit(
                        subject("constants computed up to it"),
                        self.folded.get() as u64,
                        self.limits.folded_bytes,
                    ));
                }
            }
            facts.own.insert(name.clone(), fact);
        }
        Ok(())
    }

    /// An If of which it is known which branch runs: as if its nodes stood in the If's place. What the other does with these shapes
    /// is no fault.
    fn taken(&self, node: &Node, branch: &Graph, facts: &mut Facts<'_>) -> Result<(), Fault> {
        facts.own.extend(self.graph(branch, Some(facts))?);
        for (name, made) in node.outputs.iter().zip(&branch.outputs).filter(|(name, _)| !name.is_empty()) {
            let fact = facts.get(&made.name).cloned().unwrap_or_default();
            facts.own.insert(name.clone(), fact);
        }
        Ok(())
    }

    /// Refuses a tensor that is larger than the limit, whatever its unknown dimensions will be.
    /// Its size in bytes as far as it is known.
    fn hold(&self, fact: &Fact, subject: impl Fn() -> String) -> Result<usize, Fault> {
        let Some(dims) = &fact.dims else { return Ok(0) };
        if dims.len() > self.limits.rank {
            return Err(Fault::limit(format!("dimensions: {}", subject()), dims.len() as u64, self.limits.rank as u64));
        }
        let known: Vec<usize> = dims.iter().map(|dim| dim.unwrap_or(1)).collect();
        self.limits
            .byte_len(&known, fact.dtype.unwrap_or(DType::F32))
            .map_err(|bytes| Fault::limit(subject(), bytes, self.limits.tensor_bytes))
    }

    fn stored(&self, tensor: &Tensor) -> Result<Fact, Fault> {
        let small = tensor.elements() <= VALUES_LIMIT && tensor.dims.len() <= 1;
        let (mut values, mut reals) = (None, None);
        match tensor.dtype {
            DType::I64 | DType::I32 | DType::Bool if small => {
                values = Some(integers(tensor.dtype, &(self.bytes)(tensor)?))
            }
            DType::F32 if small => {
                reals = Some((self.bytes)(tensor)?.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
            }
            _ => {}
        }
        let dims = tensor.dims.iter().map(|&d| Some(d)).collect();
        Ok(Fact { dtype: Some(tensor.dtype), dims: Some(dims), values, reals, constant: true })
    }

    fn bound(&self, input: &ValueInfo) -> Vec<Option<usize>> {
        let size = |dim: &Dim| match dim {
            Dim::Fixed(size) => Some(*size),
            Dim::Symbol(name) => self.bindings.iter().find(|b| b.symbol == *name).map(|b| b.size),
        };
        input.dims.iter().map(size).collect()
    }
}

fn integers(dtype: DType, bytes: &[u8]) -> Vec<i64> {
    let widen = |chunk: &[u8]| {
        let mut wide = [0; 8];
        wide[..chunk.len()].copy_from_slice(chunk);
        i64::from_le_bytes(wide)
    };
    let values = bytes.chunks_exact(dtype.size()).map(widen);
    match dtype {
        DType::I32 => values.map(|v| i64::from(v as i32)).collect(),
        DType::Bool => values.map(|v| i64::from(v != 0)).collect(),
        _ => values.collect(),
    }
}

fn explain(node: &Node, misfit: Misfit) -> Fault {
    let (name, op) = (node.name.clone(), node.op.clone());
    match misfit {
        Misfit::Shape(what) => Fault::Shape { node: name, op, what },
        Misfit::Attribute(what) => Fault::Attribute { node: name, op, what },
        Misfit::Unsupported(what) => Fault::unsupported(format!("node `{name}` ({op}): {what}")),
    }
}
