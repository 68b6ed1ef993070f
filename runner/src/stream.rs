//! `tractlet-plan stream`: frames from standard input, windows through the plan, JSON lines.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use tractlet_core::plan::DType;
use tractlet_core::ring::{FrameRing, Overflow, Tally, Windowing};

use crate::args::Args;
use crate::failure::Failure;
use crate::json::Json;
use crate::os;
use crate::out::Out;
use crate::run::{Ranking, values};
use crate::session::Session;

/// Bytes asked for at once.
const READ_BYTES: usize = 4 << 10;

pub fn stream(args: &Args<'_>, stdin: BorrowedFd<'_>, out: &mut Out<'_>) -> Result<(), Failure> {
    let mut session = Session::open_whole(args.plan)?;
    let ranking = Ranking::new(args, &session)?;
    let shape = Shape::new(args, &session)?;
    let windowing = Windowing { length: shape.length, hop: args.hop.unwrap_or(shape.length) };
    let (room, times) = (vec![0.0; shape.length * shape.channels], vec![0; shape.length]);
    // One thread reads and infers: what has no room waits, and nothing is lost.
    let mut ring = FrameRing::new(room, times, shape.channels, windowing, Overflow::Block)
        .ok_or_else(|| Failure::Work(format!("{} frames are no window", shape.length)))?;
    let mut window = vec![0.0; shape.length * shape.channels];
    let mut frame = vec![0.0; shape.channels];
    let (mut read, mut windows) = (0_u64, 0_u64);
    let mut source = Source { stdin, buffer: vec![0; READ_BYTES], at: 0, end: 0 };
    let mut bytes = vec![0; shape.channels * shape.dtype.size_bytes()];
    let torn = loop {
        match source.fill(&mut bytes)? {
            0 => break 0,
            got if got < bytes.len() => break got,
            _ => {}
        }
        shape.decode(&bytes, &mut frame);
        // Its number is its time. There is room: a window that was complete has been taken.
        ring.push(&frame, &[read], 0);
        read += 1;
        while let Some(taken) = ring.take(&mut window) {
            shape.encode(&window, session.inputs.first_mut().map_or(&mut [], |bytes| &mut bytes[..]));
            session.check_inputs().map_err(|(_, why)| format!("window {windows} (from 0): {why}"))?;
            session.run(&mut ())?;
            out.text(&line(&session, windows, taken.first_ns, ranking.as_ref()))?;
            // Whoever waits for it has it at once.
            out.flush()?;
            windows += 1;
        }
    };
    out.text(&summary(windows, read, ring.tally()))?;
    if torn > 0 {
        out.flush()?;
        return Err(format!("standard input ended within a frame: {torn} of its {} bytes", bytes.len()).into());
    }
    Ok(())
}

/// How frames lie in the plan's input.
struct Shape {
    dtype: DType,
    channels: usize,
    /// Frames of a window.
    length: usize,
    planar: bool,
}

impl Shape {
    fn new(args: &Args<'_>, session: &Session) -> Result<Shape, Failure> {
        let mut ports = session.plan().inputs();
        let (Some(port), None) = (ports.next(), ports.next()) else {
            return Err(Failure::Work("the plan has several inputs; stream feeds one".into()));
        };
        if !matches!(port.dtype, DType::F32 | DType::I8 | DType::U8) {
            let what =
                format!("input `{}` takes {}; stream feeds float32, int8 and uint8", port.name, port.dtype.name());
            return Err(Failure::Work(what));
        }
        let channels = args.channels.unwrap_or(1);
        let values = port.byte_len() / port.dtype.size_bytes();
        if values == 0 || !values.is_multiple_of(channels) {
            let holds = format!("input `{}` holds {values} values of {}", port.name, port.dtype.name());
            return Err(Failure::Usage(format!("--channels {channels}: {holds}, which is no whole number of frames")));
        }
        Ok(Shape { dtype: port.dtype, channels, length: values / channels, planar: args.planar })
    }

    /// A frame's values; f32 holds those of every type.
    fn decode(&self, bytes: &[u8], frame: &mut [f32]) {
        match self.dtype {
            DType::F32 => {
                let values = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
                frame.iter_mut().zip(values).for_each(|(to, value)| *to = value);
            }
            DType::I8 => frame.iter_mut().zip(bytes).for_each(|(to, byte)| *to = f32::from(byte.cast_signed())),
            // No other type than these three: `Shape::new` sees to it.
            _ => frame.iter_mut().zip(bytes).for_each(|(to, byte)| *to = f32::from(*byte)),
        }
    }

    /// A window as the input has it.
    fn encode(&self, window: &[f32], input: &mut [u8]) {
        let Shape { channels, length, .. } = *self;
        let at = |i: usize| if self.planar { i % length * channels + i / length } else { i };
        for (i, to) in input.chunks_exact_mut(self.dtype.size_bytes()).enumerate() {
            let value = window.get(at(i)).copied().unwrap_or_default();
            match self.dtype {
                DType::F32 => to.copy_from_slice(&value.to_le_bytes()),
                DType::I8 => to.copy_from_slice(&(value as i8).to_le_bytes()),
                _ => to.fill(value as u8),
            }
        }
    }
}

fn line(session: &Session, window: u64, first_frame: u64, ranking: Option<&Ranking>) -> alloc::string::String {
    let mut json = Json::default();
    json.open('{').field("window", window).field("first_frame", first_frame).open_field("outputs", '[');
    for (port, bytes) in session.plan().outputs().zip(&session.outputs) {
        json.open('{').string("name", port.name);
        values(&mut json, port.dtype, bytes);
        json.close('}');
    }
    json.close(']');
    if let Some(ranking) = ranking {
        json.open_field("top", '[');
        ranking.json(&mut json, &ranking.top(session));
        json.close(']');
    }
    json.close('}');
    json.line()
}

fn summary(windows: u64, read: u64, Tally { answered, skipped, waiting, .. }: Tally) -> alloc::string::String {
    let mut json = Json::default();
    json.open('{').open_field("summary", '{').field("windows", windows).field("read", read);
    json.field("answered", answered).field("skipped", skipped).field("remainder", waiting).close('}').close('}');
    json.line()
}

/// Standard input, some of it read ahead.
struct Source<'a> {
    stdin: BorrowedFd<'a>,
    buffer: Vec<u8>,
    at: usize,
    end: usize,
}

impl Source<'_> {
    /// Fills `bytes`, and says how far: less is the end.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<usize, Failure> {
        let mut filled = 0;
        while filled < bytes.len() {
            if self.at == self.end {
                (self.at, self.end) = (0, self.read()?);
                if self.end == 0 {
                    break;
                }
            }
            let (from, to) = (self.buffer.get(self.at..self.end), bytes.get_mut(filled..));
            let (from, to) = (from.unwrap_or_default(), to.unwrap_or_default());
            let count = from.len().min(to.len());
            to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            self.at += count;
            filled += count;
        }
        Ok(filled)
    }

    fn read(&mut self) -> Result<usize, Failure> {
        loop {
            match rustix::io::read(self.stdin, &mut self.buffer[..]) {
                Err(Errno::INTR) => {}
                read => return read.map_err(|why| format!("cannot read standard input: {}", os::reason(why)).into()),
            }
        }
    }
}
