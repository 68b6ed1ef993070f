//! An If of which it is known which branch runs, as an input that was fixed settles it, gives way to the nodes of that
//! branch, so that these are quantized: inside of it they would not be looked at.

use std::collections::HashSet;

use super::{Notes, constants};
use crate::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto, data_type};
use crate::onnx::{elements, integers, raw};

/// Puts branches in the place of each If whose condition follows from stored tensors, from the outside in.
pub fn inline(model: &mut ModelProto, notes: &mut Notes) {
    let mut count = 0;
    while model.nodes().iter().any(|node| node.op() == "If") {
        constants::store(model);
        constants::fold(model, notes);
        let known = model.graph.as_ref().and_then(known);
        let Some((index, branch)) = known else { break };
        put(model.graph_mut(), index, branch);
        count += 1;
    }
    if count > 0 {
        notes.push(format!("{count} If nodes replaced by the branch that runs"));
    }
}

/// The first If of which it is known which branch runs, with that branch.
fn known(graph: &GraphProto) -> Option<(usize, GraphProto)> {
    let stored = graph.stored();
    let mut taken: HashSet<&str> = stored.keys().copied().collect();
    taken.extend(graph.input.iter().filter_map(|input| input.name.as_deref()));
    taken.extend(graph.node.iter().flat_map(|node| node.output.iter().map(String::as_str)));
    graph.node.iter().enumerate().filter(|(_, node)| node.op() == "If").find_map(|(index, node)| {
        let condition = truth(stored.get(node.arg(0)?)?)?;
        let branch = node.find(if condition { "then_branch" } else { "else_branch" })?.g.as_ref()?;
        let made = branch.node.iter().flat_map(|node| node.output.iter().map(String::as_str));
        let own: Vec<&str> =
            made.chain(branch.initializer.iter().filter_map(|tensor| tensor.name.as_deref())).collect();
        // Branches may have names that others have, too: in one graph each is one tensor's.
        let apart = own.iter().all(|name| name.is_empty() || !taken.contains(name));
        let whole = branch.initializer.iter().all(|tensor| tensor.external_data.is_empty());
        let fits = branch.output.len() == node.output.len() && branch.input.is_empty();
        (apart && whole && fits && branch.sparse_initializer.is_empty()).then(|| (index, branch.clone()))
    })
}

/// Puts a branch where its If was: what it answers goes by the If's names.
fn put(graph: &mut GraphProto, index: usize, branch: GraphProto) {
    let answers = branch.output.iter().map(|output| output.name.clone().unwrap_or_default());
    let outputs = std::mem::take(&mut graph.node[index].output);
    let named = answers.zip(outputs).filter(|(_, output)| !output.is_empty());
    let named = named.map(|(made, output)| NodeProto::new("Identity", output.clone(), vec![made], vec![output]));
    let nodes: Vec<NodeProto> = branch.node.into_iter().chain(named).collect();
    graph.node.splice(index..=index, nodes);
    graph.initializer.extend(branch.initializer);
    graph.value_info.extend(branch.value_info);
}

/// What a condition is.
fn truth(condition: &TensorProto) -> Option<bool> {
    if condition.data_type != Some(data_type::BOOL) || elements(condition) != 1 {
        return None;
    }
    let words = condition.int32_data.first().map(|&word| word != 0);
    condition.raw_data.as_deref().and_then(|bytes| bytes.first()).map(|&byte| byte != 0).or(words)
}

