//! How much a model file may ask for. Every size that a file states is held against these
//! before anything is allocated for it.

use super::graph::DType;

/// Upper bounds on what a model file may claim.
///
/// The defaults take every network that a small board can run, and stop a few hostile bytes
/// from claiming the machine. Raise a field for a model that is larger on purpose.
///
/// ```
/// let limits = tractlet::Limits { tensor_bytes: 1 << 30, ..Default::default() };
/// assert!(limits.items > 10_000);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Size of the model file, and of all files of external data together, in bytes.
    pub file_bytes: u64,
    /// Depth of graphs within graphs (`If`, `Loop` and `Scan` bodies).
    pub subgraph_depth: usize,
    /// Nodes, initializers and attribute values of the whole model, subgraphs included; inputs and outputs of a
    /// plan file.
    pub items: usize,
    /// Length of one name, in bytes.
    pub name_bytes: usize,
    /// Dimensions of one tensor.
    pub rank: usize,
    /// Size of any one tensor, be it stored or computed, in bytes.
    pub tensor_bytes: u64,
    /// Size of all tensors that are computed from constants alone, which engines do at load,
    /// beyond eight times the size of the stored ones, in bytes; and of all tables by which plans move elements and
    /// resize images, and stored operands that are repeated or spaced out for them, which a few bytes of a model may ask for.
    pub folded_bytes: u64,
    /// The arena that a plan file asks for, and as much again for its inputs and outputs together, in bytes. The arena of
    /// a session of several threads, with what they work in, is held to it too.
    pub arena_bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            file_bytes: 2 << 30, // protobuf's own bound
            subgraph_depth: 8,
            items: 1 << 16,
            name_bytes: 1 << 12,
            rank: 8,
            tensor_bytes: 256 << 20,
            folded_bytes: 16 << 20,
            arena_bytes: 512 << 20,
        }
    }
}

impl Limits {
    /// Size of a tensor in bytes, or, where that is over the limit, the (saturated) size.
    pub(super) fn byte_len(&self, dims: &[usize], dtype: DType) -> Result<usize, u64> {
        // A zero elsewhere must not hide a dimension that overflows on its own.
        let bytes = dims
            .iter()
            .try_fold(dtype.size() as u64, |bytes, &dim| bytes.checked_mul(dim.max(1) as u64))
            .unwrap_or(u64::MAX);
        if bytes > self.tensor_bytes {
            return Err(bytes);
        }
        Ok(dims.iter().product::<usize>() * dtype.size())
    }
}
