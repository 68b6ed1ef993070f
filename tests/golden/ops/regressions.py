"""One case a bug that was found, named for what went wrong."""
import numpy as np
from onnx import helper, numpy_helper

from builder import Graph
from case import add, bind, finish, image


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

    add("conv_bias_of_a_dead_channel", dead_channel)

    # In steps of the sums these biases would be far from what they are in steps of the output.
    def coarse_sums(g: Graph, dead: bool) -> None:
        x = g.qdq(g.input(1, 2, 4, 4, low=-3.0, high=3.0), scale=0.1, zero_point=0)
        w = g.const([[[[0 if dead else 1]], [[0]]], [[[1]], [[-1]]]], np.int8)
        weights = g.op("DequantizeLinear", w, g.const([1.0, 0.01] if dead else 1.0), g.const([0, 0] if dead else 0, np.int8), axis=0)
        y = g.op("Conv", x, weights, g.const([0.34, -0.007] if dead else [0.34, -0.17]), kernel_shape=[1, 1])
        g.output(g.qdq(y, scale=0.02, zero_point=-3))

    add("conv_float_bias_of_a_dead_channel", bind(coarse_sums, dead=True))
    add("conv_float_bias_between_coarse_sums", bind(coarse_sums, dead=False), floats=True)

    def coarse_integers(g: Graph) -> None:
        x = g.qdq(g.input(1, 1, 2, 4, low=-3.0, high=3.0), scale=1.0, zero_point=0)
        weights = g.op("DequantizeLinear", g.const([[[[1]]], [[[-1]]]], np.int8), g.const(1.0), g.const(0, np.int8))
        bias = g.op("DequantizeLinear", g.const([2, -2], np.int32), g.const(0.25))
        g.output(g.qdq(g.op("Conv", x, weights, bias, kernel_shape=[1, 1]), scale=0.25, zero_point=0))

    add("conv_int32_bias_between_coarse_sums", coarse_integers, floats=True)

    def far(g: Graph) -> None:
        x = g.qdq(g.input(1, 1, 2, 4), scale=0.1, zero_point=0)
        weights = g.op("DequantizeLinear", g.const([[[[0]]], [[[0]]], [[[3]]]], np.int8), g.const([1e-9, 1e-9, 0.05]), g.const([0, 0, 0], np.int8), axis=0)
        y = g.op("Conv", x, weights, g.const([-1e6, 1e6, 0.2]), kernel_shape=[1, 1])
        g.output(g.qdq(y, scale=0.01, zero_point=0))

    add("conv_far_bias_of_dead_channels", far)

    def softmax_of_another_opset(g: Graph, node_opset: int) -> None:
        q = g.q(g.input(1, 3, 5), "u8")
        scale, zero_point, _ = g.parameters[q]
        y = g.op(
            "QLinearSoftmax", q, g.const(scale), g.const(zero_point, np.uint8), g.const(1 / 256), g.const(0, np.uint8),
            domain="com.microsoft", opset=node_opset,
        )
        g.parameters[y] = (np.float32(1 / 256), 0, "u8")
        g.output(y)

    add("qlinear_softmax_default_axis_of_its_own_opset", bind(softmax_of_another_opset, node_opset=13), opset=12)
    add("qlinear_softmax_default_axis_of_opset_12", bind(softmax_of_another_opset, node_opset=12), opset=12)

    def qgemm_bias_of_a_row(g: Graph) -> None:
        q = g.q(g.input(2, 6), "u8")
        scale, zero_point, _ = g.parameters[q]
        w, bias = g.const(g.rng.integers(-127, 128, (6, 3)), np.int8), g.const([[900, -1200, 40]], np.int32)
        y = g.op(
            "QGemm", q, g.const(scale), g.const(zero_point, np.uint8), w, g.const([0.01, 0.02, 0.005]), g.const([0, 0, 0], np.int8),
            bias, g.const(0.05), g.const(120, np.uint8), domain="com.microsoft",
        )
        g.parameters[y] = (np.float32(0.05), 120, "u8")
        g.output(y)

    add("qgemm_bias_of_a_row", qgemm_bias_of_a_row)

    def scalar_transposed(g: Graph) -> None:
        x = g.input(2, 3)
        total = g.op("Transpose", g.op("ReduceMean", x, axes=[0, 1], keepdims=0))
        finish(g, g.op("Add", x, total), quantized=False)

    add("transpose_of_a_scalar", scalar_transposed)

    # As training for quantization leaves them.
    def weights_of_floats(g: Graph, shape, channels: int, kind: str, axis, turned=False, **attributes) -> None:
        x = g.qdq(g.input(*((2, 6) if kind != "Conv" else (1, 3, 5, 5))))
        floats = g.normal(*shape, scale=0.3)
        # Some are beyond the range.
        scales = np.full(channels, 0.008) if axis is not None else 0.009
        zero_points = np.zeros(channels) if axis is not None else 3
        along = {} if axis is None else {"axis": axis}
        parameters = [g.const(scales), g.const(zero_points, np.int8)]
        quantized = g.op("QuantizeLinear", g.const(floats), *parameters, **along)
        weights = g.op("DequantizeLinear", quantized, *parameters, **along)
        if turned:
            weights = g.op("Transpose", weights, perm=[1, 0])
        finish(g, g.op(kind, x, weights, **attributes))

    add("conv_weights_quantized_here", bind(weights_of_floats, shape=(4, 3, 3, 3), channels=4, kind="Conv", axis=0))
    add("conv_weights_quantized_here_per_tensor", bind(weights_of_floats, shape=(4, 3, 3, 3), channels=1, kind="Conv", axis=None))
    add("gemm_weights_quantized_here", bind(weights_of_floats, shape=(4, 6), channels=4, kind="Gemm", axis=0, transB=1))
    add("matmul_weights_quantized_here", bind(weights_of_floats, shape=(6, 4), channels=4, kind="MatMul", axis=1))
    add("matmul_weights_quantized_here_turned", bind(weights_of_floats, shape=(4, 6), channels=4, kind="MatMul", axis=0, turned=True))
    norms()
    sizes()
    constants()
    pools()


