#!/usr/bin/env python3
"""Random small graphs, each on the plan engine and in ONNX Runtime with graph optimisation off: differential.py --graphs N

Two kinds, from a seed each: quantized ones, those of tests/golden/ops made without end, and ones of floats, integers
and truth values, in which every operator that moves, compares, reduces or computes element by element may follow any
other. What is not continuous (rounding, comparing, choosing the largest) works on values that both compute exactly, so
that a last bit decides nothing. Exits 1 if an answer differs by more than two steps of quantization, or than 1e-4 of
the largest value, and keeps the model with its inputs; a graph that no plan takes is counted by its reason.

Needs numpy, onnx and onnxruntime; `make differential GRAPHS=1000` runs it.
"""
import argparse
import collections
import concurrent.futures
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy as np
import onnx

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "golden/ops"))
import builder
import random_graphs

UNARY = ("Relu", "Sigmoid", "Tanh", "Erf", "Softplus", "Softsign", "Elu", "Selu", "Celu", "HardSigmoid", "HardSwish",
         "Sin", "Cos", "Atan", "LeakyRelu", "ThresholdedRelu", "Mish", "Abs", "Neg")
EXACT_UNARY = ("Abs", "Neg", "Relu", "Floor", "Ceil", "Round", "Sign")
REDUCE = ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSumExp")
LARGEST = 50.0


class Floats:
    """A graph that grows by random operators; `exact` are tensors whose bits do not depend on who computes them."""

    def __init__(self, graph: builder.Graph):
        self.g, self.rng = graph, graph.rng
        shape = tuple(int(d) for d in self.rng.integers(1, 5, self.rng.integers(1, 5)))
        self.tensors = [graph.input(*shape)]
        self.exact = set(self.tensors)
        for _ in range(self.rng.integers(3, 10)):
            grow = self.rng.choice([self.unary, self.exactly, self.binary, self.reduce, self.move, self.slice, self.pad,
                                    self.join, self.choose, self.place, self.normalise])
            made, exact = grow(self.tensors[-1] if self.rng.random() < 0.7 else self.rng.choice(self.tensors))
            values = self.g.values(made)
            if values.ndim == 0 or values.size == 0 or values.size > 4096 or not np.isfinite(values).all() or np.abs(values).max() > LARGEST:
                continue
            self.tensors.append(made)
            if exact:
                self.exact.add(made)
        graph.output(self.tensors[-1] if len(self.tensors) > 1 else self.g.op("Relu", self.tensors[0]))

    def shape(self, x: str) -> tuple[int, ...]:
        return self.g.values(x).shape

    def axis(self, x: str) -> int:
        rank = len(self.shape(x))
        return int(self.rng.integers(-rank, rank))

    def of_exact(self) -> str:
        exact = [tensor for tensor in self.tensors if tensor in self.exact]
        return exact[-1] if self.rng.random() < 0.5 else self.rng.choice(exact)

    def unary(self, x):
        return self.g.op(self.rng.choice(UNARY), x), False

    def exactly(self, _):
        return self.g.op(self.rng.choice(EXACT_UNARY), self.of_exact()), True

    def binary(self, x):
        shape = self.shape(x)
        kept = shape[self.rng.integers(0, len(shape) + 1):]
        other = self.g.const(self.rng.uniform(0.5, 2, [d if self.rng.random() < 0.6 else 1 for d in kept]))
        kind = self.rng.choice(["Add", "Sub", "Mul", "Div", "Min", "Max", "PRelu"])
        if kind != "PRelu" and self.rng.random() < 0.4:
            x, other = other, x
        if self.rng.random() < 0.2:
            other = self.g.op("Tanh", other)
        return self.g.op(kind, x, other), False

    def reduce(self, x):
        rank = len(self.shape(x))
        axes = sorted(int(a) for a in self.rng.choice(rank, self.rng.integers(1, rank + 1), replace=False))
        kind = "Reduce" + self.rng.choice(REDUCE)
        return self.g.op(kind, x, self.g.const(axes, np.int64), keepdims=int(self.rng.integers(0, 2))), False

    def move(self, x):
        shape = self.shape(x)
        rank = len(shape)
        kind = self.rng.choice(["Transpose", "Reshape", "Unsqueeze", "Expand", "Tile", "Gather", "Flatten"])
        if kind == "Transpose":
            y = self.g.op(kind, x, perm=[int(p) for p in self.rng.permutation(rank)])
        elif kind == "Reshape":
            y = self.g.op(kind, x, self.g.const([-1] if self.rng.random() < 0.5 else [1, *shape[::-1]], np.int64))
        elif kind == "Unsqueeze":
            y = self.g.op(kind, x, self.g.const([int(self.rng.integers(0, rank + 1))], np.int64))
        elif kind == "Expand":
            to = [int(self.rng.integers(1, 4)) if d == 1 else d for d in shape]
            y = self.g.op(kind, x, self.g.const([int(self.rng.integers(1, 3)), *to], np.int64))
        elif kind == "Tile":
            y = self.g.op(kind, x, self.g.const(self.rng.integers(1, 3, rank), np.int64))
        elif kind == "Gather":
            axis = self.axis(x)
            y = self.g.op(kind, x, self.g.const(self.rng.integers(-shape[axis], shape[axis], 3), np.int64), axis=axis)
        else:
            y = self.g.op("Flatten", x, axis=int(self.rng.integers(0, rank + 1)))
        return y, x in self.exact

    def slice(self, x):
        shape = self.shape(x)
        axis = self.axis(x)
        step = int(self.rng.choice([1, 2, -1, -2]))
        start, end = (0, shape[axis]) if step > 0 else (-1, -shape[axis] - 1)
        if shape[axis] > 1 and step > 0:
            start = int(self.rng.integers(0, shape[axis]))
        parameters = [self.g.const([value], np.int64) for value in (start, end, axis, step)]
        return self.g.op("Slice", x, *parameters), x in self.exact

    def pad(self, x):
        shape = self.shape(x)
        mode = self.rng.choice(["constant", "edge", "reflect"])
        most = [2 if mode != "reflect" else min(2, d - 1) for d in shape] * 2
        pads = self.g.const([int(self.rng.integers(0, m + 1)) for m in most], np.int64)
        border = [self.g.const(0.5)] if mode == "constant" else []
        return self.g.op("Pad", x, pads, *border, mode=mode), x in self.exact

    def join(self, x):
        if self.rng.random() < 0.5:
            return self.g.op("Concat", x, self.g.op("Neg", x), axis=self.axis(x)), x in self.exact
        parts = self.g.op("Split", x, axis=(axis := self.axis(x)), num_outputs=1)
        return self.g.op("Concat", parts, x, axis=axis), x in self.exact

    def choose(self, _):
        x, y = self.of_exact(), self.g.const(float(self.rng.uniform(-1, 1)))
        asked = self.g.op(self.rng.choice(["Less", "Greater", "LessOrEqual", "GreaterOrEqual", "Equal"]), x, y)
        if self.rng.random() < 0.5:
            asked = self.g.op(self.rng.choice(["And", "Or", "Xor"]), asked, self.g.op("Not", asked))
        return self.g.op("Where", asked, x, y), True

    def place(self, _):
        x = self.of_exact()
        kind = self.rng.choice(["ArgMax", "ArgMin", "Hardmax"])
        if kind == "Hardmax":
            return self.g.op(kind, x, axis=self.axis(x)), True
        places = self.g.op(kind, x, axis=self.axis(x), keepdims=int(self.rng.integers(0, 2)))
        return self.g.op("Cast", places, to=onnx.TensorProto.FLOAT), True

    def normalise(self, x):
        return self.g.op(self.rng.choice(["Softmax", "LogSoftmax"]), x, axis=self.axis(x)), False


