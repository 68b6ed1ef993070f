#!/usr/bin/env python3
"""Runs the onnx package's own node tests on the plan engine and writes the table of docs/operators.md.

Every case of one operator, and of its function body where onnx expands one, that has only the types that plans know:
float32, int8, uint8, bool, int32 and int64. A case states all of an operator's inputs as inputs of the graph; plans
want some of them stored, such as weights, scales and shapes. So a case is run as it stands, and if that is refused, once
more with those inputs stored that STORED lists. Exits 1 if an answer is wrong: onnx's own tolerance is applied.

Needs numpy and onnx; `make onnx-node` runs it.
"""
import argparse
import collections
import dataclasses
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases

KNOWN = {TensorProto.FLOAT, TensorProto.INT8, TensorProto.UINT8, TensorProto.BOOL, TensorProto.INT32, TensorProto.INT64}
QUANTIZED = {TensorProto.INT8, TensorProto.UINT8}
AT_LEAST_ONE = KNOWN - {TensorProto.BOOL, TensorProto.INT32, TensorProto.INT64}

# Of a case that the repository keeps, model and tensors.
MOST_KEPT_BYTES = 2048

# Inputs that are parameters: by operator, from which index on, or which ones.
REST = range(1, 99)
STORED = {
    "BatchNormalization": REST, "Clip": REST, "Conv": REST, "ConvInteger": REST, "ConvTranspose": REST, "CumSum": REST,
    "DequantizeLinear": REST, "Dropout": REST, "Expand": REST, "GRU": REST, "Gather": REST, "GatherElements": REST,
    "Gemm": REST, "GroupNormalization": REST, "InstanceNormalization": REST, "LSTM": REST, "LayerNormalization": REST,
    "MatMulInteger": REST, "OneHot": REST, "PRelu": REST, "Pad": REST, "Pow": REST, "QuantizeLinear": REST, "RNN": REST,
    "Reshape": REST, "Resize": REST, "RMSNormalization": REST, "Slice": REST, "Split": REST, "Squeeze": REST,
    "Tile": REST, "TopK": REST, "Trilu": REST, "Unsqueeze": REST, "Upsample": REST, "CenterCropPad": REST,
    "QLinearConv": REST, "QLinearMatMul": (1, 2, 3, 4, 5, 6, 7), "MatMul": (1,),
    "ConstantOfShape": range(99), "Range": range(99),
    **{f"Reduce{of}": REST for of in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")},
}


@dataclasses.dataclass
class Tally:
    plain: int = 0
    stored: int = 0
    wrong: list = dataclasses.field(default_factory=list)
    refused: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    other: int = 0

    @property
    def cases(self) -> int:
        return self.plain + self.stored + len(self.wrong) + sum(self.refused.values())

    def add(self, other: "Tally") -> None:
        self.plain, self.stored, self.other = self.plain + other.plain, self.stored + other.stored, self.other + other.other
        self.wrong += other.wrong
        self.refused += other.refused


class Refused(Exception):
    pass


def main() -> int:
    args = arguments()
    tallies: dict[str, Tally] = collections.defaultdict(Tally)
    kept: list[dict] = []
    with tempfile.TemporaryDirectory() as folder:
        for case, op, expanded in cases(args.only):
            tally = tallies[op + (" (its function)" if expanded else "")]
            if not types(case.model) or not types(case.model) <= KNOWN or not types(case.model) & AT_LEAST_ONE:
                tally.other += 1
                continue
            passed = judge(case, op, tally, args, pathlib.Path(folder))
            if passed and not expanded and passed["bytes"] <= MOST_KEPT_BYTES:
                kept.append(passed)
    if args.table:
        args.table.write_text(table(tallies))
    if args.archive:
        args.archive.write_bytes(archive(kept))
    total = Tally()
    for op, tally in sorted(tallies.items()):
        total.add(tally)
        if args.verbose:
            for why, count in tally.refused.items():
                print(f"{op}: {count} refused: {why}")
    for name, index, got, want in total.wrong:
        print(f"wrong: {name}, output {index}: {got} not {want}")
    print(f"{total.cases} cases: {total.plain + total.stored} passed ({total.stored} with inputs stored), "
          f"{len(total.wrong)} wrong, {sum(total.refused.values())} refused; {total.other} of other types")
    return 1 if total.wrong else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tractlet", required=True, type=pathlib.Path, metavar="BIN")
    parser.add_argument("--engine", default="plan", help="as tractlet run takes it (default: plan)")
    parser.add_argument("--table", type=pathlib.Path, metavar="FILE.md", help="write the table there")
    parser.add_argument("--archive", type=pathlib.Path, metavar="FILE", help="write the small cases that pass there")
    parser.add_argument("--only", metavar="REGEX", help="cases whose names match")
    parser.add_argument("--verbose", action="store_true", help="print why cases are refused")
    return parser.parse_args()


def cases(only: str | None):
    """Each case with its operator, and whether it is the expansion of that operator's function."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # some cases overflow on purpose
        collected = collect_testcases()
    of_one_node = {case.name: case.model.graph.node[0].op_type for case in collected if len(case.model.graph.node) == 1}
    for case in collected:
        base = re.sub(r"_expanded.*$", "", case.name)
        op = of_one_node.get(base)
        if op and (only is None or re.search(only, case.name)):
            yield case, op, base != case.name


def types(model: onnx.ModelProto) -> set[int]:
    """Element types at the ends; none where one is not a tensor."""
    ends = [value.type for value in [*model.graph.input, *model.graph.output]]
    return {end.tensor_type.elem_type for end in ends} if all(end.HasField("tensor_type") for end in ends) else set()


def judge(case, op: str, tally: Tally, args: argparse.Namespace, folder: pathlib.Path) -> dict | None:
    """Counts the case; where it passes, all that there is of it."""
    ((inputs, outputs),) = case.data_sets
    inputs, outputs = arrays(inputs), arrays(outputs)
    names = [value.name for value in case.model.graph.input]
    feeds = dict(zip(names, inputs, strict=True))
    parameters = {name for name in feeds if position(case, op, name) in STORED.get(op, ())}
    why = None
    for stored in [set(), parameters] if parameters else [set()]:
        if len(stored) == len(feeds):
            why = "all of it is constant"
            continue
        model, fed = store(case.model, feeds, stored), {n: v for n, v in feeds.items() if n not in stored}
        try:
            got = run(model, fed, args, folder)
        except Refused as error:
            why = str(error)
            continue
        for index, (have, want) in enumerate(zip(got, outputs, strict=True)):
            # Samples are stacked, along a leading 1 where there is one.
            shaped = have.shape in (want.shape, (1, *want.shape)) and have.dtype == want.dtype
            have = have.reshape(want.shape) if shaped else have
            if not shaped or not np.allclose(have, want, case.rtol, case.atol, equal_nan=True):
                tally.wrong.append((case.name, index, have, want))
                return None
        tally.stored += bool(stored)
        tally.plain += not stored
        return described(case, model, fed, outputs)
    tally.refused[why] += 1
    return None


def described(case, model: onnx.ModelProto, fed: dict, outputs: list[np.ndarray]) -> dict:
    model = model.SerializeToString()
    tensors = [*fed.values(), *outputs]
    return {"name": case.name, "rtol": case.rtol, "atol": case.atol, "model": model, "inputs": list(fed.values()),
            "outputs": outputs, "bytes": len(model) + sum(t.nbytes for t in tensors)}


def archive(kept: list[dict]) -> bytes:
    """A line of JSON that says where everything lies, and behind it all models and tensors."""
    blob = bytearray()

    def put(data: bytes) -> list[int]:
        blob.extend(data)
        return [len(blob) - len(data), len(data)]

    def tensor(value: np.ndarray) -> dict:
        return {"dtype": value.dtype.name, "at": put(np.ascontiguousarray(value).tobytes())}

    index = [{"name": case["name"], "rtol": case["rtol"], "atol": case["atol"], "model": put(case["model"]),
              "inputs": [tensor(v) for v in case["inputs"]], "outputs": [tensor(v) for v in case["outputs"]]}
             for case in kept]
    return json.dumps(index).encode() + b"\n" + bytes(blob)


def arrays(values) -> list[np.ndarray]:
    return [numpy_helper.to_array(v) if isinstance(v, onnx.TensorProto) else np.asarray(v) for v in values]


def position(case, op: str, name: str) -> int:
    """Which input of the operator an input of the graph is; of a function's body, as they are declared."""
    nodes = case.model.graph.node
    if len(nodes) == 1:
        return list(nodes[0].input).index(name) if name in nodes[0].input else 0
    return [value.name for value in case.model.graph.input].index(name)


def store(model: onnx.ModelProto, feeds: dict, stored: set[str]) -> onnx.ModelProto:
    """A copy with some of the inputs as initializers."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    kept = [value for value in model.graph.input if value.name not in stored]
    del graph.input[:]
    graph.input.extend(kept)
    graph.initializer.extend(numpy_helper.from_array(feeds[name], name) for name in sorted(stored))
    return copy


def run(model: onnx.ModelProto, feeds: dict, args: argparse.Namespace, folder: pathlib.Path) -> list[np.ndarray]:
    path = folder / "model.onnx"
    onnx.save(model, path)
    command = [args.tractlet, "run", path, "--engine", args.engine]
    for index, (name, value) in enumerate(feeds.items()):
        np.save(folder / f"in{index}.npy", value[None])
        command += ["--input", f"{name}={folder}/in{index}.npy"]
    outputs = [value.name for value in model.graph.output]
    for index, name in enumerate(outputs):
        command += ["--output", f"{name}={folder}/out{index}.npy"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Refused(reason(done.stderr))
    return [np.load(folder / f"out{index}.npy") for index in range(len(outputs))]


def reason(text: str) -> str:
    """Why a model was refused, without what differs from case to case."""
    text = text.strip().splitlines()[0] if text.strip() else "no message"
    text = re.sub(r"^tractlet: |^error: |\S*/model\.onnx: ", "", text)
    text = re.sub(r"(not supported: )?the plan engine cannot take it: ", "", text)
    text = re.sub(r"; try --engine tract.*$|; and \d+ more.*$|; and this build has no tract.*$", "", text)
    return re.sub(r"node `[^`]*` ", "", text.split("; node")[0]).strip()


def table(tallies: dict[str, Tally]) -> str:
    total = Tally()
    rows = []
    for op, tally in sorted(tallies.items()):
        total.add(tally)
        if not tally.cases:
            continue
        why = "; ".join(f"{count} × {why}" for why, count in sorted(tally.refused.items()))
        rows.append(f"| {op} | {tally.cases} | {tally.plain + tally.stored} | {tally.stored or ''} | "
                    f"{len(tally.wrong) or ''} | {sum(tally.refused.values()) or ''} | {why.replace('|', chr(92) + '|')} |")
    return HEAD.format(version=onnx.__version__, cases=total.cases, passed=total.plain + total.stored,
                       stored=total.stored, wrong=len(total.wrong), refused=sum(total.refused.values()),
                       other=total.other) + "\n".join(rows) + "\n"


HEAD = """# Operators on the plan engine

What the onnx package's own node tests (onnx {version}) say of the plan engine: {cases} cases whose inputs and outputs are
float32, int8, uint8, bool, int32 or int64, of which **{passed} pass, {wrong} are wrong and {refused} are refused**. {other} more
cases have other types (float16, bfloat16, float64, float8, 4 and 2 bits, strings, sequences), which plans do not take.

A case states everything as an input of the graph. Plans want parameters stored, such as weights, scales, axes and
shapes, as exporters write them: {stored} of the cases pass with such inputs stored as initializers, the others as they
stand. "Its function" are cases in which onnx spells the operator out in simpler ones. What is refused runs on the engine `tract` where that can. Written by
`make onnx-node`, which fails if an answer is outside of onnx's own tolerance.

| operator | cases | passed | of these with parameters stored | wrong | refused | why |
| --- | ---: | ---: | ---: | ---: | ---: | --- |
"""


if __name__ == "__main__":
    sys.exit(main())
