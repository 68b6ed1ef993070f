//! Lists of integers that are made of an activation's shape, and what shapes say of channels. A number of channels that
//! is read off an activation is right whatever was removed; one that is stored is counted anew; with others nothing may
//! be computed.

use super::channels::{Atom, Count, Features};
use super::trace::Tracer;
use crate::onnx::proto::NodeProto;

/// Entries of a list of sizes, at most: a tensor has few dimensions, and what is longer is no list of them.
const LONGEST: usize = 64;

/// An entry of a list of integers.
#[derive(Clone, Debug)]
pub enum Number {
    /// How many of these channels there are.
    Channels(Vec<Atom>),
    /// A stored one.
    Stored(i64),
    /// Any other.
    Other,
}

impl Number {
    /// The channels that it counts.
    pub fn channels(&self) -> Option<&[Atom]> {
        match self {
            Number::Channels(atoms) => Some(atoms),
            Number::Stored(_) | Number::Other => None,
        }
    }
}

/// Where a bound lies among so many entries, from the end of which it counts if it is negative.
pub fn place(bound: i64, count: usize) -> usize {
    let count = count as i64;
    (if bound < 0 { bound.saturating_add(count) } else { bound }).clamp(0, count) as usize
}

impl Tracer<'_> {
    /// The sizes of an activation.
    pub(super) fn shape_of(&mut self, node: &NodeProto) -> Result<Option<Features>, String> {
        let Some(read) = self.tensor(node.arg(0)) else { return Ok(None) };
        let rank = self.rank(node.arg(0))?;
        let number = |axis| if axis == read.axis { Number::Channels(read.atoms.clone()) } else { Number::Other };
        let sizes =
            (place(node.int("start", 0), rank)..place(node.int("end", rank as i64), rank)).map(number).collect();
        self.numbers.insert(node.out().to_owned(), sizes);
        Ok(None)
    }

    /// What hands on entries of a list.
    pub(super) fn number(&mut self, node: &NodeProto) -> Result<Option<Features>, String> {
        let counts = |list: &[Number]| list.iter().any(|number| number.channels().is_some());
        if !node.input.iter().filter_map(|name| self.list(name)).any(|list| counts(&list)) {
            return Ok(None);
        }
        let first = node.arg(0).and_then(|name| self.list(name));
        let made = match (node.op(), first) {
            ("Cast" | "Identity" | "Squeeze" | "Unsqueeze", Some(list)) => Some(list),
            ("Gather", Some(list)) if node.int("axis", 0) == 0 => {
                let count = list.len() as i64;
                let of = |index: i64| list.get(usize::try_from(if index < 0 { index + count } else { index }).ok()?);
                self.integers(node.arg(1)).and_then(|entries| entries.into_iter().map(|i| of(i).cloned()).collect())
            }
            ("Slice", Some(list)) => {
                let bound = |input| self.integers(node.arg(input)).and_then(|bounds| bounds.first().copied());
                let forward = node.arg(4).is_none() || bound(4) == Some(1);
                match (bound(1), bound(2)) {
                    (Some(start), Some(end)) if forward => {
                        list.get(place(start, list.len())..place(end, list.len())).map(<[Number]>::to_vec)
                    }
                    _ => None,
                }
            }
            ("Concat", _) => {
                let lists: Option<Vec<_>> = node.input.iter().map(|name| self.list(name)).collect();
                lists.map(|lists| lists.concat())
            }
            _ => None,
        };
        self.numbers.insert(node.out().to_owned(), made.ok_or("it computes with the number of channels")?);
        Ok(None)
    }

    /// The entries of a tensor of few integers.
    fn list(&self, name: &str) -> Option<Vec<Number>> {
        if let Some(list) = self.numbers.get(name) {
            return Some(list.clone());
        }
        if let Some(stored) = self.integers(Some(name)) {
            return Some(stored.into_iter().map(Number::Stored).collect());
        }
        match self.shapes.get(name)?.as_slice() {
            [] => Some(vec![Number::Other]),
            &[count] if count <= LONGEST => Some(vec![Number::Other; count]),
            _ => None,
        }
    }

    /// The shape that a Reshape reads says of channels no more than how many there are, or leaves that to inference.
    pub(super) fn target(
        &mut self,
        place: (usize, usize),
        node: &NodeProto,
        axis: usize,
        to: &Features,
    ) -> Result<(), String> {
        let copies = node.int("allowzero", 0) == 0;
        let target = node.arg(1).and_then(|name| self.list(name)).ok_or("its shape is computed")?;
        let wrong = |(entry, number): (usize, &Number)| {
            copies && matches!(number, Number::Stored(0)) && (entry == axis) != (entry == to.axis)
        };
        if target.iter().enumerate().any(wrong) {
            return Err("its shape copies the number of channels".into());
        }
        match target.get(to.axis) {
            Some(Number::Stored(-1 | 0)) => self.others(&target, to.axis),
            _ => self.sizes(place, node, to, to.axis),
        }
    }

    /// Sizes of which this entry counts these channels.
    pub(super) fn sizes(
        &mut self,
        (index, input): (usize, usize),
        node: &NodeProto,
        channels: &Features,
        entry: usize,
    ) -> Result<(), String> {
        let name = node.arg(input).ok_or("its shape is not there")?;
        let list = self.list(name).ok_or("its shape is computed")?;
        match list.get(entry) {
            Some(Number::Channels(atoms)) => {
                let counted: Vec<usize> = atoms.iter().map(|&atom| self.union.find(atom)).collect();
                let own: Vec<usize> = channels.atoms.iter().map(|&atom| self.union.find(atom)).collect();
                if counted != own {
                    return Err("its shape counts other channels".into());
                }
            }
            Some(&Number::Stored(size)) if size == channels.atoms.len() as i64 && self.stored.contains_key(name) => {
                self.counts.push(Count::Shape(index, input, entry, channels.atoms.clone()));
            }
            _ => return Err("its shape is computed".into()),
        }
        self.others(&list, entry)
    }

    /// No entry but this one counts channels.
    fn others(&self, list: &[Number], entry: usize) -> Result<(), String> {
        let counts = |(at, number): (usize, &Number)| at != entry && number.channels().is_some();
        match list.iter().enumerate().any(counts) {
            true => Err("its shape has the number of channels as another".into()),
            false => Ok(()),
        }
    }
}
