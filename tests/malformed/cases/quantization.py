"""Scales and zero points that no integer kernel can take."""

import numpy as np
from onnx import helper, numpy_helper

from .models import (
    DEQUANTIZE,
    DEQUANTIZE_AXIS,
    DEQUANTIZE_BIAS,
    DEQUANTIZE_BLOCKS,
    FLOAT,
    INT64,
    QLINEAR_CONV,
    QLINEAR_MATMUL,
    QUANTIZE,
    QUANTIZE_AXIS,
    TensorProto,
    constant,
    set_attribute,
    set_constant,
)
from .registry import refuse, refused

F, I8, U8, I32 = np.float32, np.int8, np.uint8, np.int32

# file, base, constant input, illegal value
PARAMETERS = [
    ("scale_empty", QUANTIZE, "scale", F([])),
    ("scale_zero", QUANTIZE, "scale", F(0)),
    ("scale_negative", QUANTIZE, "scale", F(-0.1)),
    ("scale_nan", QUANTIZE, "scale", F(np.nan)),
    ("scale_inf", QUANTIZE, "scale", F(np.inf)),
    ("scale_subnormal", QUANTIZE, "scale", F(1e-42)),
    ("scale_minus_zero", QUANTIZE, "scale", F(-0.0)),
    ("scale_3d", QUANTIZE, "scale", F([[[0.1]]])),
    ("axis_scale_with_one_nan", QUANTIZE_AXIS, "scale", F([0.1, np.nan, 0.3])),
    ("zero_point_is_int32", QUANTIZE, "zero_point", I32(3)),
    ("zero_point_is_uint16_before_opset_21", QUANTIZE, "zero_point", np.uint16(3)),
    ("dequantize_zero_point_is_bool", DEQUANTIZE, "zero_point", np.bool_(True)),
    ("dequantize_bias_zero_point_of_other_dtype", DEQUANTIZE_BIAS, "zero_point", U8(0)),
    ("dequantize_block_scales_1d", DEQUANTIZE_BLOCKS, "scale", F([0.1, 0.2])),
    ("dequantize_block_zero_points_too_few", DEQUANTIZE_BLOCKS, "zero_point", np.zeros((2, 1), I8)),
    ("qlinear_conv_bias_is_int64", QLINEAR_CONV, "b", np.int64([1, 2, 3])),
    ("qlinear_conv_bias_2d", QLINEAR_CONV, "b", I32([[1, 2, 3]])),
    ("qlinear_conv_weights_3d", QLINEAR_CONV, "w", np.ones((3, 2, 3), I8)),
    ("qlinear_conv_weights_are_int32", QLINEAR_CONV, "w", np.ones((3, 2, 3, 3), I32)),
    ("qlinear_conv_w_scale_2d", QLINEAR_CONV, "w_scale", F([[0.1, 0.2, 0.3]])),
    ("qlinear_conv_y_scale_is_vector", QLINEAR_CONV, "y_scale", F([0.5, 0.5, 0.5])),
    ("qlinear_conv_y_zero_point_is_vector", QLINEAR_CONV, "y_zero_point", I8([-1, -1, -1])),
    ("qlinear_conv_y_zero_point_is_int32", QLINEAR_CONV, "y_zero_point", I32(-1)),
    ("qlinear_matmul_x_scale_inf", QLINEAR_MATMUL, "x_scale", F(np.inf)),
    ("qlinear_matmul_y_zero_point_is_vector", QLINEAR_MATMUL, "y_zero_point", I8([-1, -1])),
    ("scale_is_int", QUANTIZE, "scale", I32(1)),
    ("scale_is_double", QUANTIZE, "scale", np.float64(0.1)),
    ("axis_scale_one_short", QUANTIZE_AXIS, "scale", F([0.1, 0.2])),
    ("axis_scale_one_long", QUANTIZE_AXIS, "scale", F([0.1, 0.2, 0.3, 0.4])),
    ("axis_scale_with_one_zero", QUANTIZE_AXIS, "scale", F([0.1, 0, 0.3])),
    ("axis_scale_2d", QUANTIZE_AXIS, "scale", F([[0.1, 0.2, 0.3]])),
    ("axis_zero_point_one_short", QUANTIZE_AXIS, "zero_point", I8([0, 1])),
    ("zero_point_is_float", QUANTIZE, "zero_point", F(3)),
    ("zero_point_is_int64", QUANTIZE, "zero_point", np.int64(3)),
    ("zero_point_empty", QUANTIZE, "zero_point", I8([])),
    ("dequantize_scale_empty", DEQUANTIZE, "scale", F([])),
    ("dequantize_scale_negative", DEQUANTIZE, "scale", F(-0.1)),
    ("dequantize_scale_nan", DEQUANTIZE, "scale", F(np.nan)),
    ("dequantize_scale_inf", DEQUANTIZE, "scale", F(-np.inf)),
    ("dequantize_scale_is_int", DEQUANTIZE, "scale", I8(1)),
    ("dequantize_zero_point_of_other_dtype", DEQUANTIZE, "zero_point", U8(3)),
    ("dequantize_zero_point_too_long", DEQUANTIZE, "zero_point", I8([3, 3])),
    ("dequantize_axis_scale_one_short", DEQUANTIZE_AXIS, "scale", F([0.1, 0.2])),
    ("dequantize_axis_scale_one_long", DEQUANTIZE_AXIS, "scale", F([0.1, 0.2, 0.3, 0.4])),
    ("dequantize_axis_zero_point_one_short", DEQUANTIZE_AXIS, "zero_point", I8([0, 0])),
    ("dequantize_axis_zero_point_is_scalar", DEQUANTIZE_AXIS, "zero_point", I8(0)),
    ("dequantize_block_scales_too_few", DEQUANTIZE_BLOCKS, "scale", F([[0.1], [0.3]])),
    ("qlinear_conv_weights_are_float", QLINEAR_CONV, "w", np.ones((3, 2, 3, 3), F)),
    ("qlinear_conv_bias_is_float", QLINEAR_CONV, "b", F([1, 2, 3])),
    ("qlinear_conv_bias_too_short", QLINEAR_CONV, "b", I32([1, 2])),
    ("qlinear_conv_x_scale_empty", QLINEAR_CONV, "x_scale", F([])),
    ("qlinear_conv_x_scale_is_vector", QLINEAR_CONV, "x_scale", F([0.1, 0.2])),
    ("qlinear_conv_x_scale_nan", QLINEAR_CONV, "x_scale", F(np.nan)),
    ("qlinear_conv_x_zero_point_of_other_dtype", QLINEAR_CONV, "x_zero_point", U8(1)),
    ("qlinear_conv_w_scale_one_short", QLINEAR_CONV, "w_scale", F([0.1, 0.2])),
    ("qlinear_conv_w_scale_negative", QLINEAR_CONV, "w_scale", F([0.1, -0.2, 0.3])),
    ("qlinear_conv_w_zero_point_one_short", QLINEAR_CONV, "w_zero_point", I8([0, 0])),
    ("qlinear_conv_w_zero_point_of_other_dtype", QLINEAR_CONV, "w_zero_point", U8([0, 0, 0])),
    ("qlinear_conv_y_scale_zero", QLINEAR_CONV, "y_scale", F(0)),
    ("qlinear_conv_y_scale_empty", QLINEAR_CONV, "y_scale", F([])),
    ("qlinear_conv_y_zero_point_is_float", QLINEAR_CONV, "y_zero_point", F(-1)),
    ("qlinear_matmul_w_scale_one_short", QLINEAR_MATMUL, "w_scale", F([0.1, 0.2])),
    ("qlinear_matmul_y_scale_zero", QLINEAR_MATMUL, "y_scale", F(0)),
    ("qlinear_matmul_weights_are_float", QLINEAR_MATMUL, "w", np.ones((4, 3), F)),
]
for file, base, parameter, content in PARAMETERS:
    refuse(
        f"quant_{file}",
        "attribute|shape",
        base.graph.node[0].name,
        base,
        lambda m, p=parameter, c=content: set_constant(m, p, c),
    )

