#!/usr/bin/env python3
"""Writes the quantization node tests of the installed onnx package beside this script: make.py

One folder a case (model.onnx, input_N.npy, output_N.npy), cases.json and SHA256SUMS. Cases with a type that numpy
does not have are left out and printed.
"""
import collections
import json
import pathlib
import shutil
import sys
import warnings

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import reference

OPS = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger",
       "DynamicQuantizeLinear")
NATIVE = {helper.np_dtype_to_tensor_dtype(np.dtype(t)) for t in
          ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32",
           "float64")}


def main() -> None:
    for stale in HERE.glob("test_*"):
        shutil.rmtree(stale)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # other operators' cases overflow on purpose
        every_case = collect_testcases()
    cases = []
    for case in every_case:
        op = next((n.op_type for n in case.model.graph.node if n.op_type in OPS), None)
        if op is None:
            continue
        if foreign := foreign_types(case.model):
            print(f"left out: {case.name} ({', '.join(foreign)})")
        else:
            cases.append(save(case, op))
    (HERE / "cases.json").write_text(one_line_each(cases))
    reference.write_digests(HERE, "*.onnx", "*.npy")
    print(f"{len(cases)} cases: {dict(collections.Counter(c['op'] for c in cases))}")


def foreign_types(model: onnx.ModelProto) -> list[str]:
    types = {v.type.tensor_type.elem_type for v in [*model.graph.input, *model.graph.output]}
    return sorted(onnx.TensorProto.DataType.Name(t).lower() for t in types - NATIVE)


def save(case, op: str) -> dict:
    folder = HERE / case.name
    folder.mkdir()
    onnx.save(case.model, folder / "model.onnx")
    ((inputs, outputs),) = case.data_sets
    graph = case.model.graph
    return {
        "name": case.name,
        "op": op,
        "opset": case.model.opset_import[0].version,
        "inputs": save_arrays(folder, "input", graph.input, inputs),
        "outputs": save_arrays(folder, "output", graph.output, outputs),
        "tolerance": {"rtol": case.rtol, "atol": case.atol},
    }


def save_arrays(folder: pathlib.Path, prefix: str, declared, values) -> list[dict]:
    described = []
    for n, (info, value) in enumerate(zip(declared, values, strict=True)):
        array = numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)
        if helper.np_dtype_to_tensor_dtype(array.dtype) != info.type.tensor_type.elem_type:
            raise TypeError(f"{folder.name}: {info.name} is declared otherwise than its {array.dtype} values")
        np.save(folder / f"{prefix}_{n}.npy", array)
        described.append({"name": info.name, "dtype": array.dtype.name, "shape": list(array.shape)})
    return described


def one_line_each(cases: list[dict]) -> str:
    return "[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n"


if __name__ == "__main__":
    main()
