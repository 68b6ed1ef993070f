//! `tractlet quantize` and `tractlet compare` on real models, and what they refuse.
#![cfg(feature = "quantize")]

#[path = "quantize/attention.rs"]
mod attention;
mod common;
#[path = "quantize/compared.rs"]
mod compared;
#[path = "quantize/einsum.rs"]
mod einsum;
#[path = "quantize/refused.rs"]
mod refused;
#[path = "quantize/targets.rs"]
mod targets;

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use common::onnx::{Attribute, Graph, Tensor};
use common::{Array, json, pack, repository, tractlet};
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

/// A model, and samples of noise for its input of these sizes.
fn write(folder: &TempDir, graph: &mut Graph, name: &str, samples: &[usize]) -> [String; 2] {
    let values: Vec<f32> = (0..samples.iter().product()).map(|_| graph.random.unit()).collect();
    let model = path(folder, &format!("{name}.onnx"));
    fs::write(&model, graph.model(false)).unwrap();
    [model, save(folder, &format!("{name}.npy"), samples, &values)]
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
    let variants: [(&[&str], &str, f64, f64); 6] = [
        (&["--activations", "int8"], "int8 per-channel", 30.0, 0.5),
        (&["--activations", "uint8"], "uint8, int8 weights", 30.0, 0.5),
        (&["--activations", "int16"], "int16, int8 weights", 40.0, 0.0),
        (&["--activations", "uint16"], "uint16, int8 weights", 40.0, 0.0),
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
        if cfg!(feature = "tract") && scheme.contains("int16") {
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
    for (target, why) in [("100dB", "nothing less than every layer in float was found"), ("200dB", "ask for less")] {
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
fn inputs_that_say_nothing_of_a_range_are_refused_or_told() {
    let folder = TempDir::new().unwrap();
    let [float, samples] = model("kws_dscnn");
    let out = path(&folder, "out.onnx");
    let zeros = save(&folder, "zeros.npy", &[3, 1, 49, 10], &[0.0; 1470]);
    let error = fails(&["quantize", &float, "--calibration", &zeros, "-o", &out]);
    assert!(error.contains("f32.onnx: input `input` is 0 in all calibration samples"), "{error}");
    assert!(!Path::new(&out).exists());
    // What stays in float needs no range.
    let base = ["quantize", &float, "--calibration", &zeros, "-o", &out, "--effort", "fast"];
    let reader = error.split("in float, node `").nth(1).unwrap().split('`').next().unwrap();
    for form in [&["--weight-only"][..], &["--keep", reader]] {
        json(&[&base[..], form].concat());
    }
    let first = &Array::read(repository().join(&samples)).floats()[..490];
    for (one, count, told) in [
        (vec![0.25; 490], 3, "samples: 3, all alike, and so fewer than 50"),
        (first.to_vec(), 64, "samples: 64, all alike, and so fewer than 50"),
    ] {
        let same = save(&folder, "same.npy", &[count, 1, 49, 10], &one.repeat(count));
        let report = json(&["quantize", &float, "--calibration", &same, "-o", &out, "--effort", "fast"]);
        let notes = report["notes"].as_array().unwrap();
        assert!(notes.iter().any(|note| note.as_str().unwrap().starts_with(told)), "{notes:?}");
        assert_eq!(json(&["run", &out, "--input", &same])["engine"], "plan");
    }
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
        // No two of them alike.
        let louder = |(index, value): (usize, f32)| value * (1.0 + 1e-3 * (index / values.len()) as f32);
        let repeated: Vec<f32> = values.iter().copied().cycle().take(count * 6 * 128).enumerate().map(louder).collect();
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

/// Two layers over a sequence, as exporters write them: a MatMul, the Add of a row, in whatever order. And what they read is added.
#[test]
fn a_row_behind_a_product_of_three_dimensions_is_its_bias() {
    let folder = TempDir::new().unwrap();
    let (length, width, inner) = (6, 8, 20);
    let mut graph = Graph::new(3, 13);
    let x = graph.input(&[1, length, width]);
    let made = |width: usize| Tensor { dims: vec![1, length, width], ..x.clone() };
    let mut random = |dims: &[usize]| {
        let values: Vec<f32> = (0..dims.iter().product()).map(|_| graph.random.unit() / 2.0).collect();
        graph.floats(dims, &values)
    };
    let (u, v) = (random(&[width, inner]), random(&[inner, width]));
    let rows = [random(&[inner]), random(&[1, 1, width])];
    let product = graph.op("MatMul", &[&x.name, &u], &[], made(inner));
    let sum = graph.op("Add", &[&product.name, &rows[0]], &[], made(inner));
    let limited = graph.op("Relu", &[&sum.name], &[], made(inner));
    let product = graph.op("MatMul", &[&limited.name, &v], &[], made(width));
    let sum = graph.op("Add", &[&rows[1], &product.name], &[], made(width));
    let y = graph.op("Add", &[&sum.name, &x.name], &[], made(width));
    graph.show(&y);
    graph.output();
    let values: Vec<f32> = (0..64 * length * width).map(|_| 2.0 * graph.random.unit()).collect();
    let samples = save(&folder, "x.npy", &[64, length, width], &values);
    let (float, out) = (path(&folder, "float.onnx"), path(&folder, "out.onnx"));
    fs::write(&float, graph.model(false)).unwrap();
    for form in [&[][..], &["--effort", "fast"], &["--weight-only"], &["--dynamic"]] {
        let report = json(&[&["quantize", &float, "--calibration", &samples, "-o", &out], form].concat());
        assert!(report["sqnr_db"].as_f64().unwrap() > 30.0, "{form:?}: {report}");
        let compared = json(&["compare", &float, &out, "--inputs", &samples]);
        assert!(compared["output"]["sqnr_db"].as_f64().unwrap() > 30.0, "{form:?}: {compared}");
        if form.first().is_none_or(|form| *form == "--effort") {
            // What lies between a product and its bias is nowhere to be seen.
            let layers = compared["layers"].as_array().unwrap();
            assert!(layers.iter().all(|layer| layer["op"] != "MatMul"), "{form:?}: {compared}");
            let inspected = json(&["inspect", &out]);
            assert_eq!(inspected["int8_ratio"], 1.0, "{form:?}: {inspected}");
            let steps = inspected["steps"].as_array().unwrap();
            let kinds: Vec<&str> = steps.iter().map(|step| step["kind"].as_str().unwrap()).collect();
            assert_eq!(kinds, ["Quantize", "ConvS8", "ConvS8", "AddS8", "Dequantize"], "{form:?}");
        }
    }
}

/// On the benchmark pack's own data: the float model's answers on samples that calibration did not see.
#[test]
fn answers_hold_on_unseen_samples() {
    let Some(pack) = pack() else { return };
    let folder = TempDir::new().unwrap();
    let float = pack.join("models/kws_dscnn_f32.onnx");
    let [calibration, test] = ["calib", "test_public"].map(|of| pack.join(format!("data/kws_{of}_x.npy")));
    assert_eq!(Array::read(&test).dtype, DType::F32);
    let out = path(&folder, "out.onnx");
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    json(&["quantize", &text(&float), "--calibration", &text(&calibration), "-o", &out]);
    let compared = json(&["compare", &text(&float), &out, "--inputs", &text(&test)]);
    let agreement = compared["output"]["top1_agreement"].as_f64().unwrap();
    assert!(agreement > 0.97, "{agreement}");
}
