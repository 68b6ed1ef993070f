//! Products and what `advance` moves around them, by random equations, against sums of products as they are written.

use std::collections::HashMap;

use super::super::constants::permuted;
use super::super::{Notes, advance};
use super::to_matmul;
use crate::onnx::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use crate::onnx::{dims, f32s, floats, integers};

/// Elements with their dimensions.
type Array = (Vec<usize>, Vec<f32>);

struct Random(u64);

impl Random {
    fn below(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }

    fn shuffled(&mut self, mut labels: Vec<char>) -> Vec<char> {
        (1..labels.len()).rev().for_each(|at| labels.swap(at, self.below(at + 1)));
        labels
    }

    /// Small whole numbers, whose sums are exact in any order.
    fn array(&mut self, dims: Vec<usize>) -> Array {
        let values = (0..dims.iter().product()).map(|_| self.below(9) as f32 - 4.0).collect();
        (dims, values)
    }
}

fn einsum(equation: &str, operands: [&str; 2]) -> NodeProto {
    let mut node = NodeProto::test("Einsum", &operands, "e");
    let (name, text) = (Some("equation".to_owned()), Some(equation.as_bytes().to_vec()));
    node.attribute.push(AttributeProto { name, s: text, ..AttributeProto::default() });
    node
}

fn model(node: Vec<NodeProto>, stored: &[(&str, &Array)]) -> ModelProto {
    let output = vec![ValueInfoProto::untyped(node.last().unwrap().out())];
    let initializer = stored.iter().map(|(name, (dims, values))| f32s(name, dims, values)).collect();
    ModelProto {
        graph: Some(GraphProto { node, output, initializer, ..GraphProto::default() }),
        ..ModelProto::default()
    }
}

/// A copy with its products taken apart, of an `x` of these sizes.
fn prepared(model: &ModelProto, sizes: &[usize]) -> ModelProto {
    let mut model = model.clone();
    to_matmul(&mut model, &HashMap::from([("x".into(), sizes.to_vec())]), &mut Notes::new());
    advance::advance(&mut model);
    model.graph_mut().sweep();
    model
}

fn ops(model: &ModelProto) -> Vec<&str> {
    model.nodes().iter().map(NodeProto::op).collect()
}

/// The sum of products that an equation without an ellipsis is.
fn summed(terms: [&[char]; 2], result: &[char], operands: [&Array; 2]) -> Array {
    let mut sizes = HashMap::new();
    for (term, (dims, _)) in terms.iter().zip(operands) {
        sizes.extend(term.iter().copied().zip(dims.iter().copied()));
    }
    let mut summed: Vec<char> = terms.concat().into_iter().filter(|label| !result.contains(label)).collect();
    summed.sort_unstable();
    summed.dedup();
    let all = [result, &summed].concat();
    let count = |labels: &[char]| labels.iter().map(|label| sizes[label]).product::<usize>();
    let inner = count(&summed);
    let mut values = vec![0.0; count(result)];
    for index in 0..count(&all) {
        let (mut rest, mut at) = (index, HashMap::new());
        for label in all.iter().rev() {
            at.insert(*label, rest % sizes[label]);
            rest /= sizes[label];
        }
        let element = |term: &[char], (_, values): &Array| {
            values[term.iter().fold(0, |place, label| place * sizes[label] + at[label])]
        };
        values[index / inner] += element(terms[0], operands[0]) * element(terms[1], operands[1]);
    }
    (result.iter().map(|label| sizes[label]).collect(), values)
}

fn broadcast(values: &Array, to: &[usize]) -> Vec<f32> {
    let own = [vec![1; to.len() - values.0.len()], values.0.clone()].concat();
    let element = |mut index: usize| {
        let (mut place, mut stride) = (0, 1);
        for (&own, &size) in own.iter().zip(to).rev() {
            place += if own == 1 { 0 } else { index % size * stride };
            (index, stride) = (index / size, stride * own);
        }
        values.1[place]
    };
    (0..to.iter().product()).map(element).collect()
}

