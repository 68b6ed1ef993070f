"""Odd files that a runtime may take: each is legal, or so common that most runtimes read it."""

import numpy as np
from onnx import helper, numpy_helper

from .models import (
    AVERAGEPOOL,
    BATCHNORM,
    CLIP,
    CONV_AUTO,
    CONVTRANSPOSE,
    DEQUANTIZE_AXIS,
    DEQUANTIZE_BIAS,
    GEMM,
    QLINEAR_CONV,
    RELU,
    RELUS,
    RESIZE,
    SLICE,
    build,
    constant,
    i64,
    set_attribute,
    set_constant,
    value,
)
from .registry import lenient
from .wire import GRAPH_NAME, GRAPH_VALUE_INFO, GROUP, GROUP_END, UNUSED, VARINT, headed, key, message, model, nested


@lenient("proto2 readers take a missing number as unset", RELU)
def lenient_ir_version_missing(m):
    m.ClearField("ir_version")


@lenient("most runtimes do not read it", RELU)
def lenient_ir_version_0(m):
    m.ir_version = 0


@lenient("illegal, but the meaning is clear", RELUS)
def lenient_nodes_not_sorted(m):
    nodes = list(m.graph.node)[::-1]
    del m.graph.node[:]
    m.graph.node.extend(nodes)


@lenient("legal: dimensions may be symbols", RELU)
def lenient_dimensions_symbolic(m):
    for v in (m.graph.input[0], m.graph.output[0]):
        for i, dim in enumerate(v.type.tensor_type.shape.dim):
            dim.dim_param = f"d{i}"


@lenient("exporters write -1 for an open dimension", RELU)
def lenient_dimension_minus_1(m):
    for v in (m.graph.input[0], m.graph.output[0]):
        v.type.tensor_type.shape.dim[0].dim_value = -1


@lenient("legal: a tensor may be empty", RELU)
def lenient_dimension_0(m):
    for v in (m.graph.input[0], m.graph.output[0]):
        v.type.tensor_type.shape.dim[0].dim_value = 0


@lenient("legal: the rank of an input may be open", RELU)
def lenient_input_shape_missing(m):
    m.graph.input[0].type.tensor_type.ClearField("shape")


@lenient("contradicts inference; runtimes warn or refuse", RELU)
def lenient_output_shape_wrong(m):
    m.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 9


@lenient("illegal, and most runtimes do not read it", RELU)
def lenient_graph_name_missing(m):
    m.graph.ClearField("name")


@lenient("legal: the names of nodes are for people", RELUS)
def lenient_node_names_equal(m):
    for n in m.graph.node:
        n.name = "relu"


@lenient("legal, if long", RELU)
def lenient_name_of_10_kilobytes(m):
    m.graph.node[0].name = "relu" * 2500


@lenient("an input that is an output makes no work, but sense", RELU)
def lenient_input_is_output(m):
    del m.graph.node[:]
    m.graph.output[0].name = "pixels"


@lenient("one tensor twice among the outputs", RELU)
def lenient_output_twice(m):
    m.graph.output.append(m.graph.output[0])


@lenient("legal: nobody needs the node", RELU)
def lenient_node_unused(m):
    m.graph.node.add(op_type="Neg", name="neg0", input=["pixels"], output=["unused"])


@lenient("legal: an input with an initializer has a default", GEMM)
def lenient_initializer_is_input(m):
    m.graph.input.append(value("gemm0_b", [3]))


@lenient("legal: terminals are the printer's affair", RELU)
def lenient_name_with_an_escape(m):
    m.graph.node[0].name = "\x1b[2Jrelu\r\n"


@lenient("a C program would read the name up to it", RELU)
def lenient_name_with_nul(m):
    m.graph.node[0].name = "relu\0neg"


@lenient("legal: inference has no use for how it was trained", RELU)
def lenient_training_info(m):
    m.training_info.add().algorithm.node.add(op_type="Neg", input=["missing"], output=["gradient"])


@lenient("what shapes inner tensors are said to have is not needed", RELUS)
def lenient_inner_shape_wrong(m):
    m.graph.value_info.append(value("relu0_out", [7, 7, 7]))


@lenient("legal: annotations are for tools", RELU)
def lenient_quantization_annotation_of_nothing(m):
    entry = m.graph.quantization_annotation.add(tensor_name="missing").quant_parameter_tensor_names.add()
    entry.key, entry.value = "SCALE_TENSOR", "missing"


@lenient("legal numbers whose product is infinite: all answers saturate", QLINEAR_CONV)
def lenient_scales_with_an_infinite_product(m):
    for parameter in ("x_scale", "w_scale"):
        set_constant(m, parameter, np.full_like(numpy_helper.to_array(constant(m, parameter)), 1e38))


@lenient("legal numbers whose quotient is 0: all answers are the zero point", QLINEAR_CONV)
def lenient_scales_with_a_vanishing_quotient(m):
    set_constant(m, "x_scale", np.float32(2e-38))
    set_constant(m, "y_scale", np.float32(3e38))


@lenient("legal: a channel that varies without end", BATCHNORM)
def lenient_variance_infinite(m):
    set_constant(m, "var", np.float32([1, np.inf, 1]))


