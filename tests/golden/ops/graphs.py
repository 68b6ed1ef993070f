"""Operators that move elements, small networks, and the ends of a graph."""
import numpy as np

from builder import INT
from case import add, bind, finish, image


def scatters() -> None:
    def rows(g, quantized):
        """As PyTorch writes `x[:, 1:3, ::2] = y`."""
        x = image(g, 4, 5, quantized=quantized)
        y = g.op("Relu", g.op("Slice", x, *(g.const(v, np.int64) for v in ([0, 0], [2, 3], [1, 2]))))
        places = [[[[0, i, j] for j in (0, 2, 4)] for i in (1, 2)]]
        finish(g, g.op("ScatterND", x, g.const(places, np.int64), g.qdq(y) if quantized else y), quantized)
    add("scatter_nd_elements", bind(rows, quantized=False))
    add("scatter_nd_elements_quantized", bind(rows, quantized=True))

    def parts(g):
        """Whole rows, into stored zeros, and one of those from the end."""
        y = g.op("Relu", g.input(3, 2, 4))
        z = g.op("ScatterND", g.const(np.zeros((5, 2, 4))), g.const([[3], [0], [-1]], np.int64), y)
        finish(g, g.op("Add", z, g.op("ReduceMax", y, keepdims=0)), False)
    add("scatter_nd_parts", parts, without_tract="out of bounds")

    def again(g):
        """Of what is read once more behind it, where both are computed right before."""
        x, y = g.op("Neg", g.input(6, 3)), g.op("Abs", g.input(2, 3))
        z = g.op("ScatterND", x, g.const([[1], [4]], np.int64), y)
        finish(g, g.op("Concat", z, x, y, axis=0), False)
    add("scatter_nd_of_what_is_read_again", again)

    def elements(g, axis, shape):
        x, y = g.input(3, 4), g.input(*shape)
        indices = np.array([[1, 0, -1], [2, 1, 0]])[: shape[0], : shape[1]]
        finish(g, g.op("ScatterElements", x, g.const(indices, np.int64), y, axis=axis), False)
    add("scatter_elements", bind(elements, axis=0, shape=(2, 3)))
    add("scatter_elements_last", bind(elements, axis=-1, shape=(2, 2)))

    def reduced(g):
        finish(g, g.op("ScatterND", g.input(4), g.const([[1], [1]], np.int64), g.input(2), reduction="add"), False)
    add("scatter_nd_added", reduced, opset=16, refused="reduced with what is there")


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
        y = g.op("Relu", g.op("Transpose", x, perm=[0, 2, 3, 1]))
        return g.op("Transpose", g.qdq(y) if x in g.parameters else y, perm=[0, 3, 1, 2])

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
        # Floats move like bytes; those whose layout decides are enough.
        for quantized in (True, False) if name.startswith(("transpose", "nhwc", "pad", "concat")) else (True,):
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

    def computed(g):
        """Convolutions of one image, quantized alike."""
        x = image(g, 3, 6, 5)
        return [g.qdq(g.conv(x, 4, (3, 3), pads=[1, 1, 1, 1]), scale=0.02, zero_point=3) for _ in range(2)]

    def joined(g):
        # One part is read again after the whole was changed.
        a, b = computed(g)
        y = g.qdq(g.op("HardSwish", g.qdq(g.op("Concat", a, b, a, axis=2), scale=0.02, zero_point=3)))
        finish(g, g.op("Add", g.qdq(g.conv(y, 4, (3, 3), strides=[3, 1], pads=[1, 1, 1, 1])), a))
    add("concat_of_computed", joined, opset=14)

    def nested(g):
        a, b = computed(g)
        for _ in range(2):
            a = g.qdq(g.op("Concat", a, g.qdq(g.conv(a, 4, (1, 1)), scale=0.02, zero_point=3), axis=2), scale=0.02, zero_point=3)
        finish(g, g.conv(g.qdq(g.op("Concat", b, a, axis=2), scale=0.02, zero_point=3), 3, (3, 3)))
    add("concat_of_concats", nested)

    def integers(g, chain):
        # An output whose parts are written where they will lie, unless one is computed from another.
        x = g.qdq(g.input(2, 5))
        a = g.q(g.gemm(x, 5), scale=0.02, zero_point=3)
        b = g.q(g.gemm(g.dq(a) if chain else x, 5), scale=0.02, zero_point=3)
        g.output(g.op("Concat", a, b, axis=0))
    add("concat_is_the_output", bind(integers, chain=False))
    add("concat_is_the_output_of_a_chain", bind(integers, chain=True))

    def again(g):
        # A part that is written where it will lie stands in the whole twice.
        h = g.gemm(g.input(1, 6), 8)
        finish(g, g.gemm(g.op("Concat", h, h, axis=1), 3), False)
    add("concat_with_itself_again", again)

    def stored(g):
        # Behind the weights, so that it does not lie where the constants begin.
        h = g.gemm(g.input(1, 6), 8)
        finish(g, g.gemm(g.op("Concat", g.const(np.linspace(-1, 1, 8).reshape(1, 8)), h, axis=1), 3), False)
    add("concat_with_stored", stored)

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
    # Which the QuantizeLinear behind it rounds: on a scale of its own, or on the same.
    add("pad_value_between_steps", bind(border, value=0.51, quantized=True), floats=True)

    def rounded(g, value, dtype="i8"):
        x = image(g, 3, 4, 5, dtype=dtype, scale=0.03125, zero_point=5)
        y = g.op("Pad", x, g.const([0, 0, 1, 1, 0, 0, 1, 0], np.int64), g.const(value))
        g.output(g.dq(g.q(y, dtype, scale=0.03125, zero_point=5)))
    add("pad_value_rounded", bind(rounded, value=0.51))
    add("pad_value_rounded_u8", bind(rounded, value=0.14, dtype="u8"))
    add("pad_value_beyond_all", bind(rounded, value=-1e9))

    def reflected(g):
        finish(g, g.op("Pad", image(g, 3, 4, 5), g.const([0, 0, 1, 1, 0, 0, 1, 0], np.int64), mode="reflect"))
    add("pad_reflect", reflected)

    def padded(g, pads, quantized, mode="constant", dtype="i8", layer=False):
        x = image(g, 3, 5, 6, quantized=quantized, dtype=dtype)
        if layer:
            x = g.conv(x, 4, (2, 2))
            x = g.qdq(x, dtype) if quantized else x
        finish(g, g.op("Pad", x, g.const(pads, np.int64), mode=mode), quantized, dtype)
    crops = "tract cuts nothing off by negative pads"
    for quantized in (True, False):
        f32 = "" if quantized else "_f32"
        add(f"pad_crops{f32}", bind(padded, pads=[0, 0, -1, 0, 0, -1, -2, -1], quantized=quantized), without_tract=crops)
        for mode in ("constant", "edge", "reflect", "wrap"):
            add(f"pad_crops_and_pads_{mode}{f32}", bind(padded, pads=[0, -1, 2, -2, 0, 1 if mode != "reflect" else 0, -1, 2], quantized=quantized, mode=mode, layer=True), opset=19, without_tract=crops)
    add("pad_crops_u8", bind(padded, pads=[0, 0, -2, 3, 0, 0, 1, -1], quantized=True, dtype="u8"), without_tract=crops)

    def pad_opset_10(g):
        finish(g, g.op("Pad", image(g, 3, 4, 5), pads=[0, 0, 1, 1, 0, 0, 1, 0], value=0.0))
    add("pad_attributes", pad_opset_10, opset=10)

    def crop_opset_10(g):
        finish(g, g.op("Pad", image(g, 3, 4, 5), pads=[0, 0, -1, 1, 0, 0, 0, -2], value=0.0))
    add("pad_attributes_that_crop", crop_opset_10, opset=10, without_tract=crops)

    def identity(g):
        y = g.op("Identity", g.qdq(g.conv(image(g, 3, 5, 4), 4, (2, 2))))
        finish(g, g.op("Dropout", y))
    add("identity_and_dropout", identity)


