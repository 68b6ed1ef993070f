"""The valid models that the cases damage, and the few hands that damage them.

Every tensor that belongs to a node carries the node's name as its prefix (`conv0`, `conv0_w`), so one
word finds both in a message. Output dimensions are left open where a defect would otherwise
contradict them: the defect is to be the only one.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT8, UINT8, INT32, INT64 = (
    TensorProto.FLOAT,
    TensorProto.INT8,
    TensorProto.UINT8,
    TensorProto.INT32,
    TensorProto.INT64,
)


def f32(*shape):
    return np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def i64(*values):
    return np.array(values, np.int64)


def value(name, shape, dtype=FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def build(name, nodes, inputs, outputs, constants=None, opset=13, domains=(), functions=()):
    tensors = [numpy_helper.from_array(np.asarray(a), n) for n, a in (constants or {}).items()]
    graph = helper.make_graph(nodes, name, inputs, outputs, tensors)
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10, functions=functions)


def one(op, shape, constants=None, dtype=FLOAT, opset=13, outputs=1, domain="", **attributes):
    """A model of one node: `pixels` and the constants go in, `scores` (or `scores0`, `scores1`...) comes out."""
    name = f"{op.lower()}0"
    constants = {f"{name}_{k}": v for k, v in (constants or {}).items()}
    results = ["scores"] if outputs == 1 else [f"scores{i}" for i in range(outputs)]
    untyped = [onnx.ValueInfoProto(name=r) for r in results]
    node = helper.make_node(op, ["pixels", *constants], results, name=name, domain=domain, **attributes)
    return opened(
        build(
            op.lower(), [node], [value("pixels", shape, dtype)], untyped, constants, opset, [domain] if domain else []
        )
    )


def source(op, constants, dtype=FLOAT, opset=13, **attributes):
    """A node that makes a tensor from constants alone, added to `pixels` so that the model has an input."""
    name = f"{op.lower()}0"
    constants = {f"{name}_{k}": v for k, v in constants.items()}
    nodes = [
        helper.make_node(op, list(constants), ["made"], name=name, **attributes),
        helper.make_node("Add", ["pixels", "made"], ["scores"], name="add0"),
    ]
    return opened(
        build(op.lower(), nodes, [value("pixels", [1], dtype)], [onnx.ValueInfoProto(name="scores")], constants, opset)
    )


def chain(op, count, constants=None, twice=False):
    """`count` equal nodes in a row, each fed by the one before it."""
    constants = constants or {}
    names = ["pixels", *(f"t{i}" for i in range(1, count)), "scores"]
    attributes = {"axis": 0} if op == "Concat" else {}
    nodes = [
        helper.make_node(op, [a] * (1 + twice) + list(constants), [b], name=f"{op.lower()}{i}", **attributes)
        for i, (a, b) in enumerate(zip(names, names[1:]))
    ]
    return build(f"{op.lower()}_chain", nodes, [value("pixels", [4])], [value("scores", [None])], constants)


def opened(model):
    """Types the graph's outputs by inference and leaves their dimensions unknown."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    for output, known in zip(model.graph.output, inferred.graph.output):
        tensor = known.type.tensor_type
        rank = len(tensor.shape.dim)
        assert tensor.elem_type and rank, f"{model.graph.name}: {output.name} was not inferred"
        output.CopyFrom(value(output.name, [None] * rank, tensor.elem_type))
    return model


def node(model, name):
    return next(n for n in model.graph.node if n.name == name)


def set_attribute(model, name, content):
    """Sets an attribute of the first node; `None` takes it away."""
    first = model.graph.node[0]
    kept = [a for a in first.attribute if a.name != name]
    del first.attribute[:]
    first.attribute.extend(kept)
    if content is not None:
        first.attribute.append(helper.make_attribute(name, content))


def constant(model, suffix):
    return next(t for t in model.graph.initializer if t.name.endswith(f"_{suffix}"))


def set_constant(model, suffix, array):
    tensor = constant(model, suffix)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(array), tensor.name))


