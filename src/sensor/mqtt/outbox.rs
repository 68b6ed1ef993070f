//! Decisions on their way to a broker: kept until it has acknowledged them, up to a bound.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mqtt_protocol_core::mqtt::packet::Packet;
use serde::Serialize;

use super::{Greeting, Link, MqttAddress, Receipt, Waker, Will};
use crate::sensor::counters::Summary;
use crate::sensor::decide::Decision;
use crate::sensor::sink::Sink;

/// How long anybody waits before looking around.
const PATIENCE: Duration = Duration::from_millis(200);
/// A broker that went away is tried again after this.
const RETRY: Duration = Duration::from_secs(1);
/// How long the broker may take at the end for what waits.
const GRACE: Duration = Duration::from_secs(5);
/// Decisions on the wire at once.
const IN_FLIGHT: usize = 32;
/// What a decision takes beside its text.
const ENTRY_BYTES: usize = 128;
/// Packets that a broker has for who only publishes are small.
const MAX_PACKET_BYTES: u32 = 64 * 1024;

/// A sink that publishes, and says at `TOPIC/status`, or at `TOPIC/status/ID` where it has a name, whether it is there.
pub struct Outbox {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    waker: Waker,
}

struct Queue {
    waiting: VecDeque<Entry>,
    bytes: usize,
    most_bytes: usize,
    /// Number of the next entry.
    next: u64,
    undelivered: u64,
    connected: bool,
    phase: Phase,
    /// Why the broker takes no decisions, now or ever.
    fault: Option<String>,
}

struct Entry {
    number: u64,
    payload: Arc<[u8]>,
    id: Option<String>,
    receipt: Option<Receipt>,
    /// Its number on the wire, on the connection that there is.
    sent: Option<u16>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// What waits is still delivered.
    Ending,
    /// Nothing is.
    Closed,
}

impl Outbox {
    /// Connects, and keeps as many bytes of decisions as `most_bytes` while the broker is away.
    ///
    /// # Errors
    /// Where the broker is not there or refuses; that it goes away later is none.
    pub fn open(address: &MqttAddress, client_id: Option<&str>, most_bytes: usize) -> io::Result<Outbox> {
        let status = match client_id {
            Some(id) => format!("{}/status/{id}", address.topic),
            None => format!("{}/status", address.topic),
        };
        let greeting = Greeting {
            address: address.clone(),
            // A source of the same name is another client.
            client_id: client_id.map_or(String::new(), |id| format!("{id}-decisions")),
            session_s: 0,
            will: Some(Will { topic: status.clone(), payload: "offline" }),
            max_packet_bytes: MAX_PACKET_BYTES,
            receive_maximum: 1,
        };
        let link = Link::open(&greeting)?;
        let queue = Queue {
            waiting: VecDeque::new(),
            bytes: 0,
            most_bytes,
            next: 0,
            undelivered: 0,
            connected: true,
            phase: Phase::Open,
            fault: None,
        };
        let shared = Arc::new(Shared { queue: Mutex::new(queue), changed: Condvar::new(), waker: Waker::new()? });
        let postman = Postman { shared: Arc::clone(&shared), greeting, status };
        let thread = thread::Builder::new().name("mqtt-out".into()).spawn(move || postman.run(link))?;
        Ok(Outbox { shared, thread: Some(thread) })
    }

    /// Takes a decision up. A broker that is there is waited for; while it is away what waited longest makes room.
    fn put(&self, what: &impl Serialize, id: Option<&str>, receipt: Option<Receipt>) -> io::Result<()> {
        let payload: Arc<[u8]> = serde_json::to_vec(what)?.into();
        let bytes = payload.len() + ENTRY_BYTES;
        let mut queue = self.shared.lock();
        let is_gone = || self.thread.as_ref().is_none_or(JoinHandle::is_finished);
        while queue.fault.is_none() && queue.connected && !is_gone() && queue.bytes + bytes > queue.most_bytes {
            queue = self.shared.wait(queue);
        }
        if let Some(fault) = &queue.fault {
            return Err(io::Error::other(fault.clone()));
        }
        if is_gone() {
            return Err(io::Error::other("the thread that publishes is gone; please report it"));
        }
        while queue.bytes + bytes > queue.most_bytes
            && let Some(oldest) = queue.waiting.pop_front()
        {
            queue.bytes -= oldest.bytes();
            queue.undelivered += 1;
        }
        if bytes > queue.most_bytes {
            queue.undelivered += 1;
            return Ok(());
        }
        queue.push(Entry { number: 0, payload, id: id.map(str::to_owned), receipt, sent: None });
        drop(queue);
        self.shared.waker.wake();
        Ok(())
    }
}

