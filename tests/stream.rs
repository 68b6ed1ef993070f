//! `stream`, from files to decisions: accuracy kept, every frame accounted for, the same by hops.

#[path = "stream/accuracy.rs"]
mod accuracy;
mod common;
#[path = "stream/hops.rs"]
mod hops;

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::repository;
use tempfile::TempDir;
use tractlet::sensor::{
    Control, Decision, DecisionRule, Emit, FrontendKind, Layout, Normalization, Overflow, Recipe, Sink, Source,
    SourceOptions, Stream, StreamError, StreamOptions, Summary, Verdict,
};
use tractlet::{DType, Model, Session, SessionOptions, npy};

/// Keeps what was said of each window: label or alarm, and score.
#[derive(Default)]
struct Kept(Arc<Mutex<Vec<(String, f32)>>>);

impl Sink for Kept {
    fn decision(&mut self, decision: &Decision<'_>) -> io::Result<()> {
        let said = match decision.verdict {
            Verdict::Class { label, score, .. } => (label.to_owned(), score),
            Verdict::Anomaly { alarm, score, .. } => (alarm.to_string(), score),
        };
        self.0.lock().unwrap().push(said);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn summary(&mut self, _: &Summary) -> io::Result<()> {
        Ok(())
    }
}

/// Says nothing, slowly.
struct Slow(Duration);

impl Sink for Slow {
    fn decision(&mut self, _: &Decision<'_>) -> io::Result<()> {
        std::thread::sleep(self.0);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn summary(&mut self, _: &Summary) -> io::Result<()> {
        Ok(())
    }
}

/// Takes its time for a decision, and says how long one waited for the flush that lets others see it, at most.
struct Waiting {
    since: Option<Instant>,
    longest: Arc<Mutex<Duration>>,
}

impl Sink for Waiting {
    fn decision(&mut self, _: &Decision<'_>) -> io::Result<()> {
        self.since.get_or_insert_with(Instant::now);
        std::thread::sleep(Duration::from_millis(20));
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let waited = self.since.take().map_or(Duration::ZERO, |since| since.elapsed());
        let mut longest = self.longest.lock().unwrap();
        *longest = waited.max(*longest);
        Ok(())
    }

