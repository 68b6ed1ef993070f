//! What was done to a model, group by group.

use super::Options;
use super::channels::{Channels, Group};
use crate::judge::Score;
use crate::onnx::proto::ModelProto;

/// A pruning, told.
#[derive(Clone, Debug)]
pub struct Report {
    /// Groups of layers whose output channels go together, in graph order.
    pub groups: Vec<GroupReport>,
    /// What was folded and raised beforehand, and how many layers were fitted anew.
    pub notes: Vec<String>,
    /// What the model cost before.
    pub before: Size,
    /// And costs now.
    pub after: Size,
    /// How near the pruned model is to the float one, on calibration samples.
    pub score: Score,
    /// Samples that were learned from.
    pub samples: usize,
}

/// What a model costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Multiply-adds of convolutions and matrix products with stored weights, for one sample.
    pub macs: u64,
    /// Stored float values.
    pub parameters: usize,
    /// Size of the stored tensors, in bytes.
    pub bytes: usize,
}

/// Layers whose output channels go together.
#[derive(Clone, Debug)]
pub struct GroupReport {
    /// Names of the layers.
    pub layers: Vec<String>,
    /// Channels that can go or stay each on its own, before.
    pub before: usize,
    /// And after.
    pub after: usize,
    /// Why none were removed, or why some could not be; empty where nothing stood in the way.
    pub why: String,
}

impl GroupReport {
    /// The first layer's name, and of how many more.
    pub fn name(&self) -> String {
        let first = self.layers.first().map_or("", String::as_str);
        match self.layers.len() {
            0 | 1 => first.to_owned(),
            count => format!("{first} and {} more", count - 1),
        }
    }
}

/// Each group with what became of it.
pub fn groups(model: &ModelProto, channels: &Channels, removed: &[bool], options: &Options) -> Vec<GroupReport> {
    let report = |group: &Group| {
        let (before, after) = (group.classes.len(), group.classes.iter().filter(|&&class| !removed[class]).count());
        let fixed = group.classes.iter().filter(|&&class| channels.fixed[class]).count();
        let why = match &group.fixed {
            Some(why) if fixed < before => format!("{fixed} stay: {why}"),
            Some(why) => why.clone(),
            None if after < before => String::new(),
            None if before <= options.multiple => {
                format!("{before} channels are no more than the multiple that is kept")
            }
            None => "the ratio takes none".into(),
        };
        let layers = group.writers.iter().map(|&node| model.nodes()[node].title().to_owned()).collect();
        GroupReport { layers, before, after, why }
    };
    channels.groups.iter().map(report).collect()
}
