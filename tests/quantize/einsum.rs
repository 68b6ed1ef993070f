//! What `tractlet quantize` and `tractlet prune` make of Einsum.

use super::*;

fn weights(graph: &mut Graph, dims: &[usize]) -> String {
    let values: Vec<f32> = (0..dims.iter().product()).map(|_| graph.random.unit() / 2.0).collect();
    graph.floats(dims, &values)
}

fn einsum(graph: &mut Graph, equation: &'static str, operands: [&str; 2], like: &Tensor, dims: &[usize]) -> Tensor {
    let equation = [("equation", Attribute::Text(equation))];
    graph.op("Einsum", &operands, &equation, Tensor { dims: dims.to_vec(), ..like.clone() })
}

/// Attention as Keras writes it: heads by Einsum with a bias for each column, products of what is computed, layers of one
/// dimension and one over places behind it. With 48 samples, and names of tensors that are there before and after.
fn attention(folder: &TempDir) -> ([String; 2], [String; 3]) {
    let (length, width, heads, size) = (6, 16, 2, 8);
    let graph = &mut Graph::new(11, 12);
    let x = graph.input(&[1, length, width]);
    let split = [1, length, heads, size];
    let [queries, keys, values] = [(); 3].map(|()| {
        let (own, bias) = (weights(graph, &[width, heads, size]), weights(graph, &[heads, size]));
        let product = einsum(graph, "abc,cde->abde", [&x.name, &own], &x, &split);
        graph.op("Add", &[&product.name, &bias], &[], product.clone())
    });
    let scores = einsum(graph, "aecd,abcd->acbe", [&keys.name, &queries.name], &x, &[1, heads, length, length]);
    let shares = graph.op("Softmax", &[&scores.name], &[("axis", Attribute::Int(-1))], scores.clone());
    let mixed = einsum(graph, "acbe,aecd->abcd", [&shares.name, &values.name], &x, &split);
    let own = weights(graph, &[heads, size, width]);
    let joined = einsum(graph, "abcd,cde->abe", [&mixed.name, &own], &x, &[1, length, width]);
    let own = weights(graph, &[width, 20]);
    let wide = einsum(graph, "...c,cd->...d", [&joined.name, &own], &x, &[1, length, 20]);
    let limited = graph.op("Relu", &[&wide.name], &[], wide.clone());
    let own = weights(graph, &[4, length]);
    let y = einsum(graph, "ot,btc->boc", [&own, &limited.name], &x, &[1, 4, 20]);
    graph.show(&y);
    graph.output();
    (write(folder, graph, "attention", &[48, length, width]), [queries, joined, y].map(|tensor| tensor.name))
}

#[test]
fn products_by_weights_become_integers_and_others_stay() {
    let folder = TempDir::new().unwrap();
    let ([float, samples], seen) = attention(&folder);
    let out = path(&folder, "out.onnx");
    for form in [&[][..], &["--effort", "fast"], &["--activations", "int16"], &["--weight-only"], &["--dynamic"]] {
        let report = json(&[&["quantize", &float, "--calibration", &samples, "-o", &out], form].concat());
        assert!(report["sqnr_db"].as_f64().unwrap() > 20.0, "{form:?}: {report}");
        let named = |op: &str| report["nodes"].as_array().unwrap().iter().filter(|node| node["op"] == op).count();
        assert_eq!((named("MatMul"), named("Einsum")), (6, 2), "{form:?}: {report}");
        let compared = json(&["compare", &float, &out, "--inputs", &samples]);
        assert!(compared["output"]["sqnr_db"].as_f64().unwrap() > 20.0, "{form:?}: {compared}");
        if form.is_empty() {
            // Tensors keep their names where something is still there to be seen.
            let layers = compared["layers"].as_array().unwrap();
            for name in &seen {
                assert!(layers.iter().any(|layer| layer["name"] == **name), "{name}: {compared}");
            }
            let steps = json(&["inspect", &out])["steps"].as_array().unwrap().clone();
            let count = |kind: &str| steps.iter().filter(|step| step["kind"] == kind).count();
            // A bias and a Relu are no steps of their own.
            assert_eq!((count("ConvS8"), count("ConvF32"), count("MatMulF32")), (6, 0, 2), "{steps:?}");
            assert_eq!((count("AddS8"), count("BinaryF32"), count("TableS8")), (0, 0, 0), "{steps:?}");
        }
    }
}

#[test]
fn a_layer_that_is_an_einsum_is_pruned() {
    let folder = TempDir::new().unwrap();
    let ([float, samples], _) = attention(&folder);
    let out = path(&folder, "out.onnx");
    let report = json(&["prune", &float, "--calibration", &samples, "-o", &out, "--ratio", "0.5"]);
    assert!(report["after"]["macs"].as_u64() < report["before"]["macs"].as_u64(), "{report}");
    let compared = json(&["run", &out, "--input", &samples]);
    assert_eq!(compared["engine"], "plan", "{compared}");
}
