//! A model over many samples at once.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use prost::Message;
use rayon::prelude::*;

use crate::onnx::Names;
use crate::onnx::proto::{GraphProto, ModelProto, NodeProto, ValueInfoProto};
use crate::{Engine, QuantizeError, Runner};

/// A tensor whose values are there already: what depends on it need not be run from the beginning.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// Takes away nodes that nothing wanted depends on, or only through what is known: an engine would run them all the same.
/// Gives the names of what is left.
fn needed<S: AsRef<str>>(graph: &mut GraphProto, known: &[Known], taps: &[S]) -> HashSet<String> {
    let mut wanted: HashSet<String> = taps.iter().map(|tap| tap.as_ref().to_owned()).collect();
    let mut keep = vec![false; graph.node.len()];
    let is_known = |output: &String| known.iter().any(|known| known.name == *output);
    for (node, keep) in graph.node.iter().zip(&mut keep).rev() {
        if node.output.iter().any(|output| wanted.contains(output) && !is_known(output)) {
            *keep = true;
            node.reads(&mut |name| {
                wanted.insert(name.to_owned());
            });
        }
    }
    let mut keep = keep.into_iter();
    graph.node.retain(|_| keep.next().unwrap_or(true));
    let is_idle = |name: &Option<String>| name.as_ref().is_none_or(|name| !wanted.contains(name));
    let idle: HashSet<Option<String>> =
        graph.initializer.iter().map(|tensor| &tensor.name).filter(|name| is_idle(name)).cloned().collect();
    graph.initializer.retain(|tensor| !idle.contains(&tensor.name));
    // Without its default an input would have to be given.
    graph.input.retain(|input| !idle.contains(&input.name));
    wanted
}

/// A model with runners for as many threads as want one.
pub struct Pool<'e> {
    engine: &'e dyn Engine,
    model: Vec<u8>,
    /// Which of the tensors that are known it reads.
    given: Vec<usize>,
    idle: Mutex<Vec<Box<dyn Runner>>>,
}

impl<'e> Pool<'e> {
    /// Opens a model that gives the tensors named here instead of its outputs.
    pub fn open<S: AsRef<str>>(
        engine: &'e dyn Engine,
        model: &ModelProto,
        taps: &[S],
    ) -> Result<Pool<'e>, QuantizeError> {
        Pool::open_from(engine, model, &[], taps)
    }

    /// The same for the part of a model that lies behind the tensors that are known.
    pub fn open_from<S: AsRef<str>>(
        engine: &'e dyn Engine,
        model: &ModelProto,
        known: &[Known],
        taps: &[S],
    ) -> Result<Pool<'e>, QuantizeError> {
        let mut names = Names::of(model);
        let mut model = model.clone();
        let graph = model.graph_mut();
        let declared: HashMap<String, ValueInfoProto> = (graph.value_info.iter().chain(&graph.output))
            .filter_map(|info| Some((info.name.clone()?, info.clone())))
            .collect();
        // What is tapped need not be declared, and its shape follows from sizes alone.
        for input in &mut graph.input {
            if let Some(shape) = input.name.as_deref().and_then(|name| engine.shape(name)) {
                *input = ValueInfoProto::tensor(input.name.as_deref().unwrap_or_default(), input.element_type(), shape);
            }
        }
        let wanted = needed(graph, known, taps);
        let given: Vec<usize> = (0..known.len()).filter(|&index| wanted.contains(&known[index].name)).collect();
        if !known.is_empty() {
            let own = |name: &String| wanted.contains(name) && known.iter().all(|known| known.name != *name);
            graph.input.retain(|input| input.name.as_ref().is_some_and(own));
        }
        for output in graph.node.iter_mut().flat_map(|node| &mut node.output) {
            if known.iter().any(|known| known.name == *output) {
                // Of a node with several, of which another one is wanted.
                *output = names.fresh(output);
            }
        }
        for known in given.iter().map(|&index| &known[index]) {
            // An input of another name: the engine has samples for those of the model's own.
            let input = names.fresh(&format!("{}_given", known.name));
            let node =
                NodeProto::new("Identity", format!("{input}_Identity"), vec![input.clone()], vec![known.name.clone()]);
            graph.node.insert(0, node);
            graph.input.push(ValueInfoProto::floats(&input, &known.shape));
        }
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
        Ok(Pool { engine, model, given, idle })
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
        self.each_from(samples, |_| Vec::new(), look)
    }

    /// The same, with the elements of what is known for each sample.
    pub fn each_from<'v, T: Send>(
        &self,
        samples: &[usize],
        known: impl Fn(usize) -> Vec<&'v [f32]> + Sync,
        look: impl Fn(&dyn Runner, usize) -> Result<T, QuantizeError> + Sync,
    ) -> Result<Vec<T>, QuantizeError> {
        samples.par_iter().map(|&sample| self.run(sample, &known(sample), |runner| look(runner, sample))).collect()
    }

    /// What `look` makes of one sample's run; `known` are the elements of what is known, all in their order.
    pub fn run<T>(
        &self,
        sample: usize,
        known: &[&[f32]],
        look: impl FnOnce(&dyn Runner) -> Result<T, QuantizeError>,
    ) -> Result<T, QuantizeError> {
        let given: Vec<&[f32]> = self.given.iter().filter_map(|&index| known.get(index).copied()).collect();
        let mut runner = self.take()?;
        runner.run(sample, &given)?;
        let seen = look(runner.as_ref());
        self.give(runner);
        seen
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
                    runner.run(sample, &[])?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EngineError;
    use crate::onnx::{decode, f32s};

    /// Takes a model only if it states the sizes of its input.
    struct Sizes([usize; 2]);

    impl Engine for Sizes {
        fn samples(&self) -> usize {
            0
        }

        fn shape(&self, input: &str) -> Option<&[usize]> {
            (input == "x").then_some(&self.0)
        }

        fn stored(&self, _: &str) -> Result<Vec<u8>, EngineError> {
            Err(EngineError("nothing is stored".into()))
        }

        fn open(&self, model: &[u8]) -> Result<Box<dyn Runner>, EngineError> {
            let model = decode(model).map_err(|error| EngineError(error.to_string()))?;
            assert_eq!(model.graph.unwrap().input, [ValueInfoProto::floats("x", &self.0)]);
            Err(EngineError("it states its sizes".into()))
        }
    }

    #[test]
    fn sizes_that_are_settled_are_stated() {
        let input = ValueInfoProto::tensor("x", Some(crate::onnx::proto::data_type::FLOAT), &[]);
        let node = NodeProto::new("Relu", String::new(), vec!["x".into()], vec!["y".into()]);
        let graph = GraphProto { node: vec![node], input: vec![input], ..GraphProto::default() };
        let model = ModelProto { graph: Some(graph), ..ModelProto::default() };
        let error = Pool::open(&Sizes([1, 3]), &model, &["y"]).err().unwrap();
        assert_eq!(error.to_string(), "it states its sizes");
    }

    #[test]
    fn an_input_goes_with_the_default_that_nothing_needs() {
        let mut graph = GraphProto {
            node: vec![NodeProto::test("MatMul", &["x", "u"], "a"), NodeProto::test("MatMul", &["a", "w"], "y")],
            input: ["x", "u", "w"].map(|name| ValueInfoProto::floats(name, &[2, 2])).into(),
            initializer: ["u", "w"].map(|name| f32s(name, &[2, 2], &[1.0; 4])).into(),
            ..GraphProto::default()
        };
        needed(&mut graph, &[], &["a"]);
        assert_eq!(graph.input, ["x", "u"].map(|name| ValueInfoProto::floats(name, &[2, 2])));
    }
}
