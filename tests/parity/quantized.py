#!/usr/bin/env python3
"""Quantizes the benchmark pack's float models with a tractlet binary and measures what came out.

For each model and effort: quality of the float model, of the quantized one on tractlet, and of the same file in ONNX
Runtime, unoptimised and with its default session, which on x86 CPUs without VNNI saturates where weights let it. How
often it decides as the float model, SQNR at the output, and whether its quality differs from the float model's by more
than chance (paired.py). A second table holds the same against the int8 models of the pack that other tools made, a third
has the other schemes. All is of test samples, which calibration has not seen. Prints Markdown. Exits 1 if a file does not
pass onnx.checker, if ONNX Runtime's default session loses more than half a point against its unoptimised one, or a model
at default or best effort half a point against its float one, or if a peer is better than best effort beyond chance.

Needs numpy, onnx, onnxruntime, ai-edge-litert and the benchmark pack; `make test` does not need this script.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
import onnxruntime

import paired

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
from ai_edge_litert.interpreter import Interpreter  # noqa: E402, which reads the level when it is loaded.

MODELS = ["kws_dscnn", "har_cnn1d_6ch", "har_cnn1d_9ch", "ic_resnet8", "ic_resnet8_large", "vww_mobilenetv1",
          "ad_autoencoder", "sww_conv1d"]
SCHEMED = ["kws_dscnn", "har_cnn1d_6ch", "ad_autoencoder"]
SCHEMES = [["--activations", "int16"], ["--activations", "uint16"], ["--weight-only"], ["--dynamic"]]
PEERS = {"ORT min-max": "models/{}_int8_qdq_minmax.onnx", "ORT percentile": "models/{}_int8_qdq_percentile.onnx",
         "ORT entropy": "models/{}_int8_qdq_entropy.onnx", "LiteRT": "peers/{}_int8.tflite"}
AD_GROUP = 196
SQNR_SAMPLES = 400
LOSS = 0.005
# Of thirty comparisons with peers one or two are below 0.05 by chance.
BEYOND_CHANCE = 0.01


def main() -> int:
    args = arguments()
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        prepare = [sys.executable, args.pack / "prepare.py", scratch, "--models", ",".join(args.models)]
        subprocess.run(prepare, check=True, stdout=subprocess.DEVNULL)
        tests = [Test(args, scratch, name) for name in args.models]
        failed = (efforts(args, tests) + peers(args, tests)) if "efforts" in args.tables else 0
        if "schemes" in args.tables:
            schemes(args, [test for test in tests if test.name in SCHEMED])
    return 1 if failed else 0


class Test:
    """A model's test set, and what its float form answers to it."""

    def __init__(self, args, scratch: pathlib.Path, name: str):
        self.name, self.tractlet, self.scratch = name, args.tractlet, scratch
        self.float_model = args.pack / "models" / f"{name}_f32.onnx"
        self.samples, self.labels = (np.load(scratch / f"{name}_{part}.npy") for part in "xy")
        self.few = self.samples[:: max(1, len(self.samples) // SQNR_SAMPLES)][:SQNR_SAMPLES]
        self.reference = run(self.float_model, self.few, decisive=True)
        self.float_answers = run(self.float_model, self.samples)

    def file(self, suffix: str) -> pathlib.Path:
        return self.scratch / f"{self.name}_{suffix}"

    def quantize(self, out: pathlib.Path, options: list[str]) -> float:
        """Seconds that it took."""
        begun = time.monotonic()
        command = [self.tractlet, "quantize", self.float_model, "--calibration", self.file("calib.npy"), "-o", out, "--json"]
        subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)
        onnx.checker.check_model(str(out), full_check=True)
        return time.monotonic() - begun

    def evaluate(self, model: pathlib.Path) -> float:
        """Quality on tractlet."""
        metric = ["--metric", "auc", "--group", str(AD_GROUP)] if self.is_anomaly() else []
        command = [self.tractlet, "eval", model, "--inputs", self.file("x.npy"), "--labels", self.file("y.npy")]
        return json.loads(subprocess.run([*command, *metric, "--json"], check=True, capture_output=True).stdout)["value"]

    def is_anomaly(self) -> bool:
        return self.name.startswith("ad_")

    def right(self, answers: np.ndarray) -> np.ndarray:
        """What of it is right, its mean being the quality: of each sample, or of each pair of an anomalous and a normal clip."""
        if not self.is_anomaly():
            return answers.argmax(1) == self.labels
        errors = ((answers - self.samples.reshape(answers.shape)) ** 2).mean(1)
        return paired.above(errors.reshape(-1, AD_GROUP).mean(1), self.labels)

    def agreement(self, answers: np.ndarray) -> float:
        """How much of what is decided is decided as the float model does, in percent."""
        decided = self.right if self.is_anomaly() else lambda values: values.argmax(1)
        return float(100 * (decided(answers) == decided(self.float_answers)).mean())

    def against(self, ours: np.ndarray, theirs: np.ndarray) -> paired.Difference:
        return (paired.auc if self.is_anomaly() else paired.top1)(self.right(ours), self.right(theirs))

    def sqnr(self, model: pathlib.Path) -> float:
        noise = ((self.reference - run(model, self.few, decisive=True)) ** 2).sum()
        return float(10 * np.log10((self.reference**2).sum() / noise)) if noise else float("inf")


def efforts(args, tests: list[Test]) -> int:
    """The table of int8 models; gives how many lose too much, of the float model or in ONNX Runtime's default session."""
    failed = 0
    print("| model | effort | s | f32 | tractlet | ORT unoptimised | ORT default | less f32, points | decides as f32, %"
          " | SQNR, dB |\n| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for test in tests:
        f32 = test.evaluate(test.float_model)
        for effort in args.efforts:
            out = test.file(f"{effort}.onnx")
            seconds = test.quantize(out, ["--effort", effort])
            ours, answers = test.evaluate(out), run(out, test.samples)
            plain, default = (test.right(each).mean() for each in (answers, run(out, test.samples, optimised=True)))
            failed += default < plain - LOSS or (effort != "fast" and ours < f32 - LOSS)
            print(f"| {test.name} | {effort} | {seconds:.1f} | {f32:.4f} | {ours:.4f} | {plain:.4f} | {default:.4f} |"
                  f" {test.against(answers, test.float_answers)} | {test.agreement(answers):.1f} | {test.sqnr(out):.1f} |",
                  flush=True)
    return failed


def peers(args, tests: list[Test]) -> int:
    """The table of what other tools made; gives how often that is better than the last effort, beyond chance."""
    failed = 0
    last = args.efforts[-1]
    print(f"\n| model | of | quality | {last} less it, points | decides as f32, % | SQNR, dB |\n"
          "| --- | --- | ---: | ---: | ---: | ---: |")
    for test in tests:
        ours = run(test.file(f"{last}.onnx"), test.samples)
        for peer, file in PEERS.items():
            model = args.pack / file.format(test.name)
            if not model.exists():  # The pack lacks some.
                continue
            is_onnx = model.suffix == ".onnx"
            theirs = run(model, test.samples) if is_onnx else run_litert(model, test.samples)
            difference = test.against(ours, theirs)
            failed += difference.points < 0 and difference.p < BEYOND_CHANCE
            # A LiteRT file gives no value but its last.
            db = f"{test.sqnr(model):.1f}" if is_onnx else ""
            print(f"| {test.name} | {peer} | {test.right(theirs).mean():.4f} | {difference} |"
                  f" {test.agreement(theirs):.1f} | {db} |", flush=True)
    return failed


def schemes(args, tests: list[Test]) -> None:
    """The table of the other schemes, on some of the models."""
    print("\n| model | scheme | engine | bytes | f32 | tractlet | ORT unoptimised | SQNR, dB |\n"
          "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for test in tests:
        f32 = test.evaluate(test.float_model)
        for scheme in SCHEMES:
            out = test.file("scheme.onnx")
            test.quantize(out, scheme)
            inspected = subprocess.run([args.tractlet, "inspect", out, "--json"], check=True, capture_output=True)
            engine = json.loads(inspected.stdout)["engine"]
            plain = test.right(run(out, test.samples)).mean()
            print(f"| {test.name} | `{' '.join(scheme)}` | {engine} | {out.stat().st_size} | {f32:.4f} |"
                  f" {test.evaluate(out):.4f} | {plain:.4f} | {test.sqnr(out):.1f} |", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    comma_separated = lambda text: text.split(",")
    parser.add_argument("--tractlet", required=True, type=pathlib.Path, metavar="BIN")
    parser.add_argument("--pack", required=True, type=pathlib.Path, metavar="DIR")
    parser.add_argument("--models", type=comma_separated, default=MODELS, help="such as kws_dscnn,ic_resnet8")
    parser.add_argument("--tables", type=comma_separated, default=["efforts", "schemes"])
    parser.add_argument("--efforts", type=comma_separated, default=["fast", "standard", "best"])
    return parser.parse_args()


def run(path: pathlib.Path, samples: np.ndarray, optimised=False, decisive=False) -> np.ndarray:
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


def run_litert(path: pathlib.Path, samples: np.ndarray) -> np.ndarray:
    """The same of a LiteRT file, which has channels last and integers at both ends."""
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    entry, exit = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    (scale, zero), (out_scale, out_zero) = entry["quantization"], exit["quantization"]
    answers = []
    for sample in samples:
        steps = np.rint(np.moveaxis(sample, 0, -1) / scale) + zero
        interpreter.set_tensor(entry["index"], steps.clip(-128, 127).astype(np.int8).reshape(entry["shape"]))
        interpreter.invoke()
        answers.append((interpreter.get_tensor(exit["index"]).astype(np.float32) - out_zero) * out_scale)
    return np.stack(answers).reshape(len(samples), -1)


if __name__ == "__main__":
    sys.exit(main())