/// What a model of few operators answers.
fn answer(model: &ModelProto, x: &Array) -> Array {
    let stored = model.graph.as_ref().unwrap().stored();
    let mut known: HashMap<&str, Array> = HashMap::from([("x", x.clone())]);
    known.extend(stored.iter().filter_map(|(name, tensor)| Some((*name, (dims(tensor), floats(tensor)?)))));
    for node in model.nodes() {
        let (from, values) = known[node.arg(0).unwrap()].clone();
        let other = node.arg(1).and_then(|name| known.get(name));
        let made = match node.op() {
            "Transpose" => {
                let order: Vec<usize> = node.ints("perm").unwrap().iter().map(|&axis| axis as usize).collect();
                (order.iter().map(|&axis| from[axis]).collect(), permuted(values, &from, &order))
            }
            "Reshape" => {
                let to = integers(stored[node.arg(1).unwrap()]).unwrap();
                let to: Vec<usize> =
                    to.iter().enumerate().map(|(at, &dim)| if dim == 0 { from[at] } else { dim as usize }).collect();
                assert_eq!(to.iter().product::<usize>(), values.len());
                (to, values)
            }
            "MatMul" => {
                let (shape, weights) = other.unwrap();
                let &[inner, cols] = shape.as_slice() else { panic!("{shape:?}") };
                assert_eq!(from.last(), Some(&inner));
                let cell = |row: &[f32], col: usize| {
                    row.iter().zip(weights.iter().skip(col).step_by(cols)).map(|(x, w)| x * w).sum()
                };
                let product = values.chunks(inner).flat_map(|row| (0..cols).map(move |col| cell(row, col))).collect();
                ([&from[..from.len() - 1], &[cols]].concat(), product)
            }
            "Add" => {
                let of = [(from, values), other.unwrap().clone()];
                let [one, two] = if of[0].1.len() < of[1].1.len() { [&of[1], &of[0]] } else { [&of[0], &of[1]] };
                let sums = one.1.iter().zip(broadcast(two, &one.0)).map(|(x, y)| x + y).collect();
                (one.0.clone(), sums)
            }
            "Relu" => (from, values.into_iter().map(|x| x.max(0.0)).collect()),
            op => panic!("{op}"),
        };
        known.insert(node.out(), made);
    }
    known[model.graph.as_ref().unwrap().output_names()[0]].clone()
}

#[test]
fn products_answer_as_the_equations_that_they_were() {
    let mut random = Random(7);
    for round in 0..600 {
        let mut letters = random.shuffled(('a'..='h').collect());
        let mut some = |least: usize, most: usize, random: &mut Random| {
            let count = least + random.below(most - least + 1);
            letters.split_off(letters.len() - count)
        };
        let (rows, inner, cols) = (some(1, 3, &mut random), some(1, 2, &mut random), some(0, 3, &mut random));
        let computed = random.shuffled([rows.as_slice(), &inner].concat());
        let held = random.shuffled([inner.as_slice(), &cols].concat());
        let result = random.shuffled([rows.as_slice(), &cols].concat());
        let sizes: HashMap<char, usize> = ('a'..='h').map(|label| (label, 1 + random.below(3))).collect();
        let of = |labels: &[char]| labels.iter().map(|label| sizes[label]).collect::<Vec<_>>();
        let (x, w) = (random.array(of(&computed)), random.array(of(&held)));
        let bias =
            result.iter().map(|label| if cols.contains(label) && random.below(5) > 0 { sizes[label] } else { 1 });
        let bias: Vec<usize> = bias.collect();
        let bias = random.array(bias.iter().copied().skip_while(|&dim| dim == 1).collect());

        let spell = |labels: &[char]| labels.iter().collect::<String>();
        let (a, b, c) = (spell(&computed), spell(&held), spell(&result));
        let node = match round % 2 {
            0 => einsum(&format!("{a},{b}->{c}"), ["x", "w"]),
            _ => einsum(&format!("{b}, {a} -> {c}"), ["w", "x"]),
        };
        let (mut nodes, mut last) = (vec![node], "e");
        if round % 3 > 0 {
            nodes.push(NodeProto::test("Add", &[last, "bias"], "sum"));
            last = "sum";
        }
        if round % 5 > 2 {
            nodes.push(NodeProto::test("Relu", &[last], "y"));
        }
        let model = model(nodes, &[("w", &w), ("bias", &bias)]);
        let apart = prepared(&model, &x.0);
        let kinds = ops(&apart);
        assert!(!kinds.contains(&"Einsum"), "{a},{b}->{c}");
        // All that computes is together, as one layer.
        let first = kinds.iter().position(|op| *op == "MatMul").unwrap();
        let computing = kinds.iter().filter(|op| !matches!(**op, "Transpose" | "Reshape")).count();
        assert!(kinds[first..].iter().take(computing).all(|op| !matches!(*op, "Transpose" | "Reshape")), "{kinds:?}");

        let (shape, mut expected) = summed([&computed, &held], &result, [&x, &w]);
        if round % 3 > 0 {
            let bias = broadcast(&bias, &shape);
            expected.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias);
        }
        if round % 5 > 2 {
            expected.iter_mut().for_each(|y| *y = y.max(0.0));
        }
        assert_eq!(answer(&apart, &x), (shape, expected), "{a},{b}->{c}: {kinds:?}");
    }
}

