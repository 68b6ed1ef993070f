//! What `tractlet compare` says of a model and what quantization made of it.

use super::*;

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

#[test]
fn a_broken_output_shows_beside_a_loud_one() {
    let folder = TempDir::new().unwrap();
    let model = |quiet: f32| {
        let mut graph = Graph::new(4, 13);
        let x = graph.input(&[1, 8]);
        for scale in [1000.0, quiet] {
            let values: Vec<f32> = (0..32).map(|_| scale * graph.random.unit()).collect();
            let weights = graph.floats(&[8, 4], &values);
            let y = graph.op("MatMul", &[&x.name, &weights], &[], Tensor { dims: vec![1, 4], ..x.clone() });
            graph.show(&y);
            graph.output();
        }
        let name = path(&folder, &format!("{quiet}.onnx"));
        fs::write(&name, graph.model(false)).unwrap();
        (name, (0..160).map(|_| graph.random.unit()).collect::<Vec<f32>>())
    };
    let ((float, values), (broken, _)) = (model(1.0), model(-1.0));
    let samples = save(&folder, "x.npy", &[20, 8], &values);
    let compared = json(&["compare", &float, &broken, "--inputs", &samples]);
    let layers = compared["layers"].as_array().unwrap();
    let rows: Vec<f64> = layers.iter().map(|layer| layer["sqnr_db"].as_f64().unwrap()).collect();
    // Twice its power off, and the mean of that and of nothing.
    let near = |found: f64, db: f64| (found - db).abs() < 0.01;
    assert!(matches!(rows[..], [loud, quiet] if loud == 150.0 && near(quiet, -6.02)), "{compared}");
    let output = &compared["output"];
    let found = ["sqnr_db", "worst_db"].map(|key| output[key].as_f64().unwrap());
    assert!(near(found[0], -3.01) && near(found[1], -6.02), "{compared}");
    let text = String::from_utf8(tractlet(&["compare", &float, &broken, "--inputs", &samples]).stdout).unwrap();
    assert!(text.contains("the worst of the outputs: SQNR -6.0 dB\noutput: SQNR -3.0 dB"), "{text}");
    let same = String::from_utf8(tractlet(&["compare", &float, &float, "--inputs", &samples]).stdout).unwrap();
    assert!(!same.contains("the worst of"), "{same}");
}
