//! Convolution and pooling: sliding windows over the spatial dimensions of NCHW and its 1-D and
//! 3-D kin.

use super::context::Context;
use super::fact::{Dims, Fact, same, show};
use super::{Misfit, Ruled};
use crate::model::graph::DType;

type Outputs = Vec<Option<Fact>>;

/// Where a window stands along one spatial axis.
struct Axis {
    kernel: Option<usize>,
    stride: usize,
    dilation: usize,
    /// Before and after.
    pads: (usize, usize),
}

pub(super) fn conv(c: &Context<'_>, x: usize, w: usize, bias: Option<usize>, dtype: Option<DType>) -> Ruled<Outputs> {
    let Some(weights) = c.dims(w) else { return Ok(vec![Some(Fact::new(dtype, None))]) };
    if weights.len() < 3 {
        return Err(Misfit::Shape(format!("its weights {} must have at least 3 dimensions", show(weights))));
    }
    let axes = axes(c, weights.len() - 2, Some(&weights[2..]))?;
    if let Some(bias) = bias.and_then(|index| c.dims(index)) {
        channels(bias, weights[0])?;
    }
    let Some(input) = c.dims(x) else { return Ok(vec![Some(Fact::new(dtype, None))]) };
    ranks(input, weights)?;
    let group = c.int("group").unwrap_or(1) as usize;
    if let (Some(channels), Some(per_group)) = (input[1], weights[1])
        && per_group.checked_mul(group) != Some(channels)
    {
        let what = format!(
            "input {} has {channels} channels, its weights {} and group {group} ask for {}",
            show(input),
            show(weights),
            per_group.saturating_mul(group)
        );
        return Err(Misfit::Shape(what));
    }
    if let Some(out) = weights[0].filter(|out| out % group != 0) {
        return Err(Misfit::Attribute(format!("group {group} does not divide the {out} output channels")));
    }
    let mut dims: Dims = vec![input[0], weights[0]];
    for (size, axis) in input[2..].iter().zip(&axes) {
        dims.push(output_size(c, *size, axis, false)?);
    }
    Ok(vec![Some(Fact::new(dtype, Some(dims)))])
}

pub(super) fn conv_transpose(c: &Context<'_>) -> Ruled<Outputs> {
    let (Some(input), Some(weights)) = (c.dims(0), c.dims(1)) else {
        return Ok(vec![Some(Fact::new(c.dtype(0), None))]);
    };
    if weights.len() < 3 {
        return Err(Misfit::Shape(format!("its weights {} must have at least 3 dimensions", show(weights))));
    }
    ranks(input, weights)?;
    same(input[1], weights[0], |got, want| {
        format!("input {} has {got} channels, its weights ask for {want}", show(input))
    })?;
    let group = c.int("group").unwrap_or(1) as usize;
    if let Some(channels) = weights[0].filter(|channels| channels % group != 0) {
        return Err(Misfit::Attribute(format!("group {group} does not divide the {channels} input channels")));
    }
    let made = weights[1].map(|per_group| per_group.saturating_mul(group));
    if let Some(bias) = c.dims(2) {
        channels(bias, made)?;
    }
    let axes = axes(c, weights.len() - 2, Some(&weights[2..]))?;
    let given = list(c, "output_shape", axes.len(), axes.len())?;
    let extra = list(c, "output_padding", axes.len(), axes.len())?;
    let mut dims: Dims = vec![input[0], made];
    for (i, (size, axis)) in input[2..].iter().zip(&axes).enumerate() {
        dims.push(match (given.and_then(|shape| shape.get(i)), size, axis.kernel) {
            (Some(&size), ..) => {
                Some(usize::try_from(size).map_err(|_| Misfit::Attribute(format!("output_shape has {size}")))?)
            }
            (None, Some(size), Some(kernel)) => {
                let extra = extra.and_then(|e| e.get(i)).copied().unwrap_or(0) as usize;
                if extra >= axis.stride.max(axis.dilation).max(1) {
                    return Err(Misfit::Attribute(format!(
                        "attribute `output_padding` has {extra}; it must be smaller than the stride or the dilation"
                    )));
                }
                // One window a stride, whatever its reach.
                if let Some("SAME_UPPER" | "SAME_LOWER") = c.text("auto_pad") {
                    dims.push(Some(size.saturating_mul(axis.stride)));
                    continue;
                }
                let full = size
                    .saturating_sub(1)
                    .saturating_mul(axis.stride)
                    .saturating_add(extra + (kernel - 1) * axis.dilation + 1);
                let made = full.checked_sub(axis.pads.0 + axis.pads.1).filter(|made| *made > 0);
                Some(made.ok_or_else(|| {
                    Misfit::Attribute(format!("attribute `pads` takes away all {full} of its output"))
                })?)
            }
            _ => None,
        });
    }
    Ok(vec![Some(Fact::new(c.dtype(0), Some(dims)))])
}