#[test]
fn an_ellipsis_stands_for_rows() {
    let mut random = Random(3);
    let (x, w) = (random.array(vec![2, 3, 4]), random.array(vec![4, 5]));
    let expected = summed([&['a', 'b', 'c'], &['c', 'd']], &['a', 'b', 'd'], [&x, &w]);
    let of = |equation: &str, operands: [&str; 2]| {
        let apart = prepared(&model(vec![einsum(equation, operands)], &[("w", &w)]), &x.0);
        (ops(&apart).join(" "), answer(&apart, &x))
    };
    for (equation, operands) in [
        ("...c,cd->...d", ["x", "w"]),
        ("cd,...c->...d", ["w", "x"]),
        ("...c,cd...", ["x", "w"]),
        ("...c,cd", ["x", "w"]),
    ] {
        assert_eq!(of(equation, operands), ("MatMul".into(), expected.clone()), "{equation}");
    }
    let turned = summed([&['a', 'b', 'c'], &['c', 'd']], &['d', 'a', 'b'], [&x, &w]);
    assert_eq!(of("...c,cd->d...", ["x", "w"]), ("MatMul Transpose".into(), turned));
}

#[test]
fn what_is_no_product_by_weights_stays_an_einsum() {
    let cases: [(&str, &[usize], &[usize]); 11] = [
        ("...i,i...->...", &[2, 4], &[4, 2]),
        ("bij,bjk->bik", &[2, 3, 4], &[2, 4, 5]),
        ("ij,jk->k", &[3, 4], &[4, 5]),
        ("ij,jk->i", &[3, 4], &[4, 5]),
        ("i,ij->j", &[3], &[3, 4]),
        ("ij,kl->ijkl", &[3, 4], &[2, 5]),
        ("iij,jk->ik", &[3, 3, 4], &[4, 5]),
        ("ij,jkk->ik", &[3, 4], &[4, 5, 5]),
        ("ij,jk->ik", &[3, 1], &[4, 5]),
        ("ij,jk->ik", &[3, 4], &[1, 5]),
        ("ij,jk->ik", &[3, 4, 5], &[4, 5]),
    ];
    for (equation, x, w) in cases {
        let w = Random(1).array(w.to_vec());
        let kept = prepared(&model(vec![einsum(equation, ["x", "w"])], &[("w", &w)]), x);
        assert_eq!(ops(&kept), ["Einsum"], "{equation}");
    }
    // Both computed, or both stored, or of another type.
    let w = Random(1).array(vec![2, 2]);
    for operands in [["x", "x"], ["w", "w"]] {
        assert_eq!(ops(&prepared(&model(vec![einsum("ij,jk->ik", operands)], &[("w", &w)]), &[2, 2])), ["Einsum"]);
    }
    let mut doubles = model(vec![einsum("ij,jk->ik", ["x", "w"])], &[("w", &w)]);
    doubles.graph_mut().initializer[0] =
        TensorProto { data_type: Some(11), ..doubles.graph_mut().initializer[0].clone() };
    assert_eq!(ops(&prepared(&doubles, &[2, 2])), ["Einsum"]);
}

