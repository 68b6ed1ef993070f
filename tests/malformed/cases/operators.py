"""Operators that the other modules leave alone: types that a node does not take, parameters and operands that do not fit."""

import numpy as np
import onnx
from onnx import TensorProto, helper

from .models import (
    ADD,
    AVERAGEPOOL,
    BATCHNORM,
    CLIP,
    CONCAT,
    CONV,
    CONVTRANSPOSE,
    CUM_SUM,
    FLOAT,
    GATHER,
    GEMM,
    IF,
    INT8,
    INT32,
    INT64,
    LAYER_NORM,
    LSTM,
    MATMUL,
    MAXPOOL,
    ONEHOT,
    PAD,
    RANGE,
    REDUCE,
    RELU,
    RESHAPE,
    RESIZE,
    SLICE,
    SOFTMAX,
    SPLIT,
    TOPK,
    UINT8,
    build,
    f32,
    i64,
    one,
    set_attribute,
    set_constant,
    value,
)
from .registry import refuse, refused

BOOL = TensorProto.BOOL


def stated(op, shape, dtype, constants, rank, domain="com.microsoft", opset=13, **attributes):
    """A model of one operator whose output ONNX cannot infer, as it knows nothing of ONNX Runtime's."""
    name = f"{op.lower()}0"
    inputs = ["pixels", *(f"{name}_{k}" for k in constants)]
    if op == "QLinearConcat":
        inputs = [*inputs[1:3], "pixels", *inputs[3:]]
    node = helper.make_node(op, inputs, ["scores"], name=name, domain=domain, **attributes)
    tensors = {f"{name}_{k}": v for k, v in constants.items()}
    result = [value("scores", [None] * rank, dtype)]
    return build(
        op.lower(), [node], [value("pixels", shape, dtype)], result, tensors, opset, [domain] if domain else []
    )


SCALE, ZERO = np.float32(0.1), np.uint8(3)
QUANTIZED = {"a_scale": SCALE, "a_zero_point": ZERO}

