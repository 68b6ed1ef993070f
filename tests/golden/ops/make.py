#!/usr/bin/env python3
"""Makes a tiny model for every operator that plans have, in its variants, with an input and the outputs that ONNX
Runtime gives, graph optimisation off: a folder a case, cases.json and SHA256SUMS. See README.md.
"""
import json
import pathlib
import shutil

import numpy as np
import onnx

import random_graphs
import reference
from builder import Graph

HERE = pathlib.Path(__file__).resolve().parent
MICROSOFT = "com.microsoft"
CASES = {}
# The f32 kernels slide the same windows: some shapes are enough.
FLOAT_CONVOLUTIONS = {"3x3_pad", "asymmetric_pads", "dilated", "same_lower", "1x1", "groups", "depthwise_stride",
                      "depthwise_x2", "kernel_beyond_image", "1d_stride_dilated"}


def add(name: str, build, *, opset: int = 13, refused: str | None = None, beyond: int = 0) -> None:
    """`build` makes a graph; `refused` says why a plan cannot take it; `beyond` outputs may be 2 steps off."""
    assert name not in CASES, name
    CASES[name] = (build, opset, refused, beyond)


def main() -> None:
    convolutions()
    pools()
    fully_connected()
    elementwise()
    softmaxes()
    views()
    qoperators()
    blocks()
    edges()
    for index in range(40):
        add(f"random_{index:02}", random_graphs.build)
    for stale in HERE.glob("*/"):
        shutil.rmtree(stale)
    cases = [write(name, *case) for name, case in CASES.items()]
    (HERE / "cases.json").write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
    reference.write_digests(HERE, "*.onnx", "*.npy")


def write(name: str, build, opset: int, refused: str | None, beyond: int) -> dict:
    graph = Graph(name, opset)
    build(graph)
    folder, model = HERE / name, graph.model()
    folder.mkdir()
    onnx.save(model, folder / "model.onnx")
    for index, values in enumerate(graph.feeds.values()):
        np.save(folder / f"input_{index}.npy", values)
    results = reference.session(model).run(list(graph.outputs), graph.feeds)
    for index, values in enumerate(results):
        assert np.isfinite(values).all() and (values.size < 4 or len(np.unique(values)) > 2), f"{name} says nothing"
        np.save(folder / f"output_{index}.npy", values)
    case = {"name": name, "steps": list(graph.outputs.values()), "plan": refused is None}
    return case | ({"refused": refused} if refused else {}) | ({"beyond_one_step": beyond} if beyond else {})


def image(g: Graph, *shape: int, quantized: bool = True, dtype: str = "i8", **options) -> str:
    x = g.input(1, *shape)
    return g.qdq(x, dtype, **options) if quantized else x


def finish(g: Graph, y: str, quantized: bool = True, dtype: str = "i8") -> None:
    g.output(g.qdq(y, dtype) if quantized else y)


