//! What the engine `ort` may be told.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// What runs a node in ONNX Runtime: an execution provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Provider {
    /// The host.
    Cpu,
    /// An NVIDIA GPU, by cuDNN and cuBLAS.
    Cuda,
    /// An NVIDIA GPU, by engines that TensorRT builds of parts of the graph; what it does not take runs on CUDA.
    TensorRt,
}

/// How the engine `ort` runs a model.
///
/// ```
/// use tractlet::{EngineChoice, OrtOptions, Provider, SessionOptions};
/// let cuda = OrtOptions { provider: Some(Provider::Cuda), device: 1, ..OrtOptions::default() };
/// let options = SessionOptions::default().engine(EngineChoice::Ort).ort(cuda);
/// ```
#[derive(Clone, Debug, Default)]
pub struct OrtOptions {
    /// The provider that nodes go to; those that it does not take run on the CPU. `None` is CUDA where
    /// it can be started, else the CPU; [`Session::fallback_reason`](crate::Session::fallback_reason) says why.
    pub provider: Option<Provider>,
    /// Refuses the model unless every node runs on this provider.
    pub require: Option<Provider>,
    /// Number of the GPU.
    pub device: i32,
    /// Bytes that tensors may take on the GPU; what CUDA's libraries take for themselves is not counted.
    pub gpu_memory: Option<usize>,
    /// Where TensorRT keeps the engines that it built; else each session builds them anew, which takes minutes.
    pub tensorrt_cache: Option<PathBuf>,
    /// Lets TensorRT compute in int8 what the model quantizes.
    pub tensorrt_int8: bool,
    /// Exact sums on x86-64 CPUs without VNNI, where products of uint8 and int8 may otherwise saturate.
    pub exact: bool,
}

impl Provider {
    /// The name that the command line has for it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Provider::Cpu => "cpu",
            Provider::Cuda => "cuda",
            Provider::TensorRt => "tensorrt",
        }
    }

    /// ONNX Runtime's name for it.
    pub(super) const fn long_name(self) -> &'static str {
        match self {
            Provider::Cpu => "CPUExecutionProvider",
            Provider::Cuda => "CUDAExecutionProvider",
            Provider::TensorRt => "TensorrtExecutionProvider",
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Provider {
    type Err = String;

    fn from_str(text: &str) -> Result<Provider, String> {
        match text {
            "cpu" => Ok(Provider::Cpu),
            "cuda" => Ok(Provider::Cuda),
            "tensorrt" => Ok(Provider::TensorRt),
            other => Err(format!("there is no provider `{other}`; there are: cpu, cuda, tensorrt")),
        }
    }
}
