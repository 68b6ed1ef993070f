//! Functions and comparisons of whole numbers, as indices, lengths and masks need them.

use super::{Comparison, Operation, operands};
use crate::exec::memory::{Input, Memory, Output, cast, cast_mut};
use crate::isa::Isa;
use crate::plan::rules::{check_repeats, check_tensor, require};
use crate::plan::wire::{codes, record};
use crate::plan::{DType, Fault, FieldFault, Operand, Verifier};

record! {
    /// `function(a, b)`, of which the lowest bits stay; `b` is repeated along `a`.
    pub struct BinaryInt {
        /// Of `dtype`, as long as the output.
        a: Operand,
        /// Of `dtype`, of a length that divides that of `a`.
        b: Operand,
        /// Of `dtype`.
        output: Operand,
        /// i8, i32, i64, or u8, which is held less 128.
        dtype: DType,
        /// What is computed.
        function: Whole,
    }
}

impl Operation for BinaryInt {
    operands!(a, b => output);

    fn dtype(&self) -> DType {
        self.dtype
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        let bytes = self.dtype.size_bytes();
        let count = self.output.len / bytes;
        check_whole(self.dtype)?;
        check_tensor(plan, "a", self.a, &[count], bytes)?;
        check_tensor(plan, "output", self.output, &[count], bytes)?;
        check_repeats(plan, "b", self.b, bytes, count)
    }

    fn run<I: Input, O: Output>(&self, _: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output) = memory.split(self.output)?;
        let (a, b) = (rest.operand(self.a)?, rest.operand(self.b)?);
        let of = |a, b| self.function.of(a, b);
        match self.dtype {
            DType::I8 => each::<i8, i8>(a, b, output, i64::from, |a, b| of(a, b) as i8),
            DType::U8 => each::<i8, i8>(a, b, output, unheld, |a, b| of(a, b).wrapping_sub(128) as i8),
            DType::I32 => each::<i32, i32>(a, b, output, i64::from, |a, b| of(a, b) as i32),
            DType::I64 => each::<i64, i64>(a, b, output, i64::from, of),
            _ => None,
        }
    }
}

record! {
    /// 1 where `a` and `b` compare so, else 0; `b` is repeated along `a`.
    pub struct CompareInt {
        /// Of `dtype`.
        a: Operand,
        /// Of `dtype`, of a length that divides that of `a`.
        b: Operand,
        /// bool, as many as `a` has elements.
        output: Operand,
        /// i8, i32, i64, or u8, which is held less 128.
        dtype: DType,
        /// What is asked.
        comparison: Comparison,
    }
}

impl Operation for CompareInt {
    operands!(a, b => output);

    fn dtype(&self) -> DType {
        DType::Bool
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        let bytes = self.dtype.size_bytes();
        check_whole(self.dtype)?;
        check_tensor(plan, "a", self.a, &[self.output.len], bytes)?;
        check_repeats(plan, "b", self.b, bytes, self.output.len)
    }

    fn run<I: Input, O: Output>(&self, _: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output) = memory.split(self.output)?;
        let (a, b) = (rest.operand(self.a)?, rest.operand(self.b)?);
        let of = |a: i64, b: i64| {
            u8::from(match self.comparison {
                Comparison::Equal => a == b,
                Comparison::NotEqual => a != b,
                Comparison::Less => a < b,
                Comparison::LessOrEqual => a <= b,
                Comparison::Greater => a > b,
                Comparison::GreaterOrEqual => a >= b,
            })
        };
        match self.dtype {
            DType::I8 => each::<i8, u8>(a, b, output, i64::from, of),
            DType::U8 => each::<i8, u8>(a, b, output, unheld, of),
            DType::I32 => each::<i32, u8>(a, b, output, i64::from, of),
            DType::I64 => each::<i64, u8>(a, b, output, i64::from, of),
            _ => None,
        }
    }
}

fn check_whole(dtype: DType) -> Result<(), FieldFault> {
    let whole = matches!(dtype, DType::I8 | DType::U8 | DType::I32 | DType::I64);
    require(whole, "dtype", Fault::Unsupported)
}

/// A u8 of what is held of it.
fn unheld(x: i8) -> i64 {
    i64::from(x) + 128
}

fn each<A: bytemuck::Pod, B: bytemuck::Pod>(
    a: &[u8],
    b: &[u8],
    output: &mut [u8],
    wide: impl Fn(A) -> i64,
    of: impl Fn(i64, i64) -> B,
) -> Option<()> {
    let (a, b, output): (&[A], &[A], &mut [B]) = (cast(a)?, cast(b)?, cast_mut(output)?);
    let pairs = a.iter().zip(b.iter().cycle());
    output.iter_mut().zip(pairs).for_each(|(y, (a, b))| *y = of(wide(*a), wide(*b)));
    Some(())
}