# file, base, attribute, illegal value
ATTRIBUTES = [
    ("axis_out_of_range", QUANTIZE_AXIS, "axis", 2),
    ("axis_under_range", QUANTIZE_AXIS, "axis", -3),
    ("axis_is_string", QUANTIZE_AXIS, "axis", "channel"),
    ("dequantize_axis_out_of_range", DEQUANTIZE_AXIS, "axis", 7),
    ("dequantize_axis_min", DEQUANTIZE_AXIS, "axis", -(2**63)),
    ("dequantize_block_size_negative", DEQUANTIZE_BLOCKS, "block_size", -2),
    ("dequantize_block_size_not_of_scales", DEQUANTIZE_BLOCKS, "block_size", 4),
    ("dequantize_block_size_is_float", DEQUANTIZE_BLOCKS, "block_size", 2.0),
    ("dequantize_block_axis_out_of_range", DEQUANTIZE_BLOCKS, "axis", 2),
    ("qlinear_conv_pads_negative", QLINEAR_CONV, "pads", [-1, 0, 0, 0]),
    ("qlinear_conv_dilations_too_many", QLINEAR_CONV, "dilations", [1, 1, 1]),
    ("qlinear_conv_kernel_shape_not_of_weights", QLINEAR_CONV, "kernel_shape", [5, 5]),
    ("qlinear_conv_strides_zero", QLINEAR_CONV, "strides", [0, 1]),
    ("qlinear_conv_group_zero", QLINEAR_CONV, "group", 0),
]
for file, base, attribute, content in ATTRIBUTES:
    refuse(
        f"quant_{file}",
        "attribute|shape|unsupported",
        base.graph.node[0].name,
        base,
        lambda m, a=attribute, c=content: set_attribute(m, a, c),
    )

