//! Images of another size: which rows and columns each pixel is between.

use tractlet_core::kernels::resize::Taps;
use tractlet_core::plan::{ResizeCubicF32, ResizeF32, ResizeS8};
use tractlet_core::shape::Resized;

use super::value::{Act, Layout};
use super::{Lowering, Why, axis_of, int, ints, number};
use crate::model::{AttributeValue, Node};

/// Parts of one as int8 images are blended in: `tractlet_core::kernels::resize::WHOLE`.
const WHOLE: f32 = tractlet_core::kernels::resize::WHOLE as f32;

/// How an output's position becomes the input's, and what is read there.
struct Sampling {
    coordinates: String,
    mode: Mode,
}

enum Mode {
    /// How a position becomes a pixel.
    Nearest(String),
    /// The two pixels around it.
    Linear,
    /// The four around it, on a curve of this bend.
    Cubic {
        bend: f32,
        /// Those beyond the image do not count, instead of being what is at its border.
        inside: bool,
    },
}

impl Sampling {
    fn of(node: &Node, opset: i64) -> Result<Sampling, Why> {
        let text = |name: &str, default: &str| match node.attribute(name) {
            Some(AttributeValue::Text(text)) => text.clone(),
            _ => default.to_owned(),
        };
        let flag = |name: &str| int(node, name, 0) != 0;
        if flag("antialias") || !matches!(text("keep_aspect_ratio_policy", "stretch").as_str(), "stretch") {
            return Err("antialiasing and a kept aspect ratio are not taken".into());
        }
        let since_11 = node.op == "Resize" && opset >= 11;
        let coordinates = text("coordinate_transformation_mode", if since_11 { "half_pixel" } else { "asymmetric" });
        let known = ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"];
        if !known.contains(&coordinates.as_str()) {
            return Err(format!("coordinates by `{coordinates}` are not taken"));
        }
        let mode = match text("mode", "nearest").as_str() {
            "nearest" => {
                Mode::Nearest(if since_11 { text("nearest_mode", "round_prefer_floor") } else { "toward_image".into() })
            }
            "linear" => Mode::Linear,
            "cubic" => Mode::Cubic { bend: number(node, "cubic_coeff_a", -0.75), inside: flag("exclude_outside") },
            other => return Err(format!("`{other}` is not taken; `nearest`, `linear` and `cubic` are")),
        };
        Ok(Sampling { coordinates, mode })
    }

    /// Where in the input an output's row or column is. In single precision, as ONNX Runtime has it: the last bit decides
    /// where a position is halfway.
    fn position(&self, at: usize, input: usize, output: usize, scale: f32) -> f32 {
        let (at, last) = (at as f32, (input - 1) as f32);
        match self.coordinates.as_str() {
            "asymmetric" => at / scale,
            "align_corners" | "pytorch_half_pixel" if output == 1 => 0.0,
            "align_corners" => at * last / (output - 1) as f32,
            "half_pixel_symmetric" => {
                let centre = input as f32 / 2.0;
                centre * (1.0 - output as f32 / (scale * input as f32)) + (at + 0.5) / scale - 0.5
            }
            _ => (at + 0.5) / scale - 0.5,
        }
    }

    /// ONNX's reference aligns corners by the size that the scale would give, ONNX Runtime by the one that there is.
    fn hold_corners(&self, input: usize, output: usize, scale: f32) -> Result<(), Why> {
        if self.coordinates == "align_corners" && (scale * input as f32 - output as f32).abs() > 1e-3 {
            return Err(format!(
                "corners that are aligned by a scale of {scale}, from {input} to {output}, are not taken"
            ));
        }
        Ok(())
    }

