//! What each output of a convolution or matrix product is computed from: rows of its input, im2col.

use crate::layer::Matrix;
use crate::onnx::proto::NodeProto;

/// Where a node's outputs find their inputs.
#[derive(Clone, Debug)]
pub struct Patches {
    /// Whether the window is laid out around each input, and not around each output.
    transposed: bool,
    /// Input channels of one group.
    channels: usize,
    /// Of the window, by spatial dimension; none for a matrix product.
    kernel: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    /// At the beginning of each dimension; what the end needs follows from the output's size.
    pads: Vec<usize>,
    input: Vec<usize>,
    output: Vec<usize>,
}

impl Patches {
    /// For a node with these weights, an input and an output of these shapes. None where they do not fit, which
    /// an engine that runs the node has excluded.
    pub fn of(node: &NodeProto, matrix: &Matrix, input: &[usize], output: &[usize]) -> Option<Patches> {
        let transposed = node.op() == "ConvTranspose";
        if node.op() != "Conv" && !transposed {
            let fits = input.last() == Some(&matrix.cols) && output.last() == Some(&matrix.rows);
            let rows = input.iter().product::<usize>() / matrix.cols.max(1);
            let none = Vec::new;
            return fits.then(|| Patches {
                transposed,
                channels: matrix.cols,
                kernel: none(),
                strides: none(),
                dilations: none(),
                pads: none(),
                input: vec![rows],
                output: vec![rows],
            });
        }
        // One image: calibration samples come one by one.
        let (&[1, in_channels, ..], &[1, ..]) = (input, output) else { return None };
        let (input, output) = (input[2..].to_vec(), output[2..].to_vec());
        let kernel = matrix.dims.get(2..)?.to_vec();
        let rank = kernel.len();
        let sizes = |name: &str| match node.ints(name) {
            Some(values) => values.iter().map(|&v| usize::try_from(v).ok()).collect::<Option<Vec<_>>>(),
            None => Some(vec![1; rank]),
        };
        let (strides, dilations) = (sizes("strides")?, sizes("dilations")?);
        if [strides.len(), dilations.len(), input.len(), output.len()] != [rank; 4] {
            return None;
        }
        let auto = node.text("auto_pad").filter(|auto| !auto.is_empty() && *auto != b"NOTSET");
        // ONNX gives the odd one to the end for SAME_UPPER; a transposed convolution's own default is the beginning.
        let lower = if transposed { auto != Some(b"SAME_UPPER") } else { auto == Some(b"SAME_LOWER") };
        let pads = match (auto, node.ints("pads")) {
            _ if transposed
                && (node.ints("output_shape").is_some() || auto.is_some_and(|a| a.starts_with(b"SAME"))) =>
            {
                let more = node.ints("output_padding").unwrap_or_default();
                let pad = |i: usize| {
                    let more = more.get(i).map_or(Some(0), |&more| usize::try_from(more).ok())?;
                    let reached = input[i].saturating_sub(1) * strides[i] + more + (kernel[i] - 1) * dilations[i] + 1;
                    let all = reached.saturating_sub(output[i]);
                    Some(if lower { all.div_ceil(2) } else { all / 2 })
                };
                (0..rank).map(pad).collect::<Option<_>>()?
            }
            (None, Some(pads)) => {
                pads.iter().take(rank).map(|&pad| usize::try_from(pad).ok()).collect::<Option<_>>()?
            }
            (Some(auto), _) if auto.starts_with(b"SAME") => (0..rank)
                .map(|i| {
                    let needed = (output[i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1;
                    let all = needed.saturating_sub(input[i]);
                    if lower { all.div_ceil(2) } else { all / 2 }
                })
                .collect(),
            _ => vec![0; rank],
        };
        let channels = *matrix.dims.get(usize::from(!transposed))?;
        (channels * matrix.groups == in_channels).then_some(Patches {
            transposed,
            channels,
            kernel,
            strides,
            dilations,
            pads,
            input,
            output,
        })
    }

    /// Outputs of one channel.
    pub fn positions(&self) -> usize {
        self.output.iter().product()
    }

    /// The inputs of one output position of a group, in the order of the weights.
    pub fn row(&self, values: &[f32], group: usize, position: usize, row: &mut [f32]) {
        if self.kernel.is_empty() {
            row.copy_from_slice(&values[position * self.channels..(position + 1) * self.channels]);
            return;
        }
        let plane: usize = self.input.iter().product();
        let taps: usize = self.kernel.iter().product();
        for tap in 0..taps {
            let place = self.place(position, tap);
            for channel in 0..self.channels {
                let base = (group * self.channels + channel) * plane;
                row[channel * taps + tap] = place.map_or(0.0, |place| values[base + place]);
            }
        }
    }

    /// The output of one channel at a position.
    pub fn output(&self, values: &[f32], channel: usize, position: usize, channels: usize) -> f32 {
        match self.kernel.is_empty() {
            true => values[position * channels + channel],
            false => values[channel * self.positions() + position],
        }
    }

    /// Where a tap of the window lies in the input, unless in the padding.
    fn place(&self, mut position: usize, mut tap: usize) -> Option<usize> {
        let (mut place, mut stride) = (0, 1);
        for axis in (0..self.kernel.len()).rev() {
            let (out, k) = (position % self.output[axis], tap % self.kernel[axis]);
            position /= self.output[axis];
            tap /= self.kernel[axis];
            let at = if self.transposed {
                let at = (out + self.pads[axis]).checked_sub(k * self.dilations[axis])?;
                at.is_multiple_of(self.strides[axis]).then(|| at / self.strides[axis])?
            } else {
                (out * self.strides[axis] + k * self.dilations[axis]).checked_sub(self.pads[axis])?
            };
            if at >= self.input[axis] {
                return None;
            }
            place += at * stride;
            stride *= self.input[axis];
        }
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(dims: &[usize], groups: usize) -> Matrix {
        let (rows, cols) = (dims[0], dims[1..].iter().product());
        let values = (0..rows * cols).map(|i| (i % 7) as f32 - 3.0).collect();
        Matrix { rows, cols, values, bias: None, dims: dims.to_vec(), axis: 0, groups }
    }

    /// ONNX's definition of Conv, one sum at a time.
    #[test]
    fn rows_times_weights_are_the_convolution() {
        let matrix = matrix(&[4, 2, 3, 2], 2);
        let mut node = NodeProto::new("Conv", "c".into(), vec![], vec!["y".into()]);
        node.set_ints("strides", vec![2, 1]);
        node.set_ints("dilations", vec![1, 2]);
        node.set_ints("pads", vec![1, 0, 1, 1]);
        let (input, output) = ([1, 4, 5, 6], [1, 4, 3, 5]);
        let patches = Patches::of(&node, &matrix, &input, &output).unwrap();
        let values: Vec<f32> = (0..4 * 5 * 6).map(|i| (i * 37 % 23) as f32 - 11.0).collect();
        let mut row = vec![0.0; matrix.cols];
        for out in 0..4 {
            for (y, x) in (0..3).flat_map(|y| (0..5).map(move |x| (y, x))) {
                let mut sum = 0.0;
                for (c, ky, kx) in (0..2).flat_map(|c| (0..3).flat_map(move |ky| (0..2).map(move |kx| (c, ky, kx)))) {
                    let (iy, ix) = ((2 * y + ky) as i64 - 1, (x + 2 * kx) as i64);
                    if (0..5).contains(&iy) && (0..6).contains(&ix) {
                        let channel = out / 2 * 2 + c;
                        sum +=
                            values[channel * 30 + iy as usize * 6 + ix as usize] * matrix.row(out)[c * 6 + ky * 2 + kx];
                    }
                }
                patches.row(&values, out / 2, y * 5 + x, &mut row);
                let found: f32 = row.iter().zip(matrix.row(out)).map(|(a, b)| a * b).sum();
                assert_eq!(found, sum, "{out} {y} {x}");
            }
        }
    }

    /// ONNX's definition of ConvTranspose: each input adds its window to the output.
    #[test]
    fn rows_times_weights_are_the_transposed_convolution() {
        let values: Vec<f32> = (0..2 * 3 * 3 * 2).map(|i| (i * 5 % 7) as f32 - 3.0).collect();
        let weights = crate::onnx::f32s("w", &[2, 3, 3, 2], &values);
        let mut node = NodeProto::test("ConvTranspose", &["x", "w"], "y");
        node.set_ints("strides", vec![2, 3]);
        node.set_ints("dilations", vec![1, 2]);
        node.set_ints("pads", vec![1, 0, 0, 1]);
        let site = crate::sites::Site {
            node: 0,
            name: "y".into(),
            op: "ConvTranspose".into(),
            inputs: vec![(0, "x".into())],
            weights: Some(1),
            bias: None,
            output: "y".into(),
            clamp: None,
        };
        let matrix = Matrix::of(&site, std::slice::from_ref(&node), &[("w", &weights)].into()).unwrap();
        assert_eq!((matrix.rows, matrix.stored_order(&matrix.values)), (3, values.clone()));
        // 2 * (4 - 1) + 3 - 1 and 3 * (3 - 1) + 2 * (2 - 1) + 1 - 1.
        let (input, output) = ([1, 2, 4, 3], [1, 3, 8, 8]);
        let patches = Patches::of(&node, &matrix, &input, &output).unwrap();
        let x: Vec<f32> = (0..2 * 4 * 3).map(|i| (i * 37 % 23) as f32 - 11.0).collect();
        let mut wanted = vec![0.0; 3 * 8 * 8];
        for (c, iy, ix) in (0..2).flat_map(|c| (0..4).flat_map(move |iy| (0..3).map(move |ix| (c, iy, ix)))) {
            for (o, ky, kx) in (0..3).flat_map(|o| (0..3).flat_map(move |ky| (0..2).map(move |kx| (o, ky, kx)))) {
                let (oy, ox) = ((2 * iy + ky) as i64 - 1, (3 * ix + 2 * kx) as i64);
                if (0..8).contains(&oy) && (0..8).contains(&ox) {
                    wanted[o * 64 + oy as usize * 8 + ox as usize] +=
                        x[c * 12 + iy * 3 + ix] * values[((c * 3 + o) * 3 + ky) * 2 + kx];
                }
            }
        }
        let mut row = vec![0.0; matrix.cols];
        for (place, &wanted) in wanted.iter().enumerate() {
            patches.row(&x, 0, place % 64, &mut row);
            let found: f32 = row.iter().zip(matrix.row(place / 64)).map(|(a, b)| a * b).sum();
            assert_eq!(found, wanted, "{place}");
        }
    }

    #[test]
    fn rows_of_a_product_are_the_inputs() {
        let node = NodeProto::new("Gemm", "g".into(), vec![], vec!["y".into()]);
        let patches = Patches::of(&node, &matrix(&[2, 3], 1), &[2, 3], &[2, 2]).unwrap();
        let mut row = [0.0; 3];
        patches.row(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 0, 1, &mut row);
        assert_eq!((row, patches.positions()), ([4.0, 5.0, 6.0], 2));
        assert!(Patches::of(&node, &matrix(&[2, 3], 1), &[2, 4], &[2, 2]).is_none());
    }
}
