//! Groups on small graphs, and removal of channels that are nothing, on an engine that computes them plainly.

use super::*;
use crate::onnx::proto::{GraphProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto};
use crate::onnx::{dims, f32s, floats, i64s, stored};
use crate::pool::Pool;
use crate::{EngineError, Runner};

fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    let inputs = inputs.iter().map(|&name| name.to_owned()).collect();
    NodeProto::new(op, format!("{output}_node"), inputs, vec![output.to_owned()])
}

fn weights(name: &str, shape: &[usize]) -> TensorProto {
    // Any values that differ, of either sign.
    let value = |i: usize| ((i * 7919 + name.len() * 104_729) % 41) as f32 / 20.0 - 1.0;
    f32s(name, shape, &(0..shape.iter().product()).map(value).collect::<Vec<_>>())
}

fn model(nodes: Vec<NodeProto>, initializer: Vec<TensorProto>) -> ModelProto {
    let output = nodes.last().map(|node| ValueInfoProto::untyped(node.out()));
    let graph = GraphProto {
        node: nodes,
        initializer,
        input: vec![ValueInfoProto::untyped("x")],
        output: output.into_iter().collect(),
        ..GraphProto::default()
    };
    let opset_import = vec![OperatorSetIdProto { domain: None, version: Some(13) }];
    ModelProto { graph: Some(graph), opset_import, ..ModelProto::default() }
}

fn channels(model: &ModelProto, shapes: &[(&str, &[usize])]) -> Channels {
    Channels::of(model, &shapes.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())).collect())
}

