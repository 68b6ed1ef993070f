//! A model over many samples at once.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use prost::Message;
use rayon::prelude::*;

use crate::onnx::Names;
use crate::onnx::proto::{GraphProto, ModelProto, NodeProto, ValueInfoProto};
use crate::{Engine, QuantizeError, Runner};

/// Takes away nodes that nothing wanted depends on: an engine would run them all the same.
fn needed<S: AsRef<str>>(graph: &mut GraphProto, taps: &[S]) {
    let mut wanted: HashSet<String> = taps.iter().map(|tap| tap.as_ref().to_owned()).collect();
    let mut keep = vec![false; graph.node.len()];
    for (node, keep) in graph.node.iter().zip(&mut keep).rev() {
        if node.output.iter().any(|output| wanted.contains(output)) {
            *keep = true;
            node.reads(&mut |name| {
                wanted.insert(name.to_owned());
            });
        }
    }
    let mut keep = keep.into_iter();
    graph.node.retain(|_| keep.next().unwrap_or(true));
    graph.initializer.retain(|tensor| tensor.name.as_ref().is_some_and(|name| wanted.contains(name)));
}

/// A model with runners for as many threads as want one.
pub struct Pool<'e> {
    engine: &'e dyn Engine,
    model: Vec<u8>,
    idle: Mutex<Vec<Box<dyn Runner>>>,
}

impl<'e> Pool<'e> {
    /// Opens a model that gives the tensors named here instead of its outputs.
    pub fn open<S: AsRef<str>>(
        engine: &'e dyn Engine,
        model: &ModelProto,
        taps: &[S],
    ) -> Result<Pool<'e>, QuantizeError> {
        let mut names = Names::of(model);
        let mut model = model.clone();
        let graph = model.graph_mut();
        let declared: HashMap<String, ValueInfoProto> = (graph.value_info.iter().chain(&graph.output))
            .filter_map(|info| Some((info.name.clone()?, info.clone())))
            .collect();
        needed(graph, taps);
        let mut outputs = Vec::new();
        for tap in taps.iter().map(AsRef::as_ref) {
            let made = graph.node.iter().any(|node| node.output.iter().any(|output| output == tap));
            if made {
                outputs.push(declared.get(tap).cloned().unwrap_or_else(|| ValueInfoProto::untyped(tap)));
                continue;
            }
            // Engines need not take an input for an output.
            let copy = names.fresh(&format!("{tap}_tapped"));
            graph.node.push(NodeProto::new("Identity", copy.clone(), vec![tap.to_owned()], vec![copy.clone()]));
            outputs.push(ValueInfoProto::untyped(&copy));
        }
        graph.output = outputs;
        let model = model.encode_to_vec();
        let idle = Mutex::new(vec![engine.open(&model)?]);
        Ok(Pool { engine, model, idle })
    }

    /// Shapes of the tapped tensors.
    pub fn shapes(&self) -> Result<Vec<Vec<usize>>, QuantizeError> {
        let runner = self.take()?;
        let shapes = runner.shapes().to_vec();
        self.give(runner);
        Ok(shapes)
    }

    /// What `look` makes of each sample's run, in the order of `samples`, however many threads there are.
    pub fn each<T: Send>(
        &self,
        samples: &[usize],
        look: impl Fn(&dyn Runner, usize) -> Result<T, QuantizeError> + Sync,
    ) -> Result<Vec<T>, QuantizeError> {
        samples
            .par_iter()
            .map(|&sample| {
                let mut runner = self.take()?;
                runner.run(sample)?;
                let seen = look(runner.as_ref(), sample);
                self.give(runner);
                seen
            })
            .collect()
    }

    /// Accumulates over samples, one accumulator for each thread; what is summed has to come out alike in
    /// any order.
    pub fn fold<A: Send>(
        &self,
        samples: &[usize],
        start: impl Fn() -> A + Sync,
        add: impl Fn(&mut A, &dyn Runner) + Sync,
    ) -> Result<Vec<A>, QuantizeError> {
        let share = samples.len().div_ceil(rayon::current_num_threads()).max(1);
        samples
            .par_chunks(share)
            .map(|samples| {
                let (mut accumulated, mut runner) = (start(), self.take()?);
                for &sample in samples {
                    runner.run(sample)?;
                    add(&mut accumulated, runner.as_ref());
                }
                self.give(runner);
                Ok(accumulated)
            })
            .collect()
    }

    fn take(&self) -> Result<Box<dyn Runner>, QuantizeError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(runner) => Ok(runner),
            None => Ok(self.engine.open(&self.model)?),
        }
    }

    fn give(&self, runner: Box<dyn Runner>) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(runner);
    }
}
