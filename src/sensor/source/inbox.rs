//! Windows from a broker, one a message.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mqtt_protocol_core::mqtt::packet::v5_0::Publish;
use mqtt_protocol_core::mqtt::packet::{Packet, Property};

use super::malformed::{Malformed, Reason};
use super::payload::{MAX_ID_BYTES, Payload};
use super::{SourceError, SourceOptions};
use crate::sensor::mqtt::{Greeting, Link, Message, MqttAddress, RECEIVE_MAXIMUM, Receipt, Waker, is_refusal};
use crate::sensor::recipe::Input;

/// A broker that went away is tried again after this, where nothing is said.
const RETRY: Duration = Duration::from_secs(1);
/// Room for the text of a number, and for what a message has beside its window.
const NUMBER_BYTES: usize = 32;
const BESIDE_BYTES: usize = 64 * 1024;

pub struct Inbox {
    greeting: Greeting,
    /// What is subscribed to: the address's topic, or a share in it.
    filter: String,
    retry: Duration,
    max_malformed: u32,
    payload: Payload,
    desk: Arc<Desk>,
    link: Option<Link>,
    retry_at: Instant,
    /// The last window, and when its frames were, in nanoseconds before it came.
    window: Vec<f32>,
    ages_ns: Vec<u64>,
    /// Messages so far, malformed ones included.
    number: u64,
    malformed: u64,
    first_malformed: Option<Malformed>,
    in_succession: u32,
    reconnects: u64,
}

/// Where receipts are handed in, from any thread.
struct Desk {
    settled: Mutex<Settled>,
    waker: Waker,
}

#[derive(Default)]
struct Settled {
    /// Which connection it is, from 0: numbers of messages are its own.
    link: u64,
    packet_ids: Vec<u16>,
}

impl Inbox {
    /// Connects and subscribes.
    ///
    /// # Errors
    /// Where the broker is not there or refuses; that it goes away later is none.
    pub fn open(address: &MqttAddress, options: &SourceOptions, input: &Input) -> Result<Inbox, SourceError> {
        let fault = |what: String| SourceError::new(address.to_string(), what);
        let payload = Payload::new(options, input).map_err(fault)?;
        let values = input.windowing.length * input.channels.len();
        let packet_bytes = values.saturating_mul(NUMBER_BYTES).saturating_add(BESIDE_BYTES);
        let greeting = Greeting {
            address: address.clone(),
            client_id: options.client_id.clone().unwrap_or_default(),
            session_s: if options.client_id.is_some() { options.session_s } else { 0 },
            will: None,
            max_packet_bytes: u32::try_from(packet_bytes).unwrap_or(u32::MAX),
            receive_maximum: RECEIVE_MAXIMUM,
            stop: Arc::clone(&options.stop),
        };
        let topic = &address.topic;
        let filter = options.share.as_ref().map_or_else(|| topic.clone(), |group| format!("$share/{group}/{topic}"));
        let waker = Waker::new().map_err(|error| fault(error.to_string()))?;
        let period_ns = input.rate_hz.map_or(0.0, |rate| 1e9 / rate);
        let age_ns = |frame: usize| ((input.windowing.length - 1 - frame) as f64 * period_ns) as u64;
        let mut inbox = Inbox {
            greeting,
            filter,
            retry: options.reconnect.unwrap_or(RETRY),
            max_malformed: options.max_malformed,
            payload,
            desk: Arc::new(Desk { settled: Mutex::default(), waker }),
            link: None,
            retry_at: Instant::now(),
            window: vec![0.0; values],
            ages_ns: (0..input.windowing.length).map(age_ns).collect(),
            number: 0,
            malformed: 0,
            first_malformed: None,
            in_succession: 0,
            reconnects: 0,
        };
        inbox.link = Some(inbox.connect().map_err(|error| fault(error.to_string()))?);
        Ok(inbox)
    }

    /// Waits at most `wait` for a window, which is in [`Inbox::window`] then.
    ///
    /// # Errors
    /// Where message after message is malformed, or a broker that was away refuses this client.
    pub fn next(&mut self, wait: Duration) -> Result<Option<Message>, SourceError> {
        match self.came(wait) {
            Ok(Some(publish)) => self.read(&publish),
            Ok(None) => Ok(None),
            Err(error) if is_refusal(&error) => {
                Err(SourceError::new(self.greeting.address.to_string(), error.to_string()))
            }
            Err(error) => {
                self.lose(&error);
                Ok(None)
            }
        }
    }

    /// While a window waits for room: acknowledges what was answered meanwhile.
    pub fn attend(&mut self) {
        let attended = self.acknowledge().and_then(|()| self.link.as_mut().map_or(Ok(()), Link::ping));
        if let Err(error) = attended {
            self.lose(&error);
        }
    }

