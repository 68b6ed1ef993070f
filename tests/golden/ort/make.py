#!/usr/bin/env python3
"""Makes the odd models that tests/ort.rs and src/model/batch.rs run: one file each, in this folder. Needs numpy and onnx."""
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).resolve().parent
FLOAT = TensorProto.FLOAT


def value(name, *shape):
    return helper.make_tensor_value_info(name, FLOAT, shape)


def save(name, nodes, inputs, outputs, stored=()):
    tensors = [numpy_helper.from_array(array, key) for key, array in stored]
    graph = helper.make_graph(nodes, name, inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, HERE / f"{name}.onnx")


def main():
    # An output that is an input too, beside one that is made.
    relu = helper.make_node("Relu", ["x"], ["y"], "relu")
    save("passed_on", [relu], [value("x", 1, 4)], [value("x", 1, 4), value("y", 1, 4)])
    # Outputs that have another leading dimension than the batch.
    mean = helper.make_node("ReduceMean", ["x"], ["y"], "mean", axes=[0], keepdims=0)
    save("averaged", [mean], [value("x", 1, 12)], [value("y", 12)])
    turn = helper.make_node("Transpose", ["x"], ["y"], "turn", perm=[1, 0, 2])
    save("sequence_first", [turn], [value("x", 1, 6, 3)], [value("y", 6, 1, 3)])
    # Answers of a sample that depend on the others of its batch: in their number, and in what they are.
    turned = helper.make_node("Transpose", ["x"], ["xt"], "turn", perm=[1, 0])
    save("pairs", [turned, helper.make_node("MatMul", ["x", "xt"], ["y"], "product")], [value("x", 1, 6)], [value("y", 1, 1)])
    mean = helper.make_node("ReduceMean", ["x"], ["m"], "mean", keepdims=1)
    save("centred", [mean, helper.make_node("Sub", ["x", "m"], ["y"], "less")], [value("x", 1, 640)], [value("y", 1, 640)])
    # Weights of full range that lie in a node, turned round, where only the engine finds them.
    weights = np.full((8, 16), 127, np.int8)
    quantization = [("scale", np.float32(1 / 127)), ("of_x", np.float32(1 / 255)), ("zero", np.uint8(0)), ("none", np.int8(0))]
    save("weights_in_a_node", [
        helper.make_node("Constant", [], ["w8"], "weights", value=numpy_helper.from_array(weights)),
        helper.make_node("DequantizeLinear", ["w8", "scale", "none"], ["w"], "w"),
        helper.make_node("Transpose", ["w"], ["wt"], "turn", perm=[1, 0]),
        helper.make_node("QuantizeLinear", ["x", "of_x", "zero"], ["x8"], "x8"),
        helper.make_node("DequantizeLinear", ["x8", "of_x", "zero"], ["xf"], "xf"),
        helper.make_node("MatMul", ["xf", "wt"], ["y"], "product"),
    ], [value("x", 1, 16)], [value("y", 1, 8)], quantization)


if __name__ == "__main__":
    main()
