//! Table look-up: any function of a quantized value.

use crate::isa::Isa;

use super::simd::look_up;

/// `y[i] = table[y[i] + 128]`.
pub fn lut_s8(isa: Isa, y: &mut [i8], table: &[i8; 256]) {
    let done = look_up(isa, y, table);
    for y in &mut y[done..] {
        *y = table[usize::from((*y).cast_unsigned() ^ 0x80)];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_values() {
        let table = core::array::from_fn(|index| (127 - index as i32) as i8);
        for isa in Isa::ALL {
            let mut y: [i8; 256] = core::array::from_fn(|index| index as u8 as i8);
            lut_s8(isa, &mut y, &table);
            for (index, y) in y.into_iter().enumerate() {
                assert_eq!(i32::from(y), -1 - i32::from(index as u8 as i8));
            }
        }
    }

    proptest! {
        #[test]
        fn every_isa_finds_what_the_definition_says(table: [[i8; 32]; 8], len in 0_usize..700) {
            let table: [i8; 256] = table.concat().try_into().expect("as many");
            let x: Vec<i8> = (0..len).map(|at| (at * 89 % 256) as u8 as i8).collect();
            let expected: Vec<i8> = x.iter().map(|&x| table[(i32::from(x) + 128) as usize]).collect();
            for isa in Isa::ALL {
                let mut y = x.clone();
                lut_s8(isa, &mut y, &table);
                prop_assert_eq!(&y, &expected, "{}", isa);
            }
        }
    }
}