WHERE = one("Where", [1, 4], {"x": f32(1, 4), "y": f32(1, 4)}, dtype=BOOL)
INSTANCE_NORM = one("InstanceNormalization", [1, 3, 4, 4], {"scale": f32(3), "bias": f32(3)})
GROUP_NORM = stated(
    "GroupNormalization", [1, 4, 2, 2], FLOAT, {"scale": f32(4), "bias": f32(4)}, 4, domain="", opset=21, num_groups=2
)
SPACE_TO_DEPTH = one("SpaceToDepth", [1, 1, 4, 4], blocksize=2)
GLOBAL_POOL = one("GlobalAveragePool", [1, 2, 4, 4])
LP_POOL = one("LpPool", [1, 2, 4, 4], kernel_shape=[2, 2])
LRN = one("LRN", [1, 3, 2, 2], size=3)
EINSUM = one("Einsum", [2, 3], {"b": f32(3, 4)}, equation="ij,jk->ik")
GATHER_ND = one("GatherND", [2, 3], {"indices": i64(0, 1, 1, 2).reshape(2, 2)})
SCATTER_ND = one("ScatterND", [4], {"indices": i64(1, 3).reshape(2, 1), "updates": f32(2)}, opset=16)
TRILU = one("Trilu", [3, 3], {"k": np.int64(1)}, opset=14)
REDUCE_SUM = one("ReduceSum", [2, 3], {"axes": i64(1)})
RESIZE_TO = one("Resize", [1, 1, 4, 4], {"roi": f32(0), "scales": f32(0), "sizes": i64(1, 1, 8, 8)}, mode="linear")
PAD_AXES = one("Pad", [2, 4], {"pads": i64(1, 1), "value": np.float32(0), "axes": i64(1)}, opset=18)
PAD_AXES.graph.name = "pad_axes"
RESIZE_TO.graph.name = "resize_to"
MATMUL_INTEGER = one(
    "MatMulInteger", [2, 4], {"w": np.ones((4, 3), np.int8), "a_zero": np.uint8(1), "w_zero": np.int8(0)}, dtype=UINT8
)
CONV_INTEGER = one(
    "ConvInteger",
    [1, 2, 4, 4],
    {"w": np.ones((3, 2, 3, 3), np.uint8), "x_zero": np.uint8(1), "w_zero": np.uint8(2)},
    dtype=UINT8,
)
ATTENTION = one(
    "Attention",
    [1, 4, 8],
    {"k": f32(1, 6, 4), "v": f32(1, 6, 6), "mask": f32(4, 6)},
    opset=23,
    q_num_heads=4,
    kv_num_heads=2,
    is_causal=1,
)
ROTARY = one("RotaryEmbedding", [1, 2, 4, 8], {"cos": f32(1, 4, 4), "sin": f32(1, 4, 4)}, opset=23)
DYNAMIC = build(
    "dynamicquantizelinear",
    [helper.make_node("DynamicQuantizeLinear", ["pixels"], ["scores", "scale", "zero_point"], name="dynamic0")],
    [value("pixels", [1, 4])],
    [value("scores", [None, None], UINT8)],
)
GRU = one("GRU", [5, 1, 4], {"w": f32(1, 9, 4), "r": f32(1, 9, 3), "b": f32(1, 18)}, hidden_size=3)
LSTM_STATE = one(
    "LSTM",
    [5, 1, 4],
    {
        "w": f32(1, 12, 4),
        "r": f32(1, 12, 3),
        "b": f32(1, 24),
        "lengths": np.int32([5]),
        "h": f32(1, 1, 3),
        "c": f32(1, 1, 3),
        "p": f32(1, 9),
    },
    hidden_size=3,
)
LSTM_STATE.graph.name = "lstm_state"
Q_ADD = stated(
    "QLinearAdd",
    [1, 4],
    UINT8,
    QUANTIZED
    | {"b": np.uint8([[1, 2, 3, 4]]), "b_scale": SCALE, "b_zero_point": ZERO, "y_scale": SCALE, "y_zero_point": ZERO},
    2,
)
Q_GEMM = stated(
    "QGemm",
    [1, 4],
    UINT8,
    QUANTIZED
    | {
        "w": np.ones((4, 3), np.uint8),
        "w_scale": SCALE,
        "w_zero_point": ZERO,
        "b": np.int32([1, 2, 3]),
        "y_scale": SCALE,
        "y_zero_point": ZERO,
    },
    2,
)
# ONNX Runtime's own of the name; its quantizer writes it for 16 bits.
Q_QUANTIZE = stated("QuantizeLinear", [1, 4], UINT8, {"scale": SCALE, "zero_point": ZERO}, 2)
Q_QUANTIZE.graph.name = "quantizelinear_contrib"
Q_QUANTIZE.graph.input[0].type.tensor_type.elem_type = FLOAT
Q_CONCAT = stated(
    "QLinearConcat",
    [1, 4],
    UINT8,
    {
        "y_scale": SCALE,
        "y_zero_point": ZERO,
        **QUANTIZED,
        "b": np.uint8([[1, 2]]),
        "b_scale": SCALE,
        "b_zero_point": ZERO,
    },
    2,
    axis=1,
)
Q_POOL = stated(
    "QLinearAveragePool",
    [1, 2, 4, 4],
    UINT8,
    QUANTIZED | {"y_scale": SCALE, "y_zero_point": ZERO},
    4,
    kernel_shape=[2, 2],
)
Q_SOFTMAX = stated(
    "QLinearSoftmax",
    [1, 4],
    UINT8,
    QUANTIZED | {"y_scale": np.float32(1 / 256), "y_zero_point": np.uint8(0)},
    2,
    axis=1,
    opset=13,
)

