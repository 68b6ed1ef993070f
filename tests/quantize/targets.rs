//! What `--target-sqnr` and `--target-drop` hold a model to, and what they cannot.

use super::*;

/// One value, by a layer and this operator, or by that layer with its weights turned round; and 60 samples.
fn one_value(folder: &TempDir, op: &str, squeezed: bool) -> [String; 3] {
    let with = |sign: f32| {
        let mut graph = Graph::new(3, 13);
        let x = graph.input(&[1, 8]);
        let values: Vec<f32> = (0..8).map(|_| sign * graph.random.unit()).collect();
        let weights = graph.floats(&[8, 1], &values);
        let made = Tensor { dims: vec![1, 1], ..x.clone() };
        let sum = graph.op("MatMul", &[&x.name, &weights], &[], made.clone());
        let mut y = graph.op(op, &[&sum.name], &[], made);
        if squeezed {
            let last = graph.longs([1]);
            y = graph.op("Squeeze", &[&y.name, &last], &[], Tensor { dims: vec![1], ..y.clone() });
        }
        graph.show(&y);
        graph.output();
        let name = path(folder, &format!("{op}{sign}.onnx"));
        fs::write(&name, graph.model(false)).unwrap();
        (name, (0..60 * 8).map(|_| graph.random.unit()).collect::<Vec<f32>>())
    };
    let ((model, samples), (turned, _)) = (with(1.0), with(-1.0));
    [model, turned, save(folder, &format!("{op}.npy"), &[60, 8], &samples)]
}

#[test]
fn one_value_is_an_answer_where_a_sigmoid_makes_it() {
    let folder = TempDir::new().unwrap();
    let out = path(&folder, "out.onnx");
    // As it is, and as PyTorch's `.squeeze(-1)` leaves it.
    for squeezed in [false, true] {
        let [model, turned, samples] = one_value(&folder, "Sigmoid", squeezed);
        let base = ["quantize", &model, "--calibration", &samples, "-o", &out];
        let report = json(&[&base[..], &["--target-drop", "5%"]].concat());
        assert!(report["top1_agreement"].as_f64().unwrap() >= 0.95, "{report}");
        let text = String::from_utf8(tractlet(&base).stdout).unwrap();
        assert!(text.contains("dB, the same answer on"), "{text}");
        for (other, agreement) in [(&model, 1.0), (&turned, 0.0)] {
            let compared = json(&["compare", &model, other, "--inputs", &samples]);
            assert_eq!(compared["output"]["top1_agreement"], agreement, "{compared}");
        }
    }

    let [model, _, samples] = one_value(&folder, "Tanh", false);
    let base = ["quantize", &model, "--calibration", &samples, "-o", &out];
    let error = fails(&[&base[..], &["--target-drop", "5%"]].concat());
    assert!(
        error.contains("Tanh1.onnx: other answers cannot be counted") && error.contains("ask for an SQNR"),
        "{error}"
    );
    let report = json(&base);
    assert!(report["top1_agreement"].is_null(), "{report}");
    let text = String::from_utf8(tractlet(&base).stdout).unwrap();
    assert!(text.contains("output: SQNR") && !text.contains("the same answer"), "{text}");
    let compared = json(&["compare", &model, &out, "--inputs", &samples]);
    assert!(compared["output"]["top1_agreement"].is_null(), "{compared}");
}

/// `x / sqrt(mean(x²))` of one row, and two layers behind. Samples of 8 values, of which some are 400 times as loud as others:
/// a mean of squares has steps for the loud ones alone.
fn levelled(folder: &TempDir) -> [String; 2] {
    let width = 8;
    let mut graph = Graph::new(7, 13);
    let x = graph.input(&[1, width]);
    let made = |width: usize| Tensor { dims: vec![1, width], ..x.clone() };
    let mean = graph.floats(&[width, 1], &[1.0 / 8.0; 8]);
    let least = graph.floats(&[1], &[1e-6]);
    let square = graph.op("Mul", &[&x.name, &x.name], &[], made(width));
    let power = graph.op("MatMul", &[&square.name, &mean], &[], made(1));
    let power = graph.op("Add", &[&power.name, &least], &[], made(1));
    let level = graph.op("Sqrt", &[&power.name], &[], made(1));
    let mut y = graph.op("Div", &[&x.name, &level.name], &[], made(width));
    for op in ["Relu", "Identity"] {
        let values: Vec<f32> = (0..width * width).map(|_| graph.random.unit() / 2.0).collect();
        let weights = graph.floats(&[width, width], &values);
        y = graph.op("MatMul", &[&y.name, &weights], &[], made(width));
        y = graph.op(op, &[&y.name], &[], made(width));
    }
    graph.show(&y);
    graph.output();
    let mut samples = Vec::new();
    for _ in 0..64 {
        let loud = (3.0 * graph.random.unit()).exp();
        samples.extend((0..width).map(|_| loud * graph.random.unit()));
    }
    let name = path(folder, "levelled.onnx");
    fs::write(&name, graph.model(false)).unwrap();
    [name, save(folder, "levelled.npy", &[64, width], &samples)]
}

#[test]
fn what_is_left_is_fitted_anew_before_all_goes_to_float() {
    let folder = TempDir::new().unwrap();
    let [model, samples] = levelled(&folder);
    let out = path(&folder, "out.onnx");
    let base = ["quantize", &model, "--calibration", &samples, "-o", &out];
    let plain = json(&base);
    assert!(plain["sqnr_db"].as_f64().unwrap() < 15.0, "{plain}");
    let report = json(&[&base[..], &["--target-sqnr", "30"]].concat());
    assert!(report["worst_db"].as_f64().unwrap() >= 30.0, "{report}");
    let nodes = report["nodes"].as_array().unwrap();
    assert!(nodes.iter().any(|node| node["scheme"] == "int8 per-channel"), "{report}");
    let said = |node: &&Value| node["how"].as_str().unwrap().starts_with("kept for quality: quantized alone, ");
    assert!(nodes.iter().any(|node| said(&node)), "{report}");
    let compared = json(&["compare", &model, &out, "--inputs", &samples]);
    assert!(compared["output"]["sqnr_db"].as_f64().unwrap() >= 30.0, "{compared}");
}
