//! libtorch on a TorchScript file. The only file that names tch.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use tch::{CModule, Cuda, Device, IValue, Kind, TchError, Tensor};

use super::{Description, Engine, EngineFault, EngineName, StepTime, TensorSpec};
use crate::model::{DType, Fault, Limits};
use crate::tensor::{TensorMut, TensorRef};
use crate::torchscript::{TorchDevice, TorchFault, TorchOptions};

pub(crate) struct TorchEngine {
    module: CModule,
    device: Device,
    threads: i32,
    description: Description,
}

impl TorchEngine {
    /// Loads a TorchScript file and runs it once, on zeros: nothing else tells what it gives.
    pub fn new(file: &[u8], options: &TorchOptions, limits: &Limits) -> Result<TorchEngine, TorchFault> {
        let inputs = inputs(options, limits)?;
        let threads = threads(options)?;
        let device = device(options.device)?;
        let module = load(file, device)?;
        let description = Description {
            quantized: vec![false; inputs.len()],
            inputs,
            outputs: vec![],
            nodes: vec![],
            steps: vec![],
            blocks: vec![],
            provider: Some(match options.device {
                TorchDevice::Cpu => "cpu",
                TorchDevice::Cuda(_) => "cuda",
            }),
        };
        let mut engine = TorchEngine { module, device, threads, description };
        engine.description.outputs = engine.outputs(limits)?;
        Ok(engine)
    }

    fn outputs(&self, limits: &Limits) -> Result<Vec<TensorSpec>, TorchFault> {
        let inputs = &self.description.inputs;
        let zeros: Vec<Vec<u8>> = inputs.iter().map(|spec| vec![0; spec.byte_len()]).collect();
        let outputs = guarded(|| {
            let outputs = self.forward(zeros.iter().map(Vec::as_slice))?;
            outputs.iter().map(|(name, tensor)| described(name, tensor)).collect::<Result<Vec<_>, _>>()
        })
        .map_err(|what| TorchFault::Forward { inputs: list(inputs), what })?;
        outputs.iter().try_for_each(|spec| within("output", spec, limits))?;
        Ok(outputs)
    }

    /// What `forward` gives for these bytes, each as long as its input's spec says.
    fn forward<'a>(&self, inputs: impl Iterator<Item = &'a [u8]>) -> Result<Vec<(String, Tensor)>, String> {
        // Both belong to the thread, and a session may move to another.
        tch::set_num_threads(self.threads);
        let _no_grad = tch::no_grad_guard();
        let arguments = inputs
            .zip(&self.description.inputs)
            .map(|(bytes, spec)| {
                let kind = kind_of(spec.dtype).ok_or_else(|| format!("libtorch has no tensors of {}", spec.dtype))?;
                let shape: Vec<i64> = spec.shape.iter().map(|&size| size as i64).collect();
                let tensor = Tensor::f_from_data_size(bytes, &shape, kind).and_then(|t| t.f_to_device(self.device));
                tensor.map(IValue::Tensor).map_err(words)
            })
            .collect::<Result<Vec<_>, _>>()?;
        named(self.module.forward_is(&arguments).map_err(words)?)
    }
}

impl Engine for TorchEngine {
    fn name(&self) -> EngineName {
        EngineName::Torch
    }

    fn description(&self) -> &Description {
        &self.description
    }

    fn run(&mut self, inputs: &[TensorRef<'_>], outputs: &mut [TensorMut<'_>]) -> Result<(), EngineFault> {
        let run = || {
            let results = self.forward(inputs.iter().map(TensorRef::bytes))?;
            let specs = &self.description.outputs;
            let found = results.iter().map(|(name, tensor)| described(name, tensor)).collect::<Result<Vec<_>, _>>()?;
            if found != *specs {
                return Err(format!("gave {}, and {} when the session was made", list(&found), list(specs)));
            }
            for ((_, tensor), output) in results.iter().zip(outputs) {
                tensor.f_copy_data_u8(output.bytes_mut(), tensor.numel()).map_err(words)?;
            }
            Ok(())
        };
        guarded(run).map_err(|what| EngineFault::Failed { node: FORWARD.to_owned(), what })
    }

