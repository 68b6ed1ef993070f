//! Fuzzing of all that tractlet reads from outside.
//!
//! [`TARGETS`] are functions of bytes. What they take an input to be is in [`targets`]; that none of them panics,
//! claims memory or takes long is for who calls: the driver (`main.rs`), or libFuzzer (`fuzz_targets/`). The driver
//! changes inputs as [`mutate`] says and keeps what reaches new code, where it was built with [`coverage`].

pub mod artifact;
pub mod corpus;
#[allow(unsafe_code, reason = "the compiler's instrumentation hands over addresses")]
pub mod coverage;
pub mod driver;
pub mod memory_file;
pub mod mutate;
pub mod rng;
pub mod targets;

pub use targets::{TARGETS, Target};
