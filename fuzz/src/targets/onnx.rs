//! A model: scanned, checked, lowered, planned, and run once on the plan engine, over whole windows and hop by hop.

use tractlet::{EngineChoice, Model, Session, SessionOptions};

use super::{files, infer, options};
use crate::memory_file::in_file;

/// Opens a model and runs it.
pub fn run(bytes: &[u8]) {
    in_file(bytes, |path| {
        let Ok(model) = Model::open_with(path, &options()) else { return };
        let options = SessionOptions::default().engine(EngineChoice::Plan);
        // As it is, and hop by hop.
        for options in [options.clone(), options.hop(2)] {
            if let Ok(mut session) = Session::new(&model, options) {
                infer(&mut session);
            }
        }
    });
}

/// The undamaged small models, one of each operator, and the shipped ones that are not too large to change.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = files("tests/malformed", &|name| name.starts_with("valid_") && name.ends_with(".onnx"), 1 << 16);
    seeds.extend(files("tests/golden/ops", &|name| name == "model.onnx", 1 << 16));
    seeds.extend(files("models", &|name| name == "int8.onnx", 64 << 10));
    seeds
}
