"""Attributes and parameters that are illegal for their node, and shapes that do not fit together."""

import numpy as np
from onnx import AttributeProto, numpy_helper

from .models import (
    ADD,
    ARGMAX,
    BATCHNORM,
    CAST,
    CLIP,
    CONCAT,
    CONSTANT,
    CONSTANT_OF_SHAPE,
    CONV,
    CONV_AUTO,
    CONVTRANSPOSE,
    CUM_SUM,
    DEPTH_TO_SPACE,
    EXPAND,
    FLATTEN,
    GATHER,
    GATHER_ELEMENTS,
    GEMM,
    LAYER_NORM,
    LSTM,
    MATMUL,
    MAXPOOL,
    PAD,
    PRELU,
    QLINEAR_MATMUL,
    REDUCE,
    RESHAPE,
    RESIZE,
    SLICE,
    SOFTMAX,
    SPLIT,
    SQUEEZE,
    TILE,
    TOPK,
    TRANSPOSE,
    UNSQUEEZE,
    f32,
    i64,
    set_attribute,
    set_constant,
)
from .registry import refuse, refused, serialized
from .wire import VARINT, key

# file, base, attribute, illegal value (None: the mandatory attribute is missing)
ATTRIBUTES = [
    ("conv_strides_zero", CONV, "strides", [0, 1]),
    ("conv_strides_negative", CONV, "strides", [1, -1]),
    ("conv_strides_too_few", CONV, "strides", [1]),
    ("conv_strides_too_many", CONV, "strides", [1, 1, 1]),
    ("conv_dilations_zero", CONV, "dilations", [1, 0]),
    ("conv_dilations_negative", CONV, "dilations", [-1, 1]),
    ("conv_dilations_too_few", CONV, "dilations", [1]),
    ("conv_kernel_shape_zero", CONV, "kernel_shape", [0, 3]),
    ("conv_kernel_shape_not_of_weights", CONV, "kernel_shape", [5, 5]),
    ("conv_kernel_shape_too_few", CONV, "kernel_shape", [3]),
    ("conv_group_zero", CONV, "group", 0),
    ("conv_group_negative", CONV, "group", -1),
    ("conv_group_not_dividing", CONV, "group", 4),
    ("conv_group_huge", CONV, "group", 2**62),
    ("conv_pads_negative", CONV, "pads", [-1, 1, 1, 1]),
    ("conv_pads_min", CONV, "pads", [-(2**63), 1, 1, 1]),
    ("conv_pads_too_few", CONV, "pads", [1, 1]),
    ("conv_pads_odd", CONV, "pads", [1, 1, 1]),
    ("conv_strides_is_string", CONV, "strides", "1,1"),
    ("conv_strides_is_int", CONV, "strides", 1),
    ("conv_strides_is_floats", CONV, "strides", [1.0, 1.0]),
    ("conv_group_is_string", CONV, "group", "one"),
    ("conv_group_is_float", CONV, "group", 1.0),
    ("conv_transpose_output_padding_over_stride", CONVTRANSPOSE, "output_padding", [2, 2]),
    ("conv_transpose_output_shape_negative", CONVTRANSPOSE, "output_shape", [-1, 9]),
    ("lstm_direction_unknown", LSTM, "direction", "sideways"),
    ("lstm_hidden_size_not_of_weights", LSTM, "hidden_size", 4),
    ("max_pool_kernel_zero", MAXPOOL, "kernel_shape", [0, 2]),
    ("max_pool_kernel_negative", MAXPOOL, "kernel_shape", [2, -2]),
    ("max_pool_kernel_missing", MAXPOOL, "kernel_shape", None),
    ("max_pool_kernel_too_few", MAXPOOL, "kernel_shape", [2]),
    ("max_pool_strides_zero", MAXPOOL, "strides", [0, 2]),
    ("max_pool_kernel_over_input", MAXPOOL, "kernel_shape", [64, 2]),
    ("transpose_perm_twice", TRANSPOSE, "perm", [0, 1, 1]),
    ("transpose_perm_out_of_range", TRANSPOSE, "perm", [0, 3, 1]),
    ("transpose_perm_negative", TRANSPOSE, "perm", [0, -1, 1]),
    ("transpose_perm_too_few", TRANSPOSE, "perm", [1, 0]),
    ("transpose_perm_too_many", TRANSPOSE, "perm", [0, 1, 2, 3]),
    ("softmax_axis_out_of_range", SOFTMAX, "axis", 2),
    ("softmax_axis_under_range", SOFTMAX, "axis", -3),
    ("softmax_axis_min", SOFTMAX, "axis", -(2**63)),
    ("concat_axis_out_of_range", CONCAT, "axis", 2),
    ("concat_axis_missing", CONCAT, "axis", None),
    ("gather_axis_out_of_range", GATHER, "axis", 2),
    ("conv_transpose_output_padding_too_few", CONVTRANSPOSE, "output_padding", [0]),
    ("conv_transpose_output_shape_too_few", CONVTRANSPOSE, "output_shape", [8]),
    ("conv_transpose_group_not_dividing", CONVTRANSPOSE, "group", 8),
    ("conv_transpose_output_padding_too_many", CONVTRANSPOSE, "output_padding", [0, 0, 0]),
    ("gather_elements_axis_out_of_range", GATHER_ELEMENTS, "axis", 5),
    ("layer_norm_axis_out_of_range", LAYER_NORM, "axis", 3),
    ("top_k_largest_is_float", TOPK, "largest", 1.0),
    ("cum_sum_exclusive_is_float", CUM_SUM, "exclusive", 1.0),
    ("lstm_layout_is_float", LSTM, "layout", 1.0),
    ("flatten_axis_out_of_range", FLATTEN, "axis", 4),
    ("flatten_axis_under_range", FLATTEN, "axis", -4),
    ("split_axis_out_of_range", SPLIT, "axis", 2),
    ("reduce_axis_out_of_range", REDUCE, "axes", [2]),
    ("argmax_axis_out_of_range", ARGMAX, "axis", -3),
    ("cast_to_missing", CAST, "to", None),
    ("cast_to_undefined", CAST, "to", 0),
    ("depth_to_space_block_missing", DEPTH_TO_SPACE, "blocksize", None),
    ("depth_to_space_block_zero", DEPTH_TO_SPACE, "blocksize", 0),
    ("depth_to_space_block_negative", DEPTH_TO_SPACE, "blocksize", -2),
    ("constant_without_value", CONSTANT, "value_floats", None),
    ("constant_with_two_values", CONSTANT, "value_ints", [1, 2]),
    ("gemm_trans_a_is_string", GEMM, "transA", "yes"),
    # On or off: of another value one runtime makes the one, and another the other.
    ("gemm_trans_a_is_2", GEMM, "transA", 2),
    ("max_pool_ceil_mode_is_3", MAXPOOL, "ceil_mode", 3),
    ("argmax_keepdims_negative", ARGMAX, "keepdims", -1),
    ("cum_sum_exclusive_is_3", CUM_SUM, "exclusive", 3),
    ("reduce_keepdims_max", REDUCE, "keepdims", 2**63 - 1),
    ("top_k_largest_is_3", TOPK, "largest", 3),
    ("lstm_hidden_size_negative", LSTM, "hidden_size", -1),
]
refuse(
    "attr_conv_dilations_2_to_62",
    "attribute|limit|shape",
    "conv0",
    CONV,
    lambda m: set_attribute(m, "dilations", [2**62, 1]),
)
for file, base, attribute, content in ATTRIBUTES:
    refuse(
        f"attr_{file}",
        "attribute|shape",
        base.graph.node[0].name,
        base,
        lambda m, a=attribute, c=content: set_attribute(m, a, c),
    )

