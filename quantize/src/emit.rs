//! The quantized model: QuantizeLinear and DequantizeLinear around what computes in integers, weights and
//! biases as integers behind a DequantizeLinear. That is ONNX's QDQ form.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::layer::{Layer, Matrix};
use crate::onnx::proto::{ModelProto, NodeProto, TensorProto, ValueInfoProto, data_type};
use crate::onnx::{Edges, Names, dims, f32s, i32s, raw, stored};
use crate::scheme::{Activations, QParams};
use crate::sites::{Site, Sites};

/// What of a prepared model is quantized, and how.
pub struct Emission<'a> {
    /// The prepared float model.
    pub model: &'a ModelProto,
    /// Its sites; those without an entry below stay in float.
    pub sites: &'a Sites,
    /// Type of quantized activations.
    pub activations: Activations,
    /// Parameters of quantized tensors.
    pub params: &'a BTreeMap<String, QParams>,
    /// Quantized weights, by the site's node.
    pub layers: &'a BTreeMap<usize, Layer>,
}

/// A quantized model, and where its tensors went.
pub struct Emitted {
    /// The model.
    pub model: ModelProto,
    dequantized: HashMap<String, String>,
}

impl Emitted {
    /// A model in which every tensor is where it was.
    pub fn plain(model: ModelProto) -> Emitted {
        Emitted { model, dequantized: HashMap::new() }
    }

    /// The tensor that holds what `tensor` held in the float model.
    pub fn seen<'a>(&'a self, tensor: &'a str) -> &'a str {
        self.dequantized.get(tensor).map_or(tensor, String::as_str)
    }
}

impl Emission<'_> {
    /// Writes the model.
    pub fn emit(&self) -> Emitted {
        let mut writer = Writer {
            names: Names::of(self.model),
            edges: Edges::of(self.model),
            activations: self.activations,
            stored: Vec::new(),
            alike: HashMap::new(),
            before: BTreeMap::new(),
            behind: BTreeMap::new(),
            first: Vec::new(),
            dequantized: HashMap::new(),
            shared: HashMap::new(),
        };
        let mut model = self.model.clone();
        let integers: HashSet<usize> =
            self.sites.sites.iter().map(|site| site.node).chain(self.sites.moves.iter().map(|m| m.node)).collect();
        for (tensor, leader) in self.sites.tensors() {
            if let Some(&q) = self.params.get(&tensor) {
                writer.activation(&mut model, &tensor, &leader, q, &integers);
            }
        }
        for site in &self.sites.sites {
            if let Some(layer) = self.layers.get(&site.node)
                && let Some(matrix) =
                    self.model.graph.as_ref().and_then(|graph| Matrix::of(site, &graph.node, &graph.stored()))
            {
                writer.weights(&mut model, site, &matrix, layer);
                if let (Some(bias), Some(place)) = (&layer.bias, site.bias) {
                    let input = site.inputs.first().and_then(|(_, name)| self.params.get(name));
                    let steps = input.map(|input| layer.scales.iter().map(|scale| input.scale * scale).collect());
                    writer.bias(&mut model, place, bias, steps);
                }
            }
        }
        writer.finish(model)
    }
}

struct Writer {
    names: Names,
    edges: Edges,
    activations: Activations,
    stored: Vec<TensorProto>,
    /// What is stored, by a hash of its type, shape and bytes.
    alike: HashMap<u64, Vec<usize>>,
    /// New nodes by the one that they stand before, or behind.
    before: BTreeMap<usize, Vec<NodeProto>>,
    behind: BTreeMap<usize, Vec<NodeProto>>,
    /// New nodes that read the graph's inputs.
    first: Vec<NodeProto>,
    dequantized: HashMap<String, String>,
    /// Names of scale and zero point, by the tensor whose range is shared.
    shared: HashMap<String, [String; 2]>,
}

impl Writer {
    fn activation(
        &mut self,
        model: &mut ModelProto,
        tensor: &str,
        leader: &str,
        q: QParams,
        integers: &HashSet<usize>,
    ) {
        let [scale, zero_point] = self.parameters(leader, q);
        let quantized = self.names.fresh(&format!("{tensor}_quantized"));
        let producer = self.edges.producer.get(tensor).copied();
        let (source, result) = if let Some(producer) = producer.filter(|_| self.edges.is_output(tensor)) {
            // An output keeps its name, which its dequantized values have from now on.
            let source = self.names.fresh(&format!("{tensor}_float"));
            let outputs = &mut model.graph_mut().node[producer].output;
            outputs.iter_mut().filter(|name| *name == tensor).for_each(|name| name.clone_from(&source));
            (source, tensor.to_owned())
        } else {
            let result = self.names.fresh(&format!("{tensor}_dequantized"));
            // What a caller hands in stays as it is for those that compute in float.
            let reads = |index: &&usize| producer.is_some() || integers.contains(index);
            for &reader in self.edges.readers(tensor).iter().filter(reads) {
                let inputs = &mut model.graph_mut().node[reader].input;
                inputs.iter_mut().filter(|name| *name == tensor).for_each(|name| name.clone_from(&result));
            }
            (tensor.to_owned(), result)
        };
        // Of what an If or a Loop makes an engine knows what is declared and no more.
        let fresh = if result == tensor { &source } else { &result };
        let graph = model.graph_mut();
        let is_it = |info: &&ValueInfoProto| info.name.as_deref() == Some(tensor) && info.r#type.is_some();
        let declared = graph.value_info.iter().chain(&graph.output).find(is_it);
        if let Some(declared) = declared.cloned() {
            graph.value_info.push(ValueInfoProto { name: Some(fresh.clone()), ..declared });
        }
        let node = |op: &str, input: &str, output: &str| {
            let inputs = vec![input.to_owned(), scale.clone(), zero_point.clone()];
            NodeProto::new(op, format!("{output}_{op}"), inputs, vec![output.to_owned()])
        };
        let pair = [node("QuantizeLinear", &source, &quantized), node("DequantizeLinear", &quantized, &result)];
        match producer {
            Some(producer) => self.behind.entry(producer).or_default().extend(pair),
            None => self.first.extend(pair),
        }
        self.dequantized.insert(tensor.to_owned(), result);
    }

