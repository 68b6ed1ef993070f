//! Recordings as a sensor's frames: CSV, .npy, .wav and raw samples, from their bytes to decisions.

use std::io;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::Ordering::Relaxed;

use tractlet::sensor::{
    Column, Control, Counters, Decision, Recipe, Sink, Source, SourceOptions, SourceSpec, Stream, StreamOptions,
    Summary,
};

use super::recipe::session;
use super::{files, goes_all_the_way};
use crate::memory_file::in_file;

const RECIPES: [&str; 2] = [
    "model = \"m\"\n[input]\nrate_hz = 8000\nchannels = [\"a\"]\nunits = [\"g\"]\nwindow = 4\nhop = 2\n[frontend]\nkind = \"samples\"\nlayout = \"time-first\"\nnormalize = \"z-score\"\n[decision]\nkind = \"anomaly\"\nfactor = 2\nwarmup = 2\nrate = 0.5\n",
    "model = \"m\"\nlabels = [\"u\", \"v\", \"w\", \"x\"]\n[input]\nchannels = [\"a\", \"b\", \"c\", \"d\"]\nwindow = 3\nhop = 5\n[frontend]\nkind = \"rms\"\n[decision]\nkind = \"classes\"\nsoftmax = true\nsmooth = 2\ntop = 4\n",
];

const FORMATS: [&str; 12] =
    ["csv", "wav", "npy", "u8", "s8", "s16le", "u16be", "s24le", "u24be", "s32be", "f32le", "f64be"];

/// Windows of which decisions are made: a recording at a 64th of the recipe's rate has hundreds of thousands.
const MAX_WINDOWS: usize = 500;

static PARSED: LazyLock<[Recipe; 2]> = LazyLock::new(|| {
    RECIPES.map(|text| Recipe::parse(Path::new("/nowhere/model.toml"), text).expect("a recipe that is right"))
});

/// Takes the first byte for how the others are to be read, and reads them; of some it makes decisions. The two threads of
/// a stream wait for each other, window by window, which is what takes time.
pub fn run(bytes: &[u8]) {
    let Some((&how, rest)) = bytes.split_first() else { return };
    let how = usize::from(how);
    let recipe = &PARSED[how % 2];
    let format = FORMATS[how / 2 % FORMATS.len()];
    let mut options = SourceOptions { format: format.parse().ok(), ..SourceOptions::default() };
    let channels = recipe.input.channels.len();
    // The rest of the byte: by name or by number, with a column of time, wider frames than the model takes.
    match how / 24 {
        1 if format == "csv" => options.time = "t:ms".parse().ok(),
        2 => {
            options.columns = Some((1..=channels).rev().map(Column::Number).collect());
            match format {
                "csv" => options.time = "6:s".parse().ok(),
                "npy" | "wav" => {}
                _ => options.channels = Some(channels + 2),
            }
        }
        3 => options.scale = vec![-2.5e3],
        4 => options.repeat = Some(3),
        5 => options.max_malformed = 2,
        _ => {}
    }
    in_file(rest, |path| {
        let source = Source::open(&SourceSpec::File(path.to_owned()), options, &recipe.input);
        let Ok(mut source) = source else { return };
        if !goes_all_the_way(bytes) {
            let frames = source.drain();
            assert!(
                frames.is_err() || frames.is_ok_and(|frames| frames > 0) || source.malformed() == 0,
                "all malformed"
            );
            return;
        }
        let control = Control::default();
        let mut windows = 0;
        let progress = |_: &Counters| {
            windows += 1;
            control.stop.store(windows > MAX_WINDOWS, Relaxed);
        };
        let options = StreamOptions { progress: Some(Box::new(progress)), ..StreamOptions::default() };
        let stream = Stream::new(recipe, session(), options).expect("a recipe that fits");
        if let Ok(summary) = stream.run(source, &mut [Box::new(Silent)], &control) {
            assert!(summary.adds_up(), "frames are not accounted for: {summary:?}");
        }
    });
}

struct Silent;

impl Sink for Silent {
    fn decision(&mut self, decision: &Decision<'_>) -> io::Result<()> {
        std::hint::black_box(decision);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn summary(&mut self, _: &Summary) -> io::Result<()> {
        Ok(())
    }
}

/// A recording of each format, read as it is and otherwise.
pub fn seeds() -> Vec<Vec<u8>> {
    let csv = "t,a,b,c,d\n0,1,2,3,4\n10,-1.5,2e3,0.25,4\n# note\n\n20;5;6;7;8\n30,1,2,x,4\n40,9,8,7,6,5\n50,1,2,3,4\n";
    let tabs = "a\tt\n1\t0\n2\t5\n3\t10\n4\t15\n5\t20\n6\t25\n";
    let bare = "1,2,3,4\n5,6,7,8\n1,1,1,1\n2,2,2,2\n0,0,0,0\n";
    let wav = files("models", &|name| name.ends_with(".wav"), 1 << 20);
    let mut bodies: Vec<(usize, Vec<u8>)> =
        [csv, tabs, bare].iter().map(|text| (0, text.as_bytes().to_vec())).collect();
    bodies.extend(wav.iter().map(|file| (1, file[..file.len().min(400)].to_vec())));
    bodies.extend(
        [(8, 1, 1, 1), (16, 2, 4, 1), (24, 3, 1, 1), (24, 4, 1, 1), (32, 4, 4, 3), (32, 4, 1, 0xfffe)]
            .map(|(bits, bytes, width, tag)| (1, wave(bits, bytes, width, tag))),
    );
    for (descr, shape) in [("<f4", [8, 4]), ("<i2", [8, 1])] {
        let mut file = tractlet_io::npy::encode(descr, &shape);
        file.extend((0..shape[0] * shape[1] * 4).map(|byte| byte as u8));
        bodies.push((2, file));
    }
    bodies.extend((3..FORMATS.len()).map(|format| (format, (0..96u8).map(|byte| byte.wrapping_mul(41)).collect())));
    let ways = |(format, body): &(usize, Vec<u8>)| {
        let with = |how: usize| [&[how as u8][..], body].concat();
        (0..6).flat_map(|more| [0, 1].map(|recipe| with(more * 24 + format * 2 + recipe))).collect::<Vec<_>>()
    };
    bodies.iter().flat_map(ways).collect()
}

/// A .wav file of 32 frames.
fn wave(bits: u16, bytes: u16, width: u16, tag: u16) -> Vec<u8> {
    let frame = width * bytes;
    let extension: &[u8] =
        if tag == 0xfffe { b"\x16\0\x18\0\0\0\0\0\x01\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71" } else { &[] };
    let data: Vec<u8> = (0..32 * frame).map(|byte| (byte * 29) as u8).collect();
    let mut file = b"RIFF\0\0\0\0WAVEfmt ".to_vec();
    file.extend((16 + extension.len() as u32).to_le_bytes());
    file.extend([tag, width].iter().flat_map(|word| word.to_le_bytes()));
    file.extend([8000u32, 8000 * u32::from(frame)].iter().flat_map(|word| word.to_le_bytes()));
    file.extend([frame, bits].iter().flat_map(|word| word.to_le_bytes()));
    file.extend(extension);
    file.extend(b"data");
    file.extend((data.len() as u32).to_le_bytes());
    file.extend(data);
    let size = file.len() as u32 - 8;
    file[4..8].copy_from_slice(&size.to_le_bytes());
    file
}
