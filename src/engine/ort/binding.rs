//! Inputs and outputs in buffers that are made once. A run copies once each way on this side and allocates nothing.
//!
//! The safe interface of `ort` makes a map of outputs, with names, at each run; so the three calls of a run are made
//! on ONNX Runtime's C interface. Beside this file only `probe` has `unsafe`, which asks a library for its version.
#![allow(unsafe_code)]

use std::ffi::{CString, c_void};
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::slice;

use ort::AsPointer;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, Session};
use ort::sys::OrtValue;
use ort::value::TensorElementType;

use super::words;
use crate::engine::TensorSpec;
use crate::model::DType;
use crate::tensor::{TensorMut, TensorRef};

/// The binding comes first: it holds references to what the others free.
pub(super) struct Binding {
    binding: IoBinding,
    inputs: Vec<Port>,
    outputs: Vec<Output>,
    /// Whether a device reads inputs from memory of its own: binding them again copies them there.
    on_device: bool,
}

/// Where the values of an output are after a run.
enum Output {
    Made(Port),
    /// In the input of this index, which it is: ONNX Runtime would put that in the place of what is bound.
    Given(usize),
}

/// One input or output: memory, and a tensor over it.
struct Port {
    name: CString,
    value: NonNull<OrtValue>,
    memory: NonNull<c_void>,
    byte_len: usize,
    allocator: Rc<Allocator>,
}

// SAFETY: memory, tensors and their allocator are tied to no thread. The allocator is shared by the ports of one `Binding`,
// which move together, and no method hands out a clone.
unsafe impl Send for Binding {}

impl Binding {
    /// `device` is the CUDA device that the session runs on, if it does: memory is pinned for it then.
    pub fn new(
        session: &Session,
        inputs: &[TensorSpec],
        outputs: &[TensorSpec],
        device: Option<i32>,
    ) -> Result<Binding, String> {
        let memory = match device {
            Some(device) => {
                MemoryInfo::new(AllocationDevice::CUDA_PINNED, device, AllocatorType::Device, MemoryType::CPUOutput)
            }
            None => host(),
        };
        let allocator = Rc::new(Allocator::new(session, memory.map_err(words)?).map_err(words)?);
        let output = |spec: &TensorSpec| match inputs.iter().position(|input| input.name == spec.name) {
            Some(index) => Ok(Output::Given(index)),
            None => Port::new(&allocator, spec).map(Output::Made),
        };
        let outputs = outputs.iter().map(output).collect::<Result<_, String>>()?;
        let inputs = inputs.iter().map(|spec| Port::new(&allocator, spec)).collect::<Result<_, String>>()?;
        let binding = session.create_binding().map_err(words)?;
        let binding = Binding { binding, inputs, outputs, on_device: device.is_some() };
        for port in &binding.inputs {
            binding.bind_input(port)?;
        }
        for port in binding.made() {
            // SAFETY: the binding, the name and the value are live. ONNX Runtime copies the name and counts a reference to
            // the value, whose memory `Binding` frees after the binding has gone.
            let status = unsafe {
                (ort::api().BindOutput)(binding.binding.ptr().cast_mut(), port.name.as_ptr(), port.value.as_ptr())
            };
            check(status)?;
        }
        Ok(binding)
    }

    /// Outputs that a run makes.
    fn made(&self) -> impl Iterator<Item = &Port> {
        self.outputs.iter().filter_map(|output| match output {
            Output::Made(port) => Some(port),
            Output::Given(_) => None,
        })
    }

    fn bind_input(&self, port: &Port) -> Result<(), String> {
        // SAFETY: as for outputs in `new`.
        let status =
            unsafe { (ort::api().BindInput)(self.binding.ptr().cast_mut(), port.name.as_ptr(), port.value.as_ptr()) };
        check(status)
    }

