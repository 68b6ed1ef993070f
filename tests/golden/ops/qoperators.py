"""Operators on integers that carry their scales: ONNX's own and those of com.microsoft."""
import numpy as np

from builder import INT
from case import add, bind


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
