//! QOperator nodes as QDQ chains: `QLinearConv` becomes DequantizeLinear → Conv → QuantizeLinear,
//! and so with every operator of that format.
//!
//! Sources: ONNX operator specifications (QLinearConv, QLinearMatMul) and ONNX Runtime's contrib
//! operators (`com.microsoft`: QLinearAdd, QLinearMul, QLinearConcat, QLinearGlobalAveragePool,
//! QLinearAveragePool, QLinearSigmoid, QLinearLeakyRelu, QLinearSoftmax, QGemm).

use crate::model::{Attribute, AttributeValue, Domain, Node};

/// What stands for `node`: itself, or its chain. Every node of a chain but the first-named one
/// gets a name derived from the node's; the operator at the heart keeps the name.
pub(crate) fn expand(node: &Node) -> Option<Vec<Node>> {
    let mut chain = Chain { node, nodes: vec![] };
    match (node.domain, node.op.as_str()) {
        (Domain::Onnx, "QLinearConv") => {
            let x = chain.dequantize(0, None);
            let w = chain.dequantize(3, Some(0));
            let bias = node.input(8).map(|bias| chain.bias(bias, 1, 4, None));
            let y = chain.heart("Conv", [Some(x), Some(w), bias], &[]);
            chain.quantize(y, 6, 7);
        }
        (Domain::Onnx, "QLinearMatMul") => {
            // Scales are scalars, or vectors along A's rows and B's columns.
            let a = chain.dequantize(0, Some(-2));
            let b = chain.dequantize(3, Some(-1));
            let y = chain.heart("MatMul", [Some(a), Some(b), None], &[]);
            chain.quantize(y, 6, 7);
        }
        (Domain::Microsoft, op @ ("QLinearAdd" | "QLinearMul")) => {
            let (a, b) = (chain.dequantize(0, None), chain.dequantize(3, None));
            let y = chain.heart(&op["QLinear".len()..], [Some(a), Some(b), None], &[]);
            chain.quantize(y, 6, 7);
        }
        (Domain::Microsoft, op @ ("QLinearSigmoid" | "QLinearLeakyRelu" | "QLinearSoftmax")) => {
            let x = chain.dequantize(0, None);
            let y = chain.heart(&op["QLinear".len()..], [Some(x), None, None], &["opset"]);
            chain.quantize(y, 3, 4);
        }
        (Domain::Microsoft, op @ ("QLinearAveragePool" | "QLinearGlobalAveragePool")) => {
            let channels_last = matches!(node.attribute("channels_last"), Some(AttributeValue::Int(1)));
            if channels_last {
                return None; // left as it is, and so refused by name
            }
            let x = chain.dequantize(0, None);
            let y = chain.heart(&op["QLinear".len()..], [Some(x), None, None], &["channels_last"]);
            chain.quantize(y, 3, 4);
        }
        (Domain::Microsoft, "QLinearConcat") => {
            let parts: Vec<String> = (2..node.inputs.len()).step_by(3).map(|i| chain.dequantize(i, None)).collect();
            let y = chain.heart("Concat", parts.into_iter().map(Some), &[]);
            chain.quantize(y, 0, 1);
        }
        (Domain::Microsoft, "QGemm") => {
            let alpha = match node.attribute("alpha") {
                Some(AttributeValue::Float(alpha)) if *alpha != 1.0 => Some(*alpha),
                _ => None,
            };
            let transposed = matches!(node.attribute("transB"), Some(AttributeValue::Int(1)));
            let a = chain.dequantize(0, None);
            let b = chain.dequantize(3, Some(if transposed { 0 } else { 1 }));
            let bias = node.input(6).map(|bias| chain.bias(bias, 1, 4, alpha));
            let y = chain.heart("Gemm", [Some(a), Some(b), bias], &[]);
            if node.input(7).is_some() {
                chain.quantize(y, 7, 8);
            } else if let Some(heart) = chain.nodes.last_mut() {
                heart.outputs.clone_from(&node.outputs); // without an output scale the result is float
            }
        }
        _ => return None,
    }
    Some(chain.nodes)
}

