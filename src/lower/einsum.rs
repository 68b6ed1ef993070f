//! Einsum, as products of matrices. Of two operands, labels that both have and that are still wanted count the matrices,
//! labels that both have and that are not are summed over, and those of one alone are rows or columns.

use tractlet_core::plan::Reduction;
use tractlet_core::shape::{Along, ConvShape, Window};

use super::binary::UNBOUNDED;
use super::edges::row_major;
use super::fold::strided;
use super::matmul::Matrices;
use super::value::{Act, Layout, Value};
use super::{Lowering, Why};
use crate::model::{AttributeValue, Equation, Label, Node};

/// An operand: a plain tensor of floats or numbers, with a label for each of its dimensions. Those of 1 are left out,
/// so that what is repeated along them has none.
struct Labelled<'m> {
    value: Value<'m>,
    labels: Vec<Label>,
    dims: Vec<usize>,
}

impl Labelled<'_> {
    fn has(&self, label: Label) -> bool {
        self.labels.contains(&label)
    }

    /// Its sizes along labels that it has.
    fn sizes(&self, labels: &[Label]) -> Vec<usize> {
        self.places(labels).into_iter().map(|place| self.dims[place]).collect()
    }

    /// Those of `order` that it has, each once.
    fn among(&self, order: &[Label]) -> Vec<Label> {
        let mut own = self.labels.clone();
        own.retain(|label| order.contains(label));
        own.sort_by_key(|label| order.iter().position(|other| other == label));
        own
    }

    fn places(&self, labels: &[Label]) -> Vec<usize> {
        labels.iter().filter_map(|label| self.labels.iter().position(|own| own == label)).collect()
    }
}

impl<'m> Lowering<'m> {
    pub(super) fn einsum_f32(&mut self, node: &Node) -> Result<(), Why> {
        let Some(AttributeValue::Text(text)) = node.attribute("equation") else {
            return Err("it has no equation".into());
        };
        let values = (0..node.inputs.len()).map(|index| self.value(node, index)).collect::<Result<Vec<_>, _>>()?;
        let ranks = values.iter().map(|value| Ok(Some(self.dims_of(value)?.len()))).collect::<Result<Vec<_>, Why>>()?;
        let Equation { terms, result } = Equation::parse(text, &ranks)?.ok_or("its dimensions are not known")?;
        let operands = values.into_iter().zip(terms).map(|(value, labels)| self.labelled(node, value, labels));
        let mut operands = operands.collect::<Result<Vec<_>, Why>>()?.into_iter();
        let mut product = operands.next().ok_or("it has no operand")?;
        while let Some(other) = operands.next() {
            let later = operands.as_slice().iter().flat_map(|operand| &operand.labels);
            let wanted: Vec<Label> = result.iter().chain(later).copied().collect();
            product = self.multiplied(node, product, other, &wanted)?;
        }
        let product = self.summed(node, product, &result)?;
        let act = self.ordered(node, &product, &product.among(&result))?;
        let act = self.real(&node.name, &act.value)?;
        let dims = self.output_dims(node)?;
        self.set(node, Value::Real(act.viewed(dims, Layout::Plain)));
        Ok(())
    }

