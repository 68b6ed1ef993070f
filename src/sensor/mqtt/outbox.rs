//! Decisions on their way to a broker: kept until it has acknowledged them, up to a bound.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use mqtt_protocol_core::mqtt::packet::Packet;
use serde::Serialize;

use super::{Greeting, Link, MqttAddress, Receipt, Waker, Will, is_refusal};
use crate::sensor::counters::Summary;
use crate::sensor::decide::Decision;
use crate::sensor::sink::{Sink, SinkOptions};
use crate::sensor::writer;

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
    stop: Arc<AtomicBool>,
    /// Tells when the thread that publishes has ended.
    thread: Receiver<Infallible>,
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
    /// Connects. After `stop` it waits for nobody for long.
    ///
    /// # Errors
    /// Where the broker is not there or refuses; that it goes away later is none.
    pub fn open(address: &MqttAddress, options: &SinkOptions, stop: Arc<AtomicBool>) -> io::Result<Outbox> {
        let SinkOptions { client_id, queue_bytes, number } = options;
        let status = match client_id {
            Some(id) => format!("{}/status/{id}", address.topic),
            None => format!("{}/status", address.topic),
        };
        let greeting = Greeting {
            address: address.clone(),
            // A source of the same name is another client, and so is another sink.
            client_id: match (client_id, number) {
                (Some(id), 1) => format!("{id}-decisions"),
                (Some(id), number) => format!("{id}-decisions-{number}"),
                (None, _) => String::new(),
            },
            session_s: 0,
            will: Some(Will { topic: status.clone(), payload: "offline" }),
            max_packet_bytes: MAX_PACKET_BYTES,
            receive_maximum: 1,
            stop: Arc::clone(&stop),
        };
        let link = Link::open(&greeting)?;
        let shared = Arc::new(Shared::new(*queue_bytes)?);
        let postman = Postman { shared: Arc::clone(&shared), greeting, status };
        let (lives, thread) = channel();
        thread::Builder::new().name("mqtt-out".into()).spawn(move || postman.run(link, lives))?;
        Ok(Outbox { shared, stop, thread })
    }

    /// Takes a decision up. A broker that is there is waited for; while it is away, what waited longest makes room. A
    /// decision with a receipt is never given up, since its message would neither be acknowledged nor given out again:
    /// it waits for room, and the messages behind it wait at their broker.
    fn put(&self, entry: Entry) -> io::Result<()> {
        let (bytes, is_kept) = (entry.bytes(), entry.receipt.is_some());
        let mut until = None;
        let mut queue = self.shared.lock();
        loop {
            if let Some(fault) = &queue.fault {
                return Err(io::Error::other(fault.clone()));
            }
            if self.thread.try_recv() == Err(TryRecvError::Disconnected) {
                return Err(io::Error::other("the thread that publishes is gone; please report it"));
            }
            if !is_kept && bytes > queue.most_bytes {
                queue.undelivered += 1;
                return Ok(());
            }
            if !queue.connected {
                queue.make_room(bytes);
            }
            if queue.has_room(bytes) || (is_kept && queue.waiting.is_empty()) {
                break;
            }
            if !is_kept && !queue.connected {
                queue.undelivered += 1;
                return Ok(());
            }
            let is_stopped = self.stop.load(Relaxed);
            if is_stopped && Instant::now() > *until.get_or_insert_with(|| Instant::now() + writer::GRACE) {
                let what = format!("the broker took too little for {:?} after the stop", writer::GRACE);
                return Err(io::Error::new(io::ErrorKind::TimedOut, what));
            }
            queue = self.shared.wait(queue);
        }
        queue.push(entry);
        drop(queue);
        self.shared.waker.wake();
        Ok(())
    }
}

