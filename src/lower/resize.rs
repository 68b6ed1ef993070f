//! Images of another size: which rows and columns each pixel is between.

use tractlet_core::plan::{ResizeF32, ResizeS8};
use tractlet_core::shape::Resized;

use super::value::{Act, Layout};
use super::{Lowering, Why, axis_of, int, ints};
use crate::model::{AttributeValue, Node};

/// Parts of one as int8 images are blended in: `tractlet_core::kernels::resize::WHOLE`.
const WHOLE: f32 = tractlet_core::kernels::resize::WHOLE as f32;

/// How an output's position becomes the input's, and what is read there.
struct Sampling {
    coordinates: String,
    /// How a position becomes a pixel; `None` blends the two around it.
    nearest: Option<String>,
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
        let nearest = match text("mode", "nearest").as_str() {
            "nearest" => {
                Some(if since_11 { text("nearest_mode", "round_prefer_floor") } else { "toward_image".into() })
            }
            "linear" => None,
            other => return Err(format!("`{other}` is not taken, `nearest` and `linear` are")),
        };
        Ok(Sampling { coordinates, nearest })
    }

    /// What each of `output` rows or columns is between of `input` ones, and the share of the second. In single
    /// precision, as ONNX Runtime has it: the last bit decides where a position is halfway.
    fn blends(&self, input: usize, output: usize, scale: f32) -> Result<Vec<(usize, usize, f32)>, Why> {
        // ONNX's reference goes by the size that the scale would give, ONNX Runtime by the one that there is.
        if self.coordinates == "align_corners" && (scale * input as f32 - output as f32).abs() > 1e-3 {
            return Err(format!(
                "corners that are aligned by a scale of {scale}, from {input} to {output}, are not taken"
            ));
        }
        let last = (input - 1) as f32;
        let position = |at: usize| {
            let at = at as f32;
            match self.coordinates.as_str() {
                "asymmetric" => at / scale,
                "align_corners" if output == 1 => 0.0,
                "align_corners" => at * last / (output - 1) as f32,
                "pytorch_half_pixel" if output == 1 => 0.0,
                "half_pixel_symmetric" => {
                    let centre = input as f32 / 2.0;
                    centre * (1.0 - output as f32 / (scale * input as f32)) + (at + 0.5) / scale - 0.5
                }
                _ => (at + 0.5) / scale - 0.5,
            }
        };
        let blend = |at: usize| -> Result<(usize, usize, f32), Why> {
            let position = position(at);
            let Some(nearest) = &self.nearest else {
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
}

impl<'m> Lowering<'m> {
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
        let sampling = Sampling { coordinates: coordinates.into(), nearest: Some(nearest.into()) };
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
        let sampling = Sampling { coordinates: "half_pixel".into(), nearest: None };
        let blends = sampling.blends(2, 4, 2.0).unwrap();
        assert_eq!(blends, [(0, 1, 0.0), (0, 1, 0.25), (0, 1, 0.75), (1, 1, 0.0)]);
    }
}
