//! Inputs that are fixed to values when a model is opened, `--set`: what they come to, and which are refused.

mod common;

use std::path::PathBuf;

use common::{Array, command, json, repository, tractlet};
use tempfile::TempDir;
use tractlet::{
    CompileOptions, DType, EngineChoice, InputValue, Limits, Model, ModelErrorKind, ModelFile, OpenOptions, PlanCache,
    PlanFile, Session, SessionOptions, compile, npy,
};

const FRAMES: usize = 5;
const RATES: [(&str, usize); 2] = [("16000", 32), ("8000", 16)];

fn golden(name: &str) -> PathBuf {
    repository().join("tests/golden/set").join(name)
}

fn opened(options: &OpenOptions) -> Result<Model, tractlet::ModelError> {
    Model::open_with(golden("two_rates.onnx"), options)
}

fn at_rate(rate: &str) -> OpenOptions {
    OpenOptions::default().set("sr", rate)
}

/// The state goes round from frame to frame.
fn expect_golden(session: &mut Session, rate: &str, what: &str) {
    let near = |got: &[f32], expected: &[f32]| {
        assert_eq!(got.len(), expected.len(), "{what}, {rate}");
        let all = got.iter().zip(expected).all(|(got, expected)| (got - expected).abs() <= 1e-5);
        assert!(all, "{what}, {rate}: {got:?}, not {expected:?}");
    };
    let names: Vec<&str> = session.inputs().iter().map(|spec| spec.name.as_str()).collect();
    assert_eq!(names, ["x", "state"], "{what}");
    let frames = Array::read(golden(&format!("x_{rate}.npy"))).floats();
    let (mut speech, mut state) = (vec![], vec![0f32; 4]);
    for frame in frames.chunks(frames.len() / FRAMES) {
        let (mut answer, mut next) = ([0f32], [0f32; 4]);
        let outputs = &mut [answer.as_mut_slice().into(), next.as_mut_slice().into()];
        session.run(&[frame.into(), state.as_slice().into()], outputs).unwrap();
        (speech, state) = ([speech, answer.to_vec()].concat(), next.to_vec());
    }
    near(&speech, &Array::read(golden(&format!("speech_{rate}.npy"))).floats());
    near(&state, &Array::read(golden(&format!("state_{rate}.npy"))).floats());
}

#[test]
fn a_fixed_input_picks_the_branch_that_runs() {
    let engines = [EngineChoice::Plan, EngineChoice::Tract, EngineChoice::Ort];
    for (rate, samples) in RATES {
        let model = opened(&at_rate(rate)).unwrap();
        // tract takes no If, and knows the branch by then.
        for engine in engines.into_iter().filter(|engine| engine.is_built()) {
            let options = SessionOptions::default().engine(engine).bind("samples", samples);
            expect_golden(&mut Session::new(&model, options).unwrap(), rate, &engine.to_string());
        }
    }
}

#[test]
fn a_truth_settles_which_branch_runs() {
    for (value, expected) in
        [("true", [0.0, 2.0, 0.0]), ("1", [0.0, 2.0, 0.0]), ("False", [1.0, -2.0, 0.5]), ("0", [1.0, -2.0, 0.5])]
    {
        let options = OpenOptions::default().set("positive", value);
        let model = Model::open_with(golden("chosen.onnx"), &options).unwrap();
        let mut session = Session::new(&model, SessionOptions::default().engine(EngineChoice::Plan)).unwrap();
        let mut y = [0f32; 3];
        session.run(&[[-1f32, 2.0, -0.5].as_slice().into()], &mut [y.as_mut_slice().into()]).unwrap();
        assert_eq!(y, expected, "{value}");
    }
}

#[test]
fn a_plan_keeps_the_value() {
    let folder = TempDir::new().unwrap();
    for (rate, samples) in RATES {
        let path = folder.path().join(format!("{rate}.plan"));
        let model = opened(&at_rate(rate)).unwrap();
        compile(&model, &CompileOptions::default().bind("samples", samples)).unwrap().write(&path).unwrap();
        let plan = PlanFile::open(&path).unwrap();
        expect_golden(&mut plan.session(SessionOptions::default()).unwrap(), rate, "a plan");
        // It was made of the file as it lies there.
        plan.expect_model(&opened(&OpenOptions::default()).unwrap()).unwrap();
        let told = PlanFile::open_with(&path, &at_rate(rate)).unwrap_err().to_string();
        assert!(told.contains("a plan's inputs cannot be fixed") && told.contains("--set sr=VALUE"), "{told}");
    }
}

