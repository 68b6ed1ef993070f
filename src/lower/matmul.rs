//! Products of matrices that are both computed, as attention has them, and what else of MatMul and Gemm no fully
//! connected layer is.

use tractlet_core::kernels::conv::MAX_SIZE;
use tractlet_core::kernels::matmul_s8::MAX_INNER;
use tractlet_core::plan::{ArenaSpan, Binary, MatMulF32, MatMulS8, Operand};
use tractlet_core::shape::Requantize;

use super::binary::UNBOUNDED;
use super::fold::{repeating, strided};
use super::product::unscaled;
use super::value::{Act, Layout, QParams, Value};
use super::{Lowering, Why, int, number};
use crate::model::Node;

/// Matrices that an op reads.
pub(super) struct Matrices {
    /// Where they lie one after the other.
    pub span: Operand,
    /// How many there are.
    pub count: usize,
}

/// Integers that a product reads.
enum Bytes {
    Computed(Act),
    /// With their dimensions.
    Stored(Vec<i8>, Vec<usize>),
}

impl Bytes {
    fn dims(&self) -> Vec<usize> {
        match self {
            Bytes::Computed(act) => act.dims.clone(),
            Bytes::Stored(_, dims) => dims.clone(),
        }
    }
}

impl<'m> Lowering<'m> {
    pub(super) fn matmul_f32(&mut self, node: &Node) -> Result<(), Why> {
        let (a, b) = (self.value(node, 0)?, self.value(node, 1)?);
        let (a_dims, b_dims, batch) = paired(self.dims_of(&a)?, self.dims_of(&b)?);
        let [.., rows, inner] = a_dims[..] else { return Err("it multiplies no matrices".into()) };
        let cols = b_dims[b_dims.len() - 1];
        let a = self.matrices(node, &a, a_dims, &batch)?;
        let b = self.matrices(node, &b, b_dims, &batch)?;
        let output = self.program.floats(self.output_dims(node)?, Layout::Plain);
        let count: usize = batch.iter().product();
        self.product_f32(node, (a, b), [count, rows, inner, cols], &output);
        self.set(node, Value::Real(output));
        Ok(())
    }