    fn labelled(&mut self, node: &Node, value: Value<'m>, labels: Vec<Label>) -> Result<Labelled<'m>, Why> {
        if labels.iter().enumerate().any(|(at, label)| labels[..at].contains(label)) {
            return Err("a term with one letter twice, which is a diagonal, is not taken".into());
        }
        let (value, dims) = if value.is_constant() {
            let (values, dims) = self.floats_of(&value)?;
            (Value::Numbers(values.into(), dims.clone()), dims)
        } else {
            let real = self.real(&node.name, &value)?;
            let act = self.plain(&node.name, real)?;
            (Value::Real(act.clone()), act.dims)
        };
        if dims.contains(&0) {
            return Err("one of its operands is empty".into());
        }
        let (labels, dims) = labels.into_iter().zip(dims).filter(|(_, dim)| *dim > 1).unzip();
        Ok(Labelled { value, labels, dims })
    }

    /// The product of two operands, with those of their labels that are wanted.
    fn multiplied(
        &mut self,
        node: &Node,
        a: Labelled<'m>,
        b: Labelled<'m>,
        wanted: &[Label],
    ) -> Result<Labelled<'m>, Why> {
        // Of what is in one of them alone and not wanted, the sum is taken before.
        let (of_a, of_b) = ([wanted, &b.labels].concat(), [wanted, &a.labels].concat());
        let (a, b) = (self.summed(node, a, &of_a)?, self.summed(node, b, &of_b)?);
        // What is stored comes second, where it is packed; else columns are what is innermost in the result.
        let innermost = wanted.iter().rev().find(|label| a.has(**label) != b.has(**label));
        let turned = match (a.value.is_constant(), b.value.is_constant()) {
            (false, false) => innermost.is_some_and(|label| a.has(*label)),
            (a, b) => a && !b,
        };
        let (a, b) = if turned { (b, a) } else { (a, b) };
        let (shared, rows): (Vec<Label>, _) = a.among(wanted).into_iter().partition(|label| b.has(*label));
        let cols: Vec<Label> = b.among(wanted).into_iter().filter(|label| !a.has(*label)).collect();
        let inner: Vec<Label> = a.labels.iter().copied().filter(|label| !wanted.contains(label)).collect();

        let a = self.ordered(node, &a, &[shared.as_slice(), &rows, &inner].concat())?;
        let b = self.ordered(node, &b, &[shared.as_slice(), &inner, &cols].concat())?;
        let dims = [a.sizes(&shared), a.sizes(&rows), b.sizes(&cols)].concat();
        let sizes = [a.sizes(&shared), a.sizes(&rows), a.sizes(&inner), b.sizes(&cols)];
        let act = self.matrices_product(node, a.value, b.value, sizes.map(|sizes| sizes.iter().product()), &dims)?;
        Ok(Labelled { value: Value::Real(act), labels: [shared, rows, cols].concat(), dims })
    }

    fn matrices_product(
        &mut self,
        node: &Node,
        a: Value<'m>,
        b: Value<'m>,
        [count, rows, inner, cols]: [usize; 4],
        dims: &[usize],
    ) -> Result<Act, Why> {
        let a = self.real(&node.name, &a)?;
        let result = self.program.floats(dims.to_vec(), Layout::Plain);
        if let Value::Numbers(weights, _) = &b
            && count == 1
        {
            let shape = ConvShape { window: Window::pixels(rows, inner), out_c: cols, groups: 1 };
            let weight = |[_, input, output]: [usize; 3]| weights[input * cols + output];
            self.push_conv_f32(&node.name, (&a, &result), shape, weight, &vec![0.0; cols], UNBOUNDED);
            return Ok(result);
        }
        let b = match &b {
            Value::Numbers(values, _) => self.builder.data(values).into(),
            b => {
                let b = self.real(&node.name, b)?;
                self.program.span(&b)
            }
        };
        let matrices = |span| Matrices { span, count };
        let operands = (matrices(self.program.span(&a)), matrices(b));
        self.product_f32(node, operands, [count, rows, inner, cols], &result);
        Ok(result)
    }

    /// The sum over all labels that are not among `kept`.
    fn summed(&mut self, node: &Node, operand: Labelled<'m>, kept: &[Label]) -> Result<Labelled<'m>, Why> {
        let (kept, summed): (Vec<Label>, Vec<Label>) = operand.labels.iter().partition(|label| kept.contains(label));
        if summed.is_empty() {
            return Ok(operand);
        }
        let ordered = self.ordered(node, &operand, &[kept.as_slice(), &summed].concat())?;
        let (dims, summed) = (ordered.sizes(&kept), ordered.sizes(&summed));
        let along = Along { outer: dims.iter().product(), len: summed.iter().product(), inner: 1 };
        let act = self.real(&node.name, &ordered.value)?;
        let act = self.reduce(&node.name, &act, along, Reduction::Sum, dims.clone());
        Ok(Labelled { value: Value::Real(act), labels: kept, dims })
    }

    /// The same with its labels in another order.
    fn ordered(&mut self, node: &Node, operand: &Labelled<'m>, labels: &[Label]) -> Result<Labelled<'m>, Why> {
        let (order, dims) = (operand.places(labels), operand.sizes(labels));
        let value = match &operand.value {
            Value::Numbers(values, _) if !order.is_sorted() => {
                let strides = row_major(&operand.dims);
                let strides: Vec<usize> = order.iter().map(|&place| strides[place]).collect();
                Value::Numbers(strided(values, &dims, &strides).into(), dims.clone())
            }
            Value::Numbers(..) => operand.value.clone(),
            value => {
                let act = self.real(&node.name, value)?.viewed(operand.dims.clone(), Layout::Plain);
                Value::Real(self.permuted(&node.name, &act, &order)?)
            }
        };
        Ok(Labelled { value, labels: labels.to_vec(), dims })
    }
}