# file, base, constant input, illegal value
PARAMETERS = [
    ("shape_attention_keys_of_another_size", ATTENTION, "k", f32(1, 6, 6)),
    ("shape_attention_keys_of_another_batch", ATTENTION, "k", f32(2, 6, 4)),
    ("shape_attention_keys_4d", ATTENTION, "k", f32(1, 2, 6, 2)),
    ("shape_attention_more_values_than_keys", ATTENTION, "v", f32(1, 7, 6)),
    ("shape_attention_mask_of_more_keys", ATTENTION, "mask", f32(4, 7)),
    ("shape_attention_mask_of_other_queries", ATTENTION, "mask", f32(3, 6)),
    ("shape_attention_mask_5d", ATTENTION, "mask", f32(1, 1, 1, 4, 6)),
    ("shape_rotary_sines_of_half_as_many", ROTARY, "sin", f32(1, 4, 2)),
    ("shape_rotary_cosines_of_other_rows", ROTARY, "cos", f32(1, 5, 4)),
    ("attr_reduce_sum_axis_out_of_range", REDUCE_SUM, "axes", i64(2)),
    ("attr_reduce_sum_axis_twice", REDUCE_SUM, "axes", i64(1, -1)),
    ("attr_reduce_sum_axes_are_float", REDUCE_SUM, "axes", np.float32([1])),
    ("attr_cum_sum_axis_is_vector_of_two", CUM_SUM, "axis", i64(0, 1)),
    ("attr_cum_sum_axis_is_float", CUM_SUM, "axis", np.float32(1)),
    ("attr_range_delta_zero", RANGE, "delta", np.int64(0)),
    ("attr_range_delta_is_vector", RANGE, "delta", i64(1, 1)),
    ("attr_top_k_of_two_values", TOPK, "k", i64(2, 2)),
    ("attr_top_k_is_float", TOPK, "k", np.float32([2])),
    ("attr_one_hot_values_three", ONEHOT, "values", np.float32([0, 1, 2])),
    ("attr_one_hot_depth_negative", ONEHOT, "depth", i64(-6)),
    ("attr_one_hot_depth_of_two_values", ONEHOT, "depth", i64(6, 6)),
    ("attr_clip_max_of_another_type", CLIP, "max", np.int32(6)),
    ("attr_slice_ends_are_float", SLICE, "ends", np.float32([6])),
    ("attr_slice_ends_of_another_type", SLICE, "ends", np.int32([6])),
    ("attr_slice_starts_are_int8", SLICE, "starts", np.int8([0])),
    ("attr_slice_starts_2d", SLICE, "starts", i64(0).reshape(1, 1)),
    ("attr_slice_steps_too_many", SLICE, "steps", i64(2, 1)),
    ("attr_pad_axis_out_of_range", PAD_AXES, "axes", i64(2)),
    ("attr_pad_axis_twice", PAD_AXES, "axes", i64(1, 1)),
    ("attr_pad_axes_too_many", PAD_AXES, "axes", i64(0, 1)),
    ("attr_pad_value_of_another_type", PAD_AXES, "value", np.int64(0)),
    ("attr_pad_value_is_vector", PAD_AXES, "value", np.float32([0, 1])),
    ("attr_pad_odd_count", PAD, "pads", i64(0, 1, 0)),
    ("attr_pad_pads_are_float", PAD, "pads", np.float32([0, 1, 0, 1])),
    ("attr_resize_sizes_too_few", RESIZE_TO, "sizes", i64(8, 8)),
    ("attr_resize_size_zero", RESIZE_TO, "sizes", i64(1, 1, 0, 8)),
    ("attr_resize_size_negative", RESIZE_TO, "sizes", i64(1, 1, -8, 8)),
    ("attr_resize_sizes_and_scales", RESIZE_TO, "scales", np.float32([1, 1, 2, 2])),
    ("attr_resize_sizes_are_float", RESIZE_TO, "sizes", np.float32([1, 1, 8, 8])),
    ("attr_resize_scales_are_int", RESIZE, "scales", i64(1, 1, 2, 2)),
    ("attr_split_sizes_2d", SPLIT, "split", i64(2, 4).reshape(1, 2)),
    ("attr_gather_nd_too_many_coordinates", GATHER_ND, "indices", np.zeros((2, 3), np.int64)),
    ("attr_scatter_nd_too_many_coordinates", SCATTER_ND, "indices", np.zeros((2, 2), np.int64)),
    ("attr_trilu_k_is_vector", TRILU, "k", i64(1, 2)),
    ("shape_where_not_broadcastable", WHERE, "y", f32(1, 3)),
    ("shape_instance_norm_scale_too_short", INSTANCE_NORM, "scale", f32(2)),
    ("shape_instance_norm_bias_2d", INSTANCE_NORM, "bias", f32(3, 1)),
    ("shape_group_norm_scale_too_long", GROUP_NORM, "scale", f32(5)),
    ("shape_batch_norm_variance_2d", BATCHNORM, "var", f32(3, 1)),
    ("shape_batch_norm_bias_too_short", BATCHNORM, "bias", f32(2)),
    ("shape_einsum_inner_differs", EINSUM, "b", f32(5, 4)),
    ("shape_einsum_operand_of_another_rank", EINSUM, "b", f32(3, 4, 2)),
    ("shape_scatter_nd_updates_too_many", SCATTER_ND, "updates", f32(3)),
    ("shape_matmul_integer_inner_differs", MATMUL_INTEGER, "w", np.ones((5, 3), np.int8)),
    ("shape_conv_integer_channels_differ", CONV_INTEGER, "w", np.ones((3, 5, 3, 3), np.uint8)),
    ("shape_gru_weights_of_an_lstm", GRU, "w", f32(1, 12, 4)),
    ("shape_gru_bias_too_short", GRU, "b", f32(1, 9)),
    ("shape_lstm_bias_of_one_half", LSTM_STATE, "b", f32(1, 12)),
    ("shape_lstm_initial_state_of_another_batch", LSTM_STATE, "h", f32(1, 2, 3)),
    ("shape_lstm_initial_cell_of_another_width", LSTM_STATE, "c", f32(1, 1, 4)),
    ("shape_lstm_peepholes_too_few", LSTM_STATE, "p", f32(1, 6)),
    ("attr_lstm_lengths_are_float", LSTM_STATE, "lengths", np.float32([5])),
    ("attr_lstm_lengths_too_many", LSTM_STATE, "lengths", np.int32([5, 5])),
    ("attr_lstm_length_over_the_sequence", LSTM_STATE, "lengths", np.int32([6])),
    ("attr_lstm_length_negative", LSTM_STATE, "lengths", np.int32([-1])),
    ("quant_matmul_integer_zero_point_of_other_dtype", MATMUL_INTEGER, "a_zero", np.int8(1)),
    ("quant_matmul_integer_zero_points_too_few", MATMUL_INTEGER, "w_zero", np.int8([0, 0])),
    ("quant_matmul_integer_weights_are_float", MATMUL_INTEGER, "w", f32(4, 3)),
    ("quant_conv_integer_zero_point_is_vector", CONV_INTEGER, "x_zero", np.uint8([1, 1])),
    ("quant_conv_integer_weight_zero_point_of_other_dtype", CONV_INTEGER, "w_zero", np.int8(2)),
    ("quant_qlinear_add_b_scale_zero", Q_ADD, "b_scale", np.float32(0)),
    ("quant_qlinear_add_y_scale_is_vector", Q_ADD, "y_scale", np.float32([0.1, 0.2])),
    ("quant_qlinear_softmax_a_scale_2d", Q_SOFTMAX, "a_scale", np.float32([[0.1]])),
    ("quant_qlinear_add_b_of_other_dtype", Q_ADD, "b", np.int8([[1, 2, 3, 4]])),
    ("quant_qlinear_add_not_broadcastable", Q_ADD, "b", np.uint8([[1, 2, 3]])),
    ("quant_qgemm_bias_is_float", Q_GEMM, "b", f32(3)),
    ("quant_qgemm_w_scale_one_short", Q_GEMM, "w_scale", np.float32([0.1, 0.2])),
    ("quant_qgemm_inner_differs", Q_GEMM, "w", np.ones((5, 3), np.uint8)),
    ("quant_qlinear_concat_b_scale_nan", Q_CONCAT, "b_scale", np.float32(np.nan)),
    ("quant_qlinear_concat_other_axis_differs", Q_CONCAT, "b", np.uint8([[1, 2], [3, 4]])),
    ("quant_qlinear_concat_b_zero_point_of_other_dtype", Q_CONCAT, "b_zero_point", np.int8(3)),
    ("quant_qlinear_average_pool_y_scale_negative", Q_POOL, "y_scale", np.float32(-0.1)),
    ("quant_qlinear_softmax_y_scale_inf", Q_SOFTMAX, "y_scale", np.float32(np.inf)),
]

