//! `tractlet targets`.

use clap::Args;
use serde::Serialize;

use super::board::{Board, boards};
use super::failure::Failure;
use super::output;

/// Show the boards that there are builds for
///
/// The budget is what a process should have resident at most, of the smallest such board's memory: one
/// sixteenth of it. `tractlet footprint --budget BOARD` holds a model against it. CPU features are what a core
/// has beyond the base of its platform; a binary finds them when it starts.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct TargetsArgs {
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  tractlet targets
  tractlet targets --json |
    jq '.boards[] | select(.board == \"pi4\").budget_bytes'

JSON: boards[].{board, name, triple, soc, core, cores, features, ram_bytes, budget_bytes, libc, qemu_cpu}.";

#[derive(Serialize)]
struct Report {
    boards: Vec<Board>,
}

pub fn targets(args: &TargetsArgs) -> Result<(), Failure> {
    let report = Report { boards: boards()? };
    if args.json { output::json(&report) } else { output::text(&report.text()) }
}

impl Report {
    fn text(&self) -> String {
        let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
        let row = |board: &Board| {
            vec![
                board.board.to_owned(),
                board.name.clone(),
                board.triple.clone(),
                format!("{} x {}", board.cores, board.core),
                board.features.join(" "),
                mib(board.ram_bytes),
                mib(board.budget_bytes),
            ]
        };
        output::table(&["board", "is", "triple", "cores", "features", "RAM", "budget"], 5, self.boards.iter().map(row))
    }
}