struct Chain<'a> {
    node: &'a Node,
    nodes: Vec<Node>,
}

impl Chain<'_> {
    /// Dequantizes input `x`, whose scale and zero point follow it.
    fn dequantize(&mut self, x: usize, axis: Option<i64>) -> String {
        let inputs = (x..x + 3).map(|i| self.input(i)).collect();
        let attributes = axis.map(|axis| attribute("axis", AttributeValue::Int(axis))).into_iter().collect();
        self.push(format!("{}.dequantize_{x}", self.node.name), "DequantizeLinear", inputs, attributes)
    }

    /// An int32 bias has the scale `alpha * a_scale * b_scale` and no zero point.
    fn bias(&mut self, bias: &str, a_scale: usize, b_scale: usize, alpha: Option<f32>) -> String {
        let name = &self.node.name;
        let (product, scaled, dequantized) =
            (format!("{name}.bias_scale"), format!("{name}.bias_alpha"), format!("{name}.dequantize_bias"));
        let mut scale = self.push(product, "Mul", vec![self.input(a_scale), self.input(b_scale)], vec![]);
        if let Some(alpha) = alpha {
            let value = vec![attribute("value_float", AttributeValue::Float(alpha))];
            let alpha = self.push(scaled.clone() + ".value", "Constant", vec![], value);
            scale = self.push(scaled, "Mul", vec![scale, alpha], vec![]);
        }
        let axis = vec![attribute("axis", AttributeValue::Int(0))];
        self.push(dequantized, "DequantizeLinear", vec![bias.to_owned(), scale], axis)
    }

    /// The float operator, with the node's own attributes.
    fn heart(&mut self, op: &str, inputs: impl IntoIterator<Item = Option<String>>, without: &[&str]) -> String {
        let inputs = inputs.into_iter().flatten().collect();
        let attributes =
            self.node.attributes.iter().filter(|a| !without.contains(&a.name.as_str())).filter_map(copied).collect();
        let output = format!("{}.float", self.node.name);
        let node = Node {
            name: self.node.name.clone(),
            op: op.to_owned(),
            domain: Domain::Onnx,
            inputs,
            outputs: vec![output.clone()],
            attributes,
        };
        self.nodes.push(node);
        output
    }

    fn quantize(&mut self, y: String, scale: usize, zero_point: usize) {
        let inputs = vec![y, self.input(scale), self.input(zero_point)];
        self.push(format!("{}.quantize", self.node.name), "QuantizeLinear", inputs, vec![]);
        if let Some(last) = self.nodes.last_mut() {
            last.outputs.clone_from(&self.node.outputs);
        }
    }

    fn push(&mut self, name: String, op: &str, mut inputs: Vec<String>, attributes: Vec<Attribute>) -> String {
        while inputs.last().is_some_and(String::is_empty) {
            inputs.pop();
        }
        self.nodes.push(Node {
            outputs: vec![name.clone()],
            name: name.clone(),
            op: op.to_owned(),
            domain: Domain::Onnx,
            inputs,
            attributes,
        });
        name
    }

    fn input(&self, index: usize) -> String {
        self.node.input(index).unwrap_or_default().to_owned()
    }
}

fn attribute(name: &str, value: AttributeValue) -> Attribute {
    Attribute { name: name.to_owned(), value }
}

/// Attributes of these operators are numbers, strings and lists of integers.
fn copied(a: &Attribute) -> Option<Attribute> {
    let value = match &a.value {
        AttributeValue::Int(v) => AttributeValue::Int(*v),
        AttributeValue::Float(v) => AttributeValue::Float(*v),
        AttributeValue::Text(v) => AttributeValue::Text(v.clone()),
        AttributeValue::Ints(v) => AttributeValue::Ints(v.clone()),
        _ => return None,
    };
    Some(Attribute { name: a.name.clone(), value })
}
