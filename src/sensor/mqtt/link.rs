//! A connection to a broker: mqtt-protocol-core's states on a socket, waited for no longer than signals may.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use mqtt_protocol_core::mqtt::common::Cursor;
use mqtt_protocol_core::mqtt::connection::{ConnectionOptions, Event, TimerKind};
use mqtt_protocol_core::mqtt::packet::v5_0::{Connect, Disconnect, Puback, Publish, Subscribe};
use mqtt_protocol_core::mqtt::packet::{
    CorrelationData, Packet, Property, Qos, RetainHandling, SessionExpiryInterval, SubEntry, SubOpts,
};
use mqtt_protocol_core::mqtt::prelude::GenericPacketTrait;
use mqtt_protocol_core::mqtt::result_code::{ConnectReasonCode, DisconnectReasonCode, MqttError, SubackReasonCode};
use mqtt_protocol_core::mqtt::{Arc, Connection, Version, role};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::{MqttAddress, RECEIVE_MAXIMUM, Waker};
use crate::sensor::source::tcp;

/// How long a broker may take to answer, or to take what is written.
const PATIENCE: Duration = Duration::from_secs(10);
/// After how much of that the stop is looked at.
const NAP: Duration = Duration::from_millis(200);
/// A silent connection is tried after this.
const KEEP_ALIVE_S: u16 = 30;
/// What is read at once.
const BUFFER_BYTES: usize = 16 * 1024;

/// What a broker is told first.
#[derive(Clone)]
pub struct Greeting {
    pub address: MqttAddress,
    /// Empty where the broker is to choose.
    pub client_id: String,
    /// How long the broker keeps what is for this client while it is away; not at all where it is 0.
    pub session_s: u32,
    pub will: Option<Will>,
    /// The largest packet that is taken.
    pub max_packet_bytes: u32,
    /// Messages that may be without an answer.
    pub receive_maximum: u16,
    /// Once it is set, a broker that does not answer is not waited for.
    pub stop: Arc<AtomicBool>,
}

/// What the broker publishes, to be kept, once the connection is lost.
#[derive(Clone)]
pub struct Will {
    pub topic: String,
    pub payload: &'static str,
}

pub struct Link {
    stream: TcpStream,
    connection: Connection<role::Client>,
    buffer: Box<[u8]>,
    /// What of the buffer is read and not decoded.
    filled: Range<usize>,
    /// What came before a subscription was confirmed.
    early: VecDeque<Packet>,
    /// Whether the broker let it in.
    greeted: bool,
    /// When the connection is to be tried, and by when the broker has to answer that.
    ping_due: Option<Instant>,
    pong_due: Option<Instant>,
    /// The greeting's.
    stop: Arc<AtomicBool>,
}

