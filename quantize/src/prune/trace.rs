//! One walk over a graph that gives channels to what layers write and follows them, operator by operator.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::channels::{Atom, Count, Cut, Features, Role, Union};
use super::numbers::Number;
use crate::onnx::proto::{ModelProto, NodeProto, TensorProto};
use crate::onnx::{dims, floats, integers};

/// What was found so far.
pub struct Tracer<'m> {
    nodes: &'m [NodeProto],
    pub(super) stored: HashMap<&'m str, &'m TensorProto>,
    pub(super) shapes: &'m HashMap<String, Vec<usize>>,
    pub(super) union: Union,
    /// Atoms that have to stay, with the reason.
    pub(super) fixed: Vec<(Atom, String)>,
    pub(super) cuts: Vec<Cut>,
    pub(super) counts: Vec<Count>,
    pub(super) tensors: BTreeMap<String, Features>,
    pub(super) writers: Vec<(usize, Vec<Atom>)>,
    pub(super) parts: Vec<Vec<Atom>>,
    /// Lists of integers that a Shape of such an activation begins.
    pub(super) numbers: HashMap<String, Vec<Number>>,
}

/// Channels of what a node writes, none where it has none that can be followed; or why those of what it reads have to
/// stay.
type Followed = Result<Option<Features>, String>;

/// Functions of one value.
const PER_VALUE: [&str; 26] = [
    "Abs",
    "Ceil",
    "Celu",
    "Clip",
    "Dropout",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyRelu",
    "Log",
    "Mish",
    "Neg",
    "Reciprocal",
    "Relu",
    "Selu",
    "Sigmoid",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Tanh",
    "ThresholdedRelu",
];

