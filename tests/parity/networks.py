#!/usr/bin/env python3
"""Holds the plan engine against ONNX Runtime on networks that PyTorch exports; prints Markdown.

usage: networks.py --tractlet BIN --work DIR [--networks a,b] [--forms f32,static,dynamic] [--rounds 5] [--samples 8]

Each network of network_zoo.py has random weights. It is run as it was exported (f32), quantized by
onnxruntime.quantization with calibration, as QDQ of uint8 activations and int8 weights a channel (static), and without
(dynamic). Answers are compared with ONNX Runtime's with graph optimisation off: the signal-to-noise ratio over all samples,
and the largest difference by the largest value. Latency is the plan's over that of ONNX Runtime with all optimisations, one
thread each: the shortest run of all rounds, which alternate. A network that no plan takes is listed with the reason; one
that disagrees exits 1.

Needs what network_zoo.py does, and onnx 1.23.2, onnxruntime 1.32.0 and numpy below 2.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import time

import numpy as np
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

import network_zoo

# Below this many dB an answer is wrong: float rounding leaves 100 and more, a step here and there of int8 over 30.
LEAST_SQNR = {"f32": 90, "static": 25, "dynamic": 25}

# What computes nothing.
MOVES = {"Cast", "Concat", "Constant", "ConstantOfShape", "DequantizeLinear", "Expand", "Flatten", "Gather", "Identity", "Pad",
         "QuantizeLinear", "Reshape", "Shape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}


class Refused(Exception):
    pass


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tractlet", required=True)
    parser.add_argument("--work", required=True, type=pathlib.Path)
    parser.add_argument("--networks", default=",".join(make.__name__ for make in network_zoo.NETWORKS))
    parser.add_argument("--forms", default="f32,static,dynamic")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=8)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    ort.set_default_logger_severity(3)
    makers = {make.__name__: make for make in network_zoo.NETWORKS}
    print("| network | form | KiB | in int8 | SQNR dB | largest difference | latency, plan / ORT |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    bad = []
    for name in args.networks.split(","):
        source = args.work / f"{name}_f32.onnx"
        samples = network_zoo.export(makers[name], source, args.samples)
        for form in args.forms.split(","):
            path = args.work / f"{name}_{form}.onnx"
            quantize(source, path, form, samples)
            size = f"{path.stat().st_size / 1024:,.0f}"
            try:
                integer, sqnr, worst = agreement(args, path, samples)
                ratio = latency(args, path, samples[0])
            except Refused as why:
                print(f"| {name} | {form} | {size} | {why} | | | |", flush=True)
                continue
            print(f"| {name} | {form} | {size} | {integer} | {sqnr:.0f} | {worst:.1e} | {ratio} |", flush=True)
            if not sqnr >= LEAST_SQNR[form]:
                bad.append(f"{name} {form}: {sqnr:.1f} dB, {LEAST_SQNR[form]} expected")
    for line in bad:
        print(line, file=sys.stderr)
    sys.exit(1 if bad else 0)


class Samples(CalibrationDataReader):
    def __init__(self, samples):
        self.left = [{"x": sample} for sample in samples]

    def get_next(self):
        return self.left.pop() if self.left else None


def quantize(source, path, form, samples):
    if form == "static":
        quantize_static(source, path, Samples(samples), quant_format=QuantFormat.QDQ, per_channel=True,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
    elif form == "dynamic":
        quantize_dynamic(source, path, weight_type=QuantType.QInt8)


def session(path, level):
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def agreement(args, path, samples):
    """Share of the computing nodes that are in int8, signal to noise, and the largest difference by the largest value."""
    reference = session(path, ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
    expected = np.concatenate([reference.run(None, {"x": sample})[0] for sample in samples])
    x, y = args.work / "x.npy", args.work / "y.npy"
    np.save(x, np.stack(samples))
    tractlet(args, "run", path, "--input", x, "--output", y)
    got = np.load(y).reshape(expected.shape)
    nodes = [node for node in tractlet(args, "inspect", path)["nodes"] if node["op"] not in MOVES]
    integer = sum(node["dtype"] == "int8" for node in nodes)
    error = (got.astype(np.float64) - expected) ** 2
    signal = (expected.astype(np.float64) ** 2).sum()
    sqnr = 10 * np.log10(signal / error.sum()) if error.sum() else np.inf
    return f"{integer} of {len(nodes)}", sqnr, np.sqrt(error.max()) / np.abs(expected).max()


def latency(args, path, sample):
    peer = session(path, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
    ours, theirs = [], []
    for _ in range(args.rounds):
        ours.append(tractlet(args, "bench", path, "--runs", 30, "--warmup", 5)["min_us"])
        for _ in range(35):
            start = time.perf_counter()
            peer.run(None, {"x": sample})
            theirs.append((time.perf_counter() - start) * 1e6)
    return f"{min(ours) / min(theirs):.2f}" if ours else "-"


def tractlet(args, command, *rest):
    arguments = [args.tractlet, command, *map(str, rest), "--engine", "plan", "--json"]
    run = subprocess.run(arguments, capture_output=True, text=True)
    if run.returncode:
        # The first node that is named stands for its like.
        why = run.stderr.strip().split("cannot take it: ", 1)[-1].split("; ", 1)[0]
        raise Refused("refused: " + why.replace("|", "/"))
    return json.loads(run.stdout) if run.stdout.strip() else {}


if __name__ == "__main__":
    main()
