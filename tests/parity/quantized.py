#!/usr/bin/env python3
"""Quantizes the benchmark pack's float models with a tractlet binary and measures what came out.

For each model and effort: quality of the float model, of the quantized one on tractlet, and of the same file in ONNX
Runtime, unoptimised and with its default session, which on x86 CPUs without VNNI saturates where weights let it.
Also SQNR at the output on test samples, which calibration has not seen, beside that of ONNX Runtime's own
quantization of the same model. A second table has the other schemes. Prints Markdown. Exits 1 if a file does not pass onnx.checker, or if
ONNX Runtime's default session loses more than half a point against its unoptimised one, or a model at default or best
effort half a point against its float one.

Needs numpy, onnx, onnxruntime and the benchmark pack; `make test` does not need this script.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
import onnxruntime

MODELS = ["kws_dscnn", "har_cnn1d_6ch", "har_cnn1d_9ch", "ic_resnet8", "ic_resnet8_large", "vww_mobilenetv1",
          "ad_autoencoder", "sww_conv1d"]
SCHEMED = ["kws_dscnn", "har_cnn1d_6ch", "ad_autoencoder"]
SCHEMES = [["--activations", "int16"], ["--activations", "uint16"], ["--weight-only"], ["--dynamic"]]
AD_GROUP = 196
SQNR_SAMPLES = 400
LOSS = 0.005


def main() -> int:
    args = arguments()
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        prepare = [sys.executable, args.pack / "prepare.py", scratch, "--models", ",".join(args.models)]
        subprocess.run(prepare, check=True, stdout=subprocess.DEVNULL)
        failed = efforts(args, scratch) if "efforts" in args.tables else 0
        if "schemes" in args.tables:
            schemes(args, scratch)
    return 1 if failed else 0


def efforts(args, scratch) -> int:
    """The table of int8 models; gives how many lose too much, of the float model or in ONNX Runtime's default session."""
    failed = 0
    print("| model | effort | s | f32 | tractlet | ORT unoptimised | ORT default | ORT's min-max, exact | test SQNR, dB"
          " | ORT's min-max, dB |\n| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in args.models:
        float_model = args.pack / "models" / f"{name}_f32.onnx"
        theirs = args.pack / "models" / f"{name}_int8_qdq_minmax.onnx"
        samples = np.load(scratch / f"{name}_x.npy")
        few = samples[:: max(1, len(samples) // SQNR_SAMPLES)][:SQNR_SAMPLES]
        reference = run(float_model, few, decisive=True)
        f32 = evaluate(args.tractlet, float_model, scratch, name)
        peer = quality(name, run(theirs, samples), samples, scratch)
        peer_db = sqnr(reference, run(theirs, few, decisive=True))
        for effort in args.efforts:
            out = scratch / f"{name}_{effort}.onnx"
            seconds = quantize(args, float_model, scratch / f"{name}_calib.npy", out, ["--effort", effort])
            onnx.checker.check_model(str(out), full_check=True)
            ours = evaluate(args.tractlet, out, scratch, name)
            plain = quality(name, run(out, samples), samples, scratch)
            default = quality(name, run(out, samples, optimised=True), samples, scratch)
            failed += default < plain - LOSS or (effort != "fast" and ours < f32 - LOSS)
            db = sqnr(reference, run(out, few, decisive=True))
            print(f"| {name} | {effort} | {seconds:.1f} | {f32:.4f} | {ours:.4f} | {plain:.4f} | {default:.4f} |"
                  f" {peer:.4f} | {db:.1f} | {peer_db:.1f} |", flush=True)
    return failed


def schemes(args, scratch) -> None:
    """The table of the other schemes, on the models that the engine `tract` runs in little time."""
    print("\n| model | scheme | engine | bytes | f32 | tractlet | ORT unoptimised | test SQNR, dB |\n"
          "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for name in [name for name in args.models if name in SCHEMED]:
        float_model = args.pack / "models" / f"{name}_f32.onnx"
        samples = np.load(scratch / f"{name}_x.npy")
        few = samples[:: max(1, len(samples) // SQNR_SAMPLES)][:SQNR_SAMPLES]
        reference = run(float_model, few, decisive=True)
        f32 = evaluate(args.tractlet, float_model, scratch, name)
        for scheme in SCHEMES:
            out = scratch / f"{name}_scheme.onnx"
            quantize(args, float_model, scratch / f"{name}_calib.npy", out, scheme)
            onnx.checker.check_model(str(out), full_check=True)
            inspected = subprocess.run([args.tractlet, "inspect", out, "--json"], check=True, capture_output=True)
            engine = json.loads(inspected.stdout)["engine"]
            ours = evaluate(args.tractlet, out, scratch, name)
            plain = quality(name, run(out, samples), samples, scratch)
            db = sqnr(reference, run(out, few, decisive=True))
            print(f"| {name} | `{' '.join(scheme)}` | {engine} | {out.stat().st_size} | {f32:.4f} | {ours:.4f} |"
                  f" {plain:.4f} | {db:.1f} |", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    comma_separated = lambda text: text.split(",")
    parser.add_argument("--tractlet", required=True, type=pathlib.Path, metavar="BIN")
    parser.add_argument("--pack", required=True, type=pathlib.Path, metavar="DIR")
    parser.add_argument("--models", type=comma_separated, default=MODELS, help="such as kws_dscnn,ic_resnet8")
    parser.add_argument("--tables", type=comma_separated, default=["efforts", "schemes"])
    parser.add_argument("--efforts", type=comma_separated, default=["fast", "standard", "best"])
    return parser.parse_args()


def quantize(args, model, calibration, out, options) -> float:
    begun = time.monotonic()
    command = [args.tractlet, "quantize", model, "--calibration", calibration, "-o", out, "--json"]
    subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begun


def evaluate(tractlet, model, scratch, name) -> float:
    metric = ["--metric", "auc", "--group", str(AD_GROUP)] if name.startswith("ad_") else []
    command = [tractlet, "eval", model, "--inputs", scratch / f"{name}_x.npy", "--labels", scratch / f"{name}_y.npy"]
    return json.loads(subprocess.run([*command, *metric, "--json"], check=True, capture_output=True).stdout)["value"]


def run(path, samples, optimised=False, decisive=False) -> np.ndarray:
    """Outputs for each sample; with `decisive` what goes into a last Softmax."""
    model = onnx.load(path)
    output = model.graph.output[0].name
    last = [node for node in model.graph.node if node.op_type == "Softmax"]
    if decisive and last:
        output = last[-1].input[0]
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(output))
    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    answers = [session.run([output], {entry.name: sample.reshape(entry.shape)})[0].reshape(-1) for sample in samples]
    return np.stack(answers)


def quality(name, answers, samples, scratch) -> float:
    labels = np.load(scratch / f"{name}_y.npy")
    if not name.startswith("ad_"):
        return float((answers.argmax(1) == labels).mean())
    errors = ((answers - samples.reshape(answers.shape)) ** 2).mean(1)
    scores = errors.reshape(-1, AD_GROUP).mean(1)
    normal, anomalous = scores[labels == 0], scores[labels == 1]
    above = (anomalous[:, None] > normal[None]).mean() + 0.5 * (anomalous[:, None] == normal[None]).mean()
    return float(above)


def sqnr(reference, answers) -> float:
    noise = ((reference - answers) ** 2).sum()
    return float(10 * np.log10((reference**2).sum() / noise)) if noise else float("inf")


if __name__ == "__main__":
    sys.exit(main())
