//! What every program around [the executor](https://docs.rs/tractlet-core) needs of files, without std: their
//! bytes, held so that they cannot change ([`HeldFile`]), the headers of .npy files ([`npy`]) and the directories of .npz
//! archives of them ([`npz`]), files that have no name until they are complete ([`unnamed`]), sizes as people write them
//! ([`size`]), and which tensor a file is for ([`assigned`]); and [`Noise`] to measure with. The library `tractlet` and
//! the small program that runs plans alone share it.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![no_std]

extern crate alloc;
#[cfg(any(test, feature = "std"))]
extern crate std;

mod assign;
mod held;
mod mapping;
mod noise;
pub mod npy;
pub mod npz;
mod size;
mod unnamed;

pub use assign::{Assigned, assigned};
pub use held::{HeldFile, HoldError, MapMode};
pub use noise::Noise;
pub use size::size;
pub use unnamed::{give_name, unnamed};
