#!/usr/bin/env python3
"""Makes the golden values of the benchmark pack's int8 models: make.py PACK

Writes, for each model and variant, the last quantized tensor and the f32 output of the same inputs, index.json
and SHA256SUMS. See README.md for what they are and where the inputs come from.
"""
import json
import pathlib
import sys

import numpy as np
import onnx

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(HERE.parent))
import reference

# The autoencoder's output is a reconstruction of its input, so golden outputs for the pack's recordings, which may
# not be redistributed, would be those recordings in another form. It runs on the shipped synthetic samples instead.
INPUTS_HERE = {"ad_autoencoder": "models/ad_autoencoder/samples.npy"}


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    pack = pathlib.Path(sys.argv[1])
    for stale in HERE.glob("*.npy"):
        stale.unlink()
    index = [golden(pack, path) for path in sorted((pack / "models").glob("*_int8_*.onnx"))]
    (HERE / "index.json").write_text(json.dumps(index, indent=1) + "\n")
    reference.write_digests(HERE, "*.npy")


def golden(pack: pathlib.Path, path: pathlib.Path) -> dict:
    name, variant = path.stem.split("_int8_")
    model = onnx.load(path)
    onnx.checker.check_model(model)
    if name in INPUTS_HERE:
        origin, file = "project", INPUTS_HERE[name]
        samples = np.load(ROOT / file)
    else:
        origin, file = "pack", f"data/golden/{name}_in.npy"
        samples = np.load(pack / file)
    tensor = reference.last_quantized(model)
    np.save(HERE / f"{name}_{variant}.npy", reference.infer(reference.cut(model, tensor), samples))
    np.save(HERE / f"{name}_{variant}_out.npy", reference.infer(model, samples))
    return {
        "onnx": path.name,
        "input": {"origin": origin, "file": file, "samples": len(samples)},
        "quantized": f"{name}_{variant}.npy",
        "output": f"{name}_{variant}_out.npy",
        "tensor": tensor.name,
        "dtype": tensor.dtype.name,
        "scale": tensor.scale,
        "zero_point": tensor.zero_point,
    }


if __name__ == "__main__":
    main()