@lenient("legal: a lower bound above the upper one gives the upper one", CLIP)
def lenient_clip_bounds_crossed(m):
    set_constant(m, "min", np.float32(7))


@lenient("legal numbers, useless weights", GEMM)
def lenient_weights_nan(m):
    set_constant(m, "w", np.full((4, 3), np.nan, np.float32))


@lenient("well defined: every value becomes 0; quantizers write it for dead channels", DEQUANTIZE_AXIS)
def lenient_dequantize_scale_0(m):
    set_constant(m, "scale", np.float32([0.1, 0, 0.3]))


@lenient("pads are to be absent beside auto_pad; runtimes take auto_pad", CONV_AUTO)
def lenient_auto_pad_and_pads(m):
    set_attribute(m, "pads", [1, 1, 1, 1])


@lenient("runtimes that know the domain need no import", RELU)
def lenient_domain_not_imported(m):
    m.graph.node[0].domain = "com.microsoft"
    m.graph.node[0].op_type = "Gelu"


@lenient("the highest version counts", RELU)
def lenient_opset_twice(m):
    m.opset_import.append(helper.make_opsetid("", 9))


@lenient("the zero point of int32 is to be 0, yet the result is well defined", DEQUANTIZE_BIAS)
def lenient_dequantize_int32_with_zero_point(m):
    set_constant(m, "zero_point", np.int32(7))


@lenient("the difference leaves 32 bits, on which ONNX is silent", DEQUANTIZE_BIAS)
def lenient_dequantize_int32_min_zero_point(m):
    set_constant(m, "zero_point", np.int32(-(2**31)))


@lenient("legal: tensors may be empty", CONVTRANSPOSE)
def lenient_input_empty(m):
    m.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 0


@lenient("some windows see nothing but padding; ONNX does not forbid it", AVERAGEPOOL)
def lenient_average_pool_pads_over_kernel(m):
    set_attribute(m, "pads", [2, 2, 2, 2])


@lenient("legal: a plan would hold an index for each of eight million elements", SLICE)
def lenient_slice_backwards(m):
    m.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2**23
    m.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1
    for parameter, content in {"starts": -1, "ends": -(2**24), "steps": -1}.items():
        set_constant(m, parameter, i64(content))


@lenient("legal: a plan would hold what each of two million rows is between", RESIZE)
def lenient_resize_to_many_rows(m):
    set_constant(m, "scales", np.float32([1, 1, 2**19, 1]))


@lenient("a reader that does not use the types of inner tensors skips them", RELU)
def lenient_wire_deep_sequence_types(_):
    return model(graph=message(GRAPH_VALUE_INFO, message(1, b"deep") + message(2, nested(4, 1))))


@lenient("legal protobuf: unknown fields are skipped", RELU)
def lenient_wire_unknown_fields(_):
    return model(
        graph=message(UNUSED, b"news") + key(UNUSED, GROUP) + key(UNUSED, VARINT) + b"\1" + key(UNUSED, GROUP_END)
    )


@lenient("legal protobuf: 10 bytes at most, zeros on top allowed", RELU)
def lenient_wire_varint_with_zeros(_):
    return model(graph=key(GRAPH_NAME, 2) + b"\x84\x80\x80\x80\x80\x80\x80\x80\x80\x00relu")


@lenient("legal protobuf: numbers may come one by one instead of packed", GEMM)
def lenient_wire_dims_not_packed(m):
    weights = constant(m, "w")
    weights.ClearField("dims")
    graph = m.graph
    first, second = list(graph.initializer)
    del graph.initializer[:]
    unpacked = key(1, VARINT) + b"\4" + key(1, VARINT) + b"\3" + first.SerializeToString()
    return headed(message(7, graph.SerializeToString() + message(5, unpacked) + message(5, second.SerializeToString())))


BROADCAST = build(
    "matmul_broadcast",
    [
        helper.make_node("ConstantOfShape", ["shape"], ["w"], name="weights0"),
        helper.make_node("MatMul", ["pixels", "w"], ["scores"], name="matmul0"),
    ],
    [value("pixels", [2, 3, 1, 4])],
    [value("scores", [2, None, 1, 4])],
    {"shape": i64(2, 1, 4, 4)},
)


@lenient("legal: 64 bytes of weights, which a product of so many matrices repeats to 128 MB", BROADCAST)
def lenient_matmul_repeats_weights(m):
    m.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 2**20


SPACED = build(
    "conv_transpose_of_one",
    [
        helper.make_node("ConstantOfShape", ["shape"], ["w"], name="weights0"),
        helper.make_node("ConvTranspose", ["pixels", "w"], ["scores"], name="conv_transpose0", strides=[1, 1]),
    ],
    [value("pixels", [1, 128, 2, 2])],
    [value("scores", [1, 128, None, None])],
    {"shape": i64(128, 128, 1, 1)},
)


@lenient("legal: kernels of one pixel, which are spaced out to 64 MB of zeros", SPACED)
def lenient_conv_transpose_wide_strides(m):
    m.graph.node[1].attribute[0].ints[:] = [32, 32]
