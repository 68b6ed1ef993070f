//! The no_std executor and int8 kernels of tractlet.
//!
//! From the bottom up:
//!
//! - [`shape`]: windows and quantization parameters, shared by everything above
//! - [`isa`]: instruction sets, and the one place that picks among them
//! - [`kernels`]: each a function over slices
//! - [`plan`]: the bytes that state which kernels run on what, their verifier and their builder
//! - [`exec`]: the loop that runs a verified plan in memory that the caller gives
//!
//! Nothing here allocates, but for the builder of plans behind the feature `alloc`.
//!
#![cfg_attr(feature = "alloc", doc = "```")]
#![cfg_attr(not(feature = "alloc"), doc = "```ignore")]
//! use tractlet_core::isa::Isa;
//! use tractlet_core::plan::{AlignedBytes, ArenaSpan, DType, PlanBuilder, Unary, UnaryF32};
//!
//! let x = ArenaSpan { offset: 0, len: 16 };
//! let relu = UnaryF32 { input: x, output: x, function: Unary::Clamp, alpha: 0.0, beta: f32::INFINITY };
//! let mut builder = PlanBuilder::new(Isa::detect());
//! builder.input("x", DType::F32, &[1, 4], x)?.op("relu", relu).output("y", DType::F32, &[1, 4], x)?;
//! let plan = builder.finish()?; // or `Plan::parse` of the bytes of a .plan file
//!
//! let mut memory = AlignedBytes::zeroed(plan.memory_bytes());
//! let input = plan.input_mut(&mut memory, 0).expect("the plan has an input");
//! input.copy_from_slice(bytemuck::cast_slice(&[-1f32, 0.5, -2.0, 3.0]));
//! plan.run(&mut memory)?;
//! let output = plan.output(&memory, 0).expect("the plan has an output");
//! assert_eq!(bytemuck::cast_slice::<u8, f32>(output), [0.0, 0.5, 0.0, 3.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]
#![deny(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

pub mod exec;
pub mod isa;
// Vector instructions; each block says why it is sound.
#[allow(unsafe_code)]
pub mod kernels;
pub mod plan;
pub mod shape;

#[cfg(target_endian = "big")]
compile_error!("plans are little-endian and run in place");
