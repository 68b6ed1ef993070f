//! In which type each node of the model computes.

use super::value::Value;
use super::{Expanded, Lowering};
use crate::model::{DType, Node};

impl<'m> Lowering<'m> {
    /// Reports a node by what it hands on.
    pub(super) fn report_value(&mut self, expanded: &Expanded<'m>) {
        let Some(name) = expanded.get().made() else { return };
        let Some(value) = self.values.get(name) else { return };
        let (dtype, constant) = (value.dtype(), value.is_constant() || matches!(value, Value::Quantized(_)));
        match (constant, expanded) {
            // Of a chain, stored edges are no sign of what its heart computes in.
            (true, Expanded::Made { .. }) => return,
            (true, Expanded::Own(_)) => _ = self.constant.insert(name.clone()),
            (false, _) => {}
        }
        self.report(expanded.origin(), dtype);
    }

    /// The edges of a chain do not decide what its heart computes in.
    pub(super) fn report(&mut self, origin: &Node, dtype: DType) {
        if let Some(output) = origin.made() {
            let float = dtype == DType::F32;
            let entry = self.computed_in.entry(output.clone()).or_insert(dtype.name());
            if float {
                *entry = dtype.name();
            }
        }
    }
}