codes! {
    /// A function of two whole numbers.
    Whole {
        /// `a + b`
        Add = 0,
        /// `a - b`
        Sub = 1,
        /// `a * b`
        Mul = 2,
        /// `a / b` towards 0; 0 where `b` is.
        Div = 3,
        /// What is left of `a / b` towards negative infinity: of the sign of `b`. 0 where `b` is.
        Modulo = 4,
        /// What is left of `a / b` towards 0: of the sign of `a`. 0 where `b` is.
        Remainder = 5,
        /// `a^b`; of a negative `b` towards 0, and 0 where `a` is.
        Power = 6,
        /// The smaller one.
        Min = 7,
        /// The larger one.
        Max = 8,
        /// The bits of both.
        And = 9,
        /// The bits of either.
        Or = 10,
        /// The bits of one and not the other.
        Xor = 11,
    }
}

impl Whole {
    /// In 64 bits, of which the lowest are those that a narrower type would have.
    pub fn of(self, a: i64, b: i64) -> i64 {
        match self {
            Whole::Add => a.wrapping_add(b),
            Whole::Sub => a.wrapping_sub(b),
            Whole::Mul => a.wrapping_mul(b),
            Whole::Div | Whole::Modulo | Whole::Remainder if b == 0 => 0,
            Whole::Div => a.wrapping_div(b),
            Whole::Modulo => {
                let left = a.wrapping_rem(b);
                if left != 0 && (left < 0) != (b < 0) { left + b } else { left }
            }
            Whole::Remainder => a.wrapping_rem(b),
            Whole::Power => power(a, b),
            Whole::Min => a.min(b),
            Whole::Max => a.max(b),
            Whole::And => a & b,
            Whole::Or => a | b,
            Whole::Xor => a ^ b,
        }
    }
}

/// By squaring: an exponent has up to 63 bits.
fn power(a: i64, b: i64) -> i64 {
    let Ok(mut left) = u64::try_from(b) else {
        return match a {
            1 => 1,
            -1 => 1 - 2 * (b & 1),
            _ => 0,
        };
    };
    let (mut result, mut square) = (1i64, a);
    while left > 0 {
        if left & 1 == 1 {
            result = result.wrapping_mul(square);
        }
        square = square.wrapping_mul(square);
        left >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_those_of_whole_numbers_and_never_a_panic() {
        let cases = [
            (Whole::Div, -7, 2, -3),
            (Whole::Modulo, -7, 3, 2),
            (Whole::Modulo, 7, -3, -2),
            (Whole::Modulo, 6, -3, 0),
            (Whole::Remainder, -7, 3, -1),
            (Whole::Power, -3, 3, -27),
            (Whole::Power, 2, -1, 0),
            (Whole::Power, -1, -3, -1),
            (Whole::Power, 0, 0, 1),
        ];
        for (function, a, b, expected) in cases {
            assert_eq!(function.of(a, b), expected, "{function:?} {a} {b}");
        }
        let ends = [i64::MIN, -1, 0, 1, i64::MAX];
        for code in 0..=11u32 {
            let word = code.to_le_bytes();
            let function = crate::plan::wire::decode::<Whole>(&word).unwrap();
            for (a, b) in ends.into_iter().flat_map(|a| ends.map(|b| (a, b))) {
                let (wide, narrow) = (function.of(a, b), function.of(i64::from(a as i8), i64::from(b as i8)));
                if matches!(function, Whole::Add | Whole::Sub | Whole::Mul) {
                    assert_eq!(wide as i8, narrow as i8, "{function:?} {a} {b}");
                }
            }
        }
    }

    #[test]
    fn types_are_held_as_they_are_and_uint8_less_128() {
        let mut y = [0u8; 3];
        let of = |a: i64, b: i64| Whole::Sub.of(a, b).wrapping_sub(128) as i8;
        // 5 - 7, 0 - 7 and 255 - 7 of uint8.
        let held = [5u8, 0, 255].map(|x| x ^ 128);
        each::<i8, i8>(&held, &[7 ^ 128], &mut y, unheld, of).unwrap();
        assert_eq!(y.map(|y| y ^ 128), [254, 249, 248]);
        let mut y = [0u8; 2];
        each::<i8, u8>(&held[1..], &[7 ^ 128], &mut y, unheld, |a, b| u8::from(a < b)).unwrap();
        assert_eq!(y, [1, 0]);
    }
}