impl Link {
    /// # Errors
    /// Where nobody answers, or the broker refuses; the message says which.
    pub fn open(greeting: &Greeting) -> io::Result<Link> {
        let MqttAddress { host, port, .. } = &greeting.address;
        let bracketed = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let stream = tcp::connect(&bracketed, &greeting.stop)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let options = ConnectionOptions::new()
            .maximum_packet_size_recv(greeting.max_packet_bytes)
            .receive_maximum(greeting.receive_maximum);
        let mut connection = Connection::with_options(Version::V5_0, options);
        connection.set_pingresp_recv_timeout(PATIENCE.as_secs() * 1000);
        let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        let (filled, early, greeted) = (0..0, VecDeque::new(), false);
        let stop = Arc::clone(&greeting.stop);
        let mut link =
            Link { stream, connection, buffer, filled, early, greeted, ping_due: None, pong_due: None, stop };
        link.send(connect(greeting).map_err(refused_here)?.into())?;
        match link.answer()? {
            Packet::V5_0Connack(ack) if ack.reason_code() == ConnectReasonCode::Success => Ok(link),
            Packet::V5_0Connack(ack) => {
                let what = format!("the broker refused the connection: {:?}", ack.reason_code());
                Err(io::Error::new(refusal(ack.reason_code()), what))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Asks for what is published at `filter`, at least once each.
    ///
    /// # Errors
    /// Where the broker refuses.
    pub fn subscribe(&mut self, filter: &str) -> io::Result<()> {
        let packet_id = self.connection.acquire_packet_id().map_err(refused_here)?;
        // A window that was kept from before is none that was just measured.
        let options = SubOpts::new().set_qos(Qos::AtLeastOnce).set_rh(RetainHandling::DoNotSendRetained);
        let entry = SubEntry::new(filter, options).map_err(refused_here)?;
        let subscribe = Subscribe::builder().packet_id(packet_id).entries(vec![entry]).build();
        self.send(subscribe.map_err(refused_here)?.into())?;
        let (until, mut early) = (Instant::now() + PATIENCE, VecDeque::new());
        while Instant::now() < until {
            // Of a session that goes on messages may come first.
            match self.answer()? {
                Packet::V5_0Publish(publish) => match publish.packet_id() {
                    // One of QoS 0 may be lost, and is kept for nobody.
                    None => {}
                    Some(_) if early.len() < usize::from(RECEIVE_MAXIMUM) => early.push_back(publish.into()),
                    Some(_) => {
                        let what = format!("the broker gave out more than {RECEIVE_MAXIMUM} messages at once");
                        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                    }
                },
                Packet::V5_0Suback(ack) => {
                    self.early = early;
                    return match ack.reason_codes().first() {
                        Some(SubackReasonCode::GrantedQos1) => Ok(()),
                        other => {
                            let code = other.map_or("no answer".to_owned(), |code| format!("{code:?}"));
                            let what = format!("the broker does not let it subscribe to {filter} with QoS 1: {code}");
                            Err(io::Error::new(io::ErrorKind::PermissionDenied, what))
                        }
                    };
                }
                other => return Err(unexpected(&other)),
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Sends a message that the broker has to acknowledge under the number that this gives; none where it takes no
    /// more before it has acknowledged others.
    ///
    /// # Errors
    /// Where the connection is lost; [`io::ErrorKind::InvalidInput`] where the broker takes no such message.
    pub fn publish(
        &mut self,
        topic: &str,
        payload: Arc<[u8]>,
        id: Option<&str>,
        keep: bool,
    ) -> io::Result<Option<u16>> {
        if self.connection.get_receive_maximum_vacancy_for_send() == Some(0) {
            return Ok(None);
        }
        let packet_id = self.connection.acquire_packet_id().map_err(refused_here)?;
        let properties = match id {
            Some(id) => vec![Property::CorrelationData(CorrelationData::new(id).map_err(refused_here)?)],
            None => Vec::new(),
        };
        let publish = Publish::builder().topic_name(topic).map_err(refused_here)?.packet_id(packet_id);
        let publish = publish.qos(Qos::AtLeastOnce).retain(keep).payload(payload).props(properties).build();
        self.send(publish.map_err(refused_here)?.into())?;
        Ok(Some(packet_id))
    }

    /// Tells the broker that the message of that number need not be given out again.
    ///
    /// # Errors
    /// Where the connection is lost.
    pub fn acknowledge(&mut self, packet_id: u16) -> io::Result<()> {
        let ack = Puback::builder().packet_id(packet_id).build().map_err(refused_here)?;
        self.send(ack.into())
    }

    /// Ends the connection well: there is no will then.
    ///
    /// # Errors
    /// Where it is lost already.
    pub fn close(mut self) -> io::Result<()> {
        let disconnect = Disconnect::builder().reason_code(DisconnectReasonCode::NormalDisconnection).build();
        let sent = self.connection.send(disconnect.map_err(refused_here)?.into());
        for event in sent {
            if let Event::RequestSendPacket { packet, .. } = event {
                self.stream.write_all(&packet.to_continuous_buffer())?;
            }
        }
        Ok(())
    }

    /// The next packet; none where none came in time, or somebody called `waker`.
    ///
    /// # Errors
    /// Where the connection is lost.
    pub fn next(&mut self, wait: Duration, waker: Option<&Waker>) -> io::Result<Option<Packet>> {
        if let Some(packet) = self.early.pop_front() {
            return Ok(Some(packet));
        }
        let until = Instant::now() + wait;
        loop {
            while !self.filled.is_empty() {
                let mut cursor = Cursor::new(self.buffer.get(self.filled.clone()).unwrap_or_default());
                let events = self.connection.recv(&mut cursor);
                self.filled.start += usize::try_from(cursor.position()).unwrap_or(usize::MAX).min(self.filled.len());
                if let Some(packet) = self.handle(events)? {
                    return Ok(Some(packet));
                }
            }
            self.ping()?;
            if !self.wait(until.saturating_duration_since(Instant::now()), waker)? {
                // Not before: who did not read for long may have the answer in the socket.
                return match self.pong_due.is_some_and(|due| due <= Instant::now()) {
                    true => Err(io::Error::new(io::ErrorKind::TimedOut, "the broker does not answer")),
                    false => Ok(None),
                };
            }
            self.filled = match self.stream.read(&mut self.buffer)? {
                0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the broker closed the connection")),
                count => 0..count,
            };
        }
    }

    /// Tries a connection that was silent for long.
    ///
    /// # Errors
    /// Where it is lost.
    pub fn ping(&mut self) -> io::Result<()> {
        if self.ping_due.is_some_and(|due| due <= Instant::now()) {
            self.ping_due = None;
            let events = self.connection.notify_timer_fired(TimerKind::PingreqSend);
            self.handle(events)?;
        }
        Ok(())
    }

    fn answer(&mut self) -> io::Result<Packet> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(packet) = self.next(NAP, None)? {
                return Ok(packet);
            }
            if self.stop.load(Relaxed) {
                return Err(io::Error::new(io::ErrorKind::Interrupted, "stopped before the broker answered"));
            }
            if Instant::now() > until {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the broker does not answer"));
            }
        }
    }

    fn send(&mut self, packet: Packet) -> io::Result<()> {
        let events = self.connection.send(packet);
        if let Some(Event::NotifyError(error)) = events.iter().find(|event| matches!(event, Event::NotifyError(_))) {
            return Err(refused_here(*error));
        }
        self.handle(events).map(|_| ())
    }

    /// Does what the protocol asks for, and gives the packet that came.
    fn handle(&mut self, events: Vec<Event>) -> io::Result<Option<Packet>> {
        let mut came = None;
        for event in events {
            match event {
                Event::RequestSendPacket { packet, .. } => self.stream.write_all(&packet.to_continuous_buffer())?,
                Event::NotifyPacketReceived(Packet::V5_0Disconnect(told)) => {
                    let what = format!("the broker ended the connection: {:?}", told.reason_code());
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, what));
                }
                Event::NotifyPacketReceived(packet) => {
                    if matches!(packet, Packet::V5_0Connack(_)) && std::mem::replace(&mut self.greeted, true) {
                        return Err(unexpected(&packet));
                    }
                    came = Some(packet);
                }
                Event::RequestTimerReset { kind, duration_ms } => self.set_timer(kind, Some(duration_ms)),
                Event::RequestTimerCancel(kind) => self.set_timer(kind, None),
                Event::NotifyError(error) => {
                    let what = format!("what the broker sent breaks the protocol: {error:?}");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                }
                Event::RequestClose => return Err(io::ErrorKind::ConnectionAborted.into()),
                Event::NotifyPacketIdReleased(_) => {}
            }
        }
        Ok(came)
    }

    fn set_timer(&mut self, kind: TimerKind, after_ms: Option<u64>) {
        let due = after_ms.map(|ms| Instant::now() + Duration::from_millis(ms));
        match kind {
            TimerKind::PingreqSend => self.ping_due = due,
            TimerKind::PingrespRecv => self.pong_due = due,
            // A broker's, not a client's.
            TimerKind::PingreqRecv => {}
        }
    }

    /// Whether the broker sent something.
    fn wait(&self, left: Duration, waker: Option<&Waker>) -> io::Result<bool> {
        let left =
            Timespec { tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() };
        let stream = PollFd::new(&self.stream, PollFlags::IN);
        // A closed set of one or two: who has no waker waits for the socket alone.
        let (mut both, mut alone);
        let fds: &mut [PollFd<'_>] = match waker {
            Some(waker) => {
                both = [stream, PollFd::from_borrowed_fd(waker.as_fd(), PollFlags::IN)];
                &mut both
            }
            None => {
                alone = [stream];
                &mut alone
            }
        };
        match poll(fds, Some(&left)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let sent = ready.next() == Some(true);
        if let (Some(waker), Some(true)) = (waker, ready.next()) {
            waker.rest();
        }
        Ok(sent)
    }
}

fn connect(greeting: &Greeting) -> Result<Connect, MqttError> {
    let Greeting { address, client_id, session_s, will, .. } = greeting;
    let mut connect = Connect::builder().client_id(client_id.as_str())?.keep_alive(KEEP_ALIVE_S);
    connect = connect.clean_start(*session_s == 0);
    if *session_s > 0 {
        connect = connect.props(vec![Property::SessionExpiryInterval(SessionExpiryInterval::new(*session_s)?)]);
    }
    if let Some(Will { topic, payload }) = will {
        connect = connect.will_message(topic.as_str(), *payload, Qos::AtLeastOnce, true)?;
    }
    if let Some(user) = &address.user {
        connect = connect.user_name(user.as_str())?;
        if let Some(password) = &address.password {
            connect = connect.password(password.as_str())?;
        }
    }
    connect.build()
}

/// Whether it is this client that a broker refuses, or what it asks for: trying again changes nothing.
pub fn is_refusal(error: &io::Error) -> bool {
    // The system's own refusals, as of a firewall, have a number.
    error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none()
}

fn refusal(code: ConnectReasonCode) -> io::ErrorKind {
    use ConnectReasonCode as Code;
    match code {
        Code::ServerUnavailable | Code::ServerBusy | Code::QuotaExceeded | Code::ConnectionRateExceeded => {
            io::ErrorKind::ConnectionRefused
        }
        _ => io::ErrorKind::PermissionDenied,
    }
}

fn refused_here(error: MqttError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("MQTT or this broker takes no such packet: {error:?}"))
}

fn unexpected(packet: &Packet) -> io::Error {
    let what = format!("the broker answered with {}", packet.packet_type());
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_takes_a_connection_and_says_nothing_is_given_up_at_the_stop() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let greeting = Greeting {
            address: format!("mqtt://{}/a", silent.local_addr().unwrap()).parse().unwrap(),
            client_id: String::new(),
            session_s: 0,
            will: None,
            max_packet_bytes: 1024,
            receive_maximum: 1,
            stop: Arc::new(AtomicBool::new(true)),
        };
        let told = Link::open(&greeting).map(drop).unwrap_err();
        assert_eq!(told.kind(), io::ErrorKind::Interrupted, "{told}");
    }
}
