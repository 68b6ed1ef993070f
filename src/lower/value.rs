//! How an ONNX tensor exists while its graph is lowered.

use std::ops::Deref;
use std::rc::Rc;

use super::program::TensorId;
use crate::model::{DType, Tensor, TensorData};

/// An activation: a tensor of the program, the dimensions that the model gives it, and how its
/// elements lie.
#[derive(Clone, Debug)]
pub(super) struct Act {
    pub tensor: TensorId,
    /// As the model states them: NCHW, NCL, or anything else.
    pub dims: Vec<usize>,
    pub layout: Layout,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Row-major in the model's order.
    Plain,
    /// Images, of rank 3 or 4: dimension 1 is innermost.
    ChannelsLast,
}

/// `real = (q - zero_point) * scale` with q in i8; a model's uint8 is held less 128.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct QParams {
    pub scale: f32,
    pub zero_point: i8,
}

/// `real = (q - zero_point) * scale` with q in int16 or uint16.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Levels {
    pub scale: f32,
    /// The least `q - zero_point`; there are 65536 of them.
    pub least: f32,
    pub zero_point: i32,
    pub dtype: DType,
}

#[derive(Clone, Debug)]
pub(super) enum Value<'m> {
    /// An initializer or constant.
    Stored(&'m Tensor),
    /// A stored tensor seen through its quantization parameters.
    DequantizedStored(StoredQuant<'m>),
    /// Numbers that follow from stored ones, with their dimensions.
    Numbers(Rc<[f32]>, Vec<usize>),
    /// The integers of constants that a node quantizes.
    Quantized(Rc<Tensor>),
    /// Whole numbers that follow from shapes: what steers a Reshape or a Slice.
    Known(Rc<[i64]>),
    /// Integers as the model's own int8 or uint8.
    Integers(Act, DType),
    /// Integers seen through their quantization parameters.
    Dequantized(Act, QParams),
    /// f32.
    Real(Act),
    /// Integers of 16 bits, as the floats that they stand for.
    Snapped(Act, Levels),
    /// bool, int32 or int64: what is chosen by, looked up with and moved, and sums of products that are not floats yet.
    Raw(Act, DType),
}

/// A tensor of the model, or one that follows from its tensors.
#[derive(Clone, Debug)]
pub(super) enum Constant<'m> {
    Stored(&'m Tensor),
    Made(Rc<Tensor>),
}

impl Constant<'_> {
    /// One of integers, of up to 16 bits, that `dtype` has.
    pub fn made(name: &str, dtype: DType, dims: Vec<usize>, values: impl Iterator<Item = i32>) -> Rc<Tensor> {
        let bytes = values.flat_map(|value| value.to_le_bytes().into_iter().take(dtype.size())).collect();
        Rc::new(Tensor { name: name.to_owned(), dtype, dims, data: TensorData::Decoded(bytes) })
    }
}

impl Deref for Constant<'_> {
    type Target = Tensor;

    fn deref(&self) -> &Tensor {
        match self {
            Constant::Stored(tensor) => tensor,
            Constant::Made(tensor) => tensor,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct StoredQuant<'m> {
    pub tensor: Constant<'m>,
    pub scales: Vec<f32>,
    pub zero_points: Vec<i32>,
    /// Which dimension the parameters lie along, where there is more than one.
    pub axis: usize,
}

impl Value<'_> {
    pub fn is_constant(&self) -> bool {
        matches!(self, Value::Stored(_) | Value::DequantizedStored(_) | Value::Numbers(..) | Value::Known(_))
    }

    pub fn is_known(&self) -> bool {
        matches!(self, Value::Known(_))
    }

    /// The type that it is had in: a model's uint8 is int8 here.
    pub fn dtype(&self) -> DType {
        match self {
            Value::Stored(tensor) => tensor.dtype,
            Value::DequantizedStored(stored) => stored.tensor.dtype,
            Value::Numbers(..) | Value::Real(_) | Value::Snapped(..) => DType::F32,
            Value::Known(_) => DType::I64,
            Value::Quantized(..) | Value::Integers(..) | Value::Dequantized(..) => DType::I8,
            Value::Raw(_, dtype) => *dtype,
        }
    }

    pub fn act(&self) -> Option<&Act> {
        match self {
            Value::Integers(act, _) | Value::Dequantized(act, _) | Value::Real(act) | Value::Raw(act, _) => Some(act),
            _ => None,
        }
    }
}

impl Act {
    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }

    pub fn channels(&self) -> usize {
        self.dims.get(1).copied().unwrap_or(1)
    }

    /// Whether it is an image, or several that lie channels-last already.
    pub fn is_image(&self) -> bool {
        matches!(self.dims.len(), 3 | 4) && (self.dims[0] == 1 || self.layout == Layout::ChannelsLast)
    }

    /// Elements of one channel of one sample.
    pub fn pixels(&self) -> usize {
        self.dims.iter().skip(2).product()
    }

    /// Whether both layouts are the same bytes.
    pub fn layouts_agree(&self) -> bool {
        self.dims.len() < 3 || self.channels() == 1 || self.pixels() == 1
    }

    /// The same elements with other dimensions.
    pub fn viewed(&self, dims: Vec<usize>, layout: Layout) -> Act {
        Act { tensor: self.tensor, dims, layout }
    }
}

impl QParams {
    /// Nearest integer, as QuantizeLinear has it and the kernel computes it: of NaN the least.
    pub fn quantize(&self, x: f32) -> i8 {
        let nearest = (x / self.scale).round_ties_even() + f32::from(self.zero_point);
        if nearest.is_nan() { i8::MIN } else { nearest as i8 }
    }

    pub fn dequantize(&self, q: i8) -> f32 {
        (f32::from(q) - f32::from(self.zero_point)) * self.scale
    }
}