# file, base, attribute, a value that ONNX does not know
UNKNOWN = [
    ("conv_auto_pad_unknown", CONV_AUTO, "auto_pad", "SAME"),
    ("conv_valid_with_pads", CONV, "auto_pad", "VALID"),
    ("conv_name_unknown", CONV, "stride", [1, 1]),
    ("max_pool_storage_order_unknown", MAXPOOL, "storage_order", 7),
    ("cast_to_unknown", CAST, "to", 99),
    ("depth_to_space_mode_unknown", DEPTH_TO_SPACE, "mode", "RGB"),
    ("pad_mode_unknown", PAD, "mode", "mirror"),
    ("resize_mode_unknown", RESIZE, "mode", "best"),
    ("resize_name_unknown", RESIZE, "coordinate_transform_mode", "align_corners"),
    ("cum_sum_name_unknown", CUM_SUM, "exlusive", 1),
    # As an older opset has it.
    ("add_broadcast_of_opset_6", ADD, "broadcast", 1),
    ("top_k_of_opset_1", TOPK, "k", 1),
    ("squeeze_axes_of_opset_11", SQUEEZE, "axes", [0]),
    ("clip_min_of_opset_6", CLIP, "min", 1.0),
    ("pad_pads_of_opset_2", PAD, "pads", [0, 2, 0, 2]),
]
for file, base, attribute, content in UNKNOWN:
    refuse(
        f"attr_{file}",
        "attribute|unsupported",
        base.graph.node[0].name,
        base,
        lambda m, a=attribute, c=content: set_attribute(m, a, c),
    )

