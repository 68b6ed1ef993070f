#!/usr/bin/env python3
"""Makes a tiny model for every operator that plans have, in its variants, with an input and the outputs that ONNX
Runtime gives, graph optimisation off: a folder a case, cases.json and SHA256SUMS. See README.md.
"""
import json
import pathlib
import shutil

import numpy as np
import onnx

import arithmetic
import attention
import batches
import builder
import case
import graphs
import layers
import qoperators
import random_graphs
import regressions
import windows
from builder import reference

HERE = pathlib.Path(__file__).resolve().parent


def main() -> None:
    windows.convolutions()
    windows.pools()
    arithmetic.fully_connected()
    arithmetic.added_rows()
    arithmetic.elementwise()
    arithmetic.softmaxes()
    layers.transposed()
    layers.norms()
    layers.products()
    layers.integer_products()
    layers.einsums()
    layers.resizes()
    layers.recurrent()
    layers.constants()
    graphs.views()
    graphs.scatters()
    batches.batches()
    attention.attention()
    attention.rotary()
    qoperators.qoperators()
    qoperators.dynamic()
    graphs.blocks()
    graphs.edges()
    regressions.regressions()
    for index in range(40):
        case.add(f"random_{index:02}", random_graphs.build)
    for stale in HERE.glob("*/"):
        shutil.rmtree(stale)
    cases = [write(name, *made) for name, made in case.CASES.items()]
    (HERE / "cases.json").write_text("[\n" + ",\n".join(json.dumps(entry) for entry in cases) + "\n]\n")
    reference.write_digests(HERE, "*.onnx", "*.npy")


def write(name: str, build, opset: int, refused: str | None, floats: bool, without_tract: str | None) -> dict:
    graph = builder.Graph(name, opset)
    graph.floats = floats
    build(graph)
    folder, model = HERE / name, graph.model()
    folder.mkdir()
    for index, values in enumerate(graph.feeds.values()):
        np.save(folder / f"input_{index}.npy", values)
    results = reference.session(model).run(list(graph.outputs), graph.feeds)
    for index, values in enumerate(results):
        assert np.isfinite(values).all() and (values.size < 4 or len(np.unique(values)) > 2), f"{name} says nothing"
        np.save(folder / f"output_{index}.npy", values)
    for node in model.graph.node:
        node.output[:] = ["" if output in graph.unnamed else output for output in node.output]
    onnx.save(model, folder / "model.onnx")
    steps = list(graph.outputs.values())
    entry = {"name": name, "steps": steps, "plan": refused is None}
    if without_tract:
        entry["without_tract"] = without_tract
    if refused:
        return entry | {"refused": refused}
    return entry | {"int8": not graph.floats and None not in steps}


if __name__ == "__main__":
    main()