def norms() -> None:
    def norm(g: Graph, kind: str, shape: tuple[int, ...], scale: tuple[int, ...], bias: tuple[int, ...], **attributes) -> None:
        x = g.input(*shape)
        finish(g, g.op(kind, x, g.const(g.normal(*scale)), g.const(g.normal(*bias)), **attributes), quantized=False)

    layer, instance, group = "LayerNormalization", "InstanceNormalization", "GroupNormalization"
    add("layer_norm_scale_behind_ones", bind(norm, kind=layer, shape=(1, 4, 8), scale=(1, 1, 8), bias=(8,)), opset=17)
    add("layer_norm_bias_behind_ones", bind(norm, kind=layer, shape=(1, 4, 8), scale=(1,), bias=(1, 8)), opset=17)
    # Of one value the bias is left.
    add("instance_norm_of_a_pixel", bind(norm, kind=instance, shape=(1, 5, 1, 1), scale=(5,), bias=(5,)))
    add("instance_norm_of_a_pixel_batch", bind(norm, kind=instance, shape=(2, 5, 1), scale=(5,), bias=(5,)))
    add("group_norm_of_a_pixel", bind(norm, kind=group, shape=(2, 6, 1, 1), scale=(6,), bias=(6,), num_groups=3), opset=21)


def sizes() -> None:
    def strides(g: Graph) -> None:
        w = g.const(g.normal(1, 1, 1, 1))
        finish(g, g.op("ConvTranspose", g.input(1, 1, 1, 1), w, strides=[65536, 65536]), quantized=False)
    add("conv_transpose_huge_strides", strides, refused="a phase for each place of a stride")

    def empty(g: Graph) -> None:
        finish(g, g.op("Concat", g.const([]), g.input(5), g.const([]), axis=0), quantized=False)
    add("concat_with_empty_parts", empty)

    def read_by_its_shape_alone(g: Graph) -> None:
        x, w, r = g.input(5, 1, 4), g.const(g.normal(1, 12, 4)), g.const(g.normal(1, 12, 3))
        g.nodes.append(helper.make_node("LSTM", [x, w, r], ["y", "h"], "lstm", hidden_size=3))
        shape = g.op("Concat", g.op("Shape", "y", start=1, end=2), g.const([-1], np.int64), axis=0)
        finish(g, g.op("Reshape", "h", shape), quantized=False)
    add("lstm_output_that_a_shape_alone_reads", read_by_its_shape_alone, opset=15)


