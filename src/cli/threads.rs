//! `--threads`.

use std::num::NonZeroUsize;

use clap::Args;
use tractlet::EngineName;

use super::failure::Failure;

/// How many threads share an inference.
#[derive(Args)]
pub struct ThreadArgs {
    /// Threads of one inference, best no more than there are cores: at most 16 on the engine `plan`, 1 on `tract`
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: u32,
}

impl ThreadArgs {
    pub fn count(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.threads as usize).unwrap_or(NonZeroUsize::MIN)
    }

    /// Refuses more than the engine takes.
    pub fn expect_used(&self, engine: EngineName) -> Result<(), Failure> {
        if self.threads == 1 || engine != EngineName::Tract {
            return Ok(());
        }
        let what = format!("--threads {}: the {engine} engine runs an inference on one thread", self.threads);
        Err(format!("{what}; leave the option out").into())
    }
}