# file, base, attribute, illegal value
ATTRIBUTES = [
    ("attr_attention_heads_not_dividing", ATTENTION, "q_num_heads", 3),
    ("attr_attention_heads_of_keys_not_dividing", ATTENTION, "q_num_heads", 1),
    ("attr_attention_heads_zero", ATTENTION, "kv_num_heads", 0),
    ("attr_attention_heads_missing", ATTENTION, "kv_num_heads", None),
    ("attr_attention_scale_nan", ATTENTION, "scale", float("nan")),
    ("attr_attention_scale_negative", ATTENTION, "scale", -0.5),
    ("attr_attention_softcap_negative", ATTENTION, "softcap", -1.0),
    ("attr_rotary_heads_of_another_number", ROTARY, "num_heads", 4),
    ("attr_rotary_heads_negative", ROTARY, "num_heads", -2),
    ("attr_rotary_dim_over_head", ROTARY, "rotary_embedding_dim", 10),
    ("attr_rotary_dim_odd", ROTARY, "rotary_embedding_dim", 3),
    ("attr_rotary_dim_negative", ROTARY, "rotary_embedding_dim", -8),
    ("attr_space_to_depth_block_not_dividing", SPACE_TO_DEPTH, "blocksize", 3),
    ("attr_group_norm_groups_not_dividing", GROUP_NORM, "num_groups", 3),
    ("attr_group_norm_groups_zero", GROUP_NORM, "num_groups", 0),
    ("attr_conv_channels_not_of_groups", CONV, "group", 2),
    ("attr_lp_pool_p_zero", LP_POOL, "p", 0),
    ("attr_lp_pool_dilations_zero", LP_POOL, "dilations", [0, 1]),
    ("attr_lrn_size_zero", LRN, "size", 0),
    ("attr_lrn_size_missing", LRN, "size", None),
    ("attr_einsum_equation_missing", EINSUM, "equation", None),
    ("attr_einsum_equation_without_operands", EINSUM, "equation", "->"),
    ("attr_einsum_letter_from_nowhere", EINSUM, "equation", "ij,jk->iz"),
    ("attr_einsum_three_terms_for_two_operands", EINSUM, "equation", "ij,jk,kl->il"),
    ("attr_average_pool_kernel_over_input", AVERAGEPOOL, "kernel_shape", [9, 2]),
    ("attr_average_pool_strides_too_many", AVERAGEPOOL, "strides", [1, 1, 1]),
    ("attr_average_pool_pads_is_float", AVERAGEPOOL, "pads", [0.0, 0.0, 0.0, 0.0]),
    ("attr_average_pool_pads_too_few", AVERAGEPOOL, "pads", [0, 0]),
    ("attr_max_pool_dilation_over_input", MAXPOOL, "dilations", [8, 1]),
    ("attr_max_pool_ceil_mode_is_string", MAXPOOL, "ceil_mode", "yes"),
    ("attr_softmax_axis_is_ints", SOFTMAX, "axis", [1]),
    ("attr_concat_axis_is_float", CONCAT, "axis", 1.0),
    ("attr_gather_axis_is_string", GATHER, "axis", "rows"),
    ("attr_gather_nd_batch_dims_over_rank", GATHER_ND, "batch_dims", 2),
    ("attr_gather_nd_batch_dims_negative", GATHER_ND, "batch_dims", -1),
    ("attr_conv_transpose_pads_over_output", CONVTRANSPOSE, "pads", [9, 9, 9, 9]),
    ("attr_conv_transpose_dilations_zero", CONVTRANSPOSE, "dilations", [0, 1]),
    ("attr_conv_transpose_strides_negative", CONVTRANSPOSE, "strides", [-2, 2]),
    ("attr_conv_transpose_kernel_shape_not_of_weights", CONVTRANSPOSE, "kernel_shape", [2, 2]),
    ("attr_lstm_activations_too_few", LSTM, "activations", ["Sigmoid", "Tanh"]),
    ("attr_lstm_activation_unknown", LSTM, "activations", ["Sigmoid", "Tanh", "Swish"]),
    ("attr_lstm_clip_negative", LSTM, "clip", -1.0),
    ("attr_lstm_bidirectional_with_weights_of_one", LSTM, "direction", "bidirectional"),
    ("attr_lstm_hidden_size_zero", LSTM, "hidden_size", 0),
    ("attr_lstm_layout_unknown", LSTM, "layout", 2),
    ("attr_gru_linear_before_reset_is_string", GRU, "linear_before_reset", "no"),
    ("attr_batch_norm_epsilon_is_int", BATCHNORM, "epsilon", 1),
    ("attr_batch_norm_epsilon_negative", BATCHNORM, "epsilon", -2.0),
    ("attr_layer_norm_epsilon_nan", LAYER_NORM, "epsilon", float("nan")),
    ("attr_layer_norm_axis_under_range", LAYER_NORM, "axis", -4),
    ("attr_gemm_alpha_is_int", GEMM, "alpha", 1),
    ("attr_gemm_beta_is_string", GEMM, "beta", "1.0"),
    ("attr_reduce_axes_under_range", REDUCE, "axes", [-3]),
    ("attr_reduce_axis_twice", REDUCE, "axes", [1, 1]),
    ("attr_reduce_keepdims_is_float", REDUCE, "keepdims", 1.0),
    ("attr_one_hot_axis_out_of_range", ONEHOT, "axis", 2),
    ("attr_reshape_allowzero_is_float", RESHAPE, "allowzero", 1.0),
    ("attr_qgemm_alpha_is_nan", Q_GEMM, "alpha", float("nan")),
    ("attr_qlinear_concat_axis_out_of_range", Q_CONCAT, "axis", 2),
    ("attr_qlinear_concat_axis_missing", Q_CONCAT, "axis", None),
    ("attr_qlinear_average_pool_strides_zero", Q_POOL, "strides", [0, 1]),
    ("attr_qlinear_softmax_axis_out_of_range", Q_SOFTMAX, "axis", 2),
    ("attr_qlinear_softmax_opset_negative", Q_SOFTMAX, "opset", -3),
    ("attr_qlinear_average_pool_channels_last_is_4", Q_POOL, "channels_last", 4),
]

