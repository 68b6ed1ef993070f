//! What of a window is new, and what the model is given of it: all, or the part by which it differs from the window before.

use std::ops::Range;

use tractlet_core::ring::Windowing;

use super::recipe::{DecisionRule, FrontendKind, Layout, Normalization, Recipe};
use crate::{HopReport, SessionOptions, TensorSpec};

/// The part of a window that its front end makes new rows of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct News {
    /// Frames at the end of a window.
    frames: usize,
    /// Rows that the front end makes of them.
    rows: usize,
    /// Rows that it makes of a window.
    window_rows: usize,
    /// Values that lie before time, of which each has all rows.
    outer: usize,
}

impl Recipe {
    /// Has a session take what is new of each window alone, where the recipe allows that.
    pub fn by_hops(&self, options: SessionOptions) -> SessionOptions {
        self.news().map_or(options.clone(), |news| options.hop_of(news.rows, news.window_rows))
    }

    /// Rows of the model's input from window to window; or why it has to be given all of each.
    ///
    /// ```
    /// use tractlet::sensor::Recipe;
    /// assert_eq!(Recipe::open("models/har_cnn1d")?.hop_rows(), Ok(64));
    /// let peak = Recipe::open("models/kws_dscnn")?.hop_rows().unwrap_err();
    /// assert_eq!(peak, "`frontend.scale` = \"peak\" divides by a value of the whole window");
    /// # Ok::<(), tractlet::sensor::RecipeError>(())
    /// ```
    ///
    /// # Errors
    /// What of the recipe depends on whole windows.
    pub fn hop_rows(&self) -> Result<usize, String> {
        self.news().map(|news| news.rows)
    }

    fn news(&self) -> Result<News, String> {
        let Windowing { length, hop } = self.input.windowing;
        let channels = self.input.channels.len();
        if matches!(self.decision, DecisionRule::Anomaly(_)) {
            return Err("`decision.kind` = \"anomaly\" takes the whole window".into());
        }
        let news = match &self.frontend {
            FrontendKind::Rms => return Err("`frontend.kind` = \"rms\" makes one value of a whole window".into()),
            FrontendKind::Samples { normalization: Normalization::ZScore, .. } => {
                return Err("`frontend.normalize` = \"z-score\" takes mean and deviation of the whole window".into());
            }
            FrontendKind::Samples { layout, .. } => {
                let outer = if *layout == Layout::ChannelsFirst { channels } else { 1 };
                News { frames: hop, rows: hop, window_rows: length, outer }
            }
            FrontendKind::Spectral { peak_scaled: true, .. } => {
                return Err("`frontend.scale` = \"peak\" divides by a value of the whole window".into());
            }
            FrontendKind::Spectral { shape, .. } => {
                if !hop.is_multiple_of(shape.hop) {
                    let step = shape.hop;
                    return Err(format!("windows come {hop} frames apart, no multiple of `frontend.hop`, {step}"));
                }
                let window_rows = shape.frames(length);
                let rows = hop / shape.hop;
                // Windows that have nothing in common are refused below.
                let frames = length - window_rows.saturating_sub(rows) * shape.hop;
                News { frames, rows, window_rows, outer: channels }
            }
        };
        match news.rows < news.window_rows {
            true => Ok(news),
            false => Err("windows have nothing in common".into()),
        }
    }
}

/// How windows go to the model, in frames.
#[derive(Clone, Copy, Debug)]
pub struct Pieces {
    windowing: Windowing,
    channels: usize,
    /// Frames that a run takes, the last of them the last of the part that it is for.
    pub frames: usize,
    /// Runs for a window that does not go on from the one before.
    runs: usize,
}

impl Pieces {
    /// The parts of `recipe`'s windows for a session that takes `input`, by hops if `hop` says so.
    ///
    /// # Errors
    /// The session takes other hops than the recipe has.
    pub fn new(recipe: &Recipe, input: &TensorSpec, hop: Option<&HopReport>) -> Result<Pieces, String> {
        let (windowing, channels) = (recipe.input.windowing, recipe.input.channels.len());
        let Some(hop) = hop else { return Ok(Pieces { windowing, channels, frames: windowing.length, runs: 1 }) };
        let news = recipe.news().map_err(|why| format!("the model takes hops of {} rows, and {why}", hop.rows))?;
        let outer: usize = input.shape.iter().take(hop.axis).product();
        let (found, expected) = ((hop.rows, hop.window_rows, outer), (news.rows, news.window_rows, news.outer));
        if found != expected {
            return Err(format!(
                "the model takes hops of {} of {} rows behind {outer} channels, and windows give {} of {} behind {}",
                hop.rows, hop.window_rows, news.rows, news.window_rows, news.outer
            ));
        }
        Ok(Pieces { windowing, channels, frames: news.frames, runs: hop.runs })
    }