    /// A product of matrices of 8 bits, or why it is left to floats.
    pub(super) fn matmul_s8(
        &mut self,
        node: &Node,
        (to, requantize): (QParams, Requantize),
    ) -> Result<Result<Act, &'static str>, Why> {
        if !unscaled(node) || node.input(2).is_some() {
            return Ok(Err("it is more than the product of both its operands"));
        }
        let (Some((a, a_q)), Some((b, b_q))) = (self.bytes_of(node, 0)?, self.bytes_of(node, 1)?) else {
            return Ok(Err("one of its operands is not quantized in 8 bits, for all of it alike"));
        };
        let turned = node.op == "Gemm" && int(node, "transB", 0) != 0;
        let (a_dims, b_dims, batch) = paired(a.dims(), b.dims());
        let [.., rows, inner] = a_dims[..] else { return Err("it multiplies no matrices".into()) };
        let last = b_dims.len() - 1;
        let cols = b_dims[last - usize::from(turned)];
        if inner > MAX_INNER {
            return Ok(Err("its sums may leave 32 bits"));
        }
        let is_uneven = |bytes: &Bytes, dims: &[usize]| {
            matches!(bytes, Bytes::Stored(..)) && matrices_among(dims, &batch).1.is_some()
        };
        if is_uneven(&a, &a_dims) || is_uneven(&b, &b_dims) {
            return Ok(Err("its stored matrices are repeated otherwise than all of them in turn"));
        }
        let multiplier = a_q.scale * b_q.scale / to.scale;
        if !multiplier.is_finite() {
            return Err("its scales are too far apart".into());
        }
        let (a, b) = (self.matrices_s8(node, a, a_dims, &batch)?, self.matrices_s8(node, b, b_dims, &batch)?);
        let [count, a_count, rows] = stacked([batch.iter().product(), a.count, rows], b.count);
        if rows.max(cols) > MAX_SIZE {
            return Ok(Err("its sizes are beyond what kernels count to"));
        }
        let output = self.program.bytes(self.output_dims(node)?, Layout::Plain);
        let op = MatMulS8 {
            a: a.span,
            b: b.span,
            output: self.program.span(&output),
            count,
            a_count,
            b_count: b.count,
            rows,
            inner,
            cols,
            turned,
            a_zero_point: a_q.zero_point,
            b_zero_point: b_q.zero_point,
            multiplier,
            requantize,
            scratch: ArenaSpan::default(),
        };
        self.program.push(&node.name, op);
        Ok(Ok(output))
    }

    /// An operand in 8 bits with one scale for all of it.
    fn bytes_of(&self, node: &Node, index: usize) -> Result<Option<(Bytes, QParams)>, Why> {
        Ok(match self.value(node, index)? {
            Value::Dequantized(act, q) => Some((Bytes::Computed(act), q)),
            Value::DequantizedStored(stored) => {
                let dims = stored.tensor.dims.clone();
                self.integers_of(&stored)?.map(|(values, q)| (Bytes::Stored(values, dims), q))
            }
            _ => None,
        })
    }

    fn matrices_s8(&mut self, node: &Node, bytes: Bytes, dims: Vec<usize>, batch: &[usize]) -> Result<Matrices, Why> {
        match bytes {
            Bytes::Computed(act) => self.computed_matrices(node, act, dims, batch),
            Bytes::Stored(values, _) => {
                Ok(Matrices { span: self.builder.data(&values).into(), count: matrices_among(&dims, batch).0 })
            }
        }
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
            y = self.times(&node.name, &y, number(node, "alpha", 1.0));
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
                    Value::Real(if beta == 1.0 { act } else { self.times(&node.name, &act, beta) })
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
        let [count, rows, inner, cols] = sizes;
        let [count, a_count, rows] = stacked([count, a.count, rows], b.count);
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
        if !value.is_constant() {
            let real = self.real(&node.name, value)?;
            return self.computed_matrices(node, real, dims, batch);
        }
        let (count, all) = matrices_among(&dims, batch);
        let (values, _) = self.floats_of(value)?;
        let values = match all {
            Some(all) => self.spread(&values, &dims, &all)?,
            None => values,
        };
        Ok(Matrices { span: self.builder.data(&values).into(), count })
    }

    fn computed_matrices(&mut self, node: &Node, act: Act, dims: Vec<usize>, batch: &[usize]) -> Result<Matrices, Why> {
        let mut act = self.plain(&node.name, act)?;
        let (count, all) = matrices_among(&dims, batch);
        if let Some(all) = all {
            if all.len() > tractlet_core::plan::COPY_DIMS {
                return Err(format!("a product of {} dimensions is not taken", all.len()));
            }
            let strides = repeating(&dims, &all);
            act = self.copied(&node.name, &act, &all.clone(), &strides, all, Layout::Plain);
        }
        Ok(Matrices { span: self.program.span(&act), count })
    }

    pub(super) fn dims_of(&self, value: &Value<'m>) -> Result<Vec<usize>, Why> {
        match value.act() {
            Some(act) => Ok(act.dims.clone()),
            None => self.floats_of(value).map(|(_, dims)| dims),
        }
    }
}

/// Dimensions of both operands of a MatMul as matrices, a vector being one of one row or column, and those before that
/// both are repeated along.
fn paired(mut a: Vec<usize>, mut b: Vec<usize>) -> (Vec<usize>, Vec<usize>, Vec<usize>) {
    if a.len() == 1 {
        a.insert(0, 1);
    }
    if b.len() == 1 {
        b.push(1);
    }
    let before = |dims: &'_ [usize]| dims[..dims.len().saturating_sub(2)].to_vec();
    let (a_batch, b_batch) = (before(&a), before(&b));
    let rank = a_batch.len().max(b_batch.len());
    let dim = |batch: &[usize], i: usize| (i + batch.len()).checked_sub(rank).map_or(1, |i| batch[i]);
    let batch = (0..rank).map(|i| dim(&a_batch, i).max(dim(&b_batch, i))).collect();
    (a, b, batch)
}

/// How many matrices there are of a product and of its first operand, with how many rows each: those that are all multiplied
/// with the same one are one of more rows.
fn stacked([count, a_count, rows]: [usize; 3], b_count: usize) -> [usize; 3] {
    if b_count == 1 && a_count == count { [1, 1, count * rows] } else { [count, a_count, rows] }
}

/// How many matrices of an operand an op goes round; and the dimensions of all of them where they have to be written out, since they are
/// not repeated from the outside alone.
fn matrices_among(dims: &[usize], batch: &[usize]) -> (usize, Option<Vec<usize>>) {
    let (own, matrix) = dims.split_at(dims.len() - 2);
    let first = own.iter().position(|dim| *dim > 1).unwrap_or(own.len());
    if batch.ends_with(&own[first..]) {
        return (own.iter().product(), None);
    }
    (batch.iter().product(), Some(batch.iter().chain(matrix).copied().collect()))
}
