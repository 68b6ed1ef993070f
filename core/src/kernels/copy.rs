//! Moving elements without looking at them.

use crate::plan::{COPY_DIMS, StridedCopy};

use super::simd::{columns, columns_of_words};

/// [`StridedCopy`], the elements as `T`. `None` if a view leaves its slice.
pub fn strided_copy<T: Element>(x: &[T], y: &mut [T], op: &StridedCopy) -> Option<()> {
    let [outer @ .., middle, inner] = walk(op);
    let starts = [op.input_start, op.output_start];
    each(outer, starts, &mut |[x_at, y_at]| copy_plane(x.get(x_at..)?, y.get_mut(y_at..)?, middle, inner))
}

/// Where all elements of some dimensions are.
fn each<const N: usize>(
    wheels: [Wheel; N],
    starts: [usize; 2],
    then: &mut dyn FnMut([usize; 2]) -> Option<()>,
) -> Option<()> {
    let mut position = [0; N];
    let [mut x_at, mut y_at] = starts;
    loop {
        then([x_at, y_at])?;
        // Counts up like an odometer.
        let mut wheel = N;
        loop {
            let Some(next) = wheel.checked_sub(1) else { return Some(()) };
            wheel = next;
            let Wheel { len, x_step, y_step } = wheels[wheel];
            position[wheel] += 1;
            if position[wheel] < len {
                (x_at, y_at) = (x_at + x_step, y_at + y_step);
                break;
            }
            position[wheel] = 0;
            (x_at, y_at) = (x_at - (len - 1) * x_step, y_at - (len - 1) * y_step);
        }
    }
}

/// A dimension of a copy: its elements, and how far apart they are in either tensor.
#[derive(Clone, Copy)]
struct Wheel {
    len: usize,
    x_step: usize,
    y_step: usize,
}

/// The dimensions in the order in which they are walked: what lies together in both tensors innermost. Where no dimension does, the
/// one that lies together in the output is the innermost, and the one that does in the input is next to it.
fn walk(op: &StridedCopy) -> [Wheel; COPY_DIMS] {
    let wheel = |d: usize| Wheel { len: op.dims[d], x_step: op.input_strides[d], y_step: op.output_strides[d] };
    let mut wheels: [Wheel; COPY_DIMS] = core::array::from_fn(wheel);
    // Those that go on where the next one ends are one with it.
    for at in (1..COPY_DIMS).rev() {
        let [outer, inner] = [wheels[at - 1], wheels[at]];
        if outer.len == 1 || inner.len == 1 || outer.goes_on(inner) {
            let steps = if inner.len == 1 { outer } else { inner };
            wheels[at] = Wheel { len: outer.len * inner.len, ..steps };
            wheels[at - 1] = Wheel::ONE;
        }
    }
    let last = |is: &dyn Fn(&Wheel) -> bool| wheels.iter().rposition(|wheel| wheel.len > 1 && is(wheel));
    let inner = last(&|wheel| (wheel.x_step, wheel.y_step) == (1, 1)).or_else(|| last(&|wheel| wheel.y_step == 1));
    if let Some(inner) = inner {
        wheels[inner..].rotate_left(1);
    }
    let [rest @ .., _] = &mut wheels;
    if let Some(middle) = rest.iter().rposition(|wheel| wheel.len > 1 && wheel.x_step == 1) {
        rest[middle..].rotate_left(1);
    }
    wheels
}

impl Wheel {
    const ONE: Wheel = Wheel { len: 1, x_step: 0, y_step: 0 };

    fn goes_on(self, inner: Wheel) -> bool {
        (self.x_step, self.y_step) == (inner.x_step * inner.len, inner.y_step * inner.len)
    }
}

/// Elements that are copied: bytes, words and double words.
pub trait Element: Copy {
    /// Rows to columns, unless it is not worth it.
    const TURN: Option<Turn<Self>>;
}

/// Rows to columns.
type Turn<T> = fn([&[T; LENGTH]; ROWS]) -> [[T; ROWS]; LENGTH];

impl Element for u8 {
    const TURN: Option<Turn<u8>> = Some(|rows| bytemuck::cast(columns::<ROWS>(rows.map(|row| bytemuck::cast(*row)))));
}

impl Element for u32 {
    const TURN: Option<Turn<u32>> = Some(columns_of_words);
}

impl Element for u64 {
    const TURN: Option<Turn<u64>> = None;
}

/// What is turned at a time: so many elements of so many rows.
const LENGTH: usize = 16;
const ROWS: usize = 8;
/// Bytes of a line of a cache.
const LINE: usize = 64;
/// Elements of a row that become a column before the next row's do, so that the lines that these are in stay near.
const STRIP: usize = 128;