# file, base, attribute, a value that ONNX does not know
UNKNOWN = [
    ("attr_attention_causal_2", ATTENTION, "is_causal", 2),
    ("attr_attention_scores_of_no_stage", ATTENTION, "qk_matmul_output_mode", 4),
    ("attr_max_pool_auto_pad_unknown", MAXPOOL, "auto_pad", "SAME_BOTH"),
    ("attr_average_pool_count_include_pad_2", AVERAGEPOOL, "count_include_pad", 2),
    ("attr_resize_nearest_mode_unknown", RESIZE, "nearest_mode", "away"),
    ("attr_resize_coordinates_unknown", RESIZE, "coordinate_transformation_mode", "centered"),
    ("attr_layer_norm_stash_type_unknown", LAYER_NORM, "stash_type", 99),
    ("attr_qlinear_add_broadcast", Q_ADD, "broadcast", 1),
]

# file, base, declared shape of x that the node cannot take
INPUTS = [
    ("shape_conv_integer_kernel_over_input", CONV_INTEGER, [1, 2, 2, 4]),
    ("shape_global_average_pool_input_1d", GLOBAL_POOL, [2]),
    ("shape_lrn_input_1d", LRN, [3]),
    ("shape_instance_norm_input_1d", INSTANCE_NORM, [3]),
    ("shape_space_to_depth_input_3d", SPACE_TO_DEPTH, [1, 4, 4]),
    ("shape_trilu_input_1d", TRILU, [3]),
    ("shape_lstm_input_2d", LSTM, [5, 4]),
    ("shape_gru_input_of_other_width", GRU, [5, 1, 3]),
    ("shape_matmul_input_scalar", MATMUL, []),
    ("shape_top_k_input_scalar", TOPK, []),
    ("shape_slice_input_scalar", SLICE, []),
    ("shape_softmax_input_scalar", SOFTMAX, []),
    ("shape_resize_input_2d", RESIZE, [4, 4]),
    ("shape_pad_input_3d", PAD, [1, 4, 4]),
    ("shape_qlinear_average_pool_input_2d", Q_POOL, [4, 4]),
]

