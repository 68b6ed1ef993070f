//! From a broker to the ring: a window at a time, with the message that it came in.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Control, Counters, Feed, PATIENCE, SourceError, wait};
use crate::sensor::mqtt::Message;
use crate::sensor::source::Inbox;

impl Feed {
    /// Takes windows until the stream is stopped; those that wait then are left to the broker, unacknowledged.
    pub(super) fn take_in(&self, inbox: &mut Inbox, control: &Control, counters: &Counters) -> Result<(), SourceError> {
        let mut times = Vec::new();
        let (mut malformed, mut reconnects) = (0, 0);
        while !control.is_stopped() {
            let message = inbox.next(PATIENCE);
            Counters::add(&counters.read, inbox.malformed() - malformed);
            Counters::add(&counters.malformed, inbox.malformed() - malformed);
            Counters::add(&counters.reconnects, inbox.reconnects() - reconnects);
            (malformed, reconnects) = (inbox.malformed(), inbox.reconnects());
            if let Some(message) = message? {
                Counters::add(&counters.redelivered, u64::from(message.redelivered));
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                inbox.times(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX), &mut times);
                self.put(inbox, message, &times, control, counters);
            }
        }
        Ok(())
    }

    /// Waits for room.
    fn put(&self, inbox: &mut Inbox, message: Message, times: &[u64], control: &Control, counters: &Counters) {
        let channels = inbox.window().len() / times.len().max(1);
        let arrival_ns = self.now_ns();
        let mut done = 0;
        loop {
            let mut state = self.lock();
            let values = inbox.window().get(done * channels..).unwrap_or_default();
            let taken = state.ring.push(values, times.get(done..).unwrap_or_default(), arrival_ns);
            Counters::add(&counters.read, taken as u64);
            done += taken;
            if done == times.len() {
                state.messages.push_back(message);
                self.filled.notify_one();
                return;
            }
            drop(wait(&self.drained, state, PATIENCE));
            if control.is_stopped() {
                return;
            }
            inbox.attend();
        }
    }
}
