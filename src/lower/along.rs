//! Operators along dimensions of a tensor: reductions, the places of extremes, running sums, and what is made of those.

use tractlet_core::plan::{
    AveragePoolS8, Binary, CumulateF32, ExtremeF32, MaxPoolS8, OneHotF32, ReduceF32, Reduction, TopF32,
};
use tractlet_core::shape::{Along, Requantize, Window};

use super::binary::UNBOUNDED;
use super::quantized::Input;
use super::value::{Act, Layout, QParams, Value};
use super::{Lowering, Why, axis_of, int, ints};
use crate::model::{DType, Node};

/// The largest size that a window of an op has.
const MOST_EXTENT: usize = 1 << 20;

pub(super) fn works_along(op: &str) -> bool {
    reduction(op).is_some() || matches!(op, "ArgMax" | "ArgMin" | "TopK" | "LogSoftmax" | "Hardmax" | "CumSum")
}

pub(super) fn reduction(op: &str) -> Option<Reduction> {
    Some(match op {
        "ReduceSum" => Reduction::Sum,
        "ReduceMean" => Reduction::Mean,
        "ReduceMax" => Reduction::Max,
        "ReduceMin" => Reduction::Min,
        "ReduceProd" => Reduction::Product,
        "ReduceL1" => Reduction::L1,
        "ReduceL2" => Reduction::L2,
        "ReduceSumSquare" => Reduction::SumSquare,
        "ReduceLogSum" => Reduction::LogSum,
        "ReduceLogSumExp" => Reduction::LogSumExp,
        _ => return None,
    })
}

impl<'m> Lowering<'m> {
    pub(super) fn work_along(&mut self, node: &Node) -> Result<(), Why> {
        let input = self.real(&node.name, &self.value(node, 0)?)?;
        match node.op.as_str() {
            "ArgMax" | "ArgMin" => self.extreme(node, input),
            "TopK" => self.top(node, input),
            "LogSoftmax" => self.log_softmax(node, input),
            "Hardmax" => self.hardmax(node, input),
            "CumSum" => self.cumulate(node, input),
            op => {
                let function = reduction(op).ok_or("it is no reduction")?;
                let dims = self.output_dims(node)?;
                let (act, along) = self.reduced(node, input)?;
                let output = self.reduce(&node.name, &act, along, function, dims);
                self.set(node, Value::Real(output));
                Ok(())
            }
        }
    }

    pub(super) fn reduce(&mut self, name: &str, act: &Act, along: Along, function: Reduction, dims: Vec<usize>) -> Act {
        let result = self.program.floats(dims, Layout::Plain);
        let (input, output) = (self.program.span(act), self.program.span(&result));
        self.program.push(name, ReduceF32 { input, output, along, function });
        result
    }

    /// A reduction on integers, by the pools that do the same; `None` leaves it to floats.
    pub(super) fn reduce_s8(
        &mut self,
        node: &Node,
        x: Input,
        to: QParams,
        requantize: Requantize,
    ) -> Result<Option<Act>, Why> {
        let dims = self.output_dims(node)?;
        let (act, along) = self.reduced(node, x.act)?;
        let Some(window) = window(&along) else { return Ok(None) };
        let output = self.program.bytes(dims, Layout::Plain);
        let sum = if node.op == "ReduceSum" { along.len as f64 } else { 1.0 };
        let op = AveragePoolS8 {
            input: self.program.span(&act),
            output: self.program.span(&output),
            window,
            count_include_pad: false,
            multiplier: (f64::from(x.q.scale) * sum / f64::from(to.scale)) as f32,
            input_zero_point: x.q.zero_point,
            requantize,
        };
        self.program.push(&node.name, op);
        Ok(Some(output))
    }