#[test]
fn weights_that_nodes_share_are_laid_once_for_each_order() {
    let w = Random(1).array(vec![4, 2, 3]);
    let nodes =
        ["bc,chd->bhd", "bc,chd->bhd", "bc,cdh->bhd", "bc,cdh->bdh"].into_iter().enumerate().map(|(at, text)| {
            NodeProto { output: vec![format!("y{at}")], name: Some(format!("n{at}")), ..einsum(text, ["x", "w"]) }
        });
    let mut model = model(nodes.collect(), &[("w", &w)]);
    model.graph_mut().output = (0..4).map(|at| ValueInfoProto::untyped(&format!("y{at}"))).collect();
    let apart = prepared(&model, &[5, 4]);
    let products: Vec<&NodeProto> = apart.nodes().iter().filter(|node| node.op() == "MatMul").collect();
    assert_eq!(products.iter().map(|node| node.title()).collect::<Vec<_>>(), ["n0", "n1", "n2", "n3"]);
    let read: Vec<&str> = products.iter().map(|node| node.arg(1).unwrap()).collect();
    assert_eq!((read[0] == read[1], read[0] == read[3], read[0] == read[2]), (true, true, false));
}

#[test]
fn weights_that_come_first_come_second() {
    let mut random = Random(5);
    let (x, w) = (random.array(vec![2, 3, 4]), random.array(vec![5, 3]));
    let of = |w: &Array, x: &Array| {
        let apart = prepared(&model(vec![NodeProto::test("MatMul", &["w", "x"], "y")], &[("w", w)]), &x.0);
        (ops(&apart).join(" "), apart)
    };
    let (kinds, apart) = of(&w, &x);
    let expected = summed([&['m', 'k'], &['b', 'k', 'n']], &['b', 'm', 'n'], [&w, &x]);
    assert_eq!((kinds.as_str(), answer(&apart, &x)), ("Transpose MatMul Transpose", expected));
    let row = (vec![3], vec![1.0; 3]);
    let several = (vec![2, 5, 3], vec![1.0; 30]);
    assert_eq!((of(&w, &row).0.as_str(), of(&several, &x).0.as_str()), ("MatMul", "MatMul"));
}

/// As tf2onnx writes an EinsumDense: the product with its columns apart, and a bias for each of them.
#[test]
fn a_bias_goes_before_what_moves_the_product() {
    let (x, w) = (Random(1).array(vec![2, 3, 4]), Random(2).array(vec![4, 6]));
    let of = |to: &[i64], bias: Vec<usize>, other_reader: bool| {
        let mut transpose = NodeProto::test("Transpose", &["r"], "t");
        transpose.set_ints("perm", vec![0, 2, 1, 3]);
        let mut nodes =
            vec![NodeProto::test("MatMul", &["x", "w"], "m"), NodeProto::test("Reshape", &["m", "to"], "r"), transpose];
        if other_reader {
            nodes.push(NodeProto::test("Relu", &["r"], "z"));
        }
        nodes.push(NodeProto::test("Add", &["bias", "t"], "y"));
        let bias = Random(3).array(bias);
        let mut model = model(nodes, &[("w", &w), ("bias", &bias)]);
        model.graph_mut().initializer.push(crate::onnx::i64s("to", &[to.len()], to));
        let apart = prepared(&model, &x.0);
        if !other_reader {
            assert_eq!(answer(&apart, &x), answer(&model, &x), "{to:?}");
        }
        ops(&apart).join(" ")
    };
    let (before, behind) = ("MatMul Add Reshape Transpose", "MatMul Reshape Transpose Add");
    for (bias, expected) in [
        (vec![2, 1, 3], before),
        (vec![1, 2, 1, 3], before),
        (vec![3], before),
        (vec![], before),
        (vec![3, 3], behind),
        (vec![2, 1, 1, 3], behind),
    ] {
        assert_eq!(of(&[2, 3, 2, 3], bias.clone(), false), expected, "{bias:?}");
        assert_eq!(of(&[0, 0, 2, 3], bias.clone(), false), expected, "{bias:?}");
    }
    assert_eq!(of(&[2, 3, 2, 3], vec![2, 1, 3], true), "MatMul Reshape Transpose Relu Add");
    // Rows and columns are not told apart.
    assert_eq!(of(&[2, 2, 3, 3], vec![3, 1, 3], false), behind);
}
