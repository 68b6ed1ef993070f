//! Opening model files: the bytes, held by `tractlet_io`, the one bounded protobuf pass ([`parse`]), the
//! tensors that lie outside ([`external`]) and everything that must hold before an engine sees
//! the graph ([`check`], [`shape`]). Nothing here runs a model; after [`Model::open`] nothing
//! about it is in doubt but what depends on input data.

mod archive;
mod batch;
mod check;
mod encode;
mod error;
mod external;
mod fixed;
mod graph;
mod limits;
mod parse;
mod schema;
mod shape;
mod source;
mod wire;

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};

pub use error::{ModelError, ModelErrorKind};
pub use fixed::InputValue;
pub use graph::{DType, Dim, ValueInfo};
pub use limits::Limits;
pub use tractlet_io::MapMode;

pub(crate) use archive::Archive;
pub(crate) use error::Fault;
use graph::Output;
pub(crate) use graph::{Attribute, AttributeValue, Domain, Graph, Node, Tensor, TensorData};
pub(crate) use shape::{Binding, Equation, Label, Shapes};
pub(crate) use source::Source;

use external::ExternalFiles;
use fixed::AsGiven;

/// An ONNX model file: mapped, scanned and found sound.
///
/// ```
/// let model = tractlet::Model::open("models/kws_dscnn/int8.onnx")?;
/// assert_eq!(model.inputs()[0].name, "input");
/// assert_eq!(model.inputs()[0].shape(), Some(vec![1, 1, 49, 10]));
/// # Ok::<(), tractlet::ModelError>(())
/// ```
#[derive(Debug)]
pub struct Model {
    path: PathBuf,
    source: Source,
    /// What the file is without the values that its inputs are fixed to, where any are.
    given: Option<AsGiven>,
    external: ExternalFiles,
    graph: Graph,
    outputs: Vec<ValueInfo>,
    opset: i64,
    producer: String,
    limits: Limits,
}

/// How to open a model.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// What the file may claim.
    pub limits: Limits,
    /// How its bytes are held.
    pub map: MapMode,
    /// Inputs by name, each with the value that it is fixed to: the model is one that has the value stored, and that input no
    /// more. What depends on it is settled when the model is opened, such as which branch of an If runs.
    pub set: Vec<(String, InputValue)>,
}

impl OpenOptions {
    /// Fixes one more input.
    ///
    /// ```
    /// use tractlet::{Model, OpenOptions};
    /// let options = OpenOptions::default().set("input", "0");
    /// let model = Model::open_with("models/kws_dscnn/int8.onnx", &options)?;
    /// assert!(model.inputs().is_empty());
    /// # Ok::<(), tractlet::ModelError>(())
    /// ```
    pub fn set(mut self, input: impl Into<String>, value: impl Into<InputValue>) -> OpenOptions {
        self.set.push((input.into(), value.into()));
        self
    }
}

impl Model {
    /// Opens a model with the default limits, as a snapshot where the file could change.
    ///
    /// # Errors
    /// Every fault of the file, with its place; see [`ModelErrorKind`].
    pub fn open(path: impl AsRef<Path>) -> Result<Model, ModelError> {
        Model::open_with(path, &OpenOptions::default())
    }