impl<'m> Tracer<'m> {
    /// Nothing yet. What the graph reads may have any dimension for its channels: they stay, and are not followed.
    pub fn new(model: &'m ModelProto, shapes: &'m HashMap<String, Vec<usize>>) -> Tracer<'m> {
        let stored = model.graph.as_ref().map(|graph| graph.stored()).unwrap_or_default();
        Tracer {
            nodes: model.nodes(),
            stored,
            shapes,
            union: Union::default(),
            fixed: vec![],
            cuts: vec![],
            counts: vec![],
            tensors: BTreeMap::new(),
            writers: vec![],
            parts: vec![],
            numbers: HashMap::new(),
        }
    }

    /// Follows all channels from the first node to the last.
    pub fn walk(&mut self) {
        let nodes = self.nodes;
        for (index, node) in nodes.iter().enumerate() {
            match self.follow(index, node) {
                Ok(Some(features)) => {
                    self.tensors.insert(node.out().to_owned(), features);
                }
                Ok(None) => {}
                Err(why) => {
                    let op = node.op_type.as_deref().unwrap_or_default();
                    let why = format!("`{}` ({op}): {why}", node.title());
                    let mut read = vec![];
                    node.reads(&mut |name| {
                        read.extend(self.tensors.get(name).map(|features| features.atoms.clone()));
                        let counted = self.numbers.get(name).into_iter().flatten();
                        read.extend(counted.filter_map(Number::channels).map(<[Atom]>::to_vec));
                    });
                    read.iter().for_each(|atoms| self.fix(atoms, &why));
                }
            }
        }
    }

    /// These channels stay.
    pub fn fix(&mut self, atoms: &[Atom], why: &str) {
        self.fixed.extend(atoms.iter().map(|&atom| (atom, why.to_owned())));
    }

    fn follow(&mut self, index: usize, node: &NodeProto) -> Followed {
        match node.op() {
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" if self.tensor(node.arg(0)).is_some() => {
                self.reshape(index, node)
            }
            "Resize" if self.tensor(node.arg(0)).is_some() => self.resize(index, node),
            "Shape" => self.shape_of(node),
            _ if node.input.iter().any(|name| self.numbers.contains_key(name)) => self.number(node),
            "Conv" => self.conv(index, node),
            "ConvTranspose" => self.conv_transpose(index, node),
            "Gemm" | "MatMul" => self.product(index, node),
            "Add" | "Sub" | "Mul" | "Div" | "PRelu" | "Pow" | "Min" | "Max" => self.arithmetic(index, node),
            "BatchNormalization" | "InstanceNormalization" => self.normalization(index, node),
            "Concat" => self.concat(node),
            "Split" => self.split(index, node),
            "Slice" => self.slice(index, node),
            _ => match self.tensor(node.arg(0)) {
                Some(features) => self.alone(node, features).map(Some),
                // A subgraph may read channels that the node itself does not.
                None if self.reads_channels(node) => Err("its channels cannot be followed".into()),
                None => Ok(None),
            },
        }
    }

    /// What leaves each channel to itself.
    fn alone(&self, node: &NodeProto, features: Features) -> Result<Features, String> {
        let axis = features.axis;
        match node.op() {
            op if PER_VALUE.contains(&op) && node.output.len() == 1 => {
                let bounds =
                    node.input.iter().skip(1).all(|name| name.is_empty() || self.stored.contains_key(name.as_str()));
                if bounds { Ok(features) } else { Err("what it computes with is not stored".into()) }
            }
            "MaxPool" | "AveragePool" | "GlobalAveragePool" | "GlobalMaxPool" | "LpPool" | "GlobalLpPool"
                if axis == 1 && node.output.len() == 1 =>
            {
                Ok(features)
            }
            "LayerNormalization" | "GroupNormalization" | "LRN" => Err("it normalises over the channels".into()),
            "Softmax" | "LogSoftmax" => {
                if self.axis(node, -1)? == axis {
                    Err("it normalises over the channels".into())
                } else {
                    Ok(features)
                }
            }
            "Pad" => {
                let rank = self.rank(node.arg(0))?;
                let pads = self.integers(node.arg(1)).ok_or("its pads are not stored")?;
                let around = [pads.get(axis), pads.get(axis + rank)];
                let fits = pads.len() == 2 * rank && node.arg(3).is_none() && around == [Some(&0); 2];
                if fits { Ok(features) } else { Err("it pads channels".into()) }
            }
            "Transpose" => {
                let rank = self.rank(node.arg(0))?;
                let back: Vec<i64> = (0..rank as i64).rev().collect();
                let order = node.ints("perm").unwrap_or(&back);
                let to = order.iter().position(|&from| from == axis as i64).ok_or("its order is odd")?;
                Ok(Features { axis: to, ..features })
            }
            "ReduceMean" | "ReduceMax" | "ReduceMin" | "ReduceSum" | "ReduceL2" => {
                let rank = self.rank(node.arg(0))? as i64;
                let axes = node.ints("axes").map(<[i64]>::to_vec).or_else(|| self.integers(node.arg(1)));
                let axes =
                    axes.filter(|axes| !axes.is_empty()).ok_or("it reduces all dimensions, or those computed")?;
                let axes: HashSet<i64> = axes.iter().map(|&over| if over < 0 { over + rank } else { over }).collect();
                if axes.contains(&(axis as i64)) {
                    return Err("it reduces over the channels".into());
                }
                let before = axes.iter().filter(|&&over| over < axis as i64).count();
                let gone = if node.int("keepdims", 1) == 0 { before } else { 0 };
                Ok(Features { axis: axis - gone, ..features })
            }
            _ => Err("channels cannot be followed through it".into()),
        }
    }

    /// Scale and shift for each channel that stand where nothing could take them in.
    fn normalization(&mut self, index: usize, node: &NodeProto) -> Followed {
        let Some(features) = self.tensor(node.arg(0)) else { return Ok(None) };
        let count = features.atoms.len();
        let fits = |i: usize| self.floats(node.arg(i)).is_some_and(|tensor| dims(tensor) == [count]);
        if features.axis != 1 || node.output.len() != 1 || !(1..node.input.len()).all(fits) {
            return Err("its parameters are not stored, one for each channel".into());
        }
        (1..node.input.len()).for_each(|input| self.cut(index, input, 0, &features.atoms, Role::Carries));
        Ok(Some(features))
    }

    fn concat(&mut self, node: &NodeProto) -> Followed {
        let all: Vec<Option<Features>> = node.input.iter().map(|name| self.tensor(Some(name))).collect();
        let Some(axis) = all.iter().flatten().map(|features| features.axis).next() else { return Ok(None) };
        if all.iter().flatten().any(|features| features.axis != axis) {
            return Err("it joins channels along different dimensions".into());
        }
        if self.axis(node, 0)? == axis {
            let mut atoms = vec![];
            for (name, features) in node.input.iter().zip(all) {
                match features {
                    Some(features) => atoms.extend(features.atoms),
                    None => {
                        let count = self.size(name, axis).ok_or("it joins something of unknown size")?;
                        let stay = self.fresh(count);
                        self.fix(&stay, &format!("the channels of `{name}` cannot be followed"));
                        atoms.extend(stay);
                    }
                }
            }
            return Ok(Some(Features { axis, atoms }));
        }
        // Side by side: all have the same channels.
        let all: Vec<Features> =
            all.into_iter().collect::<Option<_>>().ok_or("it joins channels with what has none")?;
        let first = all.first().cloned().ok_or("it joins nothing")?;
        for other in &all {
            self.join(&first.atoms, &other.atoms)?;
        }
        Ok(Some(first))
    }

    /// Sums, products and the like of two or more operands that broadcast.
    fn arithmetic(&mut self, index: usize, node: &NodeProto) -> Followed {
        let Some(shape) = self.shapes.get(node.out()) else { return Err("its shape is not known".into()) };
        let rank = shape.len();
        let mut found: Option<Features> = None;
        for name in &node.input {
            let Some(features) = self.tensor(Some(name)) else { continue };
            let own = self.rank(Some(name))?;
            let axis = features.axis + rank.checked_sub(own).ok_or("its operands have odd shapes")?;
            if features.atoms.len() != shape[axis] {
                // One channel for all of the others'.
                self.fix(&features.atoms, &format!("`{}` ({}): the channel meets all others", node.title(), node.op()));
                continue;
            }
            match &found {
                None => found = Some(Features { axis, ..features }),
                Some(first) if first.axis == axis => self.join(&first.atoms.clone(), &features.atoms)?,
                Some(_) => return Err("it combines channels along different dimensions".into()),
            }
        }
        let Some(features) = found else { return Ok(None) };
        for (input, name) in node.input.iter().enumerate() {
            if self.tensors.contains_key(name) {
                continue;
            }
            let shape = match self.stored.get(name.as_str()) {
                Some(tensor) => dims(tensor),
                None => self.shapes.get(name).cloned().ok_or("an operand's shape is not known")?,
            };
            let Some(axis) = (features.axis + shape.len()).checked_sub(rank) else { continue };
            if shape.get(axis) != Some(&features.atoms.len()) || features.atoms.len() == 1 {
                continue;
            }
            if self.floats(Some(name)).is_none() {
                let (title, op) = (node.title(), node.op());
                self.fix(&features.atoms, &format!("`{title}` ({op}): it meets `{name}`, whose channels stay"));
                continue;
            }
            self.cut(index, input, axis, &features.atoms, Role::Carries);
        }
        Ok(Some(features))
    }

    pub(super) fn fresh(&mut self, count: usize) -> Vec<Atom> {
        (0..count).map(|_| self.union.push()).collect()
    }

    /// Channels that go together one by one.
    pub(super) fn join(&mut self, one: &[Atom], other: &[Atom]) -> Result<(), String> {
        if one.len() != other.len() {
            return Err(format!("it combines {} channels with {}", one.len(), other.len()));
        }
        one.iter().zip(other).for_each(|(&one, &other)| self.union.join(one, other));
        Ok(())
    }

    pub(super) fn cut(&mut self, node: usize, input: usize, axis: usize, atoms: &[Atom], role: Role) {
        self.cuts.push(Cut { node, input, axis, atoms: atoms.to_vec(), role });
    }

    pub(super) fn tensor(&self, name: Option<&str>) -> Option<Features> {
        self.tensors.get(name?).cloned()
    }

    fn reads_channels(&self, node: &NodeProto) -> bool {
        let mut found = false;
        node.reads(&mut |name| found |= self.tensors.contains_key(name));
        found
    }

    /// A stored float tensor that is whole. One without elements may state any number of channels.
    pub(super) fn floats(&self, name: Option<&str>) -> Option<&'m TensorProto> {
        self.stored.get(name?).copied().filter(|tensor| floats(tensor).is_some_and(|values| !values.is_empty()))
    }

    pub(super) fn integers(&self, name: Option<&str>) -> Option<Vec<i64>> {
        integers(self.stored.get(name?)?)
    }

    pub(super) fn shape(&self, name: Option<&str>) -> Result<&'m [usize], String> {
        let shape = name.and_then(|name| self.shapes.get(name));
        shape.map(Vec::as_slice).ok_or_else(|| "its shape is not known".into())
    }

    /// The dimension that a node says it works along.
    pub(super) fn axis(&self, node: &NodeProto, default: i64) -> Result<usize, String> {
        let (axis, rank) = (node.int("axis", default), self.rank(node.input.first().map(String::as_str))? as i64);
        usize::try_from(if axis < 0 { axis + rank } else { axis }).map_err(|_| "its axis is odd".into())
    }

    pub(super) fn rank(&self, name: Option<&str>) -> Result<usize, String> {
        Ok(self.shape(name)?.len())
    }

    pub(super) fn size(&self, name: &str, axis: usize) -> Option<usize> {
        match self.stored.get(name) {
            Some(tensor) => dims(tensor).get(axis).copied(),
            None => self.shapes.get(name)?.get(axis).copied(),
        }
    }
}
