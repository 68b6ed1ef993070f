//! MQTT 5: windows from a broker, one a message, and decisions to one.
//!
//! The protocol is mqtt-protocol-core's, which does no input or output; [`link`] gives it a socket. A window's message is
//! acknowledged once everything that was to take its decision has it ([`receipt`]): a process that is killed leaves
//! no window behind that its broker would not give out again.

mod address;
#[cfg(feature = "mqtt")]
mod link;
#[cfg(feature = "mqtt")]
mod outbox;
mod receipt;
#[cfg(feature = "mqtt")]
mod waker;

pub use address::MqttAddress;
#[cfg(feature = "mqtt")]
pub use link::{Greeting, Link, Will, is_refusal};
#[cfg(feature = "mqtt")]
pub use outbox::Outbox;
pub use receipt::{Message, RECEIVE_MAXIMUM, Receipt};
#[cfg(feature = "mqtt")]
pub use waker::Waker;

/// What a build without the feature says to `mqtt://`.
#[cfg(not(feature = "mqtt"))]
pub const NOT_BUILT: &str = "this build has no MQTT; build it with --features mqtt";
