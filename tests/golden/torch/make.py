#!/usr/bin/env python3
"""Writes the files of this folder: PYTHONHASHSEED=0 make.py. README.md says what each is for, and with which versions.

kws_dscnn.pt is models/kws_dscnn/f32.onnx built anew from its weights; the others are as small as they can be.
"""
import hashlib
import pathlib
import warnings

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

HERE = pathlib.Path(__file__).resolve().parent
KWS = HERE.parents[2] / "models" / "kws_dscnn"


class DsCnn(nn.Module):
    """The keyword model: a convolution, four depthwise separable ones, a mean, a layer of 12 classes."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.ZeroPad2d((1, 1, 4, 5)), nn.Conv2d(1, 64, (10, 4), stride=2), nn.ReLU()]
        for _ in range(4):
            layers += [nn.Conv2d(64, 64, 3, padding=1, groups=64), nn.ReLU(), nn.Conv2d(64, 64, 1), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.classes = nn.Linear(64, 12)

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.classes(self.features(x).mean((2, 3))), -1)

    def load(self, model: onnx.ModelProto) -> "DsCnn":
        stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        layers = [layer for layer in self.features if isinstance(layer, nn.Conv2d)]
        names = [f"conv_{index}" for index in range(len(layers))] + ["gemm_0"]
        with torch.no_grad():
            for name, layer in zip(names, layers + [self.classes], strict=True):
                layer.weight.copy_(torch.from_numpy(stored[f"{name}_w"].copy()))
                layer.bias.copy_(torch.from_numpy(stored[f"{name}_b"].copy()))
        return self


class Named(nn.Module):
    """Two inputs of different types, and a dict of outputs."""

    def forward(self, x: Tensor, index: Tensor) -> dict[str, Tensor]:
        return {"picked": x[:, index], "sum": x.sum(1), "largest": x.argmax(1)}


class Pair(nn.Module):
    """A tuple of outputs."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x + 1, x > 0


class Counter(nn.Module):
    """State that a run leaves behind: how many runs there were."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("runs", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        return x * 0 + self.runs


class Moody(nn.Module):
    """Fine on zeros; fails on what is negative, and gives a shape that depends on data for what is positive."""

    def forward(self, x: Tensor) -> Tensor:
        if bool((x < 0).any()):
            raise RuntimeError("a negative value")
        return x[x > 0] if bool((x > 0).any()) else x


class Half(nn.Module):
    """Elements of a type that no session hands out."""

    def forward(self, x: Tensor) -> Tensor:
        return x.half()


class Number(nn.Module):
    """No tensor at all."""

    def forward(self, x: Tensor) -> int:
        return x.numel()


def strip(path: pathlib.Path) -> None:
    """Writes an archive anew without what names places on this machine: tables of sources, and stack traces in the
    graph of torch.export, which nothing here reads."""
    reader = torch._C.PyTorchFileReader(str(path))
    records = {name: reader.get_record(name) for name in reader.get_all_records()}
    del reader
    writer = torch._C.PyTorchFileWriter(str(path))
    for name, record in records.items():
        if name.endswith(".debug_pkl") or name in ("version", ".data/version", ".data/serialization_id"):
            continue  # the last three are the writer's own
        record = b"{}" if name == "models/model.json" else record
        writer.write_record(name, record, len(record))
    writer.write_end_of_file()


def main() -> None:
    kws = DsCnn().eval().load(onnx.load(KWS / "f32.onnx"))
    modules = {"kws_dscnn": kws, "named": Named(), "pair": Pair(), "counter": Counter(), "moody": Moody(),
               "half": Half(), "number": Number()}
    for name, module in modules.items():
        torch.jit.script(module.eval()).save(HERE / f"{name}.pt")
    linear = nn.Linear(2, 1).requires_grad_(False)
    linear.load_state_dict({"weight": torch.tensor([[1.0, 2.0]]), "bias": torch.tensor([3.0])})
    # Constants in place of parameters.
    torch.jit.freeze(torch.jit.script(linear.eval())).save(HERE / "frozen.pt")
    torch.save(linear.state_dict(), HERE / "checkpoint.pt")
    torch.export.save(torch.export.export(linear, (torch.zeros(1, 2),)), HERE / "exported.pt2")

    for path in [*HERE.glob("*.pt"), *HERE.glob("*.pt2")]:
        strip(path)

    samples = torch.from_numpy(np.load(KWS / "samples.npy"))
    torch.set_num_threads(1)
    with torch.no_grad():
        answers = torch.cat([kws(sample.reshape(1, 1, 49, 10)) for sample in samples])
    np.save(HERE / "kws_dscnn_out.npy", answers.numpy())

    written = sorted(path for path in HERE.iterdir() if path.suffix in (".pt", ".pt2", ".npy"))
    digests = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in written]
    (HERE / "SHA256SUMS").write_text("".join(digests))


if __name__ == "__main__":
    # torch.jit is deprecated, and what this folder is about.
    warnings.simplefilter("ignore", DeprecationWarning)
    main()
