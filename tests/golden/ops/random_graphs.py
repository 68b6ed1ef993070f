"""Random chains of 3 to 8 layers with an occasional branch, in int8, uint8 or with float stretches."""
import numpy as np

from builder import Graph


def build(g: Graph) -> None:
    rng = g.rng
    dtype = str(rng.choice(["i8", "i8", "u8"]))
    mixed = g.floats = bool(rng.random() < 0.25)

    def ends(y: str) -> str:
        return y if mixed and rng.random() < 0.3 else g.qdq(y, dtype)

    one_d = rng.random() < 0.25
    spatial = [int(rng.integers(8, 20))] if one_d else [int(v) for v in rng.integers(5, 9, 2)]
    x = g.qdq(g.input(1, int(rng.choice([1, 2, 3, 5])), *spatial), dtype)
    for _ in range(rng.integers(2, 7)):
        x = ends(layer(g, x))
    shape = g.values(x).shape
    if len(shape) > 2 and rng.random() < 0.7:
        x = g.qdq(g.op("GlobalAveragePool", x), dtype) if rng.random() < 0.5 else x
        x = g.qdq(g.gemm(g.op("Flatten", x), int(rng.integers(2, 9)), transB=int(rng.integers(2)), bias=bias(g)), dtype)
    g.output(x)


def layer(g: Graph, x: str) -> str:
    rng, (_, channels, *spatial) = g.rng, g.values(x).shape
    small = min(spatial) < 4
    kind = rng.choice(["conv", "conv", "depthwise", "pointwise", "pool", "function", "residual", "gate", "concat", "move"])
    if kind == "conv" and not small:
        kernel = [int(v) for v in rng.integers(1, 4, len(spatial))]
        pads = [int(rng.integers(k)) for k in kernel * 2]
        strides = [int(v) for v in rng.integers(1, 3, len(spatial))]
        return activation(g, g.conv(x, int(rng.choice([1, 3, 4, 7, 16])), kernel, pads=pads, strides=strides, per_channel=bool(rng.integers(2)), bias=bias(g)))
    if kind == "depthwise":
        return activation(g, g.conv(x, channels * int(rng.integers(1, 3)), [3] * len(spatial), group=channels, pads=[1] * 2 * len(spatial), bias=bias(g)))
    if kind == "pool" and not small:
        window = {"kernel_shape": [2] * len(spatial), "strides": [2] * len(spatial)}
        return g.op(str(rng.choice(["MaxPool", "AveragePool"])), x, **window)
    if kind == "function":
        return g.op(str(rng.choice(["Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "Elu"])), x)
    if kind == "residual":
        y = g.conv(x, channels, [3] * len(spatial), pads=[1] * 2 * len(spatial))
        return activation(g, g.op(str(rng.choice(["Add", "Sub"])), *rng.permutation([x, g.qdq(y)])))
    if kind == "gate":
        s = g.qdq(g.conv(g.qdq(g.op("GlobalAveragePool", x)), channels, [1] * len(spatial)))
        return g.op("Mul", x, g.qdq(g.op("Sigmoid", s)))
    if kind == "concat":
        y = g.qdq(g.conv(x, int(rng.integers(1, 5)), [1] * len(spatial)))
        return g.op("Concat", x, y, axis=1)
    if kind == "move" and len(spatial) == 2:
        moves = [
            lambda: g.op("Transpose", x, perm=[0, 1, 3, 2]),
            lambda: g.op("Transpose", x, perm=[0, 2, 3, 1]),
            lambda: g.op("Reshape", x, g.const([1, -1, *spatial[::-1]], np.int64)),
            lambda: g.op("Pad", x, g.const([0, 0, 1, 0, 0, 0, 0, 1], np.int64)),
        ]
        return moves[rng.integers(len(moves))]()
    return activation(g, g.conv(x, int(rng.choice([2, 5, 8])), [1] * len(spatial), bias=bias(g)))


def activation(g: Graph, x: str) -> str:
    kind = g.rng.integers(4)
    return x if kind == 0 else g.clip(x, 0.0, 1.5) if kind == 1 else g.op("Relu", x)


def bias(g: Graph) -> str | None:
    """No float ones: rounded to the accumulator's step they move a sum across a boundary now and then, and a chain
    makes that larger."""
    return [None, "i32", "i32"][g.rng.integers(3)]
