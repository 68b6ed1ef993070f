"""A voice detector in small, with its golden outputs: which of two networks runs depends on an input, as in Silero's.

usage: python make.py      # numpy 2.1.3, onnx 1.23.2, onnxruntime 1.32.0
"""
import pathlib
import sys

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

FOLDER = pathlib.Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
import reference  # noqa: E402

UNITS, FRAMES = 4, 5
RATES = {16000: 32, 8000: 16}  # samples of a frame


def branch(rate, length):
    """Convolution, magnitude, a recurrent layer whose state comes in and goes out."""
    chance = np.random.default_rng(rate)
    weights = []

    def stored(name, *shape):
        values = chance.normal(0, 0.4, shape).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"{name}_{rate}"))
        return f"{name}_{rate}"

    def named(text):
        return f"{text}_{rate}"

    weights.append(numpy_helper.from_array(np.array([1, 1, -1], np.int64), named("frame")))
    nodes = [
        helper.make_node("Reshape", ["x", named("frame")], [named("wave")]),
        helper.make_node("Conv", [named("wave"), stored("filters", 8, 1, length // 4)], [named("bands")], strides=[length // 4]),
        helper.make_node("Abs", [named("bands")], [named("energy")]),
        helper.make_node("Transpose", [named("energy")], [named("steps")], perm=[2, 0, 1]),
        helper.make_node(
            "GRU", [named("steps"), stored("w", 1, 3 * UNITS, 8), stored("r", 1, 3 * UNITS, UNITS), stored("b", 1, 6 * UNITS), "", "state"],
            ["", named("state")], hidden_size=UNITS, linear_before_reset=1),
        helper.make_node("MatMul", [named("state"), stored("head", UNITS, 1)], [named("logit")]),
        helper.make_node("Sigmoid", [named("logit")], [named("speech")]),
    ]
    outputs = [helper.make_tensor_value_info(named(name), TensorProto.FLOAT, [1, 1, size]) for name, size in (("speech", 1), ("state", UNITS))]
    return helper.make_graph(nodes, named("rate"), [], outputs, weights)


def model():
    rate = numpy_helper.from_array(np.array(16000, np.int64), "wide")
    nodes = [
        helper.make_node("Equal", ["sr", "wide"], ["is_wide"]),
        helper.make_node("If", ["is_wide"], ["speech", "state_out"], then_branch=branch(16000, 32), else_branch=branch(8000, 16)),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "samples"]),
        helper.make_tensor_value_info("state", TensorProto.FLOAT, [1, 1, UNITS]),
        helper.make_tensor_value_info("sr", TensorProto.INT64, []),
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, size]) for name, size in (("speech", 1), ("state_out", UNITS))]
    graph = helper.make_graph(nodes, "two_rates", inputs, outputs, [rate])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8, producer_name="tractlet-tests")
    checker.check_model(made, full_check=True)
    return made


def chosen():
    """Which of two functions is computed depends on a truth."""
    def branch(name, kind):
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, [3])
        return helper.make_graph([helper.make_node(kind, ["x"], [name])], name, [], [value])
    nodes = [helper.make_node("If", ["positive"], ["y"], then_branch=branch("relu", "Relu"), else_branch=branch("neg", "Neg"))]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in "xy"]
    truth = helper.make_tensor_value_info("positive", TensorProto.BOOL, [])
    graph = helper.make_graph(nodes, "chosen", [ends[0], truth], [ends[1]])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8, producer_name="tractlet-tests")
    checker.check_model(made, full_check=True)
    return made


def main():
    (FOLDER / "chosen.onnx").write_bytes(chosen().SerializeToString())
    made = model()
    (FOLDER / "two_rates.onnx").write_bytes(made.SerializeToString())
    session = reference.session(made)
    for rate, length in RATES.items():
        x = np.random.default_rng(length).normal(0, 1, (FRAMES, 1, length)).astype(np.float32)
        state, speech = np.zeros((1, 1, UNITS), np.float32), []
        for frame in x:
            probability, state = session.run(None, {"x": frame, "state": state, "sr": np.array(rate, np.int64)})
            speech.append(probability)
        np.save(FOLDER / f"x_{rate}.npy", x)
        np.save(FOLDER / f"speech_{rate}.npy", np.concatenate(speech))
        np.save(FOLDER / f"state_{rate}.npy", state)


if __name__ == "__main__":
    main()
