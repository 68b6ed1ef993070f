#!/usr/bin/env python3
"""Models of some 10 MB whose weights are of one kind, to measure what loading takes: large_models.py FOLDER

conv3x3: 3x3 convolutions of 64 to 512 channels, as a ResNet-18 has them; fc: fully connected layers. Each in f32 and in
int8 (QDQ, a scale for each output channel), with random weights from a fixed seed. Needs numpy and onnx.
"""
import pathlib
import sys

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save


class Model:
    def __init__(self, shape: list[int], quantized: bool):
        self.quantized, self.rng = quantized, np.random.default_rng(1)
        self.nodes, self.stored, self.shape = [], [], shape
        self.last = self.ends("x")

    def const(self, values: np.ndarray) -> str:
        self.stored.append(numpy_helper.from_array(values, f"c{len(self.stored)}"))
        return self.stored[-1].name

    def op(self, kind: str, *inputs: str, **attributes) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def ends(self, x: str) -> str:
        """Quantized and dequantized, if the model is."""
        if not self.quantized:
            return x
        step, zero = self.const(np.float32(0.05)), self.const(np.int8(0))
        return self.op("DequantizeLinear", self.op("QuantizeLinear", x, step, zero), step, zero)

    def weights(self, *shape: int) -> str:
        sums_of = int(np.prod(shape[1:]))
        values = self.rng.standard_normal(shape) / np.sqrt(sums_of)
        if not self.quantized:
            return self.const(values.astype(np.float32))
        scale = np.abs(values.reshape(shape[0], -1)).max(1) / 127
        q = np.rint(values / scale.reshape(-1, *[1] * (len(shape) - 1))).astype(np.int8)
        return self.op("DequantizeLinear", self.const(q), self.const(scale.astype(np.float32)),
                       self.const(np.zeros(shape[0], np.int8)), axis=0)

    def layer(self, kind: str, shape: tuple[int, ...], **attributes) -> None:
        y = self.op("Relu", self.op(kind, self.last, self.weights(*shape), **attributes))
        self.last = self.ends(y)

    def save(self, path: pathlib.Path, output: list[int]) -> None:
        value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, path.stem, [value("x", self.shape)], [value(self.last, output)], self.stored)
        save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def conv3x3(quantized: bool, path: pathlib.Path) -> None:
    model, channels, size = Model([1, 64, 56, 56], quantized), 64, 56
    for width in (64, 128, 256, 512):
        for layer in range(4):
            stride = 2 if layer == 0 and width > 64 else 1
            size //= stride
            model.layer("Conv", (width, channels, 3, 3), strides=[stride] * 2, pads=[1] * 4)
            channels = width
    model.save(path, [1, channels, size, size])


def fc(quantized: bool, path: pathlib.Path) -> None:
    model = Model([1, 1024], quantized)
    for _ in range(10):
        model.layer("Gemm", (1024, 1024), transB=1)
    model.save(path, [1, 1024])


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    for quantized, form in [(False, "f32"), (True, "int8")]:
        conv3x3(quantized, folder / f"conv3x3_{form}.onnx")
        fc(quantized, folder / f"fc_{form}.onnx")