#[test]
fn plans_are_kept_apart_by_what_is_fixed() {
    let folder = TempDir::new().unwrap();
    let cache = PlanCache::new(folder.path());
    for round in 0..2 {
        for (rate, samples) in RATES {
            let file =
                cache.open(golden("two_rates.onnx"), &[("samples".to_owned(), samples)], &at_rate(rate)).unwrap();
            assert!(matches!(file, ModelFile::Plan(_)), "round {round}");
            expect_golden(&mut file.session(SessionOptions::default()).unwrap(), rate, "a kept plan");
        }
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2);
    }
    // Of other values there is another plan, and these are of as many samples.
    let wide = cache.open(golden("two_rates.onnx"), &[("samples".to_owned(), 32)], &at_rate("8000"));
    assert!(wide.unwrap().session(SessionOptions::default().bind("samples", 32)).is_err());
}

#[test]
fn a_model_is_the_file_that_it_was_opened_from() {
    let (plain, fixed) = (opened(&OpenOptions::default()).unwrap(), opened(&at_rate("8000")).unwrap());
    assert_eq!((plain.digest(), plain.file_bytes()), (fixed.digest(), fixed.file_bytes()));
    assert_eq!(fixed.stored("sr").unwrap(), Some(8000i64.to_le_bytes().as_slice()));
    assert_eq!((plain.inputs().len(), fixed.inputs().len()), (3, 2));
}

#[test]
fn what_does_not_fit_is_named_with_what_would() {
    let tensor = |dtype, shape: &[usize], bytes: usize| InputValue::Tensor {
        dtype,
        shape: shape.to_vec(),
        bytes: vec![0; bytes],
    };
    let cases: Vec<(&str, InputValue, &str)> = vec![
        ("rate", "16000".into(), "input `rate` is none of the model's; the model's inputs are `x`, `state`, `sr`"),
        ("wide", "1".into(), "input `wide` is none of the model's"),
        ("sr", "".into(), "input `sr` is int64 of []: `` is no int64"),
        ("sr", "16k".into(), "`16k` is no int64"),
        ("sr", "16000.0".into(), "`16000.0` is no int64"),
        ("sr", "9223372036854775808".into(), "`9223372036854775808` is no int64"),
        ("sr", "8000,16000".into(), "it takes 1 numbers, or one for all of them, not 2"),
        (
            "state",
            "1,2".into(),
            "input `state` is float32 of [1, 1, 4]: it takes 4 numbers, or one for all of them, not 2",
        ),
        ("state", "1e39".into(), "`1e39` is no float32"),
        ("state", "1,2,,4".into(), "`` is no float32"),
        ("sr", tensor(DType::I32, &[], 4), "the value is int32; convert it"),
        ("sr", tensor(DType::I64, &[1], 8), "input `sr` is int64 of []: the value is of shape [1]"),
        ("x", tensor(DType::F32, &[2, 3], 24), "input `x` is float32 of [1, samples]: the value is of shape [2, 3]"),
        ("x", tensor(DType::F32, &[1, 3], 8), "the value has 8 bytes, which are not those of shape [1, 3]"),
        ("x", tensor(DType::F32, &[1, usize::MAX], 8), "the value has 8 bytes"),
    ];
    for (input, value, expected) in cases {
        let error = opened(&OpenOptions::default().set(input, value)).unwrap_err();
        assert_eq!(error.kind(), ModelErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains(expected), "{error}\nlacks: {expected}");
    }
    let twice = opened(&at_rate("8000").set("sr", "16000")).unwrap_err().to_string();
    assert!(twice.contains("input `sr` is given a value twice"), "{twice}");
    let limits = Limits { tensor_bytes: 4096, ..Limits::default() };
    let many = opened(&OpenOptions { limits, ..at_rate("8000").set("x", ["0"; 1025].join(",")) }).unwrap_err();
    assert_eq!(many.kind(), ModelErrorKind::Limit, "{many}");
    assert!(many.to_string().contains("value of input `x`, in bytes: 4100 is above the limit of 4096"), "{many}");
}

#[test]
fn one_number_is_for_all_elements_and_open_dimensions_take_their_size() {
    let options = at_rate("8000").set("state", "0.5").set("x", "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16");
    let model = opened(&options).unwrap();
    assert_eq!(model.stored("state").unwrap().unwrap(), 0.5f32.to_le_bytes().repeat(4));
    assert_eq!(model.stored("x").unwrap().unwrap().len(), 64);
    let mut session = Session::new(&model, SessionOptions::default()).unwrap();
    session.run(&[], &mut [[0f32].as_mut_slice().into(), [0f32; 4].as_mut_slice().into()]).unwrap();
    let special = opened(&at_rate("8000").set("state", "-inf, nan,+1, 1e-9")).unwrap();
    let values: Vec<f32> = bytemuck::pod_collect_to_vec(special.stored("state").unwrap().unwrap());
    assert!(values[0] == f32::NEG_INFINITY && values[1].is_nan() && values[2..] == [1.0, 1e-9]);
}

