//! The nodes of a graph that can compute in integers.

use std::collections::{HashMap, HashSet};

use super::moves::moves;
use super::ways::{Ways, is_mean};
use super::{Site, Sites, types};
use crate::onnx::proto::{ModelProto, NodeProto, TensorProto, data_type};
use crate::onnx::{Edges, dims, floats, row};

/// Finds what can be quantized in a prepared graph, less the nodes of these names.
pub fn find(model: &ModelProto, keep: &HashSet<&str>) -> Sites {
    let Some(graph) = &model.graph else {
        return Sites::default();
    };
    let (stored, edges) = (graph.stored(), Edges::of(model));
    let other = types::not_float(model);
    let ways = Ways::of(graph, &stored);
    let defaults = graph.initializer.iter().filter_map(|tensor| tensor.name.as_deref());
    let defaults = defaults.filter(|name| !stored.contains_key(name)).collect();
    let finder = Finder { nodes: &graph.node, stored, defaults, edges, keep, other, ways };
    let mut found = Sites::default();
    let mut folded = HashSet::new();
    // Nodes that stay in float: a clamp behind one of them is not worth an edge of integers.
    let mut floats = HashSet::new();
    for (index, node) in graph.node.iter().enumerate() {
        if folded.contains(&index) || moves(node, &finder.stored) {
            continue;
        }
        let row = finder.added_row(node);
        let last = row.map_or(node, |(add, _)| &finder.nodes[add]);
        let clamp = finder.clamp(last);
        let named = |index: usize| keep.contains(finder.nodes[index].title());
        let site = match named(index) || clamp.is_some_and(named) {
            true => Err("kept, as asked".into()),
            false => finder.site(index, row, clamp, &floats),
        };
        match site {
            Ok(site) => {
                folded.extend(site.clamp.into_iter().chain(row.map(|(add, _)| add)));
                found.sites.push(site);
            }
            Err(why) => {
                floats.insert(index);
                found.kept.push((node.title().into(), node.op_type.clone().unwrap_or_default(), why));
            }
        }
    }
    finder.leave_idle(&mut found);
    found
}

/// What a graph is searched by.
pub(super) struct Finder<'g> {
    /// In graph order.
    pub nodes: &'g [NodeProto],
    /// Stored tensors that no input overrides.
    pub stored: HashMap<&'g str, &'g TensorProto>,
    /// Those that an input may override.
    pub defaults: HashSet<&'g str>,
    /// Who makes and reads what.
    pub edges: Edges,
    /// Names of nodes that stay in float, as was asked.
    pub keep: &'g HashSet<&'g str>,
    /// Tensors that are not float32.
    pub other: HashSet<String>,
    /// Those that stay so for what they go into.
    pub ways: Ways<'g>,
}