    /// The largest along dimensions, of integers.
    pub(super) fn reduce_max_s8(&mut self, node: &Node, act: Act) -> Result<Option<Act>, Why> {
        let dims = self.output_dims(node)?;
        let (act, along) = self.reduced(node, act)?;
        let Some(window) = window(&along) else { return Ok(None) };
        let result = self.program.bytes(dims, Layout::Plain);
        let (input, output) = (self.program.span(&act), self.program.span(&result));
        self.program.push(&node.name, MaxPoolS8 { input, output, window });
        Ok(Some(result))
    }

    /// Whether a mean is over all pixels of images, which a pool does as these lie.
    pub(super) fn is_over_pixels(&self, node: &Node, act: &Act) -> bool {
        let rank = act.dims.len();
        let axes = self.axes(node, rank).unwrap_or_default();
        act.is_image() && axes.iter().copied().eq(2..rank)
    }

    /// The dimensions that a reduction is over, from the first to the last.
    pub(super) fn axes(&self, node: &Node, rank: usize) -> Result<Vec<usize>, Why> {
        let stated = match (ints(node, "axes"), node.input(1)) {
            (Some(axes), _) => axes.to_vec(),
            (None, None) => vec![],
            (None, Some(_)) => self.stored_longs(node, 1)?.ok_or("the axes that it reduces are not stored")?,
        };
        let mut axes = stated.iter().map(|&axis| axis_of(axis, rank)).collect::<Result<Vec<_>, _>>()?;
        axes.sort_unstable();
        axes.dedup();
        if axes.is_empty() && int(node, "noop_with_empty_axes", 0) == 0 {
            axes = (0..rank).collect();
        }
        Ok(axes)
    }

    /// The input of a reduction with its dimensions beside each other.
    fn reduced(&mut self, node: &Node, act: Act) -> Result<(Act, Along), Why> {
        let rank = act.dims.len();
        let axes = self.axes(node, rank)?;
        let act = self.plain(&node.name, act)?;
        let (Some(&first), Some(&last)) = (axes.first(), axes.last()) else {
            let along = Along { outer: act.elements(), len: 1, inner: 1 };
            return Ok((act, along));
        };
        let size = |range: std::ops::Range<usize>| act.dims[range].iter().product();
        if last - first + 1 == axes.len() {
            let along = Along { outer: size(0..first), len: size(first..last + 1), inner: size(last + 1..rank) };
            return Ok((act, along));
        }
        let kept: Vec<usize> = (0..rank).filter(|axis| !axes.contains(axis)).collect();
        let len: usize = axes.iter().map(|&axis| act.dims[axis]).product();
        let along = Along { outer: act.elements() / len, len, inner: 1 };
        let order: Vec<usize> = kept.into_iter().chain(axes).collect();
        Ok((self.permuted(&node.name, &act, &order)?, along))
    }

    /// A plain tensor seen along one of its dimensions.
    pub(super) fn along_axis(act: &Act, axis: usize) -> Along {
        let size = |dims: &[usize]| dims.iter().product();
        Along { outer: size(&act.dims[..axis]), len: act.dims[axis], inner: size(&act.dims[axis + 1..]) }
    }

    fn extreme(&mut self, node: &Node, input: Act) -> Result<(), Why> {
        let dims = self.output_dims(node)?;
        let act = self.plain(&node.name, input)?;
        let along = Self::along_axis(&act, axis_of(int(node, "axis", 0), act.dims.len())?);
        let (smallest, last) = (node.op == "ArgMin", int(node, "select_last_index", 0) != 0);
        let result = self.extremes(&node.name, &act, (along, smallest, last), dims);
        self.set(node, Value::Raw(result, DType::I64));
        Ok(())
    }

    fn extremes(&mut self, name: &str, act: &Act, of: (Along, bool, bool), dims: Vec<usize>) -> Act {
        let (along, smallest, last) = of;
        let result = self.program.tensor(dims, Layout::Plain, 8);
        let (input, output) = (self.program.span(act), self.program.span(&result));
        self.program.push(name, ExtremeF32 { input, output, along, smallest, last });
        result
    }

