//! An ONNX graph after the scan: owned names, checked sizes, tensor data still in the file.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fmt;
use std::ops::Range;

/// Element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DType {
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
    /// 16-bit IEEE float; stored, never a session's input or output.
    F16,
    /// 8-bit signed integer.
    I8,
    /// 8-bit unsigned integer.
    U8,
    /// 16-bit signed integer.
    I16,
    /// 16-bit unsigned integer.
    U16,
    /// 32-bit signed integer.
    I32,
    /// 32-bit unsigned integer.
    U32,
    /// 64-bit signed integer.
    I64,
    /// 64-bit unsigned integer.
    U64,
    /// One byte: 0 or 1.
    Bool,
}

/// Name, type and shape of a graph input or output. `None` is a dimension that the model leaves
/// open; a session binds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueInfo {
    /// The tensor's name in the graph.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// Its dimensions.
    pub dims: Vec<Dim>,
}

/// One dimension of a graph input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    /// A number.
    Fixed(usize),
    /// A name for a size that the session binds, such as `batch`; an input's that has none is called after the input and its
    /// place, such as `images:2`, and any other's is empty.
    Symbol(String),
}

#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub inputs: Vec<ValueInfo>,
    /// These may lack a type: inference finds it, or of a subgraph the node around it gives it.
    pub outputs: Vec<Output>,
    pub initializers: Vec<Tensor>,
    pub nodes: Vec<Node>,
    /// Types that tensors in it are said to be of (value_info).
    pub declared: Vec<(String, DType)>,
}

#[derive(Debug)]
pub(crate) struct Output {
    pub name: String,
    pub info: Option<ValueInfo>,
}

#[derive(Debug)]
pub(crate) struct Node {
    /// As in the file, or made from the first output where the file gives none.
    pub name: String,
    pub op: String,
    pub domain: Domain,
    /// Empty names stand for optional inputs that are left out.
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    pub attributes: Vec<Attribute>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Domain {
    Onnx,
    /// `com.microsoft`: what ONNX Runtime's quantizer writes.
    Microsoft,
}

#[derive(Debug)]
pub(crate) struct Attribute {
    pub name: String,
    pub value: AttributeValue,
}

#[derive(Debug)]
pub(crate) enum AttributeValue {
    Int(i64),
    Float(f32),
    Text(String),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Texts(Vec<String>),
    Tensor(Tensor),
    Graph(Graph),
    /// Another `AttributeProto.AttributeType`, which no operator here has.
    Other(i64),
    /// It could be understood in several ways, or in none.
    Unclear(&'static str),
}

#[derive(Debug)]
pub(crate) struct Tensor {
    pub name: String,
    pub dtype: DType,
    pub dims: Vec<usize>,
    pub data: TensorData,
}

/// Where the little-endian, row-major elements of a tensor lie.
#[derive(Debug)]
pub(crate) enum TensorData {
    /// Bytes of the model file.
    InFile(Range<usize>),
    /// Decoded from a typed field (`int32_data` and its kin), which are not stored as they are used.
    Decoded(Vec<u8>),
    /// Bytes of one of the model's external files.
    External(ExternalRange),
}

/// As the model states it; [`super::external`] checks it against the file.
#[derive(Debug, Clone)]
pub(crate) struct ExternalRange {
    pub location: String,
    pub offset: u64,
    pub length: Option<u64>,
}

impl DType {
    /// Size of one element in bytes.
    pub fn size(self) -> usize {
        match self {
            DType::I8 | DType::U8 | DType::Bool => 1,
            DType::I16 | DType::U16 | DType::F16 => 2,
            DType::F32 | DType::I32 | DType::U32 => 4,
            DType::F64 | DType::I64 | DType::U64 => 8,
        }
    }

    /// The name that the command line and JSON use, numpy's own.
    pub fn name(self) -> &'static str {
        match self {
            DType::F32 => "float32",
            DType::F64 => "float64",
            DType::F16 => "float16",
            DType::I8 => "int8",
            DType::U8 => "uint8",
            DType::I16 => "int16",
            DType::U16 => "uint16",
            DType::I32 => "int32",
            DType::U32 => "uint32",
            DType::I64 => "int64",
            DType::U64 => "uint64",
            DType::Bool => "bool",
        }
    }

    /// From `TensorProto.DataType`.
    pub(crate) fn from_onnx(code: i64) -> Option<DType> {
        Some(match code {
            1 => DType::F32,
            2 => DType::U8,
            3 => DType::I8,
            4 => DType::U16,
            5 => DType::I16,
            6 => DType::I32,
            7 => DType::I64,
            9 => DType::Bool,
            10 => DType::F16,
            11 => DType::F64,
            12 => DType::U32,
            13 => DType::U64,
            _ => return None,
        })
    }