RELU = build(
    "relu",
    [helper.make_node("Relu", ["pixels"], ["scores"], name="relu0")],
    [value("pixels", [1, 4])],
    [value("scores", [1, 4])],
)
RELUS = build(
    "relus",
    [
        helper.make_node("Relu", ["pixels"], ["relu0_out"], name="relu0"),
        helper.make_node("Relu", ["relu0_out"], ["relu1_out"], name="relu1"),
        helper.make_node("Relu", ["relu1_out"], ["scores"], name="relu2"),
    ],
    [value("pixels", [1, 4])],
    [value("scores", [1, 4])],
)
ADD = one("Add", [1, 4], {"b": f32(1, 4)})
GEMM = one("Gemm", [1, 4], {"w": f32(4, 3), "b": f32(3)})
MATMUL = one("MatMul", [2, 4], {"w": f32(4, 3)})
CONV = one(
    "Conv",
    [1, 2, 8, 8],
    {"w": f32(3, 2, 3, 3), "b": f32(3)},
    kernel_shape=[3, 3],
    strides=[1, 1],
    dilations=[1, 1],
    pads=[1, 1, 1, 1],
    group=1,
)
CONV_AUTO = one("Conv", [1, 2, 8, 8], {"w": f32(3, 2, 3, 3)}, auto_pad="SAME_UPPER")
CONV_AUTO.graph.name = "conv_auto"
CONVTRANSPOSE = one("ConvTranspose", [1, 2, 4, 4], {"w": f32(2, 3, 3, 3)}, strides=[2, 2])
LSTM = one("LSTM", [5, 1, 4], {"w": f32(1, 12, 4), "r": f32(1, 12, 3)}, hidden_size=3)
MAXPOOL = one("MaxPool", [1, 2, 8, 8], kernel_shape=[2, 2], strides=[2, 2])
AVERAGEPOOL = one("AveragePool", [1, 2, 8, 8], kernel_shape=[2, 2], pads=[0, 0, 0, 0])
BATCHNORM = one(
    "BatchNormalization", [1, 3, 4, 4], {"scale": f32(3), "bias": f32(3), "mean": f32(3), "var": np.ones(3, np.float32)}
)
TRANSPOSE = one("Transpose", [1, 2, 3], perm=[0, 2, 1])
SOFTMAX = one("Softmax", [1, 4], axis=-1)
CONCAT = one("Concat", [2, 4], {"b": f32(2, 3)}, axis=1)
GATHER = one("Gather", [4, 3], {"indices": i64(0, 2)}, axis=0)
GATHER_ELEMENTS = one("GatherElements", [3, 2], {"indices": i64(0, 2, 1, 0).reshape(2, 2)}, axis=0)
CUM_SUM = one("CumSum", [2, 4], {"axis": np.int64(1)}, opset=14)
LAYER_NORM = one("LayerNormalization", [1, 4, 8], {"scale": f32(8), "bias": f32(8)}, opset=17)
FLATTEN = one("Flatten", [1, 2, 3], axis=1)
RESHAPE = one("Reshape", [2, 6], {"shape": i64(3, 4)})
SQUEEZE = one("Squeeze", [1, 4], {"axes": i64(0)})
UNSQUEEZE = one("Unsqueeze", [4, 3], {"axes": i64(0, 1)})
SLICE = one("Slice", [8, 3], {"starts": i64(0), "ends": i64(6), "axes": i64(0), "steps": i64(2)})
SPLIT = one("Split", [6, 2], {"split": i64(2, 4)}, outputs=2, axis=0)
REDUCE = one("ReduceMax", [2, 3], axes=[1])
ARGMAX = one("ArgMax", [2, 3], axis=1)
CAST = one("Cast", [1, 4], to=INT32)
CLIP = one("Clip", [1, 4], {"min": np.float32(0), "max": np.float32(6)})
PRELU = one("PRelu", [1, 3, 4, 4], {"slope": f32(3, 1, 1)})
DEPTH_TO_SPACE = one("DepthToSpace", [1, 4, 2, 2], blocksize=2)
TOPK = one("TopK", [1, 4], {"k": i64(2)}, outputs=2)
PAD = one("Pad", [1, 4], {"pads": i64(0, 1, 0, 1)}, mode="constant")
TILE = one("Tile", [2, 4], {"repeats": i64(1, 2)})
EXPAND = one("Expand", [2, 1], {"shape": i64(2, 4)})
RESIZE = one("Resize", [1, 1, 4, 4], {"roi": f32(0), "scales": np.float32([1, 1, 2, 2])}, mode="nearest")
UPSAMPLE = one("Upsample", [1, 1, 4, 4], {"scales": np.float32([1, 1, 2, 2])}, opset=9, mode="nearest")
ONEHOT = one("OneHot", [4], {"depth": i64(6), "values": np.float32([0, 1])}, dtype=INT64)
RANGE = source("Range", {"start": np.int64(0), "limit": np.int64(8), "delta": np.int64(1)}, INT64)
CONSTANT_OF_SHAPE = source("ConstantOfShape", {"shape": i64(4)})
CONSTANT = source("Constant", {}, value_floats=[1.0, 2.0])

