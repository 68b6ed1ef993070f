//! Table look-up: any function of a quantized value.

use super::per_isa::per_isa;

per_isa! {
    /// `y[i] = table[y[i] + 128]`.
    pub fn lut_s8(y: &mut [i8], table: &[i8; 256]) {
        for y in y {
            *y = table[usize::from((*y).cast_unsigned() ^ 0x80)];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;

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
}