#[test]
fn commands_take_numbers_and_files() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let model = golden("two_rates.onnx").to_str().unwrap().to_owned();
    let mut rate = npy::Writer::create(at("sr.npy"), DType::I64, &[]).unwrap();
    rate.write(&8000i64.to_le_bytes()).unwrap();
    rate.finish().unwrap().publish().unwrap();
    let (set, input) = (format!("sr={}", at("sr.npy")), format!("x={}", golden("x_8000.npy").display()));
    let fixed = [model.as_str(), "--set", &set, "--dim", "samples=16"];
    let answers = json(&[&["run"], &fixed[..], &["--set", "state=0", "--input", &input]].concat());
    assert_eq!(answers["samples"], 5);
    let first = answers["outputs"][0]["values"][0].as_f64().unwrap();
    assert!((first - Array::read(golden("speech_8000.npy")).numbers()[0]).abs() < 1e-5, "{first}");
    let inspected = json(&[&["inspect"], &fixed[..]].concat());
    assert_eq!(inspected["inputs"].as_array().unwrap().len(), 2);
    let plan = at("8k.plan");
    tractlet(&[&["compile"], &fixed[..], &["-o", &plan]].concat());
    let again = json(&["footprint", &plan, "--from", &model]);
    assert!(again["predicted"]["total_bytes"].as_u64().unwrap() > 0);

    let refused = |words: &[&str]| {
        let output = command(words).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, told) = refused(&["inspect", &model, "--set", "sr"]);
    assert!(code == Some(2) && told.contains("expected NAME=VALUE, such as sr=16000"), "{told}");
    let (code, told) = refused(&["inspect", &plan, "--set", "sr=8000"]);
    assert!(
        code == Some(1) && told.contains("tractlet compile two_rates.onnx") && told.contains("--set sr=VALUE"),
        "{told}"
    );
    let (code, told) = refused(&["inspect", &model, "--set", "sr=none.npy"]);
    assert!(code == Some(1) && told.contains("none.npy: cannot open it"), "{told}");
    let (code, told) = refused(&[&["compile"], &fixed[..], &["-o", &at("sr.npy")]].concat());
    assert!(code == Some(1) && told.contains("would overwrite what is read"), "{told}");
}

#[test]
fn what_a_fixed_input_picks_is_quantized() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("int8.onnx").to_str().unwrap().to_owned();
    let model = golden("two_rates.onnx").to_str().unwrap().to_owned();
    let frames = folder.path().join("x.npy");
    let x = Array::read(golden("x_16000.npy")).floats();
    let mut file = npy::Writer::create(&frames, DType::F32, &[40, 32]).unwrap();
    file.write(&x.repeat(8).iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
    file.finish().unwrap().publish().unwrap();
    let samples = format!("x={}", frames.display());
    let fixed = ["--set", "sr=16000", "--set", "state=0", "--dim", "samples=32", "--calibration", &samples];
    let report = json(&[&["quantize", &model, "-o", &out, "--effort", "fast"], &fixed[..]].concat());
    let scheme = |op: &str| {
        let nodes = report["nodes"].as_array().unwrap().iter().filter(|node| node["op"] == op);
        nodes.map(|node| node["scheme"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((scheme("Conv").len(), scheme("MatMul").len() + scheme("Gemm").len()), (1, 1), "{report}");
    assert!(!scheme("Conv").contains(&"float32".to_owned()), "{report}");
}

#[test]
fn up_to_version_3_of_the_format_a_stored_input_stays_listed() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("old.onnx");
    let mut bytes = std::fs::read(golden("two_rates.onnx")).unwrap();
    assert_eq!(bytes[..2], [0x08, 8], "ir_version comes first");
    bytes[1] = 3;
    std::fs::write(&path, bytes).unwrap();
    let model = Model::open_with(&path, &at_rate("16000")).unwrap();
    let options = SessionOptions::default().engine(EngineChoice::Plan).bind("samples", 32);
    expect_golden(&mut Session::new(&model, options).unwrap(), "16000", "an old file");
    let again = folder.path().join("again.onnx");
    std::fs::write(&again, model.file()).unwrap();
    let told = Model::open_with(&again, &at_rate("16000")).unwrap_err().to_string();
    assert!(told.contains("input `sr` has its value in the model"), "{told}");
}