    fn summary(&mut self, _: &Summary) -> io::Result<()> {
        Ok(())
    }
}

fn recipe(model: &str) -> Recipe {
    Recipe::open(repository().join("models").join(model)).unwrap()
}

fn run(
    recipe: &Recipe,
    file: &Path,
    source: SourceOptions,
    options: StreamOptions<'_>,
    sinks: &mut [Box<dyn Sink>],
) -> Result<Summary, StreamError> {
    run_on(recipe, SessionOptions::default(), file, source, options, sinks)
}

fn run_on(
    recipe: &Recipe,
    session: SessionOptions,
    file: &Path,
    source: SourceOptions,
    options: StreamOptions<'_>,
    sinks: &mut [Box<dyn Sink>],
) -> Result<Summary, StreamError> {
    let session = Session::new(&Model::open(&recipe.model).unwrap(), session).unwrap();
    let source = Source::open(&file.to_str().unwrap().parse().unwrap(), source, &recipe.input).unwrap();
    Stream::new(recipe, session, options)?.run(source, sinks, &Control::default())
}

/// Runs to the end, and gives what was said.
fn said(recipe: &Recipe, file: &Path, source: SourceOptions) -> (Vec<(String, f32)>, Summary) {
    said_on(recipe, SessionOptions::default(), file, source)
}

fn said_on(
    recipe: &Recipe,
    session: SessionOptions,
    file: &Path,
    source: SourceOptions,
) -> (Vec<(String, f32)>, Summary) {
    let kept = Kept::default();
    let said = kept.0.clone();
    let summary = run_on(recipe, session, file, source, StreamOptions::default(), &mut [Box::new(kept)]).unwrap();
    assert!(summary.adds_up(), "{summary:?}");
    let said = std::mem::take(&mut *said.lock().unwrap());
    (said, summary)
}

/// Frames of six channels, as of a walk, in raw f32.
fn walk(folder: &TempDir, frames: usize) -> std::path::PathBuf {
    let path = folder.path().join("walk.f32");
    let value = |frame: usize, channel: usize| ((frame * (channel + 3)) as f32 * 0.11).sin() * 0.4;
    let bytes: Vec<u8> = (0..frames).flat_map(|t| (0..6).flat_map(move |c| value(t, c).to_le_bytes())).collect();
    fs::write(&path, bytes).unwrap();
    path
}

fn raw() -> SourceOptions {
    SourceOptions { format: Some("f32le".parse().unwrap()), ..SourceOptions::default() }
}

#[test]
fn the_words_of_the_recording_are_named() {
    let mut recipe = recipe("kws_dscnn");
    recipe.input.windowing.hop = 16000;
    let (said, summary) = said(&recipe, &repository().join("models/kws_dscnn/words.wav"), SourceOptions::default());
    let words: Vec<&str> = said.iter().map(|(word, _)| word.as_str()).collect();
    assert_eq!(words, ["yes", "no", "stop", "go"]);
    assert_eq!((summary.read, summary.answered, summary.windows), (64000, 64000, 4));
}

#[test]
fn sound_is_the_same_however_it_comes() {
    let folder = TempDir::new().unwrap();
    let mut recipe = recipe("kws_dscnn");
    recipe.input.windowing.hop = 16000;
    // Nothing that would make up for another scale.
    let FrontendKind::Spectral { peak_scaled, .. } = &mut recipe.frontend else { panic!("mfcc") };
    *peak_scaled = false;
    let words = repository().join("models/kws_dscnn/words.wav");
    let expected = said(&recipe, &words, SourceOptions::default()).0;
    let samples: Vec<u8> = hound::WavReader::open(&words)
        .unwrap()
        .samples::<i16>()
        .flat_map(|sample| sample.unwrap().to_le_bytes())
        .collect();
    let (raw, npy) = (folder.path().join("words.s16"), folder.path().join("words.npy"));
    fs::write(&raw, &samples).unwrap();
    let mut writer = npy::Writer::create(&npy, DType::I16, &[samples.len() / 2]).unwrap();
    writer.write(&samples).unwrap();
    writer.finish().unwrap().publish().unwrap();
    let s16le = SourceOptions { format: Some("s16le".parse().unwrap()), ..SourceOptions::default() };
    assert_eq!(said(&recipe, &raw, s16le.clone()).0, expected);
    assert_eq!(said(&recipe, &npy, SourceOptions::default()).0, expected);
    assert_eq!(said(&recipe, &raw, SourceOptions { scale: vec![1.0 / 32768.0], ..s16le }).0, expected);
}

/// A recording of one channel at another rate, by a longer filter than the resampler's, and written as PCM.
fn at_rate(samples: &[f64], from_hz: f64, to_hz: f64, path: &Path) {
    let cutoff = f64::min(1.0, to_hz / from_hz);
    let reach = (24.0 / cutoff) as isize;
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: to_hz as u32,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = hound::WavWriter::create(path, spec).unwrap();
    for n in 0..(samples.len() as f64 * to_hz / from_hz) as usize {
        let at = n as f64 * from_hz / to_hz;
        let middle = at as isize;
        let value = |k: isize| {
            let Some(sample) = usize::try_from(middle + k).ok().and_then(|index| samples.get(index)) else {
                return 0.0;
            };
            let t = (middle + k) as f64 - at;
            let angle = std::f64::consts::PI * t * cutoff;
            let sinc = if angle == 0.0 { 1.0 } else { angle.sin() / angle };
            // A Hann window.
            sample * cutoff * sinc * (0.5 + 0.5 * (angle / 24.0).cos())
        };
        let sum: f64 = (1 - reach..=reach).map(value).sum();
        file.write_sample(sum.round() as i16).unwrap();
    }
    file.finalize().unwrap();
}

#[test]
fn words_at_other_rates_are_the_same_words() {
    let mut recipe = recipe("kws_dscnn");
    recipe.input.windowing.hop = 16000;
    let words = repository().join("models/kws_dscnn/words.wav");
    let (expected, _) = said(&recipe, &words, SourceOptions::default());
    let samples: Vec<f64> =
        hound::WavReader::open(&words).unwrap().samples::<i16>().map(|sample| f64::from(sample.unwrap())).collect();
    let folder = TempDir::new().unwrap();
    for rate in [8000.0, 44100.0, 48000.0] {
        let file = folder.path().join("other.wav");
        at_rate(&samples, 16000.0, rate, &file);
        let (said, summary) = said(&recipe, &file, SourceOptions { repeat: Some(2), ..SourceOptions::default() });
        println!("{rate} Hz: {said:?}");
        assert_eq!((summary.read, summary.windows, summary.resampled_from_hz), (2 * 64000, 8, Some(rate)));
        for ((word, score), (expected, was)) in said.iter().zip(expected.iter().cycle()) {
            assert!(word == expected && (score - was).abs() < 0.1, "{rate}: {word} {score}, not {expected} {was}");
        }
    }
}

#[test]
fn every_format_gives_the_same_answers() {
    let folder = TempDir::new().unwrap();
    let count = |frame: usize, channel: usize| (((frame * (channel + 3)) as f64 * 0.11).sin() * 300.0).round() as i16;
    let frames: Vec<[i16; 6]> = (0..640).map(|t| std::array::from_fn(|c| count(t, c))).collect();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let little: Vec<u8> = frames.iter().flatten().flat_map(|v| v.to_le_bytes()).collect();
    let big: Vec<u8> = frames.iter().flatten().flat_map(|v| v.to_be_bytes()).collect();
    // Columns in another order, one more of them, and a byte order mark in front.
    let mut text = String::from("\u{feff}note;gyro_z;acc_x;acc_y;acc_z;gyro_x;gyro_y\n");
    frames.iter().for_each(|[a, b, c, d, e, f]| text += &format!("walk;{f};{a};{b};{c};{d};{e}\n"));
    let npy = folder.path().join("a.npy");
    let mut writer = npy::Writer::create(&npy, DType::I16, &[640, 6]).unwrap();
    writer.write(&little).unwrap();
    writer.finish().unwrap().publish().unwrap();
    let wav = folder.path().join("a.wav");
    let spec =
        hound::WavSpec { channels: 6, sample_rate: 50, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut writer = hound::WavWriter::create(&wav, spec).unwrap();
    frames.iter().flatten().for_each(|value| writer.write_sample(*value).unwrap());
    writer.finalize().unwrap();

    // The same in the upper bytes of wider words, as the extended header has it, and in the lower ones, as ALSA has it.
    let wide = |shift: u32| frames.iter().flatten().flat_map(|v| (i32::from(*v) << shift).to_le_bytes()).collect();
    let (upper, lower): (Vec<u8>, Vec<u8>) = (wide(16), wide(8));
    let fmt = |tag: u16, bits: u16, more: &[u8]| {
        let words = [&tag.to_le_bytes()[..], &[6, 0, 50, 0, 0, 0], &(50u32 * 24).to_le_bytes(), &[24, 0]];
        [&words.concat(), &bits.to_le_bytes()[..], more].concat()
    };
    let extended = [&[22, 0, 24, 0, 0, 0, 0, 0, 1, 0][..], b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"].concat();
    let wave = |fmt: &[u8], data: &[u8]| {
        let size = |bytes: &[u8]| (bytes.len() as u32).to_le_bytes();
        [b"RIFF\0\0\0\0WAVEodd \x01\0\0\0x\0fmt ", &size(fmt)[..], fmt, b"data", &size(data), data].concat()
    };

    let recipe = recipe("har_cnn1d");
    let answers = |path: &Path, format: Option<&str>, scale: f64| {
        let format = format.map(|format| format.parse().unwrap());
        said(&recipe, path, SourceOptions { format, scale: vec![scale], ..SourceOptions::default() }).0
    };
    let expected = answers(&file("a.s16", &little), Some("s16le"), 1.0 / 512.0);
    assert_eq!(expected.len(), 9);
    assert_eq!(answers(&file("b.s16", &big), Some("s16be"), 1.0 / 512.0), expected);
    assert_eq!(answers(&file("a.csv", text.as_bytes()), None, 1.0 / 512.0), expected);
    assert_eq!(answers(&npy, None, 1.0 / 512.0), expected);
    assert_eq!(answers(&wav, None, 64.0), expected, "full scale is 1");
    let left = file("left.wav", &wave(&fmt(0xfffe, 32, &extended), &upper));
    assert_eq!(answers(&left, None, 64.0), expected, "24 bits that count, of 32");
    assert_eq!(answers(&file("alsa.wav", &wave(&fmt(1, 24, &[]), &lower)), None, 64.0), expected, "S24_LE of ALSA");
    let (pipe, bytes) = (folder.path().join("pipe.wav"), fs::read(&wav).unwrap());
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let (to, sent) = (pipe.clone(), bytes.clone());
    let writer = std::thread::spawn(move || fs::OpenOptions::new().write(true).open(to).unwrap().write_all(&sent));
    assert_eq!(answers(&pipe, None, 64.0), expected, "by way of a pipe");
    writer.join().unwrap().unwrap();

    let cut = file("cut.wav", &fs::read(&wav).unwrap()[..2000]);
    let error = run(&recipe, &cut, SourceOptions::default(), StreamOptions::default(), &mut []).unwrap_err();
    assert!(error.to_string().contains("bytes before its header says"), "{error}");
    let data = bytes.windows(4).position(|four| four == b"data").unwrap() + 8;
    let unfinished = file("unfinished.wav", &[&bytes[..data - 4], &[0; 4], &bytes[data..]].concat());
    let error = Source::open(&unfinished.to_str().unwrap().parse().unwrap(), SourceOptions::default(), &recipe.input);
    let error = error.err().unwrap().to_string();
    assert!(
        error.contains("7680 bytes follow its header") && error.contains(&format!("tail -c +{}", data + 1)),
        "{error}"
    );
}

#[test]
fn a_window_that_is_laid_in_another_order_is_refused() {
    let refused = |recipe: &Recipe, session: SessionOptions| {
        let session = Session::new(&Model::open(&recipe.model).unwrap(), session).unwrap();
        Stream::new(recipe, session, StreamOptions::default()).err().map(|error| error.to_string())
    };
    let mut har = recipe("har_cnn1d");
    let channels_first = har.frontend.clone();
    har.frontend = FrontendKind::Samples { layout: Layout::TimeFirst, normalization: Normalization::None };
    let keys = "see `frontend.layout`, `input.channels` and `input.window`";
    for hop in [128, 64] {
        har.input.windowing.hop = hop;
        for session in [SessionOptions::default(), har.by_hops(SessionOptions::default())] {
            let told = refused(&har, session).unwrap();
            let shapes = "`frontend` gives [128, 6], input `input` of the model is [1, 6, 128]";
            assert!(told.contains(&format!("{shapes}; {keys}")), "{told}");
        }
    }
    har.frontend = channels_first;
    assert_eq!(refused(&har, har.by_hops(SessionOptions::default())), None);
    // Channels and frames exchanged.
    let window = har.input.windowing.length;
    har.input.channels = har.input.channels.iter().cycle().take(window).cloned().collect();
    har.input.windowing.length = 6;
    let told = refused(&har, SessionOptions::default()).unwrap();
    assert!(told.contains("gives [128, 6], input `input` of the model is [1, 6, 128]"), "{told}");

    let mut kws = recipe("kws_dscnn");
    let FrontendKind::Spectral { shape, .. } = &mut kws.frontend else { panic!("mfcc") };
    // 10 frames of 49 coefficients in place of 49 of 10.
    (shape.hop, shape.coefficients) = (1700, Some(49));
    shape.mel.as_mut().unwrap().bands = 49;
    let told = refused(&kws, SessionOptions::default()).unwrap();
    assert!(told.contains("gives [1, 10, 49], input `input` of the model is [1, 1, 49, 10]"), "{told}");
    assert_eq!(refused(&recipe("ad_autoencoder"), SessionOptions::default()), None, "a list has no order of its own");
}

#[test]
fn changes_alone_are_told_where_that_is_asked_for() {
    let mut recipe = recipe("kws_dscnn");
    let DecisionRule::Classes(rule) = &mut recipe.decision else { panic!("classes") };
    rule.emit = Emit::Change;
    let (said, summary) = said(&recipe, &repository().join("models/kws_dscnn/words.wav"), SourceOptions::default());
    assert_eq!((summary.windows, summary.decisions as usize), (13, said.len()));
    // Each of the four words begins and, but for the last, ends or gives way to another.
    assert!((4..=8).contains(&said.len()), "{said:?}");
}

#[test]
fn a_hundredth_of_malformed_lines_is_left_out_and_counted() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("imu.csv");
    let wrong = ["1,2,3", "1,2,3,x,5,6", "1,2,3,4,5,nan", "1,2,3,4,5,6,7", "1,2,,4,5,6", "\u{fffd},1,2,3,4,5"];
    let line = |n: usize| match n % 100 {
        99 => wrong[n / 100 % wrong.len()].to_owned(),
        _ => format!("{},0.1,0.9,0,0.1,0.2", (n as f64 * 0.1).sin()),
    };
    let lines: Vec<String> = (0..10_000).map(line).collect();
    fs::write(&file, format!("# a recording\n\n{}", lines.join("\n"))).unwrap();
    let (_, summary) = said(&recipe("har_cnn1d"), &file, SourceOptions::default());
    assert_eq!((summary.read, summary.malformed), (10_000, 100));
    assert_eq!(summary.first_malformed.as_deref(), Some("line 102: 3 fields, expected 6"));
    assert_eq!(summary.answered + summary.remainder, 9_900);
    assert_eq!(summary.windows, (9_900 - 128) / 64 + 1);
}

#[test]
fn a_line_without_end_is_left_out_in_bounded_memory() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("imu.csv");
    let good = "0,0,1,0,0,0\n".repeat(200);
    fs::write(&file, format!("{good}{}\n{good}", "1".repeat(3 << 20))).unwrap();
    let (_, summary) = said(&recipe("har_cnn1d"), &file, SourceOptions::default());
    assert_eq!((summary.read, summary.malformed), (401, 1));
    assert_eq!(summary.first_malformed.as_deref(), Some("line 201: longer than 65536 bytes"));
}

#[test]
fn what_is_no_such_source_ends_with_its_reason() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("imu.csv");
    fs::write(&file, format!("1,2,3,4,5,6\n{}", "not,a,number,at,all,!\n".repeat(200))).unwrap();
    let error = run(&recipe("har_cnn1d"), &file, SourceOptions::default(), StreamOptions::default(), &mut []);
    let Err(StreamError::Source { fault, summary }) = error else { panic!("an error of the source") };
    let told = fault.to_string();
    assert!(told.contains("100 malformed frames in succession; the last, line 101: field 1 is not a number"), "{told}");
    assert!(summary.adds_up() && summary.malformed == 100, "{summary:?}");
}

#[test]
fn a_source_in_which_nothing_decodes_is_an_error_however_short() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("imu.csv");
    let nothing = "1,2,3,4,5,x\n".repeat(11);
    for (text, why) in [
        (nothing.as_str(), "none of its 11 frames decodes; the first, line 1: field 6 is not a number"),
        ("1,2,3,4,5,x\n", "none of its 1 frames decodes"),
    ] {
        fs::write(&file, text).unwrap();
        let error = run(&recipe("har_cnn1d"), &file, SourceOptions::default(), StreamOptions::default(), &mut []);
        let Err(StreamError::Source { fault, summary }) = error else { panic!("an error of the source") };
        assert!(fault.to_string().contains(why) && summary.adds_up(), "{fault}");
    }
    // Nothing at all is no fault, nor is it where one decodes.
    for text in [String::new(), format!("{nothing}1,2,3,4,5,6\n")] {
        fs::write(&file, text).unwrap();
        said(&recipe("har_cnn1d"), &file, SourceOptions { repeat: Some(2), ..SourceOptions::default() });
    }
}

