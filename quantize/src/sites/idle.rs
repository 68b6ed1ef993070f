//! Sites that gain nothing from integers.

use std::collections::HashSet;

use super::find::Finder;
use super::{Site, Sites};

impl Finder<'_> {
    /// Leaves in float what has no weights and lies between floats: there rounding to integers and back costs precision and
    /// time, and saves none. Finds the moves between what is left.
    pub(super) fn leave_idle(&self, found: &mut Sites) {
        loop {
            let moves = self.moves(&found.sites);
            let outputs = found.sites.iter().map(|site| &site.output).chain(moves.iter().map(|m| &m.output));
            let made: HashSet<&String> = outputs.collect();
            let inputs = found.sites.iter().flat_map(|site| site.inputs.iter().map(|(_, name)| name));
            let read: HashSet<&String> = inputs.chain(moves.iter().flat_map(|m| &m.inputs)).collect();
            let why = |site: &Site| {
                let (name, mut inputs) = (&site.output, site.inputs.iter().map(|(_, name)| name));
                let in_float =
                    !read.contains(name) && !self.edges.readers(name).is_empty() && !self.edges.is_output(name);
                // A mean or a table of integers is cheap whoever reads it.
                let joins = matches!(site.op.as_str(), "Add" | "Sub" | "Mul") && site.inputs.len() > 1;
                if inputs.clone().all(|name| !made.contains(name) && self.edges.producer.contains_key(name)) {
                    Some("what it reads is in float")
                } else if in_float && (joins || inputs.any(|name| !made.contains(name))) {
                    Some("what reads it is in float")
                } else {
                    None
                }
            };
            let idle: Vec<Option<&str>> =
                found.sites.iter().map(|site| why(site).filter(|_| site.weights.is_none())).collect();
            if idle.iter().all(Option::is_none) {
                found.moves = moves;
                return;
            }
            let mut idle = idle.into_iter();
            let sites = std::mem::take(&mut found.sites);
            for site in sites {
                let Some(why) = idle.next().flatten() else {
                    found.sites.push(site);
                    continue;
                };
                if let Some(clamp) = site.clamp.map(|clamp| &self.nodes[clamp]) {
                    found.kept.push((clamp.title().into(), clamp.op().into(), "what it limits is in float".into()));
                }
                found.kept.push((site.name, site.op, why.into()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::graphs::{found, graph, names, weights};
    use crate::onnx::proto::NodeProto;

    #[test]
    fn what_lies_between_floats_stays_in_float() {
        // Sin has no form in integers.
        let layer = NodeProto::test("MatMul", &["x", "w"], "a");
        let behind =
            |nodes: &[NodeProto]| found(&graph([std::slice::from_ref(&layer), nodes].concat(), weights(&["w", "v"])));
        let node = NodeProto::test;
        // Float on either side, through what moves, and a chain of them.
        let chain = [
            node("Sin", &["a"], "b"),
            node("ReduceMean", &["b"], "c"),
            node("Reshape", &["c", "s"], "d"),
            node("Tanh", &["d"], "e"),
            node("Sin", &["e"], "y"),
        ];
        assert_eq!(behind(&chain).0, names(&["a"]));
        let sum = |reader: &str| {
            [
                node("Sin", &["a"], "b"),
                node("Add", &["a", "b"], "c"),
                node("Relu", &["c"], "d"),
                node(reader, &["d", "v"], "y"),
            ]
        };
        assert_eq!(behind(&sum("Pow")).0, names(&["a"]));
        assert_eq!(behind(&sum("MatMul")), (names(&["a", "c", "y"]), names(&["b"])));
        // Integers on one side.
        let mean = [node("ReduceMean", &["a"], "b"), node("Sin", &["b"], "y")];
        assert_eq!(behind(&mean).0, names(&["a", "b"]));
        assert_eq!(behind(&[node("Add", &["a", "a"], "y")]).0, names(&["a", "y"]));
        assert_eq!(
            found(&graph(vec![node("ReduceMean", &["x"], "a"), node("MatMul", &["a", "w"], "y")], weights(&["w"]))).0,
            names(&["a", "y"])
        );
        assert_eq!(
            found(&graph(vec![node("ReduceMean", &["x"], "a"), node("Sin", &["a"], "y")], vec![])).0,
            names(&[])
        );
    }
}
