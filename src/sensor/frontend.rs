//! From a window to the model's input, as the recipe says.

use tractlet_core::signal::spectral::Spectral;
use tractlet_core::signal::{Unfit, channel, stats};

use super::fixed::FixedPoint;
use super::recipe::{Arithmetic, FrontendKind, Input, Layout, Normalization};

/// A front end with its tables.
pub struct Frontend {
    channels: usize,
    /// Frames of a window, or of the part of one that it is given.
    length: usize,
    elements: usize,
    made: Made,
}

impl FrontendKind {
    /// What it makes of so many frames, the outermost dimension first.
    pub(super) fn shape(&self, channels: usize, length: usize) -> Vec<usize> {
        match self {
            FrontendKind::Samples { layout: Layout::ChannelsFirst, .. } => vec![channels, length],
            FrontendKind::Samples { layout: Layout::TimeFirst, .. } => vec![length, channels],
            FrontendKind::Rms => vec![channels],
            FrontendKind::Spectral { shape, .. } => vec![channels, shape.frames(length), shape.width()],
        }
    }
}

enum Made {
    Samples { layout: Layout, normalization: Normalization },
    Rms,
    Spectral { spectral: Box<Spectral>, peak_scaled: bool },
    Fixed(Box<FixedPoint>),
}

impl Frontend {
    /// For `length` frames of the input: a window, or a part of one.
    pub fn new(kind: &FrontendKind, input: &Input, length: usize) -> Result<Frontend, Unfit> {
        let made = match kind {
            FrontendKind::Samples { layout, normalization } => {
                Made::Samples { layout: *layout, normalization: normalization.clone() }
            }
            FrontendKind::Rms => Made::Rms,
            FrontendKind::Spectral { shape, peak_scaled, arithmetic: Arithmetic::Float } => {
                Made::Spectral { spectral: Box::new(Spectral::new(*shape)?), peak_scaled: *peak_scaled }
            }
            FrontendKind::Spectral { shape, peak_scaled, arithmetic: Arithmetic::Fixed } => {
                Made::Fixed(Box::new(FixedPoint::new(*shape, *peak_scaled, input.channels.len(), length)?))
            }
        };
        let channels = input.channels.len();
        Ok(Frontend { channels, length, elements: kind.shape(channels, length).iter().product(), made })
    }

    /// Elements that it gives.
    pub fn elements(&self) -> usize {
        self.elements
    }

    /// Fills `out` from a window of interleaved frames.
    pub fn run(&mut self, window: &[f32], out: &mut [f32]) {
        let channels = self.channels;
        let of = |index| channel(window, channels, index);
        match &mut self.made {
            Made::Rms => out.iter_mut().enumerate().for_each(|(index, value)| *value = stats::rms(of(index))),
            Made::Samples { layout, normalization } => {
                for index in 0..channels {
                    let (mean, gain) = normalization.of(index, of(index));
                    let values = of(index).map(|value| (value - mean) * gain);
                    let (start, step) = match layout {
                        Layout::ChannelsFirst => (index * self.length, 1),
                        Layout::TimeFirst => (index, channels),
                    };
                    let places = out.get_mut(start..).unwrap_or_default().iter_mut().step_by(step);
                    places.zip(values).for_each(|(place, value)| *place = value);
                }
            }
            Made::Spectral { spectral, peak_scaled } => {
                let each = out.len() / channels;
                for (index, out) in out.chunks_exact_mut(each).enumerate() {
                    let peak = if *peak_scaled { stats::peak(of(index)) } else { 1.0 };
                    // Silence has no peak to scale by.
                    let gain = gain(peak).unwrap_or(1.0);
                    spectral.run(window, channels, index, gain, out);
                }
            }
            Made::Fixed(fixed) => fixed.run(window, out),
        }
    }
}

/// What makes `size` 1; none where it is 0, or so small that nothing does.
fn gain(size: f32) -> Option<f32> {
    Some(size.recip()).filter(|gain| size > 0.0 && gain.is_finite())
}

impl Normalization {
    /// What is taken off a channel, and what the rest is multiplied with.
    fn of(&self, index: usize, values: impl Iterator<Item = f32> + Clone) -> (f32, f32) {
        match self {
            Normalization::None => (0.0, 1.0),
            Normalization::ZScore => {
                let (mean, deviation) = stats::mean_and_deviation(values);
                (mean, gain(deviation).unwrap_or(0.0))
            }
            Normalization::Standard { mean, deviation } => {
                let mean = mean.get(index).copied().unwrap_or(0.0);
                (mean, deviation.get(index).copied().unwrap_or(1.0).recip())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::recipe::Channel;
    use tractlet_core::ring::Windowing;
    use tractlet_core::signal::spectral::{Magnitude, SpectralShape};
    use tractlet_core::signal::taper::Taper;

    fn run(kind: &FrontendKind, window: &[f32]) -> Vec<f32> {
        let channels = ["a", "b"].map(|name| Channel { name: name.into(), unit: None }).into();
        let input = Input { rate_hz: None, channels, named: true, windowing: Windowing { length: 4, hop: 4 } };
        let mut frontend = Frontend::new(kind, &input, 4).unwrap();
        let mut out = vec![f32::NAN; frontend.elements()];
        frontend.run(window, &mut out);
        out
    }

    #[test]
    fn samples_are_laid_as_asked() {
        let window = [1.0, 10.0, 2.0, 20.0, 3.0, 30.0, 4.0, 40.0];
        let kind = |layout, normalization| FrontendKind::Samples { layout, normalization };
        assert_eq!(run(&kind(Layout::TimeFirst, Normalization::None), &window), window);
        assert_eq!(
            run(&kind(Layout::ChannelsFirst, Normalization::None), &window),
            [1.0, 2.0, 3.0, 4.0, 10.0, 20.0, 30.0, 40.0]
        );
        let standard = Normalization::Standard { mean: vec![1.0, 10.0], deviation: vec![0.5, 10.0] };
        assert_eq!(run(&kind(Layout::TimeFirst, standard), &window), [0.0, 0.0, 2.0, 1.0, 4.0, 2.0, 6.0, 3.0]);
    }

    #[test]
    fn a_channel_that_stands_still_has_a_z_score_of_zero() {
        let window = [5.0, 1.0, 5.0, -1.0, 5.0, 1.0, 5.0, -1.0];
        let kind = FrontendKind::Samples { layout: Layout::ChannelsFirst, normalization: Normalization::ZScore };
        assert_eq!(run(&kind, &window), [0.0, 0.0, 0.0, 0.0, 1.0, -1.0, 1.0, -1.0]);
        assert_eq!(run(&FrontendKind::Rms, &window), [5.0, 1.0]);
    }

    #[test]
    fn what_is_too_small_to_divide_by_counts_as_still() {
        assert_eq!((gain(0.0), gain(1e-39), gain(-1.0), gain(4.0)), (None, None, None, Some(0.25)));
        let window = [0.0, 1.0, 0.0, -1.0, 1e-40, 1.0, 1e-40, -1.0];
        let shape = SpectralShape {
            rate_hz: 100.0,
            frame: 4,
            hop: 4,
            fft: 16,
            taper: Taper::Rectangular,
            magnitude: Magnitude::Absolute,
            mel: None,
            log: None,
            coefficients: None,
        };
        let out = run(&FrontendKind::Spectral { shape, peak_scaled: true, arithmetic: Arithmetic::Float }, &window);
        assert!(out.iter().all(|value| value.is_finite()), "{out:?}");
    }
}
