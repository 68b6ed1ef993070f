//! What `--target-sqnr` and `--target-drop` hold a model to, and what they cannot.

use super::*;

/// One value, by a layer and this operator, or by that layer with its weights turned round; and 60 samples.
fn one_value(folder: &TempDir, op: &str) -> [String; 3] {
    let with = |sign: f32| {
        let mut graph = Graph::new(3, 13);
        let x = graph.input(&[1, 8]);
        let values: Vec<f32> = (0..8).map(|_| sign * graph.random.unit()).collect();
        let weights = graph.floats(&[8, 1], &values);
        let made = Tensor { dims: vec![1, 1], ..x.clone() };
        let sum = graph.op("MatMul", &[&x.name, &weights], &[], made.clone());
        let y = graph.op(op, &[&sum.name], &[], made);
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
    let [model, turned, samples] = one_value(&folder, "Sigmoid");
    let base = ["quantize", &model, "--calibration", &samples, "-o", &out];
    let report = json(&[&base[..], &["--target-drop", "5%"]].concat());
    assert!(report["top1_agreement"].as_f64().unwrap() >= 0.95, "{report}");
    let text = String::from_utf8(tractlet(&base).stdout).unwrap();
    assert!(text.contains("dB, the same answer on"), "{text}");
    for (other, agreement) in [(&model, 1.0), (&turned, 0.0)] {
        let compared = json(&["compare", &model, other, "--inputs", &samples]);
        assert_eq!(compared["output"]["top1_agreement"], agreement, "{compared}");
    }

    let [model, _, samples] = one_value(&folder, "Tanh");
    let base = ["quantize", &model, "--calibration", &samples, "-o", &out];
    let error = fails(&[&base[..], &["--target-drop", "5%"]].concat());
    assert!(error.contains("Tanh1.onnx: other answers cannot be counted") && error.contains("ask for an SQNR"), "{error}");
    let report = json(&base);
    assert!(report["top1_agreement"].is_null(), "{report}");
    let text = String::from_utf8(tractlet(&base).stdout).unwrap();
    assert!(text.contains("output: SQNR") && !text.contains("the same answer"), "{text}");
    let compared = json(&["compare", &model, &out, "--inputs", &samples]);
    assert!(compared["output"]["top1_agreement"].is_null(), "{compared}");
}
