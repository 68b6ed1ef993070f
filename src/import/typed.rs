//! A scanned model as tract runs it: parsed by tract-onnx, typed, sizes held, optimised.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tract_onnx::prelude::*;

use super::{linear, proto};
use crate::model::{Binding, Fault, Model, ModelError};

/// The model as tract runs it, optimised, every shape a number.
///
/// # Errors
/// [`ModelError`] names the operator that tract does not have or the node that it cannot take.
pub(crate) fn to_tract(model: &Model, bindings: &[Binding]) -> Result<TypedModel, ModelError> {
    let proto = proto::model(model, bindings)?;
    let mut onnx = tract_onnx::onnx();
    linear::register(&mut onnx.op_register);
    if let Some(node) = proto.graph.iter().flat_map(|g| &g.node).find(|n| !onnx.op_register.0.contains_key(&n.op_type))
    {
        return Err(model
            .error(Fault::unsupported(format!("node `{}`: operator {} is not supported", node.name, node.op_type))));
    }
    let refused = |what: String| model.error(Fault::unsupported(format!("the tract engine cannot take it: {what}")));
    let typed = guarded(|| {
        let parsed = onnx.parse(&proto, None)?;
        drop(proto);
        parsed.model.into_typed()
    })
    .map_err(refused)?;
    hold_sizes(model, &typed)?;
    guarded(|| typed.into_optimized()).map_err(refused)
}

/// tract panics where it should refuse; to a caller both are refusals.
pub(crate) fn guarded<T>(work: impl FnOnce() -> TractResult<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| format!("{error:#}")),
        Err(payload) => {
            let text = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
            let reason = text.and_then(|text| text.lines().next()).unwrap_or("no reason given");
            Err(format!("tract stopped on it ({reason})"))
        }
    }
}

/// Sizes that only tract's own inference finds are held against the same limit as all others.
fn hold_sizes(model: &Model, typed: &TypedModel) -> Result<(), ModelError> {
    for node in typed.nodes() {
        for fact in node.outputs.iter().map(|outlet| &outlet.fact) {
            let Some(shape) = fact.shape.as_concrete() else {
                let what = format!("node `{}` ({}): its output's shape depends on data", node.name, node.op.name());
                return Err(model.error(Fault::unsupported(what)));
            };
            let bytes =
                shape.iter().fold(fact.datum_type.size_of() as u64, |bytes, &dim| bytes.saturating_mul(dim as u64));
            if bytes > model.limits().tensor_bytes {
                let subject = format!("node `{}` ({}): size of its output in bytes", node.name, node.op.name());
                return Err(model.error(Fault::limit(subject, bytes, model.limits().tensor_bytes)));
            }
        }
    }
    Ok(())
}