    /// Runs once, on the session that this was made for. Slices have the lengths and types of the specs.
    pub fn run(
        &mut self,
        session: &mut Session,
        inputs: &[TensorRef<'_>],
        outputs: &mut [TensorMut<'_>],
    ) -> Result<(), String> {
        if self.made().next().is_some() {
            self.made_by(session, inputs)?;
        }
        for (from, output) in self.outputs.iter_mut().zip(outputs) {
            match from {
                Output::Made(port) => output.bytes_mut().copy_from_slice(port.bytes_mut()),
                Output::Given(index) => {
                    inputs.get(*index).into_iter().for_each(|input| output.bytes_mut().copy_from_slice(input.bytes()));
                }
            }
        }
        Ok(())
    }

    fn made_by(&mut self, session: &mut Session, inputs: &[TensorRef<'_>]) -> Result<(), String> {
        for (port, input) in self.inputs.iter_mut().zip(inputs) {
            port.bytes_mut().copy_from_slice(input.bytes());
        }
        if self.on_device {
            self.inputs.iter().try_for_each(|port| self.bind_input(port))?;
            self.binding.synchronize_inputs().map_err(words)?;
        }
        // SAFETY: session and binding are live, and `&mut` says that nobody else runs either. A binding of another session
        // is refused there, since names are looked up. No run options are given.
        let status = unsafe { (ort::api().RunWithBinding)(session.ptr().cast_mut(), ptr::null(), self.binding.ptr()) };
        check(status)?;
        if self.on_device {
            self.binding.synchronize_outputs().map_err(words)?;
        }
        Ok(())
    }
}

impl Port {
    fn new(allocator: &Rc<Allocator>, spec: &TensorSpec) -> Result<Port, String> {
        let name = CString::new(spec.name.as_str()).map_err(|_| format!("the name of `{}` holds a NUL", spec.name))?;
        let byte_len = spec.byte_len();
        let shape = spec.shape.iter().map(|size| i64::try_from(*size)).collect::<Result<Vec<_>, _>>().map_err(words)?;
        // Of the plain host: given pinned memory by its name, ONNX Runtime 1.31 takes it for the device's, and then copies an
        // output onto itself, which it refuses.
        let described = host().map_err(words)?;
        let memory = allocator.alloc::<u8>(byte_len.max(1)).map_err(words)?;
        let mut value = ptr::null_mut();
        // SAFETY: the memory has `byte_len` bytes, which are what type and shape ask for; whoever makes the value keeps it
        // alive for as long, as `Port` does.
        let status = unsafe {
            (ort::api().CreateTensorWithDataAsOrtValue)(
                described.ptr(),
                memory.as_ptr().cast_mut(),
                byte_len,
                shape.as_ptr(),
                shape.len(),
                element(spec.dtype).into(),
                &raw mut value,
            )
        };
        check(status)?;
        let value = NonNull::new(value).ok_or("ONNX Runtime made no tensor")?;
        let memory = NonNull::new(memory.into_raw()).ok_or("ONNX Runtime gave no memory")?;
        let port = Port { name, value, memory, byte_len, allocator: Rc::clone(allocator) };
        // It comes as it is, and the first binding copies it.
        // SAFETY: it is `byte_len` bytes of the host's memory, of which nobody else knows yet.
        unsafe { port.memory.cast::<u8>().write_bytes(0, port.byte_len) };
        Ok(port)
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: `new` had this many bytes of the host's memory, plain or pinned, and wrote all of them. The port owns them,
        // and `&mut self` borrows it; ONNX Runtime touches them only within its calls, none of which runs meanwhile.
        unsafe { slice::from_raw_parts_mut(self.memory.cast::<u8>().as_ptr(), self.byte_len) }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        // SAFETY: the value is this port's own reference, released once; the memory came from this allocator, and what else
        // refers to it, the binding, has gone before.
        unsafe {
            (ort::api().ReleaseValue)(self.value.as_ptr());
            self.allocator.free(self.memory.as_ptr());
        }
    }
}

fn host() -> ort::Result<MemoryInfo<'static>> {
    MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default)
}

fn check(status: ort::sys::OrtStatusPtr) -> Result<(), String> {
    // SAFETY: the status is what a call just returned, and it is not used after this.
    unsafe { ort::Error::result_from_status(status) }.map_err(words)
}

/// `None` for what no tensor of a session may be.
pub(super) fn dtype(element: TensorElementType) -> Option<DType> {
    Some(match element {
        TensorElementType::Float32 => DType::F32,
        TensorElementType::Float64 => DType::F64,
        TensorElementType::Float16 => DType::F16,
        TensorElementType::Int8 => DType::I8,
        TensorElementType::Uint8 => DType::U8,
        TensorElementType::Int16 => DType::I16,
        TensorElementType::Uint16 => DType::U16,
        TensorElementType::Int32 => DType::I32,
        TensorElementType::Uint32 => DType::U32,
        TensorElementType::Int64 => DType::I64,
        TensorElementType::Uint64 => DType::U64,
        TensorElementType::Bool => DType::Bool,
        _ => return None,
    })
}

pub(super) fn element(dtype: DType) -> TensorElementType {
    match dtype {
        DType::F32 => TensorElementType::Float32,
        DType::F64 => TensorElementType::Float64,
        DType::F16 => TensorElementType::Float16,
        DType::I8 => TensorElementType::Int8,
        DType::U8 => TensorElementType::Uint8,
        DType::I16 => TensorElementType::Int16,
        DType::U16 => TensorElementType::Uint16,
        DType::I32 => TensorElementType::Int32,
        DType::U32 => TensorElementType::Uint32,
        DType::I64 => TensorElementType::Int64,
        DType::U64 => TensorElementType::Uint64,
        DType::Bool => TensorElementType::Bool,
    }
}
