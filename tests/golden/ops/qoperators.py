"""Operators on integers that carry their scales: ONNX's own and those of com.microsoft."""
import numpy as np
from onnx import helper

from builder import INT, Graph
from case import add, bind, finish


MICROSOFT = "com.microsoft"


def qoperators() -> None:
    def parameters(g, q):
        scale, zero_point, dtype = g.parameters[q]
        return g.const(scale), g.const(zero_point, INT[dtype])

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

    def weighted(g, kind, dtype, w, per_channel, bias=True, w_zero_point=None, **attributes):
        conv = kind == "QLinearConv"
        w_zero_point = w_zero_point or (128 if w == "u8" and conv else 0)
        x = g.input(*((1, 3, 6, 5) if conv else (2, 12)))
        q = g.q(x, dtype)
        xs = g.dq(q)
        if conv:
            value = g.conv(xs, 5, (3, 3), w=w, per_channel=per_channel, w_zero_point=w_zero_point, bias="i32" if bias else None, **attributes)
        elif kind == "QGemm":
            value = g.gemm(xs, 7, w=w, per_channel=per_channel, w_zero_point=w_zero_point, bias="i32" if bias else None, **attributes)
        else:
            value = g.matmul(xs, 7, w=w, per_channel=per_channel, w_zero_point=w_zero_point)
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

    def both(g, dtype, a, b):
        q, r = g.q(g.input(*a), dtype), g.q(g.input(*b), dtype)
        value = g.op("MatMul", g.dq(q), g.dq(r))
        inputs = [q, *parameters(g, q), r, *parameters(g, r)]
        g.output(g.dq(made(g, "QLinearMatMul", inputs, value, dtype, domain="")))
    for dtype in ("i8", "u8"):
        add(f"qlinear_matmul_computed_{dtype}", bind(both, dtype=dtype, a=(2, 3, 9, 17), b=(2, 3, 17, 20)))
    add("qlinear_matmul_computed_one_for_all", bind(both, dtype="u8", a=(2, 6, 33), b=(33, 18)))

    pads = {"pads": [1, 0, 1, 1], "strides": [2, 1]}
    for kind, stem, attributes in (("QLinearConv", "qlinear_conv", pads), ("QLinearMatMul", "qlinear_matmul", {}), ("QGemm", "qgemm", {"transB": 1})):
        add(f"{stem}_i8_per_channel", bind(weighted, kind=kind, dtype="i8", w="i8", per_channel=True, **attributes))
        add(f"{stem}_u8_i8", bind(weighted, kind=kind, dtype="u8", w="i8", per_channel=False, **attributes))
        add(f"{stem}_u8_u8_far_zero_point", bind(weighted, kind=kind, dtype="u8", w="U8", per_channel=False, w_zero_point=91, **attributes))
    add("qlinear_conv_u8_u8", bind(weighted, kind="QLinearConv", dtype="u8", w="u8", per_channel=False, **pads))
    add("qlinear_conv_no_bias", bind(weighted, kind="QLinearConv", dtype="i8", w="i8", per_channel=True, bias=False))
    add("qgemm_trans_b_0_no_bias", bind(weighted, kind="QGemm", dtype="i8", w="i8", per_channel=True, bias=False))