def blocks() -> None:
    def residual(g, quantized, dtype="i8"):
        def ends(y):
            return g.qdq(y, dtype) if quantized else y
        x = ends(g.op("Relu", g.conv(image(g, 3, 6, 6, quantized=quantized, dtype=dtype), 5, (3, 3), pads=[1, 1, 1, 1])))
        y = ends(g.op("Relu", g.conv(x, 5, (3, 3), pads=[1, 1, 1, 1])))
        y = ends(g.conv(y, 5, (3, 3), pads=[1, 1, 1, 1]))
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

    def unread(g, *, first=True, deep=True, seen=False, channels=(0, 3, 4, 5, 10), kernel=(1, 1)):
        y = image(g, 6 if first else 12, 7, 7)
        if first:
            y = g.qdq(g.op("Relu", g.conv(y, 12, kernel)))
        if deep:
            y = g.qdq(g.conv(y, 12, (3, 3), group=12, pads=[1, 1, 1, 1]))
        if seen:
            g.output(y)
        finish(g, g.conv(y, 9, kernel, unread=channels))
    add("unread_channels", unread)
    add("unread_channels_of_3x3", bind(unread, deep=False, kernel=(3, 3)))
    add("unread_channels_of_an_input", bind(unread, first=False))
    add("unread_channels_that_are_an_output", bind(unread, seen=True))
    add("unread_channels_all", bind(unread, channels=tuple(range(12))))

    def behind_constants(g):
        unread(g)
        g.constant_nodes = True
    add("unread_channels_behind_constants", behind_constants)

    def unread_after_floats(g):
        y = g.qdq(g.op("Conv", g.input(1, 3, 5, 5), g.stored(g.normal(4, 3, 1, 1), "i8", 0), kernel_shape=[1, 1]))
        finish(g, g.conv(y, 5, (1, 1), unread=(1,)))
    add("unread_channels_of_a_product_of_floats", unread_after_floats, floats=True)

    def coarse(g, channels, **attributes):
        """A convolution of steps so coarse that its bias does not hold in them: it is computed in float."""
        y = g.qdq(g.op("Relu", g.conv(image(g, 6, 4, 4), 12, (1, 1))), scale=0.25)
        w = g.rng.integers(-1, 2, (channels, 1 if attributes else 12, 1, 1))
        w[:, 0 if attributes else slice(4)] = 1 if attributes else 0
        weights = g.op("DequantizeLinear", g.const(w, np.int8), g.const(1.0), g.const(0, np.int8))
        y = g.op("Conv", y, weights, g.const(g.normal(channels, scale=0.1)), kernel_shape=[1, 1], **attributes)
        return g.qdq(y, scale=0.05, zero_point=0)

    def unread_by_floats(g):
        g.output(coarse(g, 5))
    add("unread_channels_of_a_layer_in_float", unread_by_floats, floats=True)

    def unread_between_floats(g):
        finish(g, g.conv(coarse(g, 12, group=12), 5, (1, 1), unread=(2, 5)))
    add("unread_channels_of_a_depthwise_layer_in_float", unread_between_floats, floats=True)

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
    add("output_before_its_activation", pre_activation, floats=True)

    def two_heads(g):
        """The mean of an image, without its spatial dimensions, meets what a Gemm gave."""
        x = image(g, 6, 4, 4)
        pooled = g.qdq(g.op("ReduceMean", x, axes=[2, 3], keepdims=0))
        finish(g, g.op("Add", pooled, g.qdq(g.gemm(g.op("Flatten", x), 6))))
    add("mean_plus_gemm", two_heads)

    def two_readers(g):
        y = g.conv(image(g, 3, 6, 6), 4, (3, 3))
        g.output(g.qdq(y), g.qdq(g.op("Relu", y)))
    add("quantized_twice", two_readers, floats=True)


def edges() -> None:
    def integers(g, dtype, out):
        x = g.input(1, 3, 5, 4, dtype=INT[dtype])
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

    def several(g):
        """One tensor as two outputs, which other nodes read too."""
        x = g.input(1, 3, 4, 5)
        y = g.op("Relu", x)
        g.output(y, g.op("Identity", y), g.op("Sigmoid", y), g.op("Add", y, x))
    add("outputs_of_one_tensor", several)

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
    add("int16_activations", sixteen, opset=21)