    /// Opens a model with limits and mapping of the caller's choice.
    ///
    /// ```
    /// use tractlet::{Limits, Model, ModelErrorKind, OpenOptions};
    /// let options = OpenOptions { limits: Limits { items: 10, ..Limits::default() }, ..OpenOptions::default() };
    /// let error = Model::open_with("models/kws_dscnn/int8.onnx", &options).unwrap_err();
    /// assert_eq!(error.kind(), ModelErrorKind::Limit);
    /// ```
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn open_with(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Model, ModelError> {
        let path = path.as_ref();
        let source = hold(path, options).map_err(|fault| ModelError::new(path, fault))?;
        Model::from_source(path, source, options)
    }

    /// The model in bytes that are held already.
    pub(crate) fn from_source(path: &Path, source: Source, options: &OpenOptions) -> Result<Model, ModelError> {
        load(path, source, options, Some(path)).map_err(|fault| ModelError::new(path, fault))
    }

    /// Takes a model that is in memory already; its tensors all lie in these bytes. `name` stands for the
    /// file in errors.
    ///
    /// ```
    /// let bytes = std::fs::read("models/kws_dscnn/int8.onnx")?;
    /// let model = tractlet::Model::from_bytes("kws", &bytes)?;
    /// assert_eq!(model.digest(), tractlet::Model::open("models/kws_dscnn/int8.onnx")?.digest());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn from_bytes(name: impl AsRef<Path>, bytes: &[u8]) -> Result<Model, ModelError> {
        let name = name.as_ref();
        let model = Source::of_bytes(bytes).and_then(|source| load(name, source, &OpenOptions::default(), None));
        model.map_err(|fault| ModelError::new(name, fault))
    }

    /// The file that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Inputs in the graph's order, without those that an initializer fills.
    pub fn inputs(&self) -> &[ValueInfo] {
        &self.graph.inputs
    }

    /// Outputs in the graph's order.
    pub fn outputs(&self) -> &[ValueInfo] {
        &self.outputs
    }

    /// Version of the ai.onnx operator set.
    pub fn opset(&self) -> i64 {
        self.opset
    }

    /// The tool that wrote the file, as it names itself.
    pub fn producer(&self) -> &str {
        &self.producer
    }

    /// The bytes of the model file, with what its inputs are fixed to.
    pub fn file(&self) -> &[u8] {
        &self.source
    }

    /// Little-endian, row-major elements of a stored tensor, wherever they lie: an initializer, or what a Constant makes.
    ///
    /// # Errors
    /// As [`Model::open`]; `None` where the graph stores no tensor of this name.
    pub fn stored(&self, tensor: &str) -> Result<Option<&[u8]>, ModelError> {
        let initializer = self.graph.initializers.iter().find(|stored| stored.name == tensor);
        let made = |node: &&Node| node.op == "Constant" && node.outputs.iter().any(|output| output == tensor);
        let constant = || match self.graph.nodes.iter().find(made)?.attribute("value")? {
            AttributeValue::Tensor(value) => Some(value),
            _ => None,
        };
        initializer.or_else(constant).map(|stored| self.bytes(stored)).transpose()
    }

    /// The files beside the model that tensors lie in.
    pub fn external_paths(&self) -> impl Iterator<Item = PathBuf> {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        self.external.files().map(|(location, _)| folder.join(location))
    }

    /// Size of the model file, external data not counted, in bytes.
    pub fn file_bytes(&self) -> usize {
        self.given.as_ref().map_or(self.source.len(), |given| given.bytes)
    }

    /// Size of the model file and of all tensors that lie in other files, in bytes: that of a file that has them in itself.
    pub fn whole_bytes(&self) -> u64 {
        let mut bytes = self.source.len() as u64;
        // No tensor is refused here: none can fail.
        let _ = walk_tensors(&self.graph, &mut |tensor| {
            if matches!(tensor.data, TensorData::External(_)) {
                bytes = bytes.saturating_add(tensor.byte_len() as u64);
            }
            Ok(())
        });
        bytes
    }

    /// Whether the file itself is mapped, and not a sealed copy of it, as it is of one whose inputs are fixed.
    pub fn is_mapped_directly(&self) -> bool {
        self.source.is_direct()
    }

    /// SHA-256 of the model file, in hexadecimal.
    pub fn digest(&self) -> String {
        hexadecimal(&words(self.file_hash()))
    }

    /// Of the file as it lies there.
    fn file_hash(&self) -> Sha256 {
        self.given.as_ref().map_or_else(|| Sha256::new_with_prefix(&*self.source), |given| given.hash.clone())
    }

