//! `tractlet compile`.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use tractlet::{CompileOptions, Isa, ModelFile};

use super::board::{Board, named};
use super::failure::Failure;
use super::set::SetArgs;
use super::{HopArgs, files, output, parse_dim, size};

/// Make the plan of a model ahead of time, for this machine or for a board
///
/// A plan has the weights as the kernels of one instruction set read them and the arena laid out. The other
/// commands take it in the place of the model and start at once: it is checked and run where it lies. The
/// model stays the original: a plan can be made anew from it at any time, and has to be for another
/// instruction set or another version of the plan format.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct CompileArgs {
    /// The model, an .onnx file
    model: PathBuf,
    /// The plan to write; whole or not at all
    #[arg(short, long, value_name = "OUT.plan")]
    output: PathBuf,
    /// Instruction set to pack weights for [default: the best that this machine has]
    #[arg(long, value_name = "NAME", value_parser = str::parse::<Isa>)]
    isa: Option<Isa>,
    /// Pack for a board of `tractlet targets`: its best instruction set
    #[arg(long, value_name = "BOARD", conflicts_with = "isa", value_parser = board)]
    board: Option<Isa>,
    /// Size of a dimension that the model leaves open, by its name or, without one, as INPUT:AXIS; repeatable. An open batch is 1
    #[arg(long, value_name = "NAME=SIZE", value_parser = parse_dim)]
    dim: Vec<(String, usize)>,
    #[command(flatten)]
    set: SetArgs,
    #[command(flatten)]
    hop: HopArgs,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  tractlet compile model.onnx -o model.plan
  tractlet compile model.onnx -o model.plan --board pi4
  tractlet compile model.onnx -o hops.plan --hop 16
  tractlet compile vad.onnx -o vad.plan --set sr=16000 --dim input:1=576
  tractlet run model.plan --input x.npy
  tractlet run model.plan --from model.onnx --input x.npy

Instruction sets: generic (any CPU), avx2, avxvnni, avx512vnni (x86-64), neon32 (armv7), neon, neondotprod, neoni8mm \
(aarch64). A plan for neon runs on every aarch64; one for neon32 on armv7 with NEON, which nearly all have.

JSON: output, model, model_sha256, isa, file_bytes, weights_bytes, arena_bytes, scratch_bytes, state_bytes, io_bytes, \
total_bytes, arena_lower_bound_bytes; bytes as in `footprint`. model_sha256 is of the model and what it reads of other \
files.";

/// The instruction set of a board's core: what its platform has, and what its file says beyond that.
fn board(name: &str) -> Result<Isa, String> {
    let board = named(name).map_err(|names| format!("there is no such board; there are: {names}"))?;
    Ok(isa_of(&board))
}

fn isa_of(board: &Board) -> Isa {
    let has = |feature: &str| board.features.iter().any(|has| has == feature);
    match board.triple.split('-').next() {
        Some("aarch64") if has("dotprod") => Isa::NeonDotprod,
        Some("aarch64") => Isa::Neon,
        Some("armv7") if has("neon") => Isa::Neon32,
        _ => Isa::Generic,
    }
}

#[derive(Serialize)]
struct Report<'a> {
    #[serde(serialize_with = "output::path_text")]
    output: &'a Path,
    #[serde(serialize_with = "output::path_text")]
    model: &'a Path,
    model_sha256: String,
    isa: &'static str,
    file_bytes: usize,
    #[serde(flatten)]
    memory: tractlet::MemoryPlan,
}

pub fn compile(args: &CompileArgs) -> Result<(), Failure> {
    let model = match ModelFile::open(&args.model, &args.set.options()?)? {
        ModelFile::Model(model) => model,
        ModelFile::Plan(plan) => {
            let name = plan.model_name();
            return Err(format!("{}: it is a plan already; name the model, {name}", args.model.display()).into());
        }
        #[cfg(feature = "torch")]
        ModelFile::Torch(file) => return Err(super::torch::not_taken(&file)),
    };
    let options = CompileOptions::default();
    let options = args.isa.or(args.board).map_or(options.clone(), |isa| options.isa(isa));
    let options = args.dim.iter().fold(options, |options, (name, size)| options.bind(name, *size));
    let options = args.hop.rows().map_or(options.clone(), |rows| options.hop(rows));
    let external: Vec<PathBuf> = model.external_paths().collect();
    let read = external.iter().chain([&args.model]).map(PathBuf::as_path).chain(args.set.files());
    files::expect_apart(&args.output, "the plan", read)?;
    let plan = tractlet::compile(&model, &options)?;
    plan.write(&args.output)?;
    let report = Report {
        output: &args.output,
        model: &args.model,
        model_sha256: plan.model_digest(),
        isa: plan.isa().name(),
        file_bytes: plan.as_bytes().len(),
        memory: plan.memory(),
    };
    if args.json { output::json(&report) } else { output::text(&report.text()) }
}

impl Report<'_> {
    fn text(&self) -> String {
        let Report { output, isa, memory, .. } = self;
        let human = |bytes: usize| size::human(bytes as u64);
        let kept = match memory.state_bytes {
            0 => String::new(),
            bytes => format!(", kept from hop to hop {}", human(bytes)),
        };
        format!(
            "wrote {}: {} for {isa}\narena {}, of which scratch {}{kept}; with inputs and outputs {} in all\n",
            output.display(),
            human(self.file_bytes),
            human(memory.arena_bytes + memory.scratch_bytes),
            human(memory.scratch_bytes),
            human(memory.total_bytes),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_has_the_instruction_set_of_its_core() {
        let isa = |name| board(name).unwrap();
        assert_eq!([isa("pi3"), isa("pi4"), isa("jetson-nano")], [Isa::Neon; 3]);
        assert_eq!([isa("pi5"), isa("jetson-orin")], [Isa::NeonDotprod; 2]);
        assert_eq!([isa("armv7"), isa("pi-zero")], [Isa::Neon32, Isa::Generic]);
        assert!(board("pi6").unwrap_err().contains("there are: pi-zero-2w, pi3, pi4"));
    }
}