    /// Acknowledges the last, and says goodbye; the broker keeps the session as long as it was asked to.
    pub fn close(&mut self) {
        let closed = self.acknowledge().and_then(|()| self.link.take().map_or(Ok(()), Link::close));
        if let Err(error) = closed {
            log::warn!("{}: {error}; the last windows will be given out again", self.greeting.address);
        }
    }

    /// The last window.
    pub fn window(&self) -> &[f32] {
        &self.window
    }

    /// Times of its frames, the last of which was at `now_ns`.
    pub fn times(&self, now_ns: u64, times: &mut Vec<u64>) {
        times.clear();
        times.extend(self.ages_ns.iter().map(|age| now_ns.saturating_sub(*age)));
    }

    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    pub fn first_malformed(&self) -> Option<&Malformed> {
        self.first_malformed.as_ref()
    }

    pub fn reconnects(&self) -> u64 {
        self.reconnects
    }

    fn connect(&self) -> io::Result<Link> {
        let mut link = Link::open(&self.greeting)?;
        link.subscribe(&self.filter)?;
        Ok(link)
    }

    fn came(&mut self, wait: Duration) -> io::Result<Option<Publish>> {
        self.acknowledge()?;
        if let Some(link) = &mut self.link {
            return Ok(link.next(wait, Some(&self.desk.waker))?.and_then(|packet| match packet {
                Packet::V5_0Publish(publish) => Some(publish),
                _ => None,
            }));
        }
        std::thread::sleep(wait.min(self.retry_at.saturating_duration_since(Instant::now())));
        if Instant::now() >= self.retry_at {
            self.retry_at = Instant::now() + self.retry;
            match self.connect() {
                Ok(link) => {
                    self.link = Some(link);
                    self.reconnects += 1;
                    log::info!("{}: connected again", self.greeting.address);
                }
                Err(error) if is_refusal(&error) => return Err(error),
                Err(error) => log::debug!("{}: {error}", self.greeting.address),
            }
        }
        Ok(None)
    }

    fn acknowledge(&mut self) -> io::Result<()> {
        let Some(link) = &mut self.link else { return Ok(()) };
        let packet_ids = std::mem::take(&mut self.desk.lock().packet_ids);
        packet_ids.into_iter().try_for_each(|packet_id| link.acknowledge(packet_id))
    }

    /// What was given out on that connection and is not acknowledged comes again.
    fn lose(&mut self, error: &io::Error) {
        log::warn!("{}: {error}; connecting anew every {:?}", self.greeting.address, self.retry);
        self.link = None;
        self.retry_at = Instant::now() + self.retry;
        let mut settled = self.desk.lock();
        settled.link += 1;
        settled.packet_ids.clear();
    }

    fn read(&mut self, publish: &Publish) -> Result<Option<Message>, SourceError> {
        self.number += 1;
        let decoded = self.payload.decode(publish.payload().as_slice(), &mut self.window);
        match decoded.and_then(|inner| Ok(correlation(publish)?.or(inner))) {
            Ok(id) => {
                self.in_succession = 0;
                let receipt = self.receipt(publish);
                let (topic, redelivered) = (publish.topic_name().to_owned(), publish.dup());
                Ok(Some(Message { topic, id, redelivered, receipt }))
            }
            Err(reason) => {
                // It would be malformed the next time too.
                self.receipt(publish).into_iter().for_each(Receipt::confirm);
                let what = Malformed { what: "message", number: self.number, reason };
                self.malformed += 1;
                self.in_succession += 1;
                self.first_malformed.get_or_insert(what);
                if self.in_succession < self.max_malformed {
                    return Ok(None);
                }
                let (count, topic) = (self.in_succession, publish.topic_name());
                let what = format!("{count} malformed messages in succession; the last at {topic}, {what}");
                Err(SourceError::new(self.greeting.address.to_string(), what))
            }
        }
    }

    /// One that was published with QoS 0 has no number, and is not acknowledged.
    fn receipt(&self, publish: &Publish) -> Option<Receipt> {
        let packet_id = publish.packet_id()?;
        let (desk, link) = (Arc::clone(&self.desk), self.desk.lock().link);
        Some(Receipt::new(move || {
            let mut settled = desk.lock();
            if settled.link == link {
                settled.packet_ids.push(packet_id);
                desk.waker.wake();
            }
        }))
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Settled> {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the sender calls the message: text, or bytes in hexadecimal digits.
fn correlation(publish: &Publish) -> Result<Option<String>, Reason> {
    let data = publish.props().iter().find_map(|property| match property {
        Property::CorrelationData(data) => Some(data.val()),
        _ => None,
    });
    match data {
        Some(data) if data.len() > MAX_ID_BYTES => Err(Reason::Id),
        Some(data) => Ok(Some(match std::str::from_utf8(data) {
            Ok(text) => text.to_owned(),
            Err(_) => data.iter().map(|byte| format!("{byte:02x}")).collect(),
        })),
        None => Ok(None),
    }
}