#[test]
fn no_window_spans_a_gap_in_the_times_that_frames_bring_along() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("imu.csv");
    let har = recipe("har_cnn1d");
    let written = |time: &dyn Fn(u64) -> u64| {
        let lines: String = (0..300).map(|n| format!("{},0.1,0.9,0,0.1,0.2,0\n", time(n))).collect();
        fs::write(&file, lines).unwrap();
        SourceOptions { time: Some("1:ms".parse().unwrap()), ..SourceOptions::default() }
    };
    let even = said(&har, &file, written(&|n| 20 * n)).1;
    assert_eq!((even.windows, even.interrupted, even.stranded), (3, 0, 0));
    for after in [3_600_000, 0] {
        // The sensor stood still for an hour behind 150 frames, or was started anew.
        let time = |n: u64| if n < 150 { 20 * n } else { after + 20 * (n - 150) };
        let torn = said(&har, &file, written(&time)).1;
        assert_eq!((torn.windows, torn.interrupted, torn.stranded, torn.remainder), (2, 1, 22, 22), "{after}");
    }
    // Nanoseconds that are said to be milliseconds.
    let source = written(&|n| 1_700_000_000_000_000_000 + 20_000_000 * n);
    let error = run(&har, &file, source, StreamOptions::default(), &mut []).unwrap_err().to_string();
    assert!(
        error.contains("line 100: field 1 is a time before 0, as of recordings that count from an event"),
        "{error}"
    );
}

