//! RNN, LSTM and GRU.

use super::context::Context;
use super::fact::{Dims, Fact, same, show};
use super::{Misfit, Ruled};
use crate::model::graph::AttributeValue;

/// Those of ONNX, in lower case: names are compared without.
const FUNCTIONS: [&str; 11] = [
    "relu",
    "tanh",
    "sigmoid",
    "affine",
    "leakyrelu",
    "thresholdedrelu",
    "scaledtanh",
    "hardsigmoid",
    "elu",
    "softsign",
    "softplus",
];

/// A function for each kind of gate and direction, where some are stated, and a bound that is none.
fn functions(c: &Context<'_>, directions: usize, gates: usize) -> Ruled<()> {
    if let Some(AttributeValue::Float(clip)) = c.node.attribute("clip")
        && *clip < 0.0
    {
        return Err(Misfit::Attribute(format!("attribute `clip` is {clip}; it must not be negative")));
    }
    let Some(AttributeValue::Texts(names)) = c.node.attribute("activations") else { return Ok(()) };
    // Of an LSTM input, output and forget gates share one; so do both gates of a GRU.
    let needed = directions * if gates == 1 { 1 } else { gates - 1 };
    if names.len() != needed {
        return Err(Misfit::Attribute(format!(
            "attribute `activations` has {} functions; {needed} are needed",
            names.len()
        )));
    }
    match names.iter().find(|name| !FUNCTIONS.contains(&name.to_ascii_lowercase().as_str())) {
        Some(name) => Err(Misfit::Attribute(format!("attribute `activations` has `{name}`, which ONNX does not know"))),
        None => Ok(()),
    }
}

/// `Y` of all steps, `Y_h` after the last one and, of an LSTM, `Y_c`; weights have `gates` blocks.
pub(super) fn recurrent(c: &Context<'_>, gates: usize) -> Ruled<Vec<Option<Fact>>> {
    let batch_first = c.int("layout").unwrap_or(0) != 0;
    let directions = match c.text("direction") {
        Some("bidirectional") => 2,
        None | Some("forward" | "reverse") => 1,
        Some(other) => {
            let what = format!("attribute `direction` is `{other}`; ONNX knows forward, reverse and bidirectional");
            return Err(Misfit::Attribute(what));
        }
    };
    functions(c, directions, gates)?;
    let stated = c.int("hidden_size").and_then(|hidden| usize::try_from(hidden).ok());
    let (Some(input), Some(weights)) = (c.dims(0), c.dims(2)) else { return Ok(vec![]) };
    let three = |dims: &Dims, what: &str| match dims.as_slice() {
        &[a, b, c] => Ok([a, b, c]),
        _ => Err(Misfit::Shape(format!("its {what} {} must have 3 dimensions", show(dims)))),
    };
    let [first, second, inputs] = three(input, "input")?;
    let (steps, batch) = if batch_first { (second, first) } else { (first, second) };
    let hidden = same(stated, three(weights, "recurrent weights")?[2], |stated, stored| {
        format!("attribute `hidden_size` is {stated}, its recurrent weights have {stored}")
    })?;
    let gates = hidden.and_then(|hidden| hidden.checked_mul(gates));
    let parameters = [
        (1, vec![Some(directions), gates, inputs]),
        (2, vec![Some(directions), gates, hidden]),
        (3, vec![Some(directions), gates.and_then(|gates| gates.checked_mul(2))]),
        (4, vec![batch]),
        (5, if batch_first { vec![batch, Some(directions), hidden] } else { vec![Some(directions), batch, hidden] }),
        (6, if batch_first { vec![batch, Some(directions), hidden] } else { vec![Some(directions), batch, hidden] }),
        (7, vec![Some(directions), hidden.and_then(|hidden| hidden.checked_mul(3))]),
    ];
    for (index, expected) in parameters {
        let Some(found) = c.dims(index) else { continue };
        let misfit = || {
            Misfit::Shape(format!(
                "input `{}` is {}; it must be {}",
                c.node.inputs[index],
                show(found),
                show(&expected)
            ))
        };
        if found.len() != expected.len() {
            return Err(misfit());
        }
        for (found, expected) in found.iter().zip(&expected) {
            same(*found, *expected, |_, _| String::new()).map_err(|_| misfit())?;
        }
    }
    if let (Some(lengths), Some(steps)) = (c.values(4), steps)
        && let Some(length) =
            lengths.iter().find(|length| usize::try_from(**length).map_or(true, |length| length > steps))
    {
        return Err(Misfit::Attribute(format!("a sequence length is {length}; the input has {steps} steps")));
    }
    let (all, last) = if batch_first {
        (vec![batch, steps, Some(directions), hidden], vec![batch, Some(directions), hidden])
    } else {
        (vec![steps, Some(directions), batch, hidden], vec![Some(directions), batch, hidden])
    };
    let fact = |dims: Dims| Some(Fact::new(c.dtype(0), Some(dims)));
    let mut outputs = vec![fact(all), fact(last.clone()), fact(last)];
    outputs.truncate(c.node.outputs.len());
    Ok(outputs)
}