    /// The places of the largest, and what lies there.
    fn top(&mut self, node: &Node, input: Act) -> Result<(), Why> {
        let act = self.plain(&node.name, input)?;
        let axis = axis_of(int(node, "axis", -1), act.dims.len())?;
        let count = match (int(node, "k", 0), self.stored_longs(node, 1)?.as_deref()) {
            (0, Some(&[k])) => k,
            (0, _) => return Err("how many it is to find is computed".into()),
            (k, _) => k,
        };
        let count =
            usize::try_from(count).ok().filter(|k| (1..=act.dims[axis]).contains(k)).ok_or("its k is out of range")?;
        let along = Self::along_axis(&act, axis);
        let mut dims = act.dims.clone();
        dims[axis] = count;
        let places = self.program.tensor(dims.clone(), Layout::Plain, 8);
        let (input, output) = (self.program.span(&act), self.program.span(&places));
        let smallest = int(node, "largest", 1) == 0;
        self.program.push(&node.name, TopF32 { input, output, along, count, smallest });
        if node.outputs.first().is_some_and(|name| !name.is_empty()) {
            let values = self.looked_up(&node.name, &act, axis, (output, count, true), dims);
            self.set(node, Value::Real(values));
        }
        if let Some(name) = node.outputs.get(1).filter(|name| !name.is_empty()) {
            self.values.insert(name.clone(), Value::Raw(places, DType::I64));
        }
        Ok(())
    }

    /// `x - log(sum exp(x))`
    fn log_softmax(&mut self, node: &Node, input: Act) -> Result<(), Why> {
        let (act, rows, cols, axis) = self.rows_of_softmax(node, input)?;
        let along = Along { outer: rows, len: cols, inner: 1 };
        let sums = self.reduce(&node.name, &act, along, Reduction::LogSumExp, vec![rows]);
        let sums = (self.program.span(&sums), cols);
        let output = self.push_binary(&node.name, &act, sums, Binary::Sub, UNBOUNDED);
        let output = self.with_axis_at(&node.name, output, axis)?;
        self.set(node, Value::Real(output));
        Ok(())
    }

    /// 1 where the first of the largest is, 0 everywhere else.
    fn hardmax(&mut self, node: &Node, input: Act) -> Result<(), Why> {
        let (act, rows, cols, axis) = self.rows_of_softmax(node, input)?;
        let along = Along { outer: rows, len: cols, inner: 1 };
        let places = self.extremes(&node.name, &act, (along, false, false), vec![rows]);
        let result = self.program.floats(act.dims.clone(), act.layout);
        let (indices, output) = (self.program.span(&places), self.program.span(&result));
        self.program.push(&node.name, OneHotF32 { indices, output, depth: cols, inner: 1, off: 0.0, on: 1.0 });
        let output = self.with_axis_at(&node.name, result, axis)?;
        self.set(node, Value::Real(output));
        Ok(())
    }

    fn cumulate(&mut self, node: &Node, input: Act) -> Result<(), Why> {
        let act = self.plain(&node.name, input)?;
        let axis = match self.stored_longs(node, 1)?.as_deref() {
            Some(&[axis]) => axis_of(axis, act.dims.len())?,
            _ => return Err("its axis is computed".into()),
        };
        let along = Self::along_axis(&act, axis);
        let result = self.program.floats(act.dims.clone(), Layout::Plain);
        let (exclusive, reverse) = (int(node, "exclusive", 0) != 0, int(node, "reverse", 0) != 0);
        let (input, output) = (self.program.span(&act), self.program.span(&result));
        self.program.push(&node.name, CumulateF32 { input, output, along, exclusive, reverse });
        self.set(node, Value::Real(result));
        Ok(())
    }
}

/// The window of a pool that takes the elements along a dimension: rows of them, one output each.
fn window(along: &Along) -> Option<Window> {
    let Along { outer, len, inner } = *along;
    let fits = [outer, len, inner].iter().all(|size| (1..=MOST_EXTENT).contains(size));
    fits.then(|| Window { in_h: outer, in_w: len, out_h: outer, out_w: 1, kernel_w: len, ..Window::pixels(1, inner) })
}
