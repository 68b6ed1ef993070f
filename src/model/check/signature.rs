//! The outside of each node: since when its operator is there, how many inputs and outputs it
//! takes and of which types, which attributes it knows and of which kind. What a node states beyond that, or in the way of
//! another opset, would pass for left out; what is of another type might be computed all the same.

use super::fault;
use crate::model::error::Fault;
use crate::model::graph::{AttributeValue, DType, Domain, Node};

/// What ONNX's operators take, by opset; the file says how to read a line.
const ONNX: Table = Table(include_str!("operators.txt"));
/// What other operators take.
const CONTRIB: Table = Table(include_str!("contrib.txt"));

/// A line for each operator and opset, in their order; `#`, with which others begin, comes before all names. It is searched
/// as it is: taken apart it would be most of what a process keeps for a small model.
struct Table(&'static str);

/// What an operator takes, from an opset on.
struct Signature {
    op: &'static str,
    since: i64,
    inputs: &'static str,
    /// At least and at most.
    outputs: [usize; 2],
    types: &'static str,
    attributes: &'static str,
}

/// Holds a node against its operator's signature. Operators that are not known pass: engines refuse them.
pub(super) fn check(node: &Node, opset: i64) -> Result<(), Fault> {
    match find(node, opset) {
        Found::Signature(signature) => signature.check(node),
        Found::Later(since) => Err(Fault::unsupported(format!(
            "node `{}`: operator {} came with opset {since}, the model states {opset}",
            node.name, node.op
        ))),
        Found::Nothing => Ok(()),
    }
}

/// Holds the types of a node's inputs, as far as they are known, against its operator's.
pub(in crate::model) fn types(node: &Node, opset: i64, known: &[Option<DType>]) -> Result<(), Fault> {
    match find(node, opset) {
        Found::Signature(signature) => signature.types(node, known),
        Found::Later(_) | Found::Nothing => Ok(()),
    }
}

enum Found {
    Signature(Signature),
    /// There is one from this opset on.
    Later(i64),
    Nothing,
}

fn find(node: &Node, opset: i64) -> Found {
    let table = if node.domain == Domain::Onnx { ONNX } else { CONTRIB };
    let (before, after) = table.split(&node.op, opset);
    let signature = |line: Option<&'static str>| line.and_then(Signature::read).filter(|s| s.op == node.op);
    match (signature(before.lines().next_back()), signature(after.lines().next())) {
        (Some(signature), _) => Found::Signature(signature),
        (None, Some(later)) => Found::Later(later.since),
        (None, None) => Found::Nothing,
    }
}

impl Table {
    /// The lines up to an operator as it is in an opset, and those beyond.
    fn split(&self, op: &str, opset: i64) -> (&'static str, &'static str) {
        let (mut low, mut high) = (0, self.0.len());
        while low < high {
            let (before, after) = self.0.split_at(low.midpoint(high));
            let start = before.rfind('\n').map_or(0, |at| at + 1);
            let end = before.len() + after.find('\n').map_or(after.len(), |at| at + 1);
            let mut fields = self.0.get(start..end).unwrap_or_default().split_ascii_whitespace();
            let name = fields.next().unwrap_or_default();
            let since = fields.next().and_then(|since| since.parse().ok()).unwrap_or(0);
            if (name, since) <= (op, opset) {
                low = end;
            } else {
                high = start;
            }
        }
        self.0.split_at(low)
    }
}

impl Signature {
    /// A line of the files above.
    fn read(line: &'static str) -> Option<Signature> {
        let mut fields = line.splitn(6, ' ');
        let op = fields.next().filter(|op| *op != "#")?;
        let since = fields.next()?.parse().ok()?;
        let inputs = fields.next()?;
        let outputs = fields.next()?;
        let outputs = match outputs.strip_suffix('!').and_then(|all| all.parse().ok()) {
            Some(all) => [all; 2],
            None => [0, outputs.parse().unwrap_or(usize::MAX)],
        };
        let types = fields.next()?;
        Some(Signature { op, since, inputs, outputs, types, attributes: fields.next().unwrap_or("") })
    }

    fn check(&self, node: &Node) -> Result<(), Fault> {
        if self.inputs == "!" {
            let since = self.since;
            let what = format!("node `{}`: operator {} was withdrawn with opset {since}", node.name, node.op);
            return Err(Fault::unsupported(what));
        }
        self.inputs(node)?;
        self.outputs(node)?;
        self.attributes(node)
    }

    fn inputs(&self, node: &Node) -> Result<(), Fault> {
        let least = self.inputs.rfind('x').map_or(0, |last| last + 1);
        let most = if self.inputs.ends_with('*') { usize::MAX } else { self.inputs.trim_start_matches('-').len() };
        let given = node.inputs.len();
        if given < least || given > most {
            let wants = match (least, most) {
                (least, most) if least == most => format!("{least}"),
                (least, usize::MAX) => format!("at least {least}"),
                (least, most) => format!("{least} to {most}"),
            };
            return Err(fault(node, format!("has {given} inputs; the operator takes {wants}")));
        }
        let needed = self.inputs.bytes().enumerate().filter(|(_, kind)| *kind == b'x');
        match needed.map(|(index, _)| index).find(|&index| node.input(index).is_none()) {
            Some(index) => Err(fault(node, format!("input {index} is left out, but the operator needs it"))),
            None => Ok(()),
        }
    }

    fn types(&self, node: &Node, known: &[Option<DType>]) -> Result<(), Fault> {
        let last = self.types.rsplit(',').next().unwrap_or("*");
        let stated = self.types.split(',').chain(std::iter::repeat(last));
        for (index, (kind, dtype)) in stated.zip(known).enumerate() {
            let (Some(dtype), Some(name)) = (*dtype, node.input(index)) else { continue };
            let what = match kind.strip_prefix('=').and_then(|first| first.parse::<usize>().ok()) {
                Some(first) => match known.get(first).copied().flatten().filter(|other| *other != dtype) {
                    Some(other) => {
                        let like = node.input(first).unwrap_or_default();
                        format!("`{like}` is {other} and `{name}` is {dtype}; they must be of one type")
                    }
                    None => continue,
                },
                None if kind == "*" || kind.contains(letter(dtype)) => continue,
                None => format!("input `{name}` is {dtype}; the operator takes {}", taken(kind)),
            };
            return Err(Fault::Shape { node: node.name.clone(), op: node.op.clone(), what });
        }
        Ok(())
    }

    fn outputs(&self, node: &Node) -> Result<(), Fault> {
        let given = node.outputs.len();
        // Each branch yields what the node yields.
        let branch = (node.op == "If").then(|| node.subgraphs().find(|branch| branch.outputs.len() != given)).flatten();
        if let Some(branch) = branch {
            return Err(fault(node, format!("has {given} outputs, one of its branches {}", branch.outputs.len())));
        }
        let [least, most] = self.outputs;
        if given > most {
            return Err(fault(node, format!("has {given} outputs; the operator has at most {most}")));
        }
        if given < least {
            return Err(fault(
                node,
                format!("has {given} outputs; the operator has {least}, and none may be left out"),
            ));
        }
        Ok(())
    }

    fn attributes(&self, node: &Node) -> Result<(), Fault> {
        let known = || self.attributes.split(' ').filter_map(|attribute| attribute.split_once(':'));
        for attribute in &node.attributes {
            let name = attribute.name.as_str();
            if name.is_empty() {
                return Err(fault(node, "an attribute has no name"));
            }
            let Some((_, kind)) = known().find(|(known, _)| *known == name) else {
                return Err(fault(node, self.unknown(name, known().map(|(name, _)| name).collect())));
            };
            if let Some(expected) = unlike(kind, &attribute.value) {
                let what = format!("attribute `{name}` must be {expected}, not {}", attribute.value.kind());
                return Err(fault(node, what));
            }
        }
        match known().find(|(name, kind)| kind.ends_with('!') && node.attribute(name).is_none()) {
            Some((name, _)) => Err(fault(node, format!("attribute `{name}` is missing"))),
            None => Ok(()),
        }
    }

    fn unknown(&self, name: &str, known: Vec<&str>) -> String {
        let since = self.since;
        match known.as_slice() {
            [] => format!("attribute `{name}` is unknown to the operator, which since opset {since} has none"),
            known => {
                format!(
                    "attribute `{name}` is unknown to the operator; since opset {since} it knows {}",
                    known.join(", ")
                )
            }
        }
    }
}

/// Types by the letters of the files above.
const LETTERS: [(char, DType); 12] = [
    ('f', DType::F32),
    ('d', DType::F64),
    ('e', DType::F16),
    ('b', DType::I8),
    ('B', DType::U8),
    ('h', DType::I16),
    ('H', DType::U16),
    ('i', DType::I32),
    ('I', DType::U32),
    ('l', DType::I64),
    ('L', DType::U64),
    ('?', DType::Bool),
];

fn letter(dtype: DType) -> char {
    LETTERS.iter().find(|(_, of)| *of == dtype).map_or('-', |(letter, _)| *letter)
}

/// The types of a set of letters, for messages.
fn taken(kind: &str) -> String {
    let names: Vec<&str> =
        LETTERS.iter().filter(|(letter, _)| kind.contains(*letter)).map(|(_, dtype)| dtype.name()).collect();
    if names.is_empty() { "no numbers".into() } else { names.join(", ") }
}

/// What a value of another kind should have been.
fn unlike(kind: &str, value: &AttributeValue) -> Option<&'static str> {
    use AttributeValue::{Float, Floats, Int, Ints, Tensor, Text, Texts};
    let (expected, fits) = match kind.trim_end_matches('!') {
        "i" => ("an integer", matches!(value, Int(_))),
        "f" => ("a float", matches!(value, Float(_))),
        "s" => ("a string", matches!(value, Text(_))),
        "t" => ("a tensor", matches!(value, Tensor(_))),
        "I" => ("a list of integers", matches!(value, Ints(_))),
        "F" => ("a list of floats", matches!(value, Floats(_))),
        "S" => ("a list of strings", matches!(value, Texts(_))),
        _ => return None,
    };
    (!fits).then_some(expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::graph::Attribute;

    fn node(op: &str, inputs: &[&str], attribute: &str) -> Node {
        let inputs = inputs.iter().map(|name| (*name).to_owned()).collect();
        let attributes = match attribute {
            "" => vec![],
            name => vec![Attribute { name: name.into(), value: AttributeValue::Int(1) }],
        };
        Node { name: "n".into(), op: op.into(), domain: Domain::Onnx, inputs, outputs: vec!["y".into()], attributes }
    }

    fn refused(node: &Node, opset: i64) -> String {
        check(node, opset).unwrap_err().to_string()
    }

    #[test]
    fn every_line_is_read_and_in_order() {
        for table in [ONNX, CONTRIB] {
            let lines = table.0.lines().filter(|line| !line.starts_with('#'));
            let read: Vec<_> = table.0.lines().filter_map(Signature::read).map(|s| (s.op, s.since)).collect();
            assert_eq!(lines.count(), read.len());
            assert!(read.is_sorted());
            for (op, since) in read {
                let (before, after) = table.split(op, since);
                let last = before.lines().next_back().and_then(Signature::read).unwrap();
                assert_eq!((last.op, last.since), (op, since));
                assert!(after.lines().next().is_none_or(|next| Signature::read(next).unwrap().op >= op));
            }
            assert_eq!(table.split("zzz", 99).1, "");
        }
    }

    #[test]
    fn what_an_operator_takes_goes_by_the_opset() {
        assert!(check(&node("Squeeze", &["x", "axes"], ""), 13).is_ok());
        assert!(refused(&node("Squeeze", &["x", "axes"], ""), 12).contains("has 2 inputs; the operator takes 1"));
        assert!(refused(&node("CumSum", &["x", "axis"], "exlusive"), 14).contains("it knows exclusive, reverse"));
        let broadcast = refused(&node("Add", &["a", "b"], "broadcast"), 13);
        assert!(
            broadcast.contains("`broadcast` is unknown to the operator, which since opset 7 has none"),
            "{broadcast}"
        );
        assert!(refused(&node("Clip", &["x"], "min"), 11).contains("`min` is unknown"));
        assert!(refused(&node("TopK", &["x", "k"], "axis"), 10).contains("has 1 outputs; the operator has 2"));
        assert!(refused(&node("Gelu", &["x"], ""), 19).contains("came with opset 20, the model states 19"));
        assert!(refused(&node("Clip", &["", "low"], ""), 13).contains("input 0 is left out"));
        assert!(refused(&node("Concat", &["a", "b"], ""), 13).contains("`axis` is missing"));
        assert!(refused(&node("Upsample", &["x", "scales"], ""), 13).contains("was withdrawn with opset 10"));
        assert!(check(&node("NobodysOperator", &[], "anything"), 13).is_ok());
    }

    #[test]
    fn an_input_must_be_of_a_type_that_the_operator_takes() {
        let of = |op: &str, inputs: &[&str], opset, known: &[DType]| {
            let known: Vec<_> = known.iter().copied().map(Some).collect();
            types(&node(op, inputs, ""), opset, &known).map_err(|fault| fault.to_string())
        };
        let relu = |dtype, opset| of("Relu", &["x"], opset, &[dtype]);
        assert!(relu(DType::F32, 13).is_ok() && relu(DType::I8, 14).is_ok());
        assert!(relu(DType::I8, 13).unwrap_err().contains("`x` is int8; the operator takes float32, float64, float16"));
        assert!(relu(DType::U8, 14).is_err());
        let all = of("Concat", &["a", "b", "c"], 13, &[DType::I64, DType::I64, DType::F32]);
        assert!(all.unwrap_err().contains("`a` is int64 and `c` is float32; they must be of one type"));
        // A loop carries what it likes, and of what is not known nothing is said.
        assert!(of("Loop", &["n", "on", "a", "b"], 13, &[DType::I64, DType::Bool, DType::F32, DType::U8]).is_ok());
        assert!(types(&node("Add", &["a", "b"], ""), 13, &[None, Some(DType::F32)]).is_ok());
        assert!(of("NobodysOperator", &["x"], 13, &[DType::Bool]).is_ok());
    }

    /// Each would be taken for its default.
    #[test]
    fn an_attribute_must_be_of_its_kind() {
        let of_kinds = [
            ("Conv", &["x", "w"] as &[&str], "auto_pad", "a string, not an integer"),
            ("Shrink", &["x"], "lambd", "a float, not an integer"),
            ("Conv", &["x", "w"], "strides", "a list of integers, not an integer"),
            ("LSTM", &["x", "w", "r"], "activation_alpha", "a list of floats"),
            ("LSTM", &["x", "w", "r"], "activations", "a list of strings"),
            ("ConstantOfShape", &["x"], "value", "a tensor"),
        ];
        for (op, inputs, name, kind) in of_kinds {
            assert!(refused(&node(op, inputs, name), 14).contains(kind), "{op} {name}");
        }
        let mut trilu = node("Trilu", &["x"], "upper");
        trilu.attributes[0].value = AttributeValue::Float(1.0);
        assert!(refused(&trilu, 14).contains("must be an integer, not a float"));
    }
}