    /// Whether tensors lie in files beside the model.
    pub(crate) fn has_external_data(&self) -> bool {
        !self.external.is_empty()
    }

    /// SHA-256 of all that the model is made of, as big-endian words: its file, and what it reads of
    /// other files, in the order in which the graph names it.
    pub(crate) fn content_digest(&self) -> [u32; 8] {
        let mut hash = self.file_hash();
        // Each was read when the model was opened: none can fail.
        let _ = walk_tensors(&self.graph, &mut |tensor| {
            if let TensorData::External(range) = &tensor.data {
                hash.update(self.external.slice(tensor, range)?);
            }
            Ok(())
        });
        words(hash)
    }

    /// Shapes of every tensor with the model's open dimensions bound.
    pub(crate) fn shapes(&self, bindings: &[Binding]) -> Result<Shapes, ModelError> {
        let bytes = |tensor: &Tensor| tensor_bytes(tensor, &self.source, &self.external).map(<[u8]>::to_vec);
        Shapes::infer(&self.graph, self.opset, bindings, &self.limits, &bytes).map_err(|fault| self.error(fault))
    }

    /// The files beside the model that tensors lie in, with the names that the model has for them.
    #[cfg(feature = "ort")]
    pub(crate) fn external_files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.external.files()
    }

    /// Whether all that reads this float input quantizes it.
    #[cfg(any(feature = "ort", feature = "tract"))]
    pub(crate) fn quantizes(&self, input: &str) -> bool {
        let is_float = self.graph.inputs.iter().any(|i| i.name == input && i.dtype == DType::F32);
        let mut readers =
            self.graph.nodes.iter().filter(|node| node.inputs.iter().any(|name| name == input)).peekable();
        is_float && readers.peek().is_some() && readers.all(|node| node.op == "QuantizeLinear")
    }

    pub(crate) fn graph(&self) -> &Graph {
        &self.graph
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Little-endian, row-major elements of a tensor of this model.
    pub(crate) fn bytes<'a>(&'a self, tensor: &'a Tensor) -> Result<&'a [u8], ModelError> {
        tensor_bytes(tensor, &self.source, &self.external).map_err(|fault| self.error(fault))
    }

    pub(crate) fn error(&self, fault: Fault) -> ModelError {
        ModelError::new(&self.path, fault)
    }
}

/// The bytes of a model or a plan, so that they cannot change any more.
pub(crate) fn hold(path: &Path, options: &OpenOptions) -> Result<Source, Fault> {
    let (file, len) = open_regular(path, &options.limits)?;
    Source::new(&file, len, options.map)
}

/// `beside` is the file that external data lies beside.
fn load(path: &Path, source: Source, options: &OpenOptions, beside: Option<&Path>) -> Result<Model, Fault> {
    if let Some(archive) = Archive::of(&source) {
        return Err(Fault::PyTorch(archive));
    }
    let limits = &options.limits;
    let (source, given) = fixed::with_values(source, options)?;
    let parsed = parse::parse_model(&source, limits)?;
    let mut graph = parsed.graph;
    check::names(&graph)?;
    let external = ExternalFiles::open(&graph, beside, options.map, limits)?;
    filled(&mut graph);
    let bytes = |tensor: &Tensor| tensor_bytes(tensor, &source, &external).map(<[u8]>::to_vec);
    check::nodes(&graph, parsed.opset, &bytes)?;
    let shapes = Shapes::infer(&graph, parsed.opset, &[], limits, &bytes)?;
    let outputs = graph.outputs.iter().map(|output| declared(output, &graph, &shapes)).collect::<Result<_, _>>()?;
    let limits = limits.clone();
    Ok(Model {
        path: path.to_owned(),
        external,
        graph,
        outputs,
        opset: parsed.opset,
        producer: parsed.producer,
        limits,
        source,
        given,
    })
}