# file, base, type of x that the node does not take
TYPES = [
    ("type_relu_of_uint8", RELU, UINT8),
    ("type_softmax_of_int64", SOFTMAX, INT64),
    ("type_conv_of_int8", CONV, INT8),
    ("type_conv_of_double", CONV, TensorProto.DOUBLE),
    ("type_matmul_of_int8", MATMUL, INT8),
    ("type_gemm_of_int32", GEMM, INT32),
    ("type_max_pool_of_int64", MAXPOOL, INT64),
    ("type_average_pool_of_int8", AVERAGEPOOL, INT8),
    ("type_batch_norm_of_int32", BATCHNORM, INT32),
    ("type_where_by_floats", WHERE, FLOAT),
    ("type_add_of_bools", ADD, BOOL),
    ("type_clip_of_bools", CLIP, BOOL),
    ("type_one_hot_of_bools", ONEHOT, BOOL),
    ("type_lstm_of_int32", LSTM, INT32),
    ("type_global_average_pool_of_int8", GLOBAL_POOL, INT8),
    ("type_matmul_integer_of_float", MATMUL_INTEGER, FLOAT),
    ("type_conv_integer_of_int32", CONV_INTEGER, INT32),
    ("type_dynamic_quantize_of_int32", DYNAMIC, INT32),
    ("type_qlinear_add_of_int32", Q_ADD, INT32),
    ("type_cum_sum_of_bools", CUM_SUM, BOOL),
    ("type_concat_of_two_types", CONCAT, INT64),
]


