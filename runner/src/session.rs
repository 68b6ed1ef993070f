//! A plan with its arena, its inputs and its outputs.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::CStr;

use tractlet_core::exec::Hook;
use tractlet_core::isa::Isa;
use tractlet_core::plan::{AlignedBytes, DType, Plan, PlanError, Port};
use tractlet_io::{HeldFile, MapMode, Noise};

use crate::failure::Failure;
use crate::os;

/// Most of an arena, and of an input or output: `tractlet`'s own limits.
const MOST_ARENA_BYTES: usize = 512 << 20;
const MOST_TENSOR_BYTES: usize = 256 << 20;
/// Most inputs and outputs; together they have no more bytes than an arena.
const MOST_PORTS: usize = 1 << 16;
/// `tractlet`'s limit on a file.
const MOST_FILE_BYTES: u64 = 2 << 30;

pub struct Session {
    plan: Plan<HeldFile>,
    memory: AlignedBytes,
    pub inputs: Vec<AlignedBytes>,
    pub outputs: Vec<AlignedBytes>,
}

impl Session {
    /// A session on a verified plan.
    pub fn open(path: &CStr) -> Result<Session, Failure> {
        let plan = read(path)?;
        let room = |port: Port<'_>| AlignedBytes::zeroed(port.byte_len());
        let (inputs, outputs) = (plan.inputs().map(room).collect(), plan.outputs().map(room).collect());
        Ok(Session { memory: AlignedBytes::zeroed(plan.arena_bytes()), inputs, outputs, plan })
    }

    /// A session on a plan that takes whole windows.
    pub fn open_whole(path: &CStr) -> Result<Session, Failure> {
        let session = Session::open(path)?;
        match session.plan.hop() {
            None => Ok(session),
            Some(hop) => Err(Failure::Work(format!(
                "{}: the plan takes {} new rows of a window's {} at each run, which bench and footprint know of alone; compile it \
                 without --hop",
                os::shown(path),
                hop.rows,
                hop.window_rows
            ))),
        }
    }

    pub fn plan(&self) -> &Plan<HeldFile> {
        &self.plan
    }

    /// Runs on what the inputs hold.
    pub fn run(&mut self, hook: &mut impl Hook) -> Result<(), Failure> {
        let run = self.plan.run_with(&mut self.memory, &self.inputs, &mut self.outputs, hook);
        run.map_err(|error| Failure::Work(format!("the plan failed: {error}")))
    }

    /// Refuses NaN in an input that the plan quantizes, with the input's index: it has no integer.
    pub fn check_inputs(&self) -> Result<(), (usize, String)> {
        for (index, port) in self.plan.inputs().enumerate().filter(|(_, port)| port.dtype == DType::F32) {
            let values = self.inputs.get(index).map_or(&[][..], |bytes| bytes.as_chunks::<4>().0);
            let nan = values.iter().position(|value| f32::from_le_bytes(*value).is_nan());
            if let Some(at) = nan.filter(|_| self.plan.quantizes(index)) {
                let what = "the model quantizes this input, and NaN has no integer";
                return Err((index, format!("input `{}` holds NaN at element {at}; {what}", port.name)));
            }
        }
        Ok(())
    }

    /// Fills the inputs with pseudo-random values, as `tractlet bench` does.
    pub fn fill(&mut self) {
        let mut noise = Noise::default();
        for (port, bytes) in self.plan.inputs().zip(&mut self.inputs) {
            match port.dtype {
                DType::F32 => {
                    bytes.as_chunks_mut().0.iter_mut().for_each(|b| *b = (noise.unit() as f32).to_le_bytes());
                }
                DType::I8 | DType::U8 => bytes.iter_mut().for_each(|byte| *byte = noise.number() as u8),
                // Mostly indices, of which 0 is always good.
                DType::Bool | DType::I32 | DType::I64 => bytes.fill(0),
            }
        }
    }
}

fn read(path: &CStr) -> Result<Plan<HeldFile>, String> {
    let refused = |what: String| format!("{}: {what}", os::shown(path));
    let anew = || format!("make it anew: tractlet compile MODEL.onnx -o {}", os::shown(path));
    let (file, len) = os::open(path)?;
    if len > MOST_FILE_BYTES {
        return Err(refused(format!("{len} bytes are above the limit of {MOST_FILE_BYTES}")));
    }
    let bytes = HeldFile::new(file, len, MapMode::Auto);
    let bytes = bytes.map_err(|error| refused(format!("cannot read the file: {}", os::held(error))))?;
    let plan = Plan::parse(bytes).map_err(|error| match error {
        PlanError::NotAPlan => {
            let path = os::shown(path);
            refused(format!(
                "not a plan, which is all that this program runs; make one: tractlet compile {path} -o X.plan"
            ))
        }
        PlanError::Isa(name) => {
            let here: Vec<&str> = Isa::ALL.iter().filter(|isa| isa.is_available()).map(|isa| isa.name()).collect();
            let here = here.join(", ");
            // It may be a board's: what is to run here does not take its place.
            let beside =
                "compile one for this CPU under another name: tractlet compile MODEL.onnx -o OTHER.plan --isa NAME";
            let found = format!("plan is for the instruction set {name}, this CPU has {here}");
            refused(format!("{found}; run it on a CPU with {name}, or {beside}"))
        }
        PlanError::Version { .. } | PlanError::Checksum => refused(format!("{error}; {}", anew())),
        error => refused(format!("plan is damaged: {error}; {}", anew())),
    })?;
    let arena_bytes = plan.arena_bytes();
    if arena_bytes > MOST_ARENA_BYTES {
        return Err(refused(format!(
            "the plan's arena of {arena_bytes} bytes is above the limit of {MOST_ARENA_BYTES}"
        )));
    }
    if let Some(port) = plan.inputs().chain(plan.outputs()).find(|port| port.byte_len() > MOST_TENSOR_BYTES) {
        let (name, bytes) = (port.name, port.byte_len());
        return Err(refused(format!("tensor `{name}` of {bytes} bytes is above the limit of {MOST_TENSOR_BYTES}")));
    }
    let count = plan.inputs().count() + plan.outputs().count();
    if count > MOST_PORTS {
        return Err(refused(format!("{count} inputs and outputs are above the limit of {MOST_PORTS}")));
    }
    let all = plan.inputs().chain(plan.outputs()).try_fold(0usize, |all, port| all.checked_add(port.byte_len()));
    if all.is_none_or(|all| all > MOST_ARENA_BYTES) {
        return Err(refused(format!("inputs and outputs together are above the limit of {MOST_ARENA_BYTES} bytes")));
    }
    Ok(plan)
}
