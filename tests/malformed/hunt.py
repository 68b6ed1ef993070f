#!/usr/bin/env python3
"""Changes valid models at random, and holds what tractlet makes of them against ONNX Runtime and onnx's checker.

What it prints is to be read by a person, one line for each way in which they part, with a mutant that shows it:

    crash    tractlet ended by a signal or a panic, or took more than 3 s
    differs  both answer, and not alike
    taken    tractlet answers, ONNX Runtime refuses
    refused  tractlet calls it damaged, ONNX Runtime and the checker take it

ONNX Runtime is not always right: with `sorted` of 0 the order of TopK is its own, and it copies where a Resize does
not change the size. What tractlet gets wrong becomes a case; see README.md.
"""

import argparse
import copy
import json
import multiprocessing
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from google.protobuf.descriptor import FieldDescriptor as Kind
from onnx import AttributeProto, numpy_helper

HERE = Path(__file__).resolve().parent
MODELS = [*HERE.glob("valid_*.onnx"), *HERE.parent.glob("golden/ops/*/model.onnx")]
LARGEST_BYTES = 6_000
LARGEST_ELEMENTS = 1 << 17
MEMORY_BYTES = 512 << 20
WHOLE = [*range(-4, 9), 13, 255, 256, 65_536, 2**31 - 1, 2**31, -(2**31), 2**62, 2**63 - 1, -(2**63)]
REAL = [0.0, -0.0, 1.0, -1.0, 0.5, 1e-40, 1e-7, 127.5, 3e38, float("nan"), float("inf"), float("-inf")]
WORDS = ["", "x", "\0", "a\x1b[2J", "SAME_UPPER", "VALID", "linear", "reflect", "reverse", "../x", "x" * 5_000]
DTYPES = [np.float32, np.float64, np.float16, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.int64, np.bool_]
# By AttributeProto.AttributeType: the field that holds it.
HELD = {1: "f", 2: "i", 3: "s", 6: "floats", 7: "ints", 8: "strings"}


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--tractlet", required=True, help="the built binary")
    arguments.add_argument("--seconds", type=float, default=60)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--keep", type=Path, required=True, help="folder for a mutant of each line")
    given = arguments.parse_args()
    given.keep.mkdir(parents=True, exist_ok=True)
    chance = random.Random(given.seed)
    models = [path for path in sorted(MODELS) if path.stat().st_size < LARGEST_BYTES]
    found, tried, end = {}, 0, time.monotonic() + given.seconds
    with tempfile.TemporaryDirectory() as folder:
        work, peer = Path(folder), Peer()
        (work / "external.bin").write_bytes((HERE / "external.bin").read_bytes())
        while time.monotonic() < end:
            base = chance.choice(models)
            mutant, change = changed(chance, onnx.ModelProto.FromString(base.read_bytes()))
            path = work / "mutant.onnx"
            path.write_bytes(mutant)
            tried += 1
            verdict = judge(given.tractlet, path, peer, np.random.default_rng(tried))
            if verdict and plain(verdict) not in found:
                found[plain(verdict)] = f"{len(found):03}.onnx"
                (given.keep / found[plain(verdict)]).write_bytes(mutant)
                print(f"{found[plain(verdict)]} {verdict}\n    {base.relative_to(HERE.parent)}: {change}", flush=True)
    print(f"{tried} mutants, {len(found)} lines")
    sys.exit(any(line.startswith("crash") for line in found))


def plain(verdict):
    """Without names and numbers, so that one line stands for all like it."""
    return re.sub(r"-?\d+(\.\d+)?(e[-+]?\d+)?", "#", re.sub(r"`[^`]*`|\[[^]]*\]", "_", verdict))[:160]


# What is changed.


def changed(chance, model):
    changes = [chance.choice([field, attribute, stored, edge])(chance, model) for _ in range(chance.choice([1, 1, 1, 2]))]
    data = bytearray(model.SerializeToString())
    if chance.random() < 0.1:
        at = chance.randrange(len(data))
        data[at] ^= 1 << chance.randrange(8)
        changes.append(f"bit of byte {at}")
    return bytes(data), ", ".join(changes)


def messages(message):
    yield message
    for field, content in message.ListFields():
        if field.type == Kind.TYPE_MESSAGE:
            for part in content if field.is_repeated else [content]:
                yield from messages(part)


