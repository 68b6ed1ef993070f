//! What the engine `ort` takes on the command line.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use tractlet::{EngineChoice, OrtOptions, Provider};

use super::failure::Failure;
use super::size;

// On each option and not on the group: what follows a group would have its heading too.
const HEADING: &str = "With --engine ort";

/// With `--engine ort`
#[derive(Args)]
pub struct OrtArgs {
    /// What nodes run on: cpu, cuda or tensorrt [default: cuda where it can be started, else cpu]
    #[arg(help_heading = HEADING, long, value_name = "PROVIDER", value_parser = str::parse::<Provider>)]
    provider: Option<Provider>,
    /// Refuse a model of which a node would run elsewhere
    #[arg(help_heading = HEADING, long, value_name = "PROVIDER", value_parser = str::parse::<Provider>)]
    require: Option<Provider>,
    /// Number of the GPU [default: 0]
    #[arg(help_heading = HEADING, long, value_name = "N", value_parser = clap::value_parser!(u16).range(..1024))]
    device_id: Option<u16>,
    /// Memory that tensors may take on the GPU, such as 512MiB
    #[arg(help_heading = HEADING, long, value_name = "SIZE", value_parser = size::parse)]
    gpu_mem_limit: Option<u64>,
    /// Folder where TensorRT keeps the engines that it builds
    #[arg(help_heading = HEADING, long, value_name = "FOLDER")]
    tensorrt_cache: Option<PathBuf>,
    /// Let TensorRT compute in int8 what the model quantizes
    #[arg(help_heading = HEADING, long)]
    tensorrt_int8: bool,
    /// Exact sums on x86-64 CPUs without VNNI, where weights of full range may otherwise saturate; slower
    #[arg(help_heading = HEADING, long)]
    exact: bool,
}

/// Ends the process without the destructors of shared libraries. Those of ONNX Runtime and CUDA run at exit in an order that
/// nobody arranged, with CUDA's threads alive: now and then one finds its heap torn down.
pub fn leave(code: u8) -> ! {
    // What cannot be written now never could.
    let _ = io::stdout().flush();
    signal_hook::low_level::exit(code.into())
}

impl OrtArgs {
    /// Refuses options of an engine that is not asked for.
    pub fn options(&self, engines: &[EngineChoice]) -> Result<OrtOptions, Failure> {
        if !engines.contains(&EngineChoice::Ort)
            && let Some(option) = self.given()
        {
            return Err(format!("{option} is for the engine ort, which is not asked for").into());
        }
        let asked = self.provider.or(self.require);
        let for_gpu = self.device_id.is_some() || self.gpu_mem_limit.is_some();
        if (self.tensorrt_cache.is_some() || self.tensorrt_int8) && asked != Some(Provider::TensorRt) {
            return Err("--tensorrt-cache and --tensorrt-int8 are for --provider tensorrt".into());
        }
        if for_gpu && asked == Some(Provider::Cpu) {
            return Err("--device-id and --gpu-mem-limit are for a GPU, and the provider asked for is cpu".into());
        }
        Ok(OrtOptions {
            // Who says which GPU wants one.
            provider: self.provider.or((for_gpu && asked.is_none()).then_some(Provider::Cuda)),
            require: self.require,
            device: self.device_id.unwrap_or(0).into(),
            gpu_memory: self.gpu_mem_limit.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
            tensorrt_cache: self.tensorrt_cache.clone(),
            tensorrt_int8: self.tensorrt_int8,
            exact: self.exact,
        })
    }

    /// The first option that was given.
    fn given(&self) -> Option<&'static str> {
        let all = [
            (self.provider.is_some(), "--provider"),
            (self.require.is_some(), "--require"),
            (self.device_id.is_some(), "--device-id"),
            (self.gpu_mem_limit.is_some(), "--gpu-mem-limit"),
            (self.tensorrt_cache.is_some(), "--tensorrt-cache"),
            (self.tensorrt_int8, "--tensorrt-int8"),
            (self.exact, "--exact"),
        ];
        all.into_iter().find(|(given, _)| *given).map(|(_, option)| option)
    }
}
