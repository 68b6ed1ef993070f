"""Matrix products, functions of one and of two tensors, softmax."""
import numpy as np

from builder import Graph
from case import add, bind, finish, image


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
        "u8_weights_far_zero_point": dict(rows=3, w="U8", w_zero_point=50, per_channel=False),
        "u8_weights_far_zero_points": dict(x={"dtype": "u8"}, y="u8", w="U8", w_zero_point=201, transB=1, opset_relu=True),
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
        add(f"gemm_{f32}bias_column", bind(bias_shape, rows=3, shape=(3, 1), quantized=quantized), floats=quantized)

    def alpha_beta(g, quantized):
        x = g.input(1, 9)
        x = g.qdq(x) if quantized else x
        values = g.normal(9, 5)
        finish(g, g.op("Gemm", x, g.stored(values) if quantized else g.const(values), g.const(g.normal(5)), alpha=0.5, beta=2.0), quantized)
    add("gemm_f32_alpha_beta", bind(alpha_beta, quantized=False))
    add("gemm_alpha_beta", bind(alpha_beta, quantized=True), floats=True)

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
    add("matmul_of_activations", computed, floats=True)


def added_rows() -> None:
    """What an Add right behind a product adds to each row of it: a bias, where it holds in steps of the sums."""
    def added(g, shape=(1, 5, 13), row=(7,), product="matmul", first=False, integers=False, relu=False, dtype="i8", **options):
        x = g.qdq(g.input(*shape), dtype)
        if product == "conv_transpose":
            weights = g.stored(g.normal(shape[1], 4, 2, 2, scale=0.3), axis=1)
            y = g.op("ConvTranspose", x, weights, g.bias(g.normal(4), x, weights), strides=[2, 2])
        else:
            y = getattr(g, product)(x, 7, **options)
        values = g.normal(*row)
        bias = g.bias(values, x, g.nodes[-1].input[1]) if integers else g.const(values)
        y = g.op("Add", bias, y) if first else g.op("Add", y, bias)
        finish(g, g.op("Relu", y) if relu else y, True, dtype)
    add("matmul_add_row", bind(added))
    add("matmul_add_row_first", bind(added, row=(1, 1, 7), first=True))
    add("matmul_add_row_of_integers", bind(added, shape=(2, 3, 13), row=(1, 7), integers=True))
    add("matmul_add_row_relu", bind(added, relu=True, integers=True))
    add("matmul_add_row_u8", bind(added, dtype="u8"))
    add("matmul_add_row_of_four", bind(added, shape=(2, 3, 4, 13), row=(1, 7)))
    add("matmul_add_row_vector", bind(added, shape=(13,)))
    add("matmul_add_one", bind(added, row=(1, 1)))
    add("gemm_add_row", bind(added, shape=(3, 13), product="gemm"))
    add("gemm_add_row_to_none", bind(added, shape=(3, 13), product="gemm", integers=True, bias=None))
    image = dict(shape=(1, 3, 5, 4), row=(7, 1, 1), product="conv", kernel=(3, 3))
    add("conv_add_channels", bind(added, **image))
    add("conv_add_channels_relu", bind(added, **image, relu=True, bias=None))
    add("conv_transpose_add_channels", bind(added, shape=(1, 3, 5, 4), row=(1, 4, 1, 1), product="conv_transpose"))

    # No row, or one of another shape than the product's.
    add("matmul_add_matrix", bind(added, row=(5, 7)), floats=True)
    add("matmul_add_column", bind(added, row=(5, 1)), floats=True)
    add("matmul_add_row_of_more_dimensions", bind(added, shape=(5, 13), row=(1, 1, 7)), floats=True)
    add("conv_add_columns", bind(added, **image | {"row": (2,)}), floats=True)

    def quantized_between(g):
        finish(g, g.op("Add", g.qdq(g.matmul(g.qdq(g.input(1, 5, 13)), 7)), g.const(g.normal(7))))
    add("matmul_quantized_add_row", quantized_between, floats=True)

    def seen(g):
        y = g.matmul(g.qdq(g.input(1, 5, 13)), 7)
        g.output(y, g.qdq(g.op("Add", y, g.const(g.normal(7)))))
    add("matmul_that_is_an_output_add_row", seen, floats=True)

    def held(g, bias):
        x = g.qdq(g.input(1, 5, 4), scale=0.5)
        weights = g.op("DequantizeLinear", g.const(g.rng.integers(-2, 3, (4, 3)), np.int8), g.const(1.0), g.const(0, np.int8))
        y = g.op("MatMul", x, weights)
        g.output(g.qdq(g.op("Add", y, bias(g)), scale=0.1))
    add("matmul_add_row_between_coarse_sums", bind(held, bias=lambda g: g.const([0.2, -0.3, 0.17])), floats=True)
    far = lambda g: g.op("DequantizeLinear", g.const([2**31 - 9, 3, -3], np.int32), g.const(0.5))
    add("matmul_add_row_that_fills_the_sums", bind(held, bias=far), floats=True)


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
            if not quantized and kind != "Sub":
                continue  # one that knows its operands apart is enough
            add(f"{kind.lower()}_{f32}channels", bind(two, kind=kind, b=(1, 5, 1, 1), quantized=quantized))
            add(f"{kind.lower()}_{f32}channels_first_operand", bind(two, kind=kind, a=(1, 5, 1, 1), b=(1, 5, 4, 3), quantized=quantized))
    for kind in ("Div", "Min", "Max"):
        add(f"{kind.lower()}_f32_same_shape", bind(two, kind=kind, quantized=False))
    add("div_quantized_ends", bind(two, kind="Div"), floats=True)
    add("add_u8", bind(two, kind="Add", dtypes=("u8", "u8", "u8")))
    add("add_mixed_types", bind(two, kind="Add", dtypes=("u8", "i8", "u8")))
    add("mul_u8_to_i8", bind(two, kind="Mul", dtypes=("u8", "u8", "i8")))
    add("add_relu", bind(two, kind="Add", relu=True))
    add("add_f32_relu", bind(two, kind="Add", relu=True, quantized=False))
    add("add_matrix_row", bind(two, kind="Add", a=(3, 7), b=(7,)))
    add("add_rows", bind(two, kind="Add", a=(4, 4), b=(4, 1)))
    add("mul_image_rows", bind(two, kind="Mul", a=(1, 3, 4, 4), b=(1, 1, 4, 4)))
    add("add_outer", bind(two, kind="Add", a=(1, 4), b=(4, 1)))

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
                add(f"{kind.lower()}_{f32}scalar{order}", bind(constant, kind=kind, values=0.7, quantized=quantized, first=first), floats=kind == "Div")
            if kind != "Div":
                add(f"{kind.lower()}_{f32}constant_channels", bind(constant, kind=kind, values=channels, quantized=quantized), floats=True)
        if kind != "Div":
            add(f"{kind.lower()}_stored_scalar", bind(constant, kind=kind, values=np.float32([0.7]), quantized=True, stored=True))
            add(f"{kind.lower()}_stored_channels", bind(constant, kind=kind, values=channels, quantized=True, stored=True))
    add("sub_stored_channels_first", bind(constant, kind="Sub", values=channels, quantized=True, stored=True, first=True))
    full = np.linspace(-1, 1, 60, dtype=np.float32).reshape(1, 5, 4, 3)
    add("add_constant_image", bind(constant, kind="Add", values=full, quantized=True), floats=True)
    add("mul_f32_constant_image", bind(constant, kind="Mul", values=full, quantized=False))
    for kind, shapes in {"Add": [(4, 3), (1, 1, 4, 1)], "Mul": [(5, 4, 1)], "Sub": [(1, 4, 1)]}.items():
        for shape in shapes:
            values = np.random.default_rng(7).uniform(-1, 1, shape).astype(np.float32)
            name = f"{kind.lower()}_stored_" + "x".join(map(str, shape))
            add(name, bind(constant, kind=kind, values=values, quantized=True, stored=True, first=kind == "Sub"))
    wide = np.random.default_rng(8).uniform(-1, 1, (5, 4, 3)).astype(np.float32)
    add("mul_stored_wider", bind(constant, kind="Mul", values=wide, quantized=True, stored=True, shape=(1, 5, 1, 3)))
    add("mul_stored_image", bind(constant, kind="Mul", values=full, quantized=True, stored=True))
    add("add_f32_constant_outer", bind(constant, kind="Add", values=full[0, :4, 0, :1], quantized=False, shape=(1, 4)))
    add("mul_f32_scalar_of_higher_rank", bind(constant, kind="Mul", values=np.full((1, 1, 1), 0.7), quantized=False, shape=(5, 4)))
    add("sub_f32_channels_then_div", bind(normalised), floats=True)

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

    def written_out(g, how):
        x = g.input(1, 3, 5, 6, low=-4, high=4)
        if how == "silu":
            y = g.op("Mul", x, g.op("Sigmoid", x))
        elif how == "hard_swish":
            y = g.op("Mul", g.op("HardSigmoid", x, alpha=1 / 6, beta=0.5), x)
        else:
            sum = g.op("Add", g.op("Erf", g.op("Div", x, g.const(np.sqrt(2.0)))), g.const(1.0))
            factors = [x, g.const(0.5)]
            for factor in reversed(factors) if how == "halved" else factors:
                sum = g.op("Mul", sum, factor)
            y = sum
        finish(g, y, False)
    for name, how in (("silu_written_out", "silu"), ("hard_swish_written_out", "hard_swish"), ("gelu_written_out", "gelu"), ("gelu_written_out_halved_first", "halved")):
        add(name, bind(written_out, how=how))

    def row_behind(g, kind):
        if kind == "Conv":
            x = g.input(1, 3, 6, 5)
            y = g.op("Conv", x, g.const(g.normal(4, 3, 3, 3)), g.const(g.normal(4)))
            y = g.op("Add", y, g.const(g.normal(1, 4, 1, 1)))
        else:
            y = g.op("MatMul", g.input(2, 3, 6), g.const(g.normal(6, 5)))
            y = g.op("Add", g.const(g.normal(5)), y)
        finish(g, g.op("Relu", g.op("Identity", y)), False)
    for kind in ("Conv", "MatMul"):
        add(f"row_behind_{kind.lower()}_f32", bind(row_behind, kind=kind))

    def unsupported(g):
        finish(g, g.op("Selu", image(g, 3, 4, 4)))
    add("selu", unsupported)


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
        add(f"softmax_{f32}middle", bind(softmax, shape=(1, 3, 4, 5), quantized=quantized, axis=2))
        add(f"softmax_{f32}first", bind(softmax, shape=(3, 4, 5), quantized=quantized, axis=0))
    add("softmax_u8", bind(softmax, shape=(1, 10), quantized=True, dtype="u8"))
