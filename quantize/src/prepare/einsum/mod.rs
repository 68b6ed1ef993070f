//! Einsum of a computed operand and a stored one, as the product of matrices that it is: its weights become integers as
//! those of a MatMul do, and Transpose and Reshape around it move integers. And a MatMul whose weights come first, as layers
//! over the nodes of a graph have them, as one whose weights come second.

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use super::Notes;
use super::constants::permuted;
use crate::onnx::proto::{ModelProto, NodeProto, TensorProto};
use crate::onnx::{Names, dims, f32s, floats, i64s};

/// Names of the computed operands, whose shapes are asked for.
pub fn computed(model: &ModelProto) -> Vec<String> {
    let Some(graph) = &model.graph else { return Vec::new() };
    let stored = graph.stored();
    graph.node.iter().filter_map(|node| operands(node, &stored)).map(|(x, _)| x.to_owned()).collect()
}

/// Takes every Einsum apart that is such a product, of computed operands of these shapes.
pub fn to_matmul(model: &mut ModelProto, shapes: &HashMap<String, Vec<usize>>, notes: &mut Notes) {
    let names = Names::of(model);
    let graph = model.graph_mut();
    let mut chains = Vec::new();
    let mut writer = Writer { names, matrices: HashMap::new(), made: Vec::new(), chain: Vec::new() };
    let stored = graph.stored();
    for (index, node) in graph.node.iter().enumerate() {
        if writer.write(node, &stored, shapes).is_some() {
            chains.push((index, std::mem::take(&mut writer.chain)));
        }
    }
    graph.initializer.append(&mut writer.made);
    let count = |op: &str| chains.iter().filter(|(index, _)| graph.node[*index].op() == op).count();
    for (count, what) in [(count("Einsum"), "Einsum nodes made a MatMul"), (count("MatMul"), "MatMul nodes turned")] {
        if count > 0 {
            notes.push(format!("{count} {what}"));
        }
    }
    for (index, chain) in chains.into_iter().rev() {
        graph.node.splice(index..=index, chain);
    }
}

/// The computed operand of a node of one such and a stored one, and the place of the stored one.
fn operands<'g>(node: &'g NodeProto, stored: &HashMap<&str, &TensorProto>) -> Option<(&'g str, usize)> {
    let [a, b] = node.input.as_slice() else { return None };
    match (node.op(), [a, b].map(|name| stored.get(name.as_str()))) {
        ("Einsum", [None, Some(_)]) => Some((a, 1)),
        ("Einsum", [Some(_), None]) => Some((b, 0)),
        ("MatMul", [Some(weights), None]) if weights.dims.len() == 2 => Some((b, 0)),
        _ => None,
    }
}

struct Writer {
    names: Names,
    /// The matrix that a stored operand is with its dimensions in this order and so many columns: several nodes may share one.
    matrices: HashMap<(String, Vec<usize>, usize), String>,
    /// What is stored for the new nodes.
    made: Vec<TensorProto>,
    /// Those of the Einsum at hand, each of which reads what the one before writes.
    chain: Vec<NodeProto>,
}

