//! What `tractlet quantize` refuses, and that nothing is written or lost then.

use std::process::Command;

use super::common::limited;
use super::*;

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
    for (value, word) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf"), (3e38, "3e38")] {
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
