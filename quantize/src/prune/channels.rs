//! Which channels go together: each channel that a layer writes, followed through what works on it alone, what
//! adds and joins it with others, and into the weights of what reads it.

use std::collections::{BTreeMap, HashMap};

use super::trace;
use crate::onnx::Edges;
use crate::onnx::proto::ModelProto;
use crate::sites::Site;

/// One entry of one dimension of an activation, as a layer writes it; what has to go with it is of the same class.
pub type Atom = usize;

/// What an input of a node has to do with the channels along one of its dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Weights that mix these channels into others.
    Reads,
    /// Weights, or a bias, that make these channels.
    Writes,
    /// Values that each channel meets alone.
    Carries,
}

/// A dimension of a stored tensor that has, or would have, an entry for each of these channels.
#[derive(Clone, Debug)]
pub struct Cut {
    /// The node that reads the tensor.
    pub node: usize,
    /// As which input.
    pub input: usize,
    /// The dimension.
    pub axis: usize,
    /// One for each entry.
    pub atoms: Vec<Atom>,
    /// What it is to them.
    pub role: Role,
}

/// Channels of an activation.
#[derive(Clone, Debug)]
pub struct Features {
    /// The dimension.
    pub axis: usize,
    /// One for each entry.
    pub atoms: Vec<Atom>,
}

/// A number in the graph that counts channels.
#[derive(Clone, Debug)]
pub enum Count {
    /// Attribute `group` of a depthwise convolution.
    Groups(usize, Vec<Atom>),
    /// An entry of the stored shape that a node reads as this input: a Reshape its second, a Resize its last.
    Shape(usize, usize, usize, Vec<Atom>),
    /// The sizes of the parts of a Split.
    Split(usize, Vec<Vec<Atom>>),
    /// An entry of the bounds of a Slice, with the channels before each of both.
    Slice(usize, usize, [Vec<Atom>; 2]),
}

/// Layers whose output channels hang together, and those channels.
#[derive(Clone, Debug)]
pub struct Group {
    /// The layers that write them, by index of the node.
    pub writers: Vec<usize>,
    /// Classes in the order of the first writer's channels.
    pub classes: Vec<usize>,
    /// Why some or all of the classes stay, where they have to.
    pub fixed: Option<String>,
}

/// The channels of a graph.
#[derive(Debug)]
pub struct Channels {
    /// Class of each atom.
    pub class: Vec<usize>,
    /// Classes that have to stay.
    pub fixed: Vec<bool>,
    /// Stored tensors with channels.
    pub cuts: Vec<Cut>,
    /// Numbers of channels.
    pub counts: Vec<Count>,
    /// Activations with channels.
    pub tensors: BTreeMap<String, Features>,
    /// Layers that write channels, in graph order, with these.
    pub writers: Vec<(usize, Vec<Atom>)>,
    /// Channels that are parted from others: of each list one stays, as of what a layer writes.
    pub parts: Vec<Vec<Atom>>,
    /// All channels that layers write, in graph order.
    pub groups: Vec<Group>,
}

impl Channels {
    /// Follows the channels of a prepared model whose activations have these shapes.
    pub fn of(model: &ModelProto, shapes: &HashMap<String, Vec<usize>>) -> Channels {
        let mut tracer = trace::Tracer::new(model, shapes);
        tracer.walk();
        tracer.finish(model)
    }

    /// Channels stay that are read by another layer than these, by which alone it can be told what they matter.
    pub fn hold_unweighed(&mut self, model: &ModelProto, sites: &[Site]) {
        let is_weighed = |node: usize| sites.iter().any(|site| site.node == node);
        let Channels { class, fixed, cuts, groups, .. } = self;
        for cut in cuts.iter().filter(|cut| cut.role == Role::Reads && !is_weighed(cut.node)) {
            let node = &model.nodes()[cut.node];
            for &atom in &cut.atoms {
                fixed[class[atom]] = true;
                for group in groups.iter_mut().filter(|group| group.classes.contains(&class[atom])) {
                    group.fixed.get_or_insert_with(|| {
                        format!("`{}` ({}): what channels matter to it is not measured", node.title(), node.op())
                    });
                }
            }
        }
    }