def constants() -> None:
    def cast(g: Graph, dtype: type) -> None:
        finish(g, g.op("Mul", g.input(2, 3), g.op("Cast", g.const([3, 2, 7], dtype), to=1)), quantized=False)
    for dtype in (np.int64, np.int32, np.int8, np.uint8):
        add(f"cast_of_stored_{np.dtype(dtype)}", bind(cast, dtype=dtype))

    def cast_to_integers(g: Graph) -> None:
        finish(g, g.op("Gather", g.input(5), g.op("Cast", g.const([3, 0, 4, 1], np.int32), to=7)), quantized=False)
    add("cast_of_stored_to_int64", cast_to_integers)

    # As PyTorch writes the variance of a sample: by the number of its values less one.
    def count(g: Graph) -> None:
        x = g.input(2, 3, 4)
        sizes = g.op("Gather", g.op("Shape", x), g.const([1, 2], np.int64))
        values = g.op("Cast", g.op("ReduceProd", sizes, keepdims=0), to=1)
        finish(g, g.op("Div", g.op("Mul", x, values), g.op("Sub", values, g.const(1.0))), quantized=False)
    add("values_counted", count)

    # As Keras cuts off what a transposed convolution pads.
    def cut(g: Graph) -> None:
        end = g.op("Neg", g.op("Sub", g.const(3, np.int64), g.const(1, np.int64)))
        ends = g.op("Unsqueeze", end, g.const([0], np.int64))
        finish(g, g.op("Slice", g.input(2, 3, 5), g.const([0], np.int64), ends, g.const([2], np.int64)), quantized=False)
    add("slice_to_a_negated_size", cut)

    # As YOLO's anchors and rotary embeddings come, and positions of a sequence.
    def positions(g: Graph, kind: str) -> None:
        rows = 70 if kind != "mask" else 6
        x = g.input(1, rows, 3)
        size = g.op("Gather", g.op("Shape", x), g.const(1, np.int64))
        if kind == "floats":
            at = g.op("Add", g.op("Range", g.const(-1.0), g.op("Cast", size, to=1), g.const(0.75)), g.const(0.5))
            y = g.op("Mul", g.op("Slice", at, g.const([0], np.int64), g.const([3], np.int64)), x)
        elif kind == "lookup":
            y = g.op("Add", g.op("Gather", g.const(g.normal(80, 3)), g.op("Range", g.const(2, np.int64), g.op("Add", size, g.const(2, np.int64)), g.const(1, np.int64))), x)
        else:
            at = g.op("Range", g.const(0, np.int64), size, g.const(1, np.int64))
            first, second = (g.op("Unsqueeze", at, g.const([axis], np.int64)) for axis in (0, 1))
            mask = g.op("Where", g.op("LessOrEqual", first, second), g.const(0.0), g.const(-100.0))
            y = g.op("Add", g.op("MatMul", x, g.const(g.normal(3, 6))), mask)
        finish(g, y, quantized=False)
    for kind in ("floats", "lookup", "mask"):
        add(f"range_{kind}", bind(positions, kind=kind), without_tract="attempt to divide by zero" if kind == "floats" else None)

    # As TorchScript writes `interpolate(scale_factor=1.5)`: a size goes through floats and comes back.
    def through_floats(g: Graph, apart: bool) -> None:
        x = g.input(1, 2, 5, 7)
        shape = g.op("Shape", x)
        if apart:
            def size(axis: int) -> str:
                size = g.op("Cast", g.op("Gather", shape, g.const(axis, np.int64)), to=1)
                return g.op("Unsqueeze", g.op("Floor", g.op("Mul", size, g.const(1.5))), g.const([0], np.int64))
            sizes = g.op("Concat", size(2), size(3), axis=0)
        else:
            sizes = g.op("Mul", g.op("Cast", g.op("Slice", shape, g.const([2], np.int64), g.const([4], np.int64)), to=1), g.const([1.5, 2.0]))
        first = g.op("Slice", shape, g.const([0], np.int64), g.const([2], np.int64))
        sizes = g.op("Concat", first, g.op("Cast", sizes, to=7), axis=0)
        finish(g, g.op("Resize", x, "", "", sizes, mode="nearest"), quantized=False)
    add("resize_to_floats", bind(through_floats, apart=False))
    add("resize_to_floats_apart", bind(through_floats, apart=True))

    def by_half(g: Graph) -> None:
        x = g.input(1, 5)
        half = g.op("Mul", g.op("Cast", g.op("Gather", g.op("Shape", x), g.const(0, np.int64)), to=1), g.const(0.5))
        finish(g, g.op("Where", g.op("Cast", half, to=9), x, g.op("Neg", x)), quantized=False)
    add("cast_of_a_half_to_bool", by_half)

    # As TorchScript writes `squeeze`: by a size that is known.
    def branches(g: Graph, names: str) -> None:
        x = g.input(2, 1, 1, 5)

        def branch(name: str, *nodes, stored=()):
            info = helper.make_tensor_value_info(nodes[-1].output[0], 1, None)
            return helper.make_graph(nodes, name, [], [info], stored)

        def chosen(of: str, prefix: str) -> str:
            size = g.op("Gather", g.op("Shape", of), g.const(1, np.int64))
            is_one = g.op("Equal", size, g.const(1, np.int64))
            one = numpy_helper.from_array(np.asarray([1], np.int64), prefix + "axis")
            squeezed = [helper.make_node("Squeeze", [of, prefix + "axis"], [prefix + "s"], prefix + "squeeze")]
            kept = [helper.make_node("Identity", [of], [prefix + "k"], prefix + "keep")]
            return g.op("If", is_one, then_branch=branch("then", *squeezed, stored=[one]), else_branch=branch("else", *kept))
        y = chosen(g.op("Relu", chosen(x, names[0])), names[1])
        finish(g, g.op("Add", chosen(y, names[2]), g.const(g.normal(5))), quantized=False)
    both = "Attempt to squeeze an axis which dimension is not one"
    add("if_by_sizes", bind(branches, names="abc"), without_tract=both)

    # As they are trained where nothing is quantized but in effect.
    def weights_in_steps(g: Graph) -> None:
        step = g.const(0.01)
        steps = g.op("Round", g.op("Div", g.const(g.normal(4, 3, 3, 3, scale=0.6)), step))
        weights = g.op("Mul", g.op("Clip", steps, g.const(-127.0), g.const(127.0)), step)
        finish(g, g.op("Conv", g.input(1, 3, 5, 5), weights), quantized=False)
    add("conv_f32_weights_in_steps", weights_in_steps)

    # A condition that is stored, or follows from one that is.
    def by_truth(g: Graph, denied: bool) -> None:
        x = g.input(2, 5)

        def branch(name: str, kind: str):
            nodes = [helper.make_node(kind, [x], [name], name)]
            return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(name, 1, None)])
        condition = g.const(True, np.bool_)
        condition = g.op("Not", condition) if denied else condition
        y = g.op("If", condition, then_branch=branch("then", "Relu"), else_branch=branch("else", "Neg"))
        finish(g, g.op("Add", y, g.const(g.normal(5))), quantized=False)
    add("if_on_a_stored_truth", bind(by_truth, denied=False))
    add("if_on_a_denied_truth", bind(by_truth, denied=True))

    twice = "a branch and another graph each have a tensor `aaxis`"
    add("if_with_a_name_twice", bind(branches, names="aab"), refused=twice, without_tract=both)

    # As PyTorch writes `x[:, i, j]` and `x[i]`.
    def by_pairs(g: Graph, quantized: bool) -> None:
        x = image(g, 4, 5, quantized=quantized)
        x = g.op("Transpose", x, perm=[1, 2, 0])
        y = g.op("GatherND", x, g.const([[0, 1], [3, 2], [3, 0], [2, 0]] if quantized else [[0, 1], [3, 2], [-1, -5], [2, 0]], np.int64))
        finish(g, g.op("Reshape", y, g.const([2, 2], np.int64)), quantized=quantized)
    add("gather_nd_pairs", bind(by_pairs, quantized=False), without_tract="collapse_axis: Index")
    add("gather_nd_pairs_quantized", bind(by_pairs, quantized=True))

    def by_places(g: Graph) -> None:
        x = g.input(6, 3)
        g.nodes.append(helper.make_node("TopK", [g.op("ReduceSum", x, axes=[1], keepdims=0), g.const([4], np.int64)], ["v", "i"], "top"))
        finish(g, g.op("GatherND", x, g.op("Unsqueeze", "i", axes=[1])), quantized=False)
    add("gather_nd_computed", by_places, opset=11)

    # As PyTorch writes the norm of weights.
    def normed(g: Graph) -> None:
        v = g.const(g.normal(4, 3, 3))
        length = g.op("ReduceL2", v, axes=[1, 2])
        weights = g.op("Mul", g.op("Div", v, length), g.const(g.normal(4, 1, 1)))
        finish(g, g.op("Conv", g.input(1, 3, 8), weights), quantized=False)
    add("conv_f32_of_normed_weights", normed)

    # Its bounds are no operands.
    def clip(g: Graph) -> None:
        stored = g.op("Clip", g.const([[-2.0, -0.5, 0.25], [0.75, 1.5, 3.0]]), g.const(-1.0), g.const(1.0))
        finish(g, g.op("Add", g.input(2, 3), stored), quantized=False)
    add("clip_of_stored", clip)

    def pad(g: Graph, dtype: type, border: int | None) -> None:
        stated = [] if border is None else [g.const(border, dtype)]
        g.output(g.op("Pad", g.input(2, 3, dtype=dtype), g.const([0, 1, 1, 2], np.int64), *stated))
    for dtype, border in [(np.int64, -7), (np.int32, 1 << 30), (np.int8, -3), (np.uint8, 200), (np.uint8, None)]:
        name = f"pad_{np.dtype(dtype)}" if border is not None else f"pad_{np.dtype(dtype)}_with_zeros"
        add(name, bind(pad, dtype=dtype, border=border), floats=np.dtype(dtype).itemsize == 4)

    # As the function of a RotaryEmbedding that turns all of a head writes it.
    def split(g: Graph) -> None:
        g.nodes.append(helper.make_node("Split", [g.input(2, 3, 6), g.const([6, 0], np.int64)], ["all", "rest"], "split", axis=2))
        finish(g, g.op("Concat", g.op("Tanh", "all"), "rest", axis=2), quantized=False)
    add("split_with_an_empty_part", split)

    def parts(g: Graph, quantized: bool, unnamed: tuple[int, ...] = (), stated: tuple[int, ...] = (), axis: int = 1) -> None:
        x = g.input(2, 7, 5)
        names = ["a", "b", "c"]
        lengths, count = ([g.const(stated, np.int64)], {}) if stated else ([], {"num_outputs": 3})
        split = helper.make_node("Split", [g.qdq(x) if quantized else x, *lengths], names, "split", axis=axis, **count)
        g.nodes.append(split)
        g.unnamed = {names[at] for at in unnamed}
        ys = [g.op("Tanh", name) for name in names if name not in g.unnamed]
        g.output(*(g.qdq(y) if quantized else y for y in ys))
    for quantized in (True, False):
        f32 = "" if quantized else "_f32"
        add(f"split_with_a_smaller_part{f32}", bind(parts, quantized=quantized), opset=18)
        unnamed = "Wrong number of outputs"
        add(f"split_without_its_first_part{f32}", bind(parts, quantized=quantized, unnamed=(0,)), opset=18, without_tract=unnamed)
        add(f"split_without_a_part{f32}", bind(parts, quantized=quantized, unnamed=(1,), stated=(2, 4, 1)), opset=18, without_tract=unnamed)
        add(f"split_without_its_last_parts{f32}", bind(parts, quantized=quantized, unnamed=(1, 2), stated=(1, 3, 1), axis=2), without_tract=unnamed)

    # As the function of an Attention writes what it has for heads that share keys, and a mask that ends early.
    def chosen(g: Graph) -> None:
        x = g.input(2, 4, 3)
        heads, keys = (g.op("Slice", g.op("Shape", x), g.const([at], np.int64), g.const([at + 1], np.int64)) for at in (1, 2))
        unlike = g.op("Not", g.op("Equal", heads, keys))
        even = g.op("Equal", g.op("Mod", heads, g.const([2], np.int64)), g.const([0], np.int64))
        times = g.op("Where", g.op("And", unlike, even), g.op("Div", heads, g.const([2], np.int64)), g.const([1], np.int64))
        repeated = g.op("Expand", x, g.op("Concat", times, heads, keys, axis=0))
        finish(g, g.op("Pad", repeated, g.const([0, 0, 0, 0, 0, 1], np.int64), g.op("CastLike", g.const(-7.0), x)), quantized=False)
    add("expanded_by_a_choice", chosen, opset=15)


def pools() -> None:
    def pool(g: Graph, quantized: bool = False, **attributes) -> None:
        x = image(g, 3, 8, 10, quantized=quantized)
        finish(g, g.op("AveragePool", x, kernel_shape=[3, 3], **attributes), quantized=quantized)

    for side in ("upper", "lower"):
        same = {"auto_pad": f"SAME_{side.upper()}", "ceil_mode": 1, "count_include_pad": 1, "strides": [2, 2]}
        add(f"average_pool_same_{side}_ceil_count_include_pad", bind(pool, quantized=True, **same))
        add(f"average_pool_f32_same_{side}_ceil_count_include_pad", bind(pool, pads=[0, 0, 0, 0], **same))

    def root(g: Graph) -> None:
        g.output(g.qdq(g.op("Sqrt", g.qdq(g.input(1, 3, 5))), scale=0.0117, zero_point=0))
    add("sqrt_of_what_is_below_0", root)