# file, base, constant input, illegal value
PARAMETERS = [
    ("reshape_two_minus_one", RESHAPE, "shape", i64(-1, -1)),
    ("reshape_minus_two", RESHAPE, "shape", i64(-2, -6)),
    ("reshape_not_the_product", RESHAPE, "shape", i64(5, 3)),
    ("reshape_minus_one_not_dividing", RESHAPE, "shape", i64(5, -1)),
    ("reshape_product_wraps", RESHAPE, "shape", i64(12, 2**62 + 1)),
    ("reshape_zero_beyond_rank", RESHAPE, "shape", i64(3, 4, 0)),
    ("reshape_of_floats", RESHAPE, "shape", np.float32([3, 4])),
    ("reshape_shape_is_matrix", RESHAPE, "shape", i64(3, 4).reshape(1, 2)),
    ("squeeze_axis_not_1", SQUEEZE, "axes", i64(1)),
    ("squeeze_axis_out_of_range", SQUEEZE, "axes", i64(2)),
    ("unsqueeze_axis_out_of_range", UNSQUEEZE, "axes", i64(0, 4)),
    ("unsqueeze_axis_twice", UNSQUEEZE, "axes", i64(1, 1)),
    ("slice_step_zero", SLICE, "steps", i64(0)),
    ("slice_axis_out_of_range", SLICE, "axes", i64(2)),
    ("slice_ends_too_many", SLICE, "ends", i64(6, 2)),
    ("split_negative", SPLIT, "split", i64(8, -2)),
    ("split_not_the_sum", SPLIT, "split", i64(2, 2)),
    ("split_too_many", SPLIT, "split", i64(2, 2, 2)),
    ("gather_index_out_of_range", GATHER, "indices", i64(0, 4)),
    ("gather_index_under_range", GATHER, "indices", i64(0, -5)),
    ("gather_index_is_float", GATHER, "indices", np.float32([0, 2])),
    ("gather_elements_indices_of_another_rank", GATHER_ELEMENTS, "indices", i64(0, 2)),
    ("gather_elements_too_many_columns", GATHER_ELEMENTS, "indices", np.zeros((2, 3), np.int64)),
    ("cum_sum_axis_out_of_range", CUM_SUM, "axis", np.int64(2)),
    ("cum_sum_axis_under_range", CUM_SUM, "axis", np.int64(-3)),
    ("tile_repeats_negative", TILE, "repeats", i64(1, -2)),
    ("tile_repeats_too_few", TILE, "repeats", i64(2)),
    ("constant_of_shape_negative", CONSTANT_OF_SHAPE, "shape", i64(-4)),
    ("expand_not_broadcastable", EXPAND, "shape", i64(3, 4)),
    ("expand_negative", EXPAND, "shape", i64(2, -4)),
    ("pad_too_few", PAD, "pads", i64(0, 1)),
    ("pad_more_negative_than_the_axis", PAD, "pads", i64(0, -3, 0, -3)),
    ("resize_scale_zero", RESIZE, "scales", np.float32([1, 1, 0, 2])),
    ("resize_scale_negative", RESIZE, "scales", np.float32([1, 1, -2, 2])),
    ("resize_scale_nan", RESIZE, "scales", np.float32([1, 1, np.nan, 2])),
    ("resize_scales_too_few", RESIZE, "scales", np.float32([2, 2])),
    ("top_k_over_axis", TOPK, "k", i64(5)),
    ("top_k_negative", TOPK, "k", i64(-1)),
    ("top_k_is_scalar", TOPK, "k", np.int64(2)),
    ("reshape_shape_is_scalar", RESHAPE, "shape", np.int64(12)),
    ("slice_starts_is_scalar", SLICE, "starts", np.int64(0)),
    ("clip_min_is_vector", CLIP, "min", np.float32([0, 1, 2])),
]
for file, base, parameter, content in PARAMETERS:
    refuse(
        f"attr_{file}",
        "attribute|shape",
        base.graph.node[0].name,
        base,
        lambda m, p=parameter, c=content: set_constant(m, p, c),
    )


