//! Constants: nodes that hold one become stored tensors, and what moves the elements of a stored tensor is
//! done once.

use std::collections::HashSet;

use super::{Notes, remove};
use crate::onnx::proto::{ModelProto, NodeProto, TensorProto};
use crate::onnx::{Edges, dims, elements, f32s, floats, i64s, integers};

/// Constant nodes become initializers.
pub fn store(model: &mut ModelProto) {
    let mut gone = HashSet::new();
    let mut stored = Vec::new();
    let edges = Edges::of(model);
    for (index, node) in model.nodes().iter().enumerate().filter(|(_, node)| node.op() == "Constant") {
        if let Some(tensor) = constant(node).filter(|_| !edges.is_output(node.out())) {
            stored.push(TensorProto { name: Some(node.out().into()), ..tensor });
            gone.insert(index);
        }
    }
    remove(model, &gone);
    model.graph_mut().initializer.extend(stored);
}

fn constant(node: &NodeProto) -> Option<TensorProto> {
    if let Some(attribute) = node.find("value") {
        return attribute.t.clone();
    }
    if let Some(value) = node.find("value_float").and_then(|attribute| attribute.f) {
        return Some(f32s("", &[], &[value]));
    }
    if let Some(values) = node.find("value_floats").map(|attribute| &attribute.floats) {
        return Some(f32s("", &[values.len()], values));
    }
    if let Some(value) = node.find("value_int").and_then(|attribute| attribute.i) {
        return Some(i64s("", &[], &[value]));
    }
    node.ints("value_ints").map(|values| i64s("", &[values.len()], values))
}

/// Moves elements of stored float tensors, in graph order, so that chains fold too.
pub fn fold(model: &mut ModelProto, notes: &mut Notes) {
    let edges = Edges::of(model);
    let mut gone = HashSet::new();
    for index in 0..model.nodes().len() {
        let Some(graph) = &model.graph else { return };
        let (node, stored) = (&graph.node[index], graph.stored());
        if edges.is_output(node.out()) {
            continue;
        }
        let input = |i: usize| node.arg(i).and_then(|name| stored.get(name).copied());
        let folded = input(0).and_then(|tensor| moved(node, tensor, input(1)));
        if let Some(tensor) = folded {
            model.graph_mut().initializer.push(tensor);
            gone.insert(index);
        }
    }
    if !gone.is_empty() {
        notes.push(format!("{} nodes on constants computed", gone.len()));
        remove(model, &gone);
    }
}

fn moved(node: &NodeProto, tensor: &TensorProto, second: Option<&TensorProto>) -> Option<TensorProto> {
    let (values, from) = (floats(tensor)?, dims(tensor));
    match node.op() {
        "Transpose" => {
            let back: Vec<i64> = (0..from.len() as i64).rev().collect();
            let order: Vec<usize> = node
                .ints("perm")
                .unwrap_or(&back)
                .iter()
                .map(|&axis| usize::try_from(axis).ok())
                .collect::<Option<_>>()?;
            let mut sorted = order.clone();
            sorted.sort_unstable();
            if !sorted.into_iter().eq(0..from.len()) {
                return None;
            }
            let to: Vec<usize> = order.iter().map(|&axis| from[axis]).collect();
            Some(f32s(node.out(), &to, &transposed(&values, &from, &order)))
        }
        "Reshape" if node.int("allowzero", 0) == 0 => {
            let to = reshaped(&from, &integers(second?)?)?;
            Some(f32s(node.out(), &to, &values))
        }
        "Flatten" => {
            let axis = node.int("axis", 1);
            let axis = usize::try_from(if axis < 0 { axis + from.len() as i64 } else { axis }).ok()?;
            let (rows, cols) = from.split_at_checked(axis)?;
            Some(f32s(node.out(), &[rows.iter().product(), cols.iter().product()], &values))
        }
        _ => None,
    }
}

fn transposed(values: &[f32], from: &[usize], order: &[usize]) -> Vec<f32> {
    let stride = |axis: usize| from[axis + 1..].iter().product::<usize>();
    let to: Vec<(usize, usize)> = order.iter().map(|&axis| (from[axis], stride(axis))).collect();
    (0..values.len())
        .map(|mut index| {
            let mut source = 0;
            for &(dim, stride) in to.iter().rev() {
                source += index % dim * stride;
                index /= dim;
            }
            values[source]
        })
        .collect()
}

fn reshaped(from: &[usize], to: &[i64]) -> Option<Vec<usize>> {
    // What a file wishes for may be more than a number can say; `from` is the shape of elements that are there.
    let count = |dims: &[usize]| dims.iter().try_fold(1usize, |count, &dim| count.checked_mul(dim));
    let all = count(from)?;
    let known = |(index, &dim): (usize, &i64)| match dim {
        -1 => Some(1),
        0 => from.get(index).copied(),
        dim => usize::try_from(dim).ok(),
    };
    let mut dims: Vec<usize> = to.iter().enumerate().map(known).collect::<Option<_>>()?;
    if let Some(open) = to.iter().position(|&dim| dim == -1) {
        dims[open] = all.checked_div(count(&dims)?)?;
    }
    (count(&dims)? == all).then_some(dims)
}

/// The one value of a tensor that has one.
pub fn scalar(tensor: &TensorProto) -> Option<f32> {
    floats(tensor).filter(|_| elements(tensor) == 1).and_then(|values| values.first().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reshape_to_more_than_numbers_can_say_is_left_alone() {
        assert_eq!(reshaped(&[4], &[1 << 62, 1 << 62]), None);
        assert_eq!(reshaped(&[4], &[-1, 1 << 62, 4]), None);
        assert_eq!(reshaped(&[4], &[-1, 2]), Some(vec![2, 2]));
    }

    #[test]
    fn constants_are_moved() {
        let tensor = f32s("w", &[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let mut node = NodeProto::new("Transpose", "t".into(), vec!["w".into()], vec!["y".into()]);
        let y = moved(&node, &tensor, None).unwrap();
        assert_eq!((dims(&y), floats(&y).unwrap()), (vec![3, 2], vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0]));
        node.set_ints("perm", vec![0, 0]);
        assert!(moved(&node, &tensor, None).is_none());
        node.op_type = Some("Reshape".into());
        let y = moved(&node, &tensor, Some(&i64s("s", &[2], &[-1, 2]))).unwrap();
        assert_eq!(dims(&y), [3, 2]);
        assert!(moved(&node, &tensor, Some(&i64s("s", &[2], &[4, 2]))).is_none());
    }
}
