"""Several images at once."""
import numpy as np
from onnx import helper

from builder import Graph
from case import add, bind, finish, image

SHAPES = {
    "conv": ((3, 7, 6), lambda g, x: g.conv(x, 5, (3, 3), pads=[1, 1, 1, 1])),
    "conv_1x1": ((5, 3, 4), lambda g, x: g.conv(x, 7, (1, 1))),
    "conv_strides": ((3, 9, 8), lambda g, x: g.conv(x, 6, (3, 2), strides=[2, 1], pads=[0, 1, 1, 0])),
    "conv_depthwise": ((17, 6, 5), lambda g, x: g.conv(x, 17, (3, 3), group=17, pads=[1, 1, 1, 1])),
    "conv_groups": ((6, 6, 5), lambda g, x: g.conv(x, 9, (3, 3), group=3, pads=[1, 1, 1, 1])),
    "conv_1d": ((3, 20), lambda g, x: g.conv(x, 5, (5,), pads=[2, 2])),
    "max_pool": ((5, 7, 6), lambda g, x: g.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 1], pads=[1, 0, 1, 2])),
    "average_pool": ((5, 7, 6), lambda g, x: g.op("AveragePool", x, kernel_shape=[3, 2], strides=[2, 2])),
    "global_average_pool": ((5, 4, 3), lambda g, x: g.op("GlobalAveragePool", x)),
    "global_max_pool": ((5, 4, 3), lambda g, x: kept(g, x, g.op("GlobalMaxPool", x))),
    "mean": ((5, 4, 3), lambda g, x: g.op("ReduceMean", x, axes=[2, 3], keepdims=0)),
    "softmax": ((5, 4, 3), lambda g, x: g.op("Softmax", x, axis=1)),
    "resize_nearest": ((3, 4, 5), lambda g, x: resize(g, x, "nearest")),
    "resize_linear": ((3, 4, 5), lambda g, x: resize(g, x, "linear")),
}


def resize(g: Graph, x: str, mode: str) -> str:
    return kept(g, x, g.op("Resize", x, "", g.const([1, 1, 2, 2]), mode=mode))


def kept(g: Graph, x: str, y: str) -> str:
    """`y`, on the scale of `x`."""
    if x in g.parameters:
        g.parameters[y] = g.parameters[x]
    return y


def batches() -> None:
    def alone(g: Graph, shape, build, quantized):
        y = build(g, image(g, *shape, batch=3, quantized=quantized))
        if quantized and y in g.parameters:
            scale, zero_point, dtype = g.parameters[y]
            return g.output(g.qdq(y, dtype, scale=scale, zero_point=zero_point))
        return finish(g, y, quantized)
    for name, (shape, build) in SHAPES.items():
        for quantized in (True, False):
            add(f"batch_{'' if quantized else 'f32_'}{name}", bind(alone, shape=shape, build=build, quantized=quantized))

    def transposed(g: Graph, quantized, **attributes):
        x = image(g, 6, 4, 5, batch=2, quantized=quantized)
        values = g.normal(6, 5, 3, 3, scale=0.2)
        weights = g.stored(values, "i8", 1) if quantized else g.const(values)
        bias = g.normal(5, scale=0.3)
        y = g.op("ConvTranspose", x, weights, g.bias(bias, x, weights) if quantized else g.const(bias), strides=[2, 2], **attributes)
        finish(g, y, quantized)
    for quantized in (True, False):
        f32 = "" if quantized else "f32_"
        add(f"batch_{f32}conv_transpose", bind(transposed, quantized=quantized, pads=[1, 1, 1, 1]))
        add(f"batch_{f32}conv_transpose_whole", bind(transposed, quantized=quantized, pads=[0, 0, 1, 1]))

    def frames(g: Graph, quantized):
        """A network on each frame of a sequence, as Keras' TimeDistributed writes it, and what it finds over time."""
        q = g.qdq if quantized else lambda y: y
        x = g.op("Reshape", q(g.input(1, 4, 9, 8, 2)), g.const([4, 9, 8, 2], np.int64))
        x = q(g.op("Transpose", x, perm=[0, 3, 1, 2])) if quantized else g.op("Transpose", x, perm=[0, 3, 1, 2])
        y = q(g.op("Relu", g.conv(x, 8, (3, 3), pads=[1, 1, 1, 1])))
        y = q(g.op("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2]))
        z = q(g.conv(y, 8, (3, 3), group=8, pads=[1, 1, 1, 1]))
        y = q(g.op("Concat", q(g.op("Add", y, z)), y, axis=1))
        y = g.op("Transpose", y, perm=[0, 2, 3, 1])
        y = g.op("Reshape", y, g.const([4, -1], np.int64))
        y = g.op("Slice", y, g.const([1], np.int64), g.const([4], np.int64), g.const([0], np.int64))
        finish(g, g.op("ReduceMax", y, axes=[0], keepdims=1), quantized)
    add("batch_of_frames", bind(frames, quantized=True), floats=True)
    add("batch_f32_of_frames", bind(frames, quantized=False))

    def drawn(g: Graph):
        x = g.input(3, 3, 6, 5)
        g.nodes.append(helper.make_node("DynamicQuantizeLinear", [x], ["q", "scale", "zero_point"], "dql"))
        w = g.const(g.rng.integers(-64, 64, (4, 3, 3, 3)), np.int8)
        sums = g.op("Cast", g.op("ConvInteger", "q", w, "zero_point", pads=[1, 1, 1, 1]), to=1)
        finish(g, g.op("Mul", sums, g.op("Mul", "scale", g.const(0.01))), quantized=False)
    add("batch_dynamic_conv", drawn)

    def normed(g: Graph, kind, **attributes):
        y = g.conv(g.input(2, 3, 6, 5), 4, (3, 3))
        y = g.op(kind, y, *(g.const(g.rng.uniform(0.5, 2, 4)) for _ in range(4 if kind.startswith("Batch") else 2)))
        finish(g, g.op("Sigmoid", g.conv(g.op("Relu", y), 3, (1, 1), pads=[0, 0, 0, 0])), quantized=False)
    add("batch_norm_between_convs_of_a_batch", bind(normed, kind="BatchNormalization"))
    add("instance_norm_between_convs_of_a_batch", bind(normed, kind="InstanceNormalization"))

    def joined(g: Graph):
        """Images of two batches, one after the other, and a border around them."""
        a, b = g.conv(image(g, 3, 5, 5, batch=2, quantized=False), 4, (2, 2)), g.conv(g.input(1, 3, 5, 5), 4, (2, 2))
        y = g.op("Pad", g.op("Concat", a, b, axis=0), g.const([0, 0, 1, 0, 1, 0, 0, 1], np.int64))
        finish(g, g.conv(y, 2, (3, 3)), quantized=False)
    add("batch_joined_and_padded", joined)