@refused("attribute|shape", "slice0", SLICE)
def attr_slice_axis_twice(m):
    for parameter, content in {"starts": (0, 1), "ends": (6, 7), "axes": (0, 0), "steps": (2, 1)}.items():
        set_constant(m, parameter, i64(*content))


@refused("attribute|shape", "split0", SPLIT)
def shape_split_does_not_come_out_even(m):
    del m.graph.node[0].input[1]
    m.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 5


@refused("attribute|shape", "split0", SPLIT)
def attr_split_num_outputs_is_another(m):
    del m.graph.node[0].input[1]
    m.opset_import[0].version = 18
    set_attribute(m, "num_outputs", 3)


@refused("attribute|graph", "topk0", TOPK)
def attr_top_k_of_one_output(m):
    gone = m.graph.node[0].output.pop()
    kept = [output for output in m.graph.output if output.name != gone]
    del m.graph.output[:]
    m.graph.output.extend(kept)


@refused("attribute|unsupported", "spatial", BATCHNORM)
def attr_batch_norm_each_pixel_for_itself(m):
    m.opset_import[0].version = 7
    set_attribute(m, "spatial", 0)


@refused("attribute|shape", "split0", SPLIT)
def attr_split_num_outputs_missing(m):
    del m.graph.node[0].input[1]
    m.opset_import[0].version = 18


# file, base, constant input, value whose shape does not fit
SHAPES = [
    ("add_not_broadcastable", ADD, "b", f32(1, 3)),
    ("matmul_inner_differs", MATMUL, "w", f32(5, 3)),
    ("matmul_by_scalar", MATMUL, "w", np.float32(2)),
    ("gemm_inner_differs", GEMM, "w", f32(5, 3)),
    ("gemm_weights_3d", GEMM, "w", f32(1, 4, 3)),
    ("gemm_bias_too_long", GEMM, "b", f32(4)),
    ("conv_channels_differ", CONV, "w", f32(3, 5, 3, 3)),
    ("conv_weights_3d", CONV, "w", f32(3, 2, 3)),
    ("conv_weights_without_outputs", CONV, "w", f32(0, 2, 3, 3)),
    ("conv_bias_too_short", CONV, "b", f32(2)),
    ("conv_bias_2d", CONV, "b", f32(3, 1)),
    ("layer_norm_scale_too_short", LAYER_NORM, "scale", f32(4)),
    ("layer_norm_scale_of_too_many_dimensions", LAYER_NORM, "scale", f32(4, 8)),
    ("layer_norm_bias_too_long", LAYER_NORM, "bias", f32(16)),
    ("conv_transpose_channels_differ", CONVTRANSPOSE, "w", f32(5, 3, 3, 3)),
    ("lstm_weights_of_other_inputs", LSTM, "w", f32(1, 12, 5)),
    ("lstm_weights_of_two_directions", LSTM, "r", f32(2, 12, 3)),
    ("lstm_weights_2d", LSTM, "r", f32(12, 3)),
    ("concat_other_axis_differs", CONCAT, "b", f32(3, 3)),
    ("concat_ranks_differ", CONCAT, "b", f32(2, 3, 1)),
    ("batch_norm_scale_too_long", BATCHNORM, "scale", f32(4)),
    ("batch_norm_mean_too_short", BATCHNORM, "mean", f32(2)),
    ("prelu_slope_not_broadcastable", PRELU, "slope", f32(4, 1, 1)),
    ("qlinear_matmul_inner_differs", QLINEAR_MATMUL, "w", np.ones((5, 3), np.int8)),
]
for file, base, parameter, content in SHAPES:
    refuse(
        f"shape_{file}",
        "shape|attribute|tensor",
        base.graph.node[0].name,
        base,
        lambda m, p=parameter, c=content: set_constant(m, p, c),
    )

# file, base, declared shape of x that the node cannot take
INPUTS = [
    ("conv_input_3d", CONV, [1, 2, 8]),
    ("conv_input_2d", CONV, [1, 2]),
    ("conv_input_of_other_channels", CONV, [1, 3, 8, 8]),
    ("conv_transpose_input_3d", CONVTRANSPOSE, [1, 2, 4]),
    ("max_pool_input_2d", MAXPOOL, [8, 8]),
    ("gemm_input_3d", GEMM, [1, 1, 4]),
    ("gemm_input_scalar", GEMM, []),
    ("transpose_input_2d", TRANSPOSE, [2, 3]),
    ("batch_norm_input_scalar", BATCHNORM, []),
    ("depth_to_space_channels_not_dividing", DEPTH_TO_SPACE, [1, 6, 2, 2]),
    ("concat_input_scalar", CONCAT, []),
]
for file, base, shape in INPUTS:

    def change(m, s=shape):
        dims = m.graph.input[0].type.tensor_type.shape
        dims.Clear()
        for size in s:
            dims.dim.add().dim_value = size

    refuse(f"shape_{file}", "shape|attribute", base.graph.node[0].name, base, change)


