#!/usr/bin/env python3
"""The random graphs of tests/differential.rs, as it wrote them with the plan engine's answers, in ONNX Runtime with graph
optimisation off: differential.py FOLDER

The same holds as between plan and tract: an integer whose own inputs agree in every bit may be one step off, a float 1e-4
of the largest. Exits 1 if anything differs by more, and keeps the model beside FOLDER.

Needs numpy, onnx and onnxruntime; `make differential` runs it.
"""
import collections
import concurrent.futures
import json
import pathlib
import re
import sys

import numpy as np
import onnxruntime as ort

ort.set_default_logger_severity(4)


def main() -> int:
    folder = pathlib.Path(sys.argv[1])
    counts, refused, wrong = collections.Counter(), collections.Counter(), 0
    with concurrent.futures.ProcessPoolExecutor() as pool:
        for log in pool.map(judge_all, sorted(folder.glob("*.jsonl"))):
            for seed, result in log:
                if isinstance(result, str):
                    wrong += 1
                    print(f"seed {seed}: {result}", flush=True)
                elif isinstance(result, Refused):
                    refused[result.why] += 1
                else:
                    counts["compared"] += 1
                    counts.update(integers=result[0], off=result[1])
    for why, count in refused.most_common():
        print(f"{count} not compared, ONNX Runtime: {why}")
    print(f"ONNX Runtime: {counts['compared']} compared, {wrong} wrong, {counts['off']} of {counts['integers']} integers one step off")
    return 1 if wrong else 0


class Refused:
    def __init__(self, why: str):
        self.why = why


def judge_all(lines: pathlib.Path) -> list:
    data = lines.with_suffix(".bin").read_bytes()
    results = []
    for line in lines.open():
        graph = json.loads(line)
        result = judge(graph, data)
        if isinstance(result, str):
            (lines.parent.parent / f"{graph['seed']}.onnx").write_bytes(part(data, graph["model"]))
        results.append((graph["seed"], result))
    return results


def part(data: bytes, at: list[int]) -> bytes:
    return data[at[0]:at[0] + at[1]]


def array(data: bytes, port: dict) -> np.ndarray:
    return np.frombuffer(part(data, port["at"]), port["dtype"]).reshape(port["dims"])


def judge(graph: dict, data: bytes):
    """What is wrong, or why it was not compared, or how many integers were, and how many of them are one step off."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(part(data, graph["model"]), options, providers=["CPUExecutionProvider"])
        expected = session.run(None, {port["name"]: array(data, port) for port in graph["inputs"]})
    except Exception as error:  # ONNX Runtime's own have no common class.
        return Refused(re.sub(r"'[^']*'|\d+|\S*:\S*", "", str(error))[:90])
    integers, off, differ = 0, 0, set()
    for index, (port, want) in enumerate(zip(graph["outputs"], expected)):
        got = array(data, port)
        if got.shape != want.shape:
            return f"{port['name']} is of shape {got.shape}, and {want.shape} in ONNX Runtime"
        if differ & set(port["from"]):
            differ.add(index)
            continue
        is_float = port["dtype"] == "float32"
        a, b = got.astype(np.float64), want.astype(np.float64)
        most = 1e-4 * max(1.0, np.abs(b[np.isfinite(b)]).max(initial=0)) if is_float else 1
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        with np.errstate(invalid="ignore"):
            bad = ~same & ~(np.abs(a - b) <= most)
        if bad.any():
            at = tuple(int(i) for i in np.argwhere(bad)[0])
            return f"{port['name']}{list(at)} is {got[at]}, and {want[at]} in ONNX Runtime"
        if not is_float:
            integers += got.size
            off += int((~same).sum())
            if not same.all():
                differ.add(index)
    return integers, off


if __name__ == "__main__":
    sys.exit(main())