def main() -> int:
    args = arguments()
    args.keep.mkdir(parents=True, exist_ok=True)
    counts, refused, failed = collections.Counter(), collections.Counter(), []
    seeds = range(args.seed, args.seed + args.graphs)
    with concurrent.futures.ProcessPoolExecutor(args.jobs) as pool:
        for seed, (kind, what) in zip(seeds, pool.map(judge, seeds, [args] * len(seeds), chunksize=8)):
            counts[kind] += 1
            if kind == "refused":
                refused[what] += 1
            elif kind == "wrong":
                failed.append(seed)
                print(f"seed {seed}: {what}", flush=True)
    for why, count in refused.most_common():
        print(f"{count} refused: {why}")
    print(f"{args.graphs} graphs from seed {args.seed} on: {counts['right']} right, {counts['wrong']} wrong, "
          f"{counts['refused']} refused" + (f"; those that are wrong lie in {args.keep}" if failed else ""))
    return 1 if failed else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tractlet", required=True, type=pathlib.Path, metavar="BIN")
    parser.add_argument("--engine", default="plan", help="as tractlet run takes it (default: plan)")
    parser.add_argument("--graphs", type=int, default=1000, metavar="N")
    parser.add_argument("--seed", type=int, default=0, help="of the first (default: 0)")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", type=pathlib.Path, default=pathlib.Path("target/differential"), metavar="DIR")
    return parser.parse_args()


def judge(seed: int, args: argparse.Namespace) -> tuple[str, str]:
    quantized = seed % 2 == 0
    graph = builder.Graph(f"differential {seed}", 13 if quantized else 18)
    (random_graphs.build if quantized else Floats)(graph)
    graph.keep_only(*graph.outputs) if len(graph.outputs) == 1 else None
    model = graph.model()
    with tempfile.TemporaryDirectory() as folder:
        answers = run(model, graph, args, pathlib.Path(folder))
    if isinstance(answers, str):
        return "refused", answers
    for (name, step), got in zip(graph.outputs.items(), answers):
        want = graph.values(name)
        got = got.reshape(want.shape).astype(np.float64)
        apart = np.abs(got - want).max(initial=0)
        most = 2.01 * step if step else 1e-4 * max(1.0, np.abs(want).max(initial=0))
        if not apart <= most:
            onnx.save(model, args.keep / f"{seed}.onnx")
            for index, values in enumerate(graph.feeds.values()):
                np.save(args.keep / f"{seed}_{index}.npy", values)
            return "wrong", f"output {name} is {apart:g} away, {most:g} may be"
    return "right", ""


def run(model: onnx.ModelProto, graph: builder.Graph, args: argparse.Namespace, folder: pathlib.Path):
    onnx.save(model, folder / "model.onnx")
    command = [args.tractlet, "run", folder / "model.onnx", "--engine", args.engine]
    for index, (name, values) in enumerate(graph.feeds.items()):
        np.save(folder / f"in{index}.npy", values[None])
        command += ["--input", f"{name}={folder}/in{index}.npy"]
    for index, name in enumerate(graph.outputs):
        command += ["--output", f"{name}={folder}/out{index}.npy"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return re.sub(r"^error: \S*: |`[^`]*` |; (--engine|and this build).*$", "", done.stderr.strip())
    return [np.load(folder / f"out{index}.npy") for index in range(len(graph.outputs))]


if __name__ == "__main__":
    sys.exit(main())
