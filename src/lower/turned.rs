//! Matrices of integers that a copy transposes right before they are the second of a product: the op takes them as they lie.

use tractlet_core::plan::{COPY_DIMS, MatMulS8, Op, Operand, Section, StridedCopy};

use super::edges::row_major;
use super::program::{Program, TensorId};

impl Program {
    /// Has products read columns that lie in one piece where a copy would take them apart, which then copies whole columns, or
    /// nothing.
    pub(super) fn turn_matrices(&mut self) {
        let readers = self.only_readers();
        let mut left_out = vec![false; self.steps.len()];
        for product in 0..self.steps.len() {
            let Op::MatMulS8(op) = self.steps[product].op else { continue };
            let is_own = op.b.section == Section::Arena && readers.get(&op.b.offset) == Some(&product);
            let Some(writer) = self.only_writer(op.b.offset).filter(|_| is_own) else { continue };
            let Op::StridedCopy(copy) = self.steps[writer].op else { continue };
            let Some(copy) = turned(&copy, &op) else { continue };
            let mut op = MatMulS8 { turned: !op.turned, ..op };
            if moves_nothing(&copy) {
                op.b = copy.input;
                left_out[writer] = true;
            }
            self.steps[writer].op = copy.into();
            self.steps[product].op = op.into();
        }
        let mut left_out = left_out.into_iter();
        self.steps.retain(|_| left_out.next() != Some(true));
    }

    /// The step that writes a tensor, where one alone does.
    fn only_writer(&self, tensor: TensorId) -> Option<usize> {
        let writes = |op: &Op| op.output().section == Section::Arena && op.output().offset == tensor;
        let mut writers = self.steps.iter().enumerate().filter(|(_, step)| writes(&step.op)).map(|(index, _)| index);
        writers.next().filter(|_| writers.next().is_none())
    }
}

/// The copy that leaves rows of the matrices of a product where it makes columns, or the other way round, if they lie better so.
fn turned(copy: &StridedCopy, product: &MatMulS8) -> Option<StridedCopy> {
    const LAST: usize = COPY_DIMS - 1;
    let Operand { len, .. } = product.b;
    let matrix = if product.turned { [product.cols, product.inner] } else { [product.inner, product.cols] };
    let is_whole = copy.element_bytes == 1
        && copy.output_start == 0
        && copy.dims.iter().product::<usize>() == len
        && is_dense(&copy.dims, &copy.output_strides);
    let [.., outer, inner] = copy.dims;
    let lies_turned = copy.input_strides[LAST - 1] == 1 && copy.input_strides[LAST] > 1;
    if !is_whole || [outer, inner] != matrix || matrix.contains(&1) || !lies_turned {
        return None;
    }
    let mut copy = *copy;
    copy.dims.swap(LAST - 1, LAST);
    copy.input_strides.swap(LAST - 1, LAST);
    copy.output_strides.copy_from_slice(&row_major(&copy.dims));
    Some(copy)
}

/// Whether a copy writes what it reads.
fn moves_nothing(copy: &StridedCopy) -> bool {
    copy.input_start == 0 && copy.input.len == copy.output.len && is_dense(&copy.dims, &copy.input_strides)
}

/// Whether elements lie one after the other; what there is one of lies anywhere.
fn is_dense(dims: &[usize], strides: &[usize]) -> bool {
    let mut expected = row_major(dims).into_iter().zip(strides).zip(dims);
    expected.all(|((expected, stride), dim)| *dim == 1 || expected == *stride)
}

#[cfg(test)]
mod tests {
    use tractlet_core::plan::Op;

    use crate::lower::golden;

    /// Copies of a golden model, and whether each of its products takes its second matrices the other way round.
    fn copies(name: &str) -> (usize, Vec<bool>) {
        let steps = golden(name).program.steps;
        let turned = steps.iter().filter_map(|step| match &step.op {
            Op::MatMulS8(op) => Some(op.turned),
            _ => None,
        });
        (steps.iter().filter(|step| matches!(step.op, Op::StridedCopy(_))).count(), turned.collect())
    }

    #[test]
    fn columns_are_read_where_they_lie() {
        assert_eq!(copies("matmul_int8_columns"), (0, vec![true]));
        assert_eq!(copies("matmul_int8_columns_requantized"), (0, vec![true]));
        // Heads have to be taken apart all the same, in runs of their values.
        assert_eq!(copies("matmul_int8_columns_of_heads"), (2, vec![true]));
        assert_eq!(copies("matmul_int8_rows_of_heads").1, [false]);
        assert_eq!(copies("matmul_int8_u8"), (0, vec![false]));
        assert_eq!(copies("attention_int8_i8").1, [true, false]);
    }
}