    /// What each of `output` rows or columns is between of `input` ones, and the share of the second.
    fn blends(&self, input: usize, output: usize, scale: f32) -> Result<Vec<(usize, usize, f32)>, Why> {
        self.hold_corners(input, output, scale)?;
        let last = (input - 1) as f32;
        let blend = |at: usize| -> Result<(usize, usize, f32), Why> {
            let position = self.position(at, input, output, scale);
            let Mode::Nearest(nearest) = &self.mode else {
                let position = position.clamp(0.0, last);
                let first = position.floor();
                let second = (first + 1.0).min(last);
                return Ok((first as usize, second as usize, if second > first { position - first } else { 0.0 }));
            };
            let pixel = match nearest.as_str() {
                _ if scale == 1.0 => at as f32,
                "floor" => position.floor(),
                "ceil" => position.ceil(),
                "round_prefer_ceil" => position.round(),
                "round_prefer_floor" if position == position.trunc() + 0.5 => position.floor(),
                "round_prefer_floor" => position.round(),
                // Until opset 10 an image that shrinks takes the pixel behind.
                "toward_image" => {
                    if scale < 1.0 {
                        position.ceil()
                    } else {
                        position.trunc()
                    }
                }
                other => return Err(format!("a nearest pixel by `{other}` is not taken")),
            };
            let pixel = pixel.clamp(0.0, last) as usize;
            Ok((pixel, pixel, 0.0))
        };
        (0..output).map(blend).collect()
    }

    /// The four rows or columns around each of `output` ones, and what each of them counts.
    fn taps(&self, (bend, inside): (f32, bool), sizes: (usize, usize), scale: f32) -> Result<Vec<Taps>, Why> {
        let (input, output) = sizes;
        self.hold_corners(input, output, scale)?;
        let taps = |at: usize| {
            let position = if scale == 1.0 { at as f32 } else { self.position(at, input, output, scale) };
            let first = position.floor();
            let near = |x: f32| ((bend + 2.0) * x - (bend + 3.0)) * x * x + 1.0;
            let far = |x: f32| ((bend * x - 5.0 * bend) * x + 8.0 * bend) * x - 4.0 * bend;
            let behind = position - first;
            let mut weights = [far(behind + 1.0), near(behind), near(1.0 - behind), far(2.0 - behind)];
            let places: [i64; 4] = std::array::from_fn(|i| first as i64 + i as i64 - 1);
            if inside {
                weights
                    .iter_mut()
                    .zip(places)
                    .filter(|(_, place)| !(0..input as i64).contains(place))
                    .for_each(|(w, _)| *w = 0.0);
                let sum: f32 = weights.iter().sum();
                weights.iter_mut().for_each(|weight| *weight /= sum);
            }
            [places.map(|place| place.clamp(0, input as i64 - 1) as u32), weights.map(f32::to_bits)]
        };
        Ok((0..output).map(taps).collect())
    }
}

impl<'m> Lowering<'m> {
    /// Whether a Resize blends more than two pixels along an axis, which is done on floats.
    pub(super) fn is_cubic(node: &Node) -> bool {
        matches!(node.attribute("mode"), Some(AttributeValue::Text(mode)) if mode == "cubic")
    }

    /// Whether a Resize takes pixels as they are, and blends none.
    pub(super) fn picks(node: &Node) -> bool {
        !matches!(node.attribute("mode"), Some(AttributeValue::Text(mode)) if mode != "nearest")
    }

    /// The image in its new size, of the elements that it has.
    pub(super) fn resized(&mut self, node: &Node, act: Act) -> Result<Act, Why> {
        let sampling = Sampling::of(node, self.model.opset())?;
        let dims = self.output_dims(node)?;
        let act = self.channels_last(&node.name, act)?;
        let rank = act.dims.len();
        if rank > 4 || dims.len() != rank || dims[..2] != act.dims[..2] {
            return Err("images alone are resized, along height and width".into());
        }
        let scales = self.scales_of(node, &act.dims, &dims)?;
        // Rows and columns, each with the pixels that it is between.
        self.tabulate(dims.iter().skip(2).sum(), size_of::<Taps>())?;
        if let Mode::Cubic { bend, inside } = sampling.mode {
            return self.resized_cubic(node, &act, dims, |axis, from, to| {
                sampling.taps((bend, inside), (from, to), axis.map_or(1.0, |axis| scales[axis]))
            });
        }
        let axis = |axis: Option<usize>| match axis {
            Some(axis) => sampling.blends(act.dims[axis], dims[axis], scales[axis]).map(|b| (act.dims[axis], b)),
            None => Ok((1, vec![(0, 0, 0.0)])),
        };
        let ((in_h, rows), (in_w, cols)) = (axis((rank == 4).then_some(2))?, axis(Some(rank - 1))?);
        let shape = Resized { in_h, in_w, out_h: rows.len(), out_w: cols.len(), channels: act.channels() };
        let element_bytes = self.element_bytes(&act);
        let share = |share: f32| if element_bytes == 1 { (share * WHOLE).round() as u32 } else { share.to_bits() };
        let table = |blends: Vec<(usize, usize, f32)>| -> Vec<[u32; 3]> {
            blends.into_iter().map(|(first, second, part)| [first as u32, second as u32, share(part)]).collect()
        };
        let output = self.program.tensor(dims, Layout::ChannelsLast, element_bytes);
        let (rows, cols) = (self.builder.data(&table(rows)), self.builder.data(&table(cols)));
        let (input, span) = (self.program.span(&act), self.program.span(&output));
        if element_bytes == 1 {
            self.program.push(&node.name, ResizeS8 { input, output: span, shape, rows, cols });
        } else {
            self.program.push(&node.name, ResizeF32 { input, output: span, shape, rows, cols });
        }
        Ok(output)
    }

