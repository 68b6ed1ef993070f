//! QOperator nodes as chains of float operators between quantized ends: `QLinearConv` becomes
//! DequantizeLinear → Conv → QuantizeLinear, and so with every operator of that format.
//!
//! Sources: ONNX operator specifications (QLinearConv, QLinearMatMul) and ONNX Runtime's contrib
//! operators (`com.microsoft`: QLinearAdd, QLinearMul, QLinearConcat, QLinearGlobalAveragePool,
//! QLinearAveragePool, QLinearSigmoid, QLinearLeakyRelu, QLinearSoftmax, QGemm).

use crate::model::{Attribute, AttributeValue, Domain, Node};

/// How the products of QLinearConv, QLinearMatMul and QGemm are spelled out. Both say the same;
/// they differ where a float rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// DequantizeLinear → operator → QuantizeLinear, for a reader that makes integers of it again.
    Qdq,
    /// Centre → operator → Requantize, for an engine that computes in f32: the operands are whole
    /// numbers, so sums are exact below 2^24, and the one rounding is the operator's own.
    Whole,
}

/// What stands for `node`: its chain, or `None` where it stands for itself. The operator at the
/// heart of a chain keeps the name; the others get names derived from it.
pub(crate) fn expand(node: &Node, form: Form) -> Option<Vec<Node>> {
    let mut chain = Chain { node, form, nodes: vec![] };
    match (node.domain, node.op.as_str()) {
        (Domain::Onnx, "QLinearConv") => {
            let x = chain.operand(0, None);
            let w = chain.operand(3, Some(0));
            let bias = node.input(8).map(|bias| chain.bias(bias, 1, 4, None));
            let y = chain.heart("Conv", [Some(x), Some(w), bias], &[]);
            chain.result(y, [1, 4], 6, 1, None);
        }
        (Domain::Onnx, "QLinearMatMul") => {
            // Scales are scalars, or vectors along A's rows and B's columns.
            let a = chain.operand(0, Some(-2));
            let b = chain.operand(3, Some(-1));
            let y = chain.heart("MatMul", [Some(a), Some(b), None], &[]);
            chain.result(y, [1, 4], 6, -1, None);
        }
        (Domain::Microsoft, op @ ("QLinearAdd" | "QLinearMul")) => {
            let (a, b) = (chain.dequantize(0, None), chain.dequantize(3, None));
            let y = chain.heart(&op["QLinear".len()..], [Some(a), Some(b), None], &[]);
            chain.quantize(y, 6, 7);
        }
        (Domain::Microsoft, op @ ("QLinearSigmoid" | "QLinearLeakyRelu")) => {
            let x = chain.dequantize(0, None);
            let y = chain.heart(&op["QLinear".len()..], [Some(x), None, None], &[]);
            chain.quantize(y, 3, 4);
        }
        (Domain::Microsoft, "QLinearSoftmax") => {
            let x = chain.dequantize(0, None);
            let y = chain.heart("Softmax", [Some(x), None, None], &["opset"]);
            // The default axis is the last, whatever the node's opset, and Softmax had another.
            if node.attribute("axis").is_none()
                && let Some(heart) = chain.nodes.last_mut()
            {
                heart.attributes.push(attribute("axis", AttributeValue::Int(-1)));
            }
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
            if node.input(7).is_none() {
                chain.form = Form::Qdq;
            }
            let a = chain.operand(0, None);
            let b = chain.operand(3, Some(if transposed { 0 } else { 1 }));
            let bias = node.input(6).map(|bias| chain.bias(bias, 1, 4, alpha));
            let without: &[&str] = if chain.form == Form::Whole { &["alpha"] } else { &[] };
            let y = chain.heart("Gemm", [Some(a), Some(b), bias], without);
            if node.input(7).is_some() {
                chain.result(y, [1, 4], 7, 1, alpha);
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
    form: Form,
    nodes: Vec<Node>,
}

impl Chain<'_> {
    /// Dequantizes input `x`, whose scale and zero point follow it.
    fn dequantize(&mut self, x: usize, axis: Option<i64>) -> String {
        let inputs = (x..x + 3).map(|i| self.input(i)).collect();
        let attributes = axis.map(|axis| attribute("axis", AttributeValue::Int(axis))).into_iter().collect();
        self.push(self.derived(&format!("dequantize_{x}")), "DequantizeLinear", inputs, attributes)
    }

    /// Input `x` of a product: dequantized, or less its zero point.
    fn operand(&mut self, x: usize, axis: Option<i64>) -> String {
        if self.form == Form::Qdq {
            return self.dequantize(x, axis);
        }
        let inputs = vec![self.input(x), self.input(x + 2)];
        let attributes = axis.map(|axis| attribute("axis", AttributeValue::Int(axis))).into_iter().collect();
        self.push(self.derived(&format!("centre_{x}")), "Centre", inputs, attributes)
    }

    /// Ends a product whose operands have their scales at `scales`; that of the result is at
    /// `output_scale`, its zero point behind it. Vectors of scales lie along `axis` of the result.
    fn result(&mut self, y: String, scales: [usize; 2], output_scale: usize, axis: i64, alpha: Option<f32>) {
        if self.form == Form::Qdq {
            return self.quantize(y, output_scale, output_scale + 1);
        }
        let (product, multiplier) = (self.derived("product_scale"), self.derived("multiplier"));
        let last = self.derived("requantize");
        let scale = self.push(product, "Mul", scales.map(|i| self.input(i)).to_vec(), vec![]);
        let scale = self.scaled(scale, alpha);
        let multiplier = self.push(multiplier, "Div", vec![scale, self.input(output_scale)], vec![]);
        let inputs = vec![y, multiplier, self.input(output_scale + 1)];
        self.push(last, "Requantize", inputs, vec![attribute("axis", AttributeValue::Int(axis))]);
        if let Some(last) = self.nodes.last_mut() {
            last.outputs.clone_from(&self.node.outputs);
        }
    }

    /// A scale times QGemm's alpha.
    fn scaled(&mut self, scale: String, alpha: Option<f32>) -> String {
        let Some(alpha) = alpha else { return scale };
        let (value, scaled) = (format!("{scale}.alpha"), format!("{scale}.scaled"));
        let alpha = self.push(value, "Constant", vec![], vec![attribute("value_float", AttributeValue::Float(alpha))]);
        self.push(scaled, "Mul", vec![scale, alpha], vec![])
    }

    /// An int32 bias has the scale `alpha * a_scale * b_scale` and no zero point.
    fn bias(&mut self, bias: &str, a_scale: usize, b_scale: usize, alpha: Option<f32>) -> String {
        if self.form == Form::Whole {
            return self.push(self.derived("centre_bias"), "Centre", vec![bias.to_owned()], vec![]);
        }
        let (product, dequantized) = (self.derived("bias_scale"), self.derived("dequantize_bias"));
        let scale = self.push(product, "Mul", vec![self.input(a_scale), self.input(b_scale)], vec![]);
        let scale = self.scaled(scale, alpha);
        // Of a matrix, which QGemm's may be, too.
        let axis = vec![attribute("axis", AttributeValue::Int(-1))];
        self.push(dequantized, "DequantizeLinear", vec![bias.to_owned(), scale], axis)
    }

    /// The float operator, with the node's own attributes.
    fn heart(&mut self, op: &str, inputs: impl IntoIterator<Item = Option<String>>, without: &[&str]) -> String {
        let inputs = inputs.into_iter().flatten().collect();
        let attributes =
            self.node.attributes.iter().filter(|a| !without.contains(&a.name.as_str())).filter_map(copied).collect();
        let output = self.derived("float");
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
        self.push(self.derived("quantize"), "QuantizeLinear", inputs, vec![]);
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

    /// A name for a tensor of the chain. Outputs are unique in a graph, names of nodes need not be; that no tensor of the
    /// model has one of these, `model::check` sees to.
    fn derived(&self, role: &str) -> String {
        format!("{}${role}", self.node.outputs.first().map_or("", String::as_str))
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
