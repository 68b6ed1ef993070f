//! What a TorchScript file does not say of itself.

use std::fmt;
use std::str::FromStr;

use crate::model::DType;

/// How to run a TorchScript file: on what, and what `forward` is called with.
///
/// ```
/// use tractlet::{DType, TorchDevice, TorchOptions};
/// let options = TorchOptions::default()
///     .device(TorchDevice::Cuda(0))
///     .input(DType::F32, &[1, 3, 32, 32])
///     .input(DType::I64, &[1, 16]);
/// ```
#[derive(Clone, Debug)]
pub struct TorchOptions {
    pub(crate) device: TorchDevice,
    pub(crate) inputs: Vec<(DType, Vec<usize>)>,
    pub(crate) threads: usize,
}

impl Default for TorchOptions {
    /// On the CPU and one thread, without an input.
    fn default() -> TorchOptions {
        TorchOptions { device: TorchDevice::Cpu, inputs: Vec::new(), threads: 1 }
    }
}

impl TorchOptions {
    /// Runs it there.
    pub fn device(mut self, device: TorchDevice) -> TorchOptions {
        self.device = device;
        self
    }

    /// The next argument of `forward`: a tensor of this type and shape.
    pub fn input(mut self, dtype: DType, shape: &[usize]) -> TorchOptions {
        self.inputs.push((dtype, shape.to_vec()));
        self
    }

    /// Threads that one inference on the CPU may use; 0 counts as 1.
    pub fn threads(mut self, threads: usize) -> TorchOptions {
        self.threads = threads.max(1);
        self
    }
}

/// Where libtorch runs a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TorchDevice {
    /// On the CPU.
    #[default]
    Cpu,
    /// On the CUDA device of this number.
    Cuda(usize),
}

impl fmt::Display for TorchDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TorchDevice::Cpu => f.write_str("cpu"),
            TorchDevice::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for TorchDevice {
    type Err = String;

    fn from_str(text: &str) -> Result<TorchDevice, String> {
        // libtorch counts devices in eight bits.
        let cuda = |index: &str| index.parse::<u8>().ok().map(|index| TorchDevice::Cuda(index.into()));
        match text.split_once(':') {
            None if text == "cpu" => Some(TorchDevice::Cpu),
            None if text == "cuda" => Some(TorchDevice::Cuda(0)),
            Some(("cuda", index)) => cuda(index),
            _ => None,
        }
        .ok_or_else(|| format!("there is no device `{text}`; expected cpu, cuda, or cuda:N with a number"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_they_are_written() {
        for (text, device) in
            [("cpu", TorchDevice::Cpu), ("cuda:0", TorchDevice::Cuda(0)), ("cuda:3", TorchDevice::Cuda(3))]
        {
            assert_eq!((text.parse(), device.to_string().as_str()), (Ok(device), text));
        }
        assert_eq!("cuda".parse(), Ok(TorchDevice::Cuda(0)));
        for wrong in ["", "cpu:0", "cuda:", "cuda:-1", "cuda:256", "gpu"] {
            assert!(wrong.parse::<TorchDevice>().is_err(), "{wrong}");
        }
    }
}
