//! Graphs as they grow, and the ONNX file that they become.

use tractlet::DType;

/// A tensor of a graph, and what is known of its values without computing them.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub name: String,
    pub dims: Vec<usize>,
    pub dtype: DType,
    /// About the largest magnitude.
    pub most: f32,
    /// Whether every bit is the same whoever computes it.
    pub exact: bool,
    /// The [shown](Graph::show) tensors that it is computed from, a bit each.
    pub from: u128,
}

impl Tensor {
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }
}

#[derive(Clone, Debug)]
pub enum Attribute {
    Int(i64),
    Float(f32),
    Ints(Vec<i64>),
    Text(&'static str),
}

/// Numbers from a seed.
pub struct Random(u64);

impl Random {
    /// One of `0..below`.
    pub fn below(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mixed = (self.0 ^ (self.0 >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd) >> 16;
        (mixed % below as u64) as usize
    }

    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high + 1 - low)
    }

    pub fn chance(&mut self, of_100: usize) -> bool {
        self.below(100) < of_100
    }

    pub fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// One of -1 to 1.
    pub fn unit(&mut self) -> f32 {
        self.below(1 << 20) as f32 / (1 << 19) as f32 - 1.0
    }
}

pub struct Graph {
    pub random: Random,
    opset: i64,
    count: usize,
    nodes: Message,
    stored: Message,
    inputs: Vec<(Tensor, Vec<u8>)>,
    shown: Vec<Tensor>,
    outputs: Vec<usize>,
}

impl Graph {
    pub fn new(seed: u64, opset: i64) -> Graph {
        let (nodes, stored) = (Message::default(), Message::default());
        let random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Graph { random, opset, count: 0, nodes, stored, inputs: vec![], shown: vec![], outputs: vec![] }
    }

    /// An input of floats from -2 to 2.
    pub fn input(&mut self, dims: &[usize]) -> Tensor {
        let name = self.name("x");
        let input = Tensor { name, dims: dims.to_vec(), dtype: DType::F32, most: 2.0, exact: true, from: 0 };
        let values = (0..input.elements()).flat_map(|_| (2.0 * self.random.unit()).to_le_bytes()).collect();
        self.inputs.push((input.clone(), values));
        input
    }

    pub fn floats(&mut self, dims: &[usize], values: &[f32]) -> String {
        self.constant(DType::F32, dims, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())
    }

    pub fn longs(&mut self, values: impl IntoIterator<Item = i64>) -> String {
        let bytes: Vec<u8> = values.into_iter().flat_map(i64::to_le_bytes).collect();
        self.constant(DType::I64, &[bytes.len() / 8], &bytes)
    }

    pub fn constant(&mut self, dtype: DType, dims: &[usize], bytes: &[u8]) -> String {
        let name = self.name("c");
        let mut tensor = Message::default();
        dims.iter().for_each(|&dim| tensor.int(1, dim as i64));
        tensor.int(2, code(dtype));
        tensor.bytes(8, name.as_bytes());
        tensor.bytes(9, bytes);
        self.stored.bytes(5, &tensor.0);
        name
    }

    /// A node; `made` says what it makes, but for the name and what it is computed from.
    pub fn op(&mut self, op: &str, inputs: &[&str], attributes: &[(&str, Attribute)], made: Tensor) -> Tensor {
        let name = self.name("t");
        let mut node = Message::default();
        inputs.iter().for_each(|input| node.bytes(1, input.as_bytes()));
        node.bytes(2, name.as_bytes());
        node.bytes(3, name.as_bytes());
        node.bytes(4, op.as_bytes());
        for (key, value) in attributes {
            let mut attribute = Message::default();
            attribute.bytes(1, key.as_bytes());
            let kind = match value {
                Attribute::Float(value) => {
                    attribute.float(2, *value);
                    1
                }
                Attribute::Int(value) => {
                    attribute.int(3, *value);
                    2
                }
                Attribute::Text(value) => {
                    attribute.bytes(4, value.as_bytes());
                    3
                }
                Attribute::Ints(values) => {
                    values.iter().for_each(|&value| attribute.int(8, value));
                    7
                }
            };
            attribute.int(20, kind);
            node.bytes(5, &attribute.0);
        }
        self.nodes.bytes(1, &node.0);
        Tensor { name, ..made }
    }

    /// Has a tensor compared where all are shown; with `output`, also where nothing but outputs are.
    pub fn show(&mut self, tensor: &Tensor) -> Tensor {
        let from = tensor.from | 1 << self.shown.len();
        self.shown.push(tensor.clone());
        Tensor { from, ..tensor.clone() }
    }

    /// Makes the last shown tensor an output.
    pub fn output(&mut self) {
        self.outputs.push(self.shown.len() - 1);
    }

    /// How many tensors are shown: no more than there are bits to say so.
    pub fn shows(&self) -> usize {
        self.shown.len()
    }

    /// The tensors that a file has as outputs.
    pub fn outputs(&self, all: bool) -> Vec<&Tensor> {
        if all { self.shown.iter().collect() } else { self.outputs.iter().map(|&at| &self.shown[at]).collect() }
    }

    pub fn inputs(&self) -> &[(Tensor, Vec<u8>)] {
        &self.inputs
    }

    /// The file.
    pub fn model(&self, all: bool) -> Vec<u8> {
        let mut graph = Message(self.nodes.0.clone());
        graph.bytes(2, b"random");
        graph.0.extend(&self.stored.0);
        self.inputs.iter().for_each(|(input, _)| graph.bytes(11, &port(input)));
        self.outputs(all).into_iter().for_each(|output| graph.bytes(12, &port(output)));
        let (mut opset, mut model) = (Message::default(), Message::default());
        opset.int(2, self.opset);
        model.int(1, 8);
        model.bytes(7, &graph.0);
        model.bytes(8, &opset.0);
        model.0
    }

    fn name(&mut self, initial: &str) -> String {
        self.count += 1;
        format!("{initial}{}", self.count)
    }
}

fn port(tensor: &Tensor) -> Vec<u8> {
    let [mut shape, mut of_type, mut kind, mut port] = <[Message; 4]>::default();
    for &dim in &tensor.dims {
        let mut size = Message::default();
        size.int(1, dim as i64);
        shape.bytes(1, &size.0);
    }
    of_type.int(1, code(tensor.dtype));
    of_type.bytes(2, &shape.0);
    kind.bytes(1, &of_type.0);
    port.bytes(1, tensor.name.as_bytes());
    port.bytes(2, &kind.0);
    port.0
}

fn code(dtype: DType) -> i64 {
    match dtype {
        DType::F32 => 1,
        DType::U8 => 2,
        DType::I8 => 3,
        DType::I32 => 6,
        DType::I64 => 7,
        DType::Bool => 9,
        other => panic!("{other}"),
    }
}

/// A protobuf message.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn int(&mut self, field: u64, value: i64) {
        self.varint(field << 3);
        self.varint(value as u64);
    }

    fn float(&mut self, field: u64, value: f32) {
        self.varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
    }
}
