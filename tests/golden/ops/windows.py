"""Convolutions and pools."""
import numpy as np

from case import add, bind, finish, image


# The f32 kernels slide the same windows: some shapes are enough.
FLOAT_CONVOLUTIONS = {"3x3_pad", "asymmetric_pads", "dilated", "same_lower", "1x1", "groups", "depthwise_stride",
                      "depthwise_x2", "kernel_beyond_image", "1d_stride_dilated"}
FLOAT_POOLS = {"3x3_pads", "ceil", "same_lower"}


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
    far = dict(w="U8", per_channel=False)
    add("conv_u8_weights_zero_point_0", bind(typed, w="u8", w_zero_point=0, per_channel=False))
    add("conv_u8_weights_far_zero_point", bind(typed, x={"dtype": "u8"}, y="u8", w_zero_point=77, strides=[2, 1], **far))
    add("conv_u8_weights_far_zero_points", bind(typed, w="U8", w_zero_point=190))

    def far_layer(g, shape=(4, 6, 5), relu=False, kernel=(3, 3), out=4, bias="i32", **attributes):
        y = g.conv(image(g, *shape), out, kernel, w_zero_point=60, bias=bias, **far, **attributes)
        finish(g, g.op("Relu", y) if relu else y)
    add("conv_u8_weights_far_zero_point_relu", bind(far_layer, relu=True))
    add("conv_u8_weights_far_zero_point_depthwise", bind(far_layer, group=4, pads=[1, 1, 1, 1], bias=None), floats=True)
    add("conv_u8_weights_far_zero_point_groups", bind(far_layer, group=2, out=6, bias="f32"))
    add("conv_u8_weights_far_zero_point_1d", bind(far_layer, shape=(4, 9), kernel=(3,), pads=[1, 1]))

    def far_between(g):
        """Between layers whose weights fit, images in a batch."""
        y = g.qdq(g.conv(image(g, 3, 6, 5, batch=2), 4, (1, 1)))
        y = g.qdq(g.conv(y, 5, (3, 3), w_zero_point=60, pads=[1, 1, 1, 1], **far))
        finish(g, g.conv(y, 3, (1, 1)))
    add("conv_u8_weights_far_zero_point_between", far_between)
    add("conv_float_weights", bind(typed, w=None, bias="f32"), floats=True)

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

    # Windows in padding alone give the bias.
    def padded_alone(g, shape=(3, 5, 4), out=4, kernel=(1, 1), quantized=True, dtype="i8", **attributes):
        finish(g, g.conv(image(g, *shape, quantized=quantized, dtype=dtype), out, kernel, **attributes), quantized, dtype)
    alone = {
        "": dict(pads=[1, 1, 1, 1]),
        "_3x3": dict(kernel=(3, 3), pads=[3, 1, 0, 4]),
        "_strides": dict(kernel=(2, 3), pads=[0, 5, 6, 2], strides=[3, 2], dtype="u8"),
        "_groups": dict(shape=(6, 3, 4), out=4, group=2, kernel=(2, 2), pads=[2, 0, 1, 3]),
        "_depthwise": dict(shape=(6, 4, 4), out=6, group=6, kernel=(3, 3), pads=[4, 3, 3, 4], dilations=[1, 2]),
        "_1d": dict(shape=(3, 7), kernel=(3,), pads=[4, 3]),
        "_far_zero_point": dict(kernel=(2, 2), pads=[2, 2, 2, 2], w_zero_point=60, **far),
    }
    for name, options in alone.items():
        add(f"conv_windows_of_padding{name}", bind(padded_alone, **options))
    for name in ("_3x3", "_strides", "_depthwise", "_1d"):
        add(f"conv_f32_windows_of_padding{name}", bind(padded_alone, quantized=False, **alone[name]))

    far_apart = dict(pads=[65535, 65535, 65535, 65535], strides=[65535, 65535])
    add("conv_windows_far_apart", bind(padded_alone, **far_apart), refused="its input with padding is too large")

    def between(g):
        """Images in a batch, and channels that nothing reads."""
        y = g.qdq(g.op("Relu", g.conv(image(g, 3, 5, 4, batch=2), 6, (1, 1), pads=[1, 0, 2, 1])))
        finish(g, g.conv(y, 4, (3, 3), pads=[3, 3, 3, 3], unread=(1, 4)))
    add("conv_windows_of_padding_between", between)

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
            for quantized in (True, False) if name in FLOAT_POOLS else (True,):
                add(f"{stem}_{'' if quantized else 'f32_'}{name}", bind(pool, kind=kind, shape=shape, attributes=attributes, quantized=quantized), opset=12)
    padded = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}
    for quantized in (True, False):
        add(f"average_pool_{'' if quantized else 'f32_'}count_include_pad", bind(pool, kind="AveragePool", shape=(3, 5, 6), attributes=padded, quantized=quantized))
    ceil = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 0, 0], "ceil_mode": 1, "count_include_pad": 1}
    for quantized in (True, False):
        add(f"average_pool_{'' if quantized else 'f32_'}ceil_count_include_pad", bind(pool, kind="AveragePool", shape=(3, 6, 7), attributes=ceil, quantized=quantized), opset=19)
    add("max_pool_dilated", bind(pool, kind="MaxPool", shape=(3, 8, 7), attributes={"kernel_shape": [2, 3], "dilations": [2, 2]}, quantized=True))
    add("max_pool_u8", bind(pool, kind="MaxPool", shape=(3, 6, 6), attributes={"kernel_shape": [2, 2]}, quantized=True, dtype="u8"))
    add("average_pool_u8_to_i8", bind(pool, kind="AveragePool", shape=(3, 6, 6), attributes={"kernel_shape": [2, 2]}, quantized=True, dtype="u8", y="i8"))
    add("average_pool_dilated", bind(pool, kind="AveragePool", shape=(3, 8, 7), attributes={"kernel_shape": [2, 3], "dilations": [2, 2]}, quantized=True), opset=19)
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
    add("reduce_mean_channels", bind(pool, kind="ReduceMean", shape=(5, 4, 5), attributes={"axes": [1]}, quantized=True))

    def max_of_integers(g):
        x = g.q(g.input(1, 3, 6, 6))
        y = g.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
        finish(g, g.conv(g.dq(y), 4, (2, 2)))
    add("max_pool_between_quantize_and_dequantize", max_of_integers)
