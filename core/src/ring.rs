//! Frames of a sensor on their way to windows: a ring of fixed capacity in memory that the caller gives.
//!
//! A frame is one reading of all channels. A window is `length` frames in succession; the next one begins
//! `hop` frames later. Frames that are lost are never papered over: no window spans a gap, and every frame
//! that went in is counted exactly once, as the [`Tally`] says.
//!
//! ```
//! use tractlet_core::ring::{FrameRing, Overflow, Windowing};
//!
//! let windowing = Windowing { length: 4, hop: 2 };
//! let mut ring = FrameRing::new([0f32; 8], [0u64; 8], 1, windowing, Overflow::Block).unwrap();
//! assert_eq!(ring.push(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[10, 20, 30, 40, 50, 60], 0), 6);
//! let mut window = [0f32; 4];
//! assert_eq!(ring.take(&mut window).map(|w| (w.first_ns, w.last_ns)), Some((10, 40)));
//! assert_eq!(ring.take(&mut window).map(|w| w.first_ns), Some(30));
//! assert_eq!(window, [3.0, 4.0, 5.0, 6.0]);
//! assert!(ring.take(&mut window).is_none());
//! ```

use heapless::Deque;

/// The most gaps that may wait in the ring; beyond it, frames are dropped or wait.
const MAX_GAPS: usize = 16;
/// Arrivals that are told apart; where there are more, older ones are joined, which errs towards late.
const MAX_ARRIVALS: usize = 64;

/// What becomes of a frame that finds no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Overflow {
    /// Frames that waited longest make room: what is answered is recent.
    DropOldest,
    /// It is dropped, and all after it until there is room for a whole window: what is answered is whole.
    DropNewest,
    /// It waits, and so does who reads the sensor: nothing is lost here.
    Block,
}

/// How windows are cut, in frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windowing {
    /// Frames in a window.
    pub length: usize,
    /// Frames from the start of a window to the start of the next.
    pub hop: usize,
}

/// What became of the frames that went in. The sum of all is the number of frames that [`FrameRing::push`] took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Frames in at least one window that was taken.
    pub answered: u64,
    /// Frames lost for want of room.
    pub dropped: u64,
    /// Frames before a gap, too few for a window.
    pub stranded: u64,
    /// Frames between windows, where the hop is longer than the window.
    pub skipped: u64,
    /// Frames that wait for their window to be complete.
    pub waiting: u64,
}

/// Times of a window that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Time of its first frame, in nanoseconds, as it was pushed.
    pub first_ns: u64,
    /// Time of its last frame.
    pub last_ns: u64,
    /// Whether it begins a hop behind the window that was taken before, with no gap between.
    pub goes_on: bool,
    /// When its last frame arrived, on the clock of [`FrameRing::push`]'s `arrival_ns`; never too late a time.
    pub arrival_ns: u64,
}

/// A ring of frames, which gives windows.
#[derive(Debug)]
pub struct FrameRing<V, T> {
    /// `capacity` frames of `channels` values, interleaved.
    values: V,
    /// A time for each frame.
    times: T,
    channels: usize,
    windowing: Windowing,
    overflow: Overflow,
    /// Number of the next frame that goes in, counted from the first.
    tail: u64,
    /// Number of the first frame of the next window; past `tail` while frames between windows are skipped.
    head: u64,
    /// Frames below this number were in a window.
    answered_to: u64,
    /// Numbers of frames before which others are missing, ascending.
    gaps: Deque<u64, MAX_GAPS>,
    /// Number of the frame behind each push, and when that push was.
    arrivals: Deque<(u64, u64), MAX_ARRIVALS>,
    /// Where the next window begins if it is to go on from the last; none before the first, and behind a gap.
    follows: Option<u64>,
    /// Under `DropNewest`: until there is room for a whole window.
    dropping: bool,
    answered: u64,
    dropped: u64,
    stranded: u64,
    skipped: u64,
}