    fn profile(
        &mut self,
        _: &[TensorRef<'_>],
        _: &mut [TensorMut<'_>],
        _: usize,
        _: &mut dyn FnMut(&[StepTime]),
    ) -> Result<(), EngineFault> {
        let what = "libtorch does not tell the steps of a run apart: a TorchScript file has no profile".to_owned();
        Err(EngineFault::Failed { node: FORWARD.to_owned(), what })
    }
}

/// What runs in place of a node.
const FORWARD: &str = "forward";

/// Elements of all parameters together.
pub(crate) fn parameters(file: &[u8]) -> Result<u64, TorchFault> {
    let module = load(file, Device::Cpu)?;
    let count = || {
        let parameters = module.named_parameters().map_err(words)?;
        Ok(parameters.iter().map(|(_, tensor)| tensor.numel() as u64).sum())
    };
    guarded(count).map_err(TorchFault::Load)
}

fn load(file: &[u8], device: Device) -> Result<CModule, TorchFault> {
    let load = || {
        let mut module = CModule::load_data_on_device(&mut &*file, device).map_err(words)?;
        module.f_set_eval().map_err(words)?;
        Ok(module)
    };
    guarded(load).map_err(TorchFault::Load)
}

/// A TorchScript file names the arguments of `forward` in its own code alone: here they go by their position.
fn inputs(options: &TorchOptions, limits: &Limits) -> Result<Vec<TensorSpec>, TorchFault> {
    if options.inputs.is_empty() {
        return Err(TorchFault::NoInputs);
    }
    let spec = |(index, (dtype, shape)): (usize, &(DType, Vec<usize>))| {
        let spec = TensorSpec { name: format!("input_{index}"), dtype: *dtype, shape: shape.clone() };
        if kind_of(*dtype).is_none() {
            return Err(TorchFault::Options(format!("input `{}`: a session on libtorch takes no {dtype}", spec.name)));
        }
        within("input", &spec, limits)?;
        Ok(spec)
    };
    options.inputs.iter().enumerate().map(spec).collect()
}

/// OpenMP ends the process where it cannot start as many as it is told to.
fn threads(options: &TorchOptions) -> Result<i32, TorchFault> {
    const MOST: usize = 1024;
    i32::try_from(options.threads).ok().filter(|_| options.threads <= MOST).ok_or_else(|| {
        TorchFault::Options(format!("{} threads for one inference; expected at most {MOST}", options.threads))
    })
}

/// Before it is allocated, of an input; of an output before anybody allocates as much again.
fn within(role: &str, spec: &TensorSpec, limits: &Limits) -> Result<(), TorchFault> {
    let bytes = spec.shape.iter().try_fold(spec.dtype.size() as u64, |bytes, &size| bytes.checked_mul(size as u64));
    match bytes {
        Some(bytes) if bytes <= limits.tensor_bytes => Ok(()),
        _ => {
            let subject = format!("{role} `{}`, in bytes", spec.name);
            Err(TorchFault::File(Fault::limit(subject, bytes.unwrap_or(u64::MAX), limits.tensor_bytes)))
        }
    }
}

/// The tensors of what `forward` gave, with names: of a dict its keys, else by position.
fn named(value: IValue) -> Result<Vec<(String, Tensor)>, String> {
    let by_position = |index, tensor| (format!("output_{index}"), tensor);
    match value {
        IValue::Tensor(tensor) => Ok(vec![by_position(0, tensor)]),
        IValue::TensorList(tensors) => {
            Ok((0..).zip(tensors).map(|(index, tensor)| by_position(index, tensor)).collect())
        }
        IValue::Tuple(values) => {
            let each = (0..).zip(values).map(|(index, value)| match value {
                IValue::Tensor(tensor) => Ok(by_position(index, tensor)),
                _ => Err(format!("element {index} of the tuple that forward returns is no tensor; {RETURNS}")),
            });
            each.collect()
        }
        IValue::GenericDict(entries) => {
            let each = entries.into_iter().map(|entry| match entry {
                (IValue::String(name), IValue::Tensor(tensor)) => Ok((name, tensor)),
                _ => Err(format!("the dict that forward returns has other entries than strings to tensors; {RETURNS}")),
            });
            each.collect()
        }
        _ => Err(format!("forward returns no tensor; {RETURNS}")),
    }
}

const RETURNS: &str = "it may return a tensor, or a list, tuple or dict of tensors";

fn described(name: &str, tensor: &Tensor) -> Result<TensorSpec, String> {
    if !tensor.defined() || tensor.is_sparse() || tensor.is_mkldnn() {
        return Err(format!("`{name}` is no dense tensor; make it one in forward: {name}.to_dense()"));
    }
    let kind = tensor.f_kind().map_err(words)?;
    let dtype = dtype_of(kind).ok_or_else(|| {
        format!("`{name}` has elements of type {kind:?}, which no session hands out; convert it in forward: .float()")
    })?;
    let shape =
        tensor.size().into_iter().map(|size| usize::try_from(size).map_err(|_| format!("`{name}`: size {size}")));
    Ok(TensorSpec { name: name.to_owned(), dtype, shape: shape.collect::<Result<_, _>>()? })
}

/// Types that both have, each under both names.
const TYPES: [(DType, Kind); 8] = [
    (DType::F32, Kind::Float),
    (DType::F64, Kind::Double),
    (DType::I8, Kind::Int8),
    (DType::U8, Kind::Uint8),
    (DType::I16, Kind::Int16),
    (DType::I32, Kind::Int),
    (DType::I64, Kind::Int64),
    (DType::Bool, Kind::Bool),
];

fn kind_of(dtype: DType) -> Option<Kind> {
    TYPES.iter().find(|(own, _)| *own == dtype).map(|(_, kind)| *kind)
}

fn dtype_of(kind: Kind) -> Option<DType> {
    TYPES.iter().find(|(_, theirs)| *theirs == kind).map(|(dtype, _)| *dtype)
}

fn device(wanted: TorchDevice) -> Result<Device, TorchFault> {
    let TorchDevice::Cuda(index) = wanted else { return Ok(Device::Cpu) };
    let refused = |what| TorchFault::Device { device: wanted, what };
    load_cuda().map_err(refused)?;
    let count = guarded(|| Ok(Cuda::device_count())).map_err(refused)?;
    if usize::try_from(count).is_ok_and(|count| index < count) {
        Ok(Device::Cuda(index))
    } else {
        Err(refused(format!("libtorch finds {count} CUDA devices here")))
    }
}

/// Loads the CUDA half of libtorch, once. The program is linked to the other half alone, so that it starts where
/// there is no CUDA.
fn load_cuda() -> Result<(), String> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    let load = || {
        // SAFETY: opening a library runs its initializers. These are libtorch's own, made to be run by the loader at
        // any time before CUDA is used; whoever sets the library path vouches for the file, as for the rest of
        // libtorch. It is never closed: what it registers stays.
        #[allow(unsafe_code)]
        let library = unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) };
        library
            .map(std::mem::forget)
            .map_err(|error| format!("this libtorch has no CUDA that could be loaded: {error}"))
    };
    LOADED.get_or_init(load).clone()
}

/// tch unwraps what it does not expect to fail; to a caller both are errors.
fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
        Err(format!("libtorch failed: {}", text.map_or("no reason given".into(), reason)))
    })
}

fn words(error: TchError) -> String {
    let text = match &error {
        TchError::Torch(text) => text.clone(),
        other => other.to_string(),
    };
    log::debug!("{text}");
    reason(&text)
}

/// What libtorch says went wrong, without its stack and the model's source, on one line.
fn reason(text: &str) -> String {
    let text = text.split("\nException raised from").next().unwrap_or_default();
    let text = text.rsplit("RuntimeError: ").next().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn list(specs: &[TensorSpec]) -> String {
    let each = specs.iter().map(|TensorSpec { name, dtype, shape }| format!("`{name}` {dtype} {shape:?}"));
    each.collect::<Vec<_>>().join(", ")
}