pub(super) fn pool(c: &Context<'_>, channels_last: bool, dtype: Option<DType>) -> Ruled<Outputs> {
    let kernel = c.ints("kernel_shape").unwrap_or_default();
    let axes = axes(c, kernel.len(), None)?;
    let Some(input) = c.dims(0) else { return Ok(vec![]) };
    if input.len() != kernel.len() + 2 {
        return Err(Misfit::Shape(format!(
            "input {} does not fit a kernel of {} dimensions",
            show(input),
            kernel.len()
        )));
    }
    let ceil = c.int("ceil_mode").unwrap_or(0) != 0;
    let mut dims = input.clone();
    let first = if channels_last { 1 } else { 2 };
    for (size, axis) in dims[first..].iter_mut().zip(&axes) {
        if axis.kernel.is_some_and(|kernel| axis.pads.0.max(axis.pads.1) >= kernel) {
            return Err(Misfit::Attribute(
                "attribute `pads` is not smaller than the kernel: a window would hold nothing but padding".into(),
            ));
        }
        *size = output_size(c, *size, axis, ceil)?;
    }
    let values = Some(Fact::new(dtype, Some(dims.clone())));
    let indices = Some(Fact::new(Some(DType::I64), Some(dims)));
    Ok(vec![values, indices])
}

pub(super) fn global_pool(c: &Context<'_>, channels_last: bool) -> Ruled<Outputs> {
    let Some(input) = c.dims(0) else { return Ok(vec![]) };
    if input.len() < 2 {
        return Err(Misfit::Shape(format!("input {} has no channel dimension", show(input))));
    }
    let channel = if channels_last { input.len() - 1 } else { 1 };
    let dims = input.iter().enumerate().map(|(i, dim)| if i == 0 || i == channel { *dim } else { Some(1) }).collect();
    Ok(vec![Some(Fact::new(c.dtype(0), Some(dims)))])
}

/// A bias has one value for each output channel.
fn channels(bias: &Dims, made: Option<usize>) -> Ruled<()> {
    let [length] = bias.as_slice() else {
        return Err(Misfit::Shape(format!("its bias {} must be a vector", show(bias))));
    };
    same(*length, made, |got, want| format!("its bias has {got} values for {want} output channels"))?;
    Ok(())
}

fn ranks(input: &Dims, weights: &Dims) -> Ruled<()> {
    if input.len() == weights.len() {
        return Ok(());
    }
    Err(Misfit::Shape(format!(
        "input {} has {} dimensions, its weights {} ask for {}",
        show(input),
        input.len(),
        show(weights),
        weights.len()
    )))
}

/// An attribute's `length` values.
fn list<'c>(c: &Context<'c>, name: &str, length: usize, count: usize) -> Ruled<Option<&'c [i64]>> {
    match c.ints(name) {
        Some(values) if values.len() != length => Err(Misfit::Attribute(format!(
            "attribute `{name}` has {} values; {length} are needed for {count} spatial dimensions",
            values.len()
        ))),
        values => Ok(values),
    }
}

/// Window parameters of `count` spatial axes; `weights` are the spatial dimensions of the kernel.
fn axes(c: &Context<'_>, count: usize, weights: Option<&[Option<usize>]>) -> Ruled<Vec<Axis>> {
    let list = |name: &str, length: usize| list(c, name, length, count);
    let (kernel, strides) = (list("kernel_shape", count)?, list("strides", count)?);
    let (dilations, stated) = (list("dilations", count)?, list("pads", 2 * count)?);
    let pads = stated.and(c.node.explicit_pads());
    let at = |values: Option<&[i64]>, i: usize, default: usize| values.map_or(default, |v| v[i] as usize);
    (0..count)
        .map(|i| {
            let stated = kernel.map(|k| k[i] as usize);
            let kernel = match weights {
                Some(weights) => same(stated, weights[i], |stated, stored| {
                    format!("attribute `kernel_shape` states {stated}, its weights have {stored}")
                })
                .map_err(|misfit| if let Misfit::Shape(what) = misfit { Misfit::Attribute(what) } else { misfit })?,
                None => stated,
            };
            if kernel == Some(0) {
                return Err(Misfit::Shape("its kernel is empty".into()));
            }
            Ok(Axis {
                kernel,
                stride: at(strides, i, 1),
                dilation: at(dilations, i, 1),
                pads: (at(pads, i, 0), at(pads, count + i, 0)),
            })
        })
        .collect()
}

fn output_size(c: &Context<'_>, size: Option<usize>, axis: &Axis, ceil: bool) -> Ruled<Option<usize>> {
    let (Some(size), Some(kernel)) = (size, axis.kernel) else { return Ok(None) };
    if let Some("SAME_UPPER" | "SAME_LOWER") = c.text("auto_pad") {
        return Ok(Some(size.div_ceil(axis.stride)));
    }
    // Kernel and dilation are at most 2^16 each, so this cannot overflow 64 bits; sizes on 32-bit boards saturate.
    let reach = (kernel - 1).saturating_mul(axis.dilation).saturating_add(1);
    let padded = size.saturating_add(axis.pads.0 + axis.pads.1);
    let room = padded
        .checked_sub(reach)
        .ok_or_else(|| Misfit::Shape(format!("its window of {reach} is larger than the padded input of {padded}")))?;
    let mut count = if ceil { room.div_ceil(axis.stride) } else { room / axis.stride } + 1;
    // A window that starts in the padding after the input is not counted (ONNX AveragePool, ceil_mode).
    if ceil && (count - 1) * axis.stride >= size + axis.pads.0 {
        count -= 1;
    }
    Ok(Some(count))
}