/// Before IR version 4 initializers had to be listed as inputs too; they are not for the caller to fill.
fn filled(graph: &mut Graph) {
    let stored: HashSet<&str> = graph.initializers.iter().map(|tensor| tensor.name.as_str()).collect();
    graph.inputs.retain(|input| !stored.contains(input.name.as_str()));
}

/// An output as the model declares it, or as its graph makes it.
fn declared(output: &Output, graph: &Graph, shapes: &Shapes) -> Result<ValueInfo, Fault> {
    let name = &output.name;
    output.info.clone().or_else(|| shapes.info(name)).ok_or_else(|| {
        Fault::unsupported(match unruled(graph, shapes) {
            Some(Node { name: node, op, .. }) => format!(
                "node `{node}`: operator {op} of domain `com.microsoft` is none that tractlet takes, and so output `{name}` has no shape; \
                 ONNX Runtime (--engine ort) may have it, if the model states the shapes of its outputs"
            ),
            None => format!(
                "output `{name}` has no tensor type or no shape, not even a rank; export the model with shapes (onnx.shape_inference)"
            ),
        })
    })
}

/// The first node of com.microsoft from which on shapes are not known.
fn unruled<'g>(graph: &'g Graph, shapes: &Shapes) -> Option<&'g Node> {
    let is_known = |name: &String| name.is_empty() || shapes.info(name).is_some();
    let unruled =
        |node: &&Node| !node.is_onnx() && node.inputs.iter().all(is_known) && !node.outputs.iter().all(is_known);
    graph.nodes.iter().find(unruled)
}

/// SHA-256 as big-endian words.
pub(crate) fn sha256(bytes: &[u8]) -> [u32; 8] {
    words(Sha256::new_with_prefix(bytes))
}

fn words(hash: Sha256) -> [u32; 8] {
    let digest = hash.finalize();
    let mut words = [0; 8];
    for (word, bytes) in words.iter_mut().zip(digest.as_chunks::<4>().0) {
        *word = u32::from_be_bytes(*bytes);
    }
    words
}

pub(crate) fn hexadecimal(words: &[u32]) -> String {
    words.iter().map(|word| format!("{word:08x}")).collect()
}

fn open_regular(path: &Path, limits: &Limits) -> Result<(File, u64), Fault> {
    let io = |action, source| Fault::Io { action, source };
    // NONBLOCK: a FIFO in the place of a model must not hang the reader.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(|e| io("open it", e.into()))?);
    let meta = file.metadata().map_err(|e| io("look at it", e))?;
    if !meta.is_file() {
        let what = if meta.is_dir() { "it is a directory; name the file" } else { "it is not a regular file" };
        return Err(io("read it as a model", std::io::Error::new(std::io::ErrorKind::InvalidInput, what)));
    }
    if meta.len() > limits.file_bytes {
        return Err(Fault::limit("size of the file, in bytes", meta.len(), limits.file_bytes));
    }
    Ok((file, meta.len()))
}

fn tensor_bytes<'a>(tensor: &'a Tensor, source: &'a Source, external: &'a ExternalFiles) -> Result<&'a [u8], Fault> {
    match &tensor.data {
        TensorData::InFile(range) => {
            source.get(range.clone()).ok_or_else(|| Fault::tensor(&tensor.name, "its data lies outside the file"))
        }
        TensorData::Decoded(bytes) => Ok(bytes),
        TensorData::External(range) => external.slice(tensor, range),
    }
}

/// Visits every tensor of a graph and its subgraphs: initializers and attributes.
fn walk_tensors(graph: &Graph, visit: &mut impl FnMut(&Tensor) -> Result<(), Fault>) -> Result<(), Fault> {
    graph.initializers.iter().try_for_each(&mut *visit)?;
    for attribute in graph.nodes.iter().flat_map(|node| &node.attributes) {
        match &attribute.value {
            AttributeValue::Tensor(tensor) => visit(tensor)?,
            AttributeValue::Graph(graph) => walk_tensors(graph, visit)?,
            _ => {}
        }
    }
    Ok(())
}
