//! `tractlet quantize` and `tractlet compare` on real models, and what they refuse.
#![cfg(feature = "quantize")]

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::Command;

use common::onnx::{Attribute, Graph, Tensor};
use common::{Array, json, limited, pack, repository, tractlet};
use serde_json::Value;
use tempfile::TempDir;
use tractlet::{DType, Model, Session, SessionOptions, npy};

/// The error of a command that fails as work does, with exit code 1 and nothing on standard output.
fn fails(args: &[&str]) -> String {
    let output = tractlet(args);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{args:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn path(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).to_str().unwrap().to_owned()
}

fn save(folder: &TempDir, name: &str, shape: &[usize], values: &[f32]) -> String {
    let file = path(folder, name);
    let mut writer = npy::Writer::create(&file, DType::F32, shape).unwrap();
    writer.write(&values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>()).unwrap();
    writer.finish().unwrap().publish().unwrap();
    file
}

fn model(name: &str) -> [String; 2] {
    [format!("models/{name}/f32.onnx"), format!("models/{name}/samples.npy")]
}

#[test]
fn shipped_models_become_integers_and_stay_near() {
    let folder = TempDir::new().unwrap();
    for (name, least_db) in [("kws_dscnn", 25.0), ("har_cnn1d", 30.0), ("sww_conv1d", 30.0), ("ad_autoencoder", 35.0)] {
        let [float, samples] = model(name);
        let out = path(&folder, &format!("{name}.onnx"));
        let report = json(&["quantize", &float, "--calibration", &samples, "-o", &out]);
        assert!(report["sqnr_db"].as_f64().unwrap() > least_db, "{name}: {}", report["sqnr_db"]);
        let (before, after) = (report["bytes_before"].as_u64().unwrap(), report["bytes_after"].as_u64().unwrap());
        assert!(after * 2 < before, "{name}: {before} {after}");
        // The plan takes it whole, and computes in integers all but what stays in float on purpose.
        let session = Session::new(&Model::open(&out).unwrap(), SessionOptions::default()).unwrap();
        assert_eq!(session.fallback_reason(), None, "{name}");
        let floats: Vec<_> = session.nodes().iter().filter(|n| n.computes && n.dtype != "int8").collect();
        assert!(floats.iter().all(|node| node.op == "Softmax"), "{name}: {floats:?}");
        // Names and shapes at its ends are the float model's.
        let reference = Session::new(&Model::open(&float).unwrap(), SessionOptions::default()).unwrap();
        assert_eq!((session.inputs(), session.outputs()), (reference.inputs(), reference.outputs()), "{name}");
    }
}

#[test]
fn the_same_input_gives_the_same_file_on_any_number_of_threads() {
    let folder = TempDir::new().unwrap();
    let [float, samples] = model("kws_dscnn");
    let files: Vec<Vec<u8>> = ["1", "3"]
        .iter()
        .map(|threads| {
            let out = path(&folder, &format!("{threads}.onnx"));
            json(&["quantize", &float, "--calibration", &samples, "-o", &out, "--threads", threads]);
            fs::read(out).unwrap()
        })
        .collect();
    assert!(files[0] == files[1]);
}

#[test]
fn every_method_effort_and_type_gives_a_model_that_runs() {
    let folder = TempDir::new().unwrap();
    let [float, samples] = model("har_cnn1d");
    let variants: [&[&str]; 8] = [
        &["--effort", "fast"],
        &["--effort", "best"],
        &["--method", "minmax"],
        &["--method", "moving-average", "--effort", "fast"],
        &["--method", "entropy", "--effort", "fast"],
        &["--method", "percentile", "--symmetric"],
        &["--method", "mse", "--activations", "uint8"],
        &["--full-range"],
    ];
    for options in variants {
        let out = path(&folder, "out.onnx");
        let report = json(&[&["quantize", &float, "--calibration", &samples, "-o", &out], options].concat());
        let sqnr = report["sqnr_db"].as_f64().unwrap();
        // An average of extremes cuts them off; it is there for who asks for it.
        let least = if options.contains(&"moving-average") { 10.0 } else { 30.0 };
        assert!(sqnr > least, "{options:?}: {sqnr}");
        let run = json(&["run", &out, "--input", &samples]);
        assert_eq!(run["engine"], "plan", "{options:?}");
    }
}

#[test]
fn other_schemes_run_where_they_can_and_say_so() {
    let folder = TempDir::new().unwrap();
    let [float, samples] = model("har_cnn1d");
    // With what a node computes in, and what the plan leaves of it.
    let variants: [(&[&str], &str, f64, f64); 4] = [
        (&["--activations", "int16"], "int16, int8 weights", 40.0, 0.0),
        (&["--activations", "uint16"], "int16, int8 weights", 40.0, 0.0),
        (&["--weight-only"], "int8 weights", 40.0, 0.0),
        (&["--dynamic"], "int8 dynamic", 30.0, 0.15),
    ];
    for (options, scheme, least_db, least_ratio) in variants {
        let bytes = ["1", "2"].map(|threads| {
            let out = path(&folder, "out.onnx");
            let base =
                ["quantize", &float, "--calibration", &samples, "-o", &out, "--effort", "fast", "--threads", threads];
            let report = json(&[&base, options].concat());
            let sqnr = report["sqnr_db"].as_f64().unwrap();
            assert!(sqnr > least_db, "{options:?}: {sqnr}");
            assert!(report["nodes"].as_array().unwrap().iter().any(|n| n["scheme"] == scheme), "{options:?}: {report}");
            let (before, after) = (report["bytes_before"].as_u64().unwrap(), report["bytes_after"].as_u64().unwrap());
            assert!(after * 5 < before * 2, "{options:?}: {before} {after}");
            fs::read(&out).unwrap()
        });
        assert!(bytes[0] == bytes[1], "{options:?}");
        let out = path(&folder, "out.onnx");
        let run = json(&["run", &out, "--input", &samples]);
        assert_eq!(run["engine"], "plan", "{options:?}");
        let inspected = json(&["inspect", &out]);
        assert!(inspected["fallback_reason"].is_null(), "{options:?}");
        let ratio = inspected["int8_ratio"].as_f64().unwrap();
        assert!(ratio >= least_ratio && (least_ratio > 0.0 || ratio == 0.0), "{options:?}: {ratio}");
        if cfg!(feature = "tract") && options[0] == "--activations" {
            // Of 65536 levels, floats that are summed in another order are apart by few.
            let other = json(&["run", &out, "--input", &samples, "--engine", "tract"]);
            let values = |run: &Value| -> Vec<f64> {
                run["outputs"][0]["values"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
            };
            let (plan, tract) = (values(&run), values(&other));
            assert!(plan.iter().zip(&tract).all(|(a, b)| (a - b).abs() < 3e-4), "{options:?}: {plan:?} {tract:?}");
            assert!(plan.iter().any(|v| *v > 0.5), "{options:?}: {plan:?}");
        }
    }
    let out = path(&folder, "none.onnx");
    for options in [["--weight-only", "--dynamic"], ["--dynamic", "--symmetric"], ["--weight-only", "--full-range"]] {
        let base = ["quantize", &float, "--calibration", &samples, "-o", &out];
        assert_eq!(tractlet(&[&base, &options[..]].concat()).status.code(), Some(2), "{options:?}");
    }
}

#[test]
fn an_archive_has_an_array_for_each_input() {
    let folder = TempDir::new().unwrap();
    let [float, samples] = model("har_cnn1d");
    let archive = |name: &str, arrays: &[(&str, &str)]| {
        let file = path(&folder, name);
        let mut zip = zip::ZipWriter::new(fs::File::create(&file).unwrap());
        let stored = zip::write::FileOptions::default().compression_method(zip::CompressionMethod::Stored);
        for (array, source) in arrays {
            zip.start_file(format!("{array}.npy"), stored).unwrap();
            zip.write_all(&fs::read(source).unwrap()).unwrap();
        }
        zip.finish().unwrap();
        file
    };
    let input =
        Session::new(&Model::open(&float).unwrap(), SessionOptions::default()).unwrap().inputs()[0].name.clone();
    let whole = archive("x.npz", &[("labels", &samples), (&input, &samples)]);
    let [one, other] = ["one.onnx", "other.onnx"].map(|name| path(&folder, name));
    json(&["quantize", &float, "--calibration", &samples, "-o", &one, "--effort", "fast"]);
    json(&["quantize", &float, "--calibration", &whole, "-o", &other, "--effort", "fast"]);
    assert!(fs::read(&one).unwrap() == fs::read(&other).unwrap());
    assert_eq!(json(&["run", &one, "--input", &whole]), json(&["run", &one, "--input", &samples]));
    assert_eq!(
        json(&["compare", &float, &one, "--inputs", &whole]),
        json(&["compare", &float, &one, "--inputs", &samples])
    );
    let missing = archive("missing.npz", &[("labels", &samples)]);
    let refused = fails(&["run", &one, "--input", &missing]);
    assert!(refused.contains(&format!("no array `{input}`")) && refused.contains("`labels`"), "{refused}");
    // Two inputs, and lists of which one is longer.
    let add = "tests/golden/ops/add_f32_same_shape/model.onnx";
    let names: Vec<String> = {
        let session = Session::new(&Model::open(add).unwrap(), SessionOptions::default()).unwrap();
        session.inputs().iter().map(|spec| spec.name.clone()).collect()
    };
    let shape = Session::new(&Model::open(add).unwrap(), SessionOptions::default()).unwrap().inputs()[0].shape.clone();
    let list = |name: &str, count: usize| {
        let shape = [&[count], &shape[..]].concat();
        save(&folder, name, &shape, &vec![0.25; shape.iter().product()])
    };
    let (two, three) = (list("two.npy", 2), list("three.npy", 3));
    let both = archive("both.npz", &[(&names[0], &two), (&names[1], &two)]);
    assert_eq!(json(&["run", add, "--input", &both])["samples"], 2);
    let unequal = archive("unequal.npz", &[(&names[0], &two), (&names[1], &three)]);
    let error = fails(&["run", add, "--input", &unequal]);
    assert!(error.contains(&format!("3 samples for input `{}`; they must be equal", names[1])), "{error}");
}

#[test]
fn stored_tensors_go_into_a_file_of_their_own_on_request() {
    let folder = TempDir::new().unwrap();
    let [float, samples] = model("kws_dscnn");
    let [whole, parted] = ["whole.onnx", "parted.onnx"].map(|name| path(&folder, name));
    let quantize = |out: &str, options: &[&str]| {
        let base = ["quantize", &float, "--calibration", &samples, "-o", out, "--effort", "fast"];
        tractlet(&[&base, options].concat())
    };
    assert!(quantize(&whole, &[]).status.success());
    assert!(quantize(&parted, &["--external-data", "w.data"]).status.success());
    let (small, data) = (fs::metadata(&parted).unwrap().len(), fs::metadata(path(&folder, "w.data")).unwrap().len());
    let all = fs::metadata(&whole).unwrap().len();
    assert!(small + 10_000 < all && data > 10_000, "{small} and {data} of {all}");
    assert_eq!(json(&["run", &parted, "--input", &samples]), json(&["run", &whole, "--input", &samples]));
    // What is there may be another model's weights: neither file is touched.
    let before = fs::read(&parted).unwrap();
    let again = quantize(&parted, &["--external-data", "w.data"]);
    assert!(String::from_utf8(again.stderr).unwrap().contains("w.data: it is there already"));
    assert!(fs::read(&parted).unwrap() == before);
    assert_eq!(quantize(&parted, &["--external-data", "a/b"]).status.code(), Some(2));
    let link = path(&folder, "link.onnx");
    std::os::unix::fs::symlink(&parted, &link).unwrap();
    let linked = quantize(&link, &["--external-data", "other.data"]);
    assert!(String::from_utf8(linked.stderr).unwrap().contains("link.onnx: it is a symbolic link"));
}

#[test]
fn what_a_model_is_made_of_is_not_overwritten() {
    let folder = TempDir::new().unwrap();
    let [float, samples] = model("kws_dscnn").map(|file| fs::read(repository().join(file)).unwrap());
    let (parted, weights) = tractlet_quantize::externalize(&float, "w.data").unwrap();
    let files = [("float.onnx", &float), ("x.npy", &samples), ("parted.onnx", &parted), ("w.data", &weights)];
    for (name, bytes) in files {
        fs::write(path(&folder, name), bytes).unwrap();
    }
    let [float, samples, parted, weights] = files.map(|(name, _)| path(&folder, name));
    for command in ["quantize", "prune"] {
        for out in [&samples, &weights] {
            let error = fails(&[command, &parted, "--calibration", &samples, "-o", out]);
            assert!(error.contains("would be overwritten"), "{command} {out}: {error}");
        }
    }
    for drawing in [&float, &parted, &weights, &samples] {
        let error = fails(&["compare", &float, &parted, "--inputs", &samples, "--svg", drawing]);
        assert!(error.contains("would overwrite"), "{drawing}: {error}");
    }
    for (name, bytes) in files {
        assert!(fs::read(path(&folder, name)).unwrap() == *bytes, "{name}");
    }
}

#[test]
fn layers_stay_in_float_where_they_are_named_or_quality_asks() {
    let folder = TempDir::new().unwrap();
    let [float, samples] = model("kws_dscnn");
    let out = path(&folder, "out.onnx");
    let quantize = |options: &[&str]| {
        let base = ["quantize", &float, "--calibration", &samples, "-o", &out, "--effort", "fast"];
        json(&[&base, options].concat())
    };
    let kept = |report: &Value| {
        let nodes = report["nodes"].as_array().unwrap();
        let floats = nodes.iter().filter(|n| n["scheme"] == "float32" && n["op"] != "Softmax");
        floats.map(|n| n["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let name = quantize(&[])["nodes"][1]["name"].as_str().unwrap().to_owned();
    // With the Relu behind it, which goes where its operator goes.
    assert_eq!(kept(&quantize(&["--keep", &name])), [name, "relu_1".to_owned()]);
    let plain = quantize(&[])["sqnr_db"].as_f64().unwrap();
    let better = quantize(&["--target-sqnr", &format!("{}", plain + 3.0)]);
    assert!(better["sqnr_db"].as_f64().unwrap() >= plain + 3.0 && !kept(&better).is_empty(), "{better}");
    // What only the float model reaches is no quantization.
    for (target, why) in [("100dB", "nothing less than every layer in float reaches it"), ("200dB", "ask for less")] {
        let refused = path(&folder, "refused.onnx");
        let base = ["quantize", &float, "--calibration", &samples, "-o", &refused, "--effort", "fast"];
        let error = fails(&[&base[..], &["--target-sqnr", target]].concat());
        assert!(error.contains("dB was asked for") && error.contains(why), "{target}: {error}");
        assert!(!Path::new(&refused).exists());
    }
    assert!(
        fails(&["quantize", &float, "--calibration", &samples, "-o", &out, "--keep", "no_such_node"])
            .contains("there is no node `no_such_node`")
    );
}

#[test]
fn bad_input_is_named_and_nothing_is_written() {
    let folder = TempDir::new().unwrap();
    let [float, samples] = model("kws_dscnn");
    let out = path(&folder, "out.onnx");
    let refused =
        |model: &str, calibration: &str| fails(&["quantize", model, "--calibration", calibration, "-o", &out]);
    assert!(refused("models/kws_dscnn/int8.onnx", &samples).contains("is quantized already; give the float model"));
    let wrong = save(&folder, "wrong.npy", &[2, 1, 7, 10], &[0.0; 140]);
    assert!(refused(&float, &wrong).contains("does not fit input `input`"));
    let none = save(&folder, "none.npy", &[0, 1, 49, 10], &[]);
    assert!(refused(&float, &none).contains("holds no sample"));
    let mut values = vec![0.5; 980];
    values[700] = f32::INFINITY;
    let infinite = save(&folder, "inf.npy", &[2, 1, 49, 10], &values);
    let error = refused(&float, &infinite);
    assert!(error.contains("sample 1 (from 0)") && error.contains("is inf"), "{error}");
    values[700] = f32::NAN;
    let error = refused(&float, &save(&folder, "nan.npy", &[2, 1, 49, 10], &values));
    assert!(error.contains("nan.npy: sample 1 (from 0)") || error.contains("is NaN"), "{error}");
    // Of the first weights.
    let mut bytes = fs::read(&float).unwrap();
    let weights = Model::open(&float).unwrap().stored("conv_0_w").unwrap().unwrap().to_vec();
    let at = bytes.windows(64).position(|window| *window == weights[..64]).unwrap();
    bytes[at + 4..at + 8].copy_from_slice(&f32::NAN.to_le_bytes());
    let damaged = path(&folder, "nan.onnx");
    fs::write(&damaged, bytes).unwrap();
    let error = refused(&damaged, &samples);
    assert!(error.contains("`conv_0_w`: element 1 is NaN"), "{error}");
    assert!(refused("tests/malformed/valid_add.onnx", &samples).contains("does not fit input `pixels`"));
    assert!(
        fails(&["quantize", &float, "--calibration", &samples, "-o", &float]).contains("would overwrite the float one")
    );
    assert!(!Path::new(&out).exists());
    let nowhere = path(&folder, "no/such/folder.onnx");
    assert!(
        fails(&["quantize", &float, "--calibration", &samples, "-o", &nowhere, "--effort", "fast"])
            .contains("folder.onnx: cannot write it: there is no folder")
    );
    let parted = ["--effort", "fast", "--external-data", "w.data"];
    let base = ["quantize", float.as_str(), "--calibration", &infinite, "-o", &out];
    assert!(fails(&[&base[..], &parted].concat()).contains("is inf"));
    let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let left: Vec<String> = names.filter(|name| name.ends_with(".part") || name.ends_with(".data")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_is_no_number_is_refused_whatever_is_made_of_it() {
    let folder = TempDir::new().unwrap();
    let [float, _] = model("kws_dscnn");
    let out = path(&folder, "out.onnx");
    for (value, word) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
        let mut values = vec![0.5; 980];
        values[700] = value;
        let samples = save(&folder, "x.npy", &[2, 1, 49, 10], &values);
        let base = ["--calibration", &samples, "-o", &out];
        let commands: [&[&str]; 4] = [
            &["quantize", &float],
            &["quantize", &float, "--weight-only"],
            &["quantize", &float, "--dynamic"],
            &["prune", &float],
        ];
        for command in commands {
            let error = fails(&[command, &base].concat());
            let told = ["f32.onnx: sample 1 (from 0), tensor `input`: element 210 is", word, "leave this sample out"];
            assert!(told.iter().all(|part| error.contains(part)), "{command:?}: {error}");
            assert!(!Path::new(&out).exists(), "{command:?}");
        }
    }
}

#[test]
fn a_place_that_cannot_be_written_is_named_before_the_work() {
    let folder = TempDir::new().unwrap();
    let [float, samples] = model("kws_dscnn");
    // The work would find fault with these.
    let infinite = save(&folder, "inf.npy", &[1, 1, 49, 10], &[f32::INFINITY; 490]);
    let nowhere = path(&folder, "no/out.onnx");
    for command in ["quantize", "prune"] {
        let error = fails(&[command, &float, "--calibration", &infinite, "-o", &nowhere]);
        assert!(error.contains("no/out.onnx: cannot write it: there is no folder"), "{command}: {error}");
        let error = fails(&[command, &float, "--calibration", &infinite, "-o", "/dev/full"]);
        assert!(error.contains("/dev/full: cannot write it: it is there and is not a regular file"), "{error}");
    }
    let drawing = path(&folder, "no/drawing.svg");
    let error = fails(&["compare", &float, &float, "--inputs", &samples, "--svg", &drawing]);
    assert!(error.contains("drawing.svg: cannot write it: there is no folder"), "{error}");
}

#[test]
fn samples_are_asked_for_by_the_flag_that_takes_them() {
    let folder = TempDir::new().unwrap();
    let out = path(&folder, "out.onnx");
    let add = "tests/golden/ops/add_f32_same_shape/model.onnx";
    let session = Session::new(&Model::open(add).unwrap(), SessionOptions::default()).unwrap();
    let [one, other] = session.inputs() else { panic!("{:?}", session.inputs()) };
    let list = |name: &str, count: usize| {
        let shape = [&[count], &one.shape[..]].concat();
        save(&folder, name, &shape, &vec![0.25; shape.iter().product()])
    };
    let (two, three) = (list("two.npy", 2), list("three.npy", 3));
    let refused = |files: &[&str]| {
        let files: Vec<&str> = files.iter().flat_map(|file| ["--calibration", *file]).collect();
        fails(&[&["quantize", add, "-o", &out], &files[..]].concat())
    };
    let error = refused(&[&two]);
    assert!(error.contains("say which: --calibration NAME="), "{error}");
    let unequal = [format!("{}={two}", one.name), format!("{}={three}", other.name)];
    let error = refused(&[&unequal[0], &unequal[1]]);
    let told =
        [format!("two.npy has 2 samples for input `{}`", one.name), format!("input `{}`; they must", other.name)];
    assert!(told.iter().all(|part| error.contains(part)), "{error}");
    let error = refused(&[&unequal[0]]);
    assert!(error.contains(&format!("give it one: --calibration {}=X.npy", other.name)), "{error}");
    let error = fails(&["compare", add, add, "--inputs", &two]);
    assert!(error.contains("say which: --inputs NAME="), "{error}");
}

#[test]
fn a_plan_is_no_float_model() {
    let folder = TempDir::new().unwrap();
    let [float, samples] = model("kws_dscnn");
    let (plan, out) = (path(&folder, "kws.plan"), path(&folder, "out.onnx"));
    json(&["compile", &float, "-o", &plan]);
    for command in ["quantize", "prune"] {
        let error = fails(&[command, &plan, "--calibration", &samples, "-o", &out]);
        assert!(error.contains("kws.plan: a plan has no float weights; give the model"), "{command}: {error}");
        assert!(error.contains("f32.onnx"), "{command}: {error}");
    }
}

#[test]
fn models_that_are_quantized_in_any_form_are_refused() {
    let folder = TempDir::new().unwrap();
    let [float, samples] = model("har_cnn1d");
    let out = path(&folder, "out.onnx");
    let base = ["quantize", &float, "--calibration", &samples, "--effort", "fast"];
    let first = json(&[&base[..], &["-o", &out]].concat())["nodes"][0]["name"].as_str().unwrap().to_owned();
    let forms: [&[&str]; 4] = [&[], &["--keep", &first], &["--weight-only"], &["--dynamic"]];
    for form in forms {
        let quantized = path(&folder, "quantized.onnx");
        json(&[&base[..], form, &["-o", &quantized]].concat());
        for command in ["quantize", "prune"] {
            let again = path(&folder, "again.onnx");
            let error = fails(&[command, &quantized, "--calibration", &samples, "-o", &again]);
            assert!(error.contains("is quantized already; give the float model"), "{form:?}: {error}");
            assert!(!Path::new(&again).exists());
        }
    }
}

/// A command that writes `out.onnx`, which is there already and holds `old`, on a disk of so many KiB of its own; or, where
/// nothing may be mounted, under a bound of half as much on each file. Its exit code, its error, what is in the folder and what
/// `out.onnx` holds.
fn on_a_disk_of(kib: usize, args: &[&str]) -> (Option<i32>, String, Vec<String>, Vec<u8>) {
    let folder = TempDir::new().unwrap();
    let out = path(&folder, "out.onnx");
    let args = [args, &["-o", &out]].concat();
    let may_mount = Command::new("unshare").args(["-rm", "true"]).status().is_ok_and(|status| status.success());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if !may_mount {
        fs::write(&out, "old").unwrap();
        let output = limited(&format!("-f {kib}"), &args);
        let names = fs::read_dir(folder.path()).unwrap().map(|entry| text(entry.unwrap().file_name().into_vec()));
        return (output.status.code(), text(output.stderr), names.collect(), fs::read(&out).unwrap());
    }
    // The disk is gone with the process, so what is on it is copied first.
    let script = format!(
        "mount -t tmpfs -o size={kib}k none \"$0\" && printf old >\"$0/out.onnx\" && \"$@\" >/dev/null; code=$?; \
         ls -A \"$0\"; cat \"$0/out.onnx\" >\"$0.out\"; exit $code"
    );
    let mut command = Command::new("unshare");
    command.current_dir(repository()).args(["-rm", "sh", "-c", &script, folder.path().to_str().unwrap()]);
    let output = command.arg(env!("CARGO_BIN_EXE_tractlet")).args(&args).output().unwrap();
    let copy = format!("{}.out", folder.path().display());
    let held = fs::read(&copy).unwrap();
    fs::remove_file(copy).unwrap();
    (output.status.code(), text(output.stderr), text(output.stdout).lines().map(str::to_owned).collect(), held)
}

#[test]
fn a_full_disk_leaves_what_was_there() {
    let model = "tests/golden/ops/conv_f32_3x3_pad/model.onnx";
    let samples = "tests/golden/ops/conv_f32_3x3_pad/input_0.npy";
    let base = ["quantize", model, "--calibration", samples, "--effort", "fast"];
    for more in [&[][..], &["--external-data", "w.data"]] {
        let args = [&base[..], more].concat();
        // The page that `old` takes, and no other.
        let (code, error, left, held) = on_a_disk_of(4, &args);
        assert_eq!(
            (code, left.as_slice(), held.as_slice()),
            (Some(1), &["out.onnx".to_owned()][..], &b"old"[..]),
            "{error}"
        );
        assert!(error.contains("No space left on device") || error.contains("File too large"), "{error}");
        let (code, error, left, held) = on_a_disk_of(64, &args);
        assert_eq!((code, left.len()), (Some(0), 1 + more.len() / 2), "{error}");
        assert!(Model::from_bytes("out", &held).is_ok());
    }
}

#[test]
fn a_model_beyond_2_gb_is_refused_before_it_is_run() {
    // One file of 16 MiB that takes no room, read 130 times.
    let folder = TempDir::new().unwrap();
    let (name, data) = (path(&folder, "large.onnx"), path(&folder, "w.data"));
    fs::File::create(data).unwrap().set_len(16 << 20).unwrap();
    let number = |tag: u8, value: u64| {
        let mut bytes = vec![tag << 3];
        let mut left = value;
        while left > 127 {
            bytes.push(left as u8 | 128);
            left >>= 7;
        }
        bytes.push(left as u8);
        bytes
    };
    let field = |tag: u8, held: &[u8]| {
        let mut bytes = number(tag, held.len() as u64);
        bytes[0] |= 2;
        bytes.extend(held);
        bytes
    };
    let tensor = |index: usize| {
        let entry = field(13, &[field(1, b"location"), field(2, b"w.data")].concat());
        let name = format!("w{index}");
        field(
            5,
            &[number(1, 2048), number(1, 2048), number(2, 1), field(8, name.as_bytes()), entry, number(14, 1)].concat(),
        )
    };
    let info = |tag: u8, name: &str| {
        let shape = [1, 2048].map(|size| field(1, &number(1, size))).concat();
        let kind = field(1, &[number(1, 1), field(2, &shape)].concat());
        field(tag, &[field(1, name.as_bytes()), field(2, &kind)].concat())
    };
    let product = [field(1, b"x"), field(1, b"w0"), field(2, b"y"), field(4, b"MatMul")].concat();
    let tensors: Vec<u8> = (0..130).flat_map(tensor).collect();
    let graph = [field(1, &product), field(2, b"g"), tensors, info(11, "x"), info(12, "y")].concat();
    let model = [number(1, 8), field(7, &graph), field(8, &number(2, 13))].concat();
    fs::write(&name, model).unwrap();
    assert_eq!(Model::open(&name).unwrap().whole_bytes() >> 20, 130 * 16);
    let samples = save(&folder, "x.npy", &[1, 2048], &[0.5; 2048]);
    let out = path(&folder, "out.onnx");
    let error = fails(&["quantize", &name, "--calibration", &samples, "-o", &out]);
    assert!(error.contains("large.onnx: it has 2181") && error.contains("above the 2 GB"), "{error}");
}

#[test]
fn a_folder_of_files_is_one_list() {
    let folder = TempDir::new().unwrap();
    let [float, samples] = model("har_cnn1d");
    let all = Array::read(repository().join(&samples));
    let (values, count) = (all.floats(), all.shape[0]);
    let each = values.len() / count;
    fs::create_dir(folder.path().join("x")).unwrap();
    // The first two in one file, the others alone.
    save(&folder, "x/00.npy", &[2, 6, 128], &values[..2 * each]);
    for sample in 2..count {
        save(&folder, &format!("x/{sample:02}.npy"), &[1, 6, 128], &values[sample * each..(sample + 1) * each]);
    }
    let [one, many] = ["one.onnx", "many.onnx"].map(|name| path(&folder, name));
    json(&["quantize", &float, "--calibration", &samples, "-o", &one, "--effort", "fast"]);
    json(&["quantize", &float, "--calibration", &path(&folder, "x"), "-o", &many, "--effort", "fast"]);
    assert!(fs::read(one).unwrap() == fs::read(many).unwrap());
    fs::create_dir(folder.path().join("empty")).unwrap();
    let empty = path(&folder, "empty");
    assert!(
        fails(&["quantize", &float, "--calibration", &empty, "-o", &path(&folder, "n.onnx")]).contains("no .npy file")
    );
}

#[test]
fn constant_inputs_are_no_trouble() {
    let folder = TempDir::new().unwrap();
    let [float, _] = model("kws_dscnn");
    let zeros = save(&folder, "zeros.npy", &[3, 1, 49, 10], &[0.0; 1470]);
    let out = path(&folder, "out.onnx");
    json(&["quantize", &float, "--calibration", &zeros, "-o", &out]);
    assert_eq!(json(&["run", &out, "--input", &zeros])["engine"], "plan");
}

#[test]
fn activations_of_16_bits_leave_room_for_louder_samples() {
    let folder = TempDir::new().unwrap();
    let [float, samples] = model("har_cnn1d");
    let Array { shape, .. } = Array::read(repository().join(&samples));
    let louder: Vec<f32> = Array::read(repository().join(&samples)).floats().iter().map(|value| 1.8 * value).collect();
    let (loud, out) = (save(&folder, "loud.npy", &shape, &louder), path(&folder, "out.onnx"));
    for effort in ["fast", "standard"] {
        let base = ["quantize", &float, "--calibration", &samples, "-o", &out, "--effort", effort];
        json(&[&base[..], &["--activations", "int16"]].concat());
        let compared = json(&["compare", &float, &out, "--inputs", &loud]);
        assert!(compared["output"]["sqnr_db"].as_f64().unwrap() > 40.0, "{effort}: {compared}");
    }
}

#[test]
fn few_samples_are_taken_and_said_to_be_few() {
    let folder = TempDir::new().unwrap();
    let [float, samples] = model("har_cnn1d");
    let values = Array::read(repository().join(&samples)).floats();
    let out = path(&folder, "out.onnx");
    for (count, options, is_said) in [(1, "standard", true), (2, "best", true), (49, "fast", true), (50, "fast", false)]
    {
        let repeated: Vec<f32> = values.iter().copied().cycle().take(count * 6 * 128).collect();
        let samples = save(&folder, "x.npy", &[count, 6, 128], &repeated);
        let report = json(&["quantize", &float, "--calibration", &samples, "-o", &out, "--effort", options]);
        let notes = report["notes"].as_array().unwrap();
        let said =
            notes.iter().filter(|note| note.as_str().unwrap().contains(&format!("samples: {count}, fewer than")));
        assert_eq!(said.count(), usize::from(is_said), "{notes:?}");
        assert!(report["sqnr_db"].as_f64().unwrap() > 30.0, "{count}: {report}");
    }
}

#[test]
fn portable_weights_keep_neighbours_within_16_bits() {
    let folder = TempDir::new().unwrap();
    let [float, samples] = model("ad_autoencoder");
    let out = path(&folder, "out.onnx");
    for (option, portable) in [(None, true), (Some("--full-range"), false)] {
        let base = ["quantize", float.as_str(), "--calibration", &samples, "-o", &out, "--effort", "fast"];
        json(&[&base[..], option.as_slice()].concat());
        let model = Model::open(&out).unwrap();
        // [128, 640], a row for each output: what a kernel adds up lies side by side.
        let weights = model.stored("gemm_0_w_quantized").unwrap().unwrap();
        assert_eq!(weights.len(), 128 * 640);
        let pairs = weights.chunks(640).flat_map(|row| row.windows(2));
        let most = pairs.map(|pair| (i32::from(pair[0] as i8) + i32::from(pair[1] as i8)).abs()).max().unwrap();
        assert_eq!(most <= 128, portable, "{most}");
    }
}

#[test]
fn compare_finds_what_quantization_changed_and_what_it_did_not() {
    let folder = TempDir::new().unwrap();
    let [float, samples] = model("kws_dscnn");
    let (out, drawing) = (path(&folder, "out.onnx"), path(&folder, "out.svg"));
    json(&["quantize", &float, "--calibration", &samples, "-o", &out]);
    let same = json(&["compare", &float, &float, "--inputs", &samples]);
    assert!(same["layers"].as_array().unwrap().iter().all(|l| l["sqnr_db"] == 150.0 && l["max_abs"] == 0.0));
    assert_eq!((&same["output"]["top1_agreement"], &same["output"]["max_abs"]), (&1.0.into(), &0.0.into()));
    let other = json(&["compare", &float, &out, "--inputs", &samples, "--svg", &drawing]);
    let layers = other["layers"].as_array().unwrap();
    assert!(layers.len() >= 10, "{}", layers.len());
    for layer in layers {
        let db = layer["sqnr_db"].as_f64().unwrap();
        assert!((15.0..80.0).contains(&db), "{layer}");
        assert!(layer["cosine"].as_f64().unwrap() > 0.98 && layer["saturation"].as_f64().unwrap() < 0.05, "{layer}");
    }
    assert_eq!(fs::read_to_string(drawing).unwrap().matches("<rect x=").count(), layers.len());
    let slow = json(&["compare", &float, &out, "--inputs", &samples, "--low-memory"]);
    assert_eq!(slow, other);
    let [another, _] = model("har_cnn1d");
    assert!(!fails(&["compare", &float, &another, "--inputs", &samples]).is_empty());
}

/// Attention in which no place looks ahead: a mask of this value is added to what the Softmax reads. And 12 samples.
fn masked_attention(folder: &TempDir, value: f32) -> [String; 2] {
    let (length, width) = (6, 8);
    let mut graph = Graph::new(5, 13);
    let x = graph.input(&[1, length, width]);
    let made = |dims: &[usize]| Tensor { dims: dims.to_vec(), ..x.clone() };
    let wide = made(&[1, length, width]);
    let mut project = |of: &Tensor| {
        let values: Vec<f32> = (0..width * width).map(|_| graph.random.unit() / 2.0).collect();
        let weights = graph.floats(&[width, width], &values);
        graph.op("MatMul", &[&of.name, &weights], &[], wide.clone())
    };
    let [queries, keys, values] = [(); 3].map(|()| project(&x));
    let keys =
        graph.op("Transpose", &[&keys.name], &[("perm", Attribute::Ints(vec![0, 2, 1]))], made(&[1, width, length]));
    let square = made(&[1, length, length]);
    let scores = graph.op("MatMul", &[&queries.name, &keys.name], &[], square.clone());
    let ahead = |at: usize| if at % length > at / length { value } else { 0.0 };
    let mask = graph.floats(&[length, length], &(0..length * length).map(ahead).collect::<Vec<_>>());
    let masked = graph.op("Add", &[&scores.name, &mask], &[], square.clone());
    let shares = graph.op("Softmax", &[&masked.name], &[("axis", Attribute::Int(-1))], square);
    let y = graph.op("MatMul", &[&shares.name, &values.name], &[], wide);
    graph.show(&y);
    graph.output();
    let samples: Vec<f32> = (0..12 * length * width).map(|_| 2.0 * graph.random.unit()).collect();
    let name = path(folder, "attention.onnx");
    fs::write(&name, graph.model(false)).unwrap();
    [name, save(folder, "attention.npy", &[12, length, width], &samples)]
}

#[test]
fn a_mask_leaves_steps_for_what_it_does_not_mask() {
    let folder = TempDir::new().unwrap();
    for value in [f32::NEG_INFINITY, f32::MIN, -1e9, -1e4] {
        let [model, samples] = masked_attention(&folder, value);
        let out = path(&folder, "out.onnx");
        for form in [&[][..], &["--weight-only"], &["--dynamic"]] {
            let report = json(&[&["quantize", &model, "--calibration", &samples, "-o", &out], form].concat());
            assert!(report["sqnr_db"].as_f64().unwrap() > 30.0, "{value} {form:?}: {report}");
            let compared = json(&["compare", &model, &out, "--inputs", &samples]);
            assert!(compared["output"]["sqnr_db"].as_f64().unwrap() > 30.0, "{value} {form:?}: {compared}");
        }
    }
    // No mask: a damaged one.
    let [model, samples] = masked_attention(&folder, f32::NAN);
    let error = fails(&["quantize", &model, "--calibration", &samples, "-o", &path(&folder, "nan.onnx")]);
    assert!(error.contains("element 1 is NaN; train or export the model anew"), "{error}");
}

#[test]
fn outputs_that_are_no_floats_are_not_compared_and_named() {
    let folder = TempDir::new().unwrap();
    let mut graph = Graph::new(9, 13);
    let x = graph.input(&[1, 8]);
    let values: Vec<f32> = (0..32).map(|_| graph.random.unit()).collect();
    let weights = graph.floats(&[8, 4], &values);
    let scores = graph.op("MatMul", &[&x.name, &weights], &[], Tensor { dims: vec![1, 4], ..x.clone() });
    let index = Tensor { dims: vec![1, 1], dtype: DType::I64, ..x.clone() };
    let index = graph.op("ArgMax", &[&scores.name], &[("axis", Attribute::Int(1))], index);
    graph.show(&index);
    graph.output();
    let alone = path(&folder, "alone.onnx");
    fs::write(&alone, graph.model(false)).unwrap();
    graph.show(&scores);
    graph.output();
    let (float, out) = (path(&folder, "float.onnx"), path(&folder, "out.onnx"));
    fs::write(&float, graph.model(false)).unwrap();
    let values: Vec<f32> = (0..160).map(|_| graph.random.unit()).collect();
    let samples = save(&folder, "x.npy", &[20, 8], &values);
    json(&["quantize", &float, "--calibration", &samples, "-o", &out]);
    let compared = json(&["compare", &float, &out, "--inputs", &samples]);
    assert_eq!(compared["unlike"], serde_json::json!([index.name]));
    let output = &compared["output"];
    assert!((25.0..80.0).contains(&output["sqnr_db"].as_f64().unwrap()), "{compared}");
    // That of the scores, which are the first that can be compared.
    let agreement = output["top1_agreement"].as_f64().unwrap();
    assert!((0.8..=1.0).contains(&agreement), "{compared}");
    let error = fails(&["compare", &alone, &alone, "--inputs", &samples]);
    assert!(error.contains("no output is float32 in both models"), "{error}");
}

/// On the benchmark pack's own data: the float model's answers on samples that calibration did not see.
#[test]
fn answers_hold_on_unseen_samples() {
    let Some(pack) = pack() else { return };
    let folder = TempDir::new().unwrap();
    let float = pack.join("models/kws_dscnn_f32.onnx");
    let [calibration, test] = ["calib", "test_public"].map(|of| pack.join(format!("data/kws_{of}_x.npy")));
    if Array::read(&test).dtype != DType::F32 {
        return;
    }
    let out = path(&folder, "out.onnx");
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    json(&["quantize", &text(&float), "--calibration", &text(&calibration), "-o", &out]);
    let compared = json(&["compare", &text(&float), &out, "--inputs", &text(&test)]);
    let agreement = compared["output"]["top1_agreement"].as_f64().unwrap();
    assert!(agreement > 0.97, "{agreement}");
}
