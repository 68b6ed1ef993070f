//! The no_std executor and int8 kernels of tractlet.
//!
//! From the bottom up:
//!
//! - [`shape`]: windows and quantization parameters, shared by everything above
//! - [`isa`]: instruction sets, and the one place that picks among them
//! - [`kernels`]: each a function over slices
//! - `ops`: what a plan is made of, one file a family; public as part of [`plan`]
//! - [`plan`]: the bytes that state which kernels run on what, their verifier and their builder
//! - [`exec`]: the loop that runs a verified plan on slices that the caller gives
//!
//! And beside them, for what comes from a sensor:
//!
//! - [`ring`]: frames on their way to windows, in memory that the caller gives
//! - [`signal`]: from a window to what a model takes: spectra, mel bands, cepstra, statistics
//!
//! On a Cortex-M with the DSP extension the feature `dsp` lets int8 layers multiply two bytes at once.
//!
//! Nothing here allocates, but for the builder of plans behind the feature `alloc`.
//!
#![cfg_attr(feature = "alloc", doc = "```")]
#![cfg_attr(not(feature = "alloc"), doc = "```ignore")]
//! use tractlet_core::isa::Isa;
//! use tractlet_core::plan::{AlignedBytes, DType, Operand, PlanBuilder, Unary, UnaryF32};
//!
//! let (x, y) = (Operand::input(0, 16), Operand::output(0, 16));
//! let relu = UnaryF32 { input: x, output: y, function: Unary::Clamp, alpha: 0.0, beta: f32::INFINITY };
//! let mut builder = PlanBuilder::new(Isa::detect());
//! builder.input("x", DType::F32, &[1, 4])?.op("relu", relu).output("y", DType::F32, &[1, 4])?;
//! let plan = builder.finish()?; // or `Plan::parse` of the bytes of a .plan file
//!
//! let mut memory = AlignedBytes::zeroed(plan.arena_bytes());
//! let mut y = [0f32; 4];
//! let x = bytemuck::cast_slice::<f32, u8>(&[-1.0, 0.5, -2.0, 3.0]);
//! plan.run(&mut memory, &[x], &mut [bytemuck::cast_slice_mut::<f32, u8>(&mut y)])?;
//! assert_eq!(y, [0.0, 0.5, 0.0, 3.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

pub mod exec;
pub mod isa;
// Vector instructions; each block says why it is sound.
#[allow(unsafe_code)]
pub mod kernels;
mod ops;
pub mod plan;
pub mod ring;
pub mod shape;
pub mod signal;

#[cfg(target_endian = "big")]
compile_error!("plans are little-endian and run in place");
