//! A bias or a clamp behind what moves the result of a product goes before it, where the product takes it in: Keras adds the
//! bias of an EinsumDense to heads, which are the columns of a product apart.

use std::collections::{HashMap, HashSet};

use super::constants::permuted;
use super::remove;
use crate::onnx::proto::{ModelProto, NodeProto, TensorProto};
use crate::onnx::{Edges, Names, bytes, dims, f32s, floats, integers};

/// Does so for every MatMul by a stored matrix.
pub fn advance(model: &mut ModelProto) {
    let mut names = Names::of(model);
    let mut index = 0;
    while index < model.nodes().len() {
        // Nothing before a product moves: what goes lies behind it.
        index += advance_one(model, index, &mut names).unwrap_or(0) + 1;
    }
}

/// For the product at this index: how many nodes stand behind it now that stood elsewhere.
fn advance_one(model: &mut ModelProto, index: usize, names: &mut Names) -> Option<usize> {
    let graph = model.graph.as_ref()?;
    let product = graph.node.get(index).filter(|node| node.op() == "MatMul")?;
    let (stored, edges) = (graph.stored(), Edges::of(model));
    let weights = *stored.get(product.arg(1)?)?;
    let &[_, columns] = dims(weights).as_slice() else { return None };
    // Weights without elements may state any number of columns.
    (1..=bytes(weights)).contains(&columns).then_some(())?;
    let reader = |name: &str| {
        edges.sole_reader(name).filter(|&at| graph.node[at].input.iter().filter(|x| *x == name).count() == 1)
    };

    let mut moves = Vec::new();
    let mut last = product.out();
    while let Some(at) = reader(last).filter(|&at| is_move(&graph.node[at], last)) {
        moves.push(at);
        last = graph.node[at].out();
    }
    let path: Vec<&NodeProto> = moves.iter().map(|&at| &graph.node[at]).collect();
    path.first()?;
    let mut taken = Vec::new();
    let mut new = Vec::new();
    if let Some(at) = reader(last).filter(|&at| graph.node[at].op() == "Add") {
        let add = &graph.node[at];
        let operand = usize::from(add.arg(0) == Some(last));
        if let Some(row) = add.arg(operand).and_then(|name| row(stored.get(name)?, &path, columns, &stored)) {
            let name = names.fresh(&format!("{}_row", add.title()));
            new.push(f32s(&name, &[columns], &row));
            let mut add = add.clone();
            last = graph.node[at].out();
            add.input = vec![String::new(), name];
            taken.push((at, add));
        }
    }
    if let Some(at) = reader(last).filter(|&at| is_clamp(&graph.node[at], last, &stored)) {
        last = graph.node[at].out();
        taken.push((at, graph.node[at].clone()));
    }
    if taken.is_empty() {
        return None;
    }
    let (end, mut before) = (last.to_owned(), product.out().to_owned());
    // Tensors that are others now have other names.
    for (_, node) in &mut taken {
        let output = names.fresh(&format!("{}_moved", node.out()));
        node.input[0] = std::mem::replace(&mut before, output.clone());
        node.output[0] = output;
    }
    let graph = model.graph_mut();
    for &at in &moves {
        let node = &mut graph.node[at];
        let output =
            if Some(&at) == moves.last() { end.clone() } else { names.fresh(&format!("{}_moved", node.out())) };
        node.input[0] = std::mem::replace(&mut before, output.clone());
        node.output[0] = output;
    }
    graph.initializer.append(&mut new);
    let (gone, nodes): (HashSet<usize>, Vec<NodeProto>) = taken.into_iter().unzip();
    let count = nodes.len();
    remove(model, &gone);
    model.graph_mut().node.splice(index + 1..index + 1, nodes);
    Some(count)
}

fn is_move(node: &NodeProto, of: &str) -> bool {
    matches!(node.op(), "Transpose" | "Reshape") && node.arg(0) == Some(of)
}

/// A Relu, or a Clip by stored bounds.
fn is_clamp(node: &NodeProto, of: &str, stored: &HashMap<&str, &TensorProto>) -> bool {
    let fixed = |index| node.arg(index).is_none_or(|name| stored.contains_key(name));
    node.arg(0) == Some(of) && (node.op() == "Relu" || (node.op() == "Clip" && fixed(1) && fixed(2)))
}

/// A stored operand of an Add behind these moves as what is added to each of so many columns of a product before them.
fn row(
    bias: &TensorProto,
    path: &[&NodeProto],
    columns: usize,
    stored: &HashMap<&str, &TensorProto>,
) -> Option<Vec<f32>> {
    let (mut values, mut shape) = (floats(bias)?, dims(bias));
    for (index, node) in path.iter().enumerate().rev() {
        if node.op() == "Transpose" {
            let order =
                node.ints("perm")?.iter().map(|&axis| usize::try_from(axis).ok()).collect::<Option<Vec<_>>>()?;
            shape = padded(shape, order.len())?;
            let back: Vec<usize> =
                (0..order.len()).map(|axis| order.iter().position(|&at| at == axis)).collect::<Option<_>>()?;
            values = permuted(values, &shape, &back);
            shape = back.iter().map(|&axis| shape[axis]).collect();
            continue;
        }
        // Columns are told apart from rows where they come as they are.
        if index > 0 || node.int("allowzero", 0) != 0 {
            return None;
        }
        let to = integers(stored.get(node.arg(1)?)?)?;
        shape = padded(shape, to.len())?;
        let mut split = to.len();
        let mut parts = 1;
        while parts < columns {
            split = split.checked_sub(1)?;
            parts *= usize::try_from(*to.get(split)?).ok().filter(|&dim| (1..=columns).contains(&dim))?;
        }
        let (rows, own) = shape.split_at(split);
        let sizes: Vec<usize> = to[split..].iter().map(|&dim| dim as usize).collect();
        let is_repeated = |(own, size): (&usize, &usize)| own == size || *own == 1;
        if parts != columns || rows.iter().any(|&dim| dim != 1) || !own.iter().zip(&sizes).all(is_repeated) {
            return None;
        }
        values = repeated(&values, own, &sizes);
        shape = vec![columns];
    }
    let (own, rows) = shape.split_last().map_or((1, [].as_slice()), |(own, rows)| (*own, rows));
    let is_row = rows.iter().all(|&dim| dim == 1) && (own == columns || own == 1);
    is_row.then(|| repeated(&values, &[own], &[columns]))
}

/// Dimensions of 1 before these, up to so many.
fn padded(shape: Vec<usize>, rank: usize) -> Option<Vec<usize>> {
    let ones = rank.checked_sub(shape.len())?;
    Some([vec![1; ones], shape].concat())
}

/// Elements of a tensor repeated along its dimensions of 1.
fn repeated(values: &[f32], own: &[usize], sizes: &[usize]) -> Vec<f32> {
    let element = |mut index: usize| {
        let (mut source, mut stride) = (0, 1);
        for (&own, &size) in own.iter().zip(sizes).rev() {
            source += if own == 1 { 0 } else { index % size * stride };
            (index, stride) = (index / size, stride * own);
        }
        values[source]
    };
    (0..sizes.iter().product()).map(element).collect()
}
