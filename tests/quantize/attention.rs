//! What `tractlet quantize` makes of products of two activations.

use super::*;

/// Attention as PyTorch writes it, and with a mask where one is asked for. With 48 samples, and the names of the products of scores and of what they weigh.
fn attention(folder: &TempDir, masked: bool) -> ([String; 2], [String; 2]) {
    let (length, width, heads, size) = (9, 16, 2, 8);
    let graph = &mut Graph::new(12, 17);
    let x = graph.input(&[1, length, width]);
    let layer = |graph: &mut Graph, x: &Tensor| {
        let values: Vec<f32> = (0..width * width).map(|_| graph.random.unit()).collect();
        let weights = graph.floats(&[width, width], &values);
        graph.op("MatMul", &[&x.name, &weights], &[], Tensor { dims: vec![1, length, width], ..x.clone() })
    };
    let [queries, keys, values] = [[0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]].map(|order: [usize; 4]| {
        let product = layer(graph, &x);
        let split = [1, length, heads, size];
        let shape = graph.longs(split.map(|dim| dim as i64));
        let split_up =
            graph.op("Reshape", &[&product.name, &shape], &[], Tensor { dims: split.to_vec(), ..product.clone() });
        let (dims, perm) = (order.map(|d| split[d]).to_vec(), order.map(|d| d as i64).to_vec());
        graph.op(
            "Transpose",
            &[&split_up.name],
            &[("perm", Attribute::Ints(perm))],
            Tensor { dims, ..split_up.clone() },
        )
    });
    let factor = graph.floats(&[], &[0.35]);
    let queries = graph.op("Mul", &[&queries.name, &factor], &[], queries.clone());
    let square = Tensor { dims: vec![1, heads, length, length], ..queries.clone() };
    let scores = graph.op("MatMul", &[&queries.name, &keys.name], &[], square.clone());
    let mut seen = scores.clone();
    if masked {
        let mask = (0..length * length).map(|i| if i % length > i / length { f32::NEG_INFINITY } else { 0.0 });
        let mask = graph.floats(&[length, length], &mask.collect::<Vec<_>>());
        seen = graph.op("Add", &[&seen.name, &mask], &[], square.clone());
    }
    let shares = graph.op("Softmax", &[&seen.name], &[("axis", Attribute::Int(-1))], square);
    let mixed = graph.op("MatMul", &[&shares.name, &values.name], &[], values.clone());
    let order = [("perm", Attribute::Ints(vec![0, 2, 1, 3]))];
    let beside =
        graph.op("Transpose", &[&mixed.name], &order, Tensor { dims: vec![1, length, heads, size], ..mixed.clone() });
    let shape = graph.longs([1, length as i64, width as i64]);
    let joined = graph.op("Reshape", &[&beside.name, &shape], &[], x.clone());
    let y = layer(graph, &joined);
    graph.show(&y);
    graph.output();
    (write(folder, graph, "attention", &[48, length, width]), [scores, mixed].map(|tensor| tensor.name))
}

/// How many products of activations of a model are in int8, and in f32.
fn products(model: &str) -> [usize; 2] {
    let steps = json(&["inspect", model])["steps"].as_array().unwrap().clone();
    ["MatMulS8", "MatMulF32"].map(|kind| steps.iter().filter(|step| step["kind"] == kind).count())
}

#[test]
fn products_of_activations_become_integers() {
    let folder = TempDir::new().unwrap();
    for masked in [false, true] {
        let ([float, samples], [scores, mixed]) = attention(&folder, masked);
        let out = path(&folder, "out.onnx");
        let quantize = |more: &[&str]| {
            let report = json(&[&["quantize", &float, "--calibration", &samples, "-o", &out], more].concat());
            assert!(report["sqnr_db"].as_f64().unwrap() > 20.0, "{more:?}: {report}");
            let compared = json(&["compare", &float, &out, "--inputs", &samples]);
            assert!(compared["output"]["sqnr_db"].as_f64().unwrap() > 20.0, "{more:?}: {compared}");
            report
        };
        let report = quantize(&[]);
        let float_nodes = report["nodes"].as_array().unwrap().iter().filter(|node| node["scheme"] == "float32");
        let ops: Vec<&str> = float_nodes.map(|node| node["op"].as_str().unwrap()).collect();
        assert_eq!(ops, if masked { vec!["Add", "Softmax"] } else { vec![] }, "{report}");
        assert_eq!(products(&out), [2, 0]);
        for form in [&["--effort", "fast"][..], &["--activations", "uint8"], &["--symmetric"]] {
            quantize(form);
            assert_eq!(products(&out), [2, 0], "{form:?}");
        }
        // By name they stay in float, and nothing else does.
        for kept in [&scores, &mixed] {
            quantize(&["--effort", "fast", "--keep", kept]);
            assert_eq!(products(&out), [1, 1], "{kept}");
        }
        for form in [&["--weight-only"][..], &["--dynamic"], &["--activations", "int16"]] {
            quantize(form);
            assert_eq!(products(&out), [0, 2], "{form:?}");
        }
    }
}
