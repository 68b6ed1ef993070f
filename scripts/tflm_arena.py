"""Prints what TensorFlow Lite Micro allocates for .tflite models: tflm_arena.py MODEL.tflite...

Needs `pip install tflite-micro`, the interpreter itself built for the host, whose allocator counts.
`head` is its plan of activations, inputs and outputs among them; `tail` is what it keeps beside them
for as long as it lives (quantization of channels, tensors, nodes).
"""

import os
import re
import subprocess
import sys

CHILD = """
import sys
from tflite_micro.python.tflite_micro import runtime
runtime.Interpreter.from_file(sys.argv[1]).print_allocations()
"""


def main(models):
    if not models:
        sys.exit(__doc__)
    print("| model | head | tail | total |\n| --- | ---: | ---: | ---: |")
    for model in models:
        # The allocator prints to the process's own stderr.
        run = subprocess.run([sys.executable, "-c", CHILD, model], capture_output=True, text=True, check=True)
        found = dict(re.findall(r"Arena allocation (\w+) (\d+) bytes", run.stdout + run.stderr))
        print(f"| {os.path.basename(model)} | {found['head']} | {found['tail']} | {found['total']} |")


if __name__ == "__main__":
    main(sys.argv[1:])
