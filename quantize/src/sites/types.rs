//! Which tensors are not float32.

use std::collections::HashSet;

use crate::onnx::proto::{ModelProto, NodeProto, ValueInfoProto, data_type};

/// Tensors that hold something else than float32, as far as types can be followed: an operator's first input decides
/// where the operator itself does not.
pub fn not_float(model: &ModelProto) -> HashSet<String> {
    let Some(graph) = &model.graph else { return HashSet::new() };
    let name = |name: &Option<String>| name.clone().unwrap_or_default();
    let is_other = |kind: Option<i32>| kind.is_some_and(|kind| kind != data_type::FLOAT);
    let inputs = graph.input.iter().filter(|input| is_other(input.element_type())).map(|input| name(&input.name));
    let stored = graph.initializer.iter().filter(|tensor| is_other(tensor.data_type)).map(|tensor| name(&tensor.name));
    let mut other: HashSet<String> = inputs.chain(stored).collect();
    for node in &graph.node {
        let reads = |index: usize| node.arg(index).is_some_and(|name| other.contains(name));
        let makes_other = match node.op() {
            "Shape" | "Size" | "ArgMax" | "ArgMin" | "NonZero" | "Equal" | "Greater" | "GreaterOrEqual" | "Less"
            | "LessOrEqual" | "And" | "Or" | "Xor" | "Not" | "IsNaN" | "IsInf" | "NonMaxSuppression" => true,
            "CastLike" => reads(1),
            "Cast" => node.int("to", 1) != i64::from(data_type::FLOAT),
            "ConstantOfShape" => {
                node.find("value").and_then(|value| value.t.as_ref()).is_some_and(|t| is_other(t.data_type))
            }
            "Where" => reads(1),
            "OneHot" => reads(2),
            "If" | "Loop" => false,
            _ => reads(0),
        };
        if makes_other {
            other.extend(node.output.iter().cloned());
        }
        match node.op() {
            "TopK" | "MaxPool" | "Dropout" | "Unique" => other.extend(node.output.iter().skip(1).cloned()),
            "If" | "Loop" => {
                let made = node.output.iter().zip(results(node));
                other.extend(made.filter(|(_, kind)| is_other(*kind)).map(|(output, _)| output.clone()));
            }
            _ => {}
        }
    }
    other
}

/// Types that the subgraph of an If or a Loop declares for its results.
fn results(node: &NodeProto) -> impl Iterator<Item = Option<i32>> {
    // The first that a Loop's body gives is whether it goes on.
    let (name, own) = if node.op() == "If" { ("then_branch", 0) } else { ("body", 1) };
    let graph = node.find(name).and_then(|attribute| attribute.g.as_ref());
    graph.into_iter().flat_map(|graph| &graph.output).skip(own).map(ValueInfoProto::element_type)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::{AttributeProto, GraphProto, TensorTypeProto, TypeProto};
    use prost::Message;

    #[test]
    fn types_are_those_of_what_a_node_makes() {
        let mut choice = NodeProto::test("If", &["is"], "c");
        let branch = |kind| {
            let tensor = TensorTypeProto { elem_type: Some(kind), shape: None };
            let r#type = Some(TypeProto { tensor_type: Some(tensor) }.encode_to_vec());
            let output = vec![ValueInfoProto { r#type, ..ValueInfoProto::untyped("then") }];
            Some(GraphProto { output, ..GraphProto::default() })
        };
        let with =
            |kind| AttributeProto { name: Some("then_branch".into()), g: branch(kind), ..AttributeProto::default() };
        for (kind, is_float) in [(data_type::FLOAT, true), (data_type::INT32, false)] {
            choice.attribute = vec![with(kind)];
            let nodes = vec![
                NodeProto::test("Equal", &["x", "x"], "is"),
                choice.clone(),
                NodeProto::test("CastLike", &["x", "is"], "bools"),
                NodeProto::test("CastLike", &["is", "x"], "floats"),
                NodeProto::test("Add", &["c", "floats"], "y"),
            ];
            let graph =
                GraphProto { node: nodes, input: vec![ValueInfoProto::floats("x", &[1, 2])], ..GraphProto::default() };
            let model = ModelProto { graph: Some(graph), ..ModelProto::default() };
            let other = not_float(&model);
            assert_eq!((other.contains("c"), other.contains("y")), (!is_float, !is_float));
            assert!(other.contains("bools") && !other.contains("floats"));
        }
    }
}
