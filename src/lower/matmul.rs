//! Products of matrices that are both computed, as attention has them, and what else of MatMul and Gemm no fully
//! connected layer is.

use tractlet_core::plan::{ArenaSpan, Binary, MatMulF32, Operand, Unary, UnaryF32};

use super::binary::UNBOUNDED;
use super::fold::{repeating, strided};
use super::value::{Act, Layout, Value};
use super::{Lowering, Why, int, number};
use crate::model::Node;

/// Matrices that an op reads.
pub(super) struct Matrices {
    /// Where they lie one after the other.
    pub span: Operand,
    /// How many there are.
    pub count: usize,
}

impl<'m> Lowering<'m> {
    pub(super) fn matmul_f32(&mut self, node: &Node) -> Result<(), Why> {
        let (a, b) = (self.value(node, 0)?, self.value(node, 1)?);
        let (mut a_dims, mut b_dims) = (self.dims_of(&a)?, self.dims_of(&b)?);
        if a_dims.len() == 1 {
            a_dims.insert(0, 1);
        }
        if b_dims.len() == 1 {
            b_dims.push(1);
        }
        let (a_batch, a_matrix) = a_dims.split_at(a_dims.len() - 2);
        let (b_batch, b_matrix) = b_dims.split_at(b_dims.len() - 2);
        let rank = a_batch.len().max(b_batch.len());
        let dim = |batch: &[usize], i: usize| (i + batch.len()).checked_sub(rank).map_or(1, |i| batch[i]);
        let batch: Vec<usize> = (0..rank).map(|i| dim(a_batch, i).max(dim(b_batch, i))).collect();
        let (rows, inner, cols) = (a_matrix[0], a_matrix[1], b_matrix[1]);
        let a = self.matrices(node, &a, a_dims.clone(), &batch)?;
        let b = self.matrices(node, &b, b_dims.clone(), &batch)?;
        let output = self.program.floats(self.output_dims(node)?, Layout::Plain);
        let count: usize = batch.iter().product();
        self.product_f32(node, (a, b), [count, rows, inner, cols], &output);
        self.set(node, Value::Real(output));
        Ok(())
    }

    /// A Gemm whose second operand or bias is computed, or whose first operand lies the other way round.
    pub(super) fn gemm_f32(&mut self, node: &Node) -> Result<(), Why> {
        let a = self.turned(node, 0, int(node, "transA", 0) != 0)?;
        let b = self.turned(node, 1, int(node, "transB", 0) != 0)?;
        let (a_dims, b_dims) = (self.dims_of(&a)?, self.dims_of(&b)?);
        let sizes = [1, a_dims[0], a_dims[1], b_dims[1]];
        let (a, b) = (self.matrices(node, &a, a_dims, &[])?, self.matrices(node, &b, b_dims, &[])?);
        let dims = self.output_dims(node)?;
        let mut y = self.program.floats(dims.clone(), Layout::Plain);
        self.product_f32(node, (a, b), sizes, &y);
        if number(node, "alpha", 1.0) != 1.0 {
            y = self.scaled(node, &y, number(node, "alpha", 1.0));
        }
        let beta = number(node, "beta", 1.0);
        if node.input(2).is_some() && beta != 0.0 {
            let bias = match self.value(node, 2)? {
                bias if bias.is_constant() => {
                    let (values, dims) = self.floats_of(&bias)?;
                    Value::Numbers(values.into_iter().map(|x| beta * x).collect(), dims)
                }
                bias => {
                    let real = self.real(&node.name, &bias)?;
                    let act = self.plain(&node.name, real)?;
                    Value::Real(if beta == 1.0 { act } else { self.scaled(node, &act, beta) })
                }
            };
            let operand = self.repeated(&node.name, &bias, &dims)?;
            y = self.push_binary(&node.name, &y, operand, Binary::Add, UNBOUNDED);
        }
        self.set(node, Value::Real(y));
        Ok(())
    }

    /// Of so many matrices, of rows, the dimension that is summed over, and columns.
    pub(super) fn product_f32(&mut self, node: &Node, (a, b): (Matrices, Matrices), sizes: [usize; 4], output: &Act) {
        let [mut count, mut rows, inner, cols] = sizes;
        let mut a_count = a.count;
        // Matrices that are all multiplied with the same one are one of more rows.
        if b.count == 1 && a.count == count {
            (count, rows, a_count) = (1, count * rows, 1);
        }
        let op = MatMulF32 {
            a: a.span,
            b: b.span,
            output: self.program.span(output),
            count,
            a_count,
            b_count: b.count,
            rows,
            inner,
            cols,
            scratch: ArenaSpan::default(),
        };
        self.program.push(&node.name, op);
    }

    /// A matrix, transposed if it is to be.
    fn turned(&mut self, node: &Node, index: usize, turn: bool) -> Result<Value<'m>, Why> {
        let value = self.value(node, index)?;
        if value.is_constant() {
            let (values, dims) = self.floats_of(&value)?;
            let &[rows, cols] = dims.as_slice() else { return Err("its operands must be matrices".into()) };
            let (dims, strides) = if turn { ([cols, rows], [1, cols]) } else { ([rows, cols], [cols, 1]) };
            return Ok(Value::Numbers(strided(&values, &dims, &strides).into(), dims.to_vec()));
        }
        let real = self.real(&node.name, &value)?;
        let act = self.plain(&node.name, real)?;
        Ok(Value::Real(if turn { self.permuted(&node.name, &act, &[1, 0])? } else { act }))
    }

    /// An operand of some matrices, such that they are repeated along those of the output as an op repeats them.
    fn matrices(&mut self, node: &Node, value: &Value<'m>, dims: Vec<usize>, batch: &[usize]) -> Result<Matrices, Why> {
        let (own, matrix) = dims.split_at(dims.len() - 2);
        let first = own.iter().position(|dim| *dim > 1).unwrap_or(own.len());
        let repeats = batch.ends_with(&own[first..]);
        let all: Vec<usize> = batch.iter().chain(matrix).copied().collect();
        let count = if repeats { own.iter().product() } else { batch.iter().product() };
        let span = if value.is_constant() {
            let (values, _) = self.floats_of(value)?;
            let values = if repeats { values } else { self.spread(&values, &dims, &all)? };
            self.builder.data(&values).into()
        } else {
            let real = self.real(&node.name, value)?;
            let act = self.plain(&node.name, real)?;
            let act = if repeats {
                act
            } else if all.len() > tractlet_core::plan::COPY_DIMS {
                return Err(format!("a product of {} dimensions is not taken", all.len()));
            } else {
                let strides = repeating(&dims, &all);
                self.copied(&node.name, &act, &all.clone(), &strides, all, Layout::Plain)
            };
            self.program.span(&act)
        };
        Ok(Matrices { span, count })
    }

    fn scaled(&mut self, node: &Node, act: &Act, alpha: f32) -> Act {
        let output = self.program.floats(act.dims.clone(), Layout::Plain);
        let (input, span) = (self.program.span(act), self.program.span(&output));
        self.program.push(&node.name, UnaryF32 { input, output: span, function: Unary::Affine, alpha, beta: 0.0 });
        output
    }

    pub(super) fn dims_of(&self, value: &Value<'m>) -> Result<Vec<usize>, Why> {
        match value.act() {
            Some(act) => Ok(act.dims.clone()),
            None => self.floats_of(value).map(|(_, dims)| dims),
        }
    }
}