def group(m):
    return next(a for a in m.graph.node[0].attribute if a.name == "group")


@refused("attribute", "conv0", CONV)
def attr_type_unknown(m):
    # The Python package knows no such type, so it is written over the only INT.
    field = key(20, VARINT)
    return serialized(m).replace(field + bytes([AttributeProto.INT]), field + b"\x63")


@refused("attribute", "conv0", CONV)
def attr_type_and_value_disagree(m):
    group(m).type = AttributeProto.INTS


@refused("attribute", "conv0", CONV)
def attr_twice_with_two_values(m):
    m.graph.node[0].attribute.add(name="group", type=AttributeProto.INT, i=2)


@refused("attribute", "conv0", CONV)
def attr_name_empty(m):
    group(m).name = ""


@refused("attribute|graph|unsupported", "conv0", CONV)
def attr_refers_outside_a_function(m):
    group(m).ClearField("i")
    group(m).ref_attr_name = "group"


@refused("attribute|malformed", "group", CONV)
def attr_type_missing(m):
    group(m).ClearField("type")


@refused("attribute|malformed", "axis", SOFTMAX)
def attr_value_in_the_field_of_another_type(m):
    axis = m.graph.node[0].attribute[0]
    axis.ClearField("i")
    axis.f = 1.0


@refused("attribute|malformed", "axis", SOFTMAX)
def attr_value_in_two_fields(m):
    m.graph.node[0].attribute[0].ints.append(0)


@refused("attribute|malformed", "axis", SOFTMAX)
def attr_value_beside_a_sparse_tensor(m):
    m.graph.node[0].attribute[0].sparse_tensor.dims.append(1)


@refused("attribute|malformed", "axis", SOFTMAX)
def attr_value_beside_a_list_of_tensors(m):
    m.graph.node[0].attribute[0].tensors.add(data_type=1, dims=[1], float_data=[1.0])


@refused("attribute|shape", "convtranspose0", CONVTRANSPOSE)
def shape_conv_transpose_bias_2d(m):
    m.graph.initializer.append(numpy_helper.from_array(f32(1, 3), "convtranspose0_b"))
    m.graph.node[0].input.append("convtranspose0_b")


@refused("attribute|shape", "add0", ADD)
def shape_dropout_ratio_is_matrix(m):
    m.graph.node[0].op_type = "Dropout"


@refused("attribute|shape|tensor", "constantofshape0", CONSTANT_OF_SHAPE)
def attr_constant_of_shape_of_two_values(m):
    set_attribute(m, "value", numpy_helper.from_array(np.float32([1, 2])))


@refused("attribute|shape", "resize0", RESIZE)
def attr_resize_axis_twice(m):
    m.opset_import[0].version = 18
    set_attribute(m, "axes", [2, 2])
    set_constant(m, "scales", np.float32([2, 2]))


@refused("attribute|graph|malformed|unsupported", "axis", SOFTMAX)
def attr_refers_outside_a_function_beside_its_value(m):
    m.graph.node[0].attribute[0].ref_attr_name = "axis"


@refused("attribute|malformed", "value", CONSTANT)
def attr_tensor_missing(m):
    attribute = m.graph.node[0].attribute[0]
    attribute.Clear()
    attribute.name, attribute.type = "value", AttributeProto.TENSOR


@refused("attribute|unsupported", "softmax0", SOFTMAX)
def attr_is_a_type(m):
    axis = m.graph.node[0].attribute[0]
    axis.ClearField("i")
    axis.type = AttributeProto.TYPE_PROTO
    axis.tp.tensor_type.elem_type = 1


@refused("attribute|unsupported", "softmax0", SOFTMAX)
def attr_is_a_list_of_tensors(m):
    axis = m.graph.node[0].attribute[0]
    axis.ClearField("i")
    axis.type = AttributeProto.TENSORS
    axis.tensors.add(data_type=1, dims=[1], float_data=[1.0])