/// Layers of each group, by what they write, with the number of classes and of those that may go.
fn summary(model: &ModelProto, channels: &Channels) -> Vec<(Vec<String>, usize, usize)> {
    let of = |group: &channels::Group| {
        let names = group.writers.iter().map(|&node| model.nodes()[node].out().to_owned()).collect();
        (names, group.classes.len(), group.classes.iter().filter(|&&class| !channels.fixed[class]).count())
    };
    channels.groups.iter().map(of).collect()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn both_operands_of_a_sum_go_together() {
    let model = model(
        vec![
            node("Conv", &["x", "w0"], "a"),
            node("Relu", &["a"], "b"),
            node("Conv", &["b", "w1"], "c"),
            node("Add", &["b", "c"], "d"),
            node("Conv", &["d", "w2"], "y"),
        ],
        vec![weights("w0", &[4, 3, 1, 1]), weights("w1", &[4, 4, 1, 1]), weights("w2", &[2, 4, 1, 1])],
    );
    let image: &[usize] = &[1, 4, 5, 5];
    let shapes =
        [("x", &[1, 3, 5, 5][..]), ("a", image), ("b", image), ("c", image), ("d", image), ("y", &[1, 2, 5, 5])];
    let channels = channels(&model, &shapes);
    assert_eq!(summary(&model, &channels), [(names(&["a", "c"]), 4, 4), (names(&["y"]), 2, 0)]);
    let why = channels.groups[1].fixed.as_deref().unwrap();
    assert!(why.contains("output of the graph"), "{why}");
    let macs = Macs::of(&model, &HashMap::from(shapes.map(|(name, shape)| (name.to_owned(), shape.to_vec()))));
    let mut removed = vec![false; channels.fixed.len()];
    assert_eq!(macs.total(&channels, &removed), 25 * (12 + 16 + 8));
    removed[channels.groups[0].classes[0]] = true;
    assert_eq!(macs.total(&channels, &removed), 25 * (9 + 9 + 6));
}

#[test]
fn joined_channels_keep_their_offsets() {
    let model = model(
        vec![
            node("Conv", &["x", "w0"], "a"),
            node("Conv", &["x", "w1"], "b"),
            {
                let mut concat = node("Concat", &["a", "x", "b"], "c");
                concat.set_int("axis", 1);
                concat
            },
            node("Conv", &["c", "w2"], "y"),
        ],
        vec![weights("w0", &[2, 1, 1, 1]), weights("w1", &[3, 1, 1, 1]), weights("w2", &[1, 6, 1, 1])],
    );
    let shapes: [(&str, &[usize]); 5] =
        [("x", &[1, 1, 2, 2]), ("a", &[1, 2, 2, 2]), ("b", &[1, 3, 2, 2]), ("c", &[1, 6, 2, 2]), ("y", &[1, 1, 2, 2])];
    let channels = channels(&model, &shapes);
    assert_eq!(summary(&model, &channels)[..2], [(names(&["a"]), 2, 2), (names(&["b"]), 3, 3)]);
    let mut removed = vec![false; channels.fixed.len()];
    removed[channels.groups[1].classes[1]] = true;
    let mut cut = model.clone();
    surgery::remove(&mut cut, &channels, &removed);
    let read = stored(&cut, 3, 1).unwrap();
    let all = floats(stored(&model, 3, 1).unwrap()).unwrap();
    assert_eq!((dims(read), floats(read).unwrap()), (vec![1, 5, 1, 1], [&all[..4], &all[5..]].concat()));
}

fn with_axis(mut node: NodeProto, axis: i64) -> NodeProto {
    node.set_int("axis", axis);
    node
}

/// A halving whose halves meet, as in a gated unit: by a Split with stored sizes, one that states their number, and two
/// Slices. Channel 1 goes with 4, and 2 with 5.
#[test]
fn parts_of_what_is_split_go_with_what_they_meet() {
    let halved = |way: &str| {
        let mut split = with_axis(node("Split", &["a"], "p"), 1);
        split.output.push("q".into());
        let parts = match way {
            "sizes" => {
                split.input.push("sizes".into());
                vec![split]
            }
            "number" => {
                split.set_int("num_outputs", 2);
                vec![split]
            }
            _ => vec![
                node("Slice", &["a", "zero", "three", "one"], "p"),
                node("Slice", &["a", "three", "most", "one"], "q"),
            ],
        };
        let nodes = [
            vec![node("Conv", &["x", "w0"], "a")],
            parts,
            vec![node("Mul", &["p", "q"], "m"), node("Conv", &["m", "w1"], "y")],
        ];
        let numbers = [("zero", 0), ("one", 1), ("three", 3), ("most", i64::MAX)];
        let stored = numbers.map(|(name, number)| i64s(name, &[1], &[number]));
        let layers = [weights("w0", &[6, 1, 1, 1]), weights("w1", &[1, 3, 1, 1]), i64s("sizes", &[2], &[3, 3])];
        model(nodes.concat(), stored.into_iter().chain(layers).collect())
    };
    let half: &[usize] = &[1, 3, 2, 2];
    let shapes =
        [("x", &[1, 1, 2, 2][..]), ("a", &[1, 6, 2, 2]), ("p", half), ("q", half), ("m", half), ("y", &[1, 1, 2, 2])];
    for way in ["sizes", "number", "slices"] {
        let model = halved(way);
        let channels = channels(&model, &shapes);
        assert_eq!(summary(&model, &channels)[0], (names(&["a"]), 3, 3), "{way}");
        let mut removed = vec![false; channels.fixed.len()];
        channels.groups[0].classes[1..].iter().for_each(|&class| removed[class] = true);
        let mut cut = model.clone();
        surgery::remove(&mut cut, &channels, &removed);
        let numbers = |node, input| onnx::integers(stored(&cut, node, input).unwrap()).unwrap();
        match way {
            "slices" => {
                assert_eq!([numbers(1, 1), numbers(1, 2), numbers(2, 1), numbers(2, 2)], [[0], [1], [1], [2]]);
            }
            _ => {
                assert_eq!(numbers(1, 1), [1, 1]);
                assert!(cut.nodes()[1].find("num_outputs").is_none());
            }
        }
        assert_eq!(dims(stored(&cut, 0, 1).unwrap()), [2, 1, 1, 1]);
    }
}

/// Halves that nothing holds together: of each one channel stays.
#[test]
fn no_part_of_a_split_loses_all_its_channels() {
    let mut split = with_axis(node("Split", &["a", "sizes"], "p"), 1);
    split.output.push("q".into());
    let nodes = vec![
        node("Conv", &["x", "w0"], "a"),
        split,
        node("Conv", &["p", "w1"], "c"),
        node("Conv", &["q", "w1"], "d"),
        with_axis(node("Concat", &["c", "d"], "y"), 1),
    ];
    let stored = vec![weights("w0", &[4, 1, 1, 1]), weights("w1", &[1, 2, 1, 1]), i64s("sizes", &[2], &[2, 2])];
    let model = model(nodes, stored);
    let (one, half): (&[usize], &[usize]) = (&[1, 1, 2, 2], &[1, 2, 2, 2]);
    let shapes = [("x", one), ("a", &[1, 4, 2, 2]), ("p", half), ("q", half), ("c", one), ("d", one), ("y", half)];
    let channels = channels(&model, &shapes);
    let macs = Macs::of(&model, &shapes.map(|(name, shape)| (name.to_owned(), shape.to_vec())).into());
    let options = Options { ratio: 0.5, multiple: 1, ..Options::default() };
    let mut importance = vec![1.0; channels.fixed.len()];
    channels.groups[0].classes[..2].iter().for_each(|&class| importance[class] = 0.0);
    let removed = select::select(&channels, &importance, &macs, &options, Allocation::Uniform);
    let Some(channels::Count::Split(_, parts)) = channels.counts.first() else { panic!("no Split") };
    assert_eq!(parts.iter().map(|part| channels.kept(part, &removed).len()).collect::<Vec<_>>(), [1, 1]);
}

/// Enlarged by stored factors, to stored sizes, and to sizes with a number of channels from the activation's own shape.
#[test]
fn channels_are_followed_through_a_resize() {
    let resized = |inputs: &[&str], count: i64| {
        let nodes = vec![
            node("Conv", &["x", "w0"], "a"),
            node("Shape", &["a"], "s"),
            node("Slice", &["s", "from", "to"], "first"),
            with_axis(node("Concat", &["first", "four"], "computed"), 0),
            node("Resize", inputs, "r"),
            node("Conv", &["r", "w1"], "y"),
        ];
        let lists = [
            i64s("from", &[1], &[0]),
            i64s("to", &[1], &[2]),
            i64s("four", &[2], &[4, 4]),
            i64s("sizes", &[4], &[1, count, 4, 4]),
            f32s("scales", &[4], &[1.0, count as f32 / 4.0, 2.0, 2.0]),
        ];
        let layers = [weights("w0", &[4, 1, 1, 1]), weights("w1", &[1, 4, 1, 1])];
        model(nodes, lists.into_iter().chain(layers).collect())
    };
    let shapes: [(&str, &[usize]); 7] = [
        ("x", &[1, 1, 2, 2]),
        ("a", &[1, 4, 2, 2]),
        ("s", &[4]),
        ("first", &[2]),
        ("computed", &[4]),
        ("r", &[1, 4, 4, 4]),
        ("y", &[1, 1, 4, 4]),
    ];
    for inputs in [&["a", "", "scales"][..], &["a", "", "", "sizes"], &["a", "", "", "computed"]] {
        let model = resized(inputs, 4);
        let channels = channels(&model, &shapes);
        assert_eq!(summary(&model, &channels)[0], (names(&["a"]), 4, 4), "{inputs:?}");
        let mut removed = vec![false; channels.fixed.len()];
        removed[channels.groups[0].classes[2]] = true;
        let mut cut = model.clone();
        surgery::remove(&mut cut, &channels, &removed);
        assert_eq!(dims(stored(&cut, 5, 1).unwrap()), [1, 3, 1, 1]);
        if inputs.last() == Some(&"sizes") {
            assert_eq!(onnx::integers(stored(&cut, 4, 3).unwrap()).unwrap(), [1, 3, 4, 4]);
        }
        // More or fewer channels than there were.
        if inputs.last() != Some(&"computed") {
            let model = resized(inputs, 8);
            assert_eq!(
                summary(&model, &Channels::of(&model, &shapes.map(|(n, s)| (n.to_owned(), s.to_vec())).into()))[0].2,
                0
            );
        }
    }
}

/// What is computed from a number of channels would come out otherwise.
#[test]
fn a_number_of_channels_that_is_computed_with_holds_them() {
    let nodes = vec![
        node("Conv", &["x", "w0"], "a"),
        node("Shape", &["a"], "s"),
        node("Gather", &["s", "one"], "n"),
        node("Div", &["n", "two"], "half"),
        node("Conv", &["a", "w1"], "y"),
    ];
    let stored = [i64s("one", &[], &[1]), i64s("two", &[], &[2])];
    let layers = [weights("w0", &[4, 1, 1, 1]), weights("w1", &[1, 4, 1, 1])];
    let shapes: [(&str, &[usize]); 6] =
        [("x", &[1, 1, 2, 2]), ("a", &[1, 4, 2, 2]), ("s", &[4]), ("n", &[]), ("half", &[]), ("y", &[1, 1, 2, 2])];
    let of = |index: i64| {
        let stored = [i64s("one", &[], &[index])].into_iter().chain(stored[1..].to_vec());
        let model = model(nodes.clone(), stored.chain(layers.clone()).collect());
        channels(&model, &shapes).groups[0].fixed.clone()
    };
    assert_eq!(of(1).as_deref(), Some("`half_node` (Div): it computes with the number of channels"));
    assert_eq!(of(2), None);
}

#[test]
fn a_transposed_convolution_reads_and_writes_channels() {
    let mut depthwise = node("ConvTranspose", &["a", "w1"], "b");
    depthwise.set_int("group", 4);
    let nodes = vec![
        node("Conv", &["x", "w0"], "a"),
        depthwise,
        node("ConvTranspose", &["b", "w2", "b2"], "c"),
        node("Conv", &["c", "w3"], "y"),
    ];
    let layers = [("w0", [4, 1, 1, 1]), ("w1", [4, 1, 2, 2]), ("w2", [4, 3, 2, 2]), ("w3", [1, 3, 1, 1])];
    let kept = layers.iter().map(|(name, shape)| weights(name, shape)).chain([weights("b2", &[3])]);
    let model = model(nodes, kept.collect());
    let shapes: [(&str, &[usize]); 5] =
        [("x", &[1, 1, 2, 2]), ("a", &[1, 4, 2, 2]), ("b", &[1, 4, 3, 3]), ("c", &[1, 3, 4, 4]), ("y", &[1, 1, 4, 4])];
    let channels = channels(&model, &shapes);
    assert_eq!(summary(&model, &channels)[..2], [(names(&["a"]), 4, 4), (names(&["c"]), 3, 3)]);
    let macs = Macs::of(&model, &shapes.map(|(name, shape)| (name.to_owned(), shape.to_vec())).into());
    let mut removed = vec![false; channels.fixed.len()];
    assert_eq!(macs.total(&channels, &removed), 4 * 4 + 4 * 16 + 9 * 48 + 16 * 3);
    removed[channels.groups[0].classes[1]] = true;
    removed[channels.groups[1].classes[0]] = true;
    assert_eq!(macs.total(&channels, &removed), 4 * 3 + 4 * 12 + 9 * 24 + 16 * 2);
    let mut cut = model.clone();
    surgery::remove(&mut cut, &channels, &removed);
    let shape = |node, input| dims(stored(&cut, node, input).unwrap());
    assert_eq!([shape(1, 1), shape(2, 1), shape(3, 1)], [[3, 1, 2, 2], [3, 2, 2, 2], [1, 2, 1, 1]]);
    assert_eq!((shape(2, 2), cut.nodes()[1].int("group", 1)), (vec![2], 3));
}

/// Rows of three dimensions, the first of which a layer reads right from the graph's input; what it adds is one of them.
#[test]
fn channels_of_rows_are_the_last_dimension() {
    let nodes = vec![
        node("MatMul", &["x", "w0"], "a"),
        node("Add", &["a", "b0"], "b"),
        node("Relu", &["b"], "c"),
        node("MatMul", &["c", "w1"], "d"),
        node("Add", &["x", "d"], "e"),
        node("MatMul", &["e", "w2"], "y"),
    ];
    let stored = [("w0", [3, 6]), ("w1", [6, 3]), ("w2", [3, 2])].map(|(name, shape)| weights(name, &shape));
    let model = model(nodes, stored.into_iter().chain([weights("b0", &[6])]).collect());
    let (wide, own): (&[usize], &[usize]) = (&[1, 5, 6], &[1, 5, 3]);
    let shapes = [("x", own), ("a", wide), ("b", wide), ("c", wide), ("d", own), ("e", own), ("y", &[1, 5, 2])];
    let channels = channels(&model, &shapes);
    assert_eq!(summary(&model, &channels)[..2], [(names(&["a"]), 6, 6), (names(&["d"]), 3, 0)]);
    assert_eq!(channels.groups[1].fixed.as_deref(), Some("`e_node` (Add): it meets `x`, whose channels stay"));
}

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

/// Nothing is made for each of them: there are more than memory has room for.
#[test]
fn weights_without_elements_have_no_channels() {
    let model = model(vec![node("Conv", &["x", "w"], "y")], vec![weights("w", &[usize::MAX >> 1, 0, 3, 3])]);
    assert_eq!(summary(&model, &channels(&model, &[("x", &[1, 0, 8, 8])])), []);
}

#[test]
fn what_is_not_known_keeps_its_channels() {
    let model = model(
        vec![node("Conv", &["x", "w0"], "a"), node("DepthToSpace", &["a"], "b"), node("Conv", &["b", "w1"], "y")],
        vec![weights("w0", &[4, 1, 1, 1]), weights("w1", &[1, 1, 1, 1])],
    );
    let shapes: [(&str, &[usize]); 4] =
        [("x", &[1, 1, 2, 2]), ("a", &[1, 4, 2, 2]), ("b", &[1, 1, 4, 4]), ("y", &[1, 1, 4, 4])];
    let channels = channels(&model, &shapes);
    assert_eq!(summary(&model, &channels)[0], (names(&["a"]), 4, 0));
    let why = channels.groups[0].fixed.as_deref().unwrap();
    assert_eq!(why, "`b_node` (DepthToSpace): channels cannot be followed through it");
}

/// Convolution, a depthwise one, ReLU, flattened into a Gemm; channel 1 of 4 is nothing, and so is what it meets.
fn flattened() -> ModelProto {
    let mut first = weights("w0", &[4, 2, 1, 1]);
    let mut values = floats(&first).unwrap();
    values[2..4].fill(0.0);
    first = f32s("w0", &[4, 2, 1, 1], &values);
    let mut depthwise = node("Conv", &["b", "w1"], "c");
    depthwise.set_int("group", 4);
    let mut product = node("Gemm", &["d", "w2", "b2"], "y");
    product.set_int("transB", 1);
    model(
        vec![
            node("Conv", &["x", "w0", "b0"], "a"),
            node("Relu", &["a"], "b"),
            depthwise,
            node("Reshape", &["c", "shape"], "d"),
            product,
        ],
        vec![
            first,
            f32s("b0", &[4], &[0.5, 0.0, -0.25, 0.125]),
            weights("w1", &[4, 1, 1, 1]),
            i64s("shape", &[2], &[1, 24]),
            weights("w2", &[3, 24]),
            f32s("b2", &[3], &[0.0, 1.0, 2.0]),
        ],
    )
}

#[test]
fn flattening_gives_each_channel_its_rows() {
    let model = flattened();
    let engine = Plain::new();
    let channels = Channels::of(&model, &shapes(&model, &engine).unwrap());
    assert_eq!(summary(&model, &channels)[0], (names(&["a"]), 4, 4));
    let mut removed = vec![false; channels.fixed.len()];
    removed[channels.groups[0].classes[1]] = true;
    let mut cut = model.clone();
    surgery::remove(&mut cut, &channels, &removed);
    let shape = |node, input| stored(&cut, node, input).map(|tensor| tensor.dims.clone()).unwrap();
    assert_eq!([shape(0, 1), shape(2, 1), shape(4, 1)], [vec![3, 2, 1, 1], vec![3, 1, 1, 1], vec![3, 18]]);
    assert_eq!((shape(0, 2), cut.nodes()[2].int("group", 1)), (vec![3], 3));
    assert_eq!(onnx::integers(stored(&cut, 3, 1).unwrap()).unwrap(), [1, 18]);
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

/// Runs what these graphs consist of, with 1x1 windows: input `x` is an image of 2 channels, 2 by 3.
struct Plain(Vec<Vec<f32>>);

impl Plain {
    fn new() -> Plain {
        let value = |i: usize| ((i * 2_654_435_761) % 1009) as f32 / 504.5 - 1.0;
        Plain((0..64).map(|sample| (0..12).map(|i| value(sample * 12 + i)).collect()).collect())
    }
}

struct Run {
    model: ModelProto,
    samples: Vec<Vec<f32>>,
    outputs: Vec<Vec<f32>>,
    shapes: Vec<Vec<usize>>,
}

impl Engine for Plain {
    fn samples(&self) -> usize {
        self.0.len()
    }

    fn shape(&self, _: &str) -> Option<&[usize]> {
        None
    }

    fn stored(&self, _tensor: &str) -> Result<Vec<u8>, EngineError> {
        Err(EngineError("nothing lies elsewhere".into()))
    }

    fn open(&self, model: &[u8]) -> Result<Box<dyn Runner>, EngineError> {
        let model = onnx::decode(model).map_err(|error| EngineError(error.to_string()))?;
        let mut run = Run { model, samples: self.0.clone(), outputs: vec![], shapes: vec![] };
        run.run(0, &[])?;
        Ok(Box::new(run))
    }
}

impl Runner for Run {
    fn shapes(&self) -> &[Vec<usize>] {
        &self.shapes
    }

    fn run(&mut self, sample: usize, _: &[&[f32]]) -> Result<(), EngineError> {
        let graph = self.model.graph.as_ref().unwrap();
        let declared: HashSet<&str> = graph.output_names().into_iter().collect();
        if declared.len() < graph.output.len() {
            return Err(EngineError("an output is declared twice".into()));
        }
        let mut held: HashMap<&str, (Vec<usize>, Vec<f32>)> = HashMap::new();
        held.insert("x", (vec![1, 2, 2, 3], self.samples[sample].clone()));
        let stored = graph.stored();
        for node in &graph.node {
            let (shape, x) = held[node.input[0].as_str()].clone();
            let operand = |i: usize| node.arg(i).map(|name| floats(stored[name]).unwrap());
            let made = match node.op() {
                "Identity" => (shape, x),
                "Add" => (shape, x.iter().zip(&held[node.input[1].as_str()].1).map(|(x, y)| x + y).collect()),
                "Relu" => (shape, x.iter().map(|x| x.max(0.0)).collect()),
                "Reshape" => {
                    let target = onnx::integers(stored[node.input[1].as_str()]).unwrap();
                    (target.iter().map(|&size| size as usize).collect(), x)
                }
                op => {
                    let w = operand(1).unwrap();
                    let plane: usize = if op == "Conv" { shape[2..].iter().product() } else { 1 };
                    let rows = stored[node.input[1].as_str()].dims[0] as usize;
                    let bias = operand(2).unwrap_or_else(|| vec![0.0; rows]);
                    let (cols, depthwise) = (w.len() / rows, node.int("group", 1) > 1);
                    let y = (0..rows * plane).map(|i| {
                        let (row, place) = (i / plane, i % plane);
                        let from = |col: usize| if depthwise { row } else { col };
                        bias[row] + (0..cols).map(|col| w[row * cols + col] * x[from(col) * plane + place]).sum::<f32>()
                    });
                    let shape = [&[1, rows], shape.get(2..).unwrap_or_default()].concat();
                    (shape, y.collect())
                }
            };
            held.insert(node.out(), made);
        }
        (self.shapes, self.outputs) = graph.output_names().iter().map(|name| held[name].clone()).unzip();
        Ok(())
    }

    fn output(&self, index: usize) -> &[f32] {
        &self.outputs[index]
    }
}
