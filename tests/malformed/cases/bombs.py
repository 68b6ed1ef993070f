"""Small files that ask for terabytes, and some that never end."""

import numpy as np
from onnx import TensorProto, helper

from .models import (
    CONSTANT_OF_SHAPE,
    CONV,
    CONVTRANSPOSE,
    EXPAND,
    INT64,
    LOOP,
    ONEHOT,
    PAD,
    RANGE,
    RELU,
    RESIZE,
    TILE,
    UPSAMPLE,
    build,
    chain,
    functions,
    i64,
    set_attribute,
    set_constant,
    source,
    value,
)
from .registry import refuse, refused

HUGE = 2**40
LEVELS = 40

# file, kind, base, constant input, value
PARAMETERS = [
    ("tile", "limit", TILE, "repeats", i64(1, HUGE)),
    ("tile_both_axes", "limit", TILE, "repeats", i64(2**20, 2**20)),
    ("tile_product_wraps", "limit|shape", TILE, "repeats", i64(2**31, 2**31)),
    ("expand", "limit", EXPAND, "shape", i64(2, HUGE)),
    ("expand_to_rank_8", "limit|shape", EXPAND, "shape", i64(2**10, 2**10, 2**10, 2**10, 1, 1, 2, 4)),
    ("constant_of_shape", "limit", CONSTANT_OF_SHAPE, "shape", i64(HUGE)),
    ("constant_of_shape_i64_max", "limit|shape", CONSTANT_OF_SHAPE, "shape", i64(2**63 - 1)),
    ("range_limit", "limit|unsupported", RANGE, "limit", np.int64(HUGE)),
    ("range_start_min", "limit|shape|unsupported", RANGE, "start", np.int64(-(2**63))),
    ("pad", "limit", PAD, "pads", i64(0, HUGE, 0, 1)),
    ("pad_sum_wraps", "limit|shape|attribute", PAD, "pads", i64(0, 2**63 - 1, 0, 2**63 - 1)),
    ("resize", "limit", RESIZE, "scales", np.float32([1, 1, 2**20, 2**20])),
    ("resize_inf", "limit|attribute", RESIZE, "scales", np.float32([1, 1, np.inf, 2])),
    ("upsample", "limit|unsupported", UPSAMPLE, "scales", np.float32([1, 1, 2**20, 2**20])),
    ("one_hot_depth", "limit|unsupported", ONEHOT, "depth", i64(HUGE)),
    ("loop_trips", "limit|unsupported", LOOP, "trips", np.int64(2**62)),
]
for file, kind, base, parameter, content in PARAMETERS:
    refuse(f"bomb_{file}", kind, base.graph.node[0].name, base, lambda m, p=parameter, c=content: set_constant(m, p, c))

# file, kind, base, attribute, value
ATTRIBUTES = [
    ("conv_pads", "limit", CONV, "pads", [2**20] * 4),
    ("conv_pads_sum_wraps", "limit|shape|attribute", CONV, "pads", [2**63 - 1] * 4),
    ("conv_transpose_strides", "limit|unsupported", CONVTRANSPOSE, "strides", [2**20, 2**20]),
    ("conv_transpose_output_shape", "limit|attribute|unsupported", CONVTRANSPOSE, "output_shape", [2**20, 2**20]),
]
for file, kind, base, attribute, content in ATTRIBUTES:
    refuse(
        f"bomb_{file}", kind, base.graph.node[0].name, base, lambda m, a=attribute, c=content: set_attribute(m, a, c)
    )

# The last tensor is 2^40 times the first one; no single node is suspicious.
for file, op, constants, twice in (
    ("tile_doublings", "Tile", {"two": i64(2)}, False),
    ("concat_doublings", "Concat", {}, True),
):
    refuse(
        f"bomb_{file}",
        "limit",
        op.lower(),
        chain(op, 2, constants, twice),
        lambda _, a=(op, LEVELS, constants, twice): chain(*a),
    )

refuse("bomb_functions_billion_laughs", "limit|unsupported", "function", functions(2), lambda _: functions(LEVELS))

# Two modest tensors, one huge product.
OUTER = {
    op: build(
        f"outer_{op.lower()}",
        [
            helper.make_node("ConstantOfShape", ["rows"], ["a"], name="rows0"),
            helper.make_node("ConstantOfShape", ["columns"], ["b"], name="columns0"),
            helper.make_node(op, ["a", "b"], ["c"], name=f"{op.lower()}0"),
            helper.make_node("Add", ["pixels", "c"], ["scores"], name="mix0"),
        ],
        [value("pixels", [1])],
        [value("scores", [None, None])],
        {"rows": i64(4, 1), "columns": i64(1, 4)},
    )
    for op in ("MatMul", "Mul")
}


def outer(m):
    sizes = {"rows": i64(2**20, 1), "columns": i64(1, 2**20)}
    for t in m.graph.initializer:
        t.raw_data = sizes[t.name].tobytes()


for op, base in OUTER.items():
    refuse(f"bomb_outer_{op.lower()}", "limit", f"{op.lower()}0", base, outer)

# Of so many rows each with each: nobody names the scores.
TO_ITSELF = build(
    "attention_to_itself",
    [helper.make_node("Attention", ["pixels"] * 3, ["scores"], name="attention0")],
    [value("pixels", [1, 1, 4, 1])],
    [value("scores", [1, 1, None, 1])],
    opset=23,
)


@refused("limit", "attention0", TO_ITSELF)
def bomb_attention_scores(m):
    m.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 2**20


for file, shape in (
    ("declared_input", [1, HUGE]),
    ("declared_input_product_wraps", [2**32, 2**32]),
    ("declared_input_i64_max", [2**63 - 1, 1]),
):

    def change(m, s=shape):
        for v in (m.graph.input[0], m.graph.output[0]):
            for dim, size in zip(v.type.tensor_type.shape.dim, s):
                dim.dim_value = size

    refuse(f"bomb_{file}", "limit|graph|shape", "pixels", RELU, change)

SPARSE = helper.make_sparse_tensor(
    helper.make_tensor("sparse0", TensorProto.FLOAT, [1], [1.0]), helper.make_tensor("sparse0_at", INT64, [1], [1]), [4]
)
SPARSE_INITIALIZER = build(
    "sparse_initializer",
    [helper.make_node("Add", ["pixels", "sparse0"], ["scores"], name="add0")],
    [value("pixels", [1])],
    [value("scores", [None])],
)
SPARSE_INITIALIZER.graph.sparse_initializer.append(SPARSE)
SPARSE_CONSTANT = source("Constant", {}, sparse_value=SPARSE)
SPARSE_CONSTANT.graph.name = "sparse_constant"


@refused("limit|unsupported", "sparse0", SPARSE_INITIALIZER)
def bomb_sparse_initializer(m):
    m.graph.sparse_initializer[0].dims[0] = HUGE


@refused("limit|unsupported|attribute", "constant0", SPARSE_CONSTANT)
def bomb_sparse_constant(m):
    m.graph.node[0].attribute[0].sparse_tensor.dims[0] = HUGE