def convolutions() -> None:
    def convolution(g, shape, out, kernel, attributes, quantized):
        finish(g, g.conv(image(g, *shape, quantized=quantized), out, kernel, **attributes), quantized)

    # Input shape, output channels, kernel, attributes.
    shapes = {
        "3x3": ((3, 7, 6), 5, (3, 3), {}),
        "3x3_pad": ((3, 7, 6), 8, (3, 3), {"pads": [1, 1, 1, 1]}),
        "asymmetric_pads": ((2, 7, 6), 4, (3, 4), {"pads": [0, 2, 1, 1]}),
        "stride_2": ((3, 9, 8), 6, (3, 3), {"strides": [2, 2], "pads": [0, 0, 1, 1]}),
        "stride_2x1": ((3, 9, 8), 6, (3, 2), {"strides": [2, 1]}),
        "dilated": ((3, 9, 10), 4, (3, 3), {"dilations": [2, 3], "pads": [2, 3, 2, 3]}),
        "same_upper": ((3, 8, 7), 4, (4, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        "same_lower": ((3, 8, 7), 4, (4, 3), {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
        "valid": ((3, 8, 7), 4, (3, 3), {"auto_pad": "VALID", "strides": [1, 2]}),
        "1x1": ((17, 5, 4), 33, (1, 1), {}),
        "1x1_stride": ((5, 7, 6), 17, (1, 1), {"strides": [2, 3]}),
        "groups": ((6, 6, 5), 9, (3, 3), {"group": 3, "pads": [1, 1, 1, 1]}),
        "depthwise": ((17, 6, 5), 17, (3, 3), {"group": 17, "pads": [1, 1, 1, 1]}),
        "depthwise_stride": ((5, 9, 7), 5, (3, 3), {"group": 5, "strides": [2, 2], "pads": [1, 1, 1, 1]}),
        "depthwise_dilated": ((3, 9, 7), 3, (3, 2), {"group": 3, "dilations": [2, 2]}),
        "depthwise_x2": ((5, 6, 5), 10, (3, 3), {"group": 5, "pads": [1, 1, 1, 1]}),
        "one_channel": ((1, 8, 7), 1, (3, 3), {"pads": [1, 1, 1, 1]}),
        "one_pixel": ((5, 1, 1), 3, (3, 3), {"pads": [1, 1, 1, 1]}),
        "kernel_beyond_image": ((3, 4, 3), 4, (5, 7), {"pads": [2, 3, 2, 3]}),
        "whole_image": ((3, 5, 4), 7, (5, 4), {}),
        "1d": ((3, 20), 5, (5,), {"pads": [2, 2]}),
        "1d_stride_dilated": ((5, 24), 3, (3,), {"strides": [2], "dilations": [3], "pads": [1, 0]}),
        "1d_depthwise": ((6, 15), 6, (3,), {"group": 6, "pads": [1, 1]}),
        "1d_same_lower": ((3, 15), 4, (4,), {"auto_pad": "SAME_LOWER", "strides": [2]}),
    }
    for name, (shape, out, kernel, attributes) in shapes.items():
        for quantized in (True, False) if name in FLOAT_CONVOLUTIONS else (True,):
            add(f"conv_{'' if quantized else 'f32_'}{name}", bind(convolution, shape=shape, out=out, kernel=kernel, attributes=attributes, quantized=quantized))

    def typed(g, x={}, y="i8", **options):
        finish(g, g.conv(image(g, 3, 6, 5, **x), 5, (3, 3), pads=[1, 1, 1, 1], **options), dtype=y)

    variants = {
        "u8": dict(x={"dtype": "u8"}, y="u8"),
        "i8_to_u8": dict(y="u8"),
        "u8_to_i8": dict(x={"dtype": "u8"}),
        "per_tensor": dict(per_channel=False),
        "u8_weights": dict(x={"dtype": "u8"}, y="u8", w="u8", w_zero_point=128, per_channel=False),
        "u8_weights_off_centre": dict(w="u8", w_zero_point=131, per_channel=False),
        "zero_point_low": dict(x={"zero_point": -128}),
        "zero_point_high": dict(x={"zero_point": 127}),
        "u8_zero_point_low": dict(x={"dtype": "u8", "zero_point": 0}, y="u8"),
        "u8_zero_point_high": dict(x={"dtype": "u8", "zero_point": 255}, y="u8"),
        "float_bias": dict(bias="f32"),
        "no_bias": dict(bias=None),
    }
    for name, options in variants.items():
        add(f"conv_{name}", bind(typed, **options))
    add("conv_u8_weights_zero_point_0", bind(typed, w="u8", w_zero_point=0, per_channel=False))
    add("conv_float_weights", bind(typed, w=None, bias="f32"))

    def activated(g, act, quantized, dtype="i8"):
        y = g.conv(image(g, 3, 6, 5, quantized=quantized), 5, (3, 3))
        finish(g, act(g, y), quantized, dtype)

    activations = {
        "relu": lambda g, y: g.op("Relu", y),
        "relu6": lambda g, y: g.clip(y, 0.0, 0.75),
        "clip_low": lambda g, y: g.clip(y, -0.5, None),
        "relu_clip": lambda g, y: g.clip(g.op("Relu", y), -1.0, 0.6),
    }
    for name, act in activations.items():
        for quantized in (True, False):
            add(f"conv_{'' if quantized else 'f32_'}{name}", bind(activated, act=act, quantized=quantized))
    add("conv_u8_relu", bind(activated, act=activations["relu"], quantized=True, dtype="u8"))

    def clip_attributes(g):
        finish(g, g.op("Clip", g.conv(image(g, 3, 6, 5), 5, (3, 3), per_channel=False), min=-0.3, max=0.9))
    add("conv_clip_opset_10", clip_attributes, opset=10)

    def padded_alone(g):
        finish(g, g.conv(image(g, 3, 5, 4), 4, (1, 1), pads=[1, 1, 1, 1]))
    add("conv_windows_of_padding", padded_alone, refused="windows that hold nothing but padding")

    def batch(g):
        finish(g, g.conv(g.qdq(g.input(2, 3, 5, 4)), 4, (3, 3)))
    add("conv_batch_2", batch, refused="a batch of 2")

    def volume(g):
        finish(g, g.conv(image(g, 2, 4, 4, 3), 3, (2, 2, 2)))
    add("conv_3d", volume, refused="3 spatial dimensions")


def pools() -> None:
    shapes = {
        "2x2": ((3, 6, 8), {"kernel_shape": [2, 2], "strides": [2, 2]}),
        "3x3_pads": ((5, 7, 6), {"kernel_shape": [3, 3], "strides": [2, 1], "pads": [1, 0, 1, 2]}),
        "ceil": ((3, 6, 7), {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1}),
        "same_upper": ((17, 5, 6), {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
        "same_lower": ((3, 5, 6), {"kernel_shape": [2, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"}),
        "1d": ((5, 17), {"kernel_shape": [3], "strides": [2], "pads": [1, 1]}),
    }

    def pool(g, kind, shape, attributes, quantized, dtype="i8", y=None):
        finish(g, g.op(kind, image(g, *shape, quantized=quantized, dtype=dtype), **attributes), quantized, y or dtype)

    for name, (shape, attributes) in shapes.items():
        for kind, stem in (("MaxPool", "max_pool"), ("AveragePool", "average_pool")):
            for quantized in (True, False):
                add(f"{stem}_{'' if quantized else 'f32_'}{name}", bind(pool, kind=kind, shape=shape, attributes=attributes, quantized=quantized), opset=12)
    padded = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}
    for quantized in (True, False):
        add(f"average_pool_{'' if quantized else 'f32_'}count_include_pad", bind(pool, kind="AveragePool", shape=(3, 5, 6), attributes=padded, quantized=quantized))
    ceil = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 0, 0], "ceil_mode": 1, "count_include_pad": 1}
    for quantized in (True, False):
        add(f"average_pool_{'' if quantized else 'f32_'}ceil_count_include_pad", bind(pool, kind="AveragePool", shape=(3, 6, 7), attributes=ceil, quantized=quantized), opset=19, refused="an average that counts padding but not what lies beyond it")
    add("max_pool_dilated", bind(pool, kind="MaxPool", shape=(3, 8, 7), attributes={"kernel_shape": [2, 3], "dilations": [2, 2]}, quantized=True))
    add("max_pool_u8", bind(pool, kind="MaxPool", shape=(3, 6, 6), attributes={"kernel_shape": [2, 2]}, quantized=True, dtype="u8"))
    add("average_pool_u8_to_i8", bind(pool, kind="AveragePool", shape=(3, 6, 6), attributes={"kernel_shape": [2, 2]}, quantized=True, dtype="u8", y="i8"))
    add("average_pool_dilated", bind(pool, kind="AveragePool", shape=(3, 8, 7), attributes={"kernel_shape": [2, 3], "dilations": [2, 2]}, quantized=True), opset=19, refused="a dilated average")
    for quantized in (True, False):
        f32 = "" if quantized else "f32_"
        add(f"global_average_pool_{f32}2d", bind(pool, kind="GlobalAveragePool", shape=(33, 4, 5), attributes={}, quantized=quantized))
        add(f"global_average_pool_{f32}1d", bind(pool, kind="GlobalAveragePool", shape=(5, 11), attributes={}, quantized=quantized))
        add(f"global_max_pool_{f32}2d", bind(pool, kind="GlobalMaxPool", shape=(17, 4, 5), attributes={}, quantized=quantized))
        for keep in (0, 1):
            add(f"reduce_mean_{f32}keepdims_{keep}", bind(pool, kind="ReduceMean", shape=(17, 4, 5), attributes={"axes": [2, 3], "keepdims": keep}, quantized=quantized))
    add("reduce_mean_1d_negative_axis", bind(pool, kind="ReduceMean", shape=(5, 9), attributes={"axes": [-1], "keepdims": 0}, quantized=True))

    def axes_input(g):
        finish(g, g.op("ReduceMean", image(g, 5, 4, 5), g.const([-1, 2], np.int64), keepdims=0))
    add("reduce_mean_axes_input", axes_input, opset=18)
    add("reduce_mean_channels", bind(pool, kind="ReduceMean", shape=(5, 4, 5), attributes={"axes": [1]}, quantized=True), refused="a mean over channels")

    def max_of_integers(g):
        x = g.q(g.input(1, 3, 6, 6))
        y = g.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
        finish(g, g.conv(g.dq(y), 4, (2, 2)))
    add("max_pool_between_quantize_and_dequantize", max_of_integers)


def fully_connected() -> None:
    def gemm(g, rows=1, x={}, y="i8", quantized=True, opset_relu=False, **options):
        data = g.input(rows, 19)
        result = g.gemm(g.qdq(data, **x) if quantized else data, 11, **options)
        finish(g, g.op("Relu", result) if opset_relu else result, quantized, y)

    for transposed in (0, 1):
        for quantized in (True, False):
            add(f"gemm_{'' if quantized else 'f32_'}trans_b_{transposed}", bind(gemm, transB=transposed, quantized=quantized))
    variants = {
        "u8": dict(x={"dtype": "u8"}, y="u8"),
        "per_tensor": dict(per_channel=False),
        "rows": dict(rows=3),
        "no_bias": dict(bias=None, transB=1),
        "float_bias": dict(bias="f32"),
        "relu": dict(opset_relu=True, transB=1),
    }
    for name, options in variants.items():
        add(f"gemm_{name}", bind(gemm, **options))

    def bias_shape(g, rows, shape, quantized):
        x = g.input(rows, 6)
        x = g.qdq(x) if quantized else x
        values = g.normal(6, rows)
        w = g.stored(values) if quantized else g.const(values)
        finish(g, g.op("Gemm", x, w, g.const(g.normal(*shape))), quantized)
    for quantized in (True, False):
        f32 = "" if quantized else "f32_"
        add(f"gemm_{f32}bias_2d", bind(bias_shape, rows=3, shape=(1, 3), quantized=quantized))
        add(f"gemm_{f32}bias_scalar", bind(bias_shape, rows=3, shape=(1,), quantized=quantized))
        add(f"gemm_{f32}bias_column", bind(bias_shape, rows=3, shape=(3, 1), quantized=quantized), refused="a bias for each row")

    def alpha_beta(g, quantized):
        x = g.input(1, 9)
        x = g.qdq(x) if quantized else x
        values = g.normal(9, 5)
        finish(g, g.op("Gemm", x, g.stored(values) if quantized else g.const(values), g.const(g.normal(5)), alpha=0.5, beta=2.0), quantized)
    add("gemm_f32_alpha_beta", bind(alpha_beta, quantized=False))
    add("gemm_alpha_beta", bind(alpha_beta, quantized=True))

    def matmul(g, shape, quantized, per_channel=True, bias=False):
        x = g.input(*shape)
        y = g.matmul(g.qdq(x) if quantized else x, 7, per_channel=per_channel)
        finish(g, g.op("Add", y, g.const(g.normal(7))) if bias else y, quantized)
    for quantized in (True, False):
        f32 = "" if quantized else "f32_"
        add(f"matmul_{f32}2d", bind(matmul, shape=(4, 13), quantized=quantized))
        add(f"matmul_{f32}3d", bind(matmul, shape=(1, 5, 13), quantized=quantized))
        add(f"matmul_{f32}3d_batch", bind(matmul, shape=(2, 3, 13), quantized=quantized))
        add(f"matmul_{f32}add_bias", bind(matmul, shape=(3, 13), quantized=quantized, bias=True))
    add("matmul_per_tensor", bind(matmul, shape=(1, 13), quantized=True, per_channel=False))
    add("matmul_1d", bind(matmul, shape=(13,), quantized=True))

    def computed(g):
        a, b = g.qdq(g.input(3, 4)), g.qdq(g.input(4, 5))
        finish(g, g.op("MatMul", a, b))
    add("matmul_of_activations", computed, refused="weights that are computed")


def elementwise() -> None:
    def two(g, kind, a=(1, 5, 4, 3), b=(1, 5, 4, 3), quantized=True, dtypes=("i8", "i8", "i8"), relu=False):
        x, y = g.input(*a), g.input(*b, low=0.5, high=1.5)
        if quantized:
            x, y = g.qdq(x, dtypes[0]), g.qdq(y, dtypes[1])
        z = g.op(kind, x, y)
        finish(g, g.op("Relu", z) if relu else z, quantized, dtypes[2])

    for kind in ("Add", "Sub", "Mul"):
        for quantized in (True, False):
            f32 = "" if quantized else "f32_"
            add(f"{kind.lower()}_{f32}same_shape", bind(two, kind=kind, quantized=quantized))
            add(f"{kind.lower()}_{f32}channels", bind(two, kind=kind, b=(1, 5, 1, 1), quantized=quantized))
            add(f"{kind.lower()}_{f32}channels_first_operand", bind(two, kind=kind, a=(1, 5, 1, 1), b=(1, 5, 4, 3), quantized=quantized))
    for kind in ("Div", "Min", "Max"):
        add(f"{kind.lower()}_f32_same_shape", bind(two, kind=kind, quantized=False))
    add("div_quantized_ends", bind(two, kind="Div"))
    add("add_u8", bind(two, kind="Add", dtypes=("u8", "u8", "u8")))
    add("add_mixed_types", bind(two, kind="Add", dtypes=("u8", "i8", "u8")))
    add("mul_u8_to_i8", bind(two, kind="Mul", dtypes=("u8", "u8", "i8")))
    add("add_relu", bind(two, kind="Add", relu=True))
    add("add_f32_relu", bind(two, kind="Add", relu=True, quantized=False))
    add("add_matrix_row", bind(two, kind="Add", a=(3, 7), b=(7,)))
    add("add_rows", bind(two, kind="Add", a=(4, 4), b=(4, 1)), refused="one operand for each row")
    add("mul_image_rows", bind(two, kind="Mul", a=(1, 3, 4, 4), b=(1, 1, 4, 4)), refused="one operand for each pixel")
    add("add_outer", bind(two, kind="Add", a=(1, 4), b=(4, 1)), refused="operands that widen each other")

    def constant(g, kind, values, quantized, first=False, stored=False, shape=(1, 5, 4, 3)):
        x = g.input(*shape, low=0.5)
        x = g.qdq(x) if quantized else x
        c = g.stored(values) if stored else g.const(values)
        finish(g, g.op(kind, *((c, x) if first else (x, c))), quantized)

    channels = np.linspace(-1, 1.5, 5, dtype=np.float32).reshape(1, 5, 1, 1)
    for kind in ("Add", "Sub", "Mul", "Div"):
        for quantized in (True, False):
            f32 = "" if quantized else "f32_"
            for first in (False, True):
                order = "_first" if first else ""
                add(f"{kind.lower()}_{f32}scalar{order}", bind(constant, kind=kind, values=0.7, quantized=quantized, first=first))
            if kind != "Div":
                add(f"{kind.lower()}_{f32}constant_channels", bind(constant, kind=kind, values=channels, quantized=quantized))
        if kind != "Div":
            add(f"{kind.lower()}_stored_scalar", bind(constant, kind=kind, values=np.float32([0.7]), quantized=True, stored=True))
            add(f"{kind.lower()}_stored_channels", bind(constant, kind=kind, values=channels, quantized=True, stored=True))
    full = np.linspace(-1, 1, 60, dtype=np.float32).reshape(1, 5, 4, 3)
    add("add_constant_image", bind(constant, kind="Add", values=full, quantized=True))
    add("mul_f32_constant_image", bind(constant, kind="Mul", values=full, quantized=False))
    add("mul_stored_image", bind(constant, kind="Mul", values=full, quantized=True, stored=True))
    add("add_f32_constant_outer", bind(constant, kind="Add", values=full[0, :4, 0, :1], quantized=False, shape=(1, 4)), refused="operands that widen each other")
    add("mul_f32_scalar_of_higher_rank", bind(constant, kind="Mul", values=np.full((1, 1, 1), 0.7), quantized=False, shape=(5, 4)), refused="operands that widen each other")
    add("sub_f32_channels_then_div", bind(normalised))

    def same(g, kind, quantized):
        x = g.input(1, 3, 4, 5)
        x = g.qdq(x) if quantized else x
        finish(g, g.op(kind, x, x), quantized)
    for kind in ("Add", "Mul"):
        for quantized in (True, False):
            add(f"{kind.lower()}_{'' if quantized else 'f32_'}with_itself", bind(same, kind=kind, quantized=quantized))

    functions = {
        "relu": ("Relu", {}), "leaky_relu": ("LeakyRelu", {"alpha": 0.2}), "sigmoid": ("Sigmoid", {}),
        "tanh": ("Tanh", {}), "hard_swish": ("HardSwish", {}), "hard_sigmoid": ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
        "elu": ("Elu", {"alpha": 1.3}), "exp": ("Exp", {}), "abs": ("Abs", {}), "neg": ("Neg", {}), "erf": ("Erf", {}),
    }

    def function(g, kind, attributes, quantized, dtype="i8"):
        x = g.input(1, 3, 5, 6, low=-4, high=4)
        finish(g, g.op(kind, g.qdq(x, dtype) if quantized else x, **attributes), quantized, dtype)
    for name, (kind, attributes) in functions.items():
        for quantized in (True, False):
            add(f"{name}_{'' if quantized else 'f32_'}alone", bind(function, kind=kind, attributes=attributes, quantized=quantized), opset=14)
    for name in ("relu", "sigmoid"):
        add(f"{name}_u8", bind(function, kind=functions[name][0], attributes={}, quantized=True, dtype="u8"))

    def positive(g, kind):
        finish(g, g.op(kind, g.input(1, 3, 5, 6, low=0.1, high=4)), False)
    for kind in ("Log", "Sqrt"):
        add(f"{kind.lower()}_f32_alone", bind(positive, kind=kind))

    def clip(g, quantized):
        x = g.input(1, 3, 5, 6, low=-4, high=4)
        finish(g, g.clip(g.qdq(x) if quantized else x, -1.1, 2.3), quantized)
    for quantized in (True, False):
        add(f"clip_{'' if quantized else 'f32_'}alone", bind(clip, quantized=quantized))

    def activated(g):
        y = g.conv(image(g, 3, 6, 5), 5, (3, 3))
        y = g.qdq(g.op("LeakyRelu", g.qdq(y), alpha=0.1))
        gate = g.qdq(g.op("Sigmoid", y))
        finish(g, g.op("Mul", y, gate))
    add("swish_after_conv", activated)

    def unsupported(g):
        finish(g, g.op("Selu", image(g, 3, 4, 4)))
    add("selu", unsupported, refused="an operator without an op")


def normalised(g: Graph) -> None:
    """An image normalised in the graph, as exporters of vision models write it."""
    x = g.input(1, 3, 6, 5, low=0, high=255)
    mean, deviation = (g.const(np.float32(v).reshape(1, 3, 1, 1)) for v in ([120, 110, 100], [58, 57, 56]))
    finish(g, g.conv(g.qdq(g.op("Div", g.op("Sub", x, mean), deviation)), 4, (3, 3)))


def softmaxes() -> None:
    def softmax(g, shape, quantized, dtype="i8", **attributes):
        x = g.input(*shape, low=-5, high=5)
        y = g.op("Softmax", g.qdq(x, dtype) if quantized else x, **attributes)
        if quantized:
            g.output(g.qdq(y, dtype, scale=1 / 256, zero_point=-128 if dtype == "i8" else 0))
        else:
            g.output(y)
    for quantized in (True, False):
        f32 = "" if quantized else "f32_"
        add(f"softmax_{f32}last", bind(softmax, shape=(2, 11), quantized=quantized, axis=-1))
        add(f"softmax_{f32}default_axis", bind(softmax, shape=(1, 3, 7), quantized=quantized))
        add(f"softmax_{f32}channels", bind(softmax, shape=(1, 5, 4, 3), quantized=quantized, axis=1))
        add(f"softmax_{f32}opset_11", bind(softmax, shape=(1, 3, 4, 2), quantized=quantized), opset=11)
        add(f"softmax_{f32}opset_11_axis_2", bind(softmax, shape=(1, 3, 4, 2), quantized=quantized, axis=2), opset=11)
    add("softmax_u8", bind(softmax, shape=(1, 10), quantized=True, dtype="u8"))
    add("softmax_middle", bind(softmax, shape=(1, 3, 4, 5), quantized=True, axis=2), refused="a softmax along the height")


def views() -> None:
    def shaped(g, build, quantized=True):
        finish(g, build(g, image(g, 6, 4, 5, quantized=quantized)), quantized)

    def between(g, build):
        """Between two convolutions, where images lie channels-last."""
        y = g.qdq(g.conv(image(g, 3, 6, 6), 6, (3, 3)))
        finish(g, g.conv(g.qdq(build(g, y)), 4, (1, 1)))

    def shape(*dims):
        return lambda g, x: g.op("Reshape", x, g.const(dims, np.int64))

    def nhwc(g, x):
        x = g.op("Relu", g.op("Transpose", x, perm=[0, 2, 3, 1]))
        return g.op("Transpose", g.qdq(x) if x in g.parameters else x, perm=[0, 3, 1, 2])

    forms = {
        "reshape_to_matrix": shape(1, -1),
        "reshape_copy": shape(0, 2, 3, 20),
        "flatten": lambda g, x: g.op("Flatten", x),
        "flatten_axis_2": lambda g, x: g.op("Flatten", x, axis=2),
        "unsqueeze": lambda g, x: g.op("Unsqueeze", x, g.const([-1], np.int64)),
        "squeeze": lambda g, x: g.op("Squeeze", x, g.const([0], np.int64)),
        "transpose_reverse": lambda g, x: g.op("Transpose", x),
        "transpose_nhwc": lambda g, x: g.op("Transpose", x, perm=[0, 2, 3, 1]),
        "transpose_swap": lambda g, x: g.op("Transpose", x, perm=[0, 1, 3, 2]),
        "transpose_batch": lambda g, x: g.op("Transpose", x, perm=[1, 0, 2, 3]),
        "nhwc_and_back": nhwc,
        "pad": lambda g, x: g.op("Pad", x, g.const([0, 0, 1, 2, 0, 0, 0, 1], np.int64)),
        "pad_channels": lambda g, x: g.op("Pad", x, g.const([0, 1, 0, 0, 0, 2, 0, 0], np.int64)),
        "pad_batch": lambda g, x: g.op("Pad", x, g.const([1, 0, 0, 0, 1, 0, 0, 0], np.int64)),
        "concat_batch": lambda g, x: g.op("Concat", x, g.op("Neg", x) if x not in g.parameters else g.qdq(g.op("Neg", x)), axis=0),
    }
    for name, build in forms.items():
        for quantized in (True, False):
            add(f"{name if quantized else name + '_f32'}", bind(shaped, build=build, quantized=quantized))
    for name in ("nhwc_and_back", "pad", "pad_channels"):
        add(f"{name}_between_convs", bind(between, build=forms[name]))
    for name in ("transpose_batch", "pad_batch", "concat_batch"):
        def then(g, build):
            x = build(g, g.qdq(g.conv(image(g, 3, 5, 5), 4, (2, 2))))
            finish(g, g.op("Reshape", g.qdq(x), g.const([-1], np.int64)))
        add(f"{name}_after_conv", bind(then, build=forms[name]))

    def head(g, flat):
        y = g.qdq(g.op("Relu", g.conv(image(g, 3, 6, 6), 6, (3, 3))))
        finish(g, g.gemm(g.qdq(flat(g, y)), 5, transB=1))
    add("flatten_between_conv_and_gemm", bind(head, flat=forms["flatten"]))
    add("reshape_between_conv_and_gemm", bind(head, flat=forms["reshape_to_matrix"]))

    def to_image(g):
        y = g.qdq(g.gemm(g.qdq(g.input(1, 10)), 24))
        finish(g, g.conv(g.op("Reshape", y, g.const([1, 2, 3, 4], np.int64)), 3, (2, 2)))
    add("reshape_between_gemm_and_conv", to_image)

    def rank_3(g):
        y = g.qdq(g.conv(g.qdq(g.input(1, 3, 12)), 4, (3,)))
        y = g.op("Unsqueeze", y, g.const([2], np.int64))
        y = g.qdq(g.conv(y, 5, (1, 3)))
        finish(g, g.op("Squeeze", y, g.const([2], np.int64)))
    add("unsqueeze_1d_to_2d_and_back", rank_3)

    def nhwc_input(g):
        x = g.qdq(g.op("Transpose", g.input(1, 5, 6, 3), perm=[0, 3, 1, 2]))
        finish(g, g.op("Transpose", g.qdq(g.conv(x, 4, (3, 3))), perm=[0, 2, 3, 1]))
    add("nhwc_ends", nhwc_input)

    def tokens(g):
        y = g.qdq(g.conv(image(g, 3, 5, 4), 6, (2, 2)))
        y = g.op("Transpose", g.op("Reshape", y, g.const([1, 6, -1], np.int64)), perm=[0, 2, 1])
        finish(g, g.matmul(y, 5))
    add("image_to_tokens_to_matmul", tokens)

    def concat(g, axis, shapes, same_scale=False, quantized=True, follow=True):
        parts = []
        for i, dims in enumerate(shapes):
            x = g.input(*dims, low=-1 - i, high=1 + 2 * i)
            parts.append((g.qdq(x, **({"scale": 0.02, "zero_point": 3} if same_scale else {}))) if quantized else x)
        y = g.op("Concat", *parts, axis=axis)
        finish(g, y, quantized and follow)
    image_shapes = [(1, 3, 4, 5), (1, 2, 4, 5), (1, 5, 4, 5)]
    for quantized in (True, False):
        f32 = "" if quantized else "f32_"
        add(f"concat_{f32}channels", bind(concat, axis=1, shapes=image_shapes, quantized=quantized))
        add(f"concat_{f32}height", bind(concat, axis=2, shapes=[(1, 3, 2, 5), (1, 3, 4, 5)], quantized=quantized))
        add(f"concat_{f32}width", bind(concat, axis=-1, shapes=[(1, 3, 2, 5), (1, 3, 2, 1)], quantized=quantized))
        add(f"concat_{f32}matrix", bind(concat, axis=1, shapes=[(2, 5), (2, 3)], quantized=quantized))
    add("concat_same_scale", bind(concat, axis=1, shapes=image_shapes, same_scale=True))
    add("concat_1d", bind(concat, axis=1, shapes=[(1, 3, 9), (1, 4, 9)]))
    add("concat_scales_without_quantize", bind(concat, axis=1, shapes=image_shapes[:2], follow=False))

    def with_itself(g):
        x = image(g, 3, 4, 5)
        finish(g, g.op("Concat", x, x, axis=1))
    add("concat_with_itself", with_itself)

    def mixed_layouts(g):
        x = image(g, 3, 6, 6)
        y = g.qdq(g.conv(x, 2, (3, 3), pads=[1, 1, 1, 1]))
        z = g.qdq(g.op("Reshape", g.qdq(g.gemm(g.qdq(g.input(1, 4)), 36)), g.const([1, 1, 6, 6], np.int64)))
        finish(g, g.conv(g.qdq(g.op("Concat", x, y, z, axis=1)), 3, (3, 3)))
    add("concat_of_images_and_matrix", mixed_layouts)

    def border(g, value, quantized):
        x = image(g, 3, 4, 5, quantized=quantized, **({"scale": 0.03125, "zero_point": 5} if quantized else {}))
        y = g.op("Pad", x, g.const([0, 0, 1, 1, 0, 0, 1, 0], np.int64), g.const(value))
        finish(g, y, quantized)
    add("pad_value", bind(border, value=0.5, quantized=True))
    add("pad_f32_value", bind(border, value=-1.25, quantized=False))
    add("pad_value_between_steps", bind(border, value=0.51, quantized=True), refused="a border that is not one of the quantized values")

    def reflected(g):
        finish(g, g.op("Pad", image(g, 3, 4, 5), g.const([0, 0, 1, 1, 0, 0, 1, 0], np.int64), mode="reflect"))
    add("pad_reflect", reflected, refused="a border of the image's own")

    def pad_opset_10(g):
        finish(g, g.op("Pad", image(g, 3, 4, 5), pads=[0, 0, 1, 1, 0, 0, 1, 0], value=0.0))
    add("pad_attributes", pad_opset_10, opset=10)

    def identity(g):
        y = g.op("Identity", g.qdq(g.conv(image(g, 3, 5, 4), 4, (2, 2))))
        finish(g, g.op("Dropout", y))
    add("identity_and_dropout", identity)


def qoperators() -> None:
    def parameters(g, q):
        scale, zero_point, dtype = g.parameters[q]
        return g.const(scale), g.const(zero_point, {"i8": np.int8, "u8": np.uint8}[dtype])

    def made(g, kind, inputs, reference_value, dtype, domain=MICROSOFT, softmax=False, **attributes):
        """A QOperator whose output has the range of `reference_value`, the float result."""
        options = {"scale": 1 / 256, "zero_point": -128 if dtype == "i8" else 0} if softmax else {}
        q = g.q(reference_value, dtype, **options)
        y = parameters(g, q)
        inputs = [*inputs, *y] if kind != "QLinearConcat" else [*y, *inputs]
        # What was made to find the range is not part of the model.
        out = g.op(kind, *inputs, domain=domain, **attributes)
        g.parameters[out] = g.parameters[q]
        g.keep_only(out)
        return out

    def unary(g, kind, dtype, shape=(1, 3, 4, 5), softmax=False, **attributes):
        q = g.q(g.input(*shape, low=-3, high=3), dtype)
        float_attributes = {k: v for k, v in attributes.items() if k not in ("opset", "channels_last")}
        value = g.op(kind, g.dq(q), **float_attributes)
        out = made(g, f"QLinear{kind}", [q, *parameters(g, q)], value, dtype, softmax=softmax, **attributes)
        g.output(g.dq(out))

    pool = {"kernel_shape": [2, 3], "strides": [2, 1], "pads": [1, 1, 0, 1]}
    for dtype in ("i8", "u8"):
        add(f"qlinear_sigmoid_{dtype}", bind(unary, kind="Sigmoid", dtype=dtype))
        add(f"qlinear_leaky_relu_{dtype}", bind(unary, kind="LeakyRelu", dtype=dtype, alpha=0.2))
        add(f"qlinear_softmax_{dtype}", bind(unary, kind="Softmax", dtype=dtype, shape=(2, 9), softmax=True, axis=-1, opset=13))
        add(f"qlinear_global_average_pool_{dtype}", bind(unary, kind="GlobalAveragePool", dtype=dtype, channels_last=0))
    add("qlinear_average_pool_u8", bind(unary, kind="AveragePool", dtype="u8", **pool))
    add("qlinear_average_pool_i8", bind(unary, kind="AveragePool", dtype="i8", **pool, count_include_pad=1))

    def binary(g, kind, dtype, b=(1, 3, 4, 5)):
        qa, qb = g.q(g.input(1, 3, 4, 5), dtype), g.q(g.input(*b, low=-1, high=3), dtype)
        value = g.op(kind, g.dq(qa), g.dq(qb))
        out = made(g, f"QLinear{kind}", [qa, *parameters(g, qa), qb, *parameters(g, qb)], value, dtype)
        g.output(out)
    for kind in ("Add", "Mul"):
        for dtype in ("i8", "u8"):
            add(f"qlinear_{kind.lower()}_{dtype}", bind(binary, kind=kind, dtype=dtype))
    add("qlinear_mul_channels", bind(binary, kind="Mul", dtype="u8", b=(1, 3, 1, 1)))

    def concat(g, dtype):
        parts = [g.q(g.input(1, c, 4, 5, high=1 + c), dtype) for c in (3, 2)]
        value = g.op("Concat", *[g.dq(q) for q in parts], axis=1)
        inputs = [x for q in parts for x in (q, *parameters(g, q))]
        g.output(g.dq(made(g, "QLinearConcat", inputs, value, dtype, axis=1)))
    for dtype in ("i8", "u8"):
        add(f"qlinear_concat_{dtype}", bind(concat, dtype=dtype))

    def weighted(g, kind, dtype, w, per_channel, bias=True, **attributes):
        conv = kind == "QLinearConv"
        x = g.input(*((1, 3, 6, 5) if conv else (2, 12)))
        q = g.q(x, dtype)
        xs = g.dq(q)
        if conv:
            value = g.conv(xs, 5, (3, 3), w=w, per_channel=per_channel, w_zero_point=128 if w == "u8" else 0, bias="i32" if bias else None, **attributes)
        elif kind == "QGemm":
            value = g.gemm(xs, 7, w=w, per_channel=per_channel, bias="i32" if bias else None, **attributes)
        else:
            value = g.matmul(xs, 7, w=w, per_channel=per_channel)
        node = g.nodes[g._producer(value)]
        stored, bias_stored = (list(g.nodes[g._producer(name)].input) for name in (node.input[1], node.input[-1]))
        inputs = [q, *parameters(g, q), *stored]
        domain = MICROSOFT if kind == "QGemm" else ""
        y = list(parameters(g, g.q(value, dtype)))
        c = [bias_stored[0]] if bias and kind != "QLinearMatMul" else [""] if kind == "QGemm" else []
        inputs += [*c, *y] if kind == "QGemm" else [*y, *c]
        out = g.op(kind, *inputs, domain=domain, **attributes)
        g.parameters[out] = g.parameters[g.nodes[g._producer(out) - 1].output[0]]
        g.keep_only(out)
        g.output(g.dq(out))

    pads = {"pads": [1, 0, 1, 1], "strides": [2, 1]}
    for kind, stem, attributes in (("QLinearConv", "qlinear_conv", pads), ("QLinearMatMul", "qlinear_matmul", {}), ("QGemm", "qgemm", {"transB": 1})):
        add(f"{stem}_i8_per_channel", bind(weighted, kind=kind, dtype="i8", w="i8", per_channel=True, **attributes))
        add(f"{stem}_u8_i8", bind(weighted, kind=kind, dtype="u8", w="i8", per_channel=False, **attributes))
    add("qlinear_conv_u8_u8", bind(weighted, kind="QLinearConv", dtype="u8", w="u8", per_channel=False, **pads))
    add("qlinear_conv_no_bias", bind(weighted, kind="QLinearConv", dtype="i8", w="i8", per_channel=True, bias=False))
    add("qgemm_trans_b_0_no_bias", bind(weighted, kind="QGemm", dtype="i8", w="i8", per_channel=True, bias=False))


def blocks() -> None:
    def residual(g, quantized, dtype="i8"):
        def ends(y):
            return g.qdq(y, dtype) if quantized else y
        x = ends(g.op("Relu", g.conv(image(g, 3, 6, 6, quantized=quantized, dtype=dtype), 8, (3, 3), pads=[1, 1, 1, 1])))
        y = ends(g.op("Relu", g.conv(x, 8, (3, 3), pads=[1, 1, 1, 1])))
        y = ends(g.conv(y, 8, (3, 3), pads=[1, 1, 1, 1]))
        finish(g, g.op("Relu", g.op("Add", y, x)), quantized, dtype)
    for quantized in (True, False):
        add(f"residual{'' if quantized else '_f32'}", bind(residual, quantized=quantized))
    add("residual_u8", bind(residual, quantized=True, dtype="u8"))

    def mobile(g, quantized):
        """Expand, depthwise, squeeze and excite, project, add."""
        def ends(y):
            return g.qdq(y) if quantized else y
        x = ends(g.conv(image(g, 3, 8, 8, quantized=quantized), 4, (3, 3), strides=[2, 2], pads=[0, 0, 1, 1]))
        y = ends(g.op("HardSwish", ends(g.conv(x, 12, (1, 1)))))
        y = ends(g.clip(g.conv(y, 12, (3, 3), group=12, pads=[1, 1, 1, 1]), 0.0, 6.0))
        s = ends(g.op("GlobalAveragePool", y))
        s = ends(g.op("Relu", g.conv(s, 3, (1, 1))))
        s = ends(g.op("HardSigmoid", ends(g.conv(s, 12, (1, 1))), alpha=1 / 6))
        y = ends(g.conv(ends(g.op("Mul", y, s)), 4, (1, 1)))
        y = ends(g.op("Add", x, y))
        y = g.op("Flatten", ends(g.op("ReduceMean", y, axes=[2, 3])))
        finish(g, g.gemm(y, 5, transB=1), quantized)
    for quantized in (True, False):
        add(f"mobile_block{'' if quantized else '_f32'}", bind(mobile, quantized=quantized), opset=14)

    def mixed(g):
        y = g.qdq(g.conv(image(g, 3, 6, 6), 5, (3, 3), pads=[1, 1, 1, 1]))
        y = g.op("Tanh", g.conv(y, 4, (3, 3), w=None))
        y = g.op("Mul", y, g.const(g.normal(1, 4, 1, 1)))
        y = g.qdq(g.conv(g.qdq(y), 6, (1, 1)))
        finish(g, g.op("Softmax", g.op("Flatten", y)), False)
    add("int8_float_int8", mixed)

    def several(g):
        a, b = g.qdq(g.input(1, 3, 5, 5)), g.qdq(g.input(1, 6))
        ya = g.qdq(g.op("Relu", g.conv(a, 4, (3, 3))))
        pooled = g.qdq(g.op("GlobalAveragePool", ya))
        joined = g.qdq(g.op("Concat", g.op("Flatten", pooled), b, axis=1))
        g.output(g.qdq(g.gemm(joined, 3, transB=1)), g.qdq(g.op("Sigmoid", joined)))
    add("two_inputs_two_outputs", several)

    def taps(g):
        x = image(g, 3, 6, 6)
        q = g.q(g.op("Relu", g.conv(x, 4, (3, 3))))
        y = g.dq(q)
        z = g.qdq(g.conv(y, 5, (2, 2)))
        finish(g, g.conv(z, 2, (1, 1)))
        g.output(q, y, z)
    add("intermediate_outputs", taps)

    def float_taps(g):
        y = g.conv(g.input(1, 3, 6, 6), 4, (3, 3))
        z = g.op("Relu", y)
        g.output(y, z, g.op("GlobalAveragePool", z))
    add("intermediate_f32_outputs", float_taps)

    def pre_activation(g):
        y = g.conv(image(g, 3, 6, 6), 4, (3, 3))
        g.output(y, g.qdq(g.op("Relu", y)))
    add("output_before_its_activation", pre_activation)

    def two_heads(g):
        """The mean of an image, without its spatial dimensions, meets what a Gemm gave."""
        x = image(g, 6, 4, 4)
        pooled = g.qdq(g.op("ReduceMean", x, axes=[2, 3], keepdims=0))
        finish(g, g.op("Add", pooled, g.qdq(g.gemm(g.op("Flatten", x), 6))))
    add("mean_plus_gemm", two_heads)

    def two_readers(g):
        y = g.conv(image(g, 3, 6, 6), 4, (3, 3))
        g.output(g.qdq(y), g.qdq(g.op("Relu", y)))
    add("quantized_twice", two_readers)


def edges() -> None:
    def integers(g, dtype, out):
        x = g.input(1, 3, 5, 4, dtype={"i8": np.int8, "u8": np.uint8}[dtype])
        g.parameters[x] = (0.02, 7, dtype)
        g.output(g.q(g.conv(g.dq(x), 4, (3, 3), pads=[1, 1, 1, 1]), out))
    add("int8_ends", bind(integers, dtype="i8", out="i8"))
    add("uint8_ends", bind(integers, dtype="u8", out="u8"))
    add("uint8_to_int8", bind(integers, dtype="u8", out="i8"))

    def integer_images(g):
        a, b = g.input(1, 3, 4, 5, dtype=np.int8), g.input(1, 3, 1, 1, dtype=np.uint8)
        g.parameters[a], g.parameters[b] = (0.02, -3, "i8"), (0.01, 100, "u8")
        g.output(g.q(g.op("Mul", g.dq(a), g.dq(b))))
    add("int8_image_times_uint8_channels", integer_images)

    def requantized(g):
        g.output(g.q(g.dq(g.q(g.input(1, 3, 4, 5))), "u8", scale=0.025, zero_point=120))
    add("quantize_dequantize_quantize", requantized)

    def quantize(g):
        g.output(g.q(g.input(1, 3, 4, 5)))
    add("quantize_alone", quantize)

    def dequantize(g):
        x = g.input(1, 3, 4, 5, dtype=np.uint8)
        g.parameters[x] = (0.03, 131, "u8")
        g.output(g.dq(x))
    add("dequantize_alone", dequantize)

    def no_zero_point(g):
        q = g.op("QuantizeLinear", g.input(1, 3, 4, 5, low=0), g.const(0.01))
        g.output(q, g.op("DequantizeLinear", q, g.const(0.01)))
        g.outputs = {q: 1.0, list(g.outputs)[1]: float(np.float32(0.01))}
    add("without_zero_points", no_zero_point)

    def halves(g):
        """Values halfway between two integers: rounding is to even."""
        x = g.input(1, 4, 4, 4)
        g.feeds[x] = (np.arange(-32, 32, dtype=np.float32) / 2 * 0.5).reshape(1, 4, 4, 4)
        y = g.qdq(x, scale=0.25, zero_point=1)
        g.output(g.qdq(y, scale=0.5, zero_point=-3))
    add("round_half_to_even", halves)

    def passed_through(g):
        x = g.input(1, 3, 4, 5)
        g.output(g.op("Relu", x), g.op("Identity", x))
    add("input_is_an_output", passed_through)

    def shared(g):
        x = image(g, 4, 5, 5)
        w = g.stored(g.normal(4, 4, 3, 3, scale=0.2), axis=0)
        y = g.qdq(g.op("Conv", x, w, pads=[1, 1, 1, 1]))
        finish(g, g.op("Conv", y, w, pads=[1, 1, 1, 1]))
    add("shared_weights", shared)

    def only_moves(g):
        g.output(g.op("Reshape", g.input(1, 3, 4, 5), g.const([3, 20], np.int64)))
    add("reshape_alone", only_moves)

    def per_axis(g):
        x = g.op("QuantizeLinear", g.input(1, 3, 4, 5), g.const([0.02, 0.03, 0.01]), g.const([0, 3, -5], np.int8), axis=1)
        y = g.op("DequantizeLinear", x, g.const([0.02, 0.03, 0.01]), g.const([0, 3, -5], np.int8), axis=1)
        g.output(g.op("Relu", y))
    add("activations_per_channel", per_axis, refused="activations with a scale for each channel")

    def sixteen(g):
        x = g.op("QuantizeLinear", g.input(1, 3, 4, 5), g.const(0.001), g.const(0, np.int16))
        g.output(g.op("Relu", g.op("DequantizeLinear", x, g.const(0.001), g.const(0, np.int16))))
    add("int16_activations", sixteen, opset=21, refused="int16 activations")


def bind(build, /, **options):
    return lambda g: build(g, **options)


if __name__ == "__main__":
    main()