QUANTIZE = one("QuantizeLinear", [1, 4], {"scale": np.float32(0.1), "zero_point": np.int8(3)})
QUANTIZE_AXIS = one(
    "QuantizeLinear", [2, 3], axis=1, constants={"scale": np.float32([0.1, 0.2, 0.3]), "zero_point": np.int8([0, 1, 2])}
)
QUANTIZE_AXIS.graph.name = "quantizelinear_axis"
DEQUANTIZE = one("DequantizeLinear", [1, 4], {"scale": np.float32(0.1), "zero_point": np.int8(3)}, dtype=INT8)
DEQUANTIZE_AXIS = one(
    "DequantizeLinear",
    [2, 3],
    dtype=INT8,
    axis=1,
    constants={"scale": np.float32([0.1, 0.2, 0.3]), "zero_point": np.int8([0, 0, 0])},
)
DEQUANTIZE_AXIS.graph.name = "dequantizelinear_axis"
DEQUANTIZE_BIAS = one(
    "DequantizeLinear", [3], dtype=INT32, constants={"scale": np.float32(0.1), "zero_point": np.int32(0)}
)
DEQUANTIZE_BIAS.graph.name = "dequantizelinear_bias"
DEQUANTIZE_BLOCKS = one(
    "DequantizeLinear",
    [2, 4],
    dtype=INT8,
    opset=21,
    axis=1,
    block_size=2,
    constants={"scale": np.float32([[0.1, 0.2], [0.3, 0.4]]), "zero_point": np.zeros((2, 2), np.int8)},
)
DEQUANTIZE_BLOCKS.graph.name = "dequantizelinear_blocks"
QLINEAR_CONV = one(
    "QLinearConv",
    [1, 2, 8, 8],
    dtype=INT8,
    constants={
        "x_scale": np.float32(0.1),
        "x_zero_point": np.int8(1),
        "w": np.arange(54, dtype=np.int8).reshape(3, 2, 3, 3),
        "w_scale": np.float32([0.1, 0.2, 0.3]),
        "w_zero_point": np.int8([0, 0, 0]),
        "y_scale": np.float32(0.5),
        "y_zero_point": np.int8(-1),
        "b": np.int32([1, 2, 3]),
    },
)
QLINEAR_MATMUL = one(
    "QLinearMatMul",
    [2, 4],
    dtype=INT8,
    constants={
        "x_scale": np.float32(0.1),
        "x_zero_point": np.int8(1),
        "w": np.arange(12, dtype=np.int8).reshape(4, 3),
        "w_scale": np.float32(0.1),
        "w_zero_point": np.int8(0),
        "y_scale": np.float32(0.5),
        "y_zero_point": np.int8(-1),
    },
)

_THEN, _ELSE = (
    helper.make_graph([helper.make_node(op, ["pixels"], [out], name=f"{out}0")], out, [], [value(out, [1, 4])])
    for op, out in [("Relu", "then"), ("Neg", "else")]
)
IF = build(
    "if",
    [helper.make_node("If", ["which"], ["scores"], name="if0", then_branch=_THEN, else_branch=_ELSE)],
    [value("pixels", [1, 4]), value("which", [], TensorProto.BOOL)],
    [value("scores", [1, 4])],
)

_BODY = helper.make_graph(
    [helper.make_node("Identity", ["go_on"], ["going"]), helper.make_node("Add", ["carried", "carried"], ["doubled"])],
    "body",
    [value("i", [], INT64), value("go_on", [], TensorProto.BOOL), value("carried", [4])],
    [value("going", [], TensorProto.BOOL), value("doubled", [4])],
)
LOOP = build(
    "loop",
    [helper.make_node("Loop", ["loop0_trips", "loop0_go_on", "pixels"], ["scores"], name="loop0", body=_BODY)],
    [value("pixels", [4])],
    [value("scores", [4])],
    {"loop0_trips": np.int64(2), "loop0_go_on": np.bool_(True)},
)


def functions(levels):
    """Model-local functions, each calling the next one twice: 2^levels nodes once inlined."""
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("local", 1)]

    def function(i):
        op, domain = (f"function{i + 1}", "local") if i + 1 < levels else ("Relu", "")
        calls = [helper.make_node(op, [a], [b], domain=domain) for a, b in ["at", "tb"]]
        return helper.make_function("local", f"function{i}", ["a"], ["b"], calls, opsets)

    return build(
        "functions",
        [helper.make_node("function0", ["pixels"], ["scores"], name="call0", domain="local")],
        [value("pixels", [1, 4])],
        [value("scores", [1, 4])],
        domains=["local"],
        functions=[function(i) for i in range(levels)],
    )
