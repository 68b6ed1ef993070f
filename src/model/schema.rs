//! The messages of `onnx.proto` (IR version 14) that are read, with the fields that errors name.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::wire::Schema;

pub const MODEL: Schema = Schema {
    name: "model",
    fields: &[
        (1, "ir_version"),
        (2, "producer_name"),
        (7, "graph"),
        (8, "opset_import"),
        (14, "metadata_props"),
        (25, "functions"),
    ],
};
pub const OPSET: Schema = Schema { name: "opset_import", fields: &[(1, "domain"), (2, "version")] };
pub const GRAPH: Schema = Schema {
    name: "graph",
    fields: &[
        (1, "node"),
        (2, "name"),
        (5, "initializer"),
        (11, "input"),
        (12, "output"),
        (13, "value_info"),
        (15, "sparse_initializer"),
    ],
};
pub const NODE: Schema = Schema {
    name: "node",
    fields: &[(1, "input"), (2, "output"), (3, "name"), (4, "op_type"), (5, "attribute"), (7, "domain")],
};
pub const ATTRIBUTE: Schema = Schema {
    name: "attribute",
    fields: &[
        (1, "name"),
        (2, "f"),
        (3, "i"),
        (4, "s"),
        (5, "t"),
        (6, "g"),
        (7, "floats"),
        (8, "ints"),
        (9, "strings"),
        (10, "tensors"),
        (11, "graphs"),
        (14, "tp"),
        (15, "type_protos"),
        (20, "type"),
        (22, "sparse_tensor"),
        (23, "sparse_tensors"),
    ],
};
pub const TENSOR: Schema = Schema {
    name: "tensor",
    fields: &[
        (1, "dims"),
        (2, "data_type"),
        (4, "float_data"),
        (5, "int32_data"),
        (6, "string_data"),
        (7, "int64_data"),
        (8, "name"),
        (9, "raw_data"),
        (10, "double_data"),
        (11, "uint64_data"),
        (13, "external_data"),
        (14, "data_location"),
    ],
};
pub const SPARSE: Schema = Schema { name: "sparse_initializer", fields: &[(1, "values")] };
pub const VALUE_INFO: Schema = Schema { name: "value_info", fields: &[(1, "name"), (2, "type")] };
pub const TYPE: Schema = Schema { name: "type", fields: &[(1, "tensor_type"), (4, "sequence_type"), (5, "map_type")] };
pub const TENSOR_TYPE: Schema = Schema { name: "tensor_type", fields: &[(1, "elem_type"), (2, "shape")] };
pub const SHAPE: Schema = Schema { name: "shape", fields: &[(1, "dim")] };
pub const DIM: Schema = Schema { name: "dim", fields: &[(1, "dim_value"), (2, "dim_param")] };
pub const KEY_VALUE: Schema = Schema { name: "external_data", fields: &[(1, "key"), (2, "value")] };
