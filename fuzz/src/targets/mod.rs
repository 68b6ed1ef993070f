//! What is fuzzed: one file a kind of input. A target returns for every input; what it finds is up to it.

mod message;
mod npy;
mod npz;
mod onnx;
mod plan;
mod quantizer;
mod recipe;
mod source;

use tractlet::{DType, Limits, OpenOptions, Session, TensorMut, TensorRef};
use tractlet_core::plan::AlignedBytes;

use crate::mutate::Form;

/// Something that reads bytes from outside.
pub struct Target {
    /// Its name on the command line, and that of its folder in `corpus/`.
    pub name: &'static str,
    /// Takes an input. Must not panic, whatever it is.
    pub run: fn(&[u8]),
    /// What inputs look like, so that changes get past the first check.
    pub form: Form,
    /// Inputs to begin with, beyond the corpus.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 9] = [
    Target { name: "onnx", run: onnx::run, form: Form::Onnx, seeds: onnx::seeds },
    Target { name: "planfile", run: plan::file, form: Form::Words, seeds: plan::seeds },
    Target { name: "plan", run: plan::verifier, form: Form::Words, seeds: plan::seeds },
    Target { name: "npy", run: npy::run, form: Form::Text, seeds: npy::seeds },
    Target { name: "npz", run: npz::run, form: Form::Words, seeds: npz::seeds },
    Target { name: "recipe", run: recipe::run, form: Form::Text, seeds: recipe::seeds },
    Target { name: "source", run: source::run, form: Form::Text, seeds: source::seeds },
    Target { name: "message", run: message::run, form: Form::Text, seeds: message::seeds },
    Target { name: "quantizer", run: quantizer::run, form: Form::Onnx, seeds: quantizer::seeds },
];

impl Target {
    /// The target of this name.
    pub fn named(name: &str) -> Option<&'static Target> {
        TARGETS.iter().find(|target| target.name == name)
    }
}

/// Whether an input is taken the long way, by a target that has a short one too: one of eight is, and is so again.
fn goes_all_the_way(bytes: &[u8]) -> bool {
    bytes.len().is_multiple_of(8)
}

/// Bounds low enough that what stays within them is refused or done at once.
fn options() -> OpenOptions {
    let limits = Limits { tensor_bytes: 1 << 20, folded_bytes: 1 << 20, arena_bytes: 4 << 20, ..Limits::default() };
    OpenOptions { limits, ..OpenOptions::default() }
}

/// Multiplications that an input may ask for: a legal model may take long, which is no finding.
const MAX_MACS: u64 = 50_000_000;

/// Runs once on numbers of all magnitudes.
fn infer(session: &mut Session) {
    if session.steps().iter().map(|step| step.macs).fold(0, u64::saturating_add) > MAX_MACS {
        return;
    }
    let (given, taken) = (session.inputs().to_vec(), session.outputs().to_vec());
    let inputs: Vec<AlignedBytes> = given.iter().map(|spec| noise(spec.dtype, spec.byte_len())).collect();
    let mut outputs: Vec<AlignedBytes> = taken.iter().map(|spec| AlignedBytes::zeroed(spec.byte_len())).collect();
    let inputs: Vec<_> =
        given.iter().zip(&inputs).map(|(spec, bytes)| TensorRef::from_bytes(spec.dtype, bytes)).collect();
    let mut outputs: Vec<_> =
        taken.iter().zip(&mut outputs).map(|(spec, bytes)| TensorMut::from_bytes(spec.dtype, bytes)).collect();
    // An error of a run is an answer.
    let _ = session.run(&inputs, &mut outputs);
}

/// Elements that are neither all the same nor all reasonable.
fn noise(dtype: DType, bytes: usize) -> AlignedBytes {
    const ODD: [f32; 8] = [0.0, -1.5, 1e30, 0.7, f32::INFINITY, -3e-39, 200.0, f32::MIN];
    let mut block = AlignedBytes::zeroed(bytes);
    match dtype {
        DType::F32 => {
            let odd = ODD.iter().cycle();
            block.as_chunks_mut::<4>().0.iter_mut().zip(odd).for_each(|(place, odd)| *place = odd.to_le_bytes());
        }
        _ => block.iter_mut().enumerate().for_each(|(index, byte)| *byte = (index * 37) as u8),
    }
    block
}

/// Files below the repository with one of these extensions, up to so many bytes, in the order of their names.
fn files(folder: &str, wanted: &dyn Fn(&str) -> bool, most: u64) -> Vec<Vec<u8>> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../");
    let mut found = Vec::new();
    let mut folders = vec![std::path::PathBuf::from(root).join(folder)];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if wanted(&name) && path.metadata().is_ok_and(|meta| meta.len() <= most) {
                found.push(path);
            }
        }
    }
    found.sort();
    found.iter().filter_map(|path| std::fs::read(path).ok()).collect()
}