/// Copies two dimensions, the second row by row; but where the first one lies together in the input, these rows are columns of it:
/// they are turned, and what is left of them goes along the first dimension.
#[inline(never)]
fn copy_plane<T: Element>(x: &[T], y: &mut [T], middle: Wheel, inner: Wheel) -> Option<()> {
    if (inner.x_step, inner.y_step) == (1, 1) && inner.len * size_of::<T>() < LINE && middle.len > 1 {
        match inner.len {
            ..4 => {}
            4..8 => return copy_rows::<T, 4>(x, y, middle, inner.len),
            8..16 => return copy_rows::<T, 8>(x, y, middle, inner.len),
            16..32 => return copy_rows::<T, 16>(x, y, middle, inner.len),
            _ => return copy_rows::<T, 32>(x, y, middle, inner.len),
        }
    }
    let turns = middle.len > 1 && middle.x_step == 1 && inner.y_step == 1 && inner.x_step != 1;
    let length = if turns { middle.len / LENGTH * LENGTH } else { 0 };
    let mut rows = 0;
    if let Some(turn) = T::TURN {
        rows = inner.len / ROWS * ROWS;
        for at in (0..length).step_by(LENGTH) {
            for row in (0..rows).step_by(ROWS) {
                let x = x.get(at + row * inner.x_step..)?;
                let mut lines = [x.first_chunk()?; ROWS];
                for (line, to) in lines.iter_mut().enumerate() {
                    *to = x.get(line * inner.x_step..)?.first_chunk()?;
                }
                let y = y.get_mut(at * middle.y_step + row..)?;
                for (column, from) in turn(lines).iter().enumerate() {
                    *y.get_mut(column * middle.y_step..)?.first_chunk_mut()? = *from;
                }
            }
        }
    }
    for at in (0..length).step_by(STRIP) {
        for row in rows..inner.len {
            let (x, y) = (x.get(at + row * inner.x_step..)?, y.get_mut(at * middle.y_step + row..)?);
            let y = y.iter_mut().step_by(middle.y_step).zip(x.get(..STRIP.min(length - at))?);
            y.for_each(|(y, x)| *y = *x);
        }
    }
    for at in length..middle.len {
        let (x, y) = (x.get(at * middle.x_step..)?, y.get_mut(at * middle.y_step..)?);
        copy_row(x, inner.x_step, y, inner.y_step, inner.len)?;
    }
    Some(())
}

/// Short rows, of `N` elements or more, so many at a time, some of them again where the last are fewer: a function that copies any number
/// takes longer to be called than such a row.
fn copy_rows<T: Element, const N: usize>(x: &[T], y: &mut [T], rows: Wheel, len: usize) -> Option<()> {
    for row in 0..rows.len {
        let x = x.get(row * rows.x_step..)?.get(..len)?;
        let y = y.get_mut(row * rows.y_step..)?.get_mut(..len)?;
        for (y, x) in y.as_chunks_mut::<N>().0.iter_mut().zip(x.as_chunks::<N>().0) {
            *y = *x;
        }
        *y.last_chunk_mut::<N>()? = *x.last_chunk()?;
    }
    Some(())
}

/// [`Select`](crate::plan::Select), the elements as `T`: each of the first three repeated along `y`.
pub fn select<T: Copy>(condition: &[u8], a: &[T], b: &[T], y: &mut [T]) {
    let choices = condition.iter().cycle().zip(a.iter().cycle()).zip(b.iter().cycle());
    for (y, ((condition, a), b)) in y.iter_mut().zip(choices) {
        *y = if *condition != 0 { *a } else { *b };
    }
}

#[inline]
fn copy_row<T: Copy>(x: &[T], x_step: usize, y: &mut [T], y_step: usize, len: usize) -> Option<()> {
    x.get((len - 1) * x_step)?;
    y.get((len - 1) * y_step)?;
    match (x_step, y_step) {
        (1, 1) => y.get_mut(..len)?.copy_from_slice(x.get(..len)?),
        (0, 1) => y.get_mut(..len)?.fill(*x.first()?),
        (0, _) => y.iter_mut().step_by(y_step.max(1)).take(len).for_each(|y| *y = x[0]),
        _ => y.iter_mut().step_by(y_step.max(1)).zip(x.iter().step_by(x_step)).take(len).for_each(|(y, x)| *y = *x),
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
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

    proptest! {
        /// In every order, with gaps, dimensions of 1 and such as are turned: what an odometer over all six does.
        #[test]
        fn any_order_is_what_the_definition_says(
            sizes in [1usize..4, 1usize..3, 1usize..40, 1usize..40, 1usize..3, 1usize..3],
            order in Just([0, 1, 2, 3, 4, 5]).prop_shuffle(),
            gap in 0usize..3,
        ) {
            let strides = |order: [usize; COPY_DIMS], gap: usize| {
                let (mut strides, mut next) = ([0; COPY_DIMS], 1);
                for d in order.into_iter().rev() {
                    strides[d] = next;
                    next = next * sizes[d] + gap;
                }
                strides
            };
            let op = op(sizes, (gap, strides(order, 0)), (0, strides([0, 1, 2, 3, 4, 5], gap)));
            let last = |start: usize, strides: &[usize; 6]| (0..6).map(|d| (sizes[d] - 1) * strides[d]).sum::<usize>() + start;
            let x: Vec<u32> = (0..=last(op.input_start, &op.input_strides) as u32).collect();
            let mut expected = vec![u32::MAX; last(0, &op.output_strides) + 1];
            let mut y = expected.clone();
            for index in 0..sizes.iter().product() {
                let mut rest = index;
                let at = sizes.map(|size| { let at = rest % size; rest /= size; at });
                let place = |strides: [usize; 6]| (0..6).map(|d| at[d] * strides[d]).sum::<usize>();
                expected[place(op.output_strides)] = x[op.input_start + place(op.input_strides)];
            }
            strided_copy(&x, &mut y, &op).unwrap();
            prop_assert_eq!(&y, &expected);
            // Of bytes and of double words, by what is left of the words.
            let x8: Vec<u8> = x.iter().map(|&x| x as u8).collect();
            let mut y8 = vec![u8::MAX; y.len()];
            strided_copy(&x8, &mut y8, &op).unwrap();
            prop_assert!(y8.iter().zip(&y).all(|(&y8, &y)| y8 == y as u8));
            let x64: Vec<u64> = x.iter().map(|&x| x.into()).collect();
            let mut y64 = vec![u64::from(u32::MAX); y.len()];
            strided_copy(&x64, &mut y64, &op).unwrap();
            prop_assert!(y64.iter().zip(&y).all(|(&y64, &y)| y64 == y.into()));
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
