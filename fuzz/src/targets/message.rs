//! A broker's message as a window: raw samples, numbers as text, JSON.

use std::path::Path;

use tractlet::sensor::{Payload, Recipe, SourceOptions};

const RECIPE: &str = "model = \"m\"\n[input]\nchannels = [\"a\", \"b\"]\nunits = [\"g\", \"rad/s\"]\nwindow = 4\n[frontend]\nkind = \"rms\"\n";
const VALUES: usize = 8;
const FORMATS: [&str; 6] = ["csv", "json", "s16le", "u24be", "f32le", "f64be"];

/// Takes the first byte for how the others are to be read.
pub fn run(bytes: &[u8]) {
    let Some((&how, message)) = bytes.split_first() else { return };
    let how = usize::from(how);
    let input = Recipe::parse(Path::new("/nowhere/model.toml"), RECIPE).expect("a recipe that is right").input;
    let mut options = SourceOptions { format: FORMATS[how % FORMATS.len()].parse().ok(), ..SourceOptions::default() };
    match how / FORMATS.len() {
        1 => options.scale = vec![-2.5e3, 1e-3],
        2 => options.units = ["m/s^2", "deg/s"].map(|unit| unit.parse().expect("a unit")).into(),
        _ => {}
    }
    let payload = Payload::new(&options, &input).expect("options that fit");
    let mut window = [f32::NAN; VALUES];
    match payload.decode(message, &mut window) {
        Ok(id) => {
            assert!(window.iter().all(|value| value.is_finite()), "a window that is none: {window:?}");
            assert!(id.is_none_or(|id| id.len() <= 256), "an id beyond its bound");
        }
        Err(reason) => drop(std::hint::black_box(format!("{reason:?}"))),
    }
}

/// Messages of each format, and what is nearly one.
pub fn seeds() -> Vec<Vec<u8>> {
    const TEXT: [&str; 3] =
        ["1,2,3,4,5,6,7,8", "# a frame a line\n1;-2e3\r\n\n3 4\n5\t6\n.5,8", "1,2,nan,4,5,6,7,1e39"];
    const JSON: [&str; 7] = [
        "[1,2,3,4,5,6,7,8]",
        "[[1,2],[3,4],[5,6],[7,8]]",
        "{\"id\": 17, \"values\": [1, -2, 3.5, 4e0, 5, 6, 7, 8]}",
        "{\"at\": [{\"b\": [null, true]}], \"values\": [[1,2],[3,4],[5,6],[7,8]], \"id\": \"a\\\"b\\u00e9\"}",
        "{\"values\": [1, 2], \"values\": [3]}",
        "[[1,2,3],[4,5,6],7,8]",
        "[[[1,2],[3,4]],[[5,6],[7,8]]]",
    ];
    let mut bodies: Vec<(usize, Vec<u8>)> = TEXT.iter().map(|text| (0, text.as_bytes().to_vec())).collect();
    bodies.extend(JSON.iter().map(|text| (1, text.as_bytes().to_vec())));
    bodies.extend(
        [2, 3, 4, 8]
            .iter()
            .enumerate()
            .map(|(raw, bytes)| (2 + raw, (0..(VALUES * bytes) as u8).map(|byte| byte.wrapping_mul(41)).collect())),
    );
    let ways = |(format, body): &(usize, Vec<u8>)| {
        (0..3).map(|more| [&[(more * FORMATS.len() + format) as u8][..], body].concat()).collect::<Vec<_>>()
    };
    bodies.iter().flat_map(ways).collect()
}