    /// The cut of a node's input along a dimension.
    pub fn cut(&self, node: usize, input: usize, axis: usize) -> Option<&Cut> {
        self.cuts.iter().find(|cut| (cut.node, cut.input, cut.axis) == (node, input, axis))
    }

    /// What a node reads through weights that mix channels.
    pub fn read_by(&self, node: usize) -> Option<&Cut> {
        self.cuts.iter().find(|cut| cut.node == node && cut.role == Role::Reads)
    }

    /// Those of these entries that stay.
    pub fn kept(&self, atoms: &[Atom], removed: &[bool]) -> Vec<usize> {
        (0..atoms.len()).filter(|&entry| !removed[self.class[atoms[entry]]]).collect()
    }
}

/// Sets that merge.
#[derive(Debug, Default)]
pub struct Union {
    parent: Vec<usize>,
}

impl Union {
    /// A new set of one.
    pub fn push(&mut self) -> usize {
        self.parent.push(self.parent.len());
        self.parent.len() - 1
    }

    /// The first member of a set.
    pub fn find(&mut self, mut member: usize) -> usize {
        while self.parent[member] != member {
            self.parent[member] = self.parent[self.parent[member]];
            member = self.parent[member];
        }
        member
    }

    /// Makes two sets one; the lower first member stays.
    pub fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.find(one), self.find(other));
        self.parent[one.max(other)] = one.min(other);
    }

    /// Number of members in all.
    pub fn len(&self) -> usize {
        self.parent.len()
    }
}

impl trace::Tracer<'_> {
    /// Classes and groups from what was followed.
    fn finish(mut self, model: &ModelProto) -> Channels {
        let edges = Edges::of(model);
        let outputs: Vec<(String, Features)> = self
            .tensors
            .iter()
            .filter(|(name, _)| edges.is_output(name))
            .map(|(name, features)| (name.clone(), features.clone()))
            .collect();
        for (name, features) in outputs {
            self.fix(&features.atoms, &format!("`{name}` is an output of the graph"));
        }
        let mut dense = HashMap::new();
        let class: Vec<usize> = (0..self.union.len())
            .map(|atom| {
                let next = dense.len();
                *dense.entry(self.union.find(atom)).or_insert(next)
            })
            .collect();
        let mut fixed: Vec<Option<String>> = vec![None; dense.len()];
        for (atom, why) in &self.fixed {
            fixed[class[*atom]].get_or_insert_with(|| why.clone());
        }
        // Writers that have a class in common are one group.
        let mut union = Union::default();
        let mut owner: HashMap<usize, usize> = HashMap::new();
        for (_, atoms) in &self.writers {
            let writer = union.push();
            for &atom in atoms {
                let first = *owner.entry(class[atom]).or_insert(writer);
                union.join(first, writer);
            }
        }
        let mut groups: BTreeMap<usize, Group> = BTreeMap::new();
        for (writer, (node, atoms)) in self.writers.iter().enumerate() {
            let empty = Group { writers: vec![], classes: vec![], fixed: None };
            let group = groups.entry(union.find(writer)).or_insert(empty);
            group.writers.push(*node);
            for &atom in atoms {
                if !group.classes.contains(&class[atom]) {
                    group.classes.push(class[atom]);
                }
            }
        }
        let mut groups: Vec<Group> = groups.into_values().collect();
        for group in &mut groups {
            group.fixed = group.classes.iter().find_map(|&class| fixed[class].clone());
        }
        Channels {
            fixed: fixed.iter().map(Option::is_some).collect(),
            class,
            cuts: self.cuts,
            counts: self.counts,
            tensors: self.tensors,
            writers: self.writers,
            parts: self.parts,
            groups,
        }
    }
}