    /// Frames before a window that its first run takes up; they hold zeros.
    fn lead(&self) -> usize {
        ((self.runs - 1) * self.windowing.hop + self.frames).saturating_sub(self.windowing.length)
    }

    /// Values of the memory in which a window lies.
    pub fn memory_len(&self) -> usize {
        (self.lead() + self.windowing.length) * self.channels
    }

    /// Where the window lies in it.
    pub fn window<'m>(&self, memory: &'m mut [f32]) -> &'m mut [f32] {
        memory.get_mut(self.lead() * self.channels..).unwrap_or_default()
    }

    /// What the front end takes for each run, in order, where `goes_on` says whether the window before was run and is followed
    /// by this one.
    pub fn runs(&self, goes_on: bool) -> impl Iterator<Item = Range<usize>> + use<> {
        let Pieces { channels, frames, .. } = *self;
        let (end, hop) = (self.lead() + self.windowing.length, self.windowing.hop);
        let runs = if goes_on { 1 } else { self.runs };
        (0..runs).rev().map(move |back| {
            let end = end - back * hop;
            (end - frames) * channels..end * channels
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn recipe(input: &str, frontend: &str) -> Recipe {
        let text = format!("model = \"m.onnx\"\n[input]\nrate_hz = 100\n{input}\n[frontend]\n{frontend}\n");
        Recipe::parse(Path::new("model.toml"), &text).unwrap()
    }

    #[test]
    fn a_window_is_cut_into_what_each_run_takes() {
        let recipe = recipe("channels = 2\nwindow = 10\nhop = 4", "kind = \"samples\"\nlayout = \"channels-first\"");
        assert_eq!(recipe.hop_rows(), Ok(4));
        let input = TensorSpec { name: "x".into(), dtype: crate::DType::F32, shape: vec![1, 2, 4] };
        let hop = HopReport { axis: 2, rows: 4, window_rows: 10, runs: 3, window_macs: None, whole_from: None };
        let pieces = Pieces::new(&recipe, &input, Some(&hop)).unwrap();
        // Two frames more than a window, so that three hops end where it does.
        assert_eq!((pieces.frames, pieces.memory_len()), (4, 24));
        assert_eq!(pieces.runs(false).collect::<Vec<_>>(), [0..8, 8..16, 16..24]);
        assert!(pieces.runs(true).eq(std::iter::once(16..24)));
        let mut memory = [0.0; 24];
        assert_eq!(pieces.window(&mut memory).len(), 20);
        let other = HopReport { rows: 5, ..hop };
        assert!(Pieces::new(&recipe, &input, Some(&other)).unwrap_err().contains("hops of 5 of 10 rows"));
        let whole = Pieces::new(&recipe, &input, None).unwrap();
        assert!(whole.memory_len() == 20 && whole.runs(false).eq(std::iter::once(0..20)));
    }

    #[test]
    fn frames_of_a_spectrum_that_are_new_take_what_they_overlap() {
        let spectrum = |hop: &str| {
            let frontend = "kind = \"spectrum\"\nframe = 12\nhop = 5\nfft = 16";
            recipe(&format!("channels = 1\nwindow = 40\nhop = {hop}"), frontend)
        };
        // Six frames, from 0, 5, 10, 15, 20 and 25: the last two begin at 20, and three samples lie behind them.
        let news = spectrum("10").news().unwrap();
        assert_eq!(news, News { frames: 20, rows: 2, window_rows: 6, outer: 1 });
        assert_eq!(spectrum("30").hop_rows().unwrap_err(), "windows have nothing in common");
        assert!(spectrum("7").hop_rows().unwrap_err().contains("7 frames apart, no multiple of `frontend.hop`, 5"));
    }
}
