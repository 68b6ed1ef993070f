//! `tractlet prune` on a shipped model: what it writes, runs, and tells.
#![cfg(feature = "quantize")]

mod common;

use std::fs;

use common::{json, repository, tractlet};
use serde_json::Value;
use tempfile::TempDir;
use tractlet::{EngineChoice, Model, Session, SessionOptions};

const RESNET: &str = "models/ic_resnet8/f32.onnx";
const SAMPLES: &str = "models/ic_resnet8/samples.npy";

#[test]
fn a_residual_network_is_pruned_and_then_quantized() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (first, second, quantized) = (path("first.onnx"), path("second.onnx"), path("int8.onnx"));
    let prune = |output: &str, more: &[&str]| {
        json(&[&["prune", RESNET, "--calibration", SAMPLES, "-o", output], more].concat())
    };
    let uniform = ["--ratio", "0.5", "--allocation", "uniform"];
    let report = prune(&first, &uniform);

    // Layers whose outputs are added up lose the same channels; what the classifier says stays.
    let groups: Vec<(usize, u64, u64)> = report["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| {
            let number = |key: &str| group[key].as_u64().unwrap();
            (group["layers"].as_array().unwrap().len(), number("before"), number("after"))
        })
        .collect();
    assert_eq!(groups, [(2, 16, 8), (1, 16, 8), (2, 32, 16), (1, 32, 16), (2, 64, 32), (1, 64, 32), (1, 10, 10)]);
    assert!(report["groups"][6]["why"].as_str().unwrap().contains("normalises over the channels"));
    let share = |key: &str| report["after"][key].as_f64().unwrap() / report["before"][key].as_f64().unwrap();
    assert!(share("macs") < 0.3 && share("parameters") < 0.3 && share("bytes") < 0.3, "{report}");

    // It keeps its face, runs on the plan engine, and comes out the same on one thread.
    let (before, after) = (Model::open(repository().join(RESNET)).unwrap(), Model::open(&first).unwrap());
    let plan = || SessionOptions::default().engine(EngineChoice::Plan);
    let (before, after) = (Session::new(&before, plan()).unwrap(), Session::new(&after, plan()).unwrap());
    for (before, after) in
        before.inputs().iter().chain(before.outputs()).zip(after.inputs().iter().chain(after.outputs()))
    {
        assert_eq!((&before.name, &before.shape, before.dtype), (&after.name, &after.shape, after.dtype));
    }
    prune(&second, &[&uniform[..], &["--threads", "1"]].concat());
    assert!(fs::read(&first).unwrap() == fs::read(&second).unwrap());

    // What is fitted anew is nearer to the model than what is only cut; a ranking across groups saves no less.
    let sqnr = |report: &Value| report["sqnr_db"].as_f64().unwrap();
    let cut = prune(&second, &[&uniform[..], &["--no-refit"]].concat());
    assert!(sqnr(&report) > sqnr(&cut) + 1.0, "{} {}", sqnr(&report), sqnr(&cut));
    let global = prune(&second, &["--ratio", "0.5", "--allocation", "global"]);
    assert!(global["after"]["macs"].as_u64() <= report["after"]["macs"].as_u64());

    json(&["quantize", &first, "--calibration", SAMPLES, "-o", &quantized, "--effort", "fast"]);
}

#[test]
fn what_cannot_be_pruned_is_refused_and_leaves_no_file() {
    let folder = TempDir::new().unwrap();
    let copy = folder.path().join("model.onnx");
    fs::copy(repository().join(RESNET), &copy).unwrap();
    let (copy, out) = (copy.to_str().unwrap(), folder.path().join("out.onnx"));
    let cases: &[(&[&str], i32, &str)] = &[
        (&["prune", copy, "--calibration", SAMPLES, "-o", copy], 1, "would overwrite"),
        (
            &["prune", "models/ic_resnet8/int8.onnx", "--calibration", SAMPLES, "-o", out.to_str().unwrap()],
            1,
            "quantized already",
        ),
        (
            &["prune", copy, "--calibration", SAMPLES, "-o", out.to_str().unwrap(), "--multiple", "64"],
            1,
            "nothing in this model can be pruned: `",
        ),
        (&["prune", copy, "--calibration", SAMPLES, "-o", out.to_str().unwrap(), "--ratio", "1"], 2, "is no share"),
    ];
    for (args, code, part) in cases {
        let output = tractlet(args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(*code), "{args:?}: {stderr}");
        assert!(stderr.contains(part), "{args:?}: {stderr}");
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    assert_eq!(fs::read(copy).unwrap(), fs::read(repository().join(RESNET)).unwrap());
}