def dynamic() -> None:
    """Products of integers on ranges drawn at each run, as `quantize_dynamic` writes them."""
    def drawn(g: Graph, x: str) -> tuple[str, str, str]:
        names = ("q", "scale", "zero_point")
        g.nodes.append(helper.make_node("DynamicQuantizeLinear", [x], names, "dql"))
        return names

    def scaled(g: Graph, sums: str, scale: str, scales: np.ndarray, bias: np.ndarray | None,
               relu: bool = False) -> None:
        y = g.op("Mul", g.op("Cast", sums, to=1), g.op("Mul", scale, g.const(scales)))
        y = y if bias is None else g.op("Add", y, g.const(bias))
        finish(g, g.op("Relu", y) if relu else y, quantized=False)

    def matmul(g: Graph, shape: tuple[int, ...], weights: type = np.int8, zero_points: tuple[int, ...] | int | None = None,
               low: float = -2.0, high: float = 2.0, per_channel: bool = True, bias: bool = True,
               relu: bool = False) -> None:
        q, scale, zero_point = drawn(g, g.input(*shape, low=low, high=high))
        # Of int8 no more than ONNX Runtime sums exactly on every CPU, two products at a time in 16 bits.
        ends = (-64, 64) if weights is np.int8 else (0, 256)
        w = g.const(g.rng.integers(*ends, (shape[-1], 7)), weights)
        behind = [] if zero_points is None else [g.const(zero_points, weights)]
        sums = g.op("MatMulInteger", q, w, zero_point, *behind)
        scales = g.rng.uniform(0.005, 0.02, 7 if per_channel else ())
        scaled(g, sums, scale, scales, g.normal(7) if bias else None, relu)
    add("dynamic_matmul", bind(matmul, shape=(4, 19)))
    add("dynamic_matmul_one_row", bind(matmul, shape=(1, 19)))
    add("dynamic_matmul_relu", bind(matmul, shape=(4, 19), relu=True))
    add("dynamic_matmul_3d", bind(matmul, shape=(2, 3, 19), bias=False))
    add("dynamic_matmul_per_tensor", bind(matmul, shape=(1, 19), per_channel=False))
    add("dynamic_matmul_positive", bind(matmul, shape=(3, 19), low=0.5, high=3.0))
    add("dynamic_matmul_negative", bind(matmul, shape=(3, 19), low=-3.0, high=-0.5))
    add("dynamic_matmul_u8_weights", bind(matmul, shape=(3, 19), weights=np.uint8, zero_points=128))
    add("dynamic_matmul_far_zero_point", bind(matmul, shape=(3, 19), weights=np.uint8, zero_points=3))
    add("dynamic_matmul_far_zero_points", bind(matmul, shape=(2, 3, 19), weights=np.uint8, zero_points=(3, 0, 255, 128, 77, 131, 200)))
    add("dynamic_matmul_u8_no_zero_point", bind(matmul, shape=(1, 40), weights=np.uint8))
    add("dynamic_matmul_i8_zero_point", bind(matmul, shape=(3, 19), zero_points=-90))

    def conv(g: Graph, shape: tuple[int, ...], kernel: tuple[int, ...], out: int = 5, group: int = 1,
             w_zero_point: int = 128, **attributes) -> None:
        q, scale, zero_point = drawn(g, g.input(*shape))
        w = g.const(g.rng.integers(1, 256, (out, shape[1] // group, *kernel)), np.uint8)
        sums = g.op("ConvInteger", q, w, zero_point, g.const(w_zero_point, np.uint8), group=group, **attributes)
        channels = (out, *(1 for _ in kernel))
        scaled(g, sums, scale, g.rng.uniform(0.005, 0.02, channels), g.normal(*channels))
    add("dynamic_conv", bind(conv, shape=(1, 3, 6, 5), kernel=(3, 3)))
    add("dynamic_conv_pads_strides", bind(conv, shape=(1, 3, 7, 6), kernel=(3, 2), pads=[1, 0, 1, 1], strides=[2, 1]))
    add("dynamic_conv_1x1", bind(conv, shape=(1, 6, 3, 4), kernel=(1, 1)))
    add("dynamic_conv_groups", bind(conv, shape=(1, 6, 4, 4), kernel=(3, 3), out=4, group=2, pads=[1, 1, 1, 1]))
    add("dynamic_conv_depthwise", bind(conv, shape=(1, 20, 7, 6), kernel=(3, 3), out=20, group=20, pads=[1, 1, 1, 1]))
    add("dynamic_conv_1d", bind(conv, shape=(1, 3, 9), kernel=(3,), pads=[1, 1]))
    add("dynamic_conv_windows_of_padding", bind(conv, shape=(1, 3, 4, 5), kernel=(1, 2), pads=[1, 2, 0, 3]))
    far = {"w_zero_point": 97}
    add("dynamic_conv_far_zero_point_windows_of_padding", bind(conv, shape=(1, 3, 4, 5), kernel=(3, 3), pads=[3, 0, 1, 4], **far))
    add("dynamic_conv_far_zero_point", bind(conv, shape=(1, 3, 7, 6), kernel=(3, 2), pads=[1, 0, 1, 1], strides=[2, 1], **far))
    add("dynamic_conv_far_zero_point_1x1", bind(conv, shape=(2, 6, 3, 4), kernel=(1, 1), w_zero_point=0))
    add("dynamic_conv_far_zero_point_groups", bind(conv, shape=(1, 6, 4, 4), kernel=(3, 3), out=4, group=2, pads=[1, 1, 1, 1], **far))
    add("dynamic_conv_far_zero_point_depthwise",
        bind(conv, shape=(1, 20, 7, 6), kernel=(3, 3), out=20, group=20, pads=[1, 1, 1, 1], **far))
    add("dynamic_conv_far_zero_point_1d", bind(conv, shape=(1, 3, 9), kernel=(3,), pads=[1, 1], dilations=[2], **far))

    def sums(g: Graph) -> None:
        q, scale, zero_point = drawn(g, g.input(3, 9))
        w = g.const(g.rng.integers(-64, 64, (9, 5)), np.int8)
        floats = g.op("Cast", g.op("MatMulInteger", q, w, zero_point), to=1)
        g.output(floats, g.op("Mul", floats, scale))
    add("dynamic_matmul_read_twice", sums)

    def products(g: Graph) -> None:
        q, scale, zero_point = drawn(g, g.input(1, 9))
        floats = [g.op("Cast", g.op("MatMulInteger", q, g.const(g.rng.integers(-64, 64, (9, 5)), np.int8), zero_point), to=1)
                  for _ in range(2)]
        g.output(g.op("Add", g.op("Mul", *floats), g.const(g.normal(5))), scale)
    add("dynamic_matmul_products_add", products)

    def parameters(g: Graph) -> None:
        q, scale, zero_point = drawn(g, g.input(2, 9))
        g.output(q, scale, zero_point)
    add("dynamic_parameters", parameters)

    def static(g: Graph, zero_point: int | None) -> None:
        x = g.input(4, 9, dtype=np.uint8)
        w = g.const(g.rng.integers(-64, 64, (9, 5)), np.int8)
        g.output(g.op("MatMulInteger", x, w, *([] if zero_point is None else [g.const(zero_point, np.uint8)])))
    add("matmul_integer", bind(static, zero_point=None))
    add("matmul_integer_zero_point", bind(static, zero_point=77))
