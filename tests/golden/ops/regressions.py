"""One case a bug that was found, named for what went wrong."""
import numpy as np

from builder import Graph
from case import add, finish


def regressions() -> None:
    def constants_widen_each_other(g: Graph) -> None:
        c = g.op("Mul", g.const([1.0, 2.0, 3.0]), g.const([[1.0], [10.0], [100.0]]))
        finish(g, g.op("Add", g.input(1, 3), c), quantized=False)

    add("constant_product_broadcast", constants_widen_each_other)

    def dead_channel(g: Graph) -> None:
        x = g.qdq(g.input(1, 2, 4, 4))
        w = g.const(g.rng.integers(-127, 128, (2, 2, 1, 1)), np.int8)
        scales, zero_points = g.const([0.01, 0.0]), g.const([0, 0], np.int8)
        weights = g.op("DequantizeLinear", w, scales, zero_points, axis=0)
        finish(g, g.op("Conv", x, weights, g.const([1.0, 1.5]), kernel_shape=[1, 1]))

    add("conv_bias_of_a_dead_channel", dead_channel, refused="a bias on a scale of 0")

    def softmax_of_another_opset(g: Graph) -> None:
        q = g.q(g.input(1, 3, 5), "u8")
        scale, zero_point, _ = g.parameters[q]
        y = g.op(
            "QLinearSoftmax", q, g.const(scale), g.const(zero_point, np.uint8), g.const(1 / 256), g.const(0, np.uint8),
            domain="com.microsoft", opset=13,
        )
        g.parameters[y] = (np.float32(1 / 256), 0, "u8")
        g.output(y)

    add("qlinear_softmax_default_axis_of_its_own_opset", softmax_of_another_opset, opset=12)

    def scalar_transposed(g: Graph) -> None:
        x = g.input(2, 3)
        total = g.op("Transpose", g.op("ReduceMean", x, axes=[0, 1], keepdims=0))
        finish(g, g.op("Add", x, total), quantized=False)

    add("transpose_of_a_scalar", scalar_transposed)