impl<V, T> FrameRing<V, T>
where
    V: AsRef<[f32]> + AsMut<[f32]>,
    T: AsRef<[u64]> + AsMut<[u64]>,
{
    /// A ring over `values`, of `channels` for each frame, and `times`, one for each.
    ///
    /// None where a length is zero, or the memory holds less than a window.
    pub fn new(values: V, times: T, channels: usize, windowing: Windowing, overflow: Overflow) -> Option<Self> {
        let capacity = times.as_ref().len();
        let fits = capacity.checked_mul(channels).is_some_and(|len| len == values.as_ref().len());
        let sound = channels > 0 && windowing.hop > 0 && windowing.length > 0 && windowing.length <= capacity;
        (fits && sound).then_some(FrameRing {
            values,
            times,
            channels,
            windowing,
            overflow,
            tail: 0,
            head: 0,
            answered_to: 0,
            gaps: Deque::new(),
            arrivals: Deque::new(),
            follows: None,
            dropping: false,
            answered: 0,
            dropped: 0,
            stranded: 0,
            skipped: 0,
        })
    }

    /// Takes frames, `times.len()` of them, that came at `arrival_ns` of any clock that does not run backwards.
    /// Gives how many it took: all, but under [`Overflow::Block`], where the rest has to come again.
    ///
    /// # Panics
    /// Where `values` is shorter than the channels of all frames.
    pub fn push(&mut self, values: &[f32], times: &[u64], arrival_ns: u64) -> usize {
        let channels = self.channels;
        let mut taken = 0;
        for (frame, &time) in values.chunks_exact(channels).zip(times) {
            if !self.make_room() {
                if self.overflow == Overflow::Block {
                    break;
                }
                self.dropped += 1;
            } else if self.tail < self.head {
                self.tail += 1;
                self.skipped += 1;
            } else {
                let slot = self.slot(self.tail);
                self.values.as_mut()[slot * channels..][..channels].copy_from_slice(frame);
                self.times.as_mut()[slot] = time;
                self.tail += 1;
            }
            taken += 1;
        }
        self.arrived(arrival_ns);
        taken
    }

    /// States that frames are missing before the next one: no window spans the two sides.
    /// False where too many gaps wait already; then nothing changed, and it has to be stated again.
    #[must_use]
    pub fn break_here(&mut self) -> bool {
        // At the start of a window nothing is torn, but it does not go on from the one before.
        if self.tail <= self.head {
            self.follows = None;
            return true;
        }
        self.gaps.back() == Some(&self.tail) || self.gaps.push_back(self.tail).is_ok()
    }

    /// Copies the next window, of `length` frames of interleaved channels, if it is complete.
    ///
    /// # Panics
    /// Where `out` is not as long as a window.
    pub fn take(&mut self, out: &mut [f32]) -> Option<Taken> {
        if !self.ready() {
            return None;
        }
        let (length, channels) = (self.windowing.length, self.channels);
        assert_eq!(out.len(), length * channels, "a window has another length");
        let start = self.slot(self.head);
        let first_part = length.min(self.capacity() - start);
        let (a, b) = out.split_at_mut(first_part * channels);
        a.copy_from_slice(&self.values.as_ref()[start * channels..][..a.len()]);
        b.copy_from_slice(&self.values.as_ref()[..b.len()]);

        let end = self.head + length as u64;
        while self.arrivals.front().is_some_and(|(behind, _)| *behind < end) {
            self.arrivals.pop_front();
        }
        let taken = Taken {
            first_ns: self.times.as_ref()[start],
            last_ns: self.times.as_ref()[self.slot(end - 1)],
            goes_on: self.follows == Some(self.head),
            arrival_ns: self.arrivals.front().map_or(0, |(_, at)| *at),
        };
        self.answered += end - self.answered_to.clamp(self.head, end);
        self.answered_to = end;
        let next = self.head.saturating_add(self.windowing.hop as u64);
        self.skipped += next.min(self.tail).saturating_sub(end);
        self.head = next;
        self.follows = Some(next);
        Some(taken)
    }

    /// Whether a window is complete. Frames before a gap that cannot become one are given up here.
    pub fn ready(&mut self) -> bool {
        let length = self.windowing.length as u64;
        while let Some(&gap) = self.gaps.front().filter(|gap| **gap < self.head.saturating_add(length)) {
            if gap > self.head {
                self.stranded += self.pass_over(gap);
            }
            self.gaps.pop_front();
            self.follows = None;
        }
        self.tail >= self.head.saturating_add(length)
    }

    /// Frames that it can hold.
    pub fn capacity(&self) -> usize {
        self.times.as_ref().len()
    }

    /// What became of the frames so far.
    pub fn tally(&self) -> Tally {
        let waiting = self.tail.saturating_sub(self.head.max(self.answered_to));
        let FrameRing { answered, dropped, stranded, skipped, .. } = *self;
        Tally { answered, dropped, stranded, skipped, waiting }
    }

    /// Whether the next frame has room, after what the policy does for it.
    fn make_room(&mut self) -> bool {
        let held = usize::try_from(self.tail.saturating_sub(self.head)).unwrap_or(usize::MAX);
        let free = self.capacity() - held;
        match self.overflow {
            Overflow::Block => free > 0,
            Overflow::DropOldest => {
                if free == 0 {
                    // Whole hops, so that windows keep their places; the ring holds more than that.
                    let step = self.windowing.hop.min(self.windowing.length) as u64;
                    self.dropped += self.pass_over(self.head + step);
                }
                true
            }
            Overflow::DropNewest => {
                // Room for a frame or two would be used by pieces that no window can be made of.
                if self.dropping && free >= self.windowing.length && self.break_here() {
                    self.dropping = false;
                } else if free == 0 {
                    self.dropping = true;
                }
                !self.dropping
            }
        }
    }

    /// Has the next window begin at `head`, and gives how many of the frames before it were in none.
    fn pass_over(&mut self, head: u64) -> u64 {
        let lost = head - self.answered_to.clamp(self.head, head);
        self.head = head;
        lost
    }

    fn arrived(&mut self, arrival_ns: u64) {
        if self.arrivals.back().map_or(0, |(behind, _)| *behind) < self.tail {
            if self.arrivals.is_full() {
                // Pairs become one, as old as the older of the two; the newest stays exact.
                for _ in 0..MAX_ARRIVALS / 2 {
                    if let (Some((_, at)), Some((behind, _))) = (self.arrivals.pop_front(), self.arrivals.pop_front()) {
                        let _ = self.arrivals.push_back((behind, at));
                    }
                }
            }
            let _ = self.arrivals.push_back((self.tail, arrival_ns));
        }
        // What lies before the next window is asked for no more.
        while self.arrivals.front().is_some_and(|(behind, _)| *behind <= self.head) {
            self.arrivals.pop_front();
        }
    }

    fn slot(&self, frame: u64) -> usize {
        (frame % self.capacity() as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    type Ring = FrameRing<Vec<f32>, Vec<u64>>;

    fn ring(capacity: usize, length: usize, hop: usize, overflow: Overflow) -> Ring {
        let windowing = Windowing { length, hop };
        FrameRing::new(std::vec![0.0; capacity], std::vec![0; capacity], 1, windowing, overflow).unwrap()
    }

    /// Frames hold their own number, so that a window shows what it is made of.
    fn push(ring: &mut Ring, from: u64, count: usize) -> usize {
        let times: Vec<u64> = (from..from + count as u64).collect();
        let values: Vec<f32> = times.iter().map(|&t| t as f32).collect();
        ring.push(&values, &times, from)
    }

    #[test]
    fn the_oldest_make_room_for_the_newest() {
        let mut ring = ring(8, 4, 2, Overflow::DropOldest);
        assert_eq!(push(&mut ring, 0, 11), 11);
        let mut window = [0.0; 4];
        assert_eq!(ring.take(&mut window).unwrap().first_ns, 4);
        assert_eq!(ring.tally(), Tally { answered: 4, dropped: 4, waiting: 3, ..Tally::default() });
    }

    #[test]
    fn a_full_ring_that_drops_the_newest_leaves_whole_windows() {
        let mut ring = ring(8, 4, 4, Overflow::DropNewest);
        push(&mut ring, 0, 10);
        let mut window = [0.0; 4];
        assert_eq!(ring.take(&mut window).unwrap().first_ns, 0);
        push(&mut ring, 10, 4);
        assert_eq!(ring.take(&mut window).unwrap().first_ns, 4);
        assert_eq!(ring.take(&mut window).unwrap().first_ns, 10);
        assert_eq!(ring.tally(), Tally { answered: 12, dropped: 2, ..Tally::default() });
    }

    #[test]
    fn what_a_gap_leaves_behind_is_not_dropped_for_want_of_room() {
        let mut ring = ring(8, 4, 4, Overflow::Block);
        push(&mut ring, 0, 6);
        assert!(ring.break_here() && ring.take(&mut [0.0; 4]).is_some() && !ring.ready());
        assert_eq!(ring.tally(), Tally { answered: 4, stranded: 2, ..Tally::default() });
    }

    #[test]
    fn behind_the_longest_hop_there_is_no_window() {
        let mut ring = ring(4, 4, usize::MAX, Overflow::DropOldest);
        for start in [0, 4, 8] {
            assert_eq!(push(&mut ring, start, 4), 4);
            assert_eq!(ring.take(&mut [0.0; 4]).is_some(), start == 0);
        }
        assert!(ring.break_here() && !ring.ready());
        assert_eq!(ring.tally(), Tally { answered: 4, skipped: 8, ..Tally::default() });
    }

    #[test]
    fn arrival_is_that_of_the_last_frame() {
        let mut ring = ring(8, 4, 2, Overflow::Block);
        ring.push(&[0.0; 3], &[0; 3], 100);
        ring.push(&[0.0; 3], &[0; 3], 200);
        let mut window = [0.0; 4];
        assert_eq!(ring.take(&mut window).unwrap().arrival_ns, 200);
        assert_eq!(ring.take(&mut window).unwrap().arrival_ns, 200);
    }

    /// As a slow sensor does, whose every frame is a push of its own.
    #[test]
    fn arrival_is_exact_for_who_takes_windows_as_they_come() {
        let mut ring = ring(256, 128, 64, Overflow::DropOldest);
        let mut window = [0.0; 128];
        let mut ends = Vec::new();
        for frame in 0..1000 {
            ring.push(&[0.0], &[0], frame);
            ends.extend(ring.take(&mut window).map(|taken| (frame, taken.arrival_ns)));
        }
        assert_eq!(ends.len(), 14);
        assert!(ends.iter().all(|(frame, arrival)| frame == arrival), "{ends:?}");
    }

    #[test]
    fn memory_for_less_than_a_window_is_refused() {
        let windowing = Windowing { length: 5, hop: 1 };
        assert!(FrameRing::new([0.0; 4], [0; 4], 1, windowing, Overflow::Block).is_none());
        assert!(FrameRing::new([0.0; 12], [0; 5], 2, windowing, Overflow::Block).is_none());
    }

    proptest! {
        /// Any order of pushing, taking and breaking: windows are whole, and the sum is right.
        #[test]
        fn every_frame_is_counted_once_and_windows_are_whole(
            length in 1usize..9, hop in 1usize..14, spare in 0usize..20, policy in 0usize..3,
            steps in proptest::collection::vec((0usize..12, 0usize..4, any::<bool>()), 1..60),
        ) {
            let overflow = [Overflow::DropOldest, Overflow::DropNewest, Overflow::Block][policy];
            let mut ring = ring(length + spare, length, hop, overflow);
            let (mut next, mut taken, mut broken) = (0u64, 0u64, Vec::new());
            let mut before: Option<u64> = None;
            let mut window = std::vec![0.0; length];
            for (pushes, takes, tear) in steps {
                if tear && ring.break_here() {
                    broken.push(next);
                }
                let count = push(&mut ring, next, pushes);
                prop_assert!(count == pushes || overflow == Overflow::Block);
                taken += count as u64;
                next += count as u64;
                for _ in 0..takes {
                    let Some(times) = ring.take(&mut window) else { continue };
                    prop_assert!(window.windows(2).all(|pair| pair[1] == pair[0] + 1.0), "{window:?}");
                    prop_assert_eq!(times.last_ns, times.first_ns + length as u64 - 1);
                    prop_assert!(!broken.iter().any(|&at| times.first_ns < at && at <= times.last_ns));
                    // It goes on if it is a hop later, and nothing was torn since the window before began.
                    let follows = before.is_some_and(|first| {
                        let whole = first + hop as u64 == times.first_ns;
                        whole && !broken.iter().any(|&at| first < at && at <= times.last_ns)
                    });
                    prop_assert_eq!(times.goes_on, follows, "{:?} behind {:?}, broken {:?}", times, before, broken);
                    before = Some(times.first_ns);
                }
                let Tally { answered, dropped, stranded, skipped, waiting } = ring.tally();
                prop_assert_eq!(answered + dropped + stranded + skipped + waiting, taken);
                prop_assert!(dropped == 0 || overflow != Overflow::Block);
                prop_assert!(stranded == 0 || !broken.is_empty() || overflow == Overflow::DropNewest);
            }
        }
    }
}
