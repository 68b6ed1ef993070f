//! From a sensor to decisions: sources, windows, front ends, decisions, sinks.
//!
//! ```text
//! source ── reader thread ──▶ ring ──▶ window ──▶ front end ──▶ session ──▶ decision ──▶ sinks
//!  bytes    decode, scale    bounded            what model.toml states
//! ```
//!
//! A [`Recipe`] is a parsed `model.toml`. A [`Source`] gives frames from a file, standard input, a serial
//! port, a socket, the kernel's Industrial I/O or a broker. A [`Stream`] reads it on a thread of its own, cuts windows,
//! runs the model on them and hands decisions to its [`Sink`]s. After the first windows nothing is allocated but the
//! messages from and to brokers, and [`Summary`] accounts for every frame.
//!
//! ```
//! use tractlet::sensor::{Control, Recipe, Source, SourceOptions, Stream, StreamOptions};
//! use tractlet::{Model, Session, SessionOptions};
//!
//! let recipe = Recipe::open("models/kws_dscnn")?;
//! let source = Source::open(&"models/kws_dscnn/words.wav".parse()?, SourceOptions::default(), &recipe.input)?;
//! let session = Session::new(&Model::open(&recipe.model)?, SessionOptions::default())?;
//! let stream = Stream::new(&recipe, session, StreamOptions::default())?;
//! let summary = stream.run(source, &mut [], &Control::default())?;
//! assert!(summary.windows > 0 && summary.adds_up());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod counters;
mod decide;
mod feed;
mod fixed;
mod frontend;
mod hops;
mod metrics;
mod mqtt;
mod notify;
mod recipe;
mod resample;
mod sink;
mod source;
mod stream;
mod unit;
mod writer;

pub use counters::{Counter, Counters, Kind, Summary};
pub use decide::{ClassScore, Decision, Top, Verdict};
pub use metrics::Metrics;
pub use mqtt::{Message, MqttAddress, Receipt};
pub use notify::Notifier;
pub use recipe::{
    AnomalyRule, Arithmetic, Channel, ClassRule, DecisionRule, Emit, FrontendKind, Input, Layout, Limit, Normalization,
    Recipe, RecipeError,
};
pub use sink::{Sink, SinkOptions, SinkSpec};
#[cfg(feature = "mqtt")]
pub use source::Payload;
pub use source::{
    Column, Format, Malformed, Pace, Reason, SampleType, Source, SourceError, SourceOptions, SourceSpec, TimeColumn,
};
pub use stream::{Control, OnProgress, Reload, Stream, StreamError, StreamOptions};
pub use tractlet_core::ring::Overflow;
pub use unit::{Line, Unit};