    /// The image in its new size, of the taps that `along` an axis has from one size to another.
    fn resized_cubic(
        &mut self,
        node: &Node,
        act: &Act,
        dims: Vec<usize>,
        along: impl Fn(Option<usize>, usize, usize) -> Result<Vec<Taps>, Why>,
    ) -> Result<Act, Why> {
        let rank = act.dims.len();
        let axis = |axis: Option<usize>| {
            let (from, to) = axis.map_or((1, 1), |axis| (act.dims[axis], dims[axis]));
            along(axis, from, to).map(|taps| (from, taps))
        };
        let ((in_h, rows), (in_w, cols)) = (axis((rank == 4).then_some(2))?, axis(Some(rank - 1))?);
        let shape = Resized { in_h, in_w, out_h: rows.len(), out_w: cols.len(), channels: act.channels() };
        let output = self.program.floats(dims, Layout::ChannelsLast);
        let (rows, cols) = (self.builder.data(&rows), self.builder.data(&cols));
        let (input, span) = (self.program.span(act), self.program.span(&output));
        self.program.push(&node.name, ResizeCubicF32 { input, output: span, shape, rows, cols });
        Ok(output)
    }

    /// The scale along each dimension: as it is stated, or as sizes have it.
    fn scales_of(&self, node: &Node, from: &[usize], to: &[usize]) -> Result<Vec<f32>, Why> {
        let mut scales: Vec<f32> = from.iter().zip(to).map(|(from, to)| *to as f32 / *from as f32).collect();
        let stated = match node.attribute("scales") {
            Some(AttributeValue::Floats(values)) => values.clone(),
            _ => {
                let index = if node.op == "Upsample" || self.model.opset() < 11 { 1 } else { 2 };
                match node.input(index) {
                    Some(_) => self.floats_of(&self.value(node, index)?)?.0,
                    None => vec![],
                }
            }
        };
        if stated.is_empty() {
            return Ok(scales);
        }
        let all: Vec<i64> = (0..from.len() as i64).collect();
        let axes = ints(node, "axes").unwrap_or(&all);
        for (axis, scale) in axes.iter().zip(stated) {
            scales[axis_of(*axis, from.len())?] = scale;
        }
        Ok(scales)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(coordinates: &str, nearest: &str, input: usize, output: usize) -> Vec<usize> {
        let sampling = Sampling { coordinates: coordinates.into(), mode: Mode::Nearest(nearest.into()) };
        let blends = sampling.blends(input, output, output as f32 / input as f32).unwrap();
        blends.into_iter().map(|(first, ..)| first).collect()
    }

    #[test]
    fn a_nearest_pixel_is_the_one_that_its_mode_says() {
        assert_eq!(picked("asymmetric", "floor", 2, 4), [0, 0, 1, 1]);
        assert_eq!(picked("half_pixel", "round_prefer_floor", 4, 2), [0, 2]);
        assert_eq!(picked("half_pixel", "round_prefer_ceil", 4, 2), [1, 3]);
        assert_eq!(picked("align_corners", "ceil", 3, 5), [0, 1, 1, 2, 2]);
    }

    #[test]
    fn a_blend_stays_in_the_image() {
        let sampling = Sampling { coordinates: "half_pixel".into(), mode: Mode::Linear };
        let blends = sampling.blends(2, 4, 2.0).unwrap();
        assert_eq!(blends, [(0, 1, 0.0), (0, 1, 0.25), (0, 1, 0.75), (1, 1, 0.0)]);
    }
}
