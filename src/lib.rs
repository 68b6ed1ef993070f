//! tractlet runs quantized ONNX models on small ARM boards.
//!
//! A [`Model`] is a file: mapped, scanned once, and sound from there on. A [`Session`] is a model
//! on an engine: it knows every shape, and runs over slices that the caller owns.
//!
//! ```
//! use tractlet::{Model, Session, SessionOptions};
//!
//! let model = Model::open("models/kws_dscnn/int8.onnx")?;
//! let mut session = Session::new(&model, SessionOptions::default())?;
//! let features = vec![0f32; 49 * 10]; // [1, 1, 49, 10]
//! let mut scores = vec![0f32; 12]; // [1, 12]
//! session.run(&[features.as_slice().into()], &mut [scores.as_mut_slice().into()])?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The folders are the pipeline: `model` opens a file and checks it; `lower` turns its graph into
//! integer ops and `plan` gives them places in one arena, or `import` hands the graph to tract;
//! `engine` runs either; `planfile` keeps a plan in a file; `sensor` feeds it from a sensor and decides; `slot` takes new
//! models on a device; `sandbox` gives up what is not needed any more; `footprint` measures memory. See ARCHITECTURE.md.

mod engine;
pub mod footprint;
mod import;
mod lower;
mod model;
pub mod npy;
mod plan;
mod planfile;
pub mod sandbox;
pub mod sensor;
mod session;
pub mod slot;
mod tensor;
mod toml_text;
#[cfg(feature = "torch")]
mod torchscript;
pub mod whole;

pub use engine::{
    EngineChoice, EngineName, HopReport, MemoryPlan, NodeReport, StepReport, StepTime, TensorSpec, WholeFrom,
    int8_ratio,
};
#[cfg(feature = "ort")]
pub use engine::{OrtOptions, Provider};
pub use model::{DType, Dim, InputValue, Limits, MapMode, Model, ModelError, ModelErrorKind, OpenOptions, ValueInfo};
pub use plan::ArenaBlock;
pub use planfile::{
    CompileOptions, ModelFile, NewPlan, OpenError, PlanCache, PlanFile, PlanFileError, PlanFileErrorKind, compile,
};
pub use session::{RunError, RunErrorKind, Session, SessionOptions};
pub use tensor::{Element, TensorMut, TensorRef};
pub use toml_text::from_toml;
#[cfg(feature = "torch")]
pub use torchscript::{TorchDevice, TorchError, TorchErrorKind, TorchFile, TorchOptions};
pub use tractlet_core::isa::Isa;

#[cfg(not(target_os = "linux"))]
compile_error!("tractlet reads /proc and seals memory files: it needs Linux");
#[cfg(target_endian = "big")]
compile_error!("tensor bytes are used as they lie in the model file, which is little-endian");