def field(chance, model):
    """Any field of any message: taken away, given twice, or of another value."""
    message = chance.choice(list(messages(model)))
    there = [field for field, _ in message.ListFields()]
    field = chance.choice(there if there and chance.random() < 0.8 else message.DESCRIPTOR.fields)
    where = f"{message.DESCRIPTOR.name}.{field.name}"
    content = getattr(message, field.name)
    if chance.random() < 0.2:
        message.ClearField(field.name)
        return f"{where} cleared"
    if field.type == Kind.TYPE_MESSAGE:
        like = [other for other in messages(model) if other.DESCRIPTOR is field.message_type]
        other = copy.deepcopy(chance.choice(like)) if like else field.message_type._concrete_class()
        content.append(other) if field.is_repeated else content.CopyFrom(other)
        return f"{where} is another's"
    if field.is_repeated:
        if len(content) and chance.random() < 0.3:
            del content[chance.randrange(len(content))]
            return f"{where} one less"
        value = scalar(chance, field, model)
        content.append(value)
        return f"{where} and {value!r:.40}"
    value = scalar(chance, field, model)
    setattr(message, field.name, value)
    return f"{where} = {value!r:.40}"


def scalar(chance, field, model):
    if field.type in (Kind.TYPE_FLOAT, Kind.TYPE_DOUBLE):
        return chance.choice(REAL)
    if field.type == Kind.TYPE_STRING:
        return chance.choice(WORDS + names(model))
    if field.type == Kind.TYPE_BYTES:
        return chance.randbytes(chance.randrange(9))
    if field.type == Kind.TYPE_ENUM:
        return chance.choice(list(field.enum_type.values_by_number))
    if field.type == Kind.TYPE_INT32:
        return chance.randrange(30)
    return abs(chance.choice(WHOLE)) if field.type == Kind.TYPE_UINT64 else chance.choice(WHOLE)


def names(model):
    graph = model.graph
    edges = [name for node in graph.node for name in (*node.input, *node.output)]
    return edges + [tensor.name for tensor in graph.initializer] or ["x"]


def attribute(chance, model):
    """An attribute that the operator has, of its own kind and of any value."""
    if not model.graph.node:
        return field(chance, model)
    node = chance.choice(model.graph.node)
    known = {a.name: a.type for a in node.attribute if a.type in HELD}
    if onnx.defs.has(node.op_type):
        schema = onnx.defs.get_schema(node.op_type)
        known |= {a.name: int(a.type.value) for a in schema.attributes.values() if int(a.type.value) in HELD}
    if not known:
        return field(chance, model)
    name, kind = chance.choice(sorted(known.items()))
    old = next((a for a in node.attribute if a.name == name), None)
    new = AttributeProto(name=name, type=kind)
    one = {"f": lambda: chance.choice(REAL), "i": lambda: chance.choice(WHOLE), "s": lambda: chance.choice(WORDS).encode()}
    held = HELD[kind]
    if held in one:
        setattr(new, held, one[held]())
    else:
        values = list(getattr(old, held)) if old else []
        values = values or [one[held[0]]() for _ in range(chance.randrange(5))]
        if values:
            values[chance.randrange(len(values))] = one[held[0]]()
        getattr(new, held).extend(values)
    if old:
        node.attribute.remove(old)
    node.attribute.append(new)
    return f"{node.op_type}.{name} = {onnx.helper.get_attribute_value(new)!r:.40}"


def stored(chance, model):
    """A stored tensor of another value, type or shape."""
    tensors = [t for t in model.graph.initializer if not t.data_location]
    if not tensors:
        return field(chance, model)
    tensor = chance.choice(tensors)
    try:
        array = numpy_helper.to_array(tensor)
    except ValueError:  # damaged before
        return field(chance, model)
    how = chance.randrange(4)
    with np.errstate(all="ignore"):
        if how == 0:
            array = array.astype(chance.choice(DTYPES))
        elif how == 1:
            array = array.reshape(chance.choice([[-1], [1, *array.shape], [*array.shape, 1]]))
        elif how == 2:
            array = np.resize(array, chance.choice([(), (0,), (1,), (array.size + 1,), (1, array.size)]))
        elif array.size:
            array = array.copy()
            array.flat[chance.randrange(array.size)] = np.float64(chance.choice(REAL)).astype(array.dtype)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), tensor.name))
    return f"{tensor.name} is {array.dtype} {list(array.shape)}"


def edge(chance, model):
    """A node that reads another tensor, or none."""
    nodes = [node for node in model.graph.node if node.input]
    if not nodes:
        return field(chance, model)
    node = chance.choice(nodes)
    at, name = chance.randrange(len(node.input)), chance.choice([*names(model), ""])
    node.input[at] = name
    return f"{node.op_type} reads {name!r} as input {at}"


# Who says what.