    /// Stored scale and zero point of tensors that share them.
    fn parameters(&mut self, leader: &str, q: QParams) -> [String; 2] {
        if let Some(names) = self.shared.get(leader) {
            return names.clone();
        }
        let names = [self.names.fresh(&format!("{leader}_scale")), self.names.fresh(&format!("{leader}_zero_point"))];
        self.stored.push(f32s(&names[0], &[], &[q.scale]));
        let (kind, zero_point) = self.activations.stored(q.zero_point);
        self.stored.push(raw(&names[1], kind, &[], zero_point));
        self.shared.insert(leader.to_owned(), names.clone());
        names
    }

    fn weights(&mut self, model: &mut ModelProto, site: &Site, matrix: &Matrix, layer: &Layer) {
        let values = matrix.stored_order(&layer.values);
        let bytes = values.iter().map(|&value| value as u8).collect();
        let weights = &mut model.graph_mut().node[site.node].input[1];
        let name = self.store(raw(&format!("{weights}_quantized"), data_type::INT8, &matrix.dims, bytes));
        *weights = self.dequantize(site.node, &name, matrix.axis, &layer.scales, data_type::INT8);
    }

    /// A bias in steps of the sums that it is added to; as floats where weights alone are quantized.
    fn bias(&mut self, model: &mut ModelProto, (at, input): (usize, usize), bias: &[f32], steps: Option<Vec<f32>>) {
        let own = stored(model, at, input).map(dims);
        let node = &mut model.graph_mut().node[at];
        let wanted = node.arg(input).map_or_else(|| format!("{}_bias", node.title()), str::to_owned);
        // What an Add reads has a say in the shape that it gives.
        let shape = own.filter(|_| node.op() == "Add").unwrap_or_else(|| vec![bias.len()]);
        if node.input.len() <= input {
            node.input.resize(input + 1, String::new());
        }
        let Some(steps) = steps else {
            node.input[input] = self.store(f32s(&wanted, &shape, bias));
            return;
        };
        let whole = |(&bias, &step): (&f32, &f32)| (f64::from(bias) / f64::from(step)).round_ties_even() as i32;
        let integers: Vec<i32> = bias.iter().zip(&steps).map(whole).collect();
        let name = self.store(i32s(&format!("{wanted}_quantized"), &shape, &integers));
        node.input[input] = self.dequantize(at, &name, shape.len().saturating_sub(1), &steps, data_type::INT32);
    }

    /// A DequantizeLinear of stored integers with a scale for each channel; gives its output.
    fn dequantize(&mut self, before: usize, integers: &str, axis: usize, scales: &[f32], kind: i32) -> String {
        let output = self.names.fresh(&format!("{integers}_dequantized"));
        let width = if kind == data_type::INT32 { 4 } else { 1 };
        let scale = self.store(f32s(&format!("{integers}_scale"), &[scales.len()], scales));
        let zeros = vec![0; width * scales.len()];
        let zero_point = self.store(raw(&format!("{integers}_zero_point"), kind, &[scales.len()], zeros));
        let inputs = vec![integers.to_owned(), scale, zero_point];
        let mut node =
            NodeProto::new("DequantizeLinear", format!("{output}_DequantizeLinear"), inputs, vec![output.clone()]);
        node.set_int("axis", axis as i64);
        self.before.entry(before).or_default().push(node);
        output
    }

    /// Stores a tensor under its name or one like it, unless the same is stored already; gives the name.
    fn store(&mut self, mut tensor: TensorProto) -> String {
        let content = |tensor: &TensorProto| {
            let mut hasher = DefaultHasher::new();
            (tensor.data_type, &tensor.dims, &tensor.raw_data).hash(&mut hasher);
            hasher.finish()
        };
        let is_same = |kept: &TensorProto| {
            (kept.data_type, &kept.dims, &kept.raw_data) == (tensor.data_type, &tensor.dims, &tensor.raw_data)
        };
        let alike = self.alike.entry(content(&tensor)).or_default();
        if let Some(kept) = alike.iter().map(|&at| &self.stored[at]).find(|kept| is_same(kept)) {
            return kept.name.clone().unwrap_or_default();
        }
        let name = self.names.fresh(tensor.name.as_deref().unwrap_or_default());
        tensor.name = Some(name.clone());
        alike.push(self.stored.len());
        self.stored.push(tensor);
        name
    }

    fn finish(mut self, mut model: ModelProto) -> Emitted {
        let graph = model.graph_mut();
        let mut nodes = self.first;
        for (index, node) in std::mem::take(&mut graph.node).into_iter().enumerate() {
            nodes.extend(self.before.remove(&index).unwrap_or_default());
            nodes.push(node);
            nodes.extend(self.behind.remove(&index).unwrap_or_default());
        }
        graph.node = nodes;
        graph.initializer.extend(self.stored);
        graph.sweep();
        Emitted { model, dequantized: self.dequantized }
    }
}

/// Bytes of all stored tensors of a model.
pub fn stored_bytes(model: &ModelProto) -> usize {
    model.graph.iter().flat_map(|graph| &graph.initializer).map(crate::onnx::bytes).sum()
}
