//! Where the model has been reconstructed to. Layers are taken in order, each on what those before it give; to run
//! all of them again for every layer would take time that grows with the square of the depth. At a tensor that all
//! the rest depends on alone, its values are kept, and runs go on from there.

use std::collections::HashMap;

use crate::emit::Emitted;
use crate::onnx::Edges;
use crate::onnx::proto::ModelProto;
use crate::pool::{Known, Pool};
use crate::{Engine, QuantizeError};

/// Elements kept at most, of both models together: 64 MB.
const KEPT: usize = 16 << 20;

/// What some samples give in the float model and in the quantized one, as far as that is finished.
pub struct Frontier<'a> {
    engine: &'a dyn Engine,
    float: &'a ModelProto,
    samples: &'a [usize],
    /// Tensors that all behind them depends on alone, with the node that makes them; the last one is the next.
    ahead: Vec<(usize, String)>,
    at: Option<Kept>,
}

/// By sample, the elements of a tensor.
type Values = Vec<Vec<f32>>;
/// By sample, what a layer reads in the quantized model, and what it should answer.
pub type Pairs = Vec<(Vec<f32>, Vec<f32>)>;

struct Kept {
    tensor: Known,
    float: Values,
    quantized: Values,
}

impl<'a> Frontier<'a> {
    /// At the model's inputs.
    pub fn new(engine: &'a dyn Engine, float: &'a ModelProto, samples: &'a [usize]) -> Frontier<'a> {
        let mut ahead = cuts(float);
        ahead.reverse();
        Frontier { engine, float, samples, ahead, at: None }
    }

    /// The samples.
    pub fn samples(&self) -> &'a [usize] {
        self.samples
    }

    /// Goes on to the last tensor before this node at which that is possible; in `quantized` all before it is finished.
    pub fn advance(&mut self, node: usize, quantized: &Emitted) -> Result<(), QuantizeError> {
        let behind = self.ahead.partition_point(|(maker, _)| *maker >= node);
        let Some((_, tensor)) = self.ahead.drain(behind..).next() else { return Ok(()) };
        let (a, b) = self.pools(&tensor, quantized, quantized.seen(&tensor))?;
        let Some(shape) = a.shapes()?.into_iter().next() else { return Ok(()) };
        let elements = shape.iter().product::<usize>();
        if elements == 0 || 2 * elements * self.samples.len() > KEPT {
            return Ok(());
        }
        let float = self.run(&a, self.samples, |kept| &kept.float)?;
        let quantized = self.run(&b, self.samples, |kept| &kept.quantized)?;
        // Only float32 values can be given.
        if float.iter().chain(&quantized).all(|values| values.len() == elements) {
            self.at = Some(Kept { tensor: Known { name: tensor, shape }, float, quantized });
        }
        Ok(())
    }

    /// Models that give a tensor of the float model and one of the quantized one, from here on.
    pub fn pools(&self, float: &str, quantized: &Emitted, seen: &str) -> Result<(Pool<'a>, Pool<'a>), QuantizeError> {
        let known: Vec<Known> = self.at.iter().map(|kept| kept.tensor.clone()).collect();
        let open = |model, tap| Pool::open_from(self.engine, model, &known, &[tap]);
        Ok((open(self.float, float)?, open(&quantized.model, seen)?))
    }

    /// What they give on some of the samples: of the quantized model, and of the float one.
    pub fn pairs(&self, (float, quantized): (&Pool<'_>, &Pool<'_>), samples: &[usize]) -> Result<Pairs, QuantizeError> {
        let answers = self.run(float, samples, |kept| &kept.float)?;
        let inputs = self.run(quantized, samples, |kept| &kept.quantized)?;
        Ok(inputs.into_iter().zip(answers).collect())
    }

    fn run(
        &self,
        pool: &Pool<'_>,
        samples: &[usize],
        which: impl Fn(&Kept) -> &Values + Sync,
    ) -> Result<Values, QuantizeError> {
        let known = |sample| {
            let place = self.samples.binary_search(&sample).ok()?;
            Some(vec![which(self.at.as_ref()?).get(place)?.as_slice()])
        };
        pool.each_from(samples, |sample| known(sample).unwrap_or_default(), |runner, _| Ok(runner.output(0).to_vec()))
    }
}

/// Tensors that all nodes behind the one that makes them depend on alone, by that node. The graph's outputs are none:
/// nothing is behind them, or they are read under another name in the quantized model.
fn cuts(model: &ModelProto) -> Vec<(usize, String)> {
    let edges = Edges::of(model);
    let mut last: HashMap<&str, usize> = HashMap::new();
    let stored = model.graph.as_ref().map(|graph| graph.stored()).unwrap_or_default();
    let inputs = model.graph.iter().flat_map(|graph| &graph.input).filter_map(|input| input.name.as_deref());
    let made = model.nodes().iter().flat_map(|node| &node.output).map(String::as_str);
    for tensor in inputs.chain(made).filter(|name| !stored.contains_key(name)) {
        if let Some(&reader) = edges.readers(tensor).iter().max() {
            last.insert(tensor, reader);
        }
    }
    // By node, how many more tensors are there and to be read than before it.
    let mut more = vec![0isize; model.nodes().len()];
    for (tensor, &reader) in &last {
        more[edges.producer.get(*tensor).copied().unwrap_or(0)] += 1;
        more[reader] -= 1;
    }
    let mut alive = 0;
    let mut found = Vec::new();
    for (index, node) in model.nodes().iter().enumerate() {
        alive += more[index];
        let alone = alive == 1 && node.output.len() == 1 && last.contains_key(node.out());
        if alone && !edges.is_output(node.out()) {
            found.push((index, node.out().to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::{GraphProto, NodeProto, ValueInfoProto};

    #[test]
    fn a_tensor_beside_which_another_is_read_is_no_cut() {
        let node = |inputs: &[&str], output: &str| {
            NodeProto::new("Add", output.into(), inputs.iter().map(|&i| i.into()).collect(), vec![output.into()])
        };
        let nodes =
            [node(&["x"], "a"), node(&["a"], "b"), node(&["a", "b"], "c"), node(&["c"], "d"), node(&["d"], "y")];
        let graph = GraphProto {
            node: nodes.to_vec(),
            input: vec![ValueInfoProto::untyped("x")],
            output: vec![ValueInfoProto::untyped("y")],
            ..GraphProto::default()
        };
        let names = |graph: &GraphProto| {
            cuts(&ModelProto { graph: Some(graph.clone()), ..ModelProto::default() })
                .into_iter()
                .map(|(maker, name)| format!("{maker}{name}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&graph), ["0a", "2c", "3d"]);
        // Read at the end once more.
        let mut graph = graph;
        graph.node[4].input.push("x".into());
        assert!(names(&graph).is_empty());
    }
}
