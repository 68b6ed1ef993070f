"""Layers that whole networks are made of beyond convolutions: transposed ones, norms, resizes, products of two
activations, recurrent ones."""
import numpy as np
from onnx import numpy_helper

from case import add, bind, finish, image


def transposed() -> None:
    def transpose(g, shape, out, kernel, attributes, quantized, per_channel=True, dtype="i8", relu=False, w="i8"):
        x = image(g, *shape, quantized=quantized, dtype=dtype)
        group = attributes.get("group", 1)
        dims = (shape[0], out // group, *kernel)
        values = g.normal(*dims, scale=1 / np.sqrt(shape[0] / group * np.prod(kernel)))
        stored = quantized and w
        weights = g.stored(values, w, 1 if per_channel and group == 1 else None) if stored else g.const(values)
        bias = g.normal(out, scale=0.3)
        y = g.op("ConvTranspose", x, weights, g.bias(bias, x, weights) if stored else g.const(bias), **attributes)
        finish(g, g.op("Relu", y) if relu else y, quantized, dtype)

    shapes = {
        "2x2_stride_2": ((6, 4, 5), 5, (2, 2), {"strides": [2, 2]}),
        "3x3_stride_2": ((5, 4, 5), 7, (3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
        "4x3_strides": ((3, 5, 4), 4, (4, 3), {"strides": [3, 1], "pads": [1, 0, 0, 2]}),
        "dilated": ((3, 5, 4), 4, (3, 2), {"strides": [2, 1], "dilations": [2, 3], "pads": [2, 1, 1, 0]}),
        "groups": ((6, 4, 3), 4, (3, 3), {"strides": [2, 2], "group": 2}),
        "depthwise": ((5, 4, 3), 5, (4, 4), {"strides": [2, 2], "pads": [1, 1, 1, 1], "group": 5}),
        "stride_1": ((3, 5, 4), 4, (3, 3), {"pads": [1, 1, 1, 1]}),
        "output_shape": ((3, 4, 5), 4, (3, 3), {"strides": [2, 2], "output_shape": [8, 10]}),
        "1d": ((4, 9), 3, (4,), {"strides": [2], "pads": [1, 1]}),
    }
    for name, (shape, out, kernel, attributes) in shapes.items():
        for quantized in (True, False):
            f32 = "" if quantized else "f32_"
            add(f"conv_transpose_{f32}{name}", bind(transpose, shape=shape, out=out, kernel=kernel, attributes=attributes, quantized=quantized))
    plain = dict(shape=(6, 4, 5), out=5, kernel=(2, 2), attributes={"strides": [2, 2]})
    add("conv_transpose_per_tensor", bind(transpose, quantized=True, per_channel=False, **plain))
    add("conv_transpose_u8", bind(transpose, quantized=True, dtype="u8", **plain))
    add("conv_transpose_relu", bind(transpose, quantized=True, relu=True, **plain))
    add("conv_transpose_f32_relu", bind(transpose, quantized=False, relu=True, **plain))
    add("conv_transpose_float_weights", bind(transpose, quantized=True, w=None, **plain), floats=True)
    add("conv_transpose_f32_holes", bind(transpose, quantized=False, shape=(3, 4, 5), out=4, kernel=(1, 1), attributes={"strides": [2, 2], "output_padding": [1, 1]}))
    unreached = {"strides": [2, 2], "output_padding": [1, 1]}
    add("conv_transpose_unreached", bind(transpose, quantized=False, shape=(3, 4, 5), out=4, kernel=(2, 2), attributes=unreached), refused="outputs that no input reaches")


def norms() -> None:
    def batch(g, shape, quantized, relu=False):
        x = g.input(*shape)
        channels = shape[1]
        parameters = [g.const(v) for v in (g.normal(channels), g.normal(channels), g.normal(channels), g.rng.uniform(0.5, 2, channels))]
        y = g.op("BatchNormalization", g.qdq(x) if quantized else x, *parameters, epsilon=1e-3)
        finish(g, g.op("Relu", y) if relu else y, quantized)
    for name, shape in {"image": (1, 5, 4, 3), "1d": (1, 5, 7), "matrix": (3, 6)}.items():
        add(f"batch_norm_f32_{name}", bind(batch, shape=shape, quantized=False))
    add("batch_norm_relu", bind(batch, shape=(1, 5, 4, 3), quantized=True, relu=True), floats=True)


def constants() -> None:
    """What follows from constants and shapes is no part of a plan."""
    def shaped(g):
        x = g.input(2, 3, 4)
        shape = g.op("Shape", x)
        rows = g.op("Gather", shape, g.const([0, 1], np.int64), axis=0)
        both = g.op("Concat", g.op("ReduceProd", rows, keepdims=1) if g.opset < 13 else g.op("Mul", g.op("Gather", rows, g.const([0], np.int64)), g.op("Gather", rows, g.const([1], np.int64))), g.op("Slice", shape, g.const([-1], np.int64), g.const([9], np.int64)), axis=0)
        finish(g, g.op("Reshape", x, both), False)
    add("reshape_by_shape", shaped)

    def pads(g):
        """As PyTorch writes them: by pairs from the last dimension on, turned round."""
        x = g.input(1, 3, 6)
        pairs = g.op("Concat", g.const([2, 0], np.int64), g.op("ConstantOfShape", g.const([4], np.int64), value=numpy_tensor([0])), axis=0)
        pairs = g.op("Reshape", pairs, g.const([-1, 2], np.int64))
        pairs = g.op("Slice", pairs, g.const([-1], np.int64), g.const([-2**63 + 1], np.int64), g.const([0], np.int64), g.const([-1], np.int64))
        pairs = g.op("Reshape", g.op("Transpose", pairs, perm=[1, 0]), g.const([-1], np.int64))
        finish(g, g.op("Pad", x, g.op("Cast", pairs, to=7)), False)
    add("pad_by_computed_pairs", pads)

    def expanded(g):
        """A constant that is repeated, scaled and turned, beside an input."""
        x = g.input(2, 3)
        row = g.op("Expand", g.const(g.normal(3, 1)), g.const([3, 2], np.int64))
        row = g.op("Transpose", g.op("Div", row, g.const([2.0, 4.0])), perm=[1, 0])
        finish(g, g.op("Add", x, g.op("Neg", row)), False)
    add("constants_expanded_and_turned", expanded)

    def broadcast(g):
        """Where shapes are chosen by a comparison, as exporters of Expand write it."""
        x = g.input(2, 3)
        shape = g.op("Shape", x)
        wanted = g.const([-1, 3], np.int64)
        ones = g.op("ConstantOfShape", g.const([2], np.int64), value=numpy_tensor([1]))
        chosen = g.op("Where", g.op("Equal", wanted, g.const(-1, np.int64)), g.op("Mul", ones, g.const([2, 9], np.int64)), wanted)
        finish(g, g.op("Add", g.op("Reshape", x, chosen), g.op("Expand", g.const(g.normal(1, 3)), shape)), False)
    add("shapes_chosen", broadcast)


def numpy_tensor(values):
    return numpy_helper.from_array(np.asarray(values, np.int64))
