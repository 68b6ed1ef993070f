#!/usr/bin/env python3
"""Makes every derived file of this folder: make.py PACK

PACK is the folder of the benchmark pack. Copies the models, writes samples and labels, runs the golden outputs,
writes SHA256SUMS, and stops if a model card names another digest than its model has.
"""
import pathlib
import shutil
import sys
import wave
from dataclasses import dataclass
from typing import Callable

import numpy as np
import onnx
from onnx import numpy_helper

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests/golden"))
import reference

WORDS = ("yes", "no", "stop", "go")  # the recordings of words.wav
SYNTHETIC = 8  # samples of each model whose real data may not be redistributed


@dataclass(frozen=True)
class Shipped:
    pack_name: str
    labels: tuple[str, ...]
    samples: Callable[[pathlib.Path], tuple[np.ndarray, np.ndarray | None]]


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    pack = pathlib.Path(sys.argv[1])
    for name, shipped in MODELS.items():
        make(HERE / name, shipped, pack)
    speech(HERE / "kws_dscnn/words.wav", MODELS["kws_dscnn"].labels, pack)
    for path, digest in reference.write_digests(HERE, "*.onnx", "*.npy", "*.wav").items():
        card = (HERE / path).parent / "README.md"
        if path.endswith(".onnx") and digest not in card.read_text():
            sys.exit(f"{card}: does not name the digest of {path}, which is {digest}")


def make(folder: pathlib.Path, shipped: Shipped, pack: pathlib.Path) -> None:
    samples, classes = shipped.samples(pack)
    np.save(folder / "samples.npy", samples.astype(np.float32))
    for ours, theirs in (("f32", "f32"), ("int8", "int8_qdqrr_minmax")):
        shutil.copyfile(pack / f"models/{shipped.pack_name}_{theirs}.onnx", folder / f"{ours}.onnx")
        model = onnx.load(folder / f"{ours}.onnx")
        if ours == "int8":
            check_seven_bits(model)
        np.save(folder / f"golden_{ours}.npy", reference.infer(model, samples.astype(np.float32)))
    if shipped.labels:
        write_lines(folder / "labels.txt", shipped.labels)
    if classes is not None:
        write_lines(folder / "expected.txt", [shipped.labels[c] for c in classes])


def check_seven_bits(model: onnx.ModelProto) -> None:
    """255 * (64 + 64) fits an i16, so no pair of u8 x s8 products saturates on any CPU."""
    initializers = {i.name: i for i in model.graph.initializer}
    dequantized = (n.input[0] for n in model.graph.node if n.op_type == "DequantizeLinear")
    weights = [numpy_helper.to_array(initializers[i]) for i in dequantized if i in initializers]
    largest = max(np.abs(w.astype(int)).max() for w in weights if w.dtype == np.int8)
    if largest > 64:
        sys.exit(f"a weight of {largest} does not fit 7 bits")


def write_lines(path: pathlib.Path, lines) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))


def keywords(pack: pathlib.Path):
    return first_of_each_class(pack, "kws_test_public", 1)


def speech(path: pathlib.Path, labels: tuple[str, ...], pack: pathlib.Path) -> None:
    """One recording of each of WORDS, a second each, one behind the other: 16 kHz, mono, 16 bits."""
    audio, classes = (np.load(pack / f"data/kws_audio_{k}.npy") for k in ("pcm16", "y"))
    clips = [audio[np.flatnonzero(classes == labels.index(word))[0]] for word in WORDS]
    with wave.open(str(path), "wb") as out:
        out.setparams((1, 2, 16000, 0, "NONE", "not compressed"))
        out.writeframes(np.concatenate(clips).astype("<i2").tobytes())


def wake_words(pack: pathlib.Path):
    return first_of_each_class(pack, "sww_samples", 2)


def first_of_each_class(pack: pathlib.Path, stem: str, count: int):
    """The first `count` recordings of each class, whether or not the model gets them right."""
    x, y = (np.load(pack / f"data/{stem}_{k}.npy") for k in "xy")
    picked = np.concatenate([np.flatnonzero(y == c)[:count] for c in np.unique(y)])
    return x[picked], y[picked]


def motion(_: pathlib.Path):
    """Gravity in some direction plus sinusoids as of a step: acceleration in g, rotation in rad/s, at 50 Hz."""
    t = np.arange(128) / 50
    samples = np.empty((SYNTHETIC, 6, 128))
    for k in range(SYNTHETIC):
        tilt, turn = np.pi / 14 * k, 0.7 * k
        gravity = (np.cos(tilt), np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn))
        step_hz, effort = 1.4 + 0.15 * k, (k % 4) / 3
        for axis in range(3):
            stride = np.sin(2 * np.pi * step_hz * t + axis) + 0.4 * np.sin(4 * np.pi * step_hz * t + 2 * axis + k)
            swing = np.sin(np.pi * step_hz * t + 1.3 * axis + k)
            samples[k, axis] = gravity[axis] + (0.005 + 0.3 * effort) * stride
            samples[k, 3 + axis] = (0.02 + 1.1 * effort) * swing
    return samples, None


def spectrograms(_: pathlib.Path):
    """Five frames of 128 mel bands in dB: a falling floor with three humps that drift from frame to frame."""
    band, frame = np.arange(128), np.arange(5)[:, None]
    samples = np.empty((SYNTHETIC, 5, 128))
    for k in range(SYNTHETIC):
        spectrum = -16 - 0.5 * k - 24 * band / 127 + np.sin(0.9 * frame + 0.35 * band + k)
        for hump in range(3):
            centre = 12 + 38 * hump + 2 * k + 0.5 * frame
            spectrum = spectrum + (8 - 2 * hump) * np.exp(-(((band - centre) / 16) ** 2))
        samples[k] = np.clip(spectrum, -78, 12)
    return samples.reshape(SYNTHETIC, 640), None


def pictures(_: pathlib.Path):
    """A colour gradient behind one soft blob, RGB in whole steps of 0 to 255."""
    y, x = np.mgrid[0:32, 0:32] / 31
    samples = np.empty((SYNTHETIC, 3, 32, 32))
    for k in range(SYNTHETIC):
        angle = 2 * np.pi * k / SYNTHETIC
        slope = (1 + np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5)) / 2
        blob = np.exp(-((x - 0.3 - 0.05 * k) ** 2 + (y - 0.6 + 0.03 * k) ** 2) / (0.01 + 0.01 * k))
        for channel in range(3):
            background = 90 + 60 * np.sin(k + 2 * channel)
            foreground = 130 + 110 * np.cos(2 * k + channel)
            samples[k, channel] = background * 1.4 * slope * (1 - blob) + foreground * blob
    return np.round(np.clip(samples, 0, 255)), None


MODELS = {
    "ad_autoencoder": Shipped("ad_autoencoder", (), spectrograms),
    "har_cnn1d": Shipped(
        "har_cnn1d_6ch", ("walking", "upstairs", "downstairs", "sitting", "standing", "lying"), motion),
    "ic_resnet8": Shipped(
        "ic_resnet8",
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"), pictures),
    "kws_dscnn": Shipped(
        "kws_dscnn",
        ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes", "silence", "unknown"), keywords),
    "sww_conv1d": Shipped("sww_conv1d", ("marvin", "silence", "other"), wake_words),
}

if __name__ == "__main__":
    main()