#[test]
fn what_is_too_slow_drops_and_says_how_much() {
    let folder = TempDir::new().unwrap();
    let file = walk(&folder, 64 * 200);
    for overflow in [Overflow::DropOldest, Overflow::DropNewest] {
        let options = StreamOptions { overflow, deadline: Some(Duration::from_millis(1)), ..StreamOptions::default() };
        let slow: Box<dyn Sink> = Box::new(Slow(Duration::from_millis(2)));
        let summary = run(&recipe("har_cnn1d"), &file, raw(), options, &mut [slow]).unwrap();
        assert!(summary.adds_up() && summary.read == 64 * 200, "{summary:?}");
        assert!(summary.dropped > 0 && summary.windows > 0, "{overflow:?}: {summary:?}");
        assert!(summary.deadline_missed > 0, "{summary:?}");
    }
}

#[test]
fn who_follows_sees_decisions_of_a_stream_that_never_rests() {
    let folder = TempDir::new().unwrap();
    let file = walk(&folder, 64 * 101);
    let longest = Arc::new(Mutex::new(Duration::ZERO));
    let sink: Box<dyn Sink> = Box::new(Waiting { since: None, longest: Arc::clone(&longest) });
    let summary = run(&recipe("har_cnn1d"), &file, raw(), StreamOptions::default(), &mut [sink]).unwrap();
    assert_eq!(summary.decisions, 100);
    let longest = longest.lock().unwrap().as_secs_f64();
    // A file is always ahead of a sink that takes 20 ms.
    assert!(summary.seconds >= 2.0 && longest < summary.seconds / 2.0, "{longest} s of {}", summary.seconds);
}
