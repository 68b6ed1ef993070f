//! Which channels go together, and what is made smaller with them.

use super::*;

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

/// Nothing is made for each of its elements: there are more than memory has room for.
#[test]
fn what_has_more_entries_than_a_shape_is_no_list_of_sizes() {
    let nodes = vec![
        node("Conv", &["x", "w0"], "a"),
        node("Shape", &["a"], "s"),
        with_axis(node("Concat", &["s", "long"], "joined"), 0),
        node("Conv", &["a", "w1"], "y"),
    ];
    let model = model(nodes, vec![weights("w0", &[4, 1, 1, 1]), weights("w1", &[1, 4, 1, 1])]);
    let shapes: [(&str, &[usize]); 5] =
        [("x", &[1, 1, 2, 2]), ("a", &[1, 4, 2, 2]), ("s", &[4]), ("long", &[usize::MAX >> 8]), ("y", &[1, 1, 2, 2])];
    let why = channels(&model, &shapes).groups[0].fixed.clone();
    assert_eq!(why.as_deref(), Some("`joined_node` (Concat): it computes with the number of channels"));
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

/// As a mixer has layers along either dimension.
#[test]
fn channels_that_are_rows_to_the_next_layer_stay_and_its_own_go() {
    let mut turned = node("Transpose", &["a"], "b");
    turned.set_ints("perm", vec![0, 2, 1]);
    let nodes = vec![
        node("MatMul", &["x", "w0"], "a"),
        turned,
        node("MatMul", &["b", "w1"], "c"),
        node("MatMul", &["c", "w2"], "y"),
    ];
    let model = model(nodes, vec![weights("w0", &[4, 5]), weights("w1", &[3, 6]), weights("w2", &[6, 2])]);
    let shapes: [(&str, &[usize]); 5] =
        [("x", &[1, 3, 4]), ("a", &[1, 3, 5]), ("b", &[1, 5, 3]), ("c", &[1, 5, 6]), ("y", &[1, 5, 2])];
    let channels = channels(&model, &shapes);
    assert_eq!(summary(&model, &channels), [(names(&["a"]), 5, 0), (names(&["c"]), 6, 6), (names(&["y"]), 2, 0)]);
    let why = channels.groups[0].fixed.as_deref().unwrap();
    assert!(why.contains("mixes what is not the channels"), "{why}");
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
