//! A plan: as a file, and behind its checksum.

use std::collections::HashSet;

use tractlet::{CompileOptions, Isa, Model, PlanFile, SessionOptions, compile};
use tractlet_core::plan::{AlignedBytes, MAGIC, Plan, VERSION};

use super::{MAX_MACS, files, infer, noise, options};
use crate::memory_file::in_file;

/// Opens a plan file and runs it.
pub fn file(bytes: &[u8]) {
    in_file(bytes, |path| {
        let Ok(plan) = PlanFile::open_with(path, &options()) else { return };
        if let Ok(mut session) = plan.session(SessionOptions::default()) {
            infer(&mut session);
        }
    });
}

/// Gives a plan this build's version and the checksum that its bytes have, verifies and runs it: what a forger would.
pub fn verifier(bytes: &[u8]) {
    let mut plan = AlignedBytes::zeroed(bytes.len());
    plan.copy_from_slice(bytes);
    if let Some(place) = plan.get_mut(MAGIC.len()..MAGIC.len() + 4) {
        place.copy_from_slice(&VERSION.to_le_bytes());
    }
    let sum = checksum(&plan);
    if let Some(place) = plan.get_mut(CHECKSUM) {
        place.copy_from_slice(&sum.to_le_bytes());
    }
    let Ok(plan) = Plan::parse(plan) else { return };
    let limits = options().limits;
    let ports = || plan.inputs().chain(plan.outputs());
    let macs = plan.ops().map(|(_, op)| op.macs()).fold(0, u64::saturating_add);
    let large = plan.arena_bytes() as u64 > limits.arena_bytes
        || ports().any(|port| port.byte_len() as u64 > limits.tensor_bytes)
        || ports().count() > 64;
    if large || macs > MAX_MACS {
        return;
    }
    let mut memory = AlignedBytes::zeroed(plan.arena_bytes());
    let inputs: Vec<_> = plan.inputs().map(|port| noise(dtype(port.dtype), port.byte_len())).collect();
    let mut outputs: Vec<_> = plan.outputs().map(|port| AlignedBytes::zeroed(port.byte_len())).collect();
    let inputs: Vec<&[u8]> = inputs.iter().map(|block| &**block).collect();
    let mut outputs: Vec<&mut [u8]> = outputs.iter_mut().map(|block| &mut **block).collect();
    let _ = plan.run(&mut memory, &inputs, &mut outputs);
}

fn dtype(dtype: tractlet_core::plan::DType) -> tractlet::DType {
    match dtype {
        tractlet_core::plan::DType::F32 => tractlet::DType::F32,
        tractlet_core::plan::DType::I8 => tractlet::DType::I8,
        tractlet_core::plan::DType::U8 => tractlet::DType::U8,
        tractlet_core::plan::DType::Bool => tractlet::DType::Bool,
        tractlet_core::plan::DType::I32 => tractlet::DType::I32,
        tractlet_core::plan::DType::I64 => tractlet::DType::I64,
    }
}

/// Plans of models of each operator, for the plainest instruction set and for this machine's: every third, and those that
/// have an op that none before had.
pub fn seeds() -> Vec<Vec<u8>> {
    let models = files("tests/golden/ops", &|name| name == "model.onnx", 2 << 10);
    let (mut ops, mut seeds) = (HashSet::new(), Vec::new());
    for (index, bytes) in models.iter().enumerate() {
        let Ok(model) = Model::from_bytes("seed", bytes) else { continue };
        let plans = [Isa::Generic, Isa::detect()].map(|isa| {
            let plan = compile(&model, &CompileOptions::default().isa(isa)).ok()?;
            Some(plan.as_bytes().to_vec()).filter(|plan| plan.len() < 8 << 10)
        });
        let mut is_new = false;
        for plan in plans.iter().flatten() {
            let mut held = AlignedBytes::zeroed(plan.len());
            held.copy_from_slice(plan);
            if let Ok(plan) = Plan::parse(held) {
                plan.ops().for_each(|(_, op)| is_new |= ops.insert(std::mem::discriminant(&op)));
            }
        }
        if is_new || index % 3 == 0 {
            seeds.extend(plans.into_iter().flatten());
        }
    }
    seeds
}

/// Where the checksum lies, and how it is computed: as in `tractlet_core::plan`, which keeps it to itself. The seeds
/// would no longer be taken if it were another.
const CHECKSUM: std::ops::Range<usize> = 16..24;

fn checksum(plan: &[u8]) -> u64 {
    let (before, from) = plan.split_at(CHECKSUM.start.min(plan.len()));
    let after = from.get(CHECKSUM.len()..).unwrap_or_default();
    let words = [before, after].into_iter().flat_map(|part| part.as_chunks::<8>().0);
    words.fold(0xcbf2_9ce4_8422_2325, |hash: u64, word| {
        let hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(0x0000_0100_0000_01b3);
        hash ^ (hash >> 32)
    })
}
