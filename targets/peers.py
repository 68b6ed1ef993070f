"""peers.py RUNS onnxruntime|litert MODEL...: runs each model on zeros and one thread, under QEMU with icount.c's plugin.

Stderr has its path, and what the plugin counts before RUNS inferences and after them. peers.sh reads that."""

import os
import sys

import numpy as np


def onnxruntime(path):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    # Bound once: what is counted is a run, not what Python makes of its inputs and outputs.
    binding = session.io_binding()
    for tensor in session.get_inputs():
        binding.bind_cpu_input(tensor.name, np.zeros(tensor.shape, np.float32))
    for tensor in session.get_outputs():
        binding.bind_output(tensor.name)
    return lambda: session.run_with_iobinding(binding)


def litert(path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=1)
    interpreter.allocate_tensors()
    for tensor in interpreter.get_input_details():
        interpreter.set_tensor(tensor["index"], np.zeros(tensor["shape"], tensor["dtype"]))
    return interpreter.invoke


runs, engine = int(sys.argv[1]), {"onnxruntime": onnxruntime, "litert": litert}[sys.argv[2]]
for path in sys.argv[3:]:
    run = engine(path)
    run(), run()
    print("model", path, file=sys.stderr, flush=True)
    os.sched_yield()
    for _ in range(runs):
        run()
    os.sched_yield()
