//! A prepared model with its sites: what the steps between calibration and writing share.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use rayon::prelude::*;

use crate::calibrate::{Method, Observed};
use crate::dynamic;
use crate::emit::{Emission, Emitted};
use crate::frontier::Frontier;
use crate::judge::{self, Judge, Score};
use crate::layer::{Layer, Matrix};
use crate::onnx::proto::{ModelProto, NodeProto};
use crate::onnx::{Edges, Names};
use crate::quantizer::{Effort, Options};
use crate::ranges::Ranges;
use crate::reconstruct::{Depth, Task, reconstruct};
use crate::scheme::{QParams, Range, Scheme};
use crate::sites::{self, Site, Sites};
use crate::{Engine, Progress, QuantizeError};

/// A prepared float model on its way.
pub struct Work<'a> {
    /// The float model.
    pub model: ModelProto,
    /// What of it is quantized.
    pub sites: Sites,
    /// What runs it.
    pub engine: &'a dyn Engine,
    /// What is wanted; other nodes may be kept than were asked for.
    pub options: Cow<'a, Options>,
    /// Weights of all sites, each rounded to the nearest.
    nearest: BTreeMap<usize, Layer>,
}

impl<'a> Work<'a> {
    /// Finds what can be quantized.
    ///
    /// # Errors
    /// A node to keep is not there, or there is nothing to quantize.
    pub fn new(
        model: ModelProto,
        engine: &'a dyn Engine,
        options: Cow<'a, Options>,
    ) -> Result<Work<'a>, QuantizeError> {
        let keep: HashSet<&str> = options.keep.iter().map(String::as_str).collect();
        if let Some(unknown) = options.keep.iter().find(|name| model.nodes().iter().all(|node| node.title() != **name))
        {
            return Err(QuantizeError::NoSuchNode(unknown.clone()));
        }
        let sites = find(&model, options.scheme, &keep);
        if sites.sites.is_empty() {
            let why = |(name, op, why): &(String, String, String)| format!("`{name}` ({op}): {why}");
            let why: Vec<String> = sites.kept.iter().take(3).map(why).collect();
            let why = if why.is_empty() { "no node computes".into() } else { why.join("; ") };
            return Err(QuantizeError::NothingToDo(why));
        }
        let is_portable = options.is_portable();
        let mut work = Work { model, sites, engine, options, nearest: BTreeMap::new() };
        let layer = |site: &Site| {
            let matrix = work.matrix(site)?;
            Some((site.node, Layer::nearest(&matrix, &matrix.bound(is_portable))))
        };
        work.nearest = work.sites.sites.par_iter().filter_map(layer).collect();
        Ok(work)
    }

    /// What is quantized with these nodes left in float.
    pub fn sites_without(&self, keep: &HashSet<&str>) -> Sites {
        find(&self.model, self.options.scheme, keep)
    }

    /// Parameters of a tensor by a rule.
    pub fn params(&self, observed: &Observed, method: Method) -> QParams {
        self.params_of(observed.range(method, self.options.activations.levels()))
    }

    /// Parameters for a range.
    pub fn params_of(&self, range: Range) -> QParams {
        QParams::of(range, self.options.activations, self.options.symmetric)
    }

    /// Parameters for all tensors, each with its leader's.
    pub fn spread(&self, by_leader: &BTreeMap<String, QParams>) -> BTreeMap<String, QParams> {
        let tensors = self.sites.tensors().into_iter();
        tensors.filter_map(|(name, leader)| by_leader.get(&leader).map(|&q| (name, q))).collect()
    }

    /// The float weights of a site.
    pub fn matrix(&self, site: &Site) -> Option<Matrix> {
        let graph = self.model.graph.as_ref()?;
        Matrix::of(site, &graph.node, &graph.stored())
    }

    /// Weights of all sites, each rounded to the nearest, for inputs with these parameters.
    pub fn nearest(&self, params: &BTreeMap<String, QParams>) -> BTreeMap<usize, Layer> {
        let layer = |site: &Site| {
            let mut layer = self.nearest.get(&site.node)?.clone();
            if let Some(input) = site.inputs.first().and_then(|(_, name)| params.get(name)) {
                layer.fit_bias(input.scale);
            }
            Some((site.node, layer))
        };
        self.sites.sites.iter().filter_map(layer).collect()
    }

    /// The float model, in which what reads a graph's input as integers reads a copy where others read it in float: when
    /// the model is written, those have it as it is. With the name of each copy.
    pub fn parted(&self) -> (Cow<'_, ModelProto>, BTreeMap<String, String>) {
        let edges = Edges::of(&self.model);
        let mut names = Names::of(&self.model);
        let integers = self.sites.sites.iter().map(|site| site.node).chain(self.sites.moves.iter().map(|m| m.node));
        let integers: HashSet<usize> = integers.collect();
        let mut model = Cow::Borrowed(&self.model);
        let mut copies = BTreeMap::new();
        let mut made = Vec::new();
        for (tensor, _) in self.sites.tensors() {
            let readers = edges.readers(&tensor);
            if edges.producer.contains_key(&tensor) || readers.iter().all(|reader| integers.contains(reader)) {
                continue;
            }
            let copy = names.fresh(&format!("{tensor}_copy"));
            for &reader in readers.iter().filter(|reader| integers.contains(reader)) {
                let inputs = &mut model.to_mut().graph_mut().node[reader].input;
                inputs.iter_mut().filter(|name| **name == tensor).for_each(|name| name.clone_from(&copy));
            }
            made.push(NodeProto::new("Identity", copy.clone(), vec![tensor.clone()], vec![copy.clone()]));
            copies.insert(tensor, copy);
        }
        if !made.is_empty() {
            model.to_mut().graph_mut().node.splice(0..0, made);
        }
        (model, copies)
    }

    /// Writes a model with these tensors and layers quantized.
    pub fn emit(&self, params: &BTreeMap<String, QParams>, layers: &BTreeMap<usize, Layer>) -> Emitted {
        self.emit_sites(&self.sites, params, layers)
    }

    /// The same for some sites.
    pub fn emit_sites(
        &self,
        sites: &Sites,
        params: &BTreeMap<String, QParams>,
        layers: &BTreeMap<usize, Layer>,
    ) -> Emitted {
        if self.options.scheme == Scheme::Dynamic {
            return dynamic::emit(&self.model, sites, layers);
        }
        Emission { model: &self.model, sites, activations: self.options.activations, params, layers }.emit()
    }

    /// The model with all activations quantized and weights rounded to the nearest.
    ///
    /// # Errors
    /// The engine fails.
    pub fn score(&self, ranges: &Ranges, judge: &Judge<'_>) -> Result<Score, QuantizeError> {
        judge.score(&self.emit(&ranges.params, &self.nearest(&ranges.params)))
    }

    /// Weights for these ranges: to the nearest, or reconstructed in graph order, so that each layer sees what
    /// those before it give.
    ///
    /// # Errors
    /// The engine fails.
    pub fn layers(
        &self,
        params: &BTreeMap<String, QParams>,
        progress: &dyn Progress,
    ) -> Result<BTreeMap<usize, Layer>, QuantizeError> {
        let mut layers = self.nearest(params);
        let depth = match self.options.effort {
            Effort::Fast => Depth::Bias,
            Effort::Standard | Effort::Best => Depth::Rounding,
        };
        progress.begin("reconstruct layers", layers.len());
        let samples = judge::spread(self.engine.samples(), self.options.effort.learned());
        let mut frontier = Frontier::new(self.engine, &self.model, &samples);
        // Weights of several layers, as of the steps of a recurrent one that is written out, stay those of all.
        let mut readers: HashMap<&str, usize> = HashMap::new();
        let weights = |site: &Site| self.model.nodes()[site.node].arg(1).filter(|_| site.weights.is_some());
        for name in self.sites.sites.iter().filter_map(weights) {
            *readers.entry(name).or_default() += 1;
        }
        for site in &self.sites.sites {
            let (Some(matrix), Some(mut layer)) = (self.matrix(site), layers.get(&site.node).cloned()) else {
                continue;
            };
            let is_shared = weights(site).is_some_and(|name| readers[name] > 1);
            if is_shared && layer.bias.is_none() {
                progress.advance(1);
                continue;
            }
            let depth = if is_shared { Depth::Bias } else { depth };
            let quantized = self.emit(params, &layers);
            frontier.advance(site.node, &quantized)?;
            let task = Task {
                site,
                matrix: &matrix,
                bound: matrix.bound(self.options.is_portable()),
                float: &self.model,
                quantized: &quantized,
                frontier: &frontier,
            };
            reconstruct(&task, &mut layer, depth)?;
            if let Some(input) = site.inputs.first().and_then(|(_, name)| params.get(name)) {
                layer.fit_bias(input.scale);
            }
            layers.insert(site.node, layer);
            progress.advance(1);
        }
        Ok(layers)
    }
}

