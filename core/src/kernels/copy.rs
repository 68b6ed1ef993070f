//! Moving elements without looking at them.

use crate::plan::{COPY_DIMS, StridedCopy};

/// [`StridedCopy`], the elements as `T`. `None` if a view leaves its slice.
pub fn strided_copy<T: Copy>(x: &[T], y: &mut [T], op: &StridedCopy) -> Option<()> {
    let mut position = [0; COPY_DIMS];
    let [.., row] = op.dims;
    let [outer @ .., _] = op.dims;
    let [.., x_stride] = op.input_strides;
    let [.., y_stride] = op.output_strides;
    loop {
        let x_start = op.input_start + offset(&position, &op.input_strides);
        let y_start = op.output_start + offset(&position, &op.output_strides);
        copy_row(x.get(x_start..)?, x_stride, y.get_mut(y_start..)?, y_stride, row)?;
        // Counts up like an odometer whose last wheel is the row just copied.
        let mut dim = outer.len();
        loop {
            let Some(next) = dim.checked_sub(1) else { return Some(()) };
            dim = next;
            position[dim] += 1;
            if position[dim] < outer[dim] {
                break;
            }
            position[dim] = 0;
        }
    }
}

/// [`Select`](crate::plan::Select), the elements as `T`: each of the first three repeated along `y`.
pub fn select<T: Copy>(condition: &[u8], a: &[T], b: &[T], y: &mut [T]) {
    let choices = condition.iter().cycle().zip(a.iter().cycle()).zip(b.iter().cycle());
    for (y, ((condition, a), b)) in y.iter_mut().zip(choices) {
        *y = if *condition != 0 { *a } else { *b };
    }
}

fn offset(position: &[usize; COPY_DIMS], strides: &[usize; COPY_DIMS]) -> usize {
    position.iter().zip(strides).map(|(position, stride)| position * stride).sum()
}

#[inline]
fn copy_row<T: Copy>(x: &[T], x_stride: usize, y: &mut [T], y_stride: usize, len: usize) -> Option<()> {
    match (x_stride, y_stride) {
        (1, 1) => y.get_mut(..len)?.copy_from_slice(x.get(..len)?),
        (0, 1) => y.get_mut(..len)?.fill(*x.first()?),
        (_, 1) => {
            let x = x.iter().step_by(x_stride);
            y.get_mut(..len)?.iter_mut().zip(x).for_each(|(y, x)| *y = *x);
        }
        (1, 2..) => {
            let y = y.iter_mut().step_by(y_stride);
            y.zip(x.get(..len)?).for_each(|(y, x)| *y = *x);
        }
        _ => {
            for index in 0..len {
                *y.get_mut(index * y_stride)? = *x.get(index * x_stride)?;
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::plan::Operand;

    fn op(dims: [usize; 6], x: (usize, [usize; 6]), y: (usize, [usize; 6])) -> StridedCopy {
        StridedCopy {
            input: Operand::default(),
            output: Operand::default(),
            element_bytes: 1,
            dims,
            input_start: x.0,
            input_strides: x.1,
            output_start: y.0,
            output_strides: y.1,
        }
    }

    #[test]
    fn transposes_in_six_dimensions() {
        let dims = [2, 3, 1, 2, 4, 3];
        let x: Vec<u8> = (0..144).collect();
        let x_strides = [72, 24, 24, 12, 3, 1];
        let y_strides = [1, 2, 6, 6, 12, 48];
        let mut y = vec![0; 144];
        strided_copy(&x, &mut y, &op(dims, (0, x_strides), (0, y_strides))).unwrap();
        for (index, &value) in x.iter().enumerate() {
            let at: usize = (0..6).map(|d| index / x_strides[d] % dims[d] * y_strides[d]).sum();
            assert_eq!(y[at], value);
        }
    }

    #[test]
    fn slices_repeats_and_pads() {
        let x = [1u32, 2, 3, 4, 5, 6];
        let mut y = [0; 8];
        // Rows of three: the last two of each, into the inside of a row of four.
        let slice = op([1, 1, 1, 1, 2, 2], (1, [0, 0, 0, 0, 3, 1]), (1, [0, 0, 0, 0, 4, 1]));
        strided_copy(&x, &mut y, &slice).unwrap();
        assert_eq!(y, [0, 2, 3, 0, 0, 5, 6, 0]);
        // Nearest resize: each element twice.
        let repeat = op([1, 1, 1, 1, 4, 2], (0, [0, 0, 0, 0, 1, 0]), (0, [0, 0, 0, 0, 2, 1]));
        strided_copy(&x, &mut y, &repeat).unwrap();
        assert_eq!(y, [1, 1, 2, 2, 3, 3, 4, 4]);
        // Every second element, to every third.
        let steps = op([1, 1, 1, 1, 1, 3], (1, [0, 0, 0, 0, 0, 2]), (1, [0, 0, 0, 0, 0, 3]));
        strided_copy(&x, &mut y, &steps).unwrap();
        assert_eq!(y, [1, 2, 2, 2, 4, 3, 4, 6]);
    }

    #[test]
    fn each_part_of_a_choice_is_repeated() {
        let mut y = [0u32; 6];
        select(&[1, 0, 255], &[1, 2, 3, 4, 5, 6], &[7], &mut y);
        assert_eq!(y, [1, 7, 3, 4, 7, 6]);
    }

    #[test]
    fn a_view_outside_its_slice_is_refused() {
        let outside = op([1, 1, 1, 1, 1, 3], (4, [0, 0, 0, 0, 0, 1]), (0, [0, 0, 0, 0, 0, 1]));
        assert_eq!(strided_copy(&[0u8; 6], &mut [0; 3], &outside), None);
    }
}