impl Finder<'_> {
    fn site(
        &self,
        index: usize,
        row: Option<(usize, usize)>,
        clamp: Option<usize>,
        floats: &HashSet<usize>,
    ) -> Result<Site, String> {
        let node = &self.nodes[index];
        if node.output.iter().chain(node.input.first()).any(|name| self.other.contains(name)) {
            return Err("its values are not float32".into());
        }
        if matches!(node.op(), "Relu" | "Clip")
            && let Some(maker) = node.arg(0).and_then(|name| self.edges.producer.get(name))
            && floats.contains(maker)
        {
            return Err("what it limits is in float".into());
        }
        let last = clamp.or(row.map(|(add, _)| add)).unwrap_or(index);
        let output = self.nodes[last].out();
        if let Some(why) = self.ways.why(node, output) {
            return Err(why.into());
        }
        let (inputs, weights) = match node.op() {
            "Conv" => (vec![0], Some(self.weights(node, 0, &[3, 4])?)),
            // A scale for an entry of the second dimension would be that of a channel of each group.
            "ConvTranspose" if node.int("group", 1) != 1 => return Err("a transposed convolution in groups".into()),
            "ConvTranspose" => (vec![0], Some(self.weights(node, 1, &[3, 4])?)),
            "Gemm"
                if node.float("alpha", 1.0) != 1.0 || node.float("beta", 1.0) != 1.0 || node.int("transA", 0) != 0 =>
            {
                return Err("it scales or transposes its operands".into());
            }
            "Gemm" => (vec![0], Some(self.weights(node, usize::from(node.int("transB", 0) == 0), &[2])?)),
            "MatMul" if self.is_of_activations(node) => (vec![0, 1], None),
            "MatMul" => (vec![0], Some(self.weights(node, 1, &[2])?)),
            "Mul" | "Div" if self.scaled(node).is_some() => (self.scaled(node).into_iter().collect(), None),
            "Add" | "Sub" | "Mul" => (self.operands(node)?, None),
            op if is_mean(op) => (vec![0], None),
            "Softmax" | "Sigmoid" | "Tanh" if self.ways.is_answer(node.out()) => {
                return Err("a last function costs little, and its answers keep their precision".into());
            }
            "Softmax" => (vec![0], None),
            op if is_table(op) => (vec![0], None),
            "Einsum" => return Err("no product of rows by stored weights".into()),
            _ => return Err("not quantized here".into()),
        };
        let name =
            |i: usize| node.arg(i).filter(|name| !self.stored.contains_key(name)).map(|name| (i, name.to_owned()));
        let inputs: Vec<_> = inputs.into_iter().filter_map(name).collect();
        if inputs.is_empty() {
            return Err("it works on constants".into());
        }
        let (name, op, output) = (node.title().into(), node.op().into(), output.to_owned());
        let own = weights.filter(|_| node.op() != "MatMul").map(|_| (index, 2));
        Ok(Site { node: index, name, op, inputs, weights, bias: own.or(row), output, clamp })
    }

    /// The Add of a stored row that goes into a MatMul as its bias, and which of its operands that is. A Conv or a Gemm has
    /// taken it in before.
    fn added_row(&self, node: &NodeProto) -> Option<(usize, usize)> {
        let weights = node.arg(1).filter(|_| node.op() == "MatMul").and_then(|name| self.stored.get(name))?;
        let reader = self.edges.sole_reader(node.out())?;
        let add = self.nodes.get(reader).filter(|add| add.op() == "Add" && !self.keep.contains(add.title()))?;
        let operand = usize::from(add.arg(0) == Some(node.out()));
        row(self.stored.get(add.arg(operand)?)?, *dims(weights).get(1)?)?;
        (!self.ways.holds(add.out())).then_some((reader, operand))
    }

    /// The Relu or Clip that goes into an operator: its only reader.
    fn clamp(&self, node: &NodeProto) -> Option<usize> {
        let reader = self.edges.sole_reader(node.out())?;
        let next = self.nodes.get(reader)?;
        (next.arg(0) == Some(node.out()) && self.is_clamp(next) && !is_table(node.op())).then_some(reader)
    }

    /// The dimension of output channels of weights that are stored float32 of one of these ranks, with a bias that is
    /// stored too or not there.
    fn weights(&self, node: &NodeProto, axis: usize, ranks: &[usize]) -> Result<usize, String> {
        let name = node.arg(1).ok_or("it has no weights")?;
        let tensor = self.held(name, "its weights are")?;
        if tensor.data_type != Some(data_type::FLOAT) {
            return Err("its weights are not float32".into());
        }
        if !ranks.contains(&dims(tensor).len()) {
            return Err(format!("its weights have {} dimensions", dims(tensor).len()));
        }
        // They may state any number of channels.
        if dims(tensor).contains(&0) {
            return Err("its weights have no elements".into());
        }
        let channels = dims(tensor)[axis];
        if let Some(bias) = node.arg(2) {
            let tensor = self.held(bias, "its bias is")?;
            row(tensor, channels).ok_or("its bias is not one float32 for each output channel")?;
        }
        Ok(axis)
    }

    /// A tensor that is stored, and stays as it is.
    fn held(&self, name: &str, what: &str) -> Result<&TensorProto, String> {
        let why = match () {
            () if self.edges.producer.contains_key(name) => "computed",
            () if self.defaults.contains(name) => "an input, which may be given anew",
            () => "an input",
        };
        self.stored.get(name).copied().ok_or_else(|| format!("{what} {why}"))
    }

    /// Both operands are activations: a stored one would have to be quantized as one.
    fn operands(&self, node: &NodeProto) -> Result<Vec<usize>, String> {
        let activation = |i: usize| node.arg(i).is_some_and(|name| !self.stored.contains_key(name));
        if activation(0) && activation(1) { Ok(vec![0, 1]) } else { Err("one operand is a constant".into()) }
    }

    /// Whether neither operand is stored, nor an input that may be given anew with what is stored for it: an input that the
    /// caller always gives is an activation like what is computed.
    fn is_of_activations(&self, node: &NodeProto) -> bool {
        let activation = |name: &str| !self.stored.contains_key(name) && !self.defaults.contains(name);
        (0..2).all(|i| node.arg(i).is_some_and(activation))
    }

    /// The activation that a stored number alone multiplies or divides.
    fn scaled(&self, node: &NodeProto) -> Option<usize> {
        let number = |i: usize| {
            let tensor = self.stored.get(node.arg(i)?)?;
            matches!(floats(tensor).as_deref(), Some([x]) if x.is_finite() && dims(tensor).len() < 2).then_some(())
        };
        let activation = |i: usize| node.arg(i).is_some_and(|name| !self.stored.contains_key(name));
        match node.op() {
            _ if activation(0) && number(1).is_some() => Some(0),
            "Mul" if activation(1) && number(0).is_some() => Some(1),
            _ => None,
        }
    }

    /// A Relu, or a Clip by stored bounds.
    fn is_clamp(&self, node: &NodeProto) -> bool {
        let fixed = |index| node.arg(index).is_none_or(|name| self.stored.contains_key(name));
        node.op() == "Relu" || (node.op() == "Clip" && fixed(1) && fixed(2))
    }
}