impl Writer {
    /// Writes the chain that stands for an Einsum.
    fn write(
        &mut self,
        node: &NodeProto,
        stored: &HashMap<&str, &TensorProto>,
        shapes: &HashMap<String, Vec<usize>>,
    ) -> Option<()> {
        let (x, place) = operands(node, stored)?;
        let (from, name) = (shapes.get(x)?, node.input.get(place)?);
        let weights = *stored.get(name.as_str())?;
        let (held, values) = (dims(weights), floats(weights)?);
        let ranks = if place == 1 { [from.len(), held.len()] } else { [held.len(), from.len()] };
        let text = if node.op() == "MatMul" { b"ij,...jk->...ik" } else { node.text("equation")? };
        let Equation { mut terms, result } = Equation::parse(text, ranks)?;
        terms.rotate_left(1 - place);
        let [labels, own] = &terms;
        let product = Product::of((labels, from), (own, &held), &result)?;

        let mut last = self.transposed(node, x.to_owned(), &product.before);
        if product.inner.len() > 1 {
            last = self.reshaped(node, last, product.rows, &[product.inner.iter().product()]);
        }
        let matrix = self.matrix(name, values, &held, &product);
        last = self.push("MatMul", node, vec![last, matrix]);
        if product.cols.len() != 1 {
            last = self.reshaped(node, last, product.rows, &product.cols);
        }
        self.transposed(node, last, &product.after);
        // Who asks for a node or a tensor by name finds it.
        if let Some(product) = self.chain.iter_mut().find(|made| made.op() == "MatMul") {
            product.name = Some(node.title().to_owned());
        }
        let end = self.chain.last_mut()?;
        end.output.clone_from(&node.output);
        Some(())
    }

    fn push(&mut self, op: &str, of: &NodeProto, inputs: Vec<String>) -> String {
        let output = self.names.fresh(&format!("{}_{op}", of.title()));
        self.chain.push(NodeProto::new(op, output.clone(), inputs, vec![output.clone()]));
        output
    }

    fn transposed(&mut self, of: &NodeProto, x: String, order: &[usize]) -> String {
        if order.is_sorted() {
            return x;
        }
        let output = self.push("Transpose", of, vec![x]);
        if let Some(node) = self.chain.last_mut() {
            node.set_ints("perm", order.iter().map(|&axis| axis as i64).collect());
        }
        output
    }

    /// The same elements with so many dimensions as they are, of whatever size, and these behind them.
    fn reshaped(&mut self, of: &NodeProto, x: String, kept: usize, dims: &[usize]) -> String {
        let shape: Vec<i64> = std::iter::repeat_n(0, kept).chain(dims.iter().map(|&dim| dim as i64)).collect();
        let name = self.names.fresh(&format!("{}_shape", of.title()));
        self.made.push(i64s(&name, &[shape.len()], &shape));
        self.push("Reshape", of, vec![x, name])
    }

    /// The stored operand as a matrix.
    fn matrix(&mut self, name: &str, values: Vec<f32>, held: &[usize], product: &Product) -> String {
        let (rows, cols) = (product.inner.iter().product(), product.cols.iter().product());
        if product.weights.is_sorted() && held == [rows, cols] {
            return name.to_owned();
        }
        let names = &mut self.names;
        let matrix = self.matrices.entry((name.to_owned(), product.weights.clone(), cols));
        let made = &mut self.made;
        let make = || {
            let new = names.fresh(&format!("{name}_matrix"));
            made.push(f32s(&new, &[rows, cols], &permuted(values, held, &product.weights)));
            new
        };
        matrix.or_insert_with(make).clone()
    }
}

/// An Einsum as a product of matrices.
#[derive(Debug, PartialEq)]
struct Product {
    /// Dimensions of the computed operand in their new order: rows, then what is summed over.
    before: Vec<usize>,
    /// Those of the stored one: what is summed over, then columns.
    weights: Vec<usize>,
    /// Number of dimensions that rows have.
    rows: usize,
    /// Sizes of what is summed over.
    inner: Vec<usize>,
    /// Sizes of columns.
    cols: Vec<usize>,
    /// Rows and columns in the order of the result.
    after: Vec<usize>,
}

