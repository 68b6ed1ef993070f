#!/usr/bin/env python3
"""Compares a tractlet binary with unoptimised ONNX Runtime on whole test sets, integer by integer.

Each int8 model is cut after its last quantized tensor, so that both runtimes answer in int8 or uint8 steps and a
difference of one step is one rounding. Exits 1 if any model has fewer than 99.9 % of its values within one step.

The QDQ files of ic_resnet8 and vww_mobilenetv1 are chaotic: a rounding in an early layer grows on its way, and softmax
amplifies what is left. On them ONNX Runtime's own f32 kernels, optimised against not, stay below that bound too.

Needs numpy, onnx, onnxruntime and the benchmark pack; `make test` does not need this script.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "golden"))
import reference

WITHIN_ONE_STEP = 0.999
AD_WINDOWS = 2000  # spread over all 24304; 1.28 million values say enough


def main() -> int:
    args = arguments()
    models = pack_models(args.pack, args.models, args.variants)
    print(f"{'model':<18}{'variant':<18}{'elements':>9}{'% equal':>10}{'% within 1':>12}{'max diff':>10}")
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        names = sorted({name for name, _, _ in models})
        prepare = [sys.executable, args.pack / "prepare.py", scratch, "--models", ",".join(names)]
        subprocess.run(prepare, check=True, stdout=subprocess.DEVNULL)
        for name, variant, path in models:
            line = f"{name:<18}{variant:<18}"
            try:
                steps = difference(args, path, test_set(scratch, name), scratch)
            except RunFailed as error:
                failed += 1
                print(f"{line}{error}", flush=True)
                continue
            within = (steps <= 1).mean()
            failed += bool(within < WITHIN_ONE_STEP)
            print(f"{line}{steps.size:>9}{percent(np.mean(steps == 0)):>10}{percent(within):>12}{steps.max():>10}",
                  flush=True)
    print(f"{len(models) - failed} of {len(models)} within bounds")
    return 1 if failed else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tractlet", required=True, type=pathlib.Path, metavar="BIN")
    parser.add_argument("--pack", required=True, type=pathlib.Path, metavar="DIR")
    parser.add_argument("--models", type=comma_separated, help="such as kws_dscnn,ic_resnet8 (default: all)")
    parser.add_argument("--variants", type=comma_separated, help="such as qdq_minmax,qop_minmax (default: all)")
    parser.add_argument("--engine", default="tract", help="as tractlet run takes it (default: tract)")
    return parser.parse_args()


def comma_separated(text: str) -> list[str]:
    return text.split(",")


def pack_models(pack: pathlib.Path, names, variants) -> list[tuple[str, str, pathlib.Path]]:
    """Name, variant and file of each int8 model that was asked for; a name that matches nothing is an error."""
    found = [(*path.stem.split("_int8_"), path) for path in sorted((pack / "models").glob("*_int8_*.onnx"))]
    for asked, known in ((names, {f[0] for f in found}), (variants, {f[1] for f in found})):
        if unknown := set(asked or ()) - known:
            sys.exit(f"not in the pack: {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}")
    chosen = [f for f in found if (not names or f[0] in names) and (not variants or f[1] in variants)]
    if not chosen:
        sys.exit("the pack has no such variant of these models")
    return chosen


def test_set(prepared: pathlib.Path, name: str) -> np.ndarray:
    samples = np.load(prepared / f"{name}_x.npy")
    if name == "ad_autoencoder" and len(samples) > AD_WINDOWS:
        return samples[np.linspace(0, len(samples) - 1, AD_WINDOWS).astype(int)]
    return samples


class RunFailed(Exception):
    """The binary did not run, or wrote something that cannot be compared."""


def difference(args, path: pathlib.Path, samples: np.ndarray, scratch: pathlib.Path) -> np.ndarray:
    """How many quantization steps each value of the binary is away from ONNX Runtime's."""
    model = onnx.load(path)
    short = reference.cut(model, reference.last_quantized(model))
    expected = reference.infer(short, samples)
    answer = run_tractlet(args, short, samples, scratch)
    if (answer.dtype, answer.shape) != (expected.dtype, expected.shape):
        raise RunFailed(f"wrote {answer.dtype}{answer.shape}, expected {expected.dtype}{expected.shape}")
    return np.abs(answer.astype(np.int32) - expected.astype(np.int32))


def run_tractlet(args, model: onnx.ModelProto, samples: np.ndarray, scratch: pathlib.Path) -> np.ndarray:
    cut, inputs, outputs = scratch / "cut.onnx", scratch / "inputs.npy", scratch / "outputs.npy"
    onnx.save(model, cut)
    np.save(inputs, samples)
    outputs.unlink(missing_ok=True)
    command = [args.tractlet.resolve(), "run", cut, "--engine", args.engine, "--input", inputs, "--output", outputs]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        last_line = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RunFailed(f"exit {done.returncode}: {last_line}")
    if not outputs.exists():
        raise RunFailed("exit 0, but no output file")
    return np.load(outputs)


def percent(share: float) -> str:
    return f"{100 * share:.3f}"


if __name__ == "__main__":
    sys.exit(main())
