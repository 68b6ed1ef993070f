//! Between integers and floats, and between the two layouts.

use std::rc::Rc;

use tractlet_core::plan::{COPY_DIMS, Dequantize, LutS8, Operand, Quantize, StridedCopy};

use super::constant::channels;
use super::parts::Walk;
use super::value::{Act, Constant, Layout, QParams, StoredQuant, Value};
use super::{Lowering, Why, axis_of, int};
use crate::model::{AttributeValue, DType, Node, Tensor};

impl<'m> Lowering<'m> {
    pub(super) fn quantize(&mut self, node: &Node) -> Result<(), Why> {
        let dtype = self.quantized_dtype(node)?;
        if self.value(node, 0)?.is_constant() {
            let quantized = self.quantized_constant(node, dtype)?;
            self.set(node, Value::Quantized(quantized));
            return Ok(());
        }
        if let Some(levels) = self.levels(node, dtype)? {
            return self.snap(node, levels);
        }
        let q = self.per_tensor(node, dtype)?;
        let value = match self.value(node, 0)? {
            Value::Dequantized(act, from) if from == q => act,
            Value::Dequantized(act, from) => self.table(&node.name, &act, |x| q.quantize(from.dequantize(x))),
            Value::Real(act) => self.quantized_act(node, &act, q),
            Value::Raw(_, dtype) | Value::Integers(_, dtype) => {
                return Err(format!("it quantizes {dtype}, and plans float32"));
            }
            _ => return Err("it quantizes what is no float".into()),
        };
        self.set(node, Value::Integers(value, dtype));
        Ok(())
    }

    pub(super) fn dequantize(&mut self, node: &Node) -> Result<(), Why> {
        let value = match self.value(node, 0)? {
            Value::Integers(act, dtype) => Value::Dequantized(act, self.per_tensor(node, dtype)?),
            Value::Snapped(act, levels) if self.levels(node, levels.dtype)? == Some(levels) => Value::Real(act),
            Value::Snapped(..) => {
                return Err("its scale or zero point is another than that of the QuantizeLinear before it".into());
            }
            Value::Stored(tensor) => self.through(node, Constant::Stored(tensor))?,
            Value::Quantized(tensor) => self.through(node, Constant::Made(tensor))?,
            Value::Raw(_, dtype) => return Err(format!("it dequantizes {dtype}, and plans int8 and uint8")),
            _ => return Err("it dequantizes floats".into()),
        };
        self.set(node, value);
        Ok(())
    }