fn find(model: &ModelProto, scheme: Scheme, keep: &HashSet<&str>) -> Sites {
    let sites = sites::find(model, keep);
    match scheme {
        Scheme::Static => sites,
        Scheme::WeightOnly => sites.weights_alone(),
        Scheme::Dynamic => sites.weights_alone().with_integer_form(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::f32s;
    use crate::onnx::proto::{GraphProto, ValueInfoProto};
    use crate::{EngineError, Runner};

    struct Nothing;

    impl Engine for Nothing {
        fn samples(&self) -> usize {
            0
        }

        fn shape(&self, _: &str) -> Option<&[usize]> {
            None
        }

        fn stored(&self, _: &str) -> Result<Vec<u8>, EngineError> {
            Err(EngineError("nothing is stored".into()))
        }

        fn open(&self, _: &[u8]) -> Result<Box<dyn Runner>, EngineError> {
            Err(EngineError("nothing runs".into()))
        }
    }

    #[test]
    fn an_input_is_rounded_for_those_that_read_integers_alone() {
        let of = |float: &str| {
            let graph = GraphProto {
                node: vec![
                    NodeProto::test("MatMul", &["x", "w"], "a"),
                    NodeProto::test(float, &["x"], "b"),
                    NodeProto::test("Add", &["a", "b"], "y"),
                ],
                input: vec![ValueInfoProto::floats("x", &[1, 2])],
                output: vec![ValueInfoProto::untyped("y")],
                initializer: vec![f32s("w", &[2, 2], &[1.0; 4])],
                ..GraphProto::default()
            };
            ModelProto { graph: Some(graph), ..ModelProto::default() }
        };
        let options = Options::default();
        let inputs = |model: &ModelProto| model.nodes().iter().map(|node| node.input[0].clone()).collect::<Vec<_>>();
        // Sin has no form in integers, Tanh has one.
        let work = Work::new(of("Sin"), &Nothing, Cow::Borrowed(&options)).unwrap();
        let (model, copies) = work.parted();
        assert_eq!(
            (inputs(&model), copies["x"].as_str()),
            (["x", "x_copy", "x", "a"].map(String::from).into(), "x_copy")
        );
        let work = Work::new(of("Tanh"), &Nothing, Cow::Borrowed(&options)).unwrap();
        let (model, copies) = work.parted();
        assert_eq!((inputs(&model), copies.len()), (["x", "x", "a"].map(String::from).into(), 0));
    }

    #[test]
    fn weights_of_several_layers_are_stored_once() {
        let graph = GraphProto {
            node: vec![NodeProto::test("MatMul", &["x", "w"], "a"), NodeProto::test("MatMul", &["a", "w"], "y")],
            input: vec![ValueInfoProto::floats("x", &[1, 2])],
            output: vec![ValueInfoProto::untyped("y")],
            initializer: vec![f32s("w", &[2, 2], &[0.5, -1.0, 2.0, 0.25])],
            ..GraphProto::default()
        };
        let model = ModelProto { graph: Some(graph), ..ModelProto::default() };
        let options = Options::default();
        let work = Work::new(model, &Nothing, Cow::Borrowed(&options)).unwrap();
        let params = ["x", "a", "y"].map(|name| (name.to_owned(), QParams { scale: 1.0, zero_point: 0 })).into();
        // No samples are asked for: as one of them would have weights rounded, they are not for the other.
        let layers = work.layers(&params, &()).unwrap();
        let emitted = work.emit(&params, &layers).model.graph.unwrap();
        let stored = emitted.initializer.iter().filter_map(|tensor| tensor.name.as_deref());
        let of_weights: Vec<&str> = stored.filter(|name| name.starts_with("w_")).collect();
        assert_eq!(of_weights, ["w_quantized", "w_quantized_scale", "w_quantized_zero_point"]);
    }

    #[test]
    fn what_is_declared_of_a_tensor_holds_for_what_stands_for_it() {
        let graph = GraphProto {
            node: vec![
                NodeProto::test("MatMul", &["x", "w"], "a"),
                NodeProto::test("Tanh", &["a"], "b"),
                NodeProto::test("MatMul", &["b", "w"], "y"),
            ],
            input: vec![ValueInfoProto::floats("x", &[1, 2])],
            output: vec![ValueInfoProto::floats("y", &[1, 2])],
            value_info: vec![ValueInfoProto::floats("a", &[1, 2])],
            initializer: vec![f32s("w", &[2, 2], &[1.0; 4])],
            ..GraphProto::default()
        };
        let model = ModelProto { graph: Some(graph), ..ModelProto::default() };
        let options = Options::default();
        let work = Work::new(model, &Nothing, Cow::Borrowed(&options)).unwrap();
        let q = QParams { scale: 1.0, zero_point: 0 };
        let params = ["x", "a", "b", "y"].map(|name| (name.to_owned(), q)).into();
        let emitted = work.emit(&params, &BTreeMap::new()).model.graph.unwrap();
        let declared = ["a", "a_dequantized", "y_float"].map(|name| ValueInfoProto::floats(name, &[1, 2]));
        assert_eq!((emitted.value_info, emitted.output), (declared.into(), vec![ValueInfoProto::floats("y", &[1, 2])]));
    }
}