    /// As `TensorProto.DataType`.
    pub(crate) fn to_onnx(self) -> i32 {
        match self {
            DType::F32 => 1,
            DType::U8 => 2,
            DType::I8 => 3,
            DType::U16 => 4,
            DType::I16 => 5,
            DType::I32 => 6,
            DType::I64 => 7,
            DType::Bool => 9,
            DType::F16 => 10,
            DType::F64 => 11,
            DType::U32 => 12,
            DType::U64 => 13,
        }
    }
}

/// A `TensorProto.DataType` that is none of [`DType`], and what is wrong with it.
pub(super) fn unrun(code: i64) -> String {
    let name = match code {
        0 => "undefined",
        8 => "string",
        14 => "complex64",
        15 => "complex128",
        16 => "bfloat16",
        17 => "float8e4m3fn",
        18 => "float8e4m3fnuz",
        19 => "float8e5m2",
        20 => "float8e5m2fnuz",
        21 => "uint4",
        22 => "int4",
        23 => "float4e2m1",
        24 => "float8e8m0",
        25 => "uint2",
        26 => "int2",
        27 => "float6e2m3",
        28 => "float6e3m2",
        _ => return format!("data type {code}, which ONNX does not have"),
    };
    format!(
        "data type {code} ({name}), which tractlet does not run; it runs floats of 16 to 64 bits, integers of 8 to 64 and bool"
    )
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Fixed(size) => write!(f, "{size}"),
            Dim::Symbol(name) if name.is_empty() => f.write_str("?"),
            Dim::Symbol(name) => f.write_str(name),
        }
    }
}

impl ValueInfo {
    /// The shape where every dimension is a number.
    pub fn shape(&self) -> Option<Vec<usize>> {
        let size = |dim: &Dim| match dim {
            Dim::Fixed(size) => Some(*size),
            Dim::Symbol(_) => None,
        };
        self.dims.iter().map(size).collect()
    }
}

/// Operators that ONNX Runtime has under ONNX's names and with their meaning.
const ALIKE: [&str; 4] = ["DequantizeLinear", "Gelu", "QuantizeLinear", "Trilu"];

impl Node {
    /// Whether the operator means what ONNX's of its name does. Those of other domains mean what they like, or are not there.
    pub fn is_onnx(&self) -> bool {
        self.domain == Domain::Onnx || ALIKE.contains(&self.op.as_str())
    }

    pub fn attribute(&self, name: &str) -> Option<&AttributeValue> {
        self.attributes.iter().find(|a| a.name == name).map(|a| &a.value)
    }

    /// The input's name, or `None` where the node leaves it out.
    pub fn input(&self, index: usize) -> Option<&str> {
        self.inputs.get(index).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// The name of its first output that has one.
    pub fn made(&self) -> Option<&String> {
        self.outputs.iter().find(|name| !name.is_empty())
    }

    /// `pads` of a window, unless `auto_pad` says what they are.
    pub fn explicit_pads(&self) -> Option<&[i64]> {
        match (self.attribute("auto_pad"), self.attribute("pads")) {
            (Some(AttributeValue::Text(auto)), _) if !matches!(auto.as_str(), "" | "NOTSET") => None,
            (_, Some(AttributeValue::Ints(pads))) => Some(pads),
            _ => None,
        }
    }

    /// The branch of an If whose condition is known.
    pub fn branch(&self, condition: &[i64]) -> Option<&Graph> {
        let &[condition] = condition else { return None };
        match self.attribute(if condition != 0 { "then_branch" } else { "else_branch" }) {
            Some(AttributeValue::Graph(graph)) if self.op == "If" && self.is_onnx() => Some(graph),
            _ => None,
        }
    }

    pub fn subgraphs(&self) -> impl Iterator<Item = &Graph> {
        self.attributes.iter().filter_map(|a| match &a.value {
            AttributeValue::Graph(graph) => Some(graph),
            _ => None,
        })
    }
}

impl Tensor {
    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }

    pub fn byte_len(&self) -> usize {
        self.elements() * self.dtype.size()
    }
}

impl AttributeValue {
    pub fn kind(&self) -> &'static str {
        match self {
            AttributeValue::Int(_) => "an integer",
            AttributeValue::Float(_) => "a float",
            AttributeValue::Text(_) => "a string",
            AttributeValue::Ints(_) => "a list of integers",
            AttributeValue::Floats(_) => "a list of floats",
            AttributeValue::Texts(_) => "a list of strings",
            AttributeValue::Tensor(_) => "a tensor",
            AttributeValue::Graph(_) => "a graph",
            AttributeValue::Other(_) | AttributeValue::Unclear(_) => "of another type",
        }
    }
}
