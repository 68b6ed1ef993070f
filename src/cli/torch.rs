//! TorchScript files: what they do not say of themselves. Without the feature `torch` no command takes one, and of
//! this file only its types are left.

use std::path::{Path, PathBuf};

use clap::Args;
#[cfg(feature = "torch")]
use tractlet::{DType, TorchDevice, TorchFile, TorchOptions};
use tractlet::{ModelFile, Session, SessionOptions, TensorSpec};

use super::ModelArgs;
use super::failure::Failure;
#[cfg(feature = "torch")]
use super::{files, samples};

/// What a command takes for a TorchScript file.
#[derive(Args)]
pub struct TorchArgs {
    /// Shape of an input, with its type where that is not float32; repeatable, in the order of forward's parameters.
    /// By default that of the samples, with a batch of 1
    #[cfg(feature = "torch")]
    #[arg(long, value_name = "1x3x32x32[:DTYPE]", value_parser = parse_shape, help_heading = HEADING)]
    shape: Vec<(DType, Vec<usize>)>,
    /// What runs it, the CPU or a CUDA device [default: cpu]
    #[cfg(feature = "torch")]
    #[arg(long, value_name = "cpu|cuda[:N]", value_parser = str::parse::<TorchDevice>, help_heading = HEADING)]
    device: Option<TorchDevice>,
}

#[cfg(feature = "torch")]
const HEADING: &str = "Where MODEL is a TorchScript file (a program: run only what you trust)";

/// Who tells the shapes of inputs, where `--shape` does not.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "torch"), expect(dead_code, reason = "only a TorchScript file needs to be told"))]
pub enum ToldBy<'a> {
    Nobody,
    File(&'a Path),
    /// The `[NAME=]X.npy` of a flag, one for each input.
    Arguments(&'a str, &'a [PathBuf]),
    Model(&'a [TensorSpec]),
}

#[cfg(not(feature = "torch"))]
impl TorchArgs {
    pub fn session(
        &self,
        model: &ModelArgs,
        file: &ModelFile,
        _: ToldBy<'_>,
        options: SessionOptions,
    ) -> Result<Session, Failure> {
        model.ready(file, &model.model, options)
    }

    #[cfg(feature = "quantize")]
    pub fn expect_unused(&self, _: &dyn std::fmt::Display) -> Result<(), Failure> {
        Ok(())
    }
}

#[cfg(feature = "torch")]
impl TorchArgs {
    /// A session on any file.
    pub fn session(
        &self,
        model: &ModelArgs,
        file: &ModelFile,
        told: ToldBy<'_>,
        options: SessionOptions,
    ) -> Result<Session, Failure> {
        if let ModelFile::Torch(_) = file {
            return model.ready(file, &model.model, options.torch(self.options(told)?));
        }
        self.expect_unused(&model.model.display())?;
        model.ready(file, &model.model, options)
    }

    /// Nothing that was asked for is passed over.
    pub fn expect_unused(&self, file: &dyn std::fmt::Display) -> Result<(), Failure> {
        let given = if self.device.is_some() { Some("--device") } else { self.shape.first().map(|_| "--shape") };
        given.map_or(Ok(()), |flag| Err(format!("{flag} is for a TorchScript file, and {file} is none").into()))
    }

    pub fn options(&self, told: ToldBy<'_>) -> Result<TorchOptions, Failure> {
        let inputs = match told {
            _ if !self.shape.is_empty() => self.shape.clone(),
            ToldBy::Nobody => vec![],
            ToldBy::File(path) => vec![samples::batch_of_one(path)?],
            ToldBy::Arguments(flag, arguments) => of_arguments(flag, arguments)?,
            ToldBy::Model(inputs) => inputs.iter().map(|spec| (spec.dtype, spec.shape.clone())).collect(),
        };
        let options = TorchOptions::default().device(self.device.unwrap_or_default());
        Ok(inputs.iter().fold(options, |options, (dtype, shape)| options.input(*dtype, shape)))
    }
}

/// Types and shapes by the files of all inputs, which go by the names that a session gives them.
#[cfg(feature = "torch")]
fn of_arguments(flag: &str, arguments: &[PathBuf]) -> Result<Vec<(DType, Vec<usize>)>, Failure> {
    let spec = |index| TensorSpec { name: format!("input_{index}"), dtype: DType::F32, shape: vec![] };
    let names: Vec<TensorSpec> = (0..arguments.len()).map(spec).collect();
    let mut assigned = files::assign(("input", flag), arguments, &names)?;
    assigned.sort_by_key(|(tensor, _)| *tensor);
    assigned.iter().map(|(_, path)| samples::batch_of_one(path)).collect()
}

/// Why a command has no use for a TorchScript file.
#[cfg(feature = "torch")]
pub fn not_taken(file: &TorchFile) -> Failure {
    let what = "this is a TorchScript file, which run, eval, bench, inspect and compare take, and no other command";
    format!("{}: {what}; write an ONNX model with torch.onnx.export", file.path().display()).into()
}

#[cfg(feature = "torch")]
fn parse_shape(text: &str) -> Result<(DType, Vec<usize>), String> {
    let (sizes, dtype) = text.split_once(':').unwrap_or((text, "float32"));
    let dtype = DTYPES.into_iter().find(|known| known.name() == dtype).ok_or_else(|| {
        format!("libtorch has no type `{dtype}`; expected one of {}", DTYPES.map(DType::name).join(", "))
    })?;
    let size = |size: &str| size.parse().ok().filter(|&size: &usize| size > 0);
    let shape: Option<Vec<usize>> = sizes.split('x').map(size).collect();
    let shape = shape.ok_or_else(|| format!("`{sizes}` is no shape; expected sizes above 0, such as 1x3x32x32"))?;
    Ok((dtype, shape))
}

/// Types that an input of a TorchScript file can have.
#[cfg(feature = "torch")]
const DTYPES: [DType; 8] =
    [DType::F32, DType::F64, DType::I8, DType::U8, DType::I16, DType::I32, DType::I64, DType::Bool];

#[cfg(all(test, feature = "torch"))]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_sizes_and_a_type() {
        assert_eq!(parse_shape("1x3x32x32"), Ok((DType::F32, vec![1, 3, 32, 32])));
        assert_eq!(parse_shape("16:int64"), Ok((DType::I64, vec![16])));
        for wrong in ["", "1x", "1x0", "1,3", "1x-3", "1x3:float16", "1x3:", ":int64"] {
            assert!(parse_shape(wrong).is_err(), "{wrong}");
        }
    }
}