/// What a comparison of two stored integers comes to.
pub fn compared(node: &NodeProto, inputs: &[&TensorProto]) -> Option<TensorProto> {
    let answer = match (node.op(), inputs) {
        ("Not", [condition]) => !truth(condition)?,
        ("And", [a, b]) => truth(a)? && truth(b)?,
        ("Or", [a, b]) => truth(a)? || truth(b)?,
        (op, [a, b]) if inputs.iter().all(|tensor| elements(tensor) == 1) => {
            let (a, b) = (*integers(a)?.first()?, *integers(b)?.first()?);
            match op {
                "Equal" => a == b,
                "Greater" => a > b,
                "GreaterOrEqual" => a >= b,
                "Less" => a < b,
                "LessOrEqual" => a <= b,
                _ => return None,
            }
        }
        _ => return None,
    };
    let rank = inputs.iter().map(|tensor| tensor.dims.len()).max()?;
    Some(raw(node.out(), data_type::BOOL, &vec![1; rank], vec![answer.into()]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::{AttributeProto, ValueInfoProto};
    use crate::onnx::{f32s, i64s};

    fn branch(name: &str, nodes: Vec<NodeProto>, initializer: Vec<TensorProto>) -> AttributeProto {
        let output = vec![ValueInfoProto::untyped(nodes.last().unwrap().out())];
        let g = Some(GraphProto { node: nodes, output, initializer, ..GraphProto::default() });
        AttributeProto { name: Some(name.into()), g, ..AttributeProto::default() }
    }

    fn choice(condition: &str, output: &str, then: AttributeProto, other: AttributeProto) -> NodeProto {
        NodeProto { attribute: vec![then, other], ..NodeProto::test("If", &[condition], output) }
    }

    fn model(node: Vec<NodeProto>, initializer: Vec<TensorProto>) -> ModelProto {
        let (input, output) = (vec![ValueInfoProto::floats("x", &[1, 2])], vec![ValueInfoProto::untyped("y")]);
        ModelProto {
            graph: Some(GraphProto { node, input, output, initializer, ..GraphProto::default() }),
            ..ModelProto::default()
        }
    }

    /// A network for each of two rates, of which one has a choice of its own.
    fn two_rates(rate: i64) -> ModelProto {
        let node = NodeProto::test;
        let inner = choice(
            "is_narrow",
            "t2",
            branch("then_branch", vec![node("Tanh", &["t1"], "t3")], vec![]),
            branch("else_branch", vec![node("Sigmoid", &["t1"], "t4")], vec![]),
        );
        let then = vec![node("MatMul", &["x", "t0"], "t1"), node("Less", &["rate", "wide"], "is_narrow"), inner];
        let then = branch("then_branch", then, vec![f32s("t0", &[2, 2], &[1.0; 4])]);
        let other = branch("else_branch", vec![node("Relu", &["x"], "e1")], vec![]);
        let nodes = vec![node("Equal", &["rate", "wide"], "is_wide"), choice("is_wide", "y", then, other)];
        model(nodes, vec![i64s("rate", &[], &[rate]), i64s("wide", &[], &[16000])])
    }

    fn ops(model: &ModelProto) -> Vec<&str> {
        model.nodes().iter().map(NodeProto::op).collect()
    }

    #[test]
    fn a_known_branch_takes_the_place_of_its_choice() {
        for (rate, expected) in
            [(16000, &["MatMul", "Sigmoid", "Identity", "Identity"][..]), (8000, &["Relu", "Identity"])]
        {
            let (mut model, mut notes) = (two_rates(rate), Notes::new());
            inline(&mut model, &mut notes);
            assert_eq!(ops(&model), expected);
            assert_eq!(model.nodes().last().unwrap().out(), "y");
            assert!(notes.iter().any(|note| note.ends_with("replaced by the branch that runs")), "{notes:?}");
            assert_eq!(model.graph.as_ref().unwrap().stored().contains_key("t0"), rate == 16000);
        }
    }

    #[test]
    fn a_choice_that_is_open_stays_and_so_does_one_whose_names_are_taken() {
        let mut open = two_rates(16000);
        open.graph_mut().input.push(ValueInfoProto::untyped("rate"));
        let mut taken = two_rates(16000);
        taken.graph_mut().initializer.push(f32s("t1", &[1], &[1.0]));
        for mut model in [open, taken] {
            inline(&mut model, &mut Notes::new());
            assert_eq!(ops(&model).last(), Some(&"If"));
        }
    }

    #[test]
    fn stored_integers_and_truths_are_compared() {
        let truth_of = |op: &str, inputs: &[&TensorProto]| {
            compared(&NodeProto::test(op, &["a", "b"], "y"), inputs).map(|y| (truth(&y).unwrap(), y.dims.len()))
        };
        let [one, two] = [i64s("a", &[], &[1]), i64s("b", &[1], &[2])];
        for (op, expected) in
            [("Equal", false), ("Greater", false), ("GreaterOrEqual", false), ("Less", true), ("LessOrEqual", true)]
        {
            assert_eq!(truth_of(op, &[&one, &two]), Some((expected, 1)), "{op}");
        }
        let [yes, no] = [1, 0].map(|truth| raw("c", data_type::BOOL, &[], vec![truth]));
        assert_eq!(truth_of("And", &[&yes, &no]), Some((false, 0)));
        assert_eq!(truth_of("Or", &[&yes, &no]), Some((true, 0)));
        assert_eq!(truth_of("Not", &[&yes]), Some((false, 0)));
        assert_eq!(truth_of("Equal", &[&i64s("a", &[2], &[1, 1]), &one]), None);
        assert_eq!(truth_of("Add", &[&one, &two]), None);
        let words = TensorProto { raw_data: None, int32_data: vec![1], ..yes };
        assert_eq!(truth(&words), Some(true));
    }
}
