"""What the golden values are made with: ONNX Runtime, graph optimisation off, one thread.

Optimised ONNX Runtime is no reference on x86: without VNNI its u8 x s8 kernels saturate.
Shared by the scripts that make golden files and by the parity check.
"""
import hashlib
import pathlib
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def infer(model: onnx.ModelProto, samples: np.ndarray) -> np.ndarray:
    """The model's only output for every sample, stacked along the batch axis, which the models fix to 1."""
    reference = session(model)
    (feed,) = reference.get_inputs()
    return np.concatenate([reference.run(None, {feed.name: x[None]})[0] for x in samples])


@dataclass(frozen=True)
class QuantizedTensor:
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    scale: float
    zero_point: int


def last_quantized(model: onnx.ModelProto) -> QuantizedTensor:
    """The int8 or uint8 activation that is nearest to the graph's output.

    Found by what reads it: the first DequantizeLinear upstream whose input some node computes.
    """
    graph = model.graph
    producers = {name: node for node in graph.node for name in node.output}
    initializers = {i.name: i for i in graph.initializer}
    shapes = {v.name: v.type.tensor_type.shape for v in [*graph.output, *graph.value_info]}
    frontier = [o.name for o in graph.output]
    while frontier:
        node = producers.get(frontier.pop(0))
        if node is None:
            continue
        if node.op_type == "DequantizeLinear" and node.input[0] in producers:
            scale, zero_point = (numpy_helper.to_array(initializers[i]) for i in node.input[1:3])
            # DequantizeLinear keeps the shape, and only its f32 side is described in the file.
            shape = tuple(d.dim_value for d in shapes[node.output[0]].dim)
            return QuantizedTensor(node.input[0], shape, zero_point.dtype, float(scale), int(zero_point))
        frontier.extend(node.input)
    raise ValueError("no int8 or uint8 activation upstream of the output")


def cut(model: onnx.ModelProto, tensor: QuantizedTensor) -> onnx.ModelProto:
    """A copy that ends at `tensor`: its only output, in its own integer type."""
    short = onnx.ModelProto()
    short.CopyFrom(model)
    graph = short.graph
    needed, kept = {tensor.name}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.insert(0, node)
    initializers = [i for i in graph.initializer if i.name in needed]
    value_info = [v for v in graph.value_info if v.name in needed and v.name != tensor.name]
    output = helper.make_tensor_value_info(tensor.name, helper.np_dtype_to_tensor_dtype(tensor.dtype), tensor.shape)
    for field, values in ((graph.node, kept), (graph.initializer, initializers),
                          (graph.value_info, value_info), (graph.output, [output])):
        values = [type(v).FromString(v.SerializeToString()) for v in values]
        del field[:]
        field.extend(values)
    onnx.checker.check_model(short)
    return short


def write_digests(folder: pathlib.Path, *patterns: str) -> dict[str, str]:
    """SHA256SUMS over the matching files, as `sha256sum -c` reads it; the digests by path."""
    files = sorted(p.relative_to(folder).as_posix() for pattern in patterns for p in folder.rglob(pattern))
    digests = {f: hashlib.sha256((folder / f).read_bytes()).hexdigest() for f in files}
    (folder / "SHA256SUMS").write_text("".join(f"{digest}  {f}\n" for f, digest in digests.items()))
    return digests
