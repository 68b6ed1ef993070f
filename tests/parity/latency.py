#!/usr/bin/env python3
"""The shipped models here, in tract, in rten and in ONNX Runtime, in rounds in which all take turns; prints Markdown.

usage: latency.py --tractlet BIN --rten BIN [--rounds 5] [--seconds 0.3] [--core N]

One thread, on one core, the input ready. A figure is the least median of its rounds, in microseconds. tract is the one in
the binary; `tests/parity/rten` is built for rten; ONNX Runtime is Python's, bound to its input and output. Ratios are the plan's
median over theirs: quote those, of one run.

Needs numpy, onnxruntime and Linux.
"""
import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import time

import numpy as np
import onnxruntime as ort

MODELS = pathlib.Path(__file__).resolve().parents[2] / "models"
PEERS = ["tract", "rten", "ONNX Runtime"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tractlet", required=True, type=pathlib.Path)
    parser.add_argument("--rten", required=True, type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    args = parser.parse_args()
    os.sched_setaffinity(0, {args.core})

    models = sorted(MODELS.glob("*/*.onnx"))
    sessions = {model: session(model) for model in models}
    best = {}
    for _ in range(args.rounds):
        for model in models:
            for name, median in {
                "plan": lambda: bench(args, model, "plan"),
                "tract": lambda: bench(args, model, "tract"),
                "rten": lambda: rten(args, model),
                "ONNX Runtime": lambda: timed(sessions[model], args.seconds),
            }.items():
                best[model, name] = min(best.get((model, name), math.inf), median())

    print()
    print("| model | plan, us |" + "".join(f" {peer}, us | plan / {peer} |" for peer in PEERS))
    print("| --- | ---: |" + " ---: | ---: |" * len(PEERS))
    ratios = {peer: [] for peer in PEERS}
    for model in models:
        plan = best[model, "plan"]
        row = f"| {model.parent.name}/{model.stem} | {plan:.1f} |"
        for peer in PEERS:
            ratios[peer].append(plan / best[model, peer])
            row += f" {best[model, peer]:.1f} | {ratios[peer][-1]:.2f} |"
        print(row)
    print("| geometric mean | |" + "".join(f" | {statistics.geometric_mean(ratios[peer]):.2f} |" for peer in PEERS))
    print()


def bench(args, model, engine):
    command = [args.tractlet, "bench", model, "--engine", engine, "--threads", "1", "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["median_us"]


def rten(args, model):
    environment = {**os.environ, "RTEN_NUM_THREADS": "1"}
    command = [args.rten, model, str(args.seconds)]
    return float(subprocess.run(command, check=True, capture_output=True, env=environment).stdout)


def session(model):
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    [given], [made] = session.get_inputs(), session.get_outputs()
    values = np.random.default_rng(0).uniform(-1, 1, given.shape).astype(np.float32)
    binding = session.io_binding()
    binding.bind_ortvalue_input(given.name, ort.OrtValue.ortvalue_from_numpy(values))
    binding.bind_ortvalue_output(made.name, ort.OrtValue.ortvalue_from_shape_and_type(made.shape, np.float32))
    return lambda: session.run_with_iobinding(binding)


def timed(call, seconds):
    for _ in range(20):
        call()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 50:
        start = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - start)
    return statistics.median(times) / 1000


if __name__ == "__main__":
    main()
