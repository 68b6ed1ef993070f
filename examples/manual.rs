//! `cargo run --no-default-features --features manual --example manual -- FOLDER`: writes the manual pages of
//! `tractlet` and its completions for bash, zsh and fish there.
//!
//! Not a hidden command of `tractlet` itself: a board's binary should not carry what is used once.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use clap::CommandFactory;
use clap_complete::Shell;

/// What `--help` shows is all that the pages say, so they are made of the same definitions.
#[allow(dead_code, reason = "the definitions are used, and no command is run")]
#[path = "../src/cli/mod.rs"]
mod cli;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1);
    let (Some(folder), None) = (arguments.next().map(PathBuf::from), arguments.next()) else {
        return Err("usage: manual FOLDER".into());
    };
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    // `tractlet help run` is `tractlet run --help`: no page of its own.
    let command = cli::Cli::command().disable_help_subcommand(true);
    clap_mangen::generate_to(command.clone(), &folder)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command.clone(), "tractlet", &folder)?;
    }
    Ok(())
}