impl Product {
    /// Of a computed and a stored operand, each with labels and sizes of its dimensions. `None` where it is none: a diagonal, a
    /// sum over what one alone has, a label that counts matrices, a dimension of 1 that is repeated.
    fn of((computed, sizes): (&[u8], &[usize]), (stored, held): (&[u8], &[usize]), result: &[u8]) -> Option<Product> {
        let twice = |labels: &[u8]| labels.iter().enumerate().any(|(at, label)| labels[..at].contains(label));
        let has = |labels: &[u8], label: u8| labels.contains(&label);
        let (inner, mut rows): (Vec<u8>, Vec<u8>) = computed.iter().partition(|label| has(stored, **label));
        let cols: Vec<u8> = result.iter().copied().filter(|label| has(stored, *label)).collect();
        let is_product = !rows.is_empty() && !inner.is_empty() && inner.iter().all(|label| !has(result, *label));
        let is_whole = result.len() == rows.len() + cols.len() && stored.len() == inner.len() + cols.len();
        if [computed, stored, result].into_iter().any(twice) || !is_product || !is_whole {
            return None;
        }
        if sizes.contains(&0) || held.contains(&0) {
            return None;
        }
        // What has to be moved anyway is moved once.
        if !computed.ends_with(&inner) {
            rows.sort_by_key(|label| result.iter().position(|own| own == label));
        }
        let places = |of: &[u8], order: &[u8]| -> Option<Vec<usize>> {
            order.iter().map(|label| of.iter().position(|own| own == label)).collect()
        };
        let order = [rows.as_slice(), &inner].concat();
        let (before, weights) = (places(computed, &order)?, places(stored, &[inner.as_slice(), &cols].concat())?);
        let size = |dims: &[usize], at: &usize| dims.get(*at).copied();
        let (summed, columns) = weights.split_at(inner.len());
        let sized = |dims: &[usize], places: &[usize]| -> Option<Vec<usize>> {
            places.iter().map(|at| size(dims, at)).collect()
        };
        let (inner, cols_sizes) = (sized(held, summed)?, sized(held, columns)?);
        if sized(sizes, &before[rows.len()..])? != inner {
            return None;
        }
        let after = places(&[rows.as_slice(), &cols].concat(), result)?;
        Some(Product { before, weights, rows: rows.len(), inner, cols: cols_sizes, after })
    }
}

/// An equation of two operands: a label for each dimension, which is a letter or, for those that an ellipsis stands for, a digit,
/// 9 for the last. `Model::open` has read it before and found it sound.
#[derive(Debug, PartialEq)]
struct Equation {
    terms: [Vec<u8>; 2],
    result: Vec<u8>,
}

impl Equation {
    fn parse(text: &[u8], ranks: [usize; 2]) -> Option<Equation> {
        let text: String = std::str::from_utf8(text).ok()?.chars().filter(|sign| *sign != ' ').collect();
        let (terms, result) =
            text.split_once("->").map_or((text.as_str(), None), |(terms, result)| (terms, Some(result)));
        let (a, b) = terms.split_once(',')?;
        let spelled = |term: &str, rank: usize| {
            let (before, after) = term.split_once("...").unwrap_or((term, ""));
            let rest = rank.checked_sub(before.len() + after.len()).filter(|&rest| rest <= 10)?;
            let is_sound = before.bytes().chain(after.bytes()).all(|sign| sign.is_ascii_alphabetic());
            let rest: Vec<u8> = (b'0'..=b'9').skip(10 - rest).collect();
            let labels = [before.as_bytes(), &rest, after.as_bytes()].concat();
            (is_sound && (rest.is_empty() || term.contains("..."))).then_some(labels)
        };
        let terms = [spelled(a, ranks[0])?, spelled(b, ranks[1])?];
        let rests = terms.each_ref().map(|term| term.iter().filter(|label| label.is_ascii_digit()).count());
        let rest = rests.into_iter().max().unwrap_or(0);
        let result = match result {
            Some(result) if result.contains("...") => spelled(result, result.len() - 3 + rest)?,
            Some(result) => spelled(result, result.len())?,
            None => {
                let mut once = terms.concat();
                once.sort_unstable();
                let groups = once.chunk_by(|a, b| a == b);
                groups.filter(|group| group.len() == 1 || group[0].is_ascii_digit()).map(|group| group[0]).collect()
            }
        };
        Some(Equation { terms, result })
    }
}