/// Functions of one value, which are a table in int8.
fn is_table(op: &str) -> bool {
    matches!(op, "Sigmoid" | "Tanh" | "HardSigmoid" | "HardSwish" | "LeakyRelu" | "Elu" | "Relu" | "Clip")
}

#[cfg(test)]
mod tests {
    use super::super::graphs::{attention, found, graph, names, weights};
    use super::*;
    use crate::onnx::f32s;
    use crate::onnx::proto::ValueInfoProto;

    /// Nothing is made for each of them: there are more than time has room for.
    #[test]
    fn weights_without_elements_have_no_channels() {
        let model =
            graph(vec![NodeProto::test("Conv", &["x", "w"], "y")], vec![f32s("w", &[usize::MAX >> 1, 0, 3, 3], &[])]);
        assert_eq!(found(&model), (names(&[]), names(&["y"])));
    }

    #[test]
    fn products_of_activations_are_integers_and_so_is_what_scales_them() {
        let node = NodeProto::test;
        for scale in [["Mul", "p", "half"], ["Mul", "half", "p"], ["Div", "p", "half"]] {
            let model = attention(&[node(scale[0], &scale[1..], "r"), node("MatMul", &["r", "t"], "s4")]);
            let sites = find(&model, &HashSet::new());
            assert_eq!(sites.kept, [], "{scale:?}");
            let of =
                |output: &str| sites.sites.iter().find(|site| site.output == output).map(|site| site.inputs.clone());
            let named =
                |names: &[(usize, &str)]| Some(names.iter().map(|(i, name)| (*i, (*name).to_owned())).collect());
            assert_eq!(of("s4"), named(&[(0, "r"), (1, "t")]));
            assert_eq!(of("r"), named(&[(usize::from(scale[1] == "half"), "p")]));
            assert_eq!(of("f"), named(&[(0, "e"), (1, "h")]));
            assert_eq!(sites.moves.iter().map(|m| m.output.as_str()).collect::<Vec<_>>(), ["t", "p"]);
        }
        // What is no number, and what a number is divided by, is none of that.
        let model = attention(&[node("Mul", &["p", "pair"], "r"), node("MatMul", &["r", "t"], "s4")]);
        assert_eq!(found(&model).1, names(&["r"]));
        let model = attention(&[node("Div", &["half", "p"], "r"), node("MatMul", &["r", "t"], "s4")]);
        assert_eq!(found(&model).1, names(&["r"]));
    }

