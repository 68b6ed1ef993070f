//! What the integration tests share: arrays from .npy files, and a model run over samples.
#![allow(dead_code, reason = "every test binary uses a part of it")]

pub mod onnx;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tractlet::{DType, EngineChoice, Session, TensorMut, TensorRef};

/// An .npy file: element type, shape and little-endian elements.
#[derive(Debug, Clone)]
pub struct Array {
    pub dtype: DType,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl Array {
    pub fn read(path: impl AsRef<Path>) -> Array {
        let path = path.as_ref();
        let file = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        // Version 1.0: magic, version, header length in two bytes, header, elements.
        assert_eq!(&file[..8], b"\x93NUMPY\x01\x00", "{}", path.display());
        let start = 10 + usize::from(u16::from_le_bytes([file[8], file[9]]));
        let header = std::str::from_utf8(&file[10..start]).unwrap();
        assert!(header.contains("'fortran_order': False"));
        let between = |a: &str, b: &str| header.split_once(a).unwrap().1.split_once(b).unwrap().0;
        let dtype = match between("'descr': '", "'") {
            "<f4" => DType::F32,
            "<f2" => DType::F16,
            "|i1" => DType::I8,
            "|u1" => DType::U8,
            "<i2" => DType::I16,
            "<u2" => DType::U16,
            "<i4" => DType::I32,
            "<i8" => DType::I64,
            other => panic!("{}: {other}", path.display()),
        };
        let dims = between("'shape': (", ")").split(',').map(str::trim).filter(|d| !d.is_empty());
        let shape: Vec<usize> = dims.map(|d| d.parse().unwrap()).collect();
        let bytes = file[start..].to_vec();
        assert_eq!(bytes.len(), shape.iter().product::<usize>() * dtype.size());
        Array { dtype, shape, bytes }
    }

    pub fn floats(&self) -> Vec<f32> {
        assert_eq!(self.dtype, DType::F32);
        self.bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    /// Elements of any type as f64.
    pub fn numbers(&self) -> Vec<f64> {
        let chunks = self.bytes.chunks_exact(self.dtype.size());
        let number = |b: &[u8]| match self.dtype {
            DType::F32 => f64::from(f32::from_le_bytes(b.try_into().unwrap())),
            DType::I8 => f64::from(b[0] as i8),
            DType::U8 => f64::from(b[0]),
            DType::I16 => f64::from(i16::from_le_bytes(b.try_into().unwrap())),
            DType::U16 => f64::from(u16::from_le_bytes(b.try_into().unwrap())),
            DType::I32 => f64::from(i32::from_le_bytes(b.try_into().unwrap())),
            DType::I64 => i64::from_le_bytes(b.try_into().unwrap()) as f64,
            DType::Bool => f64::from(u8::from(b[0] != 0)),
            other => panic!("{other}"),
        };
        chunks.map(number).collect()
    }
}

/// Runs a model of one input and one output over samples laid one behind the other.
pub fn run_samples(session: &mut Session, samples: &[f32]) -> Vec<f32> {
    let elements = |spec: &tractlet::TensorSpec| spec.shape.iter().product::<usize>();
    let (input, output) = (elements(&session.inputs()[0]), elements(&session.outputs()[0]));
    assert_eq!(samples.len() % input, 0);
    let mut all = Vec::new();
    for sample in samples.chunks(input) {
        let mut result = vec![0f32; output];
        session.run(&[TensorRef::from(sample)], &mut [TensorMut::from(result.as_mut_slice())]).unwrap();
        all.extend(result);
    }
    all
}

/// How far apart two values are: equal ones, infinities and NaN included, not at all, and a number and none without bound.
pub fn distance(a: f64, b: f64) -> f64 {
    if a == b || a.is_nan() && b.is_nan() {
        return 0.0;
    }
    let apart = (a - b).abs();
    if apart.is_nan() { f64::INFINITY } else { apart }
}

/// The largest distance of two lists of one length.
pub fn farthest(got: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(got.len(), expected.len());
    got.iter().zip(expected).map(|(a, b)| distance(f64::from(*a), f64::from(*b))).fold(0.0, f64::max)
}

/// The engines that this build has.
pub fn engines() -> impl Iterator<Item = EngineChoice> {
    [EngineChoice::Tract, EngineChoice::Plan].into_iter().filter(|engine| engine.is_built())
}

/// The built binary, to be run where the models are.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tractlet"));
    command.current_dir(repository()).env_remove("RUST_LOG").env_remove("TRACTLET_PLAN_CACHE").args(args);
    command
}

pub fn tractlet(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

/// A command below a limit of the shell's.
pub fn limited(limit: &str, args: &[&str]) -> Output {
    let mut shell = Command::new("sh");
    shell.current_dir(repository()).env_remove("RUST_LOG").env_remove("TRACTLET_PLAN_CACHE");
    let script = format!("ulimit {limit} && exec \"$0\" \"$@\"");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_tractlet")]).args(args).output().unwrap()
}

/// What a command that succeeds says with `--json`; it says nothing else.
pub fn json(args: &[&str]) -> serde_json::Value {
    let output = tractlet(&[args, &["--json"]].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {stderr}");
    assert_eq!(stderr, "", "{args:?} is silent");
    serde_json::from_slice(&output.stdout).unwrap()
}

pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The benchmark pack, where there is one: `TRACTLET_PACK`, which has to be there, or beside the repository. A test that is given
/// none has said so.
pub fn pack() -> Option<PathBuf> {
    let named = std::env::var_os("TRACTLET_PACK").map(PathBuf::from);
    let is_pack = |pack: &PathBuf| pack.join("models").is_dir();
    assert!(
        named.as_ref().is_none_or(is_pack),
        "TRACTLET_PACK={named:?} is no benchmark pack: it has no folder models"
    );
    let pack = named.or_else(|| Some(repository().join("../shared/pack")).filter(is_pack));
    if pack.is_none() {
        skipped("there is no benchmark pack (set TRACTLET_PACK)");
    }
    pack
}

/// Says that the test of this thread looks at nothing, past the test runner, which shows what a test prints only where it fails.
pub fn skipped(why: &str) {
    let line = format!("skipped {}: {why}\n", std::thread::current().name().unwrap_or_default());
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}