impl Sink for Outbox {
    fn decision(&mut self, decision: &Decision<'_>) -> io::Result<()> {
        let message = decision.message;
        let id = message.and_then(|message| message.id.clone());
        self.put(Entry::new(decision, id, message.and_then(|message| message.receipt.clone()))?)
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
        let last = Entry::new(&Last { summary }, None, None)?;
        let until = Instant::now() + GRACE;
        let mut queue = self.shared.lock();
        // It has counted what was lost: nothing makes room for it.
        queue.push(last);
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
        // It says goodbye; where that takes too long, the will says the same.
        let _ = self.thread.recv_timeout(until.saturating_duration_since(Instant::now()));
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
    fn new(most_bytes: usize) -> io::Result<Shared> {
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
        Ok(Shared { queue: Mutex::new(queue), changed: Condvar::new(), waker: Waker::new()? })
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        self.changed.wait_timeout(queue, PATIENCE).unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Entry {
    fn new(what: &impl Serialize, id: Option<String>, receipt: Option<Receipt>) -> io::Result<Entry> {
        Ok(Entry { number: 0, payload: serde_json::to_vec(what)?.into(), id, receipt, sent: None })
    }

    fn bytes(&self) -> usize {
        self.payload.len() + self.id.as_ref().map_or(0, String::len) + ENTRY_BYTES
    }
}

impl Queue {
    fn push(&mut self, entry: Entry) {
        self.bytes += entry.bytes();
        self.waiting.push_back(Entry { number: self.next, ..entry });
        self.next += 1;
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.bytes + bytes <= self.most_bytes
    }

    /// What waited longest goes, but for what a source's broker would not give out again.
    fn make_room(&mut self, bytes: usize) {
        while !self.has_room(bytes)
            && let Some(index) = self.waiting.iter().position(|entry| entry.receipt.is_none())
            && let Some(oldest) = self.waiting.remove(index)
        {
            self.bytes -= oldest.bytes();
            self.undelivered += 1;
        }
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
    /// `_lives` is gone with the thread, however it ends.
    fn run(&self, link: Link, _lives: Sender<Infallible>) {
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
            let has_ended = queue.phase == Phase::Ending && queue.waiting.is_empty();
            if has_ended || queue.phase == Phase::Closed || queue.fault.is_some() {
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
                    Err(error) if is_refusal(&error) => {
                        self.shared.lock().fault = Some(format!("{address}: {error}"));
                        self.shared.changed.notify_all();
                        return;
                    }
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
        let until = Instant::now() + GRACE;
        while Instant::now() < until {
            if let Some(Packet::V5_0Puback(_)) = link.next(PATIENCE, None)? {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody delivers.
    fn outbox(most_bytes: usize, connected: bool) -> (Outbox, Sender<Infallible>) {
        let (lives, thread) = channel();
        let shared = Arc::new(Shared::new(most_bytes).unwrap());
        shared.lock().connected = connected;
        (Outbox { shared, stop: Arc::new(AtomicBool::new(true)), thread }, lives)
    }

    fn entry(receipt: Option<Receipt>) -> Entry {
        Entry::new(&"1234567890", Some("id".into()), receipt).unwrap()
    }

    #[test]
    fn a_stopped_stream_does_not_wait_for_a_broker_that_takes_nothing() {
        let bytes = entry(None).bytes();
        assert_eq!(bytes, ENTRY_BYTES + 12 + 2);
        let (outbox, _lives) = outbox(bytes, true);
        let vast = Entry::new(&"1".repeat(bytes), None, None).unwrap();
        outbox.put(vast).unwrap();
        assert_eq!(outbox.undelivered(), 1, "what no queue holds is waited for by nobody");
        outbox.put(entry(None)).unwrap();
        assert_eq!(outbox.put(entry(None)).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(outbox.undelivered(), 1);
    }

    #[test]
    fn what_a_message_waits_for_is_never_given_up() {
        let (outbox, _lives) = outbox(2 * entry(None).bytes(), false);
        let acknowledged = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&acknowledged);
        outbox.put(entry(Some(Receipt::new(move || told.store(true, Relaxed))))).unwrap();
        (0..5).for_each(|_| outbox.put(entry(None)).unwrap());
        assert_eq!(outbox.undelivered(), 4);
        let mut queue = outbox.shared.lock();
        queue.waiting.front_mut().unwrap().sent = Some(7);
        queue.delivered(7);
        assert!(acknowledged.load(Relaxed));
    }
}