    #[test]
    fn a_row_behind_a_product_is_its_bias() {
        let nodes = |add: &[&str]| {
            vec![
                NodeProto::test("MatMul", &["x", "w"], "a"),
                NodeProto::test("Add", add, "b"),
                NodeProto::test("Relu", &["b"], "c"),
                NodeProto::test("MatMul", &["c", "v"], "y"),
            ]
        };
        let rows = [f32s("row", &[1, 1, 2], &[1.0; 2]), f32s("column", &[2, 1], &[1.0; 2])];
        let model = |add: &[&str]| graph(nodes(add), [weights(&["w", "v"]), rows.clone().into()].concat());
        for (add, operand) in [(["a", "row"], 1), (["row", "a"], 0)] {
            let sites = find(&model(&add), &HashSet::new());
            assert_eq!(sites.kept, []);
            let of = |site: &Site| (site.node, site.bias, site.clamp, site.output.clone());
            let found: Vec<_> = sites.sites.iter().map(of).collect();
            assert_eq!(found, [(0, Some((1, operand)), Some(2), "c".into()), (3, None, None, "y".into())]);
        }
        // By name it stays in float, and what is no row does.
        let kept = find(&model(&["a", "row"]), &HashSet::from(["b"]));
        assert_eq!((kept.sites[0].bias, kept.sites[0].output.as_str(), kept.kept.len()), (None, "a", 2));
        for add in [["a", "column"], ["a", "a"], ["a", "x"]] {
            assert_eq!(find(&model(&add), &HashSet::new()).sites[0].bias, None, "{add:?}");
        }
    }

    #[test]
    fn weights_that_a_caller_may_give_anew_stay_in_float() {
        let mut model = graph(vec![NodeProto::test("MatMul", &["x", "w"], "y")], weights(&["w"]));
        model.graph_mut().input.push(ValueInfoProto::floats("w", &[2, 2]));
        assert_eq!(find(&model, &HashSet::new()).kept[0].2, "its weights are an input, which may be given anew");
        // Nor is a product of what is computed and of them one of activations.
        let nodes = vec![NodeProto::test("MatMul", &["x", "v"], "a"), NodeProto::test("MatMul", &["a", "w"], "y")];
        let mut model = graph(nodes, weights(&["v", "w"]));
        model.graph_mut().input.push(ValueInfoProto::floats("w", &[2, 2]));
        assert_eq!(found(&model), (names(&["a"]), names(&["y"])));
    }

    #[test]
    fn an_input_that_the_caller_gives_is_an_operand_like_what_is_computed() {
        for operands in [["a", "k"], ["k", "a"], ["x", "k"]] {
            let nodes = vec![NodeProto::test("MatMul", &["x", "w"], "a"), NodeProto::test("MatMul", &operands, "y")];
            let mut model = graph(nodes, weights(&["w"]));
            model.graph_mut().input.push(ValueInfoProto::floats("k", &[2, 2]));
            let sites = find(&model, &HashSet::new());
            assert_eq!(sites.kept, [], "{operands:?}");
            let read: Vec<&str> = sites.sites[1].inputs.iter().map(|(_, name)| name.as_str()).collect();
            assert_eq!(read, operands);
        }
        // A layer has weights, or says that it has none.
        let mut model = graph(vec![NodeProto::test("Gemm", &["x", "k"], "y")], vec![]);
        model.graph_mut().input.push(ValueInfoProto::floats("k", &[2, 2]));
        assert_eq!(find(&model, &HashSet::new()).kept[0].2, "its weights are an input");
    }
}