def judge(tractlet, path, peer, values):
    """How they part; None where they do not."""
    shown = run(tractlet, "inspect", path, "--json")
    if isinstance(shown, str):
        return shown
    if shown.returncode:
        why = shown.stderr.strip().removeprefix(f"error: {path}: ")
        # What is not taken is no mistake.
        if "plan engine cannot take it" in why or "above the limit" in why or "tractlet" in why:
            return None
        return f"refused {why}" if isinstance(peer.ask(path, None), dict) else None
    model = json.loads(shown.stdout)
    ports = model["inputs"] + model["outputs"]
    shapes = [[dim if isinstance(dim, int) else 1 for dim in port["shape"]] for port in ports]
    huge = any(np.prod(shape, dtype=float) > LARGEST_ELEMENTS for shape in shapes)
    # A command takes no NUL.
    if not model["inputs"] or huge or any("\0" in port["name"] for port in ports):
        return None
    feeds = {}
    for port, shape in zip(model["inputs"], shapes):
        most = 2 if port["dtype"] in ("bool", "int32", "int64") else 100
        real = "float" in port["dtype"]
        array = values.standard_normal(shape) if real else values.integers(0, most, shape)
        feeds[port["name"]] = np.asarray(array).astype(port["dtype"])
    files = []
    for index, (name, array) in enumerate(feeds.items()):
        np.save(path.parent / f"in{index}.npy", array)
        files += ["--input", f"{name}={path.parent}/in{index}.npy"]
    outputs = {port["name"]: path.parent / f"out{index}.npy" for index, port in enumerate(model["outputs"])}
    for name, file in outputs.items():
        files += ["--output", f"{name}={file}"]
    answered = run(tractlet, "run", path, *files)
    if isinstance(answered, str):
        return answered
    if answered.returncode:
        return None
    expected = peer.ask(path, feeds)
    if not isinstance(expected, dict):
        return None if "NOT_IMPLEMENTED" in expected else f"taken {expected}"
    quantized = any("uantize" in node["op"] or node["op"].startswith("Q") for node in model["nodes"])
    ops = " ".join(sorted({node["op"] for node in model["nodes"]}))
    for name, file in outputs.items():
        if difference := differs(np.load(file), expected[name], 0.03 if quantized else 3e-4):
            return f"differs in {ops}: {difference}"
    return None


def run(tractlet, command, path, *more):
    """The finished command, or how it crashed."""
    arguments = ["prlimit", f"--as={MEMORY_BYTES}", tractlet, command, path, *more]
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, errors="replace", timeout=3)
    except subprocess.TimeoutExpired:
        return f"crash {command}: more than 3 s"
    if done.returncode in (0, 1) and "panicked" not in done.stderr:
        return done
    return f"crash {command}: exit {done.returncode}: {done.stderr.strip()}"


def differs(got, expected, tolerance):
    expected = np.asarray(expected)
    # The first axis of a file lists samples.
    got = got[0] if got.shape == (1, *expected.shape) else got
    if got.shape != expected.shape or got.dtype != expected.dtype:
        return f"{got.dtype} {list(got.shape)}, not {expected.dtype} {list(expected.shape)}"
    a, b = got.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(a[finite]).all():
        return "what is not finite"
    most = np.abs(b[finite]).max(initial=1e-30)
    step = 1 if expected.dtype in (np.int8, np.uint8) else tolerance * most if expected.dtype.kind == "f" else 0
    worst = np.abs(a[finite] - b[finite]).max(initial=0)
    return f"{worst:.3g} of {most:.3g}" if worst > step else None


class Peer:
    """ONNX Runtime in a process of its own: mutants end it too."""

    def __init__(self):
        self.start()

    def start(self):
        self.pipe, there = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=serve, args=(there,), daemon=True)
        self.process.start()
        there.close()

    def ask(self, path, feeds):
        """Its answers by name, or why there are none; without feeds on zeros, if the checker takes the model too."""
        try:
            self.pipe.send((str(path), feeds))
            if self.pipe.poll(15):
                return self.pipe.recv()
        except (EOFError, OSError):
            pass
        self.process.kill()
        self.start()
        return "it crashed"


def serve(pipe):
    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    while True:
        path, feeds = pipe.recv()
        try:
            if feeds is None:
                onnx.checker.check_model(path, full_check=True)
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            if feeds is None:
                feeds = {port.name: zeros(port) for port in session.get_inputs()}
            wanted = [output.name for output in session.get_outputs()]
            answer = dict(zip(wanted, session.run(wanted, feeds)))
        except Exception as refusal:  # each refuses in a class of its own
            answer = str(refusal).replace(path, "it").splitlines()[0]
        pipe.send(answer)


def zeros(port):
    dtype = {"float": "float32", "double": "float64"}.get(port.type[7:-1], port.type[7:-1])
    return np.zeros([dim if isinstance(dim, int) else 1 for dim in port.shape], dtype)


if __name__ == "__main__":
    main()
