//! Models pruned from end to end.

use super::*;

/// A Gemm that scales is no layer that is weighed; by what its weights are, channels may still be ranked.
#[test]
fn channels_that_are_not_weighed_stay() {
    let mut source = flattened();
    let gemm = source.graph_mut().node.last_mut().unwrap();
    gemm.attribute.push(onnx::proto::AttributeProto { f: Some(2.0), name: Some("alpha".into()), ..Default::default() });
    let with = |criterion| {
        let options = Options { ratio: 0.25, multiple: 1, criterion, refit: false, ..Options::default() };
        prune(&source.encode_to_vec(), &Plain::new(), &options, &())
    };
    let error = with(Criterion::Activation).unwrap_err().to_string();
    assert!(error.contains("`y_node` (Gemm): what channels matter to it is not measured"), "{error}");
    assert_eq!(with(Criterion::Magnitude).unwrap().report.groups[0].after, 3);
}

#[test]
fn channels_that_are_nothing_go_without_a_trace() {
    for (criterion, refit) in
        [(Criterion::Activation, true), (Criterion::Activation, false), (Criterion::Magnitude, false)]
    {
        let engine = Plain::new();
        let model = flattened();
        let options = Options { ratio: 0.25, multiple: 1, criterion, refit, ..Options::default() };
        let pruned = prune(&model.encode_to_vec(), &engine, &options, &()).unwrap();
        assert_eq!((pruned.report.groups[0].before, pruned.report.groups[0].after), (4, 3));
        let answers = |model: &ModelProto| {
            let pool = Pool::open(&engine, model, &["y"]).unwrap();
            pool.each(&[0, 1, 2, 3], |runner, _| Ok(runner.output(0).to_vec())).unwrap()
        };
        let (before, after) = (answers(&model), answers(&onnx::decode(&pruned.model).unwrap()));
        for (before, after) in before.iter().flatten().zip(after.iter().flatten()) {
            assert!((before - after).abs() < 1e-5, "{criterion:?} {refit}: {before} {after}");
        }
        let again = prune(&model.encode_to_vec(), &engine, &options, &()).unwrap();
        assert_eq!(again.model, pruned.model);
    }
}

/// `source` pruned runs, with its first `layers` layers narrower, and its outputs have the shape that they had.
fn narrows(source: &ModelProto, layers: usize) {
    let options = Options { ratio: 0.25, multiple: 1, allocation: Allocation::Uniform, ..Options::default() };
    let engine = Plain::new();
    let pruned = prune(&source.encode_to_vec(), &engine, &options, &()).unwrap();
    let kept: Vec<_> = pruned.report.groups.iter().take(layers).map(|group| (group.before, group.after)).collect();
    assert!(kept.len() == layers && kept.iter().all(|kept| *kept == (4, 3)), "{kept:?}");
    let shapes = |model: &ModelProto| Pool::open(&engine, model, &["y"]).unwrap().shapes().unwrap();
    assert_eq!(shapes(&onnx::decode(&pruned.model).unwrap()), shapes(source));
}

#[test]
fn a_bias_that_refitting_adds_has_the_channels_that_stay() {
    let nodes = vec![
        node("Conv", &["x", "w0"], "a"),
        node("Relu", &["a"], "b"),
        node("Conv", &["b", "w1"], "c"),
        node("Relu", &["c"], "d"),
        node("Conv", &["d", "w2"], "y"),
    ];
    let stored = [("w0", [4, 2, 1, 1]), ("w1", [4, 4, 1, 1]), ("w2", [3, 4, 1, 1])];
    narrows(&model(nodes, stored.map(|(name, shape)| weights(name, &shape)).into()), 2);
}

#[test]
fn a_bias_of_a_row_loses_entries_of_the_row() {
    let product = |inputs: &[&str], output| {
        let mut product = node("Gemm", inputs, output);
        product.set_int("transB", 1);
        product
    };
    let nodes = vec![
        node("Reshape", &["x", "shape"], "f"),
        product(&["f", "w0", "b0"], "a"),
        node("Relu", &["a"], "b"),
        product(&["b", "w1", "b1"], "c"),
        node("Relu", &["c"], "d"),
        product(&["d", "w2"], "y"),
    ];
    let stored = [("w0", [4, 12]), ("b0", [1, 4]), ("w1", [4, 4]), ("b1", [1, 4]), ("w2", [3, 4])];
    let stored = stored.iter().map(|(name, shape)| weights(name, shape)).chain([i64s("shape", &[2], &[1, 12])]);
    narrows(&model(nodes, stored.collect()), 2);
}

#[test]
fn a_layer_may_read_what_its_sum_adds() {
    let nodes = vec![
        node("Conv", &["x", "w0"], "a"),
        node("Relu", &["a"], "b"),
        node("Conv", &["b", "w1"], "c"),
        node("Add", &["b", "c"], "d"),
        node("Conv", &["d", "w2"], "y"),
    ];
    let stored = [("w0", [4, 2, 1, 1]), ("w1", [4, 4, 1, 1]), ("w2", [3, 4, 1, 1])];
    narrows(&model(nodes, stored.map(|(name, shape)| weights(name, &shape)).into()), 1);
}

#[test]
fn what_remains_is_refitted() {
    // Channel 1 says what channel 0 says: without it, who reads both has to read 0 twice.
    let mut source = flattened();
    let graph = source.graph_mut();
    let filters = [1.0, -0.5, 0.5, -0.25, -0.8, 0.9, 0.7, 0.6];
    graph.initializer[0] = f32s("w0", &[4, 2, 1, 1], &filters);
    graph.initializer[1] = f32s("b0", &[4], &[0.5, 0.25, -0.25, 0.125]);
    let engine = Plain::new();
    let error = |refit: bool| {
        let options =
            Options { ratio: 0.25, multiple: 1, criterion: Criterion::Magnitude, refit, ..Options::default() };
        prune(&source.encode_to_vec(), &engine, &options, &()).unwrap().report.score.sqnr_db
    };
    let (with, without) = (error(true), error(false));
    assert!(with > without + 20.0, "{with} {without}");
}

#[test]
fn a_model_without_channels_to_take_says_why() {
    let model = model(vec![node("Conv", &["x", "w0"], "y")], vec![weights("w0", &[4, 2, 1, 1])]);
    let error = prune(&model.encode_to_vec(), &Plain::new(), &Options::default(), &()).unwrap_err();
    assert!(matches!(&error, QuantizeError::NothingToPrune(why) if why.contains("output of the graph")), "{error}");
}

#[test]
fn answers_count_alike_however_rare_they_are() {
    let answers = [vec![0; 24], vec![1; 4], vec![2; 2]].concat();
    let weights = balance(&answers);
    let of = |answer| answers.iter().zip(&weights).filter(|(a, _)| **a == answer).map(|(_, w)| w).sum::<f64>();
    assert!([0, 1, 2].iter().all(|&answer| (of(answer) - 10.0).abs() < 1e-9), "{weights:?}");
    // Values of which any may be the largest are no classes.
    assert_eq!(balance(&[0, 1, 2, 3, 4, 4]), [1.0; 6]);
}