    /// Constants through the parameters of a DequantizeLinear.
    fn through(&self, node: &Node, tensor: Constant<'m>) -> Result<Value<'m>, Why> {
        let (scales, zero_points, axis) = self.parameters_along(node, &tensor.dims)?;
        Ok(Value::DequantizedStored(StoredQuant { tensor, scales, zero_points, axis }))
    }

    /// The parameters of a QuantizeLinear or DequantizeLinear of constants, and which dimension they lie along.
    fn parameters_along(&self, node: &Node, dims: &[usize]) -> Result<(Vec<f32>, Vec<i32>, usize), Why> {
        let (scales, zero_points, _) = self.parameters(node)?;
        // Of one scale the axis means nothing.
        let axis = if scales.len() > 1 { axis_of(int(node, "axis", 1), dims.len())? } else { 0 };
        if scales.len() > 1 && dims[axis] != scales.len() {
            return Err("its scales do not lie along its axis".into());
        }
        Ok((scales, zero_points, axis))
    }

    /// What a QuantizeLinear makes of constants: weights, as training for quantization leaves them.
    fn quantized_constant(&self, node: &Node, dtype: DType) -> Result<Rc<Tensor>, Why> {
        let bounds = match dtype {
            DType::I8 => [i8::MIN.into(), i8::MAX.into()],
            DType::U8 => [0, u8::MAX.into()],
            DType::I16 => [i16::MIN.into(), i16::MAX.into()],
            DType::U16 => [0, u16::MAX.into()],
            other => return Err(format!("it makes {other} of constants; int8, uint8, int16 and uint16 are taken")),
        };
        let [least, most] = bounds.map(|bound: i32| bound as f32);
        let (values, dims) = self.floats_of(&self.value(node, 0)?)?;
        let (scales, zero_points, axis) = self.parameters_along(node, &dims)?;
        let channel = channels(scales.len(), &dims, axis);
        let integers = values.iter().enumerate().map(|(i, x)| {
            let nearest = (x / scales[channel(i)]).round_ties_even() + zero_points[channel(i)] as f32;
            if nearest.is_nan() { bounds[0] } else { nearest.clamp(least, most) as i32 }
        });
        let name = node.outputs.first().map_or("", String::as_str);
        Ok(Constant::made(name, dtype, dims.clone(), integers))
    }

    /// The type that a QuantizeLinear makes.
    pub(super) fn quantized_dtype(&self, node: &Node) -> Result<DType, Why> {
        let stated = match node.attribute("output_dtype") {
            Some(AttributeValue::Int(code)) => DType::from_onnx(*code),
            _ => None,
        };
        Ok(self.parameters(node)?.2.or(stated).unwrap_or(DType::U8))
    }

    /// Room for what a node quantizes in bytes, channels-last where it may be an image, and the channels and pixels that
    /// change places on the way there.
    pub(super) fn as_bytes(&mut self, node: &Node, act: &Act) -> (Act, usize, usize) {
        let readers = self.computing_readers(node);
        let image = matches!(act.dims.len(), 3 | 4)
            && if act.dims[0] == 1 { !are_by_rows(&readers) } else { readers.iter().any(|op| is_over_images(op)) };
        let transposed = image && act.layout == Layout::Plain;
        let layout = if image { Layout::ChannelsLast } else { act.layout };
        let (channels, pixels) = if transposed { (act.channels(), act.pixels()) } else { (1, act.elements()) };
        (self.program.bytes(act.dims.clone(), layout), channels, pixels)
    }

    /// The operators that read what a node quantizes.
    fn computing_readers(&self, node: &Node) -> Vec<&'m str> {
        let readers = |node: &Node| {
            let indices = node.outputs.first().and_then(|name| self.readers.get(name.as_str()));
            indices.into_iter().flatten().map(|&index| self.nodes[index].get())
        };
        let through = |reader: &'m Node| match reader.op.as_str() {
            "DequantizeLinear" => readers(reader).collect(),
            _ => vec![reader],
        };
        readers(node).flat_map(through).map(|reader| reader.op.as_str()).collect()
    }

    /// Quantizes floats.
    pub(super) fn quantized_act(&mut self, node: &Node, act: &Act, q: QParams) -> Act {
        let (output, channels, pixels) = self.as_bytes(node, act);
        let (input, span) = (self.program.span(act), self.program.span(&output));
        self.program.push(
            &node.name,
            Quantize { input, output: span, channels, pixels, scale: q.scale, zero_point: q.zero_point },
        );
        output
    }

    /// The value as floats in the arena, in whatever layout it has.
    pub(super) fn real(&mut self, name: &str, value: &Value<'m>) -> Result<Act, Why> {
        match value {
            Value::Real(act) => Ok(act.clone()),
            Value::Dequantized(act, q) => {
                let output = self.program.floats(act.dims.clone(), act.layout);
                let (input, span) = (self.program.span(act), self.program.span(&output));
                let op = Dequantize {
                    input,
                    output: span,
                    channels: 1,
                    pixels: act.elements(),
                    scale: q.scale,
                    zero_point: q.zero_point,
                };
                self.program.push(name, op);
                Ok(output)
            }
            Value::Integers(..) => Err("it computes on integers without a scale".into()),
            Value::Snapped(_, levels) => {
                Err(format!("it computes in {}; plans take that through a DequantizeLinear alone", levels.dtype))
            }
            Value::Raw(_, dtype) => Err(format!("it computes in {dtype}; plans compute in float32 and int8")),
            Value::Known(_) => Err("it computes on whole numbers; plans compute in float32 and int8".into()),
            constant => match self.placed(name, "", constant.clone())? {
                Value::Real(act) => Ok(act),
                _ => Err("it computes on whole numbers; plans compute in float32 and int8".into()),
            },
        }
    }

    /// Floats in the model's own order: what a caller sees.
    pub(super) fn dequantized_plain(&mut self, name: &str, act: &Act, q: QParams) -> Act {
        let transposed = act.layout == Layout::ChannelsLast && !act.layouts_agree();
        let (channels, pixels) = if transposed { (act.channels(), act.pixels()) } else { (1, act.elements()) };
        let output = self.program.floats(act.dims.clone(), Layout::Plain);
        let (input, span) = (self.program.span(act), self.program.span(&output));
        self.program
            .push(name, Dequantize { input, output: span, channels, pixels, scale: q.scale, zero_point: q.zero_point });
        output
    }

    /// `f` of every integer, through a table.
    pub(super) fn table(&mut self, name: &str, act: &Act, f: impl Fn(i8) -> i8) -> Act {
        let values: Vec<i8> = (i8::MIN..=i8::MAX).map(f).collect();
        let table = self.builder.data(&values);
        let output = self.program.bytes(act.dims.clone(), act.layout);
        let (input, span) = (self.program.span(act), self.program.span(&output));
        self.program.push(name, LutS8 { input, output: span, table });
        output
    }

    /// uint8 as the caller has it from and to int8 as the arena does: less 128 is the top bit flipped.
    pub(super) fn flip_sign(&mut self, name: &str, act: &Act) -> Act {
        self.table(name, act, |x| x ^ i8::MIN)
    }

    pub(super) fn laid(&mut self, name: &str, act: Act, layout: Layout) -> Result<Act, Why> {
        match layout {
            _ if act.layout == layout || act.layouts_agree() => Ok(act.viewed(act.dims.clone(), layout)),
            Layout::Plain => self.plain(name, act),
            Layout::ChannelsLast => self.channels_last(name, act),
        }
    }

    pub(super) fn plain(&mut self, name: &str, act: Act) -> Result<Act, Why> {
        if act.layout == Layout::Plain || act.layouts_agree() {
            return Ok(act.viewed(act.dims.clone(), Layout::Plain));
        }
        let (channels, pixels) = (act.channels(), act.pixels());
        Ok(self.swapped(name, &act, [channels, pixels], Layout::Plain))
    }

    pub(super) fn channels_last(&mut self, name: &str, act: Act) -> Result<Act, Why> {
        if act.dims.len() < 3 {
            return Err("it needs images".into());
        }
        if act.layout == Layout::ChannelsLast || act.layouts_agree() {
            return Ok(act.viewed(act.dims.clone(), Layout::ChannelsLast));
        }
        let (channels, pixels) = (act.channels(), act.pixels());
        Ok(self.swapped(name, &act, [pixels, channels], Layout::ChannelsLast))
    }

    /// Each image transposed to so many rows and columns.
    fn swapped(&mut self, name: &str, act: &Act, [rows, cols]: [usize; 2], layout: Layout) -> Act {
        let (dims, strides) = ([act.dims[0], rows, cols], [rows * cols, 1, rows]);
        let first = usize::from(act.dims[0] == 1);
        self.copied(name, act, &dims[first..], &strides[first..], act.dims.clone(), layout)
    }

    /// The dimensions of a plain tensor in another order; a copy, unless dimensions of 1 alone change places.
    pub(super) fn permuted(&mut self, name: &str, act: &Act, order: &[usize]) -> Result<Act, Why> {
        let dims: Vec<usize> = order.iter().map(|&d| act.dims[d]).collect();
        let kept: Vec<usize> = order.iter().copied().filter(|&d| act.dims[d] > 1).collect();
        if kept.is_sorted() {
            return Ok(act.viewed(dims, act.layout));
        }
        if kept.len() > COPY_DIMS {
            return Err(format!("a transpose of {} dimensions is not taken", order.len()));
        }
        let strides = row_major(&act.dims);
        let strides: Vec<usize> = kept.iter().map(|&d| strides[d]).collect();
        let kept: Vec<usize> = kept.iter().map(|&d| act.dims[d]).collect();
        Ok(self.copied(name, act, &kept, &strides, dims, Layout::Plain))
    }

    /// A dense copy of the elements that `strides` pick, in row-major order of `dims`.
    pub(super) fn copied(
        &mut self,
        name: &str,
        act: &Act,
        dims: &[usize],
        strides: &[usize],
        shape: Vec<usize>,
        layout: Layout,
    ) -> Act {
        let (input, element_bytes) = (self.program.span(act), self.element_bytes(act));
        self.copied_from(name, (input, element_bytes), &Walk { start: 0, dims, strides }, (shape, layout))
    }

    /// The same of any operand, from anywhere in it.
    pub(super) fn copied_from(
        &mut self,
        name: &str,
        (input, element_bytes): (Operand, usize),
        walk: &Walk<'_>,
        (shape, layout): (Vec<usize>, Layout),
    ) -> Act {
        let output = self.program.tensor(shape, layout, element_bytes);
        let op = StridedCopy {
            input,
            output: self.program.span(&output),
            element_bytes,
            dims: padded(walk.dims, 1),
            input_start: walk.start,
            input_strides: padded(walk.strides, 0),
            output_start: 0,
            output_strides: padded(&row_major(walk.dims), 0),
        };
        self.program.push(name, op);
        output
    }

    pub(super) fn element_bytes(&self, act: &Act) -> usize {
        self.program.tensors[act.tensor] / act.elements()
    }
}

/// Whether a product of matrices is among those operators, and beside it nothing that would have an image.
fn are_by_rows(ops: &[&str]) -> bool {
    let is_product = |op: &&str| matches!(*op, "MatMul" | "Gemm" | "MatMulInteger");
    ops.iter().any(is_product) && ops.iter().all(|op| is_product(op) || matches!(*op, "Add" | "Sub" | "Mul"))
}

fn is_over_images(op: &str) -> bool {
    op.starts_with("Conv") || op.contains("Pool") || matches!(op, "Resize" | "Upsample")
}

/// Dimensions or strides with the unused ones in front.
pub(super) fn padded(values: &[usize], unused: usize) -> [usize; COPY_DIMS] {
    let mut all = [unused; COPY_DIMS];
    let first = COPY_DIMS.saturating_sub(values.len());
    all[first..].copy_from_slice(values);
    all
}

pub(super) fn row_major(dims: &[usize]) -> Vec<usize> {
    (0..dims.len()).map(|i| dims[i + 1..].iter().product()).collect()
}