def each(cases, kind, defect):
    for file, base, *change in cases:
        refuse(file, kind, base.graph.node[0].name, base, lambda m, c=change: defect(m, *c))


def declare(m, shape):
    dims = m.graph.input[0].type.tensor_type.shape
    dims.Clear()
    for size in shape:
        dims.dim.add().dim_value = size


def retype(m, dtype):
    m.graph.input[0].type.tensor_type.elem_type = dtype
    # What comes out is not to be what is at fault.
    for output in m.graph.output:
        output.ClearField("type")


each(PARAMETERS, "attribute|shape", set_constant)
each(ATTRIBUTES, "attribute|shape", set_attribute)
each(UNKNOWN, "attribute|unsupported", set_attribute)
each(INPUTS, "shape|attribute", declare)
each(TYPES, "attribute|shape|unsupported", retype)


@refused("attribute|shape", "conv0", CONV)
def attr_conv_kernel_over_input(m):
    set_attribute(m, "pads", None)
    declare(m, [1, 2, 2, 8])


@refused("attribute|shape", "conv0", CONV)
def attr_conv_dilated_kernel_over_input(m):
    set_attribute(m, "dilations", [5, 1])
    declare(m, [1, 2, 8, 8])


@refused("attribute|shape", "pad0", PAD)
def attr_pad_reflects_more_than_there_is(m):
    set_attribute(m, "mode", "reflect")
    set_constant(m, "pads", i64(0, 4, 0, 0))


@refused("attribute|shape", "reshape0", RESHAPE)
def attr_reshape_zero_and_minus_one(m):
    m.opset_import[0].version = 14
    set_attribute(m, "allowzero", 1)
    set_constant(m, "shape", i64(0, -1))


@refused("attribute|graph", "qlinearconcat0", Q_CONCAT)
def graph_qlinear_concat_triple_incomplete(m):
    del m.graph.node[0].input[-1]


@refused("attribute|shape", "quantizelinear0", Q_QUANTIZE)
def quant_contrib_scale_zero(m):
    set_constant(m, "scale", np.float32(0))


@refused("attribute|shape", "quantizelinear0", Q_QUANTIZE)
def quant_contrib_zero_point_is_float(m):
    set_constant(m, "zero_point", np.float32(3))


@refused("unsupported", "relu0", RELU)
def opset_op_of_another_domain(m):
    # ONNX Runtime has no Relu of its own; if it had, it would be another.
    m.graph.node[0].domain = "com.microsoft"
    m.opset_import.add(domain="com.microsoft", version=1)


@refused("unsupported", "relu0", RELU)
def opset_op_of_another_domain_before_an_unknown_shape(m):
    m.graph.node[0].domain = "com.microsoft"
    m.opset_import.add(domain="com.microsoft", version=1)
    m.graph.output[0].ClearField("type")


@refused("attribute|graph", "qgemm0", Q_GEMM)
def quant_qgemm_output_zero_point_missing(m):
    # ONNX Runtime takes the output for floats, whatever its scale.
    del m.graph.node[0].input[8]


@refused("attribute|graph", "resize0", RESIZE)
def attr_resize_neither_scales_nor_sizes(m):
    del m.graph.node[0].input[2:]


@refused("attribute|graph", "concat0", CONCAT)
def graph_concat_of_nothing(m):
    del m.graph.node[0].input[:]


@refused("attribute|unsupported", "batchnormalization0", BATCHNORM)
def attr_batch_norm_trains(m):
    """Without the outputs that training has."""
    m.opset_import[0].version = 15
    set_attribute(m, "training_mode", 1)
    m.graph.node[0].output.append("running_mean")


@refused("graph|attribute|unsupported", "if0", IF)
def graph_branch_missing(m):
    del m.graph.node[0].attribute[1]


@refused("graph|attribute|unsupported", "if0", IF)
def attr_branch_is_a_number(m):
    branch = m.graph.node[0].attribute[1]
    branch.ClearField("g")
    branch.type, branch.i = onnx.AttributeProto.INT, 1


@refused("graph|attribute|shape|unsupported", "if0", IF)
def type_condition_is_float(m):
    m.graph.input[1].type.tensor_type.elem_type = FLOAT


@refused("graph|attribute|shape|unsupported", "if0", IF)
def shape_condition_of_two_values(m):
    m.graph.input[1].type.tensor_type.shape.dim.add().dim_value = 2
