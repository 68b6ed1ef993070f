"""Layers that whole networks are made of beyond convolutions: transposed ones, norms, resizes, products of two
activations, recurrent ones."""
import numpy as np
from onnx import helper, numpy_helper

from case import add, bind, finish, image


def transposed() -> None:
    def transpose(g, shape, out, kernel, attributes, quantized, per_channel=True, dtype="i8", relu=False, w="i8", w_zero_point=0):
        x = image(g, *shape, quantized=quantized, dtype=dtype)
        group = attributes.get("group", 1)
        dims = (shape[0], out // group, *kernel)
        values = g.normal(*dims, scale=1 / np.sqrt(shape[0] / group * np.prod(kernel)))
        stored = quantized and w
        weights = g.stored(values, w, 1 if per_channel and group == 1 else None, w_zero_point) if stored else g.const(values)
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
            stops = "it subtracts with overflow" if name == "output_shape" else None
            add(f"conv_transpose_{f32}{name}", bind(transpose, shape=shape, out=out, kernel=kernel, attributes=attributes, quantized=quantized), without_tract=stops)
    plain = dict(shape=(6, 4, 5), out=5, kernel=(2, 2), attributes={"strides": [2, 2]})
    add("conv_transpose_per_tensor", bind(transpose, quantized=True, per_channel=False, **plain))
    add("conv_transpose_u8_weights_far_zero_point", bind(transpose, quantized=True, per_channel=False, w="U8", w_zero_point=60, **plain), floats=True)
    add("conv_transpose_u8", bind(transpose, quantized=True, dtype="u8", **plain))
    add("conv_transpose_relu", bind(transpose, quantized=True, relu=True, **plain))
    add("conv_transpose_f32_relu", bind(transpose, quantized=False, relu=True, **plain))
    add("conv_transpose_float_weights", bind(transpose, quantized=True, w=None, **plain), floats=True)
    add("conv_transpose_f32_holes", bind(transpose, quantized=False, shape=(3, 4, 5), out=4, kernel=(1, 1), attributes={"strides": [2, 2], "output_padding": [1, 1]}))
    unreached = {"strides": [2, 2], "output_padding": [1, 1]}
    add("conv_transpose_unreached", bind(transpose, quantized=False, shape=(3, 4, 5), out=4, kernel=(2, 2), attributes=unreached), refused="outputs that no input reaches")


def integer_products() -> None:
    """Of two activations in 8 bits."""
    def product(g, a, b, dtype="i8", stored=None, perms=(None, None), tiles=(None, None), relu=False, floats=(), kind="MatMul", bias=None, moved=(), options=({}, {}), **attributes):
        def operand(i, shape):
            if stored == i:
                return g.stored(g.normal(*shape), dtype, zero_point=3)
            x = g.input(*shape)
            x = x if i in floats else g.qdq(x, dtype, **options[i])
            if tiles[i]:
                x = g.op("Tile", x, g.const(tiles[i], np.int64))
                g.parameters[x] = g.parameters[g.nodes[-1].input[0]]
            if perms[i]:
                x = g.op("Transpose", x, perm=perms[i])
            return g.qdq(x, dtype) if i in moved else x
        operands = [operand(0, a), operand(1, b)] + ([g.const(g.normal(*bias))] if bias else [])
        y = g.op(kind, *operands, **attributes)
        finish(g, g.op("Relu", y) if relu else y, dtype=dtype)
    symmetric = {"scale": 1 / 64, "zero_point": 0}
    cases = {
        "u8": dict(a=(2, 3, 5, 7), b=(2, 3, 7, 4), dtype="u8"),
        "symmetric": dict(a=(2, 9, 17), b=(2, 17, 20), options=(symmetric, symmetric)),
        "one_symmetric": dict(a=(2, 9, 17), b=(2, 17, 20), options=({}, symmetric)),
        "zero_points_at_the_ends": dict(a=(30, 70), b=(70, 33), dtype="u8", options=({"scale": 1 / 128, "zero_point": 0}, {"scale": 1 / 128, "zero_point": 255})),
        "one_for_all": dict(a=(3, 5, 7), b=(7, 4), dtype="u8"),
        "one_against_all": dict(a=(5, 7), b=(3, 7, 4)),
        "inner_batches": dict(a=(2, 1, 5, 7), b=(3, 7, 4)),
        "vector_left": dict(a=(7,), b=(2, 7, 4)),
        "vector_right": dict(a=(2, 5, 7), b=(7,)),
        "relu": dict(a=(2, 5, 7), b=(2, 7, 4), relu=True),
        "stored_left": dict(a=(5, 7), b=(2, 7, 4), stored=0),
        "stored_batches": dict(a=(2, 5, 7), b=(2, 7, 4), stored=1, dtype="u8"),
        "columns": dict(a=(2, 6, 12), b=(2, 10, 12), perms=(None, [0, 2, 1])),
        "columns_requantized": dict(a=(2, 6, 12), b=(2, 10, 12), perms=(None, [0, 2, 1]), moved=(1,)),
        "columns_of_heads": dict(a=(2, 9, 3, 8), b=(2, 11, 3, 8), perms=([0, 2, 1, 3], [0, 2, 3, 1]), dtype="u8"),
        "rows_of_heads": dict(a=(1, 3, 9, 11), b=(1, 11, 3, 8), perms=(None, [0, 2, 1, 3])),
        "many_rows": dict(a=(2, 55, 16), b=(2, 16, 40)),
    }
    for name, options in cases.items():
        add(f"matmul_int8_{name}", bind(product, **options))
    add("matmul_computed_half_quantized", bind(product, a=(2, 5, 7), b=(2, 7, 4), floats=(1,)), floats=True)
    long = dict(a=(2, 2), b=(2, 2), tiles=((1, 16513), (16513, 1)))
    add("matmul_computed_sums_that_do_not_fit", bind(product, **long), floats=True)
    add("gemm_computed_quantized", bind(product, a=(4, 6), b=(6, 5), kind="Gemm"))
    add("gemm_computed_quantized_trans_b", bind(product, a=(4, 6), b=(5, 6), kind="Gemm", transB=1, dtype="u8"))
    add("gemm_computed_quantized_bias", bind(product, a=(4, 6), b=(6, 5), kind="Gemm", bias=(5,)), floats=True)

    def attention(g, heads, size, dtype="u8"):
        def split(kind, perm):
            x = g.qdq(g.matmul(tokens, heads * size), dtype)
            return g.op("Transpose", g.op("Reshape", x, g.const((1, 10, heads, size), np.int64)), perm=perm)
        tokens = g.qdq(g.input(1, 10, 12), dtype)
        q, k, v = split("q", [0, 2, 1, 3]), split("k", [0, 2, 3, 1]), split("v", [0, 2, 1, 3])
        q = g.qdq(g.op("Mul", q, g.stored(np.float32(size ** -0.5), dtype)), dtype)
        scores = g.qdq(g.op("MatMul", q, k), dtype)
        weights = g.qdq(g.op("Softmax", scores, axis=-1), dtype, scale=1 / 255, zero_point=0 if dtype == "u8" else -128)
        mixed = g.qdq(g.op("MatMul", weights, v), dtype)
        mixed = g.op("Reshape", g.op("Transpose", mixed, perm=[0, 2, 1, 3]), g.const((1, 10, heads * size), np.int64))
        finish(g, g.matmul(mixed, 12), dtype=dtype)
    for dtype in ("u8", "i8"):
        add(f"attention_int8_{dtype}", bind(attention, heads=3, size=8, dtype=dtype))


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

    def norm(g, kind, shape, parameters, between=False, bias=True, **attributes):
        x = g.input(*shape, low=-3, high=5)
        x = g.conv(x, shape[1], (3, 3), pads=[1, 1, 1, 1]) if between else x
        scale = [g.const(g.normal(*parameters)) for _ in range(2 if bias else 1)]
        y = g.op(kind, x, *scale, **attributes)
        finish(g, g.conv(y, 3, (1, 1)) if between else y, False)
    layer, instance, group = "LayerNormalization", "InstanceNormalization", "GroupNormalization"
    add("layer_norm_last", bind(norm, kind=layer, shape=(2, 3, 19), parameters=(19,), epsilon=1e-3), opset=17)
    add("layer_norm_axis_1", bind(norm, kind=layer, shape=(2, 3, 7), parameters=(3, 7), axis=1), opset=17)
    add("layer_norm_no_bias", bind(norm, kind=layer, shape=(4, 9), parameters=(9,), bias=False), opset=17)
    add("layer_norm_scalar_scale", bind(norm, kind=layer, shape=(4, 9), parameters=(1,)), opset=17)
    add("instance_norm_image", bind(norm, kind=instance, shape=(1, 5, 4, 6), parameters=(5,)))
    add("instance_norm_batch_1d", bind(norm, kind=instance, shape=(2, 3, 9), parameters=(3,), epsilon=1e-2))
    add("instance_norm_between_convs", bind(norm, kind=instance, shape=(1, 5, 4, 6), parameters=(5,), between=True))
    add("group_norm_by_channel", bind(norm, kind=group, shape=(1, 6, 4, 5), parameters=(6,), num_groups=3), opset=21)

    def quantized_norm(g):
        y = g.op(layer, g.qdq(g.input(2, 3, 8)), g.const(g.normal(8)), g.const(g.normal(8)))
        finish(g, y)
    add("layer_norm_quantized", quantized_norm, opset=17, floats=True)


def products() -> None:
    """Of two activations, and what else a fully connected layer is not."""
    def product(g, a, b, quantized=False, stored=None):
        x, y = (g.const(g.normal(*shape)) if stored == i else g.input(*shape) for i, shape in enumerate((a, b)))
        if quantized:
            x, y = g.qdq(x), g.qdq(y)
        finish(g, g.op("MatMul", x, y), quantized)
    shapes = {
        "matrices": ((5, 7), (7, 9)),
        "batches": ((2, 3, 5, 7), (2, 3, 7, 4)),
        "one_for_all": ((3, 5, 7), (7, 4)),
        "one_against_all": ((5, 7), (3, 7, 4)),
        "inner_batches": ((2, 1, 5, 7), (3, 7, 4)),
        "vector_left": ((7,), (2, 7, 4)),
        "vector_right": ((2, 5, 7), (7,)),
    }
    for name, (a, b) in shapes.items():
        add(f"matmul_computed_{name}", bind(product, a=a, b=b))
    add("matmul_computed_quantized", bind(product, a=(2, 5, 7), b=(2, 7, 4), quantized=True))
    add("matmul_stored_left", bind(product, a=(5, 7), b=(2, 7, 4), stored=0))
    add("matmul_stored_batches", bind(product, a=(2, 5, 7), b=(2, 7, 4), stored=1))

    def gemm(g, a, b, c, stored, **attributes):
        operands = [g.const(g.normal(*s)) if i in stored else g.input(*s) for i, s in enumerate((a, b, c)) if s is not None]
        finish(g, g.op("Gemm", *operands, **attributes), False)
    add("gemm_computed", bind(gemm, a=(4, 6), b=(6, 5), c=(5,), stored=(2,)))
    add("gemm_trans_a", bind(gemm, a=(6, 4), b=(6, 5), c=(5,), stored=(1, 2), transA=1, alpha=0.5))
    add("gemm_trans_both_computed", bind(gemm, a=(6, 4), b=(5, 6), c=(4, 5), stored=(), transA=1, transB=1, alpha=0.7, beta=1.5))
    add("gemm_matrix_bias", bind(gemm, a=(4, 6), b=(6, 5), c=(4, 1), stored=(1, 2), beta=2.0))
    add("gemm_computed_row", bind(gemm, a=(4, 6), b=(6, 5), c=(1, 5), stored=(1,)))

    def attention(g):
        """One head over a sequence of its own."""
        x = g.input(1, 6, 8)
        q, k, v = (g.op("Add", g.matmul(x, 8), g.const(g.normal(8))) for _ in range(3))
        scores = g.op("Div", g.op("MatMul", q, g.op("Transpose", k, perm=[0, 2, 1])), g.const(np.sqrt(8)))
        finish(g, g.op("MatMul", g.op("Softmax", scores, axis=-1), v), False)
    add("attention", attention)


def einsums() -> None:
    def einsum(g, equation, shapes, stored=(), relu=False):
        operands = [g.const(g.normal(*s)) if i in stored else g.input(*s) for i, s in enumerate(shapes)]
        y = g.op("Einsum", *operands, equation=equation)
        finish(g, g.op("Relu", y) if relu else y, False)
    forms = {
        "scores": ("bhqd, bhkd -> bhqk", [(2, 3, 5, 7), (2, 3, 4, 7)]),
        "weighted": ("bhqk,bkhd->bqhd", [(2, 3, 5, 7), (2, 7, 3, 4)]),
        "of_two_inner": ("bhqd,hdo->bqo", [(2, 3, 5, 4), (3, 4, 6)], (1,)),
        "layer": ("abc,cde->abde", [(2, 5, 8), (8, 3, 4)], (1,)),
        "stored_first": ("oc,bct->bot", [(6, 8), (2, 8, 5)], (0,)),
        "stored_matrices": ("bhi,hij->bhj", [(2, 3, 5), (3, 5, 4)], (1,)),
        "ellipses": ("...ij,...jk->...ik", [(2, 5, 3, 4), (2, 5, 4, 2)]),
        "ellipsis_last": ("i...,...->...i", [(3, 2, 4), (2, 4)]),
        "implicit": ("zj,ja", [(3, 4), (4, 2)]),
        "transposed": ("bij->jbi", [(2, 3, 4)]),
        "summed": ("bij->i", [(2, 3, 4)]),
        "summed_before": ("bij,bk->bk", [(2, 3, 4), (2, 5)]),
        "of_three": ("ij,jk,kl->il", [(3, 4), (4, 5), (5, 2)]),
        "outer": ("i,j->ji", [(3,), (4,)]),
        "dot": ("i,i->", [(9,), (9,)]),
        "stored_summed": ("ij,jk->i", [(3, 4), (4, 5)], (1,)),
    }
    for name, (equation, shapes, *stored) in forms.items():
        add(f"einsum_{name}", bind(einsum, equation=equation, shapes=shapes, stored=stored[0] if stored else ()))
    add("einsum_relu", bind(einsum, equation="ij,jk,kl->li", shapes=[(3, 4), (4, 5), (5, 2)], stored=(2,), relu=True))
    add("einsum_diagonal", bind(einsum, equation="ii->i", shapes=[(3, 3)]), refused="diagonal")


def resizes() -> None:
    def resize(g, shape, quantized, scales=None, sizes=None, **attributes):
        x = image(g, *shape, quantized=quantized)
        tail = ["", g.const(scales)] if scales else ["", "", g.const(sizes, np.int64)]
        y = g.op("Resize", x, *tail, **attributes)
        if not quantized:
            return finish(g, y, False)
        scale, zero_point, dtype = g.parameters[x]
        return g.output(g.qdq(y, dtype, scale=scale, zero_point=zero_point))
    up, down, odd = [1, 1, 2, 2], [1, 1, 0.5, 0.5], [1, 1, 1.7, 0.6]
    forms = {
        "nearest_x2": dict(scales=up, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        "nearest_default": dict(scales=odd, mode="nearest"),
        "nearest_ceil": dict(scales=down, mode="nearest", nearest_mode="ceil"),
        "nearest_prefer_ceil": dict(scales=down, mode="nearest", nearest_mode="round_prefer_ceil"),
        "nearest_align": dict(sizes=[1, 3, 9, 4], mode="nearest", coordinate_transformation_mode="align_corners"),
        "linear_half_pixel": dict(scales=up, mode="linear"),
        "linear_pytorch": dict(sizes=[1, 3, 7, 1], mode="linear", coordinate_transformation_mode="pytorch_half_pixel"),
        "linear_align": dict(sizes=[1, 3, 9, 11], mode="linear", coordinate_transformation_mode="align_corners"),
        "linear_asymmetric": dict(scales=odd, mode="linear", coordinate_transformation_mode="asymmetric"),
    }
    for name, form in forms.items():
        for quantized in (True, False):
            add(f"resize_{'' if quantized else 'f32_'}{name}", bind(resize, shape=(3, 5, 6), quantized=quantized, **form))
    add("resize_f32_symmetric", bind(resize, shape=(3, 5, 6), quantized=False, scales=odd, mode="linear", coordinate_transformation_mode="half_pixel_symmetric"), opset=19)
    add("resize_f32_axes", bind(resize, shape=(3, 5, 6), quantized=False, scales=[2, 3], mode="linear", axes=[2, 3]), opset=18)
    add("resize_f32_1d", bind(resize, shape=(3, 7), quantized=False, scales=[1, 1, 2], mode="linear"))
    cubic = {
        "cubic": dict(scales=up),
        "cubic_down": dict(scales=odd, cubic_coeff_a=-0.5),
        "cubic_outside": dict(scales=odd, exclude_outside=1, coordinate_transformation_mode="asymmetric"),
        "cubic_align": dict(sizes=[1, 3, 9, 11], coordinate_transformation_mode="align_corners"),
    }
    for name, form in cubic.items():
        add(f"resize_{name}", bind(resize, shape=(3, 5, 6), quantized=False, mode="cubic", **form))
    add("resize_cubic_quantized", bind(resize, shape=(3, 5, 6), quantized=True, scales=up, mode="cubic"), floats=True)

    def requantized(g):
        finish(g, g.op("Resize", g.qdq(g.input(1, 3, 4, 5)), "", g.const(up), mode="linear"))
    add("resize_linear_to_another_scale", requantized, floats=True)

    def between(g):
        y = g.qdq(g.conv(image(g, 3, 4, 5), 6, (3, 3), pads=[1, 1, 1, 1]))
        wide = g.op("Resize", y, "", g.const(up), mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
        g.parameters[wide] = g.parameters[y]
        finish(g, g.conv(wide, 4, (3, 3)))
    add("resize_nearest_between_convs", between)

    def opset_10(g, scales):
        finish(g, g.op("Resize", g.input(1, 3, 6, 5), g.const(scales), mode="nearest"), False)
    add("resize_opset_10", bind(opset_10, scales=up), opset=10)

    def upsample(g):
        finish(g, g.op("Upsample", g.input(1, 3, 3, 4), g.const(up), mode="nearest"), False)
    add("upsample_opset_9", upsample, opset=9, without_tract="it has no Upsample")


def recurrent() -> None:
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}

    def layer(g, kind, steps=5, batch=1, inputs=4, hidden=6, direction="forward", bias=True, states=None, outputs=1, peepholes=False, **attributes):
        directions = 2 if direction == "bidirectional" else 1
        first = attributes.get("layout", 0)
        x = g.input(*((batch, steps, inputs) if first else (steps, batch, inputs)))
        rows = gates[kind] * hidden
        operands = [x, g.const(g.normal(directions, rows, inputs, scale=0.5)), g.const(g.normal(directions, rows, hidden, scale=0.4))]
        operands.append(g.const(g.normal(directions, 2 * rows, scale=0.3)) if bias else "")
        if states or peepholes:
            dims = (batch, directions, hidden) if first else (directions, batch, hidden)
            made = {"computed": lambda: g.input(*dims), "stored": lambda: g.const(g.normal(*dims)), None: lambda: ""}[states]
            operands += ["", made()] + ([made()] if kind == "LSTM" else [])
        if peepholes:
            operands.append(g.const(g.normal(directions, 3 * hidden)))
        names = [g.op(kind, *operands, hidden_size=hidden, direction=direction, **attributes)]
        node = g.nodes[-1]
        node.output.extend(f"{names[0]}_{i}" for i in range(1, outputs))
        g.output(*node.output)
    for kind in gates:
        name = kind.lower()
        outputs = 3 if kind == "LSTM" else 2
        add(f"{name}_forward", bind(layer, kind=kind), opset=14)
        add(f"{name}_reverse", bind(layer, kind=kind, direction="reverse", outputs=outputs), opset=14, without_tract="it runs no layer backwards alone")
        add(f"{name}_both_ways", bind(layer, kind=kind, direction="bidirectional", batch=2, outputs=outputs), opset=14)
        add(f"{name}_states", bind(layer, kind=kind, states="computed", outputs=outputs), opset=14)
        add(f"{name}_states_both_ways", bind(layer, kind=kind, states="computed", direction="bidirectional", batch=3, outputs=outputs), opset=14)
        add(f"{name}_stored_states", bind(layer, kind=kind, states="stored", batch=2), opset=14)
        add(f"{name}_no_bias", bind(layer, kind=kind, bias=False, hidden=17), opset=14)
        add(f"{name}_clip", bind(layer, kind=kind, clip=0.3), opset=14, without_tract="it clips no gates")
    add("gru_reset_after", bind(layer, kind="GRU", linear_before_reset=1, outputs=2), opset=14)
    add("gru_reset_after_both_ways", bind(layer, kind="GRU", linear_before_reset=1, direction="bidirectional", batch=2), opset=14)
    add("lstm_peepholes", bind(layer, kind="LSTM", peepholes=True), opset=14)
    add("lstm_coupled", bind(layer, kind="LSTM", input_forget=1), opset=14, without_tract="it couples no gates")
    add("lstm_hard_sigmoid", bind(layer, kind="LSTM", activations=["HardSigmoid", "Tanh", "Relu"]), opset=14, without_tract="it has the default activations alone")
    add("rnn_relu", bind(layer, kind="RNN", activations=["Relu"]), opset=14, without_tract="it has the default activations alone")
    add("lstm_softsign", bind(layer, kind="LSTM", activations=["Sigmoid", "Softsign", "Tanh"]), opset=14, refused="an activation that the plan does not have", without_tract="it has the default activations alone")

    def in_parts(g):
        """As PyTorch exports one: its gates are in another order."""
        def turned(columns):
            whole = g.const(g.normal(12, columns, scale=0.5))
            def gate(i):
                return g.op("Slice", whole, *(g.const([at], np.int64) for at in (3 * i, 3 * i + 3, 0)))
            return g.op("Unsqueeze", g.op("Concat", *map(gate, [0, 3, 1, 2]), axis=0), g.const([0], np.int64))
        g.output(g.op("LSTM", g.input(5, 1, 4), turned(4), turned(3), hidden_size=3))
    add("lstm_weights_in_parts", in_parts, opset=14)


def constants() -> None:
    """What follows from constants and shapes is no part of a plan."""
    def backwards(g):
        cut = g.op("Slice", g.const(g.normal(6, 5)), *(g.const(at, np.int64) for at in ([-1, 4], [-7, 0], [0, 1], [-1, -2])))
        g.output(g.op("MatMul", g.input(2, 6), g.op("Concat", g.const(g.normal(6, 3)), cut, axis=-1)))
    add("weights_cut_backwards", backwards)

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

    def long(g, *values):
        return g.const(values, np.int64)

    def split(g, w):
        g.nodes.append(helper.make_node("Split", [w, long(g, 2, 4)], ["w0", "w1"], "split", axis=0))
        return "w1"

    # What a convolution has for weights; what only moves stays quantized.
    moved = {
        "gathered": lambda g, w: g.op("Gather", w, long(g, 3, 0, -1, 2), axis=0),
        "padded": lambda g, w: g.op("Pad", w, long(g, 0, 0, 1, 0, 0, 0, 0, 1)),
        "cropped": lambda g, w: g.op("Pad", w, long(g, -2, 0, 0, 0, 0, 0, 0, -1)),
        "tiled": lambda g, w: g.op("Tile", w, long(g, 2, 1, 1, 2)),
        "split": split,
        "cut": lambda g, w: g.op("Slice", w, long(g, 1), long(g, 5), long(g, 0)),
        "reshaped": lambda g, w: g.op("Reshape", g.op("Unsqueeze", w, long(g, 0)), long(g, 6, 3, 3, 2)),
    }
    worked = {
        "chosen": lambda g, w: g.op("Where", g.op("Less", w, g.const(0.1)), w, g.const(g.normal(3, 1, 1))),
        "multiplied": lambda g, w: g.op("MatMul", w, g.const(g.normal(3, 4))),
        "softened": lambda g, w: g.op("Softmax", g.op("CumSum", w, g.const(2, np.int64)), axis=1),
    }

    def layer(g, make, quantized, dtype="i8"):
        w = g.normal(6, 3, 2, 3, scale=0.3)
        w = make(g, g.stored(w, dtype, zero_point=128 if dtype == "u8" else 0) if quantized else g.const(w))
        y = g.op("Conv", image(g, 3, 5, 6, quantized=quantized), w)
        finish(g, y, quantized)
    for name, make in moved.items():
        crops = {"without_tract": "tract cuts nothing off by negative pads"} if name == "cropped" else {}
        add(f"weights_{name}", bind(layer, make=make, quantized=True, dtype="u8" if name == "tiled" else "i8"), **crops)
        add(f"weights_{name}_f32", bind(layer, make=make, quantized=False), **crops)
    for name, make in worked.items():
        add(f"weights_{name}_f32", bind(layer, make=make, quantized=False))

    def integers(g):
        """Bytes that are moved before they are dequantized."""
        w = g.op("Gather", g.const(g.rng.integers(-127, 128, (4, 5)), np.int8), long(g, 2, 0, 1), axis=0)
        w = g.op("DequantizeLinear", g.op("Concat", w, g.op("ConstantOfShape", long(g, 1, 5), value=numpy_tensor([7], np.int8)), axis=0),
                 g.const(0.01), g.const(0, np.int8))
        finish(g, g.op("MatMul", g.qdq(g.input(2, 4)), w))
    add("weights_moved_as_bytes", integers)

    def indices(g):
        """More than a shape has."""
        at = g.op("Mod", g.op("Range", g.const(0, np.int64), g.const(70, np.int64), g.const(1, np.int64)), g.const(3, np.int64))
        last = g.op("ConstantOfShape", long(g, 66), value=numpy_tensor([-1]))
        g.output(g.op("Gather", g.input(2, 3), g.op("Concat", at, last, axis=0), axis=1))
    add("indices_computed", indices)

    def sizes(g):
        """Through what repeats, pads and splits shapes."""
        x = g.input(2, 3, 4)
        twice = g.op("Tile", g.op("Shape", x), long(g, 2))
        g.nodes.append(helper.make_node("Split", [twice, long(g, 1, 3, 2)], ["first", "mid", "rest"], "split", axis=0))
        g.unnamed = {"first", "rest"}
        g.output(g.op("Reshape", x, g.op("Pad", "mid", long(g, 1, 0), g.const(1, np.int64))))
    add("sizes_repeated_and_split", sizes, without_tract="Wrong number of outputs")


def numpy_tensor(values, dtype=np.int64):
    return numpy_helper.from_array(np.asarray(values, dtype))
