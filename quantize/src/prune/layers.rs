//! How channels pass what has weights, and what gives elements other dimensions.

use super::channels::{Atom, Count, Features, Role};
use super::numbers::place;
use super::trace::Tracer;
use crate::onnx::proto::NodeProto;
use crate::onnx::{dims, floats};

impl Tracer<'_> {
    pub(super) fn conv(&mut self, index: usize, node: &NodeProto) -> Result<Option<Features>, String> {
        let shape = dims(self.floats(node.arg(1)).ok_or("its weights are not stored as float32")?);
        let &[rows, per_group, ..] = shape.as_slice() else { return Err("its weights have odd dimensions".into()) };
        let groups = usize::try_from(node.int("group", 1)).ok().filter(|&groups| groups > 0 && rows % groups == 0);
        let groups = groups.ok_or("its groups are odd")?;
        if node.arg(2).is_some() && self.floats(node.arg(2)).is_none_or(|bias| dims(bias) != [rows]) {
            return Err("its bias is not stored, one for each channel".into());
        }
        let read = self.tensor(node.arg(0));
        if read.as_ref().is_some_and(|read| read.axis != 1 || read.atoms.len() != groups * per_group) {
            return Err("it mixes what is not the channels".into());
        }
        let (atoms, role) = match read {
            Some(read) if groups > 1 && per_group == 1 => {
                let each = rows / groups;
                let atoms: Vec<Atom> = (0..rows).map(|row| read.atoms[row / each]).collect();
                self.counts.push(Count::Groups(index, read.atoms));
                (atoms, Role::Carries)
            }
            read => {
                let atoms = self.fresh(rows);
                // Groups stay alike: what goes from one goes from all.
                self.alike(&atoms, groups)?;
                if groups > 1 && per_group == 1 {
                    self.fix(&atoms, &format!("`{}` ({}): what it reads cannot be followed", node.title(), node.op()));
                }
                if let Some(read) = read {
                    self.alike(&read.atoms, groups)?;
                    self.cut(index, 1, 1, &read.atoms[..per_group], Role::Reads);
                }
                self.writers.push((index, atoms.clone()));
                (atoms, Role::Writes)
            }
        };
        self.cut(index, 1, 0, &atoms, role);
        // A bias, which refitting adds where there is none.
        self.cut(index, 2, 0, &atoms, role);
        Ok(Some(Features { axis: 1, atoms }))
    }

    /// Of its weights the first dimension is that of what it reads, and the second that of a group of what it writes.
    pub(super) fn conv_transpose(&mut self, index: usize, node: &NodeProto) -> Result<Option<Features>, String> {
        let shape = dims(self.floats(node.arg(1)).ok_or("its weights are not stored as float32")?);
        let &[channels, each, ..] = shape.as_slice() else { return Err("its weights have odd dimensions".into()) };
        let depthwise = node.int("group", 1) == channels as i64 && each == 1;
        if node.int("group", 1) != 1 && !depthwise {
            return Err("it has groups of several channels".into());
        }
        let rows = if depthwise { channels } else { each };
        if node.arg(2).is_some() && self.floats(node.arg(2)).is_none_or(|bias| dims(bias) != [rows]) {
            return Err("its bias is not stored, one for each channel".into());
        }
        let read = self.tensor(node.arg(0));
        if read.as_ref().is_some_and(|read| read.axis != 1 || read.atoms.len() != channels) {
            return Err("it mixes what is not the channels".into());
        }
        if depthwise && channels > 1 {
            let Some(read) = read else { return Ok(None) };
            self.counts.push(Count::Groups(index, read.atoms.clone()));
            self.cut(index, 1, 0, &read.atoms, Role::Carries);
            self.cut(index, 2, 0, &read.atoms, Role::Carries);
            return Ok(Some(read));
        }
        let atoms = self.fresh(rows);
        if let Some(read) = read {
            self.cut(index, 1, 0, &read.atoms, Role::Reads);
        }
        self.cut(index, 1, 1, &atoms, Role::Writes);
        self.cut(index, 2, 0, &atoms, Role::Writes);
        self.writers.push((index, atoms.clone()));
        Ok(Some(Features { axis: 1, atoms }))
    }

    /// Parts of what it reads, one behind the other.
    pub(super) fn split(&mut self, index: usize, node: &NodeProto) -> Result<Option<Features>, String> {
        let Some(read) = self.tensor(node.arg(0)) else { return Ok(None) };
        let axis = self.axis(node, 0)?;
        let mut from = 0;
        let mut parts = Vec::new();
        for name in &node.output {
            let size = self.shape(Some(name))?.get(read.axis).copied().ok_or("its parts have odd dimensions")?;
            let until = if axis == read.axis { from + size } else { read.atoms.len() };
            let atoms = read.atoms.get(from..until).ok_or("its parts are more than what it reads")?.to_vec();
            from = if axis == read.axis { until } else { 0 };
            parts.push(atoms);
        }
        if axis == read.axis {
            if node.arg(1).is_some() && self.integers(node.arg(1)).is_none() {
                return Err("its sizes are computed".into());
            }
            self.parts.extend(parts.iter().cloned());
            self.counts.push(Count::Split(index, parts.clone()));
        }
        for (name, atoms) in node.output.iter().zip(parts) {
            self.tensors.insert(name.clone(), Features { axis: read.axis, atoms });
        }
        // Each output has its own by now.
        Ok(None)
    }

    /// One part of what it reads, between stored bounds.
    pub(super) fn slice(&mut self, index: usize, node: &NodeProto) -> Result<Option<Features>, String> {
        let Some(read) = self.tensor(node.arg(0)) else { return Ok(None) };
        let (rank, count) = (self.rank(node.arg(0))?, read.atoms.len());
        let entries = |input| self.integers(node.arg(input)).ok_or("its bounds are computed");
        let (starts, ends) = (entries(1)?, entries(2)?);
        let axes = if node.arg(3).is_some() { entries(3)? } else { (0..starts.len() as i64).collect() };
        let steps = if node.arg(4).is_some() { entries(4)? } else { vec![1; starts.len()] };
        if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
            return Err("its bounds are not one for each dimension".into());
        }
        let along = |&over: &i64| if over < 0 { over + rank as i64 } else { over } == read.axis as i64;
        let Some(entry) = axes.iter().position(along) else { return Ok(Some(read)) };
        if steps[entry] != 1 {
            return Err("it takes channels in steps, or backwards".into());
        }
        let (start, end) = (place(starts[entry], count), place(ends[entry], count));
        let atoms = read.atoms.get(start..end).filter(|atoms| !atoms.is_empty()).ok_or("it takes no channels")?;
        let atoms = atoms.to_vec();
        self.parts.push(atoms.clone());
        self.counts.push(Count::Slice(index, entry, [read.atoms[..start].to_vec(), read.atoms[..end].to_vec()]));
        Ok(Some(Features { axis: read.axis, atoms }))
    }

    /// Other dimensions than that of the channels grow or shrink.
    pub(super) fn resize(&mut self, index: usize, node: &NodeProto) -> Result<Option<Features>, String> {
        let Some(read) = self.tensor(node.arg(0)) else { return Ok(None) };
        let rank = self.rank(node.arg(0))? as i64;
        let is_own = |&over: &i64| if over < 0 { over + rank } else { over } == read.axis as i64;
        let entry = match node.ints("axes") {
            Some(axes) => axes.iter().position(is_own),
            None => Some(read.axis),
        };
        let Some(entry) = entry else { return Ok(Some(read)) };
        if node.text("coordinate_transformation_mode") == Some(b"tf_crop_and_resize") {
            return Err("it crops".into());
        }
        if node.text("keep_aspect_ratio_policy").is_some_and(|policy| policy != b"stretch") {
            return Err("it keeps the ratio of its dimensions, channels included".into());
        }
        if node.arg(3).is_some() {
            self.sizes((index, 3), node, &read, entry)?;
            return Ok(Some(read));
        }
        let scales = self.floats(node.arg(2)).and_then(floats).ok_or("its scales are computed")?;
        if scales.get(entry) == Some(&1.0) { Ok(Some(read)) } else { Err("it resizes the channels".into()) }
    }

    /// The entries at one place of each of these equal parts go together.
    fn alike(&mut self, atoms: &[Atom], parts: usize) -> Result<(), String> {
        let (first, rest) = atoms.split_at(atoms.len() / parts);
        rest.chunks(first.len().max(1)).try_for_each(|part| self.join(first, part))
    }

    pub(super) fn product(&mut self, index: usize, node: &NodeProto) -> Result<Option<Features>, String> {
        let shape = dims(self.floats(node.arg(1)).ok_or("its second operand is not stored as float32")?);
        let &[first, second] = shape.as_slice() else { return Err("its second operand is no matrix".into()) };
        if node.int("transA", 0) != 0 {
            return Err("it transposes what it reads".into());
        }
        let outputs = usize::from(node.int("transB", 0) == 0);
        let rows = if outputs == 0 { first } else { second };
        let last = self.shape(node.arg(0))?.len().checked_sub(1).ok_or("what it reads has no dimensions")?;
        let mut read = self.tensor(node.arg(0));
        // Channels along another dimension are rows to it: all of them stay, and what it writes are others.
        if let Some(along) = read.take_if(|read| read.axis != last) {
            let why = format!("`{}` ({}): it mixes what is not the channels", node.title(), node.op());
            self.fix(&along.atoms, &why);
        }
        if read.as_ref().is_some_and(|read| read.atoms.len() != shape[1 - outputs]) {
            return Err("it mixes what is not the channels".into());
        }
        let atoms = self.fresh(rows);
        // A bias, which refitting adds where there is none.
        let bias = match node.arg(2) {
            Some(bias) => dims(self.floats(Some(bias)).ok_or("its bias is not stored as float32")?),
            None => vec![rows],
        };
        match bias.last() {
            Some(&size) if size == rows && rows > 1 => self.cut(index, 2, bias.len() - 1, &atoms, Role::Writes),
            None | Some(1) => {}
            Some(_) => return Err("its bias has odd dimensions".into()),
        }
        if let Some(read) = read {
            self.cut(index, 1, 1 - outputs, &read.atoms, Role::Reads);
        }
        self.cut(index, 1, outputs, &atoms, Role::Writes);
        self.writers.push((index, atoms.clone()));
        Ok(Some(Features { axis: last, atoms }))
    }

    /// Elements keep their order; channels that become several entries each, or the other way, go together.
    pub(super) fn reshape(&mut self, index: usize, node: &NodeProto) -> Result<Option<Features>, String> {
        let Some(read) = self.tensor(node.arg(0)) else { return Ok(None) };
        let (from, to) = (self.shape(node.arg(0))?.to_vec(), self.shape(Some(node.out()))?.to_vec());
        let features = self.reshaped(&read, &from, &to)?;
        match node.op() {
            "Reshape" => self.target((index, 1), node, read.axis, &features)?,
            // Without axes, what goes depends on which sizes are 1.
            "Squeeze" if node.arg(1).is_none() && node.ints("axes").is_none() => {
                return Err("it says not which dimensions go".into());
            }
            _ => {}
        }
        Ok(Some(features))
    }

    fn reshaped(&mut self, read: &Features, from: &[usize], to: &[usize]) -> Result<Features, String> {
        let inner = |shape: &[usize], axis: usize| shape[axis + 1..].iter().product::<usize>();
        let outer = |shape: &[usize], axis: usize| shape[..axis].iter().product::<usize>();
        let (count, before, behind) = (read.atoms.len(), outer(from, read.axis), inner(from, read.axis));
        // The same dimension, those around it otherwise; from several images to a row, channels last included.
        let same =
            (0..to.len()).find(|&axis| to[axis] == count && outer(to, axis) == before && inner(to, axis) == behind);
        if let Some(axis) = same {
            return Ok(Features { axis, atoms: read.atoms.clone() });
        }
        if from.first() != Some(&1) || to.first() != Some(&1) || to.len() < 2 || count * before * behind == 0 {
            return Err("channels cannot be followed into its dimensions".into());
        }
        let each = inner(to, 1);
        if each == 1 {
            let atoms = (0..to[1]).map(|entry| read.atoms[entry / behind % count]).collect();
            return Ok(Features { axis: 1, atoms });
        }
        if before != 1 || (behind % each != 0 && each % behind != 0) {
            return Err("channels cannot be followed into its dimensions".into());
        }
        let mut atoms = Vec::with_capacity(to[1]);
        for entry in 0..to[1] {
            let first = entry * each / behind;
            let last = ((entry + 1) * each - 1) / behind;
            (first..last).for_each(|channel| self.union.join(read.atoms[channel], read.atoms[channel + 1]));
            atoms.push(read.atoms[first]);
        }
        Ok(Features { axis: 1, atoms })
    }
}
