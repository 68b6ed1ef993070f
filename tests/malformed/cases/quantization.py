"""Scales and zero points that no integer kernel can take."""

import numpy as np

from .models import (
    DEQUANTIZE,
    DEQUANTIZE_AXIS,
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
