//! Constants: nodes that hold one become stored tensors, and what moves the elements of a stored tensor is
//! done once.

use std::collections::HashSet;

use super::{Notes, branches, remove};
use crate::onnx::proto::{ModelProto, NodeProto, TensorProto, data_type};
use crate::onnx::{Edges, bytes, dims, elements, f32s, floats, halves, i64s, integers};

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

/// Elements that a constant of integers may come to: pads, shapes and axes have few.
const FEW: usize = 1 << 12;

/// Moves elements of stored tensors, and makes integers of stored ones, in graph order, so that chains fold too: exporters
/// write the pads of a Pad as seven nodes. Weights that are stored as float16 to be computed with as float32 become that.
pub fn fold(model: &mut ModelProto, notes: &mut Notes) {
    let edges = Edges::of(model);
    let mut gone = HashSet::new();
    for index in 0..model.nodes().len() {
        let Some(graph) = &model.graph else { return };
        let (node, stored) = (&graph.node[index], graph.stored());
        if edges.is_output(node.out()) {
            continue;
        }
        let inputs: Option<Vec<&TensorProto>> =
            node.input.iter().map(|name| stored.get(name.as_str()).copied()).collect();
        let folded = |inputs: Vec<&TensorProto>| {
            moved(node, &inputs).or_else(|| made(node, &inputs)).or_else(|| branches::compared(node, &inputs))
        };
        let folded = inputs.and_then(folded);
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

/// Integers that follow from stored ones, and float32 of float16.
fn made(node: &NodeProto, inputs: &[&TensorProto]) -> Option<TensorProto> {
    match (node.op(), inputs) {
        ("ConstantOfShape", [shape]) => {
            let value = integers(node.find("value")?.t.as_ref()?)?;
            let to: Vec<usize> =
                integers(shape)?.into_iter().map(|dim| usize::try_from(dim).ok()).collect::<Option<_>>()?;
            let count = count(&to).filter(|&count| count <= FEW)?;
            Some(i64s(node.out(), &to, &vec![*value.first()?; count]))
        }
        ("Cast", [tensor]) if node.int("to", 0) == i64::from(data_type::INT64) => {
            Some(i64s(node.out(), &dims(tensor), &integers(tensor)?))
        }
        ("Cast", [tensor]) if node.int("to", 0) == i64::from(data_type::FLOAT) => {
            Some(f32s(node.out(), &dims(tensor), &halves(tensor)?))
        }
        ("Concat", parts) if parts.iter().all(|part| part.dims.len() == 1) => {
            let values = parts.iter().map(|part| integers(part)).collect::<Option<Vec<_>>>()?.concat();
            (values.len() <= FEW).then(|| i64s(node.out(), &[values.len()], &values))
        }
        _ => None,
    }
}

/// Dimensions in their new order, and of each, in the old order, the indices that are taken.
type Taken = (Vec<usize>, Vec<Vec<usize>>);

/// The elements of a stored tensor in other places, or some of them.
fn moved(node: &NodeProto, inputs: &[&TensorProto]) -> Option<TensorProto> {
    let (&tensor, others) = inputs.split_first()?;
    let from = dims(tensor);
    // A tensor without elements may state dimensions of any size.
    count(&from).filter(|count| (1..=bytes(tensor)).contains(count))?;
    let every = || from.iter().map(|&dim| (0..dim).collect::<Vec<usize>>()).collect::<Vec<_>>();
    // The shape that it gets, and what is taken; none where all elements stay where they are.
    let (to, taken): (Vec<usize>, Option<Taken>) = match (node.op(), others) {
        ("Transpose", []) => {
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
            (order.iter().map(|&axis| from[axis]).collect(), Some((order, every())))
        }
        ("Reshape", [shape]) if node.int("allowzero", 0) == 0 => (reshaped(&from, &integers(shape)?)?, None),
        ("Flatten", []) => {
            let axis = node.int("axis", 1);
            let axis = usize::try_from(if axis < 0 { axis + from.len() as i64 } else { axis }).ok()?;
            let (rows, cols) = from.split_at_checked(axis)?;
            (vec![rows.iter().product(), cols.iter().product()], None)
        }
        ("Slice", [starts, ends, others @ ..]) => {
            let (starts, ends) = (integers(starts)?, integers(ends)?);
            let first = (0..starts.len() as i64).collect();
            let axes = others.first().map_or(Some(first), |axes| integers(axes))?;
            let strides = others.get(1).map_or_else(|| Some(vec![1; starts.len()]), |strides| integers(strides))?;
            if [ends.len(), axes.len(), strides.len()] != [starts.len(); 3] {
                return None;
            }
            let mut steps = every();
            for (((start, end), axis), stride) in starts.into_iter().zip(ends).zip(axes).zip(strides) {
                let axis = usize::try_from(if axis < 0 { axis + from.len() as i64 } else { axis }).ok()?;
                *steps.get_mut(axis)? = sliced(*from.get(axis)?, start, end, stride)?;
            }
            (steps.iter().map(Vec::len).collect(), Some(((0..from.len()).collect(), steps)))
        }
        _ => return None,
    };
    if let Some(values) = integers(tensor) {
        return Some(i64s(node.out(), &to, &elements_of(values, &from, taken)));
    }
    Some(f32s(node.out(), &to, &elements_of(floats(tensor)?, &from, taken)))
}

/// A tensor's elements with its dimensions in another order.
pub fn permuted<T: Copy>(values: Vec<T>, from: &[usize], order: &[usize]) -> Vec<T> {
    let every = from.iter().map(|&dim| (0..dim).collect()).collect();
    elements_of(values, from, Some((order.to_vec(), every)))
}

/// What is taken of a tensor's elements.
fn elements_of<T: Copy>(values: Vec<T>, from: &[usize], taken: Option<Taken>) -> Vec<T> {
    let Some((order, steps)) = taken else { return values };
    let axes: Vec<(&[usize], usize)> =
        order.iter().map(|&axis| (steps[axis].as_slice(), from[axis + 1..].iter().product())).collect();
    (0..axes.iter().map(|(steps, _)| steps.len()).product())
        .map(|mut index| {
            let mut source = 0;
            for &(steps, stride) in axes.iter().rev() {
                source += steps[index % steps.len()] * stride;
                index /= steps.len();
            }
            values[source]
        })
        .collect()
}

/// The indices that a Slice takes of a dimension of this size.
fn sliced(size: usize, start: i64, end: i64, stride: i64) -> Option<Vec<usize>> {
    let size = i64::try_from(size).ok().filter(|_| stride != 0)?;
    let (low, high) = if stride > 0 { (0, size) } else { (-1, size - 1) };
    let within = |at: i64| (if at < 0 { at.saturating_add(size) } else { at }).clamp(low, high);
    let (mut at, end) = (within(start), within(end));
    let mut taken = Vec::new();
    while if stride > 0 { at < end } else { at > end } {
        taken.push(usize::try_from(at).ok()?);
        at = at.saturating_add(stride);
    }
    Some(taken)
}

/// What a file wishes for may be more than a number can say.
fn count(dims: &[usize]) -> Option<usize> {
    dims.iter().try_fold(1usize, |count, &dim| count.checked_mul(dim))
}

fn reshaped(from: &[usize], to: &[i64]) -> Option<Vec<usize>> {
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
    use crate::onnx::proto::{AttributeProto, GraphProto};

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
        let y = moved(&node, &[&tensor]).unwrap();
        assert_eq!((dims(&y), floats(&y).unwrap()), (vec![3, 2], vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0]));
        node.set_ints("perm", vec![0, 0]);
        assert!(moved(&node, &[&tensor]).is_none());
        node.op_type = Some("Reshape".into());
        let y = moved(&node, &[&tensor, &i64s("s", &[2], &[-1, 2])]).unwrap();
        assert_eq!(dims(&y), [3, 2]);
        assert!(moved(&node, &[&tensor, &i64s("s", &[2], &[4, 2])]).is_none());
        node.op_type = Some("Slice".into());
        let ints = |values: &[i64]| i64s("", &[values.len()], values);
        let slice = |starts: i64, ends: i64, axis: i64, stride: i64| {
            let [starts, ends, axis, stride] = [starts, ends, axis, stride].map(|value| ints(&[value]));
            let y = moved(&node, &[&tensor, &starts, &ends, &axis, &stride])?;
            Some((dims(&y), floats(&y).unwrap()))
        };
        assert_eq!(slice(-1, i64::MIN + 1, 0, -1), Some((vec![2, 3], vec![3.0, 4.0, 5.0, 0.0, 1.0, 2.0])));
        assert_eq!(slice(0, i64::MAX, -1, 2), Some((vec![2, 2], vec![0.0, 2.0, 3.0, 5.0])));
        assert_eq!(slice(2, 1, 1, 1), Some((vec![2, 0], vec![])));
        assert_eq!((slice(0, 1, 2, 1), slice(0, 1, 0, 0), slice(1, 0, 0, 0)), (None, None, None));
        node.op_type = Some("Transpose".into());
        node.set_ints("perm", vec![1, 0]);
        assert!(moved(&node, &[&f32s("none", &[usize::MAX >> 1, 0], &[])]).is_none());
    }

    #[test]
    fn weights_of_float16_become_float32() {
        let mut cast = NodeProto::test("Cast", &["half"], "w");
        cast.set_int("to", i64::from(data_type::FLOAT));
        let bits: [u16; 8] = [0x3C00, 0xC000, 0x0001, 0x83FF, 0x7BFF, 0x8000, 0x7C00, 0x3555];
        let bytes = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
        let mut tensor = crate::onnx::raw("half", data_type::FLOAT16, &[8], bytes);
        let values = [1.0, -2.0, 2f32.powi(-24), -1023.0 * 2f32.powi(-24), 65504.0, -0.0, f32::INFINITY, 0.333_251_95];
        for in_words in [false, true] {
            if in_words {
                tensor = TensorProto { raw_data: None, int32_data: bits.map(i32::from).into(), ..tensor };
            }
            let graph = GraphProto {
                node: vec![cast.clone(), NodeProto::test("MatMul", &["x", "w"], "y")],
                initializer: vec![tensor.clone()],
                ..GraphProto::default()
            };
            let mut model = ModelProto { graph: Some(graph), ..ModelProto::default() };
            fold(&mut model, &mut Notes::new());
            assert_eq!(model.nodes().iter().map(NodeProto::op).collect::<Vec<_>>(), ["MatMul"]);
            assert_eq!(floats(model.graph.as_ref().unwrap().stored()["w"]), Some(values.into()));
        }
        assert!(halves(&TensorProto { dims: vec![9], ..tensor }).is_none(), "one is missing");
    }

    /// As PyTorch writes `F.pad(x, (4, 0))` of three dimensions: from the last dimension on, and by pairs.
    #[test]
    fn pads_that_an_exporter_computes_are_stored() {
        let node = |op: &str, inputs: &[&str], output: &str| NodeProto::test(op, inputs, output);
        let mut zeros = node("ConstantOfShape", &["four"], "zeros");
        zeros.attribute.push(AttributeProto {
            name: Some("value".into()),
            t: Some(i64s("", &[1], &[0])),
            ..Default::default()
        });
        let mut cast = node("Cast", &["flat"], "pads");
        cast.set_int("to", i64::from(data_type::INT64));
        let nodes = vec![
            zeros,
            node("Concat", &["own", "zeros"], "all"),
            node("Reshape", &["all", "pairs"], "rows"),
            node("Slice", &["rows", "last", "first", "axis", "back"], "turned"),
            node("Transpose", &["turned"], "columns"),
            node("Reshape", &["columns", "open"], "flat"),
            cast,
            node("Pad", &["x", "pads"], "y"),
        ];
        let stored =
            [("four", &[4][..]), ("own", &[4, 0]), ("pairs", &[-1, 2]), ("last", &[-1]), ("first", &[i64::MIN + 1])];
        let stored = stored.into_iter().chain([("axis", &[0][..]), ("back", &[-1]), ("open", &[-1])]);
        let initializer = stored.map(|(name, values)| i64s(name, &[values.len()], values)).collect();
        let graph = GraphProto { node: nodes, initializer, ..GraphProto::default() };
        let mut model = ModelProto { graph: Some(graph), ..ModelProto::default() };
        fold(&mut model, &mut Notes::new());
        assert_eq!(model.nodes().iter().map(NodeProto::op).collect::<Vec<_>>(), ["Pad"]);
        let stored = model.graph.as_ref().unwrap().stored();
        assert_eq!(integers(stored["pads"]), Some(vec![0, 0, 4, 0, 0, 0]));
    }

    /// Forty nodes would double one number to more than there is memory for.
    #[test]
    fn few_integers_are_made() {
        let mut nodes: Vec<NodeProto> = Vec::new();
        for index in 0..40 {
            let name = format!("t{index}");
            nodes.push(NodeProto::test("Concat", &[&name, &name], &format!("t{}", index + 1)));
        }
        let graph = GraphProto { node: nodes, initializer: vec![i64s("t0", &[1], &[7])], ..GraphProto::default() };
        let mut model = ModelProto { graph: Some(graph), ..ModelProto::default() };
        fold(&mut model, &mut Notes::new());
        assert_eq!(model.nodes().len(), 40 - 12);
        let shape = i64s("s", &[2], &[1 << 32, 1 << 32]);
        let mut node = NodeProto::test("ConstantOfShape", &["s"], "y");
        node.attribute.push(AttributeProto {
            name: Some("value".into()),
            t: Some(i64s("", &[1], &[0])),
            ..Default::default()
        });
        assert!(made(&node, &[&shape]).is_none());
    }
}