impl Sink for Outbox {
    fn decision(&mut self, decision: &Decision<'_>) -> io::Result<()> {
        let message = decision.message;
        self.put(decision, message.and_then(|m| m.id.as_deref()), message.map(|m| m.receipt.clone()))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// The last message; waits until the broker has everything.
    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        #[derive(Serialize)]
        struct Last<'a> {
            summary: &'a Summary,
        }
        let payload: Arc<[u8]> = serde_json::to_vec(&Last { summary })?.into();
        let until = Instant::now() + GRACE;
        let mut queue = self.shared.lock();
        // It has counted what was lost: nothing makes room for it.
        queue.push(Entry { number: 0, payload, id: None, receipt: None, sent: None });
        queue.phase = Phase::Ending;
        self.shared.waker.wake();
        while !queue.waiting.is_empty() && queue.fault.is_none() && Instant::now() < until {
            queue = self.shared.wait(queue);
        }
        let (left, fault) = (queue.waiting.len(), queue.fault.clone());
        if left > 0 || fault.is_some() {
            let why = fault.unwrap_or_else(|| format!("the broker took none of them for {GRACE:?}"));
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("{left} messages are lost: {why}")));
        }
        drop(queue);
        // It says goodbye, with timeouts of its own.
        let _ = self.thread.take().map(JoinHandle::join);
        Ok(())
    }

    fn undelivered(&self) -> u64 {
        self.shared.lock().undelivered
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.shared.lock().phase = Phase::Closed;
        self.shared.waker.wake();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        self.changed.wait_timeout(queue, PATIENCE).unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Entry {
    fn bytes(&self) -> usize {
        self.payload.len() + ENTRY_BYTES
    }
}

impl Queue {
    fn push(&mut self, entry: Entry) {
        self.bytes += entry.bytes();
        self.waiting.push_back(Entry { number: self.next, ..entry });
        self.next += 1;
    }

    /// What is to be sent next, if so many may be on the wire.
    fn unsent(&self) -> Option<&Entry> {
        self.waiting.iter().take(IN_FLIGHT).find(|entry| entry.sent.is_none())
    }

    /// The broker has the message of that number on the wire.
    fn delivered(&mut self, packet_id: u16) {
        let Some(index) = self.waiting.iter().position(|entry| entry.sent == Some(packet_id)) else { return };
        if let Some(entry) = self.waiting.remove(index) {
            self.bytes -= entry.bytes();
            entry.receipt.into_iter().for_each(Receipt::confirm);
        }
    }
}

/// The thread that has the connection.
struct Postman {
    shared: Arc<Shared>,
    greeting: Greeting,
    status: String,
}

impl Postman {
    fn run(&self, link: Link) {
        let mut link = Ok(link);
        loop {
            let ended = link.and_then(|link| self.deliver(link));
            let mut queue = self.shared.lock();
            queue.connected = false;
            queue.waiting.iter_mut().for_each(|entry| entry.sent = None);
            let lost = match ended {
                Ok(()) => return,
                Err(error) => error,
            };
            if queue.phase == Phase::Closed || queue.fault.is_some() {
                return;
            }
            let address = &self.greeting.address;
            if lost.kind() == io::ErrorKind::InvalidInput {
                queue.fault = Some(format!("{address}: {lost}"));
                self.shared.changed.notify_all();
                return;
            }
            self.shared.changed.notify_all();
            drop(queue);
            log::warn!("{address}: {lost}; connecting anew every {RETRY:?}, and decisions wait");
            link = loop {
                thread::sleep(RETRY);
                if self.shared.lock().phase == Phase::Closed {
                    return;
                }
                match Link::open(&self.greeting) {
                    Ok(link) => break Ok(link),
                    Err(error) => log::debug!("{address}: {error}"),
                }
            };
            log::info!("{address}: connected again");
        }
    }

    /// Delivers what waits and what comes, until the connection is lost or the sink is closed.
    fn deliver(&self, mut link: Link) -> io::Result<()> {
        link.publish(&self.status, b"online"[..].into(), None, true)?;
        self.shared.lock().connected = true;
        loop {
            while let Some((number, payload, id)) = self.next_unsent() {
                let Some(packet_id) = link.publish(&self.greeting.address.topic, payload, id.as_deref(), false)? else {
                    break;
                };
                let mut queue = self.shared.lock();
                let entry = queue.waiting.iter_mut().find(|entry| entry.number == number);
                entry.into_iter().for_each(|entry| entry.sent = Some(packet_id));
            }
            let queue = self.shared.lock();
            match queue.phase {
                Phase::Closed => return Ok(()),
                Phase::Ending if queue.waiting.is_empty() => break,
                Phase::Ending | Phase::Open => drop(queue),
            }
            if let Some(Packet::V5_0Puback(ack)) = link.next(PATIENCE, Some(&self.shared.waker))? {
                let mut queue = self.shared.lock();
                match ack.reason_code().filter(|code| code.is_failure()) {
                    None => queue.delivered(ack.packet_id()),
                    Some(code) => {
                        let topic = &self.greeting.address.topic;
                        queue.fault = Some(format!("the broker refuses what is published at {topic}: {code:?}"));
                    }
                }
                self.shared.changed.notify_all();
                if let Some(fault) = &queue.fault {
                    return Err(io::Error::other(fault.clone()));
                }
            }
        }
        link.publish(&self.status, b"offline"[..].into(), None, true)?;
        // Until it is acknowledged, or the broker has nothing to say.
        while let Some(packet) = link.next(PATIENCE, None)? {
            if matches!(packet, Packet::V5_0Puback(_)) {
                break;
            }
        }
        link.close()
    }

    fn next_unsent(&self) -> Option<(u64, Arc<[u8]>, Option<String>)> {
        let queue = self.shared.lock();
        queue.unsent().map(|entry| (entry.number, Arc::clone(&entry.payload), entry.id.clone()))
    }
}
