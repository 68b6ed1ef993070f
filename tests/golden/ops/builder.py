"""Small ONNX graphs, built node by node on one fixed input, so that every quantized tensor gets the scale and zero
point that its own values ask for."""
import pathlib
import sys
import zlib

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import reference

ort.set_default_logger_severity(3)

# What is quantized before these is quantized alike after them.
MOVES = {"Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Dropout", "MaxPool"}
INT = {"i8": np.int8, "u8": np.uint8}


class Graph:
    """Tensors are named by strings; every method that adds a node gives back the name of what it makes."""

    def __init__(self, name: str, opset: int = 13):
        self.opset = opset
        # From the name, so that a new case does not change the others.
        self.rng = np.random.default_rng(zlib.crc32(name.encode()))
        self.nodes, self.constants, self.infos, self.feeds = [], [], [], {}
        self.parameters = {}  # of quantized tensors and dequantized ones: scale and type
        self.outputs = {}  # name: quantization step, or None for floats
        self.constant_nodes = False  # whether what is stored stands behind Constant nodes
        self.floats = False  # whether some of it is computed in f32 though all ends are quantized
        # What the model has no name for, and ONNX Runtime computes all the same: it crashes without one.
        self.unnamed = set()
        self.count = 0

    def input(self, *shape: int, dtype=np.float32, low: float = -2.0, high: float = 2.0) -> str:
        name = f"x{len(self.feeds)}" if self.feeds else "x"
        if dtype is np.float32:
            values = self.rng.uniform(low, high, shape).astype(dtype)
        else:
            info = np.iinfo(dtype)
            values = self.rng.integers(info.min, info.max + 1, shape).astype(dtype)
        self.infos.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(values.dtype), shape))
        self.feeds[name] = values
        return name

    def const(self, values, dtype=np.float32) -> str:
        name = self._name("c")
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def normal(self, *shape: int, scale: float = 1.0) -> np.ndarray:
        return (self.rng.standard_normal(shape) * scale).astype(np.float32)

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes) -> str:
        # Initials: names are half of a tiny model.
        name = self._name("".join(c for c in kind if c.isupper()).lower())
        self.nodes.append(helper.make_node(kind, inputs, [name], name, domain=domain, **attributes))
        if kind in MOVES and inputs[0] in self.parameters:
            self.parameters[name] = self.parameters[inputs[0]]
        return name

    def q(self, x: str, dtype: str = "i8", scale: float | None = None, zero_point: int | None = None) -> str:
        """QuantizeLinear over the range of `x`, or one end of it where `zero_point` says so."""
        info = np.iinfo(INT[dtype])
        values = self.values(x)
        low, high = min(0.0, float(values.min())), max(1e-3, float(values.max()))
        if zero_point is None and scale is None:
            scale = (high - low) / 255
            zero_point = int(np.clip(round(info.min - low / scale), info.min, info.max))
        elif scale is None:
            scale = max(high / max(info.max - zero_point, 1e-3), -low / max(zero_point - info.min, 1e-3))
            scale = min(scale, max(high, -low) / 127)
        elif zero_point is None:
            zero_point = 0
        q = self.op("QuantizeLinear", x, self.const(scale), self.const(zero_point, INT[dtype]))
        self.parameters[q] = (float(np.float32(scale)), zero_point, dtype)
        return q

    def dq(self, q: str) -> str:
        scale, zero_point, dtype = self.parameters[q]
        x = self.op("DequantizeLinear", q, self.const(scale), self.const(zero_point, INT[dtype]))
        self.parameters[x] = self.parameters[q]
        return x

    def qdq(self, x: str, dtype: str = "i8", **options) -> str:
        return self.dq(self.q(x, dtype, **options))

    def stored(self, values: np.ndarray, dtype: str = "i8", axis: int | None = None, zero_point: int = 0) -> str:
        """DequantizeLinear of a constant, symmetric around `zero_point`; as "U8" of all values that uint8 has, whatever they stand for."""
        whole, dtype = dtype.isupper(), dtype.lower()
        over = tuple(i for i in range(values.ndim) if i != axis) if axis is not None else None
        info = np.iinfo(INT[dtype])
        room = max(info.max - zero_point, zero_point - info.min) if zero_point in (info.min, info.max) else 127
        scale = np.maximum(np.abs(values).max(axis=over), 1e-3) / room
        along = scale.reshape([-1 if i == axis else 1 for i in range(values.ndim)]) if axis is not None else scale
        q = np.clip(np.rint(values / along) + zero_point, info.min, info.max)
        if whole:
            low, high = (f(axis=over, keepdims=axis is not None) for f in (values.min, values.max))
            q = np.rint((values - low) / (high - low) * 255)
        zero_points = np.full(np.shape(scale), zero_point)
        attributes = {} if axis is None else {"axis": axis}
        x = self.op("DequantizeLinear", self.const(q, INT[dtype]), self.const(scale), self.const(zero_points, INT[dtype]), **attributes)
        self.parameters[x] = (np.asarray(scale, np.float32), zero_point, dtype)
        return x

    def bias(self, values: np.ndarray, x: str, w: str) -> str:
        """DequantizeLinear of an int32 bias with the accumulator's scale."""
        scale = np.float32(self.parameters[x][0]) * np.asarray(self.parameters[w][0], np.float32)
        q = np.rint(values / scale)
        axis = {"axis": q.ndim - 1} if scale.ndim else {}
        return self.op("DequantizeLinear", self.const(q, np.int32), self.const(scale), self.const(np.zeros_like(scale), np.int32), **axis)

    def conv(self, x: str, out: int, kernel, *, w: str = "i8", per_channel: bool = True, w_zero_point: int = 0, bias: str | None = "i32", unread: tuple[int, ...] = (), **attributes) -> str:
        """Conv by quantized weights where `x` is dequantized, by float ones where it is not; by 0 for the channels `unread`."""
        channels = self.values(x).shape[1]
        shape = (out, channels // attributes.get("group", 1), *kernel)
        values = self.normal(*shape, scale=1 / np.sqrt(np.prod(shape[1:])))
        values[:, list(unread)] = 0
        quantized = x in self.parameters and w
        weights = self.stored(values, w, 0 if per_channel else None, w_zero_point) if quantized else self.const(values)
        return self.op("Conv", x, weights, *self._bias(out, x, weights, bias if quantized else bias and "f32"), kernel_shape=list(kernel), **attributes)

    def gemm(self, x: str, out: int, *, w: str = "i8", per_channel: bool = True, w_zero_point: int = 0, bias: str | None = "i32", **attributes) -> str:
        rows = self.values(x).shape[-1]
        transposed = attributes.get("transB", 0)
        shape = (out, rows) if transposed else (rows, out)
        values = self.normal(*shape, scale=1 / np.sqrt(rows))
        quantized = x in self.parameters and w
        weights = self.stored(values, w, 1 - transposed if per_channel else None, w_zero_point) if quantized else self.const(values)
        return self.op("Gemm", x, weights, *self._bias(out, x, weights, bias if quantized else bias and "f32"), **attributes)

    def matmul(self, x: str, out: int, *, w: str = "i8", per_channel: bool = True, w_zero_point: int = 0) -> str:
        rows = self.values(x).shape[-1]
        values = self.normal(rows, out, scale=1 / np.sqrt(rows))
        quantized = x in self.parameters and w
        return self.op("MatMul", x, self.stored(values, w, 1 if per_channel else None, w_zero_point) if quantized else self.const(values))

    def clip(self, x: str, low: float | None, high: float | None) -> str:
        bounds = [self.const(v) if v is not None else "" for v in (low, high)]
        return self.op("Clip", x, *bounds)

    def keep_only(self, name: str) -> None:
        """Drops every node that `name` does not need: those that were there to find a range."""
        needed, kept = {name}, []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                needed.update(node.input)
                kept.insert(0, node)
        self.nodes = kept
        self.constants = [c for c in self.constants if c.name in needed]

    def output(self, *names: str) -> None:
        for name in names:
            integer = self.values(name).dtype != np.float32
            self.outputs[name] = 1.0 if integer else self.parameters[name][0] if name in self.parameters else None

    def values(self, name: str) -> np.ndarray:
        """What ONNX Runtime computes for a tensor, of the graph as it stands."""
        if name in self.feeds:
            return self.feeds[name]
        return reference.session(self._model([name], check=False)).run([name], self.feeds)[0]

    def model(self) -> onnx.ModelProto:
        return self._model(list(self.outputs), check=True)

    def _model(self, outputs: list[str], check: bool) -> onnx.ModelProto:
        infos = [helper.make_empty_tensor_value_info(name) for name in outputs]
        nodes, stored = self.nodes, self.constants
        if self.constant_nodes:
            nodes = [helper.make_node("Constant", [], [c.name], c.name, value=c) for c in stored] + nodes
            stored = []
        graph = helper.make_graph(nodes, "g", self.infos, infos, stored)
        domains = {node.domain for node in self.nodes} | {""}
        imports = [helper.make_opsetid(domain, 1 if domain else self.opset) for domain in sorted(domains)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=8)
        if check:
            typed = [(name, self.values(name)) for name in outputs]
            del model.graph.output[:]
            model.graph.output.extend(
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for name, v in typed)
            if domains == {""}:
                onnx.checker.check_model(model, full_check=True)
        return model

    def _bias(self, out: int, x: str, weights: str, kind: str | None) -> list[str]:
        if kind is None:
            return []
        values = self.normal(out, scale=0.3)
        return [self.bias(values, x, weights) if kind == "i32" else self.const(values)]

    def _producer(self, name: str) -> int:
        return next((i for i, node in enumerate(self.nodes) if name in node.output), 0)

    def _name(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"