# file, base, dtype of x that the node does not take
INPUTS = [
    ("dequantize_input_is_float", DEQUANTIZE, FLOAT),
    ("quantize_input_is_int64", QUANTIZE, INT64),
    ("quantize_input_is_bool", QUANTIZE, TensorProto.BOOL),
    ("qlinear_conv_input_is_float", QLINEAR_CONV, FLOAT),
]
for file, base, dtype in INPUTS:

    def change(m, d=dtype):
        m.graph.input[0].type.tensor_type.elem_type = d

    refuse(f"quant_{file}", "attribute|shape|graph|unsupported", base.graph.node[0].name, base, change)


@refused("attribute|shape|graph", "dequantizelinear0", DEQUANTIZE_BLOCKS)
def quant_output_dtype_is_not_the_zero_point_s(m):
    m.graph.node[0].op_type = "QuantizeLinear"
    m.graph.input[0].type.tensor_type.elem_type = FLOAT
    m.graph.output[0].ClearField("type")
    set_attribute(m, "output_dtype", TensorProto.UINT8)


def made_by_a_constant(m, suffix, value):
    """What was stored comes from a node in its stead, by that attribute."""
    name = f"{m.graph.node[0].name}_{suffix}"
    kept = [t for t in m.graph.initializer if t.name != name]
    del m.graph.initializer[:]
    m.graph.initializer.extend(kept)
    nodes = [
        helper.make_node("Constant", [], [name], name="constant0", **value),
        *m.graph.node,
    ]
    del m.graph.node[:]
    m.graph.node.extend(nodes)


for name, base, suffix, array in (
    ("scale_nan", QUANTIZE, "scale", F(np.nan)),
    ("dequantize_scale_negative", DEQUANTIZE, "scale", F(-0.1)),
    ("qlinear_conv_y_scale_zero", QLINEAR_CONV, "y_scale", F(0)),
    ("zero_point_is_int64", QUANTIZE, "zero_point", np.int64(3)),
):
    refuse(
        f"quant_{name}_in_a_constant",
        "attribute|shape|unsupported",
        base.graph.node[0].name,
        base,
        lambda m, s=suffix, a=np.asarray(array): made_by_a_constant(m, s, {"value": numpy_helper.from_array(a)}),
    )


@refused("attribute", "dequantizelinear0", DEQUANTIZE)
def quant_dequantize_scale_negative_as_a_number(m):
    m.opset_import[0].version = max(m.opset_import[0].version, 12)
    made_by_a_constant(m, "scale", {"value_float": -0.1})


@refused("tensor|attribute", "quantizelinear0", QUANTIZE)
def quant_zero_point_outside_its_dtype(m):
    zero_point = constant(m, "zero_point")
    zero_point.ClearField("raw_data")
    zero_point.int32_data.append(300)


@refused("attribute|graph", "quantizelinear0", QUANTIZE)
def quant_scale_missing(m):
    del m.graph.node[0].input[1:]


@refused("attribute|graph", "qlinearconv0", QLINEAR_CONV)
def quant_qlinear_conv_inputs_missing(m):
    del m.graph.node[0].input[5:]


@refused("attribute|graph", "qlinearconv0", QLINEAR_CONV)
def quant_qlinear_conv_y_scale_name_empty(m):
    m.graph.node[0].input[6] = ""
