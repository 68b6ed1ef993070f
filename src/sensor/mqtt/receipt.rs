//! Who sent a window, and when that is told that it was answered.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use serde::Serialize;

/// Messages that a broker gives out before the first of them is acknowledged; it keeps the others.
pub const RECEIVE_MAXIMUM: u16 = 32;

/// The message that a window came in.
#[derive(Clone, Debug, Serialize)]
pub struct Message {
    /// Where it was published.
    pub topic: String,
    /// What its sender calls it: the message's correlation data, or the `id` in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The broker's hint that it was given out before; the id alone tells whether its decision is the second.
    pub redelivered: bool,
    /// For whoever takes the decision; none where the broker wants no acknowledgement, as with QoS 0.
    #[serde(skip)]
    pub receipt: Option<Receipt>,
}

/// A share in the acknowledgement of a message. It is sent when all shares are gone and each was confirmed; one
/// that is dropped without that leaves the message to be given out again.
#[derive(Clone)]
pub struct Receipt {
    /// Shared by all; what sends the acknowledgement is the last to go.
    ticket: Arc<Ticket>,
    confirmed: bool,
}

struct Ticket {
    forfeit: AtomicBool,
    acknowledge: Box<dyn Fn() + Send + Sync>,
}

impl Receipt {
    /// The only share so far; `acknowledge` is called once at most.
    pub fn new(acknowledge: impl Fn() + Send + Sync + 'static) -> Receipt {
        let ticket = Ticket { forfeit: AtomicBool::new(false), acknowledge: Box::new(acknowledge) };
        Receipt { ticket: Arc::new(ticket), confirmed: false }
    }

    /// The decision is where it was to go.
    pub fn confirm(mut self) {
        self.confirmed = true;
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if !self.confirmed {
            self.ticket.forfeit.store(true, Relaxed);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !*self.forfeit.get_mut() {
            (self.acknowledge)();
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt").field("confirmed", &self.confirmed).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_acknowledged_once_all_confirmed_and_never_else() {
        let sent = Arc::new(AtomicBool::new(false));
        let receipt = || {
            let sent = Arc::clone(&sent);
            Receipt::new(move || assert!(!sent.swap(true, Relaxed), "twice"))
        };
        let (first, second) = (receipt(), receipt());
        let share = first.clone();
        first.confirm();
        assert!(!sent.load(Relaxed));
        share.confirm();
        assert!(sent.swap(false, Relaxed));
        drop(second.clone());
        second.confirm();
        assert!(!sent.load(Relaxed), "a share was lost");
    }
}
