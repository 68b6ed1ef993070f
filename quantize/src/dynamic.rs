//! The model with weights as integers and ranges of activations drawn at each run: DynamicQuantizeLinear, and
//! MatMulInteger or ConvInteger with a multiplication behind it that brings its sums to scale. That is the form which
//! ONNX Runtime's `quantize_dynamic` writes.

use std::collections::{BTreeMap, HashMap};

use crate::emit::Emitted;
use crate::layer::{Layer, Matrix};
use crate::onnx::proto::{ModelProto, NodeProto, TensorProto, data_type};
use crate::onnx::{Names, dims, f32s, raw};
use crate::sites::Sites;

/// Writes the model; sites without a layer stay in float.
pub fn emit(source: &ModelProto, sites: &Sites, layers: &BTreeMap<usize, Layer>) -> Emitted {
    let mut model = source.clone();
    let mut writer = Writer { names: Names::of(source), stored: Vec::new(), inputs: HashMap::new() };
    let stored = source.graph.as_ref().map(|graph| graph.stored()).unwrap_or_default();
    let site = |index: usize| sites.sites.iter().find(|site| site.node == index);
    let graph = model.graph_mut();
    let mut nodes = Vec::new();
    // By the Adds that read them, which operand each is.
    let mut rows: HashMap<usize, (usize, String)> = HashMap::new();
    for (index, mut node) in std::mem::take(&mut graph.node).into_iter().enumerate() {
        if let Some((operand, row)) = rows.remove(&index) {
            node.input[operand] = row;
        }
        let found =
            site(index).and_then(|site| Some((site, Matrix::of(site, source.nodes(), &stored)?, layers.get(&index)?)));
        let Some((site, matrix, layer)) = found else {
            nodes.push(node);
            continue;
        };
        match (site.bias, &layer.bias) {
            (Some((add, operand)), Some(bias)) if add != index => {
                let old = &source.nodes()[add].input[operand];
                let shape = stored.get(old.as_str()).map_or(vec![bias.len()], |old| dims(old));
                rows.insert(add, (operand, writer.store(f32s(old, &shape, bias))));
                writer.product(&node, &matrix, layer, None, &mut nodes);
            }
            (_, bias) => writer.product(&node, &matrix, layer, bias.as_deref(), &mut nodes),
        }
    }
    graph.node = nodes;
    graph.initializer.extend(writer.stored);
    graph.sweep();
    Emitted::plain(model)
}

struct Writer {
    names: Names,
    stored: Vec<TensorProto>,
    /// Integers, scale and zero point of a tensor that several read.
    inputs: HashMap<String, [String; 3]>,
}

impl Writer {
    /// A product in integers in place of a node.
    fn product(
        &mut self,
        node: &NodeProto,
        matrix: &Matrix,
        layer: &Layer,
        bias: Option<&[f32]>,
        nodes: &mut Vec<NodeProto>,
    ) {
        let (title, is_conv) = (node.title().to_owned(), node.op() == "Conv");
        let [integers, scale, zero_point] = self.quantized(&node.input[0], nodes);
        let weights = self.weights(node, matrix, layer);
        // For each output channel, whose dimension is the last of a product, and the second of images.
        let channels: Vec<usize> = match is_conv {
            true => [vec![matrix.rows], vec![1; matrix.dims.len().saturating_sub(2)]].concat(),
            false => vec![matrix.rows],
        };
        let scales = self.store(f32s(&format!("{title}_scale"), &channels, &layer.scales));
        let mut product = NodeProto::new("MatMulInteger", String::new(), vec![integers, weights, zero_point], vec![]);
        if is_conv {
            product.op_type = Some("ConvInteger".into());
            product.attribute = node.attribute.clone();
            product.input.push(self.store(raw(&format!("{title}_zero_point"), data_type::UINT8, &[], vec![CENTRE])));
        }
        let sums = self.push(product, &format!("{title}_sums"), nodes);
        let mut cast = NodeProto::new("Cast", String::new(), vec![sums], vec![]);
        cast.set_int("to", i64::from(data_type::FLOAT));
        let sums = self.push(cast, &format!("{title}_sums_float"), nodes);
        let both = NodeProto::new("Mul", String::new(), vec![scale, scales], vec![]);
        let both = self.push(both, &format!("{title}_scales"), nodes);
        let scaled = NodeProto::new("Mul", String::new(), vec![sums, both], vec![]);
        let Some(bias) = bias else { return finish(scaled, node, nodes) };
        let scaled = self.push(scaled, &format!("{title}_product"), nodes);
        let bias = self.store(f32s(&format!("{title}_bias"), &channels, bias));
        finish(NodeProto::new("Add", String::new(), vec![scaled, bias], vec![]), node, nodes);
    }

    fn quantized(&mut self, tensor: &str, nodes: &mut Vec<NodeProto>) -> [String; 3] {
        if let Some(names) = self.inputs.get(tensor) {
            return names.clone();
        }
        let names = ["quantized", "scale", "zero_point"].map(|what| self.names.fresh(&format!("{tensor}_{what}")));
        let title = format!("{}_DynamicQuantizeLinear", names[0]);
        nodes.push(NodeProto::new("DynamicQuantizeLinear", title, vec![tensor.to_owned()], names.to_vec()));
        self.inputs.insert(tensor.to_owned(), names.clone());
        names
    }

    /// Integers as the product reads them: of a matrix with the outputs last; of a convolution as uint8, the only type that
    /// ONNX Runtime's ConvInteger takes.
    fn weights(&mut self, node: &NodeProto, matrix: &Matrix, layer: &Layer) -> String {
        let name = format!("{}_quantized", node.input[1]);
        if node.op() == "Conv" {
            let bytes = layer.values.iter().map(|&value| (value as u8).wrapping_add(CENTRE)).collect();
            return self.store(raw(&name, data_type::UINT8, &matrix.dims, bytes));
        }
        let (rows, cols) = (matrix.rows, matrix.cols);
        let bytes =
            (0..cols).flat_map(|c| (0..rows).map(move |r| r * cols + c)).map(|i| layer.values[i] as u8).collect();
        self.store(raw(&name, data_type::INT8, &[cols, rows], bytes))
    }

    fn store(&mut self, mut tensor: TensorProto) -> String {
        let name = self.names.fresh(tensor.name.as_deref().unwrap_or_default());
        tensor.name = Some(name.clone());
        self.stored.push(tensor);
        name
    }

    fn push(&mut self, mut node: NodeProto, output: &str, nodes: &mut Vec<NodeProto>) -> String {
        let output = self.names.fresh(output);
        node.name = Some(format!("{output}_{}", node.op()));
        node.output = vec![output.clone()];
        nodes.push(node);
        output
    }
}

/// What stands for 0 among weights in uint8.
const CENTRE: u8 = 128;

/// The last node of those in place of one: it has its name and output.
fn finish(last: NodeProto, replaced: &NodeProto, nodes: &mut Vec<NodeProto>) {
    nodes.push(NodeProto { name: replaced.name.clone(), output: replaced.output.clone(), ..last });
}
